#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/core/mcp.h"
#ifdef WARREN_MCP_FIXTURES
#include "gateway/core/mcp_fixtures.h"
#endif
#include "gateway/io/exec.h"
#include "gateway/io/exec_body.h"
#include "gateway/io/mcp.h"
#include "gateway/io/stream.h"
#include "proto/base/clock.h"
#include "proto/base/container.h"
#include "proto/base/hash.h"
#include "proto/base/rand.h"
#include "proto/base/text.h"

/* POST /mcp: one message in, one answer out, as JSON or, when progress is wanted, as a stream. What
 * a message means is decided in core/mcp; code runs as for POST /executions. */

/* ---- who may ---- */

bool gw_mcp_place_check(const struct gw_task *t, struct gw_fault *f)
{
    const struct gw_request *r = gw_exchange_request(t->x);
    bool good =
        gw_mcp_place_ok(&gw_api_opt(t->api)->mcp_places, r->host, gw_http_field(r, "origin"));
    if (!good) {
        GW_FAULT(f, 403, "Forbidden",
            "Pages of this origin, or this name of the gateway, are not allowed.");
    }
    return good;
}

bool gw_mcp_admit(struct gw_task *t, int64_t now_s, struct gw_fault *f)
{
    const struct gw_api_options *opt = gw_api_opt(t->api);
    const struct gw_request *r = gw_exchange_request(t->x);
    const char *key = gw_http_field(r, "x-ms-apikey");
    bool open = opt->auth == NULL && key == NULL;
    const char *origin = gw_http_field(r, "origin");
    if (!gw_mcp_place_check(t, f)) {
        return false;
    }
    if (origin != NULL) { /* a page may read the answer */
        gw_fields_text(&t->fields, "access-control-allow-origin", origin);
        gw_fields_text(&t->fields, "access-control-expose-headers", "mcp-session-id");
        gw_fields_text(&t->fields, "vary", "origin");
    }
    enum gw_mcp_taking taking =
        key != NULL && t->route.pool[0] != '\0' ? gw_mcp_takes_key(t, key, now_s) : GW_MCP_REFUSED;
    bool good = taking == GW_MCP_TAKEN;
    if (taking == GW_MCP_LATER) {
        GW_FAULT(f, 503, "ServiceUnavailable",
            "The keys of the cluster are not known here (yet), try again.");
        f->retry_after_s = 1;
        return false;
    }
    if (!good && !open) {
        GW_FAULT(f, 401, "Unauthorized", "The header x-ms-apikey must have the pool's key.");
        return false;
    }
    (void)base_text_copy(t->who.subject, sizeof t->who.subject, good ? "mcp-key" : "");
    return true;
}

void gw_mcp_preflight(struct gw_task *t)
{
    const struct gw_request *r = gw_exchange_request(t->x);
    const char *origin = gw_http_field(r, "origin");
    if (origin != NULL && gw_mcp_place_ok(&gw_api_opt(t->api)->mcp_places, r->host, origin)) {
        gw_fields_text(&t->fields, "access-control-allow-origin", origin);
        gw_fields_text(&t->fields, "access-control-allow-methods", "POST");
        gw_fields_add(&t->fields, "access-control-allow-headers",
            "accept, content-type, idempotency-key, last-event-id, mcp-method, mcp-name, "
            "mcp-protocol-version, mcp-session-id, operation-id, x-ms-apikey");
        gw_fields_text(&t->fields, "access-control-max-age", "600");
        gw_fields_text(&t->fields, "vary", "origin");
    }
}

/* ---- session ids: only to know whose request a cancellation means ---- */

static uint64_t mark(const struct gw_task *t, const char *random)
{
    char text[32 + sizeof t->route.pool];
    size_t pool_n = strlen(t->route.pool);
    memcpy(text, random, 32);
    memcpy(text + 32, t->route.pool, pool_n);
    return base_hash_sip24(gw_api_opt(t->api)->cluster_key, text, 32 + pool_n);
}

static void make_session(const struct gw_task *t, char id[GW_MCP_SESSION_CHARS + 1])
{
    uint8_t random[16];
    base_rand_bytes(random, sizeof random);
    base_text_hex(random, sizeof random, id);
    uint64_t m = mark(t, id);
    base_text_hex(&m, sizeof m, id + 32);
}

