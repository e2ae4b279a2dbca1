#include "gateway/core/mcp_fixtures.h"

#include <string.h>

#include "proto/base/container.h"
#include "proto/base/err.h"

#ifdef WARREN_RELEASE
#error "fixtures of the conformance suite are for development builds only"
#endif

#define TEXT(s) "{\"type\":\"text\",\"text\":\"" s "\"}"
#define IMAGE                                                                                      \
    "{\"type\":\"image\",\"mimeType\":\"image/"                                                    \
    "png\",\"data\":\"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAY"                                         \
    "AAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==\"}"
#define AUDIO                                                                                      \
    "{\"type\":\"audio\",\"mimeType\":\"audio/wav\",\"data\":"                                     \
    "\"UklGRiQAAABXQVZFZm10IBAAAAABAAEARKwAAIhYAQACABAAZGF0YQAAAAA=\"}"
#define RESOURCE(uri, type, s)                                                                     \
    "{\"type\":\"resource\",\"resource\":{\"uri\":\"" uri "\",\"mimeType\":\"" type                \
    "\",\"text\":\"" s "\"}}"

/* The suite's own schema, to be handed on as it is. */
static const char schema[] =
    "{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\",\"type\":\"object\",\"$defs\":{"
    "\"address\":{\"$anchor\":\"addressDef\",\"type\":\"object\",\"properties\":{\"street\":{"
    "\"type\":\"string\"},\"city\":{\"type\":\"string\"}}}},\"properties\":{\"name\":{\"type\":"
    "\"string\"},\"address\":{\"$ref\":\"#/$defs/address\"},\"contactMethod\":{\"type\":\"string\","
    "\"enum\":[\"phone\",\"email\"]},\"phone\":{\"type\":\"string\"},\"email\":{\"type\":"
    "\"string\"}},\"allOf\":[{\"anyOf\":[{\"required\":[\"phone\"]},{\"required\":[\"email\"]}]}],"
    "\"if\":{\"properties\":{\"contactMethod\":{\"const\":\"phone\"}},\"required\":["
    "\"contactMethod\"]},\"then\":{\"required\":[\"phone\"]},\"else\":{\"required\":[\"email\"]},"
    "\"additionalProperties\":false}";

static const struct fixture {
    const char *name, *content;
    bool error;
} fixtures[] = {
    {"test_simple_text", TEXT("This is a simple text response for testing."), false},
    {"test_image_content", IMAGE, false},
    {"test_audio_content", AUDIO, false},
    {"test_embedded_resource",
        RESOURCE("test://embedded-resource", "text/plain", "This is an embedded resource content."),
        false},
    {"test_multiple_content_types",
        TEXT("Multiple content types test:") "," IMAGE "," RESOURCE("test://mixed-content-resource",
            "application/json", "{\\\"test\\\":\\\"data\\\",\\\"value\\\":123}"),
        false},
    {"test_error_handling", TEXT("This tool intentionally returns an error for testing"), true},
    {"test_tool_with_progress", TEXT("done"), false},
    {"test_missing_capability", TEXT("The client can sample."), false},
    {"test_logging_tool", TEXT("Nothing was logged."), false},
    {"test_streaming_elicitation", TEXT("Nobody was asked."), false},
    {"json_schema_2020_12_tool", TEXT("The schema is in the list."), false},
};

void gw_mcp_fixtures_list(struct gw_mcp_out *o)
{
    for (size_t i = 0; i < ARRAY_LEN(fixtures); i++) {
        bool named = strcmp(fixtures[i].name, "json_schema_2020_12_tool") == 0;
        gw_mcp_raw(o, ",{\"name\":\"");
        gw_mcp_raw(o, fixtures[i].name);
        gw_mcp_raw(o, "\",\"description\":\"For the conformance suite.\",\"inputSchema\":");
        gw_mcp_raw(o, named ? schema : "{\"type\":\"object\",\"properties\":{}}");
        gw_mcp_raw(o, "}");
    }
}

static int lacks_sampling(struct gw_mcp_message *m, struct base_buf *to)
{
    struct gw_mcp_out o = gw_mcp_out_begin(m, to);
    gw_mcp_raw(&o, ",\"error\":{\"code\":-32021,\"message\":\"The client cannot sample.\",\"data\":"
                   "{\"requiredCapabilities\":{\"sampling\":{}}}}}");
    m->status = 400;
    return o.rc;
}

int gw_mcp_fixture(const char *name, struct gw_mcp_message *m, struct gw_json_view capabilities,
    struct base_buf *to)
{
    const struct fixture *f = fixtures, *end = fixtures + ARRAY_LEN(fixtures);
    while (f < end && strcmp(f->name, name) != 0) {
        f++;
    }
    if (f == end) {
        return BASE_ENOTFOUND;
    }
    bool sampling = gw_json_member(capabilities, "sampling").n > 0;
    if (strcmp(name, "test_missing_capability") == 0 && m->modern && !sampling) {
        int rc = lacks_sampling(m, to);
        return rc < 0 ? rc : GW_MCP_ANSWERED;
    }
    struct gw_mcp_out o = gw_mcp_out_begin(m, to);
    gw_mcp_result_begin(&o, m);
    gw_mcp_raw(&o, f->error ? "\"isError\":true,\"content\":[" : "\"content\":[");
    gw_mcp_raw(&o, f->content);
    gw_mcp_raw(&o, "]}}");
    bool progress = strcmp(name, "test_tool_with_progress") == 0 && m->token.n > 0;
    return o.rc < 0 ? o.rc : progress ? GW_MCP_FIXTURE : GW_MCP_ANSWERED;
}

int gw_mcp_fixture_progress(const struct gw_mcp_message *m, int percent, struct base_buf *to)
{
    struct gw_mcp_out o = {to, 0};
    gw_mcp_raw(&o, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{"
                   "\"progressToken\":");
    gw_mcp_view(&o, m->token);
    o.rc = o.rc < 0 ? o.rc : base_buf_printf(to, ",\"progress\":%d,\"total\":100}}", percent);
    return o.rc;
}
