#include "gateway/io/exec_body.h"
#include "tests/lib/check.h"

static struct gw_exec_body body;
static struct gw_fault fault;

static void good(const char *json)
{
    if (gw_exec_body_parse(json, strlen(json), &body, &fault) != 0) {
        (void)fprintf(stderr, "%s: %s\n", json, fault.text.text);
        exit(1);
    }
}

static void bad(const char *json, const char *code)
{
    CHECK_EQ(gw_exec_body_parse(json, strlen(json), &body, &fault), -1);
    CHECK_STR(fault.code, code);
    CHECK_EQ(fault.status, 400);
}

TEST(flat_and_wrapped_bodies_mean_the_same)
{
    static const char *const bodies[] = {
        "{\"code\":\"1+1\"}",
        "{\"codeInputType\":\"Inline\",\"executionType\":\"Synchronous\",\"timeoutInSeconds\":100,"
        "\"code\":\"1+1\"}",
        "{\"properties\":{\"codeInputType\":\"inline\",\"executionType\":\"synchronous\","
        "\"code\":\"1+1\"}}",
        "{\"properties\":{\"identifier\":\"x\",\"codeInputType\":\"inline\",\"executionType\":"
        "\"synchronous\",\"pythonCode\":\"1+1\"}}",
        "{\"Code\":\"1+1\",\"CodeInputType\":\"inlineText\"}",
        "{\"code\":\"MSsx\",\"codeInputType\":\"InlineBase64\"}",
        "{\"code\":\"1+1\",\"timeoutInSeconds\":null,\"useEmptyKernel\":null,\"unknown\":[1]}",
    };
    for (unsigned i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        good(bodies[i]);
        CHECK_STR(body.code, "1+1");
        CHECK_EQ(body.code_n, 3);
        CHECK(!body.shell && !body.asynchronous && !body.fresh_kernel);
        gw_exec_body_deinit(&body);
    }
}

TEST(options_are_read)
{
    good("{\"code\":\"x\",\"executionType\":\"Asynchronous\",\"timeoutInSeconds\":7,"
         "\"outputStreamsMaxLength\":10,\"useEmptyKernel\":true}");
    CHECK(body.asynchronous && body.fresh_kernel);
    CHECK_EQ(body.timeout_ms, 7000);
    CHECK_EQ(body.output_max, 10);
    gw_exec_body_deinit(&body);
    good("{\"code\":\"x\",\"timeoutInSeconds\":600}");
    CHECK_EQ(body.timeout_ms, 220000);
    gw_exec_body_deinit(&body);
    good("{\"code\":\"\"}");
    CHECK_EQ(body.code_n, 0);
    gw_exec_body_deinit(&body);
}

TEST(shell_bodies_are_told_apart)
{
    good("{\"shellCommand\":\"ls\",\"codeInputType\":\"inline\"}");
    CHECK(body.shell);
    CHECK_STR(body.code, "ls");
    gw_exec_body_deinit(&body);
    good("{\"execCommandAndArgs\":[\"ls\",\"-l\"]}");
    CHECK(body.shell && body.code == NULL);
    CHECK_EQ(body.argv_n, 2);
    CHECK_STR(body.argv[1], "-l");
    gw_exec_body_deinit(&body);
}

TEST(wrong_bodies_say_what_is_wrong)
{
    bad("", "SessionRequestValidationFailed");
    bad("[]", "SessionRequestValidationFailed");
    bad("{\"code\":\"x\"} x", "SessionRequestValidationFailed");
    bad("{\"code\":\"x\",\"code\":\"y\"}", "SessionRequestValidationFailed");
    bad("{}", "SessionPropertiesMissing");
    bad("{\"properties\":{}}", "SessionPropertiesMissing");
    bad("{\"code\":1}", "SessionPropertiesMissing");
    bad("{\"code\":null}", "SessionPropertiesMissing");
    bad("{\"code\":\"x\",\"codeInputType\":\"file\"}", "SessionRequestValidationFailed");
    bad("{\"code\":\"x\",\"executionType\":1}", "SessionRequestValidationFailed");
    bad("{\"code\":\"x\",\"timeoutInSeconds\":0}", "SessionRequestValidationFailed");
    bad("{\"code\":\"x\",\"timeoutInSeconds\":\"5\"}", "SessionRequestValidationFailed");
    bad("{\"code\":\"x\",\"useEmptyKernel\":1}", "SessionRequestValidationFailed");
    bad("{\"code\":\"?\",\"codeInputType\":\"inlineBase64\"}", "SessionRequestValidationFailed");
    bad("{\"code\":\"MSsxA\",\"codeInputType\":\"inlineBase64\"}",
        "SessionRequestValidationFailed");
    bad("{\"shellCommand\":\"ls\",\"execCommandAndArgs\":[\"ls\"]}",
        "SessionRequestValidationFailed");
    bad("{\"execCommandAndArgs\":[]}", "SessionRequestValidationFailed");
    bad("{\"execCommandAndArgs\":[1]}", "SessionRequestValidationFailed");
    char deep[1000] = "{\"code\":\"x\",\"a\":";
    memset(deep + strlen(deep), '[', 500);
    bad(deep, "SessionRequestValidationFailed");
}

TEST(code_above_the_limit_is_too_large)
{
    static char json[PROTO_CODE_BYTES_MAX + 100];
    (void)snprintf(json, sizeof json, "{\"code\":\"");
    size_t n = strlen(json);
    memset(json + n, 'x', PROTO_CODE_BYTES_MAX + 1);
    memcpy(json + n + PROTO_CODE_BYTES_MAX + 1, "\"}", 3);
    CHECK_EQ(gw_exec_body_parse(json, strlen(json), &body, &fault), -1);
    CHECK_EQ(fault.status, 413);
    memcpy(json + n + PROTO_CODE_BYTES_MAX, "\"}", 3);
    good(json);
    gw_exec_body_deinit(&body);
}
