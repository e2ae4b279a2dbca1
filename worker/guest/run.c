#include "worker/guest/run.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/container.h"
#include "proto/base/err.h"
#include "worker/guest/cgroup.h"
#include "worker/guest/kernel_msg.h"
#include "worker/guest/output.h"

enum {
    START_S_MAX = 180, /* an interpreter with all its libraries under software emulation */
    START_FAILURES_MAX = 2,
    STOP_MS = 2000, /* between SIGINT and SIGKILL */
    READ_BYTES = 64 << 10,
    KEEP_BYTES = 256 << 10, /* a larger buffer is given back after a large message */
    EXIT_NOT_STARTED = 125,
    SIGNAL_EXIT = 128,
    EXIT_KILLED = SIGNAL_EXIT + SIGKILL,
};

static void start_next(struct agent_kernel *k);

static void set_limit(struct agent_kernel *k, uint64_t ms)
{
    k->limit.at_ns = ms == 0 ? 0 : base_clock_mono_ns() + ms * BASE_NS_PER_MS;
}

static int start_kernel(struct agent_kernel *k)
{
    int rc = agent_kernel_spawn(k);
    if (rc != 0) {
        LOG_ERROR(
            k->runner->log, "kernel does not start kernel=%s error=%s", k->name, strerror(-rc));
        return rc;
    }
    set_limit(k, START_S_MAX * 1000);
    return 0;
}

/* Was anything below `user` killed for want of memory since this was last asked? */
static bool out_of_memory(struct agent_runner *r)
{
    uint64_t n = agent_cgroup_oom_kills();
    bool more = n > r->oom_kills;
    r->oom_kills = n;
    return more;
}

/* The end of the current execution. */
static void finish(struct agent_kernel *k, Warren__DoneStatus status, int exit_code, bool restarted)
{
    struct agent_exec *e = k->current;
    for (int i = 0; i < 2; i++) {
        agent_output_flush(&k->output[i]);
    }
    Warren__GuestDone done = WARREN__GUEST_DONE__INIT;
    done.status = status;
    done.exit_code = exit_code;
    done.duration_us = (base_clock_mono_ns() - e->started_ns) / 1000;
    done.stdout_bytes = e->out_written[0];
    done.stderr_bytes = e->out_written[1];
    done.kernel_restarted = restarted;
    k->current = NULL;
    k->limit.at_ns = 0;
    agent_exec_finish(e, &done);
}

/* An execution whose interpreter could not be started. */
static void fail_queue(struct agent_kernel *k)
{
    while (k->queue != NULL) {
        struct agent_exec *e = k->queue;
        k->queue = e->next_queued;
        Warren__GuestDone done = WARREN__GUEST_DONE__INIT;
        done.status = WARREN__DONE_STATUS__DONE_KERNEL_DIED;
        done.exit_code = -1;
        agent_exec_finish(e, &done);
    }
}

static void start_next(struct agent_kernel *k)
{
    if (k->queue == NULL || k->ending) {
        return;
    }
    if (k->state == AGENT_KERNEL_OFF) {
        k->wanted = !k->fresh;
        if (start_kernel(k) != 0) {
            fail_queue(k);
        }
        return;
    }
    if (k->state != AGENT_KERNEL_IDLE) {
        return;
    }
    struct agent_exec *e = k->queue;
    k->queue = e->next_queued;
    e->next_queued = NULL;
    k->current = e;
    k->state = AGENT_KERNEL_BUSY;
    agent_output_begin(&k->output[0]);
    agent_output_begin(&k->output[1]);
    agent_exec_start(e);
    set_limit(k, e->timeout_ms);
    char args[32];
    k->serial = (k->serial + 1) & INT32_MAX;
    (void)snprintf(args, sizeof args, "%s.%" PRIu32, e->hidden ? "hidden" : "-", k->serial);
    if (agent_kernel_request(k, "exec", args, base_buf_data(&e->code), base_buf_size(&e->code)) !=
        0) {
        agent_kernel_kill(k);
    }
}

static void on_parts(struct agent_kernel *k, const struct agent_kernel_msg *m)
{
    struct agent_kernel_mime mime;
    int n = agent_kernel_msg_mime(m, &mime);
    if (n < 0) {
        agent_kernel_kill(k);
        return;
    }
    Warren__GuestEvent ev = WARREN__GUEST_EVENT__INIT;
    ev.kind = m->verb == AGENT_KERNEL_RESULT ? WARREN__EVENT_KIND__EVENT_RESULT
                                             : WARREN__EVENT_KIND__EVENT_DISPLAY;
    ev.n_mime = (size_t)n;
    ev.mime = mime.list;
    if (agent_exec_emit(k->current, &ev) != 0) {
        LOG_WARN(k->runner->log, "display lost kernel=%s bytes=%zu", k->name, m->body_len);
    }
}

