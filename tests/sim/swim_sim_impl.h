#pragma once
#include "proto/base/hash.h"
#include "scheduler/wire/gossip_wire.h"
#include "tests/sim/swim_sim.h"

/* Private to swim_sim*.c. */

enum { SIM_SLOT_US = 64, SIM_SLOTS = 1 << 16, SIM_CUTS_MAX = 256, SIM_BACKLOG_MAX = 512 };

enum sim_ev_kind { SIM_TICK, SIM_DATA, SIM_REFUSED, SIM_RESUME, SIM_EDGE };

struct sim_ev {
    struct sim_ev *next;
    uint64_t at_us;
    uint64_t sent_us;
    uint64_t counter; /* of the sender */
    uint32_t twin;    /* not 0: another event is a copy of this datagram */
    uint32_t node, from, from_boot;
    uint32_t life; /* of the node, for its own events */
    uint16_t len;
    uint8_t kind, channel, size_class;
    uint8_t bytes[];
};

/* Events in the order of their time, 64 us apart; those of one slot in the order they came in. */
struct sim_queue {
    struct {
        struct sim_ev *head, *tail;
    } slots[SIM_SLOTS];
    struct sim_ev *far; /* beyond the window */
    struct sim_ev *free[6];
    uint64_t slot, far_slot;
};

void sim_queue_init(struct sim_queue *q);
void sim_queue_deinit(struct sim_queue *q);
struct sim_ev *sim_queue_new(struct sim_queue *q, size_t bytes);
void sim_queue_free(struct sim_queue *q, struct sim_ev *ev);
void sim_queue_put(struct sim_queue *q, struct sim_ev *ev, uint64_t at_us);
/* The next one before until_us, or NULL. */
struct sim_ev *sim_queue_next(struct sim_queue *q, uint64_t until_us);

struct sim_node {
    struct swim_sim_node pub;
    void *mem;
    uint64_t offset_ns;
    uint64_t tick_us; /* earliest tick on its way */
    uint64_t stopped_us, blocked_us;
    struct sim_ev *backlog, *backlog_tail;
    struct sched_announce announce;
    struct sched_dynamic dynamic;
    uint64_t counter;   /* of the last datagram it sealed */
    uint64_t lost;      /* packets to and from it that were lost or late, in this life */
    uint64_t window_us; /* budget check */
    uint64_t window_bytes;
    uint32_t backlog_n;
    uint32_t life, inc_max, boots;
    int32_t rate_ppm;
    bool loud, leaving;
};

struct sim_shadow {
    uint32_t inc;
    uint8_t state;
};

struct sim_cut {
    uint64_t from, to, until_us;
};

struct swim_sim {
    struct swim_sim_cfg cfg;
    struct swim_sim_stats stats;
    struct base_hash_rng rng;
    uint64_t now_us;
    struct sim_node *nodes;
    struct sim_shadow *shadow; /* n * n, NULL when cheap */
    struct sim_seals *seals;   /* NULL when cheap, or when copies are to arrive */
    struct sched_book book;
    void *book_mem;
    struct sim_cut cuts[SIM_CUTS_MAX];
    uint32_t cut_n;
    bool failed;
    struct sim_queue queue;
    struct sched_swim_effects fx;
    struct sched_gossip_wire_in in;
};

static inline uint32_t sim_below(struct swim_sim *sim, uint32_t n)
{
    return (uint32_t)base_hash_rng_below(&sim->rng, n);
}

static inline bool sim_chance(struct swim_sim *sim, uint32_t ppm)
{
    return ppm > 0 && sim_below(sim, 1000000) < ppm;
}

/* Everything that happens goes into the hash. */
static inline void sim_note(struct swim_sim *sim, uint64_t a, uint64_t b)
{
    sim->stats.hash = base_hash_mix64(base_hash_mix64(sim->stats.hash ^ a) ^ b);
}

/* swim_sim_net.c */
void sim_net_send(struct swim_sim *sim, uint32_t from, const struct sched_swim_fx *fx);

/* swim_sim_seal.c */
struct sim_seals *sim_seals_new(uint32_t nodes);
void sim_seals_free(struct sim_seals *s);
void sim_seal_start(struct swim_sim *sim, uint32_t node);
void sim_seal_send(struct swim_sim *sim, uint32_t from, struct sim_ev *ev);
void sim_seal_copy(struct swim_sim *sim, struct sim_ev *ev, struct sim_ev *copy);
/* False: the receiver takes it for a replay. */
bool sim_seal_open(struct swim_sim *sim, const struct sim_ev *ev);

/* swim_sim_check.c */
void sim_fail(struct swim_sim *sim, const char *invariant, uint32_t node, uint32_t other);
void sim_check_packet(struct swim_sim *sim, uint32_t node, const struct sched_swim_packet *p);
void sim_check_member(struct swim_sim *sim, uint32_t node, const struct sched_swim_fx *fx);
void sim_check_budget(struct swim_sim *sim, uint32_t node, uint64_t bytes);
void sim_check_forget_all(struct swim_sim *sim, uint32_t node);
