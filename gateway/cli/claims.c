#include "gateway/cli/claims.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "proto/base/rand.h"
#include "proto/base/text.h"
#include "proto/ids.h"

const char *cli_claims_role(const char *text)
{
    static const struct {
        const char *brief, *full;
    } role[] = {
        {"executor", CLI_ROLE_DEFAULT},
        {"reader", "Reader"},
        {"contributor", "Contributor"},
    };
    for (size_t i = 0; i < sizeof role / sizeof role[0]; i++) {
        if (strcasecmp(text, role[i].brief) == 0 || strcasecmp(text, role[i].full) == 0) {
            return role[i].full;
        }
    }
    return NULL;
}

static int make_roles(const struct cli_list *list, json_t *to, struct base_error *err)
{
    if (list->n == 0) {
        (void)json_array_append_new(to, json_string(CLI_ROLE_DEFAULT));
    }
    for (size_t i = 0; i < list->n; i++) {
        const char *role = cli_claims_role(list->v[i]);
        if (role == NULL) {
            return base_fail(err, BASE_EINVAL,
                "no such role: '%.60s' (executor, reader or contributor)", list->v[i]);
        }
        (void)json_array_append_new(to, json_string(role));
    }
    return 0;
}

static int make_pools(const struct cli_list *list, json_t *to, struct base_error *err)
{
    for (size_t i = 0; i < list->n; i++) {
        if (!proto_pool_name_valid(list->v[i], strlen(list->v[i]))) {
            return base_fail(err, BASE_EINVAL,
                "'%.80s' is no pool name (3 to 63 of a-z, 0-9 and -, first a letter)", list->v[i]);
        }
        (void)json_array_append_new(to, json_string(list->v[i]));
    }
    return 0;
}

int cli_claims_make(
    const struct cli_claims *claims, uint64_t now_s, json_t **ret, struct base_error *err)
{
    uint8_t unique[16];
    char jti[33];
    base_rand_bytes(unique, sizeof unique);
    base_text_hex(unique, sizeof unique, jti);
    json_t *roles = json_array(), *pools = json_array();
    int rc = make_roles(&claims->roles, roles, err);
    rc = rc != 0 ? rc : make_pools(&claims->pools, pools, err);
    if (rc != 0) {
        json_decref(roles);
        json_decref(pools);
        return rc;
    }
    json_int_t now = (json_int_t)now_s;
    json_t *doc = json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:s, s:o}", "iss", CLI_ISSUER, "aud",
        claims->audience, "sub", claims->subject, "iat", now, "nbf", now - CLI_CLOCK_SKEW_S, "exp",
        now + (json_int_t)claims->ttl_s, "jti", jti, "roles", roles);
    if (doc == NULL) {
        json_decref(pools);
        return base_fail(err, BASE_EINVAL, "subject or audience is no UTF-8 text");
    }
    bool ok = true;
    if (claims->pools.n > 0) {
        ok = json_object_set(doc, "pools", pools) == 0;
    }
    json_decref(pools);
    if (ok && claims->tenant != NULL) {
        ok = json_object_set_new(doc, "tenant", json_string(claims->tenant)) == 0;
    }
    if (!ok) {
        json_decref(doc);
        return base_fail(err, BASE_EINVAL, "the tenant is no UTF-8 text");
    }
    *ret = doc;
    return 0;
}
