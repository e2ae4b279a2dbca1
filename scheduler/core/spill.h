#pragma once
#include "scheduler/core/env.h"

/* Where a new session goes when its home should not take it. The home takes it while it has a
 * place and is not loaded by more than a quarter, or a sixteenth of its places, above the mean of
 * the cluster (bounded load, so that popular partitions do not pile up). The mean is as old as the
 * last grant: what a member has taken since counts only when it is more than a fourth of its
 * places, because in a burst all take some, and the way to another member is three rounds instead
 * of one. Otherwise two members with room are asked at once and
 * the better one is kept. Candidates come with the grants: at most renew_ms old and different for
 * every asker, so that not everybody runs to the same one. */

enum { SCHED_SPILL_CHOICES = 2, SCHED_SPILL_ROUNDS = 3 };

struct sched_spill {
    uint32_t mean; /* sessions per member, rounded up; 0: unknown */
    uint32_t then; /* sessions here when that was told */
    uint32_t n;
    struct sched_load samples[SCHED_SPILL_SAMPLES_MAX];
};

/* Takes over what a grant says. active: places in use here now. */
void sched_spill_learn(struct sched_spill *s, const struct sched_m_grant *m, uint32_t active);

/* Should the home take another session itself? places: all it has, active: in use. */
bool sched_spill_here(const struct sched_spill *s, uint32_t active, uint32_t places);

/* Up to SCHED_SPILL_CHOICES different members other than this one, sampled ones first, else random
 * ones; all are members of the view with a weight. Returns how many. */
uint32_t sched_spill_pick(
    const struct sched_spill *s, struct sched_env *e, struct sched_host out[SCHED_SPILL_CHOICES]);

/* Is a reservation at a member with this load better than one at the other? */
static inline bool sched_spill_better(const struct sched_load *a, const struct sched_load *b)
{
    return a->ready != b->ready ? a->ready > b->ready : a->active < b->active;
}
