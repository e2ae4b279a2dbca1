#pragma once
#include "gateway/core/mcp_write.h"

/* The tools: their names, older names they answer to, and their schemas. Inside of the core. */

/* False when there is no such tool. */
bool gw_mcp_tool_find(const char *name, bool extended, enum gw_mcp_tool *ret);

/* The JSON array of tools/list, without its last bracket. */
void gw_mcp_tools_list(struct gw_mcp_out *o, bool extended);

/* NULL when the arguments are right (and m->environment is set), otherwise what is wrong. */
const char *gw_mcp_tool_check(struct gw_mcp_message *m);

/* The argument with the code. */
const char *gw_mcp_code_name(enum gw_mcp_tool tool);

/* Takes m->args' uri apart. False when it can name no file. */
bool gw_mcp_resource_find(struct gw_mcp_message *m);
