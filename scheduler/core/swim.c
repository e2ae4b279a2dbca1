#include "scheduler/core/swim.h"

#include <string.h>

#include "proto/base/assert.h"
#include "scheduler/core/swim_impl.h"

void sched_swim_params_default(struct sched_swim_params *p)
{
    *p = (struct sched_swim_params){
        .period_ms = 500,
        .ping_min_ms = 50,
        .ping_max_ms = 200,
        .gossip_ms = 100,
        .suspect_mult = 3,
        .suspect_max_mult = 6,
        .confirmations = 3,
        .stall_cap_ms = 50,
        .deaf_ms = 30000,
        .dead_keep_ms = 30000,
        .reclaim_ms = 2000,
        .reclaim_member_us = 10000,
        .sync_ms = 30000,
        .root_ms = 1000,
        .seed_ms = 5000,
        .edge_ms = 10000,
        .edge_member_ms = 50,
        .leave_ms = 3000,
        .rate = 8192,
        .burst = 16384,
        .indirect = 3,
        .retries = 3,
        .fanout = 3,
        .fanout_edge = 1,
        .lambda = 4,
        .lambda_edge = 1,
        .health_max = 8,
        .nack = true,
        .buddy = true,
        .refused_hint = true,
    };
}

void sched_swim_params_fast(struct sched_swim_params *p)
{
    sched_swim_params_default(p);
    p->period_ms = 250;
    p->ping_max_ms = 100;
    p->root_ms = 500;
}

static bool params_valid(const struct sched_swim_params *p)
{
    return p->period_ms >= 10 && p->period_ms <= 60000 && p->ping_min_ms >= 1 &&
           p->ping_min_ms <= p->ping_max_ms && p->ping_max_ms <= p->period_ms &&
           p->gossip_ms >= 1 && p->suspect_mult >= 1 && p->suspect_mult <= 100 &&
           p->suspect_max_mult >= 1 && p->suspect_max_mult <= 100 &&
           p->confirmations <= SWIM_CONFIRM_MAX && p->reclaim_ms >= 1 && p->sync_ms >= 1 &&
           p->seed_ms >= 5 && p->indirect <= 4 && p->retries <= 8 && p->fanout >= 1 &&
           p->fanout <= 8 && p->fanout_edge >= 1 && p->fanout_edge <= 8 && p->health_max <= 15 &&
           (p->rate == 0 || p->burst >= 2 * SCHED_SWIM_BODY_BYTES_MAX);
}

static bool cfg_valid(const struct sched_swim_cfg *c)
{
    return params_valid(&c->params) && sched_announce_valid(&c->self) && c->incarnation >= 1 &&
           c->incarnation < SCHED_INC_MAX && c->members_max >= 2 &&
           c->members_max <= SCHED_SWIM_MEMBERS_MAX && c->timers_max >= 1 &&
           c->timers_max <= c->members_max && c->queue_max >= 8 &&
           c->queue_max <= SCHED_GOSSIP_QUEUE_MAX && c->seeds <= SCHED_SWIM_SEEDS_MAX;
}

static uint32_t index_size(uint32_t members_max)
{
    uint32_t n = 4;
    while (n < members_max + members_max / 3) {
        n *= 2;
    }
    return n;
}

/* Sizes of the parts behind the struct, each a multiple of 8. */
struct layout {
    size_t peers, edges, timers, gossip, index, order, heap;
};

static size_t round8(size_t n)
{
    return (n + 7) & ~(size_t)7;
}

static struct layout layout_of(const struct sched_swim_cfg *c)
{
    return (struct layout){
        .peers = round8(c->members_max * sizeof(struct swim_peer)),
        .edges = c->edges ? c->members_max * sizeof(struct sched_edge) : 0,
        .timers = c->timers_max * sizeof(struct swim_timer),
        .gossip = round8(sched_gossip_size(c->queue_max, c->members_max)),
        .index = index_size(c->members_max) * sizeof(uint16_t),
        .order = round8(c->members_max * sizeof(uint16_t)),
        .heap = round8(c->timers_max * sizeof(uint16_t)),
    };
}

size_t sched_swim_size(const struct sched_swim_cfg *cfg)
{
    if (!cfg_valid(cfg)) {
        return 0;
    }
    struct layout l = layout_of(cfg);
    return round8(sizeof(struct sched_swim)) + l.peers + l.edges + l.timers + l.gossip + l.index +
           l.order + l.heap;
}

static void *carve(uint8_t **at, size_t n)
{
    void *p = *at;
    *at += n;
    return p;
}

