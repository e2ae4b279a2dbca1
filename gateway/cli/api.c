#include "gateway/cli/api.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/cleanup.h"

enum { CONNECT_TIMEOUT_S = 10, STALL_S = 120 };

struct transfer {
    struct cli_api *api;
    const struct cli_request *request;
    struct cli_answer *answer;
};

int cli_api_open(const struct cli *cli, struct cli_api *ret)
{
    struct cli_api api = {.cli = cli};
    int rc = cli_endpoint_find(cli, &api.endpoint);
    if (rc != 0) {
        return rc;
    }
    api.curl = curl_global_init(CURL_GLOBAL_DEFAULT) == 0 ? curl_easy_init() : NULL;
    if (api.curl == NULL) {
        cli_endpoint_deinit(&api.endpoint);
        return cli_fail(cli, CLI_LOCAL, NULL, "libcurl cannot start");
    }
    *ret = api;
    return 0;
}

void cli_api_close(struct cli_api *api)
{
    curl_easy_cleanup(api->curl);
    curl_global_cleanup();
    cli_endpoint_deinit(&api->endpoint);
    *api = (struct cli_api){0};
}

char *cli_api_segment(struct cli_api *api, const char *text)
{
    return curl_easy_escape(api->curl, text, 0);
}

static bool add_query(struct cli_api *api, struct base_buf *url, const struct cli_query *q)
{
    char *value = curl_easy_escape(api->curl, q->value, 0);
    bool ok = value != NULL && base_buf_printf(url, "&%s=%s", q->name, value) == 0;
    curl_free(value);
    return ok;
}

/* Endpoint, pool, path and query; the caller frees it, NULL when memory is out. */
static char *make_url(struct cli_api *api, const struct cli_request *r)
{
    struct base_buf url = {0};
    char *pool = curl_easy_escape(api->curl, api->cli->pool, 0);
    bool ok = pool != NULL && base_buf_printf(&url, "%s/pools/%s%s?api-version=%s",
                                  api->endpoint.url, pool, r->path, CLI_API_VERSION) == 0;
    curl_free(pool);
    for (size_t i = 0; ok && i < CLI_QUERY_MAX && r->query[i].name != NULL; i++) {
        ok = add_query(api, &url, &r->query[i]);
    }
    if (!ok || base_buf_add(&url, "", 1) != 0) {
        base_buf_deinit(&url);
        return NULL;
    }
    return (char *)url.p;
}

static size_t on_body(char *data, size_t size, size_t n, void *user)
{
    struct transfer *t = user;
    (void)size; /* always 1 */
    long status = 0;
    (void)curl_easy_getinfo(t->api->curl, CURLINFO_RESPONSE_CODE, &status);
    if (t->request->sink != NULL && status >= 200 && status < 300) {
        return t->request->sink(t->request->user, data, n) ? n : 0;
    }
    if (base_buf_size(&t->answer->body) + n > CLI_ANSWER_BYTES_MAX) {
        (void)snprintf(t->answer->error, sizeof t->answer->error,
            "the answer is larger than %d MiB", CLI_ANSWER_BYTES_MAX >> 20);
        return 0;
    }
    return base_buf_add(&t->answer->body, data, n) == 0 ? n : 0;
}

static int on_progress(
    void *user, curl_off_t down_total, curl_off_t down, curl_off_t up_total, curl_off_t up)
{
    struct transfer *t = user;
    t->request->progress(t->request->user, down, up, up_total > 0 ? up_total : down_total);
    return 0;
}

static struct curl_slist *make_headers(const struct cli_request *r)
{
    /* No "Expect: 100-continue": it would cost a round trip before every upload. */
    struct curl_slist *list = curl_slist_append(NULL, "Expect:");
    if (r->body != NULL) {
        list = curl_slist_append(list, "Content-Type: application/json");
    }
    return r->header == NULL ? list : curl_slist_append(list, r->header);
}

static void set_options(struct transfer *t, const char *url, struct curl_slist *headers)
{
    CURL *c = t->api->curl;
    const struct cli_request *r = t->request;
    const struct cli_endpoint *e = &t->api->endpoint;
    curl_easy_setopt(c, CURLOPT_URL, url);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, r->method);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "warren/" WARREN_VERSION);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_TIMEOUT_S);
    curl_easy_setopt(c, CURLOPT_TIMEOUT, (long)r->timeout_s);
    if (r->timeout_s == 0) {
        curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)STALL_S);
    }
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, t->answer->error);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
    if (e->ca_file != NULL) {
        curl_easy_setopt(c, CURLOPT_CAINFO, e->ca_file);
    }
    if (e->token != NULL) {
        curl_easy_setopt(c, CURLOPT_HTTPAUTH, CURLAUTH_BEARER);
        curl_easy_setopt(c, CURLOPT_XOAUTH2_BEARER, e->token);
    }
    if (r->mime != NULL) {
        curl_easy_setopt(c, CURLOPT_MIMEPOST, r->mime);
    } else if (r->body != NULL) {
        curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(r->body));
        curl_easy_setopt(c, CURLOPT_POSTFIELDS, r->body);
    } else if (strcmp(r->method, "POST") == 0) {
        curl_easy_setopt(c, CURLOPT_POSTFIELDS, "");
    }
    if (r->progress != NULL) {
        curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
        curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
        curl_easy_setopt(c, CURLOPT_XFERINFODATA, t);
    }
}

