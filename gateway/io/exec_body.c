#include "gateway/io/exec_body.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/core/http.h"
#include "gateway/core/json.h"
#include "proto/limits.h"

enum { OUTPUT_MAX = 8 << 20 };

#define BAD(fault, ...)                                                                            \
    __extension__({                                                                                \
        GW_FAULT((fault), 400, "SessionRequestValidationFailed", __VA_ARGS__);                     \
        -1;                                                                                        \
    })

/* Names are compared without regard to case, as the public service does. NULL and JSON null:
 * absent. */
static const json_t *member(const json_t *o, const char *name)
{
    const json_t *v = json_object_get(o, name);
    if (v == NULL) {
        const char *key = NULL;
        json_t *value = NULL;
        json_object_foreach((json_t *)(uintptr_t)o, key, value)
        {
            if (gw_http_same(key, name)) {
                v = value;
                break;
            }
        }
    }
    return v == NULL || json_is_null(v) ? NULL : v;
}

static int word(const json_t *o, const char *name, const char *const *words, struct gw_fault *fault)
{
    const json_t *v = member(o, name);
    if (v == NULL) {
        return 0;
    }
    for (int i = 0; json_is_string(v) && words[i] != NULL; i++) {
        if (gw_http_same(json_string_value(v), words[i])) {
            return i;
        }
    }
    return BAD(fault, "'%s' has a value that is not supported.", name);
}

static int integer(const json_t *o, const char *name, int64_t *ret, struct gw_fault *fault)
{
    const json_t *v = member(o, name);
    if (v == NULL) {
        return 0;
    }
    if (!json_is_integer(v) || json_integer_value(v) < 1) {
        return BAD(fault, "'%s' must be a whole number above 0.", name);
    }
    *ret = json_integer_value(v);
    return 0;
}

static int boolean(const json_t *o, const char *name, bool *ret, struct gw_fault *fault)
{
    const json_t *v = member(o, name);
    if (v != NULL && !json_is_boolean(v)) {
        return BAD(fault, "'%s' must be true or false.", name);
    }
    *ret = json_is_true(v);
    return 0;
}

static int digit64(char c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    return c == '+' || c == '-' ? 62 : c == '/' || c == '_' ? 63 : -1;
}

/* In place; returns the length, or -1. Padding may be missing, white space is skipped. */
static long decode64(char *text, size_t n)
{
    size_t out = 0, digits = 0;
    unsigned bits = 0;
    bool padded = false;
    for (size_t i = 0; i < n; i++) {
        if (strchr(" \t\r\n", text[i]) != NULL) {
            continue;
        }
        int v = digit64(text[i]);
        if (text[i] == '=') {
            padded = true;
            continue;
        }
        if (v < 0 || padded) {
            return -1;
        }
        bits = bits << 6 | (unsigned)v;
        if (++digits % 4 != 1) {
            text[out++] = (char)(bits >> (6 - 2 * ((digits - 1) % 4)));
        }
    }
    return digits % 4 == 1 ? -1 : (long)out;
}

static int take_code(const json_t *v, bool base64, struct gw_exec_body *b, struct gw_fault *fault)
{
    size_t n = json_string_length(v);
    b->code = malloc(n + 1);
    if (b->code == NULL) {
        GW_FAULT(fault, 503, "ServiceUnavailable", "Out of memory.");
        return -1;
    }
    memcpy(b->code, json_string_value(v), n + 1);
    if (base64) {
        long len = decode64(b->code, n);
        if (len < 0) {
            return BAD(fault, "The code is not valid base64.");
        }
        n = (size_t)len;
        b->code[n] = '\0';
    }
    if (n > PROTO_CODE_BYTES_MAX) {
        GW_FAULT(fault, 413, "RequestTooLarge", "The code is longer than %d bytes.",
            PROTO_CODE_BYTES_MAX);
        return -1;
    }
    b->code_n = n;
    return 0;
}

