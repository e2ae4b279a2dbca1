#include <string.h>

#include "proto/base/assert.h"
#include "scheduler/core/swim_impl.h"

/* Joining, anti-entropy, and finding those again who were taken for dead. */

static uint64_t ms(uint64_t v)
{
    return v * 1000;
}

/* v plus up to a quarter, so that nodes do not march in step. */
static uint64_t jitter(struct sched_swim *s, uint64_t us)
{
    return us + base_hash_rng_below(&s->rng, us / 4 + 1);
}

static bool is_present(const struct sched_swim *s, uint64_t id)
{
    uint16_t slot = id == 0 ? SWIM_NONE : sched_swim_table_find(s, id);
    return slot != SWIM_NONE &&
           (s->peers[slot].state == SCHED_PEER_ALIVE || s->peers[slot].state == SCHED_PEER_SUSPECT);
}

static void join_at(struct sched_swim *s, unsigned seed)
{
    s->seeds[seed].seq = ++s->seq;
    s->seeds[seed].asked = true;
    sched_swim_send_packet(s, &(struct swim_out){.seed = (uint8_t)seed,
                                  .channel = SCHED_SWIM_CTL,
                                  .type = SCHED_SWIM_JOIN,
                                  .seq = s->seq,
                                  .self_first = true});
}

/* A newcomer asks three seeds at once; a member asks one that is not a member. */
static void seeds_tick(struct sched_swim *s)
{
    if (s->seed_n == 0 || s->now_us < s->seed_us) {
        return;
    }
    unsigned asks = s->joined ? 1 : 3;
    s->seed_us = s->now_us + jitter(s, ms(s->joined ? s->p.seed_ms : s->p.seed_ms / 5 + 1));
    for (unsigned i = 0; i < s->seed_n && asks > 0; i++) {
        unsigned seed = s->seed_at;
        s->seed_at = (s->seed_at + 1) % s->seed_n;
        if (!is_present(s, s->seeds[seed].id)) {
            join_at(s, seed);
            asks--;
        }
    }
}

/* 1 + max(0, ceil(log2 n) - 5) */
static uint64_t sync_scale(const struct sched_swim *s)
{
    uint32_t n = sched_swim_table_present(s);
    uint32_t log2 = n <= 1 ? 0 : 32 - (uint32_t)__builtin_clz(n - 1);
    return log2 > 5 ? log2 - 4 : 1;
}

static void sync_with(struct sched_swim *s, uint64_t id)
{
    struct sched_swim_fx *fx = sched_swim_send_open(
        s, &(struct swim_out){
               .to = id, .channel = SCHED_SWIM_CTL, .type = SCHED_SWIM_DIGEST, .seq = ++s->seq});
    if (sched_swim_table_present(s) < 32) {
        s->fx->digests[0] = s->whole;
        fx->packet.digest_count = 1;
    } else {
        memcpy(s->fx->digests, s->buckets, sizeof s->buckets);
        fx->packet.digest_count = SCHED_SWIM_BUCKETS;
    }
    fx->packet.digests = s->fx->digests;
}

static void digest_tick(struct sched_swim *s)
{
    if (s->now_us < s->sync_us) {
        return;
    }
    if (s->sync_soon > 0) {
        s->sync_soon--;
        s->sync_us = s->now_us + jitter(s, ms(2000));
    } else {
        s->sync_us = s->now_us + jitter(s, ms(s->p.sync_ms) * sync_scale(s));
    }
    uint64_t with = s->sync_with;
    s->sync_with = 0;
    if (!is_present(s, with)) {
        uint16_t slot = sched_swim_table_random(s, NULL, 0);
        if (slot == SWIM_NONE) {
            return;
        }
        with = sched_swim_table_announce(s, slot)->id;
    }
    sync_with(s, with);
}

/* When most of what this node knew is dead and the sender knows more living, then it was this node
 * that was cut off. Said once for a whole table, because every part changes the balance. */
bool sched_swim_sync_humble(struct sched_swim *s, uint64_t from, const struct sched_swim_packet *p)
{
    if (p->type != SCHED_SWIM_TABLE) {
        return false;
    }
    uint32_t present = sched_swim_table_present(s);
    if (s->count[SCHED_PEER_DEAD] > present && p->alive > present) {
        s->humble_to = from;
        s->humble_seq = p->seq;
    }
    return s->humble_to == from && s->humble_seq == p->seq;
}

void sched_swim_sync_soon(struct sched_swim *s)
{
    if (s->now_us < s->soon_us) {
        return;
    }
    s->soon_us = s->now_us + ms(2000);
    uint64_t soon = s->now_us + base_hash_rng_below(&s->rng, ms(100));
    s->sync_us = soon < s->sync_us ? soon : s->sync_us;
}

