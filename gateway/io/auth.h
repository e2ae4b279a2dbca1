#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "gateway/core/fault.h"
#include "gateway/core/http.h"
#include "gateway/core/route.h"
#include "proto/ids.h"

/* Bearer tokens: JWT with ES256 or RS256, checked against a local key set. */
struct gw_auth;

enum gw_role { GW_ROLE_EXECUTOR = 1, GW_ROLE_READER = 2, GW_ROLE_CONTRIBUTOR = 4 };

enum { GW_PRINCIPAL_POOLS_MAX = 32 };

/* Who asks, and what for they may. */
struct gw_principal {
    char subject[65]; /* of the token, cut; "" in insecure mode */
    char tenant[65];  /* who pays; the subject when the token names none */
    unsigned roles;   /* of enum gw_role */
    bool all_pools;
    int pools_n;
    char pools[GW_PRINCIPAL_POOLS_MAX][PROTO_POOL_NAME_MAX + 1];
};

struct gw_auth_options {
    const char *jwks_file;
    const char *issuer;
    const char *const *audiences;
    unsigned audiences_n;
};

int gw_auth_create(struct gw_auth **ret, const struct gw_auth_options *opt, struct base_error *err);
void gw_auth_destroy(struct gw_auth *a); /* accepts NULL */

/* 0 with *who, or -1 with a 401 in *fault. now_s: seconds since 1970. */
int gw_auth_check(struct gw_auth *a, const struct gw_request *r, int64_t now_s,
    struct gw_principal *who, struct gw_fault *fault);

/* True when the principal may do the operation on the pool. */
bool gw_auth_allowed(const struct gw_principal *who, enum gw_op op, const char *pool);
