#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/io/exec.h"
#include "gateway/io/exec_body.h"
#include "gateway/io/stream.h"
#include "gateway/io/task.h"
#include "proto/base/clock.h"
#include "proto/base/hash.h"
#include "proto/base/rand.h"
#include "proto/base/text.h"

/* POST /executions, /code/execute, /python/execute: run code or a command once, and answer whole or
 * as a stream. Also GET /executions/{id}, its events, and cancel. */

enum {
    ALLOCATE_MS = 30000, /* what a run may wait for a microVM, on top of its own time */
    OTHER_MS = 30000,
    KEY_MAX = 1024, /* of Idempotency-Key */
    OUTPUT_DEFAULT = 1 << 20,
    OUTPUT_DEFAULT_2025_10 = 4096,
};

struct exec {
    struct gw_exec_body body;
    struct gw_outcome outcome;
    struct gw_stream stream;
    struct gw_execution_view view;
    const struct gw_exec_watch *watch; /* NULL: answered in the ways of the REST API */
    uint8_t id[PROTO_EXEC_ID_BYTES];
    char id_text[sizeof((struct gw_route *)0)->execution];
    enum gw_pool_kind pool;
    bool streaming, headed;
    bool given; /* the id is the client's */
    bool ended; /* it was found ended already, and is asked for its outcome */
    uint64_t allocation_us;
    bool allocated; /* this request made the session */
    char guid[BASE_TEXT_UUID_MAX];
    uint64_t after; /* events up to here are known to the client */
};

static struct exec *make_state(struct gw_task *t)
{
    struct exec *s = calloc(1, sizeof *s);
    if (s == NULL) {
        gw_task_out_of_memory(t);
        return NULL;
    }
    t->state = s;
    gw_stream_init(&s->stream, t);
    s->view.identifier = &t->route.id;
    s->view.id = s->id_text;
    return s;
}

void gw_exec_gone(struct gw_task *t)
{
    struct exec *s = t->state;
    if (s != NULL) {
        gw_stream_deinit(&s->stream);
        gw_exec_body_deinit(&s->body);
        gw_outcome_deinit(&s->outcome);
        free(s);
    }
}

static void fail(struct gw_task *t, const struct gw_fault *f)
{
    struct exec *s = t->state;
    if (s->stream.begun) {
        gw_stream_end(&s->stream, f);
    } else {
        gw_task_fail(t, f);
    }
}

/* ---- ids ---- */

static bool copy_id(struct exec *s, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        bool alnum =
            (text[i] >= '0' && text[i] <= '9') || ((text[i] | 32) >= 'a' && (text[i] | 32) <= 'z');
        if (!alnum && strchr("-._:~", text[i]) == NULL) {
            return false;
        }
    }
    if (n == 0 || n >= sizeof s->id_text) {
        return false;
    }
    memcpy(s->id_text, text, n);
    s->id_text[n] = '\0';
    return true;
}

static uint64_t mark(const struct gw_task *t, const void *data, size_t n)
{
    return base_hash_sip24(gw_api_opt(t->api)->cluster_key, data, n);
}

static void number_id(struct exec *s, const char *kind, uint64_t one, uint64_t two)
{
    (void)snprintf(s->id_text, sizeof s->id_text, "%s-%016llx%016llx", kind,
        (unsigned long long)one, (unsigned long long)two);
}

/* Any text may be a key; what could not be in a URL becomes a number. */
static bool copy_key(struct gw_task *t, struct exec *s, const char *key, size_t n)
{
    char text[KEY_MAX + 1];
    if (copy_id(s, key, n)) {
        return true;
    }
    if (n == 0 || n > KEY_MAX) {
        return false;
    }
    memcpy(text, key, n);
    text[n] = '\0';
    number_id(s, "key", mark(t, text, n), mark(t, text, n + 1));
    return true;
}

/* Chosen by the client, or by us. Idempotency-Key (draft-ietf-httpapi-idempotency-key-header) is
 * another name of the same; its value is a string in quotes, which many clients leave out. */
