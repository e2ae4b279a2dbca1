#include <curl/curl.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <zmq.h>

#include "gateway/cli/api.h"
#include "gateway/cli/command.h"

static int run(struct cli *cli, const struct cli_command *self, int argc, char *const argv[])
{
    const struct cli_option own[] = {{0}};
    struct cli_args args;
    int rc = cli_command_read(cli, self, own, argc, argv, &args);
    if (rc != CLI_GO_ON) {
        return rc;
    }
    if (args.n > 0) {
        return cli_command_wrong(cli, self, "unexpected argument '%.60s'", args.v[0]);
    }
    int major, minor, patch;
    zmq_version(&major, &minor, &patch);
    if (cli->json) {
        (void)printf(
            "{\"version\":\"%s\",\"apiVersion\":\"%s\"}\n", WARREN_VERSION, CLI_API_VERSION);
        return CLI_OK;
    }
    (void)printf("warren %s (api-version %s)\n%s\nlibzmq %d.%d.%d, jansson %s\n%s\n",
        WARREN_VERSION, CLI_API_VERSION, curl_version(), major, minor, patch, jansson_version_str(),
        OpenSSL_version(OPENSSL_VERSION));
    return CLI_OK;
}

const struct cli_command cli_cmd_version = {
    .name = "version",
    .summary = "the version of this program",
    .usage = "version [--json]",
    .text = "Prints the version, the api-version of requests and the versions of the libraries.\n",
    .examples = "  warren version --json\n",
    .run = run,
};
