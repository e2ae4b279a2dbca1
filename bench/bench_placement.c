/* Placement algorithms beside each other: same keys, same nodes, same run.
 *
 *     bench_placement [--quick]
 *
 * --quick only checks that all of them work (no figure is judged); it is a test. */
#include "bench/bench_placement.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/stat.h"
#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/container.h"
#include "proto/base/hash.h"
#include "scheduler/core/place.h"

enum { BATCH = 4096, ID_BYTES = 32, BATCHES_MAX = 512, LEAVES_MAX = 8 };

static const uint8_t cluster_key[16] = {7, 1, 8, 2, 8, 1, 8, 2, 8, 4, 5, 9, 0, 4, 5, 2};

/* Warren's table; node i has the id i + 1 and, since slots are given out in order, the slot i. */
struct own {
    struct sched_place t;
    size_t size;
    void *mem;
    struct sched_place_member *members;
};

static void *own_create(uint32_t room, unsigned pbits)
{
    struct own *o = calloc(1, sizeof *o);
    REQUIRE(o != NULL);
    struct sched_place_cfg cfg = {.pbits = pbits, .members_max = room};
    memcpy(cfg.key, cluster_key, sizeof cfg.key);
    o->size = sched_place_size(&cfg);
    o->mem = malloc(o->size);
    o->members = calloc(room, sizeof *o->members);
    REQUIRE(o->mem != NULL && o->members != NULL);
    REQUIRE(sched_place_init(&o->t, &cfg, o->mem, o->size) == 0);
    return o;
}

static void *own_create16(uint32_t room)
{
    return own_create(room, 16);
}

static void *own_create18(uint32_t room)
{
    return own_create(room, 18);
}

static void own_build(void *s, uint32_t n)
{
    struct own *o = s;
    for (uint32_t i = 0; i < n; i++) {
        o->members[i] = (struct sched_place_member){.id = i + 1, .weight = 1};
    }
    REQUIRE(sched_place_build(&o->t, o->members, n) == 0);
}

static void own_leave(void *s, uint32_t node)
{
    REQUIRE(sched_place_leave(&((struct own *)s)->t, node + 1) == 0);
}

static void own_join(void *s, uint32_t node)
{
    struct sched_place_member m = {.id = node + 1, .weight = 1};
    REQUIRE(sched_place_join(&((struct own *)s)->t, &m) == 0);
}

static void own_locate(const void *s, const uint64_t *key, uint32_t *node, size_t n)
{
    const struct own *o = s;
    for (size_t i = 0; i < n; i++) {
        node[i] = sched_place_group(&o->t, key[i])->slot[0];
    }
}

/* All three node ids, which no rival here has to find. */
static void own_locate3(const void *s, const uint64_t *key, uint32_t *node, size_t n)
{
    const struct own *o = s;
    for (size_t i = 0; i < n; i++) {
        uint64_t ids[SCHED_PLACE_SEATS];
        unsigned got = sched_place_lookup(&o->t, key[i], ids);
        node[i] = (uint32_t)(ids[0] - 1);
        __asm__ volatile("" : : "r"(ids), "r"(got) : "memory");
    }
}

static size_t own_bytes(const void *s)
{
    return ((const struct own *)s)->size;
}

static void own_destroy(void *s)
{
    struct own *o = s;
    free(o->members);
    free(o->mem);
    free(o);
}

static const struct bench_placer own16 = {"Warren 2^16", true, true, own_create16, own_build,
    own_leave, own_join, own_locate, own_bytes, own_destroy};
static const struct bench_placer own16_ids = {"Warren 2^16, 3 ids", true, true, own_create16,
    own_build, own_leave, own_join, own_locate3, own_bytes, own_destroy};
static const struct bench_placer own18 = {"Warren 2^18", true, true, own_create18, own_build,
    own_leave, own_join, own_locate, own_bytes, own_destroy};

/* The first one is the measure of the others. */
static const struct bench_placer *const placers[] = {&own16, &own16_ids, &own18, &bench_placer_ring,
    &bench_placer_ring_indexed, &bench_placer_jump, &bench_placer_maglev, &bench_placer_anchor,
    &bench_placer_rendezvous};
enum { PLACERS = ARRAY_LEN(placers) };

struct keys {
    size_t n; /* a multiple of BATCH */
    uint64_t *h;
    char (*id)[ID_BYTES];
    uint32_t *before, *after; /* nodes of all keys */
};

struct row {
    void *state;
    size_t keys; /* how many of the keys this one is asked for */
    size_t batch;
    size_t samples;
    double table_ns[BATCHES_MAX], hashed_ns[BATCHES_MAX];
    double load;                 /* keys of the fullest node over the mean */
    double moved, leavers_share; /* of the keys, mean over the leaves */
    double build_ms, leave_ms[LEAVES_MAX], join_ms[LEAVES_MAX];
    size_t bytes;
};

static unsigned failures;

