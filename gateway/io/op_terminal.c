#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/io/task.h"
#include "gateway/io/ws.h"
#include "proto/base/clock.h"
#include "proto/base/container.h"
#include "proto/terminal.h"

/* GET /terminal: a shell on a terminal in the session, over a WebSocket. Binary messages are what
 * is typed and what the screen gets. Text messages are JSON: {"columns":N,"rows":M} from the client
 * when its window changes, {"exitCode":N} to it when the shell has ended. What the other side does
 * not take stays unread, both ways. */

enum {
    LIFE_MS = 24 * 3600 * 1000,
    TYPED_BYTES_MAX = PROTO_CHUNK_BYTES, /* that wait for the worker */
    PARSE_BYTES = 4096,
    SILENT_MAX = 2, /* pings without any answer */
};

struct terminal {
    struct gw_task *t;
    struct gw_ws *ws;      /* NULL before the worker's go */
    struct base_buf raw;   /* of the client, not parsed yet; within the exchange's window */
    struct base_buf typed; /* records for the worker */
    uint32_t held;         /* chunks to give back when the client has taken what waits for it */
    ev_timer ping;
    int silent;    /* pings since the client's last bytes */
    bool blocked;  /* the client does not take what was written; until drain */
    bool expires;  /* with its token, before LIFE_MS */
    bool stopping; /* the gateway is */
    bool pumping, ended;
};

static void finish(struct terminal *s)
{
    if (!s->ended) {
        s->ended = true;
        ev_timer_stop(gw_api_loop(s->t->api), &s->ping);
        gw_exchange_end(s->t->x);
        gw_call_cancel(s->t->call);
        s->t->call = NULL;
    }
}

/* ---- the client's messages ---- */

static void on_send(void *owner, const uint8_t *data, size_t n)
{
    struct terminal *s = owner;
    size_t pending = gw_exchange_write(s->t->x, data, n);
    s->blocked = s->blocked || pending >= GW_EXCHANGE_OUT_HIGH;
    if (pending == 0 && n > 0) { /* dropped: the exchange was given up */
        finish(s);
    }
}

static void end_with(struct terminal *s, enum gw_ws_close code, const char *reason)
{
    if (!s->ended) {
        gw_ws_close(s->ws, code, reason);
        finish(s);
    }
}

static void out_of_memory(struct terminal *s)
{
    gw_ws_close(s->ws, GW_WS_FAILED, "out of memory");
}

static void on_binary(void *owner, const uint8_t *data, size_t n)
{
    struct terminal *s = owner;
    while (n > 0) {
        size_t part = n < PROTO_TERMINAL_INPUT_MAX ? n : PROTO_TERMINAL_INPUT_MAX;
        uint8_t *p = base_buf_room(&s->typed, PROTO_TERMINAL_HEAD + part);
        if (p == NULL) {
            out_of_memory(s);
            return;
        }
        proto_terminal_head(p, PROTO_TERMINAL_INPUT, part);
        memcpy(p + PROTO_TERMINAL_HEAD, data, part);
        base_buf_grow(&s->typed, PROTO_TERMINAL_HEAD + part);
        data += part;
        n -= part;
    }
}

static bool cells(const json_t *o, const char *name, unsigned *ret)
{
    const json_t *v = json_object_get(o, name);
    json_int_t n = json_integer_value(v);
    *ret = (unsigned)n;
    return json_is_integer(v) && n > 0 && n <= PROTO_TERMINAL_CELLS_MAX;
}

static void on_text(void *owner, const char *text, size_t n)
{
    struct terminal *s = owner;
    unsigned columns = 0, rows = 0;
    json_t *o = json_loadb(text, n, JSON_REJECT_DUPLICATES, NULL);
    bool good = cells(o, "columns", &columns) && cells(o, "rows", &rows);
    json_decref(o);
    if (!good) {
        gw_ws_close(s->ws, GW_WS_INVALID, "a text message has columns and rows, 1 to 1000");
        return;
    }
    size_t size = PROTO_TERMINAL_HEAD + PROTO_TERMINAL_SIZE_BYTES;
    uint8_t *p = base_buf_room(&s->typed, size);
    if (p == NULL) {
        out_of_memory(s);
        return;
    }
    proto_terminal_size(p, columns, rows);
    base_buf_grow(&s->typed, size);
}

