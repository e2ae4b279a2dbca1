#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "proto/base/log.h"
#include "proto/limits.h"
#include "worker/core/quota.h"
#include "worker/io/engine.h"

/* worker.yaml. Loaded once, checked as a whole, immutable afterwards. */

enum {
    WORKER_CONFIG_NAME_MAX = 32,
    WORKER_CONFIG_TEXT_MAX = 4096,
    WORKER_CONFIG_TENANT_MAX = 64, /* longer names have 64 characters too: see gateway/README.md */
};

/* Limits of tenants as they are written. 0 or absent: no limit of that kind. */
struct worker_config_quota {
    uint32_t sessions, executions, requests;
    uint32_t queued_mib; /* bytes of requests in memory */
    uint32_t weight;     /* turns beside others; 0 means 1 */
};
struct worker_config_tenant {
    char *issuer, *tenant; /* as tokens name them; see WORKER_CONFIG_TENANT_MAX */
    struct worker_config_quota quota;
};

struct worker_config {
    char *name;      /* [a-z0-9-]{1,32} */
    uint64_t id;     /* node id, not 0 */
    char *state_dir; /* absolute, as all paths */
    char *run_dir;
    char *ctl; /* tcp endpoints of the two ROUTER sockets */
    char *bulk;
    char *curve_secret; /* NULL only with insecure_plaintext */
    char *clients;      /* allow-list of public keys; NULL only with insecure_plaintext */
    char *cluster_key;
    char *image;
    char *accelerator_text; /* "auto" ... as written; see accelerator */
    char *log_level_text;
    char *lease_text; /* "none" (or NULL): one machine; "cluster": voters grant it; see leased */
    enum worker_accel accelerator;
    enum base_log_level log_level;
    bool leased;
    char *cluster;     /* path of cluster.yaml; NULL: sessions are of this worker alone */
    uint32_t freeze_s; /* microVMs end freeze_s + kill_s after a worker that does not come back */
    uint32_t kill_s;
    uint32_t uid_base;
    uint32_t vms_max;        /* microVMs of this machine; 0: what the pools need, with a cluster as
                                many as its memory suggests: see worker/README.md */
    bool insecure_plaintext; /* no encryption; refused unless both endpoints are loopback */
    char **pools;            /* paths of pool files; with a cluster until that has pools */
    unsigned pools_count;
    struct worker_config_quota *tenant_quota;   /* of each; NULL: what worker_config_quota() says */
    struct worker_config_tenant *tenant_quotas; /* in place of it, of those named */
    unsigned tenant_quotas_count;
};

/* The limits of every tenant: as written, else half of what the worker takes in all. */
void worker_config_quota(const struct worker_config *c, struct worker_quota_limits *ret);
/* The limits of tenant_quotas[i]. */
void worker_config_tenant(const struct worker_config *c, const uint8_t cluster_key[16], unsigned i,
    struct worker_quota_tenant *ret);

/* On success *ret is the caller's, to end with worker_config_destroy(). BASE_EINVAL with the key
 * and the line where it is known, -errno when the file cannot be read. */
int worker_config_load(const char *path, struct worker_config **ret, struct base_error *err);
int worker_config_parse(
    const char *yaml, size_t n, struct worker_config **ret, struct base_error *err);
void worker_config_destroy(struct worker_config *c); /* NULL is fine */
