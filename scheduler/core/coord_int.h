#pragma once
#include "scheduler/core/coord.h"

/* Between coord.c (ballots and votes) and coord_claim.c (what to write, and the host's part). */

void sched_coord_start(struct sched_coord *c, struct sched_env *e, struct sched_op *op);
void sched_coord_accept(struct sched_coord *c, struct sched_env *e, struct sched_op *op);
void sched_coord_again(struct sched_coord *c, struct sched_env *e, struct sched_op *op);
void sched_coord_free(struct sched_coord *c, struct sched_env *e, struct sched_op *op);
void sched_coord_fail(struct sched_coord *c, struct sched_env *e, struct sched_op *op, uint8_t why);
void sched_coord_resend_at(struct sched_env *e, struct sched_op *op);

/* Phase 1 is complete: op->best is what must be respected. */
void sched_coord_decide(struct sched_coord *c, struct sched_env *e, struct sched_op *op);

/* op->val is chosen. */
void sched_coord_chosen(struct sched_coord *c, struct sched_env *e, struct sched_op *op);

/* Looks for a place for a new session, or goes on with the next candidate. */
void sched_coord_reserve(struct sched_coord *c, struct sched_env *e, struct sched_op *op);
void sched_coord_reserved(
    struct sched_coord *c, struct sched_env *e, struct sched_op *op, const struct sched_msg *msg);

/* FENCE: GONEQ to the host of op->best. BIND: BIND to the host of op->val. */
void sched_coord_ask_host(struct sched_env *e, const struct sched_op *op);
void sched_coord_host_says(
    struct sched_coord *c, struct sched_env *e, struct sched_op *op, const struct sched_msg *msg);

void sched_coord_route(
    struct sched_env *e, struct sched_asker to, struct sched_key key, const struct sched_rec *rec);
