/* Warren's timer wheel beside libev's heap: same timers, same run.
 *
 *     bench_wheel [--quick]
 *
 * A million sessions with a cooldown: armed, put off by requests, pulled in, cancelled, expired.
 * The heap moves a timer whenever its time changes. The wheel only notes a later time, and moves
 * the timer when its old time comes: that debt is measured on its own ("settle").
 * --quick only checks that both fire every timer once and never early; it is a test. */
#include <ev.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/stat.h"
#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/container.h"
#include "proto/base/hash.h"
#include "scheduler/core/wheel.h"

enum { BATCH = 1000, BUDGET = 2000, ROUNDS = 3 };

#define COOLDOWN_NS (600 * BASE_NS_PER_S)

enum op { INSERT, PUT_OFF, SETTLE, PULL_IN, CANCEL, EXPIRE, OPS };
static const char *const op_names[OPS] = {
    "insert", "put off", "settle", "pull in", "cancel", "expire"};

/* As large as the session that a timer is part of. */
struct owner {
    union {
        struct sched_wheel_node node;
        ev_timer ev;
    };
    uint32_t fired;
    uint8_t rest[52];
};

struct series {
    double *ns; /* per operation, one entry per batch */
    size_t n;
    double stall_ms; /* the longest turn while timers expired */
};

struct bench {
    uint32_t n; /* timers, a multiple of BATCH */
    struct owner *owners;
    uint32_t *order;   /* a random permutation */
    uint64_t *span_ns; /* a random time up to the cooldown for each timer */
    struct series wheel[OPS], heap[OPS];
    unsigned failures;
};

static void *must(void *p)
{
    REQUIRE(p != NULL);
    return p;
}

static void sample(struct series *s, uint64_t start_ns, uint32_t ops)
{
    if (ops > 0) {
        s->ns[s->n++] = (double)(base_clock_mono_ns() - start_ns) / ops;
    }
}

static void stalled(struct series *s, uint64_t start_ns)
{
    double ms = (double)(base_clock_mono_ns() - start_ns) / 1e6;
    s->stall_ms = ms > s->stall_ms ? ms : s->stall_ms;
}

static void check_fired(struct bench *b, const char *who)
{
    for (uint32_t i = 0; i < b->n; i++) {
        if (b->owners[i].fired != 1) {
            (void)printf("WRONG: %s fired timer %u %u times\n", who, i, b->owners[i].fired);
            b->failures++;
            return;
        }
    }
}

/* One operation on all timers in random order, timed in batches. */
static void wheel_all(struct bench *b, struct sched_wheel *w, uint64_t now_ns, enum op op)
{
    for (uint32_t i = 0; i < b->n; i += BATCH) {
        uint64_t start = base_clock_mono_ns();
        for (uint32_t j = i; j < i + BATCH; j++) {
            struct owner *o = &b->owners[b->order[j]];
            if (op == CANCEL) {
                sched_wheel_cancel(w, &o->node);
            } else if (op == PUT_OFF) { /* requests come one after the other, 100 a ms */
                sched_wheel_set(w, &o->node, now_ns + COOLDOWN_NS + (uint64_t)j * 10000);
            } else if (op == PULL_IN) { /* all were due in a second or more */
                sched_wheel_set(w, &o->node, now_ns + b->span_ns[j] / 600);
            } else {
                sched_wheel_set(w, &o->node, now_ns + b->span_ns[j]);
            }
        }
        sample(&b->wheel[op], start, BATCH);
    }
}

/* Lets the wheel's time run on; returns how many timers fired. */
static uint32_t wheel_run(
    struct bench *b, struct sched_wheel *w, uint64_t from_ns, uint64_t to_ns, enum op op)
{
    uint32_t fired = 0;
    for (uint64_t now = from_ns; now <= to_ns; now += SCHED_WHEEL_TICK_NS) {
        while (sched_wheel_next_ns(w) <= now) {
            unsigned budget = BUDGET;
            struct sched_wheel_node *n;
            uint64_t start = base_clock_mono_ns();
            while ((n = sched_wheel_pop(w, now, &budget)) != NULL) {
                CONTAINER_OF(n, struct owner, node)->fired++;
                fired++;
                b->failures += n->due_ns > now;
            }
            stalled(&b->wheel[op], start);
            sample(&b->wheel[op], start, BUDGET - budget);
        }
    }
    return fired;
}

static void wheel_round(struct bench *b)
{
    struct sched_wheel *w = must(malloc(sizeof *w));
    uint64_t now = 12345 * BASE_NS_PER_S;
    memset(b->owners, 0, b->n * sizeof *b->owners);
    sched_wheel_init(w, now);
    wheel_all(b, w, now, INSERT);
    wheel_all(b, w, now, PUT_OFF);
    if (wheel_run(b, w, now, now + COOLDOWN_NS - BASE_NS_PER_S, SETTLE) != 0) {
        (void)printf("WRONG: a timer fired at its old time\n");
        b->failures++;
    }
    now += COOLDOWN_NS - BASE_NS_PER_S;
    wheel_all(b, w, now, PULL_IN);
    wheel_all(b, w, now, CANCEL);
    b->failures += w->n != 0;
    wheel_all(b, w, now, INSERT);
    (void)wheel_run(b, w, now, now + COOLDOWN_NS + SCHED_WHEEL_TICK_NS, EXPIRE);
    check_fired(b, "the wheel");
    free(w);
}

static void on_timer(struct ev_loop *loop, ev_timer *t, int events)
{
    (void)loop;
    (void)events;
    CONTAINER_OF(t, struct owner, ev)->fired++;
}

