#pragma once
#include <openssl/ssl.h>

#include "proto/base/err.h"

/* Server side of TLS 1.2 and 1.3 with ALPN "h2", "http/1.1". */
struct gw_tls;

/* Files in PEM; the certificate file may hold the chain. */
int gw_tls_create(
    struct gw_tls **ret, const char *cert_file, const char *key_file, struct base_error *err);
void gw_tls_destroy(struct gw_tls *tls); /* accepts NULL; connections keep what they use */

/* A connection on a descriptor (borrowed); NULL when memory is out. */
SSL *gw_tls_accept(struct gw_tls *tls, int fd);
