#include "proto/base/container.h"
#include "proto/base/err.h"
#include "proto/base/hash.h"
#include "tests/lib/check.h"
#include "worker/core/quota.h"

/* --- turns --------------------------------------------------------------------------------- */

struct item {
    struct worker_fair_item at;
    int flow;
};

static int served(struct worker_fair *f, struct worker_fair_flow *flows)
{
    struct worker_fair_item *i = worker_fair_next(f);
    if (i == NULL) {
        return -1;
    }
    int flow = CONTAINER_OF(i, struct item, at)->flow;
    worker_fair_serve(f, &flows[flow], i);
    return flow;
}

TEST(who_queues_much_delays_only_himself)
{
    struct worker_fair f;
    struct worker_fair_flow flows[3];
    static struct item items[1003];
    worker_fair_init(&f);
    CHECK(worker_fair_next(&f) == NULL);
    for (int i = 0; i < 3; i++) {
        worker_fair_flow_init(&flows[i], 1);
    }
    for (int i = 0; i < 1003; i++) {
        items[i].flow = i < 1000 ? 0 : i < 1002 ? 1 : 2;
        worker_fair_item_init(&items[i].at);
        worker_fair_add(&f, &flows[items[i].flow], &items[i].at, 1);
    }
    int n[3] = {0, 0, 0};
    for (int i = 0; i < 6; i++) {
        n[served(&f, flows)]++;
    }
    CHECK(n[1] == 2 && n[2] == 1 && n[0] == 3);
    for (int i = 0; i < 997; i++) {
        CHECK_EQ(served(&f, flows), 0);
    }
    CHECK_EQ(served(&f, flows), -1);
}

TEST(turns_are_shared_by_cost_and_weight)
{
    struct worker_fair f;
    struct worker_fair_flow flows[2];
    static struct item items[400];
    worker_fair_init(&f);
    worker_fair_flow_init(&flows[0], 3); /* thrice the other's */
    worker_fair_flow_init(&flows[1], 1);
    for (int i = 0; i < 400; i++) {
        items[i].flow = i % 2;
        worker_fair_item_init(&items[i].at);
        worker_fair_add(&f, &flows[i % 2], &items[i].at, 2);
    }
    int n[2] = {0, 0};
    for (int i = 0; i < 200; i++) {
        n[served(&f, flows)]++;
    }
    CHECK(n[0] >= 147 && n[0] <= 153);
    worker_fair_remove(&flows[0], &items[398].at); /* gives up */
    worker_fair_remove(&flows[0], &items[398].at);
    int left = 0;
    while (served(&f, flows) >= 0) {
        left++;
    }
    CHECK_EQ(left, 199);
}

TEST(what_was_taken_back_comes_first)
{
    struct worker_fair f;
    struct worker_fair_flow flows[2];
    struct item a[3] = {{.flow = 0}, {.flow = 0}, {.flow = 1}};
    worker_fair_init(&f);
    for (int i = 0; i < 2; i++) {
        worker_fair_flow_init(&flows[i], 1);
    }
    for (int i = 0; i < 3; i++) {
        worker_fair_item_init(&a[i].at);
    }
    worker_fair_add(&f, &flows[1], &a[2].at, 1);
    worker_fair_add(&f, &flows[0], &a[1].at, 1);
    worker_fair_add_first(&f, &flows[0], &a[0].at, 1);
    CHECK(worker_fair_next(&f) == &a[0].at);
    CHECK_EQ(served(&f, flows), 0);
    CHECK_EQ(served(&f, flows), 1);
    CHECK(worker_fair_next(&f) == &a[1].at);
}

/* --- counting ------------------------------------------------------------------------------ */

struct bench {
    struct worker_quota *q;
    void *mem;
};

static struct proto_tenant tenant(uint8_t n)
{
    return (struct proto_tenant){.id = {n}};
}

static struct worker_quota_who who(uint8_t n, uint32_t pool)
{
    return (struct worker_quota_who){.tenant = tenant(n), .pool = pool};
}

