/* The decoders of the scheduler's messages and of its rows in a store: they stay inside their bytes
 * and limits, and what they take they give back bit for bit. Catalogues in messages are looked
 * through, and what is made of a valid one by a change is a valid one. */
#include <stdlib.h>
#include <string.h>

#include "scheduler/wire/wire.h"

enum { MEMBERS = 64, ROOM = 1 << 17 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void change(const struct sched_cat_doc *d, const struct sched_cat_change *c)
{
    static uint8_t bytes[SCHED_CAT_BYTES_MAX];
    struct sched_cat_doc after = {.version = d->version + 1, .bytes = bytes};
    if (d->version < UINT64_MAX && sched_cat_apply(d, c, bytes, &after.n) == SCHED_CAT_OK &&
        !sched_cat_valid(&after)) {
        abort();
    }
}

static void look_through(const struct sched_cat_doc *d)
{
    struct sched_cat_change c = {.expect = SCHED_CAT_ANY};
    uint32_t at = 0, sum = 0;
    bool valid = sched_cat_valid(d);
    while (sched_cat_next(d, &at, &c.entry)) {
        if (c.entry.value_n > d->n || c.entry.key_n > d->n || at > d->n) {
            abort();
        }
        sum += c.entry.key_n + c.entry.value_n;
        for (int erase = 0; valid && erase < 2; erase++) {
            c.erase = erase != 0;
            c.id = c.birth = 1 + (uint64_t)erase;
            change(d, &c);
        }
    }
    if (sum > d->n) {
        abort();
    }
}

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
    if (m.type == SCHED_MSG_CDOC) {
        look_through(&m.cdoc);
    } else if (m.type == SCHED_MSG_CACC || m.type == SCHED_MSG_CPROM || m.type == SCHED_MSG_CTELL) {
        look_through(&m.creg.doc);
    } else if (m.type == SCHED_MSG_CSET) {
        const struct sched_cat_doc none = {0};
        change(&none, &m.cset.change);
    }
    int len = sched_wire_encode_as(&m, data[0], again, sizeof again);
    if (len < 0 || (size_t)len != n || memcmp(again, data, n) != 0) {
        abort();
    }
    return 0;
}
