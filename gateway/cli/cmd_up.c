#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/cli/command.h"
#include "gateway/cli/detach.h"
#include "gateway/cli/lock.h"
#include "gateway/cli/pool_key.h"
#include "gateway/cli/pools.h"
#include "gateway/cli/setup.h"
#include "gateway/cli/setup_cluster.h"
#include "gateway/cli/supervise.h"
#include "proto/base/cleanup.h"
#include "proto/base/text.h"

enum { WORKER_PORT_DEFAULT = 7101, PORT_MAX = 65534, APPLY_S = 30 };

#define IMAGE_DEFAULT "/var/cache/warren/images/current"

struct up {
    struct cli *cli;
    struct cli_setup_options o;
    struct cli_setup setup;
    bool logs;             /* of the daemons on stderr instead of files */
    bool detach;           /* into the background when ready */
    uint32_t voters_ready; /* a bit for each */
    bool applied;          /* its pools are in the catalogue of the cluster */
    json_t *pools;         /* names that the catalogue has then; NULL: those of the setup */
};

static json_t *pool_names(const struct up *u)
{
    const struct cli_setup *s = &u->setup;
    json_t *names = u->pools != NULL ? json_incref(u->pools) : json_array();
    for (size_t i = 0; u->pools == NULL && i < s->pools_n; i++) {
        (void)json_array_append_new(names, json_string(s->pools[i]));
    }
    return names;
}

static void ready_json(const struct up *u)
{
    const struct cli_setup *s = &u->setup;
    json_t *doc = json_pack("{s:s, s:s, s:s*, s:s, s:o, s:i}", "event", "ready", "url", s->url,
        "caFile", u->o.insecure ? NULL : s->ca_file, "stateDir", s->state_dir, "pools",
        pool_names(u), "pid", (int)getpid());
    if (doc != NULL) {
        (void)json_dumpf(doc, stdout, JSON_COMPACT);
        (void)fputc('\n', stdout);
        (void)fflush(stdout);
    }
    json_decref(doc);
}

static void ready_text(const struct up *u)
{
    const struct cli_setup *s = &u->setup;
    bool own_dir = strcmp(s->state_dir, "/var/lib/warren") != 0;
    const char *option = own_dir ? " --state-dir " : "", *dir = own_dir ? s->state_dir : "";
    json_t *names = pool_names(u), *name;
    size_t i;
    (void)printf("\nWarren is ready at %s, pools:", s->url);
    json_array_foreach(names, i, name)
    {
        (void)printf(" %s", json_string_value(name));
    }
    (void)printf(
        "%s", json_array_size(names) == 0 ? " none, `warren pool apply FILE` makes one" : "");
    json_decref(names);
    (void)printf("\n\n  try it    warren exec%s%s --id demo-0001 'print(6 * 7)'\n", option, dir);
    if (u->o.insecure) {
        (void)printf("  token     none needed: --insecure lets everybody on this machine in\n");
    } else {
        (void)printf("  token     warren token%s%s --ttl 1h\n", option, dir);
        (void)printf("  trust     %s\n", s->ca_file);
    }
    if (!u->logs) {
        (void)printf("  logs      %s\n", s->log_dir);
    }
    (void)printf("  stop      %swarren down%s%s\n\n", u->detach ? "" : "Ctrl-C, or ", option, dir);
    (void)fflush(stdout);
}

static void on_ready(void *user)
{
    const struct up *u = user;
    char log[CLI_PATH_MAX];
    struct base_error err = {0};
    if (u->cli->json) {
        ready_json(u);
    } else {
        ready_text(u);
    }
    if (u->detach && (cli_file_path(log, u->setup.log_dir, "up.log", &err) != 0 ||
                         cli_detach_done(log, &err) != 0)) {
        cli_note(u->cli, "%s; staying attached", err.text);
    }
}

/* ---- the catalogue of a cluster ---- */

static int apply_pools(struct up *u, struct base_error *err)
{
    CLEANUP(base_freep) struct cli_cluster *c = NULL;
    const struct cli_setup *s = &u->setup;
    bool any = false, asked = u->o.pools.n > 0;
    int rc = cli_cluster_read(s->state_dir, &c, err);
    if (rc == 0 && !asked) { /* others may be there, or have been */
        rc = cli_pool_any(c, APPLY_S, &any, err);
    }
    for (size_t i = 0; rc == 0 && !any && i < s->pools_n; i++) {
        rc = cli_pool_key_move(u->cli, c, s->pools[i], err);
    }
    for (size_t i = 0; rc == 0 && !any && i < s->pools_n; i++) {
        char path[CLI_PATH_MAX], file[PROTO_POOL_NAME_MAX + 16], text[160];
        struct cli_pool_applied applied = {.warnings = NULL};
        (void)snprintf(file, sizeof file, "pools/%s.json", s->pools[i]);
        rc = cli_file_path(path, s->state_dir, file, err);
        rc = rc != 0 ? rc
                     : cli_pool_apply(
                           c, path, asked ? CLI_POOL_PUT : CLI_POOL_ADD, APPLY_S, &applied, err);
        if (rc == 0) {
            (void)snprintf(text, sizeof text, "pool %s %s", applied.name,
                applied.changed ? "applied" : "is as before");
            cli_supervise_say(u->cli, "progress", "catalogue", text);
        }
        free(applied.warnings);
    }
    return rc != 0 ? rc : cli_pool_names(c, &u->pools, err);
}

