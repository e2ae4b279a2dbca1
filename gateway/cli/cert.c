#include "gateway/cli/cert.h"

#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/cli/jws.h"
#include "proto/base/rand.h"

#define ORGANISATION "Warren self-signed"

static bool add_extension(X509 *cert, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    bool ok = ext != NULL && X509_add_ext(cert, ext, -1) == 1;
    X509_EXTENSION_free(ext);
    return ok;
}

/* 127 random bits: positive, and as good as unique (RFC 5280 4.1.2.2). */
static bool set_serial(X509 *cert)
{
    uint8_t raw[16];
    base_rand_bytes(raw, sizeof raw);
    raw[0] &= 0x7f;
    BIGNUM *bn = BN_bin2bn(raw, sizeof raw, NULL);
    bool ok = bn != NULL && BN_to_ASN1_INTEGER(bn, X509_get_serialNumber(cert)) != NULL;
    BN_free(bn);
    return ok;
}

static bool add_name(X509_NAME *name, const char *field, const char *value)
{
    return X509_NAME_add_entry_by_txt(
               name, field, MBSTRING_UTF8, (const unsigned char *)value, -1, -1, 0) == 1;
}

/* True when the name can stand in a DNS entry; then it goes in, otherwise it is left out. */
static bool is_dns_name(const char *host)
{
    size_t n = strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.");
    return n > 0 && n <= 253 && host[n] == '\0';
}

static bool fill(X509 *cert, EVP_PKEY *key, const char *host)
{
    char names[400];
    bool named = is_dns_name(host) && strcmp(host, "localhost") != 0;
    (void)snprintf(names, sizeof names, "DNS:localhost,IP:127.0.0.1,IP:::1%s%s",
        named ? ",DNS:" : "", named ? host : "");
    X509_NAME *subject = X509_get_subject_name(cert);
    return X509_set_version(cert, X509_VERSION_3) == 1 && set_serial(cert) &&
           X509_gmtime_adj(X509_getm_notBefore(cert), -3600) != NULL &&
           X509_time_adj_ex(X509_getm_notAfter(cert), CLI_CERT_DAYS, 0, NULL) != NULL &&
           add_name(subject, "O", ORGANISATION) && add_name(subject, "CN", "localhost") &&
           X509_set_issuer_name(cert, subject) == 1 && X509_set_pubkey(cert, key) == 1 &&
           add_extension(cert, NID_basic_constraints, "critical,CA:FALSE") &&
           add_extension(cert, NID_key_usage, "critical,digitalSignature") &&
           add_extension(cert, NID_ext_key_usage, "serverAuth") &&
           add_extension(cert, NID_subject_key_identifier, "hash") &&
           add_extension(cert, NID_subject_alt_name, names) &&
           X509_sign(cert, key, EVP_sha256()) > 0;
}

static int cert_pem(X509 *cert, struct cli_cert *out, struct base_error *err)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *data = NULL;
    if (bio != NULL && PEM_write_bio_X509(bio, cert) == 1) {
        long n = BIO_get_mem_data(bio, &data);
        out->cert_pem = malloc((size_t)n);
        out->cert_n = (size_t)n;
    }
    if (out->cert_pem != NULL) {
        memcpy(out->cert_pem, data, out->cert_n);
    }
    BIO_free(bio);
    return out->cert_pem != NULL ? 0 : base_fail(err, BASE_ENOMEM, "out of memory");
}

int cli_cert_make(const char *host, struct cli_cert *ret, struct base_error *err)
{
    struct cli_cert out = {0};
    EVP_PKEY *key = NULL;
    int rc = cli_jws_key_new(&key, err);
    if (rc != 0) {
        return rc;
    }
    X509 *cert = X509_new();
    if (cert == NULL || !fill(cert, key, host)) {
        char text[120];
        ERR_error_string_n(ERR_get_error(), text, sizeof text);
        rc = base_fail(err, BASE_EINVAL, "cannot make a certificate: %s", text);
    }
    rc = rc != 0 ? rc : cert_pem(cert, &out, err);
    rc = rc != 0 ? rc : cli_jws_key_pem(key, &out.key_pem, &out.key_n, err);
    X509_free(cert);
    EVP_PKEY_free(key);
    if (rc != 0) {
        cli_cert_deinit(&out);
        return rc;
    }
    *ret = out;
    return 0;
}

void cli_cert_deinit(struct cli_cert *cert)
{
    free(cert->cert_pem);
    if (cert->key_pem != NULL) {
        OPENSSL_cleanse(cert->key_pem, cert->key_n);
        free(cert->key_pem);
    }
    *cert = (struct cli_cert){0};
}

int cli_cert_read(const char *pem, size_t n, struct cli_cert_facts *ret, struct base_error *err)
{
    BIO *bio = BIO_new_mem_buf(pem, (int)n);
    X509 *cert = bio == NULL ? NULL : PEM_read_bio_X509(bio, NULL, NULL, NULL);
    BIO_free(bio);
    int days = 0, seconds = 0;
    if (cert == NULL || ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(cert)) != 1) {
        X509_free(cert);
        return base_fail(err, BASE_EINVAL, "no certificate in PEM form");
    }
    char name[64] = "";
    (void)X509_NAME_get_text_by_NID(
        X509_get_subject_name(cert), NID_organizationName, name, sizeof name);
    ret->days_left = seconds < 0 ? days - 1 : days;
    ret->ours = strcmp(name, ORGANISATION) == 0;
    X509_free(cert);
    return 0;
}
