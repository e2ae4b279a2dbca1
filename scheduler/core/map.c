#include "scheduler/core/map.h"

#include "proto/base/hash.h"

static uint32_t home(const struct sched_map *m, uint64_t hi, uint64_t lo)
{
    return (uint32_t)base_hash_mix64(hi ^ base_hash_mix64(lo)) & m->mask;
}

void sched_map_init(struct sched_map *m, uint32_t cap, struct sched_mem *mem)
{
    uint32_t n = 8;
    while (n < cap * 2) {
        n *= 2;
    }
    m->slots = sched_mem_take(mem, n, sizeof *m->slots);
    m->mask = n - 1;
    m->n = 0;
    m->cap = cap;
}

void sched_map_clear(struct sched_map *m)
{
    memset(m->slots, 0, sizeof *m->slots * (m->mask + 1));
    m->n = 0;
}

static uint32_t seek(const struct sched_map *m, uint64_t hi, uint64_t lo)
{
    uint32_t i = home(m, hi, lo);
    while (m->slots[i].row1 != 0 && (m->slots[i].hi != hi || m->slots[i].lo != lo)) {
        i = (i + 1) & m->mask;
    }
    return i;
}

uint32_t sched_map_get(const struct sched_map *m, uint64_t hi, uint64_t lo)
{
    uint32_t i = seek(m, hi, lo);
    return m->slots[i].row1 == 0 ? SCHED_MAP_NONE : m->slots[i].row1 - 1;
}

bool sched_map_put(struct sched_map *m, uint64_t hi, uint64_t lo, uint32_t row)
{
    uint32_t i = seek(m, hi, lo);
    if (m->slots[i].row1 == 0) {
        if (m->n >= m->cap) {
            return false;
        }
        m->n++;
    }
    m->slots[i] = (struct sched_map_slot){.hi = hi, .lo = lo, .row1 = row + 1};
    return true;
}

void sched_map_del(struct sched_map *m, uint64_t hi, uint64_t lo)
{
    uint32_t hole = seek(m, hi, lo);
    if (m->slots[hole].row1 == 0) {
        return;
    }
    m->n--;
    /* Close the gap: an entry may move back as long as it does not pass its own home. */
    for (uint32_t i = (hole + 1) & m->mask; m->slots[i].row1 != 0; i = (i + 1) & m->mask) {
        uint32_t h = home(m, m->slots[i].hi, m->slots[i].lo);
        if (((i - h) & m->mask) >= ((i - hole) & m->mask)) {
            m->slots[hole] = m->slots[i];
            hole = i;
        }
    }
    m->slots[hole].row1 = 0;
}
