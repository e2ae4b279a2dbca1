/* warren-supervisor: the small process beside each QEMU. It starts QEMU in the jail, is its parent,
 * holds the freeze and kill deadlines of the lease page on its own timer, and buries QEMU and its
 * folder. It outlives the worker on purpose.
 *
 * It freezes with SIGSTOP, not with the freezer of a cgroup: that stops every thread of QEMU, the
 * vCPUs among them (a signal takes them out of the guest), needs no delegated cgroup, and cannot be
 * undone from inside, because QEMU may neither fork nor signal others and is stopped itself. The
 * supervisor is the parent and holds a pidfd, so the number of the process cannot be another's. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/container.h"
#include "worker/jail/jail.h"
#include "worker/jail/lease.h"
#include "worker/jail/supervise.h"

enum { FIRST_GREETING_MS = 2000 };

struct supervisor {
    const char *dir;
    uid_t uid;
    gid_t kvm_gid;
    char *const *argv;
    const struct worker_lease_page *page;
    pid_t qemu;
    int pidfd, timer, worker; /* worker: connection or -1 */
    int gate;                 /* QEMU is not started before a byte is in it; -1: it was */
    bool template, huge_pages, expired, greeted;
    struct worker_fence fence;
};

static void say(const char *what)
{
    int e = errno;
    (void)dprintf(STDERR_FILENO, "warren-supervisor: %s: %s\n", what, strerror(e));
}

static bool parse(int argc, char **argv, struct supervisor *s)
{
    *s = (struct supervisor){.worker = -1, .gate = -1};
    int i = 1;
    for (; i + 1 < argc && strcmp(argv[i], "--") != 0; i += 2) {
        if (strcmp(argv[i], "--template") == 0) {
            s->template = true;
            i--; /* has no value */
        } else if (strcmp(argv[i], "--huge-pages") == 0) {
            s->huge_pages = true;
            i--;
        } else if (strcmp(argv[i], "--dir") == 0) {
            s->dir = argv[i + 1];
        } else if (strcmp(argv[i], "--uid") == 0) {
            s->uid = (uid_t)strtoul(argv[i + 1], NULL, 10);
        } else if (strcmp(argv[i], "--kvm-gid") == 0) {
            s->kvm_gid = (gid_t)strtoul(argv[i + 1], NULL, 10);
        } else {
            return false;
        }
    }
    if (i + 1 >= argc || strcmp(argv[i], "--") != 0 || s->dir == NULL || s->uid == 0) {
        return false;
    }
    s->argv = argv + i + 1;
    return true;
}

static bool map_page(struct supervisor *s)
{
    struct stat st;
    if (fstat(WORKER_FD_LEASE, &st) != 0 || st.st_size < (off_t)sizeof *s->page) {
        return false;
    }
    void *p = mmap(NULL, sizeof *s->page, PROT_READ, MAP_SHARED, WORKER_FD_LEASE, 0);
    if (p == MAP_FAILED) {
        return false;
    }
    s->page = p;
    return true;
}

_Noreturn static void run_qemu(const struct supervisor *s, int gate)
{
    sigset_t none;
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    if (dup2(WORKER_FD_LOG, STDOUT_FILENO) < 0 || dup2(WORKER_FD_LOG, STDERR_FILENO) < 0) {
        _exit(126);
    }
    /* QEMU has no business with the lease page, the control socket or a second log. */
    if (dup3(gate, WORKER_FD_LEASE, O_CLOEXEC) < 0) {
        _exit(126);
    }
    (void)fcntl(WORKER_FD_SUP, F_SETFD, FD_CLOEXEC);
    (void)fcntl(WORKER_FD_LOG, F_SETFD, FD_CLOEXEC);
    struct worker_jail jail = {
        .uid = s->uid, .kvm_gid = s->kvm_gid, .fd_end = WORKER_FD_END, .huge_pages = s->huge_pages};
    struct base_error err;
    if (worker_jail_enter(&jail, &err) != 0) {
        (void)dprintf(STDERR_FILENO, "jail: %s: %s\n", err.text, strerror(-err.code));
        _exit(126);
    }
    /* Nothing runs that nobody watches: the supervisor opens when it is ready and the lease says
     * so. Its death closes the gate's other end, or came before the death signal was set. */
    char go;
    if (read(WORKER_FD_LEASE, &go, 1) != 1 || getppid() == 1) {
        _exit(125);
    }
    static char path[] = "PATH=/usr/bin:/bin", home[] = "HOME=/";
    char *const env[] = {path, home, NULL};
    (void)execve(s->argv[0], s->argv, env);
    (void)dprintf(STDERR_FILENO, "exec %s: %s\n", s->argv[0], strerror(errno));
    _exit(127);
}

