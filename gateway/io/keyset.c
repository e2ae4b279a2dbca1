#include "gateway/io/keyset.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/cleanup.h"
#include "proto/base/err.h"
#include "proto/base/text.h"

/* The algorithm follows from the key alone; what a token's head says can only agree with it. */
static const char *algorithm_of(const cjose_jwk_t *jwk)
{
    cjose_err e;
    switch (cjose_jwk_get_kty(jwk, &e)) {
    case CJOSE_JWK_KTY_RSA:
        return cjose_jwk_get_keysize(jwk, &e) >= 2048 ? "RS256" : NULL;
    case CJOSE_JWK_KTY_EC:
        return cjose_jwk_EC_get_curve(jwk, &e) == CJOSE_JWK_EC_P_256 ? "ES256" : NULL;
    case CJOSE_JWK_KTY_OCT: /* a shared secret would make every holder an issuer */
    default:
        return NULL;
    }
}

static void add_key(struct gw_keyset *set, const json_t *json)
{
    const char *use = json_string_value(json_object_get(json, "use"));
    const char *alg = json_string_value(json_object_get(json, "alg"));
    const char *kid = json_string_value(json_object_get(json, "kid"));
    if (use != NULL && strcmp(use, "sig") != 0) {
        return;
    }
    cjose_err e;
    CLEANUP(base_freep) char *text = json_dumps(json, JSON_COMPACT);
    cjose_jwk_t *jwk = text == NULL ? NULL : cjose_jwk_import(text, strlen(text), &e);
    if (jwk == NULL) {
        return; /* one strange key does not take the others with it */
    }
    struct gw_keyset_key *k = &set->keys[set->n];
    k->alg = algorithm_of(jwk);
    bool fits = k->alg != NULL && (alg == NULL || strcmp(alg, k->alg) == 0) &&
                base_text_copy(k->kid, sizeof k->kid, kid == NULL ? "" : kid);
    if (!fits) {
        (void)cjose_jwk_release(jwk);
        return; /* of a kind that is not used here */
    }
    k->jwk = jwk;
    set->n++;
}

int gw_keyset_parse(struct gw_keyset *set, const char *text, size_t n)
{
    json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, NULL);
    const json_t *list = json_object_get(root, "keys");
    struct gw_keyset fresh = {0};
    for (size_t i = 0; i < json_array_size(list) && fresh.n < GW_KEYSET_MAX; i++) {
        add_key(&fresh, json_array_get(list, i));
    }
    json_decref(root);
    if (fresh.n == 0) {
        return BASE_EBADMSG;
    }
    gw_keyset_clear(set);
    *set = fresh;
    return 0;
}

void gw_keyset_clear(struct gw_keyset *set)
{
    for (int i = 0; i < set->n; i++) {
        (void)cjose_jwk_release(set->keys[i].jwk);
    }
    set->n = 0;
}

const struct gw_keyset_key *gw_keyset_find(
    const struct gw_keyset *set, const char *alg, const char *kid)
{
    const struct gw_keyset_key *found = NULL;
    for (int i = 0; i < set->n; i++) {
        const struct gw_keyset_key *k = &set->keys[i];
        if (strcmp(k->alg, alg) != 0 || (kid != NULL && strcmp(k->kid, kid) != 0)) {
            continue;
        }
        if (found != NULL) {
            return NULL; /* without a key id there has to be just one */
        }
        found = k;
    }
    return found;
}
