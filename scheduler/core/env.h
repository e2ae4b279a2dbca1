#pragma once
#include "proto/base/hash.h"
#include "scheduler/core/fx.h"
#include "scheduler/core/map.h"

#define SCHED_NEVER_MS UINT32_MAX /* as cooldown_ms or max_alive_ms: sessions end otherwise */

/* A pool's number, and how many sessions it may have in the whole cluster. */
struct sched_pool_max {
    uint32_t pool, max;
};

/* Settings shared by the cores of one cluster; constant after init. */
struct sched_cfg {
    unsigned pbits;    /* partitions are 2^pbits; same on every node for ever */
    uint32_t n_voters; /* 1, 3, 5 or 7 */
    uint64_t voters[SCHED_VOTERS_MAX];
    uint32_t members_max;  /* entries of a view */
    uint32_t lease_ms;     /* T: life of a lease */
    uint32_t rho_ppm;      /* bound on how far any clock's rate is off */
    uint32_t renew_ms;     /* lease requests */
    uint32_t stuck_ms;     /* R6, R7: patience with a view that does not settle */
    uint32_t kill_ms;      /* from freeze to kill */
    uint32_t regs_max;     /* registers of one worker */
    uint32_t sess_max;     /* places of one worker, reservations included */
    uint32_t execs_max;    /* journal entries of one worker */
    uint32_t ops_max;      /* claims in progress at one worker */
    uint32_t keep_ms;      /* tombstones and finished executions stay this long; at
                            * least the life of the oldest message, see README */
    uint32_t reserve_ms;   /* life of a reservation */
    uint32_t cooldown_ms;  /* sessions end this long after their last activity */
    uint32_t max_alive_ms; /* and this long after their start at the latest */
    uint32_t spread_pct;   /* share of new sessions put on a random member */
    bool catalog;       /* voters keep the catalogue of the cluster, and the pools' maxima in it */
    struct {            /* without: one for the sessions of all pools */
        uint32_t max;   /* sessions in the whole cluster; 0: any number */
        uint32_t chunk; /* a host asks for and keeps this many, or a quarter, more than it uses */
    } quota;
};

/* What every module of a worker sees in a step. */
struct sched_env {
    const struct sched_cfg *cfg;
    struct sched_placer placer;
    struct sched_fx *fx;
    const struct sched_view *view; /* installed; never NULL, number 0 before the first */
    struct sched_host me;
    uint64_t now_ns;   /* own monotonic clock, counts suspended time too */
    uint64_t lease_ns; /* the lease is held before this time */
    uint64_t serial;   /* numbers of operations and reservations: never used twice by a node */
    uint32_t *base;    /* per bucket: the last view in which it was rebuilt, 0: never known */
    uint32_t joined;   /* view in which this life began; what was rebuilt before, it never heard */
    struct base_hash_rng rng;
};

#define SCHED_MS(ms) ((uint64_t)(ms)*1000000u)

/* What T is to its holder, who counts from before the request left, and to the voter, who counts
 * from after it came: whatever the two clocks do within rho, the holder stops first. */
static inline uint64_t sched_cfg_hold_ns(const struct sched_cfg *c)
{
    return SCHED_MS(c->lease_ms) - (uint64_t)c->lease_ms * c->rho_ppm;
}

static inline uint64_t sched_cfg_guard_ns(const struct sched_cfg *c)
{
    return SCHED_MS(c->lease_ms) + (uint64_t)c->lease_ms * c->rho_ppm;
}

static inline bool sched_env_member(const struct sched_env *e)
{
    return sched_view_has(e->view, e->me);
}

static inline bool sched_cfg_is_voter(const struct sched_cfg *c, uint64_t node)
{
    uint32_t i = 0;
    while (i < c->n_voters && c->voters[i] != node) {
        i++;
    }
    return i < c->n_voters;
}

/* Rows of a table that one look at it takes, so that each is seen every few seconds however large
 * the table is: a look is every 200 ms. */
static inline uint32_t sched_cfg_scan(uint32_t rows)
{
    uint32_t least = 64, n = rows / 32 > least ? rows / 32 : least;
    return n < rows ? n : rows;
}

/* May microVMs run, may new work be taken on? */
static inline bool sched_env_serving(const struct sched_env *e)
{
    return e->now_ns < e->lease_ns && sched_env_member(e);
}

static inline uint32_t sched_env_base(const struct sched_env *e, struct sched_key key)
{
    return e->base[sched_part_bucket(sched_key_part(key, e->cfg->pbits), e->cfg->pbits)];
}

/* The directory may have been lost before this view, and with it who started what. */
static inline uint32_t sched_env_since(const struct sched_env *e, struct sched_key key)
{
    uint32_t base = sched_env_base(e, key);
    return base < e->joined ? e->joined : base;
}

static inline void sched_env_group(
    const struct sched_env *e, uint32_t part, struct sched_group *ret)
{
    e->placer.group(e->placer.ctx, e->view, false, part, ret);
}
