#include "scheduler/io/route_node.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base/clock.h"
#include "proto/base/rand.h"
#include "scheduler/io/cluster.h"
#include "scheduler/io/shell.h"
#include "scheduler/io/views.h"

/* Callbacks of the owner come from the loop, so what they are about is kept. */
struct call {
    struct call *next;
    uint8_t kind; /* SCHED_FX_SEND: go; SCHED_FX_OUTCOME */
    uint64_t rid;
    struct sched_host host;
    sched_epoch epoch;
    enum sched_outcome outcome;
    bool full;
};

struct sched_route_node {
    struct sched_route_node_cfg cfg;
    struct sched_cfg core_cfg;
    struct sched_route_cfg route_cfg;
    struct sched_route route;
    struct sched_fx fx;
    void *route_mem, *fx_mem;
    struct sched_cluster *cluster;
    struct sched_catalog_client *catalog;
    struct sched_views *views;
    const struct sched_view *kept;
    ev_timer timer, turn;
    struct call *first, **last;
};

static void later(struct sched_route_node *n, const struct call *what)
{
    struct call *c = malloc(sizeof *c);
    if (c == NULL) {
        return; /* a lost message; the core asks again, or the owner's own time-out ends it */
    }
    *c = *what;
    c->next = NULL;
    *n->last = c;
    n->last = &c->next;
    ev_feed_event(n->cfg.loop, &n->turn, EV_CUSTOM);
}

static void apply(struct sched_route_node *n, const struct sched_fx_item *it)
{
    if (it->kind == SCHED_FX_OUTCOME) {
        struct call c = {.kind = SCHED_FX_OUTCOME,
            .rid = it->outcome.rid,
            .epoch = it->outcome.epoch,
            .full = it->outcome.full,
            .outcome = (enum sched_outcome)it->outcome.outcome};
        later(n, &c);
    } else if (it->kind == SCHED_FX_SEND && it->msg.type == SCHED_MSG_EXEC &&
               n->cfg.ops->go != NULL) {
        const struct sched_m_exec *m = &it->msg.exec;
        struct call c = {
            .kind = SCHED_FX_SEND, .rid = m->rid, .host = {it->msg.to, m->inc}, .epoch = m->epoch};
        later(n, &c);
    } else if (it->kind == SCHED_FX_SEND) {
        sched_cluster_send(n->cluster, &it->msg);
    }
}

static void arm(struct sched_route_node *n)
{
    sched_shell_arm(n->cfg.loop, &n->timer, sched_route_deadline_ns(&n->route), 0.001);
}

static void carry_out(struct sched_route_node *n)
{
    for (uint32_t i = 0; i < n->fx.n; i++) {
        apply(n, &n->fx.items[i]);
    }
    arm(n);
}

static void step(struct sched_route_node *n, const struct sched_msg *m)
{
    sched_fx_clear(&n->fx);
    sched_route_step(&n->route, base_clock_boot_ns(), m, &n->fx);
    carry_out(n);
}

static void on_timer(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop;
    (void)events;
    step(w->data, NULL);
}

static void on_turn(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop;
    (void)events;
    struct sched_route_node *n = w->data;
    while (n->first != NULL) {
        struct call *c = n->first;
        n->first = c->next;
        n->last = n->first == NULL ? &n->first : n->last;
        if (c->kind == SCHED_FX_SEND) {
            n->cfg.ops->go(n->cfg.user, c->rid, c->host, c->epoch);
        } else if (c->rid != 0) {
            if (c->full && n->cfg.ops->full != NULL) {
                n->cfg.ops->full(n->cfg.user, c->rid);
            }
            n->cfg.ops->outcome(n->cfg.user, c->rid, c->outcome, c->epoch);
        }
        free(c);
    }
}