/* True when something moved. */
static bool parse_some(struct terminal *s)
{
    size_t n = base_buf_size(&s->raw);
    if (n == 0 || base_buf_size(&s->typed) >= TYPED_BYTES_MAX || s->blocked) {
        return false;
    }
    n = n < PARSE_BYTES ? n : PARSE_BYTES;
    gw_ws_input(s->ws, base_buf_data(&s->raw), n);
    base_buf_consume(&s->raw, n);
    gw_exchange_consume(s->t->x, n);
    return true;
}

static bool send_some(struct terminal *s)
{
    size_t n = base_buf_size(&s->typed);
    n = n < PROTO_CHUNK_BYTES ? n : PROTO_CHUNK_BYTES;
    if (n == 0 || s->t->call == NULL ||
        gw_call_chunk(s->t->call, base_buf_data(&s->typed), n, false) != 0) {
        return false;
    }
    base_buf_consume(&s->typed, n);
    return true;
}

static void pump(struct terminal *s)
{
    if (s->ws == NULL || s->pumping) {
        return;
    }
    s->pumping = true;
    bool moved = true;
    while (moved && !s->ended) {
        moved = parse_some(s);
        moved |= send_some(s);
        if (gw_ws_over(s->ws)) {
            finish(s);
        }
    }
    s->pumping = false;
}

static void on_ping(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop;
    (void)revents;
    struct terminal *s = CONTAINER_OF(w, struct terminal, ping);
    if (s->blocked) {
        return; /* the connection's own limit of a minute counts */
    }
    if (base_buf_size(&s->raw) == 0) { /* else the answer may be behind what waits for the guest */
        s->silent++;
    }
    if (s->silent > SILENT_MAX) {
        end_with(s, GW_WS_AWAY, "pings were not answered");
    } else {
        gw_ws_ping(s->ws);
    }
}

static void on_body(struct gw_task *t, const uint8_t *data, size_t n)
{
    struct terminal *s = t->state;
    if (s == NULL || s->ended) {
        gw_exchange_consume(t->x, n);
        return;
    }
    s->silent = 0;
    if (base_buf_add(&s->raw, data, n) < 0) {
        gw_exchange_abort(t->x);
        finish(s);
        return;
    }
    pump(s);
}

static void on_drain(struct gw_task *t)
{
    struct terminal *s = t->state;
    if (s == NULL) {
        return;
    }
    s->blocked = false;
    if (s->held > 0 && t->call != NULL) {
        gw_call_chunk_done(t->call, s->held);
    }
    s->held = 0;
    pump(s);
}

static void on_stopping(struct gw_task *t)
{
    struct terminal *s = t->state;
    if (s != NULL && s->ws != NULL) {
        end_with(s, GW_WS_AWAY, "the gateway is being stopped");
    } else if (s != NULL) {
        s->stopping = true;
    }
}

/* ---- the worker's side ---- */

static void on_head(void *owner, const Warren__Reply *r)
{
    static const struct gw_ws_ops ops = {on_send, on_binary, on_text};
    struct gw_task *t = owner;
    struct terminal *s = t->state;
    gw_task_session(t, r->session);
    s->ws = gw_ws_create(&ops, s);
    if (s->ws == NULL) {
        gw_task_out_of_memory(t);
        finish(s);
        return;
    }
    gw_task_upgrade(t, "websocket");
    ev_timer_start(gw_api_loop(t->api), &s->ping);
    if (s->stopping) {
        on_stopping(t);
    }
    pump(s);
}

static void on_chunk(void *owner, const uint8_t *data, size_t n, bool fin)
{
    struct gw_task *t = owner;
    struct terminal *s = t->state;
    (void)fin; /* END follows */
    if (n > 0) {
        gw_ws_binary(s->ws, data, n);
    }
    if (s->blocked) {
        s->held++;
    } else if (t->call != NULL) {
        gw_call_chunk_done(t->call, 1);
    }
}

static void on_writable(void *owner)
{
    struct gw_task *t = owner;
    pump(t->state);
}

static void on_end(void *owner, const Warren__Reply *r)
{
    struct gw_task *t = owner;
    struct terminal *s = t->state;
    t->call = NULL;
    if (s->ws == NULL) {
        struct gw_fault f;
        gw_wire_fault(r, &f);
        gw_task_fail(t, &f);
    } else if (r->status == WARREN__STATUS__STATUS_OK) {
        char text[32];
        (void)snprintf(
            text, sizeof text, "{\"exitCode\":%d}", r->done == NULL ? 0 : r->done->exit_code);
        gw_ws_text(s->ws, text);
        end_with(s, GW_WS_NORMAL, "the shell has ended");
    } else if (r->status == WARREN__STATUS__STATUS_TIMEOUT) {
        end_with(s, GW_WS_AWAY, "nothing was typed or shown for too long");
    } else if (r->status == WARREN__STATUS__STATUS_LOST) {
        end_with(s, GW_WS_AWAY, "the session has ended");
    } else {
        end_with(s, GW_WS_FAILED, r->text);
    }
}

