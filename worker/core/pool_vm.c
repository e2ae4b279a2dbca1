#include <string.h>

#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "scheduler/core/mutant.h"
#include "worker/core/pool_state.h"

/* microVMs: their states, when to start one, who gets a ready one. */

#define BIT(state) (1U << (state))

static const unsigned moves[WORKER_SLOT_STATE_END] = {
    [WORKER_SLOT_FREE] = BIT(WORKER_SLOT_STARTING) | BIT(WORKER_SLOT_ADOPTING),
    [WORKER_SLOT_STARTING] = BIT(WORKER_SLOT_READY) | BIT(WORKER_SLOT_ENDING),
    [WORKER_SLOT_ADOPTING] =
        BIT(WORKER_SLOT_READY) | BIT(WORKER_SLOT_LIVE) | BIT(WORKER_SLOT_ENDING),
    [WORKER_SLOT_READY] = BIT(WORKER_SLOT_CLAIMED) | BIT(WORKER_SLOT_ENDING),
    [WORKER_SLOT_CLAIMED] = BIT(WORKER_SLOT_LIVE) | BIT(WORKER_SLOT_ENDING),
    [WORKER_SLOT_LIVE] = BIT(WORKER_SLOT_FROZEN) | BIT(WORKER_SLOT_ENDING),
    [WORKER_SLOT_FROZEN] = BIT(WORKER_SLOT_LIVE) | BIT(WORKER_SLOT_ENDING),
    [WORKER_SLOT_ENDING] = BIT(WORKER_SLOT_FREE),
};

enum {
    BACKOFF_MS_MIN = 250,
    BACKOFF_MS_MAX = 30000,
};

static void count(struct worker_pools *p, const struct worker_slot *v, bool up)
{
    uint32_t d = up ? 1 : UINT32_MAX; /* adds 1 or takes 1 away */
    if (v->state == WORKER_SLOT_FREE) {
        p->free_n += d;
        return;
    }
    p->pools[v->pool].slots[v->state] += d;
    if (v->state == WORKER_SLOT_STARTING) {
        p->starting += d;
    } else if (v->state == WORKER_SLOT_ENDING) {
        p->ending += d;
    }
}

void worker_pool_slot_move(struct worker_pools *p, struct worker_slot *v, enum worker_slot_state to)
{
    REQUIRE(moves[v->state] & BIT(to));
    worker_list_remove(&v->link);
    sched_wheel_cancel(&p->wheel, &v->timer.node);
    count(p, v, false);
    v->state = to;
    count(p, v, true);
    if (to == WORKER_SLOT_FREE) {
        /* The longest free slot comes first: its user id and folder rest a while. */
        worker_list_append(&p->free_slots, &v->link);
    } else if (to == WORKER_SLOT_READY) {
        worker_list_append(&p->pools[v->pool].ready, &v->link);
    }
}

static void fault_set(struct worker_pool *pool, const char *text)
{
    if (text == NULL) {
        text = "the microVM failed";
    }
    size_t n = strnlen(text, sizeof pool->fault - 1);
    memcpy(pool->fault, text, n);
    pool->fault[n] = '\0';
}

static void start_failed(struct worker_pools *p, struct worker_pool *pool, const char *text)
{
    fault_set(pool, text);
    uint64_t ms = BACKOFF_MS_MAX;
    if (pool->failures < 7) {
        ms = (uint64_t)BACKOFF_MS_MIN << pool->failures;
        ms = ms > BACKOFF_MS_MAX ? BACKOFF_MS_MAX : ms;
    }
    pool->failures++;
    pool->backoff_ns = p->now_ns + ms * BASE_NS_PER_MS;
    if (pool->failures >= WORKER_POOL_BROKEN_AFTER) {
        worker_pool_queue_refuse(p, pool);
    }
}

void worker_pool_slot_kill(struct worker_pools *p, struct worker_slot *v)
{
    worker_pool_slot_move(p, v, WORKER_SLOT_ENDING);
    worker_pool_fx_slot(p, WORKER_FX_STORE_VM, v->index);
    worker_pool_fx_slot(p, WORKER_FX_KILL, v->index);
    if (MUTANT(64) && v->session == WORKER_NONE) {
        worker_pool_slot_move(p, v, WORKER_SLOT_FREE);
    }
}

