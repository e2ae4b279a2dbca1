#include "scheduler/io/host_node.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "proto/base/clock.h"
#include "proto/base/rand.h"
#include "scheduler/core/share.h"
#include "scheduler/io/catalog_client.h"
#include "scheduler/io/cluster.h"
#include "scheduler/io/host_store.h"
#include "scheduler/io/node_db.h"
#include "scheduler/io/shell.h"
#include "scheduler/io/views.h"

enum { KEEP_MS = 600000, OPS_MAX = 256, PATH_BYTES_MAX = 512 };

/* What the owner has told and the core has not been told yet. */
struct news {
    struct news *next;
    struct sched_event ev;
};

struct sched_host_node {
    struct sched_host_cfg cfg;
    struct sched_cfg core_cfg;
    struct sched_node node;
    struct sched_fx fx;
    void *node_mem, *fx_mem;
    struct sched_cluster *cluster;
    struct sched_catalog_client *catalog;
    struct sched_node_db *db;
    struct sched_host_store *store;
    struct sched_views *views;
    const struct sched_view *kept; /* the installed one; NULL: none yet */
    ev_timer timer, turn;          /* turn: never started, only fed */
    struct news *first, **last;
    uint32_t life, run, told_view;
    uint32_t inc; /* of who starts next; as in node.mdb */
    uint64_t commits;
    bool over, told_settled;
};

/* ---- stepping ---- */

static void end(struct sched_host_node *n, const char *why)
{
    if (!n->over) {
        n->over = true;
        ev_timer_stop(n->cfg.loop, &n->timer);
        n->cfg.ops->leave(n->cfg.user, why);
    }
}

static void tell(struct sched_host_node *n, const struct sched_event *ev)
{
    struct news *w = malloc(sizeof *w);
    if (w == NULL) {
        end(n, "out of memory");
        return;
    }
    *w = (struct news){.ev = *ev};
    *n->last = w;
    n->last = &w->next;
    ev_feed_event(n->cfg.loop, &n->turn, EV_CUSTOM);
}

static void apply(struct sched_host_node *n, const struct sched_fx_item *it)
{
    const struct sched_host_ops *ops = n->cfg.ops;
    switch ((enum sched_fx_kind)it->kind) {
    case SCHED_FX_SEND:
        sched_cluster_send(n->cluster, &it->msg);
        break;
    case SCHED_FX_PUSH:
        sched_cluster_push(n->cluster, &it->msg);
        break;
    case SCHED_FX_PAGE:
        ops->lease(n->cfg.user, it->page.freeze_at_ns, it->page.kill_at_ns, n->node.env.me.inc);
        break;
    case SCHED_FX_VM_START:
        ops->vm_start(n->cfg.user, it->vm.key, it->vm.epoch);
        break;
    case SCHED_FX_VM_STOP:
        ops->vm_stop(n->cfg.user, it->vm.key, it->vm.epoch);
        break;
    case SCHED_FX_VM_EXEC:
        if (ops->vm_exec != NULL) {
            ops->vm_exec(n->cfg.user, &it->vm);
        } else {
            sched_host_node_done(n, &it->vm, SCHED_OUTCOME_FAILED);
        }
        break;
    case SCHED_FX_STORE:    /* done before */
    case SCHED_FX_KILL_ALL: /* the process leaves */
    case SCHED_FX_OUTCOME:  /* of gateways */
        break;
    }
}

/* 0: everything of the step is in the stores. */
static int store(struct sched_host_node *n)
{
    bool rows = false;
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < n->fx.n; i++) {
        const struct sched_fx_item *it = &n->fx.items[i];
        rows = rows || it->kind == SCHED_FX_STORE;
        if (it->kind == SCHED_FX_STORE && it->row.kind == SCHED_ROW_META && it->row.num > n->inc) {
            n->inc = it->row.num;
            rc = sched_node_db_set_number(n->db, "inc", n->inc);
            rc = rc != 0 ? rc : sched_node_db_commit(n->db);
        }
    }
    n->commits += rows;
    return rc != 0 ? rc : sched_host_store_step(n->store, &n->fx);
}

