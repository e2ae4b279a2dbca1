#pragma once
#include <sys/types.h>

#include "proto/guest.pb-c.h"
#include "worker/guest/config.h"

/* Starts interpreters and their fork server as children of the agent. */

enum { /* descriptors of an interpreter */
    AGENT_SPAWN_STDOUT = 1,
    AGENT_SPAWN_STDERR = 2,
    AGENT_SPAWN_REQUEST = 3,
    AGENT_SPAWN_REPLY = 4,
    AGENT_SPAWN_FDS = 5,
};

enum agent_spawn_what {
    AGENT_SPAWN_PYTHON = 1, /* as enum Kernel */
    AGENT_SPAWN_NODE,
    AGENT_SPAWN_SHELL,
    AGENT_SPAWN_PYTHON_FORKS, /* the fork server: descriptor 3 is a socket */
};

struct agent_spawn {
    pid_t pid;                   /* leader of its own session and process group */
    int ours[AGENT_SPAWN_FDS];   /* our ends, non-blocking; [0] is not used */
    int theirs[AGENT_SPAWN_FDS]; /* what the child gets as 0, 1, 2 ... */
};

/* The pipes of an interpreter. 0 or -errno (then nothing is open). */
int agent_spawn_pipes(struct agent_spawn *s);
/* Forks and runs the program with theirs; name is that of the control group. 0 or -errno. */
int agent_spawn_run(const struct agent_config *c, enum agent_spawn_what what, const char *name,
    struct agent_spawn *s);
/* Forks and runs a shell on the terminal, with all rights and limits of an interpreter. The pid or
 * -errno. */
pid_t agent_spawn_shell(const struct agent_config *c, const char *name, int terminal);
/* Makes the caller one that is not given the processor the moment it is woken, but not its
 * children: agent and interpreter, which wake each other with every message, then change places
 * once per answer and not within it. Under emulation each change costs hundreds of refills of
 * QEMU's software TLB. Who computes is still interrupted at the next tick. */
void agent_spawn_batch(void);
/* Close what is open of one side. */
void agent_spawn_close(int fds[AGENT_SPAWN_FDS]);
/* Moves a descriptor away from the low numbers that a child needs; closes the old one. */
int agent_spawn_raise(int fd);
