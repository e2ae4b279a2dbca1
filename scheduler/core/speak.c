#include "scheduler/core/speak.h"

#include "scheduler/core/env.h"

void sched_speak_init(struct sched_speak *s, uint32_t members_max, struct sched_mem *mem)
{
    s->n = 0;
    s->cap = members_max + SCHED_SPEAK_GUESTS_MAX;
    s->entries = sched_mem_take(mem, s->cap, sizeof *s->entries);
    sched_map_init(&s->by_node, s->cap, mem);
}

static bool lately(const struct sched_speak_entry *e, uint64_t now_ns)
{
    return now_ns - e->heard_ns <= SCHED_MS(SCHED_SPEAK_LIFE_MS);
}

/* A place for a node that has none; NULL: all are of nodes that were heard lately. */
static struct sched_speak_entry *place(struct sched_speak *s, uint64_t now_ns)
{
    if (s->n < s->cap) {
        return &s->entries[s->n++];
    }
    uint32_t i = 0;
    while (i < s->n && lately(&s->entries[i], now_ns)) {
        i++;
    }
    if (i == s->n) {
        return NULL;
    }
    sched_map_del(&s->by_node, s->entries[i].node, 0);
    return &s->entries[i];
}

void sched_speak_hear(
    struct sched_speak *s, uint64_t node, struct sched_speaks speaks, uint64_t now_ns)
{
    uint32_t i = sched_map_get(&s->by_node, node, 0);
    struct sched_speak_entry *e = i == SCHED_MAP_NONE ? place(s, now_ns) : &s->entries[i];
    if (e == NULL) {
        return;
    }
    if (i == SCHED_MAP_NONE) {
        (void)sched_map_put(&s->by_node, node, 0, (uint32_t)(e - s->entries));
        *e = (struct sched_speak_entry){.node = node};
    }
    if (speaks.max == 0 && e->speaks.max != 0 && lately(e, now_ns)) {
        return; /* that it is there was clear */
    }
    e->speaks = speaks;
    e->heard_ns = now_ns;
}

const struct sched_speak_entry *sched_speak_at(
    const struct sched_speak *s, uint32_t i, uint64_t now_ns)
{
    return lately(&s->entries[i], now_ns) ? &s->entries[i] : NULL;
}

struct sched_speaks sched_speak_of(const struct sched_speak *s, uint64_t node, uint64_t now_ns)
{
    uint32_t i = sched_map_get(&s->by_node, node, 0);
    const struct sched_speak_entry *e = i == SCHED_MAP_NONE ? NULL : sched_speak_at(s, i, now_ns);
    return e == NULL ? (struct sched_speaks){0} : e->speaks;
}
