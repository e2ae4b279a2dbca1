#include <stdio.h>
#include <string.h>

#include "gateway/core/json.h"
#include "gateway/core/mcp.h"
#include "gateway/core/mcp_origin.h"
#include "proto/base/err.h"
#include "tests/lib/check.h"

#define META                                                                                       \
    "\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\","                       \
    "\"io.modelcontextprotocol/clientCapabilities\":{}}"

static struct gw_mcp_message m;
static char text[65536];

static bool extended; /* what the pool offers */

/* Reads a message; the answer is in text. */
static int ask(const char *json, const char *version, const char *method, const char *name)
{
    static char kept[4096]; /* views of m point into it */
    struct base_buf b = {0};
    struct gw_mcp_head head = {
        .version = version, .method = method, .name = name, .extended = extended};
    (void)strcpy(kept, json);
    int v = gw_mcp_read(kept, strlen(kept), &head, &m, &b);
    size_t n = base_buf_size(&b);
    CHECK(n < sizeof text);
    memcpy(text, n > 0 ? (const char *)base_buf_data(&b) : "", n);
    text[n] = '\0';
    CHECK(n == 0 || gw_json_valid(text, n));
    base_buf_deinit(&b);
    return v;
}

static int legacy(const char *json)
{
    return ask(json, NULL, NULL, NULL);
}

static bool has(const char *part)
{
    return strstr(text, part) != NULL;
}

TEST(a_bare_initialize_sees_the_revision_of_the_public_service)
{
    CHECK_EQ(
        legacy("{\"jsonrpc\":\"2.0\",\"id\":\"1\",\"method\":\"initialize\"}"), GW_MCP_ANSWERED);
    CHECK(m.status == 200 && m.opens && has("\"id\":\"1\"") && has("\"2025-03-26\"") &&
          has("\"call\":true"));
}

TEST(initialize_echoes_a_known_revision_and_answers_the_latest_to_another)
{
    (void)legacy("{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"initialize\",\"params\":"
                 "{\"protocolVersion\":\"2024-11-05\"}}");
    CHECK(has("\"id\":0,") && has("\"protocolVersion\":\"2024-11-05\""));
    (void)legacy("{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"initialize\",\"params\":"
                 "{\"protocolVersion\":\"1999-01-01\"}}");
    CHECK(has("\"protocolVersion\":\"2025-11-25\""));
}

TEST(messages_that_are_none_are_refused)
{
    static const struct {
        const char *json, *code;
        int status;
    } cases[] = {{"{", "-32700", 400}, {"", "-32700", 400}, {"[]", "-32600", 400},
        {"{\"id\":1,\"method\":\"ping\"}", "-32600", 400},
        {"{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"ping\"}", "-32600", 400},
        {"{\"jsonrpc\":\"2.0\",\"id\":1.5,\"method\":\"ping\"}", "-32600", 400},
        {"{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"ping\"}", "-32600", 400},
        {"{\"jsonrpc\":\"2.0\",\"id\":1}", "-32600", 400},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":7}", "-32600", 400},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":[]}", "-32602", 200},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"nope\"}", "-32601", 200},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"server/discover\"}", "-32601", 200},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\"}", "-32602", 200},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"x\"}}",
            "Unknown tool: x", 200}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CHECK_EQ(legacy(cases[i].json), GW_MCP_ANSWERED);
        CHECK(m.status == cases[i].status && has(cases[i].code) && !has("\"id\":null"));
    }
}

TEST(an_unknown_version_header_is_refused_in_either_era)
{
    static const char json[] = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}";
    CHECK_EQ(ask(json, "2025-06-18", NULL, NULL), GW_MCP_ANSWERED);
    CHECK(has("\"result\":{}"));
    (void)ask(json, "2023-01-01", NULL, NULL);
    CHECK(m.status == 400 && has("-32600"));
    (void)ask(json, "2026-07-28", "ping", NULL); /* modern, but no _meta */
    CHECK(m.status == 400 && has("-32602"));
}

TEST(notifications_and_responses_are_accepted)
{
    CHECK_EQ(
        legacy("{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}"), GW_MCP_ACCEPTED);
    CHECK_EQ(legacy("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}"), GW_MCP_ACCEPTED);
    CHECK_EQ(legacy("{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":"
                    "{\"requestId\":\"r 1\"}}"),
        GW_MCP_CANCEL);
    CHECK(m.id.n == 5 && memcmp(m.id.p, "\"r 1\"", 5) == 0);
}

