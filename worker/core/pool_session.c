#include <string.h>

#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/err.h"
#include "scheduler/core/mutant.h"
#include "worker/core/pool_state.h"

/* Sessions, the requests that wait for them, and what is remembered of those that ended. */

enum { RETRY_MS_MIN = 1000, RETRY_MS_MAX = 60000 };

static bool id_equal(const struct proto_identifier *a, const struct proto_identifier *b)
{
    return a->len == b->len && memcmp(a->text, b->text, a->len) == 0;
}

/* --- records ------------------------------------------------------------------------------- */

uint32_t worker_pool_session_find(
    const struct worker_pools *p, uint32_t pool, uint64_t hash, const struct proto_identifier *id)
{
    uint32_t i = p->session_buckets[hash & p->session_mask];
    while (i != WORKER_NONE) {
        const struct worker_session *s = &p->sessions[i];
        if (s->hash == hash && s->pool == pool && id_equal(&s->id, id)) {
            return i;
        }
        i = s->chain;
    }
    return WORKER_NONE;
}

/* Where a session comes from: a request, or a row. */
struct origin {
    uint32_t pool;
    uint64_t hash;
    const struct proto_identifier *id;
    const struct proto_tenant *tenant;
};

static struct worker_quota_who who_of(const struct worker_session *s)
{
    return (struct worker_quota_who){.tenant = s->tenant, .pool = s->pool};
}

/* The caller knows that a free record is there. */
static struct worker_session *session_new(struct worker_pools *p, const struct origin *o)
{
    struct worker_list *l = worker_list_first(&p->free_sessions);
    struct worker_session *s = CONTAINER_OF(l, struct worker_session, link);
    worker_list_remove(&s->link);
    s->pool = o->pool;
    s->slot = WORKER_NONE;
    s->hash = o->hash;
    s->id = *o->id;
    s->tenant = *o->tenant;
    struct worker_quota_who who = who_of(s);
    /* There is a pair of books for each session. */
    REQUIRE(worker_quota_charge(p->quota, &who, WORKER_QUOTA_SESSIONS, 1));
    s->epoch = 0;
    s->created_ns = s->last_ns = s->stored_ns = p->now_ns;
    s->holds = 0;
    s->attempts = 0;
    s->end = s->recreated = WORKER_END_NONE;
    uint32_t *bucket = &p->session_buckets[o->hash & p->session_mask];
    s->chain = *bucket;
    *bucket = s->index;
    p->pools[o->pool].sessions++;
    p->sessions_n++;
    return s;
}

void worker_pool_unqueue(struct worker_pools *p, struct worker_session *s, bool served)
{
    struct worker_pool *pool = &p->pools[s->pool];
    struct worker_fair_flow *flow = worker_quota_flow(p->quota, &s->tenant, s->pool);
    REQUIRE(s->state == WORKER_SESSION_WAITING && flow != NULL);
    if (served) {
        worker_fair_serve(&pool->queue, flow, &s->wait);
    } else {
        worker_fair_remove(flow, &s->wait);
    }
    pool->queued--;
}

/* Its fields stay readable until the next step: effects may name it. */
static void session_drop(struct worker_pools *p, struct worker_session *s)
{
    uint32_t *at = &p->session_buckets[s->hash & p->session_mask];
    while (*at != s->index) {
        REQUIRE(*at != WORKER_NONE);
        at = &p->sessions[*at].chain;
    }
    *at = s->chain;
    if (s->state == WORKER_SESSION_WAITING) {
        worker_pool_unqueue(p, s, false);
    }
    s->state = WORKER_SESSION_FREE;
    struct worker_quota_who who = who_of(s);
    worker_quota_refund(p->quota, &who, WORKER_QUOTA_SESSIONS, 1);
    sched_wheel_cancel(&p->wheel, &s->timer.node);
    p->pools[s->pool].sessions--;
    p->sessions_n--;
    worker_list_remove(&s->link);
    worker_list_append(&p->limbo_sessions, &s->link);
}

static struct worker_tomb *tomb_find(
    struct worker_pools *p, uint32_t pool, uint64_t hash, const struct proto_identifier *id)
{
    uint32_t i = p->tomb_buckets[hash & p->tomb_mask];
    while (i != WORKER_NONE) {
        struct worker_tomb *t = &p->tombs[i];
        if (t->hash == hash && t->pool == pool && id_equal(&t->id, id)) {
            return t;
        }
        i = t->chain;
    }
    return NULL;
}

