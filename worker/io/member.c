#include "worker/io/member.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base/clock.h"
#include "proto/base/container.h"
#include "proto/net/cluster_key.h"
#include "scheduler/core/map.h"
#include "scheduler/core/name.h"
#include "scheduler/io/host_node.h"

enum { UNUSED_MS = 30000, LOOK_MS = 1000, SHUT_MS_MIN = 500, SHUT_MS_MAX = 5000 };

/* A session that the cluster has bound to this worker. */
struct bound {
    struct worker_member *member;
    struct sched_key key;
    sched_epoch epoch; /* 0: free */
    uint64_t since_ns; /* nobody has wanted it since */
    uint32_t waits;    /* requests that wait for its microVM */
    bool made;         /* it has, or had, its microVM */
    bool told;         /* an outcome, without a microVM */
    bool ending;
    struct worker_session_ref ref; /* made */
    struct worker_session_use use;
    uint32_t next; /* of the free list */
};

struct worker_member {
    struct worker_member_config config;
    struct sched_settings *settings;
    struct sched_host_node *host;
    struct bound *all;
    uint32_t n, free;
    struct sched_map by_key;
    void *map_mem;
    ev_timer look;
    bool closed; /* no new sessions */
};

static struct bound *find(const struct worker_member *m, struct sched_key key)
{
    uint32_t i = sched_map_get(&m->by_key, key.hi, key.lo);
    return i == SCHED_MAP_NONE ? NULL : &m->all[i];
}

static void drop(struct bound *b)
{
    struct worker_member *m = b->member;
    worker_session_use_remove(&b->use);
    sched_map_del(&m->by_key, b->key.hi, b->key.lo);
    b->epoch = 0;
    b->next = m->free;
    m->free = (uint32_t)(b - m->all);
}

/* It is over here, and so for the cluster. */
static void down(struct bound *b)
{
    sched_host_node_down(b->member->host, b->key, b->epoch);
    drop(b);
}

/* The same, where this process was bound to it and has made no microVM for it. Only this worker
 * knows the outcomes that it has told: for any other one something may have run. */
static void give_up(struct bound *b)
{
    (b->told ? sched_host_node_down : sched_host_node_unused)(b->member->host, b->key, b->epoch);
    drop(b);
}

static void on_ended(struct worker_session_use *u, enum worker_end end, bool gone)
{
    struct bound *b = CONTAINER_OF(u, struct bound, use);
    (void)end;
    b->ending = true;
    if (gone) {
        down(b);
    }
}

static struct bound *take(struct worker_member *m, struct sched_key key, sched_epoch epoch)
{
    if (m->free == SCHED_MAP_NONE || find(m, key) != NULL) {
        return NULL;
    }
    struct bound *b = &m->all[m->free];
    m->free = b->next;
    *b = (struct bound){.member = m, .key = key, .epoch = epoch, .since_ns = base_clock_boot_ns()};
    worker_session_use_init(&b->use);
    b->use.ended = on_ended;
    (void)sched_map_put(&m->by_key, key.hi, key.lo, (uint32_t)(b - m->all));
    return b;
}

static void made(struct bound *b, struct worker_session_ref ref)
{
    b->made = true;
    b->ref = ref;
    worker_session_use_add(b->member->config.sessions, &b->use, ref);
}

/* ---- what the cluster wants ---- */

static void on_lease(void *user, uint64_t freeze_at_ns, uint64_t kill_at_ns, uint32_t inc)
{
    struct worker_member *m = user;
    m->config.lease(m->config.user, freeze_at_ns, kill_at_ns, freeze_at_ns == 0 ? 0 : inc);
}

static void on_start(void *user, struct sched_key key, sched_epoch epoch)
{
    struct worker_member *m = user;
    if (!m->closed && take(m, key, epoch) != NULL) {
        sched_host_node_up(m->host, key, epoch);
    } else {
        sched_host_node_unused(m->host, key, epoch);
    }
}

static void on_stop(void *user, struct sched_key key, sched_epoch epoch)
{
    struct worker_member *m = user;
    struct bound *b = find(m, key);
    if (b == NULL || b->epoch != epoch) {
        sched_host_node_down(m->host, key, epoch);
    } else if (!b->made) {
        give_up(b);
    } else if (!b->ending) {
        worker_session_end(m->config.sessions, b->ref, WORKER_END_EXPIRED);
    }
}

static void on_leave(void *user, const char *why)
{
    struct worker_member *m = user;
    m->config.lease(m->config.user, 0, 0, 0);
    m->config.leave(m->config.user, why);
}