void worker_pool_slot_timer(struct worker_pools *p, struct worker_slot *v)
{
    if (v->state == WORKER_SLOT_STARTING) {
        worker_pool_slot_kill(p, v);
        start_failed(p, &p->pools[v->pool], "the microVM did not become ready in time");
    }
}

static void start_time(struct worker_pools *p, struct worker_slot *v)
{
    if (p->frozen) {
        sched_wheel_cancel(&p->wheel, &v->timer.node);
    } else {
        sched_wheel_set(
            &p->wheel, &v->timer.node, p->now_ns + p->cfg.start_ms_max * BASE_NS_PER_MS);
    }
}

void worker_pool_slot_freeze(struct worker_pools *p, struct worker_slot *v, bool freeze)
{
    enum worker_slot_state from = freeze ? WORKER_SLOT_LIVE : WORKER_SLOT_FROZEN;
    if (v->state == from) {
        worker_pool_slot_move(p, v, freeze ? WORKER_SLOT_FROZEN : WORKER_SLOT_LIVE);
        p->sessions[v->session].state = freeze ? WORKER_SESSION_FROZEN : WORKER_SESSION_LIVE;
    } else if (v->state == WORKER_SLOT_STARTING) {
        start_time(p, v);
    } else if (freeze && v->session != WORKER_NONE) {
        struct worker_session *s = &p->sessions[v->session];
        worker_pool_session_refuse(p, s);
        worker_pool_session_left(p, s);
    }
}

/* What it said before it was frozen, or a claim that was under way. */
static void live(struct worker_pools *p, struct worker_slot *v)
{
    worker_pool_slot_move(p, v, WORKER_SLOT_LIVE);
    worker_pool_session_live(p, &p->sessions[v->session]);
    if (p->frozen) {
        worker_pool_slot_freeze(p, v, true);
    }
}

static void on_ready(struct worker_pools *p, struct worker_slot *v)
{
    struct worker_pool *pool = &p->pools[v->pool];
    if (v->state == WORKER_SLOT_ADOPTING && v->session != WORKER_NONE && !MUTANT(65)) {
        live(p, v);
    } else if (v->state == WORKER_SLOT_ADOPTING || v->state == WORKER_SLOT_STARTING) {
        if (v->state == WORKER_SLOT_STARTING) {
            pool->failures = 0;
            pool->backoff_ns = 0;
            pool->fault[0] = '\0';
        }
        worker_pool_slot_move(p, v, WORKER_SLOT_READY);
        worker_pool_fx_slot(p, WORKER_FX_STORE_VM, v->index);
    }
}

static void on_claimed(struct worker_pools *p, struct worker_slot *v)
{
    if (v->state == WORKER_SLOT_CLAIMED) {
        live(p, v);
        worker_pool_fx_slot(p, WORKER_FX_STORE_VM, v->index);
    }
}

/* The engine ends it by itself: no KILL. */
static void on_dead(
    struct worker_pools *p, struct worker_slot *v, const struct worker_pool_event *ev)
{
    struct worker_pool *pool = &p->pools[v->pool];
    enum worker_slot_state was = v->state;
    if (was == WORKER_SLOT_FREE || was == WORKER_SLOT_ENDING) {
        return;
    }
    struct worker_session *s = v->session == WORKER_NONE ? NULL : &p->sessions[v->session];
    if (s != NULL && was == WORKER_SLOT_CLAIMED) {
        worker_pool_session_unclaim(p, s);
        v->session = WORKER_NONE;
    }
    worker_pool_slot_move(p, v, WORKER_SLOT_ENDING);
    worker_pool_fx_slot(p, WORKER_FX_STORE_VM, v->index);
    if (was == WORKER_SLOT_STARTING || was == WORKER_SLOT_CLAIMED || was == WORKER_SLOT_READY) {
        start_failed(p, pool, ev->text);
    } else if (s != NULL) {
        enum worker_end end = WORKER_END_VM_LOST;
        if (was == WORKER_SLOT_ADOPTING) {
            end = WORKER_END_RESTART;
        } else if (ev->exited && pool->spec.lifecycle == WORKER_LIFECYCLE_ON_EXIT) {
            end = WORKER_END_EXITED;
        }
        worker_pool_session_end(p, s, end);
    }
}

