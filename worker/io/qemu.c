#include "worker/io/qemu.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "proto/base/container.h"

extern char **environ;

enum { ARGS_MAX = 80, TEXT_MAX = 4096, FD_HIGH = 300 };
enum { BACKLOG = 128 }; /* each worker that starts while a microVM is frozen leaves a connection */

/* --- command line -------------------------------------------------------------------------- */

struct args {
    char *v[ARGS_MAX];
    int n;
    char text[TEXT_MAX];
    size_t used;
};

__attribute__((format(printf, 2, 3))) static void arg(struct args *a, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(a->text + a->used, sizeof a->text - a->used, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof a->text - a->used || a->n + 1 >= ARGS_MAX) {
        a->n = ARGS_MAX; /* checked once, at the end */
        return;
    }
    a->v[a->n++] = a->text + a->used;
    a->used += (size_t)n + 1;
}

static void add_port(struct args *a, const char *name, int fd)
{
    arg(a, "-chardev");
    arg(a, "socket,id=%s,fd=%d,server=on,wait=off", name, fd);
    arg(a, "-device");
    arg(a, "virtserialport,chardev=%s,name=warren.%s", name, name);
}

/* All that the emulator knows but what is dear under emulation: "rep movsb" moves a byte per round
 * (a pipe write of 64 KiB 6 times as slow as in words), SMAP gives the kernel a second TLB to fill
 * and a fifth level makes each fill longer. None of it guards the host. */
#define EMULATED_CPU "max,erms=off,smap=off,la57=off"

/* Devices and their order are part of the saved state: template and clones share every line here
 * but those that only the template has at its end. */
static void add_machine(struct args *a, const struct worker_qemu_machine *m, bool template)
{
    arg(a, "%s", m->qemu);
    arg(a, "-M");
    arg(a, "microvm,pit=off,pic=off,rtc=on,isa-serial=on,x-option-roms=off,mem-merge=off,"
           "memory-backend=ram");
    arg(a, "-accel");
    arg(a, "%s", m->kvm ? "kvm" : "tcg");
    arg(a, "-cpu");
    arg(a, "%s", m->kvm ? "host" : EMULATED_CPU);
    arg(a, "-m");
    arg(a, "%uM", m->memory_mib);
    arg(a, "-smp");
    arg(a, "%u", m->cpus);
    arg(a, "-object");
    /* Shared only in the template; a clone's mapping is private, and the memfd is sealed by then.
     */
    arg(a, "memory-backend-file,id=ram,size=%uM,mem-path=/proc/self/fd/%d,share=%s", m->memory_mib,
        WORKER_FD_MEMORY, template ? "on" : "off");
    static const char *const plain[] = {
        "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-add-fd"};
    for (size_t i = 0; i < ARRAY_LEN(plain); i++) {
        arg(a, "%s", plain[i]);
    }
    arg(a, "fd=%d,set=1", WORKER_FD_ROOT);
    arg(a, "-blockdev");
    arg(a, "driver=raw,node-name=root,read-only=on,file.driver=file,file.read-only=on,"
           "file.locking=off,file.filename=/dev/fdset/1");
    arg(a, "-device");
    arg(a, "virtio-blk-device,drive=root");
    arg(a, "-device");
    arg(a, "virtio-serial-device,max_ports=4");
    add_port(a, "ctl", WORKER_FD_CTL);
    add_port(a, "bulk", WORKER_FD_BULK);
    arg(a, "-chardev");
    arg(a, "socket,id=qmp,fd=%d,server=on,wait=off", WORKER_FD_QMP);
    arg(a, "-mon");
    arg(a, "chardev=qmp,mode=control");
    arg(a, "-sandbox");
    arg(a, "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
}

static void add_rest(struct args *a, const struct worker_qemu_spawn *s)
{
    if (s->state_fd >= 0) {
        arg(a, "-serial");
        arg(a, "null");
        arg(a, "-incoming");
        arg(a, "defer");
        return;
    }
    /* The console goes to QEMU's output, which is the log. */
    arg(a, "-chardev");
    arg(a, "stdio,id=console,signal=off");
    arg(a, "-serial");
    arg(a, "chardev:console");
    arg(a, "-kernel");
    arg(a, "/proc/self/fd/%d", WORKER_FD_KERNEL);
    arg(a, "-initrd");
    arg(a, "/proc/self/fd/%d", WORKER_FD_INITRD);
    arg(a, "-append");
    arg(a, "%s", s->append);
}

static bool build(struct args *a, const struct worker_qemu_spawn *s)
{
    *a = (struct args){.n = 0};
    arg(a, "%s", s->supervisor);
    if (s->state_fd < 0) {
        arg(a, "--template");
    }
    arg(a, "--dir");
    arg(a, "%s", s->dir);
    arg(a, "--uid");
    arg(a, "%u", (unsigned)s->uid);
    if (!s->machine->kvm) {
        arg(a, "--huge-pages");
    }
    struct stat st;
    if (s->machine->kvm && stat("/dev/kvm", &st) == 0) {
        arg(a, "--kvm-gid");
        arg(a, "%u", (unsigned)st.st_gid);
    }
    arg(a, "--");
    add_machine(a, s->machine, s->state_fd < 0);
    add_rest(a, s);
    return a->n < ARGS_MAX;
}

/* --- sockets ------------------------------------------------------------------------------- */

static bool address(struct sockaddr_un *to, const char *dir, const char *name)
{
    *to = (struct sockaddr_un){.sun_family = AF_UNIX};
    int n = snprintf(to->sun_path, sizeof to->sun_path, "%s/%s", dir, name);
    return n > 0 && (size_t)n < sizeof to->sun_path;
}

static int listen_at(const char *dir, const char *name, struct base_error *err)
{
    struct sockaddr_un a;
    if (!address(&a, dir, name)) {
        return base_fail(err, BASE_ETOOBIG, "'%s/%s' is too long for a socket", dir, name);
    }
    CLEANUP(base_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) != 0 || listen(fd, BACKLOG) != 0) {
        return base_fail(err, -errno, "listen at '%s': %s", a.sun_path, strerror(errno));
    }
    return TAKE_FD(fd);
}

