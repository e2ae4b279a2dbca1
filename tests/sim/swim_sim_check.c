#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tests/sim/swim_sim_impl.h"

enum { WINDOW_US = 10000000 };

void sim_fail(struct swim_sim *sim, const char *invariant, uint32_t node, uint32_t other)
{
    if (!sim->failed) {
        (void)printf("BROKEN %s at node %" PRIu32 " about node %" PRIu32 ", %.6f s, seed %" PRIu64
                     "\n",
            invariant, node, other, (double)sim->now_us / 1e6, sim->cfg.seed);
    }
    sim->failed = true;
}

/* S12: nobody is spoken of with an incarnation that it has not reached itself. */
void sim_check_packet(struct swim_sim *sim, uint32_t node, const struct sched_swim_packet *p)
{
    for (uint16_t i = 0; i < p->update_count; i++) {
        uint64_t id = p->updates[i].id;
        if (id == 0 || id > sim->cfg.nodes || p->updates[i].inc > sim->nodes[id - 1].inc_max) {
            sim_fail(sim, "S12 incarnation of another raised", node, (uint32_t)id - 1);
        }
    }
}

static void count_dead(
    struct swim_sim *sim, uint32_t node, uint32_t other, const struct sched_swim_fx *fx)
{
    struct sim_node *o = &sim->nodes[other];
    if (!o->pub.up || o->leaving) {
        o->pub.dead_n++;
        o->pub.dead_us = o->pub.dead_us == 0 ? sim->now_us : o->pub.dead_us;
        return;
    }
    if (fx->cause == SCHED_SWIM_BY_TIMER && o->lost == 0) {
        sim_fail(sim, "L7 dead without a lost packet", node, other);
    }
    if (o->pub.sick_until_us > sim->now_us || sim->nodes[node].pub.sick_until_us > sim->now_us) {
        return;
    }
    sim->stats.false_dead_seen++;
    sim->stats.false_dead += fx->cause == SCHED_SWIM_BY_TIMER ? 1 : 0;
}

static void check_shadow(
    struct swim_sim *sim, uint32_t node, uint32_t other, const struct sched_swim_fx *fx)
{
    struct sim_shadow *sh = &sim->shadow[(size_t)node * sim->cfg.nodes + other];
    if (sh->inc != (sh->state == SCHED_PEER_NONE ? 0 : fx->old_inc) || sh->state != fx->old_state) {
        sim_fail(sim, "S12 told another past", node, other);
    }
    /* Written out again on purpose: the rule itself is under test. */
    bool newer = fx->inc > sh->inc || (fx->inc == sh->inc && fx->state > sh->state);
    if (fx->state != SCHED_PEER_NONE && !newer) {
        sim_fail(sim, "S12 precedence", node, other);
    }
    *sh = (struct sim_shadow){.inc = fx->inc, .state = (uint8_t)fx->state};
}

void sim_check_member(struct swim_sim *sim, uint32_t node, const struct sched_swim_fx *fx)
{
    uint32_t other = (uint32_t)fx->peer - 1;
    struct sim_node *o = &sim->nodes[other];
    sim_note(sim, (uint64_t)node << 32 | other,
        (uint64_t)fx->inc << 16 | (uint64_t)fx->state << 8 | (uint64_t)fx->cause);
    if (sim->cfg.trace) {
        (void)printf("[%10.6f] %" PRIu32 ": %" PRIu32 " %s(%" PRIu32 ") -> %s(%" PRIu32
                     ") cause %d\n",
            (double)sim->now_us / 1e6, node, other, sched_peer_state_str(fx->old_state),
            fx->old_inc, sched_peer_state_str(fx->state), fx->inc, (int)fx->cause);
    }
    if (fx->inc > o->inc_max) {
        sim_fail(sim, "S12 incarnation of another raised", node, other);
    }
    if (sim->shadow != NULL) {
        check_shadow(sim, node, other, fx);
    }
    if (fx->state == SCHED_PEER_SUSPECT) {
        if (!o->pub.up && o->pub.suspect_us == 0) {
            o->pub.suspect_us = sim->now_us;
        }
        if (sim->cfg.only_stops && fx->cause == SCHED_SWIM_BY_PROBE && o->pub.up &&
            o->pub.sick_until_us == 0) {
            sim_fail(sim, "L7 accused by one that was stopped itself", node, other);
        }
        sim->stats.suspicions += o->pub.up && fx->cause == SCHED_SWIM_BY_PROBE ? 1 : 0;
    } else if (fx->state == SCHED_PEER_DEAD) {
        count_dead(sim, node, other, fx);
    }
}

