#pragma once
#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "gateway/core/mcp_origin.h"
#include "gateway/io/calls.h"
#include "proto/base/log.h"

/* The public API (api contract): takes exchanges from the HTTP server, asks workers, answers. */
struct gw_api;
struct gw_auth;
struct gw_exchange;
struct gw_mcp_keys;

struct gw_api_options {
    struct ev_loop *loop;
    const struct base_log *log;
    struct gw_calls *calls;
    struct gw_auth *auth;         /* NULL: no token is asked for (insecure mode) */
    struct gw_mcp_keys *mcp_keys; /* NULL: there are none */
    struct gw_mcp_places mcp_places;
    size_t memory_max; /* bytes of collected bodies and of answers together; 0: the default */
    bool mcp_fixtures; /* development builds only: tools of the conformance suite */
    uint8_t cluster_key[16];
    uint32_t tenant_per_s, tenant_burst; /* requests; 0: no limit */
    uint32_t pool_per_s, pool_burst;
    unsigned terminal_ping_s;
};

struct gw_api_stats {
    uint64_t requests;
    uint64_t failed;  /* answers of 400 and above */
    uint64_t limited; /* 429 by a rate */
    unsigned open;    /* now */
};

int gw_api_create(struct gw_api **ret, const struct gw_api_options *opt, struct base_error *err);

/* All exchanges must be gone. Accepts NULL. */
void gw_api_destroy(struct gw_api *api);

/* on_request of the HTTP server; owner is the struct gw_api. */
void gw_api_request(void *owner, struct gw_exchange *x);

void gw_api_stats(const struct gw_api *api, struct gw_api_stats *ret);
