#include "gateway/cli/keys.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include "gateway/cli/cert.h"
#include "gateway/cli/file.h"
#include "gateway/cli/jws.h"
#include "proto/base/cleanup.h"
#include "proto/base/rand.h"
#include "proto/base/text.h"

enum { JWKS_KEYS_MAX = 4 }; /* the current signing key and those before it */

struct dirs {
    char state[CLI_PATH_MAX], keys[CLI_PATH_MAX], tls[CLI_PATH_MAX];
};

static int dirs_init(struct dirs *d, const char *state_dir, struct base_error *err)
{
    (void)snprintf(d->state, sizeof d->state, "%s", state_dir);
    int rc = cli_file_path(d->keys, state_dir, "keys", err);
    return rc != 0 ? rc : cli_file_path(d->tls, state_dir, "tls", err);
}

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static int make_cluster_key(const char *path, struct base_error *err)
{
    uint8_t raw[16];
    char text[34];
    base_rand_bytes(raw, sizeof raw);
    base_text_hex(raw, sizeof raw, text);
    text[32] = '\n';
    int rc = cli_file_write(path, text, 33, 0600, err);
    OPENSSL_cleanse(raw, sizeof raw);
    OPENSSL_cleanse(text, sizeof text);
    return rc;
}

static int make_curve(const char *path, struct base_error *err)
{
    char public_key[CLI_Z85_BYTES + 1], secret[CLI_Z85_BYTES + 1], text[128];
    if (zmq_curve_keypair(public_key, secret) != 0) {
        return base_fail(err, -errno, "libzmq was built without CURVE");
    }
    int n = snprintf(text, sizeof text, "public %s\nsecret %s\n", public_key, secret);
    int rc = cli_file_write(path, text, (size_t)n, 0600, err);
    OPENSSL_cleanse(secret, sizeof secret);
    OPENSSL_cleanse(text, sizeof text);
    return rc;
}

int cli_keys_curve_public(
    const char *curve_file, char ret[CLI_Z85_BYTES + 1], struct base_error *err)
{
    CLEANUP(base_freep) char *text = NULL;
    size_t n = 0;
    int rc = cli_file_read(curve_file, CLI_KEY_FILE_MAX, &text, &n, err);
    if (rc != 0) {
        return rc;
    }
    const char *line = strncmp(text, "public ", 7) == 0 ? text + 7 : "";
    bool ok = strcspn(line, "\r\n") == CLI_Z85_BYTES;
    if (ok) {
        memcpy(ret, line, CLI_Z85_BYTES);
        ret[CLI_Z85_BYTES] = '\0';
    }
    OPENSSL_cleanse(text, n);
    return ok ? 0
              : base_fail(err, BASE_ECORRUPT,
                    "'%s' does not begin with \"public\" and a key of 40 characters", curve_file);
}

static int make_clients(const struct dirs *d, const char *path, struct base_error *err)
{
    char curve[CLI_PATH_MAX], public_key[CLI_Z85_BYTES + 1], text[160];
    int rc = cli_file_path(curve, d->keys, "gateway-" CLI_GATEWAY_NAME ".curve", err);
    rc = rc != 0 ? rc : cli_keys_curve_public(curve, public_key, err);
    if (rc != 0) {
        return rc;
    }
    int n = snprintf(text, sizeof text, "gateway %s %s\n", CLI_GATEWAY_NAME, public_key);
    return cli_file_write(path, text, (size_t)n, 0600, err);
}

/* The key set: the public half of `key` first, then what `old` holds (may be NULL). */
static int write_jwks(const char *path, EVP_PKEY *key, const json_t *old, struct base_error *err)
{
    json_t *jwk = NULL;
    int rc = cli_jws_jwk(key, &jwk, err);
    if (rc != 0) {
        return rc;
    }
    json_t *set = json_pack("{s:[o]}", "keys", jwk);
    json_t *keys = json_object_get(set, "keys");
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(old, "keys"), i, item)
    {
        if (json_array_size(keys) < JWKS_KEYS_MAX) {
            (void)json_array_append(keys, item);
        }
    }
    CLEANUP(base_freep) char *text = json_dumps(set, JSON_INDENT(2));
    json_decref(set);
    if (text == NULL) {
        return base_fail(err, BASE_ENOMEM, "out of memory");
    }
    return cli_file_write(path, text, strlen(text), 0644, err);
}