static void signal_qemu(const struct supervisor *s, int sig)
{
    if (syscall(SYS_pidfd_send_signal, s->pidfd, sig, NULL, 0) != 0 && errno != ESRCH) {
        say("signal QEMU");
    }
}

static void arm(const struct supervisor *s, uint64_t at_ns)
{
    struct itimerspec it = {
        .it_value = {(time_t)(at_ns / BASE_NS_PER_S), (long)(at_ns % BASE_NS_PER_S)}};
    if (timerfd_settime(s->timer, TFD_TIMER_ABSTIME, &it, NULL) != 0) {
        say("timerfd_settime");
    }
}

static void open_gate(struct supervisor *s)
{
    if (write(s->gate, "", 1) != 1) {
        say("open the gate");
    }
    (void)close(s->gate);
    s->gate = -1;
}

/* Carries the verdict out. A frozen one is stopped again with every look: should somebody have sent
 * SIGCONT, it does not run for long. */
static void obey_lease(struct supervisor *s)
{
    struct worker_fence_clock now = {base_clock_boot_ns(), base_clock_mono_ns()};
    struct worker_fence_lease lease;
    bool whole = worker_lease_read(s->page, &lease);
    bool was_frozen = s->fence.verdict == WORKER_FENCE_FREEZE;
    uint64_t look_ns;
    switch (worker_fence_look(&s->fence, whole ? &lease : NULL, &now, &look_ns)) {
    case WORKER_FENCE_KILL:
        s->expired = true;
        signal_qemu(s, SIGKILL);
        return;
    case WORKER_FENCE_FREEZE:
        if (s->gate < 0) {
            signal_qemu(s, SIGSTOP);
        }
        break;
    case WORKER_FENCE_RUN:
        if (s->gate >= 0) {
            open_gate(s);
        } else if (was_frozen) {
            signal_qemu(s, SIGCONT);
        }
        break;
    }
    arm(s, now.boot_ns + look_ns);
}

static void greet(struct supervisor *s)
{
    int fd = accept4(WORKER_FD_SUP, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        return;
    }
    if (s->worker >= 0) {
        (void)close(s->worker);
    }
    s->worker = fd;
    s->greeted = true;
    struct worker_supervise_hello hello = {
        .magic = WORKER_SUPERVISE_MAGIC,
        .version = 1,
        .supervisor_pid = getpid(),
        .qemu_pid = s->qemu,
        .frozen = s->fence.verdict == WORKER_FENCE_FREEZE,
    };
    (void)!send(fd, &hello, sizeof hello, MSG_NOSIGNAL);
}

static void listen_to_worker(struct supervisor *s)
{
    char orders[16];
    ssize_t n = recv(s->worker, orders, sizeof orders, 0);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        (void)close(s->worker); /* the worker is gone; the lease decides from here on */
        s->worker = -1;
        return;
    }
    for (ssize_t i = 0; i < n; i++) {
        if (orders[i] == WORKER_SUPERVISE_KILL) {
            signal_qemu(s, SIGKILL);
        } else if (orders[i] == WORKER_SUPERVISE_CHECK) {
            obey_lease(s);
        }
    }
}