static void tomb_unlink(struct worker_pools *p, struct worker_tomb *t)
{
    uint32_t *at = &p->tomb_buckets[t->hash & p->tomb_mask];
    while (*at != t->index) {
        REQUIRE(*at != WORKER_NONE);
        at = &p->tombs[*at].chain;
    }
    *at = t->chain;
    t->used = false;
    worker_list_remove(&t->link);
    worker_list_append(&p->limbo_tombs, &t->link);
}

static void tomb_evict(struct worker_pools *p, struct worker_tomb *t)
{
    tomb_unlink(p, t);
    worker_pool_fx_add(p, &(struct worker_pool_fx){.kind = WORKER_FX_DROP_TOMB,
                              .slot = t->index,
                              .pool = t->pool,
                              .session = WORKER_NONE});
}

/* Without effects. */
void worker_pool_tombs_forget(struct worker_pools *p, uint32_t pool)
{
    for (uint32_t i = 0; i <= p->cfg.tombs_max; i++) {
        if (p->tombs[i].used && p->tombs[i].pool == pool) {
            tomb_unlink(p, &p->tombs[i]);
        }
    }
}

/* One record more than tombs_max exists, so that the oldest one can be dropped in the step that
 * adds one. NULL when one step adds more: then the end is not remembered. */
static struct worker_tomb *tomb_new(
    struct worker_pools *p, uint32_t pool, uint64_t hash, const struct proto_identifier *id)
{
    struct worker_list *l = worker_list_first(&p->free_tombs);
    if (l == NULL) {
        return NULL;
    }
    struct worker_tomb *t = CONTAINER_OF(l, struct worker_tomb, link);
    worker_list_remove(&t->link);
    if (worker_list_empty(&p->free_tombs) && !worker_list_empty(&p->tombs_by_age)) {
        l = worker_list_first(&p->tombs_by_age);
        tomb_evict(p, CONTAINER_OF(l, struct worker_tomb, link));
    }
    t->pool = pool;
    t->hash = hash;
    t->id = *id;
    t->epoch = 0;
    t->used = true;
    uint32_t *bucket = &p->tomb_buckets[hash & p->tomb_mask];
    t->chain = *bucket;
    *bucket = t->index;
    return t;
}

static struct worker_tomb *tomb_put(
    struct worker_pools *p, uint32_t pool, uint64_t hash, const struct proto_identifier *id)
{
    struct worker_tomb *t = tomb_find(p, pool, hash, id);
    if (t == NULL) {
        t = tomb_new(p, pool, hash, id);
    }
    if (t != NULL) {
        worker_list_remove(&t->link);
        worker_list_append(&p->tombs_by_age, &t->link);
    }
    return t;
}

/* --- answers ------------------------------------------------------------------------------- */

static uint32_t clamp_ms(uint64_t ns)
{
    uint64_t ms = ns / BASE_NS_PER_MS + 1;
    ms = ms < RETRY_MS_MIN ? RETRY_MS_MIN : ms;
    return (uint32_t)(ms > RETRY_MS_MAX ? RETRY_MS_MAX : ms);
}

/* How long until some session ends by itself; pool: WORKER_NONE for any; tenant: NULL for any. */
static uint32_t full_retry_ms(
    const struct worker_pools *p, uint32_t pool, const struct proto_tenant *tenant)
{
    uint64_t first = UINT64_MAX;
    for (uint32_t i = 0; i < p->cfg.vms_max; i++) {
        const struct worker_session *s = &p->sessions[i];
        bool ending = s->state == WORKER_SESSION_ENDING;
        if ((ending || s->state == WORKER_SESSION_LIVE) &&
            (pool == WORKER_NONE || s->pool == pool) &&
            (tenant == NULL || memcmp(&s->tenant, tenant, sizeof *tenant) == 0)) {
            uint64_t due = ending ? p->now_ns : worker_pool_expires_ns(p, s);
            first = due < first ? due : first;
        }
    }
    return first == UINT64_MAX ? RETRY_MS_MAX : clamp_ms(first > p->now_ns ? first - p->now_ns : 0);
}