void cli_api_call(struct cli_api *api, const struct cli_request *request, struct cli_answer *answer)
{
    *answer = (struct cli_answer){.code = CURLE_OUT_OF_MEMORY};
    CLEANUP(base_freep) char *url = make_url(api, request);
    struct curl_slist *headers = make_headers(request);
    if (url == NULL || headers == NULL) {
        curl_slist_free_all(headers);
        return;
    }
    struct transfer t = {.api = api, .request = request, .answer = answer};
    curl_easy_reset(api->curl); /* keeps the connection */
    set_options(&t, url, headers);
    answer->code = curl_easy_perform(api->curl);
    (void)curl_easy_getinfo(api->curl, CURLINFO_RESPONSE_CODE, &answer->status);
    curl_off_t total = 0, before = 0;
    (void)curl_easy_getinfo(api->curl, CURLINFO_TOTAL_TIME_T, &total);
    /* The connection stands: with TLS, or (when that is 0) without. */
    (void)curl_easy_getinfo(api->curl, CURLINFO_APPCONNECT_TIME_T, &before);
    if (before == 0) {
        (void)curl_easy_getinfo(api->curl, CURLINFO_CONNECT_TIME_T, &before);
    }
    answer->total_us = total;
    answer->request_us = total - before;
    curl_slist_free_all(headers);
    if (answer->error[0] == '\0') {
        (void)snprintf(answer->error, sizeof answer->error, "%s", curl_easy_strerror(answer->code));
    }
}

void cli_answer_deinit(struct cli_answer *answer)
{
    base_buf_deinit(&answer->body);
}

const char *cli_api_header(struct cli_api *api, const char *name)
{
    struct curl_header *h = NULL;
    return curl_easy_header(api->curl, name, 0, CURLH_HEADER, -1, &h) == CURLHE_OK ? h->value
                                                                                   : NULL;
}

static int say_transport(struct cli_api *api, const struct cli_answer *answer)
{
    const char *hint = "is `warren up` running there? --url names another gateway";
    switch ((int)answer->code) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        hint = "name the gateway's certificate with --ca-file (a local one is STATE/tls/cert.pem)";
        break;
    case CURLE_OPERATION_TIMEDOUT:
        hint = "the gateway took too long; the execution may have run (see --timeout)";
        break;
    case CURLE_WRITE_ERROR:
    case CURLE_READ_ERROR:
        return cli_fail(api->cli, CLI_LOCAL, NULL, "transfer stopped: %s", answer->error);
    default:
        break;
    }
    return cli_fail(
        api->cli, CLI_UNREACHABLE, hint, "no answer from %s: %s", api->endpoint.url, answer->error);
}

static enum cli_exit exit_of(long status)
{
    if (status == 401 || status == 403) {
        return CLI_DENIED;
    }
    if (status == 429) {
        return CLI_FULL;
    }
    return status >= 400 && status < 500 ? CLI_REFUSED : CLI_SERVER;
}

static const char *hint_of(struct cli_api *api, long status, const char *code)
{
    if (status == 401) {
        return api->endpoint.token == NULL
                   ? "get a token with `warren token` and give it in WARREN_TOKEN"
                   : "the token is expired or of another key: make a new one with `warren token`";
    }
    if (status == 403) {
        return "the token lacks a role or this pool: `warren token --role executor --pool NAME`";
    }
    if (status == 429) {
        return "every session of the pool is in use: stop one (`warren sessions stop`), wait for "
               "the cooldown, or raise maxConcurrentSessions";
    }
    if (status == 404 && strstr(code, "Pool") != NULL) {
        return "--pool names the pool; `warren up --pool FILE` makes one";
    }
    return NULL;
}

int cli_api_check(struct cli_api *api, const struct cli_answer *answer)
{
    if (answer->code != CURLE_OK) {
        return say_transport(api, answer);
    }
    if (answer->status >= 200 && answer->status < 300) {
        return 0;
    }
    json_error_t e;
    json_t *doc = base_buf_size(&answer->body) == 0
                      ? NULL
                      : json_loadb((const char *)base_buf_data(&answer->body),
                            base_buf_size(&answer->body), 0, &e);
    json_t *error = json_object_get(doc, "error");
    const char *code = json_string_value(json_object_get(error, "code"));
    const char *text = json_string_value(json_object_get(error, "message"));
    const char *after = answer->status == 429 ? cli_api_header(api, "retry-after") : NULL;
    code = code == NULL ? "no code" : code;
    int rc = cli_fail(api->cli, exit_of(answer->status), hint_of(api, answer->status, code),
        "%s (HTTP %ld, %s)%s%s%s", text == NULL ? "the gateway refused" : text, answer->status,
        code, after == NULL ? "" : "; try again in ", after == NULL ? "" : after,
        after == NULL ? "" : " s");
    json_decref(doc);
    return rc;
}
