/* Failure detection in one model on virtual time: Warren's parameters beside memberlist's LAN
 * defaults, same network, same faults, same run.
 *
 *     bench_gossip_sim [--quick | --large]
 *
 * memberlist is played by the same machine with its rules switched to memberlist's: fixed
 * time-outs, period 1 s, gossip each 200 ms, suspicion 4 * max(1, log10 n) s with 2 confirmations,
 * a probe over TCP beside the relays, a clock that runs through stalls, no comparison of digests,
 * no budget. Its real packets are larger than the ones counted here. --large adds 10,000 nodes (5
 * GB, minutes);
 * --quick is a test: it checks that Warren is not worse, at 10 and 100 nodes. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/stat.h"
#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/hash.h"
#include "tests/sim/swim_sim.h"

enum { S = 1000000, RIVALS = 2, CRASHES_MAX = 64 };

struct rival {
    const char *name;
    void (*params)(struct sched_swim_params *p);
};

static void memberlist_lan(struct sched_swim_params *p)
{
    sched_swim_params_default(p);
    p->period_ms = 1000;
    p->ping_min_ms = p->ping_max_ms = 500;
    p->gossip_ms = 200;
    p->suspect_mult = 4;
    p->suspect_max_mult = 6;
    p->confirmations = 2;
    p->stall_cap_ms = 0;
    p->root_ms = 0;
    p->deaf_ms = 0;
    p->retries = 0;
    p->rate = 0;
    p->refused_hint = false;
    p->ctl_ping = true;
}

static const struct rival rivals[RIVALS] = {
    {"warren", sched_swim_params_default}, {"memberlist", memberlist_lan}};

struct detection {
    double suspect[CRASHES_MAX], dead[CRASHES_MAX], all[CRASHES_MAX];
    size_t n;
    uint64_t false_dead;
};

static struct swim_sim_cfg cfg_of(const struct rival *r, uint32_t n, uint64_t seed)
{
    struct swim_sim_cfg c = {.seed = seed,
        .nodes = n,
        .seeds = n < 3 ? 1 : 3,
        .delay_us = 300,
        .warm = true,
        .cheap = true,
        .timers_max = n > 1000 ? 512 : 0,
        .queue_max = n > 1000 ? 512 : 256};
    r->params(&c.params);
    return c;
}

static void must(bool ok)
{
    if (!ok) {
        exit(1); /* the simulator has said why */
    }
}

/* Takes down `crashes` nodes, one after the other or together, and notes when it was known. */
static void crash(
    struct swim_sim *sim, uint32_t n, uint32_t first, uint32_t crashes, struct detection *d)
{
    uint64_t at = swim_sim_now(sim);
    for (uint32_t i = 0; i < crashes; i++) {
        swim_sim_crash(sim, first + i, false);
    }
    uint32_t down = 0;
    for (uint32_t i = 0; i < n; i++) {
        down += swim_sim_node(sim, i)->up ? 0 : 1;
    }
    uint64_t all[CRASHES_MAX] = {0};
    for (uint32_t left = crashes; left > 0;) {
        must(swim_sim_run(sim, swim_sim_now(sim) + 10000));
        REQUIRE(swim_sim_now(sim) - at < 200 * (uint64_t)S);
        for (uint32_t i = 0; i < crashes; i++) {
            if (all[i] == 0 && swim_sim_node(sim, first + i)->dead_n >= n - down) {
                all[i] = swim_sim_now(sim);
                left--;
            }
        }
    }
    for (uint32_t i = 0; i < crashes && d->n < CRASHES_MAX; i++) {
        const struct swim_sim_node *node = swim_sim_node(sim, first + i);
        d->suspect[d->n] = (double)(node->suspect_us - at) / S;
        d->dead[d->n] = (double)(node->dead_us - at) / S;
        d->all[d->n++] = (double)(all[i] - at) / S;
    }
}

struct size {
    uint32_t n, sims, crashes, together;
};

static void detect(const struct rival *r, const struct size *z, struct detection *d)
{
    *d = (struct detection){0};
    for (uint32_t k = 0; k < z->sims; k++) {
        struct swim_sim_cfg c = cfg_of(r, z->n, 1000 + k);
        struct swim_sim *sim = swim_sim_create(&c);
        must(swim_sim_run(sim, 5 * S + k * 37000));
        for (uint32_t i = 0; i < z->crashes; i++) {
            crash(sim, z->n, z->n - (i + 1) * z->together, z->together, d);
            must(swim_sim_run(sim, swim_sim_now(sim) + 2 * S + i * 91000));
        }
        d->false_dead += swim_sim_stats(sim)->false_dead_seen;
        swim_sim_destroy(sim);
    }
}