static uint32_t quota_retry_ms(
    const struct worker_pools *p, const struct worker_quota_who *who, enum worker_quota_verdict v)
{
    return full_retry_ms(p, v == WORKER_QUOTA_OF_TENANT ? WORKER_NONE : who->pool,
        v == WORKER_QUOTA_OF_POOL ? NULL : &who->tenant);
}

static void answer(struct worker_pools *p, const struct worker_pool_event *ev,
    enum worker_answer what, uint32_t retry_ms, enum worker_end end)
{
    worker_pool_fx_add(p, &(struct worker_pool_fx){.kind = WORKER_FX_ANSWER,
                              .answer = what,
                              .request = ev->request,
                              .pool = ev->pool,
                              .slot = WORKER_NONE,
                              .session = WORKER_NONE,
                              .retry_ms = retry_ms,
                              .end = end});
}

static void session_arm(struct worker_pools *p, struct worker_session *s)
{
    sched_wheel_set(&p->wheel, &s->timer.node, worker_pool_expires_ns(p, s));
}

/* Stores the last use when its row is older by more than that. */
static void store_use(struct worker_pools *p, struct worker_session *s, uint64_t slack_ns)
{
    if (s->last_ns - s->stored_ns > slack_ns) {
        s->stored_ns = s->last_ns;
        worker_pool_fx_session(p, WORKER_FX_STORE_SESSION, s);
    }
}

void worker_pool_sessions_arm(struct worker_pools *p, uint32_t pool)
{
    for (uint32_t i = 0; i < p->cfg.vms_max; i++) {
        struct worker_session *s = &p->sessions[i];
        bool runs = s->state == WORKER_SESSION_LIVE || s->state == WORKER_SESSION_FROZEN;
        if (runs && s->pool == pool) {
            store_use(p, s, 0); /* a row may be as old as the cooldown before allowed */
            session_arm(p, s);
        }
    }
}

static void touch(struct worker_pools *p, struct worker_session *s)
{
    s->last_ns = p->now_ns;
    session_arm(p, s);
    store_use(p, s, worker_pool_touch_ns(p, s->pool));
}

/* Answers one that waited and frees it. */
static void waiter_answer(
    struct worker_pools *p, struct worker_waiter *w, enum worker_answer what, uint32_t retry_ms)
{
    struct worker_session *s = &p->sessions[w->session];
    bool use = what == WORKER_ANSWER_USE;
    worker_pool_fx_add(p, &(struct worker_pool_fx){.kind = WORKER_FX_ANSWER,
                              .answer = what,
                              .request = w->request,
                              .pool = s->pool,
                              .slot = use ? s->slot : WORKER_NONE,
                              .session = use ? s->index : WORKER_NONE,
                              .epoch = use ? s->epoch : 0,
                              .retry_ms = retry_ms,
                              .verdict = w->verdict,
                              .fresh = use && w->fresh,
                              .waited_ns = p->now_ns - w->since_ns});
    if (use) {
        s->holds++;
        touch(p, s);
    }
    w->session = WORKER_NONE;
    sched_wheel_cancel(&p->wheel, &w->timer.node);
    worker_list_remove(&w->link);
    worker_list_append(&p->free_waiters, &w->link);
}

static void waiters_answer(
    struct worker_pools *p, struct worker_session *s, enum worker_answer what, uint32_t retry_ms)
{
    struct worker_list *l;
    while ((l = worker_list_first(&s->waiters)) != NULL) {
        waiter_answer(p, CONTAINER_OF(l, struct worker_waiter, link), what, retry_ms);
    }
}

static uint32_t backoff_ms(const struct worker_pools *p, const struct worker_pool *pool)
{
    return clamp_ms(pool->backoff_ns > p->now_ns ? pool->backoff_ns - p->now_ns : 0);
}

void worker_pool_session_refuse(struct worker_pools *p, struct worker_session *s)
{
    waiters_answer(p, s, WORKER_ANSWER_UNAVAILABLE, backoff_ms(p, &p->pools[s->pool]));
}

void worker_pool_queue_refuse(struct worker_pools *p, struct worker_pool *pool)
{
    struct worker_fair_item *i;
    while ((i = worker_fair_next(&pool->queue)) != NULL) {
        struct worker_session *s = CONTAINER_OF(i, struct worker_session, wait);
        worker_pool_session_refuse(p, s);
        session_drop(p, s);
    }
}

