#include "worker/io/session_io.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/hash.h"
#include "proto/base/rand.h"
#include "proto/base/text.h"
#include "scheduler/core/place.h"
#include "worker/io/session_state.h"
#include "worker/wire/rows.h"

enum {
    WAITERS_DEFAULT = 4096,
    TOMBS_MAX = 16384,
    EXECS_DEFAULT = 131072,
    REQUESTS_DEFAULT = 8192,
    RUNNING_MAX = 2048,
    RUNNING_PER_SESSION_MAX = 32
};
static const uint64_t event_bytes_default = UINT64_C(128) << 20;
static const proto_epoch epoch_base = UINT64_C(1) << 32; /* view 1: a static list of workers */

uint64_t worker_session_now(void)
{
    return base_clock_boot_ns();
}

const char *worker_session_log_name(uint64_t hash, char text[17])
{
    (void)snprintf(text, 17, "%016llx", (unsigned long long)hash);
    return text;
}

/* --- steps --------------------------------------------------------------------------------- */

void worker_session_arm(struct worker_sessions *s)
{
    uint64_t now = worker_session_now();
    uint64_t due = worker_pool_deadline_ns(s->pools);
    uint64_t exec = worker_exec_deadline_ns(s->execs);
    due = exec < due ? exec : due;
    ev_timer_stop(s->config.loop, &s->timer);
    if (due != UINT64_MAX) {
        /* Boot time may run on while the loop's clock sleeps: look at least every minute. */
        double wait = due > now ? (double)(due - now) / 1e9 : 0.;
        ev_timer_set(&s->timer, wait < 60. ? wait : 60., 0.);
        ev_timer_start(s->config.loop, &s->timer);
    }
}

static int run(struct worker_sessions *s, struct worker_pool_event *ev)
{
    struct worker_pool_fx fx;
    ev->now_ns = worker_session_now();
    int rc = worker_pool_step(s->pools, ev);
    while (worker_pool_take(s->pools, &fx)) {
        worker_session_carry_out(s, &fx);
    }
    return rc;
}

static bool queue(struct worker_sessions *s, const struct worker_pool_event *ev)
{
    struct session_queued q = {.ev = *ev};
    if (ev->id != NULL) {
        q.id = *ev->id;
    }
    if (ev->text != NULL) {
        (void)snprintf(q.text, sizeof q.text, "%s", ev->text);
    }
    return base_buf_add(&s->queue, &q, sizeof q) == 0;
}

int worker_session_step(struct worker_sessions *s, const struct worker_pool_event *ev)
{
    if (s->stepping) {
        /* Out of memory with effects half done: the successor takes over from the store. */
        REQUIRE(queue(s, ev));
        return 0;
    }
    s->stepping = true;
    struct worker_pool_event first = *ev;
    int rc = run(s, &first);
    struct session_queued q;
    while (base_buf_size(&s->queue) > 0) {
        memcpy(&q, base_buf_data(&s->queue), sizeof q);
        base_buf_consume(&s->queue, sizeof q);
        q.ev.id = q.ev.id == NULL ? NULL : &q.id;
        q.ev.text = q.ev.text == NULL ? NULL : q.text;
        (void)run(s, &q.ev);
    }
    s->stepping = false;
    worker_session_arm(s);
    if (s->started && s->config.on_change != NULL) {
        s->config.on_change(s->config.user);
    }
    return rc;
}

static void on_timer(struct ev_loop *loop, struct ev_timer *w, int events)
{
    (void)loop;
    (void)events;
    struct worker_sessions *s = CONTAINER_OF(w, struct worker_sessions, timer);
    worker_exec_io_expire(s);
    (void)worker_session_step(s, &(struct worker_pool_event){.kind = WORKER_EV_TICK});
}

/* --- engine -------------------------------------------------------------------------------- */

static void on_ready(void *user, uint32_t slot)
{
    struct worker_sessions *s = user;
    const struct worker_slot *v = &s->pools->slots[slot];
    bool adopted = v->state == WORKER_SLOT_ADOPTING && v->session != WORKER_NONE;
    uint32_t session = v->session;
    (void)worker_session_step(
        s, &(struct worker_pool_event){.kind = WORKER_EV_VM_READY, .slot = slot});
    if (adopted) {
        worker_exec_io_resume(
            s, (struct worker_session_ref){session, s->pools->sessions[session].epoch, slot});
    }
}

