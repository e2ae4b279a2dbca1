#pragma once
#include "gateway/cli/child.h"
#include "gateway/cli/say.h"

/* Runs the daemons of `warren up` until a signal: shows what they say, starts again what dies,
 * stops them in order. */

enum { CLI_SUPERVISE_MAX = 12 }; /* children */

struct cli_supervisor {
    const struct cli *cli;
    struct cli_child *children; /* stopped in this order: gateway before worker */
    size_t n;
    /* One is ready while all are started; false: that has failed, and everything is stopped. NULL
     * is fine. */
    bool (*child_ready)(void *user, const struct cli_child *c);
    void (*ready)(void *user); /* every one is ready for the first time */
    void *user;
};

/* CLI_OK after SIGINT, SIGTERM or SIGHUP and an orderly stop; CLI_FAILED when one did not start
 * (said why). On return no child runs. */
int cli_supervise(struct cli_supervisor *s);

/* An event for people (stderr line with the time) or scripts (JSON line on stdout with --json). */
void cli_supervise_say(
    const struct cli *cli, const char *event, const char *from, const char *text);
