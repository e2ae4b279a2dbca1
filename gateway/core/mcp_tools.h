#pragma once
#include "gateway/core/mcp.h"

/* The tools of a pool: their names, the older names they answer to, and their schemas. */

/* False when there is no such tool. */
bool gw_mcp_tool_find(const char *name, enum gw_mcp_tool *ret);

/* The JSON array of tools/list, without its last bracket. Constant. */
const char *gw_mcp_tools_json(void);

/* NULL when the arguments are right (and m->environment is set), otherwise what is wrong. */
const char *gw_mcp_tool_check(struct gw_mcp_message *m);