static void heap_all(struct bench *b, struct ev_loop *loop, enum op op)
{
    for (uint32_t i = 0; i < b->n; i += BATCH) {
        uint64_t start = base_clock_mono_ns();
        for (uint32_t j = i; j < i + BATCH; j++) {
            ev_timer *t = &b->owners[b->order[j]].ev;
            if (op == CANCEL) {
                ev_timer_stop(loop, t);
            } else if (op == INSERT) {
                ev_timer_set(t, (double)b->span_ns[j] / 1e9, 0.);
                ev_timer_start(loop, t);
            } else {
                double s = (double)b->span_ns[j] / 1e9;
                t->repeat = op == PULL_IN ? s : (double)COOLDOWN_NS / 1e9 + j * 1e-5;
                ev_timer_again(loop, t);
            }
        }
        sample(&b->heap[op], start, BATCH);
    }
}

/* libev's clock is the machine's. All due within a ms, in the same random order, they are all due
 * when the loop first looks; it has no budget and takes them in one turn. */
static void heap_expire(struct bench *b, struct ev_loop *loop)
{
    for (uint32_t j = 0; j < b->n; j++) {
        ev_timer *t = &b->owners[b->order[j]].ev;
        ev_timer_set(t, (double)b->span_ns[j] / 1e9 / 600e3, 0.);
        ev_timer_start(loop, t);
    }
    uint64_t filled = base_clock_mono_ns();
    while (base_clock_mono_ns() - filled < 2 * BASE_NS_PER_MS) {
    }
    uint64_t start = base_clock_mono_ns();
    (void)ev_run(loop, EVRUN_NOWAIT);
    stalled(&b->heap[EXPIRE], start);
    sample(&b->heap[EXPIRE], start, b->n);
    check_fired(b, "libev");
}

static void heap_round(struct bench *b)
{
    struct ev_loop *loop = must(ev_loop_new(EVFLAG_AUTO));
    memset(b->owners, 0, b->n * sizeof *b->owners);
    for (uint32_t i = 0; i < b->n; i++) {
        ev_init(&b->owners[i].ev, on_timer);
    }
    heap_all(b, loop, INSERT);
    heap_all(b, loop, PUT_OFF);
    heap_all(b, loop, PULL_IN);
    heap_all(b, loop, CANCEL);
    heap_all(b, loop, INSERT);
    heap_all(b, loop, CANCEL);
    heap_expire(b, loop);
    ev_loop_destroy(loop);
}

static void bench_init(struct bench *b, uint32_t n)
{
    struct base_hash_rng r;
    base_hash_rng_seed(&r, 11);
    b->n = n;
    b->owners = must(calloc(n, sizeof *b->owners));
    b->order = must(calloc(n, sizeof *b->order));
    b->span_ns = must(calloc(n, sizeof *b->span_ns));
    for (uint32_t i = 0; i < n; i++) {
        b->span_ns[i] = 1 + base_hash_rng_below(&r, COOLDOWN_NS);
        uint32_t j = (uint32_t)base_hash_rng_below(&r, i + 1);
        b->order[i] = b->order[j];
        b->order[j] = i;
    }
    /* Expire and settle take a sample per turn: up to one per tick, and one per BUDGET of nodes. */
    size_t room = ROUNDS * (2 * n / BATCH + COOLDOWN_NS / SCHED_WHEEL_TICK_NS + n / BUDGET + 1000);
    for (int i = 0; i < OPS; i++) {
        b->wheel[i].ns = must(calloc(room, sizeof(double)));
        b->heap[i].ns = must(calloc(room, sizeof(double)));
    }
}

static void print_series(const struct series *s, const struct series *against)
{
    if (s->n == 0) {
        (void)printf(" %10s %10s %8s", "-", "-", "");
        return;
    }
    double median = bench_quantile(s->ns, s->n, 0.5);
    (void)printf(" %10.1f %10.1f", median, bench_quantile(s->ns, s->n, 0.99));
    if (against != NULL) {
        (void)printf(" %7.1fx", median / bench_quantile(against->ns, against->n, 0.5));
    }
}

static void print(struct bench *b)
{
    (void)printf(
        "%u timers, ns per operation: median and p99 of batches of %d (of turns for settle "
        "and expire).\n%-8s %10s %10s %10s %10s %8s\n",
        b->n, BATCH, "", "wheel", "p99", "libev", "p99", "ratio");
    for (int i = 0; i < OPS; i++) {
        bench_sort(b->wheel[i].ns, b->wheel[i].n);
        bench_sort(b->heap[i].ns, b->heap[i].n);
        (void)printf("%-8s", op_names[i]);
        print_series(&b->wheel[i], NULL);
        print_series(&b->heap[i], &b->wheel[i]);
        (void)printf("\n");
    }
    (void)printf(
        "longest turn while all expire: wheel %.2f ms (at most %d timers each), libev "
        "%.0f ms (all in one)\nmemory per timer: wheel %zu bytes, libev %zu bytes and 16 in "
        "the heap\n",
        b->wheel[EXPIRE].stall_ms, BUDGET, b->heap[EXPIRE].stall_ms,
        sizeof(struct sched_wheel_node), sizeof(ev_timer));
}

int main(int argc, char **argv)
{
    bool quick = argc == 2 && strcmp(argv[1], "--quick") == 0;
    if (argc > 1 && !quick) {
        (void)fprintf(stderr, "usage: %s [--quick]\n", argv[0]);
        return 2;
    }
    static struct bench b;
    bench_init(&b, quick ? 20000 : 1000000);
    for (int i = 0; i < (quick ? 1 : ROUNDS); i++) {
        wheel_round(&b);
        heap_round(&b);
    }
    print(&b);
    for (int i = 0; i < OPS; i++) {
        free(b.wheel[i].ns);
        free(b.heap[i].ns);
    }
    free(b.owners);
    free(b.order);
    free(b.span_ns);
    return b.failures > 0;
}
