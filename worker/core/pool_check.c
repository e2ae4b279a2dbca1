#include <string.h>

#include "worker/core/pool_state.h"

/* The invariants of the pool manager, recounted from nothing. */

struct tally {
    uint32_t sessions, queued, slots[WORKER_SLOT_STATE_END];
};

static uint32_t length(const struct worker_list *head)
{
    uint32_t n = 0;
    for (const struct worker_list *l = head->next; l != head; l = l->next) {
        n++;
    }
    return n;
}

static const char *check_slot(const struct worker_pools *p, const struct worker_slot *v)
{
    bool owned = v->session != WORKER_NONE;
    if (v->state == WORKER_SLOT_FREE || v->state == WORKER_SLOT_STARTING ||
        v->state == WORKER_SLOT_READY) {
        return owned ? "an unclaimed microVM has a session" : NULL;
    }
    if (!owned) {
        return v->state == WORKER_SLOT_ENDING || v->state == WORKER_SLOT_ADOPTING
                   ? NULL
                   : "a claimed microVM has no session";
    }
    static const enum worker_session_state want[WORKER_SLOT_STATE_END] = {
        [WORKER_SLOT_CLAIMED] = WORKER_SESSION_CLAIMED,
        [WORKER_SLOT_ADOPTING] = WORKER_SESSION_ADOPTING,
        [WORKER_SLOT_LIVE] = WORKER_SESSION_LIVE,
        [WORKER_SLOT_FROZEN] = WORKER_SESSION_FROZEN,
        [WORKER_SLOT_ENDING] = WORKER_SESSION_ENDING,
    };
    const struct worker_session *s = &p->sessions[v->session];
    if (s->slot != v->index || s->pool != v->pool) {
        return "a microVM and its session disagree";
    }
    return s->state == want[v->state] ? NULL : "states of a microVM and its session differ";
}

/* Every tenant's sessions are counted for him. */
static const char *check_quota(const struct worker_pools *p, const struct worker_session *s)
{
    uint64_t all = 0, here = 0;
    for (uint32_t i = 0; i < p->cfg.vms_max; i++) {
        const struct worker_session *other = &p->sessions[i];
        if (other->state != WORKER_SESSION_FREE &&
            memcmp(&other->tenant, &s->tenant, sizeof s->tenant) == 0) {
            all++;
            here += other->pool == s->pool;
        }
    }
    return worker_quota_used(p->quota, &s->tenant, s->pool, WORKER_QUOTA_SESSIONS) == here &&
                   worker_quota_used(
                       p->quota, &s->tenant, WORKER_QUOTA_ALL, WORKER_QUOTA_SESSIONS) == all
               ? NULL
               : "a tenant's sessions are miscounted";
}

static const char *check_session(const struct worker_pools *p, const struct worker_session *s)
{
    bool has_slot = s->slot != WORKER_NONE;
    if (s->state == WORKER_SESSION_FREE) {
        return worker_list_empty(&s->waiters) ? NULL : "a free session has waiters";
    }
    if (has_slot == (s->state == WORKER_SESSION_WAITING)) {
        return "a session waits with a microVM or lives without one";
    }
    if (has_slot && p->slots[s->slot].session != s->index) {
        return "a session's microVM belongs to another one";
    }
    if (s->state == WORKER_SESSION_WAITING && worker_list_empty(&s->waiters)) {
        return "a session waits for nobody";
    }
    if (s->state == WORKER_SESSION_CLAIMED && worker_list_empty(&s->waiters) &&
        p->cfg.drop_unwanted) {
        return "a microVM is claimed for nobody";
    }
    if (s->state == WORKER_SESSION_LIVE && !worker_list_empty(&s->waiters)) {
        return "a request waits for a live session";
    }
    if (worker_pool_session_find(p, s->pool, s->hash, &s->id) != s->index) {
        return "a session is not found by its key, or twice";
    }
    if (s->state != WORKER_SESSION_WAITING && (s->epoch == 0 || s->epoch >= p->cfg.epoch_next)) {
        return "a session has an epoch of the future";
    }
    for (const struct worker_list *l = s->waiters.next; l != &s->waiters; l = l->next) {
        if (CONTAINER_OF(l, struct worker_waiter, link)->session != s->index) {
            return "a request waits for another session";
        }
    }
    return NULL;
}

