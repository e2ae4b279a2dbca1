#pragma once
#include <cjose/cjose.h>
#include <stddef.h>

enum { GW_KEYSET_MAX = 32, GW_KEYSET_KID_MAX = 128 };

/* The public keys of one issuer, from a JWK set. */
struct gw_keyset_key {
    cjose_jwk_t *jwk;
    const char *alg; /* the one algorithm this key may be used with: "RS256" or "ES256" */
    char kid[GW_KEYSET_KID_MAX];
};

struct gw_keyset {
    struct gw_keyset_key keys[GW_KEYSET_MAX];
    int n;
};

/* Keys of a kind that is not used here are left out. BASE_EBADMSG: none is usable, and *set is as
 * it was; else its keys are replaced. A set of zeros is an empty one. */
int gw_keyset_parse(struct gw_keyset *set, const char *text, size_t n);
void gw_keyset_clear(struct gw_keyset *set);

/* NULL: none, or several and no key id (kid NULL). */
const struct gw_keyset_key *gw_keyset_find(
    const struct gw_keyset *set, const char *alg, const char *kid);
