#include "gateway/core/fault.h"
#include "gateway/core/json.h"
#include "gateway/core/render.h"
#include "tests/lib/check.h"

static char *text_of(struct base_buf *b)
{
    CHECK_EQ(base_buf_add(b, "", 1), 0);
    return (char *)base_buf_data(b);
}

static bool valid(const char *s)
{
    return gw_json_valid(s, strlen(s));
}

TEST(json_values_are_told_from_other_text)
{
    static const char *const good[] = {"1", "-0.5e+10", "\"a\\u00e4\\n\"", "[1, 2, [3]]", "{}",
        "[]", " {\"a\": [true, false, null]} ", "0", "123456789012345678901234567890"};
    static const char *const bad[] = {"", "nan", "NaN", "None", "True", "'a'", "01", "1.", ".5",
        "+1", "[1,]", "[1 2]", "{\"a\"}", "{a:1}", "{\"a\":1,}", "\"a", "\"\\x\"", "\"\n\"", "1 2",
        "[", "]", "[1]]", "\"\xff\"", "-", "1e", "tru", "array([1])"};
    for (unsigned i = 0; i < sizeof good / sizeof *good; i++) {
        CHECK(valid(good[i]));
    }
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (valid(bad[i])) {
            (void)fprintf(stderr, "accepted: %s\n", bad[i]);
            exit(1);
        }
    }
    char deep[2 * GW_JSON_DEPTH_MAX + 3];
    memset(deep, '[', GW_JSON_DEPTH_MAX);
    memset(deep + GW_JSON_DEPTH_MAX, ']', GW_JSON_DEPTH_MAX);
    CHECK(gw_json_valid(deep, 2 * GW_JSON_DEPTH_MAX));
    memset(deep, '[', GW_JSON_DEPTH_MAX + 1);
    memset(deep + GW_JSON_DEPTH_MAX + 1, ']', GW_JSON_DEPTH_MAX + 1);
    CHECK(!gw_json_valid(deep, 2 * GW_JSON_DEPTH_MAX + 2));
}

