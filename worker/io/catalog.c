#include "worker/io/catalog.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base/clock.h"
#include "proto/base/text.h"
#include "proto/pool/quota.h"

/* What a pool of the sessions was last made to be. */
struct done {
    uint64_t version; /* of its entry; 0: by a file */
    uint32_t ready;
    bool there;
};

struct worker_catalog {
    struct worker_catalog_config config;
    struct done done[PROTO_POOLS_MAX]; /* by pool of the sessions */
    uint64_t version;                  /* of the catalogue whose limits count */
    uint64_t birth;                    /* of it: versions of another one say nothing */
    bool none;                         /* the catalogue decides, and has no pool */
    uint64_t decides_ns;               /* since when it decides; 0: it does not */
};

static bool wanted(
    const struct worker_catalog *c, const struct sched_catalog *known, const char *name)
{
    if (known != NULL) {
        return sched_catalog_find(known, "pool/", name) != NULL;
    }
    for (uint32_t i = 0; i < c->config.files_n; i++) {
        if (strcmp(c->config.files[i].spec.name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* Pools come into the catalogue one by one: one that a file has made is waited for. */
static bool may_come(const struct worker_catalog *c, uint32_t i)
{
    return c->done[i].there && c->done[i].version == 0 && c->decides_ns != 0 &&
           base_clock_boot_ns() - c->decides_ns < c->config.grace_ms * BASE_NS_PER_MS;
}

/* False: not yet all that have to go. */
static bool retire_others(struct worker_catalog *c, const struct sched_catalog *known)
{
    struct worker_sessions *s = c->config.sessions;
    bool all = true;
    for (uint32_t i = 0; i < worker_session_pools(s); i++) {
        struct worker_session_pool_info info;
        worker_session_pool_look(s, i, &info);
        if (worker_session_pool_retired(s, i) || wanted(c, known, info.spec->name)) {
            continue;
        }
        if (may_come(c, i)) {
            all = false;
            continue;
        }
        LOG_INFO(c->config.log, "pool deleted pool=%s", info.spec->name);
        worker_session_pool_retire(s, i);
        c->done[i].there = false;
    }
    return all;
}

static int set(struct worker_catalog *c, const struct worker_pool_file *file, uint64_t version,
    struct base_error *err)
{
    struct worker_sessions *s = c->config.sessions;
    uint32_t i = worker_session_pool(s, file->spec.name);
    const struct done *d = i == WORKER_NONE ? NULL : &c->done[i];
    if (d != NULL && d->there && d->version == version && d->ready == file->spec.ready_target) {
        return 0;
    }
    bool fresh = d == NULL || !d->there;
    int rc = worker_session_pool_set(s, file, err);
    if (rc == 0) {
        i = worker_session_pool(s, file->spec.name);
        c->done[i] = (struct done){version, file->spec.ready_target, true};
        LOG_INFO(c->config.log, "pool %s pool=%s max=%u ready=%u", fresh ? "added" : "changed",
            file->spec.name, file->spec.sessions_max, file->spec.ready_target);
    }
    return rc;
}

static int set_entry(struct worker_catalog *c, const struct sched_catalog_entry *e,
    const struct worker_catalog_share *share, struct base_error *err)
{
    struct worker_pool_file file;
    int rc = worker_pool_file_parse(e->value, e->value_n, &file, err);
    if (rc != 0) {
        return rc;
    }
    file.spec.ready_target = share->of(share->ctx, e->pool, e->ready);
    rc = set(c, &file, e->version, err);
    worker_pool_file_deinit(&file);
    return rc;
}

/* The first error is the caller's. */
static int note(const struct worker_catalog *c, const char *name, const struct base_error *why,
    int before, struct base_error *err)
{
    LOG_ERROR(c->config.log, "pool=%s stays as it was: %s", name, why->text);
    if (before == 0 && err != NULL) {
        *err = *why;
    }
    return before != 0 ? before : why->code;
}

static int set_pools(struct worker_catalog *c, const struct sched_catalog *known,
    const struct worker_catalog_share *share, struct base_error *err)
{
    int rc = 0;
    for (uint32_t i = 0; known != NULL && i < sched_catalog_n(known); i++) {
        const struct sched_catalog_entry *e = sched_catalog_at(known, i);
        struct base_error why;
        const char *name = sched_catalog_name(e, "pool/");
        if (name != NULL && set_entry(c, e, share, &why) != 0) {
            rc = note(c, name, &why, rc, err);
        }
    }
    for (uint32_t i = 0; known == NULL && i < c->config.files_n; i++) {
        struct base_error why;
        if (set(c, &c->config.files[i], 0, &why) != 0) {
            rc = note(c, c->config.files[i].spec.name, &why, rc, err);
        }
    }
    return rc;
}

/* ---- tenants ---- */

static void limits_of(const struct proto_quota *q, struct worker_quota_limits *ret)
{
    *ret = (struct worker_quota_limits){.weight = q->weight};
    ret->max[WORKER_QUOTA_SESSIONS] = q->sessions;
    ret->max[WORKER_QUOTA_EXECUTIONS] = q->executions;
    ret->max[WORKER_QUOTA_REQUESTS] = q->requests;
    ret->max[WORKER_QUOTA_BYTES] = (uint64_t)q->queued_mib << 20;
}

static bool read_limits(const struct worker_catalog *c, const struct sched_catalog_entry *e,
    struct worker_quota_limits *ret)
{
    struct proto_quota q;
    struct base_error err;
    if (proto_quota_parse(e->value, e->value_n, &q, &err) != 0) {
        LOG_ERROR(c->config.log, "limits of '%s' are not taken: %s", e->key, err.text);
        return false;
    }
    limits_of(&q, ret);
    return true;
}

static int set_tenants(struct worker_catalog *c, const struct sched_catalog *known)
{
    const struct worker_catalog_config *y = &c->config;
    const struct sched_catalog_entry *all =
        known == NULL ? NULL : sched_catalog_find(known, "tenants", "");
    struct worker_quota_limits every = y->tenant;
    if (all != NULL) {
        (void)read_limits(c, all, &every);
    }
    if (known == NULL || !sched_catalog_has(known, "tenant/")) {
        return worker_session_tenants(y->sessions, &every, y->tenants, y->tenants_n);
    }
    struct worker_quota_tenant *own = calloc(sched_catalog_n(known), sizeof *own);
    uint32_t n = 0;
    for (uint32_t i = 0; own != NULL && i < sched_catalog_n(known); i++) {
        const struct sched_catalog_entry *e = sched_catalog_at(known, i);
        const char *id = sched_catalog_name(e, "tenant/");
        if (id != NULL && strlen(id) == 2 * PROTO_TENANT_BYTES &&
            base_text_unhex(id, own[n].tenant.id, PROTO_TENANT_BYTES) &&
            read_limits(c, e, &own[n].limits)) {
            n++;
        }
    }
    int rc = own == NULL ? BASE_ENOMEM : worker_session_tenants(y->sessions, &every, own, n);
    free(own);
    return rc;
}

/* ---- all of it ---- */

static void note_birth(struct worker_catalog *c, uint64_t birth)
{
    for (uint32_t i = 0; birth != c->birth && i < PROTO_POOLS_MAX; i++) {
        c->done[i].version = c->done[i].version == 0 ? 0 : UINT64_MAX; /* 0: still by a file */
        c->version = UINT64_MAX;
    }
    c->birth = birth;
}

int worker_catalog_apply(struct worker_catalog *c, const struct sched_catalog *known,
    const struct worker_catalog_share *share, struct base_error *err)
{
    uint64_t version = known == NULL ? 0 : sched_catalog_version(known);
    int rc = 0;
    note_birth(c, known == NULL ? 0 : sched_catalog_birth(known));
    if (version != c->version) {
        rc = set_tenants(c, known);
        c->version = rc == 0 ? version : c->version;
        if (rc != 0) {
            LOG_ERROR(c->config.log, "limits of tenants stay as they were: %s", base_err_str(rc));
        }
    }
    const struct sched_catalog *pools =
        known != NULL && sched_catalog_decides(known) ? known : NULL;
    c->none = pools != NULL && !sched_catalog_has(pools, "pool/");
    c->decides_ns = pools == NULL ? 0 : c->decides_ns == 0 ? base_clock_boot_ns() : c->decides_ns;
    bool all = retire_others(c, pools);
    int pools_rc = set_pools(c, pools, share, err);
    return pools_rc != 0 ? pools_rc
           : rc != 0     ? base_fail(err, rc, "limits of tenants: %s", base_err_str(rc))
           : all         ? 0
                 : base_fail(err, BASE_EAGAIN, "pools of files may be in the catalogue soon");
}

uint32_t worker_catalog_pools(const struct worker_catalog *c)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < PROTO_POOLS_MAX; i++) {
        n += c->done[i].there;
    }
    return n;
}

bool worker_catalog_none(const struct worker_catalog *c)
{
    return c->none;
}

int worker_catalog_create(struct worker_catalog **ret, const struct worker_catalog_config *config)
{
    struct worker_catalog *c = calloc(1, sizeof *c);
    if (c == NULL) {
        return BASE_ENOMEM;
    }
    c->config = *config;
    *ret = c;
    return 0;
}

void worker_catalog_destroy(struct worker_catalog *c)
{
    free(c);
}
