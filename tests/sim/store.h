#pragma once
#include <stdint.h>

#include "scheduler/core/fx.h"

/* The twin of a node's stores; see store.c. */

struct sim_rows;

struct sim_rows *sim_rows_new(void);
void sim_rows_free(struct sim_rows *r);
void sim_rows_clear(struct sim_rows *r);
void sim_rows_put(struct sim_rows *r, const struct sched_row *row);
/* Hands every row to fn, the view first. */
void sim_rows_each(
    const struct sim_rows *r, void (*fn)(void *ctx, const struct sched_row *row), void *ctx);
/* The stored row of that kind and name, or NULL. */
const struct sched_row *sim_rows_find(const struct sim_rows *r, const struct sched_row *like);
uint32_t sim_rows_count(const struct sim_rows *r, uint8_t kind);
/* NULL when nothing was stored; *ret_n: how many. */
const struct sched_part *sim_rows_parts(const struct sim_rows *r, uint32_t *ret_n);
const struct sched_row *sim_rows_vote(const struct sim_rows *r);
const struct sched_row *sim_rows_known(const struct sim_rows *r);
const struct sched_row *sim_rows_quota(const struct sim_rows *r, uint32_t reg);
const struct sched_row *sim_rows_catalog(const struct sim_rows *r);