static int connect_to(const char *dir, const char *name)
{
    struct sockaddr_un a;
    if (!address(&a, dir, name)) {
        return -ENAMETOOLONG;
    }
    CLEANUP(base_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) != 0) {
        return -errno;
    }
    return TAKE_FD(fd);
}

static const char *const port_names[] = {"ctl.sock", "bulk.sock", "qmp.sock"};

static void close_fds(int *fds, int n)
{
    for (int i = 0; i < n; i++) {
        base_closep(&fds[i]);
        fds[i] = -1;
    }
}

static int connect_ports(const char *dir, int ret_fds[3])
{
    for (int i = 0; i < 3; i++) {
        ret_fds[i] = connect_to(dir, port_names[i]);
        if (ret_fds[i] < 0) {
            int rc = ret_fds[i];
            close_fds(ret_fds, i);
            return rc;
        }
    }
    return 0;
}

/* --- the supervisor's side ------------------------------------------------------------------ */

static void gone(struct worker_qemu *q, const char *how, const char *log)
{
    ev_io_stop(q->loop, &q->io);
    base_closep(&q->sup);
    q->sup = -1;
    q->events.gone(q->events.user, how, log);
}

static void describe(const struct worker_supervise_exit *last, char how[64])
{
    int st = last->status;
    if (last->expired) {
        (void)snprintf(how, 64, "ended because the lease ran out");
    } else if (WIFSIGNALED(st)) {
        (void)snprintf(how, 64, "QEMU ended by signal %d", WTERMSIG(st));
    } else {
        (void)snprintf(how, 64, "QEMU ended with code %d", WEXITSTATUS(st));
    }
}

static void on_supervisor(struct ev_loop *loop, ev_io *w, int revents)
{
    (void)loop;
    (void)revents;
    struct worker_qemu *q = CONTAINER_OF(w, struct worker_qemu, io);
    ssize_t n = recv(q->sup, q->in + q->in_n, sizeof q->in - q->in_n, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n <= 0) {
        gone(q, "the supervisor ended", "");
        return;
    }
    q->in_n += (size_t)n;
    struct worker_supervise_hello hello;
    if (!q->greeted && q->in_n >= sizeof hello) {
        memcpy(&hello, q->in, sizeof hello);
        q->greeted = true;
        q->qemu_pid = hello.qemu_pid;
    }
    struct worker_supervise_exit last;
    if (q->in_n >= sizeof hello + sizeof last) {
        memcpy(&last, q->in + sizeof hello, sizeof last);
        last.log[sizeof last.log - 1] = '\0';
        char how[64];
        describe(&last, how);
        gone(q, how, last.log);
    }
}

