#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/err.h"

/* The key of a pool's MCP endpoint as it is kept: a text with salted hashes of the key and of the
 * one before it, and the key itself sealed (AES-256-GCM, bound to the pool) under a key derived
 * from the cluster key. Who steals the text alone learns nothing, and still a key can be fetched
 * again, as the public service does.
 *
 * After a rotation the old key is good for GW_MCP_KEY_OLD_S more. Times are seconds since 1970. */

enum { GW_MCP_KEY_CHARS = 64, GW_MCP_KEY_OLD_S = 300, GW_MCP_KEY_TEXT_MAX = 1024 };

struct gw_mcp_seal {
    uint8_t key[32];
};

struct gw_mcp_text {
    const char *text; /* NULL: there is none; needs no end */
    size_t n;
};

/* BASE_ENOMEM. The caller wipes it in the end. */
int gw_mcp_seal_of(struct gw_mcp_seal *ret, const uint8_t cluster_key[16]);

/* Is it a key that the text has? Takes as long for a wrong one as for a right one. */
bool gw_mcp_key_check(struct gw_mcp_text text, const char *key, int64_t now_s);

/* Can it be read at all? */
bool gw_mcp_text_valid(struct gw_mcp_text text);

/* The key itself. BASE_ECORRUPT: the text is damaged, or was sealed under another cluster key. */
int gw_mcp_key_open(const struct gw_mcp_seal *seal, const char *pool, struct gw_mcp_text text,
    char ret[GW_MCP_KEY_CHARS + 1]);

struct gw_mcp_made {
    char key[GW_MCP_KEY_CHARS + 1];
    char text[GW_MCP_KEY_TEXT_MAX];
};

/* The same keys, the present one sealed under another cluster key. BASE_ECORRUPT as for opening,
 * BASE_ENOMEM. */
int gw_mcp_key_reseal(const struct gw_mcp_seal *from, const struct gw_mcp_seal *to,
    const char *pool, struct gw_mcp_text text, struct gw_mcp_made *ret);

/* A new key and its text; the one of `before` becomes the old one. What cannot be read is not kept.
 * BASE_ENOMEM. */
int gw_mcp_key_make(const struct gw_mcp_seal *seal, const char *pool, struct gw_mcp_text before,
    int64_t now_s, struct gw_mcp_made *ret);
