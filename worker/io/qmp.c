#include "worker/io/qmp.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/base/container.h"

static void fail(struct worker_qmp *q)
{
    if (!q->closed) {
        q->closed = true;
        ev_io_stop(q->loop, &q->io);
        q->count = 0;
        q->on_closed(q->user);
    }
}

static void want(struct worker_qmp *q)
{
    int events = EV_READ | (base_buf_size(&q->out) > 0 ? EV_WRITE : 0);
    if (!q->closed && (q->io.events & (EV_READ | EV_WRITE)) != events) {
        ev_io_stop(q->loop, &q->io);
        ev_io_set(&q->io, q->fd, events);
        ev_io_start(q->loop, &q->io);
    }
}

static void flush(struct worker_qmp *q)
{
    while (base_buf_size(&q->out) > 0) {
        ssize_t n = send(q->fd, base_buf_data(&q->out), base_buf_size(&q->out), MSG_NOSIGNAL);
        if (n < 0) {
            /* EPIPE shows up as end of file on the reading side, where it is handled. */
            break;
        }
        base_buf_consume(&q->out, (size_t)n);
    }
    want(q);
}

static void reply(struct worker_qmp *q, const json_t *message)
{
    if (q->count == 0) {
        return;
    }
    worker_qmp_reply_fn *fn = q->pending[q->head].fn;
    void *user = q->pending[q->head].user;
    q->head = (q->head + 1) % WORKER_QMP_PENDING_MAX;
    q->count--;
    const json_t *error = json_object_get(message, "error");
    struct worker_qmp_reply r = {.value = json_object_get(message, "return")};
    if (error != NULL) {
        r.error = json_string_value(json_object_get(error, "desc"));
        r.error = r.error == NULL ? "unknown error" : r.error;
    }
    if (fn != NULL) {
        fn(user, &r);
    }
}

/* False when the line is not QMP. */
static bool line(struct worker_qmp *q, const char *text, size_t n)
{
    json_error_t e;
    json_t *message = json_loadb(text, n, JSON_REJECT_DUPLICATES, &e);
    if (!json_is_object(message)) {
        json_decref(message);
        return false;
    }
    const char *event = json_string_value(json_object_get(message, "event"));
    if (event != NULL) {
        q->on_event(q->user, event, json_object_get(message, "data"));
    } else if (json_object_get(message, "QMP") == NULL) {
        reply(q, message);
    }
    json_decref(message);
    return true;
}

static void lines(struct worker_qmp *q)
{
    while (!q->closed) {
        const char *p = (const char *)base_buf_data(&q->in);
        size_t n = base_buf_size(&q->in);
        const char *end = n > 0 ? memchr(p, '\n', n) : NULL;
        if (end == NULL) {
            if (n > WORKER_QMP_LINE_MAX) {
                fail(q);
            }
            return;
        }
        size_t len = (size_t)(end - p);
        if (!line(q, p, len)) {
            fail(q);
            return;
        }
        base_buf_consume(&q->in, len + 1);
    }
}

static void on_io(struct ev_loop *loop, ev_io *w, int revents)
{
    (void)loop;
    struct worker_qmp *q = CONTAINER_OF(w, struct worker_qmp, io);
    if (revents & EV_WRITE) {
        flush(q);
    }
    if (!(revents & EV_READ)) {
        return;
    }
    uint8_t *p = base_buf_room(&q->in, 16384);
    ssize_t n = p == NULL ? 0 : recv(q->fd, p, 16384, 0);
    if (n > 0) {
        base_buf_grow(&q->in, (size_t)n);
        lines(q);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        fail(q);
    }
}

void worker_qmp_init(struct worker_qmp *q, struct ev_loop *loop, int fd)
{
    *q = (struct worker_qmp){.loop = loop, .fd = fd};
    ev_io_init(&q->io, on_io, fd, EV_READ);
    ev_io_start(loop, &q->io);
    (void)worker_qmp_send(q, "{\"execute\":\"qmp_capabilities\"}", -1, NULL, NULL);
}

void worker_qmp_deinit(struct worker_qmp *q)
{
    q->closed = true;
    ev_io_stop(q->loop, &q->io);
    if (q->fd >= 0) {
        (void)close(q->fd);
        q->fd = -1;
    }
    base_buf_deinit(&q->in);
    base_buf_deinit(&q->out);
}

/* A descriptor travels with the first byte that follows it, so nothing may be queued before. */
static int send_fd(struct worker_qmp *q, const char *command, size_t n, int fd)
{
    struct iovec iov = {(void *)(uintptr_t)command, n};
    union {
        char room[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct msghdr msg = {.msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control.room,
        .msg_controllen = sizeof control.room};
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    flush(q);
    if (base_buf_size(&q->out) > 0) {
        return BASE_EFULL;
    }
    return sendmsg(q->fd, &msg, MSG_NOSIGNAL) == (ssize_t)n ? 0 : BASE_EIO;
}

int worker_qmp_send(
    struct worker_qmp *q, const char *command, int pass_fd, worker_qmp_reply_fn *fn, void *user)
{
    if (q->closed) {
        return BASE_ECLOSED;
    }
    if (q->count == WORKER_QMP_PENDING_MAX) {
        return BASE_EFULL;
    }
    size_t n = strlen(command);
    int rc = pass_fd >= 0 ? send_fd(q, command, n, pass_fd) : base_buf_add(&q->out, command, n);
    if (rc == 0 && pass_fd < 0) {
        rc = base_buf_add(&q->out, "\n", 1);
    }
    if (rc != 0) {
        return rc;
    }
    unsigned at = (q->head + q->count) % WORKER_QMP_PENDING_MAX;
    q->pending[at].fn = fn;
    q->pending[at].user = user;
    q->count++;
    flush(q);
    return 0;
}
