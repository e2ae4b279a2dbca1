#include "gateway/io/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "gateway/io/conn.h"
#include "gateway/io/peers.h"
#include "gateway/io/tls.h"
#include "proto/base/cleanup.h"

enum { ACCEPTS_PER_EVENT = 64, SCRATCH = 64 << 10, BACKLOG = 4096 };

struct gw_server {
    struct ev_loop *loop;
    struct gw_server_options opt;
    struct gw_peers *peers;
    struct gw_conn *all, *dirty;
    ev_io accept;
    ev_prepare prepare;
    ev_timer tick;
    int fd;
    uint32_t now_s, drain_limit_s;
    bool draining;
    void (*drained)(void *owner);
    void *drain_owner;
    struct gw_server_stats stats;
    char date[32];
    uint8_t scratch[SCRATCH];
};

/* ---- for the connections ---- */

void gw_server_mark(struct gw_conn *c)
{
    if (!c->dirty) {
        c->dirty = true;
        c->dirty_next = c->server->dirty;
        c->server->dirty = c;
    }
}

uint32_t gw_server_now_s(const struct gw_server *s)
{
    return s->now_s;
}

const char *gw_server_date(const struct gw_server *s)
{
    return s->date;
}

bool gw_server_draining(const struct gw_server *s)
{
    return s->draining;
}

struct ev_loop *gw_server_loop(const struct gw_server *s)
{
    return s->loop;
}

struct gw_server_stats *gw_server_counters(struct gw_server *s)
{
    return &s->stats;
}

uint8_t *gw_server_scratch(struct gw_server *s, size_t *ret_n)
{
    *ret_n = sizeof s->scratch;
    return s->scratch;
}

void gw_server_request(struct gw_server *s, struct gw_exchange *x)
{
    s->stats.requests++;
    s->opt.on_request(s->opt.owner, x);
    if (x->ops->gone == NULL && !x->head_sent) { /* nobody took it */
        gw_exchange_respond(x, 404, NULL, 0, 0);
        gw_exchange_end(x);
    }
}

/* ---- connections ---- */

static void release(struct gw_conn *c)
{
    struct gw_server *s = c->server;
    gw_conn_free(c);
    gw_peers_release(s->peers, c->peer);
    if (c->prev != NULL) {
        c->prev->next = c->next;
    } else {
        s->all = c->next;
    }
    if (c->next != NULL) {
        c->next->prev = c->prev;
    }
    s->stats.connections--;
    free(c);
}

static void finish_drain(struct gw_server *s)
{
    if (s->draining && s->all == NULL && s->drained != NULL) {
        void (*done)(void *) = s->drained;
        s->drained = NULL;
        done(s->drain_owner);
    }
}

static void on_prepare(struct ev_loop *loop, ev_prepare *w, int revents)
{
    (void)loop;
    (void)revents;
    struct gw_server *s = w->data;
    while (s->dirty != NULL) {
        struct gw_conn *c = s->dirty;
        s->dirty = c->dirty_next;
        gw_conn_settle(c); /* still marked: what it does to itself needs no second round */
        c->dirty = false;
        if (c->dead) {
            c->dirty = true; /* and gone() callbacks must not bring it back */
            release(c);
        }
    }
    finish_drain(s);
}

static void update_date(struct gw_server *s)
{
    time_t now = time(NULL);
    struct tm tm;
    (void)gmtime_r(&now, &tm);
    (void)strftime(s->date, sizeof s->date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
}

static void on_tick(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)revents;
    struct gw_server *s = w->data;
    s->now_s++;
    update_date(s);
    for (struct gw_conn *c = s->all; c != NULL; c = c->next) {
        if (s->draining && s->now_s >= s->drain_limit_s) {
            c->dead = true;
            gw_server_mark(c);
        } else {
            gw_conn_tick(c);
        }
    }
    if (s->fd >= 0 && !ev_is_active(&s->accept)) {
        ev_io_start(loop, &s->accept); /* stopped for want of descriptors */
    }
}