static void on_dead(void *user, uint32_t slot, const char *why)
{
    struct worker_sessions *s = user;
    LOG_WARN(s->config.log, "microVM failed, replacing it slot=%u why=%s", slot, why);
    (void)worker_session_step(
        s, &(struct worker_pool_event){.kind = WORKER_EV_VM_DEAD, .slot = slot, .text = why});
}

static void on_gone(void *user, uint32_t slot)
{
    (void)worker_session_step(
        user, &(struct worker_pool_event){.kind = WORKER_EV_VM_GONE, .slot = slot});
}

static void on_frozen(void *user, bool on)
{
    (void)worker_session_step(
        user, &(struct worker_pool_event){.kind = on ? WORKER_EV_FREEZE : WORKER_EV_THAW});
}

const struct worker_engine_events *worker_session_engine_events(struct worker_sessions *s)
{
    return &s->events;
}

void worker_session_set_engine(struct worker_sessions *s, struct worker_engine *e)
{
    s->engine = e;
}

/* --- life ---------------------------------------------------------------------------------- */

static uint32_t or_else(uint32_t v, uint32_t other)
{
    return v != 0 ? v : other;
}

static int cores_create(struct worker_sessions *s, proto_epoch first, struct base_error *err)
{
    const struct worker_session_config *c = &s->config;
    struct worker_pool_config pools = {.vms_max = c->vms_max,
        .waiters_max = or_else(c->waiters_max, WAITERS_DEFAULT),
        .tombs_max = TOMBS_MAX,
        .starts_max = c->starts_max,
        .replenish_ms = c->replenish_ms,
        .epoch_next = first,
        .epoch_limit = first + WORKER_POOL_EPOCH_BLOCK,
        .counted_max = or_else(c->requests_max, REQUESTS_DEFAULT) + RUNNING_MAX,
        .tenant = c->tenant,
        .tenants = c->tenants,
        .tenants_n = c->tenants_n,
        .tenants_max = WORKER_QUOTA_TENANTS_MAX,
        .drop_unwanted = c->drop_unwanted};
    base_rand_bytes(pools.quota_key, sizeof pools.quota_key);
    struct worker_exec_config execs = {.execs_max = or_else(c->execs_max, EXECS_DEFAULT),
        .running_max = RUNNING_MAX,
        .per_session_max = RUNNING_PER_SESSION_MAX,
        .retention_ms = c->retention_ms,
        .bytes_max = c->event_bytes_max != 0 ? c->event_bytes_max : event_bytes_default};
    execs.exec_bytes_max = execs.bytes_max / 4;
    base_rand_bytes(execs.key, sizeof execs.key);
    size_t pools_n = worker_pool_size(&pools, PROTO_POOLS_MAX), execs_n = worker_exec_size(&execs);
    if (pools_n == 0 || execs_n == 0) {
        return base_fail(err, BASE_EINVAL, "limits of the worker are out of range");
    }
    void *pools_mem = malloc(pools_n), *execs_mem = malloc(execs_n);
    s->slots = calloc(c->vms_max, sizeof *s->slots);
    s->uses = calloc(c->vms_max, sizeof *s->uses);
    if (pools_mem == NULL || execs_mem == NULL || s->slots == NULL || s->uses == NULL) {
        free(pools_mem);
        free(execs_mem);
        return base_fail(err, BASE_ENOMEM, "out of memory");
    }
    /* Sizes were just computed: these cannot fail. */
    REQUIRE(worker_pool_init(
                &s->pools, &pools, PROTO_POOLS_MAX, worker_session_now(), pools_mem, pools_n) == 0);
    execs.quota = s->pools->quota;
    REQUIRE(worker_exec_init(&s->execs, &execs, execs_mem, execs_n) == 0);
    for (uint32_t i = 0; i < c->vms_max; i++) {
        s->slots[i].owner = s;
        s->slots[i].index = i;
        worker_store_wait_init(&s->slots[i].commit);
        worker_list_init(&s->uses[i]);
    }
    return 0;
}

