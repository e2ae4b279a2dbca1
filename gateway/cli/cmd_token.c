#include <jansson.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#include "gateway/cli/claims.h"
#include "gateway/cli/command.h"
#include "gateway/cli/file.h"
#include "gateway/cli/jws.h"
#include "gateway/cli/keys.h"
#include "proto/base/cleanup.h"
#include "proto/base/clock.h"

static int print_token(const struct cli *cli, const char *token, const json_t *claims)
{
    if (!cli->json) {
        return puts(token) < 0 ? CLI_LOCAL : CLI_OK;
    }
    json_t *doc = json_pack("{s:s, s:O}", "token", token, "claims", claims);
    int rc = json_dumpf(doc, stdout, JSON_COMPACT) == 0 && puts("") >= 0 ? CLI_OK : CLI_LOCAL;
    json_decref(doc);
    return rc;
}

static int make(const struct cli *cli, const struct cli_claims *claims)
{
    struct base_error err = {0};
    char path[CLI_PATH_MAX];
    EVP_PKEY *key = NULL;
    json_t *doc = NULL;
    CLEANUP(base_freep) char *token = NULL;
    if (cli_claims_make(claims, base_clock_real_ns() / BASE_NS_PER_S, &doc, &err) != 0) {
        return cli_fail(cli, CLI_USAGE, "`warren token --help` shows examples", "%s", err.text);
    }
    int rc = cli_file_path(path, cli->state_dir, "keys/token.pem", &err);
    rc = rc != 0 ? rc : cli_keys_token(path, &key, &err);
    rc = rc != 0 ? rc : cli_jws_sign(key, doc, &token, &err);
    EVP_PKEY_free(key);
    if (rc != 0) {
        rc = cli_fail(cli, CLI_LOCAL, "`warren keys init` makes the keys; --state-dir says where",
            "%s", err.text);
    } else {
        rc = print_token(cli, token, doc);
    }
    json_decref(doc);
    return rc;
}

static int run(struct cli *cli, const struct cli_command *self, int argc, char *const argv[])
{
    struct cli_claims claims = {
        .subject = "warren-cli", .audience = CLI_AUDIENCE_DEFAULT, .ttl_s = CLI_TTL_S_DEFAULT};
    const struct cli_option own[] = {
        {"ttl", 0, CLI_OPTION_TIME, &claims.ttl_s, "TIME", "lifetime, 1h when not given", 1,
            CLI_TTL_S_MAX},
        {"role", 0, CLI_OPTION_LIST, &claims.roles, "ROLE",
            "executor (the default), reader or contributor; may be repeated", 0, 0},
        {"pool", 0, CLI_OPTION_LIST, &claims.pools, "NAME",
            "only for this pool; may be repeated; all pools when not given", 0, 0},
        {"sub", 0, CLI_OPTION_TEXT, &claims.subject, "TEXT", "subject, for logs and quotas", 0, 0},
        {"tenant", 0, CLI_OPTION_TEXT, &claims.tenant, "TEXT", "tenant, for quotas", 0, 0},
        {"audience", 0, CLI_OPTION_TEXT, &claims.audience, "URL", CLI_AUDIENCE_DEFAULT, 0, 0},
        {0},
    };
    struct cli_args args;
    int rc = cli_command_read(cli, self, own, argc, argv, &args);
    if (rc != CLI_GO_ON) {
        return rc;
    }
    if (args.n > 0) {
        return cli_command_wrong(cli, self, "unexpected argument '%.60s'", args.v[0]);
    }
    return make(cli, &claims);
}

const struct cli_command cli_cmd_token = {
    .name = "token",
    .summary = "issue a bearer token",
    .usage = "token [--ttl TIME] [--role ROLE]... [--pool NAME]... [--sub TEXT]",
    .text =
        "Signs a token (JWT, ES256) with STATE/keys/token.pem and prints it. Gateways check it\n"
        "against STATE/keys/token.jwks. A token cannot be called back alone: keep lifetimes "
        "short,\n"
        "or void all of them with `warren keys rotate-token --revoke`.\n",
    .examples =
        "  export WARREN_TOKEN=$(warren token --ttl 8h --pool python --sub alice)\n"
        "  curl --cacert /var/lib/warren/tls/cert.pem -H \"Authorization: Bearer $(warren token)\" "
        "\\\n"
        "    'https://127.0.0.1:8443/pools/python/session?"
        "api-version=2025-10-02-preview&identifier=demo-0001'\n",
    .run = run,
};
