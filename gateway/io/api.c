#include "gateway/io/api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/core/rate.h"
#include "gateway/io/mcp.h"
#include "gateway/io/task.h"
#include "proto/base/clock.h"
#include "proto/base/hash.h"
#include "proto/base/rand.h"
#include "proto/base/text.h"
#include "scheduler/core/place.h"

enum {
    HELD_BYTES_MAX = 32 << 20,    /* of all requests that wait for their issuer's keys */
    MEMORY_BYTES_MAX = 512 << 20, /* see memory_max */
};

struct gw_api {
    struct gw_api_options opt;
    struct gw_api_stats stats;
    struct gw_pools pools;
    size_t bodies, held;
    struct gw_rate tenants, rated_pools;
    struct gw_mcp *mcp_running;
    struct base_hash_rng traces; /* names of requests: no secrets */
    uint8_t random[512];         /* for names of executions, each byte used once */
    size_t random_left;
};

struct ev_loop *gw_api_loop(const struct gw_api *api)
{
    return api->opt.loop;
}

struct gw_pools *gw_api_pools(struct gw_api *api)
{
    return &api->pools;
}

struct gw_mcp **gw_api_mcp_running(struct gw_api *api)
{
    return &api->mcp_running;
}

const struct gw_api_options *gw_api_opt(const struct gw_api *api)
{
    return &api->opt;
}

struct gw_calls *gw_api_calls(const struct gw_api *api)
{
    return api->opt.calls;
}

/* ---- answers ---- */

void gw_task_respond(struct gw_task *t, int status, int64_t length)
{
    t->answered = true;
    t->status = status;
    gw_exchange_respond(t->x, status, t->fields.f, t->fields.n, length);
}

void gw_task_upgrade(struct gw_task *t, const char *protocol)
{
    t->answered = t->upgraded = true;
    t->status = 101;
    gw_exchange_upgrade(t->x, protocol, t->fields.f, t->fields.n);
}

void gw_task_answer(struct gw_task *t, int status, const struct base_buf *json)
{
    if (t->answered) {
        return;
    }
    gw_fields_text(&t->fields, "content-type", "application/json; charset=utf-8");
    gw_task_respond(t, status, (int64_t)base_buf_size(json));
    (void)gw_exchange_write(t->x, base_buf_data(json), base_buf_size(json));
    gw_exchange_end(t->x);
}

void gw_task_fail(struct gw_task *t, const struct gw_fault *fault)
{
    t->code = fault->code;
    if (t->failed != NULL) {
        void (*failed)(struct gw_task * t, const struct gw_fault *fault) = t->failed;
        t->failed = NULL; /* an error while telling an error is told in the plain way */
        failed(t, fault);
        return;
    }
    if (t->answered) {
        gw_exchange_abort(t->x);
        return;
    }
    struct base_buf body = {0};
    gw_fields_text(&t->fields, "x-ms-error-code", fault->code);
    if (fault->retry_after_s > 0) {
        gw_fields_add(&t->fields, "retry-after", "%u", fault->retry_after_s);
    }
    if (fault->allow != NULL) {
        gw_fields_text(&t->fields, "allow", fault->allow);
    }
    /* To an MCP client a challenge means OAuth, which there is not. */
    if (fault->status == 401 && t->route.op != GW_OP_MCP) {
        gw_fields_text(&t->fields, "www-authenticate", "Bearer");
    }
    (void)gw_fault_render(fault, t->trace, &body);
    gw_task_answer(t, fault->status, &body);
    base_buf_deinit(&body);
}

bool gw_task_hold(struct gw_task *t, size_t n)
{
    struct gw_api *api = t->api;
    if (n > api->opt.memory_max || api->bodies > api->opt.memory_max - n) {
        return false;
    }
    api->bodies += n;
    t->held += n;
    return true;
}

void gw_task_release(struct gw_task *t, size_t n)
{
    t->api->bodies -= n;
    t->held -= n;
}

void gw_task_out_of_memory(struct gw_task *t)
{
    struct gw_fault f;
    GW_FAULT(&f, 503, "ServiceUnavailable", "Out of memory.");
    f.retry_after_s = 1;
    gw_task_fail(t, &f);
}

bool gw_task_anew(const Warren__Session *s)
{
    return s != NULL && s->new_allocation && s->recreated != NULL && s->recreated[0] != '\0';
}

