#pragma once
#include "scheduler/core/coord.h"

/* Cooldowns. Only the host ends a session, when it saw no activity for cooldown_ms (or at
 * max_alive_ms). The group keeps remaining durations, never times, refreshed in batches when they
 * are off by more than max(cooldown / 8, 5 s). A replica whose deadline has passed never kills: it
 * asks the host. So a wrong or late timer costs a message, never a session. */

struct sched_cool {
    uint32_t scan_sess;
};

/* The host: ends what has cooled down, tells the groups of new deadlines. */
void sched_cool_owner(struct sched_cool *c, struct sched_env *e, struct sched_sess *sess);

/* The replica: asks about what should be over, forgets old tombstones. */
void sched_cool_replica(struct sched_env *e, struct sched_reg *reg, struct sched_coord *coord);

/* TIMERS from a host. */
void sched_cool_refresh(struct sched_env *e, struct sched_reg *reg, const struct sched_msg *msg);