/* No new session may be made in this pool now, whatever room there is. */
static bool refuses(const struct worker_pools *p, const struct worker_pool *pool)
{
    bool broken = pool->failures >= WORKER_POOL_BROKEN_AFTER && pool->backoff_ns > p->now_ns &&
                  pool->slots[WORKER_SLOT_READY] == 0;
    return p->drain || p->frozen || pool->retired ||
           pool->template == WORKER_POOL_TEMPLATE_FAILED || broken || worker_pool_numberless(p);
}

/* --- life ---------------------------------------------------------------------------------- */

static void enqueue(struct worker_pools *p, struct worker_session *s, bool first)
{
    struct worker_pool *pool = &p->pools[s->pool];
    s->state = WORKER_SESSION_WAITING;
    s->slot = WORKER_NONE;
    s->epoch = 0;
    pool->queued++;
    struct worker_fair_flow *flow = worker_quota_flow(p->quota, &s->tenant, s->pool);
    REQUIRE(flow != NULL); /* the session itself is counted */
    if (first) {
        worker_fair_add_first(&pool->queue, flow, &s->wait, 1);
    } else {
        worker_fair_add(&pool->queue, flow, &s->wait, 1);
    }
}

static void epochs_ask(struct worker_pools *p)
{
    if (!p->epochs_asked && p->cfg.epoch_limit - p->cfg.epoch_next < WORKER_POOL_EPOCH_BLOCK / 4) {
        p->epochs_asked = true;
        uint64_t end = p->cfg.epoch_limit | UINT32_MAX; /* the view's part must not change */
        uint64_t room = end - p->cfg.epoch_limit;
        uint64_t more = room < WORKER_POOL_EPOCH_BLOCK ? room : WORKER_POOL_EPOCH_BLOCK;
        worker_pool_fx_add(p, &(struct worker_pool_fx){.kind = WORKER_FX_EPOCHS,
                                  .slot = WORKER_NONE,
                                  .session = WORKER_NONE,
                                  .epoch = p->cfg.epoch_limit + more});
    }
}

void worker_pool_session_claim(
    struct worker_pools *p, struct worker_session *s, struct worker_slot *v)
{
    struct worker_pool *pool = &p->pools[s->pool];
    REQUIRE(s->state == WORKER_SESSION_WAITING && v->pool == s->pool);
    REQUIRE(p->cfg.epoch_next < p->cfg.epoch_limit);
    worker_pool_slot_move(p, v, WORKER_SLOT_CLAIMED);
    v->session = s->index;
    worker_pool_unqueue(p, s, true);
    s->state = WORKER_SESSION_CLAIMED;
    s->slot = v->index;
    s->epoch = p->cfg.epoch_next++;
    s->created_ns = s->last_ns = s->stored_ns = p->now_ns;
    if (pool->replenish_ns <= p->now_ns) {
        pool->replenish_ns = p->now_ns + p->cfg.replenish_ms * BASE_NS_PER_MS;
    }
    worker_pool_fx_session(p, WORKER_FX_STORE_SESSION, s);
    worker_pool_fx_slot(p, WORKER_FX_STORE_VM, v->index);
    worker_pool_fx_session(p, WORKER_FX_CLAIM, s);
    epochs_ask(p);
}

void worker_pool_session_live(struct worker_pools *p, struct worker_session *s)
{
    bool adopted = s->state == WORKER_SESSION_ADOPTING;
    s->state = WORKER_SESSION_LIVE;
    if (!adopted) {
        s->created_ns = s->last_ns = s->stored_ns = p->now_ns;
        worker_pool_fx_session(p, WORKER_FX_STORE_SESSION, s);
    }
    waiters_answer(p, s, WORKER_ANSWER_USE, 0);
    session_arm(p, s);
}

