#pragma once
#include "proto/base/err.h"

/* `warren up --detach`: the command goes on in the background once it is ready. */

enum cli_detach_side {
    CLI_DETACH_FAILED = -1,
    CLI_DETACH_CHILD,  /* the new process, with a session of its own */
    CLI_DETACH_PARENT, /* the child has said all it had to say */
};

/* Forks. The child's stdout and stderr lead to the parent, which shows them as its own stdout and
 * stderr until the child calls cli_detach_done() or ends. In the parent *ret_exit is 0 in the first
 * case, the child's exit code in the second. */
enum cli_detach_side cli_detach_fork(int *ret_exit, struct base_error *err);

/* In the child: lets the parent go and writes to the log file from now on. */
int cli_detach_done(const char *log, struct base_error *err);