static void on_gone(struct worker_pools *p, struct worker_slot *v)
{
    if (v->state == WORKER_SLOT_FREE) {
        return;
    }
    if (v->state != WORKER_SLOT_ENDING) { /* without a vm_dead before it: same thing */
        on_dead(p, v, &(struct worker_pool_event){.kind = WORKER_EV_VM_DEAD});
    }
    uint32_t session = v->session;
    v->session = WORKER_NONE;
    worker_pool_slot_move(p, v, WORKER_SLOT_FREE);
    worker_pool_fx_slot(p, WORKER_FX_DROP_VM, v->index);
    if (session != WORKER_NONE) {
        worker_pool_session_gone(p, &p->sessions[session]);
    }
}

void worker_pool_slot_event(struct worker_pools *p, const struct worker_pool_event *ev)
{
    REQUIRE(ev->slot < p->cfg.vms_max);
    struct worker_slot *v = &p->slots[ev->slot];
    if (ev->kind == WORKER_EV_VM_READY) {
        on_ready(p, v);
    } else if (ev->kind == WORKER_EV_VM_CLAIMED) {
        on_claimed(p, v);
    } else if (ev->kind == WORKER_EV_VM_DEAD) {
        on_dead(p, v, ev);
    } else {
        on_gone(p, v);
    }
}

/* Ends instances that are being adopted for nobody. */
void worker_pool_unadopt(struct worker_pools *p, uint32_t pool)
{
    for (uint32_t i = 0; i < p->cfg.vms_max; i++) {
        struct worker_slot *v = &p->slots[i];
        if (v->state == WORKER_SLOT_ADOPTING && v->pool == pool && v->session == WORKER_NONE) {
            worker_pool_slot_kill(p, v);
        }
    }
}

void worker_pool_template(struct worker_pools *p, const struct worker_pool_event *ev)
{
    REQUIRE(ev->pool < p->n);
    struct worker_pool *pool = &p->pools[ev->pool];
    pool->template = ev->template;
    if (ev->template == WORKER_POOL_TEMPLATE_FAILED) {
        fault_set(pool, ev->text);
        worker_pool_queue_refuse(p, pool);
    } else if (ev->template == WORKER_POOL_TEMPLATE_READY) {
        pool->failures = 0;
        pool->backoff_ns = 0;
        pool->fault[0] = '\0';
    }
    if (ev->renewed) { /* those that are being restored or adopted are of the old one, too */
        worker_pool_trim(p, ev->pool, 0);
        worker_pool_unadopt(p, ev->pool);
    }
}

void worker_pool_trim(struct worker_pools *p, uint32_t pool, uint32_t keep)
{
    const struct worker_pool *o = &p->pools[pool];
    const uint32_t *n = o->slots;
    struct worker_list *l;
    while (n[WORKER_SLOT_READY] + n[WORKER_SLOT_STARTING] > keep &&
           (l = worker_list_first(&o->ready)) != NULL) {
        worker_pool_slot_kill(p, CONTAINER_OF(l, struct worker_slot, link));
    }
    for (uint32_t i = 0; i < p->cfg.vms_max && n[WORKER_SLOT_STARTING] > keep; i++) {
        if (p->slots[i].pool == pool && p->slots[i].state == WORKER_SLOT_STARTING) {
            worker_pool_slot_kill(p, &p->slots[i]);
        }
    }
}

/* --- who gets what ------------------------------------------------------------------------- */

static void hand_out(struct worker_pools *p, struct worker_pool *pool)
{
    struct worker_fair_item *q;
    struct worker_list *r;
    if (worker_pool_numberless(p)) {
        worker_pool_queue_refuse(p, pool);
    }
    while (p->cfg.epoch_next < p->cfg.epoch_limit &&
           (r = worker_list_first(&pool->ready)) != NULL &&
           (q = worker_fair_next(&pool->queue)) != NULL) {
        struct worker_session *s = CONTAINER_OF(q, struct worker_session, wait);
        worker_pool_session_claim(p, s, CONTAINER_OF(r, struct worker_slot, link));
    }
}

