#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/hash.h"
#include "tests/sim/swim_sim.h"

/* Random clusters under random faults. Everything is drawn from the seed: first a phase in which
 * anything may fail and nothing wrong may happen, then all faults stop and every view must become
 * right in time. */

enum { FAULTS_MAX = 128, S = 1000000 };

enum fault_kind {
    FAULT_CRASH,
    FAULT_LOUD_CRASH,
    FAULT_START,
    FAULT_START_REMEMBER,
    FAULT_LEAVE,
    FAULT_STOP,
    FAULT_BLOCK,
    FAULT_CUT, /* one way */
    FAULT_SPLIT,
    FAULT_KINDS,
};

static const char *const fault_names[FAULT_KINDS] = {
    "crash", "loud-crash", "start", "start-remember", "leave", "stop", "block", "cut", "split"};

struct fault {
    uint64_t at_us, for_us;
    uint64_t from, to; /* sets */
    uint32_t node;
    enum fault_kind kind;
};

struct plan {
    struct swim_sim_cfg cfg;
    uint64_t faults_us; /* the phase of faults */
    uint32_t fault_n;
    bool calm; /* no loss, no fault: nobody may ever be suspected */
    struct fault faults[FAULTS_MAX];
};

struct options {
    uint64_t from, to;
    uint32_t nodes; /* 0: by the seed */
    uint32_t minutes;
    bool trace, large, quiet;
};

static uint32_t pick(struct base_hash_rng *r, const uint32_t *from, uint32_t n)
{
    return from[base_hash_rng_below(r, n)];
}

static uint64_t between(struct base_hash_rng *r, uint64_t lo, uint64_t hi)
{
    return lo + base_hash_rng_below(r, hi - lo + 1);
}

static void draw_fault(struct base_hash_rng *r, struct plan *p, struct fault *f)
{
    static const uint8_t weights[] = {FAULT_CRASH, FAULT_LOUD_CRASH, FAULT_START, FAULT_START,
        FAULT_START, FAULT_START_REMEMBER, FAULT_LEAVE, FAULT_STOP, FAULT_STOP, FAULT_BLOCK,
        FAULT_CUT, FAULT_CUT, FAULT_CUT, FAULT_SPLIT};
    *f = (struct fault){
        .kind = weights[base_hash_rng_below(r, sizeof weights)],
        .at_us = between(r, 2 * S, p->faults_us),
        .node = (uint32_t)base_hash_rng_below(r, p->cfg.nodes),
        .for_us =
            between(r, 1, 4) == 1 ? between(r, S, 60 * (uint64_t)S) : between(r, S / 4, 8 * S),
        .from = base_hash_rng_next(r),
        .to = base_hash_rng_next(r),
    };
    if (f->kind == FAULT_CUT && between(r, 0, 1) == 0) { /* a single link */
        f->from = UINT64_C(1) << (f->node % 64);
        f->to = UINT64_C(1) << between(r, 0, p->cfg.nodes < 64 ? p->cfg.nodes - 1 : 63);
    }
}

/* Some nodes stand still now and then and nothing else goes wrong: the others must never be
 * accused. */
static void only_stops(struct plan *p)
{
    p->cfg.only_stops = true;
    p->cfg.loss_ppm = p->cfg.late_ppm = 0;
    p->cfg.delay_us = 15000; /* so that many a stop falls between a ping and its ack */
    for (uint32_t i = 0; i < p->fault_n; i++) {
        p->faults[i].kind = FAULT_STOP;
        p->faults[i].node %= p->cfg.nodes / 2;
    }
}

static void draw(uint64_t seed, const struct options *o, struct plan *p)
{
    static const uint32_t sizes[] = {2, 3, 4, 5, 7, 10, 16, 24, 33, 40};
    static const uint32_t losses[] = {0, 0, 1000, 10000, 50000, 200000};
    struct base_hash_rng r;
    base_hash_rng_seed(&r, seed);
    *p = (struct plan){.faults_us = between(&r, 30, 90) * S};
    p->cfg = (struct swim_sim_cfg){
        .seed = seed,
        .nodes = o->nodes != 0 ? o->nodes : pick(&r, sizes, 10),
        .seeds = (uint32_t)between(&r, 1, 3),
        .loss_ppm = pick(&r, losses, 6),
        .copy_ppm = between(&r, 0, 2) == 0 ? 20000 : 0,
        .late_ppm = between(&r, 0, 3) == 0 ? 3000 : 0,
        .delay_us = (uint32_t)between(&r, 100, 600),
        .rate_ppm = between(&r, 0, 1) == 0 ? 2000 : 0,
        .edge_us = between(&r, 0, 1) == 0 ? 4 * S : 0,
        .queue_max = between(&r, 0, 3) == 0 ? 8 : 0,
        .timers_max = between(&r, 0, 3) == 0 ? 2 : 0,
        .warm = between(&r, 0, 1) == 0,
        .cheap = o->large,
        .sealed = seed % 2 == 1,
        .trace = o->trace,
    };
    p->cfg.seeds = p->cfg.seeds < p->cfg.nodes ? p->cfg.seeds : 1;
    sched_swim_params_default(&p->cfg.params);
    if (between(&r, 0, 3) == 0) {
        sched_swim_params_fast(&p->cfg.params);
    }
    p->cfg.params.ctl_ping = between(&r, 0, 1) == 0;
    p->fault_n = (uint32_t)between(&r, 0, 5) == 0 ? 0 : (uint32_t)between(&r, 1, 30);
    for (uint32_t i = 0; i < p->fault_n; i++) {
        draw_fault(&r, p, &p->faults[i]);
    }
    if (p->fault_n > 0 && between(&r, 0, 4) == 0) {
        only_stops(p);
    }
    if (o->minutes > 0) {
        p->faults_us = o->minutes * UINT64_C(60) * S;
    }
    p->calm = p->fault_n == 0 && p->cfg.loss_ppm == 0 && p->cfg.late_ppm == 0;
}

