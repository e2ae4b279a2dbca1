#include "scheduler/core/name.h"
#include "scheduler/core/place.h"

#include <math.h>
#include <stdbool.h>

#include "proto/base/container.h"
#include "proto/base/err.h"
#include "proto/base/hash.h"
#include "tests/lib/check.h"

/* K of every test here and of place_reference.py. */
static const uint8_t test_key[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

static struct sched_place_cfg cfg_of(unsigned pbits, uint32_t members_max)
{
    struct sched_place_cfg cfg = {.pbits = pbits, .members_max = members_max};
    memcpy(cfg.key, test_key, sizeof cfg.key);
    return cfg;
}

/* A table on the heap; give it back with free(t.groups), which is where its memory begins. */
static struct sched_place table(unsigned pbits, uint32_t members_max)
{
    struct sched_place t;
    struct sched_place_cfg cfg = cfg_of(pbits, members_max);
    size_t size = sched_place_size(&cfg);
    void *mem = malloc(size);
    CHECK(mem != NULL);
    memset(mem, 0xa5, size);
    CHECK_EQ(sched_place_init(&t, &cfg, mem, size), 0);
    CHECK((void *)t.groups == mem);
    return t;
}

static unsigned ids_at(const struct sched_place *t, uint32_t p, uint64_t ids[SCHED_PLACE_SEATS])
{
    return sched_place_lookup(t, (uint64_t)p << (64 - t->pbits), ids);
}

static bool has(const uint64_t *ids, unsigned n, uint64_t id)
{
    for (unsigned i = 0; i < n; i++) {
        if (ids[i] == id) {
            return true;
        }
    }
    return false;
}

/* Same groups, same order, same digest. */
static void check_equal(const struct sched_place *a, const struct sched_place *b)
{
    CHECK_EQ(a->pbits, b->pbits);
    for (uint32_t p = 0; p < sched_place_partitions(a); p++) {
        uint64_t x[SCHED_PLACE_SEATS] = {0}, y[SCHED_PLACE_SEATS] = {0};
        CHECK_EQ(ids_at(a, p, x), ids_at(b, p, y));
        CHECK(memcmp(x, y, sizeof x) == 0);
    }
    CHECK(sched_place_digest(a) == sched_place_digest(b));
}

/* A list of members, and the rule of the header applied to it without any cleverness. */
struct model {
    uint32_t n;
    struct sched_place_member m[1200];
};

static uint64_t model_score(const struct sched_place_member *m, uint32_t p, uint64_t salt)
{
    uint64_t u = base_hash_mix64(base_hash_mix64((uint64_t)p + 1) ^ base_hash_mix64(m->id ^ salt));
    return sched_place_neglog2_q32(u) / m->weight;
}

static bool model_better(const struct sched_place_member *a, const struct sched_place_member *b,
    uint32_t p, uint64_t salt)
{
    uint64_t x = model_score(a, p, salt), y = model_score(b, p, salt);
    return x < y || (x == y && a->id < b->id);
}

static unsigned model_group(const struct model *w, uint32_t p, uint64_t *ids)
{
    uint64_t salt = base_hash_sip24(test_key, "place/1", 7);
    uint16_t zones[SCHED_PLACE_SEATS];
    unsigned n = 0;
    for (; n < SCHED_PLACE_SEATS; n++) {
        const struct sched_place_member *fresh = NULL, *any = NULL;
        for (uint32_t i = 0; i < w->n; i++) {
            const struct sched_place_member *m = &w->m[i];
            if (m->weight == 0 || has(ids, n, m->id)) {
                continue;
            }
            bool used = false;
            for (unsigned j = 0; j < n; j++) {
                used = used || zones[j] == m->zone;
            }
            if (!used && (fresh == NULL || model_better(m, fresh, p, salt))) {
                fresh = m;
            }
            if (any == NULL || model_better(m, any, p, salt)) {
                any = m;
            }
        }
        if (any == NULL) {
            break;
        }
        zones[n] = (fresh != NULL ? fresh : any)->zone;
        ids[n] = (fresh != NULL ? fresh : any)->id;
    }
    return n;
}

static void check_model(const struct sched_place *t, const struct model *w)
{
    for (uint32_t p = 0; p < sched_place_partitions(t); p++) {
        uint64_t x[SCHED_PLACE_SEATS] = {0}, y[SCHED_PLACE_SEATS] = {0};
        CHECK_EQ(ids_at(t, p, x), model_group(w, p, y));
        CHECK(memcmp(x, y, sizeof x) == 0);
    }
}

static struct model even(uint32_t n, uint16_t zones)
{
    struct model w = {.n = n};
    for (uint32_t i = 0; i < n; i++) {
        w.m[i] =
            (struct sched_place_member){.id = i + 1, .zone = (uint16_t)(i % zones), .weight = 1};
    }
    return w;
}

static void shuffle(struct model *w, struct base_hash_rng *r)
{
    for (uint32_t i = w->n; i > 1; i--) {
        uint32_t j = (uint32_t)base_hash_rng_below(r, i);
        struct sched_place_member m = w->m[j];
        w->m[j] = w->m[i - 1];
        w->m[i - 1] = m;
    }
}

TEST(digests_equal_those_of_the_independent_reference)
{
    struct model w = {.n = 0};
    for (uint32_t i = 1; i <= 5; i++) {
        w.m[w.n++] = (struct sched_place_member){.id = i, .weight = 1};
    }
    struct sched_place t = table(8, 5);
    CHECK_EQ(sched_place_build(&t, w.m, w.n), 0);
    CHECK(sched_place_digest(&t) == UINT64_C(0x7d3c702c49973f51));
    free(t.groups);

    w.n = 0;
    for (uint32_t i = 1; i <= 40; i++) {
        w.m[w.n++] = (struct sched_place_member){
            .id = i * UINT64_C(1000003), .zone = (uint16_t)(i % 4), .weight = (uint8_t)(1 + i % 7)};
    }
    t = table(10, 40);
    CHECK_EQ(sched_place_build(&t, w.m, w.n), 0);
    CHECK(sched_place_digest(&t) == UINT64_C(0xb65b2f1f5c70fe43));
    free(t.groups);

    w.n = 0;
    for (uint32_t i = 1; i <= 30; i++) {
        w.m[w.n++] = (struct sched_place_member){
            .id = (uint64_t)i * i + 17, .zone = (uint16_t)(i % 2), .weight = (uint8_t)(i % 3)};
    }
    t = table(6, 30);
    CHECK_EQ(sched_place_build(&t, w.m, w.n), 0);
    CHECK(sched_place_digest(&t) == UINT64_C(0x2f788f766e63fc4a));
    free(t.groups);

    const struct sched_place_member two[] = {{77, 5, 255}, {78, 6, 1}};
    t = table(5, 2);
    CHECK_EQ(sched_place_build(&t, two, 2), 0);
    CHECK(sched_place_digest(&t) == UINT64_C(0x7d9563a8acc37d38));
    free(t.groups);
}

/* round(-log2((256 + i) / 512) * 2^32), bit by bit: squaring doubles the logarithm. 62 fraction
 * bits lose less than one unit of 2^-33 over the 40 steps. */
static uint64_t table_entry(unsigned i)
{
    if (i == 0) {
        return UINT64_C(1) << 32;
    }
    unsigned __int128 y = ((unsigned __int128)512 << 62) / (256 + i), log = 0;
    for (unsigned bit = 0; bit < 40; bit++) {
        y = y * y >> 62;
        log <<= 1;
        if (y >= (unsigned __int128)2 << 62) {
            y >>= 1;
            log |= 1;
        }
    }
    return (uint64_t)((log + 128) >> 8);
}

TEST(logarithm_hits_every_table_point)
{
    for (unsigned i = 0; i < 256; i++) {
        CHECK(sched_place_neglog2_q32((uint64_t)(256 + i) << 55) == table_entry(i));
    }
    CHECK(sched_place_neglog2_q32(0) == UINT64_C(64) << 32);
    CHECK(sched_place_neglog2_q32(1) == UINT64_C(64) << 32);
    for (unsigned b = 0; b < 64; b++) {
        CHECK(sched_place_neglog2_q32(UINT64_C(1) << b) == (uint64_t)(64 - b) << 32);
    }
}

TEST(logarithm_stays_within_its_stated_error)
{
    struct base_hash_rng r;
    base_hash_rng_seed(&r, 1);
    double worst = 0;
    for (int i = 0; i < 2000000; i++) {
        /* Near 2^64 (the winners of large clusters), near 0, and all between. */
        uint64_t u = base_hash_rng_next(&r) >> base_hash_rng_below(&r, 64);
        u = (i & 1) != 0 ? ~u : u;
        u |= u == 0;
        uint64_t got = sched_place_neglog2_q32(u);
        long double real = -log1pl(-(((long double)~u + 1) * 0x1p-64L)) / logl(2) * 0x1p32L;
        CHECK((long double)got >= real - 1);
        CHECK(got >= ~u >> 32);
        double off = (double)(((long double)got - real) / (real + 1024));
        worst = off > worst ? off : worst;
    }
    CHECK(worst < 0.001);
    CHECK(worst > 0.0001); /* the measurement itself is alive */
}

TEST(logarithm_falls_as_its_argument_rises)
{
    struct base_hash_rng r;
    base_hash_rng_seed(&r, 2);
    for (int i = 0; i < 2000000; i++) {
        uint64_t u = base_hash_rng_next(&r) >> base_hash_rng_below(&r, 64);
        uint64_t v = u + (base_hash_rng_next(&r) >> base_hash_rng_below(&r, 64));
        if (v > u) {
            CHECK(sched_place_neglog2_q32(v) <= sched_place_neglog2_q32(u));
        }
    }
}

TEST(one_to_three_members_all_sit_in_every_group)
{
    for (uint32_t n = 0; n <= 4; n++) {
        struct model w = even(n, 1);
        struct sched_place t = table(8, 4);
        CHECK_EQ(sched_place_build(&t, w.m, n), 0);
        for (uint32_t p = 0; p < 256; p++) {
            uint64_t ids[SCHED_PLACE_SEATS];
            unsigned got = ids_at(&t, p, ids);
            CHECK_EQ(got, n < 3 ? n : 3);
            for (uint64_t id = 1; n <= 3 && id <= n; id++) {
                CHECK(has(ids, got, id));
            }
        }
        check_model(&t, &w);
        free(t.groups);
    }
}

TEST(order_of_joining_does_not_matter)
{
    struct base_hash_rng r;
    base_hash_rng_seed(&r, 3);
    struct model w = even(60, 7);
    for (uint32_t i = 0; i < w.n; i++) {
        w.m[i].weight = (uint8_t)base_hash_rng_below(&r, 256);
    }
    struct sched_place built = table(10, 60);
    CHECK_EQ(sched_place_build(&built, w.m, w.n), 0);
    for (int round = 0; round < 10; round++) {
        shuffle(&w, &r);
        struct sched_place t = table(10, 60);
        for (uint32_t i = 0; i < w.n; i++) {
            CHECK_EQ(sched_place_join(&t, &w.m[i]), 0);
        }
        check_equal(&t, &built);
        CHECK_EQ(sched_place_build(&t, w.m, w.n), 0);
        check_equal(&t, &built);
        free(t.groups);
    }
    free(built.groups);
}

/* One random change to both. */
static void change(struct sched_place *t, struct model *w, struct base_hash_rng *r, uint16_t zones)
{
    uint64_t what = base_hash_rng_below(r, 3);
    if (what == 0 || w->n == 0) {
        struct sched_place_member m = {.id = 1 + base_hash_rng_below(r, 64),
            .zone = (uint16_t)base_hash_rng_below(r, zones),
            .weight = (uint8_t)(base_hash_rng_below(r, 4) == 0 ? 0 : base_hash_rng_below(r, 256))};
        uint16_t slot;
        int want = sched_place_find(t, m.id, &slot) == 0 ? BASE_EEXISTS
                   : w->n == t->members_max              ? BASE_EFULL
                                                         : 0;
        CHECK_EQ(sched_place_join(t, &m), want);
        if (want == 0) {
            w->m[w->n++] = m;
        }
        return;
    }
    uint32_t i = (uint32_t)base_hash_rng_below(r, w->n);
    if (what == 1) {
        CHECK_EQ(sched_place_leave(t, w->m[i].id), 0);
        w->m[i] = w->m[--w->n];
    } else {
        w->m[i].weight = (uint8_t)base_hash_rng_below(r, 6);
        CHECK_EQ(sched_place_reweight(t, w->m[i].id, w->m[i].weight), 0);
    }
}

TEST(random_changes_equal_the_naive_rule_and_a_rebuild)
{
    struct base_hash_rng r;
    static struct model w;
    for (uint64_t seed = 0; seed < 60; seed++) {
        base_hash_rng_seed(&r, 100 + seed);
        uint16_t zones = (uint16_t)(1 + seed % 5);
        uint32_t max = 1 + (uint32_t)base_hash_rng_below(&r, 24);
        struct sched_place t = table(5, max), built = table(5, max);
        w.n = 0;
        for (int step = 0; step < 200; step++) {
            change(&t, &w, &r, zones);
            CHECK_EQ(t.n, w.n);
            check_model(&t, &w);
            CHECK_EQ(sched_place_build(&built, w.m, w.n), 0);
            check_equal(&t, &built);
            CHECK(memcmp(t.bounds, built.bounds, sizeof *t.bounds << t.pbits) == 0);
        }
        free(t.groups);
        free(built.groups);
    }
}

/* After a leave: untouched where it had no seat; elsewhere it goes and everybody else stays. */
static void check_leave_is_minimal(struct model *w, uint64_t id, struct base_hash_rng *r)
{
    struct sched_place before = table(10, w->n), after = table(10, w->n);
    shuffle(w, r);
    CHECK_EQ(sched_place_build(&before, w->m, w->n), 0);
    CHECK_EQ(sched_place_build(&after, w->m, w->n), 0);
    CHECK_EQ(sched_place_leave(&after, id), 0);
    uint32_t touched = 0;
    for (uint32_t p = 0; p < sched_place_partitions(&before); p++) {
        uint64_t x[SCHED_PLACE_SEATS] = {0}, y[SCHED_PLACE_SEATS] = {0};
        unsigned nx = ids_at(&before, p, x), ny = ids_at(&after, p, y);
        CHECK(!has(y, ny, id));
        if (!has(x, nx, id)) {
            CHECK(memcmp(x, y, sizeof x) == 0);
            continue;
        }
        touched++;
        for (unsigned i = 0; i < nx; i++) {
            CHECK(x[i] == id || has(y, ny, x[i]));
        }
        CHECK_EQ(ny, w->n > SCHED_PLACE_SEATS ? SCHED_PLACE_SEATS : w->n - 1);
    }
    CHECK(touched > 0);
    /* And back: the very same table. */
    for (uint32_t i = 0; i < w->n; i++) {
        if (w->m[i].id == id) {
            CHECK_EQ(sched_place_join(&after, &w->m[i]), 0);
        }
    }
    check_equal(&before, &after);
    free(before.groups);
    free(after.groups);
}

TEST(leaving_moves_only_the_leavers_seats_and_joining_is_its_reverse)
{
    struct base_hash_rng r;
    base_hash_rng_seed(&r, 5);
    for (uint16_t zones = 1; zones <= 6; zones++) {
        for (uint32_t n = 1; n <= 40; n += 3) {
            struct model w = even(n, zones);
            for (uint32_t i = 0; i < n; i++) {
                w.m[i].weight = (uint8_t)(1 + i % 5);
            }
            check_leave_is_minimal(&w, 1 + base_hash_rng_below(&r, n), &r);
        }
    }
}

TEST(share_moved_on_leave_is_the_leavers_share)
{
    struct model w = even(100, 1);
    struct sched_place t = table(16, 100), before = table(16, 100);
    CHECK_EQ(sched_place_build(&before, w.m, 100), 0);
    double moved = 0;
    for (uint64_t id = 1; id <= 100; id += 9) {
        CHECK_EQ(sched_place_build(&t, w.m, 100), 0);
        CHECK_EQ(sched_place_leave(&t, id), 0);
        for (uint32_t p = 0; p < sched_place_partitions(&t); p++) {
            uint64_t x[SCHED_PLACE_SEATS], y[SCHED_PLACE_SEATS];
            (void)ids_at(&before, p, x);
            (void)ids_at(&t, p, y);
            CHECK(x[0] == y[0] || x[0] == id);
            moved += x[0] != y[0];
        }
    }
    double share = moved / 12 / 65536; /* ideal: 1/100; standard deviation 1.1 % of it */
    CHECK(share > 0.0095 && share < 0.0105);
    free(t.groups);
    free(before.groups);
}

/* Homes per member, as a share of all partitions. */
static void homes(const struct sched_place *t, double *share, uint32_t n)
{
    memset(share, 0, n * sizeof *share);
    for (uint32_t p = 0; p < sched_place_partitions(t); p++) {
        uint64_t ids[SCHED_PLACE_SEATS];
        CHECK(ids_at(t, p, ids) > 0);
        CHECK(ids[0] >= 1 && ids[0] <= n);
        share[ids[0] - 1] += 1.0 / sched_place_partitions(t);
    }
}

TEST(share_of_homes_is_proportional_to_the_weight)
{
    struct model w = even(50, 1);
    uint32_t sum = 0;
    for (uint32_t i = 0; i < w.n; i++) {
        w.m[i].weight = (uint8_t)(i % 10 == 0 ? 255 : 1 + i * 5 % 255);
        sum += w.m[i].weight;
    }
    double share[50];
    struct sched_place t = table(18, 50);
    CHECK_EQ(sched_place_build(&t, w.m, w.n), 0);
    homes(&t, share, 50);
    double chi2 = 0;
    for (uint32_t i = 0; i < w.n; i++) {
        double ideal = (double)w.m[i].weight / sum;
        double sd = sqrt(ideal / sched_place_partitions(&t));
        CHECK(fabs(share[i] - ideal) < 4.5 * sd);
        chi2 += (share[i] - ideal) * (share[i] - ideal) / (sd * sd);
    }
    /* 49 degrees of freedom: mean 49, standard deviation 9.9. Too good would be wrong as well. */
    CHECK(chi2 > 20 && chi2 < 90);
    free(t.groups);
}

TEST(weight_zero_has_no_seat_and_reweighting_moves_only_that_members_seats)
{
    struct model w = even(20, 4);
    struct sched_place t = table(10, 20), before = table(10, 20);
    CHECK_EQ(sched_place_build(&before, w.m, 20), 0);
    CHECK_EQ(sched_place_build(&t, w.m, 20), 0);
    CHECK_EQ(sched_place_reweight(&t, 7, 3), 0);
    uint32_t won = 0;
    for (uint32_t p = 0; p < 1024; p++) {
        uint64_t x[SCHED_PLACE_SEATS], y[SCHED_PLACE_SEATS];
        CHECK_EQ(ids_at(&before, p, x), 3);
        CHECK_EQ(ids_at(&t, p, y), 3);
        won += has(y, 3, 7) && !has(x, 3, 7);
        CHECK(has(y, 3, 7) || memcmp(x, y, sizeof x) == 0);
        for (unsigned i = 0; i < 3; i++) {
            CHECK(y[i] == 7 || has(x, 3, y[i]));
        }
    }
    CHECK(won > 0);
    CHECK_EQ(sched_place_reweight(&t, 7, 0), 0);
    CHECK_EQ(t.n, 20);
    CHECK_EQ(sched_place_leave(&before, 7), 0);
    check_equal(&t, &before);
    CHECK_EQ(sched_place_leave(&t, 7), 0);
    check_equal(&t, &before);
    free(t.groups);
    free(before.groups);
}

TEST(groups_span_as_many_zones_as_there_are)
{
    for (uint16_t zones = 1; zones <= 5; zones++) {
        struct model w = even(40, zones);
        w.m[0].zone = 9; /* a zone of one member */
        struct sched_place t = table(10, 40);
        CHECK_EQ(sched_place_build(&t, w.m, w.n), 0);
        for (uint32_t p = 0; p < 1024; p++) {
            const struct sched_place_group *g = sched_place_at(&t, p);
            struct sched_place_member m[SCHED_PLACE_SEATS];
            unsigned distinct = 0;
            CHECK_EQ(g->n, 3);
            for (unsigned i = 0; i < 3; i++) {
                CHECK_EQ(sched_place_member(&t, g->slot[i], &m[i]), 0);
                distinct += (i < 1 || m[0].zone != m[i].zone) && (i < 2 || m[1].zone != m[2].zone);
            }
            CHECK_EQ(distinct, zones + 1 < 3 ? zones + 1 : 3);
        }
        free(t.groups);
    }
}

struct scored {
    uint64_t score, id;
};

static int by_score(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    return (x->score > y->score) - (x->score < y->score);
}

TEST(equal_scores_go_to_the_smaller_id)
{
    /* Scores are coarse when the weight is large: some of many ids tie in partition 0. */
    enum { IDS = 40000 };
    static struct scored s[IDS];
    uint64_t salt = base_hash_sip24(test_key, "place/1", 7);
    for (uint64_t i = 0; i < IDS; i++) {
        struct sched_place_member m = {.id = i + 1, .weight = 255};
        s[i] = (struct scored){model_score(&m, 0, salt), m.id};
    }
    qsort(s, IDS, sizeof s[0], by_score);
    unsigned ties = 0;
    for (unsigned i = 2; i + 1 < IDS; i++) {
        if (s[i].score != s[i + 1].score) {
            continue;
        }
        ties++;
        uint64_t low = s[i].id < s[i + 1].id ? s[i].id : s[i + 1].id;
        for (unsigned order = 0; order < 4; order++) {
            const uint64_t tied[] = {s[i + order % 2].id, s[i + 1 - order % 2].id};
            const uint64_t joins[2][4] = {
                {tied[0], tied[1], s[0].id, s[1].id}, {s[0].id, s[1].id, tied[0], tied[1]}};
            struct sched_place t = table(4, 4);
            uint64_t ids[SCHED_PLACE_SEATS];
            for (unsigned j = 0; j < 4; j++) {
                struct sched_place_member m = {.id = joins[order / 2][j], .weight = 255};
                CHECK_EQ(sched_place_join(&t, &m), 0);
                CHECK(j != 1 || order > 1 || (ids_at(&t, 0, ids) == 2 && ids[0] == low));
            }
            CHECK_EQ(ids_at(&t, 0, ids), 3);
            CHECK(ids[0] == s[0].id && ids[1] == s[1].id && ids[2] == low);
            free(t.groups);
        }
    }
    CHECK(ties > 5);
}

TEST(a_thousand_members_equal_the_naive_rule)
{
    static struct model w;
    w = even(1200, 5);
    for (uint32_t i = 0; i < w.n; i++) {
        w.m[i].weight = (uint8_t)(i % 256);
    }
    struct sched_place t = table(8, 1200);
    CHECK_EQ(sched_place_build(&t, w.m, w.n), 0);
    check_model(&t, &w);
    for (uint64_t id = 1; id <= 1000; id += 77) {
        CHECK_EQ(sched_place_leave(&t, id), 0);
    }
    CHECK_EQ(t.n, 1200 - 13);
    for (uint32_t i = 0; i < w.n; i++) {
        if (w.m[i].id <= 1000 && w.m[i].id % 77 == 1) {
            w.m[i].weight = 0;
        }
    }
    check_model(&t, &w);
    free(t.groups);
}

TEST(rank_is_the_order_of_scores)
{
    struct model w = even(30, 3);
    uint64_t salt = base_hash_sip24(test_key, "place/1", 7);
    w.m[4].weight = 0;
    struct sched_place t = table(4, 30);
    CHECK_EQ(sched_place_build(&t, w.m, w.n), 0);
    for (uint32_t p = 0; p < 16; p++) {
        uint16_t slots[40];
        CHECK_EQ(sched_place_rank(&t, p, slots, 40), 29);
        for (unsigned i = 0; i + 1 < 29; i++) {
            struct sched_place_member a, b;
            CHECK_EQ(sched_place_member(&t, slots[i], &a), 0);
            CHECK_EQ(sched_place_member(&t, slots[i + 1], &b), 0);
            CHECK(model_better(&a, &b, p, salt));
        }
        CHECK_EQ(slots[0], sched_place_at(&t, p)->slot[0]);
        CHECK_EQ(sched_place_rank(&t, p, slots, 5), 5);
    }
    free(t.groups);
}

TEST(slots_stay_while_their_member_does)
{
    struct model w = even(10, 2);
    struct sched_place t = table(4, 10);
    uint16_t slot[10], now;
    CHECK_EQ(sched_place_build(&t, w.m, 10), 0);
    for (uint32_t i = 0; i < 10; i++) {
        CHECK_EQ(sched_place_find(&t, i + 1, &slot[i]), 0);
    }
    CHECK_EQ(sched_place_leave(&t, 3), 0);
    CHECK_EQ(sched_place_leave(&t, 10), 0);
    CHECK_EQ(sched_place_find(&t, 3, &now), BASE_ENOTFOUND);
    CHECK_EQ(sched_place_find(&t, 0, &now), BASE_ENOTFOUND);
    struct sched_place_member m;
    CHECK_EQ(sched_place_member(&t, slot[2], &m), BASE_ENOTFOUND);
    CHECK_EQ(sched_place_member(&t, slot[9], &m), BASE_ENOTFOUND);
    CHECK_EQ(sched_place_join(&t, &w.m[9]), 0);
    for (uint32_t i = 0; i < 9; i++) {
        if (i != 2) {
            CHECK_EQ(sched_place_find(&t, i + 1, &now), 0);
            CHECK_EQ(now, slot[i]);
        }
    }
    free(t.groups);
}

TEST(what_does_not_fit_is_refused_and_changes_nothing)
{
    struct sched_place_cfg cfg = cfg_of(6, 3);
    struct sched_place t;
    size_t size = sched_place_size(&cfg);
    CHECK_EQ(size, 64 * 16 + 3 * 24);
    void *mem = malloc(size);
    CHECK(mem != NULL);
    CHECK_EQ(sched_place_init(&t, &cfg, mem, size - 1), BASE_ENOMEM);
    struct sched_place_cfg bad[] = {cfg_of(3, 3), cfg_of(21, 3), cfg_of(8, 0), cfg_of(8, 65536)};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        CHECK_EQ(sched_place_size(&bad[i]), 0);
        CHECK_EQ(sched_place_init(&t, &bad[i], mem, size), BASE_EINVAL);
    }
    CHECK_EQ(sched_place_init(&t, &cfg, mem, size), 0);
    struct model w = even(4, 1);
    uint64_t empty = sched_place_digest(&t);
    CHECK_EQ(sched_place_build(&t, w.m, 4), BASE_EFULL);
    CHECK(sched_place_digest(&t) == empty);
    CHECK_EQ(sched_place_build(&t, w.m, 3), 0);
    uint64_t three = sched_place_digest(&t);
    CHECK(three != empty);
    CHECK_EQ(sched_place_join(&t, &w.m[3]), BASE_EFULL);
    CHECK_EQ(sched_place_join(&t, &w.m[0]), BASE_EEXISTS);
    CHECK_EQ(sched_place_join(&t, &(struct sched_place_member){.weight = 1}), BASE_EINVAL);
    CHECK_EQ(sched_place_leave(&t, 9), BASE_ENOTFOUND);
    CHECK_EQ(sched_place_reweight(&t, 9, 2), BASE_ENOTFOUND);
    CHECK(sched_place_digest(&t) == three);
    w.m[1].id = w.m[0].id;
    CHECK_EQ(sched_place_build(&t, w.m, 2), BASE_EEXISTS);
    CHECK(sched_place_digest(&t) == empty);
    free(mem);
}

