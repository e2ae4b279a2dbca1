#pragma once
#include "scheduler/core/env.h"

/* What a host knows of its permits, see quota.h: sessions and reservations are counted by pool, and
 * more of them are asked for before or when they run out. */

/* A pool's sessions here. */
struct sched_quota {
    uint32_t pool;
    uint32_t max;    /* of the whole cluster; 0: the catalogue has no such pool */
    uint32_t used;   /* sessions and reservations */
    uint32_t missed; /* so many more would have been taken since it last asked */
    uint32_t limit;  /* may be used */
    uint32_t want;   /* of the request that waits for its answer */
    uint32_t voter;  /* who is asked */
    bool waiting;
    uint64_t seq;
    uint64_t due_ns;    /* waiting: ask again. Else: not before this time */
    uint64_t idle_ns;   /* since when permits are idle; 0: none is */
    uint64_t denied_ns; /* the voters had no more; before this time there is no hope of any */
};

struct sched_permits {
    bool single;      /* without a catalogue: one maximum for all */
    bool heard;       /* the catalogue is known */
    uint64_t version; /* of it */
    bool
        limited; /* pools have maxima: sessions need permits, and a pool that is unknown has none */
    bool room;   /* a session more could be here, as tick() was told last */
    uint32_t n;
    struct sched_quota q[SCHED_PERMITS_MAX];
};

void sched_permits_init(struct sched_permits *p, const struct sched_cfg *cfg);

/* After a new life has begun: nothing is here any more. */
void sched_permits_clear(struct sched_permits *p);

/* The pools of a version of the catalogue, at most SCHED_CAT_POOLS_MAX. limited: there are no
 * others, else they have no maxima. */
void sched_permits_pools(struct sched_permits *p, uint64_t version, bool limited,
    const struct sched_pool_max *pools, uint32_t n);

/* May one more session of the key's pool be here? When not, it is noted, so that tick() asks. Not
 * before the catalogue is known, in a cluster that has one. */
bool sched_permits_room(struct sched_permits *p, const struct sched_env *e, struct sched_key key);

/* There is no permit, but the voters have not said that there is none: it is worth waiting. */
bool sched_permits_hope(
    const struct sched_permits *p, const struct sched_env *e, struct sched_key key);

/* A session or reservation more, or less. False: too many pools, it is not counted. */
bool sched_permits_take(struct sched_permits *p, struct sched_key key);
void sched_permits_give(struct sched_permits *p, struct sched_key key);

/* room: a session more could be here, whatever the permits say; without it none are kept ahead. */
void sched_permits_tick(struct sched_permits *p, struct sched_env *e, bool room);

/* True: that was news. */
bool sched_permits_have(
    struct sched_permits *p, const struct sched_env *e, const struct sched_msg *m);

/* When tick() has to ask again, for what is waited for. */
uint64_t sched_permits_due_ns(const struct sched_permits *p);
