#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "gateway/cli/command.h"
#include "gateway/cli/keys.h"

static int show(const struct cli *cli)
{
    struct base_error err = {0};
    json_t *doc = NULL;
    if (cli_keys_show(cli->state_dir, &doc, &err) != 0) {
        return cli_fail(cli, CLI_LOCAL, "`warren keys init` makes them; --state-dir says where",
            "%s", err.text);
    }
    if (cli->json) {
        (void)json_dumpf(doc, stdout, JSON_COMPACT);
        (void)puts("");
    } else {
        json_t *cert = json_object_get(doc, "certificate");
        (void)printf("state folder   %s\nworker  %s   public %s\ngateway %s   public %s\n",
            cli->state_dir, CLI_WORKER_NAME,
            json_string_value(json_object_get(doc, "workerPublicKey")), CLI_GATEWAY_NAME,
            json_string_value(json_object_get(doc, "gatewayPublicKey")));
        (void)printf("certificate    %s, %d days left%s\n",
            json_string_value(json_object_get(cert, "file")),
            (int)json_integer_value(json_object_get(cert, "daysLeft")),
            json_is_true(json_object_get(cert, "selfSigned")) ? " (made by warren)" : "");
        size_t i;
        json_t *kid;
        json_array_foreach(json_object_get(doc, "tokenKeyIds"), i, kid)
        {
            (void)printf("token key      %s%s\n", json_string_value(kid),
                i == 0 ? " (signs)" : " (still accepted)");
        }
    }
    json_decref(doc);
    return CLI_OK;
}

static int init(const struct cli *cli)
{
    struct base_error err = {0};
    bool made = false;
    if (cli_keys_init(cli->state_dir, &made, &err) != 0) {
        return cli_fail(cli, CLI_LOCAL,
            err.code == -13 ? "use sudo, or another folder with --state-dir" : NULL, "%s",
            err.text);
    }
    if (cli->json) {
        (void)printf("{\"made\":%s}\n", made ? "true" : "false");
    }
    cli_note(cli, made ? "keys made in %s" : "all keys are there in %s", cli->state_dir);
    return CLI_OK;
}

static int rotate(const struct cli *cli, bool revoke)
{
    struct base_error err = {0};
    if (cli_keys_rotate(cli->state_dir, revoke, &err) != 0) {
        return cli_fail(cli, CLI_LOCAL, "`warren keys init` makes the first ones", "%s", err.text);
    }
    if (cli->json) {
        (void)printf("{\"rotated\":true,\"revoked\":%s}\n", revoke ? "true" : "false");
    }
    cli_note(cli, "new signing key; tokens issued before are %s",
        revoke ? "void" : "accepted until they expire");
    return CLI_OK;
}

static int run(struct cli *cli, const struct cli_command *self, int argc, char *const argv[])
{
    bool revoke = false;
    const struct cli_option own[] = {
        {"revoke", 0, CLI_OPTION_FLAG, &revoke, NULL,
            "with rotate-token: void every token issued before", 0, 0},
        {0},
    };
    struct cli_args args;
    int rc = cli_command_read(cli, self, own, argc, argv, &args);
    if (rc != CLI_GO_ON) {
        return rc;
    }
    if (args.n != 1) {
        return cli_command_wrong(cli, self, "one of init, show or rotate-token is needed");
    }
    if (strcmp(args.v[0], "init") == 0) {
        return init(cli);
    }
    if (strcmp(args.v[0], "show") == 0) {
        return show(cli);
    }
    if (strcmp(args.v[0], "rotate-token") == 0) {
        return rotate(cli, revoke);
    }
    return cli_command_wrong(cli, self, "keys cannot '%.40s'", args.v[0]);
}

const struct cli_command cli_cmd_keys = {
    .name = "keys",
    .summary = "make, show and rotate the keys of this state folder",
    .usage = "keys init|show|rotate-token [--revoke]",
    .text = "init          makes what is missing: CURVE keys of worker and gateway, the cluster "
            "key, the\n"
            "              key that signs tokens, a self-signed certificate (renewed by itself 30 "
            "days\n"
            "              before it expires; put your own into STATE/tls and it is left alone)\n"
            "show          names the public keys; never prints a secret\n"
            "rotate-token  signs with a new key from now on\n",
    .examples = "  warren keys init --state-dir /etc/warren\n"
                "  warren keys show --json\n"
                "  warren keys rotate-token --revoke\n",
    .run = run,
};