static void on_error(struct agent_kernel *k, const struct agent_kernel_msg *m)
{
    const char *name, *value;
    Warren__GuestEvent ev = WARREN__GUEST_EVENT__INIT;
    if (agent_kernel_msg_error(m, &name, &value, &ev.data) != 0) {
        agent_kernel_kill(k);
        return;
    }
    ev.kind = WARREN__EVENT_KIND__EVENT_ERROR;
    ev.error_name = (char *)(uintptr_t)name;
    ev.error_value = (char *)(uintptr_t)value;
    if (agent_exec_emit(k->current, &ev) != 0) {
        LOG_WARN(k->runner->log, "error lost kernel=%s bytes=%zu", k->name, m->body_len);
    }
}

static void on_done(struct agent_kernel *k, const struct agent_kernel_msg *m)
{
    Warren__DoneStatus status = m->status;
    int code = (int)m->number;
    if (k->current->stop_reason != 0) {
        status = (Warren__DoneStatus)k->current->stop_reason;
    } else if (status == WARREN__DONE_STATUS__DONE_INTERRUPTED) {
        status = WARREN__DONE_STATUS__DONE_ERROR; /* it interrupted itself */
    } else if (code == EXIT_KILLED && out_of_memory(k->runner)) {
        status = WARREN__DONE_STATUS__DONE_OUT_OF_MEMORY;
    }
    k->state = AGENT_KERNEL_IDLE;
    finish(k, status, code, k->ending && !k->fresh);
    if (k->fresh) {
        agent_kernel_kill(k);
    } else {
        start_next(k);
    }
}

/* User code wrote to the reply pipe: what comes from there cannot be believed any more. */
static void nonsense(struct agent_kernel *k)
{
    LOG_WARN(k->runner->log, "kernel sent nonsense kernel=%s", k->name);
    k->reply_eof = true;
    agent_kernel_kill(k);
}

static void on_message(struct agent_kernel *k, const struct agent_kernel_msg *m)
{
    switch (m->verb) {
    case AGENT_KERNEL_READY:
        if (k->state == AGENT_KERNEL_STARTING) {
            k->state = AGENT_KERNEL_IDLE;
            k->limit.at_ns = 0;
            k->failures = 0;
            start_next(k);
            k->runner->changed(k->runner->owner);
        }
        return;
    case AGENT_KERNEL_SEEDED:
        k->seeds_out -= k->seeds_out > 0 ? 1 : 0;
        k->runner->changed(k->runner->owner);
        return;
    case AGENT_KERNEL_DISPLAY:
    case AGENT_KERNEL_SHOW:
    case AGENT_KERNEL_RESULT:
        if (k->current != NULL) {
            on_parts(k, m);
        }
        if (m->verb == AGENT_KERNEL_SHOW && agent_kernel_request(k, "shown", "-", NULL, 0) != 0) {
            agent_kernel_kill(k);
        }
        return;
    case AGENT_KERNEL_ERROR:
        if (k->current != NULL) {
            on_error(k, m);
        }
        return;
    case AGENT_KERNEL_DONE:
        if (k->current != NULL && m->serial == k->serial) {
            on_done(k, m);
        } else {
            nonsense(k);
        }
        return;
    case AGENT_KERNEL_STARTED:
        agent_kernel_started(k, (pid_t)m->number);
        return;
    default:
        return;
    }
}

/* The interpreter was reaped and all it left behind is read. */
static void died(struct agent_kernel *k)
{
    bool starting = k->state == AGENT_KERNEL_STARTING;
    int st = k->wait_status;
    int code = WIFEXITED(st) ? WEXITSTATUS(st) : SIGNAL_EXIT + WTERMSIG(st);
    if (!k->fresh || starting) {
        LOG_INFO(k->runner->log, "kernel ended kernel=%s code=%d", k->name, code);
    }
    if (k->current != NULL) {
        Warren__DoneStatus status = WARREN__DONE_STATUS__DONE_KERNEL_DIED;
        bool oom = code == EXIT_KILLED && out_of_memory(k->runner);
        if (k->current->stop_reason != 0) {
            status = (Warren__DoneStatus)k->current->stop_reason;
        } else if (oom) {
            status = WARREN__DONE_STATUS__DONE_OUT_OF_MEMORY;
        }
        finish(k, status, code, !k->fresh);
    }
    agent_kernel_close(k);
    if (starting && ++k->failures >= START_FAILURES_MAX) {
        k->failures = 0;
        k->wanted = false;
        fail_queue(k);
    } else if (k->wanted && start_kernel(k) != 0) {
        fail_queue(k);
    }
    start_next(k);
    k->runner->changed(k->runner->owner);
}

