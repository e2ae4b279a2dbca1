#include "proto/pool/pool.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "proto/base/cleanup.h"
#include "proto/base/container.h"
#include "proto/base/text.h"

struct parse {
    struct proto_pool *f;
    struct base_error *err;
    bool cooldown_set, alive_set;
};

/* One property that an object may have. A NULL function: known, but without effect here. */
struct property {
    const char *name;
    int (*take)(struct parse *p, const char *path, const json_t *v);
};

static void json_freep(json_t **j)
{
    json_decref(*j);
}

static int wrong(struct parse *p, const char *path, const char *why)
{
    return base_fail(p->err, BASE_EINVAL, "%s: %s", path, why);
}

static int warn(struct parse *p, const char *path, const char *what)
{
    int rc = base_buf_printf(&p->f->warnings, "%s: %s\n", path, what);
    return rc == 0 ? 0 : base_fail(p->err, rc, "out of memory");
}

enum { PATH_MAX_BYTES = 160 };

static void join(char out[PATH_MAX_BYTES], const char *path, const char *name)
{
    (void)snprintf(out, PATH_MAX_BYTES, "%s%s%.60s", path, path[0] == '\0' ? "" : ".", name);
    for (char *c = out; *c != '\0'; c++) { /* the names are a stranger's: one line, printable */
        if ((unsigned char)*c < 0x20 || *c == 0x7f) {
            *c = '?';
        }
    }
}

static const struct property *property_of(const struct property *all, const char *name)
{
    while (all->name != NULL && strcasecmp(all->name, name) != 0) {
        all++;
    }
    return all->name == NULL ? NULL : all;
}

