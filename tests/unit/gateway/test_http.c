#include "gateway/core/fault.h"
#include "gateway/core/h1_guard.h"
#include "gateway/core/http.h"
#include "gateway/core/sse.h"
#include "tests/lib/check.h"

/* ---- heads of HTTP/1 ---- */

static struct gw_h1_facts facts;

/* The status that a head gets, wherever it is judged; 0: none. */
static int judge(const char *head, size_t n)
{
    size_t scan = 0, len = 0;
    int status = gw_h1_guard_find((const uint8_t *)head, n, &scan, &len);
    if (status == 0 && len == 0) {
        return -1; /* more bytes are needed */
    }
    return status != 0 ? status : gw_h1_guard_head((const uint8_t *)head, len, &facts);
}

static int judge_text(const char *head)
{
    return judge(head, strlen(head));
}

TEST(a_plain_head_passes_and_says_how_its_body_is_framed)
{
    CHECK_EQ(judge_text("POST /a?b=c HTTP/1.1\r\nHost: a.b:1\r\nContent-Length: \t12 \r\n\r\n"), 0);
    CHECK(facts.content_length == 12 && !facts.chunked && !facts.http10);
    CHECK_EQ(judge_text("POST / HTTP/1.1\r\nhost: [::1]\r\nTransfer-Encoding: Chunked\r\n\r\n"), 0);
    CHECK(facts.content_length == -1 && facts.chunked);
    CHECK_EQ(judge_text("GET / HTTP/1.0\r\n\r\n"), 0);
    CHECK(facts.content_length == -1 && facts.http10);
    CHECK_EQ(judge_text("GET / HTTP/1.1\r\nHost: a\r\nX: \xc3\xa4\r\n\r"), -1);
}