static void on_message(void *user, const struct sched_msg *m)
{
    struct sched_route_node *n = user;
    if (n->catalog != NULL && sched_catalog_client_take(n->catalog, m)) {
        return;
    }
    if (m->type != SCHED_MSG_VIEW) {
        step(n, m);
        return;
    }
    if (m->view.view->num <= n->route.view->num) {
        return;
    }
    struct sched_msg copy = *m;
    const struct sched_view *view = sched_views_keep(n->views, m->view.view);
    if (view == NULL) {
        return;
    }
    copy.view.view = view;
    step(n, &copy);
    if (n->route.view != view) {
        sched_views_drop(n->views, view);
        return;
    }
    sched_views_drop(n->views, n->kept);
    n->kept = view;
    LOG_INFO(n->cfg.log, "view num=%u members=%u version=%u", view->num, sched_view_members(view),
        sched_view_version(view));
    struct sched_dynamic d = {.view = view->num, .flags = SCHED_DYN_SETTLED};
    sched_cluster_dynamic(n->cluster, &d);
    sched_cluster_set_version(n->cluster, sched_view_version(view));
}

static void on_suspect(void *user, uint64_t id, bool suspected)
{
    struct sched_route_node *n = user;
    sched_route_suspect(&n->route, id, suspected);
}

static void on_left(void *user)
{
    struct sched_route_node *n = user;
    if (n->cfg.ops->left != NULL) {
        n->cfg.ops->left(n->cfg.user);
    }
}

static void on_admin(void *user, uint64_t from, const char *question, struct base_buf *to)
{
    struct sched_route_node *n = user;
    (void)from;
    if (strcmp(question, "status") != 0) {
        (void)base_buf_printf(to, "{\"error\":\"unknown question\"}");
        return;
    }
    int rc = base_buf_printf(to,
        "{\"node\":\"%s\",\"role\":\"gateway\",\"version\":\"%s\",\"view\":{\"number\":%u},"
        "\"requests\":%u,",
        n->cfg.settings->name, WARREN_VERSION, n->route.view->num, n->route.used);
    rc = rc != 0 ? rc : sched_cluster_describe(n->cluster, to);
    rc = rc != 0 ? rc : base_buf_printf(to, "}");
    if (rc != 0) {
        base_buf_clear(to);
    }
}

static const struct sched_cluster_ops cluster_ops = {
    .on_message = on_message, .on_suspect = on_suspect, .on_admin = on_admin, .on_left = on_left};

/* ---- the owner ---- */

static uint64_t request(struct sched_route_node *n, const struct sched_route_ask *ask)
{
    sched_fx_clear(&n->fx);
    uint64_t rid = sched_route_request(&n->route, base_clock_boot_ns(), ask, &n->fx);
    carry_out(n);
    return rid;
}

uint64_t sched_route_node_request(
    struct sched_route_node *n, struct sched_key key, struct sched_exec exec, uint32_t timeout_ms)
{
    struct sched_route_ask ask = {.key = key, .exec = exec, .timeout_ms = timeout_ms};
    return request(n, &ask);
}

uint64_t sched_route_node_look(
    struct sched_route_node *n, struct sched_key key, struct sched_exec exec, uint32_t timeout_ms)
{
    struct sched_route_ask ask = {.key = key, .exec = exec, .look = true, .timeout_ms = timeout_ms};
    return request(n, &ask);
}

static const struct sched_req *find(const struct sched_route_node *n, uint64_t rid)
{
    uint32_t i = sched_map_get(&n->route.by_rid, rid, 0);
    return i == SCHED_MAP_NONE ? NULL : &n->route.reqs[i];
}

static void said(struct sched_route_node *n, uint8_t type, uint64_t rid, sched_epoch epoch)
{
    const struct sched_req *q = find(n, rid);
    if (q == NULL || q->state != SCHED_REQ_SENT || q->to.epoch != epoch) {
        return;
    }
    struct sched_msg m = {.type = type,
        .from = q->to.host.node,
        .to = n->cfg.settings->id,
        .exec = {.rid = rid,
            .key = q->key,
            .epoch = epoch,
            .inc = q->to.host.inc,
            .exec = q->exec,
            .outcome = SCHED_OUTCOME_OK}};
    step(n, &m);
}

void sched_route_node_done(struct sched_route_node *n, uint64_t rid, sched_epoch epoch)
{
    said(n, SCHED_MSG_DONE, rid, epoch);
}

