#pragma once
#include <cyaml/cyaml.h>
#include <stddef.h>

#include "proto/base/err.h"

/* Configuration files: libcyaml with errors that name key and line. */

enum { PROTO_YAML_BYTES_MAX = 1 << 20 };

struct proto_yaml_kind {
    const cyaml_schema_value_t *schema;
    /* What the schema cannot say. 0, or a code with the text of the error. */
    int (*check)(void *data, struct base_error *err);
};

/* Reads and checks. BASE_ETOOBIG, BASE_EINVAL with the line where it is known, or what check()
 * says. *ret: end with proto_yaml_free(). */
int proto_yaml_parse(const struct proto_yaml_kind *kind, const char *yaml, size_t n, void **ret,
    struct base_error *err);
/* The same for a file of at most PROTO_YAML_BYTES_MAX bytes; errors begin with its path. */
int proto_yaml_load(
    const struct proto_yaml_kind *kind, const char *path, void **ret, struct base_error *err);
void proto_yaml_free(const struct proto_yaml_kind *kind, void *data); /* NULL is fine */
