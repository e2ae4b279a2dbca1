#include "gateway/io/config.h"

#include <cyaml/cyaml.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/core/mcp_origin.h"
#include "gateway/io/auth.h"
#include "proto/base/cleanup.h"
#include "proto/base/container.h"
#include "proto/base/text.h"
#include "proto/net/curve.h"

enum {
    TEXT_MAX = 4096,
    WORKERS_MAX = 1024,
    AUDIENCES_MAX = 16,
    PLACES_MAX = 64,
    GRANTS_MAX = 4096,
    REPORT_MAX = 200
};

#define TEXT(key, flags, type, member)                                                             \
    CYAML_FIELD_STRING_PTR(key, CYAML_FLAG_POINTER | (flags), type, member, 1, TEXT_MAX)
#define OPTIONAL CYAML_FLAG_OPTIONAL

static const cyaml_schema_value_t name = {
    CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char *, 1, TEXT_MAX)};

static const cyaml_schema_field_t worker_fields[] = {
    CYAML_FIELD_UINT("id", CYAML_FLAG_DEFAULT, struct gw_config_worker, id),
    TEXT("name", 0, struct gw_config_worker, name), TEXT("ctl", 0, struct gw_config_worker, ctl),
    TEXT("bulk", 0, struct gw_config_worker, bulk),
    TEXT("public_key", OPTIONAL, struct gw_config_worker, public_key),
    CYAML_FIELD_UINT("weight", OPTIONAL, struct gw_config_worker, weight),
    CYAML_FIELD_UINT("zone", OPTIONAL, struct gw_config_worker, zone), CYAML_FIELD_END};

static const cyaml_schema_value_t worker_value = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct gw_config_worker, worker_fields)};

static const cyaml_schema_field_t issuer_fields[] = {
    TEXT("issuer", 0, struct gw_config_issuer, issuer),
    TEXT("jwks", 0, struct gw_config_issuer, jwks), CYAML_FIELD_END};

static const cyaml_schema_value_t issuer_value = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct gw_config_issuer, issuer_fields)};

static const cyaml_schema_field_t grant_fields[] = {
    TEXT("issuer", OPTIONAL, struct gw_config_grant, issuer),
    TEXT("principal", OPTIONAL, struct gw_config_grant, principal),
    TEXT("app_role", OPTIONAL, struct gw_config_grant, app_role),
    TEXT("pool", 0, struct gw_config_grant, pool), TEXT("role", 0, struct gw_config_grant, role),
    CYAML_FIELD_END};

static const cyaml_schema_value_t grant_value = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct gw_config_grant, grant_fields)};

