#include "gateway/io/auth.h"

#include <cjose/cjose.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "gateway/io/jwks.h"
#include "gateway/io/keyset.h"
#include "proto/base/cleanup.h"
#include "proto/base/hash.h"
#include "proto/base/text.h"

enum {
    TOKEN_BYTES_MAX = 8 << 10,
    CACHE = 1024, /* verified tokens; each has one place */
    SKEW_S = 60,
    LOOK_EVERY_S = 30, /* at most so often a file is looked at, or asked for for one key id */
    ASK_EVERY_S = 10,  /* at most so often a URL is asked because of tokens, */
    ASK_BURST = 5,     /* after a pause so many times at once */
    MISSES = 64,       /* key ids that were asked for and not there; each has one place */
    REFRESH_S = 300,   /* so often a URL is fetched without being asked */
    STALE_MAX = 288,   /* refreshes that may fail in a row (a day) before the keys are dropped */
    FILE_BYTES_MAX = 1 << 20,
    DIGEST = 32,
    ES256_CHARS = 86,
};

struct entry {
    uint8_t digest[DIGEST];
    int64_t exp; /* 0: free */
    struct gw_principal who;
};

struct miss {
    uint64_t kid; /* hash */
    int64_t until_s;
};

/* An issuer and its keys; a token is only ever checked with the keys of the issuer it names. */
struct source {
    struct gw_auth *auth;
    const char *issuer, *file; /* file NULL: from a URL */
    struct gw_jwks *fetch;
    ev_timer refresh;
    struct gw_keyset keys;
    struct timespec changed;
    int64_t looked_s;   /* file */
    int64_t next_ask_s; /* URL: when the allowance for asking is whole again */
    struct miss misses[MISSES];
    int failures; /* in a row */
    struct gw_auth_wait *waiting;
};

struct gw_auth {
    struct gw_auth_options opt;
    struct source sources[GW_AUTH_ISSUERS_MAX];
    unsigned sources_n;
    struct entry cache[CACHE];
    EVP_MD *sha256; /* looked up once: that costs as much as hashing a token */
};

/* ---- keys ---- */

static int load_file(struct source *s)
{
    struct stat st;
    CLEANUP(base_fclosep) FILE *f = fopen(s->file, "re");
    if (f == NULL || fstat(fileno(f), &st) != 0 || st.st_size > FILE_BYTES_MAX) {
        return BASE_ENOTFOUND;
    }
    size_t cap = (size_t)st.st_size;
    CLEANUP(base_freep) char *text = malloc(cap + 1);
    size_t n = text == NULL ? 0 : fread(text, 1, cap, f);
    int rc = text == NULL ? BASE_ENOMEM : gw_keyset_parse(&s->keys, text, n);
    if (rc == 0) {
        /* tokens of a key that is gone must not live on */
        memset(s->auth->cache, 0, sizeof s->auth->cache);
        s->changed = st.st_mtim;
    }
    return rc;
}

/* Keys may have been rotated; misses of strangers must not make us read the file all the time. */
static void look_again(struct source *s, int64_t now_s)
{
    struct stat st;
    bool early = now_s >= s->looked_s && now_s - s->looked_s < LOOK_EVERY_S;
    if (s->file == NULL || early) {
        return;
    }
    s->looked_s = now_s;
    bool changed = stat(s->file, &st) == 0 && (st.st_mtim.tv_sec != s->changed.tv_sec ||
                                                  st.st_mtim.tv_nsec != s->changed.tv_nsec);
    if (changed) {
        (void)load_file(s); /* on an error the old keys stay */
    }
}

static void on_fetched(void *owner, const char *text, size_t n, const char *error)
{
    struct source *s = owner;
    struct gw_auth *a = s->auth;
    const struct base_log *log = a->opt.log;
    if (text != NULL && gw_keyset_parse(&s->keys, text, n) == 0) {
        memset(a->cache, 0, sizeof a->cache);
        s->failures = 0;
        LOG_DEBUG(log, "key set fetched issuer=%s keys=%d", s->issuer, s->keys.n);
    } else {
        s->failures++;
        LOG_WARN(log, "key set not fetched issuer=%s: %s; the %d keys known stay", s->issuer,
            text == NULL ? error : "no usable key in it", s->keys.n);
        if (s->failures == STALE_MAX) {
            gw_keyset_clear(&s->keys); /* whoever keeps us from asking must not keep a key alive */
            memset(a->cache, 0, sizeof a->cache);
        }
    }
    while (s->waiting != NULL) { /* ready() never waits again */
        struct gw_auth_wait *w = s->waiting;
        gw_auth_unwait(w);
        w->ready(w->owner);
    }
}

static void on_refresh(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop;
    (void)revents;
    struct source *s = w->data;
    (void)gw_jwks_start(s->fetch);
}

