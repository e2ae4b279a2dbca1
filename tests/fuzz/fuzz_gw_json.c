/* JSON: the scanner against jansson, request bodies, and that what is written is valid. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/core/json.h"
#include "gateway/io/exec_body.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static int depth_of(const uint8_t *p, size_t n)
{
    int depth = 0, most = 0;
    for (size_t i = 0; i < n; i++) { /* too high inside strings, which only makes the test milder */
        depth += p[i] == '[' || p[i] == '{';
        depth -= p[i] == ']' || p[i] == '}';
        most = depth > most ? depth : most;
    }
    return most;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    json_error_t e;
    json_t *j = json_loadb((const char *)data, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
    bool valid = gw_json_valid(data, n);
    /* jansson loses a NUL behind a word like null, which is not valid anywhere */
    bool nul = n > 0 && memchr(data, '\0', n) != NULL;
    if (valid && nul) {
        abort();
    }
    if (j != NULL && !valid && !nul && depth_of(data, n) <= GW_JSON_DEPTH_MAX) {
        abort();
    }
    json_decref(j);
    struct base_buf b = {0};
    if (gw_json_string(&b, data, n) != 0 || !gw_json_valid(base_buf_data(&b), base_buf_size(&b))) {
        abort();
    }
    base_buf_clear(&b);
    if (gw_json_base64(&b, data, n) != 0 || !gw_json_valid(base_buf_data(&b), base_buf_size(&b))) {
        abort();
    }
    base_buf_deinit(&b);
    struct gw_exec_body body;
    struct gw_fault fault;
    if (gw_exec_body_parse(data, n, &body, &fault) == 0) {
        if (!valid || (body.code == NULL) == (body.argv_n == 0)) {
            abort();
        }
        gw_exec_body_deinit(&body);
    } else if (fault.status < 400 || fault.code == NULL) {
        abort();
    }
    return 0;
}