void gw_task_session(struct gw_task *t, const Warren__Session *s)
{
    if (s == NULL) {
        return;
    }
    gw_fields_number(&t->fields, "x-warren-generation", s->generation);
    if (s->isolation != NULL && s->isolation[0] != '\0') {
        gw_fields_text(&t->fields, "x-warren-isolation", s->isolation);
    }
    if (s->recreated != NULL && s->recreated[0] != '\0') {
        gw_fields_text(&t->fields, "x-warren-recreated", s->recreated);
    }
}

/* ---- asking workers ---- */

void gw_task_request(struct gw_task *t, Warren__Request *r, Warren__Key *key)
{
    warren__request__init(r);
    warren__key__init(key);
    key->pool = t->route.pool;
    key->identifier.data = (uint8_t *)t->route.id.text;
    key->identifier.len = t->route.id.len;
    r->key = key;
    if (t->paid) {
        r->tenant.data = t->tenant.id;
        r->tenant.len = sizeof t->tenant.id;
    }
    const struct gw_request *head = gw_exchange_request(t->x);
    const char *trace = gw_http_field(head, "traceparent");
    if (trace != NULL && strlen(trace) <= 64) {
        r->trace_parent = (char *)(uintptr_t)trace;
    }
    const char *generation = gw_http_field(head, "x-warren-if-generation");
    r->expect_generation = generation == NULL ? 0 : strtoull(generation, NULL, 10);
}

int gw_task_call(struct gw_task *t, const Warren__Request *r, const struct gw_call_options *opt)
{
    static const struct gw_calls_asked nobody;
    struct gw_calls *c = t->api->opt.calls;
    int home = gw_calls_home(c, t->route.pool, &t->route.id);
    return gw_task_call_at(
        t, r->key->identifier.len == 0 ? gw_calls_any(c, home, &nobody) : home, r, opt);
}

int gw_task_call_at(
    struct gw_task *t, int worker, const Warren__Request *r, const struct gw_call_options *opt)
{
    struct gw_call_options o = *opt;
    o.worker = worker < 0 ? 0 : (unsigned)worker;
    o.request = r;
    o.owner = t;
    t->sent_ns = base_clock_mono_ns();
    int rc = worker < 0 ? BASE_ENOTFOUND : gw_call_start(t->api->opt.calls, &o, &t->call);
    if (rc == BASE_ENOTFOUND) {
        gw_task_failure(t, GW_CALL_UNREACHABLE);
    } else if (rc == BASE_ETOOBIG) {
        struct gw_fault f;
        GW_FAULT(&f, 413, "RequestTooLarge", "The request is too large.");
        gw_task_fail(t, &f);
    } else if (rc < 0) {
        gw_task_out_of_memory(t);
    }
    return rc;
}

void gw_task_failure(void *task, enum gw_call_failure why)
{
    struct gw_task *t = task;
    struct gw_fault f;
    bool runs = t->route.op == GW_OP_EXECUTE || (t->mcp != NULL && t->mcp->runs);
    t->call = NULL;
    if (why == GW_CALL_UNREACHABLE) {
        GW_FAULT(&f, 503, "ServiceUnavailable", "The worker of this session is not connected.");
        f.retry_after_s = 1;
    } else if (runs && why == GW_CALL_LOST) {
        GW_FAULT(&f, 502, "ExecutionOutcomeUnknown",
            "The connection to the worker was lost. The code may have run; it is not run again.");
    } else if (why == GW_CALL_LOST) {
        GW_FAULT(&f, 503, "ServiceUnavailable",
            "The connection to the worker was lost; whether the operation was done is not known.");
        f.retry_after_s = 1;
    } else {
        GW_FAULT(&f, 504, "Timeout", "The worker did not answer in time.%s",
            runs ? " The code may still run." : "");
    }
    gw_task_fail(t, &f);
}

/* ---- executions ---- */

void gw_task_uuid(struct gw_task *t, char text[BASE_TEXT_UUID_MAX])
{
    struct gw_api *api = t->api;
    uint8_t raw[16];
    if (api->random_left < sizeof raw) {
        base_rand_bytes(api->random, sizeof api->random);
        api->random_left = sizeof api->random;
    }
    api->random_left -= sizeof raw;
    memcpy(raw, api->random + api->random_left, sizeof raw);
    base_rand_uuid_of(raw, text);
}

