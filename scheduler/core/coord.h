#pragma once
#include "scheduler/core/reg.h"
#include "scheduler/core/sess.h"
#include "scheduler/core/spill.h"

/* The coordinator: finds or makes the session of a key by writing the key's register.
 *
 *   PREPARE -> [FENCE] -> [RESERVE] -> ACCEPT -> BIND -> route told
 *      |                                 ^
 *      +-- skipped by seat 0 at its first touch of the key in an era (one-round claim)
 *
 * Who only looks for a session is told that there is none when a majority of the group knows of
 * none, or when the host of the last one has promised that it is gone: PREPARE, [FENCE]. Nothing is
 * claimed then.
 *
 * Any member of the group may coordinate; what another one left half done is finished, not undone:
 * BIND can be repeated. Only a claim that may be older than what is forgotten is undone: FENCE. A
 * record is replaced only when its host is not in the view, or when the host itself has promised
 * that its epoch will never run (UNBOUND, GONE). */

enum sched_op_kind {
    SCHED_OP_FREE,
    SCHED_OP_OPEN, /* a gateway wants the session */
    SCHED_OP_END,  /* its host has destroyed the session */
    SCHED_OP_REAP, /* a replica believes that the session should be over */
};

enum sched_op_phase {
    SCHED_OP_WAIT, /* backing off before the next ballot */
    SCHED_OP_PREPARE,
    SCHED_OP_FENCE,
    SCHED_OP_RESERVE,
    SCHED_OP_ACCEPT,
    SCHED_OP_BIND,
};

struct sched_waiter {
    struct sched_asker who;
    sched_epoch gone;
    bool has_exec;
    struct sched_exec exec;
};

struct sched_op {
    uint8_t kind, phase; /* enum sched_op_kind, enum sched_op_phase */
    uint8_t seat, votes; /* ours; seats that promised resp. accepted, as bits */
    uint8_t tries;
    bool look;     /* OPEN: all who wait only look */
    uint8_t asked; /* rounds of looking for a place elsewhere */
    uint32_t next, part, min_round;
    uint64_t id;
    struct sched_key key;
    struct sched_group group;
    sched_epoch ballot, best_ballot;
    sched_epoch forgotten; /* a member of the group has forgotten epochs up to this one */
    sched_epoch unstarted; /* its host says that this one never ran; 0: none */
    sched_epoch fenced;    /* its host has promised that it is gone; END: the epoch to end */
    sched_epoch idle;      /* its host says that nothing has run in this one; 0: none */
    struct sched_rec best, val;
    struct sched_host place; /* where the reservation is held; inc 0: none */
    struct sched_load place_load;
    uint8_t awaited; /* RESERVE: answers that are outstanding */
    uint64_t resv;
    uint64_t deadline_ns, resend_ns;
    uint32_t n_waiters;
    struct sched_waiter waiters[SCHED_WAITERS_MAX];
};

struct sched_coord {
    struct sched_reg *reg;
    struct sched_sess *sess;
    struct sched_spill spill;
    struct sched_op *ops;
    struct sched_map by_key, by_id;
    uint32_t free, used;
};

void sched_coord_init(struct sched_coord *c, const struct sched_cfg *cfg, struct sched_mem *mem);
void sched_coord_clear(struct sched_coord *c, const struct sched_cfg *cfg);

void sched_coord_open(struct sched_coord *c, struct sched_env *e, const struct sched_msg *msg);
void sched_coord_end(struct sched_coord *c, struct sched_env *e, const struct sched_msg *msg);
void sched_coord_reap(struct sched_coord *c, struct sched_env *e, struct sched_key key);

/* PROM, ACCED, NACK, RESERVED, BOUND, UNBOUND, GONE, ALIVE. */
void sched_coord_reply(struct sched_coord *c, struct sched_env *e, const struct sched_msg *msg);

/* A view was installed: operations on partitions that moved are given up. */
void sched_coord_review(struct sched_coord *c, struct sched_env *e);
/* Permits have come, or were refused: who waits for one goes on. */
void sched_coord_permits(struct sched_coord *c, struct sched_env *e);

void sched_coord_tick(struct sched_coord *c, struct sched_env *e);
