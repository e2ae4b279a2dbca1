#include "worker/io/link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/base/container.h"
#include "proto/base/rand.h"
#include "proto/frame.h"

struct worker_stream {
    struct worker_stream *next;
    struct worker_link *link; /* NULL once closed */
    enum worker_link_port port;
    uint32_t number;
    const struct worker_stream_ops *ops;
    void *user;
    uint32_t tx_credit;
    uint32_t rx_owed; /* consumed, not yet given back */
    bool fin_sent, fin_seen, starved;
    struct base_buf event; /* parts of one that is not complete */
};

enum { READ_BYTES = 64 << 10, READS_PER_TURN = 4, GIVE_BACK = PROTO_FRAME_STREAM_WINDOW / 4 };

static void lose(struct worker_link *l, const char *why)
{
    if (!l->lost) {
        l->lost = true;
        for (int i = 0; i < WORKER_LINK_PORTS; i++) {
            ev_io_stop(l->loop, &l->side[i].io);
        }
        (void)ev_clear_pending(l->loop, &l->cork);
        l->events.lost(l->events.user, why);
    }
}

static void want(struct worker_link_side *d)
{
    int events = EV_READ | (base_buf_size(&d->out) > 0 ? EV_WRITE : 0);
    if (!d->link->lost && (d->io.events & (EV_READ | EV_WRITE)) != events) {
        ev_io_stop(d->link->loop, &d->io);
        ev_io_set(&d->io, d->fd, events);
        ev_io_start(d->link->loop, &d->io);
    }
}

static void flush(struct worker_link_side *d)
{
    while (base_buf_size(&d->out) > 0) {
        ssize_t n = send(d->fd, base_buf_data(&d->out), base_buf_size(&d->out), MSG_NOSIGNAL);
        if (n < 0) {
            break; /* a dead peer shows up on the reading side */
        }
        base_buf_consume(&d->out, (size_t)n);
    }
    want(d);
}

static int put(struct worker_link_side *d, enum proto_frame_type type, uint32_t stream,
    const void *payload, size_t n)
{
    uint8_t *p = base_buf_room(&d->out, PROTO_FRAME_HEAD + n);
    if (p == NULL) {
        return BASE_ENOMEM;
    }
    proto_frame_head(p, type, stream, (uint16_t)n);
    if (n > 0) {
        memcpy(p + PROTO_FRAME_HEAD, payload, n);
    }
    base_buf_grow(&d->out, PROTO_FRAME_HEAD + n);
    return 0;
}

static void send_frame(struct worker_link_side *d, enum proto_frame_type type, uint32_t stream,
    const void *payload, size_t n)
{
    if (d->link->lost) {
        return;
    }
    if (put(d, type, stream, payload, n) != 0) {
        lose(d->link, "out of memory");
        return;
    }
    /* Fed, not started: it runs right after the callback that is running now, whichever phase of
     * the loop that is. A started prepare watcher could sleep through a poll. */
    if (!ev_is_pending(&d->link->cork)) {
        ev_feed_event(d->link->loop, &d->link->cork, EV_CUSTOM);
    }
}

static struct worker_stream *find(struct worker_link_side *d, uint32_t number)
{
    enum worker_link_port port = (enum worker_link_port)(d - d->link->side);
    for (struct worker_stream *s = d->link->streams; s != NULL; s = s->next) {
        if (s->number == number && s->port == port) {
            return s;
        }
    }
    return NULL;
}

static void sweep(struct worker_link *l)
{
    while (l->depth == 0 && l->trash != NULL) {
        struct worker_stream *s = l->trash;
        l->trash = s->next;
        base_buf_deinit(&s->event);
        free(s);
    }
}

static void unlink_stream(struct worker_stream *s)
{
    struct worker_link *l = s->link;
    struct worker_stream **at = &l->streams;
    while (*at != s) {
        at = &(*at)->next;
    }
    *at = s->next;
    s->link = NULL;
    s->next = l->trash;
    l->trash = s;
}

static void close_stream(struct worker_stream *s, int code, const char *text)
{
    struct worker_link *l = s->link;
    unlink_stream(s);
    if (s->ops->closed != NULL) {
        l->depth++;
        s->ops->closed(s->user, code, text);
        l->depth--;
    }
    sweep(l);
}

static void on_hello(struct worker_link_side *d, const struct proto_frame *f)
{
    struct worker_link *l = d->link;
    if (f->len < sizeof d->nonce || memcmp(f->payload, d->nonce, sizeof d->nonce) != 0) {
        return; /* an answer to an earlier connection */
    }
    Warren__GuestHello *hello =
        warren__guest_hello__unpack(NULL, f->len - sizeof d->nonce, f->payload + sizeof d->nonce);
    if (hello == NULL) {
        lose(l, "the agent's hello is malformed");
        return;
    }
    d->attached = true;
    if (d == &l->side[WORKER_LINK_CTL]) {
        l->hello = hello;
    } else {
        warren__guest_hello__free_unpacked(hello, NULL);
    }
    if (l->side[WORKER_LINK_CTL].attached && l->side[WORKER_LINK_BULK].attached) {
        hello = l->hello;
        l->hello = NULL;
        l->events.attached(l->events.user, hello);
        warren__guest_hello__free_unpacked(hello, NULL);
    }
}

