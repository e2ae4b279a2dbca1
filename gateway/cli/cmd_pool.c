#include <jansson.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/cli/catalog.h"
#include "gateway/cli/command.h"
#include "gateway/cli/pool_key.h"
#include "gateway/cli/pools.h"
#include "gateway/keys/mcp_key.h"
#include "proto/base/cleanup.h"
#include "proto/ids.h"

/* Pools of a cluster, which are in its catalogue. The key of an MCP endpoint is there too; without
 * a cluster it is in a folder that gateways share. */

enum { PATIENCE_S = 15 };

static int fail(const struct cli *cli, const struct base_error *err)
{
    const char *hint = NULL;
    enum cli_exit code = CLI_LOCAL;
    if (err->code == BASE_EINVAL || err->code == BASE_ETOOBIG) {
        code = CLI_USAGE;
    } else if (err->code == BASE_ECLOSED || err->code == BASE_EVERSION ||
               err->code == BASE_ETIMEOUT) {
        code = CLI_UNREACHABLE;
        hint = "do the voters run, and can they be reached from here? `warren cluster status`";
    } else if (err->code == BASE_ENOTFOUND || err->code == BASE_EFULL || err->code == BASE_ESTATE) {
        code = CLI_REFUSED;
    } else if (err->code == BASE_EDENIED) {
        code = CLI_REFUSED;
        hint = "`warren cluster status` says who speaks which versions";
    }
    return cli_fail(cli, code, hint, "%s", err->text);
}

static int no_cluster(const struct cli *cli)
{
    return cli_fail(cli, CLI_LOCAL,
        "`warren up --pool FILE` gives pools to a single worker; `warren cluster init` makes a "
        "cluster",
        "there is no cluster in %s", cli->state_dir);
}

static int print_json(json_t *doc)
{
    (void)json_dumpf(doc, stdout, JSON_COMPACT);
    (void)puts("");
    json_decref(doc);
    return CLI_OK;
}

/* ---- apply ---- */

/* All that can be wrong before the first one is applied. From then on keys of before do not count,
 * where they are not in the catalogue, too. */
static int prepare(const struct cli *cli, const struct cli_cluster *c,
    const struct cli_pool_files *files, struct base_error *err)
{
    json_t *names = NULL, *unused;
    const char *name;
    int rc = cli_pool_check(c, files, PATIENCE_S, &names, err);
    json_object_foreach(names, name, unused)
    {
        rc = rc != 0 ? rc : cli_pool_key_move(cli, c, name, err);
    }
    json_decref(names);
    return rc;
}

static int apply(
    const struct cli *cli, const struct cli_cluster *c, const struct cli_pool_files *files)
{
    struct base_error why = {0};
    int checked = prepare(cli, c, files, &why);
    if (checked == BASE_ESTATE) {
        return cli_fail(cli, CLI_REFUSED,
            "start them, or say --ignore-silent when they have no such pools", "%s", why.text);
    }
    if (checked != 0) {
        return fail(cli, &why);
    }
    json_t *done = json_array();
    for (size_t i = 0; i < files->n; i++) {
        struct base_error err = {0};
        struct cli_pool_applied applied;
        int rc = cli_pool_apply(c, files->paths[i], CLI_POOL_PUT, PATIENCE_S, &applied, &err);
        if (rc != 0) {
            json_decref(done);
            return fail(cli, &err);
        }
        if (applied.warnings[0] != '\0') {
            cli_note(cli, "%s", applied.warnings);
        }
        if (!cli->json) {
            (void)printf(
                "pool %s %s\n", applied.name, applied.changed ? "applied" : "is like this already");
        }
        (void)json_array_append_new(
            done, json_pack("{s:s,s:I,s:b}", "name", applied.name, "version", applied.version,
                      "changed", applied.changed));
        free(applied.warnings);
    }
    if (cli->json) {
        return print_json(done);
    }
    json_decref(done);
    return CLI_OK;
}

/* ---- list, show ---- */

static void print_pools(json_t *pools)
{
    size_t i;
    json_t *p;
    (void)printf(
        "%-24s %-10s %10s %12s %8s\n", "POOL", "CONTAINER", "READY", "SESSIONS", "VERSION");
    json_array_foreach(pools, i, p)
    {
        char ready[32], sessions[32];
        (void)snprintf(ready, sizeof ready, "%lld/%lld",
            (long long)json_integer_value(json_object_get(p, "ready")),
            (long long)json_integer_value(json_object_get(p, "readySessionInstances")));
        (void)snprintf(sessions, sizeof sessions, "%lld/%lld",
            (long long)json_integer_value(json_object_get(p, "sessions")),
            (long long)json_integer_value(json_object_get(p, "maxConcurrentSessions")));
        (void)printf("%-24s %-10s %10s %12s %8lld\n", json_string_value(json_object_get(p, "name")),
            json_string_value(json_object_get(p, "containerType")), ready, sessions,
            (long long)json_integer_value(json_object_get(p, "version")));
    }
}