static void check(bool good, const char *who, uint32_t n, const char *what)
{
    if (!good) {
        (void)printf("WRONG: %s at n=%u: %s\n", who, n, what);
        failures++;
    }
}

static double ms_since(uint64_t start_ns)
{
    return (double)(base_clock_mono_ns() - start_ns) / 1e6;
}

static void keys_make(struct keys *k, size_t n)
{
    struct base_hash_rng r;
    base_hash_rng_seed(&r, 2024);
    k->n = n;
    k->h = calloc(n, sizeof *k->h);
    k->id = calloc(n, sizeof *k->id);
    k->before = calloc(n, sizeof *k->before);
    k->after = calloc(n, sizeof *k->after);
    REQUIRE(k->h != NULL && k->id != NULL && k->before != NULL && k->after != NULL);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < ID_BYTES; j++) {
            k->id[i][j] = "0123456789abcdef"[base_hash_rng_next(&r) >> 60];
        }
        REQUIRE(sched_place_key(cluster_key, "python-pool", k->id[i], ID_BYTES, &k->h[i]) == 0);
    }
}

static void keys_free(struct keys *k)
{
    free(k->h);
    free(k->id);
    free(k->before);
    free(k->after);
}

/* ns per key of one batch, from the hash or from the identifier on. */
static double batch_ns(
    const struct bench_placer *p, const struct row *row, const struct keys *k, size_t at, bool hash)
{
    static uint64_t h[BATCH];
    static uint32_t node[BATCH];
    const uint64_t *from = &k->h[at];
    uint64_t start = base_clock_mono_ns();
    if (hash) {
        for (size_t i = 0; i < row->batch; i++) {
            (void)sched_place_key(cluster_key, "python-pool", k->id[at + i], ID_BYTES, &h[i]);
        }
        from = h;
    }
    p->locate(row->state, from, node, row->batch);
    __asm__ volatile("" : : "r"(node) : "memory");
    return (double)(base_clock_mono_ns() - start) / (double)row->batch;
}

/* Rounds go through all placers, so that a disturbance of the machine meets them alike. In each
 * round a placer first warms the caches with what the others have pushed out. */
static void measure_lookups(struct row rows[PLACERS], const struct keys *k, unsigned rounds)
{
    enum { PER_ROUND = 8, WARM = 4 };
    REQUIRE(rounds * PER_ROUND <= BATCHES_MAX);
    for (unsigned round = 0; round < rounds; round++) {
        for (size_t i = 0; i < PLACERS; i++) {
            struct row *row = &rows[i];
            for (unsigned b = 0; b < WARM + PER_ROUND; b++) {
                size_t at = (round * 31 + b) * row->batch % (row->keys - row->batch + 1);
                double plain = batch_ns(placers[i], row, k, at, false);
                double hashed = batch_ns(placers[i], row, k, at, true);
                if (b >= WARM) {
                    row->table_ns[row->samples] = plain;
                    row->hashed_ns[row->samples++] = hashed;
                }
            }
        }
    }
    for (size_t i = 0; i < PLACERS; i++) {
        bench_sort(rows[i].table_ns, rows[i].samples);
        bench_sort(rows[i].hashed_ns, rows[i].samples);
    }
}

static double fullest(const uint32_t *node, size_t keys, uint32_t n)
{
    uint32_t *count = calloc(n, sizeof *count);
    REQUIRE(count != NULL);
    uint32_t most = 0;
    for (size_t i = 0; i < keys; i++) {
        uint32_t c = ++count[node[i]];
        most = c > most ? c : most;
    }
    free(count);
    return (double)most * n / (double)keys;
}

/* One node leaves and comes back; what moved is counted and judged. */
static void leave_and_join(
    const struct bench_placer *p, struct row *row, struct keys *k, uint32_t n, unsigned turn)
{
    uint32_t node = (uint32_t)((uint64_t)n * (2 * turn + 1) / (2 * LEAVES_MAX)) % n;
    p->locate(row->state, k->h, k->before, row->keys);
    uint64_t start = base_clock_mono_ns();
    p->leave(row->state, node);
    row->leave_ms[turn] = ms_since(start);
    p->locate(row->state, k->h, k->after, row->keys);
    size_t moved = 0, mine = 0, needless = 0, stuck = 0;
    for (size_t i = 0; i < row->keys; i++) {
        bool changed = k->before[i] != k->after[i];
        moved += changed;
        mine += k->before[i] == node;
        needless += changed && k->before[i] != node;
        stuck += k->after[i] == node;
    }
    check(stuck == 0, p->name, n, "a key is on the node that left");
    check(!p->minimal || needless == 0, p->name, n, "a leave moved a key of another node");
    row->moved += (double)moved / (double)row->keys;
    row->leavers_share += (double)mine / (double)row->keys;
    start = base_clock_mono_ns();
    p->join(row->state, node);
    row->join_ms[turn] = ms_since(start);
    p->locate(row->state, k->h, k->after, row->keys);
    check(!p->returns || memcmp(k->before, k->after, row->keys * sizeof *k->before) == 0, p->name,
        n, "leave and join do not cancel out");
}

