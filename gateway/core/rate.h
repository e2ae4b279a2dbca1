#pragma once
#include <stdint.h>

/* How often a key (a tenant, a pool) may do something: a token bucket in its one-number form. A
 * key's `due` is the time at which its bucket is full again; each event moves it by one interval,
 * and it may lie at most `burst` intervals ahead of now. A key that is not due any more needs no
 * memory, so a small table serves any number of keys; when more are busy at once than fit, the
 * least busy is forgiven. */
enum { GW_RATE_SLOTS = 4096, GW_RATE_PROBES = 8 };

struct gw_rate_slot {
    uint64_t key, due_ns;
};

struct gw_rate {
    uint64_t interval_ns; /* 0: no limit */
    uint64_t burst;
    struct gw_rate_slot slots[GW_RATE_SLOTS];
};

/* per_s 0: no limit. burst: events at once after a pause; at least 1. */
void gw_rate_init(struct gw_rate *r, uint32_t per_s, uint32_t burst);

/* Returns 0 and counts the event, or how long to wait in ns. key: a hash that clients cannot aim.
 */
uint64_t gw_rate_take(struct gw_rate *r, uint64_t key, uint64_t now_ns);
