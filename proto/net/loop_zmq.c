#include "proto/net/loop_zmq.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <zmq.h>

#include "proto/base/container.h"
#include "proto/limits.h"
#include "proto/net/curve.h"
#include "proto/net/outbox.h"
#include "proto/net/zap.h"

enum {
    DRAIN_BUDGET = 256, /* messages of one socket before the others get their turn */
    HWM_CTL = 2048,     /* frames; credit keeps queues far below, a bound all the same */
    HWM_BULK = 1024,
    HWM_NODE = 1000,   /* no credit here: what is beyond it is lost, and may be */
    FRAME_SLACK = 256, /* what CURVE adds to a frame */
};
#define SWEEP_S 0.25
#define RETRY_S 0.02
#define REFUSED_S 1.
#define AGAIN_S 0.05 /* doubled until it is beyond */
#define AGAIN_MAX_S 2.

struct proto_net_socket {
    struct proto_net *net;
    struct proto_net_socket *prev, *next;  /* all sockets */
    struct proto_net_socket *touched_next; /* used since the loop last slept */
    struct proto_net_socket *dead_next;
    void *zmq;     /* NULL: closed, freed at the end of the turn */
    void *monitor; /* PAIR: what happens to connections */
    ev_io io, monitor_io;
    ev_timer retry; /* a bound socket cannot poll for room at one peer */
    ev_timer again; /* DOWN is told once more */
    double again_s;
    bool touched, readable, bound, want_write;
    size_t send_max;
    struct proto_net_outbox out;
    uint64_t used, used_at_sweep; /* counts receives and sends */
    const struct proto_net_ops *ops;
    void *owner;
    char endpoint[128];
};

struct proto_net {
    struct ev_loop *loop;
    void *context;
    struct proto_net_zap *zap;
    struct proto_net_socket *all, *touched, *dead;
    ev_prepare prepare;
    ev_check check, turn;
    bool flushed; /* between the end of a turn and the next one */
    ev_idle idle;
    ev_timer sweep;
    unsigned monitors; /* numbers their addresses */
    struct proto_net_stats stats;
};

static void touch(struct proto_net_socket *s)
{
    if (!s->touched && s->zmq != NULL) {
        s->touched = true;
        s->touched_next = s->net->touched;
        s->net->touched = s;
    }
}

static int events_of(void *zmq)
{
    int events = 0;
    size_t n = sizeof events;
    return zmq_getsockopt(zmq, ZMQ_EVENTS, &events, &n) == 0 ? events : 0;
}

/* ---- receiving ---- */

struct frames {
    zmq_msg_t m[3];
    int n;
};

static void frames_close(struct frames *f)
{
    for (int i = 0; i < f->n; i++) {
        (void)zmq_msg_close(&f->m[i]);
    }
    f->n = 0;
}

/* 1 a message, 0 none. More than three frames: those after the third are dropped, n is 4. */
static int frames_receive(void *zmq, struct frames *f)
{
    f->n = 0;
    for (int count = 0;;) {
        zmq_msg_t extra;
        zmq_msg_t *m = count < 3 ? &f->m[count] : &extra;
        (void)zmq_msg_init(m);
        if (zmq_msg_recv(m, zmq, ZMQ_DONTWAIT) < 0) {
            (void)zmq_msg_close(m);
            frames_close(f);
            return 0;
        }
        bool more = zmq_msg_more(m) != 0;
        count++;
        if (count > 3) {
            (void)zmq_msg_close(&extra);
        } else {
            f->n = count;
        }
        if (!more) {
            if (count > 3) {
                frames_close(f); /* n == 0 marks it as malformed */
            }
            return 1;
        }
    }
}