static struct gw_conn *make_conn(struct gw_server *s, int fd, const struct sockaddr *sa)
{
    struct gw_conn *c = calloc(1, sizeof *c);
    if (c == NULL) {
        return NULL;
    }
    c->server = s;
    c->fd = fd;
    c->peer = gw_peers_take(s->peers, sa, s->opt.per_address_max);
    if (c->peer == NULL) {
        free(c);
        return NULL;
    }
    if (s->opt.tls != NULL && (c->ssl = gw_tls_accept(s->opt.tls, fd)) == NULL) {
        gw_peers_release(s->peers, c->peer);
        free(c);
        return NULL;
    }
    const void *address =
        sa->sa_family == AF_INET6
            ? (const void *)&((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr
            : (const void *)&((const struct sockaddr_in *)(const void *)sa)->sin_addr;
    (void)inet_ntop(sa->sa_family, address, c->address, sizeof c->address);
    return c;
}

static void on_accept(struct ev_loop *loop, ev_io *w, int revents)
{
    (void)revents;
    struct gw_server *s = w->data;
    for (int i = 0; i < ACCEPTS_PER_EVENT; i++) {
        struct sockaddr_storage sa = {0};
        socklen_t n = sizeof sa;
        int fd = accept4(s->fd, (struct sockaddr *)&sa, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
                ev_io_stop(loop, w); /* the tick tries again */
            }
            return;
        }
        struct gw_conn *c = NULL;
        if (s->stats.connections < s->opt.connections_max) {
            c = make_conn(s, fd, (const struct sockaddr *)&sa);
        }
        if (c == NULL) {
            s->stats.refused++;
            (void)close(fd);
            continue;
        }
        int one = 1;
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        c->next = s->all;
        if (s->all != NULL) {
            s->all->prev = c;
        }
        s->all = c;
        s->stats.accepted++;
        s->stats.connections++;
        gw_conn_start(c);
    }
}

/* ---- the server ---- */

/* "host:port" or "[v6]:port". */
static int split_address(const char *text, char *host, size_t cap, const char **ret_port)
{
    const char *colon = strrchr(text, ':');
    if (colon == NULL) {
        return BASE_EINVAL;
    }
    size_t n = (size_t)(colon - text);
    if (n >= 2 && text[0] == '[' && text[n - 1] == ']') {
        text++;
        n -= 2;
    }
    if (n == 0 || n >= cap) {
        return BASE_EINVAL;
    }
    memcpy(host, text, n);
    host[n] = '\0';
    *ret_port = colon + 1;
    return 0;
}

static int open_listener(const char *listen_on, int *ret_fd, struct base_error *err)
{
    char host[128];
    const char *port = NULL;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST}, *ai = NULL;
    if (split_address(listen_on, host, sizeof host, &port) < 0 ||
        getaddrinfo(host, port, &hints, &ai) != 0) {
        return base_fail(err, BASE_EINVAL, "listen '%s': want an address and a port", listen_on);
    }
    int one = 1;
    CLEANUP(base_closep)
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int rc = fd < 0 ? -1 : setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    rc = rc < 0 ? rc : bind(fd, ai->ai_addr, ai->ai_addrlen);
    rc = rc < 0 ? rc : listen(fd, BACKLOG);
    int code = -errno;
    freeaddrinfo(ai);
    if (rc < 0) {
        return base_fail(err, code, "listen '%s': %s", listen_on, strerror(-code));
    }
    *ret_fd = TAKE_FD(fd);
    return 0;
}

static void start_watchers(struct gw_server *s)
{
    ev_io_init(&s->accept, on_accept, s->fd, EV_READ);
    ev_prepare_init(&s->prepare, on_prepare);
    /* Before proto_net's: what handlers send is looked at again there. */
    ev_set_priority(&s->prepare, EV_MAXPRI);
    ev_timer_init(&s->tick, on_tick, 1., 1.);
    s->accept.data = s->prepare.data = s->tick.data = s;
    ev_io_start(s->loop, &s->accept);
    ev_prepare_start(s->loop, &s->prepare);
    ev_timer_start(s->loop, &s->tick);
}

int gw_server_create(struct gw_server **ret, struct ev_loop *loop,
    const struct gw_server_options *opt, struct base_error *err)
{
    struct gw_server *s = calloc(1, sizeof *s);
    if (s == NULL || (s->peers = gw_peers_create()) == NULL) {
        free(s);
        return base_fail(err, BASE_ENOMEM, "start the HTTP server");
    }
    s->loop = loop;
    s->opt = *opt;
    s->opt.connections_max = opt->connections_max == 0 ? 20000 : opt->connections_max;
    s->opt.per_address_max = opt->per_address_max == 0 ? 4096 : opt->per_address_max;
    int rc = open_listener(opt->listen, &s->fd, err);
    if (rc < 0) {
        gw_peers_destroy(s->peers);
        free(s);
        return rc;
    }
    update_date(s);
    start_watchers(s);
    *ret = s;
    return 0;
}

static void stop_listening(struct gw_server *s)
{
    ev_io_stop(s->loop, &s->accept);
    if (s->fd >= 0) {
        (void)close(s->fd);
        s->fd = -1;
    }
}

void gw_server_destroy(struct gw_server *s)
{
    if (s == NULL) {
        return;
    }
    stop_listening(s);
    ev_prepare_stop(s->loop, &s->prepare);
    ev_timer_stop(s->loop, &s->tick);
    while (s->all != NULL) {
        s->all->dirty = true;
        release(s->all);
    }
    gw_peers_destroy(s->peers);
    free(s);
}

int gw_server_port(const struct gw_server *s)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } sa = {.v6 = {0}};
    socklen_t n = sizeof sa;
    if (getsockname(s->fd, &sa.any, &n) != 0) {
        return -1;
    }
    return ntohs(sa.any.sa_family == AF_INET6 ? sa.v6.sin6_port : sa.v4.sin_port);
}

void gw_server_drain(struct gw_server *s, unsigned limit_s, void (*done)(void *owner), void *owner)
{
    s->draining = true;
    s->drained = done;
    s->drain_owner = owner;
    s->drain_limit_s = s->now_s + limit_s;
    stop_listening(s);
    for (struct gw_conn *c = s->all; c != NULL; c = c->next) {
        for (struct gw_exchange *x = c->exchanges; x != NULL; x = x->next) {
            if (x->ops->stopping != NULL && !x->aborted && !x->response_done) {
                x->ops->stopping(x->owner);
            }
        }
        gw_conn_tick(c);
        gw_server_mark(c);
    }
}

void gw_server_stats(const struct gw_server *s, struct gw_server_stats *ret)
{
    *ret = s->stats;
}
