#pragma once
#include <sys/types.h>

#include "proto/guest.pb-c.h"
#include "worker/guest/config.h"

/* Starts an interpreter as a child of the agent. */

enum { /* descriptors of an interpreter */
    AGENT_SPAWN_STDOUT = 1,
    AGENT_SPAWN_STDERR = 2,
    AGENT_SPAWN_REQUEST = 3,
    AGENT_SPAWN_REPLY = 4,
    AGENT_SPAWN_FDS = 5,
};

struct agent_spawn {
    pid_t pid;                 /* leader of its own session and process group */
    int ours[AGENT_SPAWN_FDS]; /* our ends, non-blocking, the caller's; [0] is not used */
};

/* name is that of the control group. 0 or -errno. */
int agent_spawn(
    const struct agent_config *c, Warren__Kernel kind, const char *name, struct agent_spawn *ret);
