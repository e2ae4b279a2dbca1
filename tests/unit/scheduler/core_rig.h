#pragma once
#include "scheduler/core/voter.h"
#include "tests/lib/check.h"

/* Memory, settings and a first view for the cases of the cores. */

static _Alignas(16) uint8_t memory[1 << 22];

static inline struct sched_mem fresh_memory(void)
{
    return (struct sched_mem){.base = memory, .size = sizeof memory};
}

static inline struct sched_cfg config(uint32_t voters)
{
    struct sched_cfg c = {.pbits = 4,
        .n_voters = voters,
        .members_max = 8,
        .lease_ms = 6000,
        .rho_ppm = 2000,
        .renew_ms = 1500,
        .stuck_ms = 4000,
        .kill_ms = 60000,
        .regs_max = 4,
        .sess_max = 4,
        .execs_max = 4,
        .ops_max = 4,
        .keep_ms = 30000,
        .reserve_ms = 2000,
        .cooldown_ms = 5000,
        .max_alive_ms = 60000};
    for (uint32_t i = 0; i < voters; i++) {
        c.voters[i] = i + 1;
    }
    return c;
}

static inline struct sched_view view_of(struct sched_mem *mem, uint32_t cap)
{
    struct sched_view v;
    sched_view_init(&v, cap, mem);
    v.num = 1;
    v.version = SCHED_VERSION_MAX;
    for (uint64_t node = 10; node < 13; node++) {
        CHECK_EQ(sched_view_admit(&v, (struct sched_host){node, 1}, 0, 100), 0);
    }
    return v;
}

static inline const struct sched_msg *said(const struct sched_fx *fx, uint8_t type)
{
    for (uint32_t i = 0; i < fx->n; i++) {
        if (fx->items[i].kind == SCHED_FX_SEND && fx->items[i].msg.type == type) {
            return &fx->items[i].msg;
        }
    }
    return NULL;
}
