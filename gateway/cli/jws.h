#pragma once
#include <jansson.h>
#include <openssl/evp.h>
#include <stddef.h>

#include "proto/base/err.h"

/* ES256 (RFC 7515, 7517, 7518): what is needed to issue tokens. Checking them is the gateway's. */

/* A new P-256 key; the caller frees it with EVP_PKEY_free(). */
int cli_jws_key_new(EVP_PKEY **ret, struct base_error *err);

/* Private key from PEM text (PKCS#8); anything but EC P-256 is refused. */
int cli_jws_key_read(const char *pem, size_t n, EVP_PKEY **ret, struct base_error *err);

/* PKCS#8 PEM of the private key; the caller frees *ret with free(). */
int cli_jws_key_pem(EVP_PKEY *key, char **ret, size_t *ret_n, struct base_error *err);

/* Public JWK with kid (the RFC 7638 thumbprint), use and alg; the caller owns the reference. */
int cli_jws_jwk(EVP_PKEY *key, json_t **ret, struct base_error *err);

/* Compact serialisation of the claims signed with the key; the caller frees *ret. */
int cli_jws_sign(EVP_PKEY *key, const json_t *claims, char **ret, struct base_error *err);