/* The microVM failed before anything of the user ran: the session takes another one. */
void worker_pool_session_unclaim(struct worker_pools *p, struct worker_session *s)
{
    REQUIRE(s->state == WORKER_SESSION_CLAIMED);
    worker_pool_fx_session(p, WORKER_FX_DROP_SESSION, s);
    s->attempts++;
    enqueue(p, s, true);
    if (s->attempts >= WORKER_POOL_CLAIMS_MAX || worker_list_empty(&s->waiters) ||
        p->pools[s->pool].retired) {
        waiters_answer(p, s, WORKER_ANSWER_UNAVAILABLE, backoff_ms(p, &p->pools[s->pool]));
        session_drop(p, s);
    }
}

void worker_pool_session_end(struct worker_pools *p, struct worker_session *s, enum worker_end end)
{
    struct worker_slot *v = s->slot == WORKER_NONE ? NULL : &p->slots[s->slot];
    if (s->state == WORKER_SESSION_CLAIMED) {
        REQUIRE(v != NULL);
        worker_pool_session_unclaim(p, s);
        v->session = WORKER_NONE;
        worker_pool_slot_kill(p, v);
        return;
    }
    if (s->state != WORKER_SESSION_LIVE && s->state != WORKER_SESSION_FROZEN &&
        s->state != WORKER_SESSION_ADOPTING) {
        return;
    }
    s->state = WORKER_SESSION_ENDING;
    s->end = end;
    sched_wheel_cancel(&p->wheel, &s->timer.node);
    worker_pool_fx_session(p, WORKER_FX_STORE_SESSION, s);
    worker_pool_fx_session(p, WORKER_FX_ENDING, s);
    REQUIRE(v != NULL); /* only who waits has none */
    if (v->state != WORKER_SLOT_ENDING) {
        worker_pool_slot_kill(p, v);
    }
    if (MUTANT(66)) {
        v->session = WORKER_NONE;
        worker_pool_session_gone(p, s);
    }
}

/* The session that is gone is made again for the first of those who wait whose tenant may have one;
 * who waits before that one is told. NULL: nobody does. */
static struct worker_waiter *heir(struct worker_pools *p, struct worker_session *s)
{
    struct worker_quota_who who = who_of(s);
    worker_quota_refund(p->quota, &who, WORKER_QUOTA_SESSIONS, 1);
    struct worker_waiter *found = NULL;
    struct worker_list *l;
    while (found == NULL && (l = worker_list_first(&s->waiters)) != NULL) {
        struct worker_waiter *w = CONTAINER_OF(l, struct worker_waiter, link);
        who.tenant = w->tenant;
        w->verdict = worker_quota_check(p->quota, &who, WORKER_QUOTA_SESSIONS, 1);
        if (w->verdict == WORKER_QUOTA_OK) {
            found = w;
        } else {
            waiter_answer(p, w, WORKER_ANSWER_QUOTA, quota_retry_ms(p, &who, w->verdict));
        }
    }
    s->tenant = found != NULL ? found->tenant : s->tenant;
    who = who_of(s);
    REQUIRE(worker_quota_charge(p->quota, &who, WORKER_QUOTA_SESSIONS, 1)); /* as in session_new */
    return found;
}

/* Its microVM is no more. Who asked for the identifier meanwhile gets a new session. */
void worker_pool_session_gone(struct worker_pools *p, struct worker_session *s)
{
    REQUIRE(s->state == WORKER_SESSION_ENDING);
    struct worker_tomb *t = tomb_put(p, s->pool, s->hash, &s->id);
    if (t != NULL) {
        t->epoch = s->epoch;
        t->end = s->end;
        worker_pool_fx_add(p, &(struct worker_pool_fx){.kind = WORKER_FX_STORE_TOMB,
                                  .slot = t->index,
                                  .pool = t->pool,
                                  .session = WORKER_NONE});
    }
    worker_pool_fx_session(p, WORKER_FX_DROP_SESSION, s);
    worker_pool_fx_session(p, WORKER_FX_GONE, s);
    struct worker_pool *pool = &p->pools[s->pool];
    if (pool->sessions > pool->spec.sessions_max) { /* the maximum is smaller than it was */
        waiters_answer(p, s, WORKER_ANSWER_FULL, full_retry_ms(p, s->pool, NULL));
        session_drop(p, s);
        return;
    }
    struct worker_waiter *first = refuses(p, pool) ? NULL : heir(p, s);
    if (first == NULL) {
        waiters_answer(p, s, WORKER_ANSWER_UNAVAILABLE, backoff_ms(p, pool));
        session_drop(p, s);
        return;
    }
    first->fresh = true;
    s->recreated = s->end;
    s->end = WORKER_END_NONE;
    s->holds = 0;
    s->attempts = 0;
    enqueue(p, s, false);
}

