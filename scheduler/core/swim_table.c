#include "proto/base/assert.h"
#include "scheduler/core/swim_impl.h"

/* The table of members, their timers, and who is probed next. */

unsigned sched_swim_table_bucket(uint64_t id)
{
    return (unsigned)(base_hash_mix64(id) >> 56);
}

const struct sched_announce *sched_swim_table_announce(const struct sched_swim *s, uint16_t slot)
{
    return sched_book_get(s->book, s->peers[slot].book);
}

uint32_t sched_swim_table_present(const struct sched_swim *s)
{
    return s->count[SCHED_PEER_ALIVE] + s->count[SCHED_PEER_SUSPECT];
}

static uint32_t home_of(const struct sched_swim *s, uint64_t id)
{
    return (uint32_t)base_hash_mix64(id) & s->index_mask;
}

static uint32_t place_of(const struct sched_swim *s, uint64_t id)
{
    uint32_t at = home_of(s, id);
    while (s->index[at] != SWIM_NONE && sched_swim_table_announce(s, s->index[at])->id != id) {
        at = (at + 1) & s->index_mask;
    }
    return at;
}

uint16_t sched_swim_table_find(const struct sched_swim *s, uint64_t id)
{
    return s->index[place_of(s, id)];
}

static void index_remove(struct sched_swim *s, uint64_t id)
{
    uint32_t gap = place_of(s, id);
    for (uint32_t k = (gap + 1) & s->index_mask; s->index[k] != SWIM_NONE;
         k = (k + 1) & s->index_mask) {
        uint32_t home = home_of(s, sched_swim_table_announce(s, s->index[k])->id);
        if (((k - home) & s->index_mask) >= ((k - gap) & s->index_mask)) {
            s->index[gap] = s->index[k];
            gap = k;
        }
    }
    s->index[gap] = SWIM_NONE;
}

uint64_t sched_swim_table_share(const struct sched_swim *s, uint16_t slot)
{
    const struct swim_peer *p = &s->peers[slot];
    if (p->state != SCHED_PEER_ALIVE && p->state != SCHED_PEER_SUSPECT) {
        return 0;
    }
    return base_hash_mix64(sched_book_digest(s->book, p->book) ^ base_hash_mix64(p->inc));
}

/* The member's share of its bucket was `old` before the change. */
static void share_changed(struct sched_swim *s, uint16_t slot, uint64_t old)
{
    uint64_t diff = old ^ sched_swim_table_share(s, slot);
    if (diff != 0) {
        s->buckets[sched_swim_table_bucket(sched_swim_table_announce(s, slot)->id)] ^= diff;
        s->whole ^= diff;
        s->changed_us = s->now_us;
    }
}

static void heap_put(struct sched_swim *s, uint32_t pos, uint16_t timer)
{
    s->heap[pos] = timer;
    s->timers[timer].pos = (uint16_t)pos;
}

static void heap_up(struct sched_swim *s, uint32_t pos)
{
    uint16_t t = s->heap[pos];
    while (pos > 0 && s->timers[s->heap[(pos - 1) / 2]].due_us > s->timers[t].due_us) {
        heap_put(s, pos, s->heap[(pos - 1) / 2]);
        pos = (pos - 1) / 2;
    }
    heap_put(s, pos, t);
}

static void heap_down(struct sched_swim *s, uint32_t pos)
{
    uint16_t t = s->heap[pos];
    for (;;) {
        uint32_t kid = 2 * pos + 1;
        if (kid >= s->heap_n) {
            break;
        }
        if (kid + 1 < s->heap_n &&
            s->timers[s->heap[kid + 1]].due_us < s->timers[s->heap[kid]].due_us) {
            kid++;
        }
        if (s->timers[s->heap[kid]].due_us >= s->timers[t].due_us) {
            break;
        }
        heap_put(s, pos, s->heap[kid]);
        pos = kid;
    }
    heap_put(s, pos, t);
}

