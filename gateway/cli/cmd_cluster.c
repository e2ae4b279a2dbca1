#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/cli/cluster.h"
#include "gateway/cli/command.h"
#include "proto/base/cleanup.h"

static int fail(const struct cli *cli, const struct base_error *err)
{
    const char *hint = err->code == BASE_ENOTFOUND ? "`warren cluster init` makes one" : NULL;
    return cli_fail(cli, err->code == BASE_EINVAL ? CLI_USAGE : CLI_LOCAL, hint, "%s", err->text);
}

static int print_json(json_t *doc)
{
    (void)json_dumpf(doc, stdout, JSON_COMPACT);
    (void)puts("");
    json_decref(doc);
    return CLI_OK;
}

/* ---- init, join, members ---- */

static json_t *nodes_json(const struct cli_cluster *c, size_t from)
{
    json_t *list = json_array();
    for (size_t i = from; i < c->n; i++) {
        char path[CLI_PATH_MAX + 64];
        (void)snprintf(path, sizeof path, "%s/%s/cluster.yaml", c->dir, c->nodes[i].name);
        (void)json_array_append_new(
            list, json_pack("{s:s,s:s,s:s,s:s}", "name", c->nodes[i].name, "role", c->nodes[i].role,
                      "address", c->nodes[i].address, "config", path));
    }
    return list;
}

static int make(const struct cli *cli, bool first, const struct cli_cluster_wishes *w)
{
    struct base_error err = {0};
    CLEANUP(base_freep) struct cli_cluster *before = NULL;
    CLEANUP(base_freep) struct cli_cluster *after = NULL;
    (void)cli_cluster_read(cli->state_dir, &before, NULL);
    int rc = first ? cli_cluster_init(cli->state_dir, w, &err)
                   : cli_cluster_join(cli->state_dir, w, &err);
    rc = rc != 0 ? rc : cli_cluster_read(cli->state_dir, &after, &err);
    if (rc != 0) {
        return fail(cli, &err);
    }
    json_t *made = nodes_json(after, before == NULL ? 0 : before->n);
    if (cli->json) {
        return print_json(made);
    }
    size_t i;
    json_t *n;
    json_array_foreach(made, i, n)
    {
        (void)printf("%-8s %-20s %s\n", json_string_value(json_object_get(n, "role")),
            json_string_value(json_object_get(n, "name")),
            json_string_value(json_object_get(n, "config")));
    }
    json_decref(made);
    cli_note(cli,
        "every machine of the cluster needs %s at the same place, with the folders of its own "
        "nodes "
        "only;\nafter each change the file 'roster' there is copied to all of them",
        after->dir);
    if (first) {
        cli_note(cli, "each voter starts for the first time with\n  warren-scheduler --birth "
                      "--config CONFIG");
    }
    return CLI_OK;
}

/* ---- status ---- */

