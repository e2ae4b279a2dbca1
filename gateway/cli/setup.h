#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "gateway/cli/file.h"
#include "gateway/cli/options.h"
#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "proto/limits.h"

/* What `warren up` prepares: keys, pool files, worker.yaml, gateway.yaml, client.json. */

struct cli_setup_options {
    const char *state_dir;
    const char *run_dir;
    const char *image;
    const char *accelerator; /* auto, kvm or tcg */
    const char *listen;      /* HOST:PORT, [HOST]:PORT; port 0: a free one */
    uint32_t worker_port;    /* first of two on loopback; 0: free ones */
    const char *quotas;      /* file with keys of worker.yaml for tenants; NULL: none */
    uint32_t workers;        /* 1: one worker without a cluster; more: voters and a cluster */
    bool insecure;           /* plain HTTP, no token; loopback only */
    struct cli_list pools;   /* pool files; empty: the pool "python" */
};

enum {
    CLI_HOST_MAX = 64,
    CLI_URL_MAX = 128,
    CLI_SETUP_WORKERS_MAX = 6,
    CLI_SETUP_VOTERS_MAX = 3,
    CLI_SETUP_NAME_MAX = 8,
};

struct cli_listen {
    char host[CLI_HOST_MAX]; /* numeric address, without brackets */
    uint16_t port;
    bool v6, loopback, any;
};

struct cli_setup {
    struct cli_listen listen;
    uint16_t ctl_port, bulk_port;
    char url[CLI_URL_MAX]; /* for clients on this machine */
    char state_dir[CLI_PATH_MAX], run_dir[CLI_PATH_MAX], image[CLI_PATH_MAX]; /* absolute */
    char worker_yaml[CLI_PATH_MAX], gateway_yaml[CLI_PATH_MAX], log_dir[CLI_PATH_MAX];
    char ca_file[CLI_PATH_MAX];
    char pools[CLI_LIST_MAX][PROTO_POOL_NAME_MAX + 1];
    size_t pools_n;
    /* with a cluster */
    size_t workers_n, voters_n; /* 0: none */
    bool birth;                 /* the voters start for the first time */
    struct cli_setup_node {
        char name[CLI_SETUP_NAME_MAX];
        char config[CLI_PATH_MAX]; /* worker.yaml, or a voter's cluster.yaml */
        uint16_t ctl_port, bulk_port;
    } workers[CLI_SETUP_WORKERS_MAX], voters[CLI_SETUP_VOTERS_MAX];
};

/* Writes everything. On an error nothing that ran before is touched but newly made keys. */
int cli_setup_make(
    const struct cli_setup_options *o, struct cli_setup *ret, struct base_error *err);

/* Pure: HOST:PORT with a numeric host. */
int cli_setup_listen(const char *text, struct cli_listen *ret, struct base_error *err);

/* Pure: a double-quoted YAML scalar. BASE_EINVAL for control characters or bytes that are no UTF-8.
 */
int cli_setup_yaml_text(struct base_buf *to, const char *text);

/* Pure: name of the pool in a pool file's text. */
int cli_setup_pool_name(
    const char *json, size_t n, char ret[PROTO_POOL_NAME_MAX + 1], struct base_error *err);
