#include <string.h>

#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/err.h"
#include "worker/core/pool_state.h"
#include "worker/core/size.h"

enum { EXPIRE_BUDGET = 2000 }; /* timers looked at in one step; the rest comes with the next tick */

static bool config_valid(const struct worker_pool_config *c, uint32_t pools_max)
{
    return c->vms_max >= 1 && c->vms_max <= 65536 && c->waiters_max >= 1 &&
           c->waiters_max <= 1048576 && c->tombs_max >= 1 && c->tombs_max <= 1048576 &&
           pools_max >= 1 && pools_max <= PROTO_POOLS_MAX && c->epoch_next >= 1 &&
           c->epoch_next <= c->epoch_limit && c->counted_max <= 1048576 &&
           c->tenants_n <= WORKER_QUOTA_TENANTS_MAX && c->tenants_max <= WORKER_QUOTA_TENANTS_MAX;
}

/* The most effects that one step can have: every waiter is answered once; a slot is stored, killed,
 * dropped and started again at worst; a session is stored, dropped, ends and is claimed again. */
static uint32_t fx_bound(const struct worker_pool_config *c)
{
    return c->waiters_max + 12 * c->vms_max + 64;
}

/* A session counts for a tenant in a pool; so does what the shell counts. */
static struct worker_quota_config quota_config(
    const struct worker_pool_config *c, uint32_t pools_max)
{
    struct worker_quota_config q = {.pools_max = pools_max,
        .books_max = c->vms_max + c->counted_max,
        .tenant = c->tenant,
        .tenants = c->tenants,
        .tenants_n = c->tenants_n,
        .tenants_max = c->tenants_max};
    memcpy(q.key, c->quota_key, sizeof q.key);
    return q;
}

struct layout {
    uint8_t *mem; /* NULL: only counts */
    size_t used;
};

static void *part(struct layout *l, size_t n, size_t size)
{
    void *p = l->mem == NULL ? NULL : l->mem + l->used;
    l->used += (n * size + 7) & ~(size_t)7;
    return p;
}

static void lay_out(struct worker_pools *p, struct layout *l)
{
    const struct worker_pool_config *c = &p->cfg;
    p->fx_max = fx_bound(c);
    p->session_mask = worker_size_buckets(2 * c->vms_max) - 1;
    p->tomb_mask = worker_size_buckets(2 * c->tombs_max) - 1;
    (void)part(l, 1, sizeof *p);
    p->pools = part(l, p->pools_max, sizeof *p->pools);
    p->slots = part(l, c->vms_max, sizeof *p->slots);
    p->sessions = part(l, c->vms_max, sizeof *p->sessions);
    p->waiters = part(l, c->waiters_max, sizeof *p->waiters);
    p->tombs = part(l, (size_t)c->tombs_max + 1, sizeof *p->tombs);
    p->session_buckets = part(l, (size_t)p->session_mask + 1, sizeof(uint32_t));
    p->tomb_buckets = part(l, (size_t)p->tomb_mask + 1, sizeof(uint32_t));
    p->fx = part(l, p->fx_max, sizeof *p->fx);
    struct worker_quota_config q = quota_config(c, p->pools_max);
    p->quota = part(l, 1, worker_quota_size(&q));
}

size_t worker_pool_size(const struct worker_pool_config *cfg, uint32_t pools_max)
{
    if (!config_valid(cfg, pools_max)) {
        return 0;
    }
    struct worker_pools tmp;
    struct layout l = {.mem = NULL};
    tmp.cfg = *cfg;
    tmp.pools_max = pools_max;
    lay_out(&tmp, &l);
    return l.used;
}

static void records_init(struct worker_pools *p)
{
    for (uint32_t i = 0; i < p->cfg.vms_max; i++) {
        struct worker_slot *v = &p->slots[i];
        *v = (struct worker_slot){
            .index = i, .session = WORKER_NONE, .timer.kind = WORKER_TIMER_SLOT};
        worker_list_append(&p->free_slots, &v->link);
        struct worker_session *s = &p->sessions[i];
        *s = (struct worker_session){
            .index = i, .slot = WORKER_NONE, .timer.kind = WORKER_TIMER_SESSION};
        worker_list_init(&s->waiters);
        worker_fair_item_init(&s->wait);
        worker_list_append(&p->free_sessions, &s->link);
    }
    for (uint32_t i = 0; i < p->cfg.waiters_max; i++) {
        struct worker_waiter *w = &p->waiters[i];
        *w = (struct worker_waiter){.session = WORKER_NONE, .timer.kind = WORKER_TIMER_WAITER};
        worker_list_append(&p->free_waiters, &w->link);
    }
    for (uint32_t i = 0; i <= p->cfg.tombs_max; i++) {
        struct worker_tomb *t = &p->tombs[i];
        *t = (struct worker_tomb){.index = i};
        worker_list_append(&p->free_tombs, &t->link);
    }
    memset(p->session_buckets, 0xff, ((size_t)p->session_mask + 1) * sizeof(uint32_t));
    memset(p->tomb_buckets, 0xff, ((size_t)p->tomb_mask + 1) * sizeof(uint32_t));
}

