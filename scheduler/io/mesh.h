#pragma once
#include <ev.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "proto/net/loop_zmq.h"
#include "scheduler/io/roster.h"

/* Messages between the nodes of a cluster over ZeroMQ with CURVE, in a libev loop.
 *
 * Every node binds one ROUTER. To a peer it opens a DEALER when there is something to say and the
 * peer has no connection to us that an answer could take; a DEALER that nothing was sent over for
 * a while is closed. So two nodes that talk have one connection, or for a moment two.
 *
 * Nothing here blocks and nothing is promised: what does not fit into a queue, or waits too long
 * for a connection, is lost and counted. The cores live with that.
 *
 * Who a message is from is what the roster of this moment says about the key it came with: a key
 * that is taken out is cut off, whatever connections it has. Belongs to the loop's thread. */
struct sched_mesh;

enum sched_mesh_channel {
    SCHED_MESH_MSG = 1, /* scheduler/wire */
    SCHED_MESH_CTL,     /* control packets of the gossip */
    SCHED_MESH_ADMIN,   /* questions of people: text there, JSON back */
    SCHED_MESH_CHANNELS,
};

struct sched_mesh_ops {
    /* bytes are valid during the call. The callback may send, not destroy. */
    void (*on_bytes)(void *user, uint64_t from, enum sched_role role,
        enum sched_mesh_channel channel, const uint8_t *bytes, size_t n);
    /* A node's messages are thrown away because its tag is another one; each time. NULL is fine. */
    void (*on_other)(void *user, uint64_t from);
    /* The roster's file has changed and cannot be taken; once for each file. NULL is fine. */
    void (*on_bad_roster)(void *user, const char *why);
};

struct sched_mesh_cfg {
    struct ev_loop *loop;
    struct proto_net *net;           /* made with the roster as its allow-list; outlives the mesh */
    struct sched_roster *roster;     /* outlives the mesh */
    const struct proto_net_key *key; /* of this node; copied */
    uint64_t self;
    uint64_t tag;         /* of what all nodes must have set alike: MSG and CTL need the same */
    const char *endpoint; /* to bind: "tcp://10.0.0.1:7400", port "*" for any */
    uint32_t peers_max;
    uint32_t idle_ms; /* connections are closed after this without a message to send */
    uint32_t hold_ms; /* messages wait at most this long for a connection */
    const struct sched_mesh_ops *ops;
    void *user;
};

struct sched_mesh_stats {
    uint64_t sent, received;
    uint64_t late;       /* of proto_net's sweep: anything but 0 is a bug */
    uint64_t full;       /* lost: the queue to the peer was full */
    uint64_t stale;      /* lost: no connection in time */
    uint64_t no_address; /* lost: nobody knows where the peer is, or its key */
    uint64_t denied;     /* thrown away: the sender's key has no role between nodes, or not now */
    uint64_t malformed;  /* thrown away: no message between nodes */
    uint64_t other;      /* thrown away: the sender has another tag */
    uint64_t refused;    /* connections that the other side did not want */
    uint64_t opened, closed_idle;
    uint32_t connections; /* DEALERs that are open now */
};

int sched_mesh_create(
    struct sched_mesh **ret, const struct sched_mesh_cfg *cfg, struct base_error *err);
void sched_mesh_destroy(struct sched_mesh *m); /* NULL is fine */

/* What was bound, with the port. */
const char *sched_mesh_endpoint(const struct sched_mesh *m);

/* Where a peer can be reached, "tcp://10.0.0.2:7400". A connection to somewhere else is closed.
 * BASE_ENOTFOUND: it is not in the roster (yet), and nothing is kept. BASE_EFULL: peers_max are
 * known. BASE_EINVAL: too long. */
int sched_mesh_address(struct sched_mesh *m, uint64_t id, const char *endpoint);

/* Whether it is kept where the peer can be reached. */
bool sched_mesh_knows(const struct sched_mesh *m, uint64_t id);

/* Closes the connection to a peer that is gone; its address stays. */
void sched_mesh_drop(struct sched_mesh *m, uint64_t id);

/* Copies n bytes, at most PROTO_NODE_BYTES_MAX less 64, to a peer that is not this node itself. 0
 * when they are on their way or wait for a connection; BASE_EAGAIN (full), BASE_ENOTFOUND (no
 * address or key), BASE_ETOOBIG, BASE_ENOMEM: they are lost. */
int sched_mesh_send(struct sched_mesh *m, uint64_t to, enum sched_mesh_channel channel,
    const uint8_t *bytes, size_t n);

void sched_mesh_stats(const struct sched_mesh *m, struct sched_mesh_stats *ret);