static bool choose_id(struct gw_task *t, struct exec *s)
{
    const struct gw_request *r = gw_exchange_request(t->x);
    const char *given = gw_http_field(r, "operation-id");
    const char *key = gw_http_field(r, "idempotency-key");
    s->given = given != NULL || key != NULL;
    if (!s->given) {
        gw_task_uuid(t, s->id_text);
        return true;
    }
    if (given != NULL && !copy_id(s, given, strlen(given))) {
        return false;
    }
    if (key == NULL) {
        return true;
    }
    size_t n = strlen(key);
    if (n >= 2 && key[0] == '"' && key[n - 1] == '"') {
        key++;
        n -= 2;
    }
    return given == NULL ? copy_key(t, s, key, n)
                         : strlen(given) == n && memcmp(given, key, n) == 0;
}

/* False: the task has failed. */
static bool take_id(struct gw_task *t, struct exec *s)
{
    struct gw_fault f;
    bool good = choose_id(t, s);
    if (!good) {
        GW_FAULT(&f, 400, "SessionRequestValidationFailed",
            "operation-id has 1 to %zu letters, digits and '-._:~', Idempotency-Key 1 to %d "
            "characters; where both are given they are the same.",
            sizeof s->id_text - 1, KEY_MAX);
        gw_task_fail(t, &f);
    }
    return good;
}

static enum gw_shape shape_of(const struct gw_task *t, const struct exec *s)
{
    if (t->route.legacy) {
        return t->route.python ? GW_SHAPE_PYTHON : GW_SHAPE_LEGACY;
    }
    return s->body.shell || (t->route.op != GW_OP_EXECUTE && s->pool == GW_POOL_SHELL)
               ? GW_SHAPE_SHELL
               : GW_SHAPE_FLAT;
}

/* ---- answers ---- */

/* Times as the public service sends them, in milliseconds. */
static void time_fields(struct gw_task *t, const struct exec *s)
{
    uint64_t now = base_clock_mono_ns();
    uint64_t all = (now - t->begun_ns) / BASE_NS_PER_MS;
    struct gw_fields *f = &t->fields;
    gw_fields_number(f, "x-ms-overall-execution-time", all);
    gw_fields_number(f, "x-ms-preparation-time", (t->sent_ns - t->begun_ns) / BASE_NS_PER_MS);
    gw_fields_number(f, "x-ms-execution-request-time", (now - t->sent_ns) / BASE_NS_PER_MS);
    gw_fields_number(f, "x-ms-execution-read-response-time", 0);
    gw_fields_number(f, "x-ms-total-execution-service-time", all);
    gw_fields_number(f, "x-ms-container-execution-duration", s->outcome.duration_us / 1000);
    gw_fields_number(f, "x-ms-allocation-time", s->allocation_us / 1000);
    gw_fields_number(f, "x-ms-allocation-retries", 0);
    gw_fields_text(f, "x-ms-new-allocation", s->allocated ? "true" : "false");
    if (s->guid[0] != '\0') {
        gw_fields_text(f, "x-ms-session-guid", s->guid);
    }
}

static void answer(struct gw_task *t)
{
    struct exec *s = t->state;
    if (s->watch != NULL) {
        s->watch->done(t, &s->outcome);
        return;
    }
    struct base_buf body = {0};
    bool running = s->outcome.done == GW_DONE_NONE && !s->view.lost;
    /* The version of 2024-10-02 defines 202 as its only success. */
    int status = t->route.op == GW_OP_EXECUTE && !t->route.legacy &&
                         (running || t->route.version == GW_VERSION_2024_10)
                     ? 202
                     : 200;
    s->view.shape = shape_of(t, s);
    s->view.text_results = t->route.version == GW_VERSION_2024_10;
    s->view.asynchronous = s->view.asynchronous || s->body.asynchronous;
    if (t->route.op == GW_OP_EXECUTE) {
        time_fields(t, s);
    }
    if (s->outcome.truncated) {
        gw_fields_text(&t->fields, "x-warren-truncated", "true");
    }
    if (gw_render_execution(&s->view, &s->outcome, &body) < 0) {
        gw_task_out_of_memory(t);
    } else {
        gw_task_answer(t, status, &body);
    }
    base_buf_deinit(&body);
}

