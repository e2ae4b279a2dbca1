#pragma once
#include <stdbool.h>
#include <sys/types.h>

#include "worker/guest/config.h"
#include "worker/guest/loop.h"
#include "worker/guest/spawn.h"

/* The fork server of the Python interpreters: a process that has the libraries loaded and warmed,
 * runs no code of the user and forks interpreters on request. A new interpreter is there in
 * milliseconds where loading takes seconds. Each is a grandchild that becomes the agent's child.
 *
 *   OFF --wanted--> STARTING --"ready"--> READY
 *    '<--ended, a few times--'-------------'        then FAILED: interpreters load by themselves */
enum agent_forks_state {
    AGENT_FORKS_OFF,
    AGENT_FORKS_STARTING,
    AGENT_FORKS_READY,
    AGENT_FORKS_FAILED,
};

struct agent_forks {
    enum agent_forks_state state;
    struct agent_loop *loop;
    const struct agent_config *config;
    void (*changed)(void *owner); /* READY or not to be waited for */
    void *owner;
    struct agent_watch socket;
    pid_t pid;
    int failures;
};

void agent_forks_init(struct agent_forks *f, struct agent_loop *l,
    const struct agent_config *config, void (*changed)(void *owner), void *owner);
void agent_forks_deinit(struct agent_forks *f);

/* Starts it if need be; true when a new interpreter has to wait for it. */
bool agent_forks_wanted(struct agent_forks *f);

/* Forks an interpreter on s->theirs into the control group; its first message tells its process id.
 * 0 or -errno. */
int agent_forks_request(struct agent_forks *f, const char *group, const struct agent_spawn *s);

/* True when this child was the server. */
bool agent_forks_reaped(struct agent_forks *f, pid_t pid);

/* It takes too long: ends it. */
void agent_forks_stop(struct agent_forks *f);
