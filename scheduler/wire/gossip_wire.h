#pragma once
#include <stddef.h>
#include <stdint.h>

#include "scheduler/core/swim_packet.h"

/* Bytes of the membership protocol (scheduler/SWIM.md). Little endian:
 *
 *     u8 version | u8 type (4 bits) and flags (4 bits) | u16 seq | u32 sender's incarnation
 *     then fields: u8 tag | u8 len | len bytes
 *
 * A field with an unknown tag is skipped, bytes behind the known part of a field are ignored: both
 * may come from a later release. A packet of another version is not read at all. */
enum {
    SCHED_GOSSIP_WIRE_VERSION_MIN = 1, /* what this build can read and write */
    SCHED_GOSSIP_WIRE_VERSION_MAX = 1,
};

/* Writes *p to out. *ret_len is sched_swim_packet_bytes(p). BASE_ETOOBIG: it does not fit into cap.
 * BASE_EVERSION: this build cannot write p->version. */
int sched_gossip_wire_encode(
    const struct sched_swim_packet *p, uint8_t *out, size_t cap, size_t *ret_len);

/* What decode points at. About 13 KiB, to be kept and used again. */
struct sched_gossip_wire_in {
    struct sched_swim_packet packet;
    struct sched_update updates[SCHED_SWIM_UPDATES_MAX];
    struct sched_announce announces[SCHED_SWIM_UPDATES_MAX];
    uint64_t digests[SCHED_SWIM_BUCKETS];
    uint32_t skipped; /* fields with unknown tags */
};

/* Reads n bytes, any bytes, into in->packet, which points into *in and not into the bytes.
 * BASE_EVERSION: another version. BASE_EBADMSG: cut short, a value out of range, more claims or
 * digests than a packet may have. */
int sched_gossip_wire_decode(struct sched_gossip_wire_in *in, const uint8_t *bytes, size_t n);
