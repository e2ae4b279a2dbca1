#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "proto/base/hash.h"
#include "scheduler/core/gossip.h"
#include "scheduler/core/mutant.h"
#include "scheduler/core/swim.h"

/* Private to swim*.c. All times inside are microseconds of the active clock. */

enum {
    SWIM_NONE = 0xffff, /* no slot, no timer */
    SWIM_SELF = 0,      /* the node itself sits in slot 0 */
    SWIM_RELAYS_MAX = 32,
    SWIM_TRANSFERS_MAX = 16,
    SWIM_CONFIRM_MAX = 4,
    SWIM_FIRE_MAX = 16,  /* suspicions that end in one turn */
    SWIM_SWEEP_MAX = 32, /* members looked at by one sweep */
    SWIM_CHUNKS_MAX = 4, /* parts of tables sent in one turn */
    /* A step changes or forgets at most one announcement per claim, or per fired timer. */
    SWIM_RELEASES_MAX = SCHED_SWIM_UPDATES_MAX + SWIM_SWEEP_MAX + SWIM_FIRE_MAX,
};

#define SWIM_NEVER UINT64_MAX

struct swim_peer {
    uint32_t book;
    uint32_t inc;      /* free slots: the next free one */
    uint32_t since_ds; /* when it came into its state, 0.1 s */
    uint16_t timer;
    uint8_t state; /* enum sched_peer_state; NONE: the slot is free */
    uint8_t spare;
};

struct swim_timer {
    uint64_t due_us, start_us;
    uint64_t by[1 + SWIM_CONFIRM_MAX]; /* who suspects */
    uint16_t slot;
    uint16_t pos; /* in the heap; free timers: the next free one */
    uint16_t by_n;
};

struct swim_probe {
    uint64_t sent_us, ping_due_us, end_us;
    uint64_t id;
    uint64_t relays[4];
    uint32_t inc; /* target's at the start */
    uint16_t slot, seq;
    uint8_t relay_n, nacks, retries;
    bool active, acked, asked;
};

struct swim_relay {
    uint64_t origin, target, due_us; /* due_us 0: free */
    uint64_t again_us;               /* when the target is pinged once more */
    uint16_t origin_seq, seq;
};

struct swim_transfer {
    uint64_t to;
    uint64_t mask[4];
    uint32_t cursor;
    uint16_t seq;
    bool active, want;
};

struct swim_seed {
    uint64_t id; /* 0: not known yet */
    uint16_t seq;
    bool asked;
};

struct sched_swim {
    struct sched_swim_params p;
    struct sched_book *book;
    struct sched_swim_effects *fx; /* of the running step */
    struct sched_announce self;
    struct sched_dynamic dynamic;
    struct base_hash_rng rng;
    struct sched_swim_stats stats;

    /* clock */
    uint64_t last_us;     /* caller's clock */
    uint64_t promised_us; /* caller's clock: when the next turn was asked for */
    uint64_t now_us;
    bool grace; /* the turn was late: let waiting packets be read before timers fire */
    bool pause; /* this was such a turn */

    /* members; slots below `high` have been used */
    struct swim_peer *peers;
    uint16_t *index;          /* open addressing by id, SWIM_NONE marks a free place */
    uint16_t *order;          /* of probing; shuffled anew at its end */
    struct sched_edge *edges; /* NULL: not kept */
    struct swim_timer *timers;
    uint16_t *heap;                       /* of timers by due_us */
    uint64_t buckets[SCHED_SWIM_BUCKETS]; /* digests of who is present, see share() */
    uint64_t whole;                       /* of all of them */
    uint64_t changed_us;                  /* last change of it */
    uint32_t count[SCHED_PEER_STATES];
    uint32_t index_mask;
    uint32_t members_max, high, free_peer, used;
    uint32_t order_n, order_at;
    uint32_t timers_max, timers_high, free_timer, heap_n;
    uint32_t untimed, sweep_at;           /* suspects and dead without a timer */
    uint32_t released[SWIM_RELEASES_MAX]; /* book entries given back with the next step */
    uint32_t released_n;

