#include "tests/sim/swim_sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/assert.h"
#include "tests/sim/swim_sim_impl.h"

/* How long after a stall or a start a node may still be taken for dead by what was said before. */
enum { RECOVERY_US = 30000000 };

static void *must(void *p)
{
    if (p == NULL) {
        (void)fprintf(stderr, "swim_sim: out of memory\n");
        exit(2);
    }
    return p;
}

/* Virtual time to a node's own clock and back. */
static uint64_t local_ns(const struct sim_node *n, uint64_t us)
{
    int64_t ns = (int64_t)(us * 1000);
    return n->offset_ns + (uint64_t)(ns + ns / 1000000 * n->rate_ppm);
}

static uint64_t virtual_us(const struct sim_node *n, uint64_t ns)
{
    int64_t local = (int64_t)(ns - n->offset_ns);
    int64_t guess = local - local / 1000000 * n->rate_ppm;
    guess += local - (guess + guess / 1000000 * n->rate_ppm);
    return guess < 0 ? 0 : (uint64_t)guess / 1000 + 1;
}

static struct sched_swim_cfg machine_cfg(struct swim_sim *sim, uint32_t i, uint32_t inc)
{
    struct sim_node *n = &sim->nodes[i];
    const struct swim_sim_cfg *c = &sim->cfg;
    n->boots++;
    n->announce.boot = (uint32_t)base_hash_mix64((uint64_t)i << 32 | n->boots);
    return (struct sched_swim_cfg){.self = n->announce,
        .dynamic = n->dynamic,
        .incarnation = inc,
        .seed = base_hash_mix64(c->seed ^ ((uint64_t)i << 20 | n->boots)),
        .params = c->params,
        .members_max = c->nodes < 2 ? 2 : c->nodes,
        .timers_max = c->timers_max == 0 || c->timers_max > c->nodes ? (c->nodes < 2 ? 2 : c->nodes)
                                                                     : c->timers_max,
        .queue_max = c->queue_max == 0 ? 256 : c->queue_max,
        .edges = c->edge_us > 0,
        .seeds = (uint8_t)c->seeds,
        .book = &sim->book};
}

static void tick_at(struct swim_sim *sim, uint32_t i, uint64_t us)
{
    struct sim_node *n = &sim->nodes[i];
    if (n->tick_us <= us) {
        return;
    }
    struct sim_ev *ev = sim_queue_new(&sim->queue, 0);
    ev->kind = SIM_TICK;
    ev->node = i;
    ev->life = n->life;
    sim_queue_put(&sim->queue, ev, us);
    n->tick_us = ev->at_us;
}

static void note_fx(struct swim_sim *sim, uint32_t i, const struct sched_swim_fx *fx)
{
    switch (fx->kind) {
    case SCHED_SWIM_FX_SEND:
        sim_net_send(sim, i, fx);
        break;
    case SCHED_SWIM_FX_PEER:
        sim_check_member(sim, i, fx);
        break;
    case SCHED_SWIM_FX_LEFT:
        sim->nodes[i].pub.up = false;
        sim->nodes[i].life++;
        break;
    case SCHED_SWIM_FX_SELF:
    case SCHED_SWIM_FX_DYNAMIC:
    case SCHED_SWIM_FX_EDGE:
    case SCHED_SWIM_FX_JOINED:
    case SCHED_SWIM_FX_ODD:
        break;
    }
}

static void step(struct swim_sim *sim, uint32_t i, struct sched_swim_event *ev)
{
    struct sim_node *n = &sim->nodes[i];
    ev->now_ns = local_ns(n, sim->now_us);
    sched_swim_step(n->pub.swim, ev, &sim->fx);
    sim->stats.steps++;
    uint32_t inc = sched_swim_incarnation(n->pub.swim);
    n->inc_max = inc > n->inc_max ? inc : n->inc_max;
    uint32_t queued = sched_swim_queued(n->pub.swim);
    sim->stats.queue_max = queued > sim->stats.queue_max ? queued : sim->stats.queue_max;
    sim->stats.fx_max = sim->fx.n > sim->stats.fx_max ? sim->fx.n : sim->stats.fx_max;
    for (uint32_t k = 0; k < sim->fx.n && n->pub.up; k++) {
        note_fx(sim, i, &sim->fx.fx[k]);
    }
    if (n->pub.up) {
        tick_at(sim, i, virtual_us(n, sched_swim_deadline_ns(n->pub.swim)));
    }
    if (sim->shadow != NULL && sim->stats.steps % 256 == 0 && n->pub.up &&
        !sched_swim_check(n->pub.swim)) {
        sim_fail(sim, "S13 machine's own structures", i, i);
    }
}

