#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/ids.h"
#include "proto/limits.h"
#include "worker/core/quota.h"

/* The pool manager of one worker: which microVM is started, which one a request gets, which session
 * ends when. Sans I/O: worker_pool_step() takes one event with its time and queues effects, the
 * shell carries them out in order before the next event. No clock, no heap, no randomness.
 *
 * A microVM occupies a slot (a number below vms_max, the engine's slot):
 *
 *            start            ready            claim            claimed
 *     FREE ---------> STARTING -----> READY ---------> CLAIMED ---------> LIVE <-----> FROZEN
 *      ^  \ restore                     ^                 |                 |             |
 *      |   `------> ADOPTING -----------+---------------------------------->|             |
 *      |               |                |                 |                 v             v
 *      `---------------+----------------+-----------------+------------> ENDING <---------'
 *                                    gone
 *
 * A session is an identifier's claim on a microVM. It waits for one (WAITING), is being given one
 * (CLAIMED), runs (LIVE, FROZEN) and ends with its microVM (ENDING). The record of an identifier is
 * there from its first request until its microVM is gone, so an identifier never has two microVMs.
 *
 * Rules. Sessions of a pool, whatever their state, are never more than sessions_max. A ready
 * instance is made ahead of requests, at most starts_max microVMs start at a time on the machine,
 * those that a request waits for first, pools in turn. A microVM that failed is never handed out.
 * A session ends `cooldown_ms` after its last use and never while a hold (request, execution) is
 * open. Epochs only grow. A session counts for the tenant whose request made it, who may have only
 * so many; new sessions of different tenants get microVMs in turns (deficit round robin), whatever
 * number of them each has waiting. While frozen every request is refused, nothing starts, and a
 * start that was under way has its whole time again after the thaw; cooldowns run on. */

#define WORKER_NONE UINT32_MAX

enum worker_lifecycle { WORKER_LIFECYCLE_TIMED, WORKER_LIFECYCLE_ON_EXIT };

struct worker_pool_spec {
    char name[PROTO_POOL_NAME_MAX + 1];
    uint32_t sessions_max;
    uint32_t ready_target; /* instances kept ready; fewer when sessions_max leaves no room */
    enum worker_lifecycle lifecycle;
    uint32_t cooldown_ms;                   /* TIMED */
    uint32_t alive_ms_max;                  /* 0: no limit */
    struct worker_quota_limits whole, each; /* of the pool, of each tenant in it */
};

struct worker_pool_config {
    uint32_t vms_max;        /* microVMs of this machine, all pools and states */
    uint32_t waiters_max;    /* requests that wait for a microVM */
    uint32_t tombs_max;      /* ended sessions whose epoch and end are remembered */
    uint32_t starts_max;     /* microVMs starting at a time; 0 means 2 */
    uint32_t start_ms_max;   /* a start that takes longer has failed; 0 means 60000 */
    uint32_t wait_ms_max;    /* limit for requests without a deadline; 0 means 60000 */
    uint32_t replenish_ms;   /* replacements start this long after a claim, off its path */
    uint32_t touch_ms;       /* smallest distance of stored last uses; 0 means 5000 */
    proto_epoch epoch_next;  /* first epoch to use; see WORKER_FX_EPOCHS */
    proto_epoch epoch_limit; /* the first one that may not be used yet */
    uint32_t counted_max;    /* what quotas count beside sessions */
    uint8_t quota_key[16];   /* random */
    struct worker_quota_limits tenant;         /* of each tenant */
    const struct worker_quota_tenant *tenants; /* see struct worker_quota_config */
    uint32_t tenants_n, tenants_max;
    /* A session that nobody waits for any more ends while its microVM is being claimed, too. Else
     * it lives on for who asks again; what a cluster has bound may be somebody else's by then. */
    bool drop_unwanted;
};

enum worker_slot_state {
    WORKER_SLOT_FREE,
    WORKER_SLOT_STARTING,
    WORKER_SLOT_ADOPTING,
    WORKER_SLOT_READY,
    WORKER_SLOT_CLAIMED,
    WORKER_SLOT_LIVE,
    WORKER_SLOT_FROZEN,
    WORKER_SLOT_ENDING,
    WORKER_SLOT_STATE_END,
};