static void measure_changes(
    const struct bench_placer *p, struct row *row, struct keys *k, uint32_t n, unsigned leaves)
{
    p->locate(row->state, k->h, k->before, row->keys);
    row->load = fullest(k->before, row->keys, n);
    for (unsigned turn = 0; turn < leaves; turn++) {
        leave_and_join(p, row, k, n, turn);
    }
    row->moved /= leaves;
    row->leavers_share /= leaves;
    bench_sort(row->leave_ms, leaves);
    bench_sort(row->join_ms, leaves);
}

static void print_head(void)
{
    (void)printf("%-19s %8s %8s %7s %8s %8s %9s %8s %8s %8s %9s %9s %9s %9s\n", "", "lookup", "p99",
        "vs", "+ hash", "p99", "max/mean", "moved", "leaver's", "moved/", "build", "leave", "join",
        "memory");
    (void)printf("%-19s %8s %8s %7s %8s %8s %9s %8s %8s %8s %9s %9s %9s %9s\n", "", "ns", "ns",
        "Warren", "ns", "ns", "load", "%", "share %", "ideal", "ms", "ms", "ms", "KB");
}

static void print_row(
    const struct bench_placer *p, const struct row *r, double own_ns, uint32_t n, unsigned leaves)
{
    double lookup = bench_quantile(r->table_ns, r->samples, 0.5);
    (void)printf("%-19s %8.1f %8.1f %6.1fx %8.1f %8.1f", p->name, lookup,
        bench_quantile(r->table_ns, r->samples, 0.99), lookup / own_ns,
        bench_quantile(r->hashed_ns, r->samples, 0.5),
        bench_quantile(r->hashed_ns, r->samples, 0.99));
    if (r->keys < (size_t)n * 20) {
        (void)printf(" %9s %8s %8s %8s", "-", "-", "-", "-"); /* too few keys to tell */
    } else {
        (void)printf(" %9.3f %8.4f %8.4f %8.3f", r->load, r->moved * 100, r->leavers_share * 100,
            r->moved / r->leavers_share);
    }
    (void)printf(" %9.3f %9.3f %9.3f %9.0f\n", r->build_ms,
        bench_quantile(r->leave_ms, leaves, 0.5), bench_quantile(r->join_ms, leaves, 0.5),
        (double)r->bytes / 1e3);
}

static void compare(uint32_t n, struct keys *k, bool quick)
{
    static struct row rows[PLACERS];
    unsigned leaves = n >= 10000 ? 3 : LEAVES_MAX;
    memset(rows, 0, sizeof rows);
    for (size_t i = 0; i < PLACERS; i++) {
        const struct bench_placer *p = placers[i];
        struct row *row = &rows[i];
        row->keys = k->n;
        row->batch = BATCH;
        if (p == &bench_placer_rendezvous) { /* linear in n: fewer keys, shorter batches */
            size_t afford = 400000000 / n / BATCH * BATCH;
            row->keys = afford < k->n ? afford : k->n;
            row->batch = n >= 1000 ? 64 : BATCH;
        }
        row->state = p->create(n);
        uint64_t start = base_clock_mono_ns();
        p->build(row->state, n);
        row->build_ms = ms_since(start);
        row->bytes = p->bytes(row->state);
    }
    measure_lookups(rows, k, quick ? 1 : 40);
    (void)printf("\n%u nodes (ideal share moved by a leave: %.4f %%)\n", n, 100.0 / n);
    print_head();
    for (size_t i = 0; i < PLACERS; i++) {
        measure_changes(placers[i], &rows[i], k, n, leaves);
        print_row(placers[i], &rows[i], bench_quantile(rows[0].table_ns, rows[0].samples, 0.5), n,
            leaves);
        placers[i]->destroy(rows[i].state);
        (void)fflush(stdout);
    }
    check(rows[0].moved == rows[0].leavers_share, "Warren", n, "a leave did not move the ideal");
}

int main(int argc, char **argv)
{
    bool quick = argc == 2 && strcmp(argv[1], "--quick") == 0;
    if (argc > 1 && !quick) {
        (void)fprintf(stderr, "usage: %s [--quick]\n", argv[0]);
        return 2;
    }
    static const uint32_t sizes[] = {10, 100, 1000, 10000};
    struct keys k;
    keys_make(&k, quick ? 16 * BATCH : 256 * BATCH);
    (void)printf("%zu identifiers of %d bytes, batches of %d lookups, median and p99 of batches; "
                 "warm caches.\n\"moved\" is the share of keys that a leaving node moves, the mean "
                 "over several leavers; \"ideal\" is\nthe share that was on them. Jump gives the "
                 "leaver's number to the last node.\n",
        k.n, ID_BYTES, BATCH);
    for (size_t i = 0; i < (quick ? 2 : ARRAY_LEN(sizes)); i++) {
        compare(sizes[i], &k, quick);
    }
    keys_free(&k);
    return failures > 0;
}