static void lay_out(struct sched_swim *s, const struct sched_swim_cfg *cfg)
{
    struct layout l = layout_of(cfg);
    uint8_t *at = (uint8_t *)s + round8(sizeof *s);
    s->peers = carve(&at, l.peers);
    s->edges = l.edges > 0 ? carve(&at, l.edges) : NULL;
    s->timers = carve(&at, l.timers);
    int rc = sched_gossip_init(
        &s->gossip, cfg->queue_max, cfg->members_max, carve(&at, l.gossip), l.gossip);
    REQUIRE(rc == 0);
    s->index = carve(&at, l.index);
    s->order = carve(&at, l.order);
    s->heap = carve(&at, l.heap);
    s->index_mask = index_size(cfg->members_max) - 1;
    memset(s->index, 0xff, l.index);
    s->members_max = cfg->members_max;
    s->timers_max = cfg->timers_max;
    s->free_peer = s->free_timer = SWIM_NONE;
}

struct sched_swim *sched_swim_init(
    const struct sched_swim_cfg *cfg, uint64_t now_ns, void *mem, size_t mem_size)
{
    size_t size = sched_swim_size(cfg);
    if (size == 0 || mem_size < size) {
        return NULL;
    }
    struct sched_swim *s = mem;
    memset(s, 0, sizeof *s);
    lay_out(s, cfg);
    s->p = cfg->params;
    s->book = cfg->book;
    s->self = cfg->self;
    s->dynamic = cfg->dynamic;
    s->dynamic.edge = 0;
    s->seed_n = cfg->seeds;
    s->joined = cfg->seeds == 0;
    base_hash_rng_seed(&s->rng, cfg->seed);
    s->last_us = s->promised_us = now_ns / 1000;
    s->now_us = 1; /* 0 means "not running" in relays */
    s->heard_us = s->now_us;
    s->rtt_us = s->p.ping_max_ms * 1000 / 3;
    s->edge_told = sched_edge_of(&s->dynamic, cfg->incarnation);
    sched_budget_init(&s->budget, s->p.rate, s->p.burst, s->now_us);
    uint16_t slot = sched_swim_table_add(s, &s->self, cfg->incarnation, SCHED_SWIM_BY_NEWS);
    if (slot != SWIM_SELF) {
        return NULL;
    }
    s->probe.end_us = s->now_us + base_hash_rng_below(&s->rng, s->p.period_ms * UINT64_C(1000));
    s->sync_us = s->now_us + base_hash_rng_below(&s->rng, s->p.sync_ms * UINT64_C(1000));
    s->seed_us = s->now_us;
    return s;
}

void sched_swim_deinit(struct sched_swim *s)
{
    sched_swim_table_release(s);
    for (uint32_t i = 0; i < s->high; i++) {
        if (s->peers[i].state != SCHED_PEER_NONE) {
            sched_book_release(s->book, s->peers[i].book);
        }
    }
}

/* Moves the active clock. A turn that comes later than it was asked for moves it by no more than
 * the cap: what this node slept through is not held against others. */
static void advance(struct sched_swim *s, uint64_t now_ns)
{
    uint64_t now = now_ns / 1000, cap = s->p.stall_cap_ms * UINT64_C(1000);
    if (now <= s->last_us) {
        return;
    }
    uint64_t dt = now - s->last_us;
    uint64_t due = s->promised_us > s->last_us ? s->promised_us : s->last_us;
    if (cap > 0 && now > due && now - due > cap) {
        s->stats.stalls++;
        s->grace = !MUTANT(112); /* timers fire before waiting packets are read */
        if (!MUTANT(106)) {      /* the clock is not the active one */
            dt -= now - due - cap;
        }
        if (now - due > s->p.period_ms * UINT64_C(2000)) {
            sched_swim_sync_soon(s); /* much may have been said in the meantime */
        }
    }
    s->last_us = now;
    s->now_us += dt;
}

static uint64_t due_us(const struct sched_swim *s)
{
    if (s->stopped) {
        return SWIM_NEVER;
    }
    uint64_t due = sched_swim_probe_due(s), sync = sched_swim_sync_due(s);
    due = sync < due ? sync : due;
    if (!sched_gossip_empty(&s->gossip) && s->gossip_us < due) {
        due = s->gossip_us;
    }
    if (s->heap_n > 0 && s->timers[s->heap[0]].due_us < due) {
        due = s->timers[s->heap[0]].due_us;
    }
    if (s->edge_dirty && s->edge_us < due) {
        due = s->edge_us;
    }
    return s->leaving && s->leave_us < due ? s->leave_us : due;
}

