#pragma once
#include "tests/sim/sim.h"

/* The catalogue of the cluster: gateways change it, every node has a copy. The copies, which in the
 * product are kept by scheduler/io/catalog_client.c, are kept here; and what must hold:
 *
 * S21 A version has one content, whoever knows it; what is in it was asked for, and is in the next
 *     one too unless that was asked for. A change that was answered OK is in every later version
 *     until somebody changes it; of two changes of one version of an entry one is OK. A change is
 *     made once, also one that expects no version. Who begins after an answer gets a later version
 *     than that. What a node knows never gets older. A voter holds to its promises. All versions
 *     are of one birth.
 * L10 After the faults all nodes have the latest version, and changes are answered. */

/* Permits of a pool that a host may use. */
struct sim_permits {
    uint32_t limit;
    uint32_t inc;
    uint64_t seq;  /* of the last request */
    uint64_t from; /* version of the catalogue in the first request since it had none; 0: none */
};

enum { SIM_USED = 2 };

/* What a node has to do with the catalogue. */
struct sim_copy {
    uint64_t version, sent_ns;             /* its copy; of its last CSET */
    struct sim_permits used[SIM_USED + 1]; /* by number of the pool */
    uint32_t op;                           /* the change that it waits for; 0: none */
    struct sim_promise promise, lost;      /* of a voter, as those about views */
};

void sim_cat_init(struct sim *s);
void sim_cat_free(struct sim *s);
/* A process has started: its copy is gone. */
void sim_cat_boot(struct sim *s, struct sim_node *n);
/* The node's turn: SIM_E_CHANGE. */
void sim_cat_turn(struct sim *s, struct sim_node *n);
/* True when the message was for the copy. */
bool sim_cat_takes(struct sim *s, struct sim_node *n, const struct sched_msg *m);
/* After a step of a voter; before a message of its leaves. */
void sim_cat_look(struct sim *s, struct sim_node *n);
void sim_cat_vote(struct sim *s, struct sim_node *n, const struct sched_msg *m);
/* Has a voter not stored what it has promised or accepted? S15 */
bool sim_cat_differs(const struct sim_node *n);
/* S11 of a pool: what hosts may use together is not more than a maximum of it that was in force
 * since the first of them got his permits. After a host's step. */
void sim_cat_permits(struct sim *s, struct sim_node *n);
void sim_cat_end(struct sim *s);