TEST(heads_that_proxies_could_read_otherwise_are_refused)
{
#define GET "GET / HTTP/1.1\r\n"
#define HOST GET "Host: a\r\n"
    static const struct {
        const char *head;
        int status;
    } cases[] = {
        {" GET / HTTP/1.1\r\n", 400},
        {"GET  / HTTP/1.1\r\n", 400},
        {"GET /\r\n", 400},
        {"GET / \r\n", 400},
        {"GET / HTCPCP/1.0\r\n", 400},
        {"AMETHODOFMANYMANYCHARACTERS / HTTP/1.1\r\n", 400},
        {"GET / HTTP/2.0\r\n", 505},
        {"GET / HTTP/1.2\r\n", 505},
        {"GET / HTTP/1.1 \r\n", 505},
        {"GET /#a HTTP/1.1\r\n", 400},
        {"GET / HTTP/1.1\n", 400},
        {"\r\n\r\n", 400},
        {"GET / HTTP/1.1\rHost", 400},
        {"\x16\x03\x01", 400}, /* TLS on a plain port */
        {HOST "X:\x01\r\n\r\n", 400},
        {HOST " folded: a\r\n\r\n", 400},
        {HOST "X : a\r\n\r\n", 400},
        {HOST ": a\r\n\r\n", 400},
        {HOST "X\r\n\r\n", 400},
        {GET "\r\n", 400},
        {HOST "Host: a\r\n\r\n", 400},
        {GET "Host: a/b\r\n\r\n", 400},
        {GET "Host: a b\r\n\r\n", 400},
        {HOST "Content-Length:\r\n\r\n", 400},
        {HOST "Content-Length: +1\r\n\r\n", 400},
        {HOST "Content-Length: 1, 1\r\n\r\n", 400},
        {HOST "Content-Length: 1111111111111111\r\n\r\n", 400},
        {HOST "Content-Length: 1\r\ncontent-length: 1\r\n\r\n", 400},
        {HOST "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {HOST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {HOST "Transfer-Encoding: gzip\r\n\r\n", 501},
        {HOST "Transfer-Encoding: xchunked\r\n\r\n", 501},
        {HOST "Transfer-Encoding: chunkex\r\n\r\n", 501},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int status = judge_text(cases[i].head);
        if (status != cases[i].status) {
            (void)fprintf(stderr, "%s: %d, want %d\n", cases[i].head, status, cases[i].status);
            exit(1);
        }
    }
    static const char nul[] = HOST "X: a\0b\r\n\r\n";
    CHECK_EQ(judge(nul, sizeof nul - 1), 400);
}

/* GET /aaa..., with fields more. */
static size_t big_head(char *to, size_t target, int fields)
{
    size_t n = (size_t)sprintf(to, "GET /");
    memset(to + n, 'a', target - 1);
    n += target - 1;
    n += (size_t)sprintf(to + n, " HTTP/1.1\r\nHost: a\r\n");
    for (int i = 0; i < fields; i++) {
        n += (size_t)sprintf(to + n, "X: y\r\n");
    }
    return n + (size_t)sprintf(to + n, "\r\n");
}

TEST(heads_are_bounded)
{
    static char head[GW_H1_HEAD_MAX + 200];
    CHECK_EQ(judge(head, big_head(head, GW_H1_TARGET_MAX, GW_H1_FIELDS_MAX - 1)), 0);
    CHECK_EQ(judge(head, big_head(head, GW_H1_TARGET_MAX + 1, 0)), 414);
    CHECK_EQ(judge(head, big_head(head, 10, GW_H1_FIELDS_MAX)), 431);
    size_t n = (size_t)sprintf(head, HOST "X: ");
    memset(head + n, 'a', sizeof head - n);
    CHECK_EQ(judge(head, GW_H1_HEAD_MAX), -1);
    CHECK_EQ(judge(head, GW_H1_HEAD_MAX + 1), 431);
}

TEST(a_head_is_found_however_it_is_cut)
{
    static const char head[] = HOST "X: y\r\n\r\nbody";
    size_t want = strlen(head) - 4;
    for (size_t cut = 0; cut <= want; cut++) {
        size_t scan = 0, len = 9;
        CHECK_EQ(gw_h1_guard_find((const uint8_t *)head, cut, &scan, &len), 0);
        CHECK_EQ(len, cut == want ? want : 0);
        CHECK_EQ(gw_h1_guard_find((const uint8_t *)head, sizeof head - 1, &scan, &len), 0);
        CHECK_EQ(len, want);
    }
}

static int framing(struct gw_h1_chunks *c, const char *text)
{
    return gw_h1_guard_chunks(c, (const uint8_t *)text, strlen(text));
}

TEST(the_framing_of_chunks_is_bounded_and_has_whole_line_ends)
{
    struct gw_h1_chunks c = {0};
    CHECK_EQ(framing(&c, "4;name=\"value\"\r"), 0);
    CHECK_EQ(framing(&c, "\n"), 0);
    gw_h1_guard_chunk_data(&c);
    CHECK(c.line == 0 && c.total == 0);
    CHECK_EQ(framing(&c, "\r\n0\r\nTrailer: a\r\n\r\n"), 0);
    static const char *const bad[] = {"4\n", "4\rx", "\x01", "4\r\r\n"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        c = (struct gw_h1_chunks){0};
        CHECK_EQ(framing(&c, bad[i]), 400);
    }
    c = (struct gw_h1_chunks){0};
    for (int i = 0; i < GW_H1_CHUNK_LINE_MAX; i++) {
        CHECK_EQ(framing(&c, "1"), 0);
    }
    CHECK_EQ(framing(&c, "1"), 400);
    c = (struct gw_h1_chunks){0};
    for (int i = 0; i < GW_H1_TRAILERS_MAX / 4; i++) {
        CHECK_EQ(framing(&c, "ab\r\n"), 0);
    }
    CHECK_EQ(framing(&c, "ab\r\n"), 400);
}

/* ---- words ---- */

TEST(methods_fields_and_reasons_are_found_by_their_exact_names)
{
    static const char *const methods[] = {
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};
    for (int i = 0; i < 7; i++) {
        CHECK_EQ(gw_http_method(methods[i]), GW_METHOD_GET + i);
    }
    CHECK_EQ(gw_http_method("get"), GW_METHOD_OTHER);
    CHECK_EQ(gw_http_method(""), GW_METHOD_OTHER);
    static const struct gw_field fields[] = {{"a", "1"}, {"b", "2"}, {"a", "3"}};
    struct gw_request r = {.fields = fields, .fields_n = 3};
    CHECK_STR(gw_http_field(&r, "a"), "1");
    CHECK_STR(gw_http_field(&r, "b"), "2");
    CHECK(gw_http_field(&r, "c") == NULL);
    CHECK_STR(gw_http_reason(206), "Partial Content");
    CHECK_STR(gw_http_reason(505), "HTTP Version Not Supported");
    CHECK_STR(gw_http_reason(299), "Status");
}

TEST(tokens_of_a_list_are_found_without_their_parameters)
{
    static const char *const with[] = {"br", "gzip, BR", "gzip;q=1,br;q=0.5", "\t br ,", ",,br"};
    static const char *const without[] = {"", "brx", "xbr", "gzip;br", "gzip, b", " , ,"};
    for (size_t i = 0; i < sizeof with / sizeof with[0]; i++) {
        CHECK(gw_http_list_has(with[i], "br"));
    }
    for (size_t i = 0; i < sizeof without / sizeof without[0]; i++) {
        CHECK(!gw_http_list_has(without[i], "br"));
    }
}

/* ---- faults and streams ---- */

TEST(every_wrong_address_has_a_status_a_code_and_words)
{
    static const struct {
        enum gw_route_fault fault;
        int status;
        const char *code, *word;
    } cases[] = {{GW_ROUTE_NO_POOL, 404, "SessionPoolNotFound", "pool"},
        {GW_ROUTE_METHOD, 405, "SessionRequestNotSupported", "method"},
        {GW_ROUTE_NO_IDENTIFIER, 400, "SessionRequestValidationFailed", "missing"},
        {GW_ROUTE_IDENTIFIER_LENGTH, 400, "InvalidLengthOfSessionIdentifier", "4 to 128"},
        {GW_ROUTE_IDENTIFIER_CHARACTER, 400, "SessionRequestValidationFailed", "character"},
        {GW_ROUTE_IDENTIFIER_TWICE, 400, "SessionRequestValidationFailed", "different"},
        {GW_ROUTE_PATH, 400, "SessionRequestValidationFailed", "'..'"},
        {GW_ROUTE_NO_RESOURCE, 404, "SessionRequestNotSupported", "resource"}};
    struct gw_route route = {.allow = "POST"};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct gw_fault f;
        gw_fault_of_route(&f, cases[i].fault, &route);
        CHECK_EQ(f.status, cases[i].status);
        CHECK_STR(f.code, cases[i].code);
        CHECK(strstr(f.text.text, cases[i].word) != NULL);
        CHECK_EQ(f.allow != NULL, f.status == 405);
    }
}

