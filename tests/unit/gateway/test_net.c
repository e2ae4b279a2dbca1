#include <ev.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/limits.h"
#include "proto/net/curve.h"
#include "proto/net/loop_zmq.h"
#include "tests/lib/check.h"

enum { MESSAGES = 100000, WINDOW = 500 };

static char dir[64];

static const char *in_dir(const char *name)
{
    static char path[4][128];
    static int turn;
    char *p = path[turn++ % 4];
    (void)snprintf(p, sizeof path[0], "%s/%s", dir, name);
    return p;
}

static void make_dir(void)
{
    (void)snprintf(dir, sizeof dir, "/tmp/warren-test-net-XXXXXX");
    CHECK(mkdtemp(dir) != NULL);
}

static void drop_dir(void)
{
    (void)unlink(in_dir("clients"));
    (void)unlink(in_dir("key"));
    CHECK_EQ(rmdir(dir), 0);
}

static struct proto_net_key make_key(const char *name)
{
    struct proto_net_key key;
    CHECK_EQ(proto_net_key_generate(&key, NULL), 0);
    if (name != NULL) {
        struct proto_net_client c = {.role = "gateway"};
        (void)snprintf(c.name, sizeof c.name, "%s", name);
        memcpy(c.public_z85, key.public_z85, sizeof c.public_z85);
        CHECK_EQ(proto_net_clients_add(in_dir("clients"), &c, NULL), 0);
    }
    return key;
}

TEST(there_are_as_many_connections_as_descriptors)
{
    enum { N = 400 }; /* three sockets of ZeroMQ each: more than its own limit */
    struct ev_loop *loop = ev_loop_new(0);
    struct proto_net *net;
    struct proto_net_socket *s;
    static const struct proto_net_ops nothing = {0};
    CHECK(proto_net_raise_limits() > 4 * N + 64);
    CHECK_EQ(proto_net_create(&net, loop, NULL, NULL), 0);
    for (int i = 0; i < N; i++) {
        struct proto_net_options o = {
            .class = PROTO_NET_CTL, .endpoint = "tcp://127.0.0.1:1", .ops = &nothing};
        CHECK_EQ(proto_net_connect(net, &o, &s, NULL), 0);
    }
    proto_net_destroy(net);
    ev_loop_destroy(loop);
}

/* A ROUTER in a thread of its own that sends every message back. */
struct echo {
    struct ev_loop *loop;
    struct proto_net *net;
    struct proto_net_socket *socket;
    ev_async stop;
    pthread_t thread;
    bool wrong_user;
    struct proto_net_stats stats;
    const char *endpoint;
};

static void echo_message(void *owner, const struct proto_net_message *m)
{
    struct echo *e = owner;
    e->wrong_user |= strcmp(m->user, "gateway/g1") != 0;
    CHECK_EQ(m->fault, 0);
    CHECK_EQ(proto_net_send(e->socket, &m->peer, &m->env, m->body, m->body_bytes), 0);
}

static void on_stop(struct ev_loop *loop, ev_async *w, int revents)
{
    (void)w;
    (void)revents;
    ev_break(loop, EVBREAK_ALL);
}

static void *echo_run(void *arg)
{
    struct echo *e = arg;
    ev_run(e->loop, 0);
    proto_net_stats(e->net, &e->stats);
    proto_net_destroy(e->net);
    return NULL;
}

static void echo_start(struct echo *e, const struct proto_net_key *key, const char *endpoint)
{
    static const struct proto_net_ops ops = {.on_message = echo_message};
    struct base_error err;
    *e = (struct echo){.loop = ev_loop_new(EVBACKEND_EPOLL)};
    CHECK_EQ(proto_net_create(&e->net, e->loop, in_dir("clients"), &err), 0);
    struct proto_net_options opt = {
        .class = PROTO_NET_CTL, .endpoint = endpoint, .self = key, .ops = &ops, .owner = e};
    CHECK_EQ(proto_net_bind(e->net, &opt, &e->socket, &err), 0);
    e->endpoint = proto_net_endpoint(e->socket);
    ev_async_init(&e->stop, on_stop);
    ev_async_start(e->loop, &e->stop);
    CHECK_EQ(pthread_create(&e->thread, NULL, echo_run, e), 0);
}