void sched_route_node_not_here(struct sched_route_node *n, uint64_t rid, sched_epoch epoch)
{
    said(n, SCHED_MSG_NOTHERE, rid, epoch);
}

void sched_route_node_forget(struct sched_route_node *n, uint64_t rid)
{
    const struct sched_req *q = find(n, rid);
    if (q != NULL) { /* as if it had been answered; whoever answers really comes too late */
        struct sched_msg m = {.type = SCHED_MSG_DONE,
            .exec = {.rid = rid, .key = q->key, .epoch = q->to.epoch, .exec = q->exec}};
        step(n, &m);
    }
    for (struct call *c = n->first; c != NULL; c = c->next) {
        if (c->rid == rid) {
            c->kind = SCHED_FX_OUTCOME;
            c->rid = 0;
        }
    }
}

uint32_t sched_route_node_members(const struct sched_route_node *n)
{
    return n->kept == NULL ? 0 : sched_view_members(n->kept);
}

bool sched_route_node_ready(const struct sched_route_node *n)
{
    return sched_route_node_members(n) > 0;
}

uint32_t sched_route_node_view(const struct sched_route_node *n)
{
    return sched_route_node_ready(n) ? n->kept->num : 0;
}

void sched_route_node_workers(const struct sched_route_node *n,
    void (*fn)(void *ctx, const struct sched_route_worker *w), void *ctx)
{
    const struct sched_roster *roster = sched_cluster_roster(n->cluster);
    uint32_t at = 0;
    struct sched_swim_peer p;
    while (sched_swim_next(sched_cluster_swim(n->cluster), &at, &p)) {
        const struct sched_announce *a = p.announce;
        char ctl[SCHED_CLUSTER_ENDPOINT_MAX], bulk[SCHED_CLUSTER_ENDPOINT_MAX];
        if (p.state > SCHED_PEER_SUSPECT ||
            sched_roster_role(roster, a->id) != SCHED_ROSTER_WORKER ||
            !sched_cluster_reach(a, a->port[SCHED_PORT_CTL], ctl) ||
            !sched_cluster_reach(a, a->port[SCHED_PORT_BULK], bulk)) {
            continue;
        }
        const struct proto_net_client *key = sched_roster_key(roster, a->id, 0);
        const struct proto_net_client *second = sched_roster_key(roster, a->id, 1);
        struct sched_route_worker w = {.id = a->id,
            .name = sched_roster_name(roster, a->id),
            .ctl = ctl,
            .bulk = bulk,
            .key = key->public_z85,
            .second = second == NULL ? NULL : second->public_z85};
        fn(ctx, &w);
    }
}

bool sched_route_node_lists(const struct sched_route_node *n, uint64_t id, const char *key)
{
    const struct sched_roster *roster = sched_cluster_roster(n->cluster);
    return sched_roster_role(roster, id) == SCHED_ROSTER_WORKER &&
           (key == NULL || sched_roster_lists(roster, id, key));
}

const char *sched_route_node_missing(
    const struct sched_route_node *n, bool (*known)(void *ctx, uint64_t id), void *ctx)
{
    for (uint32_t i = 0; n->kept != NULL && i < n->kept->n; i++) {
        const struct sched_member *m = &n->kept->m[i];
        if ((m->flags & SCHED_MEMBER_IN) != 0 && !known(ctx, m->node)) {
            return sched_cluster_name(n->cluster, m->node);
        }
    }
    return NULL;
}

bool sched_route_node_member(const struct sched_route_node *n, uint64_t id)
{
    const struct sched_member *m = n->kept == NULL ? NULL : sched_view_find(n->kept, id);
    return m != NULL && (m->flags & SCHED_MEMBER_IN) != 0;
}

bool sched_route_node_trusts(const struct sched_route_node *n, uint64_t id)
{
    return sched_route_node_member(n, id) && !sched_route_suspects(&n->route, id);
}

void sched_route_node_leave(struct sched_route_node *n)
{
    sched_cluster_leave(n->cluster);
}

const struct sched_route *sched_route_node_core(const struct sched_route_node *n)
{
    return &n->route;
}