static void on_tick(struct swim_sim *sim, struct sim_ev *ev)
{
    struct sim_node *n = &sim->nodes[ev->node];
    if (ev->life != n->life || ev->at_us != n->tick_us) {
        return; /* of an earlier life, or a sooner one has been */
    }
    n->tick_us = UINT64_MAX;
    uint64_t due = virtual_us(n, sched_swim_deadline_ns(n->pub.swim));
    if (due > sim->now_us + SIM_SLOT_US) {
        tick_at(sim, ev->node, due);
        return;
    }
    step(sim, ev->node, &(struct sched_swim_event){.kind = SCHED_SWIM_EV_TICK});
}

static void on_data(struct swim_sim *sim, struct sim_ev *ev)
{
    struct sim_node *n = &sim->nodes[ev->node];
    if (!n->pub.up) {
        return;
    }
    if (sim->now_us - ev->sent_us > 50000) {
        n->lost++;
        sim->nodes[ev->from].lost++;
    }
    if (!sim_seal_open(sim, ev)) {
        return;
    }
    if (sched_gossip_wire_decode(&sim->in, ev->bytes, ev->len) != 0) {
        sim_fail(sim, "wire: own packet not understood", ev->node, ev->from);
        return;
    }
    sim->stats.delivered++;
    sim_note(sim, sim->now_us << 16 | ev->node, (uint64_t)ev->from << 32 | ev->len);
    sim_check_packet(sim, ev->node, &sim->in.packet);
    struct sched_swim_event in = {.kind = SCHED_SWIM_EV_PACKET,
        .channel = (enum sched_swim_channel)ev->channel,
        .from = ev->from + 1,
        .from_boot = ev->from_boot,
        .packet = &sim->in.packet};
    step(sim, ev->node, &in);
}

static void on_edge(struct swim_sim *sim, const struct sim_ev *ev)
{
    struct sim_node *n = &sim->nodes[ev->node];
    uint32_t pool = sim_below(sim, 4);
    if (n->stopped_us <= sim->now_us) {
        n->dynamic.level[0] = (uint8_t)(n->dynamic.level[0] ^ (3u << (2 * pool)));
    }
    if (n->pub.up && n->stopped_us <= sim->now_us) {
        step(sim, ev->node,
            &(struct sched_swim_event){.kind = SCHED_SWIM_EV_DYNAMIC, .dynamic = &n->dynamic});
    }
    struct sim_ev *again = sim_queue_new(&sim->queue, 0);
    again->kind = SIM_EDGE;
    again->node = ev->node;
    sim_queue_put(
        &sim->queue, again, sim->now_us + sim->cfg.edge_us / 2 + sim_below(sim, sim->cfg.edge_us));
}

static void handle(struct swim_sim *sim, struct sim_ev *ev)
{
    switch (ev->kind) {
    case SIM_TICK:
        on_tick(sim, ev);
        break;
    case SIM_DATA:
        on_data(sim, ev);
        break;
    case SIM_REFUSED:
        if (ev->life == sim->nodes[ev->node].life && sim->nodes[ev->node].pub.up) {
            step(sim, ev->node,
                &(struct sched_swim_event){.kind = SCHED_SWIM_EV_REFUSED, .from = ev->from + 1});
        }
        break;
    case SIM_EDGE:
        on_edge(sim, ev);
        break;
    default:
        break;
    }
}

