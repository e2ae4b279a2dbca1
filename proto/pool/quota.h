#pragma once
#include <stddef.h>
#include <stdint.h>

#include "proto/base/err.h"

/* What a tenant may use, as a cluster's catalogue has it: a JSON object with "sessions",
 * "executions", "requests", "queuedMib" and "weight", each a whole number and 0 or absent for no
 * limit, and for one tenant "issuer" and "tenant", which name him as tokens do. */

enum {
    PROTO_QUOTA_ISSUER_MAX = 1024,
    PROTO_QUOTA_TENANT_MAX = 64, /* longer names have 64 characters too: see gateway/README.md */
    PROTO_QUOTA_MIB_MAX = 1 << 20,
    PROTO_QUOTA_WEIGHT_MAX = 1000,
};

struct proto_quota {
    char issuer[PROTO_QUOTA_ISSUER_MAX + 1]; /* both "": of every tenant */
    char tenant[PROTO_QUOTA_TENANT_MAX + 1];
    uint32_t sessions, executions, requests;
    uint32_t queued_mib; /* bytes of requests in memory */
    uint32_t weight;     /* turns beside others; 0 means 1 */
};

/* BASE_EINVAL with the path and the reason in *err. */
int proto_quota_parse(const char *json, size_t n, struct proto_quota *ret, struct base_error *err);
