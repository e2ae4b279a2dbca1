/* GET /metadata over HTTP, while workers are behind the catalogue that the gateway has. Two workers
 * are sockets in the same loop. */
#include <arpa/inet.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/io/api.h"
#include "gateway/io/calls.h"
#include "gateway/io/server.h"
#include "proto/net/loop_zmq.h"
#include "scheduler/core/cat.h"
#include "scheduler/io/catalog.h"
#include "tests/lib/check.h"

enum { WORKERS = 2 };

struct fake {
    struct proto_net_socket *socket;
    bool knows; /* the pool */
    unsigned asked;
};

static struct {
    struct ev_loop *loop;
    struct base_log log;
    struct proto_net *net;
    struct fake workers[WORKERS];
    struct sched_catalog *catalog;
    struct gw_calls *calls;
    struct gw_api *api;
    struct gw_server *server;
    char answer[4096];
    size_t answer_n;
} g;

/* The linker puts these in place of what a cluster tells. */
const struct sched_catalog *__wrap_gw_calls_catalog(const struct gw_calls *c);
int __wrap_gw_calls_any(const struct gw_calls *c, int home, const struct gw_calls_asked *asked);

const struct sched_catalog *__wrap_gw_calls_catalog(const struct gw_calls *c)
{
    (void)c;
    return g.catalog;
}

int __wrap_gw_calls_any(const struct gw_calls *c, int home, const struct gw_calls_asked *asked)
{
    (void)c, (void)home;
    for (int i = 0; i < WORKERS; i++) {
        if ((asked->bits[0] & 1U << i) == 0) {
            return i;
        }
    }
    return -1;
}

static void say(const struct fake *f, const struct proto_net_message *m)
{
    Warren__Reply r = WARREN__REPLY__INIT;
    Warren__PoolInfo pool = WARREN__POOL_INFO__INIT;
    uint8_t raw[256];
    r.status = f->knows ? WARREN__STATUS__STATUS_OK : WARREN__STATUS__STATUS_NOT_FOUND;
    r.code = (char *)(uintptr_t)(f->knows ? "" : "pool");
    pool.name = (char *)(uintptr_t) "python";
    r.pool = f->knows ? &pool : NULL;
    struct proto_envelope end = {.type = PROTO_ENVELOPE_END, .corr = m->env.corr, .view = 1};
    size_t n = warren__reply__get_packed_size(&r);
    CHECK(n <= sizeof raw && warren__reply__pack(&r, raw) == n);
    CHECK_EQ(proto_net_send(f->socket, &m->peer, &end, raw, n), 0);
}

static void on_message(void *owner, const struct proto_net_message *m)
{
    struct fake *f = owner;
    struct proto_envelope pong = {.type = PROTO_ENVELOPE_PONG, .corr = m->env.corr, .view = 1};
    if (m->env.type == PROTO_ENVELOPE_PING) {
        CHECK_EQ(proto_net_send(f->socket, &m->peer, &pong, NULL, 0), 0);
    } else if (m->env.type == PROTO_ENVELOPE_REQ) {
        f->asked++;
        say(f, m);
    }
}

static void list_pool(void)
{
    static uint8_t bytes[SCHED_CAT_BYTES_MAX];
    static const char value[] = "name: python\n";
    const struct sched_cat_change put = {.expect = SCHED_CAT_ANY,
        .id = 1,
        .birth = 1,
        .entry = {.key = "pool/python",
            .key_n = 11,
            .value = (const uint8_t *)value,
            .value_n = sizeof value - 1}};
    struct sched_cat_doc empty = {0}, doc = {.version = 1, .bytes = bytes};
    CHECK_EQ(sched_cat_apply(&empty, &put, bytes, &doc.n), SCHED_CAT_OK);
    CHECK_EQ(sched_catalog_unpack(&g.catalog, &doc), 0);
    CHECK(sched_catalog_decides(g.catalog));
}

