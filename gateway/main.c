#include <ev.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/core/json.h"
#include "gateway/io/api.h"
#include "gateway/io/auth.h"
#include "gateway/io/config.h"
#include "gateway/io/early.h"
#include "gateway/io/server.h"
#include "gateway/io/tls.h"
#include "gateway/keys/mcp_keys.h"
#include "proto/base/buf.h"
#include "proto/net/loop_zmq.h"
#include "scheduler/io/roster.h"

/* warren-gateway: reads its configuration, listens, and stops when it is told to. */

static const char usage[] =
    "usage: warren-gateway --config FILE [--ready-fd N]\n"
    "\n"
    "Speaks HTTP to clients and ZeroMQ to workers.\n"
    "\n"
    "  --config FILE   gateway.yaml\n"
    "  --ready-fd N    write {\"event\":\"ready\",...} or {\"event\":\"failed\",...} there\n"
    "  --version       print the version\n"
    "  --help          this text\n"
    "\n"
    "SIGTERM and SIGINT stop it: no new connections, running requests may finish (drain_s).\n";

struct gateway {
    struct ev_loop *loop;
    struct base_log log;
    struct gw_config *config;
    struct gw_tls *tls;
    struct gw_auth *auth;
    struct gw_mcp_keys *mcp_keys;
    struct gw_auth_issuer issuers[GW_AUTH_ISSUERS_MAX];
    struct gw_auth_grant *grants;
    struct gw_calls *calls;
    struct gw_api *api;
    struct gw_early early;
    struct gw_server *server;
    struct proto_net_key key;
    ev_signal term, interrupt;
    ev_prepare turn;
    struct base_log_batch lines;
    int ready_fd;
    ev_timer first; /* until a worker is known */
    unsigned looks;
    const char *ready_text;
    bool stopping;
    ev_timer patience; /* with the goodbye */
};

static void tell(const struct gateway *g, const char *event, const char *text)
{
    struct base_buf b = {0};
    if (g->ready_fd >= 0 && base_buf_printf(&b, "{\"event\":\"%s\",\"text\":", event) == 0 &&
        gw_json_string(&b, text, strlen(text)) == 0 && base_buf_add(&b, "}\n", 2) == 0) {
        (void)!write(g->ready_fd, base_buf_data(&b), base_buf_size(&b));
    }
    base_buf_deinit(&b);
}

#define GOODBYE_S 1.5

static void on_left(void *owner)
{
    struct gateway *g = owner;
    ev_break(g->loop, EVBREAK_ALL);
}

static void on_patience(struct ev_loop *loop, ev_timer *t, int revents)
{
    (void)t;
    (void)revents;
    ev_break(loop, EVBREAK_ALL);
}

static void on_drained(void *owner)
{
    struct gateway *g = owner;
    if (!gw_calls_leave(g->calls, on_left, g)) {
        ev_break(g->loop, EVBREAK_ALL);
        return;
    }
    ev_timer_init(&g->patience, on_patience, GOODBYE_S, 0.);
    ev_timer_start(g->loop, &g->patience);
}

static void on_stop(struct ev_loop *loop, ev_signal *w, int revents)
{
    (void)revents;
    struct gateway *g = w->data;
    if (g->stopping) { /* asked twice: at once */
        ev_break(loop, EVBREAK_ALL);
        return;
    }
    g->stopping = true;
    LOG_INFO(&g->log, "stopping, running requests have %u s", g->config->drain_s);
    ev_timer_stop(loop, &g->first);
    gw_early_open(&g->early); /* they are told now: 503 when there still is no worker */
    gw_server_drain(g->server, g->config->drain_s, on_drained, g);
}

static int start_calls(struct gateway *g, struct base_error *err)
{
    const struct gw_config *c = g->config;
    if (c->curve_secret != NULL) {
        int rc = proto_net_key_read(c->curve_secret, &g->key, err);
        if (rc < 0) {
            return rc;
        }
    }
    struct gw_worker_config *workers = calloc(c->workers_count + 1, sizeof *workers);
    if (workers == NULL) {
        return base_fail(err, BASE_ENOMEM, "start the calls");
    }
    for (unsigned i = 0; i < c->workers_count; i++) {
        const struct gw_config_worker *w = &c->workers[i];
        workers[i] =
            (struct gw_worker_config){.id = c->cluster != NULL ? sched_node_id(w->name) : w->id,
                .name = w->name,
                .ctl = w->ctl,
                .bulk = w->bulk,
                .public_key = w->public_key,
                .weight = (uint8_t)w->weight,
                .zone = w->zone};
    }
    struct gw_calls_options opt = {.loop = g->loop,
        .log = &g->log,
        .self = c->curve_secret == NULL ? NULL : &g->key,
        .workers = workers,
        .workers_n = c->workers_count,
        .cluster = c->cluster};
    memcpy(opt.cluster_key, c->key, sizeof opt.cluster_key);
    int rc = gw_calls_create(&g->calls, &opt, err);
    free(workers);
    return rc;
}

