#pragma once
#include <stdint.h>
#include <sys/types.h>

/* The guest's control groups: `agent` is protected from reclaim, everything of the user is below
 * `user` with a limit on memory and processes, one child per kernel. Without a hierarchy (tests on
 * a host) every call does nothing. */

/* Mounted at this place. Moves the caller to `agent`. 0 or -errno. */
int agent_cgroup_init(const char *mount_point, uint64_t mem_total_bytes);

/* Makes user/<name>. 0 or -errno. */
int agent_cgroup_make(const char *name);

/* For a child between fork and exec: joins user/<name>. */
void agent_cgroup_join(const char *name);

/* What user/<name> holds is not reclaimed. The libraries' pages are charged to the fork server, so
 * a program that eats all memory is killed at the limit and does not first push them out, again and
 * again, which can take minutes. */
void agent_cgroup_protect(const char *name);

/* Where a process writes 0 to join user/<name>, or "-" without a hierarchy. Static memory. */
const char *agent_cgroup_procs(const char *name);

/* SIGKILL to all processes of user/<name>. */
void agent_cgroup_kill(const char *name);

/* Processes that the kernel killed for want of memory below `user`, ever. */
uint64_t agent_cgroup_oom_kills(void);
