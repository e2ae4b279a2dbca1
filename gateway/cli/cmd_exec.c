#include <errno.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gateway/cli/api.h"
#include "gateway/cli/command.h"
#include "gateway/cli/file.h"
#include "gateway/cli/place.h"
#include "proto/base/cleanup.h"
#include "proto/base/clock.h"
#include "proto/base/rand.h"
#include "proto/limits.h"

enum {
    TIMEOUT_S_MAX = PROTO_TIMEOUT_MS_MAX / 1000,
    TIMEOUT_S_DEFAULT = PROTO_TIMEOUT_MS_DEFAULT / 1000,
    GRACE_S = 60, /* for queueing and allocation, above the time of the code itself */
    OUTPUT_DEFAULT = 1 << 20,
    OUTPUT_MAX = 16 << 20,
    RETRY_MS_FIRST = 250,
    RETRY_MS_LONGEST = 2000,
    FIGURES_MAX = 10000,
};

struct exec {
    const char *id;
    bool id_is_new; /* chosen here, so it must be told */
    const char *file;
    const char *images;
    uint32_t timeout_s;
    uint32_t output_max;
    uint32_t retry_s;
    bool timing;
};

/* The request body; the caller frees it, NULL when the code is no UTF-8 text. */
static char *make_body(const struct exec *x, const char *code, size_t n)
{
    json_t *doc = json_pack("{s:s, s:s, s:s%, s:i, s:i}", "codeInputType", "Inline",
        "executionType", "Synchronous", "code", code, n, "timeoutInSeconds", (int)x->timeout_s,
        "outputStreamsMaxLength", (int)x->output_max);
    char *text = doc == NULL ? NULL : json_dumps(doc, JSON_COMPACT);
    json_decref(doc);
    return text;
}

/* The connection broke after it stood, or a daemon is being replaced: the execution id makes it
 * safe to ask again, because the same id never runs twice. */
static bool is_retryable(const struct cli_answer *a, bool first)
{
    switch ((int)a->code) {
    case CURLE_OK:
        return a->status == 503;
    case CURLE_COULDNT_CONNECT:
        return !first;
    case CURLE_GOT_NOTHING:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_PARTIAL_FILE:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
        return true;
    default:
        return false;
    }
}

static void pause_ms(uint32_t ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    (void)nanosleep(&t, NULL);
}

static void call(struct cli_api *api, const struct exec *x, const char *body, struct cli_answer *a)
{
    char uuid[BASE_TEXT_UUID_MAX], header[80];
    base_rand_uuid(uuid);
    (void)snprintf(header, sizeof header, "operation-id: %s", uuid);
    struct cli_request request = {.method = "POST",
        .path = "/executions",
        .query = {{"identifier", x->id}},
        .body = body,
        .header = header,
        .timeout_s = x->timeout_s + GRACE_S};
    uint64_t give_up = base_clock_mono_ns() + x->retry_s * BASE_NS_PER_S;
    uint32_t wait_ms = RETRY_MS_FIRST;
    cli_api_call(api, &request, a);
    for (bool first = true; is_retryable(a, first) && base_clock_mono_ns() < give_up;
         first = false) {
        cli_note(api->cli, "warren exec: %s, asking again for execution %s",
            a->code == CURLE_OK ? "the gateway is not ready" : a->error, uuid);
        cli_answer_deinit(a);
        pause_ms(wait_ms);
        wait_ms = wait_ms * 2 < RETRY_MS_LONGEST ? wait_ms * 2 : RETRY_MS_LONGEST;
        cli_api_call(api, &request, a);
    }
}

/* Makes DIR/figure-N.FORMAT for the first N that is free; NULL with the reason. */
static FILE *open_figure(
    const char *dir, const char *format, char path[CLI_PATH_MAX], struct base_error *err)
{
    if (cli_file_mkdirs(dir, 0755, err) != 0) {
        return NULL;
    }
    for (int i = 1; i <= FIGURES_MAX; i++) {
        char name[40];
        (void)snprintf(name, sizeof name, "figure-%d.%.16s", i, format);
        if (cli_file_path(path, dir, name, err) != 0) {
            return NULL;
        }
        FILE *f = fopen(path, "wbxe");
        if (f != NULL) {
            return f;
        }
        if (errno != EEXIST) {
            (void)base_fail(err, -errno, "cannot write '%s': %s", path, strerror(errno));
            return NULL;
        }
    }
    (void)base_fail(err, BASE_EFULL, "'%s' has %d figures already", dir, FIGURES_MAX);
    return NULL;
}

