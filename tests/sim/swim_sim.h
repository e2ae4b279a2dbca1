#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "scheduler/core/swim.h"

/* A cluster of membership machines on virtual time. Packets travel as bytes through the product's
 * encoders; everything follows from the seed. Times are microseconds of virtual time; every node
 * has a clock of its own, offset and off in rate. */

enum swim_sim_stall {
    SWIM_SIM_STOPPED, /* nothing runs: SIGSTOP, a stolen CPU */
    SWIM_SIM_BLOCKED, /* timers run, packets go nowhere until the end */
};

struct swim_sim_cfg {
    uint64_t seed;
    uint32_t nodes;
    uint32_t seeds;      /* nodes 0..seeds-1 are the seed addresses of all */
    uint32_t loss_ppm;   /* datagrams lost */
    uint32_t copy_ppm;   /* datagrams delivered twice */
    uint32_t late_ppm;   /* datagrams that take 1 to 12 s */
    uint32_t delay_us;   /* usual one-way delay, times 0.5 to 1.5 */
    uint32_t rate_ppm;   /* clocks are off by up to so much */
    uint32_t edge_us;    /* every node changes its room about so often; 0: never */
    uint32_t queue_max;  /* of each machine; 0: 256 */
    uint32_t timers_max; /* of each machine; 0: one per member */
    bool warm;           /* start with complete tables instead of joining */
    bool cheap;          /* leave the checks out that cost n * n */
    bool sealed;         /* replays are refused; not with cheap */
    bool only_stops;     /* the caller promises: no fault but stopped nodes; see L7 */
    bool trace;          /* print what members come to think of each other */
    struct sched_swim_params params;
};

struct swim_sim_stats {
    uint64_t steps, delivered, lost, bytes, packets; /* bytes: datagrams with headers */
    uint64_t ctl_bytes;
    uint64_t suspicions;      /* that a node began about one that was up */
    uint64_t false_dead;      /* healthy declared dead by the timer of a healthy node */
    uint64_t false_dead_seen; /* as seen by every healthy node */
    uint64_t refused;         /* datagrams taken for replays */
    uint64_t hash;
    uint64_t bytes_node_max; /* of one node in one window of 10 s */
    uint32_t fx_max, queue_max;
};

/* What is known about one node; see swim_sim_node(). */
struct swim_sim_node {
    struct sched_swim *swim;
    bool up;
    uint64_t sick_until_us; /* stalled, or recovering from it */
    /* since the last crash */
    uint64_t suspect_us, dead_us; /* first at any other; 0: not yet */
    uint32_t dead_n;              /* others that hold it for dead */
};

struct swim_sim;

/* Ends the program when memory runs out. */
struct swim_sim *swim_sim_create(const struct swim_sim_cfg *cfg);
void swim_sim_destroy(struct swim_sim *sim);

/* False: an invariant broke, the reason is printed; nothing more runs. */
bool swim_sim_run(struct swim_sim *sim, uint64_t until_us);

uint64_t swim_sim_now(const struct swim_sim *sim);
const struct swim_sim_stats *swim_sim_stats(const struct swim_sim *sim);
const struct swim_sim_node *swim_sim_node(const struct swim_sim *sim, uint32_t node);

/* loud: the machine lives on and refuses datagrams. */
void swim_sim_crash(struct swim_sim *sim, uint32_t node, bool loud);
/* Starts a node that is down with another boot number; remembers: with its incarnation kept. */
void swim_sim_start(struct swim_sim *sim, uint32_t node, bool remembers);
void swim_sim_leave(struct swim_sim *sim, uint32_t node);
void swim_sim_stall(struct swim_sim *sim, uint32_t node, enum swim_sim_stall kind, uint64_t for_us);
/* Datagrams and connections from nodes of one set to nodes of another go nowhere. Sets are bits:
 * node i is bit i % 64. */
void swim_sim_cut(struct swim_sim *sim, uint64_t from, uint64_t to, uint64_t for_us);
/* No more cuts, stalls, loss, copies and late packets from now on. */
void swim_sim_heal(struct swim_sim *sim);

/* Every node that is up holds exactly those that are up for alive. */
bool swim_sim_settled(const struct swim_sim *sim);
/* Prints the first few differences. */
void swim_sim_explain(const struct swim_sim *sim);
/* Every machine's own structures hold together. */
bool swim_sim_check(const struct swim_sim *sim);
/* Share of (node, other) pairs whose kept edge is the other's present one, in ppm. */
uint32_t swim_sim_edges_right_ppm(const struct swim_sim *sim);
