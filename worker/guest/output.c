#include "worker/guest/output.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/container.h"
#include "proto/base/err.h"
#include "worker/guest/run.h"

enum {
    EVENT_DATA_MAX = 16 << 10,
    READ_TURN_MAX = 64 << 10,
    DROP_MAX = 1 << 20,
    PAUSE_MS = 5, /* between two events of a program that writes little by little */
};

enum { GOT_NOTHING = 0, WINDOW_CLOSED = -1 };

size_t agent_output_cut(const uint8_t *data, size_t n)
{
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        uint8_t c = data[n - back];
        if ((c & 0xC0) == 0x80) {
            continue;
        }
        size_t whole = c >= 0xF0 && c < 0xF8 ? 4 : c >= 0xE0 ? 3 : c >= 0xC0 ? 2 : 1;
        return c < 0xF8 && whole > back ? back : 0;
    }
    return 0;
}

static size_t waiting(const struct agent_output *o)
{
    int n = 0;
    return o->watch.fd >= 0 && ioctl(o->watch.fd, FIONREAD, &n) == 0 && n > 0 ? (size_t)n : 0;
}

/* Throws up to n bytes away without copying them. */
static ssize_t discard(const struct agent_output *o, size_t n)
{
    return splice(o->watch.fd, NULL, o->kernel->runner->null_fd, NULL, n, SPLICE_F_NONBLOCK);
}

static void emit(struct agent_output *o, struct agent_exec *e, uint8_t *data, size_t n)
{
    Warren__GuestEvent ev = WARREN__GUEST_EVENT__INIT;
    ev.kind = o->which == 0 ? WARREN__EVENT_KIND__EVENT_STDOUT : WARREN__EVENT_KIND__EVENT_STDERR;
    ev.data.data = data;
    ev.data.len = n;
    if (n > 0 && agent_exec_emit(e, &ev) != 0) {
        LOG_WARN(o->kernel->runner->log, "output lost, no memory; bytes=%zu", n);
    }
}

/* Keeps n bytes of output up to the execution's limit. */
static void keep(struct agent_output *o, struct agent_exec *e, uint8_t *data, size_t n, bool last)
{
    uint64_t room = e->out_max[o->which] - e->out_kept[o->which];
    if (n > room) {
        n = (size_t)room;
        n -= agent_output_cut(data, n);
        e->out_kept[o->which] = e->out_max[o->which]; /* full, even when a character did not fit */
        emit(o, e, data, n);
        return;
    }
    o->tail_n = last ? 0 : agent_output_cut(data, n);
    memcpy(o->tail, data + n - o->tail_n, o->tail_n);
    n -= o->tail_n;
    e->out_kept[o->which] += n;
    emit(o, e, data, n);
}

/* Reads once, at most max bytes. How many were read, GOT_NOTHING or WINDOW_CLOSED. */
static ssize_t read_once(struct agent_output *o, size_t max)
{
    struct agent_exec *e = o->kernel->current;
    bool full = e == NULL || e->out_kept[o->which] >= e->out_max[o->which];
    ssize_t n;
    if (full) {
        do {
            n = discard(o, max < DROP_MAX ? max : DROP_MAX);
        } while (n < 0 && errno == EINTR);
        if (n > 0 && e != NULL) {
            e->out_written[o->which] += (uint64_t)n;
        }
        return n > 0 ? n : GOT_NOTHING;
    }
    if (!agent_exec_window(e)) {
        return WINDOW_CLOSED;
    }
    uint8_t data[EVENT_DATA_MAX];
    memcpy(data, o->tail, o->tail_n);
    size_t room = EVENT_DATA_MAX - o->tail_n;
    do {
        n = read(o->watch.fd, data + o->tail_n, max < room ? max : room);
    } while (n < 0 && errno == EINTR);
    if (n <= 0) {
        return GOT_NOTHING;
    }
    e->out_written[o->which] += (uint64_t)n;
    keep(o, e, data, o->tail_n + (size_t)n, false);
    return n;
}

void agent_output_mark(struct agent_output *o)
{
    o->drain = waiting(o);
}

bool agent_output_drain(struct agent_output *o)
{
    while (o->drain > 0) {
        ssize_t n = read_once(o, o->drain);
        if (n == WINDOW_CLOSED) {
            return false;
        }
        o->drain = n == GOT_NOTHING ? 0 : o->drain - (size_t)n;
    }
    return true;
}

void agent_output_flush(struct agent_output *o)
{
    struct agent_exec *e = o->kernel->current;
    if (o->tail_n > 0 && e != NULL) {
        uint8_t rest[sizeof o->tail];
        memcpy(rest, o->tail, o->tail_n);
        keep(o, e, rest, o->tail_n, true);
    }
    o->tail_n = 0;
}

static void pause_reading(struct agent_output *o)
{
    o->resume.at_ns = base_clock_mono_ns() + PAUSE_MS * BASE_NS_PER_MS;
}

void agent_output_begin(struct agent_output *o)
{
    size_t n = waiting(o);
    if (n > 0) {
        (void)discard(o, n);
    }
    o->tail_n = 0;
    /* A short cell is over before the pause is: its output is read once, at its end. */
    agent_loop_rearm(o->kernel->runner->loop, &o->watch, EPOLLONESHOT);
    pause_reading(o);
}

void agent_output_resume(struct agent_output *o)
{
    if (o->watch.fd >= 0 && o->resume.at_ns == 0) {
        agent_loop_rearm(o->kernel->runner->loop, &o->watch, EPOLLIN | EPOLLONESHOT);
    }
}

static void on_resume(struct agent_timer *t)
{
    agent_output_resume(CONTAINER_OF(t, struct agent_output, resume));
}

static void on_ready(struct agent_watch *w, uint32_t events)
{
    struct agent_output *o = CONTAINER_OF(w, struct agent_output, watch);
    size_t got = 0;
    ssize_t n = 1;
    while (n > 0 && got < READ_TURN_MAX) {
        n = read_once(o, DROP_MAX);
        got += n > 0 ? (size_t)n : 0;
    }
    if (n == WINDOW_CLOSED) {
        return; /* an acknowledgement resumes */
    }
    if (n == GOT_NOTHING && got == 0 && (events & (EPOLLHUP | EPOLLERR)) != 0) {
        return; /* nobody writes any more; it is closed when the interpreter was reaped */
    }
    if (got < EVENT_DATA_MAX && o->kernel->current != NULL) {
        pause_reading(o);
    } else {
        agent_output_resume(o);
    }
}

int agent_output_open(struct agent_output *o, struct agent_kernel *k, int which, int fd)
{
    *o = (struct agent_output){.kernel = k, .which = which};
    o->watch = (struct agent_watch){.fd = -1, .ready = on_ready};
    o->resume.fired = on_resume;
    agent_loop_timer_add(k->runner->loop, &o->resume);
    return agent_loop_add(k->runner->loop, &o->watch, fd, EPOLLIN | EPOLLONESHOT);
}

void agent_output_close(struct agent_output *o)
{
    int fd = o->watch.fd;
    if (o->kernel == NULL) {
        return;
    }
    agent_loop_timer_remove(o->kernel->runner->loop, &o->resume);
    agent_loop_remove(o->kernel->runner->loop, &o->watch);
    if (fd >= 0) {
        (void)close(fd);
    }
}
