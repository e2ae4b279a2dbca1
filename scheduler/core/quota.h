#pragma once
#include "scheduler/core/env.h"

/* A pool's maximum, which is cluster-wide, by escrow: hosts hold permits, a session takes one, and
 * the permits that all hosts hold together are never more than the maximum.
 *
 * Who holds how many is one table, a CASPaxos register on the voters: they survive any worker, and
 * they are the ones who know which incarnations are dead for ever. What those held is free again.
 *
 * A host never asks for "more", it says how many it wants to hold, with a number that grows: so a
 * request can be repeated and can come late. It stays below the smaller of what it holds and what
 * it wants until the answer comes: so whatever the table says meanwhile is not less than it uses.
 */

enum { SCHED_QUOTA_WANTS_MAX = 64 };

/* ---- the host ---- */

struct sched_quota {
    uint32_t limit; /* sessions and reservations that may be here */
    uint32_t want;  /* of the request that waits for its answer */
    uint32_t voter; /* who is asked */
    bool waiting;
    uint64_t seq;
    uint64_t due_ns;  /* waiting: ask again. Else: not before this time */
    uint64_t idle_ns; /* since when permits are idle; 0: none is */
};

/* Without a quota the limit is UINT32_MAX. */
void sched_quota_init(struct sched_quota *q, const struct sched_cfg *cfg);

/* used: permits in use; missed: one more would have been taken. True when it has asked because of
 * that, or need not. */
bool sched_quota_tick(struct sched_quota *q, struct sched_env *e, uint32_t used, bool missed);
void sched_quota_have(struct sched_quota *q, const struct sched_env *e, const struct sched_msg *m);

/* ---- the voter ---- */

struct sched_quota_table {
    uint32_t n, cap; /* entries, sorted by node and incarnation */
    struct sched_quota_entry *e;
};

struct sched_quota_want {
    struct sched_host host;
    uint32_t permits;
    uint64_t seq;
    bool in_op; /* the value that is being proposed has it */
};

/* What a voter's step is about. */
struct sched_quota_env {
    const struct sched_cfg *cfg;
    struct sched_fx *fx;
    const struct sched_view *known;
    struct base_hash_rng *rng;
    uint64_t now_ns;
    uint32_t index; /* of this voter */
};

enum sched_quota_phase {
    SCHED_QUOTA_IDLE,
    SCHED_QUOTA_WAIT, /* before the next ballot */
    SCHED_QUOTA_PROMISES,
    SCHED_QUOTA_ACCEPTS,
};

struct sched_quota_keep {
    uint32_t pool, max;
    uint64_t promised, accepted;
    struct sched_quota_table acc, val;
    bool lost; /* the store was lost: it asks the others and does not vote until then */
    uint8_t told;
    uint64_t nonce;
    uint8_t phase; /* enum sched_quota_phase, of this voter's proposal */
    uint8_t votes, tries;
    uint64_t ballot, best;
    uint64_t resend_ns, deadline_ns, clean_ns;
    uint32_t n_wants;
    struct sched_quota_want wants[SCHED_QUOTA_WANTS_MAX];
};

void sched_quota_keep_init(
    struct sched_quota_keep *k, const struct sched_cfg *cfg, uint32_t pool, struct sched_mem *mem);
void sched_quota_keep_restore(struct sched_quota_keep *k, const struct sched_row *row);

/* QWANT from hosts, the others from voters. */
void sched_quota_keep_msg(
    struct sched_quota_keep *k, const struct sched_quota_env *e, const struct sched_msg *m);
void sched_quota_keep_tick(struct sched_quota_keep *k, const struct sched_quota_env *e);
uint64_t sched_quota_keep_due_ns(const struct sched_quota_keep *k);