/* 1: a whole message is at the front; 0: not yet; < 0: what came is none. */
static int next_message(struct agent_kernel *k, struct agent_kernel_msg *m)
{
    for (;;) {
        int rc = agent_kernel_msg_parse(base_buf_data(&k->in), base_buf_size(&k->in), m);
        if (rc != 0 || k->reply_eof) {
            return rc;
        }
        uint8_t *at = base_buf_room(&k->in, READ_BYTES);
        ssize_t n = at == NULL ? -1 : read(k->reply.fd, at, READ_BYTES);
        if (n > 0) {
            base_buf_grow(&k->in, (size_t)n);
        } else if (n == 0) {
            k->reply_eof = true;
        } else if (errno != EINTR || at == NULL) {
            return 0;
        }
    }
}

static void consume(struct agent_kernel *k, size_t n)
{
    base_buf_consume(&k->in, n);
    if (k->in.cap > KEEP_BYTES && base_buf_size(&k->in) == 0) {
        base_buf_deinit(&k->in);
    }
}

static bool is_output(const struct agent_kernel_msg *m)
{
    return m->verb == AGENT_KERNEL_DISPLAY || m->verb == AGENT_KERNEL_SHOW ||
           m->verb == AGENT_KERNEL_RESULT || m->verb == AGENT_KERNEL_ERROR;
}

/* Handles messages as far as they have come. False when the host must acknowledge events first. */
static bool handle_messages(struct agent_kernel *k)
{
    for (;;) {
        if (!agent_output_drain(&k->output[0]) || !agent_output_drain(&k->output[1])) {
            return false;
        }
        struct agent_kernel_msg m;
        int rc = next_message(k, &m);
        if (rc == 0) {
            return true;
        }
        if (rc < 0) {
            base_buf_clear(&k->in);
            nonsense(k);
            return true;
        }
        if (!k->marked) {
            agent_output_mark(&k->output[0]);
            agent_output_mark(&k->output[1]);
            k->marked = true;
            continue;
        }
        if (is_output(&m) && k->current != NULL && !agent_exec_window(k->current)) {
            return false;
        }
        k->marked = false;
        on_message(k, &m);
        consume(k, m.total);
    }
}

void agent_run_step(struct agent_kernel *k)
{
    while (k->active) {
        if (!handle_messages(k)) {
            return;
        }
        if (!k->exited) {
            if (k->reply_eof && k->pid == 0) {
                k->exited = true; /* it was never forked, or not long enough to say so */
                k->wait_status = EXIT_NOT_STARTED << 8;
                continue;
            }
            if (k->reply_eof) {
                agent_kernel_kill(k); /* it can answer nothing any more */
            } else {
                agent_loop_rearm(k->runner->loop, &k->reply, EPOLLIN | EPOLLONESHOT);
            }
            return;
        }
        if (k->drained) {
            died(k);
            return;
        }
        agent_output_mark(&k->output[0]);
        agent_output_mark(&k->output[1]);
        k->drained = true;
    }
}

static void stop(struct agent_kernel *k, Warren__DoneStatus reason)
{
    if (k->current->stop_reason == 0) {
        k->current->stop_reason = (int)reason;
        agent_kernel_interrupt(k);
        set_limit(k, STOP_MS);
    }
}

static void on_limit(struct agent_timer *t)
{
    struct agent_kernel *k = CONTAINER_OF(t, struct agent_kernel, limit);
    if (k->current != NULL && k->current->stop_reason == 0) {
        stop(k, WARREN__DONE_STATUS__DONE_TIMEOUT);
    } else if (k->wants_forks) {
        agent_forks_stop(&k->runner->forks); /* when it is reaped the start goes on without */
    } else if (k->active) {
        LOG_INFO(k->runner->log, "kernel does not react, killing it kernel=%s", k->name);
        agent_kernel_kill(k);
    }
}

void agent_runner_interrupt(struct agent_runner *r, struct agent_exec *e)
{
    for (int i = 0; i < AGENT_RUNNER_KERNELS; i++) {
        struct agent_kernel *k = &r->kernel[i];
        if (k->current == e) {
            stop(k, WARREN__DONE_STATUS__DONE_INTERRUPTED);
            return;
        }
        for (struct agent_exec **at = &k->queue; *at != NULL; at = &(*at)->next_queued) {
            if (*at == e) {
                *at = e->next_queued;
                Warren__GuestDone done = WARREN__GUEST_DONE__INIT;
                done.status = WARREN__DONE_STATUS__DONE_INTERRUPTED;
                agent_exec_finish(e, &done);
                return;
            }
        }
    }
}

