#include "gateway/cli/setup_cluster.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/cli/cluster.h"
#include "gateway/cli/keys.h"
#include "proto/base/cleanup.h"
#include "proto/base/text.h"

enum { FILE_MAX = 1 << 20, TRIES = 50, UID_BASE = 200000, UID_STEP = 8192, VALUES = 8 };

/* ---- text ---- */

static bool is_key(const char *line, const char *key)
{
    size_t n = strlen(key);
    return strncmp(line, key, n) == 0 && line[n] == ':';
}

int cli_setup_override(struct base_buf *to, const char *text, const struct cli_setup_line *lines,
    size_t n, const char *until)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = base_buf_printf(to, "%s: %s\n", lines[i].key, lines[i].value);
    }
    while (rc == 0 && *text != '\0' && (until == NULL || !is_key(text, until))) {
        size_t len = strcspn(text, "\n");
        bool ours = false;
        for (size_t i = 0; i < n; i++) {
            ours = ours || is_key(text, lines[i].key);
        }
        len += text[len] == '\n';
        rc = ours ? 0 : base_buf_add(to, text, len);
        text += len;
    }
    return rc;
}

/* Values of a node's file, in YAML; freed together. */
struct values {
    struct base_buf text[VALUES];
    size_t n;
    int rc;
};

static const char *value(struct values *v, const char *text)
{
    struct base_buf *b = &v->text[v->n++];
    v->rc = v->rc != 0 ? v->rc : cli_setup_yaml_text(b, text);
    v->rc = v->rc != 0 ? v->rc : base_buf_add(b, "", 1);
    return v->rc == 0 ? (const char *)base_buf_data(b) : "";
}

static const char *path_value(struct values *v, const char *dir, const char *name)
{
    char path[CLI_PATH_MAX];
    v->rc = v->rc != 0 ? v->rc : cli_file_path(path, dir, name, NULL);
    return v->rc == 0 ? value(v, path) : "";
}

static void drop_values(struct values *v)
{
    for (size_t i = 0; i < v->n; i++) {
        base_buf_deinit(&v->text[i]);
    }
}

/* ---- ports ---- */