static void on_reply(struct worker_link *l, const struct proto_frame *f)
{
    for (int i = 0; i < WORKER_LINK_CALLS_MAX; i++) {
        if (l->calls[i].number == 0 || l->calls[i].number != f->stream) {
            continue;
        }
        Warren__GuestReply *reply = warren__guest_reply__unpack(NULL, f->len, f->payload);
        if (reply == NULL) {
            lose(l, "the agent's reply is malformed");
            return;
        }
        l->calls[i].number = 0;
        l->calls[i].fn(l->calls[i].user, reply);
        warren__guest_reply__free_unpacked(reply, NULL);
        return;
    }
}

static void on_event(struct worker_stream *s, const struct proto_frame *f)
{
    struct worker_link *l = s->link;
    if (base_buf_size(&s->event) + f->len > PROTO_EVENT_BYTES_MAX ||
        base_buf_add(&s->event, f->payload, f->len) != 0) {
        lose(l, "an event of the agent is too long");
        return;
    }
    if (f->type == PROTO_FRAME_EVENT_MORE) {
        return;
    }
    size_t n = base_buf_size(&s->event);
    const uint8_t *raw = base_buf_data(&s->event);
    Warren__GuestEvent *event = warren__guest_event__unpack(NULL, n, raw);
    if (event == NULL) {
        lose(l, "an event of the agent is malformed");
        return;
    }
    if (s->ops->event != NULL) {
        s->ops->event(s->user, event, raw, n);
    }
    warren__guest_event__free_unpacked(event, NULL);
    base_buf_clear(&s->event);
}

static void on_result(struct worker_stream *s, const struct proto_frame *f)
{
    Warren__GuestResult *result = warren__guest_result__unpack(NULL, f->len, f->payload);
    if (result == NULL) {
        lose(s->link, "a result of the agent is malformed");
        return;
    }
    if (s->ops->result != NULL) {
        s->ops->result(s->user, result);
    }
    warren__guest_result__free_unpacked(result, NULL);
}

static void on_rst(struct worker_stream *s, const struct proto_frame *f)
{
    char text[200] = "refused";
    int code = BASE_EIO;
    if (f->len >= 4) {
        code = (int)proto_frame_u32(f->payload);
        code = code < 0 ? code : BASE_EIO;
        size_t n = f->len - 4u < sizeof text - 1 ? f->len - 4u : sizeof text - 1;
        memcpy(text, f->payload + 4, n);
        text[n] = '\0';
    }
    close_stream(s, code, text);
}

static void on_credit(struct worker_stream *s, const struct proto_frame *f)
{
    uint32_t n = f->len == 4 ? proto_frame_u32(f->payload) : 0;
    if (n > PROTO_FRAME_STREAM_WINDOW || s->tx_credit + n > PROTO_FRAME_STREAM_WINDOW) {
        lose(s->link, "the agent gives more credit than there is");
        return;
    }
    s->tx_credit += n;
    if (s->starved && s->tx_credit > 0) {
        s->starved = false;
        if (s->ops->writable != NULL) {
            s->ops->writable(s->user);
        }
    }
}

static void on_stream_frame(struct worker_stream *s, const struct proto_frame *f)
{
    if (f->type == PROTO_FRAME_DATA && s->ops->data != NULL) {
        s->ops->data(s->user, f->payload, f->len);
    } else if (f->type == PROTO_FRAME_EVENT || f->type == PROTO_FRAME_EVENT_MORE) {
        on_event(s, f);
    } else if (f->type == PROTO_FRAME_RESULT) {
        on_result(s, f);
    } else if (f->type == PROTO_FRAME_CREDIT) {
        on_credit(s, f);
    } else if (f->type == PROTO_FRAME_RST) {
        on_rst(s, f);
    } else if (f->type == PROTO_FRAME_FIN) {
        s->fin_seen = true;
        /* Nothing follows from the guest; what we might still send is of no use to it. */
        close_stream(s, 0, "");
    }
}

static void on_frame(struct worker_link_side *d, const struct proto_frame *f)
{
    if (f->type == PROTO_FRAME_HELLO) {
        on_hello(d, f);
    } else if (!d->attached) {
        return; /* bytes of an earlier connection */
    } else if (f->type == PROTO_FRAME_REPLY) {
        on_reply(d->link, f);
    } else {
        struct worker_stream *s = find(d, f->stream);
        if (s != NULL) {
            on_stream_frame(s, f);
        }
    }
}