TEST(the_modern_era_wants_headers_that_agree)
{
    static const char json[] =
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":"
        "\"launchShell\"," META "}}";
    static const char v[] = "2026-07-28", call[] = "tools/call";
    CHECK_EQ(ask(json, v, call, "launchShell"), GW_MCP_CALL);
    CHECK(m.modern && m.tool == GW_MCP_LAUNCH);
    CHECK_EQ(ask(json, v, call, "=?base64?bGF1bmNoU2hlbGw=?="), GW_MCP_CALL);
    const char *const wrong[][3] = {{NULL, call, "launchShell"},
        {"2025-11-25", call, "launchShell"}, {v, NULL, "launchShell"},
        {v, "tools/list", "launchShell"}, {v, call, NULL}, {v, call, "launchshell"},
        {v, call, "=?base64?bGF1bmNoU2hlbG?="}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        CHECK_EQ(ask(json, wrong[i][0], wrong[i][1], wrong[i][2]), GW_MCP_ANSWERED);
        CHECK(m.status == 400 && has("-32020"));
    }
}

TEST(the_modern_era_has_discover_and_neither_initialize_nor_ping)
{
    (void)ask("{\"jsonrpc\":\"2.0\",\"id\":\"p\",\"method\":\"server/discover\",\"params\":{" META
              "}}",
        "2026-07-28", "server/discover", NULL);
    CHECK(m.status == 200 && has("\"supportedVersions\":[\"2026-07-28\"]") &&
          has("\"resultType\":\"complete\"") && has("\"ttlMs\":") && has("serverInfo"));
    (void)ask("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":{" META "}}",
        "2026-07-28", "ping", NULL);
    CHECK(m.status == 404 && has("-32601"));
    (void)ask("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":{\"_meta\":{"
              "\"io.modelcontextprotocol/protocolVersion\":\"2027-01-01\"}}}",
        "2027-01-01", "ping", NULL);
    CHECK(m.status == 400 && has("-32022") && has("\"requested\":\"2027-01-01\""));
}

TEST(tools_are_listed_in_order_and_the_first_takes_nothing)
{
    (void)legacy("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\"}");
    const char *a = strstr(text, "\"launchShell\""), *b = strstr(text, "\"runShellCommandInRemote");
    const char *c = strstr(text, "\"runPythonCodeInRemoteEnvironment\"");
    CHECK(a != NULL && b > a && c > b && !has("launchPythonEnvironment"));
}

TEST(arguments_that_are_wrong_are_results_of_the_tool)
{
#define CALL(name, args)                                                                           \
    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"" name         \
    "\",\"arguments\":" args "}}"
#define PY "runPythonCodeInRemoteEnvironment"
#define SH "runShellCommandInRemoteEnvironment"
    static const char *const wrong[] = {CALL(PY, "{}"), CALL(PY, "[]"),
        CALL(PY, "{\"environmentId\":\"abcd\"}"),
        CALL(PY, "{\"environmentId\":\"1\",\"pythonCode\":\"\"}"),
        CALL(PY, "{\"environmentId\":7,\"pythonCode\":\"\"}"),
        CALL(SH, "{\"environmentId\":\"abcd\"}"),
        CALL(SH,
            "{\"environmentId\":\"abcd\",\"shellCommand\":\"a\",\"execCommandAndArgs\":[\"a\"]}"),
        CALL(SH, "{\"environmentId\":\"abcd\",\"execCommandAndArgs\":[]}"),
        CALL(SH, "{\"environmentId\":\"abcd\",\"execCommandAndArgs\":[\"a\",1]}")};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        CHECK_EQ(legacy(wrong[i]), GW_MCP_ANSWERED);
        CHECK(m.status == 200 && has("\"isError\":true"));
    }
    CHECK_EQ(legacy(CALL("launchPythonEnvironment", "{}")), GW_MCP_CALL);
    CHECK_EQ(m.tool, GW_MCP_LAUNCH);
}

static void body_is(const char *json, const char *want)
{
    struct base_buf b = {0};
    CHECK_EQ(legacy(json), GW_MCP_CALL);
    CHECK_EQ(gw_mcp_exec_body(&m, &b), 0);
    CHECK(base_buf_size(&b) == strlen(want) && memcmp(base_buf_data(&b), want, strlen(want)) == 0);
    base_buf_deinit(&b);
}

