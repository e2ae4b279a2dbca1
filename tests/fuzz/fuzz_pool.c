#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/pool/pool.h"
#include "proto/pool/quota.h"

/* Pool files and quotas as an administrator sends them to a cluster. */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct proto_pool p;
    struct proto_quota q;
    if (proto_pool_parse((const char *)data, n, &p, NULL) == 0) {
        if (!proto_pool_name_valid(p.name, strlen(p.name)) || p.sessions_max == 0 ||
            p.ready_target > p.sessions_max || p.cpus == 0 ||
            p.memory_mib < PROTO_POOL_MEMORY_MIB_MIN) {
            abort();
        }
        proto_pool_deinit(&p);
    }
    if (proto_quota_parse((const char *)data, n, &q, NULL) == 0 &&
        (q.issuer[0] == '\0') != (q.tenant[0] == '\0')) {
        abort();
    }
    return 0;
}
