#include "gateway/cli/cluster.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/cli/setup.h"
#include "proto/base/buf.h"
#include "proto/base/cleanup.h"
#include "proto/base/rand.h"
#include "proto/base/text.h"
#include "proto/limits.h"
#include "proto/net/curve.h"

enum { RING_MAX = 3, FILE_MAX = 1 << 20, KEY_BYTES = 32 };

#define RING_LAST "# last number: "
#define ADMIN "admin" /* role and name of a line of the roster */

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

/* Absolute, because the daemons want it so. */
static int open_dir(struct cli_cluster *c, const char *state_dir, struct base_error *err)
{
    char base[CLI_PATH_MAX] = "";
    if (state_dir[0] != '/') {
        if (getcwd(base, sizeof base - 1) == NULL) {
            return base_fail(err, -errno, "the current folder: %s", strerror(errno));
        }
    }
    size_t n = strlen(base);
    if (n + strlen(state_dir) + 32 > sizeof base) {
        return base_fail(err, BASE_ETOOBIG, "the state folder's path is too long");
    }
    (void)snprintf(base + n, sizeof base - n, "%s%s", n > 0 ? "/" : "", state_dir);
    return cli_file_path(c->dir, base, "cluster", err);
}

/* ---- nodes ---- */

/* NAME=ADDRESS:PORT; what is in it exactly the daemons judge. */
static int parse_node(
    const char *text, const char *role, struct cli_cluster_node *ret, struct base_error *err)
{
    const char *eq = strchr(text, '=');
    size_t n = eq == NULL ? 0 : (size_t)(eq - text);
    struct cli_cluster_node node = {.role = ""};
    if (n == 0 || n >= sizeof node.name ||
        strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-_") != n) {
        return base_fail(
            err, BASE_EINVAL, "'%.60s': want NAME=ADDRESS:PORT, the name of a-z 0-9 - _", text);
    }
    memcpy(node.name, text, n);
    if (strcmp(node.name, ADMIN) == 0 || strcmp(node.name, "roster") == 0) {
        return base_fail(err, BASE_EINVAL, "'%s' is no name for a node: choose another", node.name);
    }
    struct cli_listen listen;
    int rc = cli_setup_listen(eq + 1, &listen, err);
    if (rc != 0) {
        return rc;
    }
    if (listen.port == 0 || listen.any) {
        return base_fail(err, BASE_EINVAL,
            "'%.60s': the others must be able to reach it: an address and a port", text);
    }
    (void)snprintf(node.role, sizeof node.role, "%s", role);
    (void)snprintf(node.address, sizeof node.address, listen.v6 ? "[%s]:%u" : "%s:%u", listen.host,
        listen.port);
    *ret = node;
    return 0;
}

static int take_nodes(
    struct cli_cluster *c, const struct cli_list *list, const char *role, struct base_error *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < list->n; i++) {
        if (c->n == CLI_CLUSTER_NODES_MAX) {
            return base_fail(err, BASE_EFULL, "at most %d nodes", CLI_CLUSTER_NODES_MAX);
        }
        struct cli_cluster_node *node = &c->nodes[c->n];
        rc = parse_node(list->v[i], role, node, err);
        for (size_t k = 0; rc == 0 && k < c->n; k++) {
            if (strcmp(c->nodes[k].name, node->name) == 0) {
                rc = base_fail(err, BASE_EEXISTS, "there is a node '%s' already", node->name);
            } else if (strcmp(c->nodes[k].address, node->address) == 0) {
                rc = base_fail(
                    err, BASE_EEXISTS, "'%s' has the address %s", c->nodes[k].name, node->address);
            }
        }
        c->n += rc == 0;
    }
    return rc;
}

static int take_all(
    struct cli_cluster *c, const struct cli_cluster_wishes *w, struct base_error *err)
{
    int rc = take_nodes(c, &w->voters, "voter", err);
    rc = rc != 0 ? rc : take_nodes(c, &w->workers, "worker", err);
    return rc != 0 ? rc : take_nodes(c, &w->gateways, "gateway", err);
}

