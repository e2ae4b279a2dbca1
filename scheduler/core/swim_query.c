#include "scheduler/core/swim_impl.h"

/* Reading a machine, and checking that its parts agree with each other. */

static void peer_at(const struct sched_swim *s, uint16_t slot, struct sched_swim_peer *ret_peer)
{
    const struct swim_peer *p = &s->peers[slot];
    *ret_peer = (struct sched_swim_peer){.announce = sched_swim_table_announce(s, slot),
        .inc = p->inc,
        .state = (enum sched_peer_state)p->state};
    if (s->edges != NULL) {
        ret_peer->edge = s->edges[slot];
    }
}

bool sched_swim_find(const struct sched_swim *s, uint64_t id, struct sched_swim_peer *ret_peer)
{
    uint16_t slot = sched_swim_table_find(s, id);
    if (slot == SWIM_NONE) {
        return false;
    }
    peer_at(s, slot, ret_peer);
    return true;
}

bool sched_swim_next(const struct sched_swim *s, uint32_t *at, struct sched_swim_peer *ret_peer)
{
    while (*at < s->high) {
        uint16_t slot = (uint16_t)(*at)++;
        if (s->peers[slot].state != SCHED_PEER_NONE) {
            peer_at(s, slot, ret_peer);
            return true;
        }
    }
    return false;
}

uint32_t sched_swim_count(const struct sched_swim *s, enum sched_peer_state state)
{
    return s->count[state];
}

uint32_t sched_swim_incarnation(const struct sched_swim *s)
{
    return s->peers[SWIM_SELF].inc;
}

unsigned sched_swim_health(const struct sched_swim *s)
{
    return s->health;
}

bool sched_swim_joined(const struct sched_swim *s)
{
    return s->joined;
}

uint32_t sched_swim_queued(const struct sched_swim *s)
{
    return (uint32_t)s->gossip.count[SCHED_GOSSIP_MEMBER] + s->gossip.count[SCHED_GOSSIP_EDGE];
}

const struct sched_swim_stats *sched_swim_stats(const struct sched_swim *s)
{
    return &s->stats;
}

static bool timers_hold(const struct sched_swim *s)
{
    for (uint32_t i = 0; i < s->heap_n; i++) {
        const struct swim_timer *t = &s->timers[s->heap[i]];
        const struct swim_peer *p = &s->peers[t->slot];
        if (t->pos != i || p->timer != s->heap[i] || p->state < SCHED_PEER_SUSPECT) {
            return false;
        }
        if (i > 0 && s->timers[s->heap[(i - 1) / 2]].due_us > t->due_us) {
            return false;
        }
        if (t->by_n < 1 || t->by_n > SWIM_CONFIRM_MAX + 1) {
            return false;
        }
        for (unsigned k = 0; k + 1 < t->by_n; k++) {
            if (t->by[k] == t->by[t->by_n - 1]) {
                return false; /* the same accuser counted twice */
            }
        }
    }
    return true;
}

bool sched_swim_check(const struct sched_swim *s)
{
    uint32_t count[SCHED_PEER_STATES] = {0}, untimed = 0, used = 0;
    uint64_t buckets[SCHED_SWIM_BUCKETS] = {0};
    for (uint32_t i = 0; i < s->high; i++) {
        const struct swim_peer *p = &s->peers[i];
        if (p->state == SCHED_PEER_NONE) {
            continue;
        }
        const struct sched_announce *a = sched_swim_table_announce(s, (uint16_t)i);
        used++;
        count[p->state]++;
        untimed += i != SWIM_SELF && p->state >= SCHED_PEER_SUSPECT && p->timer == SWIM_NONE;
        if (sched_swim_table_find(s, a->id) != i ||
            (p->timer != SWIM_NONE && s->timers[p->timer].slot != i)) {
            return false;
        }
        buckets[sched_swim_table_bucket(a->id)] ^= sched_swim_table_share(s, (uint16_t)i);
    }
    uint64_t whole = 0;
    for (unsigned i = 0; i < SCHED_SWIM_BUCKETS; i++) {
        whole ^= buckets[i];
        if (buckets[i] != s->buckets[i]) {
            return false;
        }
    }
    for (unsigned i = SCHED_PEER_ALIVE; i < SCHED_PEER_STATES; i++) {
        if (count[i] != s->count[i]) {
            return false;
        }
    }
    return whole == s->whole && used == s->used && used <= s->members_max &&
           untimed == s->untimed && s->heap_n <= s->timers_max && timers_hold(s);
}