TEST(digest_sees_a_changed_seat_order_and_size)
{
    struct model w = even(12, 1);
    struct sched_place t = table(8, 12), other = table(9, 12);
    CHECK_EQ(sched_place_build(&t, w.m, 12), 0);
    CHECK_EQ(sched_place_build(&other, w.m, 12), 0);
    uint64_t d = sched_place_digest(&t);
    CHECK(d != sched_place_digest(&other));
    struct sched_place_group *g = &t.groups[200];
    uint16_t s = g->slot[0];
    g->slot[0] = g->slot[1];
    g->slot[1] = s;
    CHECK(d != sched_place_digest(&t));
    free(t.groups);
    free(other.groups);
}

TEST(key_of_an_identifier_separates_pool_and_identifier)
{
    uint64_t a, b;
    CHECK_EQ(sched_place_key(test_key, "pool", "abcd", 4, &a), 0);
    CHECK(a == base_hash_sip24(test_key, "pool\0abcd", 9));
    CHECK_EQ(sched_place_key(test_key, "poola", "bcd", 3, &b), 0);
    CHECK(a != b);
    uint8_t other[16] = {1};
    CHECK_EQ(sched_place_key(other, "pool", "abcd", 4, &b), 0);
    CHECK(a != b);
    char big[SCHED_PLACE_KEY_BYTES_MAX + 1];
    memset(big, 'x', sizeof big);
    big[SCHED_PLACE_KEY_BYTES_MAX] = 0;
    b = 7;
    CHECK_EQ(sched_place_key(test_key, "p", big, SCHED_PLACE_KEY_BYTES_MAX - 2, &a), 0);
    CHECK_EQ(sched_place_key(test_key, "p", big, SCHED_PLACE_KEY_BYTES_MAX - 1, &b), BASE_ETOOBIG);
    CHECK_EQ(sched_place_key(test_key, big, "abcd", 4, &b), BASE_ETOOBIG);
    CHECK_EQ(sched_place_key(test_key, "p", big, SIZE_MAX, &b), BASE_ETOOBIG);
    CHECK(b == 7);
}

