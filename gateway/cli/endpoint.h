#pragma once
#include <stdbool.h>

#include "gateway/cli/say.h"
#include "proto/base/err.h"

/* Where the gateway is and how to talk to it: from the options, the environment (WARREN_URL,
 * WARREN_CA_FILE, WARREN_TOKEN) or STATE/client.json, in this order. Without a token but with a
 * signing key a token of five minutes is issued. Strings are owned; free with deinit. */
struct cli_endpoint {
    char *url;     /* "https://127.0.0.1:8443", without "/" at the end */
    char *ca_file; /* NULL: the system's */
    char *token;   /* NULL: none */
};

/* Prints what is wrong and returns an exit code other than 0; then *ret is empty. */
int cli_endpoint_find(const struct cli *cli, struct cli_endpoint *ret);
void cli_endpoint_deinit(struct cli_endpoint *e);

/* STATE/client.json for the next `warren exec`; url and ca_file (may be NULL) are plain text. */
int cli_endpoint_save(
    const char *state_dir, const char *url, const char *ca_file, struct base_error *err);

/* True for http:// or https:// on 127.0.0.0/8, ::1 or localhost. */
bool cli_endpoint_is_loopback(const char *url);
