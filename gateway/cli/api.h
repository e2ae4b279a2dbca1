#pragma once
#include <curl/curl.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/cli/endpoint.h"
#include "gateway/cli/say.h"
#include "proto/base/buf.h"
#include "proto/base/err.h"

/* Requests to a gateway (libcurl). Endpoint and token: endpoint.h. */

#define CLI_API_VERSION "2025-10-02-preview"

enum { CLI_QUERY_MAX = 4, CLI_ANSWER_BYTES_MAX = 64 << 20 };

struct cli_api {
    const struct cli *cli;
    CURL *curl;
    struct cli_endpoint endpoint;
};

/* Prints what is wrong and returns an exit code other than 0; then nothing is to be closed. */
int cli_api_open(const struct cli *cli, struct cli_api *ret);
void cli_api_close(struct cli_api *api);

struct cli_query {
    const char *name, *value; /* plain text, encoded by cli_api_call() */
};

/* Receives the body of a successful answer; returns false to give up. */
typedef bool (*cli_sink_fn)(void *user, const void *data, size_t n);
/* Called now and then during a transfer. */
typedef void (*cli_progress_fn)(void *user, int64_t down, int64_t up, int64_t total);

struct cli_request {
    const char *method;
    const char *path;                      /* below the pool, encoded: "/executions" */
    struct cli_query query[CLI_QUERY_MAX]; /* ends with a NULL name, or is full */
    const char *body;                      /* JSON text, NULL: none */
    curl_mime *mime;                       /* instead of body; borrowed */
    const char *header;                    /* one more header line, NULL: none */
    cli_sink_fn sink;                      /* NULL: the body goes to the answer */
    cli_progress_fn progress;
    void *user;
    uint32_t timeout_s; /* of the whole request; 0: as long as bytes move */
};

struct cli_answer {
    CURLcode code; /* CURLE_OK: there is an HTTP answer */
    long status;
    struct base_buf body; /* of an error too */
    int64_t total_us;     /* from the start, with connection and TLS */
    int64_t request_us;   /* from the first byte of the request to the last of the answer */
    char error[CURL_ERROR_SIZE];
};

/* Carries out one request. The answer is always filled; free it with cli_answer_deinit(). */
void cli_api_call(
    struct cli_api *api, const struct cli_request *request, struct cli_answer *answer);
void cli_answer_deinit(struct cli_answer *answer);

/* Header of the last answer, NULL when absent; valid until the next call. */
const char *cli_api_header(struct cli_api *api, const char *name);

/* 0 for a 2xx answer. Otherwise says what went wrong and returns the exit code. */
int cli_api_check(struct cli_api *api, const struct cli_answer *answer);

/* Percent-encoded path segment; the caller frees it with curl_free(). */
char *cli_api_segment(struct cli_api *api, const char *text);