/* The frame with the messages; false when the frames are none of ours. */
static bool open_frame(
    const struct proto_net_socket *s, struct frames *f, struct proto_net_message *m)
{
    int first = s->bound ? 1 : 0;
    if (f->n <= first || f->n > first + 2) {
        return false;
    }
    if (s->bound) {
        size_t n = zmq_msg_size(&f->m[0]);
        if (n == 0 || n > sizeof m->peer.id) {
            return false;
        }
        m->peer.len = (uint8_t)n;
        memcpy(m->peer.id, zmq_msg_data(&f->m[0]), n);
    }
    m->user = zmq_msg_gets(&f->m[first], "User-Id");
    m->user = m->user == NULL ? "" : m->user;
    m->key = zmq_msg_gets(&f->m[first], PROTO_NET_ZAP_KEY);
    m->key = m->key == NULL ? "" : m->key;
    return true;
}

/* A message of another version; only its corr is known. */
static void foreign(struct proto_net_message *m, const uint8_t *head)
{
    m->fault = BASE_EVERSION;
    m->env = (struct proto_envelope){0};
    m->body = NULL;
    m->body_bytes = 0;
    for (int i = 7; i >= 0; i--) {
        m->env.corr = m->env.corr << 8 | head[8 + i];
    }
}

/* The messages of a frame. False: (the rest of) it is malformed. */
static bool dispatch(struct proto_net_socket *s, struct frames *f, struct proto_net_message *m)
{
    struct proto_net *net = s->net;
    int first = s->bound ? 1 : 0;
    struct proto_envelope_frame frame = {
        .data = zmq_msg_data(&f->m[first]), .n = zmq_msg_size(&f->m[first])};
    do {
        const uint8_t *head = frame.data;
        int rc = proto_envelope_next(&frame, &m->env, &m->body);
        bool one_frame = f->n == first + 1;
        if (rc == BASE_EVERSION) {
            foreign(m, head);
            frame.n = 0;
        } else if (rc != 0 || !one_frame) {
            return false;
        } else {
            m->body_bytes = m->env.body_bytes;
        }
        s->used++;
        net->stats.received++;
        if (s->ops->on_message != NULL) {
            s->ops->on_message(s->owner, m);
        }
    } while (frame.n > 0 && s->zmq != NULL);
    return true;
}

static void drain(struct proto_net_socket *s)
{
    uint64_t until = s->used + DRAIN_BUDGET;
    while (s->used < until && s->zmq != NULL) {
        struct frames f;
        if (frames_receive(s->zmq, &f) == 0) {
            return;
        }
        s->used++;
        struct proto_net_message m = {0};
        if (!open_frame(s, &f, &m) || !dispatch(s, &f, &m)) {
            s->net->stats.malformed++;
        }
        frames_close(&f);
    }
}

static void restart(struct proto_net_socket *s, ev_timer *timer, double seconds)
{
    ev_timer_stop(s->net->loop, timer);
    ev_timer_set(timer, seconds, 0.);
    ev_timer_start(s->net->loop, timer);
}

/* ---- connection state, from ZeroMQ's monitor ---- */

static bool monitor_event(void *monitor, uint16_t *event)
{
    zmq_msg_t m;
    (void)zmq_msg_init(&m);
    bool got = zmq_msg_recv(&m, monitor, ZMQ_DONTWAIT) >= 0;
    if (got && zmq_msg_size(&m) >= sizeof *event) {
        memcpy(event, zmq_msg_data(&m), sizeof *event);
    }
    bool more = got && zmq_msg_more(&m) != 0;
    (void)zmq_msg_close(&m);
    while (more) { /* the address */
        (void)zmq_msg_init(&m);
        more = zmq_msg_recv(&m, monitor, ZMQ_DONTWAIT) >= 0 && zmq_msg_more(&m) != 0;
        (void)zmq_msg_close(&m);
    }
    return got;
}

/* The event comes before the socket has let go of the peer, by as much as ZeroMQ's thread is late:
 * what is sent meanwhile goes to nobody without an error. So it is told again. */
static void tell_down(struct proto_net_socket *s)
{
    if (s->again_s <= AGAIN_MAX_S) {
        restart(s, &s->again, s->again_s);
        s->again_s *= 2;
    }
    if (s->ops->on_state != NULL) {
        s->ops->on_state(s->owner, PROTO_NET_DOWN);
    }
}

