#pragma once
#include "scheduler/core/creg.h"

/* A pool's maximum, which is cluster-wide, by escrow: hosts hold permits, a session takes one, and
 * the permits that all hosts hold together are never more than the maximum.
 *
 * Who holds how many is a table, a CASPaxos register on the voters: they survive any worker, and
 * they are the ones who know which incarnations are dead for ever. What those held is free again.
 * A few registers are there from the beginning, each for some of the pools, whatever pools there
 * will be: so one that was lost is known to be lost.
 *
 * The maxima are in the table, too, with the version of the catalogue that they are from: a voter
 * that has an older catalogue goes by the table. A smaller maximum takes nothing from anybody.
 *
 * A host never asks for "more", it says how many it wants to hold, with a number that grows: so a
 * request can be repeated and can come late. It stays below the smaller of what it holds and what
 * it wants until the answer comes: so whatever the table says meanwhile is not less than it uses.
 */

enum { SCHED_QUOTA_WANTS_MAX = 64 };

struct sched_quota_table {
    uint64_t version; /* of the maxima */
    uint32_t n, cap;  /* entries, sorted by pool, node and incarnation */
    struct sched_quota_entry *e;
};

struct sched_quota_want {
    uint32_t pool;
    struct sched_host host;
    uint32_t permits;
    uint64_t seq;
    bool in_op; /* the value that is being proposed has it */
};

/* What a voter's step is about. */
struct sched_quota_env {
    struct sched_creg_env voter;
    const struct sched_view *known;
    uint64_t version; /* of the catalogue that it knows */
    uint32_t n_pools;
    const struct sched_pool_max *pools;
};

struct sched_quota_keep {
    uint32_t reg; /* number of the register */
    struct sched_creg vote;
    struct sched_quota_table acc, val;
    uint64_t clean_ns;
    uint32_t n_wants;
    struct sched_quota_want wants[SCHED_QUOTA_WANTS_MAX];
};

void sched_quota_keep_init(
    struct sched_quota_keep *k, const struct sched_cfg *cfg, uint32_t reg, struct sched_mem *mem);
void sched_quota_keep_restore(struct sched_quota_keep *k, const struct sched_row *row);

/* QWANT from hosts, the others from voters. */
void sched_quota_keep_msg(
    struct sched_quota_keep *k, const struct sched_quota_env *e, const struct sched_msg *m);
void sched_quota_keep_tick(struct sched_quota_keep *k, const struct sched_quota_env *e);
uint64_t sched_quota_keep_due_ns(const struct sched_quota_keep *k);
