#include "worker/guest/agent.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/container.h"
#include "proto/base/err.h"
#include "proto/ids.h"

/* Handling a message costs little and the arena lives for one call. */
static void open_ctl(struct agent *a, uint32_t id, const Warren__GuestOpen *m)
{
    struct agent_stream *s = agent_streams_open(&a->ctl_streams, id);
    if (s == NULL) {
        return;
    }
    if (m != NULL && m->what_case == WARREN__GUEST_OPEN__WHAT_EXEC) {
        agent_execs_open(&a->execs, s, m->exec);
    } else if (m != NULL && m->what_case == WARREN__GUEST_OPEN__WHAT_RESUME) {
        agent_execs_resume(&a->execs, s, m->resume);
    } else {
        agent_stream_reset(s, BASE_EINVAL, "not for the control port");
    }
}

static void on_ctl_frame(struct agent_port *p, const struct proto_frame *f)
{
    struct agent *a = p->owner;
    if (f->type == PROTO_FRAME_OPEN) {
        Warren__GuestOpen *m = warren__guest_open__unpack(NULL, f->len, f->payload);
        open_ctl(a, f->stream, m);
        if (m != NULL) {
            warren__guest_open__free_unpacked(m, NULL);
        }
    } else if (f->type == PROTO_FRAME_CALL) {
        agent_call_frame(a, f->stream, f->payload, f->len);
    } else {
        agent_streams_frame(&a->ctl_streams, f);
    }
}

static void open_terminal(struct agent *a, struct agent_stream *s, const Warren__GuestTerminal *m)
{
    if (a->execs.refuse_visible) {
        agent_stream_reset(s, BASE_ESTATE, "no seed since boot or restore: user code may not run");
    } else {
        agent_terminals_open(&a->terminals, s, m);
    }
}

static void on_bulk_frame(struct agent_port *p, const struct proto_frame *f)
{
    struct agent *a = p->owner;
    if (f->type != PROTO_FRAME_OPEN) {
        agent_streams_frame(&a->bulk_streams, f);
        return;
    }
    struct agent_stream *s = agent_streams_open(&a->bulk_streams, f->stream);
    if (s == NULL) {
        return;
    }
    Warren__GuestOpen *m = warren__guest_open__unpack(NULL, f->len, f->payload);
    if (m != NULL && m->what_case == WARREN__GUEST_OPEN__WHAT_TERMINAL) {
        open_terminal(a, s, m->terminal);
    } else if (m == NULL || !agent_files_open(&a->files, s, m)) {
        agent_stream_reset(s, BASE_EINVAL, "not for the bulk port");
    }
    if (m != NULL) {
        warren__guest_open__free_unpacked(m, NULL);
    }
}

static void on_ctl_detached(struct agent_port *p)
{
    struct agent *a = p->owner;
    agent_streams_detached(&a->ctl_streams);
    a->seed_call = 0;
}

static void on_bulk_detached(struct agent_port *p)
{
    struct agent *a = p->owner;
    agent_streams_detached(&a->bulk_streams);
}

uint32_t agent_loaded(struct agent *a)
{
    uint32_t bits = 0;
    for (int kind = 1; kind <= 3; kind++) {
        if (agent_kernel_loaded(agent_runner_kernel(&a->runner, (Warren__Kernel)kind))) {
            bits |= 1U << kind;
        }
    }
    return bits;
}

enum { HELLO_IDS_MAX = 256 };

static void on_hello(struct agent_port *p, struct base_buf *out)
{
    struct agent *a = p->owner;
    Warren__GuestHello m = WARREN__GUEST_HELLO__INIT;
    ProtobufCBinaryData ids[HELLO_IDS_MAX];
    Warren__Kernel kernels[3];
    m.protocol = PROTO_GUEST_VERSION;
    m.agent = (char *)(uintptr_t) "warren-guest " WARREN_VERSION;
    m.seeded = a->seeded;
    m.executions = ids;
    for (struct agent_exec *e = a->execs.first; e != NULL && m.n_executions < HELLO_IDS_MAX;
         e = e->next) {
        if (e->state != AGENT_EXEC_RECEIVING) {
            ids[m.n_executions++] =
                (ProtobufCBinaryData){.data = e->id, .len = PROTO_EXEC_ID_BYTES};
        }
    }
    m.kernels = kernels;
    uint32_t loaded = agent_loaded(a);
    for (int kind = 1; kind <= 3; kind++) {
        if (loaded & 1U << kind) {
            kernels[m.n_kernels++] = (Warren__Kernel)kind;
        }
    }
    size_t n = warren__guest_hello__get_packed_size(&m);
    uint8_t *at = base_buf_room(out, n);
    if (at != NULL) {
        base_buf_grow(out, warren__guest_hello__pack(&m, at));
    }
}

static bool on_ctl_pull(struct agent_port *p)
{
    struct agent *a = p->owner;
    return agent_streams_pull(&a->ctl_streams);
}

static bool on_bulk_pull(struct agent_port *p)
{
    struct agent *a = p->owner;
    return agent_streams_pull(&a->bulk_streams);
}

