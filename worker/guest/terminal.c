#include "worker/guest/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/base/container.h"
#include "proto/base/err.h"
#include "proto/terminal.h"
#include "worker/guest/cgroup.h"
#include "worker/guest/files.h"
#include "worker/guest/spawn.h"

enum { COLUMNS_DEFAULT = 80, ROWS_DEFAULT = 24 };

void agent_terminals_init(
    struct agent_terminals *t, struct agent_loop *loop, const struct agent_config *config)
{
    *t = (struct agent_terminals){.loop = loop, .config = config};
    for (int i = 0; i < AGENT_TERMINALS_MAX; i++) {
        struct agent_terminal *x = &t->terminal[i];
        x->table = t;
        x->watch.fd = -1;
        (void)snprintf(x->name, sizeof x->name, "terminal%d", i);
    }
}

static void kill_all(const struct agent_terminal *x)
{
    if (x->pid > 0) {
        (void)kill(-x->pid, SIGKILL);
        (void)kill(x->pid, SIGKILL); /* before its setsid() there is no such group */
    }
    agent_cgroup_kill(x->name);
}

static void close_ours(struct agent_terminal *x)
{
    int fd = x->watch.fd;
    if (fd >= 0) {
        agent_loop_remove(x->table->loop, &x->watch);
        (void)close(fd);
        x->watch.fd = -1;
    }
}

static void set_size(const struct agent_terminal *x, size_t columns, size_t rows)
{
    bool good = columns > 0 && columns <= PROTO_TERMINAL_CELLS_MAX && rows > 0 &&
                rows <= PROTO_TERMINAL_CELLS_MAX;
    if (good) { /* the kernel tells the shell with SIGWINCH */
        struct winsize w = {.ws_col = (unsigned short)columns, .ws_row = (unsigned short)rows};
        (void)ioctl(x->watch.fd, TIOCSWINSZ, &w);
    }
}

/* --- in ------------------------------------------------------------------------------------- */

static bool record_good(const uint8_t *p, size_t n)
{
    return (p[0] == PROTO_TERMINAL_INPUT && n <= PROTO_TERMINAL_INPUT_MAX) ||
           (p[0] == PROTO_TERMINAL_SIZE && n == PROTO_TERMINAL_SIZE_BYTES);
}

/* False: the terminal takes no more now. */
static bool type(struct agent_terminal *x, const uint8_t *bytes, size_t n)
{
    while (x->in_done < n) {
        ssize_t w = write(x->watch.fd, bytes + x->in_done, n - x->in_done);
        if (w < 0 && errno == EINTR) {
            continue;
        }
        if (w < 0 && errno == EAGAIN) {
            return false;
        }
        if (w <= 0) {
            break; /* nobody reads it any more: the shell's end is on its way */
        }
        x->in_done += (size_t)w;
    }
    x->in_done = 0;
    return true;
}

static void listen_on(struct agent_terminal *x, bool blocked)
{
    uint32_t events = (x->readable ? 0U : EPOLLIN) | (blocked ? EPOLLOUT : 0U);
    if (!x->ended) {
        agent_loop_rearm(x->table->loop, &x->watch, events | EPOLLONESHOT);
    }
}

static void take_records(struct agent_terminal *x)
{
    bool blocked = false;
    while (!blocked && base_buf_size(&x->in) >= PROTO_TERMINAL_HEAD) {
        const uint8_t *p = base_buf_data(&x->in);
        size_t n = proto_terminal_u16(p + 1);
        if (!record_good(p, n)) {
            agent_stream_reset(x->stream, BASE_EBADMSG, "not a record of a terminal");
            return;
        }
        if (base_buf_size(&x->in) < PROTO_TERMINAL_HEAD + n) {
            break;
        }
        p += PROTO_TERMINAL_HEAD;
        if (p[-PROTO_TERMINAL_HEAD] == PROTO_TERMINAL_SIZE) {
            set_size(x, proto_terminal_u16(p), proto_terminal_u16(p + 2));
        } else if (!type(x, p, n)) {
            blocked = true;
            break;
        }
        base_buf_consume(&x->in, PROTO_TERMINAL_HEAD + n);
        agent_stream_consumed(x->stream, PROTO_TERMINAL_HEAD + n);
    }
    listen_on(x, blocked);
}

static void on_data(struct agent_stream *s, const uint8_t *bytes, size_t n)
{
    struct agent_terminal *x = s->task;
    if (base_buf_add(&x->in, bytes, n) != 0) {
        agent_stream_reset(s, BASE_ENOMEM, "out of memory");
        return;
    }
    take_records(x);
}

/* --- out ------------------------------------------------------------------------------------ */

static void send_end(struct agent_terminal *x)
{
    Warren__GuestResult m = WARREN__GUEST_RESULT__INIT;
    m.exit_code = x->exit_code;
    agent_files_result(x->stream, &m);
    agent_stream_end(x->stream);
}

