#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/core/json.h"
#include "gateway/io/task.h"
#include "proto/base/clock.h"

/* GET and DELETE /session, both lists of sessions, /.management, /metadata. */

enum { DEADLINE_MS = 30000, LIST_DEADLINE_MS = 5000, PAGE = 300, LIST_TRIES = 4 };

/* True when the reply is an error, which then is the answer. */
static bool refused(struct gw_task *t, const Warren__Reply *r)
{
    t->call = NULL;
    if (r->status == WARREN__STATUS__STATUS_OK) {
        return false;
    }
    struct gw_fault f;
    gw_wire_fault(r, &f);
    bool management = t->route.op == GW_OP_MANAGEMENT_GET || t->route.op == GW_OP_MANAGEMENT_STOP;
    if (management && f.status == 404 && strcmp(f.code, "SessionWithIdentifierNotFound") == 0) {
        f.status = 400; /* as clients of these calls expect it */
    }
    gw_task_fail(t, &f);
    return true;
}

/* ---- one session ---- */

static void got(void *owner, const Warren__Reply *r)
{
    struct gw_task *t = owner;
    if (refused(t, r)) {
        return;
    }
    struct base_buf body = {0};
    struct gw_session s;
    char guid[BASE_TEXT_UUID_MAX];
    gw_task_session(t, r->session);
    if (r->session == NULL) {
        struct gw_fault f;
        GW_FAULT(&f, 500, "InternalServerError", "The worker sent no session.");
        gw_task_fail(t, &f);
        return;
    }
    gw_wire_session(r->session, guid, &s);
    if (gw_render_session(&s, t->route.op == GW_OP_MANAGEMENT_GET, &body) < 0) {
        gw_task_out_of_memory(t);
    } else {
        gw_task_answer(t, 200, &body);
    }
    base_buf_deinit(&body);
}

static void get_start(struct gw_task *t)
{
    static const struct gw_call_ops ops = {.end = got, .failed = gw_task_failure};
    Warren__Request r;
    Warren__Key key;
    Warren__SessionGet q = WARREN__SESSION_GET__INIT;
    gw_task_request(t, &r, &key);
    r.no_allocate = true;
    r.op_case = WARREN__REQUEST__OP_SESSION_GET;
    r.session_get = &q;
    struct gw_call_options opt = {.kind = GW_CALL_READ, .deadline_ms = DEADLINE_MS, .ops = &ops};
    (void)gw_task_call(t, &r, &opt);
}

static void deleted(void *owner, const Warren__Reply *r)
{
    struct gw_task *t = owner;
    if (refused(t, r)) {
        return;
    }
    if (t->route.op != GW_OP_MANAGEMENT_STOP) {
        gw_task_respond(t, 204, 0);
        gw_exchange_end(t->x);
        return;
    }
    struct base_buf text = {0};
    (void)base_buf_printf(&text, "Session %.*s in session pool %s stopped.", (int)t->route.id.len,
        t->route.id.text, t->route.pool);
    gw_fields_text(&t->fields, "content-type", "text/plain; charset=utf-8");
    gw_task_respond(t, 200, (int64_t)base_buf_size(&text));
    (void)gw_exchange_write(t->x, base_buf_data(&text), base_buf_size(&text));
    gw_exchange_end(t->x);
    base_buf_deinit(&text);
}

static void delete_start(struct gw_task *t)
{
    static const struct gw_call_ops ops = {.end = deleted, .failed = gw_task_failure};
    Warren__Request r;
    Warren__Key key;
    Warren__SessionDelete q = WARREN__SESSION_DELETE__INIT;
    gw_task_request(t, &r, &key);
    r.no_allocate = true;
    r.op_case = WARREN__REQUEST__OP_SESSION_DELETE;
    r.session_delete = &q;
    struct gw_call_options opt = {.kind = GW_CALL_WRITE, .deadline_ms = DEADLINE_MS, .ops = &ops};
    (void)gw_task_call(t, &r, &opt);
}

const struct gw_task_ops gw_op_session_get = {.start = get_start, .body_max = 64 << 10};
const struct gw_task_ops gw_op_session_delete = {.start = delete_start, .body_max = 64 << 10};