    /* probing */
    struct swim_probe probe;
    struct swim_relay relays[SWIM_RELAYS_MAX];
    uint32_t relay_n;
    uint64_t heard_us; /* last packet from anybody */
    uint32_t rtt_us;
    uint32_t health;
    uint16_t seq;

    /* gossip */
    struct sched_gossip gossip;
    struct sched_budget budget;
    uint64_t gossip_us;  /* next round */
    uint64_t accused_by; /* in this step: who was told wrong things about this node */
    uint64_t stranger;   /* in this step: who lives another life than its announcement says */
    uint64_t edge_us;    /* next own edge allowed */
    struct sched_edge edge_told;
    bool edge_dirty;

    /* joining, leaving, anti-entropy */
    struct swim_seed seeds[SCHED_SWIM_SEEDS_MAX];
    struct swim_transfer transfers[SWIM_TRANSFERS_MAX];
    uint64_t seed_us, sync_us, reclaim_us, leave_us;
    uint64_t sync_with; /* 0: anyone */
    uint64_t humble_to; /* whose table of number humble_seq is believed more than own obituaries */
    uint16_t humble_seq;
    uint64_t soon_us;               /* when the node may again ask for news out of turn */
    uint64_t root_us, root_wait_us; /* when a difference of digests is acted on again */
    uint32_t seed_n, seed_at, transfer_n, sync_soon;
    bool joined, leaving, stopped;
};

/* What a claim came with. */
struct swim_source {
    uint64_t from;
    uint32_t alive; /* what the sender of a table holds for alive */
    bool humble;    /* own obituaries count for nothing against it */
    enum sched_swim_cause cause;
};

/* swim_table.c */
uint16_t sched_swim_table_find(const struct sched_swim *s, uint64_t id);
const struct sched_announce *sched_swim_table_announce(const struct sched_swim *s, uint16_t slot);
uint16_t sched_swim_table_add(struct sched_swim *s, const struct sched_announce *a, uint32_t inc,
    enum sched_swim_cause cause);
/* Moves a member to a newer claim; the timer of its old state ends. */
void sched_swim_table_move(struct sched_swim *s, uint16_t slot, uint32_t inc,
    enum sched_peer_state state, enum sched_swim_cause cause);
bool sched_swim_table_reannounce(
    struct sched_swim *s, uint16_t slot, const struct sched_announce *a);
void sched_swim_table_forget(struct sched_swim *s, uint16_t slot, enum sched_swim_cause cause);
void sched_swim_table_timer_start(
    struct sched_swim *s, uint16_t slot, uint64_t due_us, uint64_t by);
void sched_swim_table_timer_move(struct sched_swim *s, uint16_t timer, uint64_t due_us);
/* Gives back what the last step's effects could point at. */
void sched_swim_table_release(struct sched_swim *s);
uint16_t sched_swim_table_target(struct sched_swim *s);
/* A random member alive or suspected, not self, not in skip[]; SWIM_NONE: there is none. */
uint16_t sched_swim_table_random(struct sched_swim *s, const uint16_t *skip, unsigned skip_n);
uint32_t sched_swim_table_present(
    const struct sched_swim *s); /* alive and suspected, self included */
unsigned sched_swim_table_bucket(uint64_t id);
/* What a member adds to the digest of its bucket: 0 when it is not there. Suspicion comes and goes
 * and makes no difference. */
uint64_t sched_swim_table_share(const struct sched_swim *s, uint16_t slot);

/* swim_claim.c */
void sched_swim_claim_apply(
    struct sched_swim *s, const struct sched_update *u, const struct swim_source *src);
void sched_swim_claim_sender(struct sched_swim *s, uint64_t from, uint32_t boot, uint32_t inc);
void sched_swim_claim_suspect(
    struct sched_swim *s, uint16_t slot, uint32_t inc, uint64_t by, enum sched_swim_cause cause);
