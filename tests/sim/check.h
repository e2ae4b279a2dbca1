#pragma once
#include "tests/sim/sim.h"

/* The invariants. The world reports what happens; the first violation ends the run. */

void sim_bad(struct sim *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The name of the violated invariant, like "S1". */
const char *sim_bad_name(const struct sim *s);
void sim_check_view(struct sim *s, struct sim_node *n, const struct sched_view *v);
/* A message of a version that its addressee does not speak. */
void sim_check_unread(struct sim *s, const struct sim_node *to, const struct sim_packet *p);
bool sim_check_member(const struct sim *s, struct sched_host h); /* of the chosen view */
void sim_check_chosen(struct sim *s, const struct sched_view *v);
void sim_check_quota(struct sim *s, struct sim_node *n);
const struct sched_view *sim_chosen_view(const struct sim *s);
void sim_check_dead_permits(struct sim *s, const struct sched_view *v, uint32_t reg);
void sim_check_known(struct sim *s, const struct sim_node *n);
void sim_check_pools(struct sim *s, struct sim_node *n);
void sim_check_catalog_end(struct sim *s, const struct sched_view *v);
void sim_check_vote(struct sim *s, struct sim_node *n, const struct sched_msg *m);
void sim_check_live(struct sim *s, struct sim_node *n, struct sim_vm *vm, bool on);
void sim_check_ran(struct sim *s, const struct sim_node *n, const struct sim_vm *vm);
void sim_check_bound(struct sim *s, const struct sim_node *n, struct sim_vm *vm);
/* A supervisor ends it for want of a lease. */
void sim_check_killed(struct sim *s, const struct sim_node *n, const struct sim_vm *vm);
void sim_check_stop(struct sim *s, struct sim_node *n, struct sim_vm *vm);
void sim_check_started(struct sim *s, struct sched_exec exec, sched_epoch epoch);
void sim_check_answer(struct sim *s, const struct sim_req *q, sched_epoch epoch);
void sim_check_settled(struct sim *s, struct sim_node *n, uint32_t part);
void sim_check_attached(struct sim *s, struct sim_node *n);
/* Between two steps: what a process knows is what it has stored. */
void sim_check_commit(struct sim *s, const struct sim_node *n);
/* Every second: who should not live any more. */
void sim_check_look(struct sim *s);
void sim_check_place(struct sim *s, const struct sched_view *v);
/* After the liveness phase. */
void sim_check_end(struct sim *s);
void sim_check_directed(struct sim *s, bool end);
void sim_check_reclaimed(struct sim *s);
uint32_t sim_key_index(const struct sim *s, struct sched_key key);