/* Packets wait in the socket of a node that is stopped or cut off from it; the socket is finite. */
static void hold(struct swim_sim *sim, struct sim_ev *ev)
{
    struct sim_node *n = &sim->nodes[ev->node];
    if (n->backlog_n == SIM_BACKLOG_MAX) {
        n->lost++;
        sim->nodes[ev->from].lost++;
        sim_queue_free(&sim->queue, ev);
        return;
    }
    ev->next = NULL;
    if (n->backlog == NULL) {
        n->backlog = ev;
    } else {
        n->backlog_tail->next = ev;
    }
    n->backlog_tail = ev;
    n->backlog_n++;
}

static void drop_backlog(struct swim_sim *sim, struct sim_node *n)
{
    while (n->backlog != NULL) {
        struct sim_ev *next = n->backlog->next;
        sim_queue_free(&sim->queue, n->backlog);
        n->backlog = next;
    }
    n->backlog_n = 0;
}

/* The node runs again. Whether its loop looks at its timer or at its socket first is chance. */
static void resume(struct swim_sim *sim, uint32_t i)
{
    struct sim_node *n = &sim->nodes[i];
    if (!n->pub.up || n->stopped_us > sim->now_us || n->blocked_us > sim->now_us) {
        return;
    }
    bool timer_first = sim_below(sim, 2) == 0 && n->tick_us == UINT64_MAX;
    if (timer_first) {
        step(sim, i, &(struct sched_swim_event){.kind = SCHED_SWIM_EV_TICK});
    }
    struct sim_ev *list = n->backlog;
    n->backlog = NULL;
    n->backlog_n = 0;
    while (list != NULL) {
        struct sim_ev *next = list->next;
        handle(sim, list);
        sim_queue_free(&sim->queue, list);
        list = next;
    }
    if (n->pub.up && n->tick_us == UINT64_MAX) {
        tick_at(sim, i, sim->now_us);
    }
}

bool swim_sim_run(struct swim_sim *sim, uint64_t until_us)
{
    struct sim_ev *ev;
    while (!sim->failed && (ev = sim_queue_next(&sim->queue, until_us)) != NULL) {
        sim->now_us = ev->at_us;
        struct sim_node *n = &sim->nodes[ev->node];
        bool stopped = n->stopped_us > sim->now_us, blocked = n->blocked_us > sim->now_us;
        if (ev->kind == SIM_RESUME) {
            resume(sim, ev->node);
        } else if (ev->kind == SIM_DATA && n->pub.up && (stopped || blocked)) {
            hold(sim, ev);
            continue;
        } else if (ev->kind == SIM_TICK && stopped && ev->life == n->life) {
            n->tick_us = ev->at_us == n->tick_us ? UINT64_MAX : n->tick_us;
        } else if (!(stopped && ev->kind == SIM_REFUSED)) {
            handle(sim, ev);
        }
        sim_queue_free(&sim->queue, ev);
    }
    if (!sim->failed && sim->now_us < until_us) {
        sim->now_us = until_us;
    }
    return !sim->failed;
}

static void start(struct swim_sim *sim, uint32_t i, uint32_t inc)
{
    struct sim_node *n = &sim->nodes[i];
    struct sched_swim_cfg cfg = machine_cfg(sim, i, inc);
    size_t size = sched_swim_size(&cfg);
    REQUIRE(size > 0);
    n->mem = must(malloc(size));
    n->pub.swim = sched_swim_init(&cfg, local_ns(n, sim->now_us), n->mem, size);
    REQUIRE(n->pub.swim != NULL);
    n->inc_max = inc > n->inc_max ? inc : n->inc_max;
    n->pub.up = true;
    n->leaving = false;
    n->life++;
    sim_seal_start(sim, i);
    n->tick_us = UINT64_MAX;
    n->stopped_us = n->blocked_us = 0;
    sim_check_forget_all(sim, i);
    tick_at(sim, i, virtual_us(n, sched_swim_deadline_ns(n->pub.swim)));
}

static void stop(struct swim_sim *sim, uint32_t i)
{
    struct sim_node *n = &sim->nodes[i];
    if (n->mem != NULL) {
        sched_swim_deinit(n->pub.swim);
        free(n->mem);
    }
    n->mem = NULL;
    n->pub.swim = NULL;
    n->pub.up = false;
    n->life++;
    drop_backlog(sim, n);
}

