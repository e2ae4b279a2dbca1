#include "worker/io/config.h"

#include <cyaml/cyaml.h>
#include <string.h>

#include "proto/base/cleanup.h"
#include "proto/base/text.h"
#include "proto/yaml/yaml.h"

#define TEXT(flag, key, member)                                                                    \
    CYAML_FIELD_STRING_PTR(                                                                        \
        key, CYAML_FLAG_POINTER | (flag), struct worker_config, member, 1, WORKER_CONFIG_TEXT_MAX)
#define OPT CYAML_FLAG_OPTIONAL

static const cyaml_schema_value_t path_schema = {
    CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char *, 1, WORKER_CONFIG_TEXT_MAX)};

#define QUOTA(key, type, member) CYAML_FIELD_UINT(key, OPT, type, member)

static const cyaml_schema_field_t quota_fields[] = {
    QUOTA("sessions", struct worker_config_quota, sessions),
    QUOTA("executions", struct worker_config_quota, executions),
    QUOTA("requests", struct worker_config_quota, requests),
    QUOTA("queued_mib", struct worker_config_quota, queued_mib),
    QUOTA("weight", struct worker_config_quota, weight), CYAML_FIELD_END};

static const cyaml_schema_field_t tenant_fields[] = {
    CYAML_FIELD_STRING_PTR("issuer", CYAML_FLAG_POINTER, struct worker_config_tenant, issuer, 1,
        WORKER_CONFIG_TEXT_MAX),
    CYAML_FIELD_STRING_PTR("tenant", CYAML_FLAG_POINTER, struct worker_config_tenant, tenant, 1,
        WORKER_CONFIG_TENANT_MAX),
    QUOTA("sessions", struct worker_config_tenant, quota.sessions),
    QUOTA("executions", struct worker_config_tenant, quota.executions),
    QUOTA("requests", struct worker_config_tenant, quota.requests),
    QUOTA("queued_mib", struct worker_config_tenant, quota.queued_mib),
    QUOTA("weight", struct worker_config_tenant, quota.weight), CYAML_FIELD_END};

static const cyaml_schema_value_t tenant_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct worker_config_tenant, tenant_fields)};

static const cyaml_schema_field_t fields[] = {TEXT(0, "name", name),
    CYAML_FIELD_UINT("id", CYAML_FLAG_DEFAULT, struct worker_config, id),
    TEXT(0, "state_dir", state_dir), TEXT(0, "run_dir", run_dir), TEXT(0, "ctl", ctl),
    TEXT(0, "bulk", bulk), TEXT(OPT, "curve_secret", curve_secret), TEXT(OPT, "clients", clients),
    TEXT(0, "cluster_key", cluster_key), TEXT(0, "image", image),
    TEXT(OPT, "accelerator", accelerator_text), TEXT(OPT, "log_level", log_level_text),
    TEXT(OPT, "lease", lease_text), TEXT(OPT, "cluster", cluster),
    CYAML_FIELD_UINT("freeze_s", OPT, struct worker_config, freeze_s),
    CYAML_FIELD_UINT("kill_s", OPT, struct worker_config, kill_s),
    CYAML_FIELD_UINT("uid_base", OPT, struct worker_config, uid_base),
    CYAML_FIELD_UINT("vms_max", OPT, struct worker_config, vms_max),
    CYAML_FIELD_BOOL("insecure_plaintext", OPT, struct worker_config, insecure_plaintext),
    CYAML_FIELD_SEQUENCE("pools", CYAML_FLAG_POINTER | OPT, struct worker_config, pools,
        &path_schema, 0, PROTO_POOLS_MAX),
    CYAML_FIELD_MAPPING_PTR(
        "tenant_quota", CYAML_FLAG_POINTER | OPT, struct worker_config, tenant_quota, quota_fields),
    CYAML_FIELD_SEQUENCE("tenant_quotas", CYAML_FLAG_POINTER | OPT, struct worker_config,
        tenant_quotas, &tenant_schema, 0, WORKER_QUOTA_TENANTS_MAX),
    CYAML_FIELD_END};

static const cyaml_schema_value_t top = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct worker_config, fields)};

