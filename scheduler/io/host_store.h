#pragma once
#include <stddef.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "scheduler/core/fx.h"
#include "scheduler/wire/wire.h"

/* The run store of a worker's share of the cluster, in LMDB without syncing. What it tells of are
 * microVMs, which end with the machine: rows of an earlier boot are as good as lost, wherever the
 * folder is. One process at a time. */
struct sched_host_store;

struct sched_host_store_cfg {
    const char *path;
    unsigned pbits;
    uint32_t members_max;
    const char *boot; /* which boot of the machine this is; NULL: ask the kernel */
};

/* BASE_ESTATE: the rows of this boot were written with another pbits. BASE_ECORRUPT, -errno. */
int sched_host_store_open(
    struct sched_host_store **ret, const struct sched_host_store_cfg *cfg, struct base_error *err);
void sched_host_store_close(struct sched_host_store *s); /* NULL is fine */

/* All of the step's STORE effects and KILL_ALL (which empties the store first), META excepted, in
 * one transaction. 0: what is read from now on, by whatever process, has them. */
int sched_host_store_step(struct sched_host_store *s, const struct sched_fx *fx);

/* Hands every row to fn, the view first, then the partitions. Views and arrays are valid during the
 * call. BASE_ECORRUPT: what is there cannot be read. */
int sched_host_store_each(
    struct sched_host_store *s, void (*fn)(void *ctx, const struct sched_row *row), void *ctx);

/* How many rows of the kinds that need a place each. */
struct sched_host_rows {
    uint32_t sessions, registers, executions;
};
int sched_host_store_count(struct sched_host_store *s, struct sched_host_rows *ret);

/* The incarnation that the rows belong to; 0: the store is new, or of an earlier boot. */
uint32_t sched_host_store_life(struct sched_host_store *s);
int sched_host_store_begin(struct sched_host_store *s, uint32_t life); /* empties it */