TEST(a_call_becomes_the_body_of_an_execution)
{
    body_is(CALL(PY, "{\"pythonCode\":\"a\\nb\",\"environmentId\":\"ab\\/cd\"}"),
        "{\"code\":\"a\\nb\"}");
    CHECK(strcmp(m.environment, "ab/cd") == 0);
    body_is(CALL(SH, "{\"environmentId\":\"abcd\",\"shellCommand\":\"ls\"}"),
        "{\"shellCommand\":\"ls\"}");
    body_is(CALL(SH, "{\"environmentId\":\"abcd\",\"shellCommand\":null,\"execCommandAndArgs\":[ "
                     "\"a\" , \"b\"]}"),
        "{\"execCommandAndArgs\":[ \"a\" , \"b\"]}");
}

TEST(failed_code_is_an_error_with_its_traceback)
{
    struct gw_outcome o;
    struct base_buf b = {0};
    gw_outcome_init(&o, 1000, 1000);
    struct gw_event e = {.seq = 1,
        .kind = GW_EVENT_ERROR,
        .error_name = "ValueError",
        .error_value = "no",
        .data = (const uint8_t *)"Traceback: no",
        .data_n = 13};
    struct gw_event done = {.seq = 2, .kind = GW_EVENT_DONE, .done = GW_DONE_ERROR};
    CHECK(gw_outcome_add(&o, &e) == 0 && gw_outcome_add(&o, &done) == 0);
    (void)legacy(CALL(PY, "{\"pythonCode\":\"a\",\"environmentId\":\"abcd\"}"));
    CHECK_EQ(gw_mcp_outcome(&m, &o, &b), 0);
    CHECK_EQ(base_buf_add(&b, "", 1), 0);
    const char *got = (const char *)base_buf_data(&b);
    CHECK(gw_json_valid(got, strlen(got)));
    CHECK(strstr(got, "\"isError\":true") != NULL && strstr(got, "Traceback: no") != NULL);
    base_buf_deinit(&b);
    gw_outcome_deinit(&o);
}

/* What has been written, as text. */
static const char *shown(struct base_buf *b)
{
    size_t n = base_buf_size(b);
    CHECK(n < sizeof text && gw_json_valid(base_buf_data(b), n));
    memcpy(text, base_buf_data(b), n);
    text[n] = '\0';
    base_buf_deinit(b);
    return text;
}

static void add_image(
    struct gw_outcome *o, uint64_t seq, const char *type, const char *data, size_t n)
{
    struct gw_event e = {.seq = seq,
        .kind = GW_EVENT_DISPLAY,
        .mime = {{type, (const uint8_t *)data, n}},
        .mimes = 1};
    CHECK_EQ(gw_outcome_add(o, &e), 0);
}

TEST(every_image_of_an_outcome_is_a_block)
{
    struct gw_outcome o;
    struct base_buf b = {0};
    gw_outcome_init(&o, 1000, 1000);
    add_image(&o, 1, "image/png", "one", 3);
    add_image(&o, 2, "image/jpeg", "two", 3);
    (void)legacy(CALL(PY, "{\"pythonCode\":\"a\",\"environmentId\":\"abcd\"}"));
    CHECK_EQ(gw_mcp_outcome(&m, &o, &b), 0);
    (void)shown(&b);
    const char *first = strstr(text, "\"mimeType\":\"image/png\",\"data\":\"b25l\"");
    CHECK(first != NULL && strstr(first, "\"mimeType\":\"image/jpeg\",\"data\":\"dHdv\"") != NULL);
    for (uint64_t i = 3; i < 40; i++) {
        add_image(&o, i, "image/gif", i == 39 ? "end" : "...", 3);
    }
    CHECK_EQ(o.images_n, GW_OUTCOME_IMAGES_MAX); /* the first stay, and the last */
    CHECK_EQ(o.images_dropped, 39 - GW_OUTCOME_IMAGES_MAX);
    CHECK(memcmp(base_buf_data(&o.images[0].bytes), "one", 3) == 0);
    CHECK(memcmp(base_buf_data(&o.images[o.images_n - 1].bytes), "end", 3) == 0);
    gw_outcome_deinit(&o);
}

