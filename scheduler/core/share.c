#include "scheduler/core/share.h"

#include "proto/base/hash.h"

static bool takes_part(const struct sched_member *m)
{
    return (m->flags & SCHED_MEMBER_IN) != 0 && m->weight > 0;
}

static uint64_t rank(uint64_t node, uint32_t pool)
{
    static const uint8_t key[16] = "ready instances";
    uint64_t what[2] = {node, pool};
    return base_hash_sip24(key, what, sizeof what);
}

uint32_t sched_share(const struct sched_view *view, uint64_t node, uint32_t pool, uint32_t ready)
{
    uint64_t mine = rank(node, pool);
    uint32_t n = 0, before = 0;
    bool in = false;
    for (uint32_t i = 0; i < view->n; i++) {
        const struct sched_member *m = &view->m[i];
        if (takes_part(m)) {
            uint64_t r = rank(m->node, pool);
            n++;
            in = in || m->node == node;
            before += r < mine || (r == mine && m->node < node);
        }
    }
    return in ? ready / n + (before < ready % n) : 0;
}
