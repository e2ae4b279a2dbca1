#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "gateway/core/mcp.h"
#include "gateway/io/stream.h"
#include "gateway/io/task.h"

/* True when the request to /mcp has a key of the pool and comes from nowhere that it must not;
 * otherwise *f says what is wrong. Without any authentication (insecure mode) a key may be missing,
 * but a wrong one is refused. */
bool gw_mcp_admit(struct gw_task *t, int64_t now_s, struct gw_fault *f);

/* False, with a 403: the request comes from a page, or by a name of the gateway, that may not. */
bool gw_mcp_place_check(const struct gw_task *t, struct gw_fault *f);

/* OPTIONS: what a browser asks before it lets a page of another origin call. */
void gw_mcp_preflight(struct gw_task *t);

/* ---- op_mcp_keys.c ---- */

/* Is it a key of the task's pool? LATER: the catalogue of the cluster was not heard yet. */
enum gw_mcp_taking { GW_MCP_REFUSED, GW_MCP_TAKEN, GW_MCP_LATER };
enum gw_mcp_taking gw_mcp_takes_key(const struct gw_task *t, const char *key, int64_t now_s);

/* The answer for a pool that has no endpoint. */
void gw_mcp_not_enabled(struct gw_task *t, int status);

/* ---- between op_mcp.c and op_mcp_files.c ---- */

enum { GW_MCP_SESSION_CHARS = 48 }; /* 16 random bytes and their mark under the cluster key */

struct gw_mcp {
    struct gw_mcp *next, *prev; /* calls that run code, of all pools */
    struct gw_task *t;
    struct gw_mcp_message m; /* its views are into t->body */
    char session[GW_MCP_SESSION_CHARS + 1];
    struct gw_stream stream; /* begun when progress is wanted */
    unsigned long progress;
    bool runs, settled;
    struct base_buf out; /* the answer, from sent on not written yet */
    size_t sent;
    void (*gone)(struct gw_task *t); /* of the tool, frees t->state; NULL: there is none */
};

/* The message that ends the exchange. rc: of writing it. Takes the text. */
void gw_mcp_settle(struct gw_mcp *p, int status, int rc, struct base_buf *json);

/* Carries out a call that has to do with files, or with the end of the environment. Errors come by
 * t->failed. */
void gw_mcp_files(struct gw_mcp *p);
