#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "gateway/cli/catalog.h"
#include "gateway/cli/command.h"
#include "gateway/cli/file.h"
#include "proto/base/cleanup.h"
#include "proto/base/text.h"
#include "proto/net/cluster_key.h"
#include "proto/pool/quota.h"
#include "proto/tenant.h"

/* Limits of tenants in the catalogue of a cluster. */

enum { PATIENCE_S = 15, KEY_MAX = 64 };

struct quota {
    const char *issuer, *tenant;
    uint32_t sessions, executions, requests, queued_mib, weight;
};

static int fail(const struct cli *cli, const struct base_error *err)
{
    bool unreachable = err->code == BASE_ECLOSED || err->code == BASE_EVERSION;
    bool refused = err->code == BASE_ENOTFOUND || err->code == BASE_EFULL ||
                   err->code == BASE_ESTATE || err->code == BASE_EDENIED;
    return cli_fail(cli,
        unreachable                ? CLI_UNREACHABLE
        : err->code == BASE_EINVAL ? CLI_USAGE
        : refused                  ? CLI_REFUSED
                                   : CLI_LOCAL,
        unreachable ? "do the voters run, and can they be reached from here?" : NULL, "%s",
        err->text);
}

static int key_of(
    const struct cli *cli, const struct quota *q, char key[KEY_MAX], struct base_error *err)
{
    char path[CLI_PATH_MAX], hex[2 * PROTO_TENANT_BYTES + 1];
    uint8_t cluster[16];
    struct proto_tenant tenant;
    if (q->tenant == NULL) {
        (void)snprintf(key, KEY_MAX, "tenants");
        return 0;
    }
    int rc = cli_file_path(path, cli->state_dir, "cluster/cluster.key", err);
    rc = rc != 0 ? rc : proto_net_cluster_key_read(path, cluster, err);
    if (rc == 0) {
        proto_tenant_of(cluster, q->issuer, q->tenant, &tenant);
        base_text_hex(tenant.id, sizeof tenant.id, hex);
        (void)snprintf(key, KEY_MAX, "tenant/%s", hex);
    }
    explicit_bzero(cluster, sizeof cluster);
    return rc;
}

static json_t *value_of(const struct quota *q)
{
    return json_pack("{s:s*,s:s*,s:I,s:I,s:I,s:I,s:I}", "issuer",
        q->tenant == NULL ? NULL : q->issuer, "tenant", q->tenant, "sessions",
        (json_int_t)q->sessions, "executions", (json_int_t)q->executions, "requests",
        (json_int_t)q->requests, "queuedMib", (json_int_t)q->queued_mib, "weight",
        (json_int_t)q->weight);
}

static int change(
    const struct cli *cli, const struct cli_cluster *c, const struct quota *q, bool drop)
{
    struct base_error err = {0};
    char key[KEY_MAX];
    json_t *value = value_of(q);
    CLEANUP(base_freep) char *text = drop ? NULL : json_dumps(value, JSON_COMPACT);
    json_decref(value);
    if (!drop && text == NULL) {
        return cli_fail(cli, CLI_USAGE, NULL, "issuer and tenant must be UTF-8");
    }
    int rc = key_of(cli, q, key, &err);
    const struct cli_catalog_change what = {
        .key = key, .value = text, .expect = CLI_CATALOG_ANY, .patience_s = PATIENCE_S};
    rc = rc != 0 ? rc : cli_catalog_change(c, &what, NULL, &err);
    if (rc != 0) {
        return fail(cli, &err);
    }
    if (cli->json) {
        (void)printf("%s\n", drop ? "{\"deleted\":true}" : text);
    }
    cli_note(
        cli, drop ? "the limits are gone; without any in the catalogue those of worker.yaml count"
                  : "the limits count on every worker in seconds");
    return CLI_OK;
}

static long long number(const json_t *o, const char *key)
{
    return (long long)json_integer_value(json_object_get(o, key));
}

/* All entries of quotas with their values. */
static int read_all(const struct cli_cluster *c, json_t *to, struct base_error *err)
{
    json_t *entries = NULL, *e;
    size_t i;
    int rc = cli_catalog_list(c, &entries, err);
    json_array_foreach(entries, i, e)
    {
        const char *key = json_string_value(json_object_get(e, "key"));
        json_t *entry = NULL;
        if (key == NULL || (strcmp(key, "tenants") != 0 && strncmp(key, "tenant/", 7) != 0)) {
            continue;
        }
        rc = cli_catalog_get(c, key, &entry, err);
        if (rc == BASE_ENOTFOUND) { /* deleted meanwhile */
            rc = 0;
            continue;
        }
        if (rc != 0) {
            break;
        }
        const char *value = json_string_value(json_object_get(entry, "value"));
        json_t *doc = value == NULL ? NULL : json_loads(value, 0, NULL);
        if (doc != NULL) {
            (void)json_array_append_new(to, doc);
        }
        json_decref(entry);
    }
    json_decref(entries);
    return rc;
}