TEST(strings_are_escaped_and_made_utf8)
{
    struct base_buf b = {0};
    CHECK_EQ(gw_json_string(&b, "a\"\\\n\t\x01\x7f\xc3\xa4\xff\xe2\x82", 12), 0);
    CHECK_STR(text_of(&b),
        "\"a\\\"\\\\\\n\\t\\u0001\\u007f\xc3\xa4\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
    base_buf_clear(&b);
    CHECK_EQ(gw_json_base64(&b, "hello", 5), 0);
    CHECK_EQ(gw_json_base64(&b, "", 0), 0);
    CHECK_EQ(gw_json_base64(&b, "abc", 3), 0);
    CHECK_STR(text_of(&b), "\"aGVsbG8=\"\"\"\"YWJj\"");
    base_buf_deinit(&b);
}

/* ---- executions ---- */

static struct gw_outcome outcome;
static uint64_t seq;

static void begin(uint64_t max)
{
    gw_outcome_init(&outcome, max, max);
    seq = 0;
}

static void add_text(enum gw_event_kind kind, const char *text)
{
    struct gw_event e = {.seq = ++seq,
        .kind = kind,
        .data = (const uint8_t *)text,
        .data_n = strlen(text),
        .error_name = "ValueError",
        .error_value = "no \"good\""};
    CHECK_EQ(gw_outcome_add(&outcome, &e), 0);
}

static void add_mime(enum gw_event_kind kind, const char *type, const char *data)
{
    struct gw_event e = {.seq = ++seq,
        .kind = kind,
        .error_name = "",
        .error_value = "",
        .mime = {{type, (const uint8_t *)data, strlen(data)}},
        .mimes = 1};
    CHECK_EQ(gw_outcome_add(&outcome, &e), 0);
}

static void add_done(enum gw_done done, int exit_code)
{
    struct gw_event e = {.seq = ++seq,
        .kind = GW_EVENT_DONE,
        .done = done,
        .exit_code = exit_code,
        .duration_us = 1500,
        .error_name = "",
        .error_value = ""};
    CHECK_EQ(gw_outcome_add(&outcome, &e), 0);
}

static void check_body(enum gw_shape shape, bool text_results, const char *want)
{
    struct proto_identifier id;
    CHECK_EQ(proto_identifier_set(&id, "my\"id", 5), PROTO_IDENTIFIER_OK);
    struct gw_execution_view v = {
        .shape = shape, .text_results = text_results, .id = "e-1", .identifier = &id};
    struct base_buf b = {0};
    CHECK_EQ(gw_render_execution(&v, &outcome, &b), 0);
    CHECK(gw_json_valid(base_buf_data(&b), base_buf_size(&b)));
    CHECK_STR(text_of(&b), want);
    base_buf_deinit(&b);
}

TEST(a_number_is_a_number_in_all_shapes_but_the_one_that_cannot_read_it)
{
    begin(100);
    add_text(GW_EVENT_STDOUT, "hi\n");
    add_mime(GW_EVENT_RESULT, "text/plain", "2");
    add_done(GW_DONE_OK, 0);
    check_body(GW_SHAPE_FLAT, false,
        "{\"id\":\"e-1\",\"identifier\":\"my\\\"id\",\"executionType\":\"Synchronous\","
        "\"status\":\"Succeeded\",\"result\":{\"stdout\":\"hi\\n\",\"stderr\":\"\","
        "\"executionResult\":2,\"executionTimeInMilliseconds\":2}}");
    check_body(GW_SHAPE_FLAT, true,
        "{\"id\":\"e-1\",\"identifier\":\"my\\\"id\",\"executionType\":\"Synchronous\","
        "\"status\":\"Succeeded\",\"result\":{\"stdout\":\"hi\\n\",\"stderr\":\"\","
        "\"executionResult\":\"2\",\"executionTimeInMilliseconds\":2}}");
    check_body(GW_SHAPE_LEGACY, false,
        "{\"$id\":\"1\",\"properties\":{\"$id\":\"2\",\"status\":\"Success\",\"stdout\":\"hi\\n\","
        "\"stderr\":\"\",\"result\":2,\"executionResult\":2,\"executionTimeInMilliseconds\":2}}");
    check_body(GW_SHAPE_PYTHON, false,
        "{\"$id\":\"1\",\"status\":\"Success\",\"stdout\":\"hi\\n\",\"stderr\":\"\",\"result\":2,"
        "\"properties\":{\"$id\":\"2\",\"status\":\"Success\",\"stdout\":\"hi\\n\","
        "\"stderr\":\"\",\"result\":2,\"executionResult\":2,\"executionTimeInMilliseconds\":2}}");
    check_body(GW_SHAPE_SHELL, false,
        "{\"identifier\":\"my\\\"id\",\"status\":\"0\",\"exitCode\":0,\"result\":{\"stdout\":"
        "\"hi\\n\","
        "\"stderr\":\"\",\"executionTimeInMilliseconds\":2}}");
    gw_outcome_deinit(&outcome);
}

static void check_value(const char *type, const char *data, const char *want)
{
    begin(100);
    add_mime(GW_EVENT_RESULT, type, data);
    add_done(GW_DONE_OK, 0);
    char text[512];
    (void)snprintf(text, sizeof text,
        "{\"$id\":\"1\",\"properties\":{\"$id\":\"2\",\"status\":\"Success\",\"stdout\":\"\","
        "\"stderr\":\"\",\"result\":%s,\"executionResult\":%s,\"executionTimeInMilliseconds\":2}}",
        want, want);
    check_body(GW_SHAPE_LEGACY, false, text);
    gw_outcome_deinit(&outcome);
}

TEST(the_examples_of_the_specification_come_out_as_written_there)
{
    check_value("text/plain", "nan", "\"nan\"");
    check_value("text/plain", "'nan'", "\"'nan'\"");
    check_value("text/plain", "null", "null");
    check_value("text/plain", "['a',\n 'b']", "\"['a',\\n 'b']\"");
    check_value("text/plain", "[1, 2]", "[1, 2]");
    check_value(
        "image/png", "PNG", "{\"type\":\"image\",\"format\":\"png\",\"base64_data\":\"UE5H\"}");
}

TEST(a_value_without_a_form_is_null)
{
    struct gw_event e = {.seq = 1, .kind = GW_EVENT_RESULT, .error_name = "", .error_value = ""};
    gw_outcome_init(&outcome, 100, 100);
    CHECK_EQ(gw_outcome_add(&outcome, &e), 0);
    CHECK_EQ(outcome.result_kind, GW_RESULT_JSON);
    CHECK_STR(text_of(&outcome.result), "null");
    gw_outcome_deinit(&outcome);
}

TEST(no_value_is_an_empty_string_and_a_figure_wins_over_text)
{
    begin(100);
    add_done(GW_DONE_OK, 0);
    check_body(GW_SHAPE_LEGACY, false,
        "{\"$id\":\"1\",\"properties\":{\"$id\":\"2\",\"status\":\"Success\",\"stdout\":\"\","
        "\"stderr\":\"\",\"result\":\"\",\"executionResult\":\"\","
        "\"executionTimeInMilliseconds\":2}}");
    gw_outcome_deinit(&outcome);
    for (int order = 0; order < 2; order++) {
        begin(100);
        if (order == 0) {
            add_mime(GW_EVENT_DISPLAY, "image/png", "PNG");
        }
        add_mime(GW_EVENT_RESULT, "text/plain", "[<Line2D>]");
        if (order == 1) {
            add_mime(GW_EVENT_DISPLAY, "image/png", "PNG");
        }
        CHECK_EQ(outcome.result_kind, GW_RESULT_IMAGE);
        gw_outcome_deinit(&outcome);
    }
}

TEST(failures_are_told_in_stderr_and_status)
{
    begin(100);
    add_text(GW_EVENT_ERROR, "Traceback");
    add_done(GW_DONE_ERROR, 1);
    check_body(GW_SHAPE_FLAT, false,
        "{\"id\":\"e-1\",\"identifier\":\"my\\\"id\",\"executionType\":\"Synchronous\","
        "\"status\":\"Failed\",\"error\":{\"error\":{\"code\":\"ValueError\","
        "\"message\":\"no \\\"good\\\"\"}},\"result\":{\"stdout\":\"\",\"stderr\":\"Traceback\","
        "\"executionResult\":\"\",\"executionTimeInMilliseconds\":2}}");
    gw_outcome_deinit(&outcome);
    begin(4);
    add_text(GW_EVENT_STDERR, "warning");
    add_done(GW_DONE_TIMEOUT, 0);
    check_body(GW_SHAPE_SHELL, false,
        "{\"identifier\":\"my\\\"id\",\"status\":\"124\",\"exitCode\":124,\"result\":{\"stdout\":"
        "\"\","
        "\"stderr\":\"warn\\nRequest timed out waiting for code execution to complete\","
        "\"executionTimeInMilliseconds\":2}}");
    gw_outcome_deinit(&outcome);
}

TEST(output_is_cut_at_its_limit_and_not_inside_a_character)
{
    begin(4);
    add_text(GW_EVENT_STDOUT, "ab");
    add_text(GW_EVENT_STDOUT, "c\xc3\xa4");
    add_text(GW_EVENT_STDOUT, "more");
    CHECK_EQ(base_buf_size(&outcome.stdout_text), 4); /* "abc" and then no half of the next */
    CHECK(memcmp(base_buf_data(&outcome.stdout_text), "abcm", 4) == 0);
    gw_outcome_deinit(&outcome);
}

TEST(events_that_come_twice_count_once)
{
    begin(100);
    add_text(GW_EVENT_STDOUT, "a");
    seq = 0;
    add_text(GW_EVENT_STDOUT, "a");
    add_text(GW_EVENT_STDOUT, "b");
    CHECK_EQ(base_buf_size(&outcome.stdout_text), 2);
    gw_outcome_deinit(&outcome);
}

TEST(what_runs_still_has_no_result)
{
    begin(100);
    check_body(GW_SHAPE_FLAT, false,
        "{\"id\":\"e-1\",\"identifier\":\"my\\\"id\",\"executionType\":\"Synchronous\","
        "\"status\":\"Running\"}");
}

TEST(a_shell_command_that_runs_still_has_its_name_only)
{
    begin(100);
    check_body(GW_SHAPE_SHELL, false,
        "{\"identifier\":\"my\\\"id\",\"id\":\"e-1\",\"status\":\"Running\"}");
}

TEST(a_string_stays_one_where_results_are_texts)
{
    begin(100);
    add_mime(GW_EVENT_RESULT, "application/json", "\"a\"");
    add_done(GW_DONE_OK, 0);
    check_body(GW_SHAPE_FLAT, true,
        "{\"id\":\"e-1\",\"identifier\":\"my\\\"id\",\"executionType\":\"Synchronous\","
        "\"status\":\"Succeeded\",\"result\":{\"stdout\":\"\",\"stderr\":\"\","
        "\"executionResult\":\"a\",\"executionTimeInMilliseconds\":2}}");
    gw_outcome_deinit(&outcome);
}

TEST(events_that_are_not_known_results_that_are_too_large_and_long_errors_do_no_harm)
{
    static uint8_t large[GW_OUTCOME_BYTES_MAX + 1];
    char words[300];
    begin(100);
    struct gw_event other = {.seq = ++seq, .kind = GW_EVENT_OTHER};
    CHECK_EQ(gw_outcome_add(&outcome, &other), 0);
    CHECK_EQ(outcome.last_seq, seq);
    struct gw_event result = {.seq = ++seq,
        .kind = GW_EVENT_RESULT,
        .mime = {{"text/plain", large, sizeof large}},
        .mimes = 1};
    CHECK_EQ(gw_outcome_add(&outcome, &result), 0);
    CHECK_EQ(outcome.result_kind, GW_RESULT_NONE);
    memset(words, 'x', sizeof words);
    memcpy(words + 253, "\xe2\x82\xac", 4); /* a character across the limit */
    struct gw_event e = {.seq = ++seq,
        .kind = GW_EVENT_ERROR,
        .error_name = "E",
        .error_value = words,
        .data = (const uint8_t *)"",
        .data_n = 0};
    CHECK_EQ(gw_outcome_add(&outcome, &e), 0);
    CHECK_EQ(strlen(outcome.error_value), 253);
    gw_outcome_deinit(&outcome);
}

/* ---- the rest ---- */

TEST(null_is_blank_where_a_client_would_look_into_it)
{
    begin(100);
    add_mime(GW_EVENT_RESULT, "application/json", "null");
    add_done(GW_DONE_OK, 0);
    check_body(GW_SHAPE_PYTHON, false,
        "{\"$id\":\"1\",\"status\":\"Success\",\"stdout\":\"\",\"stderr\":\"\",\"result\":\"\","
        "\"properties\":{\"$id\":\"2\",\"status\":\"Success\",\"stdout\":\"\",\"stderr\":\"\","
        "\"result\":null,\"executionResult\":null,\"executionTimeInMilliseconds\":2}}");
    gw_outcome_deinit(&outcome);
}

TEST(files_and_sessions_have_their_shapes)
{
    struct base_buf b = {0};
    struct gw_file f = {"a.txt", "d", false, 3, 1000000000};
    CHECK_EQ(gw_render_file(&f, false, &b), 0);
    CHECK_STR(text_of(&b), "{\"name\":\"a.txt\",\"type\":\"file\",\"contentType\":\"text/plain; "
                           "charset=utf-8\",\"sizeInBytes\":3,\"lastModifiedAt\":"
                           "\"1970-01-01T00:00:01.000Z\",\"directory\":\"d\"}");
    base_buf_clear(&b);
    int n = 0;
    struct gw_file folder = {.name = "d", .directory = "", .is_directory = true};
    CHECK_EQ(gw_render_list_begin(&b), 0);
    CHECK_EQ(gw_render_list_add(&folder, true, &n, &b), 0);
    CHECK_EQ(gw_render_list_add(&f, true, &n, &b), 0);
    CHECK_EQ(gw_render_list_end(&b), 0);
    CHECK_STR(text_of(&b), "{\"value\":[{\"properties\":{\"filename\":\"d/a.txt\",\"size\":3,"
                           "\"lastModifiedTime\":\"1970-01-01T00:00:01.000Z\"}}]}");
    base_buf_clear(&b);
    struct gw_session s = {"abcd", 4, 1000000000, 2000000000, 3000000000, "vm-1"};
    CHECK_EQ(gw_render_session(&s, true, &b), 0);
    CHECK(strstr(text_of(&b), "\"expiresAt\":\"1970-01-01T00:00:03.000Z\"") != NULL);
    base_buf_deinit(&b);
}

TEST(errors_carry_code_message_and_trace)
{
    struct gw_fault f;
    struct gw_route r = {0};
    gw_fault_of_route(&f, GW_ROUTE_IDENTIFIER_LENGTH, &r);
    CHECK_EQ(f.status, 400);
    struct base_buf b = {0};
    CHECK_EQ(gw_fault_render(&f, "t-1", &b), 0);
    CHECK_STR(text_of(&b),
        "{\"error\":{\"code\":\"InvalidLengthOfSessionIdentifier\",\"message\":"
        "\"A session identifier has 4 to 128 characters.\",\"traceId\":\"t-1\"}}");
    base_buf_deinit(&b);
}
