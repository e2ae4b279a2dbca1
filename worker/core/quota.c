#include "worker/core/quota.h"

#include <string.h>

#include "proto/base/assert.h"
#include "proto/base/container.h"
#include "proto/base/err.h"
#include "proto/base/hash.h"
#include "worker/core/size.h"

enum {
    NONE = UINT32_MAX,
    BYTES_A_TURN = 16 << 10, /* of requests, for a tenant of weight 1 */
    POOLS_MAX = 65536,
    BOOKS_MAX = 1 << 22,
};

struct pool {
    struct worker_quota_limits whole, each;
    uint64_t used[WORKER_QUOTA_KINDS];
};

struct worker_quota {
    struct worker_quota_config cfg;
    struct pool *pools;
    struct worker_quota_book *books;
    uint32_t books_max; /* two for each pair: the tenant's own too */
    uint32_t *buckets;
    uint32_t mask;
    uint32_t touched; /* books that were ever used */
    uint32_t n;       /* in use */
    uint32_t *own;    /* open hash table: who has limits of his own, index into cfg.tenants */
    uint32_t own_mask;
    struct worker_list free;
};

static uint32_t own_max(const struct worker_quota_config *cfg)
{
    return cfg->tenants_max > cfg->tenants_n ? cfg->tenants_max : cfg->tenants_n;
}

size_t worker_quota_size(const struct worker_quota_config *cfg)
{
    if (cfg->pools_max < 1 || cfg->pools_max > POOLS_MAX || cfg->books_max < 1 ||
        cfg->books_max > BOOKS_MAX || own_max(cfg) > WORKER_QUOTA_TENANTS_MAX) {
        return 0;
    }
    uint32_t books = 2 * cfg->books_max;
    return worker_size_aligned(sizeof(struct worker_quota)) +
           worker_size_aligned(cfg->pools_max * sizeof(struct pool)) +
           worker_size_aligned(books * sizeof(struct worker_quota_book)) +
           worker_size_aligned(worker_size_buckets(books) * sizeof(uint32_t)) +
           worker_size_aligned(worker_size_buckets(2 * own_max(cfg)) * sizeof(uint32_t));
}

static bool same(const struct proto_tenant *a, const struct proto_tenant *b)
{
    return memcmp(a->id, b->id, PROTO_TENANT_BYTES) == 0;
}

/* Where the tenant is in the table, or would be. */
static uint32_t *own_at(const struct worker_quota *q, const struct proto_tenant *tenant)
{
    uint64_t h = base_hash_sip24(q->cfg.key, tenant->id, PROTO_TENANT_BYTES);
    uint32_t *at;
    do { /* at least half of the table is empty */
        at = &q->own[h++ & q->own_mask];
    } while (*at != NONE && !same(&q->cfg.tenants[*at].tenant, tenant));
    return at;
}

static void own_init(struct worker_quota *q)
{
    uint32_t n = worker_size_buckets(2 * own_max(&q->cfg));
    q->own_mask = n - 1;
    memset(q->own, 0xff, n * sizeof *q->own);
    for (uint32_t i = 0; i < q->cfg.tenants_n; i++) {
        uint32_t *at = own_at(q, &q->cfg.tenants[i].tenant);
        *at = *at == NONE ? i : *at; /* named twice: the first one counts */
    }
}

int worker_quota_init(
    struct worker_quota **ret, const struct worker_quota_config *cfg, void *mem, size_t mem_size)
{
    size_t need = worker_quota_size(cfg);
    if (need == 0) {
        return BASE_EINVAL;
    }
    if (mem_size < need) {
        return BASE_ENOMEM;
    }
    struct worker_quota *q = mem;
    memset(q, 0, sizeof *q);
    q->cfg = *cfg;
    q->books_max = 2 * cfg->books_max;
    uint8_t *at = (uint8_t *)mem + worker_size_aligned(sizeof *q);
    q->pools = (struct pool *)(void *)at;
    memset(q->pools, 0, cfg->pools_max * sizeof *q->pools);
    at += worker_size_aligned(cfg->pools_max * sizeof *q->pools);
    q->books = (struct worker_quota_book *)(void *)at; /* memory that is not used is not touched */
    at += worker_size_aligned(q->books_max * sizeof *q->books);
    q->buckets = (uint32_t *)(void *)at;
    uint32_t buckets = worker_size_buckets(q->books_max);
    q->mask = buckets - 1;
    memset(q->buckets, 0xff, buckets * sizeof *q->buckets);
    worker_list_init(&q->free);
    at += worker_size_aligned(buckets * sizeof *q->buckets);
    q->own = (uint32_t *)(void *)at;
    own_init(q);
    *ret = q;
    return 0;
}

