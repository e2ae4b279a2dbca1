#pragma once
#include "gateway/core/mcp_write.h"

/* Tools that only the official conformance suite calls: contents of every kind, progress, errors.
 * They are in development builds only (CMake option WARREN_MCP_FIXTURES), and there only with
 * `mcp_fixtures: true` in gateway.yaml. Inside of the core. */

/* Adds them to the array of tools, behind others. */
void gw_mcp_fixtures_list(struct gw_mcp_out *o);

/* Answers a call: GW_MCP_ANSWERED, GW_MCP_FIXTURE (with progress before the answer), BASE_ENOMEM,
 * or BASE_ENOTFOUND when there is no such tool. */
int gw_mcp_fixture(const char *name, struct gw_mcp_message *m, struct gw_json_view capabilities,
    struct base_buf *to);

/* The notification of progress. */
int gw_mcp_fixture_progress(const struct gw_mcp_message *m, int percent, struct base_buf *to);