static uint64_t hash_part(const struct gw_task *t, uint8_t part, const char *text)
{
    char buf[1 + sizeof t->route.pool + PROTO_IDENTIFIER_MAX + 1 + sizeof t->route.execution];
    size_t pool_n = strlen(t->route.pool) + 1, text_n = strnlen(text, sizeof t->route.execution);
    size_t n = 0;
    buf[n++] = (char)part;
    memcpy(buf + n, t->route.pool, pool_n);
    n += pool_n;
    memcpy(buf + n, t->route.id.text, t->route.id.len);
    n += t->route.id.len;
    buf[n++] = '\0';
    memcpy(buf + n, text, text_n);
    return base_hash_sip24(t->api->opt.cluster_key, buf, n + text_n);
}

void gw_task_exec_id(const struct gw_task *t, const char *text, uint8_t id[PROTO_EXEC_ID_BYTES])
{
    for (int half = 0; half < 2; half++) {
        uint64_t h = hash_part(t, (uint8_t)(half + 1), text);
        memcpy(id + (size_t)half * 8, &h, 8);
    }
}

void gw_task_operation_fields(struct gw_task *t, const char *id)
{
    char identifier[3 * PROTO_IDENTIFIER_MAX + 1], name[3 * sizeof t->route.execution + 1];
    const struct gw_request *r = gw_exchange_request(t->x);
    const char *version = t->route.version == GW_VERSION_2025_10   ? "2025-10-02-preview"
                          : t->route.version == GW_VERSION_2024_10 ? "2024-10-02-preview"
                                                                   : "2025-02-02-preview";
    gw_target_escape(t->route.id.text, t->route.id.len, identifier);
    gw_target_escape(id, strlen(id), name);
    gw_fields_text(&t->fields, "operation-id", id);
    const char *path = r->target;
    size_t prefix = t->route.prefix_len;
    if (path[0] != '/') { /* absolute form: scheme and host are in it */
        gw_fields_add(&t->fields, "operation-location",
            "%.*s/executions/%s?api-version=%s&identifier=%s", (int)prefix, path, name, version,
            identifier);
        return;
    }
    const char *scheme = r->host[0] == '\0' ? "" : r->secure ? "https://" : "http://";
    gw_fields_add(&t->fields, "operation-location",
        "%s%s%.*s/executions/%s?api-version=%s&identifier=%s", scheme, r->host, (int)prefix, path,
        name, version, identifier);
}

/* ---- the life of a task ---- */

static const struct gw_task_ops *const operations[] = {
    [GW_OP_EXECUTE] = &gw_op_execute,
    [GW_OP_EXECUTION_GET] = &gw_op_execution_get,
    [GW_OP_EXECUTION_EVENTS] = &gw_op_execution_events,
    [GW_OP_EXECUTION_CANCEL] = &gw_op_execution_cancel,
    [GW_OP_FILES_LIST] = &gw_op_files_list,
    [GW_OP_FILE_UPLOAD] = &gw_op_file_upload,
    [GW_OP_FILE_STAT] = &gw_op_file_stat,
    [GW_OP_FILE_CONTENT] = &gw_op_file_content,
    [GW_OP_FILE_DELETE] = &gw_op_file_delete,
    [GW_OP_SESSION_GET] = &gw_op_session_get,
    [GW_OP_SESSION_DELETE] = &gw_op_session_delete,
    [GW_OP_SESSIONS_LIST] = &gw_op_sessions_list,
    [GW_OP_MANAGEMENT_GET] = &gw_op_session_get,
    [GW_OP_MANAGEMENT_LIST] = &gw_op_sessions_list,
    [GW_OP_MANAGEMENT_STOP] = &gw_op_session_delete,
    [GW_OP_METADATA] = &gw_op_metadata,
    [GW_OP_TERMINAL] = &gw_op_terminal,
    [GW_OP_MCP] = &gw_op_mcp,
    [GW_OP_MCP_FETCH] = &gw_op_mcp_fetch,
    [GW_OP_MCP_ROTATE] = &gw_op_mcp_rotate,
};

/* Text of others as one word of a log line, cut. */
enum { WORD_CHARS = 64 };
struct word {
    char text[3 * WORD_CHARS + 1];
};

static const char *word(const char *text, struct word *w)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t n = 0;
    for (const char *p = text == NULL ? "" : text; *p != '\0' && p < text + WORD_CHARS; p++) {
        unsigned char c = (unsigned char)*p;
        if (c > ' ' && c < 0x7f && c != '=' && c != '%' && c != '"') {
            w->text[n++] = (char)c;
        } else {
            w->text[n++] = '%';
            w->text[n++] = digits[c >> 4];
            w->text[n++] = digits[c & 15];
        }
    }
    w->text[n] = '\0';
    return n == 0 ? "-" : w->text;
}