enum worker_session_state {
    WORKER_SESSION_FREE,
    WORKER_SESSION_WAITING,
    WORKER_SESSION_CLAIMED,
    WORKER_SESSION_ADOPTING,
    WORKER_SESSION_LIVE,
    WORKER_SESSION_FROZEN,
    WORKER_SESSION_ENDING,
    WORKER_SESSION_STATE_END,
};

/* Why a session ended. Stored: numbers stay. */
enum worker_end {
    WORKER_END_NONE = 0,
    WORKER_END_EXPIRED = 1, /* cooldown */
    WORKER_END_DELETED = 2, /* by a client */
    WORKER_END_ALIVE = 3,   /* alive_ms_max */
    WORKER_END_EXITED = 4,  /* its main process ended (ON_EXIT) */
    WORKER_END_VM_LOST = 5, /* the microVM died */
    WORKER_END_DRAINED = 6, /* the worker stopped or was drained */
    WORKER_END_RESTART = 7, /* the microVM did not survive a restart of the worker */
    WORKER_END_POOL = 8,    /* its pool was deleted */
    WORKER_END_MAX = 9,
};

/* "expired", "deleted", ... "pool-deleted", as x-warren-recreated has them; "" */
const char *worker_pool_end_text(enum worker_end end);

struct worker_pools; /* worker/core/pool_state.h */

/* Bytes that init needs for n pools; 0 when the configuration is out of range (vms_max 1..65536,
 * waiters_max and tombs_max 1..1048576, pools 1..PROTO_POOLS_MAX, epochs not in order). */
size_t worker_pool_size(const struct worker_pool_config *cfg, uint32_t pools_max);

/* mem: aligned to 8, the caller's, stays until the last use; nothing to deinit. now_ns: boot time.
 * BASE_EINVAL: out of range. BASE_ENOMEM: mem_size is less than worker_pool_size(). */
int worker_pool_init(struct worker_pools **ret, const struct worker_pool_config *cfg,
    uint32_t pools_max, uint64_t now_ns, void *mem, size_t mem_size);

/* Adds a pool, or takes a retired one of that name into service with these numbers. (CHANGE:
 * sessions beyond a smaller maximum live on, ready instances beyond a smaller target end.) Its
 * template comes by an event. BASE_EFULL, BASE_EINVAL (the name, a number out of range). */
int worker_pool_add(
    struct worker_pools *p, const struct worker_pool_spec *spec, uint32_t *ret_pool);

enum worker_pool_event_kind {
    WORKER_EV_TICK,         /* deadline passed */
    WORKER_EV_TEMPLATE,     /* pool, template, renewed, text */
    WORKER_EV_VM_READY,     /* slot */
    WORKER_EV_VM_CLAIMED,   /* slot: the claim was carried out */
    WORKER_EV_VM_DEAD,      /* slot, text, exited: will never serve again; VM_GONE follows */
    WORKER_EV_VM_GONE,      /* slot: nothing of it is left */
    WORKER_EV_FREEZE,       /* the lease ran out: all vCPUs stand still, nothing is promised */
    WORKER_EV_THAW,         /* it is back */
    WORKER_EV_REQUEST,      /* request, pool, hash, id, allocate, generation, deadline_ns */
    WORKER_EV_CANCEL,       /* request: given up while it waited */
    WORKER_EV_HOLD,         /* session, epoch: something more runs in it */
    WORKER_EV_RELEASE,      /* session, epoch: one hold less; counts as use */
    WORKER_EV_TOUCH,        /* session, epoch: use without a hold */
    WORKER_EV_END,          /* session, epoch, end: only what runs or is being adopted */
    WORKER_EV_DRAIN,        /* on: no new session; end_all: the running ones end too */
    WORKER_EV_RESTORE,      /* restore: a row of the store after a restart, before any request */
    WORKER_EV_RESTORE_TOMB, /* restore: an ended session's row */
    WORKER_EV_EPOCHS,       /* epoch: the new limit is stored */
    WORKER_EV_CHANGE,       /* pool, spec (without the name): other numbers, see above */
    WORKER_EV_RETIRE,       /* pool: all that it has ends */
};

enum worker_pool_template {
    WORKER_POOL_TEMPLATE_NONE,
    WORKER_POOL_TEMPLATE_READY,
    WORKER_POOL_TEMPLATE_FAILED
};