static void echo_stop(struct echo *e)
{
    ev_async_send(e->loop, &e->stop);
    CHECK_EQ(pthread_join(e->thread, NULL), 0);
    ev_loop_destroy(e->loop);
}

struct client {
    struct ev_loop *loop;
    struct proto_net *net;
    struct proto_net_socket *socket;
    uint32_t sent, received, wanted;
    enum proto_net_state state, until;
    bool state_seen;
    size_t body_bytes;
};

static void client_fill(struct client *c)
{
    static const uint8_t body[PROTO_CTL_BYTES_MAX];
    while (c->sent < c->wanted && c->sent - c->received < WINDOW) {
        struct proto_envelope env = {
            .type = PROTO_ENVELOPE_PING, .corr = 7, .seq = c->sent, .view = 1};
        if (proto_net_send(c->socket, NULL, &env, body, c->body_bytes) != 0) {
            return; /* on_writable comes */
        }
        c->sent++;
    }
}

static void client_message(void *owner, const struct proto_net_message *m)
{
    struct client *c = owner;
    CHECK_EQ(m->env.seq, c->received);
    CHECK_EQ(m->env.corr, 7);
    CHECK_EQ(m->body_bytes, c->body_bytes);
    if (++c->received == c->wanted) {
        ev_break(c->loop, EVBREAK_ALL);
    }
    client_fill(c);
}

static void client_state(void *owner, enum proto_net_state state)
{
    struct client *c = owner;
    c->state = state;
    if (state == c->until) {
        c->state_seen = true;
        ev_break(c->loop, EVBREAK_ALL);
    }
    if (state == PROTO_NET_UP) {
        client_fill(c);
    }
}

static void client_writable(void *owner)
{
    client_fill(owner);
}

static void client_start(struct client *c, const struct proto_net_key *self, const char *server_key,
    const char *endpoint)
{
    static const struct proto_net_ops ops = {
        .on_message = client_message, .on_state = client_state, .on_writable = client_writable};
    struct base_error err;
    c->loop = ev_loop_new(EVBACKEND_EPOLL);
    CHECK_EQ(proto_net_create(&c->net, c->loop, NULL, &err), 0);
    struct proto_net_options opt = {.class = PROTO_NET_CTL,
        .endpoint = endpoint,
        .self = self,
        .server_key = server_key,
        .ops = &ops,
        .owner = c};
    CHECK_EQ(proto_net_connect(c->net, &opt, &c->socket, &err), 0);
}

static void client_stop(struct client *c)
{
    proto_net_destroy(c->net);
    ev_loop_destroy(c->loop);
}

TEST(a_hundred_thousand_messages_arrive_in_order_and_none_waits_for_the_sweep)
{
    make_dir();
    struct proto_net_key server = make_key(NULL), self = make_key("g1");
    struct echo e;
    echo_start(&e, &server, "tcp://127.0.0.1:*");
    struct client c = {.wanted = MESSAGES, .body_bytes = 100, .until = PROTO_NET_REFUSED};
    client_start(&c, &self, server.public_z85, e.endpoint);
    ev_run(c.loop, 0);
    CHECK_EQ(c.received, MESSAGES);
    struct proto_net_stats stats;
    proto_net_stats(c.net, &stats);
    CHECK_EQ(stats.late, 0);
    CHECK_EQ(stats.malformed, 0);
    client_stop(&c);
    echo_stop(&e);
    CHECK_EQ(e.stats.late, 0);
    CHECK_EQ(e.stats.received, MESSAGES);
    CHECK(!e.wrong_user);
    drop_dir();
}

