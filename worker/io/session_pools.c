#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/hash.h"
#include "proto/base/text.h"
#include "worker/io/session_state.h"

/* Pools come, change and go while the worker runs. A pool whose microVMs are to be others keeps its
 * template until there is a new one. */

static const char *name_of(const struct worker_sessions *s, uint32_t pool)
{
    return s->pools->pools[pool].spec.name;
}

static uint32_t pool_of(const struct worker_sessions *s, uint32_t engine_pool)
{
    for (uint32_t i = 0; i < s->pools->n; i++) {
        if (s->shell[i].engine == engine_pool || s->shell[i].next == engine_pool) {
            return i;
        }
    }
    return WORKER_NONE;
}

const char *worker_session_pool_name(const struct worker_sessions *s, uint32_t engine_pool)
{
    uint32_t i = pool_of(s, engine_pool);
    return i == WORKER_NONE ? "" : name_of(s, i);
}

static void drop(struct worker_sessions *s, uint32_t *engine_pool)
{
    if (*engine_pool != WORKER_NONE) {
        worker_engine_pool_drop(s->engine, *engine_pool);
        *engine_pool = WORKER_NONE;
    }
}

static uint64_t template_hash(const char *id)
{
    static const uint8_t key[16];
    return base_hash_sip24(key, id, strlen(id)) | 1;
}

static void tell_template(
    struct worker_sessions *s, uint32_t i, enum worker_template_state state, const char *text)
{
    struct session_pool *p = &s->shell[i];
    struct worker_pool_event ev = {.kind = WORKER_EV_TEMPLATE, .pool = i, .text = text};
    if (state == WORKER_TEMPLATE_READY) {
        ev.template = WORKER_POOL_TEMPLATE_READY;
        uint64_t hash = template_hash(text);
        ev.renewed = p->template != 0 && p->template != hash;
        p->template = hash;
        (void)snprintf(p->template_id, sizeof p->template_id, "%s", text);
        (void)snprintf(p->state, sizeof p->state, "ready");
    } else if (state == WORKER_TEMPLATE_FAILED) {
        ev.template = WORKER_POOL_TEMPLATE_FAILED;
        (void)snprintf(p->state, sizeof p->state, "failed: %s", text);
    } else {
        ev.template = WORKER_POOL_TEMPLATE_NONE;
        (void)snprintf(p->state, sizeof p->state, "building");
    }
    (void)worker_session_step(s, &ev);
}

void worker_session_on_template(
    void *user, uint32_t engine_pool, enum worker_template_state state, const char *text)
{
    struct worker_sessions *s = user;
    uint32_t i = pool_of(s, engine_pool);
    if (i == WORKER_NONE) {
        return;
    }
    struct session_pool *p = &s->shell[i];
    if (p->next == engine_pool && state == WORKER_TEMPLATE_READY) {
        drop(s, &p->engine);
        p->engine = engine_pool;
        p->next = WORKER_NONE;
    } else if (p->next == engine_pool) {
        if (state == WORKER_TEMPLATE_FAILED) {
            (void)snprintf(p->state, sizeof p->state,
                "as before its last change, whose template failed: %s", text);
        }
        return;
    }
    tell_template(s, i, state, text);
}

static int start_template(struct worker_sessions *s, const struct worker_pool_file *file,
    uint32_t *ret, struct base_error *err)
{
    static const Warren__Kernel kernels[] = {
        WARREN__KERNEL__KERNEL_PYTHON, WARREN__KERNEL__KERNEL_NODE, WARREN__KERNEL__KERNEL_SHELL};
    struct worker_engine_pool e = {.name = file->spec.name,
        .memory_mib = file->memory_mib,
        .cpus = file->cpus,
        .kernels = {kernels[file->container]}};
    return worker_engine_pool_add(s->engine, &e, ret, err);
}

static void take_file(struct session_pool *p, const struct worker_pool_file *file)
{
    p->container = file->container;
    p->cpus = file->cpus;
    p->memory_mib = file->memory_mib;
    p->mcp = file->mcp;
    p->mcp_extended = file->mcp_extended;
}

/* Names that were retired make room. */
static void forget_spent(struct worker_sessions *s)
{
    uint32_t pool;
    while ((pool = worker_pool_spent(s->pools)) != WORKER_NONE) {
        for (uint32_t i = 0; i <= s->pools->cfg.tombs_max; i++) {
            if (s->pools->tombs[i].used && s->pools->tombs[i].pool == pool) {
                worker_session_tomb(s, i, false);
            }
        }
        worker_pool_forget(s->pools, pool);
    }
}

