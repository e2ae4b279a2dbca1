#pragma once
#include <stdint.h>

#include "worker/core/list.h"

/* Deficit round robin (Shreedhar, Varghese 1995): flows take turns, each may spend `quantum` a
 * turn, and what a flow did not spend it keeps while it has something to send. Who queues much
 * delays only himself. Embedded in their owners, no memory of its own; within a flow first come,
 * first served. */

struct worker_fair_item {
    struct worker_list link;
    uint32_t cost;
};

struct worker_fair_flow {
    struct worker_list link; /* in the turn while it has items */
    struct worker_list items;
    uint32_t quantum; /* at least 1 */
    uint32_t deficit;
};

struct worker_fair {
    struct worker_list turn; /* flows that have items, whose turn it is first */
};

void worker_fair_init(struct worker_fair *f);
void worker_fair_flow_init(struct worker_fair_flow *flow, uint32_t quantum);
void worker_fair_item_init(struct worker_fair_item *i);

/* cost: at least 1. */
void worker_fair_add(struct worker_fair *f, struct worker_fair_flow *flow,
    struct worker_fair_item *i, uint32_t cost);
/* It comes before all others, whatever it costs: its turn was once and did not count. */
void worker_fair_add_first(struct worker_fair *f, struct worker_fair_flow *flow,
    struct worker_fair_item *i, uint32_t cost);
/* Whose turn it is; NULL when nothing waits. Stays until it is removed. */
struct worker_fair_item *worker_fair_next(struct worker_fair *f);
/* Takes out what worker_fair_next() returned: the flow pays. */
void worker_fair_serve(
    struct worker_fair *f, struct worker_fair_flow *flow, struct worker_fair_item *i);
/* Takes it out unserved. Does nothing to one that is in no flow. */
void worker_fair_remove(struct worker_fair_flow *flow, struct worker_fair_item *i);
