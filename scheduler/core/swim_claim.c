#include "proto/base/assert.h"
#include "scheduler/core/swim_impl.h"

/* What a claim about a member does: precedence, suspicion, refutation. */

/* 1000 * log10(n), a little below; n >= 1. */
static uint32_t log10_milli(uint32_t n)
{
    uint32_t whole = 31 - (uint32_t)__builtin_clz(n);
    uint64_t x = (uint64_t)n << (31 - whole); /* 1..2, 31 bits behind the point */
    uint32_t log2_q10 = whole << 10;
    for (uint32_t bit = 1 << 9; bit > 0; bit >>= 1) {
        x = x * x >> 31;
        if (x >> 32 != 0) {
            log2_q10 |= bit;
            x >>= 1;
        }
    }
    return (uint32_t)((uint64_t)log2_q10 * 30103 / 102400);
}

static uint64_t suspect_min_us(const struct sched_swim_params *p, uint32_t n)
{
    uint64_t scale = log10_milli(n);
    return p->suspect_mult * (uint64_t)p->period_ms * (scale > 1000 ? scale : 1000);
}

/* 1000 * log(c + 1) / log(k + 1): how much of the way from the longest to the shortest suspicion c
 * confirmations go when k are needed. */
static const uint16_t confirm_milli[SWIM_CONFIRM_MAX + 1][SWIM_CONFIRM_MAX + 1] = {
    {1000, 1000, 1000, 1000, 1000},
    {0, 1000, 1000, 1000, 1000},
    {0, 631, 1000, 1000, 1000},
    {0, 500, 792, 1000, 1000},
    {0, 431, 683, 861, 1000},
};

/* Confirmations that can be had: neither from the suspect nor from the first accuser. */
static unsigned confirmations_of(const struct sched_swim *s)
{
    uint32_t others = sched_swim_table_present(s);
    others = others > 2 ? others - 2 : 0;
    return others < s->p.confirmations ? others : s->p.confirmations;
}

uint64_t sched_swim_claim_suspect_us(const struct sched_swim *s, unsigned confirmed)
{
    uint64_t min = suspect_min_us(&s->p, sched_swim_table_present(s));
    uint64_t max = min * s->p.suspect_max_mult;
    uint64_t way = confirm_milli[confirmations_of(s)]
                                [confirmed < SWIM_CONFIRM_MAX ? confirmed : SWIM_CONFIRM_MAX];
    return max - (max - min) / 1000 * way;
}

uint64_t sched_swim_suspect_max_ms(const struct sched_swim_params *p, uint32_t n)
{
    return suspect_min_us(p, n < 1 ? 1 : n) * p->suspect_max_mult / 1000;
}

void sched_swim_claim_raise(struct sched_swim *s, uint32_t above)
{
    struct swim_peer *self = &s->peers[SWIM_SELF];
    uint32_t inc = above > self->inc ? above : self->inc;
    if (inc >= SCHED_INC_MAX) {
        s->stats.bad++;
        return;
    }
    if (!MUTANT(104)) { /* the incarnation is used again */
        sched_swim_table_move(
            s, SWIM_SELF, inc + 1, (enum sched_peer_state)self->state, SCHED_SWIM_BY_NEWS);
    }
    sched_swim_send_news(s, SCHED_GOSSIP_MEMBER, SWIM_SELF, s->self.id);
}