static void setup(void)
{
    static const struct proto_net_ops ops = {.on_message = on_message};
    struct gw_worker_config workers[WORKERS];
    memset(&g, 0, sizeof g);
    g.loop = ev_loop_new(0);
    base_log_init(&g.log, "test", STDERR_FILENO);
    g.log.level = BASE_LOG_ERROR;
    CHECK_EQ(proto_net_create(&g.net, g.loop, NULL, NULL), 0);
    for (unsigned i = 0; i < WORKERS; i++) {
        struct proto_net_options opt = {.class = PROTO_NET_CTL,
            .endpoint = "tcp://127.0.0.1:*",
            .ops = &ops,
            .owner = &g.workers[i]};
        CHECK_EQ(proto_net_bind(g.net, &opt, &g.workers[i].socket, NULL), 0);
        workers[i] = (struct gw_worker_config){.id = i + 1,
            .name = i == 0 ? "w1" : "w2",
            .ctl = proto_net_endpoint(g.workers[i].socket),
            .bulk = "tcp://127.0.0.1:1",
            .weight = 1};
    }
    list_pool();
    struct gw_calls_options calls = {
        .loop = g.loop, .log = &g.log, .workers = workers, .workers_n = WORKERS};
    CHECK_EQ(gw_calls_create(&g.calls, &calls, NULL), 0);
    struct gw_api_options api = {.loop = g.loop, .log = &g.log, .calls = g.calls};
    CHECK_EQ(gw_api_create(&g.api, &api, NULL), 0);
    struct gw_server_options server = {
        .listen = "127.0.0.1:0", .on_request = gw_api_request, .owner = g.api};
    CHECK_EQ(gw_server_create(&g.server, g.loop, &server, NULL), 0);
}

static void teardown(void)
{
    gw_server_destroy(g.server);
    gw_api_destroy(g.api);
    gw_calls_destroy(g.calls);
    sched_catalog_destroy(g.catalog);
    proto_net_destroy(g.net);
    ev_loop_destroy(g.loop);
}

static void on_readable(struct ev_loop *loop, ev_io *w, int revents)
{
    (void)loop, (void)revents;
    ssize_t n = recv(w->fd, g.answer + g.answer_n, sizeof g.answer - 1 - g.answer_n, MSG_DONTWAIT);
    g.answer_n += n > 0 ? (size_t)n : 0;
}

/* The status of the answer. */
static int ask(void)
{
    static const char request[] =
        "GET /pools/python/metadata?api-version=2025-10-02-preview HTTP/1.1\r\nhost: a\r\n\r\n";
    struct sockaddr_in to = {.sin_family = AF_INET,
        .sin_port = htons((uint16_t)gw_server_port(g.server)),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    ev_io readable;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    CHECK_EQ(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    CHECK_EQ(send(fd, request, sizeof request - 1, MSG_NOSIGNAL), sizeof request - 1);
    ev_io_init(&readable, on_readable, fd, EV_READ);
    ev_io_start(g.loop, &readable);
    (void)alarm(60);
    while (strstr(g.answer, "\r\n\r\n") == NULL) {
        ev_run(g.loop, EVRUN_ONCE);
    }
    (void)alarm(0);
    ev_io_stop(g.loop, &readable);
    CHECK_EQ(close(fd), 0);
    return (int)strtol(g.answer + strlen("HTTP/1.1 "), NULL, 10);
}

TEST(a_pool_of_the_catalogue_is_asked_for_at_a_worker_that_knows_it)
{
    setup();
    g.workers[1].knows = true;
    CHECK_EQ(ask(), 200);
    CHECK(g.workers[0].asked == 1 && g.workers[1].asked == 1);
    teardown();
}

TEST(a_pool_of_the_catalogue_that_no_worker_knows_yet_is_not_missing)
{
    setup();
    CHECK_EQ(ask(), 503);
    CHECK(g.workers[0].asked == 1 && g.workers[1].asked == 1);
    teardown();
}
