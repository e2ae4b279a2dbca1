#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "proto/base/log.h"
#include "proto/limits.h"
#include "worker/io/engine.h"

/* worker.yaml. Loaded once, checked as a whole, immutable afterwards. */

enum { WORKER_CONFIG_NAME_MAX = 32, WORKER_CONFIG_TEXT_MAX = 4096 };

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
    enum worker_accel accelerator;
    enum base_log_level log_level;
    uint32_t freeze_s;
    uint32_t kill_s;
    uint32_t uid_base;
    uint32_t vms_max;        /* microVMs of this machine; 0 in the file: what the pools need */
    bool insecure_plaintext; /* no encryption; refused unless both endpoints are loopback */
    char **pools;            /* paths of pool files */
    unsigned pools_count;
};

/* On success *ret is the caller's, to end with worker_config_destroy(). BASE_EINVAL with the key
 * and the line where it is known, -errno when the file cannot be read. */
int worker_config_load(const char *path, struct worker_config **ret, struct base_error *err);
int worker_config_parse(
    const char *yaml, size_t n, struct worker_config **ret, struct base_error *err);
void worker_config_destroy(struct worker_config *c); /* NULL is fine */
