#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gateway/cli/command.h"
#include "gateway/cli/lock.h"
#include "proto/base/cleanup.h"

static int wait_for(const struct cli *cli, int pidfd, pid_t pid, uint32_t timeout_s)
{
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    int n;
    do {
        n = poll(&p, 1, (int)timeout_s * 1000);
    } while (n < 0 && errno == EINTR);
    if (n <= 0) {
        return cli_fail(cli, CLI_FAILED, "look at STATE/log/worker.log; SIGKILL is the last resort",
            "pid %d still runs after %u s", (int)pid, timeout_s);
    }
    if (cli->json) {
        (void)printf("{\"stopped\":true,\"pid\":%d}\n", (int)pid);
    }
    cli_note(cli, "stopped (pid %d)", (int)pid);
    return CLI_OK;
}

static int run(struct cli *cli, const struct cli_command *self, int argc, char *const argv[])
{
    uint32_t timeout_s = 90;
    const struct cli_option own[] = {
        {"timeout", 0, CLI_OPTION_TIME, &timeout_s, "TIME", "how long to wait for the end (90s)", 1,
            3600},
        {0},
    };
    struct cli_args args;
    int rc = cli_command_read(cli, self, own, argc, argv, &args);
    if (rc != CLI_GO_ON) {
        return rc;
    }
    if (args.n > 0) {
        return cli_command_wrong(cli, self, "unexpected argument '%.60s'", args.v[0]);
    }
    pid_t pid = cli_lock_owner(cli->state_dir);
    CLEANUP(base_closep) int pidfd = pid == 0 ? -1 : (int)syscall(SYS_pidfd_open, pid, 0);
    /* The lock is asked again: the pid could have ended and been given away in between. */
    if (pidfd < 0 || cli_lock_owner(cli->state_dir) != pid) {
        if (cli->json) {
            (void)puts("{\"stopped\":false}");
        }
        cli_note(cli, "no warren up runs with the state folder %s", cli->state_dir);
        return CLI_OK;
    }
    if (syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, NULL, 0) != 0) {
        return cli_fail(cli, CLI_LOCAL, "use the account that started it, or sudo",
            "cannot stop pid %d: %s", (int)pid, strerror(errno));
    }
    return wait_for(cli, pidfd, pid, timeout_s);
}

const struct cli_command cli_cmd_down = {
    .name = "down",
    .summary = "stop the `warren up` of this state folder",
    .usage = "down [--timeout TIME]",
    .text = "Asks the running `warren up` to stop and waits for its end. All sessions and their\n"
            "microVMs end. When none runs, that is said and the exit code is 0.\n",
    .examples = "  warren down\n"
                "  warren down --state-dir /var/tmp/warren\n",
    .run = run,
};
