#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <unistd.h>

#include "worker/guest/agent.h"
#include "worker/guest/boot.h"
#include "worker/guest/spawn.h"

/* warren-guest: PID 1 of a microVM, or (for tests) an ordinary process on sockets. */

static struct agent agent; /* large: stream tables */

static const char usage[] =
    "usage: warren-guest --test-ctl FD --test-bulk FD --root DIR [--kernels DIR] [--state DIR]\n"
    "                    [--boot LIST] [--user UID]\n"
    "\n"
    "PID 1 of a microVM. As any other process it serves tests: the same agent on two sockets\n"
    "(connected, or listening in place of QEMU's), with the interpreters of this machine.\n"
    "\n"
    "  --root DIR     root of file operations, working directory of the interpreters\n"
    "  --kernels DIR  the interpreters' programs (default /lib/warren/kernels)\n"
    "  --state DIR    what the interpreters keep for themselves (default: the root)\n"
    "  --boot LIST    interpreters to load first: python,node,shell\n"
    "  --user UID     user and group of the interpreters (default: the caller's)\n";

static _Noreturn void stop_machine(void)
{
    sync();
    (void)reboot(RB_AUTOBOOT); /* QEMU runs with -no-reboot: it ends */
    for (;;) {
        (void)pause();
    }
}

static void serve_machine(void)
{
    base_log_init(&agent.log, "guest", 2);
    agent.log.stamp = false;
    agent_spawn_batch();
    int rc = agent_boot(&agent.log);
    if (rc == 0) {
        agent.config = (struct agent_config){.machine = true,
            .data_dir = "/mnt/data",
            .home_dir = "/home/session",
            .state_dir = "/run/warren",
            .kernels_dir = "/lib/warren/kernels",
            .uid = AGENT_BOOT_UID,
            .gid = AGENT_BOOT_GID,
            .boot_kernels = agent_boot_word("warren.kernels")};
        agent.ctl_fd = agent_boot_port("warren.ctl");
        agent.bulk_fd = agent_boot_port("warren.bulk");
        rc = agent.ctl_fd < 0    ? agent.ctl_fd
             : agent.bulk_fd < 0 ? agent.bulk_fd
                                 : agent_init(&agent);
        if (rc == 0) {
            agent_run(&agent);
        }
        LOG_ERROR(&agent.log, "the agent cannot run: %s", strerror(-rc));
    }
    stop_machine();
}

static int parse_options(int argc, char **argv)
{
    static const struct option all[] = {{"test-ctl", required_argument, NULL, 'c'},
        {"test-bulk", required_argument, NULL, 'b'}, {"root", required_argument, NULL, 'r'},
        {"kernels", required_argument, NULL, 'k'}, {"state", required_argument, NULL, 's'},
        {"boot", required_argument, NULL, 'o'}, {"user", required_argument, NULL, 'u'},
        {NULL, 0, NULL, 0}};
    struct agent_config *c = &agent.config;
    *c = (struct agent_config){.kernels_dir = "/lib/warren/kernels", .uid = (uid_t)-1};
    agent.ctl_fd = agent.bulk_fd = -1;
    int opt;
    while ((opt = getopt_long(argc, argv, "", all, NULL)) != -1) {
        switch (opt) {
        case 'c':
            agent.ctl_fd = (int)strtol(optarg, NULL, 10);
            break;
        case 'b':
            agent.bulk_fd = (int)strtol(optarg, NULL, 10);
            break;
        case 'r':
            c->data_dir = optarg;
            break;
        case 'k':
            c->kernels_dir = optarg;
            break;
        case 's':
            c->state_dir = optarg;
            break;
        case 'o':
            c->boot_kernels = optarg;
            break;
        case 'u':
            c->uid = c->gid = (uid_t)strtoul(optarg, NULL, 10);
            break;
        default:
            return -1;
        }
    }
    return agent.ctl_fd < 0 || agent.bulk_fd < 0 || c->data_dir == NULL || optind < argc ? -1 : 0;
}

static int serve_test(int argc, char **argv)
{
    base_log_init(&agent.log, "guest", 2);
    if (parse_options(argc, argv) != 0) {
        (void)fputs(usage, stderr);
        return 2;
    }
    struct agent_config *c = &agent.config;
    c->state_dir = c->state_dir == NULL ? c->data_dir : c->state_dir;
    c->home_dir = c->state_dir;
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); /* as PID 1 has it */
    if (fcntl(agent.ctl_fd, F_SETFD, FD_CLOEXEC) != 0 ||
        fcntl(agent.bulk_fd, F_SETFD, FD_CLOEXEC) != 0) {
        LOG_ERROR(&agent.log, "no such descriptor: %s", strerror(errno));
        return 1;
    }
    int rc = agent_init(&agent);
    if (rc != 0) {
        LOG_ERROR(&agent.log, "the agent cannot run: %s", strerror(-rc));
        return 1;
    }
    agent_run(&agent);
    agent_deinit(&agent);
    return 0;
}

int main(int argc, char **argv)
{
    if (getpid() == 1) {
        serve_machine();
    }
    return serve_test(argc, argv);
}
