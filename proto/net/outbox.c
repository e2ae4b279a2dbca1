#include "proto/net/outbox.h"

#include <errno.h>
#include <string.h>
#include <zmq.h>

#include "proto/base/err.h"

static int send_frame(void *zmq, const void *data, size_t n, int flags)
{
    int rc = zmq_send(zmq, data, n, ZMQ_DONTWAIT | flags);
    if (rc < 0 && errno == EAGAIN) {
        /* A send looks at ZeroMQ's inner commands only now and then; asking for the events does so
         * at once, and a connection that has just come up is seen. */
        int events = 0;
        size_t size = sizeof events;
        (void)zmq_getsockopt(zmq, ZMQ_EVENTS, &events, &size);
        rc = zmq_send(zmq, data, n, ZMQ_DONTWAIT | flags);
    }
    if (rc >= 0) {
        return 0;
    }
    return errno == EAGAIN ? BASE_EAGAIN : errno == EHOSTUNREACH ? BASE_ECLOSED : -errno;
}

static void release(struct proto_net_batch *b)
{
    b->used = b->stuck = b->gone = false;
    if (b->bytes.cap > 2 * PROTO_NET_BATCH_BYTES) {
        base_buf_deinit(&b->bytes);
    } else {
        base_buf_clear(&b->bytes);
    }
}

static int flush(struct proto_net_batch *b, void *zmq)
{
    /* Once the first frame went in the other follows: ZeroMQ counts whole messages. */
    int rc = b->peer.len > 0 ? send_frame(zmq, b->peer.id, b->peer.len, ZMQ_SNDMORE) : 0;
    rc = rc != 0 ? rc : send_frame(zmq, base_buf_data(&b->bytes), base_buf_size(&b->bytes), 0);
    if (rc == BASE_EAGAIN) {
        b->stuck = true;
    } else if (rc == BASE_ECLOSED) {
        b->gone = true;
        b->stuck = false;
        base_buf_clear(&b->bytes);
    } else {
        release(b);
    }
    return rc;
}

static bool same(const struct proto_net_peer *a, const struct proto_net_peer *b)
{
    return a->len == b->len && memcmp(a->id, b->id, a->len) == 0;
}

/* The peer's batch, or an empty one; NULL: all are taken. */
static struct proto_net_batch *batch_of(
    struct proto_net_outbox *o, void *zmq, const struct proto_net_peer *peer)
{
    struct proto_net_batch *empty = NULL;
    for (int i = 0; i < PROTO_NET_BATCHES; i++) {
        struct proto_net_batch *b = &o->batches[i];
        if (b->used && same(&b->peer, peer)) {
            return b;
        }
        empty = !b->used ? b : empty;
    }
    for (int i = 0; empty == NULL && i < PROTO_NET_BATCHES; i++) {
        struct proto_net_batch *b = &o->batches[o->turn++ % PROTO_NET_BATCHES];
        if (!b->stuck && !b->gone && flush(b, zmq) == 0) {
            empty = b;
        }
    }
    if (empty != NULL) {
        empty->used = true;
        empty->peer = *peer;
    }
    return empty;
}

/* More peers at a time than there are batches: without one. */
static int send_alone(
    void *zmq, const struct proto_net_peer *peer, const uint8_t *head, const void *body, size_t n)
{
    struct proto_net_batch b = {.peer = *peer, .used = true};
    int rc = base_buf_add(&b.bytes, head, PROTO_ENVELOPE_BYTES);
    rc = rc != 0 || n == 0 ? rc : base_buf_add(&b.bytes, body, n);
    rc = rc != 0 ? rc : flush(&b, zmq);
    base_buf_deinit(&b.bytes);
    return rc;
}

int proto_net_outbox_add(struct proto_net_outbox *o, void *zmq, const struct proto_net_peer *to,
    const uint8_t *head, const void *body, size_t body_bytes)
{
    static const struct proto_net_peer nobody = {.len = 0};
    const struct proto_net_peer *peer = to == NULL ? &nobody : to;
    struct proto_net_batch *b = batch_of(o, zmq, peer);
    if (b == NULL) {
        return send_alone(zmq, peer, head, body, body_bytes);
    }
    size_t have = base_buf_size(&b->bytes), n = PROTO_ENVELOPE_BYTES + body_bytes;
    if (b->gone) {
        return BASE_ECLOSED;
    }
    if (b->stuck || (have > 0 && have + n > PROTO_NET_BATCH_BYTES)) {
        int rc = flush(b, zmq);
        if (rc != 0) {
            return rc;
        }
        b->used = true;
        b->peer = *peer;
    }
    uint8_t *p = base_buf_room(&b->bytes, n);
    if (p == NULL) {
        if (base_buf_size(&b->bytes) == 0) {
            release(b);
        }
        return BASE_ENOMEM;
    }
    memcpy(p, head, PROTO_ENVELOPE_BYTES);
    if (body_bytes > 0) {
        memcpy(p + PROTO_ENVELOPE_BYTES, body, body_bytes);
    }
    base_buf_grow(&b->bytes, n);
    return 0;
}

bool proto_net_outbox_flush(struct proto_net_outbox *o, void *zmq)
{
    for (int i = 0; i < PROTO_NET_BATCHES; i++) {
        struct proto_net_batch *b = &o->batches[i];
        if (b->used && !b->gone) {
            (void)flush(b, zmq);
        }
    }
    return proto_net_outbox_stuck(o);
}

bool proto_net_outbox_stuck(const struct proto_net_outbox *o)
{
    for (int i = 0; i < PROTO_NET_BATCHES; i++) {
        if (o->batches[i].stuck) {
            return true;
        }
    }
    return false;
}

bool proto_net_outbox_tells(const struct proto_net_outbox *o)
{
    for (int i = 0; i < PROTO_NET_BATCHES; i++) {
        if (o->batches[i].gone) {
            return true;
        }
    }
    return false;
}

bool proto_net_outbox_gone(struct proto_net_outbox *o, struct proto_net_peer *ret)
{
    for (int i = 0; i < PROTO_NET_BATCHES; i++) {
        if (o->batches[i].gone) {
            *ret = o->batches[i].peer;
            release(&o->batches[i]);
            return true;
        }
    }
    return false;
}

void proto_net_outbox_clear(struct proto_net_outbox *o)
{
    for (int i = 0; i < PROTO_NET_BATCHES; i++) {
        release(&o->batches[i]);
    }
}

void proto_net_outbox_deinit(struct proto_net_outbox *o)
{
    for (int i = 0; i < PROTO_NET_BATCHES; i++) {
        base_buf_deinit(&o->batches[i].bytes);
    }
}