/* Somebody is wrong about this node: it alone may say so, by raising its incarnation. */
static void claim_about_self(
    struct sched_swim *s, const struct sched_update *u, const struct swim_source *src)
{
    uint32_t inc = s->peers[SWIM_SELF].inc;
    bool twin = false;
    if (u->kind == SCHED_UPDATE_ALIVE) {
        twin = u->announce->boot != s->self.boot;
        if (!twin && u->inc <= inc) {
            return; /* own news coming back */
        }
    }
    if (u->inc < inc || s->leaving || MUTANT(103)) { /* no refutation */
        return;
    }
    if (twin) {
        struct sched_swim_fx *fx = sched_swim_send_fx(s, SCHED_SWIM_FX_ODD, s->self.id);
        fx->odd = SCHED_SWIM_ODD_TWIN;
        fx->other = u->announce->boot;
    }
    s->accused_by = src->from;
    s->stats.refutations++;
    sched_swim_probe_health(s, 1);
    sched_swim_claim_raise(s, u->inc);
    if (u->kind == SCHED_UPDATE_DEAD) {
        sched_swim_sync_soon(s); /* it was given up: it has missed what was said since */
    }
}

static bool speaks_with(const struct sched_swim *s, const struct sched_announce *a)
{
    return a->proto_min <= s->self.proto_max && a->proto_max >= s->self.proto_min;
}

static void odd(struct sched_swim *s, const struct sched_announce *a, enum sched_swim_odd what)
{
    struct sched_swim_fx *fx = sched_swim_send_fx(s, SCHED_SWIM_FX_ODD, a->id);
    fx->odd = what;
    fx->other = a->boot;
}

/* A fresh node hears nothing but old news until its first table is complete. */
static void pass_on(struct sched_swim *s, uint16_t slot, uint64_t by, enum sched_swim_cause cause)
{
    if (cause != SCHED_SWIM_BY_SYNC || s->joined) {
        sched_swim_send_news(s, SCHED_GOSSIP_MEMBER, slot, by);
    }
}

static void claim_alive(struct sched_swim *s, uint16_t slot, const struct sched_update *u,
    const struct swim_source *src)
{
    const struct sched_announce *a = u->announce;
    if (!speaks_with(s, a)) {
        s->stats.wrong_version++;
        odd(s, a, SCHED_SWIM_ODD_VERSION);
        return;
    }
    if (slot != SWIM_NONE && s->peers[slot].state == SCHED_PEER_DEAD &&
        s->peers[slot].inc == u->inc && src->humble) {
        sched_swim_table_forget(s, slot, SCHED_SWIM_BY_SYNC);
        slot = SWIM_NONE;
    }
    if (slot == SWIM_NONE) {
        slot = sched_swim_table_add(s, a, u->inc, src->cause);
        if (slot == SWIM_NONE) {
            s->stats.full++;
            odd(s, a, SCHED_SWIM_ODD_FULL);
            return;
        }
        pass_on(s, slot, 0, src->cause);
        return;
    }
    struct swim_peer *p = &s->peers[slot];
    bool was_dead = p->state == SCHED_PEER_DEAD;
    if (!sched_peer_newer(u->inc, SCHED_PEER_ALIVE, p->inc, (enum sched_peer_state)p->state)) {
        return;
    }
    if (!sched_swim_table_reannounce(s, slot, a)) {
        s->stats.full++;
        return;
    }
    sched_swim_table_move(s, slot, u->inc, SCHED_PEER_ALIVE, src->cause);
    pass_on(s, slot, 0, src->cause);
    if (was_dead) {
        sched_swim_sync_revived(s, a->id);
    }
}

void sched_swim_claim_sender(struct sched_swim *s, uint64_t from, uint32_t boot, uint32_t inc)
{
    uint16_t slot = sched_swim_table_find(s, from);
    if (slot == SWIM_NONE || inc == 0 || sched_swim_table_announce(s, slot)->boot != boot) {
        return;
    }
    struct swim_peer *p = &s->peers[slot];
    if (!sched_peer_newer(inc, SCHED_PEER_ALIVE, p->inc, (enum sched_peer_state)p->state)) {
        return;
    }
    bool was_dead = p->state == SCHED_PEER_DEAD;
    sched_swim_table_move(s, slot, inc, SCHED_PEER_ALIVE, SCHED_SWIM_BY_SENDER);
    sched_swim_send_news(s, SCHED_GOSSIP_MEMBER, slot, 0);
    if (was_dead) {
        sched_swim_sync_revived(s, from);
    }
}

