#pragma once
#include "gateway/cli/cluster.h"
#include "gateway/cli/command.h"
#include "gateway/keys/mcp_key.h"

/* Keys of MCP endpoints: in the catalogue of a cluster, else in STATE/mcp. */

/* The key of cli->pool, made when there is none; rotate: a new one in its place. c NULL: there is
 * no cluster. Until the catalogue has had a pool, a key that is in STATE/mcp is the pool's, and
 * moves to the catalogue. BASE_ENOTFOUND: the catalogue has no such pool. BASE_ECORRUPT: it cannot
 * be opened. BASE_ETIMEOUT: a key may have been made, or not. The caller wipes *ret. */
int cli_pool_key(const struct cli *cli, const struct cli_cluster *c, bool rotate,
    char ret[GW_MCP_KEY_CHARS + 1], struct base_error *err);

/* A key of the pool that is in STATE/mcp is in the catalogue, too, if that has had no pool and has
 * no key of this one. What cannot be opened is told and left. */
int cli_pool_key_move(
    const struct cli *cli, const struct cli_cluster *c, const char *pool, struct base_error *err);