void worker_pool_session_timer(struct worker_pools *p, struct worker_session *s)
{
    if (s->state != WORKER_SESSION_LIVE && s->state != WORKER_SESSION_FROZEN) {
        return;
    }
    const struct worker_pool_spec *spec = &p->pools[s->pool].spec;
    if (spec->alive_ms_max > 0 &&
        p->now_ns >= s->created_ns + spec->alive_ms_max * BASE_NS_PER_MS) {
        worker_pool_session_end(p, s, WORKER_END_ALIVE);
    } else if (worker_pool_expires_ns(p, s) <= p->now_ns) {
        worker_pool_session_end(p, s, WORKER_END_EXPIRED);
    } else {
        session_arm(p, s);
    }
}

/* --- events -------------------------------------------------------------------------------- */

static void answer_quota(
    struct worker_pools *p, const struct worker_pool_event *ev, enum worker_quota_verdict v)
{
    struct worker_quota_who who = {.tenant = ev->tenant, .pool = ev->pool};
    worker_pool_fx_add(p, &(struct worker_pool_fx){.kind = WORKER_FX_ANSWER,
                              .answer = WORKER_ANSWER_QUOTA,
                              .verdict = v,
                              .request = ev->request,
                              .pool = ev->pool,
                              .slot = WORKER_NONE,
                              .session = WORKER_NONE,
                              .retry_ms = quota_retry_ms(p, &who, v)});
}

bool worker_pool_all_full(const struct worker_pools *p)
{
    return p->sessions_n >= p->cfg.vms_max || worker_list_empty(&p->free_waiters) ||
           worker_list_empty(&p->free_sessions);
}

/* A new record for an identifier that has none; NULL when it was refused (answered). */
static struct worker_session *admit(struct worker_pools *p, const struct worker_pool_event *ev)
{
    struct worker_pool *pool = &p->pools[ev->pool];
    if (refuses(p, pool)) {
        answer(p, ev, WORKER_ANSWER_UNAVAILABLE, backoff_ms(p, pool), WORKER_END_NONE);
        return NULL;
    }
    if (pool->sessions >= pool->spec.sessions_max || p->sessions_n >= p->cfg.vms_max) {
        answer(p, ev, WORKER_ANSWER_FULL, full_retry_ms(p, ev->pool, NULL), WORKER_END_NONE);
        return NULL;
    }
    struct worker_quota_who who = {.tenant = ev->tenant, .pool = ev->pool};
    enum worker_quota_verdict v = worker_quota_check(p->quota, &who, WORKER_QUOTA_SESSIONS, 1);
    if (v != WORKER_QUOTA_OK) {
        answer_quota(p, ev, v);
        return NULL;
    }
    if (worker_pool_all_full(p)) {
        answer(p, ev, WORKER_ANSWER_FULL, RETRY_MS_MIN, WORKER_END_NONE);
        return NULL;
    }
    struct origin o = {.pool = ev->pool, .hash = ev->hash, .id = ev->id, .tenant = &ev->tenant};
    struct worker_session *s = session_new(p, &o);
    const struct worker_tomb *t = tomb_find(p, ev->pool, ev->hash, ev->id);
    s->recreated = t == NULL ? WORKER_END_NONE : t->end;
    enqueue(p, s, false);
    return s;
}

static void wait_for(struct worker_pools *p, struct worker_session *s,
    const struct worker_pool_event *ev, bool fresh)
{
    struct worker_list *l = worker_list_first(&p->free_waiters);
    if (l == NULL) {
        answer(p, ev, WORKER_ANSWER_FULL, RETRY_MS_MIN, WORKER_END_NONE);
        return;
    }
    struct worker_waiter *w = CONTAINER_OF(l, struct worker_waiter, link);
    worker_list_remove(&w->link);
    w->session = s->index;
    w->request = ev->request;
    w->fresh = fresh;
    w->tenant = ev->tenant;
    w->verdict = WORKER_QUOTA_OK;
    w->since_ns = p->now_ns;
    worker_list_append(&s->waiters, &w->link);
    uint64_t due =
        ev->deadline_ns != 0 ? ev->deadline_ns : p->now_ns + p->cfg.wait_ms_max * BASE_NS_PER_MS;
    sched_wheel_set(&p->wheel, &w->timer.node, due);
}

