/* Tokens and certificates, checked by other code than the one that makes them: cjose and OpenSSL.
 */
#include <cjose/cjose.h>
#include <jansson.h>
#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "gateway/cli/cert.h"
#include "gateway/cli/claims.h"
#include "gateway/cli/jws.h"
#include "tests/lib/check.h"

static struct base_error err;

static const char *text_of(const json_t *doc, const char *key)
{
    return json_string_value(json_object_get(doc, key));
}

TEST(claims_have_what_the_gateway_checks)
{
    struct cli_claims c = {.subject = "alice",
        .audience = CLI_AUDIENCE_DEFAULT,
        .tenant = "t1",
        .ttl_s = 60,
        .roles = {.v = {"READER", "session executor"}, .n = 2},
        .pools = {.v = {"python", "node-2"}, .n = 2}};
    json_t *doc;
    CHECK_EQ(cli_claims_make(&c, 1000, &doc, &err), 0);
    CHECK_STR(text_of(doc, "iss"), "warren");
    CHECK_STR(text_of(doc, "aud"), "https://dynamicsessions.io");
    CHECK_STR(text_of(doc, "sub"), "alice");
    CHECK_STR(text_of(doc, "tenant"), "t1");
    CHECK_EQ(json_integer_value(json_object_get(doc, "iat")), 1000);
    CHECK_EQ(json_integer_value(json_object_get(doc, "nbf")), 970);
    CHECK_EQ(json_integer_value(json_object_get(doc, "exp")), 1060);
    json_t *roles = json_object_get(doc, "roles"), *pools = json_object_get(doc, "pools");
    CHECK_EQ(json_array_size(roles), 2);
    CHECK_STR(json_string_value(json_array_get(roles, 0)), "Reader");
    CHECK_STR(json_string_value(json_array_get(roles, 1)), "Session Executor");
    CHECK_STR(json_string_value(json_array_get(pools, 1)), "node-2");
    json_decref(doc);
}

TEST(claims_default_to_executor_on_all_pools)
{
    struct cli_claims c = {.subject = "a", .audience = "b", .ttl_s = 1};
    json_t *doc;
    CHECK_EQ(cli_claims_make(&c, 1000, &doc, &err), 0);
    json_t *roles = json_object_get(doc, "roles");
    CHECK_EQ(json_array_size(roles), 1);
    CHECK_STR(json_string_value(json_array_get(roles, 0)), "Session Executor");
    CHECK(json_object_get(doc, "pools") == NULL);
    CHECK(json_object_get(doc, "tenant") == NULL);
    json_decref(doc);
}

TEST(wrong_claims_are_refused)
{
    json_t *doc = NULL;
    struct cli_claims role = {.subject = "a", .audience = "b", .roles = {.v = {"emperor"}, .n = 1}};
    CHECK_EQ(cli_claims_make(&role, 1, &doc, &err), BASE_EINVAL);
    CHECK(strstr(err.text, "emperor") != NULL);
    struct cli_claims pool = {.subject = "a", .audience = "b", .pools = {.v = {"A_B"}, .n = 1}};
    CHECK_EQ(cli_claims_make(&pool, 1, &doc, &err), BASE_EINVAL);
    struct cli_claims subject = {.subject = "\xff", .audience = "b"};
    CHECK_EQ(cli_claims_make(&subject, 1, &doc, &err), BASE_EINVAL);
    CHECK(doc == NULL);
}

/* True when cjose finds the signature of the token right for the key. */
static bool verifies(const char *token, json_t *jwk)
{
    cjose_err e;
    char *text = json_dumps(jwk, 0);
    cjose_jwk_t *key = cjose_jwk_import(text, strlen(text), &e);
    CHECK(key != NULL);
    CHECK_STR(cjose_jwk_get_kid(key, &e), text_of(jwk, "kid"));
    cjose_jws_t *jws = cjose_jws_import(token, strlen(token), &e);
    bool ok = jws != NULL && cjose_jws_verify(jws, key, &e);
    if (ok) {
        cjose_header_t *head = cjose_jws_get_protected(jws);
        CHECK_STR(cjose_header_get(head, "alg", &e), "ES256");
        CHECK_STR(cjose_header_get(head, "kid", &e), text_of(jwk, "kid"));
    }
    if (jws != NULL) {
        cjose_jws_release(jws);
    }
    cjose_jwk_release(key);
    free(text);
    return ok;
}

TEST(another_library_accepts_the_signature_and_no_changed_token)
{
    EVP_PKEY *key, *other;
    json_t *jwk, *other_jwk;
    CHECK_EQ(cli_jws_key_new(&key, &err), 0);
    CHECK_EQ(cli_jws_key_new(&other, &err), 0);
    CHECK_EQ(cli_jws_jwk(key, &jwk, &err), 0);
    CHECK_EQ(cli_jws_jwk(other, &other_jwk, &err), 0);
    /* Many runs: r or s with leading zero bytes occurs once in 128 signatures. */
    for (int i = 0; i < 600; i++) {
        json_t *claims = json_pack("{s:i}", "n", i);
        char *token;
        CHECK_EQ(cli_jws_sign(key, claims, &token, &err), 0);
        CHECK(verifies(token, jwk));
        CHECK(!verifies(token, other_jwk));
        char *payload = strchr(token, '.') + 1;
        payload[3] = payload[3] == 'A' ? 'B' : 'A';
        CHECK(!verifies(token, jwk));
        free(token);
        json_decref(claims);
    }
    json_decref(jwk);
    json_decref(other_jwk);
    EVP_PKEY_free(key);
    EVP_PKEY_free(other);
}