void worker_quota_tenants(struct worker_quota *q, const struct worker_quota_limits *every,
    const struct worker_quota_tenant *tenants, uint32_t n)
{
    REQUIRE(n <= own_max(&q->cfg));
    q->cfg.tenants_max = own_max(&q->cfg); /* the room stays */
    q->cfg.tenant = *every;
    q->cfg.tenants = tenants;
    q->cfg.tenants_n = n;
    own_init(q);
}

void worker_quota_pool(struct worker_quota *q, uint32_t pool,
    const struct worker_quota_limits *whole, const struct worker_quota_limits *each)
{
    REQUIRE(pool < q->cfg.pools_max);
    q->pools[pool].whole = *whole;
    q->pools[pool].each = *each;
}

/* --- books --------------------------------------------------------------------------------- */

static uint32_t *bucket_of(
    const struct worker_quota *q, const struct proto_tenant *tenant, uint32_t pool)
{
    uint8_t key[PROTO_TENANT_BYTES + sizeof pool];
    memcpy(key, tenant->id, PROTO_TENANT_BYTES);
    memcpy(key + PROTO_TENANT_BYTES, &pool, sizeof pool);
    return &q->buckets[base_hash_sip24(q->cfg.key, key, sizeof key) & q->mask];
}

static struct worker_quota_book *find(
    const struct worker_quota *q, const struct proto_tenant *tenant, uint32_t pool)
{
    for (uint32_t i = *bucket_of(q, tenant, pool); i != NONE; i = q->books[i].chain) {
        if (q->books[i].pool == pool && same(&q->books[i].tenant, tenant)) {
            return &q->books[i];
        }
    }
    return NULL;
}

/* The limits of a tenant over all pools. */
static const struct worker_quota_limits *limits_of(
    const struct worker_quota *q, const struct proto_tenant *tenant)
{
    uint32_t i = *own_at(q, tenant);
    return i == NONE ? &q->cfg.tenant : &q->cfg.tenants[i].limits;
}

static struct worker_quota_book *open_book(
    struct worker_quota *q, const struct proto_tenant *tenant, uint32_t pool)
{
    struct worker_quota_book *b;
    struct worker_list *l = worker_list_first(&q->free);
    if (l != NULL) {
        b = CONTAINER_OF(l, struct worker_quota_book, link);
        worker_list_remove(l);
    } else if (q->touched < q->books_max) {
        b = &q->books[q->touched];
        b->index = q->touched++;
        worker_list_init(&b->link);
    } else {
        return NULL;
    }
    const struct worker_quota_limits *of = limits_of(q, tenant);
    uint32_t weight = of->weight == 0 ? 1 : of->weight;
    b->tenant = *tenant;
    b->pool = pool;
    memset(b->used, 0, sizeof b->used);
    worker_fair_flow_init(&b->flow, pool == WORKER_QUOTA_ALL ? weight * BYTES_A_TURN : weight);
    uint32_t *bucket = bucket_of(q, tenant, pool);
    b->chain = *bucket;
    *bucket = b->index;
    q->n++;
    return b;
}

static void close_book(struct worker_quota *q, struct worker_quota_book *b)
{
    for (int k = 0; k < WORKER_QUOTA_KINDS; k++) {
        if (b->used[k] > 0) {
            return;
        }
    }
    REQUIRE(worker_list_empty(&b->flow.items));
    uint32_t *at = bucket_of(q, &b->tenant, b->pool);
    while (*at != b->index) {
        REQUIRE(*at != NONE);
        at = &q->books[*at].chain;
    }
    *at = b->chain;
    worker_list_append(&q->free, &b->link);
    q->n--;
}

/* --- counting ------------------------------------------------------------------------------ */

static bool within(
    const struct worker_quota_limits *l, enum worker_quota_kind kind, uint64_t used, uint64_t n)
{
    uint64_t max = l->max[kind];
    return max == 0 || (n <= max && used <= max - n);
}

static uint64_t used_of(const struct worker_quota_book *b, enum worker_quota_kind kind)
{
    return b == NULL ? 0 : b->used[kind];
}

