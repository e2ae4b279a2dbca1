#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "worker/core/pool.h"

/* Pool files: the JSON of the ARM resource Microsoft.App/sessionPools as `az` and Bicep write it,
 * {"name", "properties": {containerType, poolManagementType, scaleConfiguration,
 * dynamicPoolConfiguration, sessionNetworkConfiguration, mcpServerSettings}}, plus Warren's
 * "resources" {cpu, memory}.
 *
 * Names of properties are matched without regard to case. The lifecycle is taken in both shapes:
 * executionType and cooldownPeriodInSeconds (coolDown...) directly in dynamicPoolConfiguration, or
 * in its lifecycleConfiguration. null counts as absent. What is not known is named in a warning and
 * ignored; what is wrong is an error that names its path. */

enum worker_pool_container {
    WORKER_POOL_PYTHON, /* PythonLTS */
    WORKER_POOL_NODE,   /* NodeLTS */
    WORKER_POOL_SHELL,  /* Shell */
};

enum {
    WORKER_POOL_FILE_BYTES_MAX = 1 << 20,
    WORKER_POOL_COOLDOWN_S_MAX = 86400,
    WORKER_POOL_ALIVE_S_MAX = 30 * 86400,
    WORKER_POOL_MEMORY_MIB_MIN = 128,
    WORKER_POOL_MEMORY_MIB_MAX = 65536,
    WORKER_POOL_CPUS_MAX = 16,
    WORKER_POOL_QUOTA_MAX = 1000000,
};

struct worker_pool_file {
    struct worker_pool_spec spec;
    enum worker_pool_container container;
    uint32_t cpus;
    uint32_t memory_mib;
    bool mcp;                 /* mcpServerSettings.isMcpServerEnabled */
    bool mcp_extended;        /* mcpServerSettings.tools: extended */
    struct base_buf warnings; /* text, one warning a line; owned */
};

/* On success *ret is the caller's, to end with worker_pool_file_deinit(). BASE_EINVAL with the path
 * and the reason in *err ("properties.scaleConfiguration.maxConcurrentSessions: ..."),
 * BASE_ETOOBIG, BASE_ENOMEM, -errno. */
int worker_pool_file_load(const char *path, struct worker_pool_file *ret, struct base_error *err);
int worker_pool_file_parse(
    const char *json, size_t n, struct worker_pool_file *ret, struct base_error *err);
void worker_pool_file_deinit(struct worker_pool_file *f);

const char *worker_pool_container_text(enum worker_pool_container c); /* "PythonLTS" */
