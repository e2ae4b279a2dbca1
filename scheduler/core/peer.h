#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What nodes say about themselves and about each other. Vocabulary of gossip.h and swim.h. */

/* A claim about a member is (incarnation, state). Of two claims the one with the larger incarnation
 * holds; at equal incarnations the larger state. Only the member itself raises its incarnation:
 *
 *            suspect             timer or claim
 *     ALIVE ---------> SUSPECT -----------------> DEAD ---> (forgotten after a while)
 *       ^                 |                        |
 *       +-----------------+------------------------+        the member refutes: incarnation + 1
 *
 *     any ---> LEFT      the member says so, with its incarnation raised */
enum sched_peer_state {
    SCHED_PEER_NONE, /* not known, or forgotten */
    SCHED_PEER_ALIVE,
    SCHED_PEER_SUSPECT,
    SCHED_PEER_DEAD,
    SCHED_PEER_LEFT,
    SCHED_PEER_STATES,
};

const char *sched_peer_state_str(enum sched_peer_state state);

/* Whether the claim (inc, state) replaces the claim (old_inc, old_state). */
bool sched_peer_newer(
    uint32_t inc, enum sched_peer_state state, uint32_t old_inc, enum sched_peer_state old_state);

enum sched_peer_role {
    SCHED_ROLE_WORKER,
    SCHED_ROLE_OBSERVER, /* a gateway: probed like all, never placed */
    SCHED_ROLE_VOTER,    /* grants leases; probed like all, never placed */
    SCHED_ROLES,
};

enum sched_peer_ip { SCHED_IP_NONE = 0, SCHED_IP_V4 = 4, SCHED_IP_V6 = 6 };

/* GOSSIP: UDP, and TCP between nodes. CTL, BULK: of a worker, for the requests of gateways; 0: it
 * does not say. */
enum { SCHED_PORT_GOSSIP, SCHED_PORT_CTL, SCHED_PORT_BULK, SCHED_PORTS };

/* What a node announces once per incarnation; SCHED_ANNOUNCE_BYTES_MAX on the wire. */
struct sched_announce {
    uint64_t id;           /* node id, not 0 */
    uint32_t boot;         /* random number of this life of the process */
    uint32_t pools;        /* digest of the set of served pools */
    uint8_t ip[2][16];     /* up to two addresses; an IPv4 address uses the first 4 bytes */
    uint8_t ip_version[2]; /* enum sched_peer_ip */
    uint16_t port[SCHED_PORTS];
    uint16_t zone;     /* failure domain */
    uint16_t features; /* bits; what they mean is gated by the view's version */
    uint8_t weight;    /* share of the directory */
    uint8_t role;      /* enum sched_peer_role */
    uint8_t proto_min; /* versions of the gossip protocol that the node understands, 1.. */
    uint8_t proto_max;
    uint8_t proto_now; /* what it would speak by itself */
};

bool sched_announce_equal(const struct sched_announce *a, const struct sched_announce *b);
uint64_t sched_announce_digest(const struct sched_announce *a);

/* Id set, versions in order, role and address kinds known. */
bool sched_announce_valid(const struct sched_announce *a);

/* Bytes on the wire. */
size_t sched_announce_bytes(const struct sched_announce *a);

/* Free room of a pool; PROTO_POOLS_MAX of them are packed into two bits each. */
enum sched_level {
    SCHED_LEVEL_NONE, /* full, or the pool is not served */
    SCHED_LEVEL_LOW,
    SCHED_LEVEL_OK,
    SCHED_LEVEL_PLENTY,
};

enum { SCHED_DYN_SETTLED = 1, SCHED_DYN_DRAINING = 2 };

/* What every ping, every ack and every lease request carries: 24 bytes, less the zeros at its end.
 */
struct sched_dynamic {
    uint32_t view;     /* number of the view the node has installed */
    uint8_t flags;     /* SCHED_DYN_* */
    uint8_t health;    /* local health multiplier, 0 is well, at most 15 */
    uint8_t edge;      /* number of the node's last edge, see struct sched_edge */
    uint8_t active;    /* running sessions, saturated */
    uint8_t ready;     /* prepared microVMs, saturated */
    uint8_t level[16]; /* two bits per pool, pool 0 in the low bits of level[0] */
};

enum { SCHED_DYN_POOLS = 64 };

size_t sched_dynamic_bytes(const struct sched_dynamic *d);

static inline enum sched_level sched_dynamic_level(const struct sched_dynamic *d, unsigned pool)
{
    return (enum sched_level)(d->level[pool / 4] >> (pool % 4 * 2) & 3);
}

/* What is worth telling everybody: the drain flag and which pools have any room. Gossiped when it
 * changes. Of two edges of a node the one with the larger (incarnation, number) holds; numbers
 * wrap, so that a difference of less than 128 counts as larger. */
struct sched_edge {
    uint64_t room; /* bit per pool: level above NONE */
    uint32_t inc;
    uint8_t number;
    uint8_t flags; /* SCHED_DYN_DRAINING */
};

bool sched_edge_newer(const struct sched_edge *e, const struct sched_edge *old);
struct sched_edge sched_edge_of(const struct sched_dynamic *d, uint32_t inc);

/* One claim as it travels. */
enum sched_update_kind {
    SCHED_UPDATE_ALIVE = SCHED_PEER_ALIVE,
    SCHED_UPDATE_SUSPECT = SCHED_PEER_SUSPECT,
    SCHED_UPDATE_DEAD = SCHED_PEER_DEAD,
    SCHED_UPDATE_LEFT = SCHED_PEER_LEFT,
    SCHED_UPDATE_EDGE,
};

struct sched_update {
    enum sched_update_kind kind;
    uint32_t inc;
    uint64_t id;
    uint64_t by;                           /* SUSPECT, DEAD: who says so */
    const struct sched_announce *announce; /* ALIVE: never NULL */
    struct sched_edge edge;                /* EDGE; edge.inc == inc */
};

enum {
    SCHED_ANNOUNCE_BYTES_MAX = 64,
    SCHED_DYN_BYTES_MAX = 24,
    SCHED_UPDATE_BYTES_MAX = 2 + 4 + SCHED_ANNOUNCE_BYTES_MAX,
    SCHED_INC_MAX = 0x7fffffff, /* claims beyond it are not believed */
};

size_t sched_update_bytes(const struct sched_update *u);
