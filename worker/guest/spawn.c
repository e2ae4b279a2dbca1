#include "worker/guest/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "worker/guest/cgroup.h"

enum {
    FILES_MAX = 4096,
    HIGH_FD = 64, /* above the numbers that an interpreter's descriptors get */
    EXIT_SETUP = 126,
    EXIT_EXEC = 127,
};

static void set_limit(int what, rlim_t max)
{
    struct rlimit r = {.rlim_cur = max, .rlim_max = max};
    (void)setrlimit((__rlimit_resource_t)what, &r);
}

/* The agent's protection against the OOM killer is not for the user's code. */
static void give_up_protection(void)
{
    CLEANUP(base_closep) int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        (void)!write(fd, "0", 1);
    }
    (void)setpriority(PRIO_PROCESS, 0, 0);
}

static void drop_rights(const struct agent_config *c, bool forks)
{
    if (c->machine) {
        give_up_protection();
        set_limit(RLIMIT_MEMLOCK, 64 << 10);
        set_limit(RLIMIT_NOFILE, FILES_MAX);
    }
    set_limit(RLIMIT_CORE, 0);
    (void)umask(022);
    if (forks) {
        return; /* it gives each interpreter the user's rights; it runs no code of the user */
    }
    if (c->uid != (uid_t)-1 && (setgroups(0, NULL) != 0 || setresgid(c->gid, c->gid, c->gid) != 0 ||
                                   setresuid(c->uid, c->uid, c->uid) != 0)) {
        _exit(EXIT_SETUP);
    }
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

static void reset_signals(void)
{
    sigset_t none;
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)signal(SIGPIPE, SIG_DFL);
    (void)signal(SIGINT, SIG_DFL);
}

/* execve changes neither the list nor the strings, its type says otherwise. */
static char *const *words(const char *const *list)
{
    return (char *const *)(uintptr_t)list;
}

struct environment {
    char home[256], state[256];
    const char *list[12];
};

static void fill_environment(
    const struct agent_config *c, const char *term, struct environment *ret)
{
    (void)snprintf(ret->home, sizeof ret->home, "HOME=%s", c->home_dir);
    (void)snprintf(ret->state, sizeof ret->state, "WARREN_STATE=%s", c->state_dir);
    const char *list[] = {"PATH=/usr/local/bin:/usr/bin:/bin", ret->home, ret->state,
        "USER=session", "LOGNAME=session", "SHELL=/bin/bash", "LANG=C.UTF-8", term,
        "PYTHONDONTWRITEBYTECODE=1", NULL};
    memcpy(ret->list, list, sizeof list);
}

static void run_program(const struct agent_config *c, enum agent_spawn_what what)
{
    char script[256], uid[16], gid[16];
    struct environment e;
    fill_environment(c, "TERM=dumb", &e);
    const char *const *env = e.list;
    static const char *const file[] = {
        "python_kernel.py", "node_kernel.js", "shell_kernel.sh", "python_kernel.py"};
    (void)snprintf(script, sizeof script, "%s/%s", c->kernels_dir, file[what - 1]);
    const char *python[] = {"python3", script, NULL};
    (void)snprintf(uid, sizeof uid, "%d", (int)c->uid);
    (void)snprintf(gid, sizeof gid, "%d", (int)c->gid);
    const char *forks[] = {"python3", script, "--fork-server", uid, gid, NULL};
    const char *node[] = {"node", script, NULL};
    const char *shell[] = {"bash", "--noprofile", "--norc", script, NULL};
    if (what == AGENT_SPAWN_PYTHON || what == AGENT_SPAWN_PYTHON_FORKS) {
        (void)execve(
            "/usr/bin/python3", words(what == AGENT_SPAWN_PYTHON ? python : forks), words(env));
    } else if (what == AGENT_SPAWN_NODE) {
        (void)execve("/usr/bin/node", words(node), words(env));
    } else {
        (void)execve("/bin/bash", words(shell), words(env));
    }
    _exit(EXIT_EXEC);
}