void sched_swim_sync_heard(struct sched_swim *s, uint64_t from)
{
    if (!s->joined && s->sync_us > s->now_us + ms(1000)) {
        s->sync_us = s->now_us + base_hash_rng_below(&s->rng, ms(300));
        s->sync_with = from;
    }
}

uint32_t sched_swim_sync_root(const struct sched_swim *s)
{
    if (s->p.root_ms == 0 || s->now_us - s->changed_us < ms(s->p.root_ms)) {
        return 0;
    }
    uint32_t root = (uint32_t)(s->whole ^ s->whole >> 32);
    return root == 0 ? 1 : root;
}

void sched_swim_sync_on_root(struct sched_swim *s, uint64_t from, uint32_t root)
{
    uint32_t own = sched_swim_sync_root(s);
    if (own == root) {
        s->root_wait_us = 0;
    }
    if (root == 0 || own == 0 || own == root || s->now_us < s->root_us || s->leaving) {
        return;
    }
    s->root_wait_us = s->root_wait_us == 0 ? ms(s->p.root_ms) : 2 * s->root_wait_us;
    uint64_t most = ms(s->p.sync_ms) * sync_scale(s);
    s->root_wait_us = s->root_wait_us < most ? s->root_wait_us : most;
    s->root_us = s->now_us + jitter(s, s->root_wait_us);
    sync_with(s, from);
}

void sched_swim_sync_revived(struct sched_swim *s, uint64_t id)
{
    if (s->count[SCHED_PEER_DEAD] <= sched_swim_table_present(s)) {
        return;
    }
    uint64_t soon = s->now_us + base_hash_rng_below(&s->rng, ms(1000));
    if (soon < s->sync_us) {
        s->sync_us = soon;
        s->sync_with = id;
    }
}

static uint64_t reclaim_every_us(const struct sched_swim *s)
{
    uint64_t per_member = (uint64_t)s->p.reclaim_member_us * sched_swim_table_present(s);
    return per_member > ms(s->p.reclaim_ms) ? per_member : ms(s->p.reclaim_ms);
}

static uint16_t random_dead(struct sched_swim *s)
{
    uint32_t slot = (uint32_t)base_hash_rng_below(&s->rng, s->high);
    for (uint32_t i = 0; i < s->high; i++) {
        slot = slot + 1 < s->high ? slot + 1 : 0;
        if (s->peers[slot].state == SCHED_PEER_DEAD) {
            return (uint16_t)slot;
        }
    }
    return SWIM_NONE;
}

/* A dead member is told so now and then, in case it lives. */
static void reclaim_tick(struct sched_swim *s)
{
    if (s->count[SCHED_PEER_DEAD] == 0 || s->now_us < s->reclaim_us) {
        return;
    }
    s->reclaim_us = s->now_us + jitter(s, reclaim_every_us(s));
    uint16_t slot = random_dead(s);
    if (slot != SWIM_NONE) {
        sched_swim_send_packet(s, &(struct swim_out){.to = sched_swim_table_announce(s, slot)->id,
                                      .channel = SCHED_SWIM_UDP,
                                      .type = SCHED_SWIM_PING,
                                      .seq = ++s->seq});
    }
}

static void transfer_start(
    struct sched_swim *s, uint64_t to, const uint64_t mask[4], uint16_t seq, bool want)
{
    struct swim_transfer *free = NULL;
    for (unsigned i = 0; i < SWIM_TRANSFERS_MAX; i++) {
        struct swim_transfer *t = &s->transfers[i];
        if (!t->active) {
            free = t;
        } else if (t->to == to && t->seq == seq) {
            return;
        }
    }
    if (free == NULL) {
        return; /* the other side asks again */
    }
    *free = (struct swim_transfer){.to = to, .seq = seq, .active = true, .want = want};
    memcpy(free->mask, mask, sizeof free->mask);
    s->transfer_n++;
}

static bool in_mask(const uint64_t mask[4], uint64_t id)
{
    unsigned bucket = sched_swim_table_bucket(id);
    if (MUTANT(111) && bucket % 64 == 63) { /* a bucket is forgotten */
        return false;
    }
    return mask[bucket / 64] >> (bucket % 64) & 1;
}

/* Up to three claims per member: that it is there, what else is said of it, its edge. */
static unsigned add_member(const struct sched_swim *s, uint16_t slot, struct sched_update *u)
{
    const struct swim_peer *p = &s->peers[slot];
    uint64_t by = p->timer == SWIM_NONE ? s->self.id : s->timers[p->timer].by[0];
    unsigned n = 0;
    if (p->state == SCHED_PEER_ALIVE || p->state == SCHED_PEER_SUSPECT) {
        u[n] = sched_swim_send_update_of(s, slot, 0);
        u[n++].kind = SCHED_UPDATE_ALIVE;
    }
    if (p->state != SCHED_PEER_ALIVE) {
        u[n++] = sched_swim_send_update_of(s, slot, by);
    }
    if (s->edges != NULL && s->edges[slot].inc != 0 && n > 0) {
        u[n++] = (struct sched_update){.kind = SCHED_UPDATE_EDGE,
            .inc = s->edges[slot].inc,
            .id = sched_swim_table_announce(s, slot)->id,
            .edge = s->edges[slot]};
    }
    return n;
}

