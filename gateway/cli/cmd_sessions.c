#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "gateway/cli/api.h"
#include "gateway/cli/command.h"
#include "gateway/cli/place.h"

enum { PAGES_MAX = 1000 };

static const char *text_of(const json_t *doc, const char *key)
{
    const char *text = json_string_value(json_object_get(doc, key));
    return text == NULL ? "-" : text;
}

static json_t *parse(const struct cli *cli, const struct cli_answer *a, int *ret_exit)
{
    json_error_t e;
    json_t *doc = json_loadb((const char *)base_buf_data(&a->body), base_buf_size(&a->body), 0, &e);
    if (!json_is_object(doc)) {
        json_decref(doc);
        *ret_exit = cli_fail(cli, CLI_SERVER, NULL, "the answer is no JSON object: %.120s", e.text);
        return NULL;
    }
    return doc;
}

static void print_session(const json_t *s)
{
    (void)printf("%-40s %-26s %-26s %s\n", text_of(s, "identifier"), text_of(s, "createdAt"),
        text_of(s, "lastAccessedAt"), text_of(s, "expireAt"));
}

/* One page, appended to `all`. *ret_more: there is another one. */
static int list_page(struct cli_api *api, json_t *all, bool *ret_more)
{
    char skip[24];
    (void)snprintf(skip, sizeof skip, "%zu", json_array_size(all));
    struct cli_request request = {
        .method = "GET", .path = "/listSessions", .query = {{"skip", skip}}, .timeout_s = 60};
    struct cli_answer answer;
    cli_api_call(api, &request, &answer);
    int rc = cli_api_check(api, &answer);
    json_t *doc = rc != 0 ? NULL : parse(api->cli, &answer, &rc);
    json_t *page = json_object_get(doc, "sessions");
    *ret_more = json_is_string(json_object_get(doc, "nextLink")) && json_array_size(page) > 0;
    (void)json_array_extend(all, page);
    json_decref(doc);
    cli_answer_deinit(&answer);
    return rc;
}

static int list(struct cli_api *api)
{
    json_t *all = json_array();
    bool more = true;
    int rc = CLI_OK;
    for (int page = 0; rc == 0 && more && page < PAGES_MAX; page++) {
        rc = list_page(api, all, &more);
    }
    if (rc == 0 && api->cli->json) {
        (void)json_dumpf(all, stdout, JSON_COMPACT);
        (void)puts("");
    } else if (rc == 0) {
        size_t i;
        json_t *s;
        if (json_array_size(all) > 0) {
            (void)printf(
                "%-40s %-26s %-26s %s\n", "IDENTIFIER", "CREATED", "LAST ACCESS", "EXPIRES");
        }
        json_array_foreach(all, i, s)
        {
            print_session(s);
        }
        cli_note(api->cli, "%zu sessions in pool %s", json_array_size(all), api->cli->pool);
    }
    json_decref(all);
    return rc;
}

static int get(struct cli_api *api, const char *id)
{
    struct cli_request request = {
        .method = "GET", .path = "/session", .query = {{"identifier", id}}, .timeout_s = 60};
    struct cli_answer answer;
    cli_api_call(api, &request, &answer);
    int rc = cli_api_check(api, &answer);
    json_t *doc = rc != 0 ? NULL : parse(api->cli, &answer, &rc);
    if (doc != NULL && api->cli->json) {
        (void)json_dumpf(doc, stdout, JSON_COMPACT);
        (void)puts("");
    } else if (doc != NULL) {
        const char *key;
        json_t *value;
        json_object_foreach(doc, key, value)
        {
            (void)printf("%-16s ", key);
            if (json_is_string(value)) {
                (void)puts(json_string_value(value));
            } else {
                (void)json_dumpf(value, stdout, JSON_ENCODE_ANY | JSON_COMPACT);
                (void)puts("");
            }
        }
    }
    json_decref(doc);
    cli_answer_deinit(&answer);
    return rc;
}

static int stop(struct cli_api *api, const char *id)
{
    struct cli_request request = {
        .method = "DELETE", .path = "/session", .query = {{"identifier", id}}, .timeout_s = 60};
    struct cli_answer answer;
    cli_api_call(api, &request, &answer);
    int rc = cli_api_check(api, &answer);
    cli_answer_deinit(&answer);
    if (rc == 0) {
        if (api->cli->json) {
            (void)puts("{\"stopped\":true}");
        }
        cli_note(api->cli, "session %s stopped; its microVM and files are gone", id);
    }
    return rc;
}

static int run(struct cli *cli, const struct cli_command *self, int argc, char *const argv[])
{
    const struct cli_option own[] = {{0}};
    struct cli_args args;
    int rc = cli_command_read(cli, self, own, argc, argv, &args);
    if (rc != CLI_GO_ON) {
        return rc;
    }
    const char *verb = args.n > 0 ? args.v[0] : "list";
    bool with_id = strcmp(verb, "get") == 0 || strcmp(verb, "stop") == 0;
    if (!with_id && strcmp(verb, "list") != 0) {
        return cli_command_wrong(cli, self, "sessions cannot '%.40s'", verb);
    }
    struct base_error err = {0};
    if (args.n > (with_id ? 2U : 1U) || (with_id && args.n != 2)) {
        return cli_command_wrong(
            cli, self, with_id ? "%s needs one identifier" : "%s takes no argument", verb);
    }
    if (with_id && cli_place_identifier(args.v[1], &err) != 0) {
        return cli_command_wrong(cli, self, "%s", err.text);
    }
    struct cli_api api;
    rc = cli_api_open(cli, &api);
    if (rc != 0) {
        return rc;
    }
    if (!with_id) {
        rc = list(&api);
    } else {
        rc = verb[0] == 'g' ? get(&api, args.v[1]) : stop(&api, args.v[1]);
    }
    cli_api_close(&api);
    return rc;
}

const struct cli_command cli_cmd_sessions = {
    .name = "sessions",
    .summary = "list, look at and stop sessions of a pool",
    .usage = "sessions [list | get ID | stop ID]",
    .text = "list      all sessions of the pool (needs a token with role reader or contributor)\n"
            "get ID    when it was made, last used and will end; does not make a session\n"
            "stop ID   ends it now: its microVM, variables and files are gone\n",
    .examples = "  warren sessions list --pool python\n"
                "  warren sessions get demo-0001 --json\n"
                "  warren sessions stop demo-0001\n",
    .connects = true,
    .run = run,
};