/* When all voters are there the pools go into the catalogue; workers are ready with pools only. */
static bool on_child_ready(void *user, const struct cli_child *c)
{
    struct up *u = user;
    struct base_error err = {0};
    for (size_t i = 0; i < u->setup.voters_n; i++) {
        u->voters_ready |= (uint32_t)(strcmp(u->setup.voters[i].name, c->name) == 0) << i;
    }
    if (u->applied || u->setup.voters_n == 0 || u->voters_ready != (1U << u->setup.voters_n) - 1) {
        return true;
    }
    u->applied = true;
    if (apply_pools(u, &err) != 0) {
        cli_supervise_say(u->cli, "failed", "catalogue", err.text);
        return false;
    }
    return true;
}

static int init_child(const struct up *u, struct cli_child *c, const char *name, const char *what,
    const char *config, struct base_error *err)
{
    char program[40], log[40];
    *c = (struct cli_child){.name = name, .ready_fd = -1};
    (void)snprintf(program, sizeof program, "warren-%s", what);
    (void)snprintf(log, sizeof log, "%s.log", name);
    (void)base_text_copy(c->config, sizeof c->config, config);
    int rc = cli_child_find(program, c->program, err);
    if (rc == 0 && !u->logs) {
        rc = cli_file_path(c->log, u->setup.log_dir, log, err);
    }
    return rc;
}

/* The gateway first, then workers, then voters: that is the order of stopping. */
static int init_children(struct up *u, struct cli_child *c, size_t *ret_n, struct base_error *err)
{
    struct cli_setup *s = &u->setup;
    size_t n = 0;
    int rc = init_child(u, &c[n++], "gateway", "gateway", s->gateway_yaml, err);
    if (u->o.workers < 2) {
        rc = rc != 0 ? rc : init_child(u, &c[n++], "worker", "worker", s->worker_yaml, err);
    }
    for (size_t i = 0; rc == 0 && i < s->workers_n; i++) {
        rc = init_child(u, &c[n++], s->workers[i].name, "worker", s->workers[i].config, err);
    }
    for (size_t i = 0; rc == 0 && i < s->voters_n; i++) {
        rc = init_child(u, &c[n], s->voters[i].name, "scheduler", s->voters[i].config, err);
        c[n++].extra = s->birth ? "--birth" : NULL;
    }
    *ret_n = n;
    return rc;
}

static const char *hint_of(int code)
{
    switch (code) {
    case BASE_ENOTFOUND:
        return "deploy/image/build makes the image (--image says where it is); cmake builds the "
               "programs";
    case -EADDRINUSE:
        return "choose another address with --listen, or stop what listens there (`warren down`?)";
    case BASE_EEXISTS:
        return "`warren down` stops it; --state-dir and --run-dir give this one folders of its own";
    case -EACCES:
    case -EPERM:
        return "warren up needs root: every microVM gets a uid of its own";
    default:
        return NULL;
    }
}

/* One owner per state folder and per run folder, before anything in them is written. */
static int take_folders(const struct up *u, struct base_error *err)
{
    int fd;
    int rc = cli_file_mkdirs(u->o.state_dir, 0700, err);
    rc = rc != 0 ? rc : cli_lock_take(u->o.state_dir, &fd, err);
    rc = rc != 0 ? rc : cli_file_mkdirs(u->o.run_dir, 0755, err);
    return rc != 0 ? rc : cli_lock_take(u->o.run_dir, &fd, err);
}

static int up(struct up *u)
{
    struct base_error err = {0};
    static struct cli_child children[CLI_SUPERVISE_MAX]; /* large, and there is one */
    size_t n = 0;
    int rc = take_folders(u, &err);
    rc = rc != 0 ? rc : cli_setup_make(&u->o, &u->setup, &err);
    if (rc == 0 && u->o.workers > 1) {
        rc = cli_setup_cluster(&u->o, &u->setup, &err);
    }
    rc = rc != 0 ? rc : init_children(u, children, &n, &err);
    if (rc != 0) {
        return cli_fail(u->cli, rc == BASE_EINVAL || rc == BASE_EDENIED ? CLI_USAGE : CLI_FAILED,
            hint_of(rc), "%s", err.text);
    }
    struct cli_supervisor s = {.cli = u->cli,
        .children = children,
        .n = n,
        .child_ready = on_child_ready,
        .ready = on_ready,
        .user = u};
    cli_supervise_say(u->cli, "progress", "",
        u->o.workers > 1 ? "starting voters, workers and gateway" : "starting worker and gateway");
    rc = cli_supervise(&s);
    cli_supervise_say(u->cli, "stopped", "", rc == CLI_OK ? "stopped" : "stopped after a failure");
    return rc;
}

