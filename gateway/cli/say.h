#pragma once
#include <stdbool.h>
#include <stdio.h>

/* What every part of the command line tool shares: the global options, the exit codes, and the one
 * way to say that something went wrong. */

/* Exit codes of `warren`. Documented in `warren --help`; scripts rely on them. */
enum cli_exit {
    CLI_OK = 0,
    CLI_FAILED = 1,      /* the code raised, or a daemon did not start */
    CLI_USAGE = 2,       /* the command line is wrong */
    CLI_UNREACHABLE = 3, /* no answer from the gateway */
    CLI_DENIED = 4,      /* token missing, expired or without the right (401, 403) */
    CLI_REFUSED = 5,     /* the gateway refuses the request (other 4xx) */
    CLI_FULL = 6,        /* no room in the pool now (429) */
    CLI_SERVER = 7,      /* the gateway or a worker failed (5xx) */
    CLI_LOCAL = 8,       /* a file or key of this machine cannot be read or written */
};

/* Global options after defaults were applied. Strings are borrowed from argv or the environment. */
struct cli {
    const char *command; /* name of the command that runs, for messages; "" before it is known */
    const char *state_dir;
    const char *url;     /* NULL: that of client.json */
    const char *pool;    /* never NULL */
    const char *ca_file; /* NULL: that of client.json, or the system's */
    const char *token_file;
    bool json;
    bool quiet;
};

/* Says "warren COMMAND: text" and the hint (may be NULL) on stderr, as one JSON object with --json.
 * Returns exit_code, so: return cli_fail(cli, CLI_LOCAL, "hint", "cannot ..."). */
int cli_fail(const struct cli *cli, enum cli_exit exit_code, const char *hint, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* A line for people on stderr; silent with --quiet or --json. */
void cli_note(const struct cli *cli, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