static void tell_gossip(struct sched_host_node *n)
{
    bool settled = n->node.hand.unsettled == 0;
    const struct sched_view *view = n->node.env.view;
    if (view->num == n->told_view && settled == n->told_settled) {
        return;
    }
    if (view->num != n->told_view) {
        LOG_INFO(n->cfg.log, "view num=%u members=%u member=%d version=%u", view->num,
            sched_view_members(view), sched_env_member(&n->node.env), sched_view_version(view));
    } else {
        LOG_INFO(n->cfg.log, "view num=%u settled", view->num);
    }
    n->told_view = view->num;
    n->told_settled = settled;
    struct sched_dynamic d = {.view = view->num, .flags = settled ? SCHED_DYN_SETTLED : 0};
    sched_cluster_dynamic(n->cluster, &d);
    sched_cluster_set_version(n->cluster, sched_view_version(view));
}

static void arm(struct sched_host_node *n)
{
    sched_shell_arm(n->cfg.loop, &n->timer, sched_node_deadline_ns(&n->node), 0.001);
}

static void step(struct sched_host_node *n, struct sched_event *ev)
{
    if (n->over) {
        return;
    }
    ev->now_ns = base_clock_boot_ns();
    sched_fx_clear(&n->fx);
    sched_node_step(&n->node, ev, &n->fx);
    int rc = store(n);
    if (rc != 0 || n->node.env.me.inc != n->life) {
        end(n, rc != 0                          ? base_err_str(rc)
               : sched_drain_on(&n->node.drain) ? "drained, and out of the cluster"
                                                : "removed from the cluster: a new life begins");
        return;
    }
    for (uint32_t i = 0; i < n->fx.n && !n->over; i++) {
        apply(n, &n->fx.items[i]);
    }
    tell_gossip(n);
    arm(n);
}

static void on_timer(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop;
    (void)events;
    struct sched_event ev = {.kind = SCHED_EV_TICK};
    step(w->data, &ev);
}

static void on_turn(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop;
    (void)events;
    struct sched_host_node *n = w->data;
    while (n->first != NULL) {
        struct news *it = n->first;
        n->first = it->next;
        n->last = n->first == NULL ? &n->first : n->last;
        step(n, &it->ev);
        free(it);
    }
}

static void tell_pools(struct sched_host_node *n)
{
    const struct sched_catalog *c = sched_catalog_client_now(n->catalog);
    struct sched_pool_max pools[SCHED_CAT_POOLS_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < sched_catalog_n(c); i++) {
        const struct sched_catalog_entry *e = sched_catalog_at(c, i);
        if (e->pool != 0 && count < SCHED_CAT_POOLS_MAX) {
            pools[count++] = (struct sched_pool_max){e->pool, e->max};
        }
    }
    sched_node_pools(&n->node, sched_catalog_version(c), sched_catalog_decides(c), pools, count);
}

static void on_empty(void *user)
{
    struct sched_host_node *n = user;
    sched_node_pools(&n->node, 0, false, NULL, 0);
}

static void on_catalog(void *user)
{
    struct sched_host_node *n = user;
    if (n->catalog != NULL && sched_catalog_client_now(n->catalog) != NULL) {
        tell_pools(n);
    }
    if (!n->over && n->cfg.ops->catalog != NULL) {
        n->cfg.ops->catalog(n->cfg.user);
    }
}

static void on_message(void *user, const struct sched_msg *m)
{
    struct sched_host_node *n = user;
    if (n->catalog != NULL && sched_catalog_client_take(n->catalog, m)) {
        return;
    }
    struct sched_msg copy = *m;
    struct sched_event ev = {.kind = SCHED_EV_MSG, .msg = &copy};
    const struct sched_view *view = NULL;
    if (m->type == SCHED_MSG_VIEW) {
        if (m->view.view->num <= n->node.env.view->num) {
            return;
        }
        view = sched_views_keep(n->views, m->view.view);
        if (view == NULL) {
            return; /* no memory, or larger than members_max: as if it were lost */
        }
        copy.view.view = view;
    }
    step(n, &ev);
    if (view != NULL && n->node.env.view == view) {
        sched_views_drop(n->views, n->kept);
        n->kept = view;
        on_catalog(n);
    } else {
        sched_views_drop(n->views, view);
    }
}

static void on_incarnation(void *user, uint32_t inc)
{
    struct sched_host_node *n = user;
    int rc = sched_node_db_set_number(n->db, "gossip", inc);
    rc = rc != 0 ? rc : sched_node_db_commit(n->db);
    if (rc != 0) {
        end(n, base_err_str(rc));
    }
}

