#include "gateway/cli/place.h"

#include <string.h>

#include "proto/base/text.h"
#include "proto/ids.h"

static bool is_local(const char *text)
{
    return text[0] == '/' || strncmp(text, "./", 2) == 0 || strncmp(text, "../", 3) == 0 ||
           strchr(text, ':') == NULL;
}

/* The part below /mnt/data, without leading slashes. */
static const char *below_root(const char *path)
{
    static const char root[] = "/mnt/data";
    size_t n = sizeof root - 1;
    if (strncmp(path, root, n) == 0 && (path[n] == '/' || path[n] == '\0')) {
        path += n;
    }
    return path + strspn(path, "/");
}

static bool has_bad_part(const char *path)
{
    while (*path != '\0') {
        size_t n = strcspn(path, "/");
        if (n == 0 || (n == 1 && path[0] == '.') || (n == 2 && path[0] == '.' && path[1] == '.')) {
            return true;
        }
        path += n;
        path += *path == '/';
    }
    return false;
}

int cli_place_identifier(const char *identifier, struct base_error *err)
{
    struct proto_identifier id;
    size_t n = strnlen(identifier, PROTO_IDENTIFIER_MAX + 1);
    switch (proto_identifier_set(&id, identifier, n)) {
    case PROTO_IDENTIFIER_OK:
        return 0;
    case PROTO_IDENTIFIER_LENGTH:
        return base_fail(err, BASE_EINVAL, "an identifier has %d to %d characters, '%.40s' has not",
            PROTO_IDENTIFIER_MIN, PROTO_IDENTIFIER_MAX, identifier);
    case PROTO_IDENTIFIER_CHARACTER:
    default:
        return base_fail(err, BASE_EINVAL,
            "an identifier has no space, backslash or letter beyond ASCII, '%.40s' has",
            identifier);
    }
}

static int parse_path(const char *path, struct cli_place *ret, struct base_error *err)
{
    path = below_root(path);
    if (strnlen(path, PROTO_PATH_BYTES_MAX) == PROTO_PATH_BYTES_MAX) {
        return base_fail(
            err, BASE_EINVAL, "path is longer than %d bytes", PROTO_PATH_BYTES_MAX - 1);
    }
    if (has_bad_part(path)) {
        return base_fail(err, BASE_EINVAL, "path '%.80s' has an empty part, '.' or '..'", path);
    }
    const char *slash = strrchr(path, '/');
    size_t directory_len = slash == NULL ? 0 : (size_t)(slash - path);
    memcpy(ret->directory, path, directory_len);
    ret->directory[directory_len] = '\0';
    (void)base_text_copy(ret->name, sizeof ret->name, slash == NULL ? path : slash + 1);
    return 0;
}

int cli_place_parse(const char *text, const char *id, struct cli_place *ret, struct base_error *err)
{
    *ret = (struct cli_place){0};
    if (strcmp(text, "-") == 0) {
        ret->kind = CLI_PLACE_STREAM;
        return 0;
    }
    if (is_local(text)) {
        if (text[0] == '\0') {
            return base_fail(err, BASE_EINVAL, "a file name is empty");
        }
        ret->kind = CLI_PLACE_LOCAL;
        ret->local = text;
        return 0;
    }
    ret->kind = CLI_PLACE_SESSION;
    const char *colon = strrchr(text, ':');
    size_t n = (size_t)(colon - text);
    if (n == 0) {
        if (id == NULL) {
            return base_fail(err, BASE_EINVAL, "'%.80s' names no session", text);
        }
        n = strnlen(id, PROTO_IDENTIFIER_MAX + 1);
    } else {
        id = text;
    }
    if (n > PROTO_IDENTIFIER_MAX) {
        return base_fail(
            err, BASE_EINVAL, "the identifier is longer than %d characters", PROTO_IDENTIFIER_MAX);
    }
    memcpy(ret->identifier, id, n);
    ret->identifier[n] = '\0';
    int rc = cli_place_identifier(ret->identifier, err);
    return rc != 0 ? rc : parse_path(colon + 1, ret, err);
}
