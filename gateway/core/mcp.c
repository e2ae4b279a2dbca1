#include "gateway/core/mcp.h"

#include <string.h>

#include "gateway/core/base64.h"
#include "gateway/core/json.h"
#ifdef WARREN_MCP_FIXTURES
#include "gateway/core/mcp_fixtures.h"
#endif
#include "gateway/core/mcp_tools.h"
#include "gateway/core/mcp_write.h"
#include "proto/base/container.h"
#include "proto/base/err.h"

#define META "io.modelcontextprotocol/"

enum { FIELD_MAX = 8 << 10 }; /* of Mcp-Name in base64 */

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

/* True when the header field says text: as it is, or as =?base64?...?=. */
static bool field_says(const char *field, const char *text)
{
    static const char start[] = "=?base64?", stop[] = "?=";
    uint8_t plain[FIELD_MAX];
    size_t n = strlen(field), head = sizeof start - 1, tail = sizeof stop - 1;
    if (n < head + tail || n > FIELD_MAX || strncmp(field, start, head) != 0 ||
        strcmp(field + n - tail, stop) != 0) {
        return strcmp(field, text) == 0;
    }
    ptrdiff_t got = gw_base64_decode(field + head, n - head - tail, plain);
    return got >= 0 && (size_t)got == strlen(text) && memcmp(plain, text, (size_t)got) == 0;
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

/* Mcp-Name is the tool's name, or the resource's address. */
static int check_name(const struct reading *r, struct gw_mcp_message *m, struct base_buf *to)
{
    char name[GW_MCP_URI_MAX];
    const char *field = r->head->name;
    bool tool = strcmp(r->name, "tools/call") == 0;
    if (!tool && strcmp(r->name, "resources/read") != 0) {
        return GO_ON;
    }
    bool named = gw_json_text(gw_json_member(r->params, tool ? "name" : "uri"), name, sizeof name);
    if (named && (field == NULL || !field_says(field, name))) {
        return mismatch(m, "Header mismatch: Mcp-Name must be the tool's name or the uri.", to);
    }
    return GO_ON;
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
    return check_name(r, m, to);
}

/* ---- methods ---- */

static const char *capabilities(const struct reading *r)
{
    return r->head->extended ? ",\"resources\":{}}" : "}";
}

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
                   "false}");
    gw_mcp_raw(&o, capabilities(r));
    gw_mcp_raw(&o, ",\"instructions\":" GW_MCP_INSTRUCTIONS "}}");
    return answered(o.rc);
}

static int discover(const struct reading *r, struct gw_mcp_message *m, struct base_buf *to)
{
    struct gw_mcp_out o = gw_mcp_out_begin(m, to);
    gw_mcp_result_begin(&o, m);
    gw_mcp_raw(&o, "\"supportedVersions\":[\"");
    gw_mcp_raw(&o, modern_version);
    gw_mcp_raw(&o, "\"],\"capabilities\":{\"tools\":{}");
    gw_mcp_raw(&o, capabilities(r));
    gw_mcp_raw(&o, "," GW_MCP_CACHED "\"instructions\":" GW_MCP_INSTRUCTIONS "}}");
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
    gw_mcp_raw(&o, m->modern ? GW_MCP_CACHED "\"tools\":" : "\"tools\":");
    gw_mcp_tools_list(&o, r->head->extended);
    fixtures_list(r, &o);
    gw_mcp_raw(&o, "]}}");
    return answered(o.rc);
}

static int ping(const struct reading *r, struct gw_mcp_message *m, struct base_buf *to)
{
    (void)r;
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
    if (!gw_mcp_tool_find(name, r->head->extended, &m->tool)) {
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

/* ---- resources: the files of environments ---- */

/* There is no list of environments, they are secrets of those who made them; so no list of files.
 */
static int resources(const struct reading *r, struct gw_mcp_message *m, struct base_buf *to)
{
    struct gw_mcp_out o = gw_mcp_out_begin(m, to);
    gw_mcp_result_begin(&o, m);
    gw_mcp_raw(&o, m->modern ? GW_MCP_CACHED : "");
    gw_mcp_raw(&o, strcmp(r->name, "resources/list") == 0
                       ? "\"resources\":[]}}"
                       : "\"resourceTemplates\":[{\"uriTemplate\":\"" GW_MCP_URI
                         "{environmentId}/{+path}\",\"name\":\"file\",\"title\":\"A file of an "
                         "environment\",\"description\":\"The path is within /mnt/data.\"}]}}");
    return answered(o.rc);
}

static int read_resource(const struct reading *r, struct gw_mcp_message *m, struct base_buf *to)
{
    m->args = r->params;
    m->tool = GW_MCP_RESOURCE;
    return gw_mcp_resource_find(m)
               ? GW_MCP_CALL
               : answered(gw_mcp_resource_error(m, true, "Resource not found", to));
}

static int notification(const struct reading *r, struct gw_mcp_message *m)
{
    if (strcmp(r->name, "notifications/cancelled") == 0 && !m->modern) {
        m->id = gw_json_member(r->params, "requestId");
        return id_ok(m->id) ? GW_MCP_CANCEL : GW_MCP_ACCEPTED;
    }
    return GW_MCP_ACCEPTED;
}

static int method(const struct reading *r, struct gw_mcp_message *m, struct base_buf *to)
{
    static const struct {
        const char *name;
        int (*go)(const struct reading *r, struct gw_mcp_message *m, struct base_buf *to);
        bool legacy, modern, extended;
    } methods[] = {{"tools/call", call, true, true, false}, {"tools/list", list, true, true, false},
        {"server/discover", discover, false, true, false},
        {"initialize", initialize, true, false, false}, {"ping", ping, true, false, false},
        {"resources/list", resources, true, true, true},
        {"resources/templates/list", resources, true, true, true},
        {"resources/read", read_resource, true, true, true}};
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        bool known = (m->modern ? methods[i].modern : methods[i].legacy) &&
                     (r->head->extended || !methods[i].extended);
        if (known && strcmp(r->name, methods[i].name) == 0) {
            return methods[i].go(r, m, to);
        }
    }
    return refuse(m, m->modern ? 404 : 200, -32601, "Method not found", to);
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
    m->links = head->version != NULL && strcmp(head->version, "2025-06-18") >= 0;
    return method(&r, m, to);
}