const char *sched_route_node_endpoint(const struct sched_route_node *n)
{
    return sched_cluster_endpoint(n->cluster);
}

/* ---- life ---- */

static int carve(struct sched_route_node *n, struct base_error *err)
{
    size_t size = sched_route_size(&n->core_cfg, &n->route_cfg);
    if (sched_shell_carve(&n->fx, size, &n->fx_mem, &n->route_mem) != 0) {
        return base_fail(err, BASE_ENOMEM, "gateway: out of memory");
    }
    struct sched_mem mem = {.base = n->route_mem, .size = size};
    sched_route_init(&n->route, &n->core_cfg, &n->route_cfg, sched_views_placer(n->views), &mem);
    /* Numbers of an earlier process are smaller, as it did not make 2^31 requests in a second; and
     * should the clock have been set back, late answers to that one meet others' numbers. */
    uint64_t below = base_rand_u64() & INT32_MAX;
    sched_route_start(&n->route, base_clock_real_ns() / BASE_NS_PER_S << 32 | below);
    return 0;
}

static int start(struct sched_route_node *n, struct base_error *err)
{
    const struct sched_settings *s = n->cfg.settings;
    sched_settings_cfg(s, &n->core_cfg);
    n->route_cfg = (struct sched_route_cfg){.reqs_max = n->cfg.reqs_max,
        .cache_max = n->cfg.cache_max,
        .hedge_ms = n->cfg.hedge_ms,
        .resend_ms = n->cfg.resend_ms};
    int rc = sched_views_create(&n->views, s, err);
    rc = rc != 0 ? rc : carve(n, err);
    struct sched_cluster_cfg c = {.loop = n->cfg.loop,
        .log = n->cfg.log,
        .settings = s,
        .role = SCHED_ROSTER_GATEWAY,
        .gossip_inc = 1, /* it has no memory: others tell it when it must be more */
        .ops = &cluster_ops,
        .user = n};
    rc = rc != 0 ? rc : sched_cluster_create(&n->cluster, &c, err);
    struct sched_catalog_client_cfg k = {
        .loop = n->cfg.loop, .log = n->cfg.log, .settings = s, .cluster = n->cluster};
    if (rc == 0 && sched_catalog_client_create(&n->catalog, &k) != 0) {
        return base_fail(err, BASE_ENOMEM, "gateway: out of memory");
    }
    return rc;
}

const struct sched_catalog *sched_route_node_catalog(const struct sched_route_node *n)
{
    return sched_catalog_client_now(n->catalog);
}

bool sched_route_node_catalog_empty(const struct sched_route_node *n)
{
    return sched_catalog_client_empty(n->catalog);
}

struct sched_catalog_client *sched_route_node_catalog_client(struct sched_route_node *n)
{
    return n->catalog;
}

int sched_route_node_create(
    struct sched_route_node **ret, const struct sched_route_node_cfg *cfg, struct base_error *err)
{
    struct sched_route_node *n = calloc(1, sizeof *n);
    if (n == NULL) {
        return base_fail(err, BASE_ENOMEM, "gateway: out of memory");
    }
    n->cfg = *cfg;
    n->last = &n->first;
    ev_timer_init(&n->timer, on_timer, 0., 0.);
    ev_timer_init(&n->turn, on_turn, 0., 0.);
    n->timer.data = n->turn.data = n;
    int rc = start(n, err);
    if (rc != 0) {
        sched_route_node_destroy(n);
        return rc;
    }
    arm(n);
    *ret = n;
    return 0;
}

void sched_route_node_destroy(struct sched_route_node *n)
{
    if (n == NULL) {
        return;
    }
    ev_timer_stop(n->cfg.loop, &n->timer);
    ev_clear_pending(n->cfg.loop, &n->turn);
    while (n->first != NULL) {
        struct call *c = n->first;
        n->first = c->next;
        free(c);
    }
    sched_catalog_client_destroy(n->catalog);
    sched_cluster_destroy(n->cluster);
    sched_views_drop(n->views, n->kept);
    sched_views_destroy(n->views);
    free(n->route_mem);
    free(n->fx_mem);
    free(n);
}
