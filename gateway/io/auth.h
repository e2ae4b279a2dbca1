#pragma once
#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "gateway/core/fault.h"
#include "gateway/core/http.h"
#include "gateway/core/route.h"
#include "proto/base/log.h"
#include "proto/ids.h"

/* Bearer tokens: JWT with ES256 or RS256 of several issuers, each with a key set of its own that
 * comes from a file (looked at again when it changes) or from a URL (fetched on the loop, every
 * five minutes and, not too often, when a token names a key that is not known). */
struct gw_auth;

enum gw_role { GW_ROLE_EXECUTOR = 1, GW_ROLE_READER = 2, GW_ROLE_CONTRIBUTOR = 4 };

enum { GW_PRINCIPAL_POOLS_MAX = 32, GW_PRINCIPAL_GRANTS_MAX = 32, GW_AUTH_ISSUERS_MAX = 8 };

/* The operator gives a role on a pool to a principal, or to all that have a role of the provider's
 * own ("app role", in the claim roles). */
struct gw_auth_grant {
    const char *issuer;
    const char *principal; /* claim oid, or sub when there is none; NULL: app_role */
    const char *app_role;
    const char *pool; /* "*": every pool */
    unsigned role;    /* of enum gw_role */
};

/* Names of 64 characters or more: the first 31, '~' and 32 hex digits of their SHA-256. */
enum { GW_NAME_CHARS = 64 };

/* Who asks, and what for they may. */
struct gw_principal {
    const char *issuer; /* of the token, it speaks for subject and tenant; NULL: no token */
    char subject[GW_NAME_CHARS + 1]; /* of the token; "" in insecure mode */
    char tenant[GW_NAME_CHARS + 1];  /* who pays; the subject when the token names none */
    int64_t until_s;                 /* its token is good until then, skew included; 0: for ever */
    unsigned roles;                  /* of enum gw_role, on all the pools below */
    bool all_pools;
    int pools_n;
    int grants_n;
    char pools[GW_PRINCIPAL_POOLS_MAX][PROTO_POOL_NAME_MAX + 1];
    const struct gw_auth_grant *grants[GW_PRINCIPAL_GRANTS_MAX];
};

struct gw_auth_issuer {
    const char *issuer;
    const char *file, *url; /* one of them */
};

/* Everything that is pointed to must outlive the gw_auth. */
struct gw_auth_options {
    struct ev_loop *loop;       /* for URLs */
    const struct base_log *log; /* for URLs */
    const char *ca;             /* PEM file for URLs; NULL: the system's */
    const struct gw_auth_issuer *issuers;
    unsigned issuers_n;
    const char *const *audiences;
    unsigned audiences_n;
    const struct gw_auth_grant *grants;
    unsigned grants_n;
};

int gw_auth_create(struct gw_auth **ret, const struct gw_auth_options *opt, struct base_error *err);
void gw_auth_destroy(struct gw_auth *a); /* accepts NULL */

/* The role of a name as Azure writes it; 0: none. */
unsigned gw_auth_role(const char *text);

enum { GW_AUTH_REFUSED = -1, GW_AUTH_WAIT = 1 };

/* For the keys of one issuer. ready() comes once, from the loop, within the five seconds that a
 * fetch takes at most. Stays where it is until then, or until gw_auth_unwait(). */
struct gw_auth_wait {
    void (*ready)(void *owner);
    void *owner;
    struct gw_auth_wait **list; /* it waits in; NULL: it does not wait */
    struct gw_auth_wait *prev, *next;
};

/* 0 with *who, GW_AUTH_REFUSED with a 401 (503: no keys) in *fault, or GW_AUTH_WAIT: the issuer's
 * keys are being fetched, w->ready() comes. w NULL: does not wait. now_s: seconds since 1970. */
int gw_auth_check(struct gw_auth *a, const struct gw_request *r, int64_t now_s,
    struct gw_principal *who, struct gw_fault *fault, struct gw_auth_wait *w);
void gw_auth_unwait(struct gw_auth_wait *w); /* when it does not wait: nothing */

/* True when the principal may do the operation on the pool. */
bool gw_auth_allowed(const struct gw_principal *who, enum gw_op op, const char *pool);