static void print_detection(const struct rival *r, const struct size *z, struct detection *d)
{
    bench_sort(d->suspect, d->n);
    bench_sort(d->dead, d->n);
    bench_sort(d->all, d->n);
    printf("detect n=%-6u %-11s crashes %2zu | first suspect p50 %5.2f p99 %5.2f | first dead p50 "
           "%5.2f p99 %5.2f | known by all p50 %5.2f p99 %5.2f s | false dead %" PRIu64 "\n",
        z->n, r->name, d->n, bench_quantile(d->suspect, d->n, 0.5),
        bench_quantile(d->suspect, d->n, 0.99), bench_quantile(d->dead, d->n, 0.5),
        bench_quantile(d->dead, d->n, 0.99), bench_quantile(d->all, d->n, 0.5),
        bench_quantile(d->all, d->n, 0.99), d->false_dead);
}

/* Bytes per node and second, datagrams with all headers. */
static double traffic(
    const struct rival *r, uint32_t n, uint64_t edge_us, double *ret_packets, double *ret_edges)
{
    struct swim_sim_cfg c = cfg_of(r, n, 7);
    c.edge_us = (uint32_t)edge_us;
    struct swim_sim *sim = swim_sim_create(&c);
    uint64_t from = edge_us > 0 ? 20 * S : 5 * S, span = 20 * S;
    must(swim_sim_run(sim, from));
    struct swim_sim_stats before = *swim_sim_stats(sim);
    must(swim_sim_run(sim, from + span));
    const struct swim_sim_stats *after = swim_sim_stats(sim);
    double node_seconds = (double)n * (double)span / S;
    *ret_packets = (double)(after->packets - before.packets) / node_seconds;
    *ret_edges = (double)swim_sim_edges_right_ppm(sim) / 1e4;
    double bytes = (double)(after->bytes - before.bytes) / node_seconds;
    swim_sim_destroy(sim);
    return bytes;
}

static void print_traffic(uint32_t n)
{
    double packets, right;
    for (int i = 0; i < RIVALS; i++) {
        double bytes = traffic(&rivals[i], n, 0, &packets, &right);
        printf("idle   n=%-6u %-11s %7.0f B/s %5.1f packets/s per node\n", n, rivals[i].name, bytes,
            packets);
    }
    uint64_t period_ms = n * UINT64_C(50) > 10000 ? n * UINT64_C(50) : 10000;
    double bytes = traffic(&rivals[0], n, period_ms * 1000, &packets, &right);
    printf(
        "edges  n=%-6u %-11s %7.0f B/s %5.1f packets/s per node, every node changes each %.0f s, "
        "%.2f %% of what is known is right\n",
        n, rivals[0].name, bytes, packets, (double)period_ms / 1000, right);
}

/* All nodes start at once and know nothing but three addresses. */
static bool join(uint32_t n, uint64_t seed, double *ret_s, double ret_bytes[2])
{
    struct swim_sim_cfg c = cfg_of(&rivals[0], n, seed);
    c.warm = false;
    struct swim_sim *sim = swim_sim_create(&c);
    bool settled = false;
    while (!settled && swim_sim_now(sim) < 60 * (uint64_t)S) {
        must(swim_sim_run(sim, swim_sim_now(sim) + S / 20));
        settled = swim_sim_settled(sim);
    }
    *ret_s = (double)swim_sim_now(sim) / S;
    ret_bytes[0] += (double)swim_sim_stats(sim)->bytes / n;
    ret_bytes[1] += (double)swim_sim_stats(sim)->ctl_bytes / n;
    swim_sim_destroy(sim);
    return settled;
}

static bool print_join(uint32_t n)
{
    double took[8], bytes[2] = {0};
    size_t runs = n < 1000 ? 8 : 3, known = 0;
    for (size_t k = 0; k < runs; k++) {
        known += join(n, 11 + k, &took[k], bytes);
    }
    bench_sort(took, runs);
    printf("join   n=%-6u warren      all at once, everybody knows everybody after p50 %.2f p99 "
           "%.2f s (%zu of %zu within 60 s), %.0f bytes of datagrams, %.0f of tables per node\n",
        n, bench_quantile(took, runs, 0.5), bench_quantile(took, runs, 0.99), known, runs,
        bytes[0] / (double)runs, bytes[1] / (double)runs);
    return known == runs;
}