static void on_again(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop;
    (void)revents;
    tell_down(w->data);
}

static void monitor_drain(struct proto_net_socket *s)
{
    uint16_t event = 0;
    bool ended = false;
    while (s->zmq != NULL && s->monitor != NULL && monitor_event(s->monitor, &event)) {
        enum proto_net_state state = PROTO_NET_DOWN;
        if (s->bound) {
            ended = true; /* told once, however many there are: strangers' connections end too */
            continue;
        }
        if (event != ZMQ_EVENT_HANDSHAKE_SUCCEEDED) {
            proto_net_outbox_clear(&s->out); /* was for the connection that is lost */
        }
        if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) {
            state = PROTO_NET_UP;
        } else if (event == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH ||
                   event == ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL) {
            state = PROTO_NET_REFUSED;
        }
        if (state == PROTO_NET_REFUSED) {
            /* ZeroMQ gives up after a refusal; our key may be listed later. */
            restart(s, &s->retry, REFUSED_S);
        }
        if (s->ops->on_state != NULL) {
            s->ops->on_state(s->owner, state);
        }
    }
    if (ended && s->zmq != NULL) {
        s->again_s = AGAIN_S;
        tell_down(s);
    }
}

/* ---- the loop ---- */

static void on_io(struct ev_loop *loop, ev_io *w, int revents)
{
    (void)loop;
    (void)revents;
    touch(w->data); /* on_check drains, with all sockets' signals known */
}

static void on_idle(struct ev_loop *loop, ev_idle *w, int revents)
{
    (void)loop; /* its being active keeps the loop from sleeping */
    (void)w;
    (void)revents;
}

static void bury(struct proto_net *net)
{
    while (net->dead != NULL) {
        struct proto_net_socket *s = net->dead;
        net->dead = s->dead_next;
        proto_net_outbox_deinit(&s->out);
        free(s);
    }
}

/* What was sent in this turn leaves. True when the socket must be served in the next one. */
static bool send_all(struct proto_net_socket *s)
{
    if (s->zmq == NULL) {
        return false;
    }
    if (proto_net_outbox_flush(&s->out, s->zmq) && s->bound) {
        restart(s, &s->retry, RETRY_S);
    }
    return proto_net_outbox_tells(&s->out);
}

/* Before the loop sleeps: a socket that was used may have messages without any signal. */
static void on_prepare(struct ev_loop *loop, ev_prepare *w, int revents)
{
    (void)revents;
    struct proto_net *net = w->data;
    struct proto_net_socket **p = &net->touched;
    bool work = false;
    while (*p != NULL) {
        struct proto_net_socket *s = *p;
        bool tells = send_all(s);
        int events = s->zmq == NULL ? 0 : events_of(s->zmq);
        int monitor = s->monitor == NULL ? 0 : events_of(s->monitor);
        bool waits = s->want_write || proto_net_outbox_stuck(&s->out);
        bool write = waits && !s->bound && (events & ZMQ_POLLOUT) != 0;
        if ((events & ZMQ_POLLIN) == 0 && (monitor & ZMQ_POLLIN) == 0 && !write && !tells) {
            s->touched = false;
            *p = s->touched_next;
            continue;
        }
        work = true;
        p = &s->touched_next;
    }
    if (work) {
        ev_idle_start(loop, &net->idle);
    }
    bury(net);
    net->flushed = true;
}

static void serve(struct proto_net_socket *s)
{
    struct proto_net_peer peer;
    drain(s); /* before the news that the connection is gone */
    monitor_drain(s);
    while (s->zmq != NULL && proto_net_outbox_gone(&s->out, &peer)) {
        if (s->ops->on_gone != NULL) {
            s->ops->on_gone(s->owner, &peer);
        }
    }
    if (s->zmq != NULL && s->want_write && !s->bound && (events_of(s->zmq) & ZMQ_POLLOUT) != 0) {
        s->want_write = false;
        if (s->ops->on_writable != NULL) {
            s->ops->on_writable(s->owner);
        }
    }
}

