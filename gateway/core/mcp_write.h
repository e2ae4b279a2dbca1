#pragma once
#include "gateway/core/mcp.h"

/* Writing of MCP messages: a text that remembers its first failure. Inside of the core. */
#define GW_MCP_SERVER_INFO                                                                         \
    "{\"name\":\"Microsoft Container Apps MCP Server\",\"title\":\"Warren\",\"version\":"          \
    "\"" WARREN_VERSION "\"}"
#define GW_MCP_INSTRUCTIONS                                                                        \
    "\"Call launchShell for an environmentId, then run shell commands or Python code in that "     \
    "environment. Variables and files stay between calls.\""

/* What modern lists say first. */
#define GW_MCP_CACHED "\"ttlMs\":60000,\"cacheScope\":\"private\","

/* Files as resources: environment:///ID/PATH, with both escaped. */
#define GW_MCP_URI "environment:///"
enum { GW_MCP_URI_MAX = 3 * (PROTO_IDENTIFIER_MAX + PROTO_PATH_BYTES_MAX) + 32 };

struct gw_mcp_out {
    struct base_buf *to;
    int rc;
};

/* {"jsonrpc":"2.0","id":... : everything up to the result or error. */
struct gw_mcp_out gw_mcp_out_begin(const struct gw_mcp_message *m, struct base_buf *to);

/* ,"result":{ and what the era wants in every result, with a comma behind it. */
void gw_mcp_result_begin(struct gw_mcp_out *o, const struct gw_mcp_message *m);

/* A text block of its own behind others; "": none. */
void gw_mcp_note(struct gw_mcp_out *o, const char *text);
#define GW_MCP_RESTARTED                                                                           \
    "The environment had ended and was started anew: earlier variables and files are gone."

void gw_mcp_number(struct gw_mcp_out *o, long long n);
void gw_mcp_base64(struct gw_mcp_out *o, const struct base_buf *data);

/* "structuredContent":..., and the beginning of "content" with the same as text. */
void gw_mcp_both(struct gw_mcp_out *o, const struct base_buf *object);
void gw_mcp_raw(struct gw_mcp_out *o, const char *text);
void gw_mcp_view(struct gw_mcp_out *o, struct gw_json_view v);
void gw_mcp_string(struct gw_mcp_out *o, const void *text, size_t n);