static void frames(struct worker_link_side *d)
{
    struct proto_frame f;
    size_t used;
    while (!d->link->lost &&
           proto_frame_next(base_buf_data(&d->in), base_buf_size(&d->in), &f, &used) == 1) {
        on_frame(d, &f);
        base_buf_consume(&d->in, used);
    }
    if (!d->link->lost) {
        base_buf_consume(&d->in, used);
    }
}

static void on_readable(struct worker_link_side *d)
{
    struct worker_link *l = d->link;
    for (int i = 0; i < READS_PER_TURN && !l->lost; i++) {
        uint8_t *p = base_buf_room(&d->in, READ_BYTES);
        ssize_t n = p == NULL ? 0 : recv(d->fd, p, READ_BYTES, 0);
        if (n > 0) {
            base_buf_grow(&d->in, (size_t)n);
            frames(d);
        } else if (n == 0) {
            lose(l, "the channel to the agent closed");
        } else if (errno != EINTR) {
            if (errno != EAGAIN) {
                lose(l, "the channel to the agent broke");
            }
            return;
        }
        if (n < READ_BYTES) {
            return;
        }
    }
}

static void on_cork(struct ev_loop *loop, ev_prepare *w, int revents)
{
    (void)loop;
    (void)revents;
    struct worker_link *l = CONTAINER_OF(w, struct worker_link, cork);
    for (int i = 0; i < WORKER_LINK_PORTS && !l->lost; i++) {
        flush(&l->side[i]);
    }
}

static void on_io(struct ev_loop *loop, ev_io *w, int revents)
{
    (void)loop;
    struct worker_link_side *d = CONTAINER_OF(w, struct worker_link_side, io);
    struct worker_link *l = d->link;
    l->depth++;
    if (revents & EV_WRITE) {
        flush(d);
    }
    if (revents & EV_READ) {
        on_readable(d);
    }
    l->depth--;
    sweep(l);
}

int worker_link_init(struct worker_link *l, struct ev_loop *loop, const int fds[WORKER_LINK_PORTS],
    const struct worker_link_events *events, bool resync)
{
    static const uint8_t padding[PROTO_FRAME_RESYNC];
    *l = (struct worker_link){.loop = loop, .events = *events};
    int rc = 0;
    ev_prepare_init(&l->cork, on_cork);
    for (int i = 0; i < WORKER_LINK_PORTS; i++) {
        struct worker_link_side *d = &l->side[i];
        d->link = l;
        d->fd = fds[i];
        base_rand_bytes(d->nonce, sizeof d->nonce);
        ev_io_init(&d->io, on_io, d->fd, EV_READ);
        ev_io_start(loop, &d->io);
        if (base_buf_add(&d->out, padding, resync ? sizeof padding : 0) != 0 ||
            put(d, PROTO_FRAME_HELLO, 0, d->nonce, sizeof d->nonce) != 0) {
            rc = BASE_ENOMEM;
        } else {
            flush(d);
        }
    }
    return rc;
}

void worker_link_deinit(struct worker_link *l)
{
    if (l->loop == NULL) {
        return;
    }
    l->lost = true;
    (void)ev_clear_pending(l->loop, &l->cork);
    while (l->streams != NULL) {
        close_stream(l->streams, BASE_ECLOSED, "the microVM is gone");
    }
    for (int i = 0; i < WORKER_LINK_PORTS; i++) {
        struct worker_link_side *d = &l->side[i];
        ev_io_stop(l->loop, &d->io);
        if (d->fd >= 0) {
            (void)close(d->fd);
            d->fd = -1;
        }
        base_buf_deinit(&d->in);
        base_buf_deinit(&d->out);
    }
    if (l->hello != NULL) {
        warren__guest_hello__free_unpacked(l->hello, NULL);
    }
    l->depth = 0;
    sweep(l);
    l->loop = NULL;
}

static enum worker_link_port port_of(const Warren__GuestOpen *open)
{
    return open->what_case == WARREN__GUEST_OPEN__WHAT_EXEC ||
                   open->what_case == WARREN__GUEST_OPEN__WHAT_RESUME
               ? WORKER_LINK_CTL
               : WORKER_LINK_BULK;
}