int worker_session_create(const struct worker_session_config *config, struct worker_sessions **ret,
    struct base_error *err)
{
    /* Epochs are set aside in blocks, on disk, before the first of them is used: they grow over
     * restarts and reboots. */
    uint64_t first = 0;
    int rc = worker_store_meta_get(config->node, "epoch_limit", &first);
    first = first == 0 ? epoch_base + 1 : first;
    if (rc == 0 && (first >> 32) != (epoch_base >> 32)) {
        return base_fail(err, BASE_EFULL, "the epochs of this view are used up");
    }
    rc = rc != 0
             ? rc
             : worker_store_meta_set(config->node, "epoch_limit", first + WORKER_POOL_EPOCH_BLOCK);
    if (rc != 0) {
        return base_fail(err, rc, "epochs cannot be set aside: %s", base_err_str(rc));
    }
    struct worker_sessions *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return base_fail(err, BASE_ENOMEM, "out of memory");
    }
    s->config = *config;
    s->events = (struct worker_engine_events){.user = s,
        .template_state = worker_session_on_template,
        .vm_ready = on_ready,
        .vm_dead = on_dead,
        .vm_gone = on_gone,
        .frozen = on_frozen};
    ev_timer_init(&s->timer, on_timer, 0., 0.);
    ev_timer_init(&s->epochs_again, worker_session_on_epochs, 0., 0.);
    s->epochs_again.data = s;
    worker_list_init(&s->lives);
    rc = cores_create(s, first, err);
    if (rc != 0) {
        worker_session_destroy(s);
        return rc;
    }
    *ret = s;
    return 0;
}

void worker_session_destroy(struct worker_sessions *s)
{
    if (s == NULL) {
        return;
    }
    ev_timer_stop(s->config.loop, &s->epochs_again);
    ev_timer_stop(s->config.loop, &s->timer);
    if (s->execs != NULL) {
        worker_exec_io_destroy(s);
    }
    for (uint32_t i = 0; s->pools != NULL && i < s->config.vms_max; i++) {
        worker_store_wait_cancel(&s->slots[i].commit);
    }
    free(s->pools);
    free(s->execs);
    free(s->slots);
    free(s->uses);
    free(s->tenants);
    base_buf_deinit(&s->queue);
    free(s);
}

int worker_session_start(struct worker_sessions *s, struct base_error *err)
{
    worker_engine_look(s->engine);
    int rc = worker_session_restore(s, err);
    s->started = rc == 0;
    (void)worker_session_step(s, &(struct worker_pool_event){.kind = WORKER_EV_TICK});
    return rc;
}

void worker_session_drain(struct worker_sessions *s, bool on, bool end_all)
{
    (void)worker_session_step(
        s, &(struct worker_pool_event){.kind = WORKER_EV_DRAIN, .on = on, .end_all = end_all});
}

bool worker_session_idle(const struct worker_sessions *s)
{
    return worker_pool_idle(s->pools);
}

struct worker_session_counts worker_session_counts(const struct worker_sessions *s)
{
    return (struct worker_session_counts){
        .sessions = s->pools->sessions_n, .microvms = s->pools->cfg.vms_max - s->pools->free_n};
}

bool worker_session_ready(const struct worker_sessions *s)
{
    for (uint32_t i = 0; i < s->pools->n && !s->pools->drain; i++) {
        const struct worker_pool *p = &s->pools->pools[i];
        if (p->retired) {
            continue;
        }
        uint32_t max = p->spec.sessions_max;
        uint32_t room = max > p->sessions ? max - p->sessions : 0;
        uint32_t want = p->spec.ready_target < room ? p->spec.ready_target : room;
        if (p->template != WORKER_POOL_TEMPLATE_READY || p->slots[WORKER_SLOT_READY] < want) {
            return false;
        }
    }
    return true;
}

/* --- pools and sessions -------------------------------------------------------------------- */

bool worker_session_leased(struct worker_sessions *s)
{
    worker_engine_look(s->engine); /* its timer may be late, or this process was stopped */
    return !s->pools->frozen;
}

bool worker_session_frozen(const struct worker_sessions *s)
{
    return s->pools->frozen;
}

struct worker_quota *worker_session_quota(struct worker_sessions *s)
{
    return s->pools->quota;
}

uint64_t worker_session_hash(
    const struct worker_sessions *s, uint32_t pool, const struct proto_identifier *id)
{
    uint64_t h = 0;
    /* Names and identifiers that passed their checks always fit. */
    REQUIRE(sched_place_key(s->config.cluster_key, s->pools->pools[pool].spec.name, id->text,
                id->len, &h) == 0);
    return h;
}

void worker_session_acquire(struct worker_sessions *s, struct worker_session_want *w)
{
    w->waiting = true;
    worker_engine_look(s->engine); /* its timer may be late, or this process was stopped */
    uint64_t now = worker_session_now();
    (void)worker_session_step(
        s, &(struct worker_pool_event){.kind = WORKER_EV_REQUEST,
               .request = (uint64_t)(uintptr_t)w,
               .pool = w->pool,
               .hash = worker_session_hash(s, w->pool, &w->id),
               .id = &w->id,
               .tenant = w->tenant,
               .allocate = w->allocate,
               .generation = w->generation,
               .deadline_ns = w->deadline_ms == 0 ? 0 : now + w->deadline_ms * BASE_NS_PER_MS});
}