/* --- the whole ----------------------------------------------------------------------------- */

static bool name_valid(const char *s)
{
    size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-");
    return n > 0 && n <= WORKER_CONFIG_NAME_MAX && s[n] == '\0';
}

static bool loopback(const char *endpoint)
{
    static const char *const starts[] = {"tcp://127.", "tcp://[::1]:", "tcp://localhost:"};
    for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++) {
        if (strncmp(endpoint, starts[i], strlen(starts[i])) == 0) {
            return true;
        }
    }
    return false;
}

static int check_words(struct worker_config *c, struct base_error *err)
{
    static const char *const accels[] = {"auto", "kvm", "tcg"};
    const char *accel = c->accelerator_text != NULL ? c->accelerator_text : "auto";
    int found = -1;
    for (int i = 0; i < 3; i++) {
        found = strcmp(accel, accels[i]) == 0 ? i : found;
    }
    if (found < 0) {
        return base_fail(err, BASE_EINVAL, "accelerator: must be auto, kvm or tcg");
    }
    c->accelerator = (enum worker_accel)found;
    const char *lease = c->lease_text != NULL ? c->lease_text : "none";
    c->leased = strcmp(lease, "cluster") == 0;
    if (!c->leased && strcmp(lease, "none") != 0) {
        return base_fail(err, BASE_EINVAL, "lease: must be none or cluster");
    }
    if (c->cluster != NULL && !c->leased) {
        return base_fail(err, BASE_EINVAL, "cluster: needs lease: cluster");
    }
    c->log_level = BASE_LOG_INFO;
    if (c->log_level_text != NULL && !base_log_parse(c->log_level_text, &c->log_level)) {
        return base_fail(err, BASE_EINVAL, "log_level: must be error, warn, info or debug");
    }
    return 0;
}

static int check_paths(const struct worker_config *c, struct base_error *err)
{
    const struct {
        const char *key, *value;
    } paths[] = {{"state_dir", c->state_dir}, {"run_dir", c->run_dir},
        {"curve_secret", c->curve_secret}, {"clients", c->clients}, {"cluster", c->cluster},
        {"cluster_key", c->cluster_key}, {"image", c->image}};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        if (paths[i].value != NULL && paths[i].value[0] != '/') {
            return base_fail(err, BASE_EINVAL, "%s: must be an absolute path", paths[i].key);
        }
    }
    for (unsigned i = 0; i < c->pools_count; i++) {
        if (c->pools[i][0] != '/') {
            return base_fail(err, BASE_EINVAL, "pools: entry %u must be an absolute path", i + 1);
        }
    }
    return 0;
}

static int check_net(const struct worker_config *c, struct base_error *err)
{
    if (strncmp(c->ctl, "tcp://", 6) != 0) {
        return base_fail(err, BASE_EINVAL, "ctl: must be like tcp://127.0.0.1:7101");
    }
    if (strncmp(c->bulk, "tcp://", 6) != 0) {
        return base_fail(err, BASE_EINVAL, "bulk: must be like tcp://127.0.0.1:7102");
    }
    if (!c->insecure_plaintext) {
        const char *missing = c->curve_secret == NULL ? "curve_secret" : "clients";
        return c->curve_secret != NULL && c->clients != NULL
                   ? 0
                   : base_fail(err, BASE_EINVAL,
                         "%s: is missing (only insecure_plaintext: true goes without)", missing);
    }
    if (!loopback(c->ctl) || !loopback(c->bulk)) {
        return base_fail(
            err, BASE_EINVAL, "insecure_plaintext: refused, ctl and bulk must be loopback");
    }
    return 0;
}

static bool quota_valid(const struct worker_config_quota *q)
{
    return q->queued_mib <= 1 << 20 && q->weight <= 1000;
}

