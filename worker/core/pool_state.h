#pragma once
#include "proto/base/container.h"
#include "scheduler/core/wheel.h"
#include "worker/core/fair.h"
#include "worker/core/list.h"
#include "worker/core/pool.h"
#include "worker/core/quota.h"

/* State of the pool manager. The shell and the tests read it (to write rows, to answer lists); only
 * worker/core/pool*.c writes it. */

enum {
    WORKER_POOL_BROKEN_AFTER = 3,      /* failed starts in a row before requests are refused */
    WORKER_POOL_CLAIMS_MAX = 3,        /* failed claims before a request is refused */
    WORKER_POOL_EPOCH_BLOCK = 1 << 16, /* epochs set aside in one synced write */
};

enum worker_timer_kind {
    WORKER_TIMER_SLOT,
    WORKER_TIMER_SESSION,
    WORKER_TIMER_WAITER,
    WORKER_TIMER_POOL
};

struct worker_timer {
    struct sched_wheel_node node;
    enum worker_timer_kind kind;
};

struct worker_slot {
    struct worker_list link;   /* free list or the pool's ready list */
    struct worker_timer timer; /* STARTING: the start has failed */
    uint32_t index;
    uint32_t pool;
    uint32_t session; /* WORKER_NONE: belongs to nobody */
    enum worker_slot_state state;
};

struct worker_session {
    struct worker_list link;      /* free list */
    struct worker_fair_item wait; /* in the pool's queue while WAITING */
    struct worker_list waiters;
    struct worker_timer timer; /* cooldown and alive limit */
    uint32_t chain;            /* next one in the hash bucket */
    uint32_t index;
    uint32_t pool;
    uint32_t slot; /* WORKER_NONE while WAITING */
    uint64_t hash;
    struct proto_identifier id;
    struct proto_tenant tenant; /* pays for it */
    enum worker_session_state state;
    proto_epoch epoch; /* 0 while WAITING */
    uint64_t created_ns;
    uint64_t last_ns;   /* last use */
    uint64_t stored_ns; /* the last use that its row has */
    uint32_t holds;
    uint32_t attempts; /* claims that failed */
    enum worker_end end;
    enum worker_end recreated; /* how the identifier's session before this one ended */
};

struct worker_waiter {
    struct worker_list link; /* free list or the session's waiters */
    struct worker_timer timer;
    uint32_t session;
    bool fresh;
    bool allocate;
    uint64_t request;
    uint64_t since_ns;
    struct proto_tenant tenant;        /* who asked: pays if the session is made for this one */
    enum worker_quota_verdict verdict; /* of an answer QUOTA */
};

struct worker_tomb {
    struct worker_list link; /* free list or by age */
    uint32_t chain;
    uint32_t index;
    uint32_t pool;
    uint64_t hash;
    struct proto_identifier id;
    proto_epoch epoch;
    enum worker_end end;
    bool used;
};

struct worker_pool {
    struct worker_pool_spec spec;
    struct worker_fair queue;              /* sessions that wait for a microVM, tenants in turns */
    struct worker_list ready;              /* slots, oldest first */
    struct worker_timer timer;             /* a start is held back until then */
    uint32_t slots[WORKER_SLOT_STATE_END]; /* slots by state; FREE is not counted */
    uint32_t sessions;                     /* records, all states */
    uint32_t queued;
    uint32_t failures;     /* starts that failed since the last good one */
    uint64_t backoff_ns;   /* no start before */
    uint64_t replenish_ns; /* no start ahead of requests before */
    enum worker_pool_template template;
    bool retired;    /* until it is added again */
    char fault[120]; /* last failure, for people */
};

struct worker_pools {
    struct worker_pool_config cfg;
    struct sched_wheel wheel;
    struct worker_quota *quota; /* the shell may count requests and executions in it */
    uint64_t now_ns;
    uint32_t pools_max;
    uint32_t n;    /* pools */
    uint32_t turn; /* pool that is looked at first for the next start */
    uint32_t sessions_n;
    uint32_t starting;
    uint32_t ending;
    uint32_t free_n; /* slots */
    bool drain;
    bool frozen;
    bool epochs_asked;
    bool more; /* a tick ended at its budget */
    struct worker_list free_slots, free_sessions, free_waiters, free_tombs;
    struct worker_list limbo_sessions, limbo_tombs; /* freed in this step, fields still readable */
    struct worker_list tombs_by_age;
    struct worker_pool *pools;
    struct worker_slot *slots;
    struct worker_session *sessions;
    struct worker_waiter *waiters;
    struct worker_tomb *tombs;
    uint32_t *session_buckets, *tomb_buckets;
    uint32_t session_mask, tomb_mask;
    struct worker_pool_fx *fx;
    uint32_t fx_max, fx_n, fx_at;
};

