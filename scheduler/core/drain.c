#include "scheduler/core/drain.h"

enum { AGAIN_MS = 500 };

void sched_drain_start(struct sched_drain *d, const struct sched_env *e, uint32_t grace_ms)
{
    if (d->phase == SCHED_DRAIN_OFF) {
        d->phase = SCHED_DRAIN_SESSIONS;
        d->deadline_ns = e->now_ns + SCHED_MS(grace_ms);
    }
}

bool sched_drain_tick(struct sched_drain *d, struct sched_env *e, uint32_t sessions)
{
    const struct sched_member *m = sched_view_find(e->view, e->me.node);
    if (d->phase == SCHED_DRAIN_SESSIONS && sessions == 0 && sched_env_member(e) &&
        m->weight == 0) {
        d->phase = SCHED_DRAIN_LEAVE;
    }
    if (d->phase == SCHED_DRAIN_LEAVE && e->now_ns >= d->again_ns) {
        d->again_ns = e->now_ns + SCHED_MS(AGAIN_MS);
        for (uint32_t i = 0; i < e->cfg->n_voters; i++) {
            sched_fx_send(e->fx, SCHED_MSG_RELINQ, e->cfg->voters[i])->grant.inc = e->me.inc;
        }
    }
    return d->phase == SCHED_DRAIN_SESSIONS && e->now_ns >= d->deadline_ns;
}

bool sched_drain_removed(struct sched_drain *d)
{
    if (d->phase != SCHED_DRAIN_OFF) {
        d->phase = SCHED_DRAIN_DONE;
    }
    return d->phase == SCHED_DRAIN_DONE;
}