static int list(const struct cli *cli, const struct cli_cluster *c)
{
    struct base_error err = {0};
    json_t *pools = NULL;
    if (cli_pool_list(c, &pools, &err) != 0) {
        return fail(cli, &err);
    }
    if (cli->json) {
        return print_json(pools);
    }
    print_pools(pools);
    json_decref(pools);
    return CLI_OK;
}

static int key_of(const char *kind, const char *name, char key[CLI_POOL_KEY_MAX])
{
    return snprintf(key, CLI_POOL_KEY_MAX, "%s/%s", kind, name) < CLI_POOL_KEY_MAX ? 0
                                                                                   : BASE_ETOOBIG;
}

static int show(const struct cli *cli, const struct cli_cluster *c, const char *name)
{
    struct base_error err = {0};
    char key[CLI_POOL_KEY_MAX];
    json_t *entry = NULL;
    (void)key_of("pool", name, key);
    if (cli_catalog_get(c, key, &entry, &err) != 0) {
        return fail(cli, &err);
    }
    const char *value = json_string_value(json_object_get(entry, "value"));
    value = value == NULL ? "" : value;
    if (!cli->json) {
        size_t n = strlen(value);
        (void)printf("%s%s", value, n > 0 && value[n - 1] == '\n' ? "" : "\n");
        json_decref(entry);
        return CLI_OK;
    }
    json_t *doc = json_pack("{s:s,s:O,s:o}", "name", name, "version",
        json_object_get(entry, "version"), "pool", json_loads(value, 0, NULL));
    json_decref(entry);
    return print_json(doc);
}

/* ---- delete ---- */

/* A change that may have been made by a try whose answer was lost: gone is gone. */
static int erase(
    const struct cli_cluster *c, const char *kind, const char *name, struct base_error *err)
{
    char key[CLI_POOL_KEY_MAX];
    const struct cli_catalog_change change = {
        .key = key, .expect = CLI_CATALOG_ANY, .patience_s = PATIENCE_S};
    (void)key_of(kind, name, key);
    int rc = cli_catalog_change(c, &change, NULL, err);
    return rc == BASE_ENOTFOUND ? 0 : rc;
}

static void tell_left(const struct cli *cli, const json_t *left)
{
    size_t n = json_array_size(left);
    const char *first = json_string_value(json_array_get(left, 0));
    if (n == 0) {
        cli_note(cli, "its sessions have ended");
    } else if (n == 1) {
        cli_note(cli, "worker '%s' has not said that its sessions of it have ended", first);
    } else {
        cli_note(cli, "worker '%s' and %zu more have not said that their sessions of it have ended",
            first, n - 1);
    }
}

static int drop(const struct cli *cli, const struct cli_cluster *c, const char *name)
{
    struct base_error err = {0};
    char key[CLI_POOL_KEY_MAX];
    const struct cli_catalog_change mark = {.key = "pools", .value = "", .patience_s = PATIENCE_S};
    struct cli_catalog_put put = {.answer = NULL};
    json_t *entry = NULL;
    (void)key_of("pool", name, key);
    int rc = cli_catalog_get(c, key, &entry, &err);
    json_decref(entry);
    if (rc == BASE_ENOTFOUND) { /* and pools of workers' files stay */
        return cli_fail(cli, CLI_REFUSED, NULL, "there is no pool '%s' in the catalogue", name);
    }
    /* Without the mark the last one's end would bring back pools of workers' files. The key goes
     * first: a pool that has the name later has another one. */
    rc = rc != 0 ? rc : cli_catalog_put(c, &mark, &put, &err);
    json_decref(put.answer);
    rc = rc != 0 ? rc : erase(c, "mcp-key", name, &err);
    rc = rc != 0 ? rc : erase(c, "pool", name, &err);
    if (rc != 0) {
        return fail(cli, &err);
    }
    json_t *left = NULL;
    rc = cli_pool_wait_gone(c, name, PATIENCE_S, &left, &err);
    if (rc != 0) {
        return fail(cli, &err);
    }
    if (cli->json) {
        return print_json(
            json_pack("{s:s,s:b,s:o}", "name", name, "deleted", true, "workersLeft", left));
    }
    (void)printf("pool %s deleted\n", name);
    tell_left(cli, left);
    json_decref(left);
    return CLI_OK;
}

/* ---- mcp-key ---- */

static int mcp_key(const struct cli *cli, const struct cli_cluster *c, bool rotate)
{
    struct base_error err = {0};
    char key[GW_MCP_KEY_CHARS + 1];
    int rc = cli_pool_key(cli, c, rotate, key, &err);
    if (rc != 0 && c != NULL) {
        return fail(cli, &err);
    }
    if (rc != 0) {
        return cli_fail(cli, CLI_LOCAL,
            "--state-dir says where the keys are; run it as their owner", "%s", err.text);
    }
    int n = cli->json ? printf("{\"pool\":\"%s\",\"apiKey\":\"%s\"}\n", cli->pool, key)
                      : printf("%s\n", key);
    OPENSSL_cleanse(key, sizeof key);
    if (rotate) {
        cli_note(cli, "the key before is accepted for %d minutes more", GW_MCP_KEY_OLD_S / 60);
    }
    return n < 0 ? CLI_LOCAL : CLI_OK;
}