/* ---- the worker's messages ---- */

static void take_session(struct gw_task *t, const Warren__Reply *r)
{
    struct exec *s = t->state;
    const Warren__Session *session = r->session;
    s->outcome.truncated = s->outcome.truncated || r->truncated;
    s->outcome.environment_restarted = s->outcome.environment_restarted || gw_task_anew(session);
    if (session == NULL || s->guid[0] != '\0' || t->answered) {
        return;
    }
    struct gw_session facts;
    gw_wire_session(session, s->guid, &facts);
    s->allocation_us = session->allocation_us;
    s->allocated = session->new_allocation;
    gw_task_session(t, session);
}

static void on_head(void *owner, const Warren__Reply *r)
{
    struct gw_task *t = owner;
    struct exec *s = t->state;
    s->headed = true;
    take_session(t, r);
    if (r->replayed && !s->ended) {
        gw_fields_text(&t->fields, "x-warren-replayed", "true");
    }
    if (s->streaming) {
        gw_stream_begin(&s->stream);
    }
}

static void on_event(void *owner, const Warren__GuestEvent *e, uint32_t bytes)
{
    struct gw_task *t = owner;
    struct exec *s = t->state;
    if (s->streaming && e->seq > s->after) {
        gw_stream_event(&s->stream, e, bytes);
        return;
    }
    struct gw_event event;
    gw_wire_event(e, &event);
    if (!s->streaming && (!gw_task_hold(t, bytes) || gw_outcome_add(&s->outcome, &event) < 0)) {
        gw_call_cancel(t->call); /* the outcome stays at the worker, under its id */
        t->call = NULL;
        gw_task_out_of_memory(t);
        return;
    }
    if (s->watch != NULL) {
        s->watch->event(t, &event, bytes);
        return;
    }
    gw_call_event_done(t->call, bytes);
}

static void end_streaming(struct gw_task *t, const Warren__Reply *r)
{
    struct exec *s = t->state;
    struct gw_fault f;
    if (r->status == WARREN__STATUS__STATUS_OK) {
        gw_stream_begin(&s->stream); /* all events were known to the client */
        gw_stream_end(&s->stream, NULL);
        return;
    }
    gw_wire_fault(r, &f);
    fail(t, &f);
}

static void attach(struct gw_task *t, bool wait);

static void on_end(void *owner, const Warren__Reply *r)
{
    struct gw_task *t = owner;
    struct exec *s = t->state;
    struct gw_fault f;
    t->call = NULL;
    take_session(t, r);
    if (s->headed && r->status == WARREN__STATUS__STATUS_NOT_FOUND) { /* it was there */
        GW_FAULT(&f, 502, "ExecutionOutcomeUnknown",
            "The worker lost the execution. The code may have run; it is not run again.");
        fail(t, &f);
        return;
    }
    if (s->streaming) {
        end_streaming(t, r);
        return;
    }
    s->view.waiting = r->status == WARREN__STATUS__STATUS_OK &&
                      t->route.op == GW_OP_EXECUTION_GET &&
                      r->exec_state == WARREN__EXEC_STATE__EXEC_NONE;
    bool unknown = r->status == WARREN__STATUS__STATUS_OUTCOME_UNKNOWN;
    if (unknown && t->route.op == GW_OP_EXECUTION_GET) {
        s->view.lost = true; /* asked for its state, this is it */
        answer(t);
        return;
    }
    if (r->status != WARREN__STATUS__STATUS_OK) {
        gw_wire_fault(r, &f);
        gw_task_fail(t, &f);
    } else if (s->outcome.done == GW_DONE_NONE && r->exec_state == WARREN__EXEC_STATE__EXEC_DONE &&
               s->body.asynchronous && !s->ended) {
        s->ended = true; /* an id that was sent before, or what was canceled before it began */
        attach(t, false);
    } else if (s->outcome.done == GW_DONE_NONE && r->exec_state == WARREN__EXEC_STATE__EXEC_DONE) {
        GW_FAULT(&f, 502, "ExecutionOutcomeUnknown", "The end of the execution did not arrive.");
        gw_task_fail(t, &f);
    } else {
        answer(t);
    }
}