static void watch(struct supervisor *s)
{
    for (;;) {
        struct pollfd fds[] = {
            {s->pidfd, POLLIN, 0},
            {s->timer, POLLIN, 0},
            {WORKER_FD_SUP, POLLIN, 0},
            {s->worker, POLLIN, 0},
        };
        if (poll(fds, ARRAY_LEN(fds), -1) < 0) {
            continue;
        }
        if (fds[0].revents != 0) {
            return;
        }
        if (fds[1].revents != 0) {
            uint64_t ticks;
            (void)!read(s->timer, &ticks, sizeof ticks);
            obey_lease(s);
        }
        if (s->worker >= 0 && fds[3].revents != 0) {
            listen_to_worker(s);
        }
        if (fds[2].revents != 0) {
            greet(s);
        }
    }
}

static void bury(struct supervisor *s)
{
    struct worker_supervise_exit last = {.magic = WORKER_SUPERVISE_MAGIC, .expired = s->expired};
    (void)waitpid(s->qemu, &last.status, 0);
    off_t end = lseek(WORKER_FD_LOG, 0, SEEK_END);
    off_t from = end > (off_t)sizeof last.log - 1 ? end - (off_t)sizeof last.log + 1 : 0;
    (void)!pread(WORKER_FD_LOG, last.log, sizeof last.log - 1, from);
    /* A QEMU that ends at once must not be gone before the worker has connected to hear why. */
    struct pollfd first = {WORKER_FD_SUP, POLLIN, 0};
    (void)fcntl(WORKER_FD_SUP, F_SETFL, O_NONBLOCK);
    if (!s->greeted) {
        (void)poll(&first, 1, FIRST_GREETING_MS);
    }
    if (s->worker < 0) {
        greet(s);
    }
    /* The folder goes before the news: whoever hears of the end may use the slot again. */
    if (worker_supervise_remove_dir(s->dir) != 0) {
        say(s->dir);
    }
    if (s->worker >= 0) {
        (void)!send(s->worker, &last, sizeof last, MSG_NOSIGNAL);
    }
}

/* A machine whose processors are all busy must not make a freeze late. QEMU does not inherit it. */
static void hurry(void)
{
    struct sched_param first = {.sched_priority = 1};
    (void)sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &first);
}

static int start(struct supervisor *s)
{
    if (!map_page(s)) {
        say("lease page");
        return 1;
    }
    struct worker_fence_clock now = {base_clock_boot_ns(), base_clock_mono_ns()};
    worker_fence_init(&s->fence, &now, s->template);
    hurry();
    int gate[2] = {-1, -1};
    bool ok = pipe2(gate, O_CLOEXEC) == 0;
    s->timer = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    s->qemu = ok && s->timer >= 0 ? fork() : -1;
    if (s->qemu < 0) {
        say("start");
        return 1;
    }
    if (s->qemu == 0) {
        (void)close(gate[1]);
        run_qemu(s, gate[0]);
    }
    (void)close(gate[0]);
    s->gate = gate[1];
    s->pidfd = (int)syscall(SYS_pidfd_open, s->qemu, 0);
    struct base_error err;
    if (s->pidfd < 0 || worker_jail_supervisor(&err) != 0) {
        say("pidfd or privileges");
        (void)kill(s->qemu, SIGKILL);
        bury(s);
        return 1;
    }
    /* QEMU's ends only; in the supervisor they would keep dead sockets connectable. */
    for (int fd = WORKER_FD_CTL; fd <= WORKER_FD_STATE; fd++) {
        (void)close(fd);
    }
    (void)close(WORKER_FD_KERNEL);
    (void)close(WORKER_FD_INITRD);
    obey_lease(s);
    return 0;
}

int main(int argc, char **argv)
{
    struct supervisor s;
    if (!parse(argc, argv, &s)) {
        (void)fprintf(stderr,
            "usage: warren-supervisor [--template] [--huge-pages] --dir DIR --uid UID "
            "[--kvm-gid GID] -- QEMU ARGUMENTS\nStarted by warren-worker, with descriptors "
            "3..13.\n");
        return 2;
    }
    /* Out of the worker's session, process group and family: its end must not be ours. */
    if (setsid() < 0) {
        say("setsid");
    }
    pid_t pid = fork();
    if (pid != 0) {
        return pid < 0;
    }
    (void)prctl(PR_SET_NAME, "warren-superv");
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGHUP, SIG_IGN);
    if (start(&s) != 0) {
        return 1;
    }
    watch(&s);
    bury(&s);
    return 0;
}