static long long number(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

static const char *text(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s == NULL ? "-" : s;
}

/* The answer with the highest view: the others are behind. */
static const json_t *newest(const json_t *answers)
{
    const json_t *best = NULL;
    size_t i;
    json_t *a;
    json_array_foreach(answers, i, a)
    {
        const json_t *view = json_object_get(a, "view");
        if (best == NULL ||
            number(view, "number") > number(json_object_get(best, "view"), "number")) {
            best = a;
        }
    }
    return best;
}

static void print_voters(const struct cli_cluster *c, const json_t *answers)
{
    (void)printf(
        "%-20s %-22s %-8s %6s %6s  %s\n", "VOTER", "ADDRESS", "VOTES", "VIEW", "LOST", "VERSION");
    for (size_t i = 0; i < c->n; i++) {
        const json_t *got = NULL;
        size_t k;
        json_t *a;
        if (strcmp(c->nodes[i].role, "voter") != 0) {
            continue;
        }
        json_array_foreach(answers, k, a)
        {
            got = strcmp(text(a, "asked"), c->nodes[i].name) == 0 ? a : got;
        }
        if (got == NULL) {
            (void)printf("%-20s %-22s no answer\n", c->nodes[i].name, c->nodes[i].address);
            continue;
        }
        const json_t *mesh = json_object_get(got, "mesh");
        (void)printf("%-20s %-22s %-8s %6lld %6lld  %s\n", c->nodes[i].name, c->nodes[i].address,
            json_is_true(json_object_get(got, "voting")) ? "yes" : "asks",
            number(json_object_get(got, "view"), "number"),
            number(mesh, "full") + number(mesh, "stale"), text(got, "version"));
    }
}

/* What of the cluster's messages is spoken, and who keeps it from being more. */
static void print_versions(const json_t *best)
{
    const json_t *m = json_object_get(best, "messages"), *speaks = json_object_get(m, "speaks");
    const char *const why[][2] = {
        {"heldBy", "held back by"}, {"refused", "not taken in, speaks another"}};
    if (m == NULL) {
        return; /* an older build */
    }
    (void)printf("messages of version %lld, %s speaks %lld to %lld\n", number(m, "version"),
        text(best, "node"), (long long)json_integer_value(json_array_get(speaks, 0)),
        (long long)json_integer_value(json_array_get(speaks, 1)));
    for (size_t k = 0; k < sizeof why / sizeof why[0]; k++) {
        size_t i;
        json_t *n;
        json_array_foreach(json_object_get(m, why[k][0]), i, n)
        {
            const json_t *s = json_object_get(n, "speaks");
            (void)printf("  %s: %s (%lld to %lld)\n", why[k][1], text(n, "node"),
                (long long)json_integer_value(json_array_get(s, 0)),
                (long long)json_integer_value(json_array_get(s, 1)));
        }
    }
}

static const char *gossip_state(const json_t *answer, const char *node)
{
    size_t i;
    json_t *g;
    json_array_foreach(json_object_get(answer, "gossip"), i, g)
    {
        if (strcmp(text(g, "node"), node) == 0) {
            return text(g, "state");
        }
    }
    return "unknown";
}

/* A lease runs while a majority of voters grant it: the median of what they say. */
static long long lease_ms(const json_t *answers, const char *node, size_t voters)
{
    enum { VOTERS_MAX = 7 };
    long long left[VOTERS_MAX] = {0};
    size_t n = 0, i, k;
    json_t *a, *m;
    json_array_foreach(answers, i, a)
    {
        json_array_foreach(json_object_get(json_object_get(a, "view"), "members"), k, m)
        {
            if (n < VOTERS_MAX && strcmp(text(m, "node"), node) == 0) {
                left[n++] = number(m, "leaseMs");
            }
        }
    }
    for (size_t x = 1; x < n; x++) { /* falling */
        for (size_t y = x; y > 0 && left[y] > left[y - 1]; y--) {
            long long t = left[y];
            left[y] = left[y - 1];
            left[y - 1] = t;
        }
    }
    return left[voters / 2 < VOTERS_MAX ? voters / 2 : VOTERS_MAX - 1];
}

static void print_members(const json_t *answers, const json_t *best)
{
    size_t voters = json_array_size(json_object_get(best, "voters")), i;
    const json_t *view = json_object_get(best, "view");
    json_t *m;
    (void)printf("\nview %lld, digest %s%s\n", number(view, "number"), text(view, "digest"),
        json_is_true(json_object_get(view, "rebuilt")) ? ", directory rebuilt from the hosts" : "");
    (void)printf("%-20s %5s %5s %7s %9s %7s %8s %9s  %s\n", "WORKER", "LIFE", "ZONE", "WEIGHT",
        "LEASE_MS", "VIEW", "SETTLED", "SESSIONS", "GOSSIP");
    json_array_foreach(json_object_get(view, "members"), i, m)
    {
        char sessions[32];
        (void)snprintf(sessions, sizeof sessions, "%lld/%lld", number(m, "active"),
            number(m, "active") + number(m, "ready"));
        (void)printf("%-20s %5lld %5lld %7lld %9lld %7lld %8s %9s  %s\n", text(m, "node"),
            number(m, "incarnation"), number(m, "zone"), number(m, "weight"),
            lease_ms(answers, text(m, "node"), voters), number(m, "installed"),
            number(m, "unsettledBuckets") == 0 ? "yes" : "no", sessions,
            gossip_state(best, text(m, "node")));
    }
}

static void print_gossip(const json_t *best)
{
    size_t i;
    json_t *g;
    (void)printf("\n%-20s %-8s %-8s %12s  %-22s %s\n", "NODE", "ROLE", "STATE", "INCARNATION",
        "ADDRESS", "GOSSIP VERSIONS");
    json_array_foreach(json_object_get(best, "gossip"), i, g)
    {
        const json_t *v = json_object_get(g, "versions");
        char address[80];
        (void)snprintf(address, sizeof address, "%s:%lld", text(g, "address"), number(g, "port"));
        (void)printf("%-20s %-8s %-8s %12lld  %-22s %lld..%lld\n", text(g, "node"), text(g, "role"),
            text(g, "state"), number(g, "incarnation"), address,
            (long long)json_integer_value(json_array_get(v, 0)),
            (long long)json_integer_value(json_array_get(v, 1)));
    }
}

static int ask(const struct cli *cli, bool members, uint32_t timeout_s)
{
    struct base_error err = {0};
    CLEANUP(base_freep) struct cli_cluster *c = NULL;
    json_t *answers = NULL;
    const struct cli_question q = {.role = "voter", .text = "status", .timeout_s = timeout_s};
    int rc = cli_cluster_read(cli->state_dir, &c, &err);
    rc = rc != 0 ? rc : cli_cluster_ask(c, &q, &answers, &err);
    if (rc != 0) {
        return fail(cli, &err);
    }
    const json_t *best = newest(answers);
    if (best == NULL) {
        json_decref(answers);
        return cli_fail(cli, CLI_UNREACHABLE,
            "do the voters run, and can they be reached from here?", "no voter answers");
    }
    if (cli->json) {
        return print_json(answers);
    }
    if (members) {
        print_gossip(best);
    } else {
        print_voters(c, answers);
        print_members(answers, best);
        (void)printf("\n");
        print_versions(best);
    }
    json_decref(answers);
    return CLI_OK;
}

/* ---- keys ---- */

static int keys(const struct cli *cli, const struct cli_command *self, const char *verb)
{
    struct base_error err = {0};
    json_t *ids = NULL;
    bool show = strcmp(verb, "show") == 0;
    if (!show && strcmp(verb, "add") != 0 && strcmp(verb, "use") != 0 &&
        strcmp(verb, "remove") != 0) {
        return cli_command_wrong(cli, self, "keys are shown, added, used or removed");
    }
    int rc = show ? 0 : cli_cluster_ring(cli->state_dir, verb, &err);
    rc = rc != 0 ? rc : cli_cluster_ring_ids(cli->state_dir, &ids, &err);
    if (rc != 0) {
        return fail(cli, &err);
    }
    if (cli->json) {
        return print_json(ids);
    }
    size_t i;
    json_t *id;
    json_array_foreach(ids, i, id)
    {
        (void)printf("gossip key %lld%s\n", (long long)json_integer_value(id),
            i == 0 ? " (seals)" : " (accepted)");
    }
    json_decref(ids);
    if (!show) {
        cli_note(cli, "copy gossip.keys to all machines: their daemons read it again at once");
    }
    return CLI_OK;
}

static int run(struct cli *cli, const struct cli_command *self, int argc, char *const argv[])
{
    struct cli_cluster_wishes w = {.voters = {.n = 0}};
    uint32_t timeout_s = 3;
    const struct cli_option own[] = {
        {"voter", 0, CLI_OPTION_LIST, &w.voters, "NAME=ADDRESS:PORT", "init: a voter", 0, 0},
        {"worker", 0, CLI_OPTION_LIST, &w.workers, "NAME=ADDRESS:PORT", "init, join: a worker", 0,
            0},
        {"gateway", 0, CLI_OPTION_LIST, &w.gateways, "NAME=ADDRESS:PORT", "init, join: a gateway",
            0, 0},
        {"lease-ms", 0, CLI_OPTION_UINT, &w.shared.lease_ms, "N",
            "init: how long a worker may run without the voters (5000)", 2000, 60000},
        {"partition-bits", 0, CLI_OPTION_UINT, &w.shared.partition_bits, "N",
            "init: the directory has 2^N partitions (12)", 4, 18},
        {"members-max", 0, CLI_OPTION_UINT, &w.shared.members_max, "N",
            "init: most nodes that there may ever be (256)", 8, 16384},
        {"timeout", 0, CLI_OPTION_TIME, &timeout_s, "TIME", "status, members: wait so long (3s)", 1,
            60},
        {0},
    };
    struct cli_args args;
    int rc = cli_command_read(cli, self, own, argc, argv, &args);
    if (rc != CLI_GO_ON) {
        return rc;
    }
    const char *verb = args.n > 0 ? args.v[0] : "";
    bool is_keys = strcmp(verb, "keys") == 0;
    if (args.n > (is_keys ? 2U : 1U)) {
        return cli_command_wrong(cli, self, "too many arguments");
    }
    if (is_keys) {
        return keys(cli, self, args.n > 1 ? args.v[1] : "show");
    }
    if (strcmp(verb, "init") == 0 || strcmp(verb, "join") == 0) {
        if (w.voters.n + w.workers.n + w.gateways.n == 0) {
            return cli_command_wrong(cli, self, "%s needs a node", verb);
        }
        return make(cli, verb[0] == 'i', &w);
    }
    if (strcmp(verb, "status") == 0 || strcmp(verb, "members") == 0) {
        return ask(cli, verb[0] == 'm', timeout_s);
    }
    return cli_command_wrong(cli, self, "one of init, join, status, members or keys is needed");
}

const struct cli_command cli_cmd_cluster = {
    .name = "cluster",
    .summary = "make a cluster, add nodes, see its state",
    .usage = "cluster init|join|status|members|keys [options]",
    .text = "init      makes keys and settings of a new cluster and of its first nodes in\n"
            "          STATE/cluster\n"
            "join      the same for further workers and gateways\n"
            "status    voters, the view, leases, what is settled; asks the voters\n"
            "members   all nodes as gossip sees them\n"
            "keys      [show|add|use|remove] of the gossip: add a key everywhere, then use it\n"
            "          everywhere, then remove the old one everywhere\n",
    .examples = "  warren cluster init --voter v1=10.0.0.1:7400 --voter v2=10.0.0.2:7400 \\\n"
                "    --voter v3=10.0.0.3:7400\n"
                "  warren-scheduler --birth --config /var/lib/warren/cluster/v1/cluster.yaml\n"
                "  warren cluster status\n"
                "  warren cluster keys add\n",
    .run = run,
};