static bool session_ok(const struct gw_task *t, const char *id)
{
    char want[17];
    if (strlen(id) != GW_MCP_SESSION_CHARS) {
        return false;
    }
    uint64_t m = mark(t, id);
    base_text_hex(&m, sizeof m, want);
    return strcmp(want, id + 32) == 0;
}

/* ---- answers ---- */

static void on_fault(struct gw_task *t, const struct gw_fault *f);

static bool wants_stream(const struct gw_mcp *p)
{
    const char *accept = gw_http_field(gw_exchange_request(p->t->x), "accept");
    return p->m.token.n > 0 && (accept == NULL || gw_http_list_has(accept, "text/event-stream") ||
                                   gw_http_list_has(accept, "*/*"));
}

/* A long answer goes out as the client reads it: it is counted until it is gone. */
static void push(struct gw_mcp *p)
{
    size_t size = base_buf_size(&p->out);
    while (p->sent < size) {
        size_t n = size - p->sent < GW_EXCHANGE_OUT_HIGH ? size - p->sent : GW_EXCHANGE_OUT_HIGH;
        size_t pending = gw_exchange_write(p->t->x, base_buf_data(&p->out) + p->sent, n);
        p->sent += n;
        if (pending >= GW_EXCHANGE_OUT_HIGH && p->sent < size) {
            return; /* drain() goes on */
        }
    }
    gw_exchange_end(p->t->x);
}

void gw_mcp_settle(struct gw_mcp *p, int status, int rc, struct base_buf *json)
{
    struct gw_task *t = p->t;
    size_t n = base_buf_size(json);
    if (rc == 0 && n > GW_EXCHANGE_OUT_HIGH && !gw_task_hold(t, n)) {
        t->failed = on_fault;
        gw_task_out_of_memory(t);
        return;
    }
    p->settled = true;
    t->failed = NULL;
    if (rc == 0 && p->stream.begun) {
        rc = gw_mcp_sse(base_buf_data(json), n, &p->out);
        gw_stream_deinit(&p->stream); /* no comment in between */
    } else if (rc == 0) {
        p->out = *json;
        *json = (struct base_buf){0};
        gw_fields_text(&t->fields, "content-type", "application/json; charset=utf-8");
        gw_task_respond(t, status, (int64_t)n);
    }
    if (rc < 0) {
        gw_task_out_of_memory(t);
    } else {
        push(p);
    }
}

static void on_fault(struct gw_task *t, const struct gw_fault *f)
{
    struct gw_mcp *p = t->mcp;
    struct base_buf b = {0};
    char text[sizeof f->text.text + 120];
    (void)snprintf(text, sizeof text, "%s: %s", f->code, f->text.text);
    if (f->retry_after_s > 0) {
        size_t n = strlen(text);
        (void)snprintf(text + n, sizeof text - n, " Try again in %u s.", f->retry_after_s);
    }
    bool missing = f->status == 404 || f->status == 400;
    int rc = p->m.tool == GW_MCP_RESOURCE ? gw_mcp_resource_error(&p->m, missing, text, &b)
                                          : gw_mcp_tool_error(&p->m, text, &b);
    gw_mcp_settle(p, 200, rc, &b);
    base_buf_deinit(&b);
}

/* ---- a tool that runs code ---- */

static void on_event(struct gw_task *t, const struct gw_event *e, uint32_t bytes)
{
    struct gw_mcp *p = t->mcp;
    struct base_buf json = {0}, b = {0};
    if (p->stream.begun && gw_mcp_progress(&p->m, p->progress + 1, e, &json) == 0 &&
        base_buf_size(&json) > 0 &&
        gw_mcp_sse(base_buf_data(&json), base_buf_size(&json), &b) == 0) {
        p->progress++;
        gw_stream_send(&p->stream, &b, bytes);
    } else {
        gw_call_event_done(t->call, bytes);
    }
    base_buf_deinit(&json);
    base_buf_deinit(&b);
}

