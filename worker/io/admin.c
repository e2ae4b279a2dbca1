#include "worker/io/admin.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/container.h"
#include "worker/wire/order.h"

enum { CLIENTS_MAX = 8, LOOK_S_MAX = 60 };

static const char meta_key[] = "drain";

struct client {
    struct worker_admin *a;
    ev_io io;
    int fd; /* -1: free */
    bool watches;
    size_t n;
    char in[WORKER_ADMIN_LINE_MAX + 1];
};

struct worker_admin {
    struct worker_admin_config config;
    char path[108];
    ev_io accept;
    int fd;
    struct worker_drain drain;
    ev_timer due;       /* deadline of the drain */
    ev_prepare changed; /* fed, never started: looks outside of session events */
    struct client clients[CLIENTS_MAX];
    char told[WORKER_ADMIN_LINE_MAX]; /* last line of state */
    bool left;
    bool stopping;
};

static void client_end(struct client *c)
{
    ev_io_stop(c->a->config.loop, &c->io);
    (void)close(c->fd);
    c->fd = -1;
}

/* Lines are short and clients few: one that does not read is given up. */
static void say(struct client *c, const char *line)
{
    char text[WORKER_ADMIN_LINE_MAX + 2];
    int n = snprintf(text, sizeof text, "%s\n", line);
    if (c->fd >= 0 && send(c->fd, text, (size_t)n, MSG_NOSIGNAL) != n) {
        client_end(c);
    }
}

static void state_line(const struct worker_admin *a, char line[WORKER_ADMIN_LINE_MAX])
{
    static const char *const phases[] = {"off", "draining", "drained"};
    struct worker_session_counts n = worker_session_counts(a->config.sessions);
    (void)snprintf(line, WORKER_ADMIN_LINE_MAX, "state %s sessions %" PRIu32 " microvms %" PRIu32,
        phases[a->drain.phase], n.sessions, n.microvms);
}

static void tell(struct worker_admin *a)
{
    char line[WORKER_ADMIN_LINE_MAX];
    state_line(a, line);
    if (strcmp(line, a->told) == 0) {
        return;
    }
    (void)strcpy(a->told, line);
    for (size_t i = 0; i < CLIENTS_MAX; i++) {
        struct client *c = &a->clients[i];
        if (c->fd >= 0 && c->watches) {
            say(c, line);
        }
        if (c->fd >= 0 && c->watches && a->drain.phase != WORKER_DRAIN_DRAINING) {
            client_end(c);
        }
    }
}

/* The order in one number: 0 none, else 1 + policy, whether it leaves, and its grace. */
static uint64_t order_number(const struct worker_drain_order *o)
{
    return 1 + (uint64_t)o->policy + (o->leave ? 4U : 0U) + ((uint64_t)o->grace_ms << 8);
}

static struct worker_drain_order order_of(uint64_t number)
{
    uint64_t policy = (number & 3) - 1, grace = number >> 8;
    struct worker_drain_order o = {.policy = WORKER_DRAIN_WAIT, .leave = (number & 4) != 0};
    if (policy <= WORKER_DRAIN_END && grace <= WORKER_DRAIN_GRACE_MS_MAX) {
        o.policy = (enum worker_drain_policy)policy;
        o.grace_ms = (uint32_t)grace; /* begins anew */
    }
    return o;
}

static void remember(struct worker_admin *a, uint64_t number)
{
    int rc = worker_store_meta_set(a->config.node, meta_key, number);
    if (rc != 0) {
        LOG_WARN(a->config.log, "a restart will not know about the drain: %s", base_err_str(rc));
    }
}

static void service(const struct worker_admin *a, bool in)
{
    if (a->config.service != NULL) {
        a->config.service(a->config.user, in);
    }
}

