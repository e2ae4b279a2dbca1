#pragma once
#include <ev.h>

#include "gateway/core/fault.h"
#include "gateway/core/render.h"
#include "gateway/io/api.h"
#include "gateway/io/auth.h"
#include "gateway/io/calls.h"
#include "gateway/io/exchange.h"
#include "gateway/wire/reply.h"
#include "proto/base/text.h"
#include "proto/tenant.h"

/* Inside of the API: one request from its head to its answer. api.c owns the life of tasks; the
 * op_*.c files carry the operations out. */

/* Response fields with their text. */
enum { GW_FIELDS_MAX = 32 };
struct gw_fields {
    struct gw_field f[GW_FIELDS_MAX];
    int n;
    size_t used;
    char text[3072];
};

void gw_fields_add(struct gw_fields *f, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void gw_fields_text(struct gw_fields *f, const char *name, const char *text);
void gw_fields_number(struct gw_fields *f, const char *name, uint64_t value);

/* What is known of a pool; asked from a worker now and then. */
enum gw_pool_kind { GW_POOL_PYTHON, GW_POOL_NODE, GW_POOL_SHELL, GW_POOL_CONTAINER };

enum { GW_POOLS_CACHED = 64 };

struct gw_pool_entry {
    char name[PROTO_POOL_NAME_MAX + 1];
    enum gw_pool_kind kind;
    bool mcp, mcp_extended;
    uint64_t fetched_ns;
    uint64_t version; /* of its entry in the cluster's catalogue; 0: a worker has told */
};

struct gw_pools {
    struct gw_pool_entry all[GW_POOLS_CACHED];
};

struct gw_task;

struct gw_task_ops {
    /* The request is complete (its body, if any, is in task->body). */
    void (*start)(struct gw_task *t);
    /* NULL: the body is collected, up to body_max. */
    void (*body)(struct gw_task *t, const uint8_t *data, size_t n);
    void (*drain)(struct gw_task *t);
    void (*stopping)(struct gw_task *t); /* see struct gw_exchange_ops */
    void (*leaving)(struct gw_task *t);  /* before its call is given up */
    void (*gone)(struct gw_task *t);     /* frees t->state */
    size_t body_max;
};

struct gw_task {
    struct gw_api *api;
    struct gw_exchange *x;
    const struct gw_task_ops *ops;
    struct gw_route route;
    struct gw_principal who;
    struct proto_tenant tenant; /* of who, when paid: by a token or a pool's key */
    bool paid;
    struct gw_fields fields;
    struct gw_call *call; /* the one under way; NULL when there is none */
    void *state;          /* of the operation */
    void (*pool_done)(struct gw_task *t, enum gw_pool_kind kind);
    struct gw_calls_asked pool_asked; /* about the pool, and have not told */
    uint64_t pool_since_ns;           /* when the first was asked */
    bool pool_mcp, pool_mcp_extended; /* at pool_done: it has an MCP endpoint, with all tools */
    /* NULL, or how this operation tells its errors; called once, by gw_task_fail(). */
    void (*failed)(struct gw_task *t, const struct gw_fault *fault);
    struct gw_mcp *mcp; /* op_mcp.c */
    struct base_buf body;
    struct gw_auth_wait wait; /* list set: for the issuer's keys; body counts as held */
    enum gw_route_fault wait_fault;
    uint64_t begun_ns, sent_ns;
    size_t held;    /* bytes of its answer that are counted, see gw_task_hold() */
    char trace[17]; /* names the request in logs and error bodies */
    int status;     /* of the answer, for the audit line */
    const char *code;
    bool answered;
    bool upgraded; /* answered, and what comes now is for the operation */
    bool complete; /* the request came whole */
};

extern const struct gw_task_ops gw_op_execute, gw_op_execution_get, gw_op_execution_events;
extern const struct gw_task_ops gw_op_execution_cancel, gw_op_files_list, gw_op_file_upload;
extern const struct gw_task_ops gw_op_file_stat, gw_op_file_content, gw_op_file_delete;
extern const struct gw_task_ops gw_op_session_get, gw_op_session_delete, gw_op_sessions_list;
extern const struct gw_task_ops gw_op_metadata, gw_op_terminal, gw_op_mcp, gw_op_mcp_fetch,
    gw_op_mcp_rotate;

/* ---- answers ---- */

/* Ends the task with an error. Does nothing after an answer has begun, except to cut it off. */
void gw_task_fail(struct gw_task *t, const struct gw_fault *fault);

/* A whole JSON body, with t->fields. */
void gw_task_answer(struct gw_task *t, int status, const struct base_buf *json);

/* Other bodies: respond, then gw_exchange_write() and gw_exchange_end(). */
void gw_task_respond(struct gw_task *t, int status, int64_t length);

/* 101: from now on the connection speaks that protocol, the operation's body() and
 * gw_exchange_write() are its two directions. */
void gw_task_upgrade(struct gw_task *t, const char *protocol);

/* 503 in place of an answer that does not fit into memory. */
void gw_task_out_of_memory(struct gw_task *t);

/* Counts n more bytes that are kept for the answer, until the task is gone. False when requests and
 * answers have as much memory as they may. */
bool gw_task_hold(struct gw_task *t, size_t n);
void gw_task_release(struct gw_task *t, size_t n);

/* The request made the session, and one of its identifier was there before and is gone. */
bool gw_task_anew(const Warren__Session *s);

/* Session facts for the response's head. */
void gw_task_session(struct gw_task *t, const Warren__Session *s);

/* ---- asking workers ---- */

/* Fills key, tenant and flags for this task's session. The strings are the task's. */
void gw_task_request(struct gw_task *t, Warren__Request *r, Warren__Key *key);

/* Starts a call to the home of the task's identifier; on failure the task is answered. owner: the
 * task. */
int gw_task_call(struct gw_task *t, const Warren__Request *r, const struct gw_call_options *opt);

/* The same, to another worker; -1: there is none. */
int gw_task_call_at(
    struct gw_task *t, int worker, const Warren__Request *r, const struct gw_call_options *opt);

/* The answer for a call of the task that failed; is gw_call_ops.failed where nothing else is to do.
 */
void gw_task_failure(void *task, enum gw_call_failure why);

/* The catalogue of the cluster is known, has pools, and this one is not among them. */
bool gw_task_pool_unknown(const struct gw_task *t);

/* It is known, has pools, and this one is among them. */
bool gw_task_pool_listed(const struct gw_task *t);

/* Calls back with the pool's kind, at once or later; answers by itself when there is no such pool.
 */
void gw_task_pool(struct gw_task *t, void (*done)(struct gw_task *t, enum gw_pool_kind kind));

/* ---- executions ---- */

/* A new one, as base_rand_uuid(), without asking the kernel for each. */
void gw_task_uuid(struct gw_task *t, char text[BASE_TEXT_UUID_MAX]);

/* The id on the wire for the id a client sees: bound to pool and identifier, so that nobody can
 * meet another session's executions. */
void gw_task_exec_id(const struct gw_task *t, const char *text, uint8_t id[PROTO_EXEC_ID_BYTES]);

/* operation-id and Operation-Location. */
void gw_task_operation_fields(struct gw_task *t, const char *id);

/* Where op_mcp.c keeps the calls that run; options of the API. */
struct gw_pools *gw_api_pools(struct gw_api *api);
struct gw_mcp **gw_api_mcp_running(struct gw_api *api);
const struct gw_api_options *gw_api_opt(const struct gw_api *api);

struct ev_loop *gw_api_loop(const struct gw_api *api);
struct gw_calls *gw_api_calls(const struct gw_api *api);
