#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "proto/limits.h"

/* Paths of files in a session. Clients write them relative to /mnt/data, with that prefix, or with
 * a slash in front; all mean the same. */
struct gw_file_path {
    char text[PROTO_PATH_BYTES_MAX + 1]; /* relative to /mnt/data, "" is the folder itself */
    bool absolute; /* began with '/' and lies elsewhere: text is what follows that '/' */
};

/* Starts with the root. */
void gw_file_path_init(struct gw_file_path *p);

/* Adds a folder or a name. False: "..", a control character, a backslash, or too long. */
bool gw_file_path_add(struct gw_file_path *p, const char *part);

/* Last component. */
const char *gw_file_path_name(const char *path);

/* "text/plain; charset=utf-8" and such, by the name's extension. */
const char *gw_file_type(const char *name);
