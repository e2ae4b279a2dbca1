#pragma once
#include <stdint.h>

/* Who pays, as the wire and the store name him: what an issuer calls a tenant (claim `tenant`, or
 * `sub`), hashed under the cluster key. Equal for equal pairs of issuer and name, else different
 * but for a chance of 2^-64 or so; says nothing to who has not the key. All zero: nobody, a request
 * without a token. */
enum { PROTO_TENANT_BYTES = 16 };

struct proto_tenant {
    uint8_t id[PROTO_TENANT_BYTES];
};

/* name may have any length. */
void proto_tenant_of(
    const uint8_t cluster_key[16], const char *issuer, const char *name, struct proto_tenant *ret);