/* ---- lists: one worker after the other, until the page is full ---- */

struct listing {
    struct base_buf body;
    uint32_t view;  /* of the cluster, in which the workers are asked */
    unsigned tries; /* begun so often */
    unsigned worker;
    uint32_t skip, n; /* to skip still; on this page so far */
    uint64_t before;  /* sessions of the workers asked so far */
    bool more;
};

static void ask_next(struct gw_task *t);
static void list_begin(struct gw_task *t);

static void list_gone(struct gw_task *t)
{
    struct listing *l = t->state;
    if (l != NULL) {
        base_buf_deinit(&l->body);
        free(l);
    }
}

static int next_link(struct gw_task *t, struct listing *l)
{
    bool management = t->route.op == GW_OP_MANAGEMENT_LIST;
    if (!l->more) {
        return management ? base_buf_printf(&l->body, ",\"nextLink\":null") : 0;
    }
    const struct gw_request *r = gw_exchange_request(t->x);
    const char *scheme = r->target[0] != '/' || r->host[0] == '\0' ? ""
                         : r->secure                               ? "https://"
                                                                   : "http://";
    struct base_buf link = {0};
    int rc = base_buf_printf(&link, "%s%s%.*s%s?api-version=2025-02-02-preview&skip=%u", scheme,
        scheme[0] == '\0' ? "" : r->host, (int)t->route.prefix_len, r->target,
        management ? "/.management/listSessions" : "/listSessions", t->route.skip + l->n);
    rc = rc < 0 ? rc : base_buf_printf(&l->body, ",\"nextLink\":");
    rc = rc < 0 ? rc : gw_json_string(&l->body, base_buf_data(&link), base_buf_size(&link));
    base_buf_deinit(&link);
    return rc;
}

static void list_finish(struct gw_task *t)
{
    struct listing *l = t->state;
    int rc = base_buf_add(&l->body, "]", 1);
    if (t->route.op == GW_OP_MANAGEMENT_LIST) {
        rc = rc < 0 ? rc : base_buf_printf(&l->body, ",\"count\":%u", l->n);
    }
    rc = rc < 0 ? rc : next_link(t, l);
    rc = rc < 0 ? rc : base_buf_add(&l->body, "}", 1);
    if (rc < 0) {
        gw_task_out_of_memory(t);
    } else {
        gw_task_answer(t, 200, &l->body);
    }
}

static void no_list(struct gw_task *t, struct gw_fault *f)
{
    t->call = NULL;
    f->retry_after_s = 1;
    gw_task_fail(t, f);
}

/* A list without the sessions of one worker would say that they are not there. */
static void incomplete(struct gw_task *t, const char *worker)
{
    struct gw_fault f;
    GW_FAULT(&f, 503, "SessionListIncomplete",
        "Worker %.64s does not tell its sessions now; those of the others alone are no list.",
        worker);
    no_list(t, &f);
}

static const char *asked(const struct gw_task *t)
{
    const struct listing *l = t->state;
    return gw_calls_name(gw_api_calls(t->api), l->worker);
}

/* What the worker said, or that it says nothing, is of no interest any more. */
static bool outdated(struct gw_task *t)
{
    const struct listing *l = t->state;
    if (l->view == gw_calls_view(gw_api_calls(t->api))) {
        return false;
    }
    t->call = NULL;
    list_begin(t);
    return true;
}

static void list_failed(void *owner, enum gw_call_failure why)
{
    (void)why;
    if (!outdated(owner)) {
        incomplete(owner, asked(owner));
    }
}

