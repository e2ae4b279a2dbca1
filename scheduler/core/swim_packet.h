#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "scheduler/core/peer.h"

/* Packets of the membership protocol as the core sees them; scheduler/wire/gossip_wire.h turns them
 * into bytes and back. */
enum {
    SCHED_SWIM_UPDATES_MAX = 64, /* claims in one packet */
    SCHED_SWIM_BUCKETS = 256,
    SCHED_SWIM_HEAD_BYTES = 8,
    SCHED_SWIM_TLV_BYTES = 2,         /* in front of every field */
    SCHED_SWIM_TLV_DIGESTS = 31,      /* as many as one field holds */
    SCHED_SWIM_ENVELOPE_BYTES = 40,   /* seal around a datagram */
    SCHED_SWIM_BODY_BYTES_MAX = 1160, /* of a datagram; with the envelope 1200 */
    SCHED_SWIM_CTL_BYTES_MAX = 8192,  /* of a message on the control connection */
    SCHED_SWIM_PACKET_COST = 28 + SCHED_SWIM_ENVELOPE_BYTES, /* IPv4 and UDP headers */
};

enum sched_swim_channel {
    SCHED_SWIM_UDP, /* sealed datagram, at most SCHED_SWIM_BODY_BYTES_MAX */
    SCHED_SWIM_CTL, /* control connection: ordered, may fail */
};

enum sched_swim_type {
    SCHED_SWIM_PING = 1,
    SCHED_SWIM_ACK,
    SCHED_SWIM_PING_REQ, /* please ping the target for me */
    SCHED_SWIM_NACK,     /* I am here, but the target does not answer me */
    SCHED_SWIM_GOSSIP,
    SCHED_SWIM_JOIN,   /* CTL: my announcement; answered with the table */
    SCHED_SWIM_DIGEST, /* CTL: digests of my table by bucket */
    SCHED_SWIM_TABLE,  /* CTL: a part of my table */
    SCHED_SWIM_TYPES,
};

enum {
    SCHED_SWIM_WHO = 1,  /* ACK: I do not know you, announce yourself */
    SCHED_SWIM_LAST = 2, /* TABLE: the last part */
    SCHED_SWIM_WANT = 4, /* TABLE: answer with yours */
};

/* A packet as the core sees it; scheduler/wire/gossip_wire.h turns it into bytes. */
struct sched_swim_packet {
    uint8_t version;
    enum sched_swim_type type;
    uint8_t flags;
    bool has_dynamic;
    uint16_t seq;
    uint16_t update_count;
    uint16_t digest_count; /* 0, 1 or SCHED_SWIM_BUCKETS */
    uint32_t inc;          /* sender's incarnation; 0: it is leaving */
    uint32_t alive;        /* JOIN, DIGEST, TABLE: members that the sender holds for alive */
    uint32_t root;         /* PING, ACK: digest of the sender's table; 0: not at rest */
    uint64_t target;       /* PING_REQ, ACK for another, NACK: whom it is about; or 0 */
    uint64_t mask[4];      /* TABLE: buckets, bit by bit */
    struct sched_dynamic dynamic;
    const struct sched_update *updates;
    const uint64_t *digests;
};

/* Bytes of the body on the wire. */
size_t sched_swim_packet_bytes(const struct sched_swim_packet *p);