static int list(const struct cli *cli, const struct cli_cluster *c)
{
    struct base_error err = {0};
    json_t *all = json_array(), *q;
    size_t i;
    if (read_all(c, all, &err) != 0) {
        json_decref(all);
        return fail(cli, &err);
    }
    if (cli->json) {
        (void)json_dumpf(all, stdout, JSON_COMPACT);
        (void)puts("");
        json_decref(all);
        return CLI_OK;
    }
    (void)printf("%-40s %-24s %9s %10s %9s %11s %7s\n", "ISSUER", "TENANT", "SESSIONS",
        "EXECUTIONS", "REQUESTS", "QUEUED_MIB", "WEIGHT");
    json_array_foreach(all, i, q)
    {
        const char *issuer = json_string_value(json_object_get(q, "issuer"));
        const char *tenant = json_string_value(json_object_get(q, "tenant"));
        (void)printf("%-40s %-24s %9lld %10lld %9lld %11lld %7lld\n", issuer == NULL ? "*" : issuer,
            tenant == NULL ? "*" : tenant, number(q, "sessions"), number(q, "executions"),
            number(q, "requests"), number(q, "queuedMib"), number(q, "weight"));
    }
    json_decref(all);
    return CLI_OK;
}

static int go(const struct cli *cli, const struct cli_command *self, const struct cli_args *args,
    const struct quota *q)
{
    struct base_error err = {0};
    CLEANUP(base_freep) struct cli_cluster *c = NULL;
    const char *verb = args->n == 1 ? args->v[0] : "";
    bool drop = strcmp(verb, "delete") == 0, is_list = strcmp(verb, "list") == 0;
    if (!drop && !is_list && strcmp(verb, "set") != 0) {
        return cli_command_wrong(cli, self, "one of set, list or delete is needed");
    }
    if ((q->issuer == NULL) != (q->tenant == NULL)) {
        return cli_command_wrong(cli, self, "--issuer and --tenant go together");
    }
    int rc = cli_cluster_read(cli->state_dir, &c, &err);
    if (rc == BASE_ENOTFOUND) {
        return cli_fail(cli, CLI_LOCAL,
            "a single worker has its limits in worker.yaml (`warren up --quotas FILE`)",
            "there is no cluster in %s", cli->state_dir);
    }
    if (rc != 0) {
        return fail(cli, &err);
    }
    return is_list ? list(cli, c) : change(cli, c, q, drop);
}

static int run(struct cli *cli, const struct cli_command *self, int argc, char *const argv[])
{
    struct quota q = {.issuer = NULL};
    const struct cli_option own[] = {
        {"issuer", 0, CLI_OPTION_TEXT, &q.issuer, "ISSUER", "of the tenant's tokens", 0, 0},
        {"tenant", 0, CLI_OPTION_TEXT, &q.tenant, "NAME",
            "claim tenant (or sub) of his tokens; without: every tenant without limits of his own",
            0, 0},
        {"sessions", 0, CLI_OPTION_UINT, &q.sessions, "N", "at a time (0: no limit)", 0, 1000000},
        {"executions", 0, CLI_OPTION_UINT, &q.executions, "N", "that run at a time", 0, 1000000},
        {"requests", 0, CLI_OPTION_UINT, &q.requests, "N", "under way at a time", 0, 1000000},
        {"queued-mib", 0, CLI_OPTION_UINT, &q.queued_mib, "N", "of requests in memory", 0,
            PROTO_QUOTA_MIB_MAX},
        {"weight", 0, CLI_OPTION_UINT, &q.weight, "N", "turns beside others (1)", 0,
            PROTO_QUOTA_WEIGHT_MAX},
        {0},
    };
    struct cli_args args;
    int rc = cli_command_read(cli, self, own, argc, argv, &args);
    return rc != CLI_GO_ON ? rc : go(cli, self, &args, &q);
}

const struct cli_command cli_cmd_quota = {
    .name = "quota",
    .summary = "limits of the tenants of a cluster",
    .usage = "quota set|list|delete [--issuer ISSUER --tenant NAME] [limits]",
    .text =
        "The voters of a cluster keep the limits; each worker applies them to what runs there.\n"
        "`set` replaces all limits of the tenant, or, without --tenant, those of every tenant\n"
        "that has none of his own. What is not given has no limit. While there are none for\n"
        "every tenant, those of worker.yaml count.\n",
    .examples =
        "  warren quota set --sessions 20 --executions 40\n"
        "  warren quota set --issuer https://login.example --tenant contoso --sessions 100\n"
        "  warren quota list\n"
        "  warren quota delete --issuer https://login.example --tenant contoso\n",
    .run = run,
};