static void bench_init(struct bench *b, const struct worker_quota_config *cfg)
{
    size_t n = worker_quota_size(cfg);
    CHECK(n > 0);
    b->mem = malloc(n);
    CHECK_EQ(worker_quota_init(&b->q, cfg, b->mem, n - 1), BASE_ENOMEM);
    CHECK_EQ(worker_quota_init(&b->q, cfg, b->mem, n), 0);
}

#define S WORKER_QUOTA_SESSIONS
#define E WORKER_QUOTA_EXECUTIONS
#define B WORKER_QUOTA_BYTES

static enum worker_quota_verdict take(
    struct bench *b, uint8_t n, uint32_t pool, enum worker_quota_kind kind)
{
    struct worker_quota_who w = who(n, pool);
    enum worker_quota_verdict v = worker_quota_check(b->q, &w, kind, 1);
    if (v == WORKER_QUOTA_OK) {
        CHECK(worker_quota_charge(b->q, &w, kind, 1));
    }
    return v;
}

TEST(a_tenant_a_tenant_in_a_pool_and_a_pool_have_limits_of_their_own)
{
    struct bench b;
    struct worker_quota_tenant rich = {.tenant = tenant(9), .limits = {.max = {[S] = 5}}};
    struct worker_quota_config cfg = {.pools_max = 2,
        .books_max = 16,
        .tenant = {.max = {[S] = 3}},
        .tenants = &rich,
        .tenants_n = 1};
    bench_init(&b, &cfg);
    struct worker_quota_limits whole = {.max = {[E] = 2}}, each = {.max = {[S] = 2}};
    worker_quota_pool(b.q, 0, &whole, &each);
    CHECK_EQ(take(&b, 1, 0, S), WORKER_QUOTA_OK);
    CHECK_EQ(take(&b, 1, 0, S), WORKER_QUOTA_OK);
    CHECK_EQ(take(&b, 1, 0, S), WORKER_QUOTA_OF_TENANT_IN_POOL);
    CHECK_EQ(take(&b, 1, 1, S), WORKER_QUOTA_OK);
    CHECK_EQ(take(&b, 1, 1, S), WORKER_QUOTA_OF_TENANT);
    CHECK_EQ(take(&b, 2, 0, S), WORKER_QUOTA_OK); /* nobody else is bound by that */
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(take(&b, 9, 1, S), WORKER_QUOTA_OK);
    }
    CHECK_EQ(take(&b, 9, 1, S), WORKER_QUOTA_OF_TENANT);
    CHECK_EQ(take(&b, 1, 0, E), WORKER_QUOTA_OK);
    CHECK_EQ(take(&b, 2, 0, E), WORKER_QUOTA_OK);
    CHECK_EQ(take(&b, 9, 0, E), WORKER_QUOTA_OF_POOL);
    CHECK_EQ(take(&b, 9, 1, E), WORKER_QUOTA_OK);
    struct worker_quota_who w = who(1, 0);
    worker_quota_refund(b.q, &w, S, 1);
    CHECK_EQ(take(&b, 1, 0, S), WORKER_QUOTA_OK);
    CHECK_EQ(worker_quota_check(b.q, &w, B, UINT64_MAX), WORKER_QUOTA_OK);
    free(b.mem);
}

