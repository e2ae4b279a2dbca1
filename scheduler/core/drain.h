#pragma once
#include "scheduler/core/env.h"

/* Leaving in good order: no new sessions; weight 0, so that one view hands the directory seats
 * over; sessions end by cooldown, or when the grace is over; then the lease is given back. The
 * worker answers until a view without it arrives, because the new groups may still ask it.
 *
 * Who stays does all that but give the lease back: out of service, and back when it is told so. */

enum sched_drain_phase {
    SCHED_DRAIN_OFF,
    SCHED_DRAIN_SESSIONS, /* waiting for sessions to end */
    SCHED_DRAIN_LEAVE,    /* lease given back, waiting for the view without us */
    SCHED_DRAIN_DONE,     /* not a member any more, does not come back */
};

struct sched_drain {
    uint8_t phase;        /* enum sched_drain_phase */
    bool stay;            /* SESSIONS: for ever, or until stop() */
    uint64_t deadline_ns; /* sessions are stopped from then on */
    uint64_t again_ns;
};

/* grace_ms SCHED_NEVER_MS: sessions end by themselves. Again while it drains: replaces what was
 * said before. */
void sched_drain_start(
    struct sched_drain *d, const struct sched_env *e, uint32_t grace_ms, bool stay);

/* Back in service. False when it is too late: the lease was given back. */
bool sched_drain_stop(struct sched_drain *d);

/* sessions: places in use. True when sessions are to be stopped now. */
bool sched_drain_tick(struct sched_drain *d, struct sched_env *e, uint32_t sessions);

/* A view without this worker was installed. True when it must not come back. */
bool sched_drain_removed(struct sched_drain *d);

/* The lease was given back: grants that are still under way mean nothing. */
static inline bool sched_drain_left(const struct sched_drain *d)
{
    return d->phase >= SCHED_DRAIN_LEAVE;
}

static inline bool sched_drain_on(const struct sched_drain *d)
{
    return d->phase != SCHED_DRAIN_OFF;
}