TEST(the_thumbprint_is_that_of_rfc_7638)
{
    EVP_PKEY *key;
    json_t *jwk;
    cjose_err e;
    CHECK_EQ(cli_jws_key_new(&key, &err), 0);
    CHECK_EQ(cli_jws_jwk(key, &jwk, &err), 0);
    char in[256];
    (void)snprintf(in, sizeof in, "{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"%s\",\"y\":\"%s\"}",
        text_of(jwk, "x"), text_of(jwk, "y"));
    uint8_t hash[32];
    unsigned int n = 0;
    CHECK_EQ(EVP_Digest(in, strlen(in), hash, &n, EVP_sha256(), NULL), 1);
    char *want = NULL;
    size_t want_n = 0;
    CHECK(cjose_base64url_encode(hash, sizeof hash, &want, &want_n, &e));
    CHECK_STR(text_of(jwk, "kid"), want);
    cjose_get_dealloc()(want);
    json_decref(jwk);
    EVP_PKEY_free(key);
}

TEST(a_key_survives_its_pem_form_and_others_are_refused)
{
    EVP_PKEY *key, *back = NULL;
    char *pem;
    size_t n;
    CHECK_EQ(cli_jws_key_new(&key, &err), 0);
    CHECK_EQ(cli_jws_key_pem(key, &pem, &n, &err), 0);
    CHECK_EQ(cli_jws_key_read(pem, n, &back, &err), 0);
    CHECK_EQ(EVP_PKEY_eq(key, back), 1);
    free(pem);
    EVP_PKEY_free(key);
    EVP_PKEY_free(back);
    back = NULL;
    CHECK_EQ(cli_jws_key_read("nonsense", 8, &back, &err), BASE_EINVAL);
    EVP_PKEY *curve = EVP_EC_gen("P-384");
    CHECK_EQ(cli_jws_key_pem(curve, &pem, &n, &err), 0);
    CHECK_EQ(cli_jws_key_read(pem, n, &back, &err), BASE_EINVAL);
    CHECK(back == NULL);
    free(pem);
    EVP_PKEY_free(curve);
}

TEST(the_certificate_is_trusted_for_this_machine_only)
{
    struct cli_cert cert;
    struct cli_cert_facts facts;
    CHECK_EQ(cli_cert_make("host.example", &cert, &err), 0);
    CHECK_EQ(cli_cert_read(cert.cert_pem, cert.cert_n, &facts, &err), 0);
    CHECK(facts.ours);
    CHECK(facts.days_left == CLI_CERT_DAYS || facts.days_left == CLI_CERT_DAYS - 1);
    BIO *bio = BIO_new_mem_buf(cert.cert_pem, (int)cert.cert_n);
    X509 *x = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    BIO_free(bio);
    CHECK(x != NULL);
    CHECK_EQ(X509_check_host(x, "localhost", 0, 0, NULL), 1);
    CHECK_EQ(X509_check_host(x, "host.example", 0, 0, NULL), 1);
    CHECK_EQ(X509_check_host(x, "example.org", 0, 0, NULL), 0);
    CHECK_EQ(X509_check_ip_asc(x, "127.0.0.1", 0), 1);
    CHECK_EQ(X509_check_ip_asc(x, "::1", 0), 1);
    CHECK_EQ(X509_check_ip_asc(x, "127.0.0.2", 0), 0);
    CHECK_EQ(X509_check_ca(x), 0);
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    CHECK_EQ(X509_STORE_add_cert(store, x), 1);
    CHECK_EQ(X509_STORE_CTX_init(ctx, store, x, NULL), 1);
    CHECK_EQ(X509_STORE_CTX_set_purpose(ctx, X509_PURPOSE_SSL_SERVER), 1);
    CHECK_EQ(X509_verify_cert(ctx), 1);
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    X509_free(x);
    cli_cert_deinit(&cert);
    CHECK_EQ(cli_cert_read("nonsense", 8, &facts, &err), BASE_EINVAL);
}

TEST(a_host_name_that_is_no_dns_name_is_left_out)
{
    struct cli_cert cert;
    CHECK_EQ(cli_cert_make("a,DNS:evil.example", &cert, &err), 0);
    BIO *bio = BIO_new_mem_buf(cert.cert_pem, (int)cert.cert_n);
    X509 *x = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    BIO_free(bio);
    CHECK_EQ(X509_check_host(x, "evil.example", 0, 0, NULL), 0);
    X509_free(x);
    cli_cert_deinit(&cert);
}