/* ---- files ---- */

static int write_secret(const char *path, const void *data, size_t n, struct base_error *err)
{
    return exists(path) ? base_fail(err, BASE_EEXISTS, "'%s' is there already", path)
                        : cli_file_write(path, data, n, 0600, err);
}

static void hex_line(char *line, size_t max, const char *prefix, size_t bytes)
{
    uint8_t raw[KEY_BYTES];
    char hex[2 * KEY_BYTES + 1];
    base_rand_bytes(raw, bytes);
    base_text_hex(raw, bytes, hex);
    (void)snprintf(line, max, "%s%s\n", prefix, hex);
    explicit_bzero(raw, sizeof raw);
    explicit_bzero(hex, sizeof hex);
}

static int list_key(const struct cli_cluster *c, const char *role, const char *name,
    const struct proto_net_key *key, struct base_error *err)
{
    char roster[CLI_PATH_MAX];
    struct proto_net_client line = {.role = ""};
    (void)snprintf(line.role, sizeof line.role, "%s", role);
    (void)snprintf(line.name, sizeof line.name, "%s", name);
    memcpy(line.public_z85, key->public_z85, sizeof line.public_z85);
    int rc = cli_file_path(roster, c->dir, "roster", err);
    return rc != 0 ? rc : proto_net_clients_add(roster, &line, err);
}

static int make_key(const struct cli_cluster *c, const char *role, const char *name,
    const char *path, struct base_error *err)
{
    struct proto_net_key key;
    int rc = proto_net_key_generate(&key, err);
    rc = rc != 0 ? rc : proto_net_key_write(path, &key, err);
    rc = rc != 0 ? rc : list_key(c, role, name, &key, err);
    explicit_bzero(&key, sizeof key);
    return rc;
}

static int yaml_path(struct base_buf *to, const char *key, const char *dir, const char *name)
{
    char path[CLI_PATH_MAX];
    int rc = cli_file_path(path, dir, name, NULL);
    rc = rc != 0 ? rc : base_buf_printf(to, "%s: ", key);
    rc = rc != 0 ? rc : cli_setup_yaml_text(to, path);
    return rc != 0 ? rc : base_buf_printf(to, "\n");
}

static int write_yaml(const struct cli_cluster *c, const struct cli_cluster_node *node,
    const char *dir, struct base_error *err)
{
    char path[CLI_PATH_MAX];
    struct base_buf b = {0};
    int rc = base_buf_printf(&b, "name: %s\nlisten: \"%s\"\n", node->name, node->address);
    rc = rc != 0 ? rc : yaml_path(&b, "state_dir", dir, "state");
    rc = rc != 0 ? rc : yaml_path(&b, "curve_secret", dir, "node.curve");
    rc = rc != 0 ? rc : yaml_path(&b, "roster", c->dir, "roster");
    rc = rc != 0 ? rc : yaml_path(&b, "cluster_key", c->dir, "cluster.key");
    rc = rc != 0 ? rc : yaml_path(&b, "gossip_keys", c->dir, "gossip.keys");
    rc = rc != 0
             ? rc
             : base_buf_printf(&b, "lease_ms: %u\npartition_bits: %u\nmembers_max: %u\nvoters:\n",
                   c->shared.lease_ms, c->shared.partition_bits, c->shared.members_max);
    for (size_t i = 0; rc == 0 && i < c->n; i++) {
        if (strcmp(c->nodes[i].role, "voter") == 0) {
            rc = base_buf_printf(&b, "  - %s\n", c->nodes[i].name);
        }
    }
    rc = rc != 0 ? rc : base_buf_printf(&b, "seeds:\n");
    for (size_t i = 0; rc == 0 && i < c->n; i++) {
        if (strcmp(c->nodes[i].role, "voter") == 0) {
            rc = base_buf_printf(&b, "  - \"%s@%s\"\n", c->nodes[i].name, c->nodes[i].address);
        }
    }
    rc = rc != 0 ? base_fail(err, rc, "write the settings of '%s'", node->name)
                 : cli_file_path(path, dir, "cluster.yaml", err);
    rc = rc != 0 ? rc : cli_file_write(path, base_buf_data(&b), base_buf_size(&b), 0600, err);
    base_buf_deinit(&b);
    return rc;
}