TEST(each_of_many_tenants_has_the_limits_of_its_own)
{
    static struct worker_quota_tenant own[WORKER_QUOTA_TENANTS_MAX];
    for (uint32_t i = 0; i < WORKER_QUOTA_TENANTS_MAX; i++) {
        memcpy(own[i].tenant.id, &i, sizeof i);
        own[i].limits.max[B] = i + 1;
    }
    own[1000].tenant = own[3].tenant; /* twice: the first one counts */
    struct bench b;
    struct worker_quota_config cfg = {.pools_max = 1,
        .books_max = 1,
        .tenant = {.max = {[B] = 5000}},
        .tenants = own,
        .tenants_n = WORKER_QUOTA_TENANTS_MAX};
    bench_init(&b, &cfg);
    for (uint32_t i = 0; i < WORKER_QUOTA_TENANTS_MAX; i++) {
        struct worker_quota_who w = {.tenant = own[i].tenant};
        uint64_t max = i == 1000 ? 4 : i + 1;
        CHECK_EQ(worker_quota_check(b.q, &w, B, max), WORKER_QUOTA_OK);
        CHECK_EQ(worker_quota_check(b.q, &w, B, max + 1), WORKER_QUOTA_OF_TENANT);
        CHECK(worker_quota_fits(b.q, &w, B, max) && !worker_quota_fits(b.q, &w, B, max + 1));
    }
    struct worker_quota_who w = who(255, 0);
    memset(&w.tenant, 0xee, sizeof w.tenant);
    CHECK_EQ(worker_quota_check(b.q, &w, B, 5000), WORKER_QUOTA_OK);
    CHECK_EQ(worker_quota_check(b.q, &w, B, 5001), WORKER_QUOTA_OF_TENANT);
    struct worker_quota_limits pool = {.max = {[B] = 7}}, none = {{0}, 0};
    worker_quota_pool(b.q, 0, &none, &pool);
    CHECK(worker_quota_fits(b.q, &w, B, 7) && !worker_quota_fits(b.q, &w, B, 8));
    CHECK(worker_quota_charge(b.q, &w, B, 7));
    CHECK(worker_quota_fits(b.q, &w, B, 7)); /* later */
    CHECK_EQ(worker_quota_check(b.q, &w, B, 7), WORKER_QUOTA_OF_TENANT_IN_POOL);
    free(b.mem);
}

TEST(books_that_count_nothing_need_no_memory)
{
    struct bench b;
    struct worker_quota_config cfg = {.pools_max = 1, .books_max = 3};
    bench_init(&b, &cfg);
    for (int i = 0; i < 1000; i++) {
        struct worker_quota_who w = who((uint8_t)(i % 200), 0);
        CHECK(worker_quota_charge(b.q, &w, B, 7));
        CHECK_EQ(worker_quota_books(b.q), 2);
        CHECK(worker_quota_flow(b.q, &w.tenant, 0) != NULL);
        worker_quota_refund(b.q, &w, B, 7);
        CHECK_EQ(worker_quota_books(b.q), 0);
        CHECK(worker_quota_flow(b.q, &w.tenant, 0) == NULL);
    }
    for (uint8_t i = 0; i < 3; i++) {
        struct worker_quota_who w = who(i, 0);
        CHECK(worker_quota_charge(b.q, &w, S, 1));
    }
    struct worker_quota_who w = who(77, 0);
    CHECK(!worker_quota_charge(b.q, &w, S, 1)); /* more than was said */
    CHECK_EQ(worker_quota_books(b.q), 6);
    free(b.mem);
}

TEST(what_is_counted_is_what_was_charged_in_any_order)
{
    enum { TENANTS = 5, POOLS = 3, STEPS = 20000 };
    struct bench b;
    struct worker_quota_config cfg = {.pools_max = POOLS, .books_max = TENANTS * POOLS};
    bench_init(&b, &cfg);
    uint64_t n[TENANTS][POOLS] = {{0}};
    struct base_hash_rng rng;
    base_hash_rng_seed(&rng, 42);
    for (int i = 0; i < STEPS; i++) {
        uint8_t t = (uint8_t)base_hash_rng_below(&rng, TENANTS);
        uint32_t p = (uint32_t)base_hash_rng_below(&rng, POOLS);
        uint64_t some = base_hash_rng_below(&rng, 5);
        struct worker_quota_who w = who(t, p);
        if (base_hash_rng_below(&rng, 2) == 0) {
            CHECK(worker_quota_charge(b.q, &w, E, some + 1));
            n[t][p] += some + 1;
        } else if (n[t][p] > some) {
            worker_quota_refund(b.q, &w, E, some + 1);
            n[t][p] -= some + 1;
        }
        uint64_t all = n[t][0] + n[t][1] + n[t][2];
        CHECK_EQ(worker_quota_used(b.q, &w.tenant, p, E), n[t][p]);
        CHECK_EQ(worker_quota_used(b.q, &w.tenant, WORKER_QUOTA_ALL, E), all);
    }
    free(b.mem);
}

