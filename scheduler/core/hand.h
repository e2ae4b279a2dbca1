#pragma once
#include "scheduler/core/reg.h"
#include "scheduler/core/sess.h"

/* Hand-over: what has to happen to a partition before its group of a new view may vote.
 *
 * - Its group did not change: nothing. It stays in its era and does not notice the view.
 * - Its group changed: every new member asks the old group; with the complete records of a majority
 *   of it, it has settled. Installing the view has already stopped the old group from voting.
 * - It is listed for rebuilding (a majority of the old group died): its registers are dropped, and
 *   every new member asks every member of the view for the sessions that run there. A host that
 *   answers has raised its base: it will not start claims of older eras (they may be lost).
 *
 * Progress is reported to the voters, who make the next view only when this one is settled. */

struct sched_hand {
    uint8_t *got;       /* per partition: seats of the old group that answered completely */
    uint8_t *inv_done;  /* per entry of the view: its inventory is complete */
    uint32_t inv_left;  /* members of the view whose inventory is not complete */
    uint32_t *inv_next; /* per entry: where its inventory goes on */
    uint32_t base[SCHED_BUCKETS];
    uint32_t unsettled; /* partitions of ours that are not settled */
    uint32_t pass_part; /* the running pass over partitions; n_parts when it is over */
    uint32_t pass_member;
    uint64_t pass_ns; /* when the next pass may start */
};

void sched_hand_init(struct sched_hand *h, const struct sched_cfg *cfg, struct sched_mem *mem);
void sched_hand_clear(struct sched_hand *h, const struct sched_cfg *cfg);

/* e->view was just installed as the successor of view number `old` (0: this is the first one).
 * Eras move on, registers and reservations of buckets to rebuild go. */
void sched_hand_install(struct sched_hand *h, struct sched_env *e, struct sched_reg *reg,
    struct sched_sess *sess, uint32_t old);

/* Asks on; call it on time and after each answer. */
void sched_hand_tick(
    struct sched_hand *h, struct sched_env *e, struct sched_reg *reg, struct sched_sess *sess);

/* Messages. */
void sched_hand_sync(
    struct sched_hand *h, struct sched_env *e, struct sched_reg *reg, const struct sched_msg *msg);
void sched_hand_synced(
    struct sched_hand *h, struct sched_env *e, struct sched_reg *reg, const struct sched_msg *msg);
void sched_hand_inv(struct sched_env *e, struct sched_sess *sess, const struct sched_msg *msg);
void sched_hand_inved(
    struct sched_hand *h, struct sched_env *e, struct sched_reg *reg, const struct sched_msg *msg);

/* Buckets with partitions of ours that are not settled. */
void sched_hand_unsettled(const struct sched_hand *h, const struct sched_env *e,
    const struct sched_reg *reg, uint64_t *ret_buckets);

/* After a restart, when e->view and the registers are restored: takes the work up again. */
void sched_hand_resume(struct sched_hand *h, struct sched_env *e, const struct sched_reg *reg);