static void listed(void *owner, const Warren__Reply *r)
{
    struct gw_task *t = owner;
    struct listing *l = t->state;
    if (outdated(t)) {
        return;
    }
    if (r->status == WARREN__STATUS__STATUS_UNAVAILABLE ||
        r->status == WARREN__STATUS__STATUS_RETRY) { /* it has no lease */
        incomplete(t, asked(t));
        return;
    }
    if (refused(t, r)) {
        return;
    }
    int rc = 0;
    for (size_t i = 0; i < r->n_sessions && l->n < PAGE && rc == 0; i++, l->n++) {
        struct gw_session s;
        char guid[BASE_TEXT_UUID_MAX];
        gw_wire_session(r->sessions[i], guid, &s);
        rc = l->n > 0 ? base_buf_add(&l->body, ",", 1) : 0;
        rc = rc < 0 ? rc : gw_render_session(&s, t->route.op == GW_OP_MANAGEMENT_LIST, &l->body);
    }
    if (rc < 0) {
        gw_task_out_of_memory(t);
        return;
    }
    l->before += r->total;
    l->skip -= l->skip < r->total ? l->skip : r->total;
    l->worker++;
    l->more = l->before > (uint64_t)t->route.skip + l->n;
    ask_next(t);
}

static void ask_next(struct gw_task *t)
{
    static const struct gw_call_ops ops = {.end = listed, .failed = list_failed};
    struct listing *l = t->state;
    const struct gw_calls *c = gw_api_calls(t->api);
    while (l->worker < gw_calls_workers(c) && !gw_calls_may_hold(c, l->worker)) {
        l->worker++;
    }
    const char *missing = gw_calls_missing(c);
    if (missing != NULL) {
        incomplete(t, missing);
        return;
    }
    if (l->worker == gw_calls_workers(c) || l->more) {
        list_finish(t);
        return;
    }
    Warren__Request r;
    Warren__Key key;
    Warren__SessionList q = WARREN__SESSION_LIST__INIT;
    gw_task_request(t, &r, &key);
    r.op_case = WARREN__REQUEST__OP_SESSION_LIST;
    r.session_list = &q;
    q.skip = l->skip;
    q.limit = PAGE - l->n > 0 ? PAGE - l->n : 1; /* full: only the total is of interest */
    struct gw_call_options opt = {.worker = l->worker,
        .kind = GW_CALL_READ,
        .bulk = true, /* a page is longer than small answers should be */
        .deadline_ms = LIST_DEADLINE_MS,
        .request = &r,
        .ops = &ops,
        .owner = t};
    if (gw_call_start(gw_api_calls(t->api), &opt, &t->call) < 0) {
        gw_task_out_of_memory(t);
    }
}

/* Which workers have sessions is a matter of the view: what was told in another one is no part of
 * this list. */
static void list_begin(struct gw_task *t)
{
    struct listing *l = t->state;
    const char *head = t->route.op == GW_OP_MANAGEMENT_LIST ? "{\"value\":[" : "{\"sessions\":[";
    struct base_buf body = l->body;
    base_buf_clear(&body);
    *l = (struct listing){.body = body,
        .view = gw_calls_view(gw_api_calls(t->api)),
        .tries = l->tries + 1,
        .skip = t->route.skip};
    if (l->view == 0 || l->tries > LIST_TRIES) {
        struct gw_fault f;
        GW_FAULT(&f, 503, "SessionListIncomplete",
            l->view == 0 ? "This gateway does not know the cluster yet."
                         : "The cluster's workers change all the time.");
        no_list(t, &f);
    } else if (base_buf_add(&l->body, head, strlen(head)) < 0) {
        gw_task_out_of_memory(t);
    } else {
        ask_next(t);
    }
}

static void list_start(struct gw_task *t)
{
    t->state = calloc(1, sizeof(struct listing));
    if (t->state == NULL) {
        gw_task_out_of_memory(t);
        return;
    }
    list_begin(t);
}

const struct gw_task_ops gw_op_sessions_list = {
    .start = list_start, .gone = list_gone, .body_max = 64 << 10};

/* ---- metadata ---- */

static int pair(struct base_buf *to, const char *name, const char *version)
{
    int rc = base_buf_printf(to, "{\"name\":");
    rc = rc < 0 ? rc : gw_json_string(to, name, strlen(name));
    rc = rc < 0 ? rc : base_buf_printf(to, ",\"version\":");
    rc = rc < 0 ? rc : gw_json_string(to, version, strlen(version));
    return rc < 0 ? rc : base_buf_add(to, "}", 1);
}

static const char *text_of(const json_t *manifest, const char *key)
{
    const char *s = json_string_value(json_object_get(manifest, key));
    return s == NULL ? "" : s;
}