static void on_done(struct gw_task *t, const struct gw_outcome *o)
{
    struct gw_mcp *p = t->mcp;
    struct base_buf b = {0};
    int rc = gw_mcp_outcome(&p->m, o, &b);
    gw_mcp_settle(p, 200, rc, &b);
    base_buf_deinit(&b);
}

/* Whatever the pool runs: the tool says which language it is. */
static const struct gw_exec_watch *watch_of(enum gw_mcp_tool tool)
{
    static const struct gw_exec_watch shell = {on_event, on_done, WARREN__KERNEL__KERNEL_SHELL};
    static const struct gw_exec_watch python = {on_event, on_done, WARREN__KERNEL__KERNEL_PYTHON};
    static const struct gw_exec_watch node = {on_event, on_done, WARREN__KERNEL__KERNEL_NODE};
    return tool == GW_MCP_SHELL ? &shell : tool == GW_MCP_NODE ? &node : &python;
}

static void run(struct gw_mcp *p)
{
    struct gw_task *t = p->t;
    struct base_buf body = {0};
    struct gw_mcp **all = gw_api_mcp_running(t->api);
    p->runs = true;
    p->next = *all;
    if (p->next != NULL) {
        p->next->prev = p;
    }
    *all = p;
    p->gone = gw_exec_gone;
    if (wants_stream(p)) {
        gw_stream_begin_as(&p->stream, "text/event-stream", "no-cache");
    }
    if (gw_mcp_exec_body(&p->m, &body) < 0) {
        gw_task_out_of_memory(t);
    } else {
        gw_exec_begin(t, base_buf_data(&body), base_buf_size(&body), watch_of(p->m.tool));
    }
    base_buf_deinit(&body);
}

static void call(struct gw_mcp *p)
{
    struct gw_task *t = p->t;
    enum gw_mcp_tool tool = p->m.tool;
    (void)proto_identifier_set(&t->route.id, p->m.environment, strlen(p->m.environment));
    t->route.version = GW_VERSION_FLAT;
    t->failed = on_fault;
    if (tool == GW_MCP_SHELL || tool == GW_MCP_PYTHON || tool == GW_MCP_NODE) {
        run(p);
    } else {
        gw_mcp_files(p);
    }
}

static void launch(struct gw_mcp *p)
{
    char id[BASE_TEXT_UUID_MAX];
    struct base_buf b = {0};
    base_rand_uuid(id);
    int rc = gw_mcp_launched(&p->m, id, &b);
    gw_mcp_settle(p, 200, rc, &b);
    base_buf_deinit(&b);
}

#ifdef WARREN_MCP_FIXTURES
static void tell_progress(struct gw_mcp *p)
{
    static const int percent[] = {0, 50, 100};
    gw_stream_begin_as(&p->stream, "text/event-stream", "no-cache");
    for (size_t i = 0; i < ARRAY_LEN(percent); i++) {
        struct base_buf json = {0}, b = {0};
        if (gw_mcp_fixture_progress(&p->m, percent[i], &json) == 0 &&
            gw_mcp_sse(base_buf_data(&json), base_buf_size(&json), &b) == 0) {
            (void)gw_exchange_write(p->t->x, base_buf_data(&b), base_buf_size(&b));
        }
        base_buf_deinit(&json);
        base_buf_deinit(&b);
    }
}
#endif

/* The client takes a request of its session back: its code is stopped, its answer says so. */
static void cancel(struct gw_mcp *p)
{
    struct gw_mcp *other = *gw_api_mcp_running(p->t->api);
    for (; other != NULL && p->session[0] != '\0'; other = other->next) {
        if (strcmp(other->session, p->session) == 0 && other->m.id.n == p->m.id.n &&
            memcmp(other->m.id.p, p->m.id.p, p->m.id.n) == 0 && !other->settled &&
            gw_exec_stop(other->t)) {
            gw_exec_canceled(other->t);
        }
    }
}

/* ---- a message ---- */

void gw_mcp_not_enabled(struct gw_task *t, int status)
{
    struct gw_fault f;
    GW_FAULT(&f, status, "SessionMCPServerNotEnabled", "The pool has no MCP server.");
    gw_task_fail(t, &f);
}