TEST(images_of_an_outcome_are_bounded_in_bytes)
{
    static char large[GW_OUTCOME_BYTES_MAX + 1];
    struct gw_outcome o;
    gw_outcome_init(&o, 1000, 1000);
    add_image(&o, 1, "image/png", "one", 3);
    add_image(&o, 2, "image/png", large, GW_OUTCOME_BYTES_MAX - 2);
    CHECK(o.images_n == 1 && base_buf_size(&o.images[0].bytes) == GW_OUTCOME_BYTES_MAX - 2);
    add_image(&o, 3, "image/png", large, GW_OUTCOME_BYTES_MAX + 1);
    CHECK(o.images_n == 1 && o.images_dropped == 2);
    gw_outcome_deinit(&o);
}

static void gets_result(struct gw_outcome *o, const char *type, const char *data)
{
    struct gw_event e = {.seq = o->last_seq + 1,
        .kind = GW_EVENT_RESULT,
        .error_name = "",
        .error_value = "",
        .mime = {{type, (const uint8_t *)data, strlen(data)}},
        .mimes = 1};
    struct gw_event done = {.seq = o->last_seq + 2, .kind = GW_EVENT_DONE, .done = GW_DONE_OK};
    CHECK(gw_outcome_add(o, &e) == 0 && gw_outcome_add(o, &done) == 0);
}

TEST(a_modern_request_without_capabilities_is_refused)
{
    CHECK_EQ(ask("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\",\"params\":{\"_meta\":{"
                 "\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\"}}}",
                 "2026-07-28", "tools/list", NULL),
        GW_MCP_ANSWERED);
    CHECK(m.status == 400 && has("-32602") && has("clientCapabilities"));
}

TEST(values_are_json_where_they_can_be_and_what_is_missing_is_told)
{
    static const char *const cases[][3] = {{"text/plain", "[1, 2]", "\"executionResult\":[1, 2],"},
        {"text/plain", "<object>", "\"executionResult\":\"<object>\","},
        {"application/json", "{\"a\":null}", "\"executionResult\":{\"a\":null},"},
        {"application/x", "nan", "\"executionResult\":\"nan\","}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct gw_outcome o;
        struct base_buf b = {0};
        gw_outcome_init(&o, 1000, 1000);
        o.images_dropped = i == 0 ? 18 : 0;
        gets_result(&o, cases[i][0], cases[i][1]);
        (void)legacy(CALL(PY, "{\"pythonCode\":\"a\",\"environmentId\":\"abcd\"}"));
        CHECK_EQ(gw_mcp_outcome(&m, &o, &b), 0);
        (void)shown(&b);
        CHECK(has(cases[i][2]) && has("\"isError\":false"));
        CHECK_EQ(has("\"imagesDropped\":18"), i == 0);
        gw_outcome_deinit(&o);
    }
}

TEST(an_event_of_a_stream_is_one_line_whatever_the_text_has_between_its_parts)
{
    static const char json[] = "{\"a\":\r\n [1,\n2]}";
    struct base_buf b = {0};
    CHECK_EQ(gw_mcp_sse(json, strlen(json), &b), 0);
    CHECK_EQ(base_buf_add(&b, "", 1), 0);
    CHECK_STR((const char *)base_buf_data(&b), "event: message\ndata: {\"a\":   [1, 2]}\n\n");
    base_buf_deinit(&b);
}

/* ---- pools with all tools ---- */

#define UP "uploadFile"
#define E "\"environmentId\":\"ab/cd\""

TEST(only_pools_that_want_them_have_all_tools)
{
    static const char *const names[] = {
        "runNodeCodeInRemoteEnvironment", UP, "downloadFile", "listFiles", "stopEnvironment"};
    for (int on = 0; on < 2; on++) {
        extended = on;
        (void)legacy("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\"}");
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
            CHECK_EQ(has(names[i]), on);
        }
        (void)legacy(CALL("stopEnvironment", "{}"));
        CHECK_EQ(has("Unknown tool"), !on);
        (void)legacy("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\"}");
        CHECK_EQ(has("\"resources\":{}"), on);
        (void)legacy("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"resources/templates/list\"}");
        CHECK_EQ(has("{environmentId}/{+path}"), on);
    }
    body_is(
        CALL("runNodeCodeInRemoteEnvironment", "{\"nodeCode\":\"1\",\"environmentId\":\"abcd\"}"),
        "{\"code\":\"1\"}");
    extended = false;
}

