#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/base/buf.h"
#include "proto/base/log.h"
#include "proto/guest.pb-c.h"
#include "worker/guest/config.h"
#include "worker/guest/exec.h"
#include "worker/guest/loop.h"

/* One interpreter as a child process: a request pipe, a reply pipe (kernel_msg.h), and its standard
 * output and error. Requests look like replies: "exec N FLAG.SERIAL\n" + code, "seed 128 -\n" + hex
 * digits, "shown 0 -\n" (a display was taken).
 */

enum agent_kernel_state {
    AGENT_KERNEL_OFF,
    AGENT_KERNEL_STARTING, /* until it says ready */
    AGENT_KERNEL_IDLE,
    AGENT_KERNEL_BUSY,
};

struct agent_kernel;
struct agent_runner;

/* Standard output or error of an interpreter. */
struct agent_output {
    struct agent_watch watch;
    struct agent_timer
        resume; /* reading pauses a little, so that many small writes become one event */
    struct agent_kernel *kernel;
    int which;     /* 0 stdout, 1 stderr */
    size_t drain;  /* bytes that must be read before the next message counts */
    size_t tail_n; /* an incomplete UTF-8 character that waits for its rest */
    uint8_t tail[4];
};

struct agent_kernel {
    struct agent_runner *runner;
    const char *name; /* also of its control group */
    Warren__Kernel kind;
    bool fresh;  /* for executions that want a new interpreter: ends after each */
    bool wanted; /* started again when it dies */
    enum agent_kernel_state state;

    bool active;      /* its pipes are open */
    bool wants_forks; /* waits for the fork server */
    int failures;     /* starts in a row that came to nothing */
    pid_t pid;        /* and process group; 0: not known (yet) */
    bool ending;      /* killed: takes no more executions */
    bool exited;
    bool drained; /* after exit: what is left in the pipes is marked to be read */
    int wait_status;
    struct agent_watch request, reply;
    struct base_buf out_queue; /* requests */
    struct base_buf in;        /* replies */
    bool reply_eof;
    bool marked; /* the outputs' drain was set for the message at the front of in */
    struct agent_output output[2];
    struct agent_timer limit; /* of starting, of the execution, of its end after SIGINT */

    struct agent_exec *current;
    uint32_t serial;          /* of the newest exec request: user code may forge a "done" */
    struct agent_exec *queue; /* next_queued */
    int seeds_out;            /* seed requests without an answer */
    bool seed_wait;           /* the answer to GuestSeed waits for them */
};

/* Starts the process, from the fork server where there is one; state is STARTING. 0 or -errno (then
 * it is OFF as before). */
int agent_kernel_spawn(struct agent_kernel *k);
/* The fork server became ready or failed for good: goes on with a start that waits for it. */
int agent_kernel_spawn_waiting(struct agent_kernel *k);
/* The interpreter told its process id. */
void agent_kernel_started(struct agent_kernel *k, pid_t pid);

/* SIGKILL to all that belongs to it. The rest happens when it is reaped. */
void agent_kernel_kill(struct agent_kernel *k);
/* SIGINT to its process group. */
void agent_kernel_interrupt(const struct agent_kernel *k);

/* Queues a request, sent at once unless the runner is corked; args may be "". 0 or BASE_ENOMEM. */
int agent_kernel_request(
    struct agent_kernel *k, const char *verb, const char *args, const void *body, size_t n);
void agent_kernel_flush(struct agent_kernel *k);
/* Sends 64 fresh random bytes to reseed from. */
void agent_kernel_seed(struct agent_kernel *k);

/* Gives all descriptors back after it was reaped. */
void agent_kernel_close(struct agent_kernel *k);
