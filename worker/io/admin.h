#pragma once
#include <ev.h>

#include "proto/base/err.h"
#include "proto/base/log.h"
#include "worker/core/drain.h"
#include "worker/io/session_io.h"
#include "worker/io/store.h"

/* The admin socket of a worker, RUN/admin.sock (worker/wire/order.h), for root of this machine
 * only: taking it out of service and back (core/drain.h). One thread. */
struct worker_admin;

struct worker_admin_config {
    struct ev_loop *loop;
    const struct base_log *log;
    const char *run_dir;
    struct worker_sessions *sessions;
    struct worker_store *node; /* remembers over restarts that the worker is out of service */
    void (*leave)(void *user); /* it is drained and shall end; not from inside a call */
    void (*service)(void *user, bool in); /* out of service, or back. NULL is fine */
    void *user;
};

/* A worker that was drained before and was not called back drains again. */
int worker_admin_create(
    struct worker_admin **ret, const struct worker_admin_config *config, struct base_error *err);
void worker_admin_destroy(struct worker_admin *a); /* NULL is fine; removes the socket */

/* The process ends: the state of service stays as it is from now on. */
void worker_admin_stop(struct worker_admin *a);

/* Sessions or microVMs have changed. May be called from inside of session events. */
void worker_admin_look(struct worker_admin *a);