static void audit(const struct gw_task *t)
{
    struct word issuer, subject, tenant;
    uint64_t hash = 0;
    char session[17] = "-";
    if (t->route.id.len > 0) { /* the identifier itself is a secret */
        (void)sched_place_key(
            t->api->opt.cluster_key, t->route.pool, t->route.id.text, t->route.id.len, &hash);
        (void)snprintf(session, sizeof session, "%016llx", (unsigned long long)hash);
    }
    LOG_INFO(t->api->opt.log,
        "request op=%s pool=%s session=%s iss=%s sub=%s tenant=%s status=%d code=%s us=%llu "
        "trace=%s%s",
        gw_route_op_name(t->route.op), t->route.pool[0] == '\0' ? "-" : t->route.pool, session,
        word(t->who.issuer, &issuer), word(t->who.subject, &subject), word(t->who.tenant, &tenant),
        t->status, t->code, (unsigned long long)((base_clock_mono_ns() - t->begun_ns) / 1000),
        t->trace, t->answered ? "" : " client-gone");
}

/* What comes while the task waits for its issuer's keys is not consumed: a window at most. */
static void hold(struct gw_task *t, const uint8_t *data, size_t n)
{
    if (t->api->held + n > HELD_BYTES_MAX || base_buf_add(&t->body, data, n) < 0) {
        size_t held = base_buf_size(&t->body);
        gw_auth_unwait(&t->wait);
        t->api->held -= held;
        base_buf_deinit(&t->body);
        gw_task_out_of_memory(t);
        gw_exchange_consume(t->x, held + n);
        return;
    }
    t->api->held += n;
}

static void on_body(void *owner, const uint8_t *data, size_t n)
{
    struct gw_task *t = owner;
    struct gw_api *api = t->api;
    if (t->wait.list != NULL && !t->answered) {
        hold(t, data, n);
        return;
    }
    if ((t->answered && !t->upgraded) || t->ops == NULL) {
        gw_exchange_consume(t->x, n);
        return;
    }
    if (t->ops->body != NULL) {
        t->ops->body(t, data, n);
        return;
    }
    gw_exchange_consume(t->x, n);
    if (base_buf_size(&t->body) + n > t->ops->body_max) {
        struct gw_fault f;
        GW_FAULT(
            &f, 413, "RequestTooLarge", "The body is longer than %zu bytes.", t->ops->body_max);
        gw_task_fail(t, &f);
    } else if (api->bodies + n > api->opt.memory_max || base_buf_add(&t->body, data, n) < 0) {
        gw_task_out_of_memory(t);
    } else {
        api->bodies += n;
    }
}

static void on_end(void *owner)
{
    struct gw_task *t = owner;
    t->complete = true;
    if (!t->answered && t->ops != NULL) {
        t->ops->start(t);
    }
}

static void on_drain(void *owner)
{
    struct gw_task *t = owner;
    if (t->ops != NULL && t->ops->drain != NULL) {
        t->ops->drain(t);
    }
}

static void on_stopping(void *owner)
{
    struct gw_task *t = owner;
    if (t->ops != NULL && t->ops->stopping != NULL) {
        t->ops->stopping(t);
    }
}

static void on_gone(void *owner)
{
    struct gw_task *t = owner;
    if (t->ops != NULL && t->ops->leaving != NULL) {
        t->ops->leaving(t);
    }
    gw_call_cancel(t->call);
    t->call = NULL;
    size_t *counted = t->wait.list != NULL ? &t->api->held : &t->api->bodies;
    *counted -= base_buf_size(&t->body);
    t->api->bodies -= t->held;
    gw_auth_unwait(&t->wait);
    if (t->ops != NULL && t->ops->gone != NULL) {
        t->ops->gone(t);
    }
    audit(t);
    t->api->stats.failed += t->status >= 400;
    t->api->stats.open--;
    base_buf_deinit(&t->body);
    free(t);
}

/* In a cluster members count, known to this gateway or not, and no others: one that was removed
 * comes back as a member or not at all. */
