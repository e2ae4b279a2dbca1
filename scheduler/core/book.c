#include "scheduler/core/book.h"

#include <string.h>

#include "proto/base/assert.h"
#include "proto/base/err.h"

struct sched_book_entry {
    struct sched_announce announce;
    uint64_t digest;
    uint32_t refs; /* 0: free */
    uint32_t next; /* in the free list */
};

static uint32_t index_size(uint32_t cap)
{
    uint32_t n = 4;
    while (n < cap + cap / 2) {
        n *= 2;
    }
    return n;
}

size_t sched_book_size(uint32_t cap)
{
    if (cap == 0 || cap > SCHED_BOOK_ENTRIES_MAX) {
        return 0;
    }
    return cap * sizeof(struct sched_book_entry) + index_size(cap) * sizeof(uint32_t);
}

int sched_book_init(struct sched_book *b, uint32_t cap, void *mem, size_t mem_size)
{
    size_t size = sched_book_size(cap);
    if (size == 0) {
        return BASE_EINVAL;
    }
    if (mem_size < size) {
        return BASE_ENOMEM;
    }
    memset(mem, 0, cap * sizeof(struct sched_book_entry));
    *b = (struct sched_book){.entries = mem, .cap = cap, .index_mask = index_size(cap) - 1};
    b->index = (uint32_t *)(void *)(b->entries + cap);
    memset(b->index, 0xff, index_size(cap) * sizeof(uint32_t));
    for (uint32_t i = 0; i < cap; i++) {
        b->entries[i].next = i + 1 < cap ? i + 1 : SCHED_BOOK_NONE;
    }
    return 0;
}

static uint32_t place_of(
    const struct sched_book *b, uint64_t digest, const struct sched_announce *a)
{
    uint32_t at = (uint32_t)digest & b->index_mask;
    for (;; at = (at + 1) & b->index_mask) {
        uint32_t i = b->index[at];
        if (i == SCHED_BOOK_NONE ||
            (b->entries[i].digest == digest && sched_announce_equal(&b->entries[i].announce, a))) {
            return at;
        }
    }
}

uint32_t sched_book_hold(struct sched_book *b, const struct sched_announce *a)
{
    uint64_t digest = sched_announce_digest(a);
    uint32_t at = place_of(b, digest, a);
    uint32_t i = b->index[at];
    if (i == SCHED_BOOK_NONE) {
        i = b->free;
        if (b->used == b->cap) {
            return SCHED_BOOK_NONE;
        }
        b->free = b->entries[i].next;
        b->entries[i] = (struct sched_book_entry){.announce = *a, .digest = digest};
        b->index[at] = i;
        b->used++;
    }
    b->entries[i].refs++;
    return i;
}

void sched_book_share(struct sched_book *b, uint32_t number)
{
    REQUIRE(number < b->cap && b->entries[number].refs > 0);
    b->entries[number].refs++;
}

/* Closes the gap at `at`, so that every probe sequence stays unbroken. */
static void index_remove(struct sched_book *b, uint32_t at)
{
    uint32_t gap = at;
    for (uint32_t k = (at + 1) & b->index_mask; b->index[k] != SCHED_BOOK_NONE;
         k = (k + 1) & b->index_mask) {
        uint32_t home = (uint32_t)b->entries[b->index[k]].digest & b->index_mask;
        if (((k - home) & b->index_mask) >= ((k - gap) & b->index_mask)) {
            b->index[gap] = b->index[k];
            gap = k;
        }
    }
    b->index[gap] = SCHED_BOOK_NONE;
}

void sched_book_release(struct sched_book *b, uint32_t number)
{
    REQUIRE(number < b->cap && b->entries[number].refs > 0);
    struct sched_book_entry *e = &b->entries[number];
    if (--e->refs > 0) {
        return;
    }
    index_remove(b, place_of(b, e->digest, &e->announce));
    e->next = b->free;
    b->free = number;
    b->used--;
}

const struct sched_announce *sched_book_get(const struct sched_book *b, uint32_t number)
{
    REQUIRE(number < b->cap && b->entries[number].refs > 0);
    return &b->entries[number].announce;
}

uint64_t sched_book_digest(const struct sched_book *b, uint32_t number)
{
    REQUIRE(number < b->cap && b->entries[number].refs > 0);
    return b->entries[number].digest;
}