TEST(paths_stay_below_the_data_folder)
{
    static const char *const wrong[] = {CALL(UP, "{" E ",\"path\":\"a\"}"),
        CALL(UP, "{" E ",\"path\":\"\",\"text\":\"\"}"),
        CALL(UP, "{" E ",\"path\":\"../a\",\"text\":\"\"}"),
        CALL(UP, "{" E ",\"path\":\"/etc/passwd\",\"text\":\"\"}"),
        CALL(UP, "{" E ",\"path\":\"a\\u0000b\",\"text\":\"\"}"),
        CALL(UP, "{" E ",\"path\":\"a\",\"text\":\"\",\"blob\":\"\"}"),
        CALL(UP, "{" E ",\"path\":\"a\",\"text\":7}"), CALL("downloadFile", "{" E "}"),
        CALL("downloadFile", "{" E ",\"path\":\"/mnt/data/\"}"),
        CALL("listFiles", "{" E ",\"path\":\"..\"}"), CALL("stopEnvironment", "{}")};
    extended = true;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        CHECK_EQ(legacy(wrong[i]), GW_MCP_ANSWERED);
        CHECK(m.status == 200 && has("Input validation error"));
    }
    CHECK_EQ(
        legacy(CALL("downloadFile", "{" E ",\"path\":\"/mnt/data/\\u00e4/b.csv\"}")), GW_MCP_CALL);
    CHECK_STR(m.path.text, "\xc3\xa4/b.csv");
    CHECK_EQ(legacy(CALL("listFiles", "{" E ",\"recursive\":true}")), GW_MCP_CALL);
    CHECK(m.recursive && m.path.text[0] == '\0');
    extended = false;
}

static void uploads(const char *json, const char *want, int rc)
{
    struct base_buf b = {0};
    CHECK_EQ(legacy(json), GW_MCP_CALL);
    CHECK_EQ(gw_mcp_upload_data(&m, &b), rc);
    if (rc == 0) {
        CHECK(base_buf_size(&b) == strlen(want) &&
              memcmp(base_buf_data(&b), want, strlen(want)) == 0);
    }
    base_buf_deinit(&b);
}

TEST(content_comes_as_text_or_in_base64)
{
    extended = true;
    uploads(CALL(UP, "{" E ",\"path\":\"a\",\"text\":\"x\\n\\u20ac\\ud83d\\ude00\"}"),
        "x\n\xe2\x82\xac\xf0\x9f\x98\x80", 0);
    uploads(CALL(UP, "{" E ",\"path\":\"a\",\"blob\":\"aGFsbG8=\"}"), "hallo", 0);
    uploads(CALL(UP, "{" E ",\"path\":\"a\",\"blob\":\"aGFsbA==\"}"), "hall", 0);
    uploads(CALL(UP, "{" E ",\"path\":\"a\",\"blob\":\"\\/\\/\\/\\/\"}"), "\xff\xff\xff", 0);
    uploads(CALL(UP, "{" E ",\"path\":\"a\",\"blob\":\"\"}"), "", 0);
    uploads(CALL(UP, "{" E ",\"path\":\"a\",\"blob\":\"a\"}"), NULL, BASE_EBADMSG);
    uploads(CALL(UP, "{" E ",\"path\":\"a\",\"blob\":\"a-b_\"}"), NULL, BASE_EBADMSG);
    uploads(CALL(UP, "{" E ",\"path\":\"a\",\"text\":\"\\ud800\"}"), NULL, BASE_EBADMSG);
    extended = false;
}

static const char *downloaded(const char *path, const char *data, size_t n)
{
    char json[400];
    struct base_buf in = {0}, b = {0};
    (void)snprintf(json, sizeof json, CALL("downloadFile", "{" E ",\"path\":\"%s\"}"), path);
    CHECK_EQ(legacy(json), GW_MCP_CALL);
    CHECK_EQ(base_buf_add(&in, data, n), 0);
    CHECK_EQ(gw_mcp_downloaded(&m, &in, &b), 0);
    base_buf_deinit(&in);
    return shown(&b);
}