static int check_quotas(const struct worker_config *c, struct base_error *err)
{
    static const char limits[] = "queued_mib: at most 1048576 and weight: at most 1000";
    if (c->tenant_quota != NULL && !quota_valid(c->tenant_quota)) {
        return base_fail(err, BASE_EINVAL, "tenant_quota: %s", limits);
    }
    for (unsigned i = 0; i < c->tenant_quotas_count; i++) {
        const struct worker_config_tenant *t = &c->tenant_quotas[i];
        if (!quota_valid(&t->quota)) {
            return base_fail(err, BASE_EINVAL, "tenant_quotas: entry %u: %s", i + 1, limits);
        }
        for (unsigned k = 0; k < i; k++) {
            const struct worker_config_tenant *o = &c->tenant_quotas[k];
            if (strcmp(o->issuer, t->issuer) == 0 && strcmp(o->tenant, t->tenant) == 0) {
                return base_fail(err, BASE_EINVAL,
                    "tenant_quotas: entries %u and %u are of the "
                    "same tenant",
                    k + 1, i + 1);
            }
        }
    }
    return 0;
}

static void limits_of(const struct worker_config_quota *q, struct worker_quota_limits *ret)
{
    *ret = (struct worker_quota_limits){.weight = q->weight};
    ret->max[WORKER_QUOTA_SESSIONS] = q->sessions;
    ret->max[WORKER_QUOTA_EXECUTIONS] = q->executions;
    ret->max[WORKER_QUOTA_REQUESTS] = q->requests;
    ret->max[WORKER_QUOTA_BYTES] = (uint64_t)q->queued_mib << 20;
}

void worker_config_quota(const struct worker_config *c, struct worker_quota_limits *ret)
{
    static const struct worker_config_quota half = {
        .executions = 1024, .requests = 4096, .queued_mib = 128};
    limits_of(c->tenant_quota != NULL ? c->tenant_quota : &half, ret);
}

void worker_config_tenant(const struct worker_config *c, const uint8_t cluster_key[16], unsigned i,
    struct worker_quota_tenant *ret)
{
    const struct worker_config_tenant *t = &c->tenant_quotas[i];
    proto_tenant_of(cluster_key, t->issuer, t->tenant, &ret->tenant);
    limits_of(&t->quota, &ret->limits);
}

static int check(void *data, struct base_error *err)
{
    struct worker_config *c = data;
    if (!name_valid(c->name)) {
        return base_fail(err, BASE_EINVAL, "name: must be 1 to 32 of a-z, 0-9 and '-'");
    }
    if (c->id == 0) {
        return base_fail(err, BASE_EINVAL, "id: must not be 0");
    }
    c->freeze_s = c->freeze_s == 0 ? 10 : c->freeze_s;
    c->kill_s = c->kill_s == 0 ? 60 : c->kill_s;
    c->uid_base = c->uid_base == 0 ? 200000 : c->uid_base;
    if (c->freeze_s > 3600 || c->kill_s > 86400) {
        return base_fail(
            err, BASE_EINVAL, "freeze_s: at most 3600 and kill_s: at most 86400 seconds");
    }
    if (c->uid_base < 1000 || c->uid_base > 0x7fff0000U) {
        return base_fail(err, BASE_EINVAL, "uid_base: must be 1000 or more and below 2^31 - 65536");
    }
    if (c->cluster == NULL && c->pools_count == 0) {
        return base_fail(err, BASE_EINVAL, "pools: is missing (only with cluster: may it be)");
    }
    if (c->vms_max > 65536) {
        return base_fail(err, BASE_EINVAL, "vms_max: at most 65536");
    }
    int rc = check_words(c, err);
    rc = rc != 0 ? rc : check_paths(c, err);
    rc = rc != 0 ? rc : check_quotas(c, err);
    return rc != 0 ? rc : check_net(c, err);
}

static const struct proto_yaml_kind kind = {&top, check};

int worker_config_parse(
    const char *yaml, size_t n, struct worker_config **ret, struct base_error *err)
{
    void *data = NULL;
    int rc = proto_yaml_parse(&kind, yaml, n, &data, err);
    if (rc == 0) {
        *ret = data;
    }
    return rc;
}

int worker_config_load(const char *path, struct worker_config **ret, struct base_error *err)
{
    void *data = NULL;
    int rc = proto_yaml_load(&kind, path, &data, err);
    if (rc == 0) {
        *ret = data;
    }
    return rc;
}

void worker_config_destroy(struct worker_config *c)
{
    proto_yaml_free(&kind, c);
}
