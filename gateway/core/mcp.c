#include "gateway/core/mcp.h"

#include <string.h>

#include "gateway/core/http.h"
#include "gateway/core/json.h"
#ifdef WARREN_MCP_FIXTURES
#include "gateway/core/mcp_fixtures.h"
#endif
#include "gateway/core/mcp_tools.h"
#include "gateway/core/mcp_write.h"
#include "proto/base/container.h"
#include "proto/base/err.h"

#define META "io.modelcontextprotocol/"

static const char modern_version[] = "2026-07-28";
static const char *const legacy_versions[] = {
    "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"};

static bool legacy_known(const char *version)
{
    for (size_t i = 0; i < ARRAY_LEN(legacy_versions); i++) {
        if (strcmp(legacy_versions[i], version) == 0) {
            return true;
        }
    }
    return false;
}

static int answered(int rc)
{
    return rc < 0 ? rc : GW_MCP_ANSWERED;
}

/* A JSON-RPC error with its HTTP status. */
static int refuse(
    struct gw_mcp_message *m, int status, int code, const char *text, struct base_buf *to)
{
    m->status = status;
    return answered(gw_mcp_error(m, code, text, to));
}

/* ---- one message ---- */

struct reading {
    struct gw_json_view root, params, method, meta_version;
    const struct gw_mcp_head *head;
    char name[64]; /* of the method */
};

static bool id_ok(struct gw_json_view id)
{
    return id.n <= GW_MCP_ID_MAX && (gw_json_kind(id) == '"' || gw_json_integer(id));
}

/* Shape of JSON-RPC. A verdict, or -1 to go on (no verdict is negative but BASE_ENOMEM). */
enum { GO_ON = -1 };

static int read_shape(
    const void *json, size_t n, struct reading *r, struct gw_mcp_message *m, struct base_buf *to)
{
    if (!gw_json_valid(json, n)) {
        return refuse(m, 400, -32700, "Parse error: the body is not valid JSON.", to);
    }
    r->root = gw_json_root(json, n);
    struct gw_json_view id = gw_json_member(r->root, "id");
    if (gw_json_kind(r->root) != '{' || !gw_json_is(gw_json_member(r->root, "jsonrpc"), "2.0")) {
        return refuse(m, 400, -32600, "Invalid request: one JSON-RPC 2.0 message is needed.", to);
    }
    if (id.n > 0 && !id_ok(id)) {
        return refuse(
            m, 400, -32600, "Invalid request: the id must be a short string or an integer.", to);
    }
    m->id = id;
    r->method = gw_json_member(r->root, "method");
    if (r->method.n == 0) {
        bool response = id.n > 0 && (gw_json_member(r->root, "result").n > 0 ||
                                        gw_json_member(r->root, "error").n > 0);
        return response ? GW_MCP_ACCEPTED
                        : refuse(m, 400, -32600, "Invalid request: there is no method.", to);
    }
    if (gw_json_kind(r->method) != '"') {
        return refuse(m, 400, -32600, "Invalid request: the method must be a string.", to);
    }
    (void)gw_json_text(r->method, r->name, sizeof r->name); /* too long: no method has that name */
    r->params = gw_json_member(r->root, "params");
    char kind = gw_json_kind(r->params);
    if (kind == '\0' || kind == '{' || kind == 'n') {
        return GO_ON;
    }
    return refuse(m, id.n > 0 ? 200 : 400, -32602, "Invalid params: an object is needed.", to);
}

static struct gw_json_view meta_of(const struct reading *r)
{
    return gw_json_member(r->params, "_meta");
}

static void choose_era(struct reading *r, struct gw_mcp_message *m)
{
    const char *version = r->head->version;
    r->meta_version = gw_json_member(meta_of(r), META "protocolVersion");
    m->modern = r->meta_version.n > 0 ||
                (version != NULL && !legacy_known(version) && strcmp(version, "2026") >= 0);
}

/* ---- modern: what must agree ---- */

static int digit64(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *p = c == '\0' ? NULL : strchr(digits, c);
    return p == NULL ? -1 : (int)(p - digits);
}

/* True when the header field says text: as it is, or as =?base64?...?=. */
static bool field_says(const char *field, const char *text)
{
    static const char start[] = "=?base64?", stop[] = "?=";
    size_t n = strlen(field), head = sizeof start - 1, tail = sizeof stop - 1;
    if (n < head + tail || strncmp(field, start, head) != 0 ||
        strcmp(field + n - tail, stop) != 0) {
        return strcmp(field, text) == 0;
    }
    unsigned bits = 0;
    int have = 0;
    for (const char *p = field + head; p < field + n - tail && *p != '='; p++) {
        int v = digit64(*p);
        if (v < 0) {
            return false;
        }
        bits = (bits << 6 | (unsigned)v) & 0xffff;
        have += 6;
        if (have >= 8) {
            have -= 8;
            if (*text == '\0' || (unsigned char)*text++ != (bits >> have & 0xff)) {
                return false;
            }
        }
    }
    return *text == '\0';
}

