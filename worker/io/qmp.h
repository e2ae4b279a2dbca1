#pragma once
#include <ev.h>
#include <jansson.h>
#include <stdbool.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"

/* Client of QEMU's monitor protocol on a connected Unix socket. Commands are answered in order;
 * several may be on their way. Source: QEMU's qmp-spec. */
enum { WORKER_QMP_LINE_MAX = 256 << 10, WORKER_QMP_PENDING_MAX = 16 };

struct worker_qmp_reply {
    const json_t *value; /* of "return"; NULL on an error */
    const char *error;   /* description, NULL when it worked */
};

struct worker_qmp;
typedef void worker_qmp_reply_fn(void *user, const struct worker_qmp_reply *reply);

struct worker_qmp {
    struct ev_loop *loop;
    ev_io io;
    int fd; /* owned */
    struct base_buf in, out;
    bool closed;
    unsigned head, count; /* of pending */
    struct {
        worker_qmp_reply_fn *fn;
        void *user;
    } pending[WORKER_QMP_PENDING_MAX];
    void *user;
    void (*on_event)(void *user, const char *name, const json_t *data);
    void (*on_closed)(void *user); /* once; pending replies are dropped silently */
};

/* Takes over fd. on_event and on_closed must be set by the caller before the loop runs. Sends
 * qmp_capabilities by itself. */
void worker_qmp_init(struct worker_qmp *q, struct ev_loop *loop, int fd);
void worker_qmp_deinit(struct worker_qmp *q);

/* command: complete JSON text of one command. fn may be NULL. pass_fd: descriptor to send along
 * (SCM_RIGHTS), -1 for none; it stays the caller's. Returns 0, BASE_EFULL or BASE_ECLOSED. */
int worker_qmp_send(
    struct worker_qmp *q, const char *command, int pass_fd, worker_qmp_reply_fn *fn, void *user);