static void on_failed(void *owner, enum gw_call_failure why)
{
    struct gw_task *t = owner;
    struct terminal *s = t->state;
    t->call = NULL;
    if (s->ws == NULL) {
        gw_task_failure(t, why);
    } else if (why == GW_CALL_TIMEOUT && s->expires) {
        end_with(s, GW_WS_POLICY, "the token has expired");
    } else if (why == GW_CALL_TIMEOUT) {
        end_with(s, GW_WS_AWAY, "a terminal lives for a day");
    } else {
        end_with(s, GW_WS_FAILED, "the connection to the worker was lost");
    }
}

/* ---- life ---- */

/* Adds sec-websocket-accept; false: answered. */
static bool shake_hands(struct gw_task *t)
{
    const struct gw_request *r = gw_exchange_request(t->x);
    const char *upgrade = gw_http_field(r, "upgrade"), *key = gw_http_field(r, "sec-websocket-key");
    const char *connection = gw_http_field(r, "connection");
    const char *version = gw_http_field(r, "sec-websocket-version");
    char accept[GW_WS_ACCEPT_MAX];
    if (r->http2 || r->method != GW_METHOD_GET || upgrade == NULL || connection == NULL ||
        key == NULL || version == NULL || !gw_http_list_has(upgrade, "websocket") ||
        !gw_http_list_has(connection, "upgrade") || strcmp(version, "13") != 0 ||
        !gw_ws_accept(key, accept)) {
        struct gw_fault f;
        GW_FAULT(
            &f, 426, "UpgradeRequired", "A terminal is a WebSocket of version 13, over HTTP/1.1.");
        if (!r->http2) { /* which forbids the field */
            gw_fields_text(&t->fields, "upgrade", "websocket");
        }
        gw_fields_text(&t->fields, "sec-websocket-version", "13");
        gw_task_fail(t, &f);
        return false;
    }
    gw_fields_text(&t->fields, "sec-websocket-accept", accept);
    return true;
}

/* A day, or what is left of the token. */
static uint32_t life_ms(struct terminal *s)
{
    int64_t now_ms = (int64_t)(base_clock_real_ns() / BASE_NS_PER_MS);
    int64_t left_ms = s->t->who.until_s * 1000 - now_ms;
    s->expires = s->t->who.until_s != 0 && left_ms < LIFE_MS;
    return !s->expires ? LIFE_MS : left_ms > 0 ? (uint32_t)left_ms : 1;
}

static void start(struct gw_task *t)
{
    static const struct gw_call_ops ops = {.head = on_head,
        .chunk = on_chunk,
        .writable = on_writable,
        .end = on_end,
        .failed = on_failed};
    if (!shake_hands(t)) {
        return;
    }
    struct terminal *s = calloc(1, sizeof *s);
    if (s == NULL) {
        gw_task_out_of_memory(t);
        return;
    }
    s->t = t;
    t->state = s;
    unsigned ping_s = gw_api_opt(t->api)->terminal_ping_s;
    ev_timer_init(&s->ping, on_ping, ping_s, ping_s);
    Warren__Request r;
    Warren__Key key;
    Warren__Terminal q = WARREN__TERMINAL__INIT;
    gw_task_request(t, &r, &key);
    r.op_case = WARREN__REQUEST__OP_TERMINAL;
    r.terminal = &q;
    q.columns = t->route.columns;
    q.rows = t->route.rows;
    struct gw_call_options opt = {
        .kind = GW_CALL_WRITE, .bulk = true, .deadline_ms = life_ms(s), .ops = &ops};
    (void)gw_task_call(t, &r, &opt);
}

static void gone(struct gw_task *t)
{
    struct terminal *s = t->state;
    if (s != NULL) {
        ev_timer_stop(gw_api_loop(t->api), &s->ping);
        gw_ws_destroy(s->ws);
        base_buf_deinit(&s->raw);
        base_buf_deinit(&s->typed);
        free(s);
    }
}

const struct gw_task_ops gw_op_terminal = {
    .start = start, .body = on_body, .drain = on_drain, .stopping = on_stopping, .gone = gone};
