#include <string.h>

#include "proto/base/assert.h"
#include "tests/sim/swim_sim_impl.h"

static bool is_cut(const struct swim_sim *sim, uint32_t from, uint32_t to)
{
    for (uint32_t i = 0; i < sim->cut_n; i++) {
        const struct sim_cut *c = &sim->cuts[i];
        if (c->until_us > sim->now_us && (c->from >> (from % 64) & 1) && (c->to >> (to % 64) & 1)) {
            return true;
        }
    }
    return false;
}

static uint64_t usual_delay(struct swim_sim *sim)
{
    uint64_t us = sim->cfg.delay_us / 2 + sim_below(sim, sim->cfg.delay_us + 1);
    return sim_chance(sim, 10000) ? us + sim_below(sim, 5000) : us;
}

static void count_lost(struct swim_sim *sim, uint32_t from, uint32_t to)
{
    sim->stats.lost++;
    sim->nodes[from].lost++;
    sim->nodes[to].lost++;
}

static void deliver(struct swim_sim *sim, uint32_t from, uint32_t to, struct sim_ev *ev)
{
    struct sim_node *n = &sim->nodes[from];
    uint64_t at = sim->now_us, delay = usual_delay(sim);
    ev->kind = SIM_DATA;
    ev->node = to;
    ev->from = from;
    ev->from_boot = n->announce.boot;
    ev->sent_us = at;
    if (n->blocked_us > at) {
        at = n->blocked_us;
        n->lost++;
        sim->nodes[to].lost++;
    }
    if (ev->channel == SCHED_SWIM_CTL) {
        while (sim_chance(sim, sim->cfg.loss_ppm)) {
            delay += 200000; /* retransmission */
        }
    } else if (sim_chance(sim, sim->cfg.late_ppm)) {
        delay += 1000000 + sim_below(sim, 11000000);
    }
    if (delay > 50000) {
        n->lost++;
        sim->nodes[to].lost++;
    }
    sim_queue_put(&sim->queue, ev, at + delay);
}

static void refuse(struct swim_sim *sim, uint32_t from, uint32_t to)
{
    struct sim_ev *ev = sim_queue_new(&sim->queue, 0);
    ev->kind = SIM_REFUSED;
    ev->node = from;
    ev->from = to;
    ev->life = sim->nodes[from].life;
    sim_queue_put(&sim->queue, ev, sim->now_us + 2 * usual_delay(sim));
}

/* The bytes are what travels: what the encoder cannot say does not arrive. */
static struct sim_ev *encode(struct swim_sim *sim, uint32_t from, const struct sched_swim_fx *fx)
{
    uint8_t bytes[SCHED_SWIM_CTL_BYTES_MAX];
    size_t len = 0;
    int rc = sched_gossip_wire_encode(&fx->packet, bytes, sizeof bytes, &len);
    if (rc != 0 || len != sched_swim_packet_bytes(&fx->packet) ||
        (fx->channel == SCHED_SWIM_UDP && len > SCHED_SWIM_BODY_BYTES_MAX)) {
        sim_fail(sim, "S13 packet", from, from);
        return NULL;
    }
    struct sim_ev *ev = sim_queue_new(&sim->queue, len);
    memcpy(ev->bytes, bytes, len);
    ev->channel = (uint8_t)fx->channel;
    sim_seal_send(sim, from, ev);
    return ev;
}

void sim_net_send(struct swim_sim *sim, uint32_t from, const struct sched_swim_fx *fx)
{
    uint32_t to = (fx->peer == 0 ? fx->seed : (uint32_t)fx->peer - 1);
    REQUIRE(to < sim->cfg.nodes);
    struct sim_ev *ev = encode(sim, from, fx);
    if (ev == NULL) {
        return;
    }
    uint64_t bytes = ev->len + (uint64_t)SCHED_SWIM_PACKET_COST;
    if (fx->channel == SCHED_SWIM_UDP) {
        sim->stats.bytes += bytes;
        sim->stats.packets++;
        sim_check_budget(sim, from, bytes);
    } else {
        sim->stats.ctl_bytes += bytes;
    }
    bool lost = is_cut(sim, from, to) ||
                (fx->channel == SCHED_SWIM_UDP && sim_chance(sim, sim->cfg.loss_ppm));
    if (!lost && !sim->nodes[to].pub.up) {
        if (sim->nodes[to].loud && fx->channel == SCHED_SWIM_UDP) {
            refuse(sim, from, to);
        }
        lost = true;
    }
    if (lost) {
        count_lost(sim, from, to);
        sim_queue_free(&sim->queue, ev);
        return;
    }
    if (fx->channel == SCHED_SWIM_UDP && sim_chance(sim, sim->cfg.copy_ppm)) {
        struct sim_ev *copy = sim_queue_new(&sim->queue, ev->len);
        memcpy(copy->bytes, ev->bytes, ev->len);
        copy->channel = ev->channel;
        sim_seal_copy(sim, ev, copy);
        deliver(sim, from, to, copy);
    }
    deliver(sim, from, to, ev);
}