static void on_catalog(void *user)
{
    struct worker_member *m = user;
    if (m->config.catalog_changed != NULL) {
        m->config.catalog_changed(m->config.user);
    }
}

static int on_describe(void *user, struct base_buf *to)
{
    struct worker_member *m = user;
    const struct worker_sessions *s = m->config.sessions;
    bool first = true;
    int rc = base_buf_printf(to, "\"pools\":[");
    for (uint32_t i = 0; rc == 0 && i < worker_session_pools(s); i++) {
        struct worker_session_pool_info p;
        worker_session_pool_look(m->config.sessions, i, &p);
        if (!worker_session_pool_retired(s, i) || p.active > 0) {
            rc = base_buf_printf(to,
                "%s{\"name\":\"%s\",\"target\":%u,\"ready\":%u,\"starting\":%u,\"sessions\":%u,"
                "\"deleted\":%s}",
                first ? "" : ",", p.spec->name, p.spec->ready_target, p.ready, p.starting, p.active,
                worker_session_pool_retired(s, i) ? "true" : "false");
            first = false;
        }
    }
    return rc != 0 ? rc : base_buf_printf(to, "]");
}

static const struct sched_host_ops host_ops = {.lease = on_lease,
    .vm_start = on_start,
    .vm_stop = on_stop,
    .leave = on_leave,
    .catalog = on_catalog,
    .describe = on_describe};

static void on_look(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop;
    (void)events;
    struct worker_member *m = w->data;
    uint64_t now = base_clock_boot_ns();
    for (uint32_t i = 0; i < m->n; i++) {
        struct bound *b = &m->all[i];
        if (b->epoch != 0 && !b->made && b->waits == 0 &&
            now - b->since_ns > UNUSED_MS * BASE_NS_PER_MS) {
            give_up(b);
        }
    }
}

/* ---- what gateways ask ---- */

static bool key_of(const struct worker_member *m, uint32_t pool, const struct proto_identifier *id,
    struct sched_key *ret)
{
    struct worker_session_pool_info info;
    worker_session_pool_look(m->config.sessions, pool, &info);
    return sched_name_key(m->config.cluster_key, info.spec->name, id->text, id->len, ret) == 0;
}

enum worker_member_verdict worker_member_gate(struct worker_member *m, uint32_t pool,
    const struct proto_identifier *id, uint64_t epoch, bool *ret_allocate)
{
    struct sched_key key;
    if (!key_of(m, pool, id, &key)) {
        return WORKER_MEMBER_NOT_HERE;
    }
    enum sched_host_verdict v = sched_host_node_check(m->host, key, epoch);
    struct bound *b = find(m, key);
    if (v == SCHED_HOST_NOT_HERE) {
        return WORKER_MEMBER_NOT_HERE;
    }
    if (v == SCHED_HOST_NOT_NOW || b == NULL || b->epoch != epoch || b->ending) {
        return WORKER_MEMBER_NOT_NOW; /* what ends here is soon told to be over */
    }
    *ret_allocate = !b->made;
    b->waits += !b->made;
    return WORKER_MEMBER_HERE;
}

/* The place under this epoch. */
static struct bound *find_epoch(
    const struct worker_member *m, uint32_t pool, const struct proto_identifier *id, uint64_t epoch)
{
    struct sched_key key;
    struct bound *b = key_of(m, pool, id, &key) ? find(m, key) : NULL;
    return b != NULL && b->epoch == epoch ? b : NULL;
}

void worker_member_waited(
    struct worker_member *m, uint32_t pool, const struct proto_identifier *id, uint64_t epoch)
{
    struct bound *b = find_epoch(m, pool, id, epoch);
    if (b != NULL && b->waits > 0) {
        b->waits--;
        b->since_ns = base_clock_boot_ns();
    }
}

void worker_member_told(
    struct worker_member *m, uint32_t pool, const struct proto_identifier *id, uint64_t epoch)
{
    struct bound *b = find_epoch(m, pool, id, epoch);
    if (b != NULL) {
        b->told = true;
    }
}

/* As waited(); the place, when it has no microVM and nobody waits for one. */
static struct bound *leave_unused(
    struct worker_member *m, uint32_t pool, const struct proto_identifier *id, uint64_t epoch)
{
    worker_member_waited(m, pool, id, epoch);
    struct bound *b = find_epoch(m, pool, id, epoch);
    return b == NULL || b->made || b->ending || b->waits > 0 ? NULL : b;
}

