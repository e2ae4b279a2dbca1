#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "gateway/core/file_path.h"
#include "gateway/core/json_view.h"
#include "gateway/core/outcome.h"
#include "gateway/core/render.h"
#include "proto/base/buf.h"
#include "proto/ids.h"

/* The Model Context Protocol as one pool speaks it: JSON-RPC 2.0, one message a request, in two
 * eras. Legacy: revisions 2024-11-05 to 2025-11-25, with or without a handshake. Modern:
 * 2026-07-28, where every request carries its version in _meta and in header fields. No state is
 * kept between requests. What is written is one JSON text without raw line ends in strings.
 *
 * All that write return 0 or BASE_ENOMEM. */

enum gw_mcp_tool {
    GW_MCP_LAUNCH,
    GW_MCP_SHELL,
    GW_MCP_PYTHON,
    /* of pools with all tools */
    GW_MCP_NODE,
    GW_MCP_UPLOAD,
    GW_MCP_DOWNLOAD,
    GW_MCP_LIST,
    GW_MCP_STOP,
    GW_MCP_RESOURCE, /* resources/read: the file again, in another shape */
};

enum gw_mcp_verdict {
    GW_MCP_ANSWERED, /* the answer was written; its HTTP status is in the message */
    GW_MCP_ACCEPTED, /* nothing to answer: 202 */
    GW_MCP_CANCEL,   /* 202, and the request `id` of this client shall be stopped */
    GW_MCP_CALL,     /* a tool is to be called */
    GW_MCP_FIXTURE,  /* the answer was written, to come behind progress (mcp_fixtures.h) */
};

enum { GW_MCP_ID_MAX = 128 }; /* of ids and progress tokens, as text */

/* Header fields of the request; NULL when they are missing. And what its pool offers. */
struct gw_mcp_head {
    const char *version, *method, *name; /* MCP-Protocol-Version, Mcp-Method, Mcp-Name */
    bool extended;                       /* all tools, and files as resources */
    bool fixtures;                       /* development builds only: those of mcp_fixtures.h, too */
};

/* Views are into the request's text. */
struct gw_mcp_message {
    bool modern;
    bool opens; /* a legacy initialize: its answer may carry a session id */
    int status; /* HTTP, of what is answered */
    struct gw_json_view id;
    struct gw_json_view token; /* progress is wanted; n 0: it is not */
    enum gw_mcp_tool tool;     /* GW_MCP_CALL */
    struct gw_json_view args;
    char environment[PROTO_IDENTIFIER_MAX + 1]; /* "" for GW_MCP_LAUNCH */
    struct gw_file_path path;                   /* of tools with files */
    bool recursive;
    bool links; /* the client knows links to resources (since 2025-06-18) */
};

/* Judges one message. An enum gw_mcp_verdict, or BASE_ENOMEM. `to` must be empty. */
int gw_mcp_read(const void *json, size_t n, const struct gw_mcp_head *head,
    struct gw_mcp_message *m, struct base_buf *to);

/* The body of POST /executions that does what the call asks for. */
int gw_mcp_exec_body(const struct gw_mcp_message *m, struct base_buf *to);

/* Answers of tools. */
int gw_mcp_launched(const struct gw_mcp_message *m, const char *environment, struct base_buf *to);
int gw_mcp_outcome(const struct gw_mcp_message *m, const struct gw_outcome *c, struct base_buf *to);
int gw_mcp_tool_error(const struct gw_mcp_message *m, const char *text, struct base_buf *to);

/* What GW_MCP_UPLOAD writes: 0, BASE_ENOMEM, or BASE_EBADMSG when the argument cannot be decoded.
 */
int gw_mcp_upload_data(const struct gw_mcp_message *m, struct base_buf *to);
int gw_mcp_uploaded(
    const struct gw_mcp_message *m, uint64_t size, bool restarted, struct base_buf *to);

/* GW_MCP_DOWNLOAD and GW_MCP_RESOURCE. */
int gw_mcp_downloaded(
    const struct gw_mcp_message *m, const struct base_buf *data, struct base_buf *to);
int gw_mcp_listed(const struct gw_mcp_message *m, const struct gw_file *files, size_t n,
    bool truncated, struct base_buf *to);
int gw_mcp_stopped(const struct gw_mcp_message *m, struct base_buf *to);

/* missing: there is no such resource, and asking again will not help. */
int gw_mcp_resource_error(
    const struct gw_mcp_message *m, bool missing, const char *text, struct base_buf *to);

/* A JSON-RPC error. */
int gw_mcp_error(const struct gw_mcp_message *m, int code, const char *text, struct base_buf *to);

/* The notification for an event of a running call, the number-th. Writes nothing for an event that
 * shows nothing. Texts are cut at GW_MCP_PROGRESS_MAX. */
enum { GW_MCP_PROGRESS_MAX = 16 << 10 };
int gw_mcp_progress(const struct gw_mcp_message *m, unsigned long number, const struct gw_event *e,
    struct base_buf *to);

/* One JSON text as a server-sent event. */
int gw_mcp_sse(const void *json, size_t n, struct base_buf *to);
