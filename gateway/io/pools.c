#include <string.h>

#include "gateway/io/task.h"
#include "proto/base/clock.h"
#include "proto/base/text.h"
#include "proto/pool/pool.h"
#include "scheduler/io/catalog.h"

/* What kind of pool it is: as the catalogue of the cluster has it; where there is none, told by
 * whichever worker answers first. */

enum {
    FRESH_S = 5,
    DEADLINE_MS = 5000, /* for all workers that are asked together */
    TRY_MS = 1000,      /* while there is another one to ask */
};

static struct gw_pool_entry *find(struct gw_api *api, const char *name)
{
    struct gw_pools *pools = gw_api_pools(api);
    struct gw_pool_entry *oldest = &pools->all[0];
    for (int i = 0; i < GW_POOLS_CACHED; i++) {
        struct gw_pool_entry *p = &pools->all[i];
        if (strcmp(p->name, name) == 0) {
            return p;
        }
        oldest = p->fetched_ns < oldest->fetched_ns ? p : oldest;
    }
    *oldest = (struct gw_pool_entry){0}; /* the name is set with the answer */
    return oldest;
}

static enum gw_pool_kind kind_of(const char *container)
{
    static const char *const names[] = {"PythonLTS", "NodeLTS", "Shell", "CustomContainer"};
    for (int i = 1; i < 4; i++) {
        if (container != NULL && gw_http_same(container, names[i])) {
            return (enum gw_pool_kind)i;
        }
    }
    return GW_POOL_PYTHON;
}

static void tell(struct gw_task *t, const struct gw_pool_entry *p)
{
    t->pool_mcp = p->mcp;
    t->pool_mcp_extended = p->mcp_extended;
    t->pool_done(t, p->kind);
}

static void on_end(void *owner, const Warren__Reply *r)
{
    struct gw_task *t = owner;
    t->call = NULL;
    if (r->status != WARREN__STATUS__STATUS_OK || r->pool == NULL) {
        struct gw_fault f;
        gw_wire_fault(r, &f);
        gw_task_fail(t, &f);
        return;
    }
    struct gw_pool_entry *p = find(t->api, t->route.pool);
    (void)base_text_copy(p->name, sizeof p->name, t->route.pool);
    p->kind = kind_of(r->pool->container_type);
    p->mcp = r->pool->mcp_enabled;
    p->mcp_extended = r->pool->mcp_extended;
    p->version = 0;
    p->fetched_ns = base_clock_mono_ns();
    tell(t, p);
}

static void ask(struct gw_task *t);

static uint32_t left_ms(const struct gw_task *t)
{
    uint64_t gone_ms = (base_clock_mono_ns() - t->pool_since_ns) / BASE_NS_PER_MS;
    return gone_ms < DEADLINE_MS ? (uint32_t)(DEADLINE_MS - gone_ms) : 0;
}

/* The worker to ask next; -1: none is left. */
static int next(const struct gw_task *t)
{
    struct gw_calls *c = gw_api_calls(t->api);
    return gw_calls_any(c, gw_calls_home(c, t->route.pool, &t->route.id), &t->pool_asked);
}

/* Nothing of the operation itself was asked yet. Any worker of a cluster can tell, or what one has
 * told a while ago will do: whose identifier it is does not wait for a worker that is gone. */
static void on_failed(void *owner, enum gw_call_failure why)
{
    struct gw_task *t = owner;
    struct gw_pool_entry *p = find(t->api, t->route.pool);
    t->call = NULL;
    if (left_ms(t) == 0 || next(t) < 0) {
        gw_task_failure(t, why == GW_CALL_LOST ? GW_CALL_UNREACHABLE : why);
    } else if (p->name[0] != '\0') {
        tell(t, p);
    } else {
        ask(t);
    }
}

static void ask(struct gw_task *t)
{
    static const struct gw_call_ops ops = {.end = on_end, .failed = on_failed};
    Warren__Request r;
    Warren__Key key;
    Warren__PoolGet get = WARREN__POOL_GET__INIT;
    gw_task_request(t, &r, &key);
    key.identifier.len = 0;
    r.expect_generation = 0;
    r.op_case = WARREN__REQUEST__OP_POOL_GET;
    r.pool_get = &get;
    int worker = next(t);
    if (worker >= 0) {
        gw_calls_note(&t->pool_asked, (unsigned)worker);
    }
    /* One that is late is left for another only when that one could answer. */
    struct gw_calls *c = gw_api_calls(t->api);
    int other = next(t);
    bool known = find(t->api, t->route.pool)->name[0] != '\0'; /* what was told once will do */
    bool better = other >= 0 && (known || gw_calls_ready(c, (unsigned)other));
    uint32_t left = left_ms(t);
    struct gw_call_options opt = {.kind = GW_CALL_READ,
        .deadline_ms = left > TRY_MS && better ? TRY_MS : left,
        .punctual = true,
        .ops = &ops};
    (void)gw_task_call_at(t, worker, &r, &opt);
}

/* ---- the catalogue ---- */

static const struct sched_catalog *catalog_of(const struct gw_task *t)
{
    const struct sched_catalog *c = gw_calls_catalog(gw_api_calls(t->api));
    return c != NULL && sched_catalog_decides(c) ? c : NULL;
}

bool gw_task_pool_unknown(const struct gw_task *t)
{
    const struct sched_catalog *c = catalog_of(t);
    return c != NULL && sched_catalog_find(c, "pool/", t->route.pool) == NULL;
}

bool gw_task_pool_listed(const struct gw_task *t)
{
    return catalog_of(t) != NULL && !gw_task_pool_unknown(t);
}

/* False: it cannot be read, which a voter that is newer than this gateway may have let in. */
static bool read_entry(struct gw_pool_entry *p, const struct sched_catalog_entry *e)
{
    struct proto_pool pool;
    if (proto_pool_parse(e->value, e->value_n, &pool, NULL) != 0) {
        return false;
    }
    (void)base_text_copy(p->name, sizeof p->name, pool.name);
    p->kind = kind_of(proto_pool_container_text(pool.container));
    p->mcp = pool.mcp;
    p->mcp_extended = pool.mcp_extended;
    p->version = e->version;
    proto_pool_deinit(&pool);
    return true;
}

/* False: the catalogue does not tell. */
static bool from_catalog(struct gw_task *t, struct gw_pool_entry *p)
{
    const struct sched_catalog *c = catalog_of(t);
    const struct sched_catalog_entry *e =
        c == NULL ? NULL : sched_catalog_find(c, "pool/", t->route.pool);
    if (e == NULL || ((p->name[0] == '\0' || p->version != e->version) && !read_entry(p, e))) {
        return false;
    }
    p->fetched_ns = base_clock_mono_ns();
    tell(t, p);
    return true;
}

void gw_task_pool(struct gw_task *t, void (*done)(struct gw_task *t, enum gw_pool_kind kind))
{
    struct gw_pool_entry *p = find(t->api, t->route.pool);
    uint64_t age = base_clock_mono_ns() - p->fetched_ns;
    t->pool_done = done;
    if (from_catalog(t, p)) {
        return;
    }
    if (p->name[0] != '\0' && age < FRESH_S * BASE_NS_PER_S) {
        tell(t, p);
        return;
    }
    t->pool_asked = (struct gw_calls_asked){0};
    t->pool_since_ns = base_clock_mono_ns();
    ask(t);
}
