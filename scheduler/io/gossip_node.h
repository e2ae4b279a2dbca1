#pragma once
#include <ev.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "scheduler/core/swim.h"
#include "scheduler/io/udp.h"

/* A member of the cluster in a libev loop: the machine of core/swim.h, its bytes and its datagrams.
 * The control connection (joining, tables) is the caller's: it authenticates peers by itself.
 * Belongs to the loop's thread. */
struct sched_gossip_node;

struct sched_gossip_node_ops {
    /* Everything but SEND, in order; pointers in *fx are valid during the call. Not to be answered
     * with calls that change the node. */
    void (*on_event)(void *user, const struct sched_swim_fx *fx);
    /* Please bring these bytes to the peer, or to seed number `seed` when `to` is 0, over an
     * authenticated connection, where they go into sched_gossip_node_ctl(). May be lost. Not to be
     * delivered from inside this call. */
    void (*ctl_send)(void *user, uint64_t to, uint8_t seed, const uint8_t *bytes, size_t n);
};

struct sched_gossip_node_cfg {
    struct ev_loop *loop;
    const char *ip; /* to listen at */
    uint16_t port;  /* 0: any; then announce.port[SCHED_PORT_GOSSIP] is filled in */
    uint8_t cluster[SCHED_SEAL_CLUSTER_BYTES];
    uint8_t key_id;
    uint8_t key[SCHED_SEAL_KEY_BYTES]; /* first of the ring */
    struct sched_announce announce;    /* boot and versions are filled in */
    struct sched_dynamic dynamic;
    uint32_t incarnation; /* larger than any before, or 1 */
    uint32_t members_max;
    uint8_t seeds;
    struct sched_swim_params params;
    const struct sched_gossip_node_ops *ops;
    void *user;
};

enum { SCHED_GOSSIP_NODE_CTL_BYTES_MAX = 4 + SCHED_SWIM_CTL_BYTES_MAX };

struct sched_gossip_node_stats {
    uint64_t malformed;  /* opened datagrams and control messages that do not decode */
    uint64_t no_address; /* packets to a peer whose address is not known */
};

/* NULL: *err says why. */
struct sched_gossip_node *sched_gossip_node_create(
    const struct sched_gossip_node_cfg *cfg, struct base_error *err);
void sched_gossip_node_destroy(struct sched_gossip_node *n); /* NULL is fine */

/* Bytes that ctl_send of peer `from` (authenticated by the caller) handed over there. */
void sched_gossip_node_ctl(
    struct sched_gossip_node *n, uint64_t from, const uint8_t *bytes, size_t len);

void sched_gossip_node_set_dynamic(struct sched_gossip_node *n, const struct sched_dynamic *d);
void sched_gossip_node_leave(struct sched_gossip_node *n); /* LEFT comes as an event */

/* For looking only, and for the key ring. */
const struct sched_swim *sched_gossip_node_swim(const struct sched_gossip_node *n);
struct sched_udp *sched_gossip_node_udp(struct sched_gossip_node *n);
const struct sched_announce *sched_gossip_node_announce(const struct sched_gossip_node *n);
const struct sched_gossip_node_stats *sched_gossip_node_stats(const struct sched_gossip_node *n);