static bool on_pull(struct agent_stream *s)
{
    struct agent_terminal *x = s->task;
    uint8_t data[PROTO_FRAME_PAYLOAD_MAX];
    size_t room = agent_stream_room(s);
    if (!x->readable || room == 0) {
        return false;
    }
    ssize_t n = x->ended ? 0 : read(x->watch.fd, data, room);
    if (n > 0) {
        agent_stream_data(s, data, (size_t)n);
        return true;
    }
    if (n < 0 && errno == EINTR) {
        return true;
    }
    bool empty = n < 0 && errno == EAGAIN;
    if (x->pid == 0) {
        send_end(x);
        return true;
    }
    x->readable = false;
    if (!empty) {
        x->ended = true;
        kill_all(x); /* what is left of it has no terminal */
    }
    listen_on(x, base_buf_size(&x->in) > 0);
    return false;
}

static void on_ready(struct agent_watch *w, uint32_t events)
{
    struct agent_terminal *x = CONTAINER_OF(w, struct agent_terminal, watch);
    x->readable = x->readable || (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0;
    if (x->stream != NULL && (events & EPOLLOUT) != 0) {
        take_records(x);
    } else if (!x->readable) {
        listen_on(x, false);
    }
}

/* --- life ----------------------------------------------------------------------------------- */

static void on_gone(struct agent_stream *s)
{
    struct agent_terminal *x = s->task;
    if (x == NULL) {
        return;
    }
    x->stream = NULL;
    kill_all(x); /* the place is free when the shell has been reaped */
    close_ours(x);
    base_buf_deinit(&x->in);
    x->in_done = 0;
}

void agent_terminals_reaped(struct agent_terminals *t, pid_t pid, int wait_status)
{
    for (int i = 0; i < AGENT_TERMINALS_MAX; i++) {
        struct agent_terminal *x = &t->terminal[i];
        if (x->pid == pid && pid > 0) {
            kill_all(x);
            x->pid = 0;
            x->exit_code =
                WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
            x->readable = true; /* what it wrote last, then the end */
        }
    }
}

/* 0 or -errno. */
static int start(struct agent_terminal *x, const Warren__GuestTerminal *m)
{
    const struct agent_config *c = x->table->config;
    int ours = -1, theirs = -1;
    int rc = agent_cgroup_make(x->name);
    if (rc == 0 && openpty(&ours, &theirs, NULL, NULL, NULL) != 0) {
        rc = -errno;
    }
    if (rc != 0) {
        return rc;
    }
    (void)fcntl(ours, F_SETFD, FD_CLOEXEC);
    (void)fcntl(theirs, F_SETFD, FD_CLOEXEC);
    theirs = agent_spawn_raise(theirs);
    if (theirs < 0 || fcntl(ours, F_SETFL, O_NONBLOCK) != 0 ||
        (c->uid != (uid_t)-1 && fchown(theirs, c->uid, c->gid) != 0)) {
        rc = -errno;
    }
    rc = rc != 0 ? rc : agent_loop_add(x->table->loop, &x->watch, ours, EPOLLIN | EPOLLONESHOT);
    if (rc == 0) {
        set_size(x, m->columns != 0 ? m->columns : COLUMNS_DEFAULT,
            m->rows != 0 ? m->rows : ROWS_DEFAULT);
        pid_t pid = agent_spawn_shell(c, x->name, theirs);
        rc = pid < 0 ? pid : 0;
        x->pid = rc == 0 ? pid : 0;
    }
    if (theirs >= 0) {
        (void)close(theirs);
    }
    if (rc != 0 && x->watch.fd >= 0) {
        close_ours(x);
    } else if (rc != 0) {
        (void)close(ours);
    }
    return rc;
}

void agent_terminals_open(
    struct agent_terminals *t, struct agent_stream *s, const Warren__GuestTerminal *m)
{
    static const struct agent_stream_ops ops = {
        .data = on_data, .paced = true, .pull = on_pull, .gone = on_gone};
    Warren__GuestResult started = WARREN__GUEST_RESULT__INIT;
    struct agent_terminal *x = t->terminal;
    while (x < t->terminal + AGENT_TERMINALS_MAX && (x->pid != 0 || x->stream != NULL)) {
        x++;
    }
    if (x == t->terminal + AGENT_TERMINALS_MAX) {
        agent_stream_reset(s, BASE_EFULL, "too many terminals are open");
        return;
    }
    x->watch = (struct agent_watch){.fd = -1, .ready = on_ready};
    x->readable = x->ended = false;
    x->exit_code = 0;
    int rc = start(x, m);
    if (rc != 0) {
        agent_stream_reset(s, BASE_EIO, strerror(-rc));
        return;
    }
    x->stream = s;
    s->task = x;
    s->ops = &ops;
    agent_files_result(s, &started);
}
