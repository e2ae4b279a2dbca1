#include "gateway/core/route.h"

#include <string.h>

#include "gateway/core/file_path.h"
#include "proto/base/container.h"
#include "proto/base/text.h"
#include "proto/terminal.h"

const char *gw_route_op_name(enum gw_op op)
{
    static const char *const names[] = {"none", "execute", "execution-get", "execution-events",
        "execution-cancel", "files-list", "file-upload", "file-stat", "file-content", "file-delete",
        "session-get", "session-delete", "sessions-list", "management-get", "management-list",
        "management-stop", "metadata", "terminal", "mcp", "mcp-fetch-key", "mcp-rotate-key",
        "health"};
    return names[op];
}

bool gw_route_needs_identifier(enum gw_op op)
{
    return op != GW_OP_NONE && op != GW_OP_HEALTH && op != GW_OP_METADATA &&
           op != GW_OP_SESSIONS_LIST && op != GW_OP_MANAGEMENT_LIST && op != GW_OP_MCP &&
           op != GW_OP_MCP_FETCH && op != GW_OP_MCP_ROTATE;
}

enum gw_version gw_route_version(const char *v)
{
    size_t n = v == NULL ? 0 : strlen(v);
    bool date = n >= 10 && v[4] == '-' && v[7] == '-';
    for (size_t i = 0; date && i < 10; i++) {
        date = i == 4 || i == 7 || (v[i] >= '0' && v[i] <= '9');
    }
    if (!date) {
        return GW_VERSION_FLAT;
    }
    if (strncmp(v, "2024-08-02", 10) <= 0) {
        return GW_VERSION_LEGACY;
    }
    if (strncmp(v, "2024-10-02", 10) == 0) {
        return GW_VERSION_2024_10;
    }
    return strncmp(v, "2025-10-02", 10) >= 0 ? GW_VERSION_2025_10 : GW_VERSION_FLAT;
}

/* ---- walking over the segments ---- */

struct walk {
    const struct gw_target *t;
    int at;
};

static const char *peek(const struct walk *w, int ahead)
{
    return w->at + ahead < w->t->segments_n ? w->t->segments[w->at + ahead] : NULL;
}

static int left(const struct walk *w)
{
    return w->t->segments_n - w->at;
}

static bool next_is(const struct walk *w, int ahead, const char *word)
{
    const char *s = peek(w, ahead);
    return s != NULL && gw_http_same(s, word);
}

static bool take(struct walk *w, const char *word)
{
    if (!next_is(w, 0, word)) {
        return false;
    }
    w->at++;
    return true;
}

/* /pools/P or /subscriptions/S/resourceGroups/R[/providers/Microsoft.App]/sessionPools/P */
static bool take_pool(struct walk *w, struct gw_route *r)
{
    if (take(w, "subscriptions")) {
        w->at++;
        if (!take(w, "resourceGroups")) {
            return false;
        }
        w->at++;
        if (take(w, "providers") && !take(w, "Microsoft.App")) {
            return false;
        }
        if (!take(w, "sessionPools")) {
            return false;
        }
    } else if (!take(w, "pools")) {
        return false;
    }
    const char *name = peek(w, 0);
    if (name == NULL) {
        return false;
    }
    w->at++;
    if (!base_text_copy(r->pool, sizeof r->pool, name)) {
        return true; /* empty: no pool has such a name */
    }
    for (char *p = r->pool; *p != '\0'; p++) {
        *p = (char)(*p >= 'A' && *p <= 'Z' ? *p | 32 : *p);
    }
    if (!proto_pool_name_valid(r->pool, strlen(r->pool))) {
        r->pool[0] = '\0';
    }
    return true;
}

static enum gw_route_fault set_identifier(struct gw_route *r, const char *text)
{
    switch (proto_identifier_set(&r->id, text, strlen(text))) {
    case PROTO_IDENTIFIER_OK:
        return GW_ROUTE_OK;
    case PROTO_IDENTIFIER_LENGTH:
        return GW_ROUTE_IDENTIFIER_LENGTH;
    case PROTO_IDENTIFIER_CHARACTER:
    default:
        return GW_ROUTE_IDENTIFIER_CHARACTER;
    }
}

static enum gw_route_fault find_identifier(
    const struct gw_target *t, const char *in_path, struct gw_route *r)
{
    const char *in_query = gw_target_param(t, "identifier");
    if (in_query != NULL && in_query[0] == '\0') {
        in_query = NULL;
    }
    if (in_path != NULL && in_query != NULL && strcmp(in_path, in_query) != 0) {
        return GW_ROUTE_IDENTIFIER_TWICE;
    }
    const char *id = in_query != NULL ? in_query : in_path;
    return id == NULL ? GW_ROUTE_NO_IDENTIFIER : set_identifier(r, id);
}

/* ---- operations ---- */

static enum gw_route_fault by_method(
    enum gw_method method, struct gw_route *r, enum gw_method want, enum gw_op op)
{
    bool head = method == GW_METHOD_HEAD && want == GW_METHOD_GET;
    if (method != want && !head) {
        r->allow = want == GW_METHOD_GET ? "GET, HEAD" : want == GW_METHOD_POST ? "POST" : "DELETE";
        return GW_ROUTE_METHOD;
    }
    r->op = op;
    return GW_ROUTE_OK;
}