static void set_issuer(struct gw_auth_issuer *to, const char *issuer, const char *jwks)
{
    bool url = gw_config_is_url(jwks);
    *to = (struct gw_auth_issuer){issuer, url ? NULL : jwks, url ? jwks : NULL};
}

static int start_auth(struct gateway *g, struct base_error *err)
{
    static const char *const audiences[] = {"https://dynamicsessions.io", "https://acasessions.io"};
    const struct gw_config *c = g->config;
    if (c->mcp_keys != NULL) {
        int rc = gw_mcp_keys_create(&g->mcp_keys, c->mcp_keys, c->key, err);
        if (rc < 0) {
            return rc;
        }
    }
    if (c->insecure) {
        LOG_WARN(&g->log, "insecure: no token is asked for");
        return 0;
    }
    const char *first = c->issuer == NULL ? "warren" : c->issuer;
    set_issuer(&g->issuers[0], first, c->jwks);
    for (unsigned i = 0; i < c->issuers_count; i++) {
        set_issuer(&g->issuers[i + 1], c->issuers[i].issuer, c->issuers[i].jwks);
    }
    g->grants = calloc(c->grants_count + 1, sizeof *g->grants);
    if (g->grants == NULL) {
        return base_fail(err, BASE_ENOMEM, "take the grants");
    }
    for (unsigned i = 0; i < c->grants_count; i++) {
        const struct gw_config_grant *from = &c->grants[i];
        g->grants[i] = (struct gw_auth_grant){from->issuer == NULL ? first : from->issuer,
            from->principal, from->app_role, from->pool, gw_auth_role(from->role)};
    }
    struct gw_auth_options opt = {.loop = g->loop,
        .log = &g->log,
        .ca = c->jwks_ca,
        .issuers = g->issuers,
        .issuers_n = c->issuers_count + 1,
        .audiences = c->audiences_count > 0 ? (const char *const *)c->audiences : audiences,
        .audiences_n = c->audiences_count > 0 ? c->audiences_count : 2,
        .grants = g->grants,
        .grants_n = c->grants_count};
    return gw_auth_create(&g->auth, &opt, err);
}

static int start_server(struct gateway *g, struct base_error *err)
{
    const struct gw_config *c = g->config;
    struct gw_api_options api = {.loop = g->loop,
        .log = &g->log,
        .calls = g->calls,
        .auth = g->auth,
        .mcp_keys = g->mcp_keys,
        .mcp_places = {c->local, (const char *const *)c->mcp_origins, c->mcp_origins_count,
            (const char *const *)c->mcp_hosts, c->mcp_hosts_count},
        .mcp_fixtures = c->mcp_fixtures,
        .memory_max = (size_t)c->memory_mib << 20,
        .tenant_per_s = c->tenant_per_s,
        .tenant_burst = c->tenant_burst,
        .pool_per_s = c->pool_per_s,
        .pool_burst = c->pool_burst,
        .terminal_ping_s = c->terminal_ping_s};
    memcpy(api.cluster_key, c->key, sizeof api.cluster_key);
    int rc = gw_api_create(&g->api, &api, err);
    if (rc == 0 && c->tls_cert != NULL) {
        rc = gw_tls_create(&g->tls, c->tls_cert, c->tls_key, err);
    }
    struct gw_server_options opt = {.listen = c->listen,
        .tls = g->tls,
        .connections_max = c->connections_max,
        .per_address_max = c->connections_per_address,
        .on_request = gw_early_request,
        .owner = &g->early};
    g->early = (struct gw_early){.on_request = gw_api_request, .owner = g->api};
    return rc < 0 ? rc : gw_server_create(&g->server, g->loop, &opt, err);
}

static int start(struct gateway *g, const char *config, struct base_error *err)
{
    int rc = gw_config_load(config, &g->config, err);
    if (rc < 0) {
        return rc;
    }
    g->log.level = g->config->log_level;
    (void)proto_net_raise_limits(); /* connections are descriptors */
    g->loop = ev_default_loop(EVBACKEND_EPOLL | EVFLAG_NOENV);
    if (g->loop == NULL) {
        return base_fail(err, BASE_ESTATE, "epoll is not usable");
    }
    rc = start_auth(g, err);
    rc = rc < 0 ? rc : start_calls(g, err);
    return rc < 0 ? rc : start_server(g, err);
}

