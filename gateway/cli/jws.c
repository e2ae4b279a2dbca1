#include "gateway/cli/jws.h"

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/buf.h"
#include "proto/base/cleanup.h"

enum { COORD_BYTES = 32, SIGNATURE_BYTES = 2 * COORD_BYTES };

static int crypto_fail(struct base_error *err, const char *what)
{
    char text[120];
    ERR_error_string_n(ERR_get_error(), text, sizeof text);
    return base_fail(err, BASE_EINVAL, "%s: %s", what, text);
}

/* base64url without padding; false when memory is out. */
static bool add_base64url(struct base_buf *to, const void *data, size_t n)
{
    size_t room = (n + 2) / 3 * 4 + 1;
    uint8_t *text = base_buf_room(to, room);
    if (text == NULL) {
        return false;
    }
    size_t len = (size_t)EVP_EncodeBlock(text, data, (int)n);
    while (len > 0 && text[len - 1] == '=') {
        len--;
    }
    for (size_t i = 0; i < len; i++) {
        text[i] = text[i] == '+' ? '-' : text[i] == '/' ? '_' : text[i];
    }
    base_buf_grow(to, len);
    return true;
}

int cli_jws_key_new(EVP_PKEY **ret, struct base_error *err)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    if (key == NULL) {
        return crypto_fail(err, "cannot make a P-256 key");
    }
    *ret = key;
    return 0;
}

int cli_jws_key_read(const char *pem, size_t n, EVP_PKEY **ret, struct base_error *err)
{
    BIO *bio = BIO_new_mem_buf(pem, (int)n);
    if (bio == NULL) {
        return base_fail(err, BASE_ENOMEM, "out of memory");
    }
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    BIO_free(bio);
    if (key == NULL) {
        return crypto_fail(err, "no private key in PEM form");
    }
    char group[32] = "";
    size_t len = 0;
    if (EVP_PKEY_get_base_id(key) != EVP_PKEY_EC ||
        EVP_PKEY_get_group_name(key, group, sizeof group, &len) != 1 ||
        strcmp(group, "prime256v1") != 0) {
        EVP_PKEY_free(key);
        return base_fail(err, BASE_EINVAL, "the key is no EC key on curve P-256");
    }
    *ret = key;
    return 0;
}

int cli_jws_key_pem(EVP_PKEY *key, char **ret, size_t *ret_n, struct base_error *err)
{
    BIO *bio = BIO_new(BIO_s_mem());
    if (bio == NULL || PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1) {
        BIO_free(bio);
        return crypto_fail(err, "cannot write the key");
    }
    char *data;
    long n = BIO_get_mem_data(bio, &data);
    char *copy = malloc((size_t)n + 1);
    if (copy != NULL) {
        memcpy(copy, data, (size_t)n);
        copy[n] = '\0';
    }
    BIO_free(bio);
    if (copy == NULL) {
        return base_fail(err, BASE_ENOMEM, "out of memory");
    }
    *ret = copy;
    *ret_n = (size_t)n;
    return 0;
}

/* One coordinate of the public point as base64url text; the caller frees it, NULL on an error. */
static char *coordinate(EVP_PKEY *key, const char *param)
{
    BIGNUM *bn = NULL;
    uint8_t raw[COORD_BYTES];
    struct base_buf text = {0};
    if (EVP_PKEY_get_bn_param(key, param, &bn) == 1 && BN_bn2binpad(bn, raw, sizeof raw) > 0 &&
        add_base64url(&text, raw, sizeof raw) && base_buf_add(&text, "", 1) == 0) {
        BN_free(bn);
        return (char *)text.p;
    }
    BN_free(bn);
    base_buf_deinit(&text);
    return NULL;
}

/* RFC 7638: SHA-256 over the required members in alphabetical order without white space. */
static char *thumbprint(const char *x, const char *y)
{
    struct base_buf in = {0}, out = {0};
    uint8_t hash[EVP_MAX_MD_SIZE];
    unsigned int n = 0;
    bool ok =
        base_buf_printf(
            &in, "{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"%s\",\"y\":\"%s\"}", x, y) == 0 &&
        EVP_Digest(base_buf_data(&in), base_buf_size(&in), hash, &n, EVP_sha256(), NULL) == 1 &&
        add_base64url(&out, hash, n) && base_buf_add(&out, "", 1) == 0;
    base_buf_deinit(&in);
    if (!ok) {
        base_buf_deinit(&out);
        return NULL;
    }
    return (char *)out.p;
}

int cli_jws_jwk(EVP_PKEY *key, json_t **ret, struct base_error *err)
{
    CLEANUP(base_freep) char *x = coordinate(key, OSSL_PKEY_PARAM_EC_PUB_X);
    CLEANUP(base_freep) char *y = coordinate(key, OSSL_PKEY_PARAM_EC_PUB_Y);
    CLEANUP(base_freep) char *kid = x == NULL || y == NULL ? NULL : thumbprint(x, y);
    if (kid == NULL) {
        return crypto_fail(err, "cannot read the public key");
    }
    json_t *jwk = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "kty", "EC", "crv", "P-256", "x",
        x, "y", y, "kid", kid, "use", "sig", "alg", "ES256");
    if (jwk == NULL) {
        return base_fail(err, BASE_ENOMEM, "out of memory");
    }
    *ret = jwk;
    return 0;
}

/* JOSE wants r and s as fixed-size numbers, OpenSSL makes a DER sequence of them. */
static bool fixed_signature(const uint8_t *der, size_t n, uint8_t out[SIGNATURE_BYTES])
{
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long)n);
    bool ok = sig != NULL && BN_bn2binpad(ECDSA_SIG_get0_r(sig), out, COORD_BYTES) > 0 &&
              BN_bn2binpad(ECDSA_SIG_get0_s(sig), out + COORD_BYTES, COORD_BYTES) > 0;
    ECDSA_SIG_free(sig);
    return ok;
}

static bool sign(EVP_PKEY *key, const struct base_buf *text, uint8_t out[SIGNATURE_BYTES])
{
    uint8_t der[128];
    size_t n = sizeof der;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx != NULL && EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key) == 1 &&
              EVP_DigestSign(ctx, der, &n, base_buf_data(text), base_buf_size(text)) == 1 &&
              fixed_signature(der, n, out);
    EVP_MD_CTX_free(ctx);
    return ok;
}

static bool add_json(struct base_buf *to, const json_t *doc)
{
    CLEANUP(base_freep) char *text = json_dumps(doc, JSON_COMPACT);
    return text != NULL && add_base64url(to, text, strlen(text));
}

int cli_jws_sign(EVP_PKEY *key, const json_t *claims, char **ret, struct base_error *err)
{
    json_t *jwk = NULL;
    int rc = cli_jws_jwk(key, &jwk, err);
    if (rc != 0) {
        return rc;
    }
    json_t *head = json_pack(
        "{s:s, s:s, s:O}", "alg", "ES256", "typ", "JWT", "kid", json_object_get(jwk, "kid"));
    json_decref(jwk);
    struct base_buf text = {0};
    uint8_t signature[SIGNATURE_BYTES];
    bool ok = head != NULL && add_json(&text, head) && base_buf_add(&text, ".", 1) == 0 &&
              add_json(&text, claims);
    json_decref(head);
    ok = ok && sign(key, &text, signature) && base_buf_add(&text, ".", 1) == 0 &&
         add_base64url(&text, signature, sizeof signature) && base_buf_add(&text, "", 1) == 0;
    if (!ok) {
        base_buf_deinit(&text);
        return crypto_fail(err, "cannot sign the token");
    }
    *ret = (char *)text.p;
    return 0;
}