/* S13: in no window more than the rate, the bucket and what urgent packets may overdraw. */
void sim_check_budget(struct swim_sim *sim, uint32_t node, uint64_t bytes)
{
    struct sim_node *n = &sim->nodes[node];
    const struct sched_swim_params *p = &sim->cfg.params;
    if (sim->now_us - n->window_us >= WINDOW_US) {
        n->window_us = sim->now_us;
        n->window_bytes = 0;
    }
    n->window_bytes += bytes;
    if (n->window_bytes > sim->stats.bytes_node_max) {
        sim->stats.bytes_node_max = n->window_bytes;
    }
    uint64_t rate = p->rate * (UINT64_C(1000000) + sim->cfg.rate_ppm) / 1000000;
    if (p->rate > 0 && n->window_bytes > rate * (WINDOW_US / 1000000) + p->burst + p->burst / 2) {
        sim_fail(sim, "S13 byte budget", node, node);
    }
}

void sim_check_forget_all(struct swim_sim *sim, uint32_t node)
{
    if (sim->shadow != NULL) {
        memset(
            &sim->shadow[(size_t)node * sim->cfg.nodes], 0, sim->cfg.nodes * sizeof *sim->shadow);
    }
}

bool swim_sim_settled(const struct swim_sim *sim)
{
    uint32_t up = 0;
    for (uint32_t i = 0; i < sim->cfg.nodes; i++) {
        up += sim->nodes[i].pub.up ? 1 : 0;
    }
    for (uint32_t i = 0; i < sim->cfg.nodes; i++) {
        const struct sim_node *n = &sim->nodes[i];
        if (n->pub.up && sched_swim_count(n->pub.swim, SCHED_PEER_ALIVE) != up) {
            return false;
        }
    }
    for (uint32_t i = 0; i < sim->cfg.nodes; i++) {
        struct swim_sim_node n = sim->nodes[i].pub;
        struct sched_swim_peer peer;
        for (uint32_t at = 0; n.up && sched_swim_next(n.swim, &at, &peer);) {
            uint32_t other = (uint32_t)peer.announce->id - 1;
            if (peer.state == SCHED_PEER_ALIVE &&
                (!sim->nodes[other].pub.up ||
                    peer.announce->boot != sim->nodes[other].announce.boot)) {
                return false;
            }
        }
    }
    return true;
}

void swim_sim_explain(const struct swim_sim *sim)
{
    int left = 20;
    for (uint32_t i = 0; i < sim->cfg.nodes; i++) {
        for (uint32_t k = 0; k < sim->cfg.nodes && sim->nodes[i].pub.up && left > 0; k++) {
            struct sched_swim_peer peer = {.state = SCHED_PEER_NONE};
            (void)sched_swim_find(sim->nodes[i].pub.swim, k + 1, &peer);
            if ((peer.state == SCHED_PEER_ALIVE) != sim->nodes[k].pub.up) {
                (void)printf("  node %" PRIu32 " (%s, health %u) holds %" PRIu32 " for %s(%" PRIu32
                             "), it is %s(%" PRIu32 ")\n",
                    i, sched_swim_joined(sim->nodes[i].pub.swim) ? "joined" : "not joined",
                    sched_swim_health(sim->nodes[i].pub.swim), k, sched_peer_state_str(peer.state),
                    peer.inc, sim->nodes[k].pub.up ? "up" : "down", sim->nodes[k].inc_max);
                left--;
            }
        }
    }
}

bool swim_sim_check(const struct swim_sim *sim)
{
    for (uint32_t i = 0; i < sim->cfg.nodes; i++) {
        if (sim->nodes[i].pub.up && !sched_swim_check(sim->nodes[i].pub.swim)) {
            return false;
        }
    }
    return true;
}

uint32_t swim_sim_edges_right_ppm(const struct swim_sim *sim)
{
    uint64_t right = 0, all = 0;
    for (uint32_t i = 0; i < sim->cfg.nodes; i++) {
        struct sched_swim_peer peer;
        for (uint32_t at = 0;
             sim->nodes[i].pub.up && sched_swim_next(sim->nodes[i].pub.swim, &at, &peer);) {
            const struct sim_node *o = &sim->nodes[peer.announce->id - 1];
            if (peer.announce->id != i + 1 && o->pub.up) {
                all++;
                right += peer.edge.room == sched_edge_of(&o->dynamic, 0).room ? 1 : 0;
            }
        }
    }
    return all == 0 ? 0 : (uint32_t)(right * 1000000 / all);
}