static void on_check(struct ev_loop *loop, ev_check *w, int revents)
{
    (void)revents;
    struct proto_net *net = w->data;
    ev_idle_stop(loop, &net->idle);
    /* Sockets touched meanwhile are put in front and wait for the next turn. Closed ones stay in
     * the list until on_prepare, so `next` is always there. */
    for (struct proto_net_socket *s = net->touched, *next; s != NULL; s = next) {
        next = s->touched_next;
        if (s->zmq != NULL) {
            serve(s);
        }
    }
}

static bool fd_readable(void *zmq)
{
    int fd = -1;
    size_t n = sizeof fd;
    (void)zmq_getsockopt(zmq, ZMQ_FD, &fd, &n);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) > 0;
}

/* Safety net. Looks only at sockets that did nothing for a whole period: what waits there, with a
 * descriptor that stays silent, would have waited for ever. */
static void on_sweep(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop;
    (void)revents;
    struct proto_net *net = w->data;
    for (struct proto_net_socket *s = net->all; s != NULL; s = s->next) {
        bool quiet = s->used == s->used_at_sweep && !s->touched;
        s->used_at_sweep = s->used;
        if (quiet && !fd_readable(s->zmq) && (events_of(s->zmq) & ZMQ_POLLIN) != 0) {
            net->stats.late++;
            touch(s);
        }
        if (s->monitor != NULL) {
            touch(s); /* connection states are rare: looked at without counting */
        }
    }
}

static void on_retry(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop;
    (void)revents;
    struct proto_net_socket *s = w->data;
    if (!s->bound) { /* refused a while ago */
        (void)zmq_disconnect(s->zmq, s->endpoint);
        (void)zmq_connect(s->zmq, s->endpoint);
        touch(s);
        return;
    }
    touch(s); /* what is stuck is tried again */
    if (s->want_write) {
        s->want_write = false;
        if (s->ops->on_writable != NULL) {
            s->ops->on_writable(s->owner);
        }
    }
}

/* ---- life ---- */

static void watch(struct ev_loop *loop, ev_io *io, void *zmq, struct proto_net_socket *s)
{
    int fd = -1;
    size_t n = sizeof fd;
    (void)zmq_getsockopt(zmq, ZMQ_FD, &fd, &n);
    ev_io_init(io, on_io, fd, EV_READ);
    io->data = s;
    ev_io_start(loop, io);
}

static int set_int(void *zmq, int option, int value)
{
    return zmq_setsockopt(zmq, option, &value, sizeof value);
}

static int set_common(void *zmq, const struct proto_net_options *opt, bool bound)
{
    static const int hwms[] = {HWM_CTL, HWM_BULK, HWM_NODE};
    int hwm = hwms[opt->class];
    int64_t largest = PROTO_BULK_BYTES_MAX + FRAME_SLACK;
    if (bound && opt->class == PROTO_NET_CTL) {
        largest = PROTO_CTL_BYTES_MAX + FRAME_SLACK;
    } else if (opt->class == PROTO_NET_NODE) {
        largest = PROTO_NODE_BYTES_MAX + FRAME_SLACK;
    }
    return set_int(zmq, ZMQ_LINGER, 0) | set_int(zmq, ZMQ_SNDHWM, hwm) |
           set_int(zmq, ZMQ_RCVHWM, hwm) | set_int(zmq, ZMQ_IPV6, 1) |
           set_int(zmq, ZMQ_HANDSHAKE_IVL, 2000) | set_int(zmq, ZMQ_HEARTBEAT_IVL, 2000) |
           set_int(zmq, ZMQ_HEARTBEAT_TIMEOUT, 6000) | set_int(zmq, ZMQ_HEARTBEAT_TTL, 6000) |
           set_int(zmq, ZMQ_TCP_MAXRT, 10000) |
           zmq_setsockopt(zmq, ZMQ_MAXMSGSIZE, &largest, sizeof largest);
}