/* ---- the command ---- */

struct wishes {
    bool rotate, ignore_silent;
};

static int go(const struct cli *cli, const struct cli_command *self, const struct cli_args *args,
    const struct wishes *w)
{
    struct base_error err = {0};
    CLEANUP(base_freep) struct cli_cluster *c = NULL;
    const char *verb = args->n > 0 ? args->v[0] : "";
    bool is_apply = strcmp(verb, "apply") == 0, is_list = strcmp(verb, "list") == 0;
    bool is_key = strcmp(verb, "mcp-key") == 0, is_show = strcmp(verb, "show") == 0;
    if (!is_apply && !is_list && !is_key && !is_show && strcmp(verb, "delete") != 0) {
        return cli_command_wrong(
            cli, self, "what to do is missing: apply, list, show, delete or mcp-key");
    }
    if (is_apply ? args->n < 2 : args->n != (is_list || is_key ? 1U : 2U)) {
        return cli_command_wrong(cli, self,
            is_apply            ? "apply needs a file"
            : is_list || is_key ? "%s takes no argument"
                                : "%s needs the name of a pool",
            verb);
    }
    const char *name = is_key ? cli->pool : is_apply || is_list ? "python" : args->v[1];
    if (!proto_pool_name_valid(name, strlen(name))) {
        return cli_command_wrong(cli, self, "'%.60s' is no name of a pool", name);
    }
    int rc = cli_cluster_read(cli->state_dir, &c, &err);
    if (rc != 0 && rc != BASE_ENOTFOUND) {
        return fail(cli, &err);
    }
    if (is_key) {
        return mcp_key(cli, c, w->rotate);
    }
    const struct cli_pool_files files = {args->v + 1, args->n - 1, w->ignore_silent};
    return c == NULL  ? no_cluster(cli)
           : is_apply ? apply(cli, c, &files)
           : is_list  ? list(cli, c)
           : is_show  ? show(cli, c, name)
                      : drop(cli, c, name);
}

static int run(struct cli *cli, const struct cli_command *self, int argc, char *const argv[])
{
    struct wishes w = {.rotate = false};
    const struct cli_option own[] = {
        {"pool", 0, CLI_OPTION_TEXT, &cli->pool, "NAME",
            "mcp-key: the pool (WARREN_POOL, or python)", 0, 0},
        {"rotate", 0, CLI_OPTION_FLAG, &w.rotate, NULL, "mcp-key: put a new key in its place", 0,
            0},
        {"ignore-silent", 0, CLI_OPTION_FLAG, &w.ignore_silent, NULL,
            "apply: the first pools, though workers do not answer", 0, 0},
        {0},
    };
    struct cli_args args;
    int rc = cli_command_read(cli, self, own, argc, argv, &args);
    return rc != CLI_GO_ON ? rc : go(cli, self, &args, &w);
}

const struct cli_command cli_cmd_pool = {
    .name = "pool",
    .summary = "the pools of a cluster, and keys of MCP endpoints",
    .usage = "pool apply FILE...|list|show NAME|delete NAME|mcp-key [options]",
    .text =
        "The voters of a cluster keep its pools; workers and gateways follow within seconds.\n"
        "\n"
        "apply     makes pools as the files say (ARM shape, as for `warren up --pool`): new ones\n"
        "          come, others change while they run; with other resources new instances are of\n"
        "          a new template when that is built. `-` reads standard input. The first one "
        "asks\n"
        "          all workers for pools of their files, which it would delete\n"
        "list      pools with ready instances and sessions of the whole cluster\n"
        "show      a pool as it was applied\n"
        "delete    the pool ends with all that it has: sessions with what runs in them, ready\n"
        "          instances, its MCP key. Requests get 404 SessionPoolNotFound. Waits 15 s for\n"
        "          the workers to say so, and names those that do not: they end its sessions\n"
        "          when they hear of it, unless it is applied again before\n"
        "mcp-key   prints the key that MCP clients send as x-ms-apikey to /pools/NAME/mcp. It is\n"
        "          made the first time and kept as a salted hash and sealed under the cluster "
        "key,\n"
        "          in the catalogue of the cluster, or without one in STATE/mcp: what is kept "
        "alone\n"
        "          opens nothing. With --rotate the one before it is accepted for 5 minutes more.\n"
        "          The pool must say \"mcpServerSettings\": {\"isMcpServerEnabled\": true}.\n",
    .examples = "  warren pool apply deploy/examples/python.json\n"
                "  warren pool list\n"
                "  warren pool show python > python.json\n"
                "  warren pool delete python\n"
                "  warren pool mcp-key --pool python --rotate\n",
    .run = run,
};
