#include "proto/tenant.h"

#include <string.h>

#include "proto/base/hash.h"

/* Half of a tenant's id: its name hashed under a key of the issuer's. */
static uint64_t half(const uint8_t cluster_key[16], uint64_t issuer, uint8_t part, const char *name)
{
    uint8_t key[16], label[sizeof issuer + 1];
    memcpy(label, &issuer, sizeof issuer);
    for (uint8_t i = 0; i < 2; i++) {
        label[sizeof issuer] = (uint8_t)(2 * part + i);
        uint64_t k = base_hash_sip24(cluster_key, label, sizeof label);
        memcpy(key + (size_t)i * 8, &k, 8);
    }
    return base_hash_sip24(key, name, strlen(name));
}

void proto_tenant_of(
    const uint8_t cluster_key[16], const char *issuer, const char *name, struct proto_tenant *ret)
{
    uint64_t i = base_hash_sip24(cluster_key, issuer, strlen(issuer));
    for (uint8_t part = 0; part < 2; part++) {
        uint64_t h = half(cluster_key, i, part, name);
        memcpy(ret->id + (size_t)part * 8, &h, 8);
    }
}