static void carry_out(struct worker_admin *a, unsigned what)
{
    if (what & (WORKER_DRAIN_DO_STOP | WORKER_DRAIN_DO_END)) {
        service(a, false);
        worker_session_drain(a->config.sessions, true, (what & WORKER_DRAIN_DO_END) != 0);
    }
    if (what & WORKER_DRAIN_DO_START) {
        LOG_INFO(a->config.log, "in service again");
        worker_session_drain(a->config.sessions, false, false);
        service(a, true);
    }
    if (what & WORKER_DRAIN_DO_LEAVE) {
        LOG_INFO(a->config.log, "drained, leaving");
        remember(a, 0); /* who ends for good starts in service the next time */
        a->left = true;
    } else if (what & WORKER_DRAIN_DO_TELL) {
        LOG_INFO(a->config.log, "drain: %s", a->drain.phase == WORKER_DRAIN_OFF ? "off" : "done");
    }
}

static void look(struct worker_admin *a)
{
    uint64_t now = base_clock_boot_ns();
    struct worker_session_counts n = worker_session_counts(a->config.sessions);
    carry_out(a, worker_drain_look(&a->drain, n.sessions == 0 && n.microvms == 0, now));
    tell(a);
    uint64_t due = worker_drain_deadline_ns(&a->drain);
    ev_timer_stop(a->config.loop, &a->due);
    if (due != UINT64_MAX) {
        double wait = due > now ? (double)(due - now) / 1e9 : 0.;
        ev_timer_set(&a->due, wait < LOOK_S_MAX ? wait : LOOK_S_MAX, 0.);
        ev_timer_start(a->config.loop, &a->due);
    }
    if (a->left) {
        a->config.leave(a->config.user);
    }
}

static void on_changed(struct ev_loop *loop, ev_prepare *w, int revents)
{
    (void)loop;
    (void)revents;
    look(CONTAINER_OF(w, struct worker_admin, changed));
}

static void on_due(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop;
    (void)revents;
    look(CONTAINER_OF(w, struct worker_admin, due));
}

void worker_admin_look(struct worker_admin *a)
{
    if (a != NULL && !ev_is_pending(&a->changed)) {
        ev_feed_event(a->config.loop, &a->changed, EV_CUSTOM);
    }
}

/* --- orders ---------------------------------------------------------------------------------- */

static void drain(struct worker_admin *a, const struct worker_drain_order *o)
{
    static const char *const policies[] = {"wait", "deadline", "end"};
    LOG_INFO(a->config.log, "out of service policy=%s grace_ms=%" PRIu32 " leave=%d",
        policies[o->policy], o->grace_ms, o->leave);
    carry_out(a, worker_drain_start(&a->drain, o, base_clock_boot_ns()));
}

static void obey(struct client *c, const struct worker_admin_order *o)
{
    struct worker_admin *a = c->a;
    char line[WORKER_ADMIN_LINE_MAX];
    unsigned what = 0;
    int rc = 0;
    if (a->stopping && o->kind != WORKER_ADMIN_STATUS) {
        rc = BASE_ESTATE;
    } else if (o->kind == WORKER_ADMIN_DRAIN) {
        drain(a, &o->drain);
        remember(a, order_number(&o->drain));
        c->watches = true;
    } else if (o->kind == WORKER_ADMIN_UNDRAIN) {
        rc = worker_drain_stop(&a->drain, &what);
        if (rc == 0) {
            remember(a, 0);
        }
    }
    say(c, rc == 0 ? "ok" : "error the worker is leaving");
    carry_out(a, what);
    state_line(a, line);
    if (c->fd >= 0 && o->kind != WORKER_ADMIN_UNDRAIN) {
        say(c, line);
    }
    if (o->kind == WORKER_ADMIN_DRAIN) {
        (void)strcpy(a->told, line);
    }
    worker_admin_look(a);
}

static void on_line(struct client *c, size_t n)
{
    struct worker_admin_order o;
    if (worker_admin_parse(c->in, n, &o) != 0) {
        say(c, "error no such order: drain wait|end|deadline MS [leave], undrain, status");
        return;
    }
    obey(c, &o);
}

