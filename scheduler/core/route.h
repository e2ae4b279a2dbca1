#pragma once
#include "scheduler/core/env.h"

/* The gateway's part: where a request goes, when it is hedged, and what its outcome is called.
 *
 * OPENING: the group of the key is asked, seat after seat, the earlier ones still running. The
 *   execution may ride along (inline); then nobody can tell any more which seat acts on it.
 * SENT: a host was named; the execution goes there, and only there, under one epoch. It moves on
 *   only after the host has promised that it never started and never will (NOTHERE).
 *
 * Outcomes: OK. FAILED: it certainly never started. UNKNOWN: it may have run. A request is never
 * run twice; where that cannot be ruled out its outcome is UNKNOWN. */

enum sched_req_state { SCHED_REQ_FREE, SCHED_REQ_OPENING, SCHED_REQ_SENT };

struct sched_req {
    uint8_t state;    /* enum sched_req_state */
    bool may_inline;  /* not yet excluded */
    bool went_inline; /* some seat was sent the execution */
    bool dispatched;  /* SENT: the host was sent it */
    bool full;        /* was told last that nobody has a place */
    bool look;        /* no session is made for it */
    uint8_t tries;
    uint32_t next;        /* of the free list */
    uint32_t inline_view; /* the view of the first inline attempt */
    uint64_t rid;
    struct sched_key key;
    struct sched_exec exec;
    struct sched_rec to; /* SENT */
    sched_epoch gone;    /* the host of this epoch has excluded that it runs there */
    uint64_t next_ns, deadline_ns;
};

struct sched_route_slot {
    struct sched_key key;
    struct sched_host host;
    uint32_t view;
    sched_epoch epoch;
};

struct sched_route_cfg {
    uint32_t reqs_max;
    uint32_t cache_max;         /* a power of two */
    uint32_t hedge_ms;          /* another seat is asked after this */
    uint32_t resend_ms;         /* an execution is sent again after this */
    struct sched_speaks speaks; /* max 0: all that this build does */
};

struct sched_route {
    const struct sched_cfg *cfg;
    struct sched_route_cfg rcfg;
    struct sched_placer placer;
    struct sched_fx *fx;
    const struct sched_view *view;
    uint64_t now_ns;
    struct sched_req *reqs;
    struct sched_map by_rid;
    struct sched_route_slot *cache;
    uint32_t free, used;
    uint64_t serial;
    uint64_t pull_ns; /* when to ask a voter for a newer view */
    uint64_t pulled_ns;
    uint32_t pulls;
    uint64_t suspect[16]; /* nodes that gossip suspects; asked last */
    uint32_t n_suspects;
    struct sched_view no_view;
};

struct sched_route_ask {
    struct sched_key key;
    struct sched_exec exec; /* never used for another request */
    bool may_inline;
    bool look; /* the session if there is one: else the outcome is NONE, or one is made where the
                * cluster is at a version that cannot do better. Not with may_inline */
    uint32_t timeout_ms; /* at most keep_ms of the hosts, see README */
};

size_t sched_route_size(const struct sched_cfg *cfg, const struct sched_route_cfg *rcfg);

/* first_rid: larger than any request number this gateway ever used. */
void sched_route_init(struct sched_route *r, const struct sched_cfg *cfg,
    const struct sched_route_cfg *rcfg, struct sched_placer placer, struct sched_mem *mem);
void sched_route_start(struct sched_route *r, uint64_t first_rid);

/* A new request; its number, or 0 when there are too many. */
uint64_t sched_route_request(
    struct sched_route *r, uint64_t now_ns, const struct sched_route_ask *ask, struct sched_fx *fx);

/* A message, or NULL for "time has passed". Views as in sched_node_step(). */
void sched_route_step(
    struct sched_route *r, uint64_t now_ns, const struct sched_msg *m, struct sched_fx *fx);
uint64_t sched_route_deadline_ns(const struct sched_route *r);

/* A hint of the membership layer; never changes an outcome. */
void sched_route_suspect(struct sched_route *r, uint64_t node, bool suspected);
bool sched_route_suspects(const struct sched_route *r, uint64_t node);