TEST(a_file_is_an_image_or_a_resource)
{
    extended = true;
    const char *got = downloaded("a b/c.csv", "1,2", 3);
    CHECK(strstr(got, "\"uri\":\"environment:///ab%2Fcd/a%20b/c.csv\"") != NULL);
    CHECK(strstr(got, "{\"type\":\"resource\",\"resource\":{") != NULL);
    CHECK(strstr(got, "\"mimeType\":\"text/csv\",\"text\":\"1,2\"") != NULL);
    CHECK(strstr(got, "\"path\":\"/mnt/data/a b/c.csv\"") != NULL);
    CHECK(strstr(downloaded("x.bin", "a\0b", 3), "\"blob\":\"YQBi\"") != NULL);
    CHECK(strstr(downloaded("x.bin", "\xff", 1), "\"blob\":\"/w==\"") != NULL);
    got = downloaded("p.png", "\x89PNG\r\n\x1a\n0123", 12);
    CHECK(
        strstr(got, "{\"type\":\"image\",\"mimeType\":\"image/png\",\"data\":\"iVBORw0K") != NULL);
    CHECK(strstr(downloaded("p.webp", "RIFFxxxxWEBPVP8 ", 16), "\"type\":\"image\"") != NULL);
    CHECK(strstr(downloaded("p.webp", "RIFFxxxxWAVEfmt ", 16), "\"type\":\"image\"") == NULL);
    CHECK(strstr(downloaded("p.png", "GIF89a012345", 12), "\"type\":\"image\"") == NULL);
    CHECK(strstr(downloaded("p.png", "PNG", 3), "\"text\":\"PNG\"") != NULL);
    CHECK(strstr(downloaded("p.svg", "<svg/>       ", 12), "\"text\":\"<svg/>") != NULL);
    CHECK(strstr(downloaded("empty.txt", "", 0), "\"text\":\"\"") != NULL);
    extended = false;
}

TEST(resources_are_read_by_their_address)
{
#define READ(uri)                                                                                  \
    "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"resources/read\",\"params\":{\"uri\":\"" uri "\"}" \
    "}"
    static const char *const wrong[] = {READ("file:///a"), READ("environment:///abcd"),
        READ("environment:///abcd/"), READ("environment:///abcd/../x"),
        READ("environment:///abcd/%2e%2e/x"), READ("environment:///a/x"),
        READ("environment:///abcd/%"), READ("environment:///abcd/%zz"),
        READ("environment:///abcd/%00"), READ("")};
    struct base_buf b = {0}, data = {0};
    CHECK_EQ(legacy(READ("environment:///abcd/x")), GW_MCP_ANSWERED);
    CHECK(has("-32601"));
    extended = true;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        CHECK_EQ(legacy(wrong[i]), GW_MCP_ANSWERED);
        CHECK(has("-32602") && has("\"data\":{\"uri\":"));
    }
    CHECK_EQ(legacy(READ("environment:///ab%2Fcd/a/b%2Bc.txt")), GW_MCP_CALL);
    CHECK(m.tool == GW_MCP_RESOURCE && strcmp(m.environment, "ab/cd") == 0);
    CHECK_STR(m.path.text, "a/b+c.txt");
    CHECK(base_buf_add(&data, "hi", 2) == 0 && gw_mcp_downloaded(&m, &data, &b) == 0);
    CHECK(strstr(shown(&b),
              "\"contents\":[{\"uri\":\"environment:///ab%2Fcd/a/b%2Bc.txt\",\"mimeType\":"
              "\"text/plain\",\"text\":\"hi\"}]") != NULL);
    base_buf_deinit(&data);
    static const char modern[] =
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"resources/read\",\"params\":{\"uri\":"
        "\"environment:///abcd/x\"," META "}}";
    CHECK_EQ(ask(modern, "2026-07-28", "resources/read", "environment:///abcd/x"), GW_MCP_CALL);
    (void)ask(modern, "2026-07-28", "resources/read", "environment:///abcd/y");
    CHECK(m.status == 400 && has("-32020"));
    extended = false;
}

TEST(a_list_of_files_has_links_for_clients_that_know_them)
{
    static const struct gw_file files[] = {
        {"a.txt", "", false, 3, 0}, {"sub", "", true, 0, 0}, {"b.csv", "sub", false, 7, 0}};
    static const char *const versions[] = {NULL, "2025-03-26", "2025-06-18", "2025-11-25"};
    extended = true;
    for (int i = 0; i < 4; i++) {
        struct base_buf b = {0};
        CHECK_EQ(ask(CALL("listFiles", "{" E "}"), versions[i], NULL, NULL), GW_MCP_CALL);
        CHECK_EQ(gw_mcp_listed(&m, files, 3, true, &b), 0);
        const char *got = shown(&b);
        CHECK_EQ(strstr(got, "\"type\":\"resource_link\",\"name\":\"b.csv\"") != NULL, i >= 2);
        CHECK(strstr(got, "{\"type\":\"directory\",\"path\":\"/mnt/data/sub\",") != NULL);
        CHECK(strstr(got, "\"path\":\"/mnt/data/sub/b.csv\",\"sizeInBytes\":7") != NULL);
        CHECK(strstr(got, "\"truncated\":true") != NULL);
    }
    extended = false;
}