static void on_admin(void *user, uint64_t from, const char *question, struct base_buf *to)
{
    struct sched_host_node *n = user;
    const struct sched_env *e = &n->node.env;
    uint64_t now = base_clock_boot_ns();
    (void)from;
    if (strcmp(question, "status") != 0) {
        (void)base_buf_printf(to, "{\"error\":\"unknown question\"}");
        return;
    }
    int rc = base_buf_printf(to,
        "{\"node\":\"%s\",\"role\":\"worker\",\"version\":\"%s\",\"incarnation\":%u,\"run\":%u,"
        "\"view\":{\"number\":%u,\"member\":%s},\"leaseMs\":%" PRIu64
        ",\"unsettled\":%u,\"sessions\":%u,\"registers\":%u,\"commits\":%" PRIu64 ",",
        n->cfg.settings->name, WARREN_VERSION, e->me.inc, n->run, e->view->num,
        sched_env_member(e) ? "true" : "false",
        e->lease_ns > now ? (e->lease_ns - now) / BASE_NS_PER_MS : 0, n->node.hand.unsettled,
        n->node.sess.used, n->node.reg.n, n->commits);
    if (rc == 0 && n->cfg.ops->describe != NULL) {
        rc = n->cfg.ops->describe(n->cfg.user, to);
        rc = rc != 0 ? rc : base_buf_printf(to, ",");
    }
    rc = rc != 0 ? rc : sched_cluster_describe(n->cluster, to);
    rc = rc != 0 ? rc : base_buf_printf(to, "}");
    if (rc != 0) {
        base_buf_clear(to);
    }
}

static const struct sched_cluster_ops cluster_ops = {
    .on_message = on_message, .on_admin = on_admin, .on_incarnation = on_incarnation};

/* ---- what the owner tells ---- */

void sched_host_node_up(struct sched_host_node *n, struct sched_key key, sched_epoch epoch)
{
    struct sched_event ev = {.kind = SCHED_EV_VM_UP, .vm = {.key = key, .epoch = epoch}};
    tell(n, &ev);
}

void sched_host_node_down(struct sched_host_node *n, struct sched_key key, sched_epoch epoch)
{
    struct sched_event ev = {.kind = SCHED_EV_VM_DOWN, .vm = {.key = key, .epoch = epoch}};
    tell(n, &ev);
}

void sched_host_node_unused(struct sched_host_node *n, struct sched_key key, sched_epoch epoch)
{
    struct sched_event ev = {
        .kind = SCHED_EV_VM_DOWN, .vm = {.key = key, .epoch = epoch}, .idle = true};
    tell(n, &ev);
}

void sched_host_node_done(
    struct sched_host_node *n, const struct sched_fx_vm *vm, enum sched_outcome outcome)
{
    struct sched_event ev = {.kind = SCHED_EV_VM_DONE, .vm = *vm, .outcome = (uint8_t)outcome};
    tell(n, &ev);
}

void sched_host_node_delete(struct sched_host_node *n, struct sched_key key)
{
    struct sched_event ev = {.kind = SCHED_EV_DELETE, .vm = {.key = key}};
    tell(n, &ev);
}

void sched_host_node_drain(struct sched_host_node *n, uint32_t grace_ms, bool stay)
{
    struct sched_event ev = {.kind = SCHED_EV_DRAIN, .grace_ms = grace_ms, .stay = stay};
    tell(n, &ev);
}

void sched_host_node_undrain(struct sched_host_node *n)
{
    struct sched_event ev = {.kind = SCHED_EV_UNDRAIN};
    tell(n, &ev);
}

void sched_host_node_shut(struct sched_host_node *n, const struct sched_key *key, uint32_t ms)
{
    struct sched_event ev = {.kind = SCHED_EV_SHUT, .grace_ms = ms, .all = key == NULL};
    ev.vm.key = key == NULL ? ev.vm.key : *key;
    tell(n, &ev);
}

