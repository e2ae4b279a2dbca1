#include "scheduler/core/drain.h"

#include "scheduler/core/mutant.h"

enum { AGAIN_MS = 500 };

void sched_drain_start(
    struct sched_drain *d, const struct sched_env *e, uint32_t grace_ms, bool stay)
{
    if (d->phase <= SCHED_DRAIN_SESSIONS) {
        d->phase = SCHED_DRAIN_SESSIONS;
        d->stay = stay;
        d->deadline_ns = grace_ms == SCHED_NEVER_MS ? UINT64_MAX : e->now_ns + SCHED_MS(grace_ms);
    }
}

bool sched_drain_stop(struct sched_drain *d)
{
    if (d->phase > SCHED_DRAIN_SESSIONS) {
        return false;
    }
    d->phase = SCHED_DRAIN_OFF;
    return true;
}

/* The last word of this incarnation. It must hold whatever happens to the process, because copies
 * of it may arrive late: so a process that starts from now on is the next incarnation. */
static void leave(struct sched_env *e)
{
    if (MUTANT(42)) {
        return;
    }
    sched_fx_store(e->fx, SCHED_ROW_META)->num = e->me.inc + 1;
    e->lease_ns = 0;
    (void)sched_fx_add(e->fx, SCHED_FX_PAGE); /* all zero: nothing runs here any more */
}

bool sched_drain_tick(struct sched_drain *d, struct sched_env *e, uint32_t sessions)
{
    const struct sched_member *m = sched_view_find(e->view, e->me.node);
    if (d->phase == SCHED_DRAIN_SESSIONS && !d->stay && sessions == 0 && sched_env_member(e) &&
        m->weight == 0) {
        d->phase = SCHED_DRAIN_LEAVE;
        leave(e);
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
