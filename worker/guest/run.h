#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "worker/guest/forks.h"
#include "worker/guest/kernel.h"

/* Runs executions on interpreters: one at a time each, in order, with time-outs. Starts
 * interpreters when they are needed and again when they died. */

/* The session's own interpreters and one more of each kind for executions that want a fresh one. */
enum { AGENT_RUNNER_KERNELS = 6 };

struct agent_runner {
    struct agent_loop *loop;
    const struct base_log *log;
    const struct agent_config *config;
    void (*changed)(void *owner); /* a kernel became ready, was reseeded, or died */
    void *owner;
    int null_fd;
    bool corked;
    uint64_t oom_kills; /* counted so far */
    struct agent_forks forks;
    struct agent_kernel kernel[AGENT_RUNNER_KERNELS];
};

/* loop, log, config, changed and owner are set already. 0 or -errno. */
int agent_runner_init(struct agent_runner *r);
void agent_runner_deinit(struct agent_runner *r);

/* Between the two, requests wait: what one reading of the port asks of an interpreter, a seed and a
 * cell, say, wakes it once. */
void agent_runner_cork(struct agent_runner *r);
void agent_runner_uncork(struct agent_runner *r);

extern const struct agent_execs_ops agent_runner_execs; /* owner: a struct agent_runner */

/* NULL for a kind that does not exist. */
struct agent_kernel *agent_runner_kernel(struct agent_runner *r, Warren__Kernel kind);

/* Has it running from now on. 0 or -errno. */
int agent_runner_want(struct agent_runner *r, Warren__Kernel kind);
static inline bool agent_kernel_loaded(const struct agent_kernel *k)
{
    return k->state == AGENT_KERNEL_IDLE || k->state == AGENT_KERNEL_BUSY;
}

/* GuestInterrupt. */
void agent_runner_interrupt(struct agent_runner *r, struct agent_exec *e);

/* A child of the agent ended. */
void agent_runner_reaped(struct agent_runner *r, pid_t pid, int wait_status);

/* Goes on with what the interpreter has sent; called after anything that may have opened the way.
 */
void agent_run_step(struct agent_kernel *k);