TEST(the_two_halves_of_a_key_are_independent)
{
    struct sched_key a, b;
    uint64_t h;
    CHECK_EQ(sched_name_key(test_key, "pool", "abcd", 4, &a), 0);
    CHECK_EQ(sched_place_key(test_key, "pool", "abcd", 4, &h), 0);
    CHECK_EQ(a.hi, h);
    CHECK(a.lo != a.hi);
    CHECK_EQ(sched_name_key(test_key, "pool", "abce", 4, &b), 0);
    CHECK(a.hi != b.hi && a.lo != b.lo);
    CHECK_EQ(sched_key_pool(a), sched_key_pool(b));
    CHECK_EQ(sched_name_key(test_key, "poo1", "abcd", 4, &b), 0);
    CHECK(sched_key_pool(a) != sched_key_pool(b));
    CHECK_EQ(sched_name_key(test_key, "pool", "abcd", 4, &b), 0);
    CHECK(sched_key_eq(a, b));
}

TEST(partition_is_the_top_of_the_key)
{
    struct sched_place t = table(4, 1);
    CHECK_EQ(sched_place_partition(&t, 0), 0);
    CHECK_EQ(sched_place_partition(&t, UINT64_MAX), 15);
    CHECK_EQ(sched_place_partition(&t, UINT64_C(0x7fffffffffffffff)), 7);
    CHECK(sched_place_group(&t, UINT64_MAX) == sched_place_at(&t, 15));
    free(t.groups);
}