static int set_role(void *zmq, const struct proto_net_options *opt, bool bound)
{
    int rc = 0;
    if (bound) {
        rc |= set_int(zmq, ZMQ_ROUTER_MANDATORY, 1) | set_int(zmq, ZMQ_ROUTER_HANDOVER, 1);
    } else {
        rc |= set_int(zmq, ZMQ_IMMEDIATE, 1) | set_int(zmq, ZMQ_CONNECT_TIMEOUT, 1000) |
              set_int(zmq, ZMQ_RECONNECT_IVL, 50) | set_int(zmq, ZMQ_RECONNECT_IVL_MAX, 2000);
    }
    if (opt->self == NULL) {
        return rc;
    }
    if (bound) {
        /* Without a domain ZeroMQ asks no ZAP handler in some modes. */
        rc |= set_int(zmq, ZMQ_CURVE_SERVER, 1) | zmq_setsockopt(zmq, ZMQ_ZAP_DOMAIN, "warren", 6);
    } else {
        rc |= zmq_setsockopt(zmq, ZMQ_CURVE_SERVERKEY, opt->server_key, PROTO_NET_Z85_MAX) |
              zmq_setsockopt(zmq, ZMQ_CURVE_PUBLICKEY, opt->self->public_z85, PROTO_NET_Z85_MAX);
    }
    return rc | zmq_setsockopt(zmq, ZMQ_CURVE_SECRETKEY, opt->self->secret_z85, PROTO_NET_Z85_MAX);
}

static void release(struct proto_net_socket *s)
{
    struct proto_net *net = s->net;
    ev_io_stop(net->loop, &s->io);
    ev_io_stop(net->loop, &s->monitor_io);
    ev_timer_stop(net->loop, &s->retry);
    ev_timer_stop(net->loop, &s->again);
    if (s->monitor != NULL) {
        /* First of all: ZeroMQ's thread waits for ever to tell an event that nobody would read, and
         * all sockets of the process with it. */
        (void)zmq_socket_monitor(s->zmq, NULL, 0);
        (void)zmq_close(s->monitor);
        s->monitor = NULL;
    }
    if (s->zmq != NULL) {
        (void)zmq_close(s->zmq);
        s->zmq = NULL;
    }
}

static struct proto_net_socket *open_socket(
    struct proto_net *net, const struct proto_net_options *opt, bool bound)
{
    struct proto_net_socket *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return NULL;
    }
    s->net = net;
    s->bound = bound;
    s->ops = opt->ops;
    s->owner = opt->owner;
    s->send_max = opt->class == PROTO_NET_NODE            ? PROTO_NODE_BYTES_MAX
                  : !bound && opt->class == PROTO_NET_CTL ? PROTO_CTL_BYTES_MAX
                                                          : PROTO_BULK_BYTES_MAX;
    ev_timer_init(&s->retry, on_retry, RETRY_S, 0.);
    s->retry.data = s;
    ev_timer_init(&s->again, on_again, AGAIN_S, 0.);
    s->again.data = s;
    s->zmq = zmq_socket(net->context, bound ? ZMQ_ROUTER : ZMQ_DEALER);
    if (s->zmq == NULL || set_common(s->zmq, opt, bound) != 0 ||
        set_role(s->zmq, opt, bound) != 0) {
        release(s);
        free(s);
        return NULL;
    }
    return s;
}

static void enlist(struct proto_net_socket *s)
{
    struct proto_net *net = s->net;
    s->next = net->all;
    if (net->all != NULL) {
        net->all->prev = s;
    }
    net->all = s;
    watch(net->loop, &s->io, s->zmq, s);
    touch(s);
}