static const cyaml_schema_field_t fields[] = {TEXT("name", 0, struct gw_config, name),
    TEXT("listen", 0, struct gw_config, listen),
    TEXT("tls_cert", OPTIONAL, struct gw_config, tls_cert),
    TEXT("tls_key", OPTIONAL, struct gw_config, tls_key),
    TEXT("curve_secret", OPTIONAL, struct gw_config, curve_secret),
    TEXT("cluster_key", 0, struct gw_config, cluster_key),
    TEXT("cluster", OPTIONAL, struct gw_config, cluster),
    TEXT("jwks", OPTIONAL, struct gw_config, jwks),
    TEXT("mcp_keys", OPTIONAL, struct gw_config, mcp_keys),
    TEXT("issuer", OPTIONAL, struct gw_config, issuer),
    TEXT("jwks_ca", OPTIONAL, struct gw_config, jwks_ca),
    CYAML_FIELD_SEQUENCE("issuers", CYAML_FLAG_POINTER | OPTIONAL, struct gw_config, issuers,
        &issuer_value, 0, GW_AUTH_ISSUERS_MAX - 1),
    CYAML_FIELD_SEQUENCE("grants", CYAML_FLAG_POINTER | OPTIONAL, struct gw_config, grants,
        &grant_value, 0, GRANTS_MAX),
    CYAML_FIELD_SEQUENCE("mcp_origins", CYAML_FLAG_POINTER | OPTIONAL, struct gw_config,
        mcp_origins, &name, 0, PLACES_MAX),
    CYAML_FIELD_SEQUENCE("mcp_hosts", CYAML_FLAG_POINTER | OPTIONAL, struct gw_config, mcp_hosts,
        &name, 0, PLACES_MAX),
    CYAML_FIELD_SEQUENCE("audiences", CYAML_FLAG_POINTER | OPTIONAL, struct gw_config, audiences,
        &name, 0, AUDIENCES_MAX),
    CYAML_FIELD_BOOL("insecure", OPTIONAL, struct gw_config, insecure),
#ifdef WARREN_MCP_FIXTURES
    CYAML_FIELD_BOOL("mcp_fixtures", OPTIONAL, struct gw_config, mcp_fixtures),
#endif
    TEXT("log_level", OPTIONAL, struct gw_config, log_level_text),
    CYAML_FIELD_UINT("connections_max", OPTIONAL, struct gw_config, connections_max),
    CYAML_FIELD_UINT(
        "connections_per_address", OPTIONAL, struct gw_config, connections_per_address),
    CYAML_FIELD_UINT("tenant_per_s", OPTIONAL, struct gw_config, tenant_per_s),
    CYAML_FIELD_UINT("tenant_burst", OPTIONAL, struct gw_config, tenant_burst),
    CYAML_FIELD_UINT("pool_per_s", OPTIONAL, struct gw_config, pool_per_s),
    CYAML_FIELD_UINT("pool_burst", OPTIONAL, struct gw_config, pool_burst),
    CYAML_FIELD_UINT("memory_mib", OPTIONAL, struct gw_config, memory_mib),
    CYAML_FIELD_UINT("drain_s", OPTIONAL, struct gw_config, drain_s),
    CYAML_FIELD_UINT("terminal_ping_s", OPTIONAL, struct gw_config, terminal_ping_s),
    CYAML_FIELD_SEQUENCE("workers", CYAML_FLAG_POINTER | OPTIONAL, struct gw_config, workers,
        &worker_value, 0, WORKERS_MAX),
    CYAML_FIELD_END};

static const cyaml_schema_value_t schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct gw_config, fields)};

/* libcyaml tells what is wrong in its log only: its lines, joined. */
static void on_log(cyaml_log_t level, void *ctx, const char *fmt, va_list ap)
    __attribute__((format(printf, 3, 0)));

static void on_log(cyaml_log_t level, void *ctx, const char *fmt, va_list ap)
{
    char *report = ctx;
    size_t have = strlen(report);
    if (level < CYAML_LOG_ERROR || have + 2 >= REPORT_MAX) {
        return;
    }
    (void)vsnprintf(report + have, REPORT_MAX - have, fmt, ap);
    for (char *p = report + have; *p != '\0'; p++) {
        if (*p == '\n') {
            *p = ' ';
        }
    }
}

static int parse(const char *path, struct gw_config **ret, struct base_error *err)
{
    char report[REPORT_MAX] = "";
    const cyaml_config_t config = {.log_fn = on_log,
        .log_ctx = report,
        .log_level = CYAML_LOG_ERROR,
        .mem_fn = cyaml_mem,
        .flags = CYAML_CFG_DEFAULT};
    cyaml_err_t rc = cyaml_load_file(path, &config, &schema, (cyaml_data_t **)ret, NULL);
    if (rc != CYAML_OK) {
        const char *text = report[0] == '\0' ? cyaml_strerror(rc) : report;
        return base_fail(err, BASE_EINVAL, "%.60s: %s", path, text);
    }
    return 0;
}

/* ---- checks ---- */

