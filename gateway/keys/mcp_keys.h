#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "gateway/keys/mcp_key.h"
#include "proto/base/err.h"
#include "proto/ids.h"

/* Keys of MCP endpoints, one per pool, in a folder that gateways and the command line share: a file
 * POOL.mcp-key each, see mcp_key.h. The cluster key lies elsewhere. Changes are seen at the next
 * check, whoever made them. Not for threads. (The gateways of a cluster have them in its catalogue
 * and need no folder.) */
struct gw_mcp_keys;

int gw_mcp_keys_create(struct gw_mcp_keys **ret, const char *folder, const uint8_t cluster_key[16],
    struct base_error *err);
void gw_mcp_keys_destroy(struct gw_mcp_keys *k); /* accepts NULL */

/* Is it a key of the pool? Takes as long for a wrong one as for a right one. now_s: seconds since
 * 1970. */
bool gw_mcp_keys_check(struct gw_mcp_keys *k, const char *pool, const char *key, int64_t now_s);

/* The text of the pool's file as it is now, for a catalogue that takes its place; text NULL: there
 * is none. Until the next call. */
struct gw_mcp_text gw_mcp_keys_text(struct gw_mcp_keys *k, const char *pool);

/* The pool's key, made when there is none; with rotate a new one in its place. BASE_ECORRUPT: the
 * file is damaged or was sealed under another cluster key (rotating replaces it). */
int gw_mcp_keys_fetch(struct gw_mcp_keys *k, const char *pool, bool rotate, int64_t now_s,
    char ret[GW_MCP_KEY_CHARS + 1], struct base_error *err);