static int watch(struct worker_qemu *q, struct ev_loop *loop, const char *dir,
    const struct worker_qemu_events *events)
{
    *q = (struct worker_qemu){.loop = loop, .events = *events, .sup = -1};
    (void)snprintf(q->dir, sizeof q->dir, "%s", dir);
    q->sup = connect_to(dir, "sup.sock");
    if (q->sup < 0) {
        return q->sup;
    }
    ev_io_init(&q->io, on_supervisor, q->sup, EV_READ);
    ev_io_start(loop, &q->io);
    return 0;
}

/* --- start ---------------------------------------------------------------------------------- */

/* Sources move above every target first, so that no dup2 overwrites one that is still needed. */
static int spawn_with(const struct args *a, int src[WORKER_FD_END], struct base_error *err)
{
    posix_spawn_file_actions_t acts;
    posix_spawnattr_t attr;
    (void)posix_spawn_file_actions_init(&acts);
    (void)posix_spawnattr_init(&attr);
    sigset_t all, none;
    sigfillset(&all);
    sigemptyset(&none);
    (void)posix_spawnattr_setsigdefault(&attr, &all);
    (void)posix_spawnattr_setsigmask(&attr, &none);
    (void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    (void)posix_spawn_file_actions_addopen(&acts, 0, "/dev/null", O_RDONLY, 0);
    int high[WORKER_FD_END];
    int rc = 0;
    for (int i = WORKER_FD_CTL; i < WORKER_FD_END; i++) {
        high[i] = fcntl(src[i], F_DUPFD_CLOEXEC, FD_HIGH);
        rc = high[i] < 0 ? -errno : rc;
        (void)posix_spawn_file_actions_adddup2(&acts, high[i] < 0 ? 0 : high[i], i);
    }
    pid_t pid;
    if (rc == 0) {
        rc = -posix_spawn(&pid, a->v[0], &acts, &attr, a->v, environ);
    }
    close_fds(high + WORKER_FD_CTL, WORKER_FD_END - WORKER_FD_CTL);
    (void)posix_spawn_file_actions_destroy(&acts);
    (void)posix_spawnattr_destroy(&attr);
    if (rc != 0) {
        return base_fail(err, rc, "start '%s': %s", a->v[0], strerror(-rc));
    }
    return 0; /* the first process ends at once; libev's child handling reaps it */
}

int worker_qemu_record(const char *dir, const char *text, struct base_error *err)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/record", dir);
    CLEANUP(base_closep) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text)) {
        return base_fail(err, -errno, "write '%s': %s", path, strerror(errno));
    }
    return 0;
}

static int open_log(const char *dir, const char *name)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    return open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int start(const struct worker_qemu_spawn *s, struct base_error *err)
{
    struct args a;
    if (!build(&a, s)) {
        return base_fail(err, BASE_ETOOBIG, "QEMU's command line is too long");
    }
    CLEANUP(base_closep) int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int src[WORKER_FD_END];
    for (int i = 0; i < WORKER_FD_END; i++) {
        src[i] = null;
    }
    src[WORKER_FD_MEMORY] = s->memory_fd;
    src[WORKER_FD_ROOT] = s->root_fd;
    src[WORKER_FD_LEASE] = s->lease_fd;
    src[WORKER_FD_KERNEL] = s->state_fd < 0 ? s->kernel_fd : null;
    src[WORKER_FD_INITRD] = s->state_fd < 0 ? s->initrd_fd : null;
    int own[6] = {-1, -1, -1, -1, -1, -1};
    int rc = 0;
    for (int i = 0; i < 3 && rc >= 0; i++) {
        rc = own[i] = listen_at(s->dir, port_names[i], err);
        src[WORKER_FD_CTL + i] = own[i];
    }
    if (rc >= 0) {
        rc = own[3] = listen_at(s->dir, "sup.sock", err);
        src[WORKER_FD_SUP] = own[3];
    }
    own[4] = open_log(s->dir, "qemu.log");
    src[WORKER_FD_LOG] = own[4];
    src[WORKER_FD_STATE] = s->state_fd >= 0 ? s->state_fd : null;
    if (rc >= 0 && own[4] < 0) {
        rc = base_fail(err, -errno, "log in '%s': %s", s->dir, strerror(errno));
    }
    if (rc >= 0) {
        rc = spawn_with(&a, src, err);
    }
    close_fds(own, 6);
    return rc < 0 ? rc : 0;
}