/* The file's ending. What comes from outside is letters and digits, or it is png. */
static const char *image_format(const json_t *value)
{
    const char *format = json_string_value(json_object_get(value, "format"));
    size_t n = format == NULL ? 0 : strspn(format, "abcdefghijklmnopqrstuvwxyz0123456789");
    return n > 0 && format[n] == '\0' ? format : "png";
}

static int save_image(
    const struct cli *cli, const char *dir, const json_t *value, const char *base64)
{
    struct base_error err = {0};
    char path[CLI_PATH_MAX];
    size_t n = strlen(base64);
    CLEANUP(base_freep) uint8_t *raw = malloc(n / 4 * 3 + 3);
    int len =
        raw == NULL || n > INT32_MAX ? -1 : EVP_DecodeBlock(raw, (const uint8_t *)base64, (int)n);
    if (len < 0) {
        return cli_fail(cli, CLI_SERVER, NULL, "the image in the answer is no base64 text");
    }
    for (size_t i = n; i > 0 && i > n - 2 && base64[i - 1] == '='; i--) {
        len--; /* OpenSSL counts the padding as bytes */
    }
    FILE *f = open_figure(dir, image_format(value), path, &err);
    if (f == NULL) {
        return cli_fail(cli, CLI_LOCAL, NULL, "%s", err.text);
    }
    bool ok = fwrite(raw, 1, (size_t)len, f) == (size_t)len;
    if (fclose(f) != 0 || !ok) {
        return cli_fail(cli, CLI_LOCAL, NULL, "cannot write '%s': %s", path, strerror(errno));
    }
    cli_note(cli, "saved %s (%d bytes)", path, len);
    return CLI_OK;
}

static int show_result(const struct cli *cli, const struct exec *x, const json_t *value)
{
    const char *type = json_string_value(json_object_get(value, "type"));
    const char *base64 = json_string_value(json_object_get(value, "base64_data"));
    if (type != NULL && strcmp(type, "image") == 0 && base64 != NULL) {
        if (x->images != NULL) {
            return save_image(cli, x->images, value, base64);
        }
        cli_note(cli, "[image, %zu bytes; --save-images DIR keeps it]", strlen(base64) / 4 * 3);
        return CLI_OK;
    }
    if (json_is_string(value)) {
        if (json_string_length(value) > 0) {
            (void)puts(json_string_value(value));
        }
    } else if (value != NULL && !json_is_null(value)) {
        (void)json_dumpf(value, stdout, JSON_ENCODE_ANY);
        (void)puts("");
    }
    return CLI_OK;
}

static void show_stream(const json_t *text, FILE *to)
{
    if (json_is_string(text)) {
        (void)fwrite(json_string_value(text), 1, json_string_length(text), to);
        (void)fflush(to);
    }
}

static void show_timing(struct cli_api *api, const struct cli_answer *a)
{
    const char *made = cli_api_header(api, "x-ms-new-allocation");
    const char *allocation = cli_api_header(api, "x-ms-allocation-time");
    const char *server = cli_api_header(api, "x-ms-overall-execution-time");
    if (api->cli->json) {
        (void)fprintf(stderr, "{\"requestMs\":%.3f,\"wholeMs\":%.3f}\n",
            (double)a->request_us / 1e3, (double)a->total_us / 1e3);
        return;
    }
    (void)fprintf(stderr, "timing: request %.1f ms, with connection %.1f ms",
        (double)a->request_us / 1e3, (double)a->total_us / 1e3);
    if (server != NULL) {
        (void)fprintf(stderr, ", in the gateway %s ms", server);
    }
    if (allocation != NULL && made != NULL && strcmp(made, "true") == 0) {
        (void)fprintf(stderr, ", allocation %s ms", allocation);
    }
    (void)fputc('\n', stderr);
}

static int show(struct cli_api *api, const struct exec *x, const struct cli_answer *a)
{
    const struct cli *cli = api->cli;
    json_error_t e;
    json_t *doc = json_loadb(
        (const char *)base_buf_data(&a->body), base_buf_size(&a->body), JSON_ALLOW_NUL, &e);
    const char *status = json_string_value(json_object_get(doc, "status"));
    if (status == NULL) {
        json_decref(doc);
        return cli_fail(cli, CLI_SERVER, NULL, "the answer is no execution: %.120s", e.text);
    }
    bool ok = strcmp(status, "Succeeded") == 0;
    int rc = ok ? CLI_OK : CLI_FAILED;
    if (cli->json) {
        (void)fwrite(base_buf_data(&a->body), 1, base_buf_size(&a->body), stdout);
        (void)puts("");
    } else {
        const json_t *result = json_object_get(doc, "result");
        show_stream(json_object_get(result, "stdout"), stdout);
        show_stream(json_object_get(result, "stderr"), stderr);
        int shown = show_result(cli, x, json_object_get(result, "executionResult"));
        rc = shown != CLI_OK ? shown : rc;
    }
    json_decref(doc);
    return rc;
}

