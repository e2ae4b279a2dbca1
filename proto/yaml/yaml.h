#pragma once
#include <cyaml/cyaml.h>
#include <stddef.h>

#include "proto/base/err.h"

/* Configuration files: libcyaml with errors that name key and line. */

enum { PROTO_YAML_BYTES_MAX = 1 << 20 };

/* BASE_ETOOBIG, or BASE_EINVAL with the line where it is known. *ret: end with proto_yaml_free().
 */
int proto_yaml_parse(const char *yaml, size_t n, const cyaml_schema_value_t *schema, void **ret,
    struct base_error *err);
void proto_yaml_free(const cyaml_schema_value_t *schema, void *data); /* NULL is fine */

/* A whole file of at most PROTO_YAML_BYTES_MAX + 1 bytes; the caller frees. */
int proto_yaml_read(const char *path, char **ret_text, size_t *ret_n, struct base_error *err);