static int open_monitor(struct proto_net_socket *s)
{
    char address[48];
    (void)snprintf(address, sizeof address, "inproc://monitor-%u", s->net->monitors++);
    int events = ZMQ_EVENT_DISCONNECTED;
    if (!s->bound) {
        events |= ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH |
                  ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL;
    }
    if (zmq_socket_monitor(s->zmq, address, events) != 0) {
        return -1;
    }
    s->monitor = zmq_socket(s->net->context, ZMQ_PAIR);
    if (s->monitor == NULL || set_int(s->monitor, ZMQ_LINGER, 0) != 0 ||
        set_int(s->monitor, ZMQ_RCVHWM, 0) != 0) { /* or its thread would wait for us */
        return -1;
    }
    return zmq_connect(s->monitor, address);
}

int proto_net_bind(struct proto_net *net, const struct proto_net_options *opt,
    struct proto_net_socket **ret_socket, struct base_error *err)
{
    if (opt->self != NULL && net->zap == NULL) {
        return base_fail(err, BASE_EINVAL, "bind '%s': no list of clients", opt->endpoint);
    }
    struct proto_net_socket *s = open_socket(net, opt, true);
    if (s == NULL) {
        return base_fail(err, -errno, "open a socket: %s", zmq_strerror(errno));
    }
    size_t n = sizeof s->endpoint;
    if (open_monitor(s) != 0 || zmq_bind(s->zmq, opt->endpoint) != 0 ||
        zmq_getsockopt(s->zmq, ZMQ_LAST_ENDPOINT, s->endpoint, &n) != 0) {
        int code = -errno;
        release(s);
        free(s);
        return base_fail(err, code, "bind '%s': %s", opt->endpoint, zmq_strerror(-code));
    }
    enlist(s);
    watch(net->loop, &s->monitor_io, s->monitor, s);
    *ret_socket = s;
    return 0;
}

int proto_net_connect(struct proto_net *net, const struct proto_net_options *opt,
    struct proto_net_socket **ret_socket, struct base_error *err)
{
    if (opt->self != NULL && (opt->server_key == NULL || !proto_net_z85_valid(opt->server_key))) {
        return base_fail(err, BASE_EINVAL, "connect '%s': bad public key", opt->endpoint);
    }
    struct proto_net_socket *s = open_socket(net, opt, false);
    if (s == NULL) {
        return base_fail(err, -errno, "open a socket: %s", zmq_strerror(errno));
    }
    (void)snprintf(s->endpoint, sizeof s->endpoint, "%s", opt->endpoint);
    if (open_monitor(s) != 0 || zmq_connect(s->zmq, opt->endpoint) != 0) {
        int code = -errno;
        release(s);
        free(s);
        return base_fail(err, code, "connect '%s': %s", opt->endpoint, zmq_strerror(-code));
    }
    enlist(s);
    watch(net->loop, &s->monitor_io, s->monitor, s);
    *ret_socket = s;
    return 0;
}

const char *proto_net_endpoint(const struct proto_net_socket *s)
{
    return s->endpoint;
}

void proto_net_close(struct proto_net_socket *s)
{
    if (s == NULL || s->zmq == NULL) {
        return;
    }
    struct proto_net *net = s->net;
    touch(s); /* so that on_prepare takes it off the list before bury() frees it */
    release(s);
    if (s->prev != NULL) {
        s->prev->next = s->next;
    } else {
        net->all = s->next;
    }
    if (s->next != NULL) {
        s->next->prev = s->prev;
    }
    s->dead_next = net->dead;
    net->dead = s;
}

void proto_net_stats(const struct proto_net *net, struct proto_net_stats *ret)
{
    *ret = net->stats;
}

/* Before every callback of a turn: what they send leaves at its end. */
static void on_turn(struct ev_loop *loop, ev_check *w, int revents)
{
    (void)loop;
    (void)revents;
    struct proto_net *net = w->data;
    net->flushed = false;
}