static int make_node(
    const struct cli_cluster *c, const struct cli_cluster_node *node, struct base_error *err)
{
    char dir[CLI_PATH_MAX], path[CLI_PATH_MAX];
    int rc = cli_file_path(dir, c->dir, node->name, err);
    rc = rc != 0 ? rc : cli_file_mkdirs(dir, 0700, err);
    rc = rc != 0 ? rc : cli_file_path(path, dir, "node.curve", err);
    rc = rc != 0 ? rc : make_key(c, node->role, node->name, path, err);
    return rc != 0 ? rc : write_yaml(c, node, dir, err);
}

static int write_json(const struct cli_cluster *c, struct base_error *err)
{
    char path[CLI_PATH_MAX];
    json_t *list = json_array();
    for (size_t i = 0; i < c->n; i++) {
        const struct cli_cluster_node *n = &c->nodes[i];
        (void)json_array_append_new(list,
            json_pack("{s:s,s:s,s:s}", "name", n->name, "role", n->role, "address", n->address));
    }
    json_t *doc = json_pack("{s:{s:i,s:i,s:i},s:o}", "settings", "leaseMs", (int)c->shared.lease_ms,
        "partitionBits", (int)c->shared.partition_bits, "membersMax", (int)c->shared.members_max,
        "nodes", list);
    CLEANUP(base_freep) char *text = doc == NULL ? NULL : json_dumps(doc, JSON_INDENT(1));
    json_decref(doc);
    if (text == NULL) {
        return base_fail(err, BASE_ENOMEM, "out of memory");
    }
    int rc = cli_file_path(path, c->dir, "cluster.json", err);
    return rc != 0 ? rc : cli_file_write(path, text, strlen(text), 0644, err);
}

/* ---- the commands ---- */

static int make_shared(const struct cli_cluster *c, struct base_error *err)
{
    char path[CLI_PATH_MAX], line[128];
    int rc = cli_file_mkdirs(c->dir, 0700, err);
    rc = rc != 0 ? rc : cli_file_path(path, c->dir, "cluster.key", err);
    hex_line(line, sizeof line, "", 16);
    rc = rc != 0 ? rc : write_secret(path, line, strlen(line), err);
    rc = rc != 0 ? rc : cli_file_path(path, c->dir, "gossip.keys", err);
    hex_line(line, sizeof line, "1 ", KEY_BYTES);
    rc = rc != 0 ? rc : write_secret(path, line, strlen(line), err);
    explicit_bzero(line, sizeof line);
    rc = rc != 0 ? rc : cli_file_path(path, c->dir, "admin.curve", err);
    return rc != 0 ? rc : make_key(c, ADMIN, ADMIN, path, err);
}

static int make_nodes(const struct cli_cluster *c, size_t from, struct base_error *err)
{
    int rc = 0;
    for (size_t i = from; rc == 0 && i < c->n; i++) {
        rc = make_node(c, &c->nodes[i], err);
    }
    return rc != 0 ? rc : write_json(c, err);
}

static uint32_t or_default(uint32_t v, uint32_t otherwise)
{
    return v == 0 ? otherwise : v;
}

static void fill_shared(struct cli_cluster_shared *s)
{
    s->lease_ms = or_default(s->lease_ms, PROTO_CLUSTER_LEASE_MS);
    s->partition_bits = or_default(s->partition_bits, PROTO_CLUSTER_PARTITION_BITS);
    s->members_max = or_default(s->members_max, PROTO_CLUSTER_MEMBERS);
}

