#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/cli/command.h"

enum { ARGV_MAX = 256 };

static const struct cli_command *const COMMANDS[] = {&cli_cmd_up, &cli_cmd_down, &cli_cmd_exec,
    &cli_cmd_cp, &cli_cmd_sessions, &cli_cmd_token, &cli_cmd_keys, &cli_cmd_pool, &cli_cmd_quota,
    &cli_cmd_cluster, &cli_cmd_worker, &cli_cmd_version};

enum { COMMAND_COUNT = sizeof COMMANDS / sizeof COMMANDS[0] };

static void print_help(void)
{
    (void)printf(
        "usage: warren COMMAND [options]\n\n"
        "Dynamic sessions of your own: every identifier gets a microVM from a warm pool.\n\n"
        "Commands:\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        (void)printf("  %-10s %s\n", COMMANDS[i]->name, COMMANDS[i]->summary);
    }
    (void)printf("\n`warren COMMAND --help` shows options and examples. --state-dir, --url, "
                 "--pool, --json and\n"
                 "--quiet may stand before the command too.\n\n"
                 "First steps:\n"
                 "  warren up                                   # in one terminal, as root\n"
                 "  warren exec --id demo-0001 'print(6 * 7)'   # in another\n\n"
                 "Exit codes:\n"
                 "  0  done\n"
                 "  1  the code in the session failed, or a daemon did not start\n"
                 "  2  the command line is wrong\n"
                 "  3  no answer from the gateway\n"
                 "  4  token missing, expired or without the right\n"
                 "  5  the gateway refuses the request\n"
                 "  6  no room in the pool now\n"
                 "  7  the gateway or a worker failed\n"
                 "  8  a file or key on this machine cannot be read or written\n");
}

static const char *setting(const char *variable, const char *otherwise)
{
    const char *value = getenv(variable);
    return value != NULL && value[0] != '\0' ? value : otherwise;
}

static int unknown_command(const struct cli *cli, const char *name)
{
    const char *names[COMMAND_COUNT];
    char hint[80];
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        names[i] = COMMANDS[i]->name;
    }
    const char *near = cli_options_nearest(name, names, COMMAND_COUNT);
    (void)snprintf(hint, sizeof hint,
        near == NULL ? "`warren --help` lists the commands%s" : "did you mean `warren %s`?",
        near == NULL ? "" : near);
    return cli_fail(cli, CLI_USAGE, hint, "there is no command '%.40s'", name);
}

/* Index of the command's name, argc when there is none: options of all commands may stand first. */
static int find_command(int argc, char *const argv[])
{
    int i = 1;
    while (i < argc && argv[i][0] == '-') {
        i += cli_command_takes_value(argv[i]) ? 2 : 1;
    }
    return i < argc ? i : argc;
}

static bool wants(int argc, char *const argv[], const char *option)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], option) == 0) {
            return true;
        }
    }
    return false;
}

int main(int argc, char **argv)
{
    (void)setlocale(LC_CTYPE, "");
    (void)signal(SIGPIPE, SIG_IGN); /* a closed pipe is an error of write(), not a silent death */
    struct cli cli = {.command = "",
        .state_dir = setting("WARREN_STATE_DIR", "/var/lib/warren"),
        .pool = setting("WARREN_POOL", "python")};
    int at = find_command(argc, argv);
    if (at == argc) {
        if (wants(argc, argv, "--version")) {
            return cli_cmd_version.run(&cli, &cli_cmd_version, 0, argv);
        }
        if (argc < 2 || wants(argc, argv, "--help") || wants(argc, argv, "-h")) {
            print_help();
            return argc < 2 ? CLI_USAGE : CLI_OK;
        }
        return cli_fail(&cli, CLI_USAGE, "`warren --help` lists the commands", "no command given");
    }
    char *rest[ARGV_MAX];
    int n = 0;
    if (argc > ARGV_MAX) {
        return cli_fail(&cli, CLI_USAGE, NULL, "more than %d arguments", ARGV_MAX);
    }
    for (int i = 1; i < argc; i++) {
        if (i != at) {
            rest[n++] = argv[i];
        }
    }
    if (strcmp(argv[at], "help") == 0) {
        print_help();
        return CLI_OK;
    }
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(COMMANDS[i]->name, argv[at]) == 0) {
            return COMMANDS[i]->run(&cli, COMMANDS[i], n, rest);
        }
    }
    return unknown_command(&cli, argv[at]);
}