static int add(
    struct worker_sessions *s, const struct worker_pool_file *file, struct base_error *err)
{
    uint32_t engine, i;
    if (worker_session_pool(s, file->spec.name) == WORKER_NONE &&
        s->pools->n == s->pools->pools_max) {
        forget_spent(s);
    }
    int rc = start_template(s, file, &engine, err);
    if (rc != 0) {
        return rc;
    }
    rc = worker_pool_add(s->pools, &file->spec, &i);
    if (rc != 0) {
        worker_engine_pool_drop(s->engine, engine);
        return base_fail(err, rc, "pool '%s': %s", file->spec.name, base_err_str(rc));
    }
    s->shell[i] = (struct session_pool){.engine = engine,
        .next = WORKER_NONE,
        .created_ns = base_clock_real_ns(),
        .state = "building"};
    take_file(&s->shell[i], file);
    return 0;
}

int worker_session_pool_add(
    struct worker_sessions *s, const struct worker_pool_file *file, struct base_error *err)
{
    uint32_t i = worker_session_pool(s, file->spec.name);
    if (i != WORKER_NONE && !s->pools->pools[i].retired) {
        return base_fail(err, BASE_EEXISTS, "pool '%s' is there twice", file->spec.name);
    }
    return add(s, file, err);
}

static int change(struct worker_sessions *s, uint32_t i, const struct worker_pool_file *file,
    struct base_error *err)
{
    struct session_pool *p = &s->shell[i];
    bool other = p->container != file->container || p->cpus != file->cpus ||
                 p->memory_mib != file->memory_mib;
    uint32_t next = WORKER_NONE;
    int rc = other ? start_template(s, file, &next, err) : 0;
    if (rc != 0) {
        return rc;
    }
    if (other) {
        drop(s, &p->next);
        p->next = next;
    }
    take_file(p, file);
    (void)worker_session_step(
        s, &(struct worker_pool_event){.kind = WORKER_EV_CHANGE, .pool = i, .spec = &file->spec});
    return 0;
}

int worker_session_pool_set(
    struct worker_sessions *s, const struct worker_pool_file *file, struct base_error *err)
{
    REQUIRE(!s->stepping);
    uint32_t i = worker_session_pool(s, file->spec.name);
    bool there = i != WORKER_NONE && !s->pools->pools[i].retired;
    return there ? change(s, i, file, err) : add(s, file, err);
}

void worker_session_pool_retire(struct worker_sessions *s, uint32_t pool)
{
    REQUIRE(!s->stepping);
    struct session_pool *p = &s->shell[pool];
    drop(s, &p->engine);
    drop(s, &p->next);
    (void)snprintf(p->state, sizeof p->state, "deleted");
    (void)worker_session_step(
        s, &(struct worker_pool_event){.kind = WORKER_EV_RETIRE, .pool = pool});
}

uint32_t worker_session_pools(const struct worker_sessions *s)
{
    return s->pools->n;
}

bool worker_session_pool_retired(const struct worker_sessions *s, uint32_t pool)
{
    return s->pools->pools[pool].retired;
}

int worker_session_tenants(struct worker_sessions *s, const struct worker_quota_limits *every,
    const struct worker_quota_tenant *tenants, uint32_t n)
{
    if (n > WORKER_QUOTA_TENANTS_MAX) {
        return BASE_EFULL;
    }
    struct worker_quota_tenant *own = calloc((size_t)n + 1, sizeof *own);
    if (own == NULL) {
        return BASE_ENOMEM;
    }
    if (n > 0) {
        memcpy(own, tenants, n * sizeof *own);
    }
    worker_quota_tenants(s->pools->quota, every, own, n);
    free(s->tenants);
    s->tenants = own;
    return 0;
}

uint32_t worker_session_pool(const struct worker_sessions *s, const char *name)
{
    return worker_pool_find(s->pools, name);
}

void worker_session_pool_look(
    struct worker_sessions *s, uint32_t pool, struct worker_session_pool_info *ret)
{
    const struct worker_pool *p = &s->pools->pools[pool];
    const struct session_pool *x = &s->shell[pool];
    *ret = (struct worker_session_pool_info){.spec = &p->spec,
        .container = proto_pool_container_text(x->container),
        .mcp = x->mcp,
        .mcp_extended = x->mcp_extended,
        .isolation = worker_engine_isolation(s->engine),
        .template_id = x->template_id,
        .manifest = s->config.manifest != NULL ? s->config.manifest : "",
        .state = x->state,
        .ready = p->slots[WORKER_SLOT_READY],
        .starting = p->slots[WORKER_SLOT_STARTING],
        .active = p->sessions,
        .created_ns = x->created_ns};
}