void worker_member_unused(
    struct worker_member *m, uint32_t pool, const struct proto_identifier *id, uint64_t epoch)
{
    struct bound *b = leave_unused(m, pool, id, epoch);
    if (b != NULL) {
        give_up(b);
    }
}

enum worker_member_place worker_member_failed(struct worker_member *m, uint32_t pool,
    const struct proto_identifier *id, uint64_t epoch, const struct worker_session_answer *why)
{
    struct bound *b = leave_unused(m, pool, id, epoch);
    if (b == NULL) {
        b = find_epoch(m, pool, id, epoch);
        return b != NULL && !b->made ? WORKER_MEMBER_WAITED_FOR : WORKER_MEMBER_STAYS;
    }
    uint32_t ms = why->retry_ms > SHUT_MS_MIN ? why->retry_ms : SHUT_MS_MIN;
    bool all = why->what == WORKER_ANSWER_FULL && why->all_pools;
    sched_host_node_shut(m->host, all ? NULL : &b->key, ms < SHUT_MS_MAX ? ms : SHUT_MS_MAX);
    give_up(b);
    return WORKER_MEMBER_GIVEN_UP;
}

bool worker_member_made(struct worker_member *m, uint32_t pool, const struct proto_identifier *id,
    uint64_t epoch, struct worker_session_ref ref)
{
    struct sched_key key;
    struct bound *b = key_of(m, pool, id, &key) ? find(m, key) : NULL;
    bool nobodys = b == NULL || (b->epoch != epoch && !b->made && b->waits == 0);
    if (nobodys) { /* given up while the microVM was on its way */
        worker_session_end(m->config.sessions, ref, WORKER_END_EXPIRED);
    } else if (b->epoch == epoch && !b->made) {
        made(b, ref);
    }
    return b != NULL && b->epoch == epoch;
}

uint64_t worker_member_generation(
    struct worker_member *m, uint32_t pool, const struct proto_identifier *id)
{
    struct sched_key key;
    const struct bound *b = key_of(m, pool, id, &key) ? find(m, key) : NULL;
    return b == NULL ? 0 : b->epoch;
}

bool worker_member_has(struct worker_member *m, uint32_t pool, const struct proto_identifier *id)
{
    struct sched_key key;
    const struct bound *b = key_of(m, pool, id, &key) ? find(m, key) : NULL;
    return b != NULL && b->made;
}

bool worker_member_moved(struct worker_member *m, uint32_t pool, const struct proto_identifier *id)
{
    struct sched_key key;
    return key_of(m, pool, id, &key) && sched_host_node_moved(m->host, key);
}

/* What has no microVM yet is better off elsewhere. */
static void close_door(struct worker_member *m)
{
    m->closed = true;
    for (uint32_t i = 0; i < m->n; i++) {
        struct bound *b = &m->all[i];
        if (b->epoch != 0 && !b->made && b->waits == 0) {
            give_up(b);
        }
    }
}

void worker_member_drain(struct worker_member *m)
{
    close_door(m);
    sched_host_node_drain(m->host, SCHED_NEVER_MS, true);
}

void worker_member_undrain(struct worker_member *m)
{
    m->closed = false;
    sched_host_node_undrain(m->host);
}

void worker_member_leave(struct worker_member *m)
{
    close_door(m);
    sched_host_node_drain(m->host, 0, false);
}

bool worker_member_gave_back(const struct worker_member *m)
{
    return sched_drain_left(&sched_host_node_core(m->host)->drain);
}

const struct sched_catalog *worker_member_catalog(const struct worker_member *m)
{
    return sched_host_node_catalog(m->host);
}

bool worker_member_knows_pools(const struct worker_member *m)
{
    const struct sched_catalog *c = worker_member_catalog(m);
    return c == NULL ? sched_host_node_catalog_empty(m->host) : !sched_catalog_decides(c);
}

uint32_t worker_member_share(const struct worker_member *m, uint32_t pool, uint32_t ready)
{
    return sched_host_node_share(m->host, pool, ready);
}

bool worker_member_joined(const struct worker_member *m)
{
    return sched_host_node_joined(m->host);
}

uint32_t worker_member_lease_ms(const struct worker_member *m)
{
    return m->settings->lease_ms;
}

/* ---- life ---- */

static void adopt(void *ctx, struct sched_key key, sched_epoch epoch, bool stop)
{
    struct bound *b = take(ctx, key, epoch);
    if (b != NULL) {
        b->ending = stop;
    }
}

/* Sessions here that the cluster has not bound to this life of the worker end; those that it has
 * bound and that are not here any more are over. */