/* A microVM (with or without a session), or an ended session, as it was stored. */
struct worker_pool_restore {
    uint32_t pool;
    uint32_t slot;
    bool has_session;
    uint64_t hash;
    struct proto_identifier id;
    struct proto_tenant tenant;
    proto_epoch epoch;
    uint64_t created_ns; /* boot time */
    uint64_t last_ns;
    enum worker_end recreated;
    enum worker_end end;
};

struct worker_pool_event {
    enum worker_pool_event_kind kind;
    uint64_t now_ns; /* CLOCK_BOOTTIME; never goes back */
    uint32_t pool;
    uint32_t slot;
    uint32_t session;
    proto_epoch epoch;
    uint64_t request; /* the shell's name for it */
    uint64_t hash;    /* keyed hash of pool and identifier (placement's) */
    const struct proto_identifier *id;
    struct proto_tenant tenant; /* of a REQUEST */
    bool allocate;
    bool on;
    bool end_all;
    bool renewed;           /* the template is another one: instances of the old one are replaced */
    bool exited;            /* an orderly end by itself, not a loss */
    proto_epoch generation; /* 0, or the only epoch that will do */
    uint64_t deadline_ns;   /* 0: wait_ms_max from now */
    enum worker_end end;
    enum worker_pool_template template;
    const char *text; /* for people; copied */
    const struct worker_pool_restore *restore;
    const struct worker_pool_spec *spec; /* CHANGE */
};

enum worker_answer {
    WORKER_ANSWER_USE,         /* session and epoch; one hold is the request's until RELEASE */
    WORKER_ANSWER_FULL,        /* retry_ms */
    WORKER_ANSWER_QUOTA,       /* the tenant has too many sessions; retry_ms, verdict */
    WORKER_ANSWER_NOT_FOUND,   /* no session, none wanted */
    WORKER_ANSWER_LOST,        /* the wanted generation is gone; end says why when it is known */
    WORKER_ANSWER_TIMEOUT,     /* waited until its deadline */
    WORKER_ANSWER_UNAVAILABLE, /* worker_pool_fault() says why; retry_ms */
};

enum worker_pool_fx_kind {
    WORKER_FX_STORE_SESSION, /* session: write its row */
    WORKER_FX_DROP_SESSION,  /* session: delete the row of its key (its fields are still there) */
    WORKER_FX_STORE_VM,      /* slot */
    WORKER_FX_DROP_VM,       /* slot */
    WORKER_FX_STORE_TOMB,    /* tomb */
    WORKER_FX_DROP_TOMB,     /* tomb: delete the row of its key */
    WORKER_FX_EPOCHS,        /* epoch: store it as the new limit, then send WORKER_EV_EPOCHS */
    WORKER_FX_START,         /* slot, pool, urgent */
    WORKER_FX_CLAIM,         /* slot, session, epoch; after the rows before it are committed */
    WORKER_FX_KILL,          /* slot */
    WORKER_FX_ANSWER,        /* request, answer, session, epoch, retry_ms, end, fresh, waited_ns,
                                verdict */
    WORKER_FX_ENDING,        /* session, epoch, end: what still runs in it has failed */
    WORKER_FX_GONE,          /* session, epoch, end: its microVM is no more */
};

struct worker_pool_fx {
    enum worker_pool_fx_kind kind;
    enum worker_answer answer;
    enum worker_quota_verdict verdict;
    enum worker_end end;
    uint32_t slot; /* also the tomb of *_TOMB */
    uint32_t pool;
    uint32_t session;
    uint32_t retry_ms;
    bool urgent;
    bool fresh; /* this request made the session */
    proto_epoch epoch;
    uint64_t request;
    uint64_t waited_ns;
};

/* Takes one event. All effects of the one before must have been taken. Events about things that are
 * no more are ignored. Returns 0, or for RESTORE* BASE_EINVAL, BASE_EEXISTS or BASE_EFULL when the
 * row cannot be: nothing has changed then, the microVM is the caller's to end. */
int worker_pool_step(struct worker_pools *p, const struct worker_pool_event *ev);

/* Next effect in order; false when there is none. */
bool worker_pool_take(struct worker_pools *p, struct worker_pool_fx *ret);

/* When the next TICK is due (UINT64_MAX: never). */
uint64_t worker_pool_deadline_ns(const struct worker_pools *p);