static void on_failed(void *owner, enum gw_call_failure why)
{
    struct gw_task *t = owner;
    struct exec *s = t->state;
    t->call = NULL;
    if (s->stream.begun) {
        struct gw_fault f;
        GW_FAULT(&f, 502, "ConnectionClosed",
            "The connection to the worker was lost; resume with Last-Event-ID.");
        gw_stream_end(&s->stream, &f);
        return;
    }
    gw_task_failure(t, why);
}

static const struct gw_call_ops call_ops = {
    .head = on_head, .event = on_event, .end = on_end, .failed = on_failed};

/* ---- run ---- */

static Warren__Kernel kernel_of(const struct exec *s)
{
    if (s->watch != NULL) {
        return s->watch->kernel;
    }
    if (s->body.shell) {
        return WARREN__KERNEL__KERNEL_SHELL;
    }
    return s->pool == GW_POOL_NODE ? WARREN__KERNEL__KERNEL_NODE : WARREN__KERNEL__KERNEL_PYTHON;
}

static void run(struct gw_task *t, enum gw_pool_kind pool)
{
    struct exec *s = t->state;
    struct gw_fault f;
    s->pool = pool;
    if (pool == GW_POOL_CONTAINER) {
        GW_FAULT(&f, 400, "SessionRequestNotSupported", "The pool runs containers, not code.");
        gw_task_fail(t, &f);
        return;
    }
    if (pool == GW_POOL_SHELL && !s->body.shell) {
        GW_FAULT(&f, 400, "SessionPropertiesMissing",
            "A shell pool needs 'shellCommand' or 'execCommandAndArgs'.");
        gw_task_fail(t, &f);
        return;
    }
    Warren__Request r;
    Warren__Key key;
    Warren__Exec exec = WARREN__EXEC__INIT;
    bool capped = t->route.version == GW_VERSION_2025_10 && !t->route.legacy;
    uint64_t cap = s->body.output_max >= 0 ? (uint64_t)s->body.output_max
                   : capped                ? OUTPUT_DEFAULT_2025_10
                                           : OUTPUT_DEFAULT;
    gw_outcome_init(&s->outcome, cap, cap);
    gw_task_request(t, &r, &key);
    r.op_case = WARREN__REQUEST__OP_EXEC;
    r.exec = &exec;
    exec.id.data = s->id;
    exec.id.len = sizeof s->id;
    exec.kernel = kernel_of(s);
    exec.code.data = (uint8_t *)s->body.code;
    exec.code.len = s->body.code_n;
    exec.timeout_ms = s->body.timeout_ms == 0 ? PROTO_TIMEOUT_MS_DEFAULT : s->body.timeout_ms;
    exec.stdout_max = exec.stderr_max = cap;
    exec.fresh_kernel = s->body.fresh_kernel;
    exec.n_argv = (size_t)s->body.argv_n;
    exec.argv = s->body.argv;
    exec.given = s->given;
    exec.detach = s->body.asynchronous && !s->streaming;
    if (s->watch == NULL) {
        gw_task_operation_fields(t, s->id_text);
    }
    struct gw_call_options opt = {
        .kind = GW_CALL_EXEC, .deadline_ms = exec.timeout_ms + ALLOCATE_MS, .ops = &call_ops};
    (void)gw_task_call(t, &r, &opt);
}

static uint64_t last_event_id(const struct gw_task *t)
{
    const char *text = gw_http_field(gw_exchange_request(t->x), "last-event-id");
    uint64_t id = text == NULL ? 0 : strtoull(text, NULL, 10);
    return id > t->route.after ? id : t->route.after;
}