/* Loss for all, or stalls of some; healthy nodes that healthy nodes declare dead. */
static uint64_t false_positives(const struct rival *r, uint32_t n, uint32_t loss_ppm,
    uint32_t stalled, enum swim_sim_stall kind, uint64_t *ret_bytes)
{
    uint64_t sum = 0, seconds = n > 200 ? 60 : 300, until[16] = {0};
    struct swim_sim_cfg c = cfg_of(r, n, 5);
    c.loss_ppm = loss_ppm;
    struct swim_sim *sim = swim_sim_create(&c);
    for (uint64_t t = 1; t <= seconds; t++) {
        for (uint32_t i = 0; i < stalled; i++) {
            uint32_t node = 3 + i * (n / stalled) % (n - 3);
            uint64_t hash = base_hash_mix64(t * 1000 + i), span = 2 + hash / 10 % 31;
            if (t > until[i] && hash % 10 == 0) { /* 2 to 32 s, again and again */
                swim_sim_stall(sim, node, kind, span * S);
                until[i] = t + span;
            }
        }
        must(swim_sim_run(sim, t * S));
    }
    const struct swim_sim_stats *st = swim_sim_stats(sim);
    sum = st->false_dead_seen;
    *ret_bytes = st->bytes / n / seconds;
    swim_sim_destroy(sim);
    return sum;
}

static bool print_false(uint32_t n, bool quick)
{
    static const uint32_t losses[] = {10000, 50000, 100000, 200000};
    bool ok = true;
    for (unsigned k = 0; k < (quick ? 2 : 4); k++) {
        uint64_t fp[RIVALS], bytes[RIVALS];
        for (int i = 0; i < RIVALS; i++) {
            fp[i] = false_positives(&rivals[i], n, losses[k], 0, SWIM_SIM_STOPPED, &bytes[i]);
        }
        printf("false  n=%-6u loss %2u %%: warren %" PRIu64 " (%" PRIu64
               " B/s), memberlist %" PRIu64 " (%" PRIu64 " B/s)\n",
            n, losses[k] / 10000, fp[0], bytes[0], fp[1], bytes[1]);
        ok = ok && fp[0] <= fp[1];
    }
    for (uint32_t stalled = 4; stalled <= 16 && n <= 200; stalled *= 4) {
        for (int kind = SWIM_SIM_STOPPED; kind <= SWIM_SIM_BLOCKED; kind++) {
            uint64_t fp[RIVALS], bytes[RIVALS];
            for (int i = 0; i < RIVALS; i++) {
                fp[i] = false_positives(
                    &rivals[i], n, 0, stalled, (enum swim_sim_stall)kind, &bytes[i]);
            }
            printf("false  n=%-6u %2u nodes %s for 2-32 s: warren %" PRIu64 ", memberlist %" PRIu64
                   "\n",
                n, stalled, kind == SWIM_SIM_STOPPED ? "stopped" : "with I/O blocked", fp[0],
                fp[1]);
            ok = ok && fp[0] <= fp[1];
        }
    }
    return ok;
}

int main(int argc, char **argv)
{
    bool quick = argc > 1 && strcmp(argv[1], "--quick") == 0;
    bool large = argc > 1 && strcmp(argv[1], "--large") == 0;
    static const struct size sizes[] = {
        {10, 40, 1, 1}, {100, 8, 5, 1}, {1000, 2, 10, 1}, {10000, 1, 1, 10}};
    unsigned n_sizes = quick ? 2 : large ? 4 : 3;
    bool ok = true;
    for (unsigned k = 0; k < n_sizes; k++) {
        struct size z = sizes[k];
        if (quick) {
            z.sims = z.n == 10 ? 10 : 2;
        }
        double known[RIVALS];
        uint64_t false_dead[RIVALS], t0 = base_clock_mono_ns();
        for (int i = 0; i < RIVALS; i++) {
            static struct detection d;
            detect(&rivals[i], &z, &d);
            print_detection(&rivals[i], &z, &d);
            known[i] = bench_quantile(d.all, d.n, 0.5);
            false_dead[i] = d.false_dead;
        }
        printf("detect n=%-6u known by all, memberlist / warren: %.2f\n", z.n, known[1] / known[0]);
        ok = ok && known[0] * 2 <= known[1] && false_dead[0] <= false_dead[1];
        print_traffic(z.n);
        ok = (z.n > 1000 || print_join(z.n)) && ok;
        if (z.n == 100 || (z.n == 1000 && !quick)) {
            ok = print_false(z.n, quick) && ok;
        }
        printf("       n=%-6u took %.1f s\n", z.n, (double)(base_clock_mono_ns() - t0) / 1e9);
        (void)fflush(stdout);
    }
    printf("%s\n", ok ? "twice as fast with no more false positives"
                      : "NOT twice as fast with no more false positives");
    return ok ? 0 : 1;
}