/* The fork server became ready or ended. */
static void on_forks(void *owner)
{
    struct agent_runner *r = owner;
    for (int i = 0; i < AGENT_RUNNER_KERNELS; i++) {
        if (agent_kernel_spawn_waiting(&r->kernel[i]) != 0) {
            fail_queue(&r->kernel[i]);
        }
    }
    r->changed(r->owner);
}

void agent_runner_reaped(struct agent_runner *r, pid_t pid, int wait_status)
{
    if (agent_forks_reaped(&r->forks, pid)) {
        return;
    }
    for (int i = 0; i < AGENT_RUNNER_KERNELS; i++) {
        if (r->kernel[i].active && r->kernel[i].pid == 0) {
            agent_run_step(&r->kernel[i]); /* may be the one, and its process id still unread */
        }
    }
    for (int i = 0; i < AGENT_RUNNER_KERNELS; i++) {
        struct agent_kernel *k = &r->kernel[i];
        if (k->pid == pid && !k->exited) {
            k->exited = true;
            agent_kernel_kill(k); /* what it left running */
            k->wait_status = wait_status;
            agent_run_step(k);
            return;
        }
    }
}

static void on_submit(void *owner, struct agent_exec *e)
{
    struct agent_runner *r = owner;
    struct agent_kernel *k = agent_runner_kernel(r, e->kernel);
    REQUIRE(k != NULL); /* exec.c has checked it */
    k += e->fresh ? AGENT_RUNNER_KERNELS / 2 : 0;
    struct agent_exec **at = &k->queue;
    while (*at != NULL) {
        at = &(*at)->next_queued;
    }
    *at = e;
    start_next(k);
}

static void on_acked(void *owner, struct agent_exec *e)
{
    struct agent_runner *r = owner;
    (void)e; /* the bound on all events together may have held others back too */
    for (int i = 0; i < AGENT_RUNNER_KERNELS; i++) {
        struct agent_kernel *k = &r->kernel[i];
        if (k->current != NULL && agent_exec_window(k->current)) {
            agent_run_step(k);
            agent_output_resume(&k->output[0]);
            agent_output_resume(&k->output[1]);
        }
    }
}

const struct agent_execs_ops agent_runner_execs = {.submit = on_submit, .acked = on_acked};

struct agent_kernel *agent_runner_kernel(struct agent_runner *r, Warren__Kernel kind)
{
    int i = (int)kind - 1;
    return i < 0 || i >= AGENT_RUNNER_KERNELS / 2 ? NULL : &r->kernel[i];
}

int agent_runner_want(struct agent_runner *r, Warren__Kernel kind)
{
    struct agent_kernel *k = agent_runner_kernel(r, kind);
    if (k == NULL) {
        return -EINVAL;
    }
    int rc = k->state == AGENT_KERNEL_OFF ? start_kernel(k) : 0;
    k->wanted = rc == 0;
    return rc;
}

int agent_runner_init(struct agent_runner *r)
{
    static const char *const names[] = {
        "python", "node", "shell", "python-fresh", "node-fresh", "shell-fresh"};
    r->null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (r->null_fd < 0) {
        return -errno;
    }
    agent_forks_init(&r->forks, r->loop, r->config, on_forks, r);
    for (int i = 0; i < AGENT_RUNNER_KERNELS; i++) {
        struct agent_kernel *k = &r->kernel[i];
        *k = (struct agent_kernel){.runner = r, .name = names[i], .fresh = i >= 3};
        k->kind = (Warren__Kernel)(1 + i % 3);
        k->request.fd = k->reply.fd = -1;
        k->output[0].watch.fd = k->output[1].watch.fd = -1;
        k->limit.fired = on_limit;
        agent_loop_timer_add(r->loop, &k->limit);
        int rc = agent_cgroup_make(names[i]);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

void agent_runner_cork(struct agent_runner *r)
{
    r->corked = true;
}

void agent_runner_uncork(struct agent_runner *r)
{
    r->corked = false;
    for (int i = 0; i < AGENT_RUNNER_KERNELS; i++) {
        agent_kernel_flush(&r->kernel[i]);
    }
}

void agent_runner_deinit(struct agent_runner *r)
{
    for (int i = 0; i < AGENT_RUNNER_KERNELS; i++) {
        struct agent_kernel *k = &r->kernel[i];
        if (k->active) {
            agent_kernel_kill(k);
            if (!k->exited && k->pid > 0) {
                (void)waitpid(k->pid, NULL, 0);
            }
        }
        agent_kernel_close(k);
        agent_loop_timer_remove(r->loop, &k->limit);
    }
    agent_forks_deinit(&r->forks);
    (void)close(r->null_fd);
}