static void promise(struct sched_swim *s)
{
    uint64_t due = due_us(s);
    if (due == SWIM_NEVER) {
        s->promised_us = SWIM_NEVER / 1000;
        return;
    }
    uint64_t wait = due > s->now_us ? due - s->now_us : 0;
    s->promised_us = s->last_us + (s->pause && wait < 1000 ? 1000 : wait);
    s->pause = false;
}

uint64_t sched_swim_deadline_ns(const struct sched_swim *s)
{
    return s->stopped ? UINT64_MAX : s->promised_us * 1000;
}

/* Own edge: told when it differs from what was told last, and not too often. */
static void edge_tick(struct sched_swim *s)
{
    if (!s->edge_dirty || s->now_us < s->edge_us) {
        return;
    }
    struct sched_edge e = sched_edge_of(&s->dynamic, s->peers[SWIM_SELF].inc);
    s->edge_dirty = false;
    if (e.room == s->edge_told.room && e.flags == s->edge_told.flags) {
        return; /* there and back again */
    }
    uint64_t per_member = (uint64_t)s->p.edge_member_ms * sched_swim_table_present(s);
    s->edge_us = s->now_us + 1000 * (per_member > s->p.edge_ms ? per_member : s->p.edge_ms);
    s->dynamic.edge++;
    e.number = s->dynamic.edge;
    s->edge_told = e;
    if (s->edges != NULL) {
        s->edges[SWIM_SELF] = e;
        sched_swim_send_news(s, SCHED_GOSSIP_EDGE, SWIM_SELF, 0);
    }
}

static void leave_tick(struct sched_swim *s)
{
    if (s->leaving && (sched_gossip_empty(&s->gossip) || s->now_us >= s->leave_us ||
                          sched_swim_table_present(s) == 0)) {
        s->stopped = true;
        (void)sched_swim_send_fx(s, SCHED_SWIM_FX_LEFT, s->self.id);
    }
}

static void tick(struct sched_swim *s)
{
    if (s->grace) {
        s->grace = false;
        s->pause = true;
        return;
    }
    sched_swim_claim_tick(s);
    sched_swim_probe_tick(s);
    edge_tick(s);
    sched_swim_send_gossip_tick(s);
    sched_swim_sync_tick(s);
    leave_tick(s);
}

static void on_ping(struct sched_swim *s, const struct sched_swim_event *ev)
{
    uint16_t slot = sched_swim_table_find(s, ev->from);
    bool known = slot != SWIM_NONE && sched_swim_table_announce(s, slot)->boot == ev->from_boot;
    sched_swim_send_packet(s, &(struct swim_out){.to = ev->from,
                                  .channel = ev->channel,
                                  .type = SCHED_SWIM_ACK,
                                  .seq = ev->packet->seq,
                                  .flags = known ? 0 : SCHED_SWIM_WHO,
                                  .reply = true});
}

static void dispatch(struct sched_swim *s, const struct sched_swim_event *ev)
{
    switch (ev->packet->type) {
    case SCHED_SWIM_PING:
        on_ping(s, ev);
        break;
    case SCHED_SWIM_ACK:
        sched_swim_probe_on_ack(s, ev->from, ev->packet);
        break;
    case SCHED_SWIM_PING_REQ:
        sched_swim_probe_on_ping_req(s, ev->from, ev->packet);
        break;
    case SCHED_SWIM_NACK:
        sched_swim_probe_on_nack(s, ev->from, ev->packet);
        break;
    case SCHED_SWIM_GOSSIP:
        break;
    case SCHED_SWIM_JOIN:
        sched_swim_sync_on_join(s, ev->from, ev->packet);
        break;
    case SCHED_SWIM_DIGEST:
        sched_swim_sync_on_digest(s, ev->from, ev->packet);
        break;
    case SCHED_SWIM_TABLE:
        sched_swim_sync_on_table(s, ev->from, ev->packet);
        break;
    case SCHED_SWIM_TYPES:
        break;
    }
}

/* Own packet: a seed address may be this node's. Or a twin: somebody else with this id. */
static void from_self(struct sched_swim *s, const struct sched_swim_event *ev)
{
    if (ev->from_boot != s->self.boot) {
        struct sched_swim_fx *fx = sched_swim_send_fx(s, SCHED_SWIM_FX_ODD, s->self.id);
        fx->odd = SCHED_SWIM_ODD_TWIN;
        fx->other = ev->from_boot;
        return;
    }
    for (unsigned i = 0; ev->packet->type == SCHED_SWIM_JOIN && i < s->seed_n; i++) {
        if (s->seeds[i].asked && s->seeds[i].seq == ev->packet->seq) {
            s->seeds[i].id = s->self.id;
        }
    }
}

