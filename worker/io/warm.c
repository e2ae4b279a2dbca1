#include "worker/io/warm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "proto/base/container.h"
#include "proto/base/rand.h"
#include "proto/ids.h"

/* A cell fits the stream's window, so that it goes out in one piece. */
enum {
    CELL_BYTES_MAX = 64 << 10,
    CELL_TIMEOUT_MS = 200 * 1000,
    ROUNDS_TEMPLATE = 12,
    ROUNDS_CLONE = 2,
    REST_MS = 20, /* long enough that the guest's kernel stops its tick */
};

static void next(struct worker_warm *w);

static const char *suffix(Warren__Kernel kernel)
{
    return kernel == WARREN__KERNEL__KERNEL_PYTHON ? "py"
           : kernel == WARREN__KERNEL__KERNEL_NODE ? "js"
                                                   : "sh";
}

static void on_event(void *user, const Warren__GuestEvent *e, const uint8_t *raw, size_t n)
{
    struct worker_warm *w = user;
    (void)raw;
    (void)n;
    if (e->kind == WARREN__EVENT_KIND__EVENT_ERROR) {
        size_t len = e->data.len < 200 ? e->data.len : 200;
        const uint8_t *tail = len > 0 ? e->data.data + e->data.len - len : NULL;
        (void)snprintf(w->text, sizeof w->text, "%s: %.*s", e->error_name, (int)len,
            tail == NULL ? "" : (const char *)tail);
    } else if (e->kind == WARREN__EVENT_KIND__EVENT_DONE && e->done != NULL) {
        w->seq = e->seq;
        w->ok = e->done->status == WARREN__DONE_STATUS__DONE_OK;
        if (!w->ok && w->text[0] == '\0') {
            (void)snprintf(
                w->text, sizeof w->text, "a cell ended with status %d", (int)e->done->status);
        }
    }
}

static void on_closed(void *user, int code, const char *text)
{
    struct worker_warm *w = user;
    w->stream = NULL;
    if (code == 0 && w->ok) {
        w->round++;
        if (w->template) {
            next(w);
            return;
        }
        worker_link_event_ack(w->link, w->exec_id, w->seq);
        worker_link_forget(w->link, w->exec_id);
        ev_timer_start(w->link->loop, &w->rest);
        return;
    }
    w->finished = true;
    if (w->text[0] == '\0') {
        (void)snprintf(w->text, sizeof w->text, "%s", text);
    }
    w->done(w->user, code != 0 ? code : BASE_EIO, w->text);
}

/* The short cell is one line that has a value: such cells take their own way through a kernel. */
static const char *cell_name(const struct worker_warm *w)
{
    if (w->template && w->round == 0) {
        return "template";
    }
    return w->round % 2 == (w->template ? 1 : 0) ? "ready" : "short";
}

static int read_cell(const struct worker_warm *w, Warren__Kernel kernel, char *cell, size_t *ret_n)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/warm/%s.%s", w->guest_dir, cell_name(w), suffix(kernel));
    CLEANUP(base_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, cell, CELL_BYTES_MAX);
    if (n < 0) {
        return -errno;
    }
    *ret_n = (size_t)n;
    return 0;
}

static int run(struct worker_warm *w, Warren__Kernel kernel)
{
    static const struct worker_stream_ops ops = {.event = on_event, .closed = on_closed};
    char cell[CELL_BYTES_MAX];
    size_t n = 0;
    int rc = read_cell(w, kernel, cell, &n);
    if (rc != 0) {
        return rc;
    }
    base_rand_bytes(w->exec_id, sizeof w->exec_id);
    Warren__GuestExec exec = WARREN__GUEST_EXEC__INIT;
    exec.id.data = w->exec_id;
    exec.id.len = sizeof w->exec_id;
    exec.kernel = kernel;
    exec.timeout_ms = CELL_TIMEOUT_MS;
    exec.stdout_max = exec.stderr_max = 4096;
    exec.hidden = 1;
    Warren__GuestOpen open = WARREN__GUEST_OPEN__INIT;
    open.what_case = WARREN__GUEST_OPEN__WHAT_EXEC;
    open.exec = &exec;
    w->ok = false;
    rc = worker_link_open(w->link, &open, &ops, w, &w->stream);
    if (rc == 0) {
        (void)worker_stream_write(w->stream, cell, n);
        worker_stream_finish(w->stream);
    }
    return rc;
}

/* The next cell of a kernel, then the next kernel. A kernel without a cell of some kind needs none.
 */
static void next(struct worker_warm *w)
{
    int rounds = w->template ? ROUNDS_TEMPLATE : ROUNDS_CLONE;
    while (w->at < 4 && w->kernels[w->at] != WARREN__KERNEL__KERNEL_NONE) {
        Warren__Kernel kernel = w->kernels[w->at];
        /* Node is never in a template: its generator cannot be reseeded (proto/GUEST.md). */
        bool skip = w->template && kernel == WARREN__KERNEL__KERNEL_NODE;
        if (skip || w->round == rounds) {
            w->at++;
            w->round = 0;
            continue;
        }
        int rc = run(w, kernel);
        if (rc == 0) {
            return;
        }
        if (rc != -ENOENT) {
            w->finished = true;
            w->done(w->user, rc, base_err_str(rc));
            return;
        }
        w->round++;
    }
    w->finished = true;
    w->done(w->user, 0, "");
}

static void on_rested(struct ev_loop *loop, ev_timer *t, int revents)
{
    (void)loop;
    (void)revents;
    next(CONTAINER_OF(t, struct worker_warm, rest));
}

void worker_warm_start(struct worker_warm *w, struct worker_link *link,
    const Warren__Kernel kernels[4], bool template, worker_warm_done_fn *done, void *user)
{
    const char *dir = w->guest_dir;
    *w = (struct worker_warm){
        .guest_dir = dir, .link = link, .template = template, .done = done, .user = user};
    memcpy(w->kernels, kernels, sizeof w->kernels);
    ev_timer_init(&w->rest, on_rested, REST_MS / 1e3, 0.);
    next(w);
}

void worker_warm_cancel(struct worker_warm *w)
{
    if (w->link != NULL) {
        ev_timer_stop(w->link->loop, &w->rest);
    }
    if (w->stream != NULL) {
        worker_stream_reset(w->stream);
        w->stream = NULL;
    }
}