void worker_session_cancel(struct worker_sessions *s, struct worker_session_want *w)
{
    if (w->waiting) {
        w->waiting = false;
        (void)worker_session_step(s, &(struct worker_pool_event){.kind = WORKER_EV_CANCEL,
                                         .request = (uint64_t)(uintptr_t)w});
    }
}

static void use_event(struct worker_sessions *s, enum worker_pool_event_kind kind,
    struct worker_session_ref ref, enum worker_end end)
{
    if (ref.epoch != 0) {
        (void)worker_session_step(
            s, &(struct worker_pool_event){
                   .kind = kind, .session = ref.session, .epoch = ref.epoch, .end = end});
    }
}

void worker_session_release(struct worker_sessions *s, struct worker_session_ref ref)
{
    use_event(s, WORKER_EV_RELEASE, ref, WORKER_END_NONE);
}

void worker_session_end(
    struct worker_sessions *s, struct worker_session_ref ref, enum worker_end end)
{
    use_event(s, WORKER_EV_END, ref, end);
}

void worker_session_use_init(struct worker_session_use *u)
{
    worker_list_init(&u->link);
}

void worker_session_use_add(
    struct worker_sessions *s, struct worker_session_use *u, struct worker_session_ref ref)
{
    worker_list_remove(&u->link);
    worker_list_append(&s->uses[ref.session], &u->link);
}

void worker_session_use_remove(struct worker_session_use *u)
{
    worker_list_remove(&u->link);
}

static const char *state_text(enum worker_session_state state)
{
    switch (state) {
    case WORKER_SESSION_LIVE:
        return "running";
    case WORKER_SESSION_FROZEN:
        return "frozen";
    case WORKER_SESSION_ENDING:
        return "ending";
    case WORKER_SESSION_FREE:
    case WORKER_SESSION_WAITING:
    case WORKER_SESSION_CLAIMED:
    case WORKER_SESSION_ADOPTING:
    case WORKER_SESSION_STATE_END:
        break;
    }
    return "allocating";
}

static void describe(
    struct worker_sessions *s, const struct worker_session *x, struct worker_session_info *ret)
{
    uint64_t real = base_clock_real_ns(), boot = worker_session_now();
    uint64_t expires = worker_pool_expires_ns(s->pools, x);
    *ret = (struct worker_session_info){.ref = {x->index, x->epoch, x->slot},
        .id = x->id,
        .state = state_text(x->state),
        .recreated = worker_pool_end_text(x->recreated),
        .created_ns = real - (boot - x->created_ns),
        .last_ns = real - (boot - x->last_ns),
        .expires_ns = expires == UINT64_MAX ? 0 : real + expires - boot};
    memcpy(ret->vm_id, s->slots[x->slot].vm_id, sizeof ret->vm_id);
}

static bool shown(const struct worker_session *x)
{
    return x->state != WORKER_SESSION_FREE && x->state != WORKER_SESSION_WAITING &&
           x->state != WORKER_SESSION_CLAIMED;
}

bool worker_session_find(struct worker_sessions *s, uint32_t pool,
    const struct proto_identifier *id, struct worker_session_info *ret)
{
    uint32_t i = worker_pool_session_find(s->pools, pool, worker_session_hash(s, pool, id), id);
    if (i == WORKER_NONE || !shown(&s->pools->sessions[i])) {
        return false;
    }
    describe(s, &s->pools->sessions[i], ret);
    return true;
}

bool worker_session_look(
    struct worker_sessions *s, struct worker_session_ref ref, struct worker_session_info *ret)
{
    if (ref.epoch == 0 || s->pools->sessions[ref.session].epoch != ref.epoch ||
        !shown(&s->pools->sessions[ref.session])) {
        return false;
    }
    describe(s, &s->pools->sessions[ref.session], ret);
    return true;
}

uint32_t worker_session_next(
    struct worker_sessions *s, uint32_t pool, uint32_t after, struct worker_session_info *ret)
{
    for (uint32_t i = after == WORKER_NONE ? 0 : after + 1; i < s->config.vms_max; i++) {
        const struct worker_session *x = &s->pools->sessions[i];
        if (x->pool == pool && shown(x)) {
            describe(s, x, ret);
            return i;
        }
    }
    return WORKER_NONE;
}
