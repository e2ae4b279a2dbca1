#pragma once
#include <stdbool.h>
#include <stdint.h>

/* Names of things. No pointers, no text: what a human reads is made by the shells. */

/* An identifier of a pool, as two keyed hashes of "pool NUL identifier". `hi` is sched_place_key()
 * and chooses the partition; `lo` makes an accidental collision of two identifiers (two tenants in
 * one session) impossible in practice. The lowest bits of `lo` stand for the pool alone. */
struct sched_key {
    uint64_t hi, lo;
};

enum { SCHED_KEY_POOL_BITS = 24 };
#define SCHED_KEY_POOL_MASK ((UINT64_C(1) << SCHED_KEY_POOL_BITS) - 1)

/* One life of a worker. A worker that was removed from the view, or that lost its run store, comes
 * back with a higher incarnation; inc 0 is "none". */
struct sched_host {
    uint64_t node;
    uint32_t inc;
};

/* An execution id, 128 bits, chosen by the client or by the gateway. */
struct sched_exec {
    uint64_t hi, lo;
};

/* A ballot of a register, and the fencing token of the session that the ballot created:
 * era:32 | round:24 | seat:8, compared as a number. 0 is "none". The era is the number of the view
 * in which the partition's group last changed, so epochs of an identifier only ever grow, even
 * when the directory was lost and rebuilt. Round 0 belongs to seat 0 alone. */
typedef uint64_t sched_epoch;

enum { SCHED_ROUND_MAX = 0xffffff };

static inline sched_epoch sched_epoch_make(uint32_t era, uint32_t round, uint32_t seat)
{
    return (uint64_t)era << 32 | (uint64_t)(round & SCHED_ROUND_MAX) << 8 | (seat & 0xff);
}

static inline uint32_t sched_epoch_era(sched_epoch e)
{
    return (uint32_t)(e >> 32);
}

static inline uint32_t sched_epoch_round(sched_epoch e)
{
    return (uint32_t)(e >> 8) & SCHED_ROUND_MAX;
}

static inline bool sched_key_eq(struct sched_key a, struct sched_key b)
{
    return a.hi == b.hi && a.lo == b.lo;
}

static inline bool sched_key_less(struct sched_key a, struct sched_key b)
{
    return a.hi != b.hi ? a.hi < b.hi : a.lo < b.lo;
}

static inline bool sched_exec_eq(struct sched_exec a, struct sched_exec b)
{
    return a.hi == b.hi && a.lo == b.lo;
}

static inline bool sched_host_eq(struct sched_host a, struct sched_host b)
{
    return a.node == b.node && a.inc == b.inc;
}

/* Two pools may have one number; they are taken for one where that costs little. */
static inline uint32_t sched_key_pool(struct sched_key k)
{
    return (uint32_t)(k.lo & SCHED_KEY_POOL_MASK);
}

static inline uint32_t sched_key_part(struct sched_key k, unsigned pbits)
{
    return (uint32_t)(k.hi >> (64 - pbits));
}

/* Small clusters have fewer partitions than buckets: then a bucket is one partition. */
static inline uint32_t sched_part_bucket(uint32_t part, unsigned pbits)
{
    return pbits > 8 ? part >> (pbits - 8) : part;
}

static inline bool sched_bucket_has(const uint64_t *set, uint32_t bucket)
{
    return (set[bucket / 64] >> (bucket % 64) & 1) != 0;
}

static inline void sched_bucket_add(uint64_t *set, uint32_t bucket)
{
    set[bucket / 64] |= UINT64_C(1) << (bucket % 64);
}

/* Is every bucket of `set` in `in` too? */
static inline bool sched_bucket_within(const uint64_t *set, const uint64_t *in)
{
    return ((set[0] & ~in[0]) | (set[1] & ~in[1]) | (set[2] & ~in[2]) | (set[3] & ~in[3])) == 0;
}

/* Have the two sets no bucket in common? */
static inline bool sched_bucket_apart(const uint64_t *a, const uint64_t *b)
{
    return ((a[0] & b[0]) | (a[1] & b[1]) | (a[2] & b[2]) | (a[3] & b[3])) == 0;
}

static inline bool sched_bucket_any(const uint64_t *set)
{
    return (set[0] | set[1] | set[2] | set[3]) != 0;
}

/* Votes are kept as bits, one per seat or voter. */
static inline uint32_t sched_votes(uint32_t bits)
{
    uint32_t n = 0;
    for (; bits != 0; bits &= bits - 1) {
        n++;
    }
    return n;
}
