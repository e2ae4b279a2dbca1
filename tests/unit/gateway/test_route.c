#include "gateway/core/file_path.h"
#include "gateway/core/route.h"
#include "proto/base/err.h"
#include "tests/lib/check.h"

static struct gw_target target;
static struct gw_route route;

static enum gw_route_fault find(enum gw_method method, const char *text)
{
    CHECK_EQ(gw_target_parse(&target, text), 0);
    return gw_route_find(&target, method, &route);
}

static void check_op(enum gw_method method, const char *text, enum gw_op op)
{
    enum gw_route_fault fault = find(method, text);
    if (fault != GW_ROUTE_OK || route.op != op) {
        (void)fprintf(stderr, "%s: fault %d, op %s\n", text, fault, gw_route_op_name(route.op));
        exit(1);
    }
}

#define LONG "/subscriptions/s-1/resourceGroups/rg/sessionPools/my-pool"

TEST(every_operation_is_found_in_both_forms_of_the_path)
{
    static const struct {
        enum gw_method method;
        const char *tail;
        enum gw_op op;
    } ops[] = {
        {GW_METHOD_POST, "/executions?identifier=abcd&", GW_OP_EXECUTE},
        {GW_METHOD_POST, "/execute?identifier=abcd&", GW_OP_EXECUTE},
        {GW_METHOD_POST, "/code/execute?identifier=abcd&", GW_OP_EXECUTE},
        {GW_METHOD_POST, "/python/execute?identifier=abcd&", GW_OP_EXECUTE},
        {GW_METHOD_POST, "/python/execute/executions?identifier=abcd&", GW_OP_EXECUTE},
        {GW_METHOD_GET, "/executions/e-1?identifier=abcd&", GW_OP_EXECUTION_GET},
        {GW_METHOD_GET, "/execute/e-1?identifier=abcd&", GW_OP_EXECUTION_GET},
        {GW_METHOD_GET, "/executions/e-1/events?identifier=abcd&", GW_OP_EXECUTION_EVENTS},
        {GW_METHOD_POST, "/executions/e-1/cancel?identifier=abcd&", GW_OP_EXECUTION_CANCEL},
        {GW_METHOD_DELETE, "/executions/e-1?identifier=abcd&", GW_OP_EXECUTION_CANCEL},
        {GW_METHOD_GET, "/terminal?identifier=abcd&columns=80&", GW_OP_TERMINAL},
        {GW_METHOD_GET, "/files?identifier=abcd&", GW_OP_FILES_LIST},
        {GW_METHOD_POST, "/files?identifier=abcd&", GW_OP_FILE_UPLOAD},
        {GW_METHOD_POST, "/files/upload?identifier=abcd&", GW_OP_FILE_UPLOAD},
        {GW_METHOD_GET, "/files/a.txt?identifier=abcd&", GW_OP_FILE_STAT},
        {GW_METHOD_GET, "/files/a.txt/content?identifier=abcd&", GW_OP_FILE_CONTENT},
        {GW_METHOD_HEAD, "/files/a.txt/content?identifier=abcd&", GW_OP_FILE_CONTENT},
        {GW_METHOD_GET, "/files/content/a.txt?identifier=abcd&", GW_OP_FILE_CONTENT},
        {GW_METHOD_DELETE, "/files/a.txt?identifier=abcd&", GW_OP_FILE_DELETE},
        {GW_METHOD_GET, "/session?identifier=abcd&", GW_OP_SESSION_GET},
        {GW_METHOD_DELETE, "/session?identifier=abcd&", GW_OP_SESSION_DELETE},
        {GW_METHOD_GET, "/listSessions?", GW_OP_SESSIONS_LIST},
        {GW_METHOD_POST, "/.management/getSession?identifier=abcd&", GW_OP_MANAGEMENT_GET},
        {GW_METHOD_POST, "/.management/listSessions?skip=0&", GW_OP_MANAGEMENT_LIST},
        {GW_METHOD_POST, "/.management/stopSession?identifier=abcd&", GW_OP_MANAGEMENT_STOP},
        {GW_METHOD_GET, "/metadata?", GW_OP_METADATA},
        {GW_METHOD_POST, "/mcp?", GW_OP_MCP},
        {GW_METHOD_POST, "/fetchMcpServerCredentials?", GW_OP_MCP_FETCH},
        {GW_METHOD_POST, "/rotateMcpServerCredentials?", GW_OP_MCP_ROTATE},
        {GW_METHOD_POST, "/regenerateCredentials?", GW_OP_MCP_ROTATE},
    };
    static const char *const prefixes[] = {"/pools/my-pool", LONG, LONG "/",
        "/SUBSCRIPTIONS/s/resourcegroups/r/providers/microsoft.app/sessionpools/My-Pool",
        "/pools/my-pool/identifier/abcd", "https://host:8443/pools/my-pool"};
    for (unsigned p = 0; p < sizeof prefixes / sizeof *prefixes; p++) {
        for (unsigned i = 0; i < sizeof ops / sizeof *ops; i++) {
            char text[512];
            (void)snprintf(
                text, sizeof text, "%s%sapi-version=2025-02-02-preview", prefixes[p], ops[i].tail);
            check_op(ops[i].method, text, ops[i].op);
            CHECK_STR(route.pool, "my-pool");
        }
    }
}

