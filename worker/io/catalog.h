#pragma once
#include "proto/base/log.h"
#include "scheduler/io/catalog.h"
#include "worker/io/session_io.h"

/* What this worker runs: the pools and limits of the cluster's catalogue. While that has never had
 * a pool, those of worker.yaml count, as they do without a cluster; likewise the limits of tenants.
 */
struct worker_catalog;

struct worker_catalog_config {
    const struct base_log *log;
    struct worker_sessions *sessions;
    /* of worker.yaml; borrowed */
    const struct worker_pool_file *files;
    uint32_t files_n;
    struct worker_quota_limits tenant;
    const struct worker_quota_tenant *tenants;
    uint32_t tenants_n;
    /* How long a pool of a file stays when the catalogue has its first pools and not this one: they
     * come one by one. */
    uint32_t grace_ms;
};

int worker_catalog_create(struct worker_catalog **ret, const struct worker_catalog_config *config);
void worker_catalog_destroy(struct worker_catalog *c); /* NULL is fine */

/* This worker's part of a pool's ready instances; pool: its number. */
struct worker_catalog_share {
    uint32_t (*of)(void *ctx, uint32_t pool, uint32_t ready);
    void *ctx;
};

/* Makes it so; known may be NULL. A pool that is not in it any more ends with its sessions. What
 * cannot be done, or not yet (BASE_EAGAIN), is left as it was and told in the log, and in *err (may
 * be NULL) for the first one; it is tried again with the next call. Not from inside of callbacks of
 * the sessions. */
int worker_catalog_apply(struct worker_catalog *c, const struct sched_catalog *known,
    const struct worker_catalog_share *share, struct base_error *err);

/* Pools that are in service. */
uint32_t worker_catalog_pools(const struct worker_catalog *c);

/* The cluster has no pool: all were deleted. */
bool worker_catalog_none(const struct worker_catalog *c);