static int by_time(const void *a, const void *b)
{
    const struct fault *x = a, *y = b;
    return x->at_us < y->at_us ? -1 : x->at_us > y->at_us;
}

static void print_plan(const struct plan *p)
{
    const struct swim_sim_cfg *c = &p->cfg;
    (void)printf("seed %" PRIu64 ": n=%u seeds=%u loss=%u copy=%u late=%u delay=%u rate=%u "
                 "edge=%u queue=%u timers=%u warm=%d T=%u ctl=%d stops=%d faults=%u until %.0f s\n",
        c->seed, c->nodes, c->seeds, c->loss_ppm, c->copy_ppm, c->late_ppm, c->delay_us,
        c->rate_ppm, c->edge_us, c->queue_max, c->timers_max, c->warm, c->params.period_ms,
        c->params.ctl_ping, c->only_stops, p->fault_n, (double)p->faults_us / 1e6);
    for (uint32_t i = 0; i < p->fault_n; i++) {
        const struct fault *f = &p->faults[i];
        (void)printf("  %9.3f s %s node %u for %.3f s, %016" PRIx64 " -> %016" PRIx64 "\n",
            (double)f->at_us / 1e6, fault_names[f->kind], f->node, (double)f->for_us / 1e6, f->from,
            f->to);
    }
}

static void inject(struct swim_sim *sim, const struct fault *f)
{
    switch (f->kind) {
    case FAULT_CRASH:
    case FAULT_LOUD_CRASH:
        swim_sim_crash(sim, f->node, f->kind == FAULT_LOUD_CRASH);
        break;
    case FAULT_START:
    case FAULT_START_REMEMBER:
        swim_sim_start(sim, f->node, f->kind == FAULT_START_REMEMBER);
        break;
    case FAULT_LEAVE:
        swim_sim_leave(sim, f->node);
        break;
    case FAULT_STOP:
    case FAULT_BLOCK:
        swim_sim_stall(
            sim, f->node, f->kind == FAULT_STOP ? SWIM_SIM_STOPPED : SWIM_SIM_BLOCKED, f->for_us);
        break;
    case FAULT_CUT:
        swim_sim_cut(sim, f->from, f->to, f->for_us);
        break;
    case FAULT_SPLIT:
        swim_sim_cut(sim, f->from, ~f->from, f->for_us);
        swim_sim_cut(sim, ~f->from, f->from, f->for_us);
        break;
    case FAULT_KINDS:
        break;
    }
}

/* How long until no node doubts itself any more: one that does takes longer periods, and gets
 * better by one with each of them. */
static uint64_t recovery_us(const struct swim_sim *sim, const struct plan *p)
{
    uint64_t worst = 0;
    for (uint32_t i = 0; i < p->cfg.nodes; i++) {
        const struct swim_sim_node *n = swim_sim_node(sim, i);
        uint64_t health = n->up ? sched_swim_health(n->swim) : 0;
        worst = health > worst ? health : worst;
    }
    return (worst + 1) * (worst + 2) / 2 * p->cfg.params.period_ms * 1000;
}

/* L1: when faults stop, all views are right within the longest suspicion and 2 s, counted from when
 * nobody doubts itself. The seeds are up then, otherwise separated parts have no address at which
 * to meet. */
static bool settle(struct swim_sim *sim, const struct plan *p, uint64_t *ret_us)
{
    swim_sim_heal(sim);
    for (uint32_t i = 0; i < p->cfg.seeds; i++) {
        swim_sim_start(sim, i, false);
    }
    uint64_t begin = swim_sim_now(sim);
    uint64_t bound = sched_swim_suspect_max_ms(&p->cfg.params, p->cfg.nodes) * 1000 + 2 * S +
                     recovery_us(sim, p);
    while (!swim_sim_settled(sim)) {
        if (swim_sim_now(sim) - begin > bound) {
            (void)printf("BROKEN L1: views differ %.1f s after the faults, seed %" PRIu64 "\n",
                (double)bound / 1e6, p->cfg.seed);
            swim_sim_explain(sim);
            return false;
        }
        if (!swim_sim_run(sim, swim_sim_now(sim) + S / 10)) {
            return false;
        }
    }
    *ret_us = swim_sim_now(sim) - begin;
    return true;
}