static void start_watchers(struct proto_net *net)
{
    ev_prepare_init(&net->prepare, on_prepare);
    /* After every other ev_prepare: those may send. */
    ev_set_priority(&net->prepare, EV_MINPRI);
    ev_check_init(&net->turn, on_turn);
    ev_set_priority(&net->turn, EV_MAXPRI);
    ev_check_init(&net->check, on_check);
    /* After the ev_io callbacks of the same turn, which say which sockets fired. */
    ev_set_priority(&net->check, EV_MINPRI);
    ev_idle_init(&net->idle, on_idle);
    ev_timer_init(&net->sweep, on_sweep, SWEEP_S, SWEEP_S);
    net->prepare.data = net->turn.data = net->check.data = net->sweep.data = net;
    ev_prepare_start(net->loop, &net->prepare);
    ev_check_start(net->loop, &net->turn);
    ev_check_start(net->loop, &net->check);
    ev_timer_start(net->loop, &net->sweep);
}

uint64_t proto_net_raise_limits(void)
{
    struct rlimit r = {0};
    if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
        r.rlim_cur = r.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &r);
    }
    return getrlimit(RLIMIT_NOFILE, &r) == 0 ? r.rlim_cur : 0;
}

/* ZeroMQ's own limit is 1023, whatever the system allows. */
static void size_context(void *context)
{
    struct rlimit r = {0};
    int most = zmq_ctx_get(context, ZMQ_SOCKET_LIMIT), n = zmq_ctx_get(context, ZMQ_MAX_SOCKETS);
    if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur > (rlim_t)n) {
        (void)zmq_ctx_set(
            context, ZMQ_MAX_SOCKETS, r.rlim_cur < (rlim_t)most ? (int)r.rlim_cur : most);
    }
}

int proto_net_create(
    struct proto_net **ret_net, struct ev_loop *loop, const char *clients, struct base_error *err)
{
    struct proto_net *net = calloc(1, sizeof *net);
    if (net == NULL) {
        return base_fail(err, BASE_ENOMEM, "start the network");
    }
    net->loop = loop;
    net->context = zmq_ctx_new();
    if (net->context == NULL) {
        free(net);
        return base_fail(err, -errno, "make a ZeroMQ context: %s", zmq_strerror(errno));
    }
    size_context(net->context);
    if (clients != NULL) {
        int rc = proto_net_zap_create(&net->zap, net->context, clients, err);
        if (rc < 0) {
            (void)zmq_ctx_term(net->context);
            free(net);
            return rc;
        }
    }
    start_watchers(net);
    *ret_net = net;
    return 0;
}

void proto_net_destroy(struct proto_net *net)
{
    if (net == NULL) {
        return;
    }
    while (net->all != NULL) {
        proto_net_close(net->all);
    }
    bury(net);
    ev_prepare_stop(net->loop, &net->prepare);
    ev_check_stop(net->loop, &net->turn);
    ev_check_stop(net->loop, &net->check);
    ev_idle_stop(net->loop, &net->idle);
    ev_timer_stop(net->loop, &net->sweep);
    (void)zmq_ctx_shutdown(net->context);
    proto_net_zap_destroy(net->zap);
    while (zmq_ctx_term(net->context) != 0 && errno == EINTR) {
    }
    free(net);
}

/* ---- sending ---- */

int proto_net_send(struct proto_net_socket *s, const struct proto_net_peer *to,
    const struct proto_envelope *env, const void *body, size_t body_bytes)
{
    if (s->zmq == NULL) {
        return BASE_ECLOSED;
    }
    if (body_bytes > s->send_max) {
        return BASE_ETOOBIG;
    }
    struct proto_envelope e = *env;
    e.body_bytes = (uint32_t)body_bytes;
    uint8_t head[PROTO_ENVELOPE_BYTES];
    proto_envelope_encode(&e, head);
    touch(s);
    int rc = proto_net_outbox_add(&s->out, s->zmq, to, head, body, body_bytes);
    if (rc == 0) {
        s->used++;
        s->net->stats.sent++;
        if (s->net->flushed) { /* this turn's messages have left already */
            s->net->stats.late++;
            (void)send_all(s);
        }
    } else if (rc == BASE_EAGAIN) {
        s->want_write = true;
        if (s->bound) {
            restart(s, &s->retry, RETRY_S);
        }
    }
    return rc;
}