static void use_now(
    struct worker_pools *p, struct worker_session *s, const struct worker_pool_event *ev)
{
    s->holds++;
    touch(p, s);
    worker_pool_fx_add(p, &(struct worker_pool_fx){.kind = WORKER_FX_ANSWER,
                              .answer = WORKER_ANSWER_USE,
                              .request = ev->request,
                              .pool = s->pool,
                              .slot = s->slot,
                              .session = s->index,
                              .epoch = s->epoch});
}

/* The wanted generation is not the session's; `end` is how it ended, when that is known. */
static void answer_lost(
    struct worker_pools *p, const struct worker_pool_event *ev, enum worker_end end)
{
    const struct worker_tomb *t = tomb_find(p, ev->pool, ev->hash, ev->id);
    if (end == WORKER_END_NONE && t != NULL && t->epoch == ev->generation) {
        end = t->end;
    }
    answer(p, ev, WORKER_ANSWER_LOST, 0, end);
}

static void request_known(
    struct worker_pools *p, struct worker_session *s, const struct worker_pool_event *ev)
{
    bool same = s->epoch == ev->generation, ending = s->state == WORKER_SESSION_ENDING;
    if (ev->generation != 0 && (!same || ending)) {
        answer_lost(p, ev, same ? s->end : WORKER_END_NONE);
    } else if (ending && !ev->allocate) {
        answer(p, ev, WORKER_ANSWER_NOT_FOUND, 0, WORKER_END_NONE);
    } else if (s->state == WORKER_SESSION_LIVE) {
        use_now(p, s, ev);
    } else if (ending && (p->drain || p->pools[s->pool].retired)) {
        answer(p, ev, WORKER_ANSWER_UNAVAILABLE, RETRY_MS_MIN, WORKER_END_NONE);
    } else {
        wait_for(p, s, ev, false);
    }
}

void worker_pool_request(struct worker_pools *p, const struct worker_pool_event *ev)
{
    REQUIRE(ev->pool < p->n && ev->id != NULL);
    if (p->frozen) { /* another worker may have the identifier by now, so even "no" would be a claim
                      */
        answer(p, ev, WORKER_ANSWER_UNAVAILABLE, RETRY_MS_MIN, WORKER_END_NONE);
        return;
    }
    uint32_t i = worker_pool_session_find(p, ev->pool, ev->hash, ev->id);
    if (i != WORKER_NONE) {
        request_known(p, &p->sessions[i], ev);
    } else if (ev->generation != 0) {
        answer_lost(p, ev, WORKER_END_NONE);
    } else if (!ev->allocate) {
        answer(p, ev, WORKER_ANSWER_NOT_FOUND, 0, WORKER_END_NONE);
    } else {
        struct worker_session *s = admit(p, ev);
        if (s != NULL) {
            wait_for(p, s, ev, true);
        }
    }
}

void worker_pool_session_left(struct worker_pools *p, struct worker_session *s)
{
    if (!worker_list_empty(&s->waiters)) {
        return;
    }
    if (s->state == WORKER_SESSION_WAITING) {
        session_drop(p, s);
    } else if (s->state == WORKER_SESSION_CLAIMED && p->cfg.drop_unwanted) {
        worker_pool_session_end(p, s, WORKER_END_EXPIRED);
    }
}

void worker_pool_waiter_timer(struct worker_pools *p, struct worker_waiter *w)
{
    struct worker_session *s = &p->sessions[w->session];
    waiter_answer(p, w, WORKER_ANSWER_TIMEOUT, 0);
    worker_pool_session_left(p, s);
}

void worker_pool_cancel(struct worker_pools *p, uint64_t request)
{
    for (uint32_t i = 0; i < p->cfg.waiters_max; i++) {
        struct worker_waiter *w = &p->waiters[i];
        if (w->session != WORKER_NONE && w->request == request) {
            struct worker_session *s = &p->sessions[w->session];
            w->session = WORKER_NONE;
            sched_wheel_cancel(&p->wheel, &w->timer.node);
            worker_list_remove(&w->link);
            worker_list_append(&p->free_waiters, &w->link);
            worker_pool_session_left(p, s);
            return;
        }
    }
}