int cli_cluster_init(
    const char *state_dir, const struct cli_cluster_wishes *w, struct base_error *err)
{
    CLEANUP(base_freep) struct cli_cluster *c = calloc(1, sizeof *c);
    char path[CLI_PATH_MAX];
    if (c == NULL) {
        return base_fail(err, BASE_ENOMEM, "out of memory");
    }
    if (w->voters.n % 2 == 0 || w->voters.n > 7) {
        return base_fail(err, BASE_EINVAL, "a cluster has 1, 3, 5 or 7 voters");
    }
    int rc = open_dir(c, state_dir, err);
    rc = rc != 0 ? rc : cli_file_path(path, c->dir, "cluster.json", err);
    if (rc == 0 && exists(path)) {
        return base_fail(err, BASE_EEXISTS, "there is a cluster in '%.150s' already", c->dir);
    }
    c->shared = w->shared;
    fill_shared(&c->shared);
    rc = rc != 0 ? rc : take_all(c, w, err);
    rc = rc != 0 ? rc : make_shared(c, err);
    return rc != 0 ? rc : make_nodes(c, 0, err);
}

int cli_cluster_join(
    const char *state_dir, const struct cli_cluster_wishes *w, struct base_error *err)
{
    CLEANUP(base_freep) struct cli_cluster *c = NULL;
    int rc = cli_cluster_read(state_dir, &c, err);
    if (rc != 0) {
        return rc;
    }
    size_t from = c->n;
    if (w->voters.n > 0) {
        return base_fail(err, BASE_EINVAL, "the voters of a cluster are fixed when it is made");
    }
    if (w->shared.lease_ms + w->shared.partition_bits + w->shared.members_max != 0) {
        return base_fail(err, BASE_EINVAL, "these settings are fixed when the cluster is made");
    }
    rc = take_all(c, w, err);
    return rc != 0 ? rc : make_nodes(c, from, err);
}

static bool copy_text(char *to, size_t max, const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL && base_text_copy(to, max, text);
}

static uint32_t small_number(const json_t *object, const char *key)
{
    json_int_t v = json_integer_value(json_object_get(object, key));
    return v > 0 && v <= UINT32_MAX ? (uint32_t)v : 0;
}

/* A folder of before they were written down has none. */
static void read_shared(struct cli_cluster_shared *to, const json_t *from)
{
    *to = (struct cli_cluster_shared){.lease_ms = small_number(from, "leaseMs"),
        .partition_bits = small_number(from, "partitionBits"),
        .members_max = small_number(from, "membersMax")};
    fill_shared(to);
}

int cli_cluster_read(const char *state_dir, struct cli_cluster **ret, struct base_error *err)
{
    CLEANUP(base_freep) struct cli_cluster *c = calloc(1, sizeof *c);
    CLEANUP(base_freep) char *text = NULL;
    char path[CLI_PATH_MAX];
    size_t n = 0;
    if (c == NULL) {
        return base_fail(err, BASE_ENOMEM, "out of memory");
    }
    int rc = open_dir(c, state_dir, err);
    rc = rc != 0 ? rc : cli_file_path(path, c->dir, "cluster.json", err);
    if (rc == 0 && !exists(path)) {
        return base_fail(err, BASE_ENOTFOUND, "there is no cluster in '%.150s'", c->dir);
    }
    rc = rc != 0 ? rc : cli_file_read(path, FILE_MAX, &text, &n, err);
    if (rc != 0) {
        return rc;
    }
    json_t *doc = json_loadb(text, n, JSON_REJECT_DUPLICATES, NULL);
    const json_t *list = json_object_get(doc, "nodes");
    read_shared(&c->shared, json_object_get(doc, "settings"));
    bool ok = json_is_array(list) && json_array_size(list) <= CLI_CLUSTER_NODES_MAX;
    for (size_t i = 0; ok && i < json_array_size(list); i++) {
        struct cli_cluster_node *to = &c->nodes[c->n++];
        const json_t *from = json_array_get(list, i);
        ok = copy_text(to->name, sizeof to->name, from, "name") &&
             copy_text(to->role, sizeof to->role, from, "role") &&
             copy_text(to->address, sizeof to->address, from, "address");
    }
    json_decref(doc);
    if (!ok) {
        return base_fail(err, BASE_ECORRUPT, "'%.150s' is damaged", path);
    }
    *ret = TAKE_PTR(c);
    return 0;
}