int worker_link_open(struct worker_link *l, const Warren__GuestOpen *open,
    const struct worker_stream_ops *ops, void *user, struct worker_stream **ret)
{
    if (l->loop == NULL || l->lost) {
        return BASE_ECLOSED;
    }
    size_t n = warren__guest_open__get_packed_size(open);
    if (n > PROTO_FRAME_PAYLOAD_MAX) {
        return BASE_ETOOBIG;
    }
    struct worker_stream *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return BASE_ENOMEM;
    }
    uint8_t payload[PROTO_FRAME_PAYLOAD_MAX];
    (void)warren__guest_open__pack(open, payload);
    struct worker_link_side *d = &l->side[port_of(open)];
    *s = (struct worker_stream){
        .next = l->streams,
        .link = l,
        .port = port_of(open),
        .number = ++d->next_stream,
        .ops = ops,
        .user = user,
        .tx_credit = PROTO_FRAME_STREAM_WINDOW,
    };
    l->streams = s;
    *ret = s;
    send_frame(d, PROTO_FRAME_OPEN, s->number, payload, n);
    return 0;
}

int worker_link_call(
    struct worker_link *l, const Warren__GuestCall *call, worker_link_reply_fn *fn, void *user)
{
    if (l->loop == NULL || l->lost) {
        return BASE_ECLOSED;
    }
    uint8_t payload[4096];
    size_t n = warren__guest_call__get_packed_size(call);
    if (n > sizeof payload) {
        return BASE_ETOOBIG;
    }
    (void)warren__guest_call__pack(call, payload);
    uint32_t number = ++l->next_call;
    int at = 0;
    while (fn != NULL && at < WORKER_LINK_CALLS_MAX && l->calls[at].number != 0) {
        at++;
    }
    if (at == WORKER_LINK_CALLS_MAX) {
        return BASE_EFULL;
    }
    if (fn != NULL) {
        l->calls[at].number = number;
        l->calls[at].fn = fn;
        l->calls[at].user = user;
    }
    send_frame(&l->side[WORKER_LINK_CTL], PROTO_FRAME_CALL, number, payload, n);
    return 0;
}

size_t worker_stream_write(struct worker_stream *s, const void *data, size_t n)
{
    const uint8_t *p = data;
    size_t done = 0;
    if (s->link == NULL || s->fin_sent) {
        return n; /* nobody reads it; closed() has told or tells */
    }
    struct worker_link_side *d = &s->link->side[s->port];
    while (done < n && s->tx_credit > 0) {
        size_t k = n - done;
        k = k < PROTO_FRAME_PAYLOAD_MAX ? k : PROTO_FRAME_PAYLOAD_MAX;
        k = k < s->tx_credit ? k : s->tx_credit;
        send_frame(d, PROTO_FRAME_DATA, s->number, p + done, k);
        s->tx_credit -= (uint32_t)k;
        done += k;
    }
    s->starved = done < n;
    return done;
}

void worker_stream_finish(struct worker_stream *s)
{
    if (s->link != NULL && !s->fin_sent) {
        s->fin_sent = true;
        send_frame(&s->link->side[s->port], PROTO_FRAME_FIN, s->number, NULL, 0);
    }
}

void worker_stream_consume(struct worker_stream *s, size_t n)
{
    if (s->link == NULL) {
        return;
    }
    s->rx_owed += (uint32_t)n;
    if (s->rx_owed >= GIVE_BACK) {
        uint8_t credit[4];
        proto_frame_put_u32(credit, s->rx_owed);
        s->rx_owed = 0;
        send_frame(&s->link->side[s->port], PROTO_FRAME_CREDIT, s->number, credit, sizeof credit);
    }
}

void worker_stream_reset(struct worker_stream *s)
{
    struct worker_link *l = s->link;
    if (l == NULL) {
        return;
    }
    uint8_t code[4];
    proto_frame_put_u32(code, (uint32_t)BASE_ECLOSED);
    send_frame(&l->side[s->port], PROTO_FRAME_RST, s->number, code, sizeof code);
    unlink_stream(s);
    sweep(l);
}

static ProtobufCBinaryData exec_id(const uint8_t id[16])
{
    return (ProtobufCBinaryData){PROTO_EXEC_ID_BYTES, (uint8_t *)(uintptr_t)id};
}

void worker_link_event_ack(struct worker_link *l, const uint8_t id[16], uint64_t seq)
{
    Warren__GuestEventAck ack = WARREN__GUEST_EVENT_ACK__INIT;
    ack.id = exec_id(id);
    ack.seq = seq;
    Warren__GuestCall c = WARREN__GUEST_CALL__INIT;
    c.what_case = WARREN__GUEST_CALL__WHAT_EVENT_ACK;
    c.event_ack = &ack;
    (void)worker_link_call(l, &c, NULL, NULL);
}

void worker_link_forget(struct worker_link *l, const uint8_t id[16])
{
    Warren__GuestForget forget = WARREN__GUEST_FORGET__INIT;
    forget.id = exec_id(id);
    Warren__GuestCall c = WARREN__GUEST_CALL__INIT;
    c.what_case = WARREN__GUEST_CALL__WHAT_FORGET;
    c.forget = &forget;
    (void)worker_link_call(l, &c, NULL, NULL);
}
