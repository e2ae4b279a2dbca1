#include "worker/io/pool_file.h"

#include <string.h>

/* Takes over what p owns. */
static void take(struct worker_pool_file *to, struct proto_pool *p)
{
    *to = (struct worker_pool_file){.container = p->container,
        .cpus = p->cpus,
        .memory_mib = p->memory_mib,
        .mcp = p->mcp,
        .mcp_extended = p->mcp_extended,
        .warnings = p->warnings};
    struct worker_pool_spec *s = &to->spec;
    _Static_assert(sizeof s->name == sizeof p->name, "names of pools");
    memcpy(s->name, p->name, sizeof s->name);
    s->sessions_max = p->sessions_max;
    s->ready_target = p->ready_target;
    s->lifecycle = p->on_exit ? WORKER_LIFECYCLE_ON_EXIT : WORKER_LIFECYCLE_TIMED;
    s->cooldown_ms = p->cooldown_ms;
    s->alive_ms_max = p->alive_ms_max;
    s->whole.max[WORKER_QUOTA_EXECUTIONS] = p->executions_max;
    s->each.max[WORKER_QUOTA_SESSIONS] = p->tenant_sessions_max;
    s->each.max[WORKER_QUOTA_EXECUTIONS] = p->tenant_executions_max;
}

int worker_pool_file_parse(
    const char *json, size_t n, struct worker_pool_file *ret, struct base_error *err)
{
    struct proto_pool p;
    int rc = proto_pool_parse(json, n, &p, err);
    if (rc == 0) {
        take(ret, &p);
    }
    return rc;
}

int worker_pool_file_load(const char *path, struct worker_pool_file *ret, struct base_error *err)
{
    struct proto_pool p;
    int rc = proto_pool_load(path, &p, err);
    if (rc == 0) {
        take(ret, &p);
    }
    return rc;
}

void worker_pool_file_deinit(struct worker_pool_file *f)
{
    base_buf_deinit(&f->warnings);
}
