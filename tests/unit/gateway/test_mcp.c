#include <string.h>

#include "gateway/core/json.h"
#include "gateway/core/mcp.h"
#include "tests/lib/check.h"

#define META                                                                                       \
    "\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\","                       \
    "\"io.modelcontextprotocol/clientCapabilities\":{}}"

static struct gw_mcp_message m;
static char text[32768];

/* Reads a message; the answer is in text. */
static int ask(const char *json, const char *version, const char *method, const char *name)
{
    static char kept[4096]; /* views of m point into it */
    struct base_buf b = {0};
    struct gw_mcp_head head = {.version = version, .method = method, .name = name};
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

TEST(a_foreign_page_is_refused)
{
    CHECK(gw_mcp_origin_ok("h.example", NULL, false));
    CHECK(gw_mcp_origin_ok("127.0.0.1:8443", "http://localhost:3000", true));
    CHECK(gw_mcp_origin_ok("[::1]:8443", NULL, true));
    CHECK(!gw_mcp_origin_ok("evil.example.com", NULL, true));
    CHECK(!gw_mcp_origin_ok("localhost", "http://evil.example.com", true));
    CHECK(!gw_mcp_origin_ok("h.example", "https://localhost.evil.example", false));
    CHECK(!gw_mcp_origin_ok("h.example", "null", false));
}
