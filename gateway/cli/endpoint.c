#include "gateway/cli/endpoint.h"

#include <errno.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/cli/claims.h"
#include "gateway/cli/file.h"
#include "gateway/cli/jws.h"
#include "gateway/cli/keys.h"
#include "proto/base/cleanup.h"
#include "proto/base/clock.h"

enum { TOKEN_BYTES_MAX = 16384 };

bool cli_endpoint_is_loopback(const char *url)
{
    const char *host = strstr(url, "://");
    if (host == NULL) {
        return false;
    }
    host += 3;
    size_t n = strcspn(host, host[0] == '[' ? "/?#" : ":/?#");
    if (memchr(host, '@', strcspn(host, "/?#")) != NULL) {
        return false;
    }
    return (n == 9 && strncmp(host, "localhost", n) == 0) ||
           (n > 4 && strncmp(host, "127.", 4) == 0 && strspn(host, "0123456789.") == n) ||
           strncmp(host, "[::1]", 5) == 0;
}

static json_t *read_client(const char *state_dir, struct base_error *err)
{
    char path[CLI_PATH_MAX];
    CLEANUP(base_freep) char *text = NULL;
    size_t n = 0;
    int rc = cli_file_path(path, state_dir, "client.json", err);
    rc = rc != 0 ? rc : cli_file_read(path, CLI_KEY_FILE_MAX, &text, &n, err);
    if (rc != 0) {
        return NULL;
    }
    json_error_t e;
    json_t *doc = json_loadb(text, n, JSON_REJECT_DUPLICATES, &e);
    if (!json_is_object(doc)) {
        json_decref(doc);
        (void)base_fail(err, BASE_ECORRUPT, "'%s' is no JSON object", path);
        return NULL;
    }
    return doc;
}

int cli_endpoint_save(
    const char *state_dir, const char *url, const char *ca_file, struct base_error *err)
{
    char path[CLI_PATH_MAX], key[CLI_PATH_MAX];
    int rc = cli_file_path(path, state_dir, "client.json", err);
    rc = rc != 0 ? rc : cli_file_path(key, state_dir, "keys/token.pem", err);
    if (rc != 0) {
        return rc;
    }
    json_t *doc =
        json_pack("{s:s, s:s*, s:s}", "url", url, "ca_file", ca_file, "token_key_file", key);
    CLEANUP(base_freep) char *text = doc == NULL ? NULL : json_dumps(doc, JSON_INDENT(2));
    json_decref(doc);
    if (text == NULL) {
        return base_fail(err, BASE_EINVAL, "the path of the state folder is no UTF-8 text");
    }
    return cli_file_write(path, text, strlen(text), 0600, err);
}

/* A token for the tool's own requests: all roles, because the key's owner could issue them anyway.
 */
static int issue(const char *key_file, char **ret, struct base_error *err)
{
    struct cli_claims claims = {.subject = "warren-cli",
        .audience = CLI_AUDIENCE_DEFAULT,
        .ttl_s = CLI_TTL_S_OWN,
        .roles = {.v = {"executor", "reader", "contributor"}, .n = 3}};
    EVP_PKEY *key = NULL;
    json_t *doc = NULL;
    int rc = cli_keys_token(key_file, &key, err);
    rc = rc != 0 ? rc : cli_claims_make(&claims, base_clock_real_ns() / BASE_NS_PER_S, &doc, err);
    rc = rc != 0 ? rc : cli_jws_sign(key, doc, ret, err);
    json_decref(doc);
    EVP_PKEY_free(key);
    return rc;
}

static int read_token(const char *file, char **ret, struct base_error *err)
{
    char *text = NULL;
    size_t n = 0;
    int rc = cli_file_read(file, TOKEN_BYTES_MAX, &text, &n, err);
    if (rc != 0) {
        return rc;
    }
    text[strcspn(text, " \t\r\n")] = '\0';
    if (text[0] == '\0') {
        free(text);
        return base_fail(err, BASE_EINVAL, "'%s' holds no token", file);
    }
    *ret = text;
    return 0;
}

static const char *pick(
    const char *option, const char *variable, const json_t *doc, const char *key)
{
    if (option != NULL) {
        return option;
    }
    const char *env = variable == NULL ? NULL : getenv(variable);
    if (env != NULL && env[0] != '\0') {
        return env;
    }
    return json_string_value(json_object_get(doc, key));
}

static int find_token(
    const struct cli *cli, const json_t *client, struct cli_endpoint *e, struct base_error *err)
{
    const char *env = getenv("WARREN_TOKEN");
    if (cli->token_file != NULL) {
        return read_token(cli->token_file, &e->token, err);
    }
    if (env != NULL && env[0] != '\0') {
        e->token = strdup(env);
        return e->token != NULL ? 0 : base_fail(err, BASE_ENOMEM, "out of memory");
    }
    const char *key = json_string_value(json_object_get(client, "token_key_file"));
    if (key == NULL || strncmp(e->url, "http://", 7) == 0) {
        return 0; /* the gateway says whether it wants one */
    }
    return issue(key, &e->token, err);
}

static int check_url(const struct cli *cli, struct cli_endpoint *e)
{
    bool plain = strncmp(e->url, "http://", 7) == 0;
    if (!plain && strncmp(e->url, "https://", 8) != 0) {
        return cli_fail(cli, CLI_USAGE, "like https://127.0.0.1:8443",
            "the URL '%.100s' begins with neither https:// nor http://", e->url);
    }
    if (plain && !cli_endpoint_is_loopback(e->url)) {
        return cli_fail(cli, CLI_USAGE, "use https://, with --ca-file for an own certificate",
            "plain http:// is for this machine only: code, files and the token would be readable");
    }
    size_t n = strlen(e->url);
    while (n > 0 && e->url[n - 1] == '/') {
        e->url[--n] = '\0';
    }
    return 0;
}

static char *copy(const char *text)
{
    return text == NULL ? NULL : strdup(text);
}

int cli_endpoint_find(const struct cli *cli, struct cli_endpoint *ret)
{
    struct base_error err = {0};
    struct cli_endpoint e = {0};
    json_t *client = read_client(cli->state_dir, &err);
    const char *url = pick(cli->url, "WARREN_URL", client, "url");
    if (url == NULL) {
        json_decref(client);
        return cli_fail(cli, err.code == BASE_ECORRUPT ? CLI_LOCAL : CLI_UNREACHABLE,
            err.code == -EACCES
                ? "the state folder belongs to another user: use sudo, or --url and WARREN_TOKEN"
                : "start one with `warren up`, or name one with --url",
            "no gateway is known: %s", err.text);
    }
    e.url = copy(url);
    e.ca_file = copy(pick(cli->ca_file, "WARREN_CA_FILE", client, "ca_file"));
    if (e.url == NULL) {
        json_decref(client);
        return cli_fail(cli, CLI_LOCAL, NULL, "out of memory");
    }
    int rc = check_url(cli, &e);
    if (rc == 0 && find_token(cli, client, &e, &err) != 0) {
        rc = cli_fail(cli, CLI_LOCAL, "give a token with --token-file or WARREN_TOKEN",
            "no token: %s", err.text);
    }
    json_decref(client);
    if (rc != 0) {
        cli_endpoint_deinit(&e);
        return rc;
    }
    *ret = e;
    return 0;
}

void cli_endpoint_deinit(struct cli_endpoint *e)
{
    free(e->url);
    free(e->ca_file);
    free(e->token);
    *e = (struct cli_endpoint){0};
}