TEST(a_list_of_files_has_a_bound)
{
    static struct gw_file files[2000];
    static char name[1001];
    memset(name, '\x01', sizeof name - 1); /* six characters in JSON, nine in an address */
    extended = true;
    for (int wide = 0; wide < 2; wide++) {
        struct base_buf b = {0};
        for (int i = 0; i < 2000; i++) {
            files[i] = (struct gw_file){wide ? name : "a", "", false, 3, 0};
        }
        CHECK_EQ(legacy(CALL("listFiles", "{" E "}")), GW_MCP_CALL);
        CHECK_EQ(gw_mcp_listed(&m, files, 2000, false, &b), 0);
        CHECK(base_buf_size(&b) < 8U << 20 && base_buf_add(&b, "", 1) == 0);
        int n = 0;
        const char *at = (const char *)base_buf_data(&b);
        while ((at = strstr(at, "{\"type\":\"file\"")) != NULL) {
            n++;
            at++;
        }
        CHECK(wide ? n > 50 && n < 1000 : n == 1000);
        CHECK(strstr((const char *)base_buf_data(&b), "],\"truncated\":true}") != NULL);
        base_buf_deinit(&b);
    }
    extended = false;
}

TEST(a_foreign_page_is_refused)
{
    static const char *const origins[] = {"https://chat.example.org", "http://[fd00::1]:8080"};
    static const char *const hosts[] = {"warren.example.org"};
    const struct gw_mcp_places near = {.local = true}, far = {0};
    const struct gw_mcp_places listed = {false, origins, 2, hosts, 1};
    const struct gw_mcp_places proxied = {true, origins, 2, hosts, 1};
    CHECK(gw_mcp_place_ok(&far, "h.example", NULL) && gw_mcp_place_ok(&far, "", ""));
    CHECK(gw_mcp_place_ok(&near, "127.0.0.1:8443", "http://localhost:3000"));
    CHECK(gw_mcp_place_ok(&near, "[::1]:8443", NULL));
    CHECK(gw_mcp_place_ok(&listed, "Warren.example.org:8443", "https://CHAT.example.org"));
    CHECK(gw_mcp_place_ok(&listed, "warren.example.org", "http://[fd00::1]:8080"));
    CHECK(gw_mcp_place_ok(&proxied, "warren.example.org", NULL));
    CHECK(gw_mcp_place_ok(&proxied, "localhost", "https://chat.example.org"));
    static const char *const wrong[][2] = {{"localhost", "http://evil.example.com"},
        {"localhost", "https://localhost.evil.example"}, {"localhost", "null"},
        {"localhost", "http://localhost:80@evil.example"}, {"localhost", "ftp://localhost"},
        {"localhost", "https://chat.example.org.evil.example"},
        {"localhost", "https://chat.example.org:444"}, {"localhost", "http://chat.example.org"},
        {"evil.example.com", NULL}, {"localhost.evil.example", NULL}, {"localhost:", NULL},
        {"localhost:80x", NULL}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        CHECK(!gw_mcp_place_ok(&near, wrong[i][0], wrong[i][1]));
        CHECK(!gw_mcp_place_ok(&proxied, wrong[i][0], wrong[i][1]));
    }
    CHECK(
        !gw_mcp_place_ok(&listed, "localhost", NULL)); /* far from loopback, it is no name of it */
}

TEST(lists_of_places_have_places)
{
    CHECK(gw_mcp_origin_valid("https://a.example") && gw_mcp_origin_valid("http://[::1]:80"));
    CHECK(gw_mcp_host_valid("a.example") && gw_mcp_host_valid("[::1]"));
    static const char *const wrong[] = {"", "*", "https://", "https://*.example",
        "a.example:", "https://a.example/", "https://a.example:x", "https://u@a.example", "[::1",
        "https://[", "[]", "https://[]"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        CHECK(!gw_mcp_origin_valid(wrong[i]) && !gw_mcp_host_valid(wrong[i]));
    }
}