static bool is_loopback(const char *address)
{
    static const char *const starts[] = {"127.", "[::1]:", "[::ffff:127.", "localhost:"};
    for (size_t i = 0; i < ARRAY_LEN(starts); i++) {
        if (strncmp(address, starts[i], strlen(starts[i])) == 0) {
            return true;
        }
    }
    return false;
}

static int check_worker(
    const struct gw_config *c, const struct gw_config_worker *w, struct base_error *err)
{
    if (w->id == 0) {
        return base_fail(err, BASE_EINVAL, "workers: '%s': id must not be 0", w->name);
    }
    if (w->weight > 255) {
        return base_fail(err, BASE_EINVAL, "workers: '%s': weight is at most 255", w->name);
    }
    if (c->curve_secret != NULL && (w->public_key == NULL || !proto_net_z85_valid(w->public_key))) {
        return base_fail(
            err, BASE_EINVAL, "workers: '%s': public_key is missing or no key", w->name);
    }
    bool near = strncmp(w->ctl, "tcp://", 6) == 0 && is_loopback(w->ctl + 6) &&
                strncmp(w->bulk, "tcp://", 6) == 0 && is_loopback(w->bulk + 6);
    if (c->curve_secret == NULL && !near) {
        return base_fail(err, BASE_EINVAL,
            "workers: '%s': without curve_secret a worker must be on loopback", w->name);
    }
    return 0;
}

bool gw_config_is_url(const char *jwks)
{
    return strstr(jwks, "://") != NULL;
}

/* Whoever can answer for the key set can make tokens: not over a wire that anybody can change. */
static int check_jwks(const char *jwks, struct base_error *err)
{
    bool safe =
        strncmp(jwks, "https://", 8) == 0 ||
        (strncmp(jwks, "http://", 7) == 0 && strchr(jwks, '@') == NULL && is_loopback(jwks + 7));
    if (gw_config_is_url(jwks) && !safe) {
        return base_fail(err, BASE_EINVAL, "jwks: '%.80s' must be https", jwks);
    }
    return 0;
}

static int check_grant(
    const struct gw_config *c, const struct gw_config_grant *g, struct base_error *err)
{
    if ((g->principal == NULL) == (g->app_role == NULL)) {
        return base_fail(err, BASE_EINVAL, "grants: each has principal or app_role");
    }
    if (gw_auth_role(g->role) == 0) {
        return base_fail(err, BASE_EINVAL,
            "grants: role '%.40s' is not Session Executor, Contributor or Reader", g->role);
    }
    if (g->issuer == NULL && c->issuers_count > 0) {
        return base_fail(err, BASE_EINVAL, "grants: issuer is missing, there are several");
    }
    return 0;
}

static int check_tokens(const struct gw_config *c, struct base_error *err)
{
    if (!c->insecure && c->jwks == NULL) {
        return base_fail(err, BASE_EINVAL, "jwks is missing");
    }
    int rc = c->jwks == NULL ? 0 : check_jwks(c->jwks, err);
    const char *first = c->issuer == NULL ? "warren" : c->issuer;
    for (unsigned i = 0; i < c->issuers_count && rc == 0; i++) {
        rc = check_jwks(c->issuers[i].jwks, err);
        bool twice = strcmp(c->issuers[i].issuer, first) == 0;
        for (unsigned k = 0; k < i && !twice; k++) {
            twice = strcmp(c->issuers[i].issuer, c->issuers[k].issuer) == 0;
        }
        if (rc == 0 && twice) {
            rc = base_fail(
                err, BASE_EINVAL, "issuers: '%.80s' is there twice", c->issuers[i].issuer);
        }
    }
    for (unsigned i = 0; i < c->grants_count && rc == 0; i++) {
        rc = check_grant(c, &c->grants[i], err);
    }
    return rc;
}