/* One more node suspects: the suspicion gets shorter, and the news goes on with its name. */
static void confirm(struct sched_swim *s, uint16_t slot, uint64_t by)
{
    uint16_t timer = s->peers[slot].timer;
    if (timer == SWIM_NONE) {
        return;
    }
    struct swim_timer *t = &s->timers[timer];
    for (unsigned i = 0; i < t->by_n; i++) {
        if (t->by[i] == by && !MUTANT(105)) { /* a name counts as often as it comes */
            return;
        }
    }
    if (t->by_n > confirmations_of(s) || t->by_n > SWIM_CONFIRM_MAX) {
        return;
    }
    t->by[t->by_n++] = by;
    uint64_t due_us = t->start_us + sched_swim_claim_suspect_us(s, t->by_n - 1u);
    if (due_us < t->due_us) {
        sched_swim_table_timer_move(s, timer, due_us);
    }
    sched_swim_send_news(s, SCHED_GOSSIP_MEMBER, slot, by);
}

void sched_swim_claim_suspect(
    struct sched_swim *s, uint16_t slot, uint32_t inc, uint64_t by, enum sched_swim_cause cause)
{
    struct swim_peer *p = &s->peers[slot];
    if (p->state == SCHED_PEER_SUSPECT && p->inc == inc) {
        confirm(s, slot, by);
        return;
    }
    if (!sched_peer_newer(inc, SCHED_PEER_SUSPECT, p->inc, (enum sched_peer_state)p->state)) {
        return;
    }
    sched_swim_table_move(s, slot, inc, SCHED_PEER_SUSPECT, cause);
    sched_swim_table_timer_start(s, slot, s->now_us + sched_swim_claim_suspect_us(s, 0), by);
    pass_on(s, slot, by, cause);
}

static void claim_gone(
    struct sched_swim *s, uint16_t slot, const struct sched_update *u, enum sched_swim_cause cause)
{
    struct swim_peer *p = &s->peers[slot];
    enum sched_peer_state state = (enum sched_peer_state)u->kind;
    if (!sched_peer_newer(u->inc, state, p->inc, (enum sched_peer_state)p->state)) {
        return;
    }
    sched_swim_table_move(s, slot, u->inc, state, cause);
    sched_swim_table_timer_start(s, slot, s->now_us + s->p.dead_keep_ms * UINT64_C(1000), u->by);
    pass_on(s, slot, u->by, cause);
}

/* A table says dead where this node says alive. The sender may have been cut off; whoever is
 * spoken of gets the chance to refute, unless the sender sees so few that it is not worth asking.
 */
static void claim_dead_in_table(struct sched_swim *s, uint16_t slot, const struct sched_update *u,
    const struct swim_source *src)
{
    const struct swim_peer *p = &s->peers[slot];
    if (p->state >= SCHED_PEER_DEAD || src->alive * UINT64_C(2) < sched_swim_table_present(s)) {
        return;
    }
    sched_swim_claim_suspect(s, slot, u->inc, src->from, src->cause);
}

void sched_swim_claim_edge(
    struct sched_swim *s, uint16_t slot, const struct sched_edge *e, bool direct)
{
    if (s->edges == NULL || slot == SWIM_SELF || slot == SWIM_NONE) {
        return;
    }
    struct sched_edge *old = &s->edges[slot];
    bool newer = old->inc == 0 || sched_edge_newer(e, old);
    if (!newer && !(direct && e->inc == old->inc && e->number == old->number)) {
        return;
    }
    bool changed = old->inc == 0 || e->room != old->room || e->flags != old->flags;
    *old = *e;
    if (newer && !direct) {
        sched_swim_send_news(s, SCHED_GOSSIP_EDGE, slot, 0);
    }
    if (changed) {
        struct sched_swim_fx *fx =
            sched_swim_send_fx(s, SCHED_SWIM_FX_EDGE, sched_swim_table_announce(s, slot)->id);
        fx->announce = sched_swim_table_announce(s, slot);
        fx->edge = *e;
    }
}