void worker_pool_use(struct worker_pools *p, const struct worker_pool_event *ev)
{
    REQUIRE(ev->session < p->cfg.vms_max);
    struct worker_session *s = &p->sessions[ev->session];
    bool runs = s->state == WORKER_SESSION_LIVE || s->state == WORKER_SESSION_FROZEN;
    bool ends = s->state == WORKER_SESSION_ADOPTING && ev->kind == WORKER_EV_END;
    if (ev->epoch == 0 || s->epoch != ev->epoch || !(runs || ends)) {
        return;
    }
    if (ev->kind == WORKER_EV_HOLD) {
        s->holds++;
    } else if (ev->kind == WORKER_EV_RELEASE) {
        REQUIRE(s->holds > 0);
        s->holds--;
        touch(p, s);
    } else if (ev->kind == WORKER_EV_TOUCH) {
        touch(p, s);
    } else {
        worker_pool_session_end(p, s, ev->end);
    }
}

/* --- after a restart of the worker ------------------------------------------------------------ */

static int restore_check(const struct worker_pools *p, const struct worker_pool_restore *r)
{
    if (r->pool >= p->n || r->slot >= p->cfg.vms_max) {
        return BASE_EINVAL;
    }
    if (p->slots[r->slot].state != WORKER_SLOT_FREE) {
        return BASE_EEXISTS;
    }
    if (!r->has_session) {
        return 0;
    }
    if (r->epoch == 0 || r->epoch >= p->cfg.epoch_limit || r->id.len < PROTO_IDENTIFIER_MIN) {
        return BASE_EINVAL;
    }
    if (worker_pool_session_find(p, r->pool, r->hash, &r->id) != WORKER_NONE) {
        return BASE_EEXISTS;
    }
    return worker_list_empty(&p->free_sessions) ? BASE_EFULL : 0;
}

int worker_pool_restore(struct worker_pools *p, const struct worker_pool_event *ev)
{
    const struct worker_pool_restore *r = ev->restore;
    int rc = restore_check(p, r);
    if (rc != 0) {
        return rc;
    }
    struct worker_slot *v = &p->slots[r->slot];
    v->pool = r->pool;
    v->session = WORKER_NONE;
    worker_pool_slot_move(p, v, WORKER_SLOT_ADOPTING);
    if (!r->has_session) {
        return 0;
    }
    struct origin o = {.pool = r->pool, .hash = r->hash, .id = &r->id, .tenant = &r->tenant};
    struct worker_session *s = session_new(p, &o);
    s->state = WORKER_SESSION_ADOPTING;
    s->slot = v->index;
    v->session = s->index;
    s->epoch = r->epoch;
    s->created_ns = r->created_ns < p->now_ns ? r->created_ns : p->now_ns;
    s->recreated = r->recreated;
    /* The row may be older than the last use by as much as touch() lets it be. */
    uint64_t last = r->last_ns + worker_pool_touch_ns(p, r->pool);
    s->last_ns = last < p->now_ns ? last : p->now_ns;
    s->stored_ns = r->last_ns < s->last_ns ? r->last_ns : s->last_ns;
    if (p->cfg.epoch_next <= r->epoch) {
        p->cfg.epoch_next = r->epoch + 1;
    }
    return 0;
}

int worker_pool_restore_tomb(struct worker_pools *p, const struct worker_pool_event *ev)
{
    const struct worker_pool_restore *r = ev->restore;
    if (r->pool >= p->n || r->id.len < PROTO_IDENTIFIER_MIN || (unsigned)r->end >= WORKER_END_MAX) {
        return BASE_EINVAL;
    }
    struct worker_tomb *t = tomb_put(p, r->pool, r->hash, &r->id);
    if (t == NULL) {
        return BASE_EFULL;
    }
    t->epoch = r->epoch > t->epoch ? r->epoch : t->epoch;
    t->end = r->end;
    if (p->cfg.epoch_next <= r->epoch && r->epoch < p->cfg.epoch_limit) {
        p->cfg.epoch_next = r->epoch + 1;
    }
    return 0;
}
