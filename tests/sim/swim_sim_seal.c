#include <stdlib.h>
#include <string.h>

#include "proto/base/assert.h"
#include "scheduler/core/seal.h"
#include "tests/sim/swim_sim_impl.h"

/* S16: the product's rules of sealed datagrams between the nodes, without the cryptography. No
 * sender uses a counter twice, in whichever life; no receiver takes a datagram twice. */

enum { BEGIN_MS = 1000000 }; /* since 1970, of virtual time 0 */

struct sim_seals {
    struct sched_seal_sender *senders; /* receiver * n + sender */
    uint8_t *taken;                    /* by twin: one of the copies was taken */
    uint32_t twins, cap;
};

struct sim_seals *sim_seals_new(uint32_t nodes)
{
    struct sim_seals *s = calloc(1, sizeof *s);
    REQUIRE(s != NULL);
    s->senders = calloc((size_t)nodes * nodes, sizeof *s->senders);
    REQUIRE(s->senders != NULL);
    return s;
}

void sim_seals_free(struct sim_seals *s)
{
    if (s != NULL) {
        free(s->senders);
        free(s->taken);
        free(s);
    }
}

/* A new life of the node: knows nobody's counters, and begins behind all of its own. */
void sim_seal_start(struct swim_sim *sim, uint32_t node)
{
    struct sim_node *n = &sim->nodes[node];
    uint64_t first = sched_seal_first_counter(BEGIN_MS + sim->now_us / 1000);
    if (n->boots > 1 && first <= n->counter) {
        sim_fail(sim, "S16 a counter is used again", node, node);
    }
    n->counter = first;
    if (sim->seals != NULL) {
        memset(&sim->seals->senders[(size_t)node * sim->cfg.nodes], 0,
            sim->cfg.nodes * sizeof *sim->seals->senders);
    }
}

void sim_seal_send(struct swim_sim *sim, uint32_t from, struct sim_ev *ev)
{
    ev->counter = ++sim->nodes[from].counter;
    ev->twin = 0;
}

/* Both are the same datagram. */
void sim_seal_copy(struct swim_sim *sim, struct sim_ev *ev, struct sim_ev *copy)
{
    struct sim_seals *s = sim->seals;
    copy->counter = ev->counter;
    copy->twin = ev->twin = 0;
    if (s == NULL) {
        return;
    }
    if (s->twins + 1 >= s->cap) {
        s->cap = s->cap == 0 ? 1024 : s->cap * 2;
        s->taken = realloc(s->taken, s->cap);
        REQUIRE(s->taken != NULL);
    }
    copy->twin = ev->twin = ++s->twins;
    s->taken[s->twins] = 0;
}

bool sim_seal_open(struct swim_sim *sim, const struct sim_ev *ev)
{
    struct sim_seals *s = sim->seals;
    if (s == NULL || ev->channel != SCHED_SWIM_UDP) {
        return true;
    }
    struct sched_seal_sender *from = &s->senders[(size_t)ev->node * sim->cfg.nodes + ev->from];
    struct sched_seal_head h = {
        .boot = ev->from_boot, .sender = ev->from + 1, .counter = ev->counter};
    if (sched_seal_judge(from, &h, sim->now_us / 1000) == SCHED_SEAL_REFUSE) {
        sim->stats.refused++;
        return false;
    }
    if (ev->twin != 0 && s->taken[ev->twin] != 0) {
        sim_fail(sim, "S16 a datagram is taken twice", ev->node, ev->from);
    }
    if (ev->twin != 0) {
        s->taken[ev->twin] = 1;
    }
    sched_seal_note(from, &h, sim->now_us / 1000);
    return true;
}
