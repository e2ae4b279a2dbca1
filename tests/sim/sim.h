#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "scheduler/core/node.h"
#include "scheduler/core/place.h"
#include "scheduler/core/route.h"
#include "scheduler/core/voter.h"
#include "scheduler/wire/wire.h"
#include "tests/sim/schedule.h"
#include "tests/sim/store.h"

/* The simulator: product cores and wire encoders on virtual time, everything from one seed.
 * Files: world (nodes and what carries out their effects), bus (messages), store (the twin of the
 * stores), vm (microVMs and their supervisors), fault and schedule (what goes wrong), check
 * (invariants), load (requests), shrink, main. */

enum { SIM_DROPS_MAX = 64 };

#define SIM_MS UINT64_C(1000000)
#define SIM_S UINT64_C(1000000000)

enum sim_kind { SIM_VOTER, SIM_HOST, SIM_GATEWAY };

enum sim_vm_state { SIM_VM_FREE, SIM_VM_STARTING, SIM_VM_UP };

struct sim_run {
    struct sched_exec exec;
    bool done;
};

enum { SIM_POOLS_MAX = 12, SIM_DOCS_MAX = 4096 };

struct sim_pools {
    bool heard;
    uint64_t version;
    uint32_t n;
    struct sched_pool_max p[SIM_POOLS_MAX];
};

struct sim_vm {
    uint8_t state; /* enum sim_vm_state */
    bool counted;  /* in live[key] */
    bool deleted;  /* may end before its cooldown */
    uint32_t gen;
    uint32_t key;
    struct sched_fx_vm id;
    uint64_t born_ns, last_ns; /* own clock of the machine */
    struct sim_run *runs;
    uint32_t n_runs, cap_runs;
    uint32_t inc; /* life of its host */
};

/* The highest ballot a voter has told anybody to hold to. */
struct sim_promise {
    uint64_t ballot, at_ns;
};

struct sim_node {
    uint8_t kind; /* enum sim_kind */
    uint64_t id;
    uint32_t index;
    bool up, paused, draining;
    bool left;    /* the next process starts empty */
    uint8_t torn; /* 1: dies before commit, 2: after */
    struct sched_speaks speaks;
    uint32_t gen; /* of the process; events of an older one are void */
    uint64_t resume_ns;
    int64_t rate_ppm;
    uint64_t off_ns;
    uint64_t tick_ns; /* scheduled, virtual; 0: none */
    uint64_t down_until_ns;
    uint32_t inc, run;
    void *mem;
    struct sched_voter *voter;
    struct sched_node *host;
    struct sched_route *gw;
    struct sim_rows *rows;
    /* machine of a host */
    struct sched_fx_page page;
    uint32_t page_inc;
    uint64_t held_ns; /* the last time, own clock, until which this life was granted a lease */
    uint64_t freeze_ns, kill_ns; /* virtual: timers of its supervisors; 0: none */
    bool frozen;
    struct sim_vm *vms;
    uint32_t n_vms, seen_view;
    struct sim_pool
        *pool; /* the worker's pool manager; NULL: microVMs start when they are wanted */
    uint64_t next_rid;
    uint32_t permits;                 /* of a host, when they were last counted */
    struct sim_pools pools;           /* a host's copy of the catalogue */
    uint32_t held[SIM_POOLS_MAX];     /* permits of each pool, when they were last counted */
    struct sim_promise promise, lost; /* of a voter; lost: before it lost its store */
    bool liar;
    bool asleep;               /* paused with its machine */
    uint64_t awake_ns;         /* virtual: since when its process runs */
    uint64_t busy_ns, slow_ns; /* virtual: when it is free again; until when it is slow */
    uint32_t cost_ms;          /* of everything it does while it is slow */
    struct sim_copy *copy;     /* of the catalogue, see change.h */
    uint32_t gone_inc;         /* its life that a chosen view has left out */
    uint64_t gone_ns;          /* when */
};

struct sim_view {
    struct sched_view v;
    uint64_t digest;
    struct sched_group *now, *prev;
    struct sim_view *next; /* other content under the same number: only unchosen ones */
    bool chosen;
};

struct sim_req {
    uint64_t start_ns;
    sched_epoch seen; /* highest epoch confirmed for the key when it began */
    uint32_t key;
    bool look;
    sched_epoch there; /* LOOK: of a session that a client knew when it began; 0: none */
    uint8_t outcome;   /* 0: none yet, else enum sched_outcome + 1 */
    uint8_t starts;
    sched_epoch epoch; /* in which it started */
};

struct sim_key {
    struct sched_key key;
    uint32_t live;           /* unfrozen microVMs */
    uint32_t bound_view;     /* number of the latest view when `bound` was bound */
    sched_epoch bound, seen; /* highest that started; highest confirmed to a client */
    sched_epoch ran;         /* highest that ran */
    struct sched_host at;    /* of the last in which something ran, at at_ns */
    uint64_t at_ns;
};

struct sim_stats {
    uint64_t events, messages, bytes, opened, ok, failed, unknown, views, rebuilt, evicted,
        restarts, crashes, freezes, execs, tail_ok, tail_bad, tail_slow, dropped;
};

