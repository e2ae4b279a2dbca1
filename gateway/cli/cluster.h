#pragma once
#include <jansson.h>
#include <stdbool.h>

#include "gateway/cli/file.h"
#include "gateway/cli/options.h"
#include "proto/base/err.h"

/* The folder STATE/cluster, which `warren cluster` makes on one machine; every other machine of
 * the cluster gets a copy of it, with the folder of its own nodes only:
 *   cluster.json        names, roles, addresses and the settings that are the same on every node,
 *                       for this tool
 *   roster              "<role> <name> <public key>" per node; not secret, but must be genuine
 *   cluster.key, gossip.keys, admin.curve    shared secrets
 *   NAME/cluster.yaml, NAME/node.curve       of one node
 * Secrets have mode 0600. Nothing that exists is replaced. */

enum { CLI_CLUSTER_NODES_MAX = 512, CLI_CLUSTER_NAME_MAX = 33, CLI_CLUSTER_ADDRESS_MAX = 80 };

struct cli_cluster_node {
    char name[CLI_CLUSTER_NAME_MAX];
    char role[16];
    char address[CLI_CLUSTER_ADDRESS_MAX]; /* "10.0.0.1:7400" */
};

/* The same on every node: daemons that differ do not talk to each other. 0: the default. */
struct cli_cluster_shared {
    uint32_t lease_ms, partition_bits, members_max;
};

struct cli_cluster {
    char dir[CLI_PATH_MAX];
    struct cli_cluster_node nodes[CLI_CLUSTER_NODES_MAX];
    size_t n;
    struct cli_cluster_shared shared; /* none is 0 */
};

struct cli_cluster_wishes {
    struct cli_list voters, workers, gateways; /* NAME=ADDRESS:PORT */
    struct cli_cluster_shared shared;          /* of init */
};

/* Makes the cluster with its first nodes: 1, 3, 5 or 7 voters. BASE_EEXISTS. */
int cli_cluster_init(
    const char *state_dir, const struct cli_cluster_wishes *w, struct base_error *err);

/* Adds workers and gateways. Voters and shared settings are fixed. BASE_ENOTFOUND: no cluster here.
 * BASE_EEXISTS: a name is taken. */
int cli_cluster_join(
    const char *state_dir, const struct cli_cluster_wishes *w, struct base_error *err);

/* What cluster.json says; BASE_ENOTFOUND. The caller frees. */
int cli_cluster_read(const char *state_dir, struct cli_cluster **ret, struct base_error *err);

/* The ring of the gossip: "add" puts a new key behind the others, "use" makes the last one the
 * first, "remove" drops all but the first. BASE_EFULL, BASE_ESTATE. */
int cli_cluster_ring(const char *state_dir, const char *verb, struct base_error *err);

/* The numbers of the ring's keys, the one in use first. The caller owns *ret. */
int cli_cluster_ring_ids(const char *state_dir, json_t **ret, struct base_error *err);

struct cli_question {
    const char *role; /* of the nodes that are asked at once */
    const char *name; /* NULL: all of them; else only this one */
    const char *text;
    const char *id; /* NULL, or "id" of the answers that are meant: others come from before */
    unsigned timeout_s;
};

/* Asks and waits for timeout_s at the longest. *ret: an array with an object per answer,
 * {"asked":NAME,...}; nodes that did not answer are missing. The caller owns it. */
int cli_cluster_ask(const struct cli_cluster *c, const struct cli_question *q, json_t **ret,
    struct base_error *err);