static int write_token_key(const char *path, EVP_PKEY *key, struct base_error *err)
{
    char *pem = NULL;
    size_t n = 0;
    int rc = cli_jws_key_pem(key, &pem, &n, err);
    if (rc == 0) {
        rc = cli_file_write(path, pem, n, 0600, err);
        OPENSSL_cleanse(pem, n);
        free(pem);
    }
    return rc;
}

int cli_keys_token(const char *pem_file, EVP_PKEY **ret, struct base_error *err)
{
    char *pem = NULL;
    size_t n = 0;
    int rc = cli_file_read(pem_file, CLI_KEY_FILE_MAX, &pem, &n, err);
    if (rc == 0) {
        rc = cli_jws_key_read(pem, n, ret, err);
        OPENSSL_cleanse(pem, n);
        free(pem);
    }
    return rc;
}

static int make_token_key(const char *pem, const char *jwks, bool *made, struct base_error *err)
{
    if (exists(pem) && exists(jwks)) {
        return 0;
    }
    EVP_PKEY *key = NULL;
    int rc;
    if (exists(pem)) { /* only the public set is lost: it can be had from the key */
        rc = cli_keys_token(pem, &key, err);
    } else {
        rc = cli_jws_key_new(&key, err);
        rc = rc != 0 ? rc : write_token_key(pem, key, err);
    }
    rc = rc != 0 ? rc : write_jwks(jwks, key, NULL, err);
    EVP_PKEY_free(key);
    *made = true;
    return rc;
}

static int read_cert(const char *path, struct cli_cert_facts *ret, struct base_error *err)
{
    CLEANUP(base_freep) char *pem = NULL;
    size_t n = 0;
    int rc = cli_file_read(path, CLI_KEY_FILE_MAX, &pem, &n, err);
    return rc != 0 ? rc : cli_cert_read(pem, n, ret, err);
}

static int make_tls(const struct dirs *d, bool *made, struct base_error *err)
{
    char cert_path[CLI_PATH_MAX], key_path[CLI_PATH_MAX], host[256] = "localhost";
    int rc = cli_file_path(cert_path, d->tls, "cert.pem", err);
    rc = rc != 0 ? rc : cli_file_path(key_path, d->tls, "key.pem", err);
    if (rc != 0) {
        return rc;
    }
    if (exists(cert_path) && exists(key_path)) {
        struct cli_cert_facts facts;
        rc = read_cert(cert_path, &facts, err);
        if (rc != 0 || !facts.ours || facts.days_left >= CLI_CERT_RENEW_DAYS) {
            return rc;
        }
    }
    (void)gethostname(host, sizeof host - 1);
    struct cli_cert cert;
    rc = cli_cert_make(host, &cert, err);
    if (rc != 0) {
        return rc;
    }
    rc = cli_file_write(key_path, cert.key_pem, cert.key_n, 0600, err);
    rc = rc != 0 ? rc : cli_file_write(cert_path, cert.cert_pem, cert.cert_n, 0644, err);
    cli_cert_deinit(&cert);
    *made = true;
    return rc;
}

int cli_keys_init(const char *state_dir, bool *ret_made, struct base_error *err)
{
    static const struct {
        const char *name;
        int (*make)(const char *path, struct base_error *err);
    } secret[] = {
        {"cluster.key", make_cluster_key},
        {"worker-" CLI_WORKER_NAME ".curve", make_curve},
        {"gateway-" CLI_GATEWAY_NAME ".curve", make_curve},
    };
    struct dirs d;
    char path[CLI_PATH_MAX], jwks[CLI_PATH_MAX];
    bool made = false;
    int rc = dirs_init(&d, state_dir, err);
    rc = rc != 0 ? rc : cli_file_mkdirs(d.state, 0700, err);
    rc = rc != 0 ? rc : cli_file_mkdirs(d.keys, 0700, err);
    rc = rc != 0 ? rc : cli_file_mkdirs(d.tls, 0700, err);
    for (size_t i = 0; rc == 0 && i < sizeof secret / sizeof secret[0]; i++) {
        rc = cli_file_path(path, d.keys, secret[i].name, err);
        if (rc == 0 && !exists(path)) {
            made = true;
            rc = secret[i].make(path, err);
        }
    }
    rc = rc != 0 ? rc : cli_file_path(path, d.keys, "clients", err);
    if (rc == 0 && !exists(path)) {
        made = true;
        rc = make_clients(&d, path, err);
    }
    rc = rc != 0 ? rc : cli_file_path(path, d.keys, "token.pem", err);
    rc = rc != 0 ? rc : cli_file_path(jwks, d.keys, "token.jwks", err);
    rc = rc != 0 ? rc : make_token_key(path, jwks, &made, err);
    rc = rc != 0 ? rc : make_tls(&d, &made, err);
    if (rc == 0 && ret_made != NULL) {
        *ret_made = made;
    }
    return rc;
}

