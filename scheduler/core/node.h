#pragma once
#include "scheduler/core/cool.h"
#include "scheduler/core/drain.h"
#include "scheduler/core/hand.h"
#include "scheduler/core/journal.h"
#include "scheduler/core/lease.h"

/* A worker's share of the cluster: lease holder, directory replica, coordinator, host. This module
 * only hands events to the modules that decide, and installs views. */

enum sched_event_kind {
    SCHED_EV_TICK,
    SCHED_EV_MSG,
    SCHED_EV_VM_UP,   /* the session's microVM runs (after VM_START, or found after a restart) */
    SCHED_EV_VM_DOWN, /* it does not exist: destroyed, died, failed to start, not found */
    SCHED_EV_VM_DONE, /* an execution ended, or the guest has never seen it and never will */
    SCHED_EV_DELETE,  /* a client ends the session of a key */
    SCHED_EV_DRAIN,
    SCHED_EV_UNDRAIN,
    SCHED_EV_SHUT, /* the owner cannot start sessions of a pool for grace_ms: others shall */
};

struct sched_event {
    uint8_t kind; /* enum sched_event_kind */
    uint64_t now_ns;
    const struct sched_msg *msg; /* MSG; messages to itself come back this way too, at once */
    struct sched_fx_vm vm;       /* VM_*, DELETE (key), SHUT (key: any of the pool) */
    uint8_t outcome;             /* VM_DONE: enum sched_outcome */
    uint32_t grace_ms;           /* DRAIN; SCHED_NEVER_MS: sessions are left alone. SHUT */
    bool all;                    /* SHUT: of any pool */
    bool idle;                   /* VM_DOWN: nothing has run in the session, ever */
    bool stay;                   /* DRAIN: a member without sessions, until UNDRAIN */
};

struct sched_node {
    const struct sched_cfg *cfg;
    struct sched_env env;
    struct sched_lease lease;
    struct sched_reg reg;
    struct sched_sess sess;
    struct sched_journal journal;
    struct sched_hand hand;
    struct sched_coord coord;
    struct sched_cool cool;
    struct sched_drain drain;
    struct sched_view no_view;
    uint64_t work_ns, house_ns; /* next ticks */
    bool told_unsettled;        /* the last lease request listed buckets */
    uint16_t zone;
    uint8_t weight;
    struct sched_speaks speaks;
};

struct sched_node_boot {
    uint64_t node;
    uint32_t inc; /* stored; 1 for a new node. Higher than any before when the run store is lost */
    uint32_t run; /* number of this process start, stored, never used before by this node */
    uint64_t seed;
    uint64_t now_ns;
    uint16_t zone;
    uint8_t weight;
    struct sched_speaks speaks; /* max 0: all that this build does */
    struct sched_placer placer;
};

size_t sched_node_size(const struct sched_cfg *cfg);
void sched_node_init(struct sched_node *n, const struct sched_cfg *cfg, struct sched_mem *mem,
    const struct sched_node_boot *boot);

/* After init, before the first step: each row of the store (VIEW first, then the rest), then
 * resume. The shell then reports VM_UP or VM_DOWN for every stored session, and VM_DONE for every
 * stored execution that has ended meanwhile (OK), or that the guest denies to have seen after its
 * channel was reset (FAILED: it will not start any more). */
void sched_node_restore(struct sched_node *n, const struct sched_row *row);
void sched_node_resume(struct sched_node *n);

/* What the host of a record says about it, without a step. */
enum sched_node_says {
    SCHED_NODE_HERE,     /* the session runs here under this epoch, and may */
    SCHED_NODE_NOT_NOW,  /* no lease, or it starts or stops: ask again */
    SCHED_NODE_NOT_HERE, /* nothing will ever run here under this epoch any more */
    SCHED_NODE_EARLIER,  /* it was bound to an earlier life of this host: what ran there is unknown
                          */
};
enum sched_node_says sched_node_check(const struct sched_node *n, uint64_t now_ns,
    struct sched_key key, sched_epoch epoch, uint32_t inc);

/* The pools of the catalogue, of which a newer version has been heard; see sched_permits_pools().
 */
void sched_node_pools(struct sched_node *n, uint64_t version, bool limited,
    const struct sched_pool_max *pools, uint32_t count);

/* A view in a VIEW message may be kept: it must live until a later step has installed another one
 * (n->env.view tells which). fx must have been cleared. */
void sched_node_step(struct sched_node *n, const struct sched_event *ev, struct sched_fx *fx);
uint64_t sched_node_deadline_ns(const struct sched_node *n);