static int unsupported(struct gw_mcp_message *m, const char *version, struct base_buf *to)
{
    struct gw_mcp_out o = gw_mcp_out_begin(m, to);
    gw_mcp_raw(&o, ",\"error\":{\"code\":-32022,\"message\":\"Unsupported protocol version\","
                   "\"data\":{\"supported\":[\"");
    gw_mcp_raw(&o, modern_version);
    gw_mcp_raw(&o, "\"],\"requested\":");
    gw_mcp_string(&o, version, strlen(version));
    gw_mcp_raw(&o, "}}}");
    m->status = 400;
    return answered(o.rc);
}

static int mismatch(struct gw_mcp_message *m, const char *what, struct base_buf *to)
{
    return refuse(m, 400, -32020, what, to);
}

static int check_modern(const struct reading *r, struct gw_mcp_message *m, struct base_buf *to)
{
    char version[32];
    const struct gw_mcp_head *h = r->head;
    if (!gw_json_text(r->meta_version, version, sizeof version)) {
        return refuse(
            m, 400, -32602, "Invalid params: _meta needs " META "protocolVersion, a string.", to);
    }
    if (h->version == NULL || strcmp(h->version, version) != 0) {
        return mismatch(m, "Header mismatch: MCP-Protocol-Version must be as in _meta.", to);
    }
    if (strcmp(version, modern_version) != 0) {
        return unsupported(m, version, to);
    }
    if (h->method == NULL || !field_says(h->method, r->name)) {
        return mismatch(m, "Header mismatch: Mcp-Method must be the method.", to);
    }
    if (gw_json_kind(gw_json_member(meta_of(r), META "clientCapabilities")) != '{') {
        return refuse(m, 400, -32602,
            "Invalid params: _meta needs " META "clientCapabilities, an object.", to);
    }
    char name[128];
    bool named = gw_json_text(gw_json_member(r->params, "name"), name, sizeof name);
    if (strcmp(r->name, "tools/call") == 0 && named &&
        (h->name == NULL || !field_says(h->name, name))) {
        return mismatch(m, "Header mismatch: Mcp-Name must be the tool's name.", to);
    }
    return GO_ON;
}

/* ---- methods ---- */

static int initialize(const struct reading *r, struct gw_mcp_message *m, struct base_buf *to)
{
    char version[32];
    struct gw_json_view asked = gw_json_member(r->params, "protocolVersion");
    const char *answer = legacy_versions[0];
    if (asked.n == 0) {
        answer = "2025-03-26"; /* a bare initialize gets what the public service says */
    } else if (gw_json_text(asked, version, sizeof version) && legacy_known(version)) {
        answer = version;
    }
    m->opens = true;
    struct gw_mcp_out o = gw_mcp_out_begin(m, to);
    gw_mcp_raw(&o, ",\"result\":{\"protocolVersion\":\"");
    gw_mcp_raw(&o, answer);
    gw_mcp_raw(&o, "\",\"serverInfo\":" GW_MCP_SERVER_INFO
                   ",\"capabilities\":{\"tools\":{\"call\":true,\"list\":true,\"listChanged\":"
                   "false}},\"instructions\":" GW_MCP_INSTRUCTIONS "}}");
    return answered(o.rc);
}

static int discover(struct gw_mcp_message *m, struct base_buf *to)
{
    struct gw_mcp_out o = gw_mcp_out_begin(m, to);
    gw_mcp_result_begin(&o, m);
    gw_mcp_raw(&o, "\"supportedVersions\":[\"");
    gw_mcp_raw(&o, modern_version);
    gw_mcp_raw(&o, "\"],\"capabilities\":{\"tools\":{}},\"ttlMs\":60000,\"cacheScope\":\"private\","
                   "\"instructions\":" GW_MCP_INSTRUCTIONS "}}");
    return answered(o.rc);
}

static void fixtures_list(const struct reading *r, struct gw_mcp_out *o)
{
    (void)r;
    (void)o;
#ifdef WARREN_MCP_FIXTURES
    if (r->head->fixtures) {
        gw_mcp_fixtures_list(o);
    }
#endif
}

/* As gw_mcp_fixture(). */
static int fixture(
    const struct reading *r, const char *name, struct gw_mcp_message *m, struct base_buf *to)
{
#ifdef WARREN_MCP_FIXTURES
    if (r->head->fixtures) {
        return gw_mcp_fixture(name, m, gw_json_member(meta_of(r), META "clientCapabilities"), to);
    }
#endif
    (void)r;
    (void)name;
    (void)m;
    (void)to;
    return BASE_ENOTFOUND;
}

