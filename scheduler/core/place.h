#pragma once
#include <stddef.h>
#include <stdint.h>

/* Placement: which members of the cluster keep the directory records of an identifier.
 *
 * The key space is cut into 2^pbits partitions, a number fixed at the cluster's birth. Every
 * partition has a group of up to three members, found by weighted rendezvous hashing:
 *
 *     h     = siphash24(K, pool ‖ 0 ‖ identifier)         sched_place_key()
 *     p     = h >> (64 - pbits)
 *     salt  = siphash24(K, "place/1")
 *     u     = mix64(mix64(p + 1) ^ mix64(node id ^ salt))
 *     score = neglog2_q32(u) / weight                      smaller wins, ties by the smaller id
 *     seat  = of the members not yet seated: the best one of those in a zone that has no seat yet;
 *             when there is none such, the best one of all
 *
 * Integers only: every machine, compiler and order of changes gets the same table, because the
 * result is a function of the set of (id, zone, weight), of K and of pbits, and of nothing else.
 * When a member leaves, a group that did not hold it does not change and one that did loses it and
 * gains at most one other; joining is the exact reverse. A member gets a share of the seats 0 in
 * proportion to its weight (the logarithm is off by less than 0.1 %); how far a share strays from
 * that is the luck of 2^pbits draws: standard deviation sqrt(members / 2^pbits) of the share.
 *
 * Purely computational: no clock, no heap, no I/O; all memory is the caller's. Not thread-safe:
 * one owner, readers on other threads need their own table. */

enum {
    SCHED_PLACE_SEATS = 3,
    SCHED_PLACE_PBITS_MIN = 4,
    SCHED_PLACE_PBITS_MAX = 20,
    SCHED_PLACE_PBITS_DEFAULT = 16,   /* 18 above 2000 members */
    SCHED_PLACE_MEMBERS_MAX = 0xffff, /* slots are 16 bits */
    SCHED_PLACE_WEIGHT_MAX = 255,
    SCHED_PLACE_KEY_BYTES_MAX = 512, /* pool + 1 + identifier, in bytes */
};

struct sched_place_cfg {
    uint8_t key[16];      /* K, the cluster's secret: who lacks it cannot aim at a member */
    unsigned pbits;       /* SCHED_PLACE_PBITS_MIN..MAX */
    uint32_t members_max; /* 1..SCHED_PLACE_MEMBERS_MAX; weight 0 counts too */
};

struct sched_place_member {
    uint64_t id;    /* node id, not 0 */
    uint16_t zone;  /* failure domain; equal everywhere means "no zones" */
    uint8_t weight; /* share of the directory; 0: none (draining) */
};

/* The members of one partition in the order they are asked; the first one is the home. A slot is a
 * small number that a member keeps from its join to its leave: an index for the caller's arrays.
 * Slots differ between nodes; ids do not. */
struct sched_place_group {
    uint16_t n; /* 0..SCHED_PLACE_SEATS: less only when fewer members have a weight */
    uint16_t slot[SCHED_PLACE_SEATS];
};

struct sched_place_slot;

/* Owns nothing; all its memory is the block given to init. Fields are private except for the
 * functions below. */
struct sched_place {
    struct sched_place_group *groups; /* one per partition */
    uint64_t *bounds;                 /* per partition: a score from which on nobody gets in */
    struct sched_place_slot *slots;
    uint64_t salt;
    uint32_t members_max;
    uint32_t n;    /* members, those with weight 0 included */
    uint32_t high; /* slots at and above are free */
    uint16_t pbits;
    uint16_t zones; /* distinct zones of members with a weight, counted up to SCHED_PLACE_SEATS */
};

/* Bytes that init needs (16 per partition, 24 per member): 0 when cfg is out of range. */
size_t sched_place_size(const struct sched_place_cfg *cfg);

/* An empty table in mem, aligned to 8 bytes, which must stay until the last use of *t; there is
 * nothing to deinit. BASE_EINVAL: cfg is out of range. BASE_ENOMEM: mem_size is less than
 * sched_place_size(). */
int sched_place_init(
    struct sched_place *t, const struct sched_place_cfg *cfg, void *mem, size_t mem_size);

/* Replaces all members. BASE_EFULL: n exceeds members_max. BASE_EINVAL: an id is 0. BASE_EEXISTS:
 * an id is there twice. On an error the table is empty. About 2^pbits * (n + 300) * 3 ns. */
int sched_place_build(struct sched_place *t, const struct sched_place_member *members, uint32_t n);

/* One change; the table is then bit for bit what a build of the new set gives (slots apart). On an
 * error nothing has changed. At 2^16 partitions and 100 members each costs under 2 ms.
 * join:     BASE_EFULL, BASE_EINVAL (id 0), BASE_EEXISTS.
 * leave:    BASE_ENOTFOUND.
 * reweight: BASE_ENOTFOUND. */
int sched_place_join(struct sched_place *t, const struct sched_place_member *m);
int sched_place_leave(struct sched_place *t, uint64_t id);
int sched_place_reweight(struct sched_place *t, uint64_t id, uint8_t weight);

/* The place of an identifier on the ring of 64-bit keys. id need not end in NUL and may hold any
 * byte. BASE_ETOOBIG: both together exceed SCHED_PLACE_KEY_BYTES_MAX (*ret_h is not written). */
int sched_place_key(
    const uint8_t key[16], const char *pool, const char *id, size_t id_n, uint64_t *ret_h);

static inline uint32_t sched_place_partitions(const struct sched_place *t)
{
    return UINT32_C(1) << t->pbits;
}

static inline uint32_t sched_place_partition(const struct sched_place *t, uint64_t h)
{
    return (uint32_t)(h >> (64 - t->pbits));
}

/* The group of a partition; valid until the next change. */
static inline const struct sched_place_group *sched_place_at(
    const struct sched_place *t, uint32_t p)
{
    return &t->groups[p];
}

/* The group of a key. */
static inline const struct sched_place_group *sched_place_group(
    const struct sched_place *t, uint64_t h)
{
    return &t->groups[h >> (64 - t->pbits)];
}

/* The node ids of a key's group, in order; returns how many. */
unsigned sched_place_lookup(
    const struct sched_place *t, uint64_t h, uint64_t ids[SCHED_PLACE_SEATS]);

/* The member in a slot. BASE_ENOTFOUND: the slot is free. */
int sched_place_member(
    const struct sched_place *t, uint16_t slot, struct sched_place_member *ret_m);

/* The slot of a member. BASE_ENOTFOUND. Linear in the number of members. */
int sched_place_find(const struct sched_place *t, uint64_t id, uint16_t *ret_slot);

/* The best max members with a weight for a partition, by score alone (zones play no role): where a
 * session can spill to. Fills slots, best first; returns how many. Linear in members times max. */
unsigned sched_place_rank(const struct sched_place *t, uint32_t p, uint16_t *slots, unsigned max);

/* A digest of pbits and of the node ids of all groups, computed from the table itself: equal view
 * numbers must show equal digests. Reads the whole table (about 2^pbits * 8 ns): keep the result.
 */
uint64_t sched_place_digest(const struct sched_place *t);

/* -log2(u / 2^64) in units of 2^-32, for tests and benchmarks. Never below the exact value by more
 * than one unit, above it by less than 0.1 %; falls as u rises. u = 0 counts as 1. */
uint64_t sched_place_neglog2_q32(uint64_t u);