TEST(the_longest_request_of_the_class_passes_and_a_longer_one_is_not_sent)
{
    make_dir();
    struct proto_net_key server = make_key(NULL), self = make_key("g1");
    struct echo e;
    echo_start(&e, &server, "tcp://127.0.0.1:*");
    struct client c = {.wanted = 1, .body_bytes = PROTO_CTL_BYTES_MAX, .until = PROTO_NET_REFUSED};
    client_start(&c, &self, server.public_z85, e.endpoint);
    ev_run(c.loop, 0);
    CHECK_EQ(c.received, 1);
    static const uint8_t body[PROTO_CTL_BYTES_MAX + 1];
    struct proto_envelope env = {.type = PROTO_ENVELOPE_PING};
    CHECK_EQ(proto_net_send(c.socket, NULL, &env, body, sizeof body), BASE_ETOOBIG);
    client_stop(&c);
    echo_stop(&e);
    drop_dir();
}

TEST(a_key_that_is_not_listed_is_refused_until_it_is_added)
{
    make_dir();
    struct proto_net_key server = make_key(NULL), listed = make_key("g0"), self = make_key(NULL);
    (void)listed;
    struct echo e;
    echo_start(&e, &server, "tcp://127.0.0.1:*");
    struct client c = {.until = PROTO_NET_REFUSED};
    client_start(&c, &self, server.public_z85, e.endpoint);
    ev_run(c.loop, 0);
    CHECK(c.state_seen);

    struct proto_net_client add = {.role = "gateway", .name = "g1"};
    memcpy(add.public_z85, self.public_z85, sizeof add.public_z85);
    CHECK_EQ(proto_net_clients_add(in_dir("clients"), &add, NULL), 0);
    c.until = PROTO_NET_UP;
    c.state_seen = false;
    ev_run(c.loop, 0);
    CHECK(c.state_seen);
    client_stop(&c);
    echo_stop(&e);
    CHECK_EQ(e.stats.received, 0);
    drop_dir();
}

TEST(a_client_that_expects_another_server_key_never_talks_to_it)
{
    make_dir();
    struct proto_net_key server = make_key(NULL), other = make_key(NULL), self = make_key("g1");
    struct echo e;
    echo_start(&e, &server, "tcp://127.0.0.1:*");
    struct client c = {.wanted = 1, .body_bytes = 1, .until = PROTO_NET_DOWN};
    client_start(&c, &self, other.public_z85, e.endpoint);
    ev_run(c.loop, 0);
    CHECK(c.state_seen);
    CHECK_EQ(c.sent, 0);
    client_stop(&c);
    echo_stop(&e);
    CHECK_EQ(e.stats.received, 0);
    drop_dir();
}

TEST(a_lost_connection_is_reported_and_comes_back)
{
    make_dir();
    struct proto_net_key server = make_key(NULL), self = make_key("g1");
    struct echo e;
    echo_start(&e, &server, "tcp://127.0.0.1:*");
    char endpoint[128];
    (void)snprintf(endpoint, sizeof endpoint, "%s", e.endpoint);
    struct client c = {.until = PROTO_NET_UP};
    client_start(&c, &self, server.public_z85, endpoint);
    ev_run(c.loop, 0);
    echo_stop(&e);
    c.until = PROTO_NET_DOWN;
    ev_run(c.loop, 0);
    echo_start(&e, &server, endpoint);
    c.wanted = 10;
    ev_run(c.loop, 0); /* until all ten are back */
    CHECK_EQ(c.received, 10);
    client_stop(&c);
    echo_stop(&e);
    drop_dir();
}

static int listen_somewhere(char *endpoint, size_t n)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    CHECK_EQ(listen(fd, 16), 0);
    CHECK_EQ(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    (void)snprintf(endpoint, n, "tcp://127.0.0.1:%d", ntohs(at.sin_port));
    return fd;
}

/* ZeroMQ's thread tells that a connection is lost, and must not wait for who does not listen any
 * more: with it all sockets would stand still. */
