#pragma once
#include "proto/base/err.h"
#include "proto/limits.h"

/* One end of `warren cp`: a file here, or a file of a session written as ID:/path. Pure. */
enum cli_place_kind {
    CLI_PLACE_LOCAL,
    CLI_PLACE_STREAM, /* "-": standard input or output */
    CLI_PLACE_SESSION,
};

struct cli_place {
    enum cli_place_kind kind;
    const char *local;                         /* kind LOCAL; borrowed from the text */
    char identifier[PROTO_IDENTIFIER_MAX + 1]; /* kind SESSION, as the next two */
    char directory[PROTO_PATH_BYTES_MAX];      /* relative to /mnt/data, "" for the root itself */
    char name[PROTO_PATH_BYTES_MAX];           /* "" when the text ends with "/": a directory */
};

/* Local: begins with "/", "./" or "../", is ".", ".." or "-", or has no ":".
 * Anything else is cut at its LAST colon (identifiers may contain colons, file names of sessions
 * may not). Paths are relative to /mnt/data; "/mnt/data/x", "/x" and "x" name the same file.
 * With id set, ":path" means that session. BASE_EINVAL with a text for people. */
int cli_place_parse(
    const char *text, const char *id, struct cli_place *ret, struct base_error *err);

/* 0, or BASE_EINVAL with what is wrong with it. */
int cli_place_identifier(const char *identifier, struct base_error *err);