void sched_swim_table_timer_start(struct sched_swim *s, uint16_t slot, uint64_t due_us, uint64_t by)
{
    struct swim_peer *p = &s->peers[slot];
    REQUIRE(p->timer == SWIM_NONE);
    p->since_ds = (uint32_t)(s->now_us / 100000);
    uint16_t t = (uint16_t)s->free_timer;
    if (t != SWIM_NONE) {
        s->free_timer = s->timers[t].pos;
    } else if (s->timers_high < s->timers_max) {
        t = (uint16_t)s->timers_high++;
    } else {
        s->untimed++;
        return;
    }
    s->timers[t] = (struct swim_timer){
        .due_us = due_us, .start_us = s->now_us, .by = {by}, .slot = slot, .by_n = 1};
    p->timer = t;
    s->heap[s->heap_n] = t;
    heap_up(s, s->heap_n++);
}

void sched_swim_table_timer_move(struct sched_swim *s, uint16_t timer, uint64_t due_us)
{
    uint32_t pos = s->timers[timer].pos;
    s->timers[timer].due_us = due_us;
    heap_up(s, pos);
    heap_down(s, s->timers[timer].pos);
}

/* Ends what runs for a member that is suspected, dead or gone. */
static void timer_stop(struct sched_swim *s, uint16_t slot)
{
    struct swim_peer *p = &s->peers[slot];
    if (p->timer == SWIM_NONE) {
        s->untimed -= p->state >= SCHED_PEER_SUSPECT && slot != SWIM_SELF ? 1 : 0;
        return;
    }
    uint16_t t = p->timer;
    uint32_t pos = s->timers[t].pos;
    p->timer = SWIM_NONE;
    uint16_t last = s->heap[--s->heap_n];
    if (last != t) {
        heap_put(s, pos, last);
        heap_up(s, pos);
        heap_down(s, s->timers[last].pos);
    }
    s->timers[t].pos = (uint16_t)s->free_timer;
    s->free_timer = t;
}

/* At a random place among those still to be probed, or next. */
static void order_insert(struct sched_swim *s, uint16_t slot, bool next)
{
    if (s->order_n == s->members_max) {
        return; /* it comes in when the order is made anew */
    }
    uint32_t at = s->order_at;
    at += next ? 0 : (uint32_t)base_hash_rng_below(&s->rng, s->order_n - at + 1);
    s->order[s->order_n++] = s->order[at];
    s->order[at] = slot;
}

static void order_renew(struct sched_swim *s)
{
    s->order_n = s->order_at = 0;
    for (uint32_t i = 1; i < s->high; i++) {
        if (s->peers[i].state != SCHED_PEER_NONE) {
            uint64_t at = base_hash_rng_below(&s->rng, s->order_n + 1);
            s->order[s->order_n++] = s->order[at];
            s->order[at] = (uint16_t)i;
        }
    }
}

static bool is_present(const struct sched_swim *s, uint32_t slot)
{
    return s->peers[slot].state == SCHED_PEER_ALIVE || s->peers[slot].state == SCHED_PEER_SUSPECT;
}

uint16_t sched_swim_table_target(struct sched_swim *s)
{
    for (int renewed = 0; renewed < 2; renewed++) {
        while (s->order_at < s->order_n) {
            uint16_t slot = s->order[s->order_at++];
            if (is_present(s, slot)) {
                return slot;
            }
        }
        order_renew(s);
    }
    return SWIM_NONE;
}

static bool is_in(uint32_t slot, const uint16_t *list, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        if (list[i] == slot) {
            return true;
        }
    }
    return false;
}

uint16_t sched_swim_table_random(struct sched_swim *s, const uint16_t *skip, unsigned skip_n)
{
    if (s->high < 2) {
        return SWIM_NONE;
    }
    uint32_t slot = 1;
    for (int tries = 0; tries < 16; tries++) {
        slot = 1 + (uint32_t)base_hash_rng_below(&s->rng, s->high - 1);
        if (is_present(s, slot) && !is_in(slot, skip, skip_n)) {
            return (uint16_t)slot;
        }
    }
    for (uint32_t i = 1; i < s->high; i++) {
        slot = slot + 1 < s->high ? slot + 1 : 1;
        if (is_present(s, slot) && !is_in(slot, skip, skip_n)) {
            return (uint16_t)slot;
        }
    }
    return SWIM_NONE;
}

/* Effects of this step may point at the entry. */
static void release_later(struct sched_swim *s, uint32_t book)
{
    REQUIRE(s->released_n < SWIM_RELEASES_MAX);
    s->released[s->released_n++] = book;
}

void sched_swim_table_release(struct sched_swim *s)
{
    while (s->released_n > 0) {
        sched_book_release(s->book, s->released[--s->released_n]);
    }
}