static const struct agent_port_ops ctl_ops = {
    .frame = on_ctl_frame, .detached = on_ctl_detached, .hello = on_hello, .pull = on_ctl_pull};
static const struct agent_port_ops bulk_ops = {
    .frame = on_bulk_frame, .detached = on_bulk_detached, .hello = on_hello, .pull = on_bulk_pull};

static void on_children(struct agent_watch *w, uint32_t events)
{
    (void)events;
    struct agent *a = CONTAINER_OF(w, struct agent, children);
    struct signalfd_siginfo si;
    while (read(w->fd, &si, sizeof si) == (ssize_t)sizeof si) {
        a->stop = a->stop || (si.ssi_signo == SIGTERM && !a->config.machine);
    }
    for (;;) {
        int st;
        pid_t pid = waitpid(-1, &st, WNOHANG);
        if (pid <= 0) {
            return;
        }
        agent_runner_reaped(&a->runner, pid, st);
        agent_terminals_reaped(&a->terminals, pid, st);
    }
}

static int watch_children(struct agent *a)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGCHLD);
    (void)sigaddset(&set, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0) {
        return -errno;
    }
    a->children.ready = on_children;
    return agent_loop_add(&a->loop, &a->children, fd, EPOLLIN);
}

/* Until the boot kernels are loaded or have failed the host gets no answer to its HELLO. */
static void open_ports(struct agent *a)
{
    for (int i = 0; i < AGENT_RUNNER_KERNELS; i++) {
        if (a->runner.kernel[i].state == AGENT_KERNEL_STARTING) {
            return;
        }
    }
    int rc = agent_port_open(&a->ctl, &a->loop, a->ctl_fd);
    rc = rc == 0 ? agent_port_open(&a->bulk, &a->loop, a->bulk_fd) : rc;
    if (rc != 0) {
        LOG_ERROR(&a->log, "ports do not open error=%s", strerror(-rc));
    }
    a->ctl_fd = a->bulk_fd = -1;
    LOG_INFO(&a->log, "ready kernels=%#x", agent_loaded(a));
}

static void on_changed(void *owner)
{
    struct agent *a = owner;
    agent_call_changed(a);
}

static void want_boot_kernels(struct agent *a)
{
    static const char *const names[] = {"python", "node", "shell"};
    const char *at = a->config.boot_kernels;
    while (at != NULL && *at != '\0') {
        size_t n = strcspn(at, ",");
        bool known = false;
        for (int i = 0; i < 3; i++) {
            if (strlen(names[i]) == n && strncmp(names[i], at, n) == 0) {
                known = true;
                (void)agent_runner_want(&a->runner, (Warren__Kernel)(i + 1));
            }
        }
        if (!known) {
            LOG_WARN(&a->log, "no such kernel, going on without it: %.*s", (int)n, at);
        }
        at += n + (at[n] == ',' ? 1 : 0);
    }
}

int agent_init(struct agent *a)
{
    int rc = agent_loop_init(&a->loop);
    rc = rc == 0 ? watch_children(a) : rc;
    if (rc != 0) {
        return rc;
    }
    a->ctl = (struct agent_port){.name = "warren.ctl", .fd = -1, .owner = a, .ops = &ctl_ops};
    a->bulk = (struct agent_port){.name = "warren.bulk", .fd = -1, .owner = a, .ops = &bulk_ops};
    a->ctl.loop = a->bulk.loop = &a->loop;
    a->ctl.watch.fd = a->ctl.accept.fd = a->bulk.watch.fd = a->bulk.accept.fd = -1;
    agent_streams_init(&a->ctl_streams, &a->ctl);
    agent_streams_init(&a->bulk_streams, &a->bulk);
    agent_terminals_init(&a->terminals, &a->loop, &a->config);
    agent_execs_init(&a->execs, &agent_runner_execs, &a->runner);
    a->execs.refuse_visible = true;
    a->runner = (struct agent_runner){
        .loop = &a->loop, .log = &a->log, .config = &a->config, .changed = on_changed, .owner = a};
    rc = agent_runner_init(&a->runner);
    rc = rc == 0 ? agent_files_init(&a->files, &a->config) : rc;
    if (rc == 0) {
        want_boot_kernels(a);
    }
    return rc;
}

void agent_run(struct agent *a)
{
    while (!a->stop) {
        if (a->ctl_fd >= 0) {
            open_ports(a);
        }
        agent_runner_cork(&a->runner);
        agent_port_read(&a->ctl);
        agent_port_read(&a->bulk);
        agent_runner_uncork(&a->runner);
        agent_port_flush(&a->ctl);
        agent_port_flush(&a->bulk);
        agent_loop_turn(&a->loop);
    }
}

void agent_deinit(struct agent *a)
{
    agent_port_close(&a->ctl);
    agent_port_close(&a->bulk);
    agent_runner_deinit(&a->runner);
    agent_streams_detached(&a->ctl_streams);
    agent_streams_detached(&a->bulk_streams);
    agent_execs_deinit(&a->execs);
    agent_files_deinit(&a->files);
    int fd = a->children.fd;
    agent_loop_remove(&a->loop, &a->children);
    (void)close(fd);
    agent_loop_deinit(&a->loop);
}
