#pragma once
#include <stddef.h>
#include <sys/types.h>

#include "proto/base/err.h"

/* Files of the state folder. Errors carry -errno and a text with the path. */

enum { CLI_PATH_MAX = 4096 };

/* dir/name into out; BASE_ETOOBIG when it does not fit. */
int cli_file_path(
    char out[CLI_PATH_MAX], const char *dir, const char *name, struct base_error *err);

/* Makes the folder and its parents; only folders that are new get the mode. */
int cli_file_mkdirs(const char *path, mode_t mode, struct base_error *err);

/* The whole file, NUL-terminated; the caller frees *ret. BASE_ETOOBIG past max bytes.
 * path "-" reads standard input. */
int cli_file_read(const char *path, size_t max, char **ret, size_t *ret_n, struct base_error *err);

/* Replaces the file in one step: a reader sees the old or the new content, never a part. */
int cli_file_write(
    const char *path, const void *data, size_t n, mode_t mode, struct base_error *err);