/* Strangers invent key ids: one id is worth a question once in a while, all together a few. */
static bool worth_asking(struct source *s, const char *kid, int64_t now_s)
{
    static const uint8_t key[16];
    uint64_t hash = base_hash_sip24(key, kid, strlen(kid));
    struct miss *m = &s->misses[hash % MISSES];
    if (m->kid == hash && now_s < m->until_s && m->until_s <= now_s + LOOK_EVERY_S) {
        return false;
    }
    int64_t most = now_s + (int64_t)ASK_BURST * ASK_EVERY_S;
    if (s->next_ask_s < now_s || s->next_ask_s > most) { /* above: the clock was set back */
        s->next_ask_s = now_s;
    }
    if (s->next_ask_s + ASK_EVERY_S > most) {
        return false;
    }
    s->next_ask_s += ASK_EVERY_S;
    *m = (struct miss){hash, now_s + LOOK_EVERY_S};
    return true;
}

/* True when an answer is under way that may bring the key. */
static bool ask_again(struct source *s, const char *kid, int64_t now_s)
{
    return s->fetch != NULL &&
           (gw_jwks_running(s->fetch) ||
               (worth_asking(s, kid == NULL ? "" : kid, now_s) && gw_jwks_start(s->fetch)));
}

static void wait_for(struct source *s, struct gw_auth_wait *w)
{
    w->list = &s->waiting;
    w->prev = NULL;
    w->next = s->waiting;
    if (w->next != NULL) {
        w->next->prev = w;
    }
    s->waiting = w;
}

void gw_auth_unwait(struct gw_auth_wait *w)
{
    if (w->list == NULL) {
        return;
    }
    if (w->prev != NULL) {
        w->prev->next = w->next;
    } else {
        *w->list = w->next;
    }
    if (w->next != NULL) {
        w->next->prev = w->prev;
    }
    w->list = NULL;
}

/* ---- tokens ---- */

/* An ES256 signature is 64 bytes, which is 86 characters; cjose ignores what stands behind them. */
static bool has_exact_signature(const struct gw_keyset_key *k, const char *token, size_t n)
{
    const char *dot = memrchr(token, '.', n);
    return dot != NULL &&
           (strcmp(k->alg, "ES256") != 0 || (size_t)(token + n - dot) == 1 + ES256_CHARS);
}

static struct source *find_source(struct gw_auth *a, const json_t *claims)
{
    const char *iss = json_string_value(json_object_get(claims, "iss"));
    for (unsigned i = 0; iss != NULL && i < a->sources_n; i++) {
        if (strcmp(a->sources[i].issuer, iss) == 0) {
            return &a->sources[i];
        }
    }
    return NULL;
}

enum { KEYLESS = -2 };

/* 0, GW_AUTH_WAIT (a key that may be on its way), KEYLESS (nothing can be said of the issuer's
 * tokens), or GW_AUTH_REFUSED. */
static int check_signature(
    struct source *s, cjose_jws_t *jws, const char *token, int64_t now_s, struct gw_auth_wait *w)
{
    cjose_err e;
    size_t n = strlen(token);
    cjose_header_t *head = cjose_jws_get_protected(jws);
    const char *alg = cjose_header_get(head, "alg", &e);
    const char *kid = cjose_header_get(head, "kid", &e);
    char *crit = cjose_header_get_raw(head, "crit", &e);
    bool plain = crit == NULL && alg != NULL; /* extensions that must be understood are not */
    cjose_get_dealloc()(crit);
    if (!plain || (strcmp(alg, "RS256") != 0 && strcmp(alg, "ES256") != 0)) {
        return GW_AUTH_REFUSED;
    }
    const struct gw_keyset_key *k = gw_keyset_find(&s->keys, alg, kid);
    if (k == NULL) {
        if (w != NULL && ask_again(s, kid, now_s)) {
            wait_for(s, w);
            return GW_AUTH_WAIT;
        }
        return s->keys.n == 0 ? KEYLESS : GW_AUTH_REFUSED;
    }
    bool good = has_exact_signature(k, token, n) && cjose_jws_verify(jws, k->jwk, &e);
    return good ? 0 : GW_AUTH_REFUSED;
}

/* 0 with the verified claims, the caller's; else as check_signature(). */
static int verify(
    struct gw_auth *a, const char *token, int64_t now_s, struct gw_auth_wait *w, json_t **ret)
{
    cjose_err e;
    uint8_t *text = NULL;
    size_t text_n = 0;
    json_t *claims = NULL;
    cjose_jws_t *jws = cjose_jws_import(token, strlen(token), &e);
    if (jws != NULL && cjose_jws_get_plaintext(jws, &text, &text_n, &e)) {
        claims = json_loadb((const char *)text, text_n, JSON_REJECT_DUPLICATES, NULL);
    }
    /* What the token says of its issuer only chooses the keys that then must have signed it. */
    struct source *s = find_source(a, claims);
    int rc = s == NULL ? GW_AUTH_REFUSED : check_signature(s, jws, token, now_s, w);
    cjose_jws_release(jws);
    if (rc != 0) {
        json_decref(claims);
        return rc;
    }
    *ret = claims;
    return 0;
}