static int packages(const json_t *manifest, struct base_buf *to)
{
    const json_t *list = json_object_get(manifest, "python_packages");
    int rc = 0;
    for (size_t i = 0; i < json_array_size(list) && rc == 0; i++) {
        const json_t *p = json_array_get(list, i);
        rc = i > 0 ? base_buf_add(to, ",", 1) : 0;
        rc = rc < 0 ? rc : pair(to, text_of(p, "name"), text_of(p, "version"));
    }
    return rc;
}

static int metadata(const Warren__PoolInfo *pool, const json_t *manifest, struct base_buf *to)
{
    char created[BASE_CLOCK_TEXT_MAX];
    base_clock_format(pool->created_ns, created);
    int rc = base_buf_printf(to, "{\"runtimes\":[");
    rc = rc < 0 ? rc : pair(to, "Python", text_of(manifest, "python_version"));
    rc = rc < 0 ? rc : base_buf_add(to, ",", 1);
    rc = rc < 0 ? rc : pair(to, "Node.js", text_of(manifest, "node_version"));
    rc = rc < 0 ? rc : base_buf_printf(to, "],\"preInstalledPackages\":[");
    rc = rc < 0 ? rc : packages(manifest, to);
    rc = rc < 0 ? rc
                : base_buf_printf(to,
                      "],\"createdAt\":\"%s\",\"lastUpdatedAt\":\"%s\",\"jupyterKernel\":{"
                      "\"name\":\"python3\",\"version\":",
                      created, created);
    const char *version = text_of(manifest, "ipython_version");
    rc = rc < 0 ? rc : gw_json_string(to, version, strlen(version));
    return rc < 0 ? rc
                  : base_buf_printf(to, ",\"projectUrl\":\"https://ipython.org\",\"description\":"
                                        "\"IPython semantics, without a Jupyter server\"}}");
}

static void ask_about(struct gw_task *t);

static void described(void *owner, const Warren__Reply *r)
{
    struct gw_task *t = owner;
    if (r->status == WARREN__STATUS__STATUS_NOT_FOUND && gw_task_pool_listed(t)) {
        t->call = NULL;
        ask_about(t); /* that worker is behind the catalogue, another one may be not */
        return;
    }
    if (refused(t, r)) {
        return;
    }
    const char *text =
        r->pool == NULL || r->pool->image_manifest == NULL ? "" : r->pool->image_manifest;
    struct base_buf body = {0};
    json_t *manifest = json_loads(text, 0, NULL);
    if (r->pool == NULL || metadata(r->pool, manifest, &body) < 0) {
        gw_task_out_of_memory(t);
    } else {
        gw_task_answer(t, 200, &body);
    }
    json_decref(manifest);
    base_buf_deinit(&body);
}

static void ask_about(struct gw_task *t)
{
    static const struct gw_call_ops ops = {.end = described, .failed = gw_task_failure};
    static const struct gw_calls_asked nobody;
    const struct gw_calls *c = gw_api_calls(t->api);
    int worker = gw_calls_any(c, gw_calls_home(c, t->route.pool, &t->route.id), &t->pool_asked);
    if (worker < 0 && memcmp(&t->pool_asked, &nobody, sizeof nobody) != 0) {
        struct gw_fault f;
        GW_FAULT(&f, 503, "ServiceUnavailable", "The workers do not know the pool yet.");
        f.retry_after_s = 1;
        gw_task_fail(t, &f);
        return;
    }
    if (worker >= 0) {
        gw_calls_note(&t->pool_asked, (unsigned)worker);
    }
    Warren__Request r;
    Warren__Key key;
    Warren__PoolGet q = WARREN__POOL_GET__INIT;
    gw_task_request(t, &r, &key);
    key.identifier.len = 0;
    r.op_case = WARREN__REQUEST__OP_POOL_GET;
    r.pool_get = &q;
    struct gw_call_options opt = {.kind = GW_CALL_READ, .deadline_ms = DEADLINE_MS, .ops = &ops};
    (void)gw_task_call_at(t, worker, &r, &opt);
}

const struct gw_task_ops gw_op_metadata = {.start = ask_about, .body_max = 64 << 10};