static int check_places(const struct gw_config *c, struct base_error *err)
{
    for (unsigned i = 0; i < c->mcp_origins_count; i++) {
        if (!gw_mcp_origin_valid(c->mcp_origins[i])) {
            return base_fail(err, BASE_EINVAL,
                "mcp_origins: '%.80s' is not like https://chat.example.org", c->mcp_origins[i]);
        }
    }
    for (unsigned i = 0; i < c->mcp_hosts_count; i++) {
        if (!gw_mcp_host_valid(c->mcp_hosts[i])) {
            return base_fail(err, BASE_EINVAL,
                "mcp_hosts: '%.80s' is no host name or address (without a port)", c->mcp_hosts[i]);
        }
    }
    return 0;
}

static int check(const struct gw_config *c, struct base_error *err)
{
    bool tls = c->tls_cert != NULL && c->tls_key != NULL;
    if ((c->tls_cert == NULL) != (c->tls_key == NULL)) {
        return base_fail(err, BASE_EINVAL, "tls_cert and tls_key go together");
    }
    if (c->insecure && !is_loopback(c->listen)) {
        return base_fail(
            err, BASE_EINVAL, "insecure: true is refused: '%s' is not loopback", c->listen);
    }
    if (!tls && !c->insecure) {
        return base_fail(err, BASE_EINVAL, "tls_cert and tls_key are missing");
    }
    if (c->curve_secret == NULL && !c->insecure) {
        return base_fail(err, BASE_EINVAL, "curve_secret is missing");
    }
    if (c->workers_count == 0 && c->cluster == NULL) {
        return base_fail(err, BASE_EINVAL, "workers: at least one is needed, or cluster:");
    }
    int rc = check_tokens(c, err);
    rc = rc != 0 ? rc : check_places(c, err);
    for (unsigned i = 0; i < c->workers_count && rc == 0; i++) {
        rc = check_worker(c, &c->workers[i], err);
    }
    return rc;
}

static int read_key(struct gw_config *c, struct base_error *err)
{
    char text[40] = "";
    CLEANUP(base_fclosep) FILE *f = fopen(c->cluster_key, "re");
    if (f == NULL) {
        return base_fail(err, -errno, "open '%s': %s", c->cluster_key, strerror(errno));
    }
    if (fgets(text, sizeof text, f) != NULL) {
        text[strcspn(text, "\r\n")] = '\0';
    }
    if (!base_text_unhex(text, c->key, sizeof c->key)) {
        return base_fail(err, BASE_EBADMSG, "'%s' has no 32 hex digits", c->cluster_key);
    }
    return 0;
}

static int complete(struct gw_config *c, struct base_error *err)
{
    c->log_level = BASE_LOG_INFO;
    if (c->log_level_text != NULL && !base_log_parse(c->log_level_text, &c->log_level)) {
        return base_fail(err, BASE_EINVAL, "log_level: must be error, warn, info or debug");
    }
    c->local = is_loopback(c->listen);
    c->drain_s = c->drain_s == 0 ? 30 : c->drain_s;
    c->terminal_ping_s = c->terminal_ping_s == 0 ? 30 : c->terminal_ping_s;
    c->tenant_burst = c->tenant_burst == 0 ? 2 * c->tenant_per_s : c->tenant_burst;
    c->pool_burst = c->pool_burst == 0 ? 2 * c->pool_per_s : c->pool_burst;
    return read_key(c, err);
}

int gw_config_load(const char *path, struct gw_config **ret, struct base_error *err)
{
    struct gw_config *c = NULL;
    int rc = parse(path, &c, err);
    rc = rc < 0 ? rc : check(c, err);
    rc = rc < 0 ? rc : complete(c, err);
    if (rc < 0) {
        gw_config_destroy(c);
        return rc;
    }
    *ret = c;
    return 0;
}

void gw_config_destroy(struct gw_config *c)
{
    static const cyaml_config_t config = {.mem_fn = cyaml_mem};
    if (c != NULL) {
        (void)cyaml_free(&config, &schema, c, 0);
    }
}
