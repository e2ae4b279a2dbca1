#include "gateway/io/auth.h"

#include <cjose/cjose.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "proto/base/cleanup.h"
#include "proto/base/text.h"

enum {
    TOKEN_BYTES_MAX = 8 << 10,
    KEYS_MAX = 32,
    KID_MAX = 128,
    CACHE = 1024, /* verified tokens; each has one place */
    SKEW_S = 60,
    LOOK_EVERY_S = 30, /* at most so often the key file is looked at again */
    FILE_BYTES_MAX = 1 << 20,
    DIGEST = 32,
    ES256_CHARS = 86,
};

struct key {
    cjose_jwk_t *jwk;
    const char *alg; /* the one algorithm this key may be used with */
    char kid[KID_MAX];
};

struct entry {
    uint8_t digest[DIGEST];
    int64_t exp; /* 0: free */
    struct gw_principal who;
};

struct gw_auth {
    char *file, *issuer;
    char **audiences;
    unsigned audiences_n;
    struct key keys[KEYS_MAX];
    int keys_n;
    struct timespec changed;
    int64_t looked_s;
    struct entry cache[CACHE];
};

/* ---- keys ---- */

static void drop_keys(struct gw_auth *a)
{
    for (int i = 0; i < a->keys_n; i++) {
        (void)cjose_jwk_release(a->keys[i].jwk);
    }
    a->keys_n = 0;
}

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

static int add_key(struct gw_auth *a, const json_t *json)
{
    const char *use = json_string_value(json_object_get(json, "use"));
    const char *alg = json_string_value(json_object_get(json, "alg"));
    const char *kid = json_string_value(json_object_get(json, "kid"));
    if (use != NULL && strcmp(use, "sig") != 0) {
        return 0;
    }
    cjose_err e;
    CLEANUP(base_freep) char *text = json_dumps(json, JSON_COMPACT);
    cjose_jwk_t *jwk = text == NULL ? NULL : cjose_jwk_import(text, strlen(text), &e);
    if (jwk == NULL) {
        return BASE_EBADMSG;
    }
    struct key *k = &a->keys[a->keys_n];
    k->alg = algorithm_of(jwk);
    bool fits = k->alg != NULL && (alg == NULL || strcmp(alg, k->alg) == 0) &&
                base_text_copy(k->kid, sizeof k->kid, kid == NULL ? "" : kid);
    if (!fits) {
        (void)cjose_jwk_release(jwk);
        return 0; /* of a kind that is not used here */
    }
    k->jwk = jwk;
    a->keys_n++;
    return 0;
}

static int load(struct gw_auth *a, struct base_error *err)
{
    json_error_t je;
    struct stat st;
    if (stat(a->file, &st) != 0 || st.st_size > FILE_BYTES_MAX) {
        return base_fail(err, BASE_ENOTFOUND, "key set '%s' cannot be read", a->file);
    }
    json_t *root = json_load_file(a->file, JSON_REJECT_DUPLICATES, &je);
    const json_t *list = json_object_get(root, "keys");
    size_t n = json_array_size(list);
    struct gw_auth *fresh = calloc(1, sizeof *fresh);
    int rc = fresh == NULL || !json_is_array(list) ? BASE_EBADMSG : 0;
    for (size_t i = 0; rc == 0 && i < n && fresh->keys_n < KEYS_MAX; i++) {
        rc = add_key(fresh, json_array_get(list, i));
    }
    json_decref(root);
    if (rc == 0 && fresh->keys_n == 0) {
        rc = BASE_EBADMSG;
    }
    if (rc == 0) {
        drop_keys(a);
        memcpy(a->keys, fresh->keys, sizeof a->keys);
        a->keys_n = fresh->keys_n;
        memset(a->cache, 0, sizeof a->cache); /* tokens of a key that is gone must not live on */
        a->changed = st.st_mtim;
    } else if (fresh != NULL) {
        drop_keys(fresh);
    }
    free(fresh);
    return rc < 0 ? base_fail(err, rc, "key set '%s' has no usable key", a->file) : 0;
}

/* Keys may have been rotated; misses of strangers must not make us read the file all the time. */
static void look_again(struct gw_auth *a, int64_t now_s)
{
    struct stat st;
    if (now_s - a->looked_s < LOOK_EVERY_S) {
        return;
    }
    a->looked_s = now_s;
    bool changed = stat(a->file, &st) == 0 && (st.st_mtim.tv_sec != a->changed.tv_sec ||
                                                  st.st_mtim.tv_nsec != a->changed.tv_nsec);
    if (changed) {
        (void)load(a, NULL); /* on an error the old keys stay */
    }
}

