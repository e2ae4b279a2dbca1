#pragma once
#include <stdbool.h>

/* Who may call /mcp from a browser. A page of another site must not reach a gateway through its
 * visitor's browser, neither by its own name (Origin) nor by a name of its own that it has the
 * browser resolve to the gateway's address (Host). */
struct gw_mcp_places {
    bool local;                 /* the gateway listens on loopback only */
    const char *const *origins; /* pages that may call, beside those on loopback */
    unsigned origins_n;
    const char *const
        *hosts; /* names of the gateway, without ports; none: any, or loopback if local */
    unsigned hosts_n;
};

/* Fields that are "" or NULL are missing: not a browser. */
bool gw_mcp_place_ok(const struct gw_mcp_places *p, const char *host, const char *origin);

/* For the configuration: scheme://host[:port], and a host name or address. */
bool gw_mcp_origin_valid(const char *text);
bool gw_mcp_host_valid(const char *text);