void gw_exec_begin(struct gw_task *t, const void *json, size_t n, const struct gw_exec_watch *watch)
{
    struct gw_fault f;
    struct exec *s = make_state(t);
    if (s == NULL) {
        return;
    }
    s->watch = watch;
    if (!take_id(t, s)) {
        return;
    }
    if (s->given) { /* MCP clients set headers per connection: other code is another call */
        char kind[16];
        (void)snprintf(kind, sizeof kind, "mcp-%d", (int)watch->kernel);
        number_id(s, kind, mark(t, json, n), mark(t, s->id_text, strlen(s->id_text)));
    }
    if (gw_exec_body_parse(json, n, &s->body, &f) < 0) {
        gw_task_fail(t, &f);
        return;
    }
    gw_task_exec_id(t, s->id_text, s->id);
    gw_task_pool(t, run);
}

static void start(struct gw_task *t)
{
    struct gw_fault f;
    struct exec *s = make_state(t);
    if (s == NULL) {
        return;
    }
    if (!take_id(t, s)) {
        return;
    }
    if (gw_exec_body_parse(base_buf_data(&t->body), base_buf_size(&t->body), &s->body, &f) < 0) {
        gw_task_fail(t, &f);
        return;
    }
    const char *accept = gw_http_field(gw_exchange_request(t->x), "accept");
    s->streaming =
        t->route.stream || (accept != NULL && gw_http_list_has(accept, "text/event-stream"));
    s->after = last_event_id(t);
    gw_task_exec_id(t, s->id_text, s->id);
    gw_task_pool(t, run);
}

static void drain(struct gw_task *t)
{
    struct exec *s = t->state;
    if (s != NULL) {
        gw_stream_drain(&s->stream);
    }
}

const struct gw_task_ops gw_op_execute = {
    .start = start, .drain = drain, .gone = gw_exec_gone, .body_max = GW_EXEC_BODY_BYTES_MAX};

/* ---- look, follow, cancel ---- */

static void attach(struct gw_task *t, bool wait)
{
    struct exec *s = t->state;
    Warren__Request r;
    Warren__Key key;
    Warren__ExecAttach q = WARREN__EXEC_ATTACH__INIT;
    gw_task_request(t, &r, &key);
    r.no_allocate = true;
    r.op_case = WARREN__REQUEST__OP_EXEC_ATTACH;
    r.exec_attach = &q;
    q.id.data = s->id;
    q.id.len = sizeof s->id;
    q.after_seq = s->after;
    q.wait = wait;
    struct gw_call_options opt = {.kind = wait ? GW_CALL_EXEC : GW_CALL_READ,
        .deadline_ms = wait ? PROTO_TIMEOUT_MS_MAX + ALLOCATE_MS : OTHER_MS,
        .ops = &call_ops};
    (void)gw_task_call(t, &r, &opt);
}

static struct exec *existing(struct gw_task *t)
{
    struct exec *s = make_state(t);
    if (s != NULL) {
        (void)base_text_copy(s->id_text, sizeof s->id_text, t->route.execution);
        gw_task_exec_id(t, s->id_text, s->id);
        gw_outcome_init(&s->outcome, OUTPUT_DEFAULT, OUTPUT_DEFAULT);
    }
    return s;
}

static void get_now(struct gw_task *t, enum gw_pool_kind pool)
{
    struct exec *s = t->state;
    s->pool = pool;
    s->view.asynchronous = true;
    gw_task_operation_fields(t, s->id_text);
    attach(t, false);
}

static void get_start(struct gw_task *t)
{
    if (existing(t) != NULL) {
        gw_task_pool(t, get_now);
    }
}

static void events_start(struct gw_task *t)
{
    struct exec *s = existing(t);
    if (s != NULL) {
        s->streaming = true;
        s->after = last_event_id(t);
        attach(t, true);
    }
}

