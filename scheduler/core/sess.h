#pragma once
#include "scheduler/core/permits.h"

/* The sessions of this host, which is the only authority on their life.
 *
 *   FREE -> RESERVED -> STARTING -> LIVE -> STOPPING -> ENDED -> FREE
 *             |            |                  ^
 *             v expired    +------------------+ (a start that fails goes to ENDED)
 *            FREE
 *
 * A session starts by BIND only, and BIND uses up a reservation of this very process run that is
 * still outstanding. So when this host once says UNBOUND or GONE about an epoch, no message however
 * late can make that epoch run here, and no memory of it is needed. */

enum sched_sess_state {
    SCHED_SESS_FREE,
    SCHED_SESS_RESERVED,
    SCHED_SESS_STARTING, /* stored, the microVM is on its way */
    SCHED_SESS_LIVE,
    SCHED_SESS_STOPPING, /* the microVM is being destroyed, may still run */
    SCHED_SESS_ENDED,    /* destroyed; the group does not know yet */
};

struct sched_sess_row {
    uint8_t state;    /* enum sched_sess_state */
    uint8_t tries;    /* ENDED: reports sent */
    uint32_t next;    /* of the free list */
    uint32_t running; /* executions; the session does not cool down meanwhile */
    struct sched_key key;
    struct sched_rec rec;
    uint64_t due_ns;  /* RESERVED: expires. ENDED: next report */
    uint64_t last_ns; /* LIVE: last activity */
    uint64_t born_ns;
    struct sched_asker binder; /* coordinator and operation that wait for the start */
    struct sched_exec exec;    /* starts with the session; 0: none */
    struct sched_asker asker;  /* who waits for it */
    bool counted;              /* among its pool's */
    bool reported;             /* LIVE: replicas were told of a deadline */
    uint64_t told_ns;          /* the deadline they were told */
};

/* A pool whose sessions cannot be started here before a time. */
struct sched_sess_shut {
    uint32_t pool;
    uint64_t until_ns;
};

struct sched_sess {
    struct sched_sess_row *rows;
    struct sched_map by_key;  /* STARTING and later */
    struct sched_map by_resv; /* RESERVED */
    uint32_t free, used, scan;
    struct sched_permits permits; /* how many of each pool may be here */
    bool closed;                  /* draining: no new reservations */
    uint64_t shut_ns;             /* none before this time: the owner cannot start any */
    struct sched_sess_shut shut[SCHED_SHUT_MAX]; /* free when that time is over */
};

void sched_sess_init(struct sched_sess *s, const struct sched_cfg *cfg, struct sched_mem *mem);
void sched_sess_clear(struct sched_sess *s, const struct sched_cfg *cfg);

/* NULL when there is none in STARTING or later. */
struct sched_sess_row *sched_sess_find(const struct sched_sess *s, struct sched_key key);

/* No place for a new session here at this moment, however many are free; of any pool, or of the
 * key's. */
bool sched_sess_shut(const struct sched_sess *s, const struct sched_env *e);
bool sched_sess_shut_for(
    const struct sched_sess *s, const struct sched_env *e, struct sched_key key);

/* Sessions of the key's pool (NULL: of any) cannot be started for so long. What was told before and
 * lasts longer, lasts. */
void sched_sess_shut_until(
    struct sched_sess *s, const struct sched_env *e, const struct sched_key *key, uint32_t ms);

/* There is a place and no permit yet, but there may be one soon. */
bool sched_sess_hope(const struct sched_sess *s, const struct sched_env *e, struct sched_key key);

/* A reservation number, or 0 when there is no place. */
uint64_t sched_sess_reserve(struct sched_sess *s, struct sched_env *e, struct sched_key key);
void sched_sess_release(struct sched_sess *s, uint64_t resv, struct sched_key key);

/* Reservations of a bucket that is being rebuilt end: their claims may be lost. */
void sched_sess_release_bucket(struct sched_sess *s, const struct sched_env *e, uint32_t bucket);

/* BIND and GONEQ; answers by message. True when the session of m.rec.epoch is LIVE. */
bool sched_sess_bind(struct sched_sess *s, struct sched_env *e, const struct sched_msg *msg);
void sched_sess_gone(struct sched_sess *s, struct sched_env *e, const struct sched_msg *msg);

/* The group has the end on record. */
void sched_sess_acked(struct sched_sess *s, struct sched_env *e, const struct sched_m_bind *m);

/* What the shell saw. up: true when the session became LIVE just now. idle: nothing has run in it.
 */
bool sched_sess_up(struct sched_sess *s, struct sched_env *e, const struct sched_fx_vm *vm);
bool sched_sess_down(
    struct sched_sess *s, struct sched_env *e, const struct sched_fx_vm *vm, bool idle);

/* Starts the end of a session: delete, cooldown, drain. */
void sched_sess_stop(struct sched_env *e, struct sched_sess_row *row);

/* Expires reservations, repeats reports of ends. */
void sched_sess_tick(struct sched_sess *s, struct sched_env *e);

/* Live sessions of partitions in the buckets `set` for which `asker` is in the group, from row
 * `cursor` on; *ret_next is where to go on, 0 when complete. */
uint32_t sched_sess_list(const struct sched_sess *s, const struct sched_env *e,
    struct sched_host asker, uint32_t cursor, struct sched_sync_rec *out, uint32_t *ret_next);

void sched_sess_restore(struct sched_sess *s, struct sched_env *e, const struct sched_row *row);