void sched_swim_claim_apply(
    struct sched_swim *s, const struct sched_update *u, const struct swim_source *src)
{
    if (u->inc == 0 || u->inc > SCHED_INC_MAX) {
        s->stats.bad++;
        return;
    }
    if (u->id == s->self.id) {
        if (u->kind != SCHED_UPDATE_EDGE) {
            claim_about_self(s, u, src);
        }
        return;
    }
    uint16_t slot = sched_swim_table_find(s, u->id);
    if (slot == SWIM_NONE && u->kind != SCHED_UPDATE_ALIVE) {
        return;
    }
    switch (u->kind) {
    case SCHED_UPDATE_ALIVE:
        claim_alive(s, slot, u, src);
        break;
    case SCHED_UPDATE_SUSPECT:
        sched_swim_claim_suspect(s, slot, u->inc, u->by, src->cause);
        break;
    case SCHED_UPDATE_DEAD:
        if (src->cause == SCHED_SWIM_BY_SYNC && !MUTANT(113)) { /* a table's dead are dead */
            claim_dead_in_table(s, slot, u, src);
            break;
        }
        claim_gone(s, slot, u, src->cause);
        break;
    case SCHED_UPDATE_LEFT:
        claim_gone(s, slot, u, src->cause);
        break;
    case SCHED_UPDATE_EDGE:
        sched_swim_claim_edge(s, slot, &u->edge, false);
        break;
    }
}

/* A suspicion or the memory of the dead has run out. */
static void fire(struct sched_swim *s, uint16_t slot)
{
    struct swim_peer *p = &s->peers[slot];
    if (p->state != SCHED_PEER_SUSPECT) {
        sched_swim_table_forget(s, slot, SCHED_SWIM_BY_TIMER);
        return;
    }
    struct sched_update u = {.kind = SCHED_UPDATE_DEAD, .inc = p->inc, .by = s->self.id};
    claim_gone(s, slot, &u, SCHED_SWIM_BY_TIMER);
}

void sched_swim_claim_tick(struct sched_swim *s)
{
    uint64_t period_us = s->p.period_ms * UINT64_C(1000) * (s->health + 1);
    bool deaf = s->now_us > 2 * period_us && sched_swim_probe_deaf(s, s->now_us - 2 * period_us);
    for (int i = 0; i < SWIM_FIRE_MAX && s->heap_n > 0; i++) {
        const struct swim_timer *t = &s->timers[s->heap[0]];
        if (t->due_us > s->now_us) {
            return;
        }
        if (deaf && s->peers[t->slot].state == SCHED_PEER_SUSPECT) {
            sched_swim_table_timer_move(s, s->heap[0], s->now_us + period_us);
            continue;
        }
        fire(s, t->slot);
    }
}

/* For those that found no timer: looks at a few members, once per period. */
void sched_swim_claim_sweep(struct sched_swim *s)
{
    for (int i = 0; i < SWIM_SWEEP_MAX && s->untimed > 0; i++) {
        s->sweep_at = s->sweep_at + 1 < s->high ? s->sweep_at + 1 : 1;
        const struct swim_peer *p = &s->peers[s->sweep_at];
        if (p->state < SCHED_PEER_SUSPECT || p->timer != SWIM_NONE) {
            continue;
        }
        uint32_t age_ds = (uint32_t)(s->now_us / 100000) - p->since_ds;
        uint64_t keep_us = p->state == SCHED_PEER_SUSPECT ? sched_swim_claim_suspect_us(s, 0)
                                                          : s->p.dead_keep_ms * UINT64_C(1000);
        if (age_ds * UINT64_C(100000) > keep_us) {
            fire(s, (uint16_t)s->sweep_at);
        }
    }
}
