#pragma once
#include "scheduler/core/fx.h"
#include "scheduler/core/msg.h"

/* The packed form of the messages between the cores: little-endian, no padding, version byte first.
 * One description of every body serves both directions, so that they cannot drift apart. Views are
 * whole; deltas are an optimisation of the shells. Who sent a message is not in it: that is what
 * the transport has authenticated. Versions: see scheduler/core/version.h. */

enum {
    SCHED_WIRE_BYTES_MAX = 1 << 20,
};

/* Entries of a register of permits, at most. */
#define SCHED_WIRE_PERMITS_MAX(members_max) ((members_max)*2 + SCHED_CAT_POOLS_MAX * 4)

/* Where the arrays and the view of a decoded message are put; reused by the next decode. */
struct sched_wire_room {
    struct sched_view view;
    uint32_t members_max;
    struct sched_host *hosts;
    struct sched_load *loads;
    uint32_t *parts;
    struct sched_sync_rec *recs;
    struct sched_timer *timers;
    struct sched_quota_entry *entries;
};

/* members_max: entries of the largest view that is accepted. */
void sched_wire_room_init(
    struct sched_wire_room *room, uint32_t members_max, struct sched_mem *mem);

/* In the lowest version that has room for it. Bytes written, or BASE_ETOOBIG (cap is too small), or
 * BASE_EINVAL (no such type). */
int sched_wire_encode(const struct sched_msg *m, uint8_t *buf, size_t cap);

/* In `version`, which is the one of the sender's view, or that of the view in the message when this
 * is higher: whoever is told of it speaks it. BASE_EVERSION: the version has no such message. */
int sched_wire_encode_as(const struct sched_msg *m, uint8_t version, uint8_t *buf, size_t cap);

/* 0, or BASE_EBADMSG: not exactly one well-formed message within all limits; BASE_EVERSION. Then
 * *ret is not usable. `from` and `to` of *ret are 0. */
int sched_wire_decode(
    const uint8_t *buf, size_t len, struct sched_wire_room *room, struct sched_msg *ret);

/* Rows of a worker's store in the same way: VIEW, BASE, REG, SESS, EXEC; `erase` is not in it.
 * Others have other forms: BASE_EINVAL. Of the lowest version that has room for it: an older build
 * can read what was stored before the cluster was at a version that it does not speak. */
int sched_wire_row_encode(const struct sched_row *r, uint8_t *buf, size_t cap);
int sched_wire_row_decode(
    const uint8_t *buf, size_t len, struct sched_wire_room *room, struct sched_row *ret);
