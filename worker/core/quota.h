#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/tenant.h"
#include "worker/core/fair.h"
#include "worker/core/list.h"

/* What tenants use of a worker, and how much of it they may. Three books are kept: of a tenant, of
 * a tenant in one pool, and of a pool whoever asks; each may have limits. A book is there while it
 * counts something, so memory is bounded by what can be counted. No clock, no heap, no I/O. */

enum worker_quota_kind {
    WORKER_QUOTA_SESSIONS,   /* whatever their state */
    WORKER_QUOTA_EXECUTIONS, /* that run */
    WORKER_QUOTA_REQUESTS,   /* under way, waiting ones too */
    WORKER_QUOTA_BYTES,      /* of requests in memory */
    WORKER_QUOTA_KINDS,
};

struct worker_quota_limits {
    uint64_t max[WORKER_QUOTA_KINDS]; /* 0: no limit */
    uint32_t weight;                  /* turns of a tenant beside others; 0 means 1 */
};

/* A tenant with limits of his own. */
struct worker_quota_tenant {
    struct proto_tenant tenant;
    struct worker_quota_limits limits;
};

enum { WORKER_QUOTA_TENANTS_MAX = 1024 }; /* with limits of their own */

struct worker_quota_config {
    uint32_t pools_max;
    uint32_t books_max; /* pairs of tenant and pool that can count something at a time */
    uint8_t key[16];    /* random: tenants are others' choice */
    struct worker_quota_limits tenant;         /* of every tenant */
    const struct worker_quota_tenant *tenants; /* borrowed; replaces `tenant` for these */
    uint32_t tenants_n;
    uint32_t tenants_max; /* room for so many in worker_quota_tenants(); at least tenants_n is */
};

/* Who asks for what. */
struct worker_quota_who {
    struct proto_tenant tenant;
    uint32_t pool;
};

enum worker_quota_verdict {
    WORKER_QUOTA_OK,
    WORKER_QUOTA_OF_TENANT,         /* the tenant has as much as he may */
    WORKER_QUOTA_OF_TENANT_IN_POOL, /* ... in this pool */
    WORKER_QUOTA_OF_POOL,           /* the pool has */
};

#define WORKER_QUOTA_ALL UINT32_MAX /* in place of a pool */

/* What a tenant uses, all in all or in a pool. Its flow is for who queues what of tenants wait for
 * (pools: sessions; the server: requests). */
struct worker_quota_book {
    struct worker_list link; /* free */
    struct proto_tenant tenant;
    uint32_t pool;
    uint32_t chain, index;
    uint64_t used[WORKER_QUOTA_KINDS];
    struct worker_fair_flow flow;
};

struct worker_quota; /* private */

/* As for the pool manager: bytes for init, 0 when out of range. */
size_t worker_quota_size(const struct worker_quota_config *cfg);
int worker_quota_init(
    struct worker_quota **ret, const struct worker_quota_config *cfg, void *mem, size_t mem_size);

/* Limits of a pool, and of each tenant in it. */
void worker_quota_pool(struct worker_quota *q, uint32_t pool,
    const struct worker_quota_limits *whole, const struct worker_quota_limits *each);

/* Other limits of every tenant, and of those with limits of their own (borrowed; n is at most what
 * the configuration has room for). Turns of who is counted already stay as they are. */
void worker_quota_tenants(struct worker_quota *q, const struct worker_quota_limits *every,
    const struct worker_quota_tenant *tenants, uint32_t n);

/* Would n more be within all limits? */
enum worker_quota_verdict worker_quota_check(const struct worker_quota *q,
    const struct worker_quota_who *who, enum worker_quota_kind kind, uint64_t n);
/* False: n alone is over a limit, so waiting does not help. */
bool worker_quota_fits(const struct worker_quota *q, const struct worker_quota_who *who,
    enum worker_quota_kind kind, uint64_t n);
/* Counts n more, within limits or not: what was stored has to be counted. False when there is no
 * book left: more than books_max said. */
bool worker_quota_charge(struct worker_quota *q, const struct worker_quota_who *who,
    enum worker_quota_kind kind, uint64_t n);
/* n less; of what was charged. */
void worker_quota_refund(struct worker_quota *q, const struct worker_quota_who *who,
    enum worker_quota_kind kind, uint64_t n);

/* The flow of a tenant in a pool, or over all (WORKER_QUOTA_ALL); there while it is charged for
 * something, at the same place. */
struct worker_fair_flow *worker_quota_flow(
    struct worker_quota *q, const struct proto_tenant *tenant, uint32_t pool);

uint64_t worker_quota_used(const struct worker_quota *q, const struct proto_tenant *tenant,
    uint32_t pool, enum worker_quota_kind kind);
bool worker_quota_pool_idle(const struct worker_quota *q, uint32_t pool); /* nothing is charged */
uint32_t worker_quota_books(const struct worker_quota *q);                /* in use */

/* For people: what the tenant or the pool has too much of. "" for OK. */
const char *worker_quota_text(enum worker_quota_verdict v, enum worker_quota_kind kind);