static enum gw_route_fault executions(struct walk *w, enum gw_method method, struct gw_route *r)
{
    if (left(w) == 0) {
        return by_method(method, r, GW_METHOD_POST, GW_OP_EXECUTE);
    }
    if (!base_text_copy(r->execution, sizeof r->execution, peek(w, 0))) {
        return GW_ROUTE_NO_RESOURCE;
    }
    if (left(w) == 2 && next_is(w, 1, "events")) {
        return by_method(method, r, GW_METHOD_GET, GW_OP_EXECUTION_EVENTS);
    }
    if (left(w) == 2 && next_is(w, 1, "cancel")) {
        return by_method(method, r, GW_METHOD_POST, GW_OP_EXECUTION_CANCEL);
    }
    if (left(w) != 1) {
        return GW_ROUTE_NO_RESOURCE;
    }
    if (method == GW_METHOD_DELETE) {
        r->op = GW_OP_EXECUTION_CANCEL;
        return GW_ROUTE_OK;
    }
    if (by_method(method, r, GW_METHOD_GET, GW_OP_EXECUTION_GET) != GW_ROUTE_OK) {
        r->allow = "GET, HEAD, DELETE";
        return GW_ROUTE_METHOD;
    }
    return GW_ROUTE_OK;
}

/* The folder of `path=` and n segments from `at` on, joined. */
static bool file_path(const struct walk *w, int at, int n, struct gw_route *r)
{
    struct gw_file_path p;
    gw_file_path_init(&p);
    const char *folder = gw_target_param(w->t, "path");
    bool ok = folder == NULL || gw_file_path_add(&p, folder);
    /* files//mnt/data/x: a client that pasted an absolute name. */
    bool slash = n > 0 && w->t->raw_at[at] > 0 && w->t->raw[w->t->raw_at[at] - 1] == '/';
    if (slash && n > 2 && strcmp(w->t->segments[at], "mnt") == 0 &&
        strcmp(w->t->segments[at + 1], "data") == 0) {
        at += 2;
        n -= 2;
    }
    for (int i = 0; ok && i < n; i++) {
        ok = gw_file_path_add(&p, w->t->segments[at + i]);
    }
    memcpy(r->path, p.text, sizeof r->path);
    r->absolute = p.absolute;
    return ok;
}

static enum gw_route_fault one_file(struct walk *w, enum gw_method method, struct gw_route *r)
{
    int at = w->at, n = left(w);
    enum gw_op op = method == GW_METHOD_DELETE ? GW_OP_FILE_DELETE : GW_OP_FILE_STAT;
    if (n >= 2 && next_is(w, n - 1, "content")) {
        op = GW_OP_FILE_CONTENT;
        n--;
    } else if (n >= 2 && next_is(w, 0, "content")) {
        op = GW_OP_FILE_CONTENT;
        at++;
        n--;
    }
    if (!file_path(w, at, n, r)) {
        return GW_ROUTE_PATH;
    }
    if (op == GW_OP_FILE_DELETE) {
        r->op = op;
        return GW_ROUTE_OK;
    }
    enum gw_route_fault fault = by_method(method, r, GW_METHOD_GET, op);
    if (fault != GW_ROUTE_OK && op == GW_OP_FILE_STAT) {
        r->allow = "GET, HEAD, DELETE";
    }
    return fault;
}

static enum gw_route_fault files(struct walk *w, enum gw_method method, struct gw_route *r)
{
    r->legacy = r->version == GW_VERSION_LEGACY;
    if (left(w) == 1 && method == GW_METHOD_POST && next_is(w, 0, "upload")) {
        r->legacy = true;
        r->op = GW_OP_FILE_UPLOAD;
        return file_path(w, 0, 0, r) ? GW_ROUTE_OK : GW_ROUTE_PATH;
    }
    if (left(w) > 0) {
        return one_file(w, method, r);
    }
    if (!file_path(w, 0, 0, r)) {
        return GW_ROUTE_PATH;
    }
    if (method == GW_METHOD_POST) {
        r->op = GW_OP_FILE_UPLOAD;
        return GW_ROUTE_OK;
    }
    enum gw_route_fault fault = by_method(method, r, GW_METHOD_GET, GW_OP_FILES_LIST);
    r->allow = "GET, HEAD, POST";
    return fault;
}

static enum gw_route_fault session(enum gw_method method, struct gw_route *r)
{
    if (method == GW_METHOD_DELETE) {
        r->op = GW_OP_SESSION_DELETE;
        return GW_ROUTE_OK;
    }
    enum gw_route_fault fault = by_method(method, r, GW_METHOD_GET, GW_OP_SESSION_GET);
    r->allow = "GET, HEAD, DELETE";
    return fault;
}