enum sched_host_verdict sched_host_node_check_life(
    const struct sched_host_node *n, struct sched_key key, sched_epoch epoch, uint32_t inc)
{
    if (n->over) {
        return SCHED_HOST_NOT_NOW;
    }
    switch (sched_node_check(&n->node, base_clock_boot_ns(), key, epoch, inc)) {
    case SCHED_NODE_HERE:
        return SCHED_HOST_HERE;
    case SCHED_NODE_NOT_NOW:
        return SCHED_HOST_NOT_NOW;
    case SCHED_NODE_NOT_HERE:
        return SCHED_HOST_NOT_HERE;
    case SCHED_NODE_EARLIER:
        break;
    }
    return SCHED_HOST_EARLIER_LIFE;
}

enum sched_host_verdict sched_host_node_check(
    const struct sched_host_node *n, struct sched_key key, sched_epoch epoch)
{
    return sched_host_node_check_life(n, key, epoch, n->node.env.me.inc);
}

sched_epoch sched_host_node_epoch(const struct sched_host_node *n, struct sched_key key)
{
    const struct sched_sess_row *row = sched_sess_find(&n->node.sess, key);
    return row == NULL || row->state == SCHED_SESS_ENDED ? 0 : row->rec.epoch;
}

bool sched_host_node_moved(const struct sched_host_node *n, struct sched_key key)
{
    const struct sched_sess_row *row = sched_sess_find(&n->node.sess, key);
    return row != NULL && row->rec.moved &&
           base_clock_boot_ns() - row->born_ns < SCHED_MS(n->core_cfg.keep_ms);
}

void sched_host_node_each(struct sched_host_node *n,
    void (*fn)(void *ctx, struct sched_key key, sched_epoch epoch, bool stop), void *ctx)
{
    for (uint32_t i = 0; i < n->core_cfg.sess_max; i++) {
        const struct sched_sess_row *row = &n->node.sess.rows[i];
        if (row->state >= SCHED_SESS_STARTING && row->state < SCHED_SESS_ENDED) {
            fn(ctx, row->key, row->rec.epoch, row->state == SCHED_SESS_STOPPING);
        }
    }
}

const struct sched_node *sched_host_node_core(const struct sched_host_node *n)
{
    return &n->node;
}

const struct sched_catalog *sched_host_node_catalog(const struct sched_host_node *n)
{
    return sched_catalog_client_now(n->catalog);
}

bool sched_host_node_catalog_empty(const struct sched_host_node *n)
{
    return sched_catalog_client_empty(n->catalog);
}

uint32_t sched_host_node_share(const struct sched_host_node *n, uint32_t pool, uint32_t ready)
{
    return sched_share(n->node.env.view, n->cfg.settings->id, pool, ready);
}

bool sched_host_node_joined(const struct sched_host_node *n)
{
    return n->kept != NULL && sched_env_member(&n->node.env);
}

const char *sched_host_node_endpoint(const struct sched_host_node *n)
{
    return sched_cluster_endpoint(n->cluster);
}

/* ---- life ---- */

static void configure(struct sched_host_node *n)
{
    const struct sched_host_cfg *c = &n->cfg;
    struct sched_cfg *to = &n->core_cfg;
    sched_settings_cfg(c->settings, to);
    to->sess_max = c->sess_max;
    to->regs_max = c->regs_max != 0 ? c->regs_max : 12 * c->sess_max + 1024;
    to->execs_max = c->execs_max != 0 ? c->execs_max : 64;
    to->ops_max = OPS_MAX;
    to->keep_ms = c->keep_ms != 0 ? c->keep_ms : KEEP_MS;
    to->cooldown_ms = c->cooldown_ms != 0 ? c->cooldown_ms : SCHED_NEVER_MS;
    to->max_alive_ms = c->max_alive_ms != 0 ? c->max_alive_ms : SCHED_NEVER_MS;
}

static int carve(struct sched_host_node *n, struct base_error *err)
{
    size_t size = sched_node_size(&n->core_cfg);
    int rc = sched_shell_carve(&n->fx, size, &n->fx_mem, &n->node_mem);
    return rc == 0 ? 0 : base_fail(err, rc, "worker: out of memory");
}

/* Which life this process belongs to. A run store that is not that of the life that was begun last
 * was lost, and with it the microVMs: then another life begins. Who has lost node.mdb does not know
 * its lives: the seconds of the clock are a number that none of them had. */