TEST(the_shape_follows_path_and_version)
{
    check_op(GW_METHOD_POST,
        "/pools/p-1/code/execute?identifier=abcd&api-version=2025-02-02-preview", GW_OP_EXECUTE);
    CHECK(route.legacy && !route.python);
    check_op(GW_METHOD_POST, "/pools/p-1/python/execute?identifier=abcd", GW_OP_EXECUTE);
    CHECK(route.legacy && route.python);
    check_op(GW_METHOD_GET, "/pools/p-1/files?identifier=abcd&api-version=2024-02-02-preview",
        GW_OP_FILES_LIST);
    CHECK(route.legacy);
    check_op(GW_METHOD_GET, "/pools/p-1/files?identifier=abcd&API-VERSION=2024-08-02-preview",
        GW_OP_FILES_LIST);
    CHECK(route.legacy);
    check_op(GW_METHOD_GET, "/pools/p-1/files?identifier=abcd", GW_OP_FILES_LIST);
    CHECK(!route.legacy);
    CHECK_EQ(gw_route_version("2024-10-02-preview"), GW_VERSION_2024_10);
    CHECK_EQ(gw_route_version("2025-10-02-preview"), GW_VERSION_2025_10);
    CHECK_EQ(gw_route_version("2025-02-02-preview"), GW_VERSION_FLAT);
    CHECK_EQ(gw_route_version("nonsense"), GW_VERSION_FLAT);
}

static void check_identifier(const char *query, const char *want)
{
    char text[1024];
    (void)snprintf(text, sizeof text, "/pools/p-1/session?%s", query);
    CHECK_EQ(find(GW_METHOD_GET, text), GW_ROUTE_OK);
    CHECK_EQ(route.id.len, strlen(want));
    CHECK(memcmp(route.id.text, want, route.id.len) == 0);
}

TEST(identifiers_are_taken_raw_and_escaped_in_any_order)
{
    check_identifier("api-version=x&identifier=a+b/c:d@e", "a+b/c:d@e");
    check_identifier("identifier=a%2Bb%2fc&api-version=x", "a+b/c");
    check_identifier("Identifier=%7C-%26%5E%25%24%23()%7B%7D%5B%5D;%3C%3E", "|-&^%$#(){}[];<>");
    check_identifier("identifier=100%done", "100%done");
    check_identifier("identifier=a=b=c=", "a=b=c=");
}

TEST(identifiers_outside_the_rules_are_named)
{
    char text[512];
    CHECK_EQ(find(GW_METHOD_GET, "/pools/p-1/session"), GW_ROUTE_NO_IDENTIFIER);
    CHECK_EQ(find(GW_METHOD_GET, "/pools/p-1/session?identifier="), GW_ROUTE_NO_IDENTIFIER);
    CHECK_EQ(find(GW_METHOD_GET, "/pools/p-1/session?identifier=abc"), GW_ROUTE_IDENTIFIER_LENGTH);
    (void)snprintf(text, sizeof text, "/pools/p-1/session?identifier=%0129d", 1);
    CHECK_EQ(find(GW_METHOD_GET, text), GW_ROUTE_IDENTIFIER_LENGTH);
    (void)snprintf(text, sizeof text, "/pools/p-1/session?identifier=%0128d", 1);
    CHECK_EQ(find(GW_METHOD_GET, text), GW_ROUTE_OK);
    CHECK_EQ(
        find(GW_METHOD_GET, "/pools/p-1/session?identifier=a%20bc"), GW_ROUTE_IDENTIFIER_CHARACTER);
    CHECK_EQ(
        find(GW_METHOD_GET, "/pools/p-1/session?identifier=a%5Cbc"), GW_ROUTE_IDENTIFIER_CHARACTER);
    CHECK_EQ(find(GW_METHOD_GET, "/pools/p-1/session?identifier=ab%C3%A4c"),
        GW_ROUTE_IDENTIFIER_CHARACTER);
    CHECK_EQ(find(GW_METHOD_GET, "/pools/p-1/identifier/abcd/session?identifier=abce"),
        GW_ROUTE_IDENTIFIER_TWICE);
}