/* QEMU ended before it was connected to: what did it say? Blocks for a moment, on a path that is
 * broken anyway. */
static int early_end(struct worker_qemu *q, struct base_error *err)
{
    struct {
        struct worker_supervise_hello hello;
        struct worker_supervise_exit last;
    } room = {0};
    struct timeval limit = {.tv_sec = 3};
    (void)fcntl(q->sup, F_SETFL, 0);
    (void)setsockopt(q->sup, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (recv(q->sup, &room, sizeof room, MSG_WAITALL) != (ssize_t)sizeof room) {
        return base_fail(err, BASE_EIO, "QEMU ended at once and nobody says why");
    }
    char how[64];
    room.last.log[sizeof room.last.log - 1] = '\0';
    describe(&room.last, how);
    size_t n = strlen(room.last.log);
    return base_fail(err, BASE_EIO, "%s: %s", how, room.last.log + (n > 110 ? n - 110 : 0));
}

int worker_qemu_spawn(struct worker_qemu *q, struct ev_loop *loop,
    const struct worker_qemu_spawn *s, const struct worker_qemu_events *events, int ret_fds[3],
    struct base_error *err)
{
    if (mkdir(s->dir, 0700) != 0) {
        return base_fail(err, -errno, "make '%s': %s", s->dir, strerror(errno));
    }
    int rc = worker_qemu_record(s->dir, s->record, err);
    if (rc == 0) {
        rc = start(s, err);
    }
    if (rc != 0) {
        (void)worker_supervise_remove_dir(s->dir);
        return rc;
    }
    rc = watch(q, loop, s->dir, events);
    if (rc != 0) {
        return base_fail(err, rc, "connect to the supervisor: %s", strerror(-rc));
    }
    if (connect_ports(s->dir, ret_fds) != 0) {
        rc = early_end(q, err);
        worker_qemu_deinit(q);
    }
    return rc;
}

static void order(struct worker_qemu *q, char what)
{
    if (q->sup >= 0) {
        (void)!send(q->sup, &what, 1, MSG_NOSIGNAL);
    }
}

void worker_qemu_kill(struct worker_qemu *q)
{
    order(q, WORKER_SUPERVISE_KILL);
}

void worker_qemu_check(struct worker_qemu *q)
{
    order(q, WORKER_SUPERVISE_CHECK);
}

int worker_qemu_adopt(struct worker_qemu *q, struct ev_loop *loop, const char *dir,
    const struct worker_qemu_events *events, int ret_fds[3])
{
    if (watch(q, loop, dir, events) != 0) {
        return BASE_ENOTFOUND;
    }
    if (connect_ports(dir, ret_fds) != 0) {
        worker_qemu_deinit(q);
        return BASE_ENOTFOUND;
    }
    worker_qemu_check(q);
    return 0;
}

bool worker_qemu_end(const char *dir)
{
    static const char order = WORKER_SUPERVISE_KILL;
    CLEANUP(base_closep) int fd = connect_to(dir, "sup.sock");
    if (fd < 0) {
        return false;
    }
    (void)fcntl(fd, F_SETFL, 0);
    struct timeval limit = {.tv_sec = 5};
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    (void)!send(fd, &order, 1, MSG_NOSIGNAL);
    char room[sizeof(struct worker_supervise_exit)];
    while (recv(fd, room, sizeof room, 0) > 0) {
    }
    return true;
}

void worker_qemu_deinit(struct worker_qemu *q)
{
    if (q->loop != NULL && q->sup >= 0) {
        ev_io_stop(q->loop, &q->io);
        (void)close(q->sup);
        q->sup = -1;
    }
}

int worker_qemu_version(const char *qemu, char *ret, size_t cap, struct base_error *err)
{
    char command[600];
    if (strchr(qemu, '\'') != NULL ||
        snprintf(command, sizeof command, "exec '%s' --version", qemu) >= (int)sizeof command) {
        return base_fail(err, BASE_EINVAL, "QEMU's path is not usable");
    }
    FILE *f = popen(command, "re");
    bool ok = f != NULL && fgets(ret, (int)cap, f) != NULL;
    int status = f != NULL ? pclose(f) : -1;
    if (!ok || (status != 0 && errno != ECHILD)) {
        return base_fail(err, BASE_ENOTFOUND, "'%s --version' does not answer", qemu);
    }
    ret[strcspn(ret, "\n")] = '\0';
    return 0;
}
