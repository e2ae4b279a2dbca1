#pragma once
#include <jansson.h>
#include <stdint.h>

#include "gateway/cli/options.h"
#include "proto/base/err.h"

/* Claims of a token as the gateway checks them. Pure but for the allocation. */

enum {
    CLI_TTL_S_DEFAULT = 3600,
    CLI_TTL_S_MAX = 366 * 86400,
    CLI_TTL_S_OWN = 300,  /* tokens that the tool issues for its own requests */
    CLI_CLOCK_SKEW_S = 30 /* nbf lies this far back: two machines' clocks differ */
};

#define CLI_ROLE_DEFAULT "Session Executor"
#define CLI_AUDIENCE_DEFAULT "https://dynamicsessions.io"
#define CLI_ISSUER "warren"

struct cli_claims {
    const char *subject;
    const char *audience;
    const char *tenant; /* NULL: none */
    uint32_t ttl_s;
    struct cli_list roles; /* empty: CLI_ROLE_DEFAULT */
    struct cli_list pools; /* empty: all pools, no claim */
};

/* Full role name of a short or full spelling in any case ("executor", "reader", "contributor");
 * NULL when there is no such role. */
const char *cli_claims_role(const char *text);

/* The caller owns *ret. BASE_EINVAL for an unknown role or a name that is no pool name. */
int cli_claims_make(
    const struct cli_claims *claims, uint64_t now_s, json_t **ret, struct base_error *err);
