#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "scheduler/core/mem.h"

/* Hash map from 128 bits to a row number, of fixed capacity. Keys must already be well mixed: `hi`
 * or `lo` may be a counter, both are mixed once more here. Deterministic: the layout depends only
 * on the sequence of calls. */
struct sched_map_slot {
    uint64_t hi, lo;
    uint32_t row1; /* row + 1; 0: free */
};

struct sched_map {
    struct sched_map_slot *slots;
    uint32_t mask;
    uint32_t n;
    uint32_t cap;
};

enum { SCHED_MAP_NONE = 0xffffffff };

void sched_map_init(struct sched_map *m, uint32_t cap, struct sched_mem *mem);
void sched_map_clear(struct sched_map *m);

/* The row, or SCHED_MAP_NONE. */
uint32_t sched_map_get(const struct sched_map *m, uint64_t hi, uint64_t lo);

/* Adds or replaces. False when the map is full. */
bool sched_map_put(struct sched_map *m, uint64_t hi, uint64_t lo, uint32_t row);
void sched_map_del(struct sched_map *m, uint64_t hi, uint64_t lo);