/* Gives every node the table of all others, as an answer to its first JOIN. */
static void warm_up(struct swim_sim *sim, uint32_t i)
{
    struct sim_node *n = &sim->nodes[i];
    struct sched_swim_event tick = {.kind = SCHED_SWIM_EV_TICK, .now_ns = local_ns(n, sim->now_us)};
    sched_swim_step(n->pub.swim, &tick, &sim->fx);
    uint16_t seq = 0;
    for (uint32_t k = 0; k < sim->fx.n; k++) {
        const struct sched_swim_fx *fx = &sim->fx.fx[k];
        seq = fx->kind == SCHED_SWIM_FX_SEND && fx->packet.type == SCHED_SWIM_JOIN ? fx->packet.seq
                                                                                   : seq;
    }
    struct sched_swim_packet p = {.version = 1,
        .type = SCHED_SWIM_TABLE,
        .seq = seq,
        .inc = 1,
        .alive = sim->cfg.nodes,
        .updates = sim->in.updates};
    for (uint32_t k = 0; k < sim->cfg.nodes;) {
        p.update_count = 0;
        for (; k < sim->cfg.nodes && p.update_count < SCHED_SWIM_UPDATES_MAX; k++) {
            sim->in.updates[p.update_count++] = (struct sched_update){.kind = SCHED_UPDATE_ALIVE,
                .inc = 1,
                .id = k + 1,
                .announce = &sim->nodes[k].announce};
        }
        p.flags = k == sim->cfg.nodes ? SCHED_SWIM_LAST : 0;
        struct sched_swim_event ev = {.kind = SCHED_SWIM_EV_PACKET,
            .channel = SCHED_SWIM_CTL,
            .now_ns = local_ns(n, sim->now_us),
            .from = i == 0 ? 2 : 1,
            .from_boot = sim->nodes[i == 0].announce.boot,
            .packet = &p};
        sched_swim_step(n->pub.swim, &ev, &sim->fx);
        for (uint32_t e = 0; e < sim->fx.n; e++) {
            if (sim->fx.fx[e].kind == SCHED_SWIM_FX_PEER) {
                sim_check_member(sim, i, &sim->fx.fx[e]);
            }
        }
    }
    tick_at(sim, i, virtual_us(n, sched_swim_deadline_ns(n->pub.swim)));
}

static void node_init(struct swim_sim *sim, uint32_t i)
{
    struct sim_node *n = &sim->nodes[i];
    n->announce = (struct sched_announce){.id = i + 1,
        .ip = {{10, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i}},
        .ip_version = {SCHED_IP_V4},
        .port = {7946, 7947, 7948},
        .zone = (uint16_t)(i % 3),
        .weight = 10,
        .role = i % 8 == 7 ? SCHED_ROLE_OBSERVER : SCHED_ROLE_WORKER,
        .proto_min = 1,
        .proto_max = 1,
        .proto_now = 1};
    n->dynamic = (struct sched_dynamic){.view = 1, .level = {0xff}};
    n->rate_ppm = (int32_t)sim_below(sim, 2 * sim->cfg.rate_ppm + 1) - (int32_t)sim->cfg.rate_ppm;
    n->offset_ns = base_hash_rng_next(&sim->rng) >> 16;
}

struct swim_sim *swim_sim_create(const struct swim_sim_cfg *cfg)
{
    struct swim_sim *sim = must(calloc(1, sizeof *sim));
    sim->cfg = *cfg;
    base_hash_rng_seed(&sim->rng, cfg->seed);
    sim_queue_init(&sim->queue);
    uint32_t entries = cfg->nodes * 4 + 16;
    size_t size = sched_book_size(entries);
    sim->book_mem = must(malloc(size));
    REQUIRE(sched_book_init(&sim->book, entries, sim->book_mem, size) == 0);
    sim->nodes = must(calloc(cfg->nodes, sizeof *sim->nodes));
    if (!cfg->cheap) {
        sim->shadow = must(calloc((size_t)cfg->nodes * cfg->nodes, sizeof *sim->shadow));
        sim->seals = cfg->sealed ? sim_seals_new(cfg->nodes) : NULL;
    }
    for (uint32_t i = 0; i < cfg->nodes; i++) {
        node_init(sim, i);
        start(sim, i, 1);
    }
    for (uint32_t i = 0; i < cfg->nodes; i++) {
        if (cfg->warm) {
            warm_up(sim, i);
        }
        if (cfg->edge_us > 0) {
            struct sim_ev *ev = sim_queue_new(&sim->queue, 0);
            ev->kind = SIM_EDGE;
            ev->node = i;
            sim_queue_put(&sim->queue, ev, sim_below(sim, cfg->edge_us));
        }
    }
    return sim;
}

