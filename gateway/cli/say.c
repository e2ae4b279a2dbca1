#include "gateway/cli/say.h"

#include <jansson.h>
#include <stdarg.h>

static void say_json(const char *text, const char *hint, enum cli_exit exit_code)
{
    json_t *doc = json_pack(
        "{s:{s:s, s:s*, s:i}}", "error", "message", text, "hint", hint, "exit", (int)exit_code);
    if (doc == NULL) { /* text of the outside that is no UTF-8 */
        (void)fprintf(
            stderr, "{\"error\":{\"message\":\"(unprintable)\",\"exit\":%d}}\n", (int)exit_code);
        return;
    }
    (void)json_dumpf(doc, stderr, JSON_COMPACT);
    (void)fputc('\n', stderr);
    json_decref(doc);
}

int cli_fail(const struct cli *cli, enum cli_exit exit_code, const char *hint, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    (void)fflush(stdout);
    if (cli->json) {
        say_json(text, hint, exit_code);
        return (int)exit_code;
    }
    (void)fprintf(
        stderr, "warren%s%s: %s\n", cli->command[0] == '\0' ? "" : " ", cli->command, text);
    if (hint != NULL) {
        (void)fprintf(stderr, "  hint: %s\n", hint);
    }
    return (int)exit_code;
}

void cli_note(const struct cli *cli, const char *fmt, ...)
{
    if (cli->quiet || cli->json) {
        return;
    }
    va_list ap;
    va_start(ap, fmt);
    (void)vfprintf(stderr, fmt, ap);
    va_end(ap);
    (void)fputc('\n', stderr);
}
