#include "scheduler/core/name.h"

#include <string.h>

#include "proto/base/hash.h"
#include "scheduler/core/place.h"

int sched_name_key(
    const uint8_t key[16], const char *pool, const char *id, size_t id_n, struct sched_key *ret)
{
    uint8_t second[16];
    for (unsigned i = 0; i < 2; i++) {
        uint64_t h = base_hash_sip24(key, i == 0 ? "key/lo/0" : "key/lo/1", 8);
        for (unsigned k = 0; k < 8; k++) {
            second[8 * i + k] = (uint8_t)(h >> (8 * k));
        }
    }
    struct sched_key k;
    int rc = sched_place_key(key, pool, id, id_n, &k.hi);
    rc = rc != 0 ? rc : sched_place_key(second, pool, id, id_n, &k.lo);
    if (rc == 0) {
        uint64_t number = base_hash_sip24(second, pool, strlen(pool)) & SCHED_KEY_POOL_MASK;
        *ret = k;
        ret->lo = (k.lo & ~SCHED_KEY_POOL_MASK) | number;
    }
    return rc;
}