static void tell(
    struct sched_swim *s, uint16_t slot, const struct swim_peer *old, enum sched_swim_cause cause)
{
    const struct swim_peer *p = &s->peers[slot];
    const struct sched_announce *a = sched_swim_table_announce(s, slot);
    struct sched_swim_fx *fx =
        sched_swim_send_fx(s, slot == SWIM_SELF ? SCHED_SWIM_FX_SELF : SCHED_SWIM_FX_PEER, a->id);
    fx->announce = p->state == SCHED_PEER_NONE ? NULL : a;
    fx->old_state = (enum sched_peer_state)old->state;
    fx->old_inc = old->inc;
    fx->state = (enum sched_peer_state)p->state;
    fx->inc = p->inc;
    fx->cause = cause;
}

uint16_t sched_swim_table_add(
    struct sched_swim *s, const struct sched_announce *a, uint32_t inc, enum sched_swim_cause cause)
{
    uint32_t slot = s->free_peer;
    if (slot == SWIM_NONE && s->high == s->members_max) {
        return SWIM_NONE;
    }
    uint32_t book = sched_book_hold(s->book, a);
    if (book == SCHED_BOOK_NONE) {
        return SWIM_NONE;
    }
    if (slot == SWIM_NONE) {
        slot = s->high++;
    } else {
        s->free_peer = s->peers[slot].inc;
    }
    uint32_t at = place_of(s, a->id);
    s->peers[slot] =
        (struct swim_peer){.book = book, .inc = inc, .timer = SWIM_NONE, .state = SCHED_PEER_ALIVE};
    s->index[at] = (uint16_t)slot;
    s->used++;
    s->count[SCHED_PEER_ALIVE]++;
    share_changed(s, (uint16_t)slot, 0);
    if (s->edges != NULL) {
        s->edges[slot] = (struct sched_edge){0};
    }
    if (slot != SWIM_SELF) {
        order_insert(s, (uint16_t)slot, cause == SCHED_SWIM_BY_SYNC && s->joined);
        tell(s, (uint16_t)slot, &(struct swim_peer){0}, cause);
    }
    return (uint16_t)slot;
}

void sched_swim_table_move(struct sched_swim *s, uint16_t slot, uint32_t inc,
    enum sched_peer_state state, enum sched_swim_cause cause)
{
    struct swim_peer *p = &s->peers[slot], old = *p;
    REQUIRE(old.state != SCHED_PEER_NONE && state != SCHED_PEER_NONE);
    REQUIRE(sched_peer_newer(inc, state, old.inc, (enum sched_peer_state)old.state));
    uint64_t share = sched_swim_table_share(s, slot);
    timer_stop(s, slot);
    s->count[old.state]--;
    s->count[state]++;
    p->inc = inc;
    p->state = (uint8_t)state;
    share_changed(s, slot, share);
    tell(s, slot, &old, cause);
}

bool sched_swim_table_reannounce(
    struct sched_swim *s, uint16_t slot, const struct sched_announce *a)
{
    uint32_t book = sched_book_hold(s->book, a);
    if (book == SCHED_BOOK_NONE) {
        return false;
    }
    struct swim_peer *p = &s->peers[slot];
    REQUIRE(sched_swim_table_announce(s, slot)->id == a->id);
    if (s->edges != NULL && sched_swim_table_announce(s, slot)->boot != a->boot) {
        s->edges[slot] = (struct sched_edge){0};
    }
    uint64_t share = sched_swim_table_share(s, slot);
    release_later(s, p->book);
    p->book = book;
    share_changed(s, slot, share);
    return true;
}

void sched_swim_table_forget(struct sched_swim *s, uint16_t slot, enum sched_swim_cause cause)
{
    REQUIRE(slot != SWIM_SELF);
    struct swim_peer *p = &s->peers[slot], old = *p;
    uint64_t share = sched_swim_table_share(s, slot);
    timer_stop(s, slot);
    sched_gossip_forget(&s->gossip, slot);
    s->count[old.state]--;
    p->state = SCHED_PEER_NONE;
    p->inc = 0;
    share_changed(s, slot, share);
    tell(s, slot, &old, cause);
    index_remove(s, sched_swim_table_announce(s, slot)->id);
    release_later(s, p->book);
    p->inc = s->free_peer;
    s->free_peer = slot;
    s->used--;
}