int worker_pool_init(struct worker_pools **ret, const struct worker_pool_config *cfg,
    uint32_t pools_max, uint64_t now_ns, void *mem, size_t mem_size)
{
    size_t need = worker_pool_size(cfg, pools_max);
    if (need == 0) {
        return BASE_EINVAL;
    }
    if (mem_size < need) {
        return BASE_ENOMEM;
    }
    struct worker_pools *p = mem;
    memset(p, 0, sizeof *p);
    p->cfg = *cfg;
    p->cfg.starts_max = cfg->starts_max == 0 ? 2 : cfg->starts_max;
    p->cfg.start_ms_max = cfg->start_ms_max == 0 ? 60000 : cfg->start_ms_max;
    p->cfg.wait_ms_max = cfg->wait_ms_max == 0 ? 60000 : cfg->wait_ms_max;
    p->cfg.touch_ms = cfg->touch_ms == 0 ? 5000 : cfg->touch_ms;
    p->pools_max = pools_max;
    p->now_ns = now_ns;
    p->free_n = cfg->vms_max;
    struct layout l = {.mem = mem};
    lay_out(p, &l);
    struct worker_list *heads[] = {&p->free_slots, &p->free_sessions, &p->free_waiters,
        &p->free_tombs, &p->limbo_sessions, &p->limbo_tombs, &p->tombs_by_age};
    for (size_t i = 0; i < ARRAY_LEN(heads); i++) {
        worker_list_init(heads[i]);
    }
    struct worker_quota_config q = quota_config(&p->cfg, pools_max);
    int rc = worker_quota_init(&p->quota, &q, p->quota, worker_quota_size(&q));
    if (rc != 0) {
        return rc;
    }
    records_init(p);
    sched_wheel_init(&p->wheel, now_ns);
    *ret = p;
    return 0;
}

uint32_t worker_pool_find(const struct worker_pools *p, const char *name)
{
    for (uint32_t i = 0; i < p->n; i++) {
        if (strcmp(p->pools[i].spec.name, name) == 0) {
            return i;
        }
    }
    return WORKER_NONE;
}

static bool numbers_valid(const struct worker_pool_spec *spec)
{
    return spec->sessions_max > 0 && spec->sessions_max <= PROTO_SESSIONS_PER_POOL_MAX &&
           (spec->lifecycle != WORKER_LIFECYCLE_TIMED || spec->cooldown_ms > 0);
}

/* The place of a new pool; WORKER_NONE: there is none. */
static uint32_t place_new(struct worker_pools *p)
{
    uint32_t i = 0;
    while (i < p->n && p->pools[i].spec.name[0] != '\0') { /* forgotten ones have no name */
        i++;
    }
    if (i == p->pools_max) {
        return WORKER_NONE;
    }
    p->n += i == p->n;
    struct worker_pool *pool = &p->pools[i];
    *pool = (struct worker_pool){.timer.kind = WORKER_TIMER_POOL};
    worker_fair_init(&pool->queue);
    worker_list_init(&pool->ready);
    return i;
}

static void take_numbers(struct worker_pools *p, uint32_t i, const struct worker_pool_spec *spec)
{
    p->pools[i].spec = *spec;
    worker_quota_pool(p->quota, i, &spec->whole, &spec->each);
}

int worker_pool_add(struct worker_pools *p, const struct worker_pool_spec *spec, uint32_t *ret_pool)
{
    size_t len = strnlen(spec->name, sizeof spec->name);
    if (!proto_pool_name_valid(spec->name, len) || !numbers_valid(spec)) {
        return BASE_EINVAL;
    }
    uint32_t i = worker_pool_find(p, spec->name);
    i = i != WORKER_NONE ? i : place_new(p);
    if (i == WORKER_NONE) {
        return BASE_EFULL;
    }
    p->pools[i].retired = false;
    take_numbers(p, i, spec);
    *ret_pool = i;
    return 0;
}

static void change(struct worker_pools *p, const struct worker_pool_event *ev)
{
    REQUIRE(ev->pool < p->n && numbers_valid(ev->spec));
    struct worker_pool *pool = &p->pools[ev->pool];
    struct worker_pool_spec spec = *ev->spec;
    memcpy(spec.name, pool->spec.name, sizeof spec.name);
    take_numbers(p, ev->pool, &spec);
    worker_pool_sessions_arm(p, ev->pool);
    if (spec.ready_target < UINT32_MAX - pool->queued) {
        worker_pool_trim(p, ev->pool, pool->queued + spec.ready_target);
    }
}