static int choose_life(struct sched_host_node *n)
{
    uint64_t inc = 0, begun = 0, run = 0;
    uint32_t life = sched_host_store_life(n->store);
    int rc = sched_node_db_number(n->db, "inc", base_clock_real_ns() / BASE_NS_PER_S, &inc);
    rc = rc != 0 ? rc : sched_node_db_number(n->db, "begun", 0, &begun);
    rc = rc != 0 ? rc : sched_node_db_number(n->db, "run", 0, &run);
    rc = rc == 0 && (inc == 0 || inc >= UINT32_MAX || run >= UINT32_MAX) ? BASE_ECORRUPT : rc;
    if (rc != 0) {
        return rc;
    }
    bool fresh = life != inc;
    n->life = n->inc = (uint32_t)(fresh && begun == inc ? inc + 1 : inc);
    n->run = (uint32_t)run + 1;
    rc = sched_node_db_set_number(n->db, "inc", n->inc);
    rc = rc != 0 ? rc : sched_node_db_set_number(n->db, "begun", n->inc);
    rc = rc != 0 ? rc : sched_node_db_set_number(n->db, "run", n->run);
    rc = rc != 0 ? rc : sched_node_db_commit(n->db);
    return rc == 0 && fresh ? sched_host_store_begin(n->store, n->inc) : rc;
}

/* What is stored has its places, whatever the settings say now: a session that had none would be
 * forgotten while it runs. */
static int make_places(struct sched_host_node *n)
{
    struct sched_host_rows rows;
    struct sched_cfg *to = &n->core_cfg;
    int rc = sched_host_store_count(n->store, &rows);
    if (rc != 0) {
        return rc;
    }
    if (rows.sessions > to->sess_max) {
        LOG_WARN(n->cfg.log,
            "more sessions than places: until the next start there are more "
            "sessions=%u places=%u",
            rows.sessions, to->sess_max);
    }
    to->sess_max = rows.sessions > to->sess_max ? rows.sessions : to->sess_max;
    to->regs_max = rows.registers > to->regs_max ? rows.registers : to->regs_max;
    to->execs_max = rows.executions > to->execs_max ? rows.executions : to->execs_max;
    return 0;
}

struct restore {
    struct sched_host_node *node;
    int rc;
};

static void restore(void *ctx, const struct sched_row *row)
{
    struct restore *r = ctx;
    struct sched_host_node *n = r->node;
    struct sched_row copy = *row;
    if (row->kind == SCHED_ROW_VIEW) {
        n->kept = copy.view = sched_views_keep(n->views, row->view);
        if (copy.view == NULL) {
            r->rc = row->view->n > n->core_cfg.members_max ? BASE_ETOOBIG : BASE_ENOMEM;
            return;
        }
    }
    sched_node_restore(&n->node, &copy);
}

static int restore_all(struct sched_host_node *n)
{
    struct restore r = {.node = n};
    struct sched_host_rows rows;
    int rc = sched_host_store_count(n->store, &rows);
    rc = rc != 0 ? rc : sched_host_store_each(n->store, restore, &r);
    rc = rc != 0 ? rc : r.rc;
    bool all = n->node.sess.used == rows.sessions && n->node.reg.n == rows.registers;
    return rc == 0 && !all ? BASE_ECORRUPT : rc;
}

static int boot(struct sched_host_node *n, struct base_error *err)
{
    int rc = choose_life(n);
    rc = rc != 0 ? rc : make_places(n);
    if (rc != 0) {
        return base_fail(err, rc, "the stores of the worker: %s", base_err_str(rc));
    }
    rc = carve(n, err);
    if (rc != 0) {
        return rc;
    }
    struct sched_mem mem = {.base = n->node_mem, .size = sched_node_size(&n->core_cfg)};
    struct sched_node_boot b = {.node = n->cfg.settings->id,
        .inc = n->inc,
        .run = n->run,
        .seed = base_rand_u64(),
        .now_ns = base_clock_boot_ns(),
        .zone = (uint16_t)n->cfg.settings->zone,
        .weight = (uint8_t)n->cfg.settings->weight,
        .placer = sched_views_placer(n->views)};
    sched_node_init(&n->node, &n->core_cfg, &mem, &b);
    rc = restore_all(n);
    if (rc != 0) {
        return base_fail(err, rc, "the stores of the worker: %s", base_err_str(rc));
    }
    sched_node_resume(&n->node);
    return 0;
}