/* One that is free for TCP and for UDP. */
static int free_port(uint16_t *ret, struct base_error *err)
{
    for (int i = 0; i < TRIES; i++) {
        struct sockaddr_in a = {
            .sin_family = AF_INET, .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
        socklen_t n = sizeof a;
        CLEANUP(base_closep) int tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        CLEANUP(base_closep) int udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        const struct sockaddr *to = (const struct sockaddr *)(const void *)&a;
        if (tcp >= 0 && udp >= 0 && bind(tcp, to, n) == 0 &&
            getsockname(tcp, (struct sockaddr *)(void *)&a, &n) == 0 && bind(udp, to, n) == 0) {
            *ret = ntohs(a.sin_port);
            return 0;
        }
    }
    return base_fail(err, BASE_EFULL, "no free port on 127.0.0.1");
}

/* ---- nodes ---- */

struct wishes {
    struct cli_cluster_wishes lists;
    char text[CLI_SETUP_VOTERS_MAX + CLI_SETUP_WORKERS_MAX + 1][48];
    size_t n;
};

static bool has(const struct cli_cluster *c, const char *name)
{
    for (size_t i = 0; c != NULL && i < c->n; i++) {
        if (strcmp(c->nodes[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

static int wish(struct wishes *w, struct cli_list *list, const struct cli_cluster *c,
    const char *name, struct base_error *err)
{
    uint16_t port = 0;
    int rc = has(c, name) ? 0 : free_port(&port, err);
    if (port != 0) {
        char *text = w->text[w->n++];
        (void)snprintf(text, sizeof w->text[0], "%s=127.0.0.1:%u", name, port);
        list->v[list->n++] = text;
    }
    return rc;
}

static int make_nodes(
    const struct cli_setup_options *o, const struct cli_setup *s, struct base_error *err)
{
    CLEANUP(base_freep) struct cli_cluster *c = NULL;
    struct wishes w = {.n = 0};
    struct base_error none;
    int rc = cli_cluster_read(s->state_dir, &c, &none);
    if (rc != 0 && rc != BASE_ENOTFOUND) {
        *err = none;
        return rc;
    }
    bool first = rc == BASE_ENOTFOUND;
    rc = 0;
    for (uint32_t i = 1; rc == 0 && first && i <= (o->workers < 3 ? 1U : 3U); i++) {
        char name[CLI_SETUP_NAME_MAX];
        (void)snprintf(name, sizeof name, "v%u", i);
        rc = wish(&w, &w.lists.voters, c, name, err);
    }
    for (uint32_t i = 1; rc == 0 && i <= o->workers; i++) {
        char name[CLI_SETUP_NAME_MAX];
        (void)snprintf(name, sizeof name, "w%u", i);
        rc = wish(&w, &w.lists.workers, c, name, err);
    }
    rc = rc != 0 ? rc : wish(&w, &w.lists.gateways, c, "g1", err);
    if (rc != 0 || w.n == 0) {
        return rc;
    }
    return first ? cli_cluster_init(s->state_dir, &w.lists, err)
                 : cli_cluster_join(s->state_dir, &w.lists, err);
}

static int node_dir(
    const struct cli_setup *s, const char *name, char dir[CLI_PATH_MAX], struct base_error *err)
{
    char base[CLI_PATH_MAX];
    int rc = cli_file_path(base, s->state_dir, "cluster", err);
    return rc != 0 ? rc : cli_file_path(dir, base, name, err);
}

static int read_pattern(const char *path, char **ret, struct base_error *err)
{
    size_t n = 0;
    return cli_file_read(path, FILE_MAX, ret, &n, err);
}

static int write_worker(
    const struct cli_setup *s, struct cli_setup_node *node, uint32_t i, struct base_error *err)
{
    char dir[CLI_PATH_MAX], cluster[CLI_PATH_MAX], run[CLI_PATH_MAX], ctl[40], bulk[40], uid[16];
    CLEANUP(base_freep) char *pattern = NULL;
    struct base_buf b = {0};
    struct values v = {.n = 0};
    int rc = node_dir(s, node->name, dir, err);
    rc = rc != 0 ? rc : cli_file_path(cluster, s->state_dir, "cluster", err);
    rc = rc != 0 ? rc : cli_file_path(run, s->run_dir, node->name, err);
    rc = rc != 0 ? rc : free_port(&node->ctl_port, err);
    rc = rc != 0 ? rc : free_port(&node->bulk_port, err);
    rc = rc != 0 ? rc : read_pattern(s->worker_yaml, &pattern, err);
    if (rc != 0) {
        return rc;
    }
    (void)snprintf(ctl, sizeof ctl, "\"tcp://127.0.0.1:%u\"", node->ctl_port);
    (void)snprintf(bulk, sizeof bulk, "\"tcp://127.0.0.1:%u\"", node->bulk_port);
    (void)snprintf(uid, sizeof uid, "%u", UID_BASE + i * UID_STEP);
    const struct cli_setup_line lines[] = {{"name", node->name}, {"lease", "cluster"}, {"ctl", ctl},
        {"bulk", bulk}, {"uid_base", uid}, {"state_dir", path_value(&v, dir, "worker")},
        {"run_dir", value(&v, run)}, {"cluster", path_value(&v, dir, "cluster.yaml")},
        {"curve_secret", path_value(&v, dir, "node.curve")},
        {"clients", path_value(&v, cluster, "roster")},
        {"cluster_key", path_value(&v, cluster, "cluster.key")}};
    rc = v.rc != 0 ? v.rc
                   : cli_setup_override(&b, pattern, lines, sizeof lines / sizeof lines[0], NULL);
    rc = rc != 0 ? base_fail(err, rc, "the settings of '%s' cannot be written", node->name)
                 : cli_file_path(node->config, dir, "worker.yaml", err);
    rc = rc != 0 ? rc
                 : cli_file_write(node->config, base_buf_data(&b), base_buf_size(&b), 0600, err);
    drop_values(&v);
    base_buf_deinit(&b);
    return rc;
}

static int write_gateway(struct cli_setup *s, struct base_error *err)
{
    char dir[CLI_PATH_MAX], cluster[CLI_PATH_MAX];
    CLEANUP(base_freep) char *pattern = NULL;
    struct base_buf b = {0};
    struct values v = {.n = 0};
    int rc = node_dir(s, "g1", dir, err);
    rc = rc != 0 ? rc : cli_file_path(cluster, s->state_dir, "cluster", err);
    rc = rc != 0 ? rc : read_pattern(s->gateway_yaml, &pattern, err);
    if (rc != 0) {
        return rc;
    }
    const struct cli_setup_line lines[] = {{"name", "g1"},
        {"cluster", path_value(&v, dir, "cluster.yaml")},
        {"curve_secret", path_value(&v, dir, "node.curve")},
        {"cluster_key", path_value(&v, cluster, "cluster.key")}};
    rc = v.rc != 0
             ? v.rc
             : cli_setup_override(&b, pattern, lines, sizeof lines / sizeof lines[0], "workers");
    rc = rc != 0 ? base_fail(err, rc, "the settings of the gateway cannot be written")
                 : cli_file_path(s->gateway_yaml, dir, "gateway.yaml", err);
    rc = rc != 0 ? rc
                 : cli_file_write(s->gateway_yaml, base_buf_data(&b), base_buf_size(&b), 0600, err);
    drop_values(&v);
    base_buf_deinit(&b);
    return rc;
}

/* A cluster is born when none of its voters has a store yet. */
static int take_voters(struct cli_setup *s, struct base_error *err)
{
    CLEANUP(base_freep) struct cli_cluster *c = NULL;
    int rc = cli_cluster_read(s->state_dir, &c, err);
    s->birth = true;
    for (size_t i = 0; rc == 0 && i < c->n; i++) {
        char dir[CLI_PATH_MAX], store[CLI_PATH_MAX];
        if (strcmp(c->nodes[i].role, "voter") != 0 || s->voters_n == CLI_SETUP_VOTERS_MAX) {
            continue;
        }
        struct cli_setup_node *node = &s->voters[s->voters_n++];
        (void)base_text_copy(node->name, sizeof node->name, c->nodes[i].name);
        rc = node_dir(s, node->name, dir, err);
        rc = rc != 0 ? rc : cli_file_path(node->config, dir, "cluster.yaml", err);
        rc = rc != 0 ? rc : cli_file_path(store, dir, "state/node.mdb", err);
        s->birth = s->birth && rc == 0 && access(store, F_OK) != 0;
    }
    return rc;
}

int cli_setup_cluster(
    const struct cli_setup_options *o, struct cli_setup *s, struct base_error *err)
{
    int rc = make_nodes(o, s, err);
    for (uint32_t i = 0; rc == 0 && i < o->workers; i++) {
        struct cli_setup_node *node = &s->workers[s->workers_n++];
        (void)snprintf(node->name, sizeof node->name, "w%u", i + 1);
        rc = write_worker(s, node, i, err);
    }
    rc = rc != 0 ? rc : write_gateway(s, err);
    return rc != 0 ? rc : take_voters(s, err);
}
