#pragma once
#include <ev.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "scheduler/core/seal.h"

/* Sealed datagrams between the nodes of a cluster, in a libev loop. Everything here belongs to that
 * loop's thread. Sends wait for the end of the turn and go out in one system call; what the kernel
 * does not take is lost, as on the way. */
struct sched_udp;

enum {
    SCHED_UDP_BODY_BYTES_MAX = 1160,
    SCHED_UDP_DATAGRAM_BYTES_MAX =
        SCHED_UDP_BODY_BYTES_MAX + SCHED_SEAL_HEAD_BYTES + SCHED_SEAL_TAG_BYTES,
};

/* IPv4 addresses are written as ::ffff:a.b.c.d. */
struct sched_udp_addr {
    uint8_t ip[16];
    uint16_t port;
};

struct sched_udp_addr sched_udp_addr_v4(const uint8_t ip[4], uint16_t port);

struct sched_udp_ops {
    /* An opened datagram that is no replay. from, boot: authenticated; addr: where it came from.
     * body is valid during the call. */
    void (*on_packet)(void *user, uint64_t from, uint32_t boot, const struct sched_udp_addr *addr,
        const uint8_t *body, size_t n);
    /* The machine of a peer says that nobody listens there. Anybody on the path can forge it. */
    void (*on_refused)(void *user, uint64_t id);
};

struct sched_udp_cfg {
    struct ev_loop *loop; /* outlives the socket */
    uint64_t self;        /* node id, not 0 */
    uint8_t cluster[SCHED_SEAL_CLUSTER_BYTES];
    const char *ip;       /* to listen at: "0.0.0.0", "::", ... */
    uint16_t port;        /* 0: any, see sched_udp_port() */
    uint32_t senders_max; /* remembered at a time; the one silent longest makes room */
    const struct sched_udp_ops *ops;
    void *user;
};

struct sched_udp_stats {
    uint64_t received, sent;
    uint64_t bad;      /* no datagram of ours: version, length */
    uint64_t denied;   /* not sealed with a key of the ring, or not for this node */
    uint64_t replays;  /* received before, too late, or of an earlier life */
    uint64_t not_sent; /* the kernel had no room, or no way there */
    uint64_t refused;  /* ports that nobody listens at */
    uint64_t no_key;   /* sends before a key was installed */
};

/* NULL: *err says why. Nothing is sent or accepted before a key is installed. */
struct sched_udp *sched_udp_create(const struct sched_udp_cfg *cfg, struct base_error *err);
void sched_udp_destroy(struct sched_udp *u); /* NULL is fine; not inside a callback */

uint16_t sched_udp_port(const struct sched_udp *u);
uint32_t sched_udp_boot(const struct sched_udp *u); /* random number of this life */
const struct sched_udp_stats *sched_udp_stats(const struct sched_udp *u);

/* The key ring; rules and errors as in core/seal.h. */
int sched_udp_key_install(struct sched_udp *u, uint8_t id, const uint8_t key[SCHED_SEAL_KEY_BYTES]);
int sched_udp_key_use(struct sched_udp *u, uint8_t id);
int sched_udp_key_remove(struct sched_udp *u, uint8_t id);

/* All keys at once: afterwards the ring is this one, or after an error what it was before.
 * BASE_EEXISTS: an id stands for another key than now. BASE_EINVAL: no key. BASE_ENOMEM. */
int sched_udp_key_ring(struct sched_udp *u, const struct sched_seal_ring *ring);

/* Queues a datagram. n is at most SCHED_UDP_BODY_BYTES_MAX. */
void sched_udp_send(struct sched_udp *u, uint64_t to, const struct sched_udp_addr *addr,
    const uint8_t *body, size_t n);

/* Sends what is queued now, not at the end of the turn. */
void sched_udp_flush(struct sched_udp *u);
