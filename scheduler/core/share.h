#pragma once
#include "scheduler/core/view.h"

/* How many of a pool's ready instances are this node's: members of the view that take sessions have
 * equal parts, and which of them have one more is different for every pool. Over the members of one
 * view it sums up to `ready`; 0 for who is not one of them. pool: number of its name. */
uint32_t sched_share(const struct sched_view *view, uint64_t node, uint32_t pool, uint32_t ready);