static void on_bytes(struct ev_loop *loop, ev_io *w, int revents)
{
    (void)loop;
    (void)revents;
    struct client *c = CONTAINER_OF(w, struct client, io);
    ssize_t n = recv(c->fd, c->in + c->n, sizeof c->in - c->n, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    c->n += n > 0 ? (size_t)n : 0;
    const char *end;
    while (n > 0 && c->fd >= 0 && (end = memchr(c->in, '\n', c->n)) != NULL) {
        size_t len = (size_t)(end - c->in);
        on_line(c, len);
        c->n -= len + 1;
        memmove(c->in, end + 1, c->n);
    }
    if (c->fd >= 0 && (n <= 0 || c->n == sizeof c->in)) {
        client_end(c);
    }
}

static void on_accept(struct ev_loop *loop, ev_io *w, int revents)
{
    (void)revents;
    struct worker_admin *a = CONTAINER_OF(w, struct worker_admin, accept);
    int fd = accept4(a->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    for (size_t i = 0; fd >= 0 && i < CLIENTS_MAX; i++) {
        struct client *c = &a->clients[i];
        if (c->fd < 0) {
            *c = (struct client){.a = a, .fd = fd};
            ev_io_init(&c->io, on_bytes, fd, EV_READ);
            ev_io_start(loop, &c->io);
            return;
        }
    }
    if (fd >= 0) {
        (void)close(fd);
    }
}

/* --- life ------------------------------------------------------------------------------------ */

static int open_socket(struct worker_admin *a, struct base_error *err)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int n = snprintf(at.sun_path, sizeof at.sun_path, "%s/admin.sock", a->config.run_dir);
    if (n < 0 || (size_t)n >= sizeof at.sun_path) {
        return base_fail(err, BASE_ETOOBIG, "'%s' is too long for a socket", a->config.run_dir);
    }
    (void)strcpy(a->path, at.sun_path);
    (void)unlink(a->path); /* of a worker that was killed: the run folder is ours alone */
    a->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (a->fd < 0 || bind(a->fd, (struct sockaddr *)&at, sizeof at) != 0 ||
        chmod(a->path, 0600) != 0 || listen(a->fd, CLIENTS_MAX) != 0) {
        return base_fail(err, -errno, "admin socket '%s': %s", a->path, strerror(errno));
    }
    ev_io_init(&a->accept, on_accept, a->fd, EV_READ);
    ev_io_start(a->config.loop, &a->accept);
    return 0;
}

int worker_admin_create(
    struct worker_admin **ret, const struct worker_admin_config *config, struct base_error *err)
{
    struct worker_admin *a = calloc(1, sizeof *a);
    if (a == NULL) {
        return base_fail(err, BASE_ENOMEM, "admin socket");
    }
    a->config = *config;
    a->fd = -1;
    for (size_t i = 0; i < CLIENTS_MAX; i++) {
        a->clients[i].fd = -1;
    }
    ev_init(&a->due, on_due);
    ev_init(&a->changed, on_changed);
    a->drain.deadline_ns = UINT64_MAX;
    int rc = open_socket(a, err);
    uint64_t drained = 0;
    if (rc == 0 && worker_store_meta_get(config->node, meta_key, &drained) == 0 && drained != 0) {
        struct worker_drain_order order = order_of(drained);
        drain(a, &order);
        worker_admin_look(a);
    }
    if (rc != 0) {
        worker_admin_destroy(a);
        return rc;
    }
    *ret = a;
    return 0;
}

void worker_admin_stop(struct worker_admin *a)
{
    if (a != NULL) {
        a->stopping = true;
    }
}

void worker_admin_destroy(struct worker_admin *a)
{
    if (a == NULL) {
        return;
    }
    for (size_t i = 0; i < CLIENTS_MAX; i++) {
        if (a->clients[i].fd >= 0) {
            client_end(&a->clients[i]);
        }
    }
    if (a->fd >= 0) {
        ev_io_stop(a->config.loop, &a->accept);
        (void)close(a->fd);
        (void)unlink(a->path);
    }
    ev_timer_stop(a->config.loop, &a->due);
    (void)ev_clear_pending(a->config.loop, &a->changed);
    free(a);
}