static bool run(struct plan *p, struct swim_sim_stats *ret_stats, uint64_t *ret_settled_us)
{
    struct swim_sim *sim = swim_sim_create(&p->cfg);
    bool ok = true;
    for (uint32_t i = 0; ok && i < p->fault_n; i++) {
        ok = swim_sim_run(sim, p->faults[i].at_us);
        inject(sim, &p->faults[i]);
    }
    ok = ok && swim_sim_run(sim, p->faults_us);
    ok = ok && settle(sim, p, ret_settled_us);
    if (ok && !swim_sim_check(sim)) {
        (void)printf("BROKEN S13: structures, seed %" PRIu64 "\n", p->cfg.seed);
        ok = false;
    }
    *ret_stats = *swim_sim_stats(sim);
    if (ok && p->calm && (ret_stats->suspicions > 0 || ret_stats->false_dead_seen > 0)) {
        (void)printf("BROKEN L7: suspicion in a calm cluster, seed %" PRIu64 "\n", p->cfg.seed);
        ok = false;
    }
    swim_sim_destroy(sim);
    return ok;
}

static bool one_seed(uint64_t seed, const struct options *o)
{
    struct plan p;
    draw(seed, o, &p);
    qsort(p.faults, p.fault_n, sizeof p.faults[0], by_time);
    if (!o->quiet || o->trace) {
        print_plan(&p);
    }
    struct swim_sim_stats a = {0}, b = {0};
    uint64_t settled_us = 0;
    bool ok = run(&p, &a, &settled_us);
    if (ok && !o->trace) {
        ok = run(&p, &b, &settled_us);
        if (a.hash != b.hash || a.steps != b.steps) {
            (void)printf("BROKEN determinism: seed %" PRIu64 "\n", seed);
            ok = false;
        }
    }
    if (!ok || !o->quiet) {
        if (!ok && o->quiet) {
            print_plan(&p);
        }
        (void)printf("seed %" PRIu64 " %s: %" PRIu64 " steps, %" PRIu64 " packets, %" PRIu64
                     " lost, settled after %.1f s, %" PRIu64 " suspicions, %" PRIu64
                     " false dead, fx %u, queue %u, hash %016" PRIx64 "\n",
            seed, ok ? "ok" : "FAILED", a.steps, a.packets, a.lost, (double)settled_us / 1e6,
            a.suspicions, a.false_dead, a.fx_max, a.queue_max, a.hash);
    }
    return ok;
}

static int usage(void)
{
    (void)fprintf(stderr,
        "usage: swim_sim [--seed N | --seeds A..B] [--nodes N] [--minutes M] [--large] [--trace] "
        "[--quiet]\n"
        "Random clusters under random faults; every seed runs twice and must do the same.\n");
    return 2;
}

static bool parse(int argc, char **argv, struct options *o)
{
    static const struct option longs[] = {{"seed", 1, NULL, 's'}, {"seeds", 1, NULL, 'r'},
        {"nodes", 1, NULL, 'n'}, {"minutes", 1, NULL, 'm'}, {"large", 0, NULL, 'l'},
        {"trace", 0, NULL, 't'}, {"quiet", 0, NULL, 'q'}, {NULL, 0, NULL, 0}};
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        char *end = NULL;
        switch (c) {
        case 's':
            o->from = o->to = strtoull(optarg, &end, 10);
            break;
        case 'r':
            o->from = strtoull(optarg, &end, 10);
            if (strncmp(end, "..", 2) != 0) {
                return false;
            }
            o->to = strtoull(end + 2, &end, 10);
            break;
        case 'n':
            o->nodes = (uint32_t)strtoul(optarg, &end, 10);
            break;
        case 'm':
            o->minutes = (uint32_t)strtoul(optarg, &end, 10);
            break;
        case 'l':
            o->large = true;
            break;
        case 't':
            o->trace = true;
            break;
        case 'q':
            o->quiet = true;
            break;
        default:
            return false;
        }
        if (end != NULL && *end != '\0') {
            return false;
        }
    }
    return optind == argc && o->from <= o->to && (o->nodes == 0 || o->nodes >= 2) &&
           o->nodes <= 20000;
}

int main(int argc, char **argv)
{
    struct options o = {.from = 1, .to = 20};
    if (!parse(argc, argv, &o)) {
        return usage();
    }
    uint64_t failed = 0;
    for (uint64_t seed = o.from; seed <= o.to; seed++) {
        failed += one_seed(seed, &o) ? 0 : 1;
    }
    (void)printf("%" PRIu64 " seeds, %" PRIu64 " failed\n", o.to - o.from + 1, failed);
    return failed == 0 ? 0 : 1;
}
