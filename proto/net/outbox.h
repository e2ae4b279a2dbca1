#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "proto/base/buf.h"
#include "proto/net/loop_zmq.h"

/* What a socket is about to send: the messages of one turn of the loop to one peer leave in one
 * frame, which ZeroMQ and CURVE then handle once. Order is kept for each peer. Inside of
 * proto/net. */

enum {
    PROTO_NET_BATCHES = 8,           /* peers of a bound socket that are written to at a time */
    PROTO_NET_BATCH_BYTES = 32 << 10 /* a longer message goes alone */
};

struct proto_net_batch {
    struct proto_net_peer peer; /* len 0 on a connected socket */
    struct base_buf bytes;
    bool used;
    bool stuck; /* ZeroMQ had no room, or nobody is connected */
    bool gone;  /* the peer is; to be told */
};

struct proto_net_outbox {
    struct proto_net_batch batches[PROTO_NET_BATCHES];
    unsigned turn;
};

void proto_net_outbox_deinit(struct proto_net_outbox *o);

/* Adds a message (head: encoded envelope). zmq: a DEALER (to NULL) or a ROUTER. 0, BASE_EAGAIN when
 * what was added before cannot leave, BASE_ECLOSED when the peer is gone (it is told by
 * proto_net_outbox_gone() too), BASE_ENOMEM, -errno. */
int proto_net_outbox_add(struct proto_net_outbox *o, void *zmq, const struct proto_net_peer *to,
    const uint8_t *head, const void *body, size_t body_bytes);

/* Hands over what there is. True when something is stuck. */
bool proto_net_outbox_flush(struct proto_net_outbox *o, void *zmq);

bool proto_net_outbox_stuck(const struct proto_net_outbox *o);
/* True when proto_net_outbox_gone() has something to tell. */
bool proto_net_outbox_tells(const struct proto_net_outbox *o);
/* The next peer that is gone; false: no more. */
bool proto_net_outbox_gone(struct proto_net_outbox *o, struct proto_net_peer *ret);
/* Forgets what did not leave: the connection that it was for is lost. */
void proto_net_outbox_clear(struct proto_net_outbox *o);