TEST(wrong_addresses_and_methods_are_told_apart)
{
    CHECK_EQ(find(GW_METHOD_GET, "/"), GW_ROUTE_NO_RESOURCE);
    CHECK_EQ(find(GW_METHOD_GET, "/pools"), GW_ROUTE_NO_RESOURCE);
    CHECK_EQ(find(GW_METHOD_GET, "/pools/p-1"), GW_ROUTE_NO_RESOURCE);
    CHECK_EQ(find(GW_METHOD_GET, "/pools/P_1/session?identifier=abcd"), GW_ROUTE_NO_POOL);
    CHECK_EQ(find(GW_METHOD_GET, "/pools/p-1/nothing"), GW_ROUTE_NO_RESOURCE);
    CHECK_EQ(
        find(GW_METHOD_GET, "/subscriptions/s/sessionPools/p-1/session"), GW_ROUTE_NO_RESOURCE);
    CHECK_EQ(find(GW_METHOD_GET, "/pools/p-1/executions?identifier=abcd"), GW_ROUTE_METHOD);
    CHECK_STR(route.allow, "POST");
    CHECK_EQ(find(GW_METHOD_PUT, "/pools/p-1/files?identifier=abcd"), GW_ROUTE_METHOD);
    CHECK_STR(route.allow, "GET, HEAD, POST");
    check_op(GW_METHOD_GET, "/healthz", GW_OP_HEALTH);
    CHECK_EQ(find(GW_METHOD_PUT, "/pools/p-1/executions/e-1?identifier=abcd"), GW_ROUTE_METHOD);
    CHECK_STR(route.allow, "GET, HEAD, DELETE");
    CHECK_EQ(find(GW_METHOD_PUT, "/pools/p-1/files/a.txt?identifier=abcd"), GW_ROUTE_METHOD);
    CHECK_STR(route.allow, "GET, HEAD, DELETE");
    CHECK_EQ(find(GW_METHOD_GET, "/pools/p-1/mcp"), GW_ROUTE_METHOD);
    CHECK_STR(route.allow, "POST");
    CHECK_EQ(route.op, GW_OP_MCP);
    static const char *const none[] = {"/subscriptions/s/resourceGroups/r/pools/p-1/session",
        "/subscriptions/s/resourceGroups/r/providers/Microsoft.Web/sessionPools/p-1/session",
        "/subscriptions/s/resourceGroups/r/sessionPools",
        "/pools/p-1/executions/e-1/nothing?identifier=abcd",
        "/pools/p-1/executions/e-1/events/2?identifier=abcd",
        "/pools/p-1/executions/"
        "0123456789012345678901234567890123456789012345678901234567890123456789"
        "0123456789012345678901234567890123456789012345678901234567890123456789?identifier=abcd",
        "/pools/p-1/.management/dropSessions", "/pools/p-1/.management/getSession/a"};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        CHECK_EQ(find(GW_METHOD_GET, none[i]), GW_ROUTE_NO_RESOURCE);
    }
    CHECK_EQ(
        find(GW_METHOD_GET, "/pools/p-1234567890123456789012345678901234567890123456789012345678"
                            "90123456789012345678901234567890/session?identifier=abcd"),
        GW_ROUTE_NO_POOL);
    CHECK_EQ(gw_target_parse(&target, "/pools/p%00/session"), BASE_EBADMSG);
    CHECK_EQ(gw_target_parse(&target, "/pools/%ff/session"), BASE_EBADMSG);
}

static void check_path(const char *tail, const char *want)
{
    char text[1024];
    (void)snprintf(text, sizeof text, "/pools/p-1/%sidentifier=abcd", tail);
    CHECK_EQ(find(GW_METHOD_GET, text), GW_ROUTE_OK);
    CHECK_STR(route.path, want);
}

