#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "proto/base/log.h"

/* gateway.yaml, read once at start, immutable after. An unknown key is an error with its line. */
struct gw_config_worker {
    uint64_t id;
    char *name, *ctl, *bulk;
    char *public_key; /* z85; not needed without curve_secret */
    uint16_t weight;  /* 0..255 */
    uint16_t zone;
};

struct gw_config_issuer {
    char *issuer;
    char *jwks; /* a file, or https://...; http:// on loopback only */
};

/* One of principal and app_role. */
struct gw_config_grant {
    char *issuer; /* needed when there are several */
    char *principal, *app_role;
    char *pool; /* "*": every pool */
    char *role;
};

struct gw_config {
    char *name;
    char *listen;
    char *tls_cert, *tls_key;
    char *curve_secret;
    char *cluster_key;
    char *cluster;  /* path of cluster.yaml; NULL: workers do not know each other */
    char *mcp_keys; /* folder with the keys of MCP endpoints */
    char *jwks;     /* of issuer; as gw_config_issuer's */
    char *issuer;   /* NULL: "warren" */
    struct gw_config_issuer *issuers; /* more of them */
    unsigned issuers_count;
    struct gw_config_grant *grants;
    unsigned grants_count;
    char *jwks_ca;      /* PEM file: who may vouch for the hosts of key sets; NULL: the system's */
    char **mcp_origins; /* pages that may call /mcp, beside those on loopback */
    unsigned mcp_origins_count;
    char **mcp_hosts; /* names of the gateway that /mcp answers to; none: any */
    unsigned mcp_hosts_count;
    char **audiences;
    unsigned audiences_count;
    bool insecure; /* no token is asked for; loopback only */
    char *log_level_text;
    enum base_log_level log_level;
    unsigned connections_max; /* 0: the server's default */
    unsigned connections_per_address;
    unsigned tenant_per_s, tenant_burst; /* requests; 0: no limit */
    unsigned pool_per_s, pool_burst;
    unsigned memory_mib;      /* of requests' bodies and of answers; 0: 512 */
    unsigned drain_s;         /* how long a stop waits for running requests; 0: 30 */
    unsigned terminal_ping_s; /* between pings to a terminal's client; 0: 30 */
    struct gw_config_worker *workers;
    unsigned workers_count;
    uint8_t key[16];   /* from cluster_key */
    bool local;        /* listens on loopback */
    bool mcp_fixtures; /* development builds only: tools of the conformance suite */
};

/* True when jwks is a URL. */
bool gw_config_is_url(const char *jwks);

/* Reads, checks and completes. *ret is the caller's, for gw_config_destroy(). */
int gw_config_load(const char *path, struct gw_config **ret, struct base_error *err);
void gw_config_destroy(struct gw_config *c); /* accepts NULL */
