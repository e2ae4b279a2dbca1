#pragma once
#include <sys/types.h>

#include "proto/base/err.h"

/* Which `warren up` owns a folder: a POSIX lock on DIR/up.lock, so it ends with the process. */

/* Takes the lock for this process; it lives until the process ends (do not close *ret_fd).
 * BASE_EEXISTS with the owner's pid in the text when another process has it. */
int cli_lock_take(const char *dir, int *ret_fd, struct base_error *err);

/* Pid of the owner, 0 when nobody has it or there is no such folder. */
pid_t cli_lock_owner(const char *dir);