/* Walks an object. Properties that differ only in case would hide one another: refused. */
static int object(
    struct parse *p, const char *path, const json_t *j, const struct property *properties)
{
    if (!json_is_object(j)) {
        return wrong(p, path[0] == '\0' ? "pool file" : path, "must be an object");
    }
    const char *name;
    json_t *v;
    bool seen[32] = {false};
    json_object_foreach((json_t *)(uintptr_t)j, name, v)
    {
        char at[PATH_MAX_BYTES];
        join(at, path, name);
        const struct property *known = property_of(properties, name);
        if (known != NULL && seen[known - properties]) {
            return wrong(p, at, "is there twice, in different spellings");
        }
        if (known != NULL) {
            seen[known - properties] = true;
        }
        int rc = 0;
        if (json_is_null(v)) {
            continue;
        }
        if (known == NULL) {
            rc = warn(p, at, "unknown, ignored");
        } else if (known->take == NULL) {
            rc = warn(p, at, "not used by this version, ignored");
        } else {
            rc = known->take(p, at, v);
        }
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static int number(
    struct parse *p, const char *path, const json_t *v, json_int_t min, json_int_t max)
{
    if (!json_is_integer(v)) {
        return wrong(p, path, "must be a whole number");
    }
    json_int_t n = json_integer_value(v);
    if (n < min || n > max) {
        return base_fail(p->err, BASE_EINVAL,
            "%s: %" JSON_INTEGER_FORMAT " is out of range, %" JSON_INTEGER_FORMAT
            " to %" JSON_INTEGER_FORMAT " is allowed",
            path, n, min, max);
    }
    return 0;
}

static int text(struct parse *p, const char *path, const json_t *v)
{
    return json_is_string(v) ? 0 : wrong(p, path, "must be a string");
}

static bool is(const json_t *v, const char *word)
{
    return strcasecmp(json_string_value(v), word) == 0;
}

/* --- leaves -------------------------------------------------------------------------------- */

static int take_nothing(struct parse *p, const char *path, const json_t *v)
{
    (void)p;
    (void)path;
    (void)v;
    return 0;
}

static int take_name(struct parse *p, const char *path, const json_t *v)
{
    int rc = text(p, path, v);
    if (rc != 0) {
        return rc;
    }
    if (!proto_pool_name_valid(json_string_value(v), json_string_length(v))) {
        return wrong(p, path,
            "must be 3 to 63 of a-z, 0-9 and '-', start with a letter and not end with '-'");
    }
    (void)base_text_copy(p->f->name, sizeof p->f->name, json_string_value(v));
    return 0;
}

static int take_container(struct parse *p, const char *path, const json_t *v)
{
    int rc = text(p, path, v);
    for (int c = PROTO_POOL_PYTHON; rc == 0 && c <= PROTO_POOL_SHELL; c++) {
        if (is(v, proto_pool_container_text((enum proto_pool_container)c))) {
            p->f->container = (enum proto_pool_container)c;
            return 0;
        }
    }
    if (rc != 0) {
        return rc;
    }
    return base_fail(p->err, BASE_EINVAL,
        "%s: '%.40s' is not supported by this version; PythonLTS, NodeLTS and Shell are", path,
        json_string_value(v));
}

static int take_management(struct parse *p, const char *path, const json_t *v)
{
    int rc = text(p, path, v);
    return rc != 0 || is(v, "Dynamic") ? rc : wrong(p, path, "only 'Dynamic' is supported");
}

static int take_max(struct parse *p, const char *path, const json_t *v)
{
    int rc = number(p, path, v, 1, PROTO_SESSIONS_PER_POOL_MAX);
    p->f->sessions_max = rc == 0 ? (uint32_t)json_integer_value(v) : 0;
    return rc;
}

static int take_ready(struct parse *p, const char *path, const json_t *v)
{
    int rc = number(p, path, v, 0, PROTO_SESSIONS_PER_POOL_MAX);
    p->f->ready_target = rc == 0 ? (uint32_t)json_integer_value(v) : 0;
    return rc;
}

static int take_lifecycle(struct parse *p, const char *path, const json_t *v)
{
    int rc = text(p, path, v);
    if (rc != 0) {
        return rc;
    }
    if (!is(v, "Timed") && !is(v, "OnContainerExit")) {
        return wrong(p, path, "must be 'Timed' or 'OnContainerExit'");
    }
    p->f->on_exit = !is(v, "Timed");
    return 0;
}

static int take_cooldown(struct parse *p, const char *path, const json_t *v)
{
    int rc = number(p, path, v, 1, PROTO_POOL_COOLDOWN_S_MAX);
    if (rc != 0) {
        return rc;
    }
    json_int_t s = json_integer_value(v);
    if (p->cooldown_set && p->f->cooldown_ms != (uint32_t)s * 1000) {
        return wrong(p, path, "differs from the value in the other place for it");
    }
    p->cooldown_set = true;
    p->f->cooldown_ms = (uint32_t)s * 1000;
    return s < 300 || s > 3600 ? warn(p, path, "outside the 300 to 3600 of the public service") : 0;
}

static int take_alive(struct parse *p, const char *path, const json_t *v)
{
    int rc = number(p, path, v, 1, PROTO_POOL_ALIVE_S_MAX);
    if (rc == 0) {
        p->alive_set = true;
        p->f->alive_ms_max = (uint32_t)json_integer_value(v) * 1000;
    }
    return rc;
}

static int take_network(struct parse *p, const char *path, const json_t *v)
{
    int rc = text(p, path, v);
    if (rc != 0 || is(v, "EgressDisabled")) {
        return rc;
    }
    if (!is(v, "EgressEnabled")) {
        return wrong(p, path, "must be 'EgressDisabled' or 'EgressEnabled'");
    }
    return warn(p, path, "sessions have no network in this version: EgressDisabled is used");
}

static int take_cpu(struct parse *p, const char *path, const json_t *v)
{
    double d = json_number_value(v);
    if (!json_is_number(v) || !(d > 0) || d > PROTO_POOL_CPUS_MAX) {
        return wrong(p, path, "must be a number above 0 and not above 16");
    }
    p->f->cpus = (uint32_t)ceil(d); /* a microVM has whole virtual CPUs */
    return 0;
}

/* "512Mi", "0.5Gi", "1Gi". */
static int take_memory(struct parse *p, const char *path, const json_t *v)
{
    static const char how[] = "must be a size like \"512Mi\" or \"1Gi\", 128Mi to 64Gi";
    if (!json_is_string(v)) {
        return wrong(p, path, how);
    }
    const char *s = json_string_value(v);
    char *end = NULL;
    double d = s[0] >= '0' && s[0] <= '9' ? strtod(s, &end) : -1;
    if (end == NULL || (strcmp(end, "Mi") != 0 && strcmp(end, "Gi") != 0)) {
        return wrong(p, path, how);
    }
    d *= strcmp(end, "Gi") == 0 ? 1024 : 1;
    if (!(d >= PROTO_POOL_MEMORY_MIB_MIN && d <= PROTO_POOL_MEMORY_MIB_MAX)) {
        return wrong(p, path, how);
    }
    p->f->memory_mib = (uint32_t)ceil(d);
    return 0;
}

/* --- objects ------------------------------------------------------------------------------- */

static int take_scale(struct parse *p, const char *path, const json_t *v)
{
    static const struct property all[] = {
        {"maxConcurrentSessions", take_max}, {"readySessionInstances", take_ready}, {NULL, NULL}};
    return object(p, path, v, all);
}

static int take_quota(struct parse *p, const char *path, const json_t *v, uint64_t *ret)
{
    int rc = number(p, path, v, 1, PROTO_POOL_QUOTA_MAX);
    if (rc == 0) {
        *ret = (uint64_t)json_integer_value(v);
    }
    return rc;
}

static int take_execs(struct parse *p, const char *path, const json_t *v)
{
    return take_quota(p, path, v, &p->f->executions_max);
}

static int take_tenant_sessions(struct parse *p, const char *path, const json_t *v)
{
    return take_quota(p, path, v, &p->f->tenant_sessions_max);
}

static int take_tenant_execs(struct parse *p, const char *path, const json_t *v)
{
    return take_quota(p, path, v, &p->f->tenant_executions_max);
}

static int take_quota_object(struct parse *p, const char *path, const json_t *v)
{
    static const struct property all[] = {{"maxConcurrentExecutions", take_execs},
        {"maxConcurrentSessionsPerTenant", take_tenant_sessions},
        {"maxConcurrentExecutionsPerTenant", take_tenant_execs}, {NULL, NULL}};
    return object(p, path, v, all);
}

static int take_lifecycle_object(struct parse *p, const char *path, const json_t *v)
{
    static const struct property all[] = {{"lifecycleType", take_lifecycle},
        {"cooldownPeriodInSeconds", take_cooldown}, {"maxAlivePeriodInSeconds", take_alive},
        {NULL, NULL}};
    return object(p, path, v, all);
}

static int take_dynamic(struct parse *p, const char *path, const json_t *v)
{
    static const struct property all[] = {{"executionType", take_lifecycle},
        {"cooldownPeriodInSeconds", take_cooldown}, {"maxAlivePeriodInSeconds", take_alive},
        {"lifecycleConfiguration", take_lifecycle_object}, {NULL, NULL}};
    return object(p, path, v, all);
}

static int take_network_object(struct parse *p, const char *path, const json_t *v)
{
    static const struct property all[] = {{"status", take_network}, {NULL, NULL}};
    return object(p, path, v, all);
}

static int take_resources(struct parse *p, const char *path, const json_t *v)
{
    static const struct property all[] = {{"cpu", take_cpu}, {"memory", take_memory}, {NULL, NULL}};
    return object(p, path, v, all);
}

static int take_mcp_enabled(struct parse *p, const char *path, const json_t *v)
{
    if (!json_is_boolean(v)) {
        return wrong(p, path, "must be true or false");
    }
    p->f->mcp = json_is_true(v);
    return 0;
}

static int take_mcp_tools(struct parse *p, const char *path, const json_t *v)
{
    int rc = text(p, path, v);
    if (rc != 0) {
        return rc;
    }
    p->f->mcp_extended = is(v, "extended");
    return p->f->mcp_extended || is(v, "standard")
               ? 0
               : wrong(p, path, "must be 'standard' or 'extended'");
}

static int take_mcp(struct parse *p, const char *path, const json_t *v)
{
    static const struct property all[] = {{"isMcpServerEnabled", take_mcp_enabled},
        {"tools", take_mcp_tools}, {"isMcpServerApiKeyDisabled", NULL},
        {"mcpServerEndpoint", take_nothing}, {NULL, NULL}};
    return object(p, path, v, all);
}

static int take_properties(struct parse *p, const char *path, const json_t *v)
{
    static const struct property all[] = {{"containerType", take_container},
        {"poolManagementType", take_management}, {"scaleConfiguration", take_scale},
        {"dynamicPoolConfiguration", take_dynamic},
        {"sessionNetworkConfiguration", take_network_object}, {"resources", take_resources},
        {"quotaConfiguration", take_quota_object}, {"environmentId", NULL},
        {"customContainerTemplate", NULL}, {"secrets", NULL}, {"managedIdentitySettings", NULL},
        {"mcpServerSettings", take_mcp},
        /* set by the service, harmless in an exported resource */
        {"provisioningState", take_nothing}, {"poolManagementEndpoint", take_nothing},
        {"nodeCount", take_nothing}, {"templateUpdateStatus", take_nothing}, {NULL, NULL}};
    return object(p, path, v, all);
}

/* What no single property can tell. */
static int whole(struct parse *p)
{
    struct proto_pool *s = p->f;
    if (s->name[0] == '\0') {
        return wrong(p, "name", "is missing");
    }
    if (s->sessions_max == 0) {
        s->sessions_max = 10;
    }
    if (s->ready_target == UINT32_MAX) {
        s->ready_target = s->sessions_max < 5 ? s->sessions_max : 5;
    }
    if (s->ready_target > s->sessions_max) {
        return wrong(p, "properties.scaleConfiguration.readySessionInstances",
            "is more than maxConcurrentSessions");
    }
    static const char where[] = "properties.dynamicPoolConfiguration";
    if (s->on_exit) {
        if (p->cooldown_set) {
            return wrong(p, where, "cooldownPeriodInSeconds does not go with OnContainerExit");
        }
        s->cooldown_ms = 0;
        s->alive_ms_max = p->alive_set ? s->alive_ms_max : 3600000;
    }
    return 0;
}

int proto_pool_parse(const char *json, size_t n, struct proto_pool *ret, struct base_error *err)
{
    static const struct property all[] = {{"name", take_name}, {"properties", take_properties},
        {"location", take_nothing}, {"id", take_nothing}, {"type", take_nothing},
        {"apiVersion", take_nothing}, {"tags", take_nothing}, {"systemData", take_nothing},
        {"etag", take_nothing}, {"identity", NULL}, {NULL, NULL}};
    if (n > PROTO_POOL_FILE_BYTES_MAX) {
        return base_fail(err, BASE_ETOOBIG, "a pool file has at most 1 MiB");
    }
    json_error_t why;
    CLEANUP(json_freep) json_t *root = json_loadb(json, n, JSON_REJECT_DUPLICATES, &why);
    if (root == NULL) {
        return base_fail(err, BASE_EINVAL, "line %d: %s", why.line, why.text);
    }
    struct proto_pool f = {.cpus = 1, .memory_mib = 512};
    f.ready_target = UINT32_MAX;
    f.cooldown_ms = 300000;
    struct parse p = {.f = &f, .err = err};
    int rc = object(&p, "", root, all);
    rc = rc != 0 ? rc : whole(&p);
    if (rc != 0) {
        proto_pool_deinit(&f);
        return rc;
    }
    *ret = f;
    return 0;
}

int proto_pool_load(const char *path, struct proto_pool *ret, struct base_error *err)
{
    CLEANUP(base_fclosep) FILE *f = fopen(path, "re");
    if (f == NULL) {
        return base_fail(err, -errno, "open '%s': %s", path, strerror(errno));
    }
    CLEANUP(base_freep) char *text_read = malloc(PROTO_POOL_FILE_BYTES_MAX + 1);
    if (text_read == NULL) {
        return base_fail(err, BASE_ENOMEM, "out of memory");
    }
    size_t n = fread(text_read, 1, PROTO_POOL_FILE_BYTES_MAX + 1, f);
    if (ferror(f)) {
        return base_fail(err, BASE_EIO, "read '%s'", path);
    }
    struct base_error why;
    int rc = proto_pool_parse(text_read, n, ret, &why);
    return rc == 0 ? 0 : base_fail(err, rc, "%s: %.160s", path, why.text);
}

void proto_pool_deinit(struct proto_pool *f)
{
    base_buf_deinit(&f->warnings);
}

const char *proto_pool_container_text(enum proto_pool_container c)
{
    static const char *const texts[] = {"PythonLTS", "NodeLTS", "Shell"};
    return (size_t)c < ARRAY_LEN(texts) ? texts[c] : "";
}