static void retire(struct worker_pools *p, uint32_t i)
{
    REQUIRE(i < p->n);
    struct worker_pool *pool = &p->pools[i];
    pool->retired = true;
    pool->template = WORKER_POOL_TEMPLATE_NONE;
    worker_pool_queue_refuse(p, pool);
    worker_pool_trim(p, i, 0);
    worker_pool_unadopt(p, i);
    for (uint32_t k = 0; k < p->cfg.vms_max; k++) {
        struct worker_slot *v = &p->slots[k];
        if (v->state != WORKER_SLOT_FREE && v->pool == i && v->session != WORKER_NONE) {
            worker_pool_session_end(p, &p->sessions[v->session], WORKER_END_POOL);
        }
    }
}

/* Requests know a pool by its number: while one is under way, no other pool has that. */
static bool spent(const struct worker_pools *p, uint32_t i)
{
    const struct worker_pool *pool = &p->pools[i];
    uint32_t slots = 0;
    for (int k = 0; k < WORKER_SLOT_STATE_END; k++) {
        slots += pool->slots[k];
    }
    return pool->retired && pool->spec.name[0] != '\0' && pool->sessions == 0 && slots == 0 &&
           worker_quota_pool_idle(p->quota, i);
}

uint32_t worker_pool_spent(const struct worker_pools *p)
{
    for (uint32_t i = 0; i < p->n; i++) {
        if (spent(p, i)) {
            return i;
        }
    }
    return WORKER_NONE;
}

void worker_pool_forget(struct worker_pools *p, uint32_t pool)
{
    REQUIRE(pool < p->n && spent(p, pool));
    worker_pool_tombs_forget(p, pool);
    sched_wheel_cancel(&p->wheel, &p->pools[pool].timer.node);
    p->pools[pool].spec.name[0] = '\0';
}

static void timers_run(struct worker_pools *p)
{
    unsigned budget = EXPIRE_BUDGET;
    struct sched_wheel_node *n;
    while ((n = sched_wheel_pop(&p->wheel, p->now_ns, &budget)) != NULL) {
        struct worker_timer *t = CONTAINER_OF(n, struct worker_timer, node);
        switch (t->kind) {
        case WORKER_TIMER_SLOT:
            worker_pool_slot_timer(p, CONTAINER_OF(t, struct worker_slot, timer));
            break;
        case WORKER_TIMER_SESSION:
            worker_pool_session_timer(p, CONTAINER_OF(t, struct worker_session, timer));
            break;
        case WORKER_TIMER_WAITER:
            worker_pool_waiter_timer(p, CONTAINER_OF(t, struct worker_waiter, timer));
            break;
        case WORKER_TIMER_POOL: /* only wakes the pump */
            break;
        }
    }
}

static void drain(struct worker_pools *p, const struct worker_pool_event *ev)
{
    p->drain = ev->on;
    if (!ev->on) {
        return;
    }
    for (uint32_t i = 0; i < p->cfg.vms_max; i++) {
        struct worker_slot *v = &p->slots[i];
        bool idle = v->state == WORKER_SLOT_READY || v->state == WORKER_SLOT_STARTING;
        if (idle || (v->state == WORKER_SLOT_ADOPTING && v->session == WORKER_NONE)) {
            worker_pool_slot_kill(p, v);
        } else if (ev->end_all && v->session != WORKER_NONE) {
            worker_pool_session_end(p, &p->sessions[v->session], WORKER_END_DRAINED);
        }
    }
    for (uint32_t i = 0; i < p->n; i++) {
        worker_pool_queue_refuse(p, &p->pools[i]);
    }
}

static void freeze(struct worker_pools *p, bool on)
{
    p->frozen = on;
    for (uint32_t i = 0; i < p->cfg.vms_max; i++) {
        worker_pool_slot_freeze(p, &p->slots[i], on);
    }
    for (uint32_t i = 0; on && i < p->n; i++) {
        worker_pool_queue_refuse(p, &p->pools[i]);
    }
}