enum sim_event_kind {
    SIM_E_MSG,
    SIM_E_TICK,
    SIM_E_FREEZE,
    SIM_E_KILL,
    SIM_E_VM_UP,
    SIM_E_VM_DONE,
    SIM_E_VM_TELL,   /* to the process: SCHED_EV_VM_* in arg */
    SIM_E_POOL_VM,   /* of a microVM of a pool, see pool.c */
    SIM_E_POOL_TELL, /* to the process */
    SIM_E_POOL_TICK,
    SIM_E_FAULT,
    SIM_E_HEAL,
    SIM_E_UP,
    SIM_E_LOAD,
    SIM_E_LOOK, /* what is checked now and then */
    SIM_E_CATALOG,
    SIM_E_CHANGE,
};

struct sim_due { /* events in order of time; what they are lies in slots that do not move */
    uint64_t at_ns, seq;
    uint32_t slot;
};

struct sim_event {
    uint8_t kind;
    bool queued; /* has waited for a slow node */
    uint32_t node, arg, gen;
    struct sim_packet *data; /* MSG; arg is the sender */
    struct sched_fx_vm vm;
};

struct sim {
    struct sim_opts opt;
    struct sched_cfg cfg;
    struct sched_route_cfg rcfg;
    uint64_t now_ns, seq, hash;
    struct base_hash_rng rng;
    struct sim_due *heap; /* four children each; slots of the unused end are the free ones */
    struct sim_event *slots;
    uint32_t n_heap, cap_heap;
    struct sim_node *nodes;
    uint32_t n_nodes;
    struct sim_view **views; /* by number */
    uint32_t cap_views, chosen_num;
    uint8_t version;                 /* of the chosen view */
    uint32_t *admitted;              /* per host index: highest incarnation */
    struct sched_place place, grown; /* grown: from chosen view to chosen view */
    void *place_mem, *grown_mem;
    struct sim_key *keys;
    struct sched_map key_of;
    void *key_mem;
    struct sim_req *reqs; /* by global request number */
    uint32_t n_reqs, cap_reqs;
    struct sim_fault *faults;
    uint32_t n_faults;
    const struct sim_fault *drops[SIM_DROPS_MAX];
    uint32_t n_drops;
    uint64_t cut_a; /* bit of index mod 64: side */
    uint8_t *links; /* n_nodes x n_nodes: one-way cuts */
    uint32_t n_links;
    uint64_t rebuilt[SCHED_BUCKET_WORDS]; /* what was rebuilt or left, ever: its history is lost */
    bool cut, load_on, calm;              /* calm: liveness phase */
    struct sched_fx fx;
    void *fx_mem;
    struct sched_wire_room room;
    void *room_mem;
    uint8_t *buf;
    struct sim_doc *docs; /* of the catalogue, by version */
    uint32_t newest, changes;
    struct sim_packet *last_view; /* the latest view that was sent */
    uint32_t last_view_num;
    struct sim_cat *cat; /* see change.c */
    struct sim_stats stat;
    char bad[400]; /* first violation; empty: none */
};

/* ---- world.c ---- */
void sim_init(
    struct sim *s, const struct sim_opts *opt, const struct sim_fault *faults, uint32_t n);
void sim_deinit(struct sim *s);
/* Runs both phases. True when nothing was violated. */
bool sim_run(struct sim *s);
void sim_event(struct sim *s, const struct sim_event *ev, uint64_t at_ns);
uint64_t sim_rand(struct sim *s, uint64_t n);
bool sim_chance(struct sim *s, uint32_t ppm);
uint64_t sim_local(const struct sim_node *n, uint64_t t_ns);
uint64_t sim_virtual(const struct sim_node *n, uint64_t local_ns);
struct sim_node *sim_node_of(struct sim *s, uint64_t id);
void sim_name(const struct sim_node *n, char out[16]);
/* One step of a node's core, with its effects. */
void sim_step(struct sim *s, struct sim_node *n, const struct sched_event *ev);
/* The next turn of a process, when its core wants one. */
void sim_arm(struct sim *s, struct sim_node *n);
void sim_boot(struct sim *s, struct sim_node *n, bool first);
void sim_halt(struct sim *s, struct sim_node *n);
const struct sched_view *sim_intern(struct sim *s, const struct sched_view *v);
struct sim_view *sim_view_of(struct sim *s, const struct sched_view *v);

/* ---- trace.c ---- */
void sim_trace(const struct sim *s, const struct sched_msg *m, const char *what);

/* ---- fault.c ---- */
void sim_fault_begin(struct sim *s, uint32_t i);
void sim_fault_end(struct sim *s, uint32_t i);
void sim_calm(struct sim *s);
/* ---- load.c ---- */
void sim_load(struct sim *s, struct sim_node *n);
void sim_request(struct sim *s, struct sim_node *n, uint32_t key);
void sim_outcome(struct sim *s, struct sim_node *n, const struct sched_fx_outcome *o);
