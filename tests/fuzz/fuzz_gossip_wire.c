/* What anybody with the gossip key may send. What decodes must encode again to a packet that
 * decodes to the same. */
#include <string.h>

#include "proto/base/assert.h"
#include "scheduler/wire/gossip_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct sched_gossip_wire_in a, b;
    static uint8_t bytes[1 << 16];
    if (sched_gossip_wire_decode(&a, data, n) != 0) {
        return 0;
    }
    size_t len = 0;
    if (sched_gossip_wire_encode(&a.packet, bytes, sizeof bytes, &len) != 0) {
        return 0;
    }
    REQUIRE(len == sched_swim_packet_bytes(&a.packet));
    REQUIRE(sched_gossip_wire_decode(&b, bytes, len) == 0);
    REQUIRE(a.packet.update_count == b.packet.update_count);
    REQUIRE(a.packet.digest_count == b.packet.digest_count);
    for (unsigned i = 0; i < a.packet.update_count; i++) {
        const struct sched_update *x = &a.updates[i], *y = &b.updates[i];
        REQUIRE(x->kind == y->kind && x->inc == y->inc && x->id == y->id && x->by == y->by);
        REQUIRE(x->announce == NULL || sched_announce_equal(x->announce, y->announce));
    }
    return 0;
}
