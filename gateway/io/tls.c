#include "gateway/io/tls.h"

#include <openssl/err.h>
#include <stdlib.h>

struct gw_tls {
    SSL_CTX *context;
};

static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_n,
    const unsigned char *in, unsigned in_n, void *arg)
{
    (void)ssl;
    (void)arg;
    static const unsigned char ours[] = "\x02h2\x08http/1.1";
    unsigned char *chosen = NULL;
    if (SSL_select_next_proto(&chosen, out_n, ours, sizeof ours - 1, in, in_n) !=
        OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static int fail(struct base_error *err, const char *what, const char *file)
{
    char text[120];
    ERR_error_string_n(ERR_peek_error(), text, sizeof text);
    ERR_clear_error();
    return base_fail(err, BASE_EINVAL, "%s '%s': %s", what, file, text);
}

int gw_tls_create(
    struct gw_tls **ret, const char *cert_file, const char *key_file, struct base_error *err)
{
    struct gw_tls *tls = calloc(1, sizeof *tls);
    if (tls == NULL || (tls->context = SSL_CTX_new(TLS_server_method())) == NULL) {
        free(tls);
        return base_fail(err, BASE_ENOMEM, "start TLS");
    }
    SSL_CTX *context = tls->context;
    (void)SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    /* Buffers are given back while a connection idles, and may move between two tries of a write.
     */
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(context, 1); /* head and body of a record by one read */
    SSL_CTX_set_options(
        context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_alpn_select_cb(context, choose_protocol, NULL);
    int rc = 0;
    if (SSL_CTX_use_certificate_chain_file(context, cert_file) != 1) {
        rc = fail(err, "certificate", cert_file);
    } else if (SSL_CTX_use_PrivateKey_file(context, key_file, SSL_FILETYPE_PEM) != 1 ||
               SSL_CTX_check_private_key(context) != 1) {
        rc = fail(err, "private key", key_file);
    }
    if (rc < 0) {
        gw_tls_destroy(tls);
        return rc;
    }
    *ret = tls;
    return 0;
}

void gw_tls_destroy(struct gw_tls *tls)
{
    if (tls != NULL) {
        SSL_CTX_free(tls->context);
        free(tls);
    }
}

SSL *gw_tls_accept(struct gw_tls *tls, int fd)
{
    SSL *ssl = SSL_new(tls->context);
    if (ssl != NULL && SSL_set_fd(ssl, fd) != 1) {
        SSL_free(ssl);
        return NULL;
    }
    if (ssl != NULL) {
        SSL_set_accept_state(ssl);
    }
    return ssl;
}