static void enter(const struct agent_config *c, const char *name, bool forks)
{
    agent_cgroup_join(name);
    drop_rights(c, forks);
    if (chdir(c->data_dir) != 0 && chdir("/") != 0) {
        _exit(EXIT_SETUP);
    }
    reset_signals();
}

void agent_spawn_batch(void)
{
    struct sched_param none = {0};
    (void)sched_setscheduler(0, SCHED_BATCH | SCHED_RESET_ON_FORK, &none);
}

/* Between fork and exec: only what is safe there. theirs[] is above HIGH_FD. */
static void child(const struct agent_config *c, enum agent_spawn_what what, const char *name,
    const int theirs[AGENT_SPAWN_FDS])
{
    (void)setsid();
    for (int i = 0; i < AGENT_SPAWN_FDS; i++) {
        if (dup2(theirs[i], i) != i) {
            _exit(EXIT_SETUP);
        }
    }
    agent_spawn_batch();
    enter(c, name, what == AGENT_SPAWN_PYTHON_FORKS);
    run_program(c, what);
}

void agent_spawn_close(int fds[AGENT_SPAWN_FDS])
{
    for (int i = 0; i < AGENT_SPAWN_FDS; i++) {
        if (fds[i] >= 0) {
            (void)close(fds[i]);
            fds[i] = -1;
        }
    }
}

int agent_spawn_raise(int fd)
{
    int high = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, HIGH_FD);
    if (fd >= 0) {
        (void)close(fd);
    }
    return high;
}

static int make_pipes(struct agent_spawn *s)
{
    s->theirs[0] = agent_spawn_raise(open("/dev/null", O_RDONLY | O_CLOEXEC));
    for (int i = AGENT_SPAWN_STDOUT; i < AGENT_SPAWN_FDS; i++) {
        int p[2];
        if (pipe2(p, O_CLOEXEC) != 0) {
            return -errno;
        }
        bool to_child = i == AGENT_SPAWN_REQUEST;
        s->theirs[i] = agent_spawn_raise(p[to_child ? 0 : 1]);
        s->ours[i] = p[to_child ? 1 : 0];
        if (s->theirs[i] < 0 || fcntl(s->ours[i], F_SETFL, O_NONBLOCK) != 0) {
            return -errno;
        }
    }
    return s->theirs[0] < 0 ? -EMFILE : 0;
}

int agent_spawn_pipes(struct agent_spawn *s)
{
    *s = (struct agent_spawn){.ours = {-1, -1, -1, -1, -1}, .theirs = {-1, -1, -1, -1, -1}};
    int rc = make_pipes(s);
    if (rc != 0) {
        agent_spawn_close(s->ours);
        agent_spawn_close(s->theirs);
    }
    return rc;
}

int agent_spawn_run(const struct agent_config *c, enum agent_spawn_what what, const char *name,
    struct agent_spawn *s)
{
    s->pid = fork();
    if (s->pid == 0) {
        child(c, what, name, s->theirs);
    }
    return s->pid < 0 ? -errno : 0;
}

pid_t agent_spawn_shell(const struct agent_config *c, const char *name, int terminal)
{
    static const char *const shell[] = {"bash", NULL};
    pid_t pid = fork();
    if (pid != 0) {
        return pid < 0 ? -errno : pid;
    }
    struct environment e;
    (void)setsid();
    if (ioctl(terminal, TIOCSCTTY, 0) != 0) {
        _exit(EXIT_SETUP);
    }
    for (int i = 0; i < 3; i++) {
        if (dup2(terminal, i) != i) {
            _exit(EXIT_SETUP);
        }
    }
    enter(c, name, false);
    fill_environment(c, "TERM=xterm-256color", &e);
    (void)execve("/bin/bash", words(shell), words(e.list));
    _exit(EXIT_EXEC);
}
