#include "worker/core/drain.h"

#include "proto/base/clock.h"
#include "proto/base/err.h"

unsigned worker_drain_start(
    struct worker_drain *d, const struct worker_drain_order *order, uint64_t now_ns)
{
    *d = (struct worker_drain){.phase = WORKER_DRAIN_DRAINING,
        .order = *order,
        .deadline_ns = UINT64_MAX,
        .ended = order->policy == WORKER_DRAIN_END};
    if (order->policy == WORKER_DRAIN_DEADLINE) {
        d->deadline_ns = now_ns + order->grace_ms * BASE_NS_PER_MS;
    }
    return WORKER_DRAIN_DO_STOP | (d->ended ? WORKER_DRAIN_DO_END : 0U);
}

int worker_drain_stop(struct worker_drain *d, unsigned *ret_do)
{
    *ret_do = 0;
    if (d->phase == WORKER_DRAIN_DRAINED && d->order.leave) {
        return BASE_ESTATE;
    }
    if (d->phase != WORKER_DRAIN_OFF) {
        *d = (struct worker_drain){.phase = WORKER_DRAIN_OFF, .deadline_ns = UINT64_MAX};
        *ret_do = WORKER_DRAIN_DO_START | WORKER_DRAIN_DO_TELL;
    }
    return 0;
}

unsigned worker_drain_look(struct worker_drain *d, bool empty, uint64_t now_ns)
{
    if (d->phase != WORKER_DRAIN_DRAINING) {
        return 0;
    }
    if (empty) {
        d->phase = WORKER_DRAIN_DRAINED;
        return WORKER_DRAIN_DO_TELL | (d->order.leave ? WORKER_DRAIN_DO_LEAVE : 0U);
    }
    if (!d->ended && now_ns >= d->deadline_ns) {
        d->ended = true;
        return WORKER_DRAIN_DO_END;
    }
    return 0;
}

uint64_t worker_drain_deadline_ns(const struct worker_drain *d)
{
    return d->phase == WORKER_DRAIN_DRAINING && !d->ended ? d->deadline_ns : UINT64_MAX;
}