/* ---- the ring ---- */

struct ring {
    char path[CLI_PATH_MAX];
    unsigned n;
    unsigned last; /* the number that was given last: none stands for two keys */
    struct {
        unsigned id;
        char hex[2 * KEY_BYTES + 1];
    } k[RING_MAX];
};

static int ring_read(const char *state_dir, struct ring *r, struct base_error *err)
{
    CLEANUP(base_freep) struct cli_cluster *c = NULL;
    int rc = cli_cluster_read(state_dir, &c, err);
    rc = rc != 0 ? rc : cli_file_path(r->path, c->dir, "gossip.keys", err);
    if (rc != 0) {
        return rc;
    }
    CLEANUP(base_fclosep) FILE *f = fopen(r->path, "re");
    char line[128];
    if (f == NULL) {
        return base_fail(err, -errno, "open '%.150s': %s", r->path, strerror(errno));
    }
    bool told = false;
    while (r->n < RING_MAX && fgets(line, sizeof line, f) != NULL) {
        told = sscanf(line, RING_LAST "%3u", &r->last) == 1 || told;
        r->n += sscanf(line, "%3u %64s", &r->k[r->n].id, r->k[r->n].hex) == 2;
    }
    for (unsigned i = 0; !told && i < r->n; i++) {
        r->last = r->k[i].id > r->last ? r->k[i].id : r->last;
    }
    explicit_bzero(line, sizeof line);
    return r->n > 0 ? 0 : base_fail(err, BASE_ECORRUPT, "'%.150s' has no key", r->path);
}

static int ring_write(const struct ring *r, struct base_error *err)
{
    char text[(RING_MAX + 1) * 96];
    int n = snprintf(text, sizeof text, RING_LAST "%u\n", r->last);
    for (unsigned i = 0; i < r->n; i++) {
        n += snprintf(text + n, sizeof text - (size_t)n, "%u %s\n", r->k[i].id, r->k[i].hex);
    }
    int rc = cli_file_write(r->path, text, (size_t)n, 0600, err);
    explicit_bzero(text, sizeof text);
    return rc;
}

static int ring_change(struct ring *r, const char *verb, struct base_error *err)
{
    if (strcmp(verb, "add") == 0) {
        uint8_t raw[KEY_BYTES];
        if (r->n == RING_MAX) {
            return base_fail(err, BASE_EFULL, "there are %d keys: remove the old ones", RING_MAX);
        }
        r->last = (r->last + 1) % 256;
        base_rand_bytes(raw, sizeof raw);
        base_text_hex(raw, sizeof raw, r->k[r->n].hex);
        explicit_bzero(raw, sizeof raw);
        r->k[r->n++].id = r->last;
        return 0;
    }
    if (r->n < 2) {
        return base_fail(err, BASE_ESTATE, "there is one key only: add another one first");
    }
    if (strcmp(verb, "use") == 0) {
        struct ring old = *r;
        r->k[0] = old.k[old.n - 1];
        for (unsigned i = 1; i < old.n; i++) {
            r->k[i] = old.k[i - 1];
        }
        explicit_bzero(&old, sizeof old);
    } else {
        r->n = 1;
    }
    return 0;
}

int cli_cluster_ring(const char *state_dir, const char *verb, struct base_error *err)
{
    struct ring r = {.n = 0};
    int rc = ring_read(state_dir, &r, err);
    rc = rc != 0 ? rc : ring_change(&r, verb, err);
    rc = rc != 0 ? rc : ring_write(&r, err);
    explicit_bzero(&r, sizeof r);
    return rc;
}

int cli_cluster_ring_ids(const char *state_dir, json_t **ret, struct base_error *err)
{
    struct ring r = {.n = 0};
    int rc = ring_read(state_dir, &r, err);
    if (rc == 0) {
        *ret = json_array();
        for (unsigned i = 0; i < r.n; i++) {
            (void)json_array_append_new(*ret, json_integer(r.k[i].id));
        }
    }
    explicit_bzero(&r, sizeof r);
    return rc;
}
