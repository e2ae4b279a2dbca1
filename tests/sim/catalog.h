#pragma once
#include "tests/sim/sim.h"

/* The catalogue and the permits of pools; see catalog.c. Checks are in check.h. */

void sim_catalog_key(const struct sim *s, struct sched_key *k, uint32_t i);
void sim_catalog_birth(struct sim *s, struct sim_node *voter);
void sim_catalog_start(struct sim *s);
void sim_catalog_event(struct sim *s, const struct sim_event *ev);
void sim_catalog_boot(struct sim *s, struct sim_node *n);
/* True: it was for the shell. */
bool sim_catalog_take(struct sim *s, struct sim_node *n, const struct sched_msg *m);
