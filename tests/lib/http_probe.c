/* The HTTP server of the gateway with small handlers behind it, for tests of the protocol itself.
 * usage: http_probe [CERT KEY]     prints the port; SIGTERM drains and ends */
#include <ev.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/io/exchange.h"
#include "gateway/io/server.h"
#include "gateway/io/tls.h"
#include "proto/base/buf.h"
#include "proto/base/cleanup.h"

static struct ev_loop *loop;
static struct gw_server *server;
static size_t unconsumed_max; /* of all slow sinks so far */

enum { ECHO, SINK, BIG, EVENTS, STATS };

struct probe {
    struct gw_exchange *x;
    int kind;
    struct base_buf body;
    uint64_t total, left;
    size_t unconsumed;
    bool ended;
    ev_timer timer;
};

static void answer(struct probe *p, const char *type, const void *data, size_t n)
{
    struct gw_field f = {"content-type", type};
    gw_exchange_respond(p->x, 200, &f, 1, (int64_t)n);
    (void)gw_exchange_write(p->x, data, n);
    gw_exchange_end(p->x);
}

static void answer_json(struct probe *p, const char *key, uint64_t value)
{
    char text[80];
    int n = snprintf(text, sizeof text, "{\"%s\":%llu}", key, (unsigned long long)value);
    answer(p, "application/json", text, (size_t)n);
}

static void pump(struct probe *p)
{
    static const uint8_t zeros[32 << 10];
    while (p->left > 0) {
        size_t n = p->left < sizeof zeros ? (size_t)p->left : sizeof zeros;
        p->left -= n;
        if (gw_exchange_write(p->x, zeros, n) >= GW_EXCHANGE_OUT_HIGH) {
            return;
        }
    }
    gw_exchange_end(p->x);
}

static void on_timer(struct ev_loop *l, ev_timer *w, int revents)
{
    (void)revents;
    struct probe *p = w->data;
    if (p->kind == EVENTS) {
        char text[32];
        int n = snprintf(text, sizeof text, "id: %d\ndata: tick\n\n", (int)p->left--);
        (void)gw_exchange_write(p->x, text, (size_t)n);
        if (p->left == 0) {
            ev_timer_stop(l, w);
            gw_exchange_end(p->x);
        }
        return;
    }
    size_t n = p->unconsumed < 300000 ? p->unconsumed : 300000; /* 30 MB/s */
    p->unconsumed -= n;
    gw_exchange_consume(p->x, n);
    if (p->ended && p->unconsumed == 0) {
        ev_timer_stop(l, w);
        answer_json(p, "bytes", p->total);
    }
}

static void on_body(void *owner, const uint8_t *data, size_t n)
{
    struct probe *p = owner;
    p->total += n;
    if (p->kind == SINK) {
        p->unconsumed += n;
        unconsumed_max = p->unconsumed > unconsumed_max ? p->unconsumed : unconsumed_max;
        return;
    }
    if (base_buf_size(&p->body) + n <= 1 << 20) {
        (void)base_buf_add(&p->body, data, n);
    }
    gw_exchange_consume(p->x, n);
}

static long rss_kib(void)
{
    CLEANUP(base_fclosep) FILE *f = fopen("/proc/self/status", "re");
    char line[128];
    long kib = 0;
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        (void)sscanf(line, "VmRSS: %ld", &kib);
    }
    return kib;
}

static void answer_stats(struct probe *p)
{
    struct gw_server_stats s;
    gw_server_stats(server, &s);
    char text[256];
    int n = snprintf(text, sizeof text,
        "{\"connections\":%u,\"requests\":%llu,\"bad\":%llu,\"timeouts\":%llu,\"rss_kib\":%ld,"
        "\"unconsumed_max\":%zu}",
        s.connections, (unsigned long long)s.requests, (unsigned long long)s.bad,
        (unsigned long long)s.timeouts, rss_kib(), unconsumed_max);
    answer(p, "application/json", text, (size_t)n);
}

static void on_end(void *owner)
{
    struct probe *p = owner;
    struct gw_field sse = {"content-type", "text/event-stream"};
    switch (p->kind) {
    case ECHO:
        answer(p, "application/octet-stream", base_buf_data(&p->body), base_buf_size(&p->body));
        break;
    case SINK:
        p->ended = true;
        break;
    case BIG:
        gw_exchange_respond(p->x, 200, NULL, 0, (int64_t)p->left);
        pump(p);
        break;
    case EVENTS:
        gw_exchange_respond(p->x, 200, &sse, 1, -1);
        break;
    case STATS:
        answer_stats(p);
        break;
    }
}

static void on_drain(void *owner)
{
    struct probe *p = owner;
    if (p->kind == BIG) {
        pump(p);
    }
}

static void on_gone(void *owner)
{
    struct probe *p = owner;
    ev_timer_stop(loop, &p->timer);
    base_buf_deinit(&p->body);
    free(p);
}

static void on_request(void *owner, struct gw_exchange *x)
{
    (void)owner;
    static const struct gw_exchange_ops ops = {on_body, on_end, on_drain, NULL, on_gone};
    const struct gw_request *r = gw_exchange_request(x);
    static const char *const paths[] = {"/echo", "/sink", "/big", "/events", "/stats"};
    for (int i = 0; i < 5; i++) {
        if (strncmp(r->target, paths[i], strlen(paths[i])) != 0) {
            continue;
        }
        struct probe *p = calloc(1, sizeof *p);
        if (p == NULL) {
            return;
        }
        p->x = x;
        p->kind = i;
        const char *q = strchr(r->target, '=');
        p->left = q == NULL ? 5 : strtoull(q + 1, NULL, 10);
        ev_timer_init(&p->timer, on_timer, 0.01, 0.01);
        p->timer.data = p;
        if (p->kind == SINK || p->kind == EVENTS) {
            ev_timer_start(loop, &p->timer);
        }
        gw_exchange_accept(x, &ops, p);
        return;
    }
}

static void on_drained(void *owner)
{
    (void)owner;
    ev_break(loop, EVBREAK_ALL);
}

static void on_term(struct ev_loop *l, ev_signal *w, int revents)
{
    (void)l;
    (void)w;
    (void)revents;
    gw_server_drain(server, 20, on_drained, NULL);
}

int main(int argc, char **argv)
{
    (void)signal(SIGPIPE, SIG_IGN);
    loop = ev_default_loop(EVBACKEND_EPOLL | EVFLAG_NOENV);
    struct base_error err = {0};
    struct gw_tls *tls = NULL;
    if (argc == 3 && gw_tls_create(&tls, argv[1], argv[2], &err) < 0) {
        (void)fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    struct gw_server_options opt = {.listen = "127.0.0.1:0", .tls = tls, .on_request = on_request};
    if (gw_server_create(&server, loop, &opt, &err) < 0) {
        (void)fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    (void)printf("%d\n", gw_server_port(server));
    (void)fflush(stdout);
    ev_signal term;
    ev_signal_init(&term, on_term, SIGTERM);
    ev_signal_start(loop, &term);
    ev_run(loop, 0);
    gw_server_destroy(server);
    gw_tls_destroy(tls);
    return 0;
}
