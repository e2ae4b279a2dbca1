#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "scheduler/core/book.h"
#include "scheduler/core/peer.h"
#include "scheduler/core/swim_packet.h"

/* Membership: who is there, who is suspected, who is gone. SWIM with the Lifeguard additions, an
 * active-time clock and anti-entropy; scheduler/SWIM.md describes the protocol. It steers traffic
 * and nothing else: who owns what is decided by views and leases.
 *
 * A machine: step(event) -> effects. No clock (time comes with the event), no heap, no I/O. Not
 * thread-safe. */

/* All times in ms of active time unless said otherwise. */
struct sched_swim_params {
    uint32_t period_ms;   /* one probe per period */
    uint32_t ping_min_ms; /* an ack is waited for 3 smoothed round trips, inside these bounds */
    uint32_t ping_max_ms;
    uint32_t gossip_ms;        /* between rounds of gossip while something is queued */
    uint32_t suspect_mult;     /* shortest suspicion: mult * max(1, log10 n) * period */
    uint32_t suspect_max_mult; /* longest: so many times the shortest; 1: no Lifeguard suspicion */
    uint32_t confirmations;    /* of others that bring it to the shortest; 0..4 */
    uint32_t stall_cap_ms;     /* the clock advances at most so much in a late turn; 0: wall time */
    uint32_t deaf_ms;          /* a node that hears nobody blames itself for so long; 0: never */
    uint32_t dead_keep_ms;     /* the dead and the gone are remembered so long */
    uint32_t reclaim_ms;       /* one dead member is pinged every max(this, n * per member) */
    uint32_t reclaim_member_us; /* (in us) */
    uint32_t sync_ms;           /* anti-entropy with one peer, times 1 + max(0, log2(n) - 5) */
    uint32_t root_ms;           /* tables at rest for so long should be equal: else they are synced,
                                   twice as late each time it is in vain; 0: not compared */
    uint32_t seed_ms;           /* between attempts to join, and at seeds that are not members */
    uint32_t edge_ms;           /* own edges at most every max(this, n * per member) */
    uint32_t edge_member_ms;
    uint32_t leave_ms;   /* leaving lasts at most so long */
    uint32_t rate;       /* bytes per second sent by datagram, with all headers; 0: no limit */
    uint32_t burst;      /* bytes */
    uint8_t indirect;    /* relays asked when a ping is not answered, 0..4 */
    uint8_t retries;     /* direct pings sent again in the rest of the period, 0..8 */
    uint8_t fanout;      /* peers per round of gossip, 1..8 */
    uint8_t fanout_edge; /* the same when only edges are queued */
    uint8_t lambda;      /* transmissions of a membership item: lambda * ceil(log10(n + 1)) */
    uint8_t lambda_edge;
    uint8_t health_max; /* of the local health multiplier; 0: no Lifeguard */
    bool nack;          /* relays say when they got no answer */
    bool buddy;         /* tell the suspect first */
    bool refused_hint;  /* a refused port ends the probe at once */
    bool ctl_ping;      /* an unanswered probe is also tried over the control connection */
};

void sched_swim_params_default(struct sched_swim_params *p); /* T = 500 ms */
void sched_swim_params_fast(struct sched_swim_params *p);    /* T = 250 ms */

enum {
    SCHED_SWIM_MEMBERS_MAX = 65000,
    SCHED_SWIM_SEEDS_MAX = 16,
    SCHED_SWIM_FX_MAX = 160,
};

struct sched_swim_cfg {
    struct sched_announce self;   /* self.id and self.boot are final, the rest may be changed */
    struct sched_dynamic dynamic; /* .edge and .health are filled in here */
    uint32_t incarnation;         /* first of this life, 1..; larger than any before if known */
    uint64_t seed;                /* of the random generator */
    struct sched_swim_params params;
    uint32_t members_max; /* with the node itself, 2..SCHED_SWIM_MEMBERS_MAX */
    uint32_t timers_max;  /* suspects and remembered dead with a timer of their own; members_max is
                             always enough, with less the rest is found by a slow sweep */
    uint32_t queue_max;   /* gossip items, 8..SCHED_GOSSIP_QUEUE_MAX */
    bool edges;           /* keep the edges of others (16 bytes per member) */
    uint8_t seeds;        /* how many addresses to join at the caller knows */
    struct sched_book *book;
};

enum sched_swim_ev_kind {
    SCHED_SWIM_EV_TICK,    /* the deadline has come, or earlier */
    SCHED_SWIM_EV_PACKET,  /* from an authenticated sender */
    SCHED_SWIM_EV_REFUSED, /* the port of `from` refused a datagram */
    SCHED_SWIM_EV_DYNAMIC, /* own dynamic state has changed */
    SCHED_SWIM_EV_SELF,    /* own announcement has changed: weight, zone, addresses, versions */
    SCHED_SWIM_EV_LEAVE,
};

struct sched_swim_event {
    enum sched_swim_ev_kind kind;
    enum sched_swim_channel channel; /* PACKET */
    uint64_t now_ns;                 /* monotonic clock of this node */
    uint64_t from;                   /* PACKET, REFUSED */
    uint32_t from_boot;              /* PACKET */
    const struct sched_swim_packet *packet;
    const struct sched_dynamic *dynamic;
    const struct sched_announce *self;
};

enum sched_swim_cause {
    SCHED_SWIM_BY_NEWS,   /* a claim in a packet */
    SCHED_SWIM_BY_SENDER, /* the member itself, by the header of its packet */
    SCHED_SWIM_BY_PROBE,  /* own probe failed */
    SCHED_SWIM_BY_TIMER,  /* suspicion ran out; memory of the dead ran out */
    SCHED_SWIM_BY_SYNC,   /* a table; with state NONE: own obituaries are dropped */
};