void swim_sim_destroy(struct swim_sim *sim)
{
    for (uint32_t i = 0; i < sim->cfg.nodes; i++) {
        drop_backlog(sim, &sim->nodes[i]);
        free(sim->nodes[i].mem);
    }
    sim_queue_deinit(&sim->queue);
    free(sim->shadow);
    sim_seals_free(sim->seals);
    free(sim->nodes);
    free(sim->book_mem);
    free(sim);
}

uint64_t swim_sim_now(const struct swim_sim *sim)
{
    return sim->now_us;
}

const struct swim_sim_stats *swim_sim_stats(const struct swim_sim *sim)
{
    return &sim->stats;
}

const struct swim_sim_node *swim_sim_node(const struct swim_sim *sim, uint32_t node)
{
    return &sim->nodes[node].pub;
}

void swim_sim_crash(struct swim_sim *sim, uint32_t node, bool loud)
{
    struct sim_node *n = &sim->nodes[node];
    if (!n->pub.up) {
        return;
    }
    stop(sim, node);
    n->loud = loud;
    n->pub.suspect_us = n->pub.dead_us = 0;
    n->pub.dead_n = 0;
}

void swim_sim_start(struct swim_sim *sim, uint32_t node, bool remembers)
{
    struct sim_node *n = &sim->nodes[node];
    if (n->pub.up) {
        return;
    }
    stop(sim, node); /* one that left still has its memory */
    n->pub.sick_until_us = sim->now_us + RECOVERY_US;
    start(sim, node, remembers ? n->inc_max + 1 : 1);
}

void swim_sim_leave(struct swim_sim *sim, uint32_t node)
{
    struct sim_node *n = &sim->nodes[node];
    if (n->pub.up && n->stopped_us <= sim->now_us) {
        n->leaving = true;
        n->loud = false;
        step(sim, node, &(struct sched_swim_event){.kind = SCHED_SWIM_EV_LEAVE});
    }
}

void swim_sim_stall(struct swim_sim *sim, uint32_t node, enum swim_sim_stall kind, uint64_t for_us)
{
    struct sim_node *n = &sim->nodes[node];
    uint64_t until = sim->now_us + for_us;
    uint64_t *end = kind == SWIM_SIM_STOPPED ? &n->stopped_us : &n->blocked_us;
    if (!n->pub.up || *end >= until) {
        return;
    }
    *end = until;
    n->lost++;
    n->pub.sick_until_us = until + RECOVERY_US;
    struct sim_ev *ev = sim_queue_new(&sim->queue, 0);
    ev->kind = SIM_RESUME;
    ev->node = node;
    sim_queue_put(&sim->queue, ev, until);
}

void swim_sim_cut(struct swim_sim *sim, uint64_t from, uint64_t to, uint64_t for_us)
{
    uint32_t at = 0;
    while (at < sim->cut_n && sim->cuts[at].until_us > sim->now_us) {
        at++;
    }
    if (at < SIM_CUTS_MAX) {
        sim->cuts[at] = (struct sim_cut){.from = from, .to = to, .until_us = sim->now_us + for_us};
        sim->cut_n = at == sim->cut_n ? at + 1 : sim->cut_n;
    }
}

void swim_sim_heal(struct swim_sim *sim)
{
    sim->cut_n = 0;
    sim->cfg.loss_ppm = sim->cfg.copy_ppm = sim->cfg.late_ppm = 0;
    for (uint32_t i = 0; i < sim->cfg.nodes; i++) {
        struct sim_node *n = &sim->nodes[i];
        if (n->pub.up && (n->stopped_us > sim->now_us || n->blocked_us > sim->now_us)) {
            n->stopped_us = n->blocked_us = 0;
            resume(sim, i);
        }
    }
}
