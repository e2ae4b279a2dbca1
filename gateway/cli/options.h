#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/err.h"

/* Command line options. Pure: reads argv, writes where the table says, prints nothing.
 * `--name value`, `--name=value`, options and arguments in any order, `--` ends the options,
 * a lone `-` is an argument. */

enum cli_option_kind {
    CLI_OPTION_FLAG, /* bool */
    CLI_OPTION_TEXT, /* const char * */
    CLI_OPTION_LIST, /* struct cli_list, may be given several times */
    CLI_OPTION_UINT, /* uint32_t within [min, max] */
    CLI_OPTION_TIME, /* uint32_t seconds within [min, max]: 90, 90s, 15m, 1h30m, 2d */
};

enum { CLI_LIST_MAX = 64, CLI_ARGS_MAX = 64 };

struct cli_list {
    const char *v[CLI_LIST_MAX];
    size_t n;
};

struct cli_option {
    const char *name; /* without dashes; a table ends with NULL */
    char letter;      /* short form, 0 for none */
    enum cli_option_kind kind;
    void *to;
    const char *value; /* name of the value in the help; NULL for a flag */
    const char *help;
    uint32_t min, max;
};

struct cli_args {
    const char *v[CLI_ARGS_MAX]; /* borrowed from argv */
    size_t n;
    bool help; /* --help or -h was there; the rest may be unread */
};

/* Reads argv[0..argc) (without the names of program and command). Tables: NULL-ended array.
 * 0, or BASE_EINVAL with a text that names the option. */
int cli_options_read(const struct cli_option *const tables[], int argc, char *const argv[],
    struct cli_args *ret, struct base_error *err);

/* Seconds from "90", "90s", "15m", "1h30m", "2d"; false for anything else or past 2^32 - 1. */
bool cli_options_time(const char *text, uint32_t *ret_s);

/* The candidate that is most like `text`, NULL when none is near. */
const char *cli_options_nearest(const char *text, const char *const names[], size_t n);