enum sched_swim_fx_kind {
    SCHED_SWIM_FX_SEND,
    SCHED_SWIM_FX_PEER,    /* a member's claim has changed */
    SCHED_SWIM_FX_SELF,    /* own incarnation was raised; worth remembering over a restart */
    SCHED_SWIM_FX_DYNAMIC, /* a peer's dynamic state arrived with a packet */
    SCHED_SWIM_FX_EDGE,    /* a peer's edge is new */
    SCHED_SWIM_FX_JOINED,  /* first whole table received */
    SCHED_SWIM_FX_LEFT,    /* leaving is done: the process may end */
    SCHED_SWIM_FX_ODD,     /* something an operator may want to know, see enum sched_swim_odd */
};

enum sched_swim_odd {
    SCHED_SWIM_ODD_TWIN,    /* another life of this id is around, with boot `other` */
    SCHED_SWIM_ODD_VERSION, /* peer's versions do not meet ours: it is not taken in */
    SCHED_SWIM_ODD_FULL,    /* peer is not taken in: table or book is full */
};

/* Pointers are valid until the next step. Carry effects out in order. */
struct sched_swim_fx {
    enum sched_swim_fx_kind kind;
    enum sched_swim_channel channel;        /* SEND */
    uint64_t peer;                          /* 0: SEND to seed number `seed` */
    const struct sched_announce *announce;  /* of the peer; NULL: SEND to where it wrote from */
    uint8_t seed;                           /* SEND */
    enum sched_peer_state old_state, state; /* MEMBER */
    enum sched_swim_cause cause;            /* MEMBER */
    uint32_t old_inc, inc;                  /* MEMBER, SELF */
    enum sched_swim_odd odd;
    uint32_t other;
    struct sched_dynamic dynamic;
    struct sched_edge edge;
    struct sched_swim_packet packet;
};

struct sched_swim_effects {
    uint32_t n;
    uint32_t update_n;
    struct sched_swim_fx fx[SCHED_SWIM_FX_MAX];
    struct sched_update updates[16 * SCHED_SWIM_UPDATES_MAX]; /* of the packets in fx */
    uint64_t digests[SCHED_SWIM_BUCKETS];
};

struct sched_swim_stats {
    uint64_t packets[SCHED_SWIM_TYPES]; /* sent by datagram */
    uint64_t bytes;                     /* sent by datagram, with all headers */
    uint64_t over_budget;               /* packets and piggybacks that the budget held back */
    uint64_t probes, probes_failed;     /* rounds */
    uint64_t suspicions;                /* started here by a failed probe */
    uint64_t refutations;               /* own incarnation raised because of a claim */
    uint64_t stalls;                    /* turns later than stall_cap_ms */
    uint64_t bad;                       /* packets and claims that make no sense */
    uint64_t wrong_version, full;       /* peers not taken in */
};

struct sched_swim;

/* Bytes for a machine: about 7 KiB + 21 per member + 16 per member with edges + 56 per timer + 24
 * per queue item (the book comes on top: one entry per member). 0: cfg is out of range. */
size_t sched_swim_size(const struct sched_swim_cfg *cfg);

/* A machine in mem, aligned to 8 bytes, which must stay until the last use; nothing to deinit.
 * NULL: cfg is out of range or mem_size is less than sched_swim_size(). With seeds it joins at
 * once. */
struct sched_swim *sched_swim_init(
    const struct sched_swim_cfg *cfg, uint64_t now_ns, void *mem, size_t mem_size);

/* Gives back what the machine holds of the book; needed only when the book lives on. */
void sched_swim_deinit(struct sched_swim *s);

/* Takes one event in; *fx is overwritten with what is to be done. Only TICK fires timers, so a
 * shell that reads every waiting datagram before it sends TICK accuses nobody for what it did not
 * read; after a late turn the machine lets one more turn pass by itself before it judges. */
void sched_swim_step(
    struct sched_swim *s, const struct sched_swim_event *ev, struct sched_swim_effects *fx);

/* When the next TICK is due, on the clock of the events' now_ns. Changes with every step. */
uint64_t sched_swim_deadline_ns(const struct sched_swim *s);

struct sched_swim_peer {
    const struct sched_announce *announce; /* valid until the next step */
    struct sched_edge edge;                /* inc 0: not known */
    uint32_t inc;
    enum sched_peer_state state;
};

/* A member, the node itself included. False: not known. */
bool sched_swim_find(const struct sched_swim *s, uint64_t id, struct sched_swim_peer *ret_peer);

/* All of them: *at starts at 0. False: no more. */
bool sched_swim_next(const struct sched_swim *s, uint32_t *at, struct sched_swim_peer *ret_peer);

uint32_t sched_swim_count(const struct sched_swim *s, enum sched_peer_state state);
uint32_t sched_swim_incarnation(const struct sched_swim *s);
unsigned sched_swim_health(const struct sched_swim *s);
bool sched_swim_joined(const struct sched_swim *s);
uint32_t sched_swim_queued(const struct sched_swim *s);
const struct sched_swim_stats *sched_swim_stats(const struct sched_swim *s);

/* Longest suspicion for a cluster of n nodes, in ms: everything settles a little after it. */
uint64_t sched_swim_suspect_max_ms(const struct sched_swim_params *p, uint32_t n);

/* Checks every invariant of the machine's own structures; for tests. True: all hold. */
bool sched_swim_check(const struct sched_swim *s);