/* For the shell. */
uint32_t worker_pool_find(const struct worker_pools *p, const char *name); /* or WORKER_NONE */
uint32_t worker_pool_session_find(
    const struct worker_pools *p, uint32_t pool, uint64_t hash, const struct proto_identifier *id);
const char *worker_pool_fault(const struct worker_pools *p, uint32_t pool);
/* When it ends if nothing happens any more; UINT64_MAX: no limit is set. Boot time. */
uint64_t worker_pool_expires_ns(const struct worker_pools *p, const struct worker_session *s);
/* The session waits no more; served: it got its microVM, its tenant's turn counts. */
void worker_pool_unqueue(struct worker_pools *p, struct worker_session *s, bool served);
/* How much older than the real last use a stored one may be. */
uint64_t worker_pool_touch_ns(const struct worker_pools *p, uint32_t pool);
/* A retired pool of which no session and no microVM is left; WORKER_NONE. Forgetting it also
 * forgets what is remembered of its ended sessions (their rows are the caller's to delete), and
 * makes room for a pool of another name. */
uint32_t worker_pool_spent(const struct worker_pools *p);
void worker_pool_forget(struct worker_pools *p, uint32_t pool);
/* No pool can have one more session: what is full is the worker. */
bool worker_pool_all_full(const struct worker_pools *p);
/* No epoch is left for a new session: more were asked for, and could not be set aside. */
static inline bool worker_pool_numberless(const struct worker_pools *p)
{
    return p->cfg.epoch_next >= p->cfg.epoch_limit;
}
/* True when no slot is taken. */
bool worker_pool_idle(const struct worker_pools *p);
/* Recounts everything; NULL, or what is wrong. For tests: O(slots + sessions). */
const char *worker_pool_check(const struct worker_pools *p);

/* Inside the core (pool_vm.c, pool_session.c). */
void worker_pool_fx_add(struct worker_pools *p, const struct worker_pool_fx *fx);
void worker_pool_fx_slot(struct worker_pools *p, enum worker_pool_fx_kind kind, uint32_t slot);
void worker_pool_fx_session(
    struct worker_pools *p, enum worker_pool_fx_kind kind, const struct worker_session *s);

void worker_pool_slot_move(
    struct worker_pools *p, struct worker_slot *v, enum worker_slot_state to);
void worker_pool_slot_event(struct worker_pools *p, const struct worker_pool_event *ev);
void worker_pool_slot_kill(struct worker_pools *p, struct worker_slot *v);
void worker_pool_slot_freeze(struct worker_pools *p, struct worker_slot *v, bool freeze);
void worker_pool_slot_timer(struct worker_pools *p, struct worker_slot *v);
void worker_pool_template(struct worker_pools *p, const struct worker_pool_event *ev);
/* Ends instances that nobody has, down to what the pool may have of them. */
void worker_pool_trim(struct worker_pools *p, uint32_t pool, uint32_t keep);
void worker_pool_unadopt(struct worker_pools *p, uint32_t pool);
void worker_pool_pump(struct worker_pools *p); /* hands out ready instances, starts new ones */

void worker_pool_request(struct worker_pools *p, const struct worker_pool_event *ev);
void worker_pool_cancel(struct worker_pools *p, uint64_t request);
void worker_pool_use(struct worker_pools *p, const struct worker_pool_event *ev);
void worker_pool_waiter_timer(struct worker_pools *p, struct worker_waiter *w);
void worker_pool_session_timer(struct worker_pools *p, struct worker_session *s);
void worker_pool_session_end(struct worker_pools *p, struct worker_session *s, enum worker_end end);
void worker_pool_session_gone(struct worker_pools *p, struct worker_session *s);
void worker_pool_session_live(struct worker_pools *p, struct worker_session *s);
void worker_pool_session_unclaim(struct worker_pools *p, struct worker_session *s);
void worker_pool_session_claim(
    struct worker_pools *p, struct worker_session *s, struct worker_slot *v);
/* One that waited for it is answered: maybe it is dropped. */
void worker_pool_session_left(struct worker_pools *p, struct worker_session *s);
/* Sessions of the pool end when it says so now. */
void worker_pool_sessions_arm(struct worker_pools *p, uint32_t pool);
void worker_pool_tombs_forget(struct worker_pools *p, uint32_t pool);
/* Answers those that wait for it UNAVAILABLE. */
void worker_pool_session_refuse(struct worker_pools *p, struct worker_session *s);
/* Answers all that wait in the pool's queue UNAVAILABLE and forgets their sessions. */
void worker_pool_queue_refuse(struct worker_pools *p, struct worker_pool *pool);
int worker_pool_restore(struct worker_pools *p, const struct worker_pool_event *ev);
int worker_pool_restore_tomb(struct worker_pools *p, const struct worker_pool_event *ev);