static void check_event(const struct gw_event *e, const char *want)
{
    struct base_buf b = {0};
    CHECK_EQ(gw_sse_event(e, &b), 0);
    CHECK_EQ(base_buf_add(&b, "", 1), 0);
    CHECK_STR((const char *)base_buf_data(&b), want);
    base_buf_deinit(&b);
}

TEST(a_stream_tells_errors_and_how_it_ended)
{
    struct gw_event e = {.seq = 7,
        .kind = GW_EVENT_ERROR,
        .error_name = "ValueError",
        .error_value = "a\nb",
        .data = (const uint8_t *)"Trace\n",
        .data_n = 6};
    check_event(&e, "id: 7\nevent: error\ndata: {\"name\":\"ValueError\",\"value\":\"a\\nb\","
                    "\"traceback\":\"Trace\\n\"}\n\n");
    struct gw_event done = {.seq = 8,
        .kind = GW_EVENT_DONE,
        .done = GW_DONE_TIMEOUT,
        .exit_code = -1,
        .duration_us = 1001,
        .kernel_restarted = true};
    check_event(&done, "id: 8\nevent: done\ndata: {\"status\":\"Failed\",\"reason\":\"timeout\","
                       "\"exitCode\":-1,\"kernelRestarted\":true,"
                       "\"executionTimeInMilliseconds\":2}\n\n");
    done = (struct gw_event){.seq = 9, .kind = GW_EVENT_DONE, .done = GW_DONE_INTERRUPTED};
    check_event(&done, "id: 9\nevent: done\ndata: {\"status\":\"Canceled\",\"reason\":"
                       "\"interrupted\",\"exitCode\":0,\"kernelRestarted\":false,"
                       "\"executionTimeInMilliseconds\":0}\n\n");
    struct gw_event other = {.seq = 10, .kind = GW_EVENT_OTHER};
    check_event(&other, "id: 10\nevent: other\ndata: {}\n\n");
}

TEST(a_stream_that_fails_says_why)
{
    struct gw_fault f;
    struct base_buf b = {0};
    GW_FAULT(&f, 503, "Busy", "come \"later\"");
    CHECK_EQ(gw_sse_fault(&f, "t", &b), 0);
    CHECK_EQ(base_buf_add(&b, "", 1), 0);
    CHECK_STR((const char *)base_buf_data(&b),
        "event: fault\ndata: {\"error\":{\"code\":\"Busy\",\"message\":\"come \\\"later\\\"\","
        "\"traceId\":\"t\"}}\n\n");
    base_buf_deinit(&b);
}