static int dispatch(struct worker_pools *p, const struct worker_pool_event *ev)
{
    switch (ev->kind) {
    case WORKER_EV_TICK:
        break;
    case WORKER_EV_TEMPLATE:
        worker_pool_template(p, ev);
        break;
    case WORKER_EV_VM_READY:
    case WORKER_EV_VM_CLAIMED:
    case WORKER_EV_VM_DEAD:
    case WORKER_EV_VM_GONE:
        worker_pool_slot_event(p, ev);
        break;
    case WORKER_EV_FREEZE:
    case WORKER_EV_THAW:
        freeze(p, ev->kind == WORKER_EV_FREEZE);
        break;
    case WORKER_EV_REQUEST:
        worker_pool_request(p, ev);
        break;
    case WORKER_EV_CANCEL:
        worker_pool_cancel(p, ev->request);
        break;
    case WORKER_EV_HOLD:
    case WORKER_EV_RELEASE:
    case WORKER_EV_TOUCH:
    case WORKER_EV_END:
        worker_pool_use(p, ev);
        break;
    case WORKER_EV_DRAIN:
        drain(p, ev);
        break;
    case WORKER_EV_RESTORE:
        return worker_pool_restore(p, ev);
    case WORKER_EV_RESTORE_TOMB:
        return worker_pool_restore_tomb(p, ev);
    case WORKER_EV_EPOCHS:
        p->cfg.epoch_limit = ev->epoch > p->cfg.epoch_limit ? ev->epoch : p->cfg.epoch_limit;
        p->epochs_asked = false;
        break;
    case WORKER_EV_CHANGE:
        change(p, ev);
        break;
    case WORKER_EV_RETIRE:
        retire(p, ev->pool);
        break;
    }
    return 0;
}

int worker_pool_step(struct worker_pools *p, const struct worker_pool_event *ev)
{
    REQUIRE(p->fx_at == p->fx_n); /* the shell has taken all effects */
    p->fx_at = p->fx_n = 0;
    worker_list_splice(&p->free_sessions, &p->limbo_sessions);
    worker_list_splice(&p->free_tombs, &p->limbo_tombs);
    p->now_ns = ev->now_ns > p->now_ns ? ev->now_ns : p->now_ns;
    int rc = dispatch(p, ev);
    timers_run(p);
    worker_pool_pump(p);
    return rc;
}

bool worker_pool_take(struct worker_pools *p, struct worker_pool_fx *ret)
{
    if (p->fx_at == p->fx_n) {
        return false;
    }
    *ret = p->fx[p->fx_at++];
    return true;
}

uint64_t worker_pool_deadline_ns(const struct worker_pools *p)
{
    return sched_wheel_next_ns(&p->wheel);
}

void worker_pool_fx_add(struct worker_pools *p, const struct worker_pool_fx *fx)
{
    REQUIRE(p->fx_n < p->fx_max);
    p->fx[p->fx_n++] = *fx;
}

void worker_pool_fx_slot(struct worker_pools *p, enum worker_pool_fx_kind kind, uint32_t slot)
{
    const struct worker_slot *v = &p->slots[slot];
    worker_pool_fx_add(p, &(struct worker_pool_fx){
                              .kind = kind, .slot = slot, .pool = v->pool, .session = v->session});
}

void worker_pool_fx_session(
    struct worker_pools *p, enum worker_pool_fx_kind kind, const struct worker_session *s)
{
    worker_pool_fx_add(p, &(struct worker_pool_fx){.kind = kind,
                              .slot = s->slot,
                              .pool = s->pool,
                              .session = s->index,
                              .epoch = s->epoch,
                              .end = s->end});
}

uint64_t worker_pool_expires_ns(const struct worker_pools *p, const struct worker_session *s)
{
    const struct worker_pool_spec *spec = &p->pools[s->pool].spec;
    uint64_t due = UINT64_MAX;
    if (spec->lifecycle == WORKER_LIFECYCLE_TIMED) {
        due = (s->holds > 0 ? p->now_ns : s->last_ns) + spec->cooldown_ms * BASE_NS_PER_MS;
    }
    if (spec->alive_ms_max > 0) {
        uint64_t alive = s->created_ns + spec->alive_ms_max * BASE_NS_PER_MS;
        due = alive < due ? alive : due;
    }
    return due;
}

uint64_t worker_pool_touch_ns(const struct worker_pools *p, uint32_t pool)
{
    uint32_t ms = p->pools[pool].spec.cooldown_ms / 8;
    return (ms > p->cfg.touch_ms ? ms : p->cfg.touch_ms) * BASE_NS_PER_MS;
}

const char *worker_pool_end_text(enum worker_end end)
{
    static const char *const texts[WORKER_END_MAX] = {"", "expired", "deleted", "alive-limit",
        "exited", "vm-lost", "drained", "worker-restart", "pool-deleted"};
    return (unsigned)end < WORKER_END_MAX ? texts[end] : "";
}

const char *worker_pool_fault(const struct worker_pools *p, uint32_t pool)
{
    if (p->frozen) {
        return "the worker has no lease at the moment";
    }
    return p->drain                    ? "the worker is draining"
           : p->pools[pool].retired    ? "the pool is deleted"
           : worker_pool_numberless(p) ? "the worker cannot write to its disk"
                                       : p->pools[pool].fault;
}

bool worker_pool_idle(const struct worker_pools *p)
{
    return p->free_n == p->cfg.vms_max;
}
