#pragma once
#include <stddef.h>
#include <stdint.h>

#include "scheduler/core/peer.h"

/* Announcements, each kept once and counted. A membership table of 10,000 nodes holds 16 bytes per
 * member and a number in this book; tables of the same process may share one book.
 *
 * No heap: the memory is the caller's. Not thread-safe. */
struct sched_book_entry;

struct sched_book {
    struct sched_book_entry *entries;
    uint32_t *index; /* open addressing by digest; NONE marks a free place */
    uint32_t index_mask;
    uint32_t cap;
    uint32_t used;
    uint32_t free; /* head of the list of free entries */
};

enum { SCHED_BOOK_ENTRIES_MAX = 1 << 24 };

#define SCHED_BOOK_NONE UINT32_MAX

/* Bytes for cap entries (about 110 each), 0 when cap is 0 or above SCHED_BOOK_ENTRIES_MAX. */
size_t sched_book_size(uint32_t cap);

/* mem is aligned to 8 bytes and stays until the last use of *b. BASE_EINVAL: cap is out of range.
 * BASE_ENOMEM: mem_size is less than sched_book_size(cap). */
int sched_book_init(struct sched_book *b, uint32_t cap, void *mem, size_t mem_size);

/* The number of an entry equal to *a with one more reference; SCHED_BOOK_NONE when the book is
 * full. */
uint32_t sched_book_hold(struct sched_book *b, const struct sched_announce *a);

/* One more reference to an entry that somebody holds. */
void sched_book_share(struct sched_book *b, uint32_t number);

/* Gives a reference back; with the last one the entry is gone. */
void sched_book_release(struct sched_book *b, uint32_t number);

/* Valid while a reference is held. */
const struct sched_announce *sched_book_get(const struct sched_book *b, uint32_t number);
uint64_t sched_book_digest(const struct sched_book *b, uint32_t number);
