#pragma once
#include "proto/base/clock.h"
#include "proto/base/err.h"
#include "proto/base/hash.h"
#include "tests/lib/check.h"
#include "worker/core/pool_state.h"

/* A pool manager for tests, and what it did in its last step. */

#define S BASE_NS_PER_S
#define MS BASE_NS_PER_MS

/* --- a manager with a recorded list of effects --------------------------------------------- */

enum { FX_KEEP = 512 };

struct bench {
    void *mem;
    struct worker_pools *p;
    uint64_t now_ns;
    struct worker_pool_fx fx[FX_KEEP];
    uint32_t n;
};

static inline struct worker_pool_config config(uint32_t vms)
{
    return (struct worker_pool_config){.vms_max = vms,
        .waiters_max = 8,
        .tombs_max = 4,
        .epoch_next = (UINT64_C(1) << 32) + 1,
        .epoch_limit = (UINT64_C(1) << 32) + 100000};
}

static inline struct worker_pool_spec spec(const char *name, uint32_t max, uint32_t ready)
{
    struct worker_pool_spec s = {.sessions_max = max, .ready_target = ready, .cooldown_ms = 300000};
    memcpy(s.name, name, strlen(name));
    return s;
}

static inline void bench_init(struct bench *b, const struct worker_pool_config *cfg)
{
    memset(b, 0, sizeof *b);
    size_t size = worker_pool_size(cfg, 4);
    CHECK(size > 0);
    b->mem = malloc(size);
    b->now_ns = 1000 * S;
    CHECK_EQ(worker_pool_init(&b->p, cfg, 4, b->now_ns, b->mem, size), 0);
}

static inline int step(struct bench *b, struct worker_pool_event ev)
{
    ev.now_ns = b->now_ns;
    int rc = worker_pool_step(b->p, &ev);
    b->n = 0;
    while (worker_pool_take(b->p, &b->fx[b->n])) {
        b->n++;
        CHECK(b->n < FX_KEEP);
    }
    const char *bad = worker_pool_check(b->p);
    if (bad != NULL) {
        (void)fprintf(stderr, "%s\n", bad);
    }
    CHECK(bad == NULL);
    return rc;
}

/* The k-th effect of a kind in the last step, NULL when there are fewer. */
static const struct worker_pool_fx *fx(const struct bench *b, enum worker_pool_fx_kind kind, int k)
{
    for (uint32_t i = 0; i < b->n; i++) {
        if (b->fx[i].kind == kind && k-- == 0) {
            return &b->fx[i];
        }
    }
    return NULL;
}

static inline uint32_t pool_add(struct bench *b, struct worker_pool_spec s)
{
    uint32_t pool = 99;
    CHECK_EQ(worker_pool_add(b->p, &s, &pool), 0);
    step(b, (struct worker_pool_event){
                .kind = WORKER_EV_TEMPLATE, .pool = pool, .template = WORKER_POOL_TEMPLATE_READY});
    return pool;
}

static inline struct proto_identifier ident(const char *text)
{
    struct proto_identifier id;
    CHECK_EQ(proto_identifier_set(&id, text, strlen(text)), PROTO_IDENTIFIER_OK);
    return id;
}

static inline uint64_t hash_of(const struct proto_identifier *id)
{
    static const uint8_t key[16] = {1};
    return base_hash_sip24(key, id->text, id->len);
}

static inline void ask(struct bench *b, uint64_t request, uint32_t pool, const char *name)
{
    struct proto_identifier id = ident(name);
    step(b, (struct worker_pool_event){.kind = WORKER_EV_REQUEST,
                .request = request,
                .pool = pool,
                .hash = hash_of(&id),
                .id = &id,
                .allocate = true});
}

static inline void slot_event(struct bench *b, enum worker_pool_event_kind kind, uint32_t slot)
{
    step(b, (struct worker_pool_event){.kind = kind, .slot = slot, .text = "it broke"});
}

/* Starts, claims and answers until `name` has a live session; returns its answer. */
static inline struct worker_pool_fx open_session(struct bench *b, uint32_t pool, const char *name)
{
    ask(b, 77, pool, name);
    if (fx(b, WORKER_FX_CLAIM, 0) == NULL) {
        const struct worker_pool_fx *start = fx(b, WORKER_FX_START, 0);
        CHECK(start != NULL);
        slot_event(b, WORKER_EV_VM_READY, start->slot);
    }
    const struct worker_pool_fx *claim = fx(b, WORKER_FX_CLAIM, 0);
    CHECK(claim != NULL);
    slot_event(b, WORKER_EV_VM_CLAIMED, claim->slot);
    const struct worker_pool_fx *a = fx(b, WORKER_FX_ANSWER, 0);
    CHECK(a != NULL && a->answer == WORKER_ANSWER_USE && a->request == 77);
    return *a;
}

static inline void use(
    struct bench *b, enum worker_pool_event_kind kind, const struct worker_pool_fx *a)
{
    step(b, (struct worker_pool_event){
                .kind = kind, .session = a->session, .epoch = a->epoch, .end = WORKER_END_DELETED});
}

static inline void tick_to(struct bench *b, uint64_t ns)
{
    b->now_ns = ns;
    step(b, (struct worker_pool_event){.kind = WORKER_EV_TICK});
}