static bool wanted_now(const struct worker_pool *pool)
{
    return pool->queued > pool->slots[WORKER_SLOT_STARTING];
}

static bool wanted_ahead(const struct worker_pool *pool)
{
    if (pool->retired || pool->slots[WORKER_SLOT_ADOPTING] > 0) { /* it may have some ready */
        return false;
    }
    uint32_t bound = pool->sessions - pool->queued;
    uint32_t room = pool->spec.sessions_max > bound ? pool->spec.sessions_max - bound : 0;
    uint32_t want = pool->queued + pool->spec.ready_target;
    uint32_t have = pool->slots[WORKER_SLOT_READY] + pool->slots[WORKER_SLOT_STARTING];
    return have < (want < room ? want : room);
}

/* True when the pool may start now. Otherwise its timer wakes the pump when time alone is missing.
 */
static bool may_start(struct worker_pools *p, struct worker_pool *pool, uint64_t not_before_ns)
{
    if (pool->template != WORKER_POOL_TEMPLATE_READY || p->drain || p->frozen) {
        return false;
    }
    uint64_t at = pool->backoff_ns > not_before_ns ? pool->backoff_ns : not_before_ns;
    if (at > p->now_ns) {
        sched_wheel_set(&p->wheel, &pool->timer.node, at);
        return false;
    }
    return true;
}

static void start(struct worker_pools *p, uint32_t pool, bool urgent)
{
    struct worker_list *l = worker_list_first(&p->free_slots);
    struct worker_slot *v = CONTAINER_OF(l, struct worker_slot, link);
    v->pool = pool;
    v->session = WORKER_NONE;
    worker_pool_slot_move(p, v, WORKER_SLOT_STARTING);
    start_time(p, v);
    worker_pool_fx_slot(p, WORKER_FX_STORE_VM, v->index);
    worker_pool_fx_add(p, &(struct worker_pool_fx){.kind = WORKER_FX_START,
                              .slot = v->index,
                              .pool = pool,
                              .session = WORKER_NONE,
                              .urgent = urgent});
}

/* Every slot is taken: an idle instance of the pool that has most of them makes room. For a waiting
 * request any will do, otherwise one that its pool has beyond its target. The caller knows that
 * nothing is ending already. */
static void evict(struct worker_pools *p, bool urgent)
{
    struct worker_pool *rich = NULL;
    uint32_t most = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        struct worker_pool *pool = &p->pools[i];
        uint32_t ready = pool->slots[WORKER_SLOT_READY];
        uint32_t keep = urgent ? 0 : pool->spec.ready_target;
        if (pool->queued == 0 && ready > keep && ready - keep > most) {
            rich = pool;
            most = ready - keep;
        }
    }
    if (rich != NULL) {
        struct worker_list *l = worker_list_first(&rich->ready);
        worker_pool_slot_kill(p, CONTAINER_OF(l, struct worker_slot, link));
    }
}

/* One start for the next pool in turn that needs it; false when there is none. */
static bool start_next(struct worker_pools *p, bool urgent)
{
    for (uint32_t k = 0; k < p->n; k++) {
        uint32_t i = (p->turn + k) % p->n;
        struct worker_pool *pool = &p->pools[i];
        if (!(urgent ? wanted_now(pool) : wanted_ahead(pool)) ||
            !may_start(p, pool, urgent ? 0 : pool->replenish_ns)) {
            continue;
        }
        if (p->free_n == 0) {
            if (p->ending == 0) {
                evict(p, urgent);
            }
            return false;
        }
        start(p, i, urgent);
        p->turn = (i + 1) % p->n;
        return true;
    }
    return false;
}

void worker_pool_pump(struct worker_pools *p)
{
    for (uint32_t i = 0; i < p->n && !p->frozen; i++) {
        hand_out(p, &p->pools[i]);
    }
    while (p->starting < p->cfg.starts_max && start_next(p, true)) {
    }
    while (p->starting < p->cfg.starts_max && start_next(p, false)) {
    }
}