static int take_argv(const json_t *v, struct gw_exec_body *b, struct gw_fault *fault)
{
    size_t n = json_array_size(v), total = 0;
    if (!json_is_array(v) || n == 0 || n > PROTO_ARGV_MAX) {
        return BAD(
            fault, "'execCommandAndArgs' must be an array of 1 to %d strings.", PROTO_ARGV_MAX);
    }
    b->argv = calloc(n, sizeof *b->argv);
    for (size_t i = 0; i < n; i++) {
        const json_t *s = json_array_get(v, i);
        total += json_string_length(s);
        if (!json_is_string(s) || total > PROTO_CODE_BYTES_MAX) {
            return BAD(fault, "'execCommandAndArgs' must hold strings.");
        }
        char *copy = b->argv == NULL ? NULL : strdup(json_string_value(s));
        if (copy == NULL) {
            GW_FAULT(fault, 503, "ServiceUnavailable", "Out of memory.");
            return -1;
        }
        b->argv[b->argv_n++] = copy;
    }
    return 0;
}

static int take_what(const json_t *o, bool base64, struct gw_exec_body *b, struct gw_fault *fault)
{
    const json_t *code = member(o, "code"), *command = member(o, "shellCommand");
    const json_t *argv = member(o, "execCommandAndArgs");
    if (code == NULL) {
        code = member(o, "pythonCode"); /* the first version of the API */
    }
    if (command != NULL && argv != NULL) {
        return BAD(fault, "'shellCommand' and 'execCommandAndArgs' exclude each other.");
    }
    b->shell = command != NULL || argv != NULL;
    if (argv != NULL) {
        return take_argv(argv, b, fault);
    }
    const json_t *v = b->shell ? command : code;
    if (!json_is_string(v)) {
        GW_FAULT(fault, 400, "SessionPropertiesMissing",
            "The body needs a string 'code' or 'shellCommand'.");
        return -1;
    }
    return take_code(v, base64 && !b->shell, b, fault);
}

static int take_options(const json_t *o, struct gw_exec_body *b, struct gw_fault *fault)
{
    static const char *const inputs[] = {"inline", "inlineText", "inlineBase64", NULL};
    static const char *const types[] = {"synchronous", "asynchronous", NULL};
    int64_t timeout_s = 0;
    int input = word(o, "codeInputType", inputs, fault);
    int type = word(o, "executionType", types, fault);
    b->output_max = -1;
    if (input < 0 || type < 0 || integer(o, "timeoutInSeconds", &timeout_s, fault) < 0 ||
        integer(o, "outputStreamsMaxLength", &b->output_max, fault) < 0 ||
        boolean(o, "useEmptyKernel", &b->fresh_kernel, fault) < 0) {
        return -1;
    }
    b->asynchronous = type == 1;
    b->timeout_ms =
        timeout_s > PROTO_TIMEOUT_MS_MAX / 1000 ? PROTO_TIMEOUT_MS_MAX : (uint32_t)timeout_s * 1000;
    b->output_max = b->output_max > OUTPUT_MAX ? OUTPUT_MAX : b->output_max;
    return input == 2;
}

int gw_exec_body_parse(const void *json, size_t n, struct gw_exec_body *ret, struct gw_fault *fault)
{
    memset(ret, 0, sizeof *ret);
    /* Checked first, so that jansson's recursion is bounded. */
    json_error_t e;
    json_t *root = gw_json_valid(json, n) ? json_loadb(json, n, JSON_REJECT_DUPLICATES, &e) : NULL;
    if (!json_is_object(root)) {
        json_decref(root);
        return BAD(fault, "The body must be a JSON object.");
    }
    const json_t *wrapped = member(root, "properties");
    const json_t *o = json_is_object(wrapped) ? wrapped : root;
    int base64 = take_options(o, ret, fault);
    int rc = base64 < 0 ? -1 : take_what(o, base64 > 0, ret, fault);
    json_decref(root);
    if (rc < 0) {
        gw_exec_body_deinit(ret);
    }
    return rc;
}

void gw_exec_body_deinit(struct gw_exec_body *b)
{
    free(b->code);
    for (int i = 0; i < b->argv_n; i++) {
        free(b->argv[i]);
    }
    free(b->argv);
    memset(b, 0, sizeof *b);
}
