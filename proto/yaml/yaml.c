#include "proto/yaml/yaml.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/cleanup.h"

/* The library says what is wrong only in its log: the first error and the first place are kept. */
struct report {
    char what[120];
    unsigned long line; /* 0: not known */
};

static void on_log(cyaml_log_t level, void *ctx, const char *fmt, va_list ap)
    __attribute__((format(printf, 3, 0)));

static void on_log(cyaml_log_t level, void *ctx, const char *fmt, va_list ap)
{
    struct report *r = ctx;
    char line[200];
    if (level < CYAML_LOG_ERROR) {
        return;
    }
    (void)vsnprintf(line, sizeof line, fmt, ap);
    line[strcspn(line, "\n")] = '\0';
    const char *text = strncmp(line, "Load: ", 6) == 0 ? line + 6 : line;
    const char *place = strstr(text, "(line: ");
    if (place != NULL && r->line == 0) {
        r->line = strtoul(place + 7, NULL, 10);
    } else if (r->what[0] == '\0') {
        (void)snprintf(r->what, sizeof r->what, "%.110s", text);
    }
}

/* The library places an unknown key at the value before it: look for the key itself. */
static unsigned line_of_key(const char *yaml, size_t n, const char *key)
{
    unsigned line = 1;
    size_t len = strlen(key);
    for (size_t i = 0; i < n; line++) {
        size_t at = i;
        while (at < n && (yaml[at] == ' ' || yaml[at] == '"' || yaml[at] == '\'')) {
            at++;
        }
        if (n - at > len && memcmp(yaml + at, key, len) == 0 &&
            strchr(": \"'", yaml[at + len]) != NULL) {
            return line;
        }
        const char *end = memchr(yaml + i, '\n', n - i);
        i = end == NULL ? n : (size_t)(end - yaml) + 1;
    }
    return 0;
}

static int refuse(
    const struct report *r, cyaml_err_t rc, const char *yaml, size_t n, struct base_error *err)
{
    static const char unknown[] = "Unexpected key: ";
    if (rc == CYAML_ERR_INVALID_KEY && strncmp(r->what, unknown, sizeof unknown - 1) == 0) {
        const char *key = r->what + sizeof unknown - 1;
        return base_fail(
            err, BASE_EINVAL, "line %u: unknown key '%s'", line_of_key(yaml, n, key), key);
    }
    const char *what = r->what[0] != '\0' ? r->what : cyaml_strerror(rc);
    return r->line != 0 ? base_fail(err, BASE_EINVAL, "line %lu: %s", r->line, what)
                        : base_fail(err, BASE_EINVAL, "%s", what);
}

static void schema_config(cyaml_config_t *cfg, struct report *r)
{
    *cfg = (cyaml_config_t){.log_fn = on_log,
        .log_ctx = r,
        .mem_fn = cyaml_mem,
        .log_level = CYAML_LOG_ERROR,
        .flags = CYAML_CFG_NO_ALIAS};
}

int proto_yaml_parse(const struct proto_yaml_kind *kind, const char *yaml, size_t n, void **ret,
    struct base_error *err)
{
    struct report r = {{0}, 0};
    cyaml_config_t cfg;
    schema_config(&cfg, &r);
    cyaml_data_t *data = NULL;
    if (n > PROTO_YAML_BYTES_MAX) {
        return base_fail(err, BASE_ETOOBIG, "a configuration file has at most 1 MiB");
    }
    cyaml_err_t rc = cyaml_load_data((const uint8_t *)yaml, n, &cfg, kind->schema, &data, NULL);
    if (rc != CYAML_OK) {
        return refuse(&r, rc, yaml, n, err);
    }
    if (data == NULL) {
        return base_fail(err, BASE_EINVAL, "the file is empty");
    }
    int bad = kind->check(data, err);
    if (bad != 0) {
        proto_yaml_free(kind, data);
        return bad;
    }
    *ret = data;
    return 0;
}

void proto_yaml_free(const struct proto_yaml_kind *kind, void *data)
{
    struct report r = {{0}, 0};
    cyaml_config_t cfg;
    schema_config(&cfg, &r);
    if (data != NULL) {
        (void)cyaml_free(&cfg, kind->schema, data, 0);
    }
}

/* At most PROTO_YAML_BYTES_MAX + 1 bytes; the caller frees. */
static int read_text(const char *path, char **ret_text, size_t *ret_n, struct base_error *err)
{
    CLEANUP(base_fclosep) FILE *f = fopen(path, "re");
    if (f == NULL) {
        return base_fail(err, -errno, "open '%s': %s", path, strerror(errno));
    }
    CLEANUP(base_freep) char *text = malloc(PROTO_YAML_BYTES_MAX + 1);
    if (text == NULL) {
        return base_fail(err, BASE_ENOMEM, "out of memory");
    }
    size_t n = fread(text, 1, PROTO_YAML_BYTES_MAX + 1, f);
    if (ferror(f)) {
        return base_fail(err, BASE_EIO, "read '%s'", path);
    }
    *ret_text = TAKE_PTR(text);
    *ret_n = n;
    return 0;
}

int proto_yaml_load(
    const struct proto_yaml_kind *kind, const char *path, void **ret, struct base_error *err)
{
    CLEANUP(base_freep) char *text = NULL;
    size_t n = 0;
    int rc = read_text(path, &text, &n, err);
    if (rc != 0) {
        return rc;
    }
    struct base_error why;
    rc = proto_yaml_parse(kind, text, n, ret, &why);
    return rc == 0 ? 0 : base_fail(err, rc, "%s: %.160s", path, why.text);
}
