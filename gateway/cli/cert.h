#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/err.h"

/* The certificate that `warren up` serves with when the operator has none: self-signed, for
 * localhost, 127.0.0.1, ::1 and the given host name. It is no CA, so a stolen key signs no others.
 */
struct cli_cert {
    char *cert_pem, *key_pem; /* free both with cli_cert_deinit() */
    size_t cert_n, key_n;
};

enum { CLI_CERT_DAYS = 825, CLI_CERT_RENEW_DAYS = 30 };

int cli_cert_make(const char *host, struct cli_cert *ret, struct base_error *err);
void cli_cert_deinit(struct cli_cert *cert);

/* What a certificate file says. */
struct cli_cert_facts {
    int days_left; /* negative: expired */
    bool ours;     /* made by cli_cert_make(), so it may be replaced */
};
int cli_cert_read(const char *pem, size_t n, struct cli_cert_facts *ret, struct base_error *err);