TEST(file_paths_mean_the_same_however_they_are_written)
{
    check_path("files?", "");
    check_path("files?path=&", "");
    check_path("files?path=/&", "");
    check_path("files?path=/mnt/data&", "");
    check_path("files?path=%2Fmnt%2Fdata%2F&", "");
    check_path("files?path=a/b&", "a/b");
    check_path("files?path=/mnt/data/a/./b/&", "a/b");
    check_path("files?path=a+b&", "a b");
    check_path("files/x.txt?path=a&", "a/x.txt");
    check_path("files/c++.txt/content?", "c++.txt");
    check_path("files/a%2Fb.txt/content?", "a/b.txt");
    check_path("files/a/b.txt/content?", "a/b.txt");
    check_path("files/content/a/b.txt?", "a/b.txt");
    check_path("files/content//mnt/data/b.txt?", "b.txt");
    check_path("files/content/%2Fmnt%2Fdata%2Fb.txt?", "b.txt");
    check_path("files/content/mnt/data/b.txt?", "mnt/data/b.txt");
    check_path("files/content?", "content");
    check_path("files/content/content?", "content");
    check_path("files/%C3%A4%20%23.txt?", "\xc3\xa4 #.txt");
    check_path("files/100%25?", "100%");
}

TEST(paths_that_climb_or_hide_bytes_are_refused)
{
    static const char *const bad[] = {"files/..?", "files/%2e%2e/content?", "files/a%2F..%2Fb?",
        "files/a%5Cb?", "files/a%0Ab?", "files?path=../x&", "files?path=a/../../x&",
        "files/x?path=/mnt/data/..&"};
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[256];
        (void)snprintf(text, sizeof text, "/pools/p-1/%sidentifier=abcd", bad[i]);
        CHECK_EQ(find(GW_METHOD_GET, text), GW_ROUTE_PATH);
    }
}

TEST(a_folder_outside_the_root_is_marked)
{
    check_path("files?path=/etc&", "etc");
    CHECK(route.absolute);
    check_path("files?path=etc&", "etc");
    CHECK(!route.absolute);
}

TEST(content_types_say_their_charset)
{
    CHECK_STR(gw_file_type("a.txt"), "text/plain; charset=utf-8");
    CHECK_STR(gw_file_type("a.TXT"), "text/plain; charset=utf-8");
    CHECK_STR(gw_file_type("a.png"), "image/png");
    CHECK_STR(gw_file_type("noextension"), "application/octet-stream");
}

TEST(links_keep_the_prefix_that_the_client_used)
{
    check_op(GW_METHOD_POST, LONG "/executions?identifier=abcd", GW_OP_EXECUTE);
    CHECK_EQ(route.prefix_len, strlen(LONG));
    char text[64];
    gw_target_escape("a/b c~", 6, text);
    CHECK_STR(text, "a%2Fb%20c~");
}

TEST(operations_have_names_and_numbers_out_of_range_count_as_none)
{
    CHECK_STR(gw_route_op_name(GW_OP_NONE), "none");
    CHECK_STR(gw_route_op_name(GW_OP_EXECUTE), "execute");
    CHECK_STR(gw_route_op_name(GW_OP_MCP), "mcp");
    CHECK_STR(gw_route_op_name(GW_OP_HEALTH), "health");
    check_op(GW_METHOD_POST, "/pools/p-1/.management/listSessions?skip=4294967295",
        GW_OP_MANAGEMENT_LIST);
    CHECK_EQ(route.skip, UINT32_MAX);
    static const char *const none[] = {"4294967296", "-1", "1x", "99999999999999999999"};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        char text[100];
        (void)snprintf(text, sizeof text, "/pools/p-1/.management/listSessions?skip=%s", none[i]);
        check_op(GW_METHOD_POST, text, GW_OP_MANAGEMENT_LIST);
        CHECK_EQ(route.skip, 0);
    }
}

TEST(targets_are_bounded_in_bytes_segments_and_parameters)
{
    static char text[GW_H1_TARGET_MAX + 2];
    for (int i = 0; i < GW_TARGET_SEGMENTS_MAX; i++) {
        (void)strcat(text, "/a");
    }
    CHECK_EQ(gw_target_parse(&target, text), 0);
    CHECK_EQ(gw_target_parse(&target, strcat(text, "/a")), BASE_ETOOBIG);
    (void)strcpy(text, "/a?");
    for (int i = 0; i < GW_TARGET_PARAMS_MAX; i++) {
        (void)strcat(text, "&b=c");
    }
    CHECK_EQ(gw_target_parse(&target, text), 0);
    CHECK_STR(gw_target_param(&target, "B"), "c");
    CHECK_EQ(gw_target_parse(&target, strcat(text, "&d")), BASE_ETOOBIG);
    CHECK_EQ(gw_target_parse(&target, "/a?b=%00"), BASE_EBADMSG);
    memset(text, 'a', sizeof text - 1);
    text[0] = '/';
    CHECK_EQ(gw_target_parse(&target, text), BASE_ETOOBIG);
    text[GW_H1_TARGET_MAX] = '\0';
    CHECK_EQ(gw_target_parse(&target, text), 0);
}