static bool take_session(struct gw_mcp *p)
{
    const char *id = gw_http_field(gw_exchange_request(p->t->x), "mcp-session-id");
    if (id == NULL || p->m.modern) {
        return true;
    }
    if (session_ok(p->t, id)) {
        return base_text_copy(p->session, sizeof p->session, id);
    }
    struct base_buf b = {0};
    int rc = gw_mcp_error(&p->m, -32600, "There is no such session; initialize again.", &b);
    gw_mcp_settle(p, 404, rc, &b);
    base_buf_deinit(&b);
    return false;
}

static void accepted(struct gw_mcp *p)
{
    p->settled = true;
    gw_task_respond(p->t, 202, 0);
    gw_exchange_end(p->t->x);
}

static void answer(struct gw_mcp *p, int verdict, struct base_buf *json)
{
    char session[GW_MCP_SESSION_CHARS + 1];
#ifdef WARREN_MCP_FIXTURES
    if (verdict == GW_MCP_FIXTURE) {
        if (wants_stream(p)) {
            tell_progress(p);
        }
        verdict = GW_MCP_ANSWERED;
    }
#endif
    if (verdict < 0 || verdict == GW_MCP_ANSWERED) {
        if (p->m.opens) {
            make_session(p->t, session);
            gw_fields_text(&p->t->fields, "mcp-session-id", session);
        }
        gw_mcp_settle(p, p->m.status, verdict < 0 ? verdict : 0, json);
    } else if (verdict == GW_MCP_CALL && p->m.tool == GW_MCP_LAUNCH) {
        launch(p);
    } else if (verdict == GW_MCP_CALL) {
        call(p);
    } else {
        if (verdict == GW_MCP_CANCEL) {
            cancel(p);
        }
        accepted(p);
    }
}

static void on_pool(struct gw_task *t, enum gw_pool_kind kind)
{
    (void)kind;
    if (!t->pool_mcp) {
        gw_mcp_not_enabled(t, 404);
        return;
    }
    struct gw_mcp *p = calloc(1, sizeof *p);
    if (p == NULL) {
        gw_task_out_of_memory(t);
        return;
    }
    t->mcp = p;
    p->t = t;
    gw_stream_init(&p->stream, t);
    const struct gw_request *r = gw_exchange_request(t->x);
    struct gw_mcp_head head = {.version = gw_http_field(r, "mcp-protocol-version"),
        .method = gw_http_field(r, "mcp-method"),
        .name = gw_http_field(r, "mcp-name"),
        .extended = t->pool_mcp_extended,
        .fixtures = gw_api_opt(t->api)->mcp_fixtures};
    struct base_buf json = {0};
    int v = gw_mcp_read(base_buf_data(&t->body), base_buf_size(&t->body), &head, &p->m, &json);
    if (p->m.opens || take_session(p)) {
        answer(p, v, &json);
    }
    base_buf_deinit(&json);
}

static void start(struct gw_task *t)
{
    gw_task_pool(t, on_pool);
}

static void gone(struct gw_task *t)
{
    struct gw_mcp *p = t->mcp;
    if (p == NULL) {
        return;
    }
    gw_stream_deinit(&p->stream);
    base_buf_deinit(&p->out);
    if (p->runs) {
        struct gw_mcp **all = gw_api_mcp_running(t->api);
        *(p->prev == NULL ? all : &p->prev->next) = p->next;
        if (p->next != NULL) {
            p->next->prev = p->prev;
        }
    }
    if (p->gone != NULL) {
        p->gone(t);
    }
    free(p);
}

/* The client went away: nobody will read what the code says. */
static void leaving(struct gw_task *t)
{
    struct gw_mcp *p = t->mcp;
    if (p != NULL && p->runs && !p->settled) {
        (void)gw_exec_stop(t);
    }
}

static void drain(struct gw_task *t)
{
    struct gw_mcp *p = t->mcp;
    if (p != NULL && p->sent < base_buf_size(&p->out)) {
        push(p);
    } else if (p != NULL) {
        gw_stream_drain(&p->stream);
    }
}

const struct gw_task_ops gw_op_mcp = {.start = start,
    .drain = drain,
    .leaving = leaving,
    .gone = gone,
    .body_max = GW_EXEC_BODY_BYTES_MAX};