/* The audit lines of a turn leave together. */
static void on_turn(struct ev_loop *loop, ev_prepare *w, int revents)
{
    (void)loop;
    (void)revents;
    base_log_flush(w->data);
}

enum { FIRST_LOOKS = 200 };
#define FIRST_S 0.05

/* A gateway that learns its workers from the cluster is of no use to pools before it knows one, so
 * their requests wait until then. But not for ever: it may be the first to be there. */
static void on_first(struct ev_loop *loop, ev_timer *t, int revents)
{
    (void)revents;
    struct gateway *g = t->data;
    if (gw_calls_usable(g->calls) || ++g->looks == FIRST_LOOKS) {
        ev_timer_stop(loop, t);
        gw_early_open(&g->early);
        tell(g, "ready", g->ready_text);
    }
}

static void run(struct gateway *g)
{
    char text[160];
    ev_signal_init(&g->term, on_stop, SIGTERM);
    ev_signal_init(&g->interrupt, on_stop, SIGINT);
    g->term.data = g->interrupt.data = g;
    ev_signal_start(g->loop, &g->term);
    ev_signal_start(g->loop, &g->interrupt);
    (void)snprintf(text, sizeof text, "%s://%.*s:%d", g->tls == NULL ? "http" : "https",
        (int)(strrchr(g->config->listen, ':') - g->config->listen), g->config->listen,
        gw_server_port(g->server));
    LOG_INFO(&g->log, "listening url=%s workers=%u", text, g->config->workers_count);
    g->log.batch = &g->lines;
    ev_prepare_init(&g->turn, on_turn);
    ev_set_priority(&g->turn, EV_MINPRI); /* after those that end requests */
    g->turn.data = &g->log;
    ev_prepare_start(g->loop, &g->turn);
    g->ready_text = text;
    ev_timer_init(&g->first, on_first, 0., FIRST_S);
    g->first.data = g;
    ev_timer_start(g->loop, &g->first);
    ev_run(g->loop, 0);
    ev_timer_stop(g->loop, &g->first);
    ev_prepare_stop(g->loop, &g->turn);
    base_log_flush(&g->log);
    g->log.batch = NULL;
}

static void stop(struct gateway *g)
{
    gw_server_destroy(g->server);
    gw_api_destroy(g->api);
    gw_calls_destroy(g->calls);
    gw_auth_destroy(g->auth);
    gw_mcp_keys_destroy(g->mcp_keys);
    free(g->grants);
    gw_tls_destroy(g->tls);
    gw_config_destroy(g->config);
}

static const char *parse_options(int argc, char **argv, struct gateway *g)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
        {"ready-fd", required_argument, NULL, 'r'}, {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    const char *config = NULL;
    int o;
    while ((o = getopt_long(argc, argv, "", options, NULL)) >= 0) {
        if (o == 'c') {
            config = optarg;
        } else if (o == 'r') {
            char *end = NULL;
            long fd = strtol(optarg, &end, 10);
            g->ready_fd = *end == '\0' && fd >= 0 && fd < 65536 ? (int)fd : -1;
        } else if (o == 'v' || o == 'h') {
            (void)fputs(o == 'v' ? "warren-gateway " WARREN_VERSION "\n" : usage, stdout);
            exit(0);
        } else {
            return NULL;
        }
    }
    return optind == argc ? config : NULL;
}

enum { HEAP_PAD = 1 << 20, HEAP_SLACK = 8 << 20 };

/* A request's memory comes and goes: without this the heap's end moves and its small parts are
 * joined for every one, 6 % of the processor's time. */
static void settle_heap(void)
{
    (void)mallopt(M_MXFAST, 0);
    (void)mallopt(M_TOP_PAD, HEAP_PAD);
    (void)mallopt(M_TRIM_THRESHOLD, HEAP_SLACK);
}

int main(int argc, char **argv)
{
    settle_heap();
    struct gateway g = {.ready_fd = -1};
    struct base_error err = {0};
    const char *config = parse_options(argc, argv, &g);
    if (config == NULL) {
        (void)fputs(usage, stderr);
        return 2;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    base_log_init(&g.log, "gateway", STDERR_FILENO);
    int rc = start(&g, config, &err);
    if (rc < 0) {
        LOG_ERROR(&g.log, "%s", err.text);
        tell(&g, "failed", err.text);
    } else {
        run(&g);
    }
    stop(&g);
    return rc < 0 ? 1 : 0;
}