static enum gw_route_fault management(struct walk *w, enum gw_method method, struct gw_route *r)
{
    enum gw_op op = next_is(w, 0, "getSession")     ? GW_OP_MANAGEMENT_GET
                    : next_is(w, 0, "listSessions") ? GW_OP_MANAGEMENT_LIST
                    : next_is(w, 0, "stopSession")  ? GW_OP_MANAGEMENT_STOP
                                                    : GW_OP_NONE;
    if (op == GW_OP_NONE || left(w) != 1) {
        return GW_ROUTE_NO_RESOURCE;
    }
    return by_method(method, r, GW_METHOD_POST, op);
}

/* The endpoint of MCP clients, and the actions of the control plane that hand out its keys. */
static enum gw_route_fault mcp(struct walk *w, enum gw_method method, struct gw_route *r)
{
    if (next_is(w, 0, "mcp")) {
        r->op = GW_OP_MCP; /* also with a wrong method: who asks is judged by its key */
        return by_method(method, r, GW_METHOD_POST, GW_OP_MCP);
    }
    if (next_is(w, 0, "fetchMcpServerCredentials")) {
        return by_method(method, r, GW_METHOD_POST, GW_OP_MCP_FETCH);
    }
    if (next_is(w, 0, "rotateMcpServerCredentials") || next_is(w, 0, "regenerateCredentials")) {
        return by_method(method, r, GW_METHOD_POST, GW_OP_MCP_ROTATE);
    }
    return GW_ROUTE_NO_RESOURCE;
}

static enum gw_route_fault operation(struct walk *w, enum gw_method method, struct gw_route *r)
{
    /* An endpoint that was configured with its old tail. */
    if (next_is(w, 0, "python") && next_is(w, 1, "execute") && left(w) > 2) {
        w->at += 2;
    }
    r->prefix_len = left(w) > 0 ? w->t->raw_at[w->at] : 0;
    if (take(w, "executions") || (left(w) <= 2 && take(w, "execute"))) {
        return executions(w, method, r);
    }
    if (left(w) == 2 && next_is(w, 1, "execute") && (take(w, "code") || take(w, "python"))) {
        r->legacy = true;
        r->python = gw_http_same(w->t->segments[w->at - 1], "python");
        return by_method(method, r, GW_METHOD_POST, GW_OP_EXECUTE);
    }
    if (take(w, "files")) {
        return files(w, method, r);
    }
    if (take(w, ".management")) {
        return management(w, method, r);
    }
    if (left(w) != 1) {
        return GW_ROUTE_NO_RESOURCE;
    }
    if (take(w, "session")) {
        return session(method, r);
    }
    if (take(w, "listSessions")) {
        return by_method(method, r, GW_METHOD_GET, GW_OP_SESSIONS_LIST);
    }
    if (take(w, "metadata")) {
        return by_method(method, r, GW_METHOD_GET, GW_OP_METADATA);
    }
    if (take(w, "terminal")) {
        return by_method(method, r, GW_METHOD_GET, GW_OP_TERMINAL);
    }
    return mcp(w, method, r);
}

static bool flag(const struct gw_target *t, const char *name)
{
    const char *v = gw_target_param(t, name);
    return v != NULL && (gw_http_same(v, "true") || strcmp(v, "1") == 0);
}

/* Digits up to max; anything else counts as 0. */
static uint64_t number(const struct gw_target *t, const char *name, uint64_t max)
{
    const char *v = gw_target_param(t, name);
    uint64_t n = 0;
    for (; v != NULL && *v != '\0'; v++) {
        if (*v < '0' || *v > '9' || n > max / 10) {
            return 0;
        }
        n = n * 10 + (uint64_t)(*v - '0');
    }
    return n > max ? 0 : n;
}

enum gw_route_fault gw_route_find(
    const struct gw_target *t, enum gw_method method, struct gw_route *ret)
{
    struct walk w = {t, 0};
    memset(ret, 0, sizeof *ret);
    ret->version = gw_route_version(gw_target_param(t, "api-version"));
    ret->recursive = flag(t, "recursive");
    ret->stream = flag(t, "stream");
    ret->skip = (uint32_t)number(t, "skip", UINT32_MAX);
    ret->columns = (uint32_t)number(t, "columns", PROTO_TERMINAL_CELLS_MAX);
    ret->rows = (uint32_t)number(t, "rows", PROTO_TERMINAL_CELLS_MAX);
    ret->after = number(t, "after", UINT64_MAX / 16);
    if (t->segments_n == 1 && (next_is(&w, 0, "healthz") || next_is(&w, 0, "health"))) {
        return by_method(method, ret, GW_METHOD_GET, GW_OP_HEALTH);
    }
    if (!take_pool(&w, ret)) {
        return GW_ROUTE_NO_RESOURCE;
    }
    if (ret->pool[0] == '\0') {
        return GW_ROUTE_NO_POOL;
    }
    const char *id = NULL;
    if (next_is(&w, 0, "identifier") && left(&w) >= 2) {
        id = peek(&w, 1);
        w.at += 2;
    }
    enum gw_route_fault fault = operation(&w, method, ret);
    if (fault == GW_ROUTE_OK && gw_route_needs_identifier(ret->op)) {
        fault = find_identifier(t, id, ret);
    }
    return fault;
}
