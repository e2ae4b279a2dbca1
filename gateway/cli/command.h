#pragma once
#include "gateway/cli/options.h"
#include "gateway/cli/say.h"

/* A command of `warren`: its help text and what it does. One file cmd_<name>.c each. */
struct cli_command {
    const char *name;
    const char *summary;  /* one line of `warren --help` */
    const char *usage;    /* "exec [options] CODE" */
    const char *text;     /* what it does, ends with a newline */
    const char *examples; /* lines, each ends with a newline */
    bool connects;        /* talks to a gateway: has --url, --pool, --ca-file, --token-file */
    int (*run)(struct cli *cli, const struct cli_command *self, int argc, char *const argv[]);
};

/* What cli_command_read() returns when the command shall go on. */
enum { CLI_GO_ON = -1 };

/* Reads the command's own options and the global ones into *cli. CLI_GO_ON, or the exit code after
 * --help or an error (both have been printed). */
int cli_command_read(struct cli *cli, const struct cli_command *self, const struct cli_option own[],
    int argc, char *const argv[], struct cli_args *ret);

/* True when text is an option of all commands that takes a value in the next argument. */
bool cli_command_takes_value(const char *text);

/* Says what is wrong with the command line; returns CLI_USAGE. */
int cli_command_wrong(const struct cli *cli, const struct cli_command *self, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

extern const struct cli_command cli_cmd_up;
extern const struct cli_command cli_cmd_down;
extern const struct cli_command cli_cmd_exec;
extern const struct cli_command cli_cmd_cp;
extern const struct cli_command cli_cmd_sessions;
extern const struct cli_command cli_cmd_token;
extern const struct cli_command cli_cmd_keys;
extern const struct cli_command cli_cmd_pool;
extern const struct cli_command cli_cmd_quota;
extern const struct cli_command cli_cmd_cluster;
extern const struct cli_command cli_cmd_worker;
extern const struct cli_command cli_cmd_version;
