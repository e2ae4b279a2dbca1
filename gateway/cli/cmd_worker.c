#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "gateway/cli/command.h"
#include "proto/base/cleanup.h"

/* Talks to the admin socket of a worker on this machine, RUN/<boot>/admin.sock: lines of ASCII, as
 * worker/wire/order.h has them. */

enum { LINE_MAX_BYTES = 160, BOOT_DIGITS = 8 };

struct wishes {
    const char *run_dir;
    uint32_t deadline_s;
    bool now, leave, no_wait;
};

static bool socket_path(const char *run_dir, struct sockaddr_un *ret)
{
    char boot[BOOT_DIGITS + 1] = "";
    CLEANUP(base_fclosep) FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (f == NULL || fgets(boot, sizeof boot, f) == NULL) {
        return false;
    }
    *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
    int n = snprintf(ret->sun_path, sizeof ret->sun_path, "%s/%s/admin.sock", run_dir, boot);
    return n > 0 && (size_t)n < sizeof ret->sun_path;
}

static FILE *dial(const struct cli *cli, const char *run_dir, int *ret_exit)
{
    struct sockaddr_un at;
    if (!socket_path(run_dir, &at)) {
        *ret_exit = cli_fail(cli, CLI_USAGE, NULL, "'%s' is too long for a socket", run_dir);
        return NULL;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    FILE *f =
        fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof at) != 0 ? NULL : fdopen(fd, "r+");
    if (f == NULL) {
        bool away = errno == ENOENT || errno == ECONNREFUSED;
        *ret_exit = cli_fail(cli, away ? CLI_UNREACHABLE : CLI_LOCAL,
            away ? "--run-dir says where the worker has its running state"
                 : "use the account that started it, or sudo",
            "no worker answers at %s: %s", at.sun_path, strerror(errno));
        if (fd >= 0) {
            (void)close(fd);
        }
    }
    return f;
}

static bool ask(FILE *f, const char *order)
{
    return fprintf(f, "%s\n", order) > 0 && fflush(f) == 0;
}

static char *answer(FILE *f, char line[LINE_MAX_BYTES])
{
    if (fgets(line, LINE_MAX_BYTES, f) == NULL) {
        return NULL;
    }
    line[strcspn(line, "\n")] = '\0';
    return line;
}

/* "state draining sessions 3 microvms 4" */
static bool show(const struct cli *cli, const char *line, char state[16])
{
    unsigned sessions, microvms;
    if (sscanf(line, "state %15s sessions %u microvms %u", state, &sessions, &microvms) != 3) {
        return false;
    }
    if (cli->json) {
        (void)printf(
            "{\"state\":\"%s\",\"sessions\":%u,\"microvms\":%u}\n", state, sessions, microvms);
    } else if (strcmp(state, "off") == 0) {
        (void)printf("in service: %u sessions, %u microVMs\n", sessions, microvms);
    } else {
        (void)printf("%s: %u sessions, %u microVMs left\n", state, sessions, microvms);
    }
    (void)fflush(stdout);
    return true;
}

/* Shows what comes until it is over. The worker that leaves ends the connection. */
static int follow(const struct cli *cli, FILE *f, const struct wishes *w)
{
    char line[LINE_MAX_BYTES], state[16] = "";
    while (answer(f, line) != NULL) {
        if (!show(cli, line, state)) {
            return cli_fail(cli, CLI_SERVER, NULL, "the worker says '%s'", line);
        }
        if (w->no_wait || strcmp(state, "draining") != 0) {
            break;
        }
    }
    if (w->no_wait || strcmp(state, "drained") == 0) {
        return CLI_OK;
    }
    return strcmp(state, "off") == 0
               ? cli_fail(cli, CLI_FAILED, NULL, "the drain was called off")
               : cli_fail(cli, CLI_SERVER, "it goes on when the worker is up again",
                     "the worker ended before it was drained");
}

static int order(const struct cli *cli, const char *text, const struct wishes *w, bool state)
{
    int rc = CLI_OK;
    CLEANUP(base_fclosep) FILE *f = dial(cli, w->run_dir, &rc);
    char line[LINE_MAX_BYTES];
    if (f == NULL) {
        return rc;
    }
    if (!ask(f, text) || answer(f, line) == NULL) {
        return cli_fail(cli, CLI_SERVER, NULL, "the worker does not answer");
    }
    if (strcmp(line, "ok") != 0) {
        return cli_fail(cli, CLI_REFUSED, NULL, "the worker refuses: %s", line);
    }
    return state ? follow(cli, f, w) : CLI_OK;
}

static int drain(const struct cli *cli, const struct wishes *w)
{
    char text[LINE_MAX_BYTES], how[32] = "wait";
    if (w->now) {
        (void)snprintf(how, sizeof how, "end");
    } else if (w->deadline_s > 0) {
        (void)snprintf(how, sizeof how, "deadline %llu", w->deadline_s * 1000ULL);
    }
    (void)snprintf(text, sizeof text, "drain %s%s", how, w->leave ? " leave" : "");
    return order(cli, text, w, true);
}

static int run(struct cli *cli, const struct cli_command *self, int argc, char *const argv[])
{
    struct wishes w = {.run_dir = "/run/warren"};
    const struct cli_option own[] = {
        {"run-dir", 0, CLI_OPTION_TEXT, &w.run_dir, "DIR", "running state (/run/warren)", 0, 0},
        {"deadline", 0, CLI_OPTION_TIME, &w.deadline_s, "TIME",
            "drain, remove: end the sessions that live then", 1, 7 * 86400},
        {"now", 0, CLI_OPTION_FLAG, &w.now, NULL, "drain, remove: end all sessions at once", 0, 0},
        {"no-wait", 0, CLI_OPTION_FLAG, &w.no_wait, NULL, "do not wait until it is drained", 0, 0},
        {0},
    };
    struct cli_args args;
    int rc = cli_command_read(cli, self, own, argc, argv, &args);
    if (rc != CLI_GO_ON) {
        return rc;
    }
    const char *what = args.n == 1 ? args.v[0] : "";
    if (w.now && w.deadline_s > 0) {
        return cli_command_wrong(cli, self, "--now and --deadline exclude each other");
    }
    if (strcmp(what, "drain") == 0 || strcmp(what, "remove") == 0) {
        w.leave = strcmp(what, "remove") == 0;
        return drain(cli, &w);
    }
    if (strcmp(what, "undrain") == 0) {
        return order(cli, "undrain", &w, false);
    }
    if (strcmp(what, "status") == 0) {
        w.no_wait = true;
        return order(cli, "status", &w, true);
    }
    return cli_command_wrong(cli, self, "say drain, undrain, remove or status");
}

const struct cli_command cli_cmd_worker = {
    .name = "worker",
    .summary = "take the worker of this machine out of service, and back",
    .usage = "worker drain|undrain|remove|status [options]",
    .text = "drain: the worker makes no new session (503 with Retry-After); those it has live on\n"
            "until they end by themselves, or until --deadline, or not at all with --now. Waits\n"
            "until none is left and shows how many there are. It stays so over restarts.\n"
            "undrain: new sessions are welcome again. remove: drain, then the worker ends and is\n"
            "not started again by `warren up` or systemd.\n",
    .examples = "  warren worker drain --deadline 10m\n"
                "  warren worker undrain\n"
                "  warren worker remove --now\n"
                "  warren worker status --json\n",
    .run = run,
};
