#include <string.h>

#include "proto/base/assert.h"
#include "scheduler/core/swim_impl.h"

/* Effects, packets, and what rides along with them. */

struct sched_swim_fx *sched_swim_send_fx(
    struct sched_swim *s, enum sched_swim_fx_kind kind, uint64_t peer)
{
    struct sched_swim_effects *e = s->fx;
    REQUIRE(e->n < SCHED_SWIM_FX_MAX); /* the largest step is counted in tests */
    struct sched_swim_fx *fx = &e->fx[e->n++];
    memset(fx, 0, sizeof *fx);
    fx->kind = kind;
    fx->peer = peer;
    return fx;
}

struct sched_update *sched_swim_send_updates(struct sched_swim *s, unsigned n)
{
    struct sched_swim_effects *e = s->fx;
    if (e->update_n + n > sizeof e->updates / sizeof e->updates[0]) {
        return NULL;
    }
    return &e->updates[e->update_n];
}

struct sched_update sched_swim_send_update_of(
    const struct sched_swim *s, uint16_t slot, uint64_t by)
{
    const struct swim_peer *p = &s->peers[slot];
    const struct sched_announce *a = sched_swim_table_announce(s, slot);
    struct sched_update u = {.kind = (enum sched_update_kind)p->state,
        .inc = p->inc,
        .id = a->id,
        .by = by,
        .announce = a};
    return u;
}

static struct sched_update edge_of(const struct sched_swim *s, uint16_t slot)
{
    const struct sched_edge *e = &s->edges[slot];
    return (struct sched_update){.kind = SCHED_UPDATE_EDGE,
        .inc = e->inc,
        .id = sched_swim_table_announce(s, slot)->id,
        .edge = *e};
}

static struct sched_update update_of_pick(
    const struct sched_swim *s, const struct sched_gossip_pick *pick)
{
    if (pick->class == SCHED_GOSSIP_EDGE) {
        return edge_of(s, pick->member);
    }
    return sched_swim_send_update_of(s, pick->member, pick->by);
}

static size_t size_of_pick(const void *ctx, const struct sched_gossip_pick *pick)
{
    struct sched_update u = update_of_pick(ctx, pick);
    return sched_update_bytes(&u);
}

void sched_swim_send_news(
    struct sched_swim *s, enum sched_gossip_class class, uint16_t slot, uint64_t by)
{
    if (sched_gossip_empty(&s->gossip)) {
        s->gossip_us = s->now_us + base_hash_rng_below(&s->rng, s->p.gossip_ms * UINT64_C(1000));
    }
    sched_gossip_put(&s->gossip, class, slot, by);
}

/* lambda * ceil(log10(n + 1)) */
uint8_t sched_swim_send_times(const struct sched_swim *s, unsigned lambda)
{
    unsigned digits = 1;
    for (uint32_t n = sched_swim_table_present(s) + 1; n > 10; n = (n + 9) / 10) {
        digits++;
    }
    unsigned times = lambda * digits;
    return (uint8_t)(times < 1                        ? 1
                     : times < SCHED_GOSSIP_SENDS_MAX ? times
                                                      : SCHED_GOSSIP_SENDS_MAX);
}

/* A packet in the making. */
struct draft {
    struct sched_swim_packet *packet;
    struct sched_update *updates; /* room for SCHED_SWIM_UPDATES_MAX, or NULL */
    size_t bytes;                 /* with all headers */
    size_t bytes_max;
};

static bool draft_add(struct draft *d, const struct sched_update *u)
{
    size_t size = sched_update_bytes(u);
    if (d->updates == NULL || d->packet->update_count == SCHED_SWIM_UPDATES_MAX ||
        d->bytes + size > d->bytes_max) {
        return false;
    }
    d->updates[d->packet->update_count++] = *u;
    d->bytes += size;
    return true;
}

/* What goes before all queued news: what this node is, to one who asked or is wrong about it, and
 * what is said of the receiver, so that it can refute. */
static void add_first(
    struct sched_swim *s, struct draft *d, const struct swim_out *o, uint16_t slot)
{
    if (o->self_first || (o->to != 0 && o->to == s->accused_by)) {
        struct sched_update u = sched_swim_send_update_of(s, SWIM_SELF, 0);
        (void)draft_add(d, &u);
    }
    if (slot == SWIM_NONE || !s->p.buddy || MUTANT(102)) { /* the suspect is not told */
        return;
    }
    const struct swim_peer *p = &s->peers[slot];
    if (p->state >= SCHED_PEER_SUSPECT || (o->to == s->stranger && !MUTANT(115))) { /* not told */
        uint64_t by = p->timer == SWIM_NONE ? s->self.id : s->timers[p->timer].by[0];
        struct sched_update u = sched_swim_send_update_of(s, slot, by);
        (void)draft_add(d, &u);
    }
}

static void add_news(struct sched_swim *s, struct draft *d, uint16_t slot)
{
    if (sched_gossip_empty(&s->gossip) || d->updates == NULL) {
        return;
    }
    struct sched_gossip_pick picks[SCHED_SWIM_UPDATES_MAX];
    struct sched_gossip_ask ask = {.room = d->bytes_max - d->bytes,
        .skip = slot == SWIM_NONE ? UINT32_MAX : slot,
        .size = size_of_pick,
        .ctx = s};
    ask.sends[SCHED_GOSSIP_MEMBER] = sched_swim_send_times(s, s->p.lambda);
    ask.sends[SCHED_GOSSIP_EDGE] = sched_swim_send_times(s, s->p.lambda_edge);
    size_t room = sched_budget_room(&s->budget, SCHED_BUDGET_MEMBER, s->now_us);
    ask.allowed[SCHED_GOSSIP_MEMBER] = room > d->bytes + SCHED_UPDATE_BYTES_MAX;
    if (!ask.allowed[SCHED_GOSSIP_MEMBER]) {
        s->stats.over_budget++;
        return;
    }
    ask.room = ask.room < room - d->bytes ? ask.room : room - d->bytes;
    ask.allowed[SCHED_GOSSIP_EDGE] =
        sched_budget_room(&s->budget, SCHED_BUDGET_EDGE, s->now_us) > d->bytes;
    size_t bytes;
    size_t n = sched_gossip_take(
        &s->gossip, &ask, picks, SCHED_SWIM_UPDATES_MAX - d->packet->update_count, &bytes);
    for (size_t i = 0; i < n; i++) {
        d->updates[d->packet->update_count++] = update_of_pick(s, &picks[i]);
    }
    d->bytes += bytes;
}