static const struct key *find_key(const struct gw_auth *a, const char *alg, const char *kid)
{
    const struct key *found = NULL;
    for (int i = 0; i < a->keys_n; i++) {
        const struct key *k = &a->keys[i];
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

/* ---- tokens ---- */

/* An ES256 signature is 64 bytes, which is 86 characters; cjose ignores what stands behind them. */
static bool has_exact_signature(const struct key *k, const char *token, size_t n)
{
    const char *dot = memrchr(token, '.', n);
    return dot != NULL &&
           (strcmp(k->alg, "ES256") != 0 || (size_t)(token + n - dot) == 1 + ES256_CHARS);
}

/* The verified payload as JSON, or NULL. The caller owns it. */
static json_t *verify(struct gw_auth *a, const char *token, size_t n, int64_t now_s)
{
    cjose_err e;
    cjose_jws_t *jws = cjose_jws_import(token, n, &e);
    if (jws == NULL) {
        return NULL;
    }
    cjose_header_t *head = cjose_jws_get_protected(jws);
    const char *alg = cjose_header_get(head, "alg", &e);
    const char *kid = cjose_header_get(head, "kid", &e);
    char *crit = cjose_header_get_raw(head, "crit", &e);
    bool plain = crit == NULL && alg != NULL; /* extensions that must be understood are not */
    cjose_get_dealloc()(crit);
    json_t *claims = NULL;
    look_again(a, now_s);
    const struct key *k = plain ? find_key(a, alg, kid) : NULL;
    uint8_t *text = NULL;
    size_t text_n = 0;
    if (k != NULL && has_exact_signature(k, token, n) && cjose_jws_verify(jws, k->jwk, &e) &&
        cjose_jws_get_plaintext(jws, &text, &text_n, &e)) {
        claims = json_loadb((const char *)text, text_n, JSON_REJECT_DUPLICATES, NULL);
    }
    cjose_jws_release(jws);
    return claims;
}

static bool has_audience(const struct gw_auth *a, const json_t *aud)
{
    size_t n = json_is_array(aud) ? json_array_size(aud) : 1;
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_is_array(aud) ? json_array_get(aud, i) : aud;
        const char *text = json_string_value(v);
        for (unsigned k = 0; text != NULL && k < a->audiences_n; k++) {
            size_t len = strlen(a->audiences[k]);
            bool slash = strncmp(text, a->audiences[k], len) == 0 && strcmp(text + len, "/") == 0;
            if (slash || strcmp(text, a->audiences[k]) == 0) {
                return true;
            }
        }
    }
    return false;
}

static bool number(const json_t *claims, const char *name, bool must, int64_t *ret)
{
    const json_t *v = json_object_get(claims, name);
    if (v == NULL) {
        return !must;
    }
    if (!json_is_number(v) || json_number_value(v) < 0 || json_number_value(v) > 1e15) {
        return false;
    }
    *ret = (int64_t)json_number_value(v);
    return true;
}

/* NULL when all is well, else what is wrong. */
static const char *check_claims(
    const struct gw_auth *a, const json_t *claims, int64_t now_s, int64_t *ret_exp)
{
    int64_t exp = 0, nbf = 0, iat = 0;
    const char *iss = json_string_value(json_object_get(claims, "iss"));
    if (iss == NULL || strcmp(iss, a->issuer) != 0) {
        return "The token's issuer is not accepted.";
    }
    if (!has_audience(a, json_object_get(claims, "aud"))) {
        return "The token's audience is not accepted.";
    }
    if (!number(claims, "exp", true, &exp) || !number(claims, "nbf", false, &nbf) ||
        !number(claims, "iat", false, &iat)) {
        return "The token's times are not valid.";
    }
    if (exp + SKEW_S <= now_s) {
        return "The token has expired.";
    }
    if (nbf > now_s + SKEW_S || iat > now_s + SKEW_S) {
        return "The token is not valid yet.";
    }
    *ret_exp = exp;
    return NULL;
}

static unsigned role_of(const char *text)
{
    static const struct {
        const char *text;
        unsigned role;
    } roles[] = {{"Session Executor", GW_ROLE_EXECUTOR},
        {"Azure ContainerApps Session Executor", GW_ROLE_EXECUTOR}, {"Reader", GW_ROLE_READER},
        {"Contributor", GW_ROLE_CONTRIBUTOR}};
    for (int i = 0; i < 4 && text != NULL; i++) {
        if (strcmp(text, roles[i].text) == 0) {
            return roles[i].role;
        }
    }
    return 0;
}

static void cut(char to[65], const char *from)
{
    size_t n = strnlen(from, 64);
    memcpy(to, from, n);
    to[n] = '\0';
}

/* False: more pools than can be kept, or names that are none. */
static bool take_pools(const json_t *list, struct gw_principal *who)
{
    who->all_pools = list == NULL;
    if (list != NULL && (!json_is_array(list) || json_array_size(list) > GW_PRINCIPAL_POOLS_MAX)) {
        return false;
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        if (name == NULL || !base_text_copy(who->pools[who->pools_n], sizeof who->pools[0], name)) {
            return false;
        }
        who->pools_n++;
    }
    return true;
}

static bool take_principal(const json_t *claims, struct gw_principal *who)
{
    const char *sub = json_string_value(json_object_get(claims, "sub"));
    const char *tenant = json_string_value(json_object_get(claims, "tenant"));
    const json_t *roles = json_object_get(claims, "roles");
    memset(who, 0, sizeof *who);
    cut(who->subject, sub == NULL ? "" : sub);
    cut(who->tenant, tenant != NULL ? tenant : who->subject);
    who->roles = role_of(json_string_value(roles));
    for (size_t i = 0; i < json_array_size(roles); i++) {
        who->roles |= role_of(json_string_value(json_array_get(roles, i)));
    }
    return take_pools(json_object_get(claims, "pools"), who);
}

static int refuse(struct gw_fault *fault, const char *text)
{
    GW_FAULT(fault, 401, "Unauthorized", "%s", text);
    return -1;
}

int gw_auth_check(struct gw_auth *a, const struct gw_request *r, int64_t now_s,
    struct gw_principal *who, struct gw_fault *fault)
{
    const char *field = gw_http_field(r, "authorization");
    if (field == NULL || !gw_http_same_n(field, "bearer ", 7)) {
        return refuse(fault, "A bearer token is needed.");
    }
    const char *token = field + 7 + strspn(field + 7, " ");
    size_t n = strlen(token);
    uint8_t digest[DIGEST];
    if (n > TOKEN_BYTES_MAX || EVP_Digest(token, n, digest, NULL, EVP_sha256(), NULL) != 1) {
        return refuse(fault, "The token is too long.");
    }
    struct entry *e = &a->cache[(digest[0] | (unsigned)digest[1] << 8) % CACHE];
    look_again(a, now_s);
    if (e->exp != 0 && memcmp(e->digest, digest, sizeof digest) == 0) {
        if (e->exp + SKEW_S <= now_s) {
            return refuse(fault, "The token has expired.");
        }
        *who = e->who;
        return 0;
    }
    json_t *claims = verify(a, token, n, now_s);
    if (claims == NULL) {
        return refuse(fault, "The token is not valid.");
    }
    int64_t exp = 0;
    const char *wrong = check_claims(a, claims, now_s, &exp);
    if (wrong == NULL && !take_principal(claims, who)) {
        wrong = "The token's pools are not valid.";
    }
    json_decref(claims);
    if (wrong != NULL) {
        return refuse(fault, wrong);
    }
    memcpy(e->digest, digest, sizeof digest);
    e->exp = exp;
    e->who = *who;
    return 0;
}

bool gw_auth_allowed(const struct gw_principal *who, enum gw_op op, const char *pool)
{
    bool reads = op == GW_OP_SESSION_GET || op == GW_OP_SESSIONS_LIST ||
                 op == GW_OP_MANAGEMENT_GET || op == GW_OP_MANAGEMENT_LIST || op == GW_OP_METADATA;
    /* A key does not expire and opens the whole pool: more than an executor's token may. */
    bool keys = op == GW_OP_MCP_FETCH || op == GW_OP_MCP_ROTATE;
    unsigned enough = (keys ? 0u : (unsigned)GW_ROLE_EXECUTOR) | GW_ROLE_CONTRIBUTOR |
                      (reads ? GW_ROLE_READER : 0u);
    if ((who->roles & enough) == 0) {
        return false;
    }
    bool there = who->all_pools;
    for (int i = 0; i < who->pools_n && !there; i++) {
        there = strcmp(who->pools[i], pool) == 0;
    }
    return there;
}

/* ---- life ---- */

int gw_auth_create(struct gw_auth **ret, const struct gw_auth_options *opt, struct base_error *err)
{
    struct gw_auth *a = calloc(1, sizeof *a);
    if (a == NULL) {
        return base_fail(err, BASE_ENOMEM, "load the key set");
    }
    a->file = strdup(opt->jwks_file);
    a->issuer = strdup(opt->issuer);
    a->audiences = calloc(opt->audiences_n + 1, sizeof *a->audiences);
    bool ok = a->file != NULL && a->issuer != NULL && a->audiences != NULL;
    for (unsigned i = 0; ok && i < opt->audiences_n; i++) {
        a->audiences[i] = strdup(opt->audiences[i]);
        ok = a->audiences[i] != NULL;
        a->audiences_n++;
    }
    int rc = ok ? load(a, err) : base_fail(err, BASE_ENOMEM, "load the key set");
    if (rc < 0) {
        gw_auth_destroy(a);
        return rc;
    }
    *ret = a;
    return 0;
}

void gw_auth_destroy(struct gw_auth *a)
{
    if (a == NULL) {
        return;
    }
    drop_keys(a);
    for (unsigned i = 0; a->audiences != NULL && i < a->audiences_n; i++) {
        free(a->audiences[i]);
    }
    free(a->audiences);
    free(a->file);
    free(a->issuer);
    free(a);
}
