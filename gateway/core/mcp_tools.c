#include "gateway/core/mcp_tools.h"

#include <string.h>

#include "gateway/core/json.h"
#include "proto/base/container.h"
#include "proto/limits.h"

#define ENVIRONMENT                                                                                \
    "\"environmentId\":{\"type\":\"string\",\"minLength\":4,\"maxLength\":128,\"description\":"    \
    "\"Which environment: the id from launchShell, or an identifier of your own. Variables and "   \
    "files in /mnt/data stay between calls until it has been idle for the pool's cooldown.\"}"

#define RESTARTED                                                                                  \
    "\"environmentRestarted\":{\"type\":\"boolean\",\"description\":\"The environment had ended "  \
    "and "                                                                                         \
    "was started anew: earlier variables and files are gone.\"}"

#define OUTPUTS                                                                                    \
    "\"stdout\":{\"type\":\"string\"},\"stderr\":{\"type\":\"string\"},"                           \
    "\"status\":{\"type\":\"string\",\"enum\":[\"Succeeded\",\"Failed\",\"Canceled\"]},"           \
    "\"truncated\":{\"type\":\"boolean\",\"description\":\"More was written to stdout or stderr "  \
    "than is kept.\"},\"imagesDropped\":{\"type\":\"integer\",\"description\":\"How many images "  \
    "the answer had no room for.\"}," RESTARTED ","                                                \
    "\"executionTimeInMilliseconds\":{\"type\":\"integer\"},\"kernelRestarted\":{\"type\":"        \
    "\"boolean\",\"description\":\"The interpreter had to be restarted: variables are gone, "      \
    "files "                                                                                       \
    "are not.\"}"

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
    "\"maxItems\":256,\"description\":\"A program and its arguments, without a shell.\"}},"
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

#define PATH(what) "\"path\":{\"type\":\"string\",\"description\":\"" what ", within /mnt/data.\"}"
#define FILE_OUTPUTS                                                                               \
    "\"path\":{\"type\":\"string\"},\"sizeInBytes\":{\"type\":\"integer\"},"                       \
    "\"mimeType\":{\"type\":\"string\"},\"uri\":{\"type\":\"string\"}"

static const char more_tools[] =
    ",{\"name\":\"runNodeCodeInRemoteEnvironment\",\"title\":\"Run JavaScript code\","
    "\"description\":\"Runs JavaScript in the Node.js of an environment and returns its output and "
    "the value of the last expression.\",\"inputSchema\":{\"type\":"
    "\"object\",\"properties\":{" ENVIRONMENT ",\"nodeCode\":{\"type\":\"string\"}},"
    "\"required\":[\"environmentId\",\"nodeCode\"]},"
    "\"outputSchema\":{\"type\":\"object\",\"properties\":{" OUTPUTS
    ",\"executionResult\":{}},\"required\":[\"stdout\",\"stderr\",\"status\"]},"
    "\"annotations\":{\"readOnlyHint\":false,\"destructiveHint\":true,\"openWorldHint\":true}},"

    "{\"name\":\"uploadFile\",\"title\":\"Write a file\",\"description\":\"Writes a file of an "
    "environment; one that is there is replaced. Give either text or blob.\",\"inputSchema\":{"
    "\"type\":\"object\",\"properties\":{" ENVIRONMENT "," PATH(
        "Where to write it") ",\"text\":{\"type\":\"string\",\"description\":\"The content as "
                             "text.\"},\"blob\":{\"type\":"
                             "\"string\",\"description\":\"The content in "
                             "base64.\"}},\"required\":[\"environmentId\","
                             "\"path\"]},\"outputSchema\":{\"type\":\"object\",\"properties\":"
                             "{" FILE_OUTPUTS "," RESTARTED
                             "},\"required\":[\"path\",\"sizeInBytes\","
                             "\"mimeType\",\"uri\"]},\"annotations\":{"
                             "\"readOnlyHint\":false,\"destructiveHint\":true,\"idempotentHint\":"
                             "true,"
                             "\"openWorldHint\":false}},"

                             "{\"name\":\"downloadFile\",\"title\":\"Read a "
                             "file\",\"description\":\"Returns a file of an "
                             "environment, as an image or as an embedded "
                             "resource.\",\"inputSchema\":{\"type\":\"object\","
                             "\"properties\":{" ENVIRONMENT "," PATH(
                                 "Which file") "},\"required\":[\"environmentId\",\"path\"]},"
                                               "\"outputSchema\":{\"type\":\"object\","
                                               "\"properties\":{" FILE_OUTPUTS
                                               "},\"required\":[\"path\",\"sizeInBytes\","
                                               "\"mimeType\",\"uri\"]"
                                               "},\"annotations\":{\"readOnlyHint\":true,"
                                               "\"openWorldHint\":false}},"

                                               "{\"name\":\"listFiles\",\"title\":\"List "
                                               "files\",\"description\":\"Lists a folder of an "
                                               "environment.\",\"inputSchema\":{\"type\":"
                                               "\"object\",\"properties\":{" ENVIRONMENT "," PATH(
                                                   "Which folder; all of /mnt/data when it is left "
                                                   "out") ",\"recursive\":{\"type\":\"boolean\","
                                                          "\"default\":false}},\"required\":["
                                                          "\"environmentId\"]},"
                                                          "\"outputSchema\":{\"type\":\"object\","
                                                          "\"properties\":{\"files\":{\"type\":"
                                                          "\"array\",\"items\":{"
                                                          "\"type\":\"object\",\"properties\":"
                                                          "{" FILE_OUTPUTS
                                                          ",\"type\":{\"type\":\"string\",\"enum\":"
                                                          "[\"file\",\"directory\"]},"
                                                          "\"lastModifiedAt\":{"
                                                          "\"type\":\"string\"}},\"required\":["
                                                          "\"path\",\"type\"]}},\"truncated\":{"
                                                          "\"type\":\"boolean\"}}"
                                                          ",\"required\":[\"files\",\"truncated\"]}"
                                                          ",\"annotations\":{\"readOnlyHint\":true,"
                                                          "\"openWorldHint\":false}},"

                                                          "{\"name\":\"stopEnvironment\",\"title\":"
                                                          "\"Stop an "
                                                          "environment\",\"description\":\"Ends an "
                                                          "environment at once; its variables and "
                                                          "files are "
                                                          "gone.\",\"inputSchema\":{\"type\":"
                                                          "\"object\","
                                                          "\"properties\":{" ENVIRONMENT
                                                          "},\"required\":[\"environmentId\"]},"
                                                          "\"outputSchema\":{\"type\":"
                                                          "\"object\",\"properties\":{"
                                                          "\"environmentId\":{\"type\":\"string\"},"
                                                          "\"stopped\":{\"type\":"
                                                          "\"boolean\"}},\"required\":["
                                                          "\"environmentId\",\"stopped\"]},"
                                                          "\"annotations\":{"
                                                          "\"readOnlyHint\":false,"
                                                          "\"destructiveHint\":true,"
                                                          "\"idempotentHint\":true,"
                                                          "\"openWorldHint\":false}}";

