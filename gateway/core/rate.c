#include "gateway/core/rate.h"

#include <string.h>

void gw_rate_init(struct gw_rate *r, uint32_t per_s, uint32_t burst)
{
    memset(r, 0, sizeof *r);
    r->interval_ns = per_s == 0 ? 0 : UINT64_C(1000000000) / per_s;
    r->burst = burst == 0 ? 1 : burst;
}

static struct gw_rate_slot *find(struct gw_rate *r, uint64_t key)
{
    struct gw_rate_slot *best = &r->slots[key % GW_RATE_SLOTS];
    for (unsigned i = 0; i < GW_RATE_PROBES; i++) {
        struct gw_rate_slot *s = &r->slots[(key + i) % GW_RATE_SLOTS];
        if (s->key == key) {
            return s;
        }
        best = s->due_ns < best->due_ns ? s : best;
    }
    *best = (struct gw_rate_slot){.key = key};
    return best;
}

uint64_t gw_rate_take(struct gw_rate *r, uint64_t key, uint64_t now_ns)
{
    if (r->interval_ns == 0) {
        return 0;
    }
    struct gw_rate_slot *s = find(r, key);
    uint64_t due = s->due_ns > now_ns ? s->due_ns : now_ns;
    uint64_t most = now_ns + (r->burst - 1) * r->interval_ns;
    if (due > most) {
        return due - most;
    }
    s->due_ns = due + r->interval_ns;
    return 0;
}
