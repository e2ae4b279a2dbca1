#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Where things are, in a microVM or on the host of a test. Filled once, never changed. */
struct agent_config {
    bool machine;            /* PID 1 of a microVM: clock, names and cgroups are ours to set */
    const char *data_dir;    /* root of the file operations, working directory of the kernels */
    const char *home_dir;    /* of the session's user */
    const char *state_dir;   /* the kernels' own files, writable by the session's user */
    const char *kernels_dir; /* the interpreters' programs */
    uid_t uid;               /* of the session's user; (uid_t)-1: the agent's own */
    gid_t gid;
    const char *boot_kernels; /* comma list of those to load first */
};