enum worker_quota_verdict worker_quota_check(const struct worker_quota *q,
    const struct worker_quota_who *who, enum worker_quota_kind kind, uint64_t n)
{
    REQUIRE(who->pool < q->cfg.pools_max);
    const struct pool *pool = &q->pools[who->pool];
    uint64_t all = used_of(find(q, &who->tenant, WORKER_QUOTA_ALL), kind);
    uint64_t here = used_of(find(q, &who->tenant, who->pool), kind);
    if (!within(limits_of(q, &who->tenant), kind, all, n)) {
        return WORKER_QUOTA_OF_TENANT;
    }
    if (!within(&pool->each, kind, here, n)) {
        return WORKER_QUOTA_OF_TENANT_IN_POOL;
    }
    return within(&pool->whole, kind, pool->used[kind], n) ? WORKER_QUOTA_OK : WORKER_QUOTA_OF_POOL;
}

bool worker_quota_fits(const struct worker_quota *q, const struct worker_quota_who *who,
    enum worker_quota_kind kind, uint64_t n)
{
    REQUIRE(who->pool < q->cfg.pools_max);
    const struct pool *pool = &q->pools[who->pool];
    return within(limits_of(q, &who->tenant), kind, 0, n) && within(&pool->each, kind, 0, n) &&
           within(&pool->whole, kind, 0, n);
}

bool worker_quota_charge(struct worker_quota *q, const struct worker_quota_who *who,
    enum worker_quota_kind kind, uint64_t n)
{
    REQUIRE(who->pool < q->cfg.pools_max);
    struct worker_quota_book *b[2];
    const uint32_t scopes[2] = {WORKER_QUOTA_ALL, who->pool};
    for (int i = 0; i < 2; i++) {
        b[i] = find(q, &who->tenant, scopes[i]);
        b[i] = b[i] != NULL ? b[i] : open_book(q, &who->tenant, scopes[i]);
        if (b[i] == NULL) {
            if (i == 1) {
                close_book(q, b[0]);
            }
            return false;
        }
    }
    b[0]->used[kind] += n;
    b[1]->used[kind] += n;
    q->pools[who->pool].used[kind] += n;
    return true;
}

void worker_quota_refund(struct worker_quota *q, const struct worker_quota_who *who,
    enum worker_quota_kind kind, uint64_t n)
{
    const uint32_t scopes[2] = {WORKER_QUOTA_ALL, who->pool};
    for (int i = 0; i < 2; i++) {
        struct worker_quota_book *b = find(q, &who->tenant, scopes[i]);
        REQUIRE(b != NULL && b->used[kind] >= n);
        b->used[kind] -= n;
        close_book(q, b);
    }
    REQUIRE(q->pools[who->pool].used[kind] >= n);
    q->pools[who->pool].used[kind] -= n;
}

struct worker_fair_flow *worker_quota_flow(
    struct worker_quota *q, const struct proto_tenant *tenant, uint32_t pool)
{
    struct worker_quota_book *b = find(q, tenant, pool);
    return b == NULL ? NULL : &b->flow;
}

uint64_t worker_quota_used(const struct worker_quota *q, const struct proto_tenant *tenant,
    uint32_t pool, enum worker_quota_kind kind)
{
    return used_of(find(q, tenant, pool), kind);
}

bool worker_quota_pool_idle(const struct worker_quota *q, uint32_t pool)
{
    REQUIRE(pool < q->cfg.pools_max);
    bool idle = true;
    for (int kind = 0; kind < WORKER_QUOTA_KINDS; kind++) {
        idle = idle && q->pools[pool].used[kind] == 0;
    }
    return idle;
}

uint32_t worker_quota_books(const struct worker_quota *q)
{
    return q->n;
}

const char *worker_quota_text(enum worker_quota_verdict v, enum worker_quota_kind kind)
{
    static const char *const texts[WORKER_QUOTA_KINDS][4] = {
        {"", "the tenant has as many sessions as it may have",
            "the tenant has as many sessions in this pool as it may have",
            "the pool has as many sessions as it may have"},
        {"", "the tenant runs as many executions as it may",
            "the tenant runs as many executions in this pool as it may",
            "the pool runs as many executions as it may"},
        {"", "the tenant has as many requests under way as it may",
            "the tenant has as many requests under way in this pool as it may",
            "the pool has as many requests under way as it may"},
        {"", "the tenant's requests that wait are as long together as they may be",
            "the tenant's requests that wait in this pool are as long together as they may be",
            "the requests that wait in this pool are as long together as they may be"}};
    return (unsigned)kind < WORKER_QUOTA_KINDS && (unsigned)v < 4 ? texts[kind][v] : "";
}
