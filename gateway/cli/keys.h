#pragma once
#include <jansson.h>
#include <openssl/evp.h>
#include <stdbool.h>

#include "proto/base/err.h"

/* The key files of the state folder:
 *   keys/cluster.key            32 hex digits, SipHash key of placement and of hashes in logs
 *   keys/worker-NAME.curve      "public <z85>" and "secret <z85>"
 *   keys/gateway-NAME.curve     the same
 *   keys/clients                "gateway NAME <public z85>": who may connect to a worker
 *   keys/token.pem, token.jwks  what tokens are signed with, and the public key set
 *   tls/cert.pem, tls/key.pem   certificate of the gateway
 * Secrets have mode 0600, folders 0700. Nothing that exists is replaced, but an own certificate
 * that is about to expire. */

#define CLI_WORKER_NAME "w1"
#define CLI_GATEWAY_NAME "g1"

enum { CLI_Z85_BYTES = 40, CLI_KEY_FILE_MAX = 65536 };

/* Makes what is missing. *ret_made (may be NULL) becomes true when anything was made. */
int cli_keys_init(const char *state_dir, bool *ret_made, struct base_error *err);

/* The key that tokens are signed with; the caller frees it with EVP_PKEY_free(). */
int cli_keys_token(const char *pem_file, EVP_PKEY **ret, struct base_error *err);

/* New signing key. The key set keeps the old public key, so that tokens live on until they expire,
 * unless revoke is set: then every token that was issued before is void. */
int cli_keys_rotate(const char *state_dir, bool revoke, struct base_error *err);

/* Public half of a .curve file. */
int cli_keys_curve_public(
    const char *curve_file, char ret[CLI_Z85_BYTES + 1], struct base_error *err);

/* What there is, without secrets: an object for people and scripts. The caller owns *ret. */
int cli_keys_show(const char *state_dir, json_t **ret, struct base_error *err);