void gw_mcp_tools_list(struct gw_mcp_out *o, bool extended)
{
    gw_mcp_raw(o, tools);
    gw_mcp_raw(o, extended ? more_tools : "");
}

bool gw_mcp_tool_find(const char *name, bool extended, enum gw_mcp_tool *ret)
{
    static const struct {
        const char *name;
        enum gw_mcp_tool tool;
    } names[] = {{"launchShell", GW_MCP_LAUNCH},
        {"runShellCommandInRemoteEnvironment", GW_MCP_SHELL},
        {"runPythonCodeInRemoteEnvironment", GW_MCP_PYTHON},
        /* of older documents, still in use */
        {"launchShellEnvironment", GW_MCP_LAUNCH}, {"launchPythonEnvironment", GW_MCP_LAUNCH},
        {"runNodeCodeInRemoteEnvironment", GW_MCP_NODE}, {"uploadFile", GW_MCP_UPLOAD},
        {"downloadFile", GW_MCP_DOWNLOAD}, {"listFiles", GW_MCP_LIST},
        {"stopEnvironment", GW_MCP_STOP}};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(names[i].name, name) == 0 && (extended || names[i].tool < GW_MCP_NODE)) {
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
    return n == 0 || n > PROTO_ARGV_MAX ? "Input validation error: 'execCommandAndArgs' must be an "
                                          "array of 1 to 256 strings."
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

static const char *check_path(struct gw_mcp_message *m)
{
    char text[sizeof m->path.text + 16];
    struct gw_json_view v = gw_json_member(m->args, "path");
    bool folder = m->tool == GW_MCP_LIST;
    gw_file_path_init(&m->path);
    if (folder && (v.n == 0 || gw_json_kind(v) == 'n')) {
        return NULL;
    }
    bool good = gw_json_text(v, text, sizeof text) && gw_file_path_add(&m->path, text) &&
                !m->path.absolute && (folder || m->path.text[0] != '\0');
    return good ? NULL
                : "Input validation error: 'path' must be a path within /mnt/data, without '..'.";
}

static const char *check_list(struct gw_mcp_message *m)
{
    char kind = gw_json_kind(gw_json_member(m->args, "recursive"));
    m->recursive = kind == 't';
    return kind == '\0' || strchr("tfn", kind) != NULL
               ? check_path(m)
               : "Input validation error: 'recursive' must be true or false.";
}

static bool given(const struct gw_mcp_message *m, const char *name)
{
    char kind = gw_json_kind(gw_json_member(m->args, name));
    return kind != '\0' && kind != 'n';
}

static const char *check_content(const struct gw_mcp_message *m)
{
    if (given(m, "text") == given(m, "blob")) {
        return "Input validation error: give either 'text' or 'blob'.";
    }
    struct gw_json_view v = gw_json_member(m->args, given(m, "text") ? "text" : "blob");
    return gw_json_kind(v) == '"' ? NULL : "Input validation error: the content must be a string.";
}

const char *gw_mcp_code_name(enum gw_mcp_tool tool)
{
    return tool == GW_MCP_SHELL ? "shellCommand" : tool == GW_MCP_NODE ? "nodeCode" : "pythonCode";
}

static const char *check_code(const struct gw_mcp_message *m)
{
    if (gw_json_kind(gw_json_member(m->args, gw_mcp_code_name(m->tool))) == '"') {
        return NULL;
    }
    return m->tool == GW_MCP_NODE ? "Input validation error: 'nodeCode' must be a string."
                                  : "Input validation error: 'pythonCode' must be a string.";
}

static const char *check_rest(struct gw_mcp_message *m)
{
    const char *wrong = NULL;
    switch (m->tool) {
    case GW_MCP_SHELL:
        return check_shell(m);
    case GW_MCP_PYTHON:
    case GW_MCP_NODE:
        return check_code(m);
    case GW_MCP_UPLOAD:
        wrong = check_content(m);
        return wrong == NULL ? check_path(m) : wrong;
    case GW_MCP_LIST:
        return check_list(m);
    case GW_MCP_DOWNLOAD:
        return check_path(m);
    case GW_MCP_LAUNCH:
    case GW_MCP_STOP:
    case GW_MCP_RESOURCE:
    default:
        return NULL;
    }
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
    return wrong == NULL ? check_rest(m) : wrong;
}
