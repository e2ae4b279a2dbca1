#include "scheduler/core/peer.h"

#include <string.h>

#include "proto/base/hash.h"
#include "scheduler/core/mutant.h"

const char *sched_peer_state_str(enum sched_peer_state state)
{
    switch (state) {
    case SCHED_PEER_NONE:
        return "none";
    case SCHED_PEER_ALIVE:
        return "alive";
    case SCHED_PEER_SUSPECT:
        return "suspect";
    case SCHED_PEER_DEAD:
        return "dead";
    case SCHED_PEER_LEFT:
        return "left";
    case SCHED_PEER_STATES:
        break;
    }
    return "unknown";
}

bool sched_peer_newer(
    uint32_t inc, enum sched_peer_state state, uint32_t old_inc, enum sched_peer_state old_state)
{
    if (MUTANT(100)) { /* the worse state wins, whatever the incarnation */
        return state != old_state ? state > old_state : inc > old_inc;
    }
    return inc != old_inc ? inc > old_inc : state > old_state;
}

static bool ip_equal(const struct sched_announce *a, const struct sched_announce *b, unsigned i)
{
    size_t n = a->ip_version[i] == SCHED_IP_V4 ? 4 : a->ip_version[i] == SCHED_IP_V6 ? 16 : 0;
    return a->ip_version[i] == b->ip_version[i] && memcmp(a->ip[i], b->ip[i], n) == 0;
}

bool sched_announce_equal(const struct sched_announce *a, const struct sched_announce *b)
{
    return a->id == b->id && a->boot == b->boot && a->pools == b->pools && ip_equal(a, b, 0) &&
           ip_equal(a, b, 1) && memcmp(a->port, b->port, sizeof a->port) == 0 &&
           a->zone == b->zone && a->features == b->features && a->weight == b->weight &&
           a->role == b->role && a->proto_min == b->proto_min && a->proto_max == b->proto_max &&
           a->proto_now == b->proto_now;
}

static uint64_t fold(uint64_t h, uint64_t v)
{
    return base_hash_mix64(h ^ v);
}

uint64_t sched_announce_digest(const struct sched_announce *a)
{
    uint64_t h = fold(a->id, (uint64_t)a->boot << 32 | a->pools);
    for (unsigned i = 0; i < 2; i++) {
        size_t n = a->ip_version[i] == SCHED_IP_V4 ? 4 : a->ip_version[i] == SCHED_IP_V6 ? 16 : 0;
        uint64_t lo = 0, hi = 0;
        for (size_t k = 0; k < n; k++) {
            hi = hi << 8 | lo >> 56;
            lo = lo << 8 | a->ip[i][k];
        }
        h = fold(fold(fold(h, n), lo), hi);
    }
    h = fold(h, (uint64_t)a->port[0] << 32 | (uint64_t)a->port[1] << 16 | a->port[2]);
    h = fold(h, (uint64_t)a->zone << 32 | (uint64_t)a->features << 16 | a->weight);
    return fold(h, (uint64_t)a->role << 24 | (uint64_t)a->proto_min << 16 |
                       (uint64_t)a->proto_max << 8 | a->proto_now);
}

static bool ip_valid(uint8_t version)
{
    return version == SCHED_IP_NONE || version == SCHED_IP_V4 || version == SCHED_IP_V6;
}

bool sched_announce_valid(const struct sched_announce *a)
{
    return a->id != 0 && a->role < SCHED_ROLES && ip_valid(a->ip_version[0]) &&
           ip_valid(a->ip_version[1]) && a->proto_min >= 1 && a->proto_min <= a->proto_now &&
           a->proto_now <= a->proto_max;
}

size_t sched_announce_bytes(const struct sched_announce *a)
{
    size_t n = SCHED_ANNOUNCE_BYTES_MAX - 32;
    for (unsigned i = 0; i < 2; i++) {
        n += a->ip_version[i] == SCHED_IP_V4 ? 4 : a->ip_version[i] == SCHED_IP_V6 ? 16 : 0;
    }
    return n;
}

size_t sched_dynamic_bytes(const struct sched_dynamic *d)
{
    size_t n = sizeof d->level;
    while (n > 0 && d->level[n - 1] == 0) {
        n--;
    }
    return SCHED_DYN_BYTES_MAX - sizeof d->level + n;
}

bool sched_edge_newer(const struct sched_edge *e, const struct sched_edge *old)
{
    if (e->inc != old->inc) {
        return e->inc > old->inc;
    }
    uint8_t ahead = (uint8_t)(e->number - old->number);
    return ahead != 0 && ahead < 128;
}

struct sched_edge sched_edge_of(const struct sched_dynamic *d, uint32_t inc)
{
    struct sched_edge e = {
        .inc = inc, .number = d->edge, .flags = (uint8_t)(d->flags & SCHED_DYN_DRAINING)};
    for (unsigned pool = 0; pool < SCHED_DYN_POOLS; pool++) {
        if (sched_dynamic_level(d, pool) != SCHED_LEVEL_NONE) {
            e.room |= UINT64_C(1) << pool;
        }
    }
    return e;
}

size_t sched_update_bytes(const struct sched_update *u)
{
    enum { HEAD = 2, INC = 4, ID = 8, EDGE = 10 };
    switch (u->kind) {
    case SCHED_UPDATE_ALIVE:
        return HEAD + INC + sched_announce_bytes(u->announce);
    case SCHED_UPDATE_SUSPECT:
    case SCHED_UPDATE_DEAD:
        return HEAD + INC + ID + ID;
    case SCHED_UPDATE_LEFT:
        return HEAD + INC + ID;
    case SCHED_UPDATE_EDGE:
        return HEAD + INC + ID + EDGE;
    }
    return 0;
}