/* One part of a table. False: no room for it in this step. */
static bool transfer_part(struct sched_swim *s, struct swim_transfer *t)
{
    struct sched_update *u = sched_swim_send_updates(s, SCHED_SWIM_UPDATES_MAX);
    if (u == NULL) {
        return false;
    }
    struct sched_swim_packet *p = &sched_swim_send_open(s,
        &(struct swim_out){
            .to = t->to, .channel = SCHED_SWIM_CTL, .type = SCHED_SWIM_TABLE, .seq = t->seq})
                                       ->packet;
    p->updates = u;
    memcpy(p->mask, t->mask, sizeof p->mask);
    for (; t->cursor < s->high && p->update_count + 3 <= SCHED_SWIM_UPDATES_MAX; t->cursor++) {
        if (s->peers[t->cursor].state != SCHED_PEER_NONE &&
            in_mask(t->mask, sched_swim_table_announce(s, (uint16_t)t->cursor)->id)) {
            p->update_count = (uint16_t)(p->update_count +
                                         add_member(s, (uint16_t)t->cursor, u + p->update_count));
        }
    }
    s->fx->update_n += p->update_count;
    if (t->cursor >= s->high) {
        p->flags = (uint8_t)(SCHED_SWIM_LAST | (t->want ? SCHED_SWIM_WANT : 0));
        t->active = false;
        s->transfer_n--;
    }
    return true;
}

static void transfers_tick(struct sched_swim *s)
{
    unsigned parts = SWIM_CHUNKS_MAX;
    for (unsigned i = 0; i < SWIM_TRANSFERS_MAX && s->transfer_n > 0; i++) {
        while (s->transfers[i].active) {
            if (parts-- == 0 || !transfer_part(s, &s->transfers[i])) {
                return;
            }
        }
    }
}

void sched_swim_sync_tick(struct sched_swim *s)
{
    transfers_tick(s);
    if (s->leaving) {
        return;
    }
    seeds_tick(s);
    digest_tick(s);
    reclaim_tick(s);
}

uint64_t sched_swim_sync_due(const struct sched_swim *s)
{
    uint64_t due = s->transfer_n > 0 ? s->now_us + 1000 : SWIM_NEVER;
    if (s->leaving) {
        return due;
    }
    due = s->sync_us < due ? s->sync_us : due;
    due = s->seed_n > 0 && s->seed_us < due ? s->seed_us : due;
    return s->count[SCHED_PEER_DEAD] > 0 && s->reclaim_us < due ? s->reclaim_us : due;
}

static const uint64_t whole_mask[4] = {UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX};

/* The newcomer's own announcement was in the packet. One that knows others comes back from a
 * separation: its table is asked for. */
void sched_swim_sync_on_join(struct sched_swim *s, uint64_t from, const struct sched_swim_packet *p)
{
    transfer_start(s, from, whole_mask, p->seq, p->alive > 1);
}

void sched_swim_sync_on_digest(
    struct sched_swim *s, uint64_t from, const struct sched_swim_packet *p)
{
    uint64_t mask[4] = {0};
    if (p->digest_count == 1) {
        if (p->digests[0] == s->whole) {
            return;
        }
        memcpy(mask, whole_mask, sizeof mask);
    } else if (p->digest_count == SCHED_SWIM_BUCKETS) {
        for (unsigned i = 0; i < SCHED_SWIM_BUCKETS; i++) {
            if (p->digests[i] != s->buckets[i]) {
                mask[i / 64] |= UINT64_C(1) << (i % 64);
            }
        }
    }
    if ((mask[0] | mask[1] | mask[2] | mask[3]) != 0) {
        transfer_start(s, from, mask, p->seq, true);
    }
}

void sched_swim_sync_on_table(
    struct sched_swim *s, uint64_t from, const struct sched_swim_packet *p)
{
    if (!(p->flags & SCHED_SWIM_LAST)) {
        return;
    }
    s->humble_to = 0;
    for (unsigned i = 0; i < s->seed_n; i++) {
        struct swim_seed *seed = &s->seeds[i];
        if (seed->asked && seed->seq == p->seq) {
            seed->id = from;
            seed->asked = false;
        }
    }
    if (!s->joined) {
        s->joined = true;
        s->sync_soon = 2;
        s->sync_us = s->now_us + jitter(s, ms(1000));
        s->seed_us = s->now_us + jitter(s, ms(s->p.seed_ms));
        (void)sched_swim_send_fx(s, SCHED_SWIM_FX_JOINED, from);
    }
    if (p->flags & SCHED_SWIM_WANT) {
        transfer_start(s, from, p->mask, p->seq, false);
    }
}