/* --- names --------------------------------------------------------------------------------- */

TEST(a_tenant_is_its_issuers)
{
    static const uint8_t key[16] = {3}, other_key[16] = {4};
    struct proto_tenant a, b;
    char longer[300];
    memset(longer, 'x', sizeof longer);
    longer[299] = '\0';
    proto_tenant_of(key, "https://one", "acme", &a);
    proto_tenant_of(key, "https://one", "acme", &b);
    CHECK_EQ(memcmp(&a, &b, sizeof a), 0);
    proto_tenant_of(key, "https://two", "acme", &b);
    CHECK(memcmp(&a, &b, sizeof a) != 0);
    proto_tenant_of(key, "https://one", "acmf", &b);
    CHECK(memcmp(&a, &b, sizeof a) != 0);
    proto_tenant_of(other_key, "https://one", "acme", &b);
    CHECK(memcmp(&a, &b, sizeof a) != 0);
    proto_tenant_of(key, "https://one", longer, &a);
    longer[298] = 'y'; /* however late they differ */
    proto_tenant_of(key, "https://one", longer, &b);
    CHECK(memcmp(&a, &b, sizeof a) != 0);
    CHECK(memcmp(a.id, a.id + 8, 8) != 0);
}

TEST(every_refusal_has_words_of_its_own)
{
    for (int k = 0; k < WORKER_QUOTA_KINDS; k++) {
        CHECK_STR(worker_quota_text(WORKER_QUOTA_OK, (enum worker_quota_kind)k), "");
        for (int v = 1; v < 4; v++) {
            const char *text =
                worker_quota_text((enum worker_quota_verdict)v, (enum worker_quota_kind)k);
            CHECK(strlen(text) > 20);
            CHECK(strstr(text, v == 3 ? "pool" : "tenant") != NULL || k == 3);
        }
    }
    CHECK_STR(worker_quota_text(WORKER_QUOTA_OK, WORKER_QUOTA_KINDS), "");
}

TEST(limits_of_tenants_change_while_they_are_counted)
{
    struct worker_quota_config cfg = {
        .pools_max = 1, .books_max = 4, .tenants_max = 2, .tenant = {.max = {1}}};
    struct worker_quota *q;
    size_t n = worker_quota_size(&cfg);
    void *mem = malloc(n);
    CHECK_EQ(worker_quota_init(&q, &cfg, mem, n), 0);
    struct worker_quota_who a = {.tenant = {.id = {1}}}, b = {.tenant = {.id = {2}}};
    CHECK(worker_quota_charge(q, &a, WORKER_QUOTA_SESSIONS, 1));
    CHECK_EQ(worker_quota_check(q, &a, WORKER_QUOTA_SESSIONS, 1), WORKER_QUOTA_OF_TENANT);
    const struct worker_quota_tenant own[] = {{a.tenant, {.max = {3}}}, {b.tenant, {.max = {1}}}};
    worker_quota_tenants(q, &(struct worker_quota_limits){.max = {2}}, own, 2);
    CHECK_EQ(worker_quota_check(q, &a, WORKER_QUOTA_SESSIONS, 2), WORKER_QUOTA_OK);
    CHECK_EQ(worker_quota_check(q, &b, WORKER_QUOTA_SESSIONS, 2), WORKER_QUOTA_OF_TENANT);
    worker_quota_tenants(q, &(struct worker_quota_limits){.max = {2}}, NULL, 0);
    CHECK_EQ(worker_quota_check(q, &a, WORKER_QUOTA_SESSIONS, 2), WORKER_QUOTA_OF_TENANT);
    CHECK_EQ(worker_quota_check(q, &b, WORKER_QUOTA_SESSIONS, 2), WORKER_QUOTA_OK);
    free(mem);
}