static int execute(struct cli *cli, const struct exec *x, const char *code, size_t n)
{
    struct cli_api api;
    struct cli_answer answer;
    CLEANUP(base_freep) char *body = make_body(x, code, n);
    if (body == NULL) {
        return cli_fail(cli, CLI_USAGE, NULL, "the code is no UTF-8 text");
    }
    int rc = cli_api_open(cli, &api);
    if (rc != 0) {
        return rc;
    }
    call(&api, x, body, &answer);
    rc = cli_api_check(&api, &answer);
    if (rc == 0 && x->id_is_new) {
        cli_note(cli, "session %s", x->id);
    }
    rc = rc != 0 ? rc : show(&api, x, &answer);
    if (x->timing && answer.code == CURLE_OK) {
        show_timing(&api, &answer);
    }
    cli_answer_deinit(&answer);
    cli_api_close(&api);
    return rc;
}

static int run(struct cli *cli, const struct cli_command *self, int argc, char *const argv[])
{
    struct exec x = {.timeout_s = TIMEOUT_S_DEFAULT, .output_max = OUTPUT_DEFAULT, .retry_s = 20};
    const struct cli_option own[] = {
        {"id", 0, CLI_OPTION_TEXT, &x.id, "ID", "the session; a new random one when not given", 0,
            0},
        {"timeout", 0, CLI_OPTION_TIME, &x.timeout_s, "TIME", "limit of the code (120s)", 1,
            TIMEOUT_S_MAX},
        {"file", 'f', CLI_OPTION_TEXT, &x.file, "FILE", "code from a file, - for stdin", 0, 0},
        {"save-images", 0, CLI_OPTION_TEXT, &x.images, "DIR", "keep figures as DIR/figure-N.png", 0,
            0},
        {"output-max", 0, CLI_OPTION_UINT, &x.output_max, "BYTES",
            "of stdout and stderr each (1048576)", 1, OUTPUT_MAX},
        {"retry", 0, CLI_OPTION_TIME, &x.retry_s, "TIME",
            "how long to ask again after a broken connection (20s)", 0, 3600},
        {"timing", 0, CLI_OPTION_FLAG, &x.timing, NULL, "say on stderr how long it took", 0, 0},
        {0},
    };
    struct cli_args args;
    int rc = cli_command_read(cli, self, own, argc, argv, &args);
    if (rc != CLI_GO_ON) {
        return rc;
    }
    if (args.n + (x.file != NULL) != 1) {
        return cli_command_wrong(cli, self, "one of CODE, - or --file FILE is needed");
    }
    struct base_error err = {0};
    char random_id[BASE_TEXT_UUID_MAX];
    if (x.id == NULL) {
        base_rand_uuid(random_id);
        x.id = random_id;
        x.id_is_new = true;
    }
    if (cli_place_identifier(x.id, &err) != 0) {
        return cli_command_wrong(cli, self, "%s", err.text);
    }
    const char *file = x.file != NULL ? x.file : strcmp(args.v[0], "-") == 0 ? "-" : NULL;
    if (file == NULL) {
        return execute(cli, &x, args.v[0], strlen(args.v[0]));
    }
    CLEANUP(base_freep) char *code = NULL;
    size_t n = 0;
    if (cli_file_read(file, PROTO_CODE_BYTES_MAX, &code, &n, &err) != 0) {
        return cli_fail(cli, CLI_LOCAL, NULL, "%s", err.text);
    }
    return execute(cli, &x, code, n);
}

const struct cli_command cli_cmd_exec = {
    .name = "exec",
    .summary = "run code in a session",
    .usage = "exec [--id ID] [--timeout TIME] [--save-images DIR] CODE | - | --file FILE",
    .text = "Runs code in the session of an identifier; a new identifier gets its own microVM. "
            "Variables,\n"
            "imports and files stay until the session ends. Prints what the code writes, then the "
            "value\n"
            "of its last expression. Exit code 1 when the code raises or runs out of time.\n"
            "\n"
            "Every run has an id of its own. When the connection breaks, the answer of the same "
            "run is\n"
            "asked for again; the code never runs twice.\n",
    .examples =
        "  warren exec --id demo-0001 'x = 20 + 1'\n"
        "  warren exec --id demo-0001 'print(x * 2)'\n"
        "  warren exec --id demo-0001 --timeout 200s --file analysis.py --save-images plots\n"
        "  echo 'import sys; sys.version' | warren exec -\n"
        "  warren exec --json '1/0'            # the gateway's answer as it is; exit code 1\n",
    .connects = true,
    .run = run,
};