/* The version both ends understand; the own lowest to one who is not known. */
static uint8_t version_for(const struct sched_swim *s, uint16_t slot)
{
    if (slot == SWIM_NONE) {
        return s->self.proto_min;
    }
    const struct sched_announce *a = sched_swim_table_announce(s, slot);
    return a->proto_max < s->self.proto_max ? a->proto_max : s->self.proto_max;
}

struct sched_swim_fx *sched_swim_send_open(struct sched_swim *s, const struct swim_out *o)
{
    uint16_t slot = o->to == 0 ? SWIM_NONE : sched_swim_table_find(s, o->to);
    struct sched_swim_fx *fx = sched_swim_send_fx(s, SCHED_SWIM_FX_SEND, o->to);
    fx->channel = o->channel;
    fx->seed = o->seed;
    fx->announce = o->reply || slot == SWIM_NONE ? NULL : sched_swim_table_announce(s, slot);
    struct sched_swim_packet *p = &fx->packet;
    p->version = version_for(s, slot);
    p->type = o->type;
    p->flags = o->flags;
    p->seq = o->seq;
    p->inc = s->leaving ? 0 : s->peers[SWIM_SELF].inc;
    p->target = o->target;
    if (o->type == SCHED_SWIM_PING || o->type == SCHED_SWIM_ACK) {
        p->has_dynamic = true;
        p->dynamic = s->dynamic;
        p->dynamic.health = (uint8_t)s->health;
        p->root = sched_swim_sync_root(s);
    }
    if (o->type >= SCHED_SWIM_JOIN) {
        p->alive = sched_swim_table_present(s);
    }
    return fx;
}

void sched_swim_send_packet(struct sched_swim *s, const struct swim_out *o)
{
    uint16_t slot = o->to == 0 ? SWIM_NONE : sched_swim_table_find(s, o->to);
    struct sched_swim_packet *p = &sched_swim_send_open(s, o)->packet;
    struct draft d = {.packet = p,
        .updates = sched_swim_send_updates(s, SCHED_SWIM_UPDATES_MAX),
        .bytes = sched_swim_packet_bytes(p) + SCHED_SWIM_PACKET_COST,
        .bytes_max = SCHED_SWIM_BODY_BYTES_MAX + SCHED_SWIM_PACKET_COST};
    p->updates = d.updates;
    if (o->channel == SCHED_SWIM_UDP &&
        sched_budget_room(&s->budget, SCHED_BUDGET_URGENT, s->now_us) < d.bytes) {
        s->stats.over_budget++;
        s->fx->n--;
        return;
    }
    add_first(s, &d, o, slot);
    if (o->channel == SCHED_SWIM_UDP) {
        add_news(s, &d, slot);
    }
    if (o->type == SCHED_SWIM_GOSSIP && p->update_count == 0) {
        s->fx->n--;
        return;
    }
    s->fx->update_n += p->update_count;
    if (o->channel == SCHED_SWIM_UDP) {
        sched_budget_spend(&s->budget, d.bytes);
        s->stats.bytes += d.bytes;
        s->stats.packets[o->type]++;
    }
}

void sched_swim_send_gossip_tick(struct sched_swim *s)
{
    if (sched_gossip_empty(&s->gossip) || s->now_us < s->gossip_us) {
        return;
    }
    s->gossip_us = s->now_us + s->p.gossip_ms * UINT64_C(1000);
    unsigned fanout = s->gossip.count[SCHED_GOSSIP_MEMBER] > 0 ? s->p.fanout : s->p.fanout_edge;
    uint16_t told[8];
    for (unsigned i = 0; i < fanout; i++) {
        told[i] = sched_swim_table_random(s, told, i);
        if (told[i] == SWIM_NONE) {
            return;
        }
        sched_swim_send_packet(s, &(struct swim_out){
                                      .to = sched_swim_table_announce(s, told[i])->id,
                                      .type = SCHED_SWIM_GOSSIP,
                                      .channel = SCHED_SWIM_UDP,
                                  });
    }
}

size_t sched_swim_packet_bytes(const struct sched_swim_packet *p)
{
    const size_t tlv = SCHED_SWIM_TLV_BYTES;
    size_t n = SCHED_SWIM_HEAD_BYTES;
    n += p->has_dynamic ? tlv + sched_dynamic_bytes(&p->dynamic) : 0;
    n += p->target != 0 ? tlv + sizeof p->target : 0;
    n += p->alive != 0 ? tlv + sizeof p->alive : 0;
    n += p->root != 0 ? tlv + sizeof p->root : 0;
    n += p->type == SCHED_SWIM_TABLE ? tlv + sizeof p->mask : 0;
    n += p->digest_count * sizeof(uint64_t);
    n += (p->digest_count + SCHED_SWIM_TLV_DIGESTS - 1u) / SCHED_SWIM_TLV_DIGESTS * tlv;
    for (uint16_t i = 0; i < p->update_count; i++) {
        n += sched_update_bytes(&p->updates[i]);
    }
    return n;
}