static int list(const struct reading *r, struct gw_mcp_message *m, struct base_buf *to)
{
    struct gw_mcp_out o = gw_mcp_out_begin(m, to);
    gw_mcp_result_begin(&o, m);
    gw_mcp_raw(
        &o, m->modern ? "\"ttlMs\":60000,\"cacheScope\":\"private\",\"tools\":" : "\"tools\":");
    gw_mcp_raw(&o, gw_mcp_tools_json());
    fixtures_list(r, &o);
    gw_mcp_raw(&o, "]}}");
    return answered(o.rc);
}

static int ping(struct gw_mcp_message *m, struct base_buf *to)
{
    struct gw_mcp_out o = gw_mcp_out_begin(m, to);
    gw_mcp_raw(&o, ",\"result\":{}}");
    return answered(o.rc);
}

static int call(const struct reading *r, struct gw_mcp_message *m, struct base_buf *to)
{
    static const char unknown[] = "Unknown tool: ";
    char name[128], text[sizeof unknown + sizeof name];
    if (!gw_json_text(gw_json_member(r->params, "name"), name, sizeof name)) {
        return refuse(m, 200, -32602, "Invalid params: the tool's name is missing.", to);
    }
    struct gw_json_view token = gw_json_member(meta_of(r), "progressToken");
    if (id_ok(token)) {
        m->token = token;
    }
    if (!gw_mcp_tool_find(name, &m->tool)) {
        int v = fixture(r, name, m, to);
        if (v != BASE_ENOTFOUND) {
            return v;
        }
        memcpy(text, unknown, sizeof unknown);
        memcpy(text + sizeof unknown - 1, name, strlen(name) + 1);
        return refuse(m, 200, -32602, text, to);
    }
    m->args = gw_json_member(r->params, "arguments");
    const char *wrong = gw_mcp_tool_check(m);
    return wrong == NULL ? GW_MCP_CALL : answered(gw_mcp_tool_error(m, wrong, to));
}

static int notification(const struct reading *r, struct gw_mcp_message *m)
{
    if (strcmp(r->name, "notifications/cancelled") == 0 && !m->modern) {
        m->id = gw_json_member(r->params, "requestId");
        return id_ok(m->id) ? GW_MCP_CANCEL : GW_MCP_ACCEPTED;
    }
    return GW_MCP_ACCEPTED;
}

int gw_mcp_read(const void *json, size_t n, const struct gw_mcp_head *head,
    struct gw_mcp_message *m, struct base_buf *to)
{
    struct reading r = {.head = head};
    memset(m, 0, sizeof *m);
    m->status = 200;
    int v = read_shape(json, n, &r, m, to);
    if (v != GO_ON) {
        return v;
    }
    choose_era(&r, m);
    if (m->modern) {
        v = m->id.n > 0 ? check_modern(&r, m, to) : GO_ON;
    } else if (head->version != NULL && !legacy_known(head->version)) {
        v = refuse(
            m, 400, -32600, "MCP-Protocol-Version names no version that is spoken here.", to);
    }
    if (v != GO_ON) {
        return v;
    }
    if (m->id.n == 0) {
        return notification(&r, m);
    }
    if (strcmp(r.name, "tools/call") == 0) {
        return call(&r, m, to);
    }
    if (strcmp(r.name, "tools/list") == 0) {
        return list(&r, m, to);
    }
    if (m->modern && strcmp(r.name, "server/discover") == 0) {
        return discover(m, to);
    }
    if (!m->modern && strcmp(r.name, "initialize") == 0) {
        return initialize(&r, m, to);
    }
    if (!m->modern && strcmp(r.name, "ping") == 0) {
        return ping(m, to);
    }
    return refuse(m, m->modern ? 404 : 200, -32601, "Method not found", to);
}

/* ---- who may call from a browser ---- */

static bool loopback(const char *host)
{
    static const char *const names[] = {"localhost", "127.0.0.1", "[::1]"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        size_t n = strlen(names[i]);
        if (gw_http_same_n(host, names[i], n) && (host[n] == '\0' || host[n] == ':')) {
            return true;
        }
    }
    return false;
}

bool gw_mcp_origin_ok(const char *host, const char *origin, bool local)
{
    if (local && host != NULL && host[0] != '\0' && !loopback(host)) {
        return false;
    }
    if (origin == NULL || origin[0] == '\0') {
        return true;
    }
    const char *colon = strchr(origin, ':');
    return colon != NULL && strncmp(colon, "://", 3) == 0 && loopback(colon + 3);
}
