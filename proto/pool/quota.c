#include "proto/pool/quota.h"

#include <jansson.h>
#include <string.h>

#include "proto/base/cleanup.h"
#include "proto/base/container.h"

static void json_freep(json_t **j)
{
    json_decref(*j);
}

struct text {
    const char *name;
    char *to;
    size_t max;
};

struct number {
    const char *name;
    uint32_t *to, max;
};

static int take_text(const struct text *t, const json_t *v, struct base_error *err)
{
    size_t n = json_string_length(v);
    if (!json_is_string(v) || n == 0 || n > t->max ||
        memchr(json_string_value(v), '\0', n) != NULL) {
        return base_fail(
            err, BASE_EINVAL, "%s: must be a string of 1 to %zu bytes", t->name, t->max);
    }
    memcpy(t->to, json_string_value(v), n + 1);
    return 0;
}

static int take_number(const struct number *f, const json_t *v, struct base_error *err)
{
    json_int_t n = json_integer_value(v);
    if (!json_is_integer(v) || n < 0 || n > f->max) {
        return base_fail(err, BASE_EINVAL, "%s: must be a whole number, 0 to %u", f->name, f->max);
    }
    *f->to = (uint32_t)n;
    return 0;
}

static int take(struct proto_quota *q, const char *name, const json_t *v, struct base_error *err)
{
    const struct text texts[] = {{"issuer", q->issuer, PROTO_QUOTA_ISSUER_MAX},
        {"tenant", q->tenant, PROTO_QUOTA_TENANT_MAX}};
    const struct number numbers[] = {{"sessions", &q->sessions, UINT32_MAX},
        {"executions", &q->executions, UINT32_MAX}, {"requests", &q->requests, UINT32_MAX},
        {"queuedMib", &q->queued_mib, PROTO_QUOTA_MIB_MAX},
        {"weight", &q->weight, PROTO_QUOTA_WEIGHT_MAX}};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        if (strcmp(texts[i].name, name) == 0) {
            return take_text(&texts[i], v, err);
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        if (strcmp(numbers[i].name, name) == 0) {
            return take_number(&numbers[i], v, err);
        }
    }
    return base_fail(err, BASE_EINVAL, "%.60s: there is no such limit", name);
}

int proto_quota_parse(const char *json, size_t n, struct proto_quota *ret, struct base_error *err)
{
    json_error_t why;
    CLEANUP(json_freep) json_t *root = json_loadb(json, n, JSON_REJECT_DUPLICATES, &why);
    struct proto_quota q = {.weight = 0};
    if (!json_is_object(root)) {
        return base_fail(err, BASE_EINVAL, "a quota must be a JSON object");
    }
    const char *name;
    json_t *v;
    json_object_foreach(root, name, v)
    {
        int rc = take(&q, name, v, err);
        if (rc != 0) {
            return rc;
        }
    }
    if ((q.issuer[0] == '\0') != (q.tenant[0] == '\0')) {
        return base_fail(err, BASE_EINVAL, "issuer and tenant go together");
    }
    *ret = q;
    return 0;
}
