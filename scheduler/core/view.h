#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "scheduler/core/ids.h"
#include "scheduler/core/limits.h"
#include "scheduler/core/mem.h"
#include "scheduler/core/version.h"

/* The view: the agreed, numbered membership. View v+1 is made from view v by the voters; every
 * node installs numbers in rising order. A view knows its predecessor's membership too, because the
 * group of a partition is handed over from the previous group.
 *
 * An entry stays after its worker has left, so that its incarnation is never admitted again (rule
 * R5: without it a late join revives a removed worker, with its frozen sessions). Only when the
 * table is full does the entry that left first make room. */

enum {
    SCHED_MEMBER_IN = 1,   /* member of this view, with `inc` */
    SCHED_MEMBER_PREV = 2, /* member of the previous view, with `pinc` */
};

struct sched_member {
    uint64_t node;
    uint32_t inc;  /* highest incarnation ever admitted */
    uint32_t pinc; /* PREV: its incarnation then. Neither IN nor PREV: the view it left in */
    uint16_t zone, pzone;
    uint8_t weight; /* share of the directory; 0: draining */
    uint8_t pweight;
    uint8_t flags;
};

struct sched_view {
    uint32_t num;                     /* 0: no view yet */
    uint8_t version;                  /* see sched_view_version() */
    uint32_t n, cap;                  /* entries, sorted by node */
    uint64_t rec[SCHED_BUCKET_WORDS]; /* buckets to rebuild from the hosts in this view (R6) */
    struct sched_member *m;
};

/* The members that keep a partition's registers; seat 0 is the home. */
struct sched_group {
    uint32_t n;
    struct sched_host seat[SCHED_SEATS_MAX];
};

/* Who computes groups. Must be a function of the view alone, the same on every node; may cache.
 * prev: the group of the previous view, by the entries with SCHED_MEMBER_PREV. */
struct sched_placer {
    void *ctx;
    void (*group)(
        void *ctx, const struct sched_view *v, bool prev, uint32_t part, struct sched_group *ret);
};

void sched_view_init(struct sched_view *v, uint32_t cap, struct sched_mem *mem);

/* Copies src; BASE_EFULL when dst has less room than src has entries (then dst is unchanged). */
int sched_view_copy(struct sched_view *dst, const struct sched_view *src);

/* Turns *v into its own successor: number + 1, same members, nothing to rebuild. */
void sched_view_advance(struct sched_view *v);

/* Changes to the view under construction.
 * admit: BASE_ESTATE when inc was admitted before, BASE_EFULL. weigh: BASE_ENOTFOUND. */
int sched_view_admit(struct sched_view *v, struct sched_host h, uint16_t zone, uint8_t weight);
void sched_view_drop(struct sched_view *v, uint64_t node);
int sched_view_weigh(struct sched_view *v, uint64_t node, uint8_t weight);

/* The version of the messages that everybody in this view speaks: what is newer is not sent. */
static inline uint8_t sched_view_version(const struct sched_view *v)
{
    return v->version < SCHED_VERSION_BASE ? SCHED_VERSION_BASE : v->version;
}

/* NULL when the node was never a member. */
const struct sched_member *sched_view_find(const struct sched_view *v, uint64_t node);

/* Is this incarnation a member? */
bool sched_view_has(const struct sched_view *v, struct sched_host h);

/* Highest incarnation of the node that was ever admitted; 0: none. */
uint32_t sched_view_maxinc(const struct sched_view *v, uint64_t node);

uint32_t sched_view_members(const struct sched_view *v);
bool sched_view_equal(const struct sched_view *a, const struct sched_view *b);
uint64_t sched_view_digest(const struct sched_view *v);

/* True when the entry differs from what advance() of the previous view would have made: deltas on
 * the wire carry only these. */
bool sched_view_changed(const struct sched_member *m);

static inline bool sched_group_eq(const struct sched_group *a, const struct sched_group *b)
{
    if (a->n != b->n) {
        return false;
    }
    for (uint32_t i = 0; i < a->n; i++) {
        if (!sched_host_eq(a->seat[i], b->seat[i])) {
            return false;
        }
    }
    return true;
}

/* The seat of h, or -1. */
static inline int sched_group_seat(const struct sched_group *g, struct sched_host h)
{
    for (uint32_t i = 0; i < g->n; i++) {
        if (sched_host_eq(g->seat[i], h)) {
            return (int)i;
        }
    }
    return -1;
}

static inline uint32_t sched_group_majority(const struct sched_group *g)
{
    return g->n / 2 + 1;
}