TEST(both_ends_may_close_a_connection_at_a_time)
{
    enum { ROUNDS = 2000, ALIVE_MS = 20000 };
    static const struct proto_net_ops nothing = {0};
    struct ev_loop *loop = ev_loop_new(0);
    struct proto_net *net;
    char endpoint[48];
    int fd = listen_somewhere(endpoint, sizeof endpoint);
    CHECK_EQ(proto_net_create(&net, loop, NULL, NULL), 0);
    for (int i = 0; i < ROUNDS; i++) {
        struct proto_net_options o = {
            .class = PROTO_NET_CTL, .endpoint = endpoint, .ops = &nothing};
        struct proto_net_socket *s;
        struct pollfd p = {.fd = fd, .events = POLLIN};
        CHECK_EQ(proto_net_connect(net, &o, &s, NULL), 0);
        CHECK_EQ(poll(&p, 1, ALIVE_MS), 1);
        int theirs = accept(fd, NULL, NULL);
        CHECK(theirs >= 0);
        CHECK_EQ(close(theirs), 0);
        proto_net_close(s);
        (void)ev_run(loop, EVRUN_NOWAIT);
    }
    CHECK_EQ(close(fd), 0);
    proto_net_destroy(net);
    ev_loop_destroy(loop);
}

static void knock(const char *endpoint)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    to.sin_port = htons((uint16_t)atoi(strrchr(endpoint, ':') + 1));
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(fd >= 0);
    CHECK_EQ(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    CHECK_EQ(close(fd), 0);
}

/* Nor for who is late: strangers come and go while the program does something else. */
TEST(connections_that_end_while_nobody_looks_stop_nothing)
{
    enum { STRANGERS = 2200, HANGS_S = 60 }; /* ZeroMQ would keep 2000 */
    static const struct proto_net_ops nothing = {0};
    struct ev_loop *loop = ev_loop_new(0);
    struct proto_net *net;
    struct proto_net_options o = {
        .class = PROTO_NET_CTL, .endpoint = "tcp://127.0.0.1:*", .ops = &nothing};
    struct proto_net_socket *s;
    (void)alarm(HANGS_S);
    CHECK_EQ(proto_net_create(&net, loop, NULL, NULL), 0);
    CHECK_EQ(proto_net_bind(net, &o, &s, NULL), 0);
    for (int i = 0; i < STRANGERS; i++) {
        knock(proto_net_endpoint(s));
    }
    proto_net_close(s);
    proto_net_destroy(net);
    ev_loop_destroy(loop);
    (void)alarm(0);
}

TEST(a_key_file_that_others_can_read_is_refused)
{
    make_dir();
    struct proto_net_key key = make_key(NULL), back;
    struct base_error err;
    CHECK_EQ(proto_net_key_write(in_dir("key"), &key, &err), 0);
    CHECK_EQ(proto_net_key_read(in_dir("key"), &back, &err), 0);
    CHECK_STR(back.secret_z85, key.secret_z85);
    CHECK_STR(back.public_z85, key.public_z85);
    CHECK_EQ(chmod(in_dir("key"), 0644), 0);
    CHECK_EQ(proto_net_key_read(in_dir("key"), &back, &err), BASE_EDENIED);
    CHECK_EQ(proto_net_key_write(in_dir("key"), &key, &err), -17);
    drop_dir();
}

TEST(a_bad_line_of_the_list_is_named)
{
    make_dir();
    FILE *f = fopen(in_dir("clients"), "w");
    CHECK(f != NULL);
    (void)fputs("# keys\n\ngateway g1 short\n", f);
    CHECK_EQ(fclose(f), 0);
    struct base_error err;
    struct proto_net_client *list = NULL;
    int n = 0;
    CHECK_EQ(proto_net_clients_read(in_dir("clients"), &list, &n, &err), BASE_EBADMSG);
    CHECK(strstr(err.text, "clients:3:") != NULL);
    drop_dir();
}