static void answer_health(struct gw_task *t)
{
    const struct gw_calls *c = t->api->opt.calls;
    struct base_buf b = {0};
    unsigned n = 0, ready = 0;
    for (unsigned i = 0; i < gw_calls_workers(c); i++) {
        bool counts = gw_calls_may_hold(c, i);
        n += counts;
        ready += counts && gw_calls_ready(c, i);
    }
    bool serves = ready > 0 && gw_calls_view(c) != 0;
    bool healthy = serves && ready == n && gw_calls_missing(c) == NULL;
    (void)base_buf_printf(&b, "{\"status\":\"%s\",\"workers\":%u,\"workersConnected\":%u}",
        healthy ? "healthy" : "degraded", n, ready);
    gw_task_answer(t, serves ? 200 : 503, &b);
    base_buf_deinit(&b);
}

static void answer_options(struct gw_task *t, enum gw_route_fault fault)
{
    struct gw_fault f;
    if (fault != GW_ROUTE_METHOD) {
        gw_fault_of_route(&f, fault == GW_ROUTE_OK ? GW_ROUTE_NO_RESOURCE : fault, &t->route);
        gw_task_fail(t, &f);
        return;
    }
    gw_fields_add(&t->fields, "allow", "%s, OPTIONS", t->route.allow);
    if (t->route.op == GW_OP_MCP) {
        gw_mcp_preflight(t);
    }
    gw_task_respond(t, 204, 0);
    gw_exchange_end(t->x);
}

/* One issuer's word about tenants binds nobody else. */
static uint64_t tenant_key(const struct gw_task *t)
{
    uint64_t key;
    memcpy(&key, t->tenant.id, sizeof key);
    return key;
}

/* True when the request may go on. */
static bool within_rates(struct gw_task *t)
{
    struct gw_api *api = t->api;
    const uint8_t *key = api->opt.cluster_key;
    uint64_t now = base_clock_mono_ns(), wait = 0;
    const char *whose = "tenant";
    if (t->who.issuer != NULL || t->who.subject[0] != '\0') {
        bool token = t->who.issuer != NULL; /* else who has the pool's key */
        proto_tenant_of(key, token ? t->who.issuer : t->who.subject,
            token ? t->who.tenant : t->route.pool, &t->tenant);
        t->paid = true;
        wait = gw_rate_take(&api->tenants, tenant_key(t), now);
    }
    if (wait == 0) {
        whose = "pool";
        wait = gw_rate_take(
            &api->rated_pools, base_hash_sip24(key, t->route.pool, strlen(t->route.pool)), now);
    }
    if (wait > 0) {
        struct gw_fault f;
        GW_FAULT(&f, 429, "TooManyRequests", "The %s's requests come too fast.", whose);
        f.retry_after_s = (unsigned)(wait / BASE_NS_PER_S) + 1;
        api->stats.limited++;
        gw_task_fail(t, &f);
    }
    return wait == 0;
}

/* Who asked is known (or nobody asks): may it go on? */
static void admit(struct gw_task *t, enum gw_route_fault fault)
{
    const struct gw_request *r = gw_exchange_request(t->x);
    struct gw_fault f;
    if (fault != GW_ROUTE_OK) {
        gw_fault_of_route(&f, fault, &t->route);
        gw_task_fail(t, &f);
        return;
    }
    bool asks_role = t->api->opt.auth != NULL && t->route.op != GW_OP_MCP;
    if (asks_role && !gw_auth_allowed(&t->who, t->route.op, t->route.pool)) {
        GW_FAULT(&f, 403, "Forbidden", "The token does not allow this on the pool.");
        gw_task_fail(t, &f);
        return;
    }
    if (!within_rates(t)) {
        return;
    }
    if (t->route.pool[0] != '\0' && gw_task_pool_unknown(t)) {
        Warren__Reply none = WARREN__REPLY__INIT;
        char code[] = "pool";
        none.status = WARREN__STATUS__STATUS_NOT_FOUND;
        none.code = code;
        gw_wire_fault(&none, &f);
        gw_task_fail(t, &f);
        return;
    }
    t->ops = operations[t->route.op];
    if (r->content_length > (int64_t)t->ops->body_max) {
        GW_FAULT(
            &f, 413, "RequestTooLarge", "The body is longer than %zu bytes.", t->ops->body_max);
        gw_task_fail(t, &f);
    }
}

static int authenticate(struct gw_task *t, struct gw_fault *f, struct gw_auth_wait *w)
{
    int64_t now_s = (int64_t)(base_clock_real_ns() / BASE_NS_PER_S);
    return gw_auth_check(t->api->opt.auth, gw_exchange_request(t->x), now_s, &t->who, f, w);
}