static void on_cancelled(void *owner, const Warren__Reply *r)
{
    struct gw_task *t = owner;
    t->call = NULL;
    if (r->status != WARREN__STATUS__STATUS_OK) {
        struct gw_fault f;
        gw_wire_fault(r, &f);
        gw_task_fail(t, &f);
        return;
    }
    /* What it has come to is asked for with GET. */
    gw_task_respond(t, 202, 0);
    gw_exchange_end(t->x);
}

struct cancel {
    Warren__Request r;
    Warren__Key key;
    Warren__ExecCancel q;
};

static void fill_cancel(struct gw_task *t, struct cancel *c)
{
    struct exec *s = t->state;
    gw_task_request(t, &c->r, &c->key);
    warren__exec_cancel__init(&c->q);
    c->r.no_allocate = true;
    c->r.op_case = WARREN__REQUEST__OP_EXEC_CANCEL;
    c->r.exec_cancel = &c->q;
    c->q.id.data = s->id;
    c->q.id.len = sizeof s->id;
}

static void stop_end(void *owner, const Warren__Reply *r)
{
    (void)owner;
    (void)r;
}

static void stop_failed(void *owner, enum gw_call_failure why)
{
    (void)owner;
    (void)why;
}

static void send_cancel(struct gw_task *t)
{
    static const struct gw_call_ops ops = {.end = stop_end, .failed = stop_failed};
    struct exec *s = t->state;
    struct cancel c;
    struct gw_call *call = NULL;
    int home = gw_calls_home(gw_api_calls(t->api), t->route.pool, &t->route.id);
    if (home < 0) {
        return;
    }
    fill_cancel(t, &c);
    c.r.expect_generation = 0;
    /* Behind the request, on the connection that it went over. */
    struct gw_call_options opt = {.worker = (unsigned)home,
        .kind = GW_CALL_READ,
        .bulk = s->body.code_n > PROTO_CTL_BYTES_MAX / 2,
        .deadline_ms = OTHER_MS,
        .request = &c.r,
        .ops = &ops};
    (void)gw_call_start(gw_api_calls(t->api), &opt, &call);
}

bool gw_exec_stop(struct gw_task *t)
{
    struct exec *s = t->state;
    if (s == NULL || t->call == NULL) {
        return false;
    }
    bool early = !s->headed;
    if (early) {
        /* It may wait for a microVM, and the worker does not know its id yet. The worker hears of
         * this first: then it has begun, and the cancel finds it, or it never will. */
        gw_call_cancel(t->call);
        t->call = NULL;
    }
    send_cancel(t);
    return early;
}

void gw_exec_canceled(struct gw_task *t)
{
    struct exec *s = t->state;
    struct gw_event done = {.seq = s->outcome.last_seq + 1,
        .kind = GW_EVENT_DONE,
        .error_name = "",
        .error_value = "",
        .done = GW_DONE_INTERRUPTED};
    if (gw_outcome_add(&s->outcome, &done) < 0) {
        gw_task_out_of_memory(t);
    } else {
        answer(t);
    }
}

static void cancel_start(struct gw_task *t)
{
    static const struct gw_call_ops ops = {.end = on_cancelled, .failed = on_failed};
    struct exec *s = existing(t);
    struct cancel c;
    if (s == NULL) {
        return;
    }
    fill_cancel(t, &c);
    gw_task_operation_fields(t, s->id_text);
    struct gw_call_options opt = {.kind = GW_CALL_READ, .deadline_ms = OTHER_MS, .ops = &ops};
    (void)gw_task_call(t, &c.r, &opt);
}

const struct gw_task_ops gw_op_execution_get = {.start = get_start, .gone = gw_exec_gone};
const struct gw_task_ops gw_op_execution_events = {
    .start = events_start, .drain = drain, .gone = gw_exec_gone};
const struct gw_task_ops gw_op_execution_cancel = {
    .start = cancel_start, .gone = gw_exec_gone, .body_max = 64 << 10};