static const char *check_pool(
    const struct worker_pools *p, const struct worker_pool *pool, const struct tally *t)
{
    if (pool->sessions != t->sessions || pool->queued != t->queued) {
        return "sessions are miscounted";
    }
    if (memcmp(&pool->slots[1], &t->slots[1], sizeof t->slots - sizeof t->slots[0]) != 0) {
        return "microVMs are miscounted";
    }
    uint32_t serving = 0;
    for (int i = WORKER_SLOT_FREE + 1; i < WORKER_SLOT_ENDING; i++) {
        serving += t->slots[i];
    }
    if (pool->retired && serving + pool->queued > 0) {
        return "a retired pool has microVMs that do not end, or a request waits";
    }
    uint32_t queued = 0;
    const struct worker_list *turn = &pool->queue.turn;
    for (const struct worker_list *l = turn->next; l != turn; l = l->next) {
        queued += length(&CONTAINER_OF(l, struct worker_fair_flow, link)->items);
    }
    if (queued != pool->queued || length(&pool->ready) != pool->slots[WORKER_SLOT_READY]) {
        return "a list of the pool is wrong";
    }
    if (pool->slots[p->frozen ? WORKER_SLOT_LIVE : WORKER_SLOT_FROZEN] > 0) {
        return "a microVM runs without a lease, or is frozen with one";
    }
    if (p->frozen && pool->queued > 0) {
        return "a request waits while nothing may run";
    }
    if (pool->queued > 0 && pool->slots[WORKER_SLOT_READY] > 0 &&
        p->cfg.epoch_next < p->cfg.epoch_limit) {
        return "a request waits beside a ready microVM";
    }
    return NULL;
}

static const char *check_totals(const struct worker_pools *p, const struct tally *all)
{
    if (p->sessions_n != all->sessions || p->starting != all->slots[WORKER_SLOT_STARTING] ||
        p->ending != all->slots[WORKER_SLOT_ENDING] || p->free_n != all->slots[WORKER_SLOT_FREE]) {
        return "a total is wrong";
    }
    if (p->starting > p->cfg.starts_max) {
        return "too many microVMs start at a time";
    }
    if (length(&p->free_slots) != p->free_n) {
        return "the list of free slots is wrong";
    }
    if (length(&p->free_sessions) + length(&p->limbo_sessions) + p->sessions_n != p->cfg.vms_max) {
        return "a session record is lost";
    }
    return NULL;
}

const char *worker_pool_check(const struct worker_pools *p)
{
    struct tally tally[PROTO_POOLS_MAX], all;
    memset(tally, 0, sizeof tally);
    memset(&all, 0, sizeof all);
    const char *bad = NULL;
    for (uint32_t i = 0; i < p->cfg.vms_max && bad == NULL; i++) {
        const struct worker_slot *v = &p->slots[i];
        const struct worker_session *s = &p->sessions[i];
        all.slots[v->state]++;
        tally[v->pool].slots[v->state]++;
        if (s->state != WORKER_SESSION_FREE) {
            all.sessions++;
            tally[s->pool].sessions++;
            tally[s->pool].queued += s->state == WORKER_SESSION_WAITING;
            bad = check_quota(p, s);
        }
        bad = bad != NULL ? bad : check_slot(p, v);
        bad = bad != NULL ? bad : check_session(p, s);
    }
    for (uint32_t i = 0; i < p->n && bad == NULL; i++) {
        bad = check_pool(p, &p->pools[i], &tally[i]);
    }
    return bad != NULL ? bad : check_totals(p, &all);
}