static int read_jwks(const char *path, json_t **ret, struct base_error *err)
{
    CLEANUP(base_freep) char *text = NULL;
    size_t n = 0;
    int rc = cli_file_read(path, CLI_KEY_FILE_MAX, &text, &n, err);
    if (rc != 0) {
        return rc;
    }
    json_error_t e;
    json_t *doc = json_loadb(text, n, JSON_REJECT_DUPLICATES, &e);
    if (!json_is_array(json_object_get(doc, "keys"))) {
        json_decref(doc);
        return base_fail(err, BASE_ECORRUPT, "'%s' is no JWK set", path);
    }
    *ret = doc;
    return 0;
}

int cli_keys_rotate(const char *state_dir, bool revoke, struct base_error *err)
{
    struct dirs d;
    char pem[CLI_PATH_MAX], jwks[CLI_PATH_MAX];
    int rc = dirs_init(&d, state_dir, err);
    rc = rc != 0 ? rc : cli_file_path(pem, d.keys, "token.pem", err);
    rc = rc != 0 ? rc : cli_file_path(jwks, d.keys, "token.jwks", err);
    json_t *old = NULL;
    rc = rc != 0 ? rc : read_jwks(jwks, &old, err);
    EVP_PKEY *key = NULL;
    rc = rc != 0 ? rc : cli_jws_key_new(&key, err);
    /* The set first: a signing key that no gateway knows would make tokens that nobody accepts. */
    rc = rc != 0 ? rc : write_jwks(jwks, key, revoke ? NULL : old, err);
    rc = rc != 0 ? rc : write_token_key(pem, key, err);
    EVP_PKEY_free(key);
    json_decref(old);
    return rc;
}

int cli_keys_show(const char *state_dir, json_t **ret, struct base_error *err)
{
    struct dirs d;
    char worker[CLI_PATH_MAX], gateway[CLI_PATH_MAX], jwks[CLI_PATH_MAX], cert[CLI_PATH_MAX];
    char worker_public[CLI_Z85_BYTES + 1], gateway_public[CLI_Z85_BYTES + 1];
    struct cli_cert_facts facts;
    json_t *set = NULL;
    int rc = dirs_init(&d, state_dir, err);
    rc = rc != 0 ? rc : cli_file_path(worker, d.keys, "worker-" CLI_WORKER_NAME ".curve", err);
    rc = rc != 0 ? rc : cli_file_path(gateway, d.keys, "gateway-" CLI_GATEWAY_NAME ".curve", err);
    rc = rc != 0 ? rc : cli_file_path(jwks, d.keys, "token.jwks", err);
    rc = rc != 0 ? rc : cli_file_path(cert, d.tls, "cert.pem", err);
    rc = rc != 0 ? rc : cli_keys_curve_public(worker, worker_public, err);
    rc = rc != 0 ? rc : cli_keys_curve_public(gateway, gateway_public, err);
    rc = rc != 0 ? rc : read_cert(cert, &facts, err);
    rc = rc != 0 ? rc : read_jwks(jwks, &set, err);
    if (rc != 0) {
        return rc;
    }
    json_t *kids = json_array();
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(set, "keys"), i, item)
    {
        (void)json_array_append(kids, json_object_get(item, "kid"));
    }
    json_decref(set);
    json_t *doc = json_pack("{s:s, s:s, s:s, s:o, s:{s:s, s:i, s:b}}", "stateDir", d.state,
        "workerPublicKey", worker_public, "gatewayPublicKey", gateway_public, "tokenKeyIds", kids,
        "certificate", "file", cert, "daysLeft", facts.days_left, "selfSigned", facts.ours);
    if (doc == NULL) {
        return base_fail(err, BASE_ENOMEM, "out of memory");
    }
    *ret = doc;
    return 0;
}
