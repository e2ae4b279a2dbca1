#include "gateway/core/mcp_tools.h"

#include <string.h>

#include "gateway/core/json.h"
#include "proto/base/container.h"
#include "proto/limits.h"

#define ENVIRONMENT                                                                                \
    "\"environmentId\":{\"type\":\"string\",\"minLength\":4,\"maxLength\":128,\"description\":"    \
    "\"Which environment: the id from launchShell, or an identifier of your own. Variables and "   \
    "files in /mnt/data stay between calls until it has been idle for the pool's cooldown.\"}"

#define OUTPUTS                                                                                    \
    "\"stdout\":{\"type\":\"string\"},\"stderr\":{\"type\":\"string\"},"                           \
    "\"status\":{\"type\":\"string\",\"enum\":[\"Succeeded\",\"Failed\",\"Canceled\"]},"           \
    "\"executionTimeInMilliseconds\":{\"type\":\"integer\"}"

static const char tools[] =
    "[{\"name\":\"launchShell\",\"title\":\"Launch an environment\","
    "\"description\":\"Names a new environment, a microVM of its own. It starts with the first "
    "command.\",\"inputSchema\":{\"type\":\"object\",\"properties\":{}},"
    "\"outputSchema\":{\"type\":\"object\",\"properties\":{\"environmentId\":{\"type\":"
    "\"string\"}},\"required\":[\"environmentId\"]},"
    "\"annotations\":{\"readOnlyHint\":false,\"destructiveHint\":false,\"openWorldHint\":false}},"

    "{\"name\":\"runShellCommandInRemoteEnvironment\",\"title\":\"Run a shell command\","
    "\"description\":\"Runs a command in an environment and returns its output. Give either "
    "shellCommand or "
    "execCommandAndArgs.\",\"inputSchema\":{\"type\":\"object\",\"properties\":{" ENVIRONMENT
    ",\"shellCommand\":{\"type\":\"string\",\"description\":\"A line for the shell.\"},"
    "\"execCommandAndArgs\":{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"minItems\":1,"
    "\"description\":\"A program and its arguments, without a shell.\"}},"
    "\"required\":[\"environmentId\"]},"
    "\"outputSchema\":{\"type\":\"object\",\"properties\":{" OUTPUTS
    ",\"exitCode\":{\"type\":\"integer\"}},\"required\":[\"stdout\",\"stderr\",\"exitCode\","
    "\"status\"]},\"annotations\":{\"readOnlyHint\":false,\"destructiveHint\":true,"
    "\"openWorldHint\":true}},"

    "{\"name\":\"runPythonCodeInRemoteEnvironment\",\"title\":\"Run Python code\","
    "\"description\":\"Runs Python code in an environment and returns its output, the value of the "
    "last expression and a plot, if there is one, as an image.\",\"inputSchema\":{\"type\":"
    "\"object\",\"properties\":{" ENVIRONMENT ",\"pythonCode\":{\"type\":\"string\"}},"
    "\"required\":[\"environmentId\",\"pythonCode\"]},"
    "\"outputSchema\":{\"type\":\"object\",\"properties\":{" OUTPUTS
    ",\"executionResult\":{}},\"required\":[\"stdout\",\"stderr\",\"status\"]},"
    "\"annotations\":{\"readOnlyHint\":false,\"destructiveHint\":true,\"openWorldHint\":true}}";

const char *gw_mcp_tools_json(void)
{
    return tools;
}

bool gw_mcp_tool_find(const char *name, enum gw_mcp_tool *ret)
{
    static const struct {
        const char *name;
        enum gw_mcp_tool tool;
    } names[] = {{"launchShell", GW_MCP_LAUNCH},
        {"runShellCommandInRemoteEnvironment", GW_MCP_SHELL},
        {"runPythonCodeInRemoteEnvironment", GW_MCP_PYTHON},
        /* of older documents, still in use */
        {"launchShellEnvironment", GW_MCP_LAUNCH}, {"launchPythonEnvironment", GW_MCP_LAUNCH}};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(names[i].name, name) == 0) {
            *ret = names[i].tool;
            return true;
        }
    }
    return false;
}

static const char *check_environment(struct gw_mcp_message *m)
{
    struct gw_json_view v = gw_json_member(m->args, "environmentId");
    if (v.n == 0) {
        return "Input validation error: 'environmentId' is missing.";
    }
    struct proto_identifier id;
    if (!gw_json_text(v, m->environment, sizeof m->environment) ||
        proto_identifier_set(&id, m->environment, strlen(m->environment)) != PROTO_IDENTIFIER_OK) {
        return "Input validation error: 'environmentId' is not a valid environment. It is a string "
               "of 4 to 128 characters; launchShell makes one.";
    }
    return NULL;
}

static const char *check_argv(struct gw_json_view v)
{
    const char *at = NULL;
    struct gw_json_view s;
    int n = 0;
    while (gw_json_next(v, &at, &s)) {
        if (gw_json_kind(s) != '"') {
            n = 0;
            break;
        }
        n++;
    }
    return n == 0 || n > PROTO_ARGV_MAX
               ? "Input validation error: 'execCommandAndArgs' must be an array of strings."
               : NULL;
}

static const char *check_shell(struct gw_mcp_message *m)
{
    struct gw_json_view line = gw_json_member(m->args, "shellCommand");
    struct gw_json_view argv = gw_json_member(m->args, "execCommandAndArgs");
    line.n = gw_json_kind(line) == 'n' ? 0 : line.n; /* null: some clients fill in every property */
    argv.n = gw_json_kind(argv) == 'n' ? 0 : argv.n;
    if ((line.n == 0) == (argv.n == 0)) {
        return "Input validation error: give either 'shellCommand' or 'execCommandAndArgs'.";
    }
    if (argv.n > 0) {
        return check_argv(argv);
    }
    return gw_json_kind(line) == '"' ? NULL
                                     : "Input validation error: 'shellCommand' must be a string.";
}

const char *gw_mcp_tool_check(struct gw_mcp_message *m)
{
    char kind = gw_json_kind(m->args);
    if (kind != '{' && kind != 'n' && kind != '\0') {
        return "Input validation error: 'arguments' must be an object.";
    }
    if (m->tool == GW_MCP_LAUNCH) {
        return NULL;
    }
    const char *wrong = check_environment(m);
    if (wrong != NULL) {
        return wrong;
    }
    if (m->tool == GW_MCP_SHELL) {
        return check_shell(m);
    }
    return gw_json_kind(gw_json_member(m->args, "pythonCode")) == '"'
               ? NULL
               : "Input validation error: 'pythonCode' must be a string.";
}
