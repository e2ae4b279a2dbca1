/* The decoders of the scheduler's messages and of its rows in a store: they stay inside their bytes
 * and limits, and what they take they give back bit for bit. */
#include <stdlib.h>
#include <string.h>

#include "scheduler/wire/wire.h"

enum { MEMBERS = 64, ROOM = 1 << 17 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static _Alignas(16) uint8_t bytes[ROOM];
    static struct sched_wire_room room;
    static uint8_t again[1 << 16];
    struct sched_mem mem = {.base = bytes, .size = sizeof bytes};
    if (room.hosts == NULL) {
        sched_wire_room_init(&room, MEMBERS, &mem);
    }
    struct sched_row row;
    if (n <= sizeof again && sched_wire_row_decode(data, n, &room, &row) == 0) {
        int len = sched_wire_row_encode(&row, again, sizeof again);
        if (len < 0 || (size_t)len != n || memcmp(again, data, n) != 0) {
            abort();
        }
    }
    struct sched_msg m;
    if (n > sizeof again || sched_wire_decode(data, n, &room, &m) != 0) {
        return 0;
    }
    int len = sched_wire_encode_as(&m, data[0], again, sizeof again);
    if (len < 0 || (size_t)len != n || memcmp(again, data, n) != 0) {
        abort();
    }
    return 0;
}
