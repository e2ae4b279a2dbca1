#pragma once
#include <ev.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "proto/envelope.h"

/* ZeroMQ inside a libev loop. One struct proto_net per loop; everything here belongs to that loop's
 * thread. ZMQ_FD is edge-triggered and a send may swallow an edge, so no callback trusts it:
 * sockets that were used are looked at again before the loop sleeps. */
struct proto_net;
struct proto_net_socket;
struct proto_net_key;

enum proto_net_class {
    PROTO_NET_CTL,  /* requests up to PROTO_CTL_BYTES_MAX, answers up to PROTO_BULK_BYTES_MAX */
    PROTO_NET_BULK, /* both ways up to PROTO_BULK_BYTES_MAX */
    PROTO_NET_NODE, /* between nodes: both ways up to PROTO_NODE_BYTES_MAX */
};

enum proto_net_state {
    PROTO_NET_DOWN,    /* not connected; ZeroMQ goes on trying */
    PROTO_NET_UP,      /* handshake done */
    PROTO_NET_REFUSED, /* the other side does not know our key; tried again with back-off */
};

/* Who a message came from and where an answer goes (a bound socket only). */
struct proto_net_peer {
    uint8_t len;
    uint8_t id[31];
};

/* Valid during the callback only. */
struct proto_net_message {
    int fault; /* 0, or BASE_EVERSION: only env.corr is set; answer with an END if you can */
    struct proto_envelope env;
    const uint8_t *body;
    size_t body_bytes;
    struct proto_net_peer peer; /* len 0 on a connected socket */
    const char *user;           /* "role/name" of the sender's key, "" without CURVE */
    const char *key;            /* the sender's public key, z85; "" where user is "" */
};

/* Callbacks; each may be NULL. They may send, and may close any socket, this one too. */
struct proto_net_ops {
    void (*on_message)(void *owner, const struct proto_net_message *m);
    /* Of a connected socket. A bound one: DOWN when some connection has ended, and some more times
     * within the next seconds: only then are sends to that peer sure to fail. */
    void (*on_state)(void *owner, enum proto_net_state state);
    void (*on_writable)(void *owner); /* once, after a send that returned BASE_EAGAIN */
    /* Bound sockets: the peer of a message that was sent is no longer connected. */
    void (*on_gone)(void *owner, const struct proto_net_peer *peer);
};

struct proto_net_options {
    enum proto_net_class class;
    const char *endpoint;             /* "tcp://127.0.0.1:7101"; bind takes port "*" too */
    const struct proto_net_key *self; /* copied; NULL: no encryption (loopback, insecure mode) */
    const char *server_key;           /* connect: public key (z85) of the bound side; with self */
    const struct proto_net_ops *ops;  /* borrowed */
    void *owner;
};

/* What went on, for tests, logs and metrics. */
struct proto_net_stats {
    uint64_t received;
    uint64_t sent;
    uint64_t malformed; /* frames (or what is left of them) dropped: no messages of ours */
    uint64_t late; /* found by the 250 ms sweep only, or sent by an ev_prepare behind ours; not 0: a
                      bug */
};

/* Every connection takes about four descriptors: lets this process have as many as the system
 * allows. Before proto_net_create(); returns how many there may be. For daemons. */
uint64_t proto_net_raise_limits(void);

/* Makes a ZeroMQ context, for as many sockets as there may be descriptors (at most 65535; a
 * connection needs three). clients: allow-list file for bound sockets with CURVE (see curve.h),
 * read again whenever it changes; NULL when nothing is bound. */
int proto_net_create(
    struct proto_net **ret_net, struct ev_loop *loop, const char *clients, struct base_error *err);

/* Closes all sockets. Accepts NULL. */
void proto_net_destroy(struct proto_net *net);

void proto_net_stats(const struct proto_net *net, struct proto_net_stats *ret);

/* ROUTER: many peers, answers go to the peer of the message. */
int proto_net_bind(struct proto_net *net, const struct proto_net_options *opt,
    struct proto_net_socket **ret_socket, struct base_error *err);

/* DEALER: one peer. Returns before the connection stands; on_state tells. */
int proto_net_connect(struct proto_net *net, const struct proto_net_options *opt,
    struct proto_net_socket **ret_socket, struct base_error *err);

/* What was really bound, with the port. Lives as long as the socket. */
const char *proto_net_endpoint(const struct proto_net_socket *s);

/* No callback after this. Accepts NULL. */
void proto_net_close(struct proto_net_socket *s);

/* Sends envelope (body_bytes is set here) and body, copied, at the end of this turn of the loop.
 * to: bound sockets only. Returns 0; BASE_EAGAIN when the queue is full or nobody is connected and
 * something waits already (nothing was sent, on_writable follows); BASE_ECLOSED when the peer is
 * known to be gone (on_gone follows, if it does not come while the message waits); BASE_ETOOBIG
 * above the limit of the class. What waits when a connection is lost is lost with it. */
int proto_net_send(struct proto_net_socket *s, const struct proto_net_peer *to,
    const struct proto_envelope *env, const void *body, size_t body_bytes);