static void reconcile(struct worker_member *m)
{
    struct worker_sessions *s = m->config.sessions;
    struct worker_session_info info;
    sched_host_node_each(m->host, adopt, m);
    for (uint32_t pool = 0; pool < worker_session_pools(s); pool++) {
        uint32_t i = WORKER_NONE;
        while ((i = worker_session_next(s, pool, i, &info)) != WORKER_NONE) {
            struct sched_key key;
            struct bound *b = key_of(m, pool, &info.id, &key) ? find(m, key) : NULL;
            if (b == NULL) {
                worker_session_end(s, info.ref, WORKER_END_RESTART);
            } else {
                made(b, info.ref);
            }
        }
    }
    for (uint32_t i = 0; i < m->n; i++) {
        struct bound *b = &m->all[i];
        if (b->epoch != 0 && !b->made) {
            down(b);
        } else if (b->epoch != 0 && b->ending) {
            worker_session_end(s, b->ref, WORKER_END_EXPIRED);
        } else if (b->epoch != 0) {
            sched_host_node_up(m->host, b->key, b->epoch);
        }
    }
}

static int make_table(struct worker_member *m, struct base_error *err)
{
    struct sched_mem mem = {0};
    /* As many as the cluster's record of this worker: there may be more than there are places now.
     */
    m->n = sched_host_node_core(m->host)->cfg->sess_max;
    m->all = calloc(m->n, sizeof *m->all);
    sched_map_init(&m->by_key, m->n, &mem);
    m->map_mem = aligned_alloc(16, mem.used);
    if (m->all == NULL || m->map_mem == NULL) {
        return base_fail(err, BASE_ENOMEM, "cluster: out of memory");
    }
    mem = (struct sched_mem){.base = m->map_mem, .size = mem.used};
    sched_map_init(&m->by_key, m->n, &mem);
    for (uint32_t i = 0; i < m->n; i++) {
        m->all[i].next = i + 1 < m->n ? i + 1 : SCHED_MAP_NONE;
    }
    return 0;
}

static int start(struct worker_member *m, struct base_error *err)
{
    uint8_t key[16];
    int rc = sched_settings_load(m->config.settings, &m->settings, err);
    rc = rc != 0 ? rc : proto_net_cluster_key_read(m->settings->cluster_key, key, err);
    if (rc == 0 && memcmp(key, m->config.cluster_key, sizeof key) != 0) {
        rc = base_fail(err, BASE_EINVAL, "cluster_key: is not the one that '%.100s' names",
            m->config.settings);
    }
    if (rc != 0) {
        return rc;
    }
    struct sched_host_cfg c = {.loop = m->config.loop,
        .log = m->config.log,
        .settings = m->settings,
        .run_dir = m->config.run_dir,
        .sess_max = m->config.sessions_max,
        .catalog = m->config.catalog,
        .ops = &host_ops,
        .user = m};
    if (m->config.ctl != NULL) {
        rc = sched_settings_port(m->settings, "ctl", m->config.ctl, &c.ctl_port, err);
        rc = rc != 0 ? rc
                     : sched_settings_port(m->settings, "bulk", m->config.bulk, &c.bulk_port, err);
    }
    rc = rc != 0 ? rc : sched_host_node_create(&m->host, &c, err);
    return rc != 0 ? rc : make_table(m, err);
}

int worker_member_create(
    struct worker_member **ret, const struct worker_member_config *config, struct base_error *err)
{
    struct worker_member *m = calloc(1, sizeof *m);
    if (m == NULL) {
        return base_fail(err, BASE_ENOMEM, "cluster: out of memory");
    }
    m->config = *config;
    ev_timer_init(&m->look, on_look, LOOK_MS / 1e3, LOOK_MS / 1e3);
    m->look.data = m;
    int rc = start(m, err);
    if (rc != 0) {
        worker_member_destroy(m);
        return rc;
    }
    reconcile(m);
    ev_timer_start(config->loop, &m->look);
    *ret = m;
    return 0;
}

void worker_member_destroy(struct worker_member *m)
{
    if (m == NULL) {
        return;
    }
    ev_timer_stop(m->config.loop, &m->look);
    for (uint32_t i = 0; m->all != NULL && i < m->n; i++) {
        if (m->all[i].epoch != 0) {
            worker_session_use_remove(&m->all[i].use);
        }
    }
    sched_host_node_destroy(m->host);
    sched_settings_destroy(m->settings);
    free(m->all);
    free(m->map_mem);
    free(m);
}