void sched_swim_claim_raise(struct sched_swim *s, uint32_t above);
void sched_swim_claim_edge(
    struct sched_swim *s, uint16_t slot, const struct sched_edge *e, bool direct);
void sched_swim_claim_tick(struct sched_swim *s);
void sched_swim_claim_sweep(struct sched_swim *s);
uint64_t sched_swim_claim_suspect_us(const struct sched_swim *s, unsigned confirmed);

/* swim_probe.c */
void sched_swim_probe_tick(struct sched_swim *s);
uint64_t sched_swim_probe_due(const struct sched_swim *s);
void sched_swim_probe_health(struct sched_swim *s, int delta);
/* Whether nothing at all has been heard since then: with more than one peer that says more about
 * this node than about them. */
bool sched_swim_probe_deaf(const struct sched_swim *s, uint64_t since_us);
void sched_swim_probe_refused(struct sched_swim *s, uint64_t id);
void sched_swim_probe_on_ack(
    struct sched_swim *s, uint64_t from, const struct sched_swim_packet *p);
void sched_swim_probe_on_nack(
    struct sched_swim *s, uint64_t from, const struct sched_swim_packet *p);
void sched_swim_probe_on_ping_req(
    struct sched_swim *s, uint64_t from, const struct sched_swim_packet *p);

/* swim_send.c */
struct swim_out {
    uint64_t to; /* 0: the seed */
    uint64_t target;
    enum sched_swim_channel channel;
    enum sched_swim_type type;
    uint16_t seq;
    uint8_t flags, seed;
    bool reply;      /* to where the packet came from */
    bool self_first; /* own announcement before all other news */
};

struct sched_swim_fx *sched_swim_send_fx(
    struct sched_swim *s, enum sched_swim_fx_kind kind, uint64_t peer);
/* The effect of a packet with its head filled in and nothing else. */
struct sched_swim_fx *sched_swim_send_open(struct sched_swim *s, const struct swim_out *o);
/* The whole: what must be told first, news as the budget allows. */
void sched_swim_send_packet(struct sched_swim *s, const struct swim_out *o);
/* Room for n claims of a packet of this step; NULL: there is none. */
struct sched_update *sched_swim_send_updates(struct sched_swim *s, unsigned n);
struct sched_update sched_swim_send_update_of(
    const struct sched_swim *s, uint16_t slot, uint64_t by);
void sched_swim_send_news(
    struct sched_swim *s, enum sched_gossip_class class, uint16_t slot, uint64_t by);
void sched_swim_send_gossip_tick(struct sched_swim *s);
uint8_t sched_swim_send_times(const struct sched_swim *s, unsigned lambda);

/* swim_sync.c */
void sched_swim_sync_tick(struct sched_swim *s);
uint64_t sched_swim_sync_due(const struct sched_swim *s);
void sched_swim_sync_on_join(
    struct sched_swim *s, uint64_t from, const struct sched_swim_packet *p);
void sched_swim_sync_on_digest(
    struct sched_swim *s, uint64_t from, const struct sched_swim_packet *p);
void sched_swim_sync_on_table(
    struct sched_swim *s, uint64_t from, const struct sched_swim_packet *p);
/* The digest of a peer's whole table came with its packet. */
void sched_swim_sync_on_root(struct sched_swim *s, uint64_t from, uint32_t root);
/* Own digest, 0 when it has changed lately. */
uint32_t sched_swim_sync_root(const struct sched_swim *s);
/* Whether own obituaries count for nothing against the table that this packet is a part of. */
bool sched_swim_sync_humble(struct sched_swim *s, uint64_t from, const struct sched_swim_packet *p);
/* This node was out of touch: it asks somebody for news. */
void sched_swim_sync_soon(struct sched_swim *s);
/* Something was heard from a peer: as good as a seed for one who has not joined. */
void sched_swim_sync_heard(struct sched_swim *s, uint64_t from);
/* A dead member is back: perhaps it was this node that was cut off. */
void sched_swim_sync_revived(struct sched_swim *s, uint64_t id);
