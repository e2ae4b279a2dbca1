#include "scheduler/io/shell.h"

#include <stdlib.h>

#include "proto/base/clock.h"
#include "proto/base/err.h"

void *sched_shell_block(size_t n)
{
    return aligned_alloc(16, (n + 15) & ~(size_t)15);
}

int sched_shell_carve(
    struct sched_fx *fx, size_t core_bytes, void **ret_fx_mem, void **ret_core_mem)
{
    struct sched_mem mem = {0};
    sched_fx_init(fx, &mem);
    *ret_fx_mem = sched_shell_block(mem.used);
    *ret_core_mem = sched_shell_block(core_bytes);
    if (*ret_fx_mem == NULL || *ret_core_mem == NULL) {
        return BASE_ENOMEM;
    }
    mem = (struct sched_mem){.base = *ret_fx_mem, .size = mem.used};
    sched_fx_init(fx, &mem);
    return 0;
}

void sched_shell_arm(struct ev_loop *loop, ev_timer *timer, uint64_t due_ns, double soonest_s)
{
    uint64_t now = base_clock_boot_ns();
    ev_timer_stop(loop, timer);
    ev_timer_set(timer, due_ns > now ? (double)(due_ns - now) / 1e9 : soonest_s, 0.);
    ev_timer_start(loop, timer);
}