static int start_cluster(struct sched_host_node *n, struct base_error *err)
{
    uint64_t inc = 0;
    int rc = sched_node_db_number(n->db, "gossip", 0, &inc);
    struct sched_cluster_cfg c = {.loop = n->cfg.loop,
        .log = n->cfg.log,
        .settings = n->cfg.settings,
        .role = SCHED_ROSTER_WORKER,
        .gossip_inc = inc < SCHED_INC_MAX ? (uint32_t)inc + 1 : 1,
        .ctl_port = n->cfg.ctl_port,
        .bulk_port = n->cfg.bulk_port,
        .ops = &cluster_ops,
        .user = n};
    rc = rc != 0 ? rc : sched_node_db_set_number(n->db, "gossip", c.gossip_inc);
    rc = rc != 0 ? rc : sched_node_db_commit(n->db);
    if (rc != 0) {
        return base_fail(err, rc, "node.mdb: %s", base_err_str(rc));
    }
    rc = sched_cluster_create(&n->cluster, &c, err);
    struct sched_catalog_client_cfg k = {.loop = n->cfg.loop,
        .log = n->cfg.log,
        .settings = n->cfg.settings,
        .cluster = n->cluster,
        .first = n->cfg.catalog,
        .changed = on_catalog,
        .empty = on_empty,
        .user = n};
    if (rc == 0 && sched_catalog_client_create(&n->catalog, &k) != 0) {
        return base_fail(err, BASE_ENOMEM, "worker: out of memory");
    }
    if (rc == 0 && n->cfg.catalog != NULL) {
        tell_pools(n);
    }
    return rc;
}

static int start(struct sched_host_node *n, struct base_error *err)
{
    const struct sched_settings *s = n->cfg.settings;
    char path[PATH_BYTES_MAX];
    if (strlen(s->state_dir) + 32 > sizeof path || strlen(n->cfg.run_dir) + 32 > sizeof path) {
        return base_fail(err, BASE_ETOOBIG, "state_dir or run_dir is too long");
    }
    if (mkdir(s->state_dir, 0700) != 0 && errno != EEXIST) {
        return base_fail(err, -errno, "make '%s': %s", s->state_dir, strerror(errno));
    }
    configure(n);
    int rc = sched_views_create(&n->views, s, err);
    (void)snprintf(path, sizeof path, "%s/node.mdb", s->state_dir);
    rc = rc != 0 ? rc : sched_node_db_open(&n->db, path, err);
    (void)snprintf(path, sizeof path, "%s/sched.mdb", n->cfg.run_dir);
    struct sched_host_store_cfg store_cfg = {
        .path = path, .pbits = s->partition_bits, .members_max = s->members_max};
    rc = rc != 0 ? rc : sched_host_store_open(&n->store, &store_cfg, err);
    rc = rc != 0 ? rc : boot(n, err);
    return rc != 0 ? rc : start_cluster(n, err);
}

int sched_host_node_create(
    struct sched_host_node **ret, const struct sched_host_cfg *cfg, struct base_error *err)
{
    struct sched_host_node *n = calloc(1, sizeof *n);
    if (n == NULL) {
        return base_fail(err, BASE_ENOMEM, "worker: out of memory");
    }
    n->cfg = *cfg;
    n->last = &n->first;
    ev_timer_init(&n->timer, on_timer, 0., 0.);
    ev_timer_init(&n->turn, on_turn, 0., 0.);
    n->timer.data = n->turn.data = n;
    int rc = start(n, err);
    if (rc != 0) {
        sched_host_node_destroy(n);
        return rc;
    }
    LOG_INFO(
        cfg->log, "life inc=%u run=%u endpoint=%s", n->inc, n->run, sched_host_node_endpoint(n));
    arm(n);
    *ret = n;
    return 0;
}

void sched_host_node_destroy(struct sched_host_node *n)
{
    if (n == NULL) {
        return;
    }
    ev_timer_stop(n->cfg.loop, &n->timer);
    ev_clear_pending(n->cfg.loop, &n->turn);
    while (n->first != NULL) {
        struct news *it = n->first;
        n->first = it->next;
        free(it);
    }
    sched_catalog_client_destroy(n->catalog);
    sched_cluster_destroy(n->cluster);
    sched_host_store_close(n->store);
    sched_node_db_close(n->db);
    sched_views_drop(n->views, n->kept);
    sched_views_destroy(n->views);
    free(n->node_mem);
    free(n->fx_mem);
    free(n);
}
