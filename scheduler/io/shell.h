#pragma once
#include <ev.h>
#include <stddef.h>
#include <stdint.h>

#include "scheduler/core/fx.h"

/* What the shells around the cores have in common. */

/* A block for a core's memory, aligned to 16 bytes; NULL: memory is out. The caller frees. */
void *sched_shell_block(size_t n);

/* Effects and the memory of a core of core_bytes: BASE_ENOMEM, then what was taken stays in
 * *ret_fx_mem and *ret_core_mem (NULL or a block), which the caller frees in any case. */
int sched_shell_carve(
    struct sched_fx *fx, size_t core_bytes, void **ret_fx_mem, void **ret_core_mem);

/* Fires at due_ns of CLOCK_BOOTTIME, but in soonest_s seconds at the earliest. */
void sched_shell_arm(struct ev_loop *loop, ev_timer *timer, uint64_t due_ns, double soonest_s);