/* In the background from here on, when that is wanted; the parent only watches. */
static int up_detached(struct up *u)
{
    struct base_error err = {0};
    int exit_code = CLI_OK;
    switch (cli_detach_fork(&exit_code, &err)) {
    case CLI_DETACH_CHILD:
        return up(u);
    case CLI_DETACH_PARENT:
        return exit_code;
    case CLI_DETACH_FAILED:
    default:
        return cli_fail(u->cli, CLI_LOCAL, NULL, "%s", err.text);
    }
}

static int run(struct cli *cli, const struct cli_command *self, int argc, char *const argv[])
{
    static struct up u; /* large, and there is one */
    u.o = (struct cli_setup_options){.run_dir = "/run/warren",
        .image = IMAGE_DEFAULT,
        .accelerator = "auto",
        .listen = "127.0.0.1:8443",
        .worker_port = WORKER_PORT_DEFAULT,
        .workers = 1};
    const struct cli_option own[] = {
        {"pool", 0, CLI_OPTION_LIST, &u.o.pools, "FILE",
            "pool file (ARM shape), may be repeated; else one pool python. With --workers it goes "
            "into the catalogue of the cluster",
            0, 0},
        {"listen", 0, CLI_OPTION_TEXT, &u.o.listen, "ADDR:PORT",
            "of the gateway (127.0.0.1:8443); port 0 takes a free one", 0, 0},
        {"run-dir", 0, CLI_OPTION_TEXT, &u.o.run_dir, "DIR", "running state (/run/warren)", 0, 0},
        {"image", 0, CLI_OPTION_TEXT, &u.o.image, "DIR", "guest image (" IMAGE_DEFAULT ")", 0, 0},
        {"accelerator", 0, CLI_OPTION_TEXT, &u.o.accelerator, "NAME",
            "auto (the default), kvm, or tcg: software emulation", 0, 0},
        {"worker-port", 0, CLI_OPTION_UINT, &u.o.worker_port, "PORT",
            "first of two ports between gateway and worker (7101)", 0, PORT_MAX},
        {"quotas", 0, CLI_OPTION_TEXT, &u.o.quotas, "FILE",
            "tenant_quota and tenant_quotas, see worker/README.md", 0, 0},
        {"workers", 0, CLI_OPTION_UINT, &u.o.workers, "N",
            "so many workers, and voters: a cluster on this machine (1: none)", 1,
            CLI_SETUP_WORKERS_MAX},
        {"insecure", 0, CLI_OPTION_FLAG, &u.o.insecure, NULL,
            "plain HTTP and no token; loopback addresses only", 0, 0},
        {"logs", 0, CLI_OPTION_FLAG, &u.logs, NULL,
            "logs of the daemons on stderr, not in STATE/log", 0, 0},
        {"detach", 'd', CLI_OPTION_FLAG, &u.detach, NULL,
            "go into the background when ready; `warren down` stops it", 0, 0},
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
    if (strcmp(u.o.accelerator, "auto") != 0 && strcmp(u.o.accelerator, "kvm") != 0 &&
        strcmp(u.o.accelerator, "tcg") != 0) {
        return cli_command_wrong(
            cli, self, "--accelerator is auto, kvm or tcg, not '%.40s'", u.o.accelerator);
    }
    if (u.logs && u.detach) {
        return cli_command_wrong(cli, self, "--logs and --detach do not go together");
    }
    u.cli = cli;
    u.o.state_dir = cli->state_dir;
    return u.detach ? up_detached(&u) : up(&u);
}

const struct cli_command cli_cmd_up = {
    .name = "up",
    .summary = "run a gateway and a worker on this machine",
    .usage = "up [--pool FILE]... [--listen ADDR:PORT] [--accelerator auto|kvm|tcg] [--detach]",
    .text =
        "Makes the keys that are missing, writes the configuration, starts warren-worker and\n"
        "warren-gateway, says when they are ready and keeps them running in the foreground: one "
        "that\n"
        "dies is started again. Ctrl-C stops both in order and ends every microVM. Needs root.\n"
        "\n"
        "The first start boots a template of each pool, which takes up to some minutes without "
        "KVM;\n"
        "later starts load it from the state folder. With --json every step is a JSON line on "
        "stdout;\n"
        "{\"event\":\"ready\",...} carries the URL.\n",
    .examples =
        "  warren up\n"
        "  warren up --detach && warren exec '1 + 1'\n"
        "  warren up --pool deploy/examples/python.json --listen 0.0.0.0:8443\n"
        "  warren up --accelerator tcg --state-dir /var/tmp/w/state --run-dir /var/tmp/w/run "
        "\\\n"
        "    --listen 127.0.0.1:0 --json\n",
    .run = run,
};