/* The fetch of keys ended, well or not: the request goes on with what came of its body. */
static void on_keys(void *owner)
{
    struct gw_task *t = owner;
    struct gw_fault f;
    struct base_buf held = t->body;
    t->body = (struct base_buf){0};
    t->api->held -= base_buf_size(&held);
    if (authenticate(t, &f, NULL) != 0) {
        gw_task_fail(t, &f);
    } else {
        admit(t, t->wait_fault);
    }
    if (base_buf_size(&held) > 0) {
        on_body(t, base_buf_data(&held), base_buf_size(&held));
    }
    base_buf_deinit(&held);
    if (t->complete) {
        on_end(t);
    }
}

/* Who asks, by a token or, for MCP, by the pool's key? Before anything is told about the address.
 * As gw_auth_check(). */
static int ask_who(struct gw_task *t, const struct gw_target *target, struct gw_fault *f)
{
    if (target->segments_n > 0 && strcmp(target->segments[0], ".well-known") == 0) {
        /* MCP clients look here for an authorization server. */
        GW_FAULT(f, 404, "SessionRequestNotSupported", "There is no such resource.");
        return GW_AUTH_REFUSED;
    }
    if (t->route.op == GW_OP_MCP) {
        int64_t now_s = (int64_t)(base_clock_real_ns() / BASE_NS_PER_S);
        return gw_mcp_admit(t, now_s, f) ? 0 : GW_AUTH_REFUSED;
    }
    if (t->api->opt.auth == NULL) { /* what any page could send; a token it has not */
        return gw_mcp_place_check(t, f) ? 0 : GW_AUTH_REFUSED;
    }
    return authenticate(t, f, &t->wait);
}

static void begin(struct gw_task *t, const struct gw_request *r)
{
    struct gw_target target;
    struct gw_fault f;
    int rc = gw_target_parse(&target, r->target);
    if (rc < 0) {
        GW_FAULT(&f, rc == BASE_ETOOBIG ? 414 : 400, "SessionRequestValidationFailed",
            "The address is not valid: %s.", base_err_str(rc));
        gw_task_fail(t, &f);
        return;
    }
    enum gw_route_fault fault = gw_route_find(&target, r->method, &t->route);
    if (r->method == GW_METHOD_OPTIONS) {
        answer_options(t, fault);
        return;
    }
    if (fault == GW_ROUTE_OK && t->route.op == GW_OP_HEALTH) {
        answer_health(t);
        return;
    }
    t->wait.ready = on_keys;
    t->wait.owner = t;
    t->wait_fault = fault;
    rc = ask_who(t, &target, &f);
    if (rc == GW_AUTH_WAIT) {
        return;
    }
    if (rc != 0) {
        gw_task_fail(t, &f);
    } else {
        admit(t, fault);
    }
}

void gw_api_request(void *owner, struct gw_exchange *x)
{
    static const struct gw_exchange_ops ops = {on_body, on_end, on_drain, on_stopping, on_gone};
    struct gw_api *api = owner;
    struct gw_task *t = calloc(1, sizeof *t);
    if (t == NULL) {
        gw_exchange_respond(x, 503, NULL, 0, 0);
        gw_exchange_end(x);
        return;
    }
    t->api = api;
    t->x = x;
    t->code = "-";
    t->begun_ns = base_clock_mono_ns();
    uint64_t trace = base_hash_rng_next(&api->traces);
    base_text_hex(&trace, sizeof trace, t->trace);
    api->stats.requests++;
    api->stats.open++;
    gw_exchange_accept(x, &ops, t);
    gw_fields_text(&t->fields, "x-request-id", t->trace);
    begin(t, gw_exchange_request(x));
}

int gw_api_create(struct gw_api **ret, const struct gw_api_options *opt, struct base_error *err)
{
    struct gw_api *api = calloc(1, sizeof *api);
    if (api == NULL) {
        return base_fail(err, BASE_ENOMEM, "start the API");
    }
    api->opt = *opt;
    base_hash_rng_seed(&api->traces, base_rand_u64());
    api->opt.memory_max = opt->memory_max == 0 ? MEMORY_BYTES_MAX : opt->memory_max;
    gw_rate_init(&api->tenants, opt->tenant_per_s, opt->tenant_burst);
    gw_rate_init(&api->rated_pools, opt->pool_per_s, opt->pool_burst);
    *ret = api;
    return 0;
}

void gw_api_destroy(struct gw_api *api)
{
    free(api);
}

void gw_api_stats(const struct gw_api *api, struct gw_api_stats *ret)
{
    *ret = api->stats;
}
