#include "gateway/cli/command.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { GLOBAL_MAX = 8, HELP_COLUMN = 26 };

static void global_options(struct cli *cli, bool connects, struct cli_option to[GLOBAL_MAX])
{
    size_t n = 0;
    to[n++] = (struct cli_option){.name = "state-dir",
        .kind = CLI_OPTION_TEXT,
        .to = &cli->state_dir,
        .value = "DIR",
        .help = "keys, pools, configuration (WARREN_STATE_DIR, /var/lib/warren)"};
    if (connects) {
        to[n++] = (struct cli_option){.name = "url",
            .kind = CLI_OPTION_TEXT,
            .to = &cli->url,
            .value = "URL",
            .help = "the gateway (WARREN_URL, or that of the last `warren up`)"};
        to[n++] = (struct cli_option){.name = "pool",
            .kind = CLI_OPTION_TEXT,
            .to = &cli->pool,
            .value = "NAME",
            .help = "the pool (WARREN_POOL, or python)"};
        to[n++] = (struct cli_option){.name = "ca-file",
            .kind = CLI_OPTION_TEXT,
            .to = &cli->ca_file,
            .value = "FILE",
            .help = "certificates to trust (WARREN_CA_FILE)"};
        to[n++] = (struct cli_option){.name = "token-file",
            .kind = CLI_OPTION_TEXT,
            .to = &cli->token_file,
            .value = "FILE",
            .help = "file with a bearer token, - for stdin (WARREN_TOKEN)"};
    }
    to[n++] = (struct cli_option){.name = "json",
        .kind = CLI_OPTION_FLAG,
        .to = &cli->json,
        .help = "machine-readable output and errors"};
    to[n++] = (struct cli_option){.name = "quiet",
        .letter = 'q',
        .kind = CLI_OPTION_FLAG,
        .to = &cli->quiet,
        .help = "no notes on stderr"};
    to[n] = (struct cli_option){0};
}

bool cli_command_takes_value(const char *text)
{
    struct cli scratch = {0};
    struct cli_option global[GLOBAL_MAX];
    global_options(&scratch, true, global);
    for (const struct cli_option *o = global; o->name != NULL; o++) {
        if (o->kind != CLI_OPTION_FLAG && text[0] == '-' && text[1] == '-' &&
            strcmp(text + 2, o->name) == 0) {
            return true;
        }
    }
    return false;
}

static bool has_name(const struct cli_option *table, const char *name)
{
    for (; table->name != NULL; table++) {
        if (strcmp(table->name, name) == 0) {
            return true;
        }
    }
    return false;
}

static void print_option(const struct cli_option *o)
{
    char left[80];
    char letter[8] = "    ";
    if (o->letter != 0) {
        (void)snprintf(letter, sizeof letter, "-%c, ", o->letter);
    }
    int n = snprintf(left, sizeof left, "  %s--%s%s%s", letter, o->name,
        o->value == NULL ? "" : " ", o->value == NULL ? "" : o->value);
    (void)printf("%-*s%s%s\n", HELP_COLUMN, left, n >= HELP_COLUMN ? "  " : "", o->help);
}

static void print_help(
    const struct cli_command *self, const struct cli_option *own, const struct cli_option *global)
{
    (void)printf("usage: warren %s\n\n%s", self->usage, self->text);
    if (own->name != NULL) {
        (void)printf("\nOptions:\n");
    }
    for (const struct cli_option *o = own; o->name != NULL; o++) {
        print_option(o);
    }
    (void)printf("\nGlobal options:\n");
    for (const struct cli_option *o = global; o->name != NULL; o++) {
        if (!has_name(own, o->name)) { /* a command may give a name another meaning */
            print_option(o);
        }
    }
    (void)printf("%-*sthis text\n\nExamples:\n%s", HELP_COLUMN, "  -h, --help", self->examples);
    (void)printf("\nExit codes: `warren --help`.\n");
}

int cli_command_wrong(const struct cli *cli, const struct cli_command *self, const char *fmt, ...)
{
    char text[512], hint[160];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    (void)snprintf(hint, sizeof hint, "usage: warren %s (`warren %s --help` says more)",
        self->usage, self->name);
    return cli_fail(cli, CLI_USAGE, hint, "%s", text);
}

int cli_command_read(struct cli *cli, const struct cli_command *self, const struct cli_option own[],
    int argc, char *const argv[], struct cli_args *ret)
{
    struct cli_option global[GLOBAL_MAX];
    global_options(cli, self->connects, global);
    const struct cli_option *const tables[] = {own, global, NULL};
    struct base_error err = {0};
    cli->command = self->name;
    if (cli_options_read(tables, argc, argv, ret, &err) != 0) {
        return cli_command_wrong(cli, self, "%s", err.text);
    }
    if (ret->help) {
        print_help(self, own, global);
        return CLI_OK;
    }
    return CLI_GO_ON;
}