static bool has_audience(const struct gw_auth *a, const json_t *aud)
{
    size_t n = json_is_array(aud) ? json_array_size(aud) : 1;
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_is_array(aud) ? json_array_get(aud, i) : aud;
        const char *text = json_string_value(v);
        for (unsigned k = 0; text != NULL && k < a->opt.audiences_n; k++) {
            size_t len = strlen(a->opt.audiences[k]);
            bool slash =
                strncmp(text, a->opt.audiences[k], len) == 0 && strcmp(text + len, "/") == 0;
            if (slash || strcmp(text, a->opt.audiences[k]) == 0) {
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

unsigned gw_auth_role(const char *text)
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

/* Two different names are never one here: a long one ends with its hash, and no short one is as
 * long as that. False: it could not be hashed. */
static bool name(char to[GW_NAME_CHARS + 1], const char *from)
{
    uint8_t hash[32];
    size_t n = strlen(from);
    if (n < GW_NAME_CHARS) {
        memcpy(to, from, n + 1);
        return true;
    }
    if (EVP_Digest(from, n, hash, NULL, EVP_sha256(), NULL) != 1) {
        return false;
    }
    enum { HASH_BYTES = 16, KEPT = GW_NAME_CHARS - 1 - 2 * HASH_BYTES };
    memcpy(to, from, KEPT);
    to[KEPT] = '~';
    base_text_hex(hash, HASH_BYTES, to + KEPT + 1);
    return true;
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

static bool names(const json_t *claims, const char *claim, const char *text)
{
    const json_t *v = json_object_get(claims, claim);
    const char *one = json_string_value(v);
    if (one != NULL && strcmp(one, text) == 0) {
        return true;
    }
    for (size_t i = 0; i < json_array_size(v); i++) {
        const char *each = json_string_value(json_array_get(v, i));
        if (each != NULL && strcmp(each, text) == 0) {
            return true;
        }
    }
    return false;
}

/* False: more grants than can be kept. A principal id is the provider's object id where there is
 * one (Entra: oid), else the subject: never both, for an object id may be somebody's subject. */
static bool take_grants(const struct gw_auth *a, const json_t *claims, struct gw_principal *who)
{
    const char *iss = json_string_value(json_object_get(claims, "iss"));
    const char *id = json_object_get(claims, "oid") == NULL ? "sub" : "oid";
    for (unsigned i = 0; i < a->opt.grants_n; i++) {
        const struct gw_auth_grant *g = &a->opt.grants[i];
        bool his = g->principal != NULL ? names(claims, id, g->principal)
                                        : names(claims, "roles", g->app_role);
        if (!his || strcmp(g->issuer, iss) != 0) {
            continue;
        }
        if (who->grants_n == GW_PRINCIPAL_GRANTS_MAX) {
            return false;
        }
        who->grants[who->grants_n++] = g;
    }
    return true;
}

static bool take_principal(const struct gw_auth *a, const json_t *claims, struct gw_principal *who)
{
    const char *sub = json_string_value(json_object_get(claims, "sub"));
    const char *tenant = json_string_value(json_object_get(claims, "tenant"));
    const json_t *roles = json_object_get(claims, "roles");
    const char *iss = json_string_value(json_object_get(claims, "iss"));
    memset(who, 0, sizeof *who);
    for (unsigned i = 0; i < a->sources_n && who->issuer == NULL; i++) {
        who->issuer = strcmp(a->sources[i].issuer, iss) == 0 ? a->sources[i].issuer : NULL;
    }
    if (!name(who->subject, sub == NULL ? "" : sub) || !name(who->tenant, tenant != NULL ? tenant
                                                                          : sub == NULL  ? ""
                                                                                         : sub)) {
        return false;
    }
    who->roles = gw_auth_role(json_string_value(roles));
    for (size_t i = 0; i < json_array_size(roles); i++) {
        who->roles |= gw_auth_role(json_string_value(json_array_get(roles, i)));
    }
    return take_pools(json_object_get(claims, "pools"), who) && take_grants(a, claims, who);
}

static int refuse(struct gw_fault *fault, const char *text)
{
    GW_FAULT(fault, 401, "Unauthorized", "%s", text);
    return GW_AUTH_REFUSED;
}

int gw_auth_check(struct gw_auth *a, const struct gw_request *r, int64_t now_s,
    struct gw_principal *who, struct gw_fault *fault, struct gw_auth_wait *w)
{
    const char *field = gw_http_field(r, "authorization");
    if (field == NULL || !gw_http_same_n(field, "bearer ", 7)) {
        return refuse(fault, "A bearer token is needed.");
    }
    const char *token = field + 7 + strspn(field + 7, " ");
    size_t n = strlen(token);
    uint8_t digest[DIGEST];
    if (n > TOKEN_BYTES_MAX || EVP_Digest(token, n, digest, NULL, a->sha256, NULL) != 1) {
        return refuse(fault, "The token is too long.");
    }
    struct entry *e = &a->cache[(digest[0] | (unsigned)digest[1] << 8) % CACHE];
    for (unsigned i = 0; i < a->sources_n; i++) {
        look_again(&a->sources[i], now_s);
    }
    if (e->exp != 0 && memcmp(e->digest, digest, sizeof digest) == 0) {
        if (e->exp + SKEW_S <= now_s) {
            return refuse(fault, "The token has expired.");
        }
        *who = e->who;
        return 0;
    }
    json_t *claims = NULL;
    int rc = verify(a, token, now_s, w, &claims);
    if (rc == GW_AUTH_WAIT) {
        return rc;
    }
    if (rc == KEYLESS) {
        GW_FAULT(fault, 503, "ServiceUnavailable", "The issuer's keys cannot be fetched.");
        fault->retry_after_s = 5;
        return GW_AUTH_REFUSED;
    }
    if (rc != 0) {
        return refuse(fault, "The token is not valid.");
    }
    int64_t exp = 0;
    const char *wrong = check_claims(a, claims, now_s, &exp);
    if (wrong == NULL && !take_principal(a, claims, who)) {
        wrong = "The token's pools or roles are not valid.";
    }
    json_decref(claims);
    if (wrong != NULL) {
        return refuse(fault, wrong);
    }
    who->until_s = exp + SKEW_S;
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
    unsigned roles = who->roles;
    for (int i = 0; i < who->grants_n; i++) {
        const struct gw_auth_grant *g = who->grants[i];
        bool here = strcmp(g->pool, "*") == 0 || strcmp(g->pool, pool) == 0;
        roles |= here ? g->role : 0u;
    }
    if ((roles & enough) == 0) {
        return false;
    }
    bool there = who->all_pools; /* a token may name less than its owner's grants, never more */
    for (int i = 0; i < who->pools_n && !there; i++) {
        there = strcmp(who->pools[i], pool) == 0;
    }
    return there;
}

/* ---- life ---- */

static int open_source(
    struct gw_auth *a, struct source *s, const struct gw_auth_issuer *from, struct base_error *err)
{
    s->auth = a;
    s->issuer = from->issuer;
    ev_init(&s->refresh, on_refresh);
    if (from->file != NULL) {
        s->file = from->file;
        int rc = load_file(s);
        return rc < 0 ? base_fail(err, rc, "key set '%s' %s", s->file,
                            rc == BASE_ENOTFOUND ? "cannot be read" : "has no usable key")
                      : 0;
    }
    struct gw_jwks_options opt = {
        .loop = a->opt.loop, .url = from->url, .ca = a->opt.ca, .done = on_fetched, .owner = s};
    int rc = gw_jwks_create(&s->fetch, &opt, err);
    if (rc == 0) {
        s->refresh.data = s;
        ev_timer_set(&s->refresh, REFRESH_S, REFRESH_S);
        ev_timer_start(a->opt.loop, &s->refresh);
        (void)gw_jwks_start(s->fetch); /* nobody waits: a provider that is away is no reason */
    }
    return rc;
}

int gw_auth_create(struct gw_auth **ret, const struct gw_auth_options *opt, struct base_error *err)
{
    struct gw_auth *a = calloc(1, sizeof *a);
    if (a == NULL || opt->issuers_n > GW_AUTH_ISSUERS_MAX) {
        free(a);
        return base_fail(err, BASE_ENOMEM, "load the key sets");
    }
    a->opt = *opt;
    a->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    int rc = a->sha256 == NULL ? base_fail(err, BASE_ENOMEM, "find SHA-256") : 0;
    while (rc == 0 && a->sources_n < opt->issuers_n) {
        rc = open_source(a, &a->sources[a->sources_n], &opt->issuers[a->sources_n], err);
        a->sources_n++;
    }
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
    for (unsigned i = 0; i < a->sources_n; i++) {
        struct source *s = &a->sources[i];
        if (s->fetch != NULL) {
            ev_timer_stop(a->opt.loop, &s->refresh);
            gw_jwks_destroy(s->fetch);
        }
        gw_keyset_clear(&s->keys);
    }
    EVP_MD_free(a->sha256);
    free(a);
}
