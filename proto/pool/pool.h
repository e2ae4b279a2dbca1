#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "proto/ids.h"
#include "proto/limits.h"

/* Pool files: the JSON of the ARM resource Microsoft.App/sessionPools as `az` and Bicep write it,
 * {"name", "properties": {containerType, poolManagementType, scaleConfiguration,
 * dynamicPoolConfiguration, sessionNetworkConfiguration, mcpServerSettings}}, plus Warren's
 * "resources" {cpu, memory}.
 *
 * Names of properties are matched without regard to case. The lifecycle is taken in both shapes:
 * executionType and cooldownPeriodInSeconds (coolDown...) directly in dynamicPoolConfiguration, or
 * in its lifecycleConfiguration. null counts as absent. What is not known is named in a warning and
 * ignored; what is wrong is an error that names its path. */

enum proto_pool_container {
    PROTO_POOL_PYTHON, /* PythonLTS */
    PROTO_POOL_NODE,   /* NodeLTS */
    PROTO_POOL_SHELL,  /* Shell */
};

enum {
    PROTO_POOL_FILE_BYTES_MAX = 1 << 20,
    PROTO_POOL_COOLDOWN_S_MAX = 86400,
    PROTO_POOL_ALIVE_S_MAX = 30 * 86400,
    PROTO_POOL_MEMORY_MIB_MIN = 128,
    PROTO_POOL_MEMORY_MIB_MAX = 65536,
    PROTO_POOL_CPUS_MAX = 16,
    PROTO_POOL_QUOTA_MAX = 1000000,
};

struct proto_pool {
    char name[PROTO_POOL_NAME_MAX + 1];
    enum proto_pool_container container;
    uint32_t sessions_max; /* maxConcurrentSessions */
    uint32_t ready_target; /* readySessionInstances */
    bool on_exit;          /* lifecycleType OnContainerExit: no cooldown, cooldown_ms is 0 */
    uint32_t cooldown_ms;
    uint32_t alive_ms_max; /* 0: no limit */
    /* Of the pool and of each tenant in it; 0: no limit. */
    uint64_t executions_max, tenant_sessions_max, tenant_executions_max;
    uint32_t cpus;
    uint32_t memory_mib;
    bool mcp;                 /* mcpServerSettings.isMcpServerEnabled */
    bool mcp_extended;        /* mcpServerSettings.tools: extended */
    struct base_buf warnings; /* text, one warning a line; owned */
};

/* On success *ret is the caller's, to end with proto_pool_deinit(). BASE_EINVAL with the path and
 * the reason in *err ("properties.scaleConfiguration.maxConcurrentSessions: ..."), BASE_ETOOBIG,
 * BASE_ENOMEM, -errno. */
int proto_pool_load(const char *path, struct proto_pool *ret, struct base_error *err);
int proto_pool_parse(const char *json, size_t n, struct proto_pool *ret, struct base_error *err);
void proto_pool_deinit(struct proto_pool *f);

const char *proto_pool_container_text(enum proto_pool_container c); /* "PythonLTS" */
