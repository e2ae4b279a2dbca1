#include <stdio.h>
#include <string.h>

#include "gateway/cli/command.h"
#include "gateway/cli/file.h"
#include "gateway/keys/mcp_keys.h"
#include "proto/base/clock.h"
#include "proto/ids.h"
#include "proto/net/cluster_key.h"

/* Works on the state folder that gateways share; needs no gateway that runs. */

static int fetch(
    const struct cli *cli, bool rotate, char key[GW_MCP_KEY_CHARS + 1], struct base_error *err)
{
    uint8_t cluster[16];
    char path[CLI_PATH_MAX], folder[CLI_PATH_MAX];
    struct gw_mcp_keys *keys = NULL;
    int rc = cli_file_path(path, cli->state_dir, "keys/cluster.key", err);
    rc = rc != 0 ? rc : proto_net_cluster_key_read(path, cluster, err);
    rc = rc != 0 ? rc : cli_file_path(folder, cli->state_dir, "mcp", err);
    rc = rc != 0 ? rc : gw_mcp_keys_create(&keys, folder, cluster, err);
    int64_t now_s = (int64_t)(base_clock_real_ns() / BASE_NS_PER_S);
    rc = rc != 0 ? rc : gw_mcp_keys_fetch(keys, cli->pool, rotate, now_s, key, err);
    gw_mcp_keys_destroy(keys);
    return rc;
}

static int mcp_key(const struct cli *cli, bool rotate)
{
    struct base_error err = {0};
    char key[GW_MCP_KEY_CHARS + 1];
    if (fetch(cli, rotate, key, &err) != 0) {
        return cli_fail(cli, CLI_LOCAL,
            "--state-dir says where the keys are; run it as their owner", "%s", err.text);
    }
    int n = cli->json ? printf("{\"pool\":\"%s\",\"apiKey\":\"%s\"}\n", cli->pool, key)
                      : printf("%s\n", key);
    if (rotate) {
        cli_note(cli, "the key before is accepted for %d minutes more", GW_MCP_KEY_OLD_S / 60);
    }
    return n < 0 ? CLI_LOCAL : CLI_OK;
}

static int run(struct cli *cli, const struct cli_command *self, int argc, char *const argv[])
{
    bool rotate = false;
    const struct cli_option own[] = {
        {"pool", 0, CLI_OPTION_TEXT, &cli->pool, "NAME", "the pool (WARREN_POOL, or python)", 0, 0},
        {"rotate", 0, CLI_OPTION_FLAG, &rotate, NULL, "put a new key in its place", 0, 0},
        {0},
    };
    struct cli_args args;
    int rc = cli_command_read(cli, self, own, argc, argv, &args);
    if (rc != CLI_GO_ON) {
        return rc;
    }
    if (args.n != 1 || strcmp(args.v[0], "mcp-key") != 0) {
        return cli_command_wrong(cli, self, "what to do is missing: mcp-key");
    }
    if (!proto_pool_name_valid(cli->pool, strlen(cli->pool))) {
        return cli_command_wrong(cli, self, "'%.60s' is no name of a pool", cli->pool);
    }
    return mcp_key(cli, rotate);
}

const struct cli_command cli_cmd_pool = {
    .name = "pool",
    .summary = "the key of a pool's MCP endpoint",
    .usage = "pool mcp-key [--pool NAME] [--rotate]",
    .text =
        "Prints the key that MCP clients send as x-ms-apikey to /pools/NAME/mcp. It is made the\n"
        "first time, and kept in STATE/mcp as a salted hash and sealed under the cluster key:\n"
        "that file alone opens nothing. Gateways see a new key at once; the one before it is\n"
        "accepted for 5 minutes more. The pool file must say\n"
        "\"mcpServerSettings\": {\"isMcpServerEnabled\": true}.\n",
    .examples = "  warren pool mcp-key --pool python\n"
                "  warren pool mcp-key --pool python --rotate\n",
    .run = run,
};