static void on_packet(struct sched_swim *s, const struct sched_swim_event *ev)
{
    const struct sched_swim_packet *p = ev->packet;
    if (ev->from == s->self.id) {
        from_self(s, ev);
        return;
    }
    if (p->version < s->self.proto_min || p->version > s->self.proto_max ||
        p->inc > SCHED_INC_MAX || ev->from == 0) {
        s->stats.bad++;
        return;
    }
    s->heard_us = s->now_us;
    struct swim_source src = {.from = ev->from,
        .alive = p->alive,
        .humble = sched_swim_sync_humble(s, ev->from, p),
        .cause = p->type == SCHED_SWIM_TABLE ? SCHED_SWIM_BY_SYNC : SCHED_SWIM_BY_NEWS};
    uint16_t slot = sched_swim_table_find(s, ev->from);
    if (slot != SWIM_NONE && sched_swim_table_announce(s, slot)->boot != ev->from_boot) {
        s->stranger = ev->from;
    }
    sched_swim_claim_sender(s, ev->from, ev->from_boot, p->inc);
    for (uint16_t i = 0; i < p->update_count; i++) {
        sched_swim_claim_apply(s, &p->updates[i], &src);
    }
    slot = sched_swim_table_find(s, ev->from);
    if (p->has_dynamic && slot != SWIM_NONE) {
        const struct sched_announce *a = sched_swim_table_announce(s, slot);
        struct sched_edge e = sched_edge_of(&p->dynamic, p->inc);
        struct sched_swim_fx *fx = sched_swim_send_fx(s, SCHED_SWIM_FX_DYNAMIC, ev->from);
        fx->announce = a;
        fx->dynamic = p->dynamic;
        if (p->inc != 0 && a->boot == ev->from_boot) {
            sched_swim_claim_edge(s, slot, &e, true);
        }
    }
    if (slot != SWIM_NONE) {
        sched_swim_sync_heard(s, ev->from);
        sched_swim_sync_on_root(s, ev->from, p->root);
    }
    dispatch(s, ev);
}

static void on_dynamic(struct sched_swim *s, const struct sched_dynamic *d)
{
    uint8_t edge = s->dynamic.edge;
    s->dynamic = *d;
    s->dynamic.edge = edge;
    struct sched_edge e = sched_edge_of(d, 0);
    s->edge_dirty = e.room != s->edge_told.room || e.flags != s->edge_told.flags;
}

static void on_self(struct sched_swim *s, const struct sched_announce *a)
{
    REQUIRE(sched_announce_valid(a) && a->id == s->self.id && a->boot == s->self.boot);
    if (s->leaving || !sched_swim_table_reannounce(s, SWIM_SELF, a)) {
        return;
    }
    s->self = *a;
    sched_swim_claim_raise(s, 0);
}

static void on_leave(struct sched_swim *s)
{
    if (s->leaving) {
        return;
    }
    s->leaving = true;
    s->leave_us = s->now_us + s->p.leave_ms * UINT64_C(1000);
    uint32_t inc = s->peers[SWIM_SELF].inc + 1;
    sched_swim_table_move(s, SWIM_SELF, inc, SCHED_PEER_LEFT, SCHED_SWIM_BY_NEWS);
    sched_swim_send_news(s, SCHED_GOSSIP_MEMBER, SWIM_SELF, s->self.id);
}

void sched_swim_step(
    struct sched_swim *s, const struct sched_swim_event *ev, struct sched_swim_effects *fx)
{
    fx->n = fx->update_n = 0;
    if (s->stopped) {
        return;
    }
    s->fx = fx;
    s->accused_by = s->stranger = 0;
    sched_swim_table_release(s);
    advance(s, ev->now_ns);
    switch (ev->kind) {
    case SCHED_SWIM_EV_TICK:
        tick(s);
        break;
    case SCHED_SWIM_EV_PACKET:
        on_packet(s, ev);
        break;
    case SCHED_SWIM_EV_REFUSED:
        sched_swim_probe_refused(s, ev->from);
        break;
    case SCHED_SWIM_EV_DYNAMIC:
        on_dynamic(s, ev->dynamic);
        break;
    case SCHED_SWIM_EV_SELF:
        on_self(s, ev->self);
        break;
    case SCHED_SWIM_EV_LEAVE:
        on_leave(s);
        break;
    }
    promise(s);
    s->fx = NULL;
}
