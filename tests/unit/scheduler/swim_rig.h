#pragma once
#include "scheduler/core/swim.h"
#include "tests/lib/check.h"

/* One machine under test, fed by hand. Its id is 1, the others are 2, 3, ... with boot 100 + id. */
struct rig {
    struct sched_swim *s;
    struct sched_swim_cfg cfg;
    struct sched_book book;
    void *mem, *book_mem;
    uint64_t now_ns;
    struct sched_swim_effects fx; /* of the last step */
};

static inline struct sched_announce rig_announce(uint64_t id)
{
    return (struct sched_announce){.id = id,
        .boot = (uint32_t)(100 + id),
        .ip = {{10, 0, 0, (uint8_t)id}},
        .ip_version = {SCHED_IP_V4},
        .port = {7946, 7947, 7948},
        .weight = 10,
        .role = id % 2 == 0 ? SCHED_ROLE_WORKER : SCHED_ROLE_OBSERVER,
        .proto_min = 1,
        .proto_max = 1,
        .proto_now = 1};
}

static inline struct rig *rig_new(void)
{
    struct rig *r = calloc(1, sizeof *r);
    CHECK(r != NULL);
    size_t size = sched_book_size(256);
    r->book_mem = malloc(size);
    CHECK_EQ(sched_book_init(&r->book, 256, r->book_mem, size), 0);
    r->cfg = (struct sched_swim_cfg){.self = rig_announce(1),
        .incarnation = 1,
        .seed = 42,
        .members_max = 64,
        .timers_max = 64,
        .queue_max = 64,
        .edges = true,
        .book = &r->book};
    sched_swim_params_default(&r->cfg.params);
    r->cfg.params.retries = 0; /* so that every ping is a probe; but see a test of their own */
    r->now_ns = UINT64_C(5000000000);
    return r;
}

static inline void rig_init(struct rig *r)
{
    size_t size = sched_swim_size(&r->cfg);
    CHECK(size > 0);
    r->mem = malloc(size);
    CHECK(r->mem != NULL);
    memset(r->mem, 0xa5, size);
    r->s = sched_swim_init(&r->cfg, r->now_ns, r->mem, size);
    CHECK(r->s != NULL);
}

static inline void rig_free(struct rig *r)
{
    CHECK(sched_swim_check(r->s));
    sched_swim_deinit(r->s);
    CHECK_EQ(r->book.used, 0);
    free(r->mem);
    free(r->book_mem);
    free(r);
}

static inline void rig_step(struct rig *r, struct sched_swim_event ev)
{
    ev.now_ns = r->now_ns;
    sched_swim_step(r->s, &ev, &r->fx);
    CHECK(sched_swim_check(r->s));
}

/* A packet from `from`, whose incarnation is p.inc. */
static inline void rig_packet_as(
    struct rig *r, uint64_t from, uint32_t boot, struct sched_swim_packet p)
{
    p.version = p.version == 0 ? 1 : p.version;
    enum sched_swim_channel channel = p.type >= SCHED_SWIM_JOIN ? SCHED_SWIM_CTL : SCHED_SWIM_UDP;
    rig_step(r, (struct sched_swim_event){.kind = SCHED_SWIM_EV_PACKET,
                    .channel = channel,
                    .from = from,
                    .from_boot = boot,
                    .packet = &p});
}

static inline void rig_packet(struct rig *r, uint64_t from, struct sched_swim_packet p)
{
    rig_packet_as(r, from, (uint32_t)(100 + from), p);
}

static inline void rig_claim(struct rig *r, uint64_t from, struct sched_update u)
{
    struct sched_announce a = rig_announce(u.id);
    if (u.kind == SCHED_UPDATE_ALIVE && u.announce == NULL) {
        u.announce = &a;
    }
    rig_packet(r, from,
        (struct sched_swim_packet){.type = SCHED_SWIM_GOSSIP, .updates = &u, .update_count = 1});
}

/* Members 2 .. n are alive with incarnation 1. */
static inline void rig_know(struct rig *r, uint64_t n)
{
    for (uint64_t id = 2; id <= n; id++) {
        rig_claim(r, 2, (struct sched_update){.kind = SCHED_UPDATE_ALIVE, .inc = 1, .id = id});
    }
}

/* Ticks whenever the machine asks for it, up to `ms` from now, until it sends a packet of the type
 * (0: any time). Answers pings when ack is set. Returns the packet's effect or NULL. */
static inline const struct sched_swim_fx *rig_run(
    struct rig *r, uint64_t ms, enum sched_swim_type until, bool ack)
{
    uint64_t end = r->now_ns + ms * 1000000;
    while (sched_swim_deadline_ns(r->s) <= end) {
        uint64_t due = sched_swim_deadline_ns(r->s);
        r->now_ns = due > r->now_ns ? due : r->now_ns + 1000;
        rig_step(r, (struct sched_swim_event){.kind = SCHED_SWIM_EV_TICK});
        for (uint32_t i = 0; i < r->fx.n; i++) {
            const struct sched_swim_fx *fx = &r->fx.fx[i];
            if (fx->kind == SCHED_SWIM_FX_SEND && until != 0 && fx->packet.type == until) {
                return fx;
            }
        }
        for (uint32_t i = 0, n = r->fx.n; ack && i < n; i++) {
            const struct sched_swim_fx *fx = &r->fx.fx[i];
            if (fx->kind == SCHED_SWIM_FX_SEND && fx->packet.type == SCHED_SWIM_PING) {
                static struct sched_swim_effects saved;
                saved = r->fx;
                rig_packet(r, fx->peer,
                    (struct sched_swim_packet){.type = SCHED_SWIM_ACK, .seq = fx->packet.seq});
                r->fx = saved;
            }
        }
    }
    r->now_ns = end > r->now_ns ? end : r->now_ns;
    return NULL;
}

/* The n-th effect of a kind in the last step, or NULL. */
static inline const struct sched_swim_fx *rig_fx(
    const struct rig *r, enum sched_swim_fx_kind kind, unsigned n)
{
    for (uint32_t i = 0; i < r->fx.n; i++) {
        if (r->fx.fx[i].kind == kind && n-- == 0) {
            return &r->fx.fx[i];
        }
    }
    return NULL;
}

/* The first packet of a type in the last step, or NULL. */
static inline const struct sched_swim_fx *rig_sent(
    const struct rig *r, enum sched_swim_type type, unsigned n)
{
    for (uint32_t i = 0; i < r->fx.n; i++) {
        const struct sched_swim_fx *fx = &r->fx.fx[i];
        if (fx->kind == SCHED_SWIM_FX_SEND && fx->packet.type == type && n-- == 0) {
            return fx;
        }
    }
    return NULL;
}

/* The claim about a member in a packet, or NULL. */
static inline const struct sched_update *rig_about(const struct sched_swim_fx *fx, uint64_t id)
{
    for (uint16_t i = 0; fx != NULL && i < fx->packet.update_count; i++) {
        if (fx->packet.updates[i].id == id) {
            return &fx->packet.updates[i];
        }
    }
    return NULL;
}

static inline enum sched_peer_state rig_state(const struct rig *r, uint64_t id)
{
    struct sched_swim_peer p;
    return sched_swim_find(r->s, id, &p) ? p.state : SCHED_PEER_NONE;
}

static inline uint32_t rig_inc(const struct rig *r, uint64_t id)
{
    struct sched_swim_peer p;
    return sched_swim_find(r->s, id, &p) ? p.inc : 0;
}
