#include <stdlib.h>

#include "proto/base/assert.h"
#include "proto/base/hash.h"
#include "tests/sim/check.h"
#include "tests/sim/vm.h"
#include "worker/core/pool_state.h"

/* A host whose microVMs are those of the worker's own pool manager: started ahead, claimed, ended,
 * frozen and, after a restart of the process, adopted as its rows say. The glue between it and the
 * session table is that of worker/io/member.c, but that a microVM is wanted as soon as its session
 * is bound, not with the first request for it. */

enum {
    READY_TARGET = 2,
    COOLDOWN_MS = 5000, /* of what nobody owns; the cluster's sessions are held */
    START_MS = 1000,    /* less than the slowest takes */
    SHUT_MS_MIN = 500,  /* as in member.c */
    SHUT_MS_MAX = 5000,
    EVENTS_MAX = 64, /* that effects of one step ask for */
};

/* What happens to a microVM, or is told to the process. */
enum what { READY, FAILED, CLAIMED, GONE };

/* A place for a microVM on the machine, and its row in the store. */
struct slot {
    bool exists;
    uint32_t gen; /* of what is there */
    bool stored;
    uint8_t state; /* enum worker_slot_state, stored */
};

struct row { /* of a session, stored */
    bool used;
    struct worker_session is;
};

/* A request for a microVM. */
struct want {
    uint64_t request; /* 0: free */
    bool given_up, deleted;
    uint64_t born_ns;
    struct sched_fx_vm id;
};

struct sim_pool {
    struct worker_pools *core;
    void *mem;
    struct slot *slots;      /* n_vms */
    struct row *rows;        /* n_vms */
    struct want *wants;      /* n_vms */
    struct sched_fx_vm *own; /* by session of the core: whose it is; epoch 0: nobody's */
    uint64_t requests, tick_ns;
    uint64_t lives;    /* of the core: one that left its cluster begins anew in the same process */
    proto_epoch limit; /* stored: epochs below are set aside */
    struct worker_pool_event next[EVENTS_MAX];
    uint32_t n_next;
};

/* ---- names ---- */

static struct proto_identifier name_of(struct sched_key key)
{
    char text[33];
    struct proto_identifier id;
    (void)snprintf(text, sizeof text, "%016llx%016llx", (unsigned long long)key.hi,
        (unsigned long long)key.lo);
    REQUIRE(proto_identifier_set(&id, text, 32) == PROTO_IDENTIFIER_OK);
    return id;
}

static uint32_t session_of(const struct sim_pool *p, struct sched_key key)
{
    struct proto_identifier id = name_of(key);
    return worker_pool_session_find(p->core, 0, key.lo, &id);
}

static bool same(const struct sched_fx_vm *a, const struct sched_fx_vm *b)
{
    return a->epoch == b->epoch && sched_key_eq(a->key, b->key);
}

static struct want *want_of(const struct sim_node *n, uint64_t request)
{
    for (uint32_t i = 0; i < n->n_vms; i++) {
        if (n->pool->wants[i].request == request) {
            return &n->pool->wants[i];
        }
    }
    return NULL;
}

static bool wanted(const struct sim_node *n, struct sched_key key)
{
    for (uint32_t i = 0; i < n->n_vms; i++) {
        const struct want *w = &n->pool->wants[i];
        if (w->request != 0 && !w->given_up && sched_key_eq(w->id.key, key)) {
            return true;
        }
    }
    return false;
}

/* ---- the machine ---- */

static void post(struct sim *s, struct sim_node *n, enum what what, uint32_t slot, uint64_t after)
{
    struct sim_event ev = {.kind = SIM_E_POOL_VM,
        .node = (uint32_t)(n - s->nodes),
        .arg = slot | (uint32_t)what << 16,
        .gen = n->pool->slots[slot].gen};
    sim_event(s, &ev, s->now_ns + after);
}

static void tell(struct sim *s, struct sim_node *n, enum what what, uint32_t slot)
{
    struct sim_event ev = {.kind = SIM_E_POOL_TELL,
        .node = (uint32_t)(n - s->nodes),
        .arg = slot | (uint32_t)what << 16,
        .gen = n->gen,
        .vm = {.key = {.lo = n->pool->lives}, .epoch = n->pool->slots[slot].gen}};
    sim_event(s, &ev, s->now_ns + 10000);
}

static void vanish(struct sim *s, struct sim_node *n, uint32_t slot)
{
    struct slot *x = &n->pool->slots[slot];
    x->exists = false;
    x->gen++;
    if (n->vms[slot].state != SIM_VM_FREE) {
        sim_vm_destroy(s, n, &n->vms[slot]);
    }
}

void sim_pool_killed(struct sim *s, struct sim_node *n, bool to_process)
{
    for (uint32_t i = 0; i < n->n_vms; i++) {
        if (n->pool->slots[i].exists) {
            vanish(s, n, i);
            if (to_process) {
                tell(s, n, GONE, i);
            }
        }
    }
}

static void on_machine(struct sim *s, struct sim_node *n, struct sim_event *ev)
{
    uint32_t slot = ev->arg & 0xffff;
    enum what what = ev->arg >> 16;
    if (n->pool->slots[slot].gen != ev->gen) {
        return;
    }
    if (n->asleep || (n->frozen && what != GONE)) {
        sim_event(s, ev, n->asleep ? n->resume_ns + 1000 : s->now_ns + 200 * SIM_MS);
        return;
    }
    if (what == FAILED || what == GONE) {
        vanish(s, n, slot);
    }
    tell(s, n, what == FAILED ? GONE : what, slot);
}

/* ---- effects of the pool manager ---- */

static void later(struct sim_pool *p, const struct worker_pool_event *ev)
{
    REQUIRE(p->n_next < EVENTS_MAX);
    p->next[p->n_next++] = *ev;
}

static void end_later(struct sim_pool *p, uint32_t session, enum worker_end end)
{
    later(p, &(struct worker_pool_event){.kind = WORKER_EV_END,
                 .session = session,
                 .epoch = p->core->sessions[session].epoch,
                 .end = end});
}

static void attach_vm(struct sim *s, struct sim_node *n, uint32_t session, const struct want *w)
{
    struct sim_pool *p = n->pool;
    struct sim_vm *vm = &n->vms[p->core->sessions[session].slot];
    if (p->own[session].epoch != 0) {
        sim_bad(s, "S15 H%u gives the microVM of epoch %llx to epoch %llx too", n->index,
            (unsigned long long)p->own[session].epoch, (unsigned long long)w->id.epoch);
    }
    p->own[session] = w->id;
    vm->state = SIM_VM_UP;
    vm->id = w->id;
    vm->inc = n->host->env.me.inc;
    vm->key = sim_key_index(s, w->id.key);
    vm->deleted = w->deleted;
    vm->born_ns = w->born_ns;
    vm->last_ns = sim_local(n, s->now_ns);
    sim_vm_recount(s, n, vm);
    sim_vm_tell(s, n, SCHED_EV_VM_UP, &w->id);
}

/* New sessions are better off elsewhere for a while. */
static void refused(
    struct sim *s, struct sim_node *n, const struct sched_fx_vm *id, uint32_t retry_ms)
{
    struct sched_fx_vm shut = *id;
    retry_ms = retry_ms > SHUT_MS_MIN ? retry_ms : SHUT_MS_MIN;
    shut.exec.lo = retry_ms < SHUT_MS_MAX ? retry_ms : SHUT_MS_MAX;
    sim_vm_tell(s, n, SCHED_EV_SHUT, &shut);
    sim_vm_tell(s, n, SCHED_EV_VM_DOWN | SIM_VM_IDLE, id);
}

static void on_answer(struct sim *s, struct sim_node *n, const struct worker_pool_fx *fx)
{
    struct sim_pool *p = n->pool;
    struct want *w = want_of(n, fx->request);
    if (w == NULL) {
        sim_bad(s, "S15 H%u answers a request twice", n->index);
        return;
    }
    struct want was = *w;
    w->request = 0;
    if (fx->answer != WORKER_ANSWER_USE) {
        if (!was.given_up) {
            refused(s, n, &was.id, fx->retry_ms);
        }
    } else if (!was.given_up) {
        attach_vm(s, n, fx->session, &was);
    } else {
        struct worker_pool_event ev = {
            .kind = WORKER_EV_RELEASE, .session = fx->session, .epoch = fx->epoch};
        later(p, &ev);
        if (p->own[fx->session].epoch == 0 && !wanted(n, was.id.key)) {
            end_later(p, fx->session, WORKER_END_EXPIRED);
        }
    }
}

static void on_gone(struct sim *s, struct sim_node *n, const struct worker_pool_fx *fx)
{
    struct sched_fx_vm *own = &n->pool->own[fx->session];
    if (n->pool->slots[fx->slot].exists) {
        sim_bad(s, "S15 H%u says that a session is over whose microVM is there", n->index);
    }
    if (own->epoch != 0) {
        sim_vm_tell(s, n, SCHED_EV_VM_DOWN, own);
        own->epoch = 0;
    }
}

static void start(struct sim *s, struct sim_node *n, uint32_t slot)
{
    struct slot *x = &n->pool->slots[slot];
    if (x->exists) {
        sim_bad(s, "S15 H%u starts a second microVM in place %u", n->index, slot);
        return;
    }
    x->exists = true;
    x->gen++;
    uint64_t d = 2 * SIM_MS + sim_rand(s, 20 * SIM_MS);
    d = sim_chance(s, s->opt.vm_slow_ppm) ? d * 100 : d;
    post(s, n, sim_chance(s, s->opt.vm_fail_ppm) ? FAILED : READY, slot, d);
}

static void claim(struct sim *s, struct sim_node *n, uint32_t slot)
{
    struct sim_vm *vm = &n->vms[slot];
    if (!n->pool->slots[slot].exists) {
        return; /* it died a moment ago, which is about to be told */
    }
    if (vm->state != SIM_VM_FREE) {
        sim_bad(s, "S15 H%u claims a microVM that has a session", n->index);
    }
    post(s, n, CLAIMED, slot, SIM_MS / 2 + sim_rand(s, 2 * SIM_MS));
}

static struct row *row_of(const struct sim_node *n, const struct worker_session *is, bool add)
{
    struct row *none = NULL;
    for (uint32_t i = 0; i < n->n_vms; i++) {
        struct row *r = &n->pool->rows[i];
        if (r->used && r->is.hash == is->hash) {
            return r;
        }
        none = r->used ? none : r;
    }
    REQUIRE(!add || none != NULL);
    return add ? none : NULL;
}

static void store_session(struct sim_node *n, const struct worker_session *is, bool keep)
{
    struct row *r = row_of(n, is, keep);
    if (keep) {
        r->is = *is;
    }
    if (r != NULL) {
        r->used = keep;
    }
}

static void effect(struct sim *s, struct sim_node *n, const struct worker_pool_fx *fx)
{
    struct sim_pool *p = n->pool;
    switch (fx->kind) {
    case WORKER_FX_STORE_SESSION:
    case WORKER_FX_DROP_SESSION:
        store_session(n, &p->core->sessions[fx->session], fx->kind == WORKER_FX_STORE_SESSION);
        break;
    case WORKER_FX_STORE_VM:
    case WORKER_FX_DROP_VM:
        p->slots[fx->slot].stored = fx->kind == WORKER_FX_STORE_VM;
        p->slots[fx->slot].state = (uint8_t)p->core->slots[fx->slot].state;
        break;
    case WORKER_FX_STORE_TOMB:
    case WORKER_FX_DROP_TOMB:
        break; /* only for answers to clients that name a generation */
    case WORKER_FX_EPOCHS:
        p->limit = fx->epoch;
        later(p, &(struct worker_pool_event){.kind = WORKER_EV_EPOCHS, .epoch = fx->epoch});
        break;
    case WORKER_FX_START:
        start(s, n, fx->slot);
        break;
    case WORKER_FX_CLAIM:
        claim(s, n, fx->slot);
        break;
    case WORKER_FX_KILL:
        post(s, n, GONE, fx->slot, SIM_MS + sim_rand(s, 50 * SIM_MS));
        break;
    case WORKER_FX_ANSWER:
        on_answer(s, n, fx);
        break;
    case WORKER_FX_ENDING:
        break;
    case WORKER_FX_GONE:
        on_gone(s, n, fx);
        break;
    }
}

static void arm(struct sim *s, struct sim_node *n)
{
    uint64_t due = worker_pool_deadline_ns(n->pool->core);
    if (due == UINT64_MAX) {
        return;
    }
    uint64_t at = sim_virtual(n, due), *tick = &n->pool->tick_ns;
    at = at <= s->now_ns ? s->now_ns + 1000 : at;
    if (*tick != 0 && *tick <= at && *tick > s->now_ns) {
        return;
    }
    *tick = at;
    struct sim_event ev = {
        .kind = SIM_E_POOL_TICK, .node = (uint32_t)(n - s->nodes), .gen = n->gen};
    sim_event(s, &ev, at);
}

static void run_one(struct sim *s, struct sim_node *n, const struct worker_pool_event *ev)
{
    struct worker_pool_event e = *ev;
    struct worker_pool_fx fx;
    e.now_ns = sim_local(n, s->now_ns);
    if (worker_pool_step(n->pool->core, &e) != 0) {
        sim_bad(s, "S15 H%u cannot restore what it has stored", n->index);
    }
    while (worker_pool_take(n->pool->core, &fx)) {
        effect(s, n, &fx);
    }
    const char *bad = worker_pool_check(n->pool->core);
    if (bad != NULL) {
        sim_bad(s, "S15 pool of H%u: %s", n->index, bad);
    }
}

static void run(struct sim *s, struct sim_node *n, const struct worker_pool_event *ev)
{
    struct sim_pool *p = n->pool;
    if (p->core->frozen != n->frozen) {
        enum worker_pool_event_kind kind = n->frozen ? WORKER_EV_FREEZE : WORKER_EV_THAW;
        run_one(s, n, &(struct worker_pool_event){.kind = kind});
    }
    run_one(s, n, ev);
    for (uint32_t i = 0; i < p->n_next; i++) {
        struct worker_pool_event e = p->next[i];
        run_one(s, n, &e);
    }
    p->n_next = 0;
    arm(s, n);
}

void sim_pool_frozen(struct sim *s, struct sim_node *n)
{
    if (n->up && !n->paused) {
        run(s, n, &(struct worker_pool_event){.kind = WORKER_EV_TICK});
    }
}

/* ---- what the session table wants ---- */

void sim_pool_start(struct sim *s, struct sim_node *n, const struct sched_fx_vm *id)
{
    struct sim_pool *p = n->pool;
    struct proto_identifier name = name_of(id->key);
    struct want *w = want_of(n, 0);
    if (w == NULL) {
        sim_vm_tell(s, n, SCHED_EV_VM_DOWN, id);
        return;
    }
    *w = (struct want){.request = ++p->requests,
        .deleted = n->draining,
        .born_ns = sim_local(n, s->now_ns),
        .id = *id};
    run(s, n,
        &(struct worker_pool_event){.kind = WORKER_EV_REQUEST,
            .request = w->request,
            .hash = id->key.lo,
            .id = &name,
            .allocate = true});
}

void sim_pool_stop(struct sim *s, struct sim_node *n, const struct sched_fx_vm *id)
{
    struct sim_pool *p = n->pool;
    struct sim_vm *vm = sim_vm_find(n, id);
    uint32_t session = session_of(p, id->key);
    if (session != WORKER_NONE && same(&p->own[session], id)) {
        if (vm != NULL) {
            sim_check_stop(s, n, vm);
        }
        run(s, n,
            &(struct worker_pool_event){.kind = WORKER_EV_END,
                .session = session,
                .epoch = p->core->sessions[session].epoch,
                .end = WORKER_END_EXPIRED});
        return;
    }
    for (uint32_t i = 0; i < n->n_vms; i++) {
        struct want *w = &p->wants[i];
        w->given_up = w->given_up || (w->request != 0 && same(&w->id, id));
    }
    sim_vm_tell(s, n, SCHED_EV_VM_DOWN, id);
}

/* ---- life of a process ---- */

static const struct worker_pool_spec spec = {.name = "sim",
    .ready_target = READY_TARGET,
    .lifecycle = WORKER_LIFECYCLE_TIMED,
    .cooldown_ms = COOLDOWN_MS};

static struct worker_pool_config config(const struct sim_node *n)
{
    return (struct worker_pool_config){.vms_max = n->n_vms,
        .waiters_max = n->n_vms,
        .tombs_max = 16,
        .start_ms_max = START_MS,
        .epoch_next = n->pool->limit,
        .epoch_limit = n->pool->limit + WORKER_POOL_EPOCH_BLOCK,
        .drop_unwanted = true};
}

void sim_pool_new(struct sim *s, struct sim_node *n)
{
    if (s->opt.pool == 0) {
        return;
    }
    struct sim_pool *p = calloc(1, sizeof *p);
    REQUIRE(p != NULL);
    n->pool = p;
    p->limit = 1;
    struct worker_pool_config c = config(n);
    p->mem = aligned_alloc(16, (worker_pool_size(&c, 1) + 15) & ~(size_t)15);
    p->slots = calloc(n->n_vms, sizeof *p->slots);
    p->rows = calloc(n->n_vms, sizeof *p->rows);
    p->wants = calloc(n->n_vms, sizeof *p->wants);
    p->own = calloc(n->n_vms, sizeof *p->own);
    REQUIRE(p->mem != NULL && p->slots != NULL && p->rows != NULL && p->wants != NULL &&
            p->own != NULL);
}

void sim_pool_free(struct sim_node *n)
{
    struct sim_pool *p = n->pool;
    if (p != NULL) {
        free(p->mem);
        free(p->slots);
        free(p->rows);
        free(p->wants);
        free(p->own);
        free(p);
    }
}

static void init(struct sim *s, struct sim_node *n)
{
    struct sim_pool *p = n->pool;
    struct worker_pool_config c = config(n);
    struct worker_pool_spec with = spec;
    uint32_t pool;
    with.sessions_max = s->opt.places;
    REQUIRE(worker_pool_init(
                &p->core, &c, 1, sim_local(n, s->now_ns), p->mem, worker_pool_size(&c, 1)) == 0 &&
            worker_pool_add(p->core, &with, &pool) == 0);
    p->limit = c.epoch_limit;
    p->lives++;
    memset(p->wants, 0, n->n_vms * sizeof *p->wants);
    memset(p->own, 0, n->n_vms * sizeof *p->own);
    p->tick_ns = 0;
    p->n_next = 0;
}

static void has_template(struct sim *s, struct sim_node *n)
{
    run(s, n,
        &(struct worker_pool_event){
            .kind = WORKER_EV_TEMPLATE, .template = WORKER_POOL_TEMPLATE_READY});
}

static bool runs(uint8_t slot_state)
{
    return slot_state == WORKER_SLOT_LIVE || slot_state == WORKER_SLOT_FROZEN;
}

static const struct worker_session *stored_in(const struct sim_node *n, uint32_t slot)
{
    for (uint32_t i = 0; i < n->n_vms; i++) {
        const struct row *r = &n->pool->rows[i];
        bool live = r->is.state == WORKER_SESSION_LIVE || r->is.state == WORKER_SESSION_FROZEN;
        if (r->used && live && r->is.slot == slot) {
            return &r->is;
        }
    }
    return NULL;
}

/* As worker/io/session_restore.c: what runs with its session, or is ready, is adopted. */
static void adopt(struct sim *s, struct sim_node *n, uint32_t slot)
{
    struct slot *x = &n->pool->slots[slot];
    const struct worker_session *is = runs(x->state) ? stored_in(n, slot) : NULL;
    if (!x->stored || (is == NULL && x->state != WORKER_SLOT_READY)) {
        x->stored = false;
        vanish(s, n, slot);
        return;
    }
    struct worker_pool_restore r = {.slot = slot, .has_session = is != NULL};
    if (is != NULL) {
        r.hash = is->hash;
        r.id = is->id;
        r.epoch = is->epoch;
        r.created_ns = is->created_ns;
        r.last_ns = is->last_ns;
    }
    run(s, n, &(struct worker_pool_event){.kind = WORKER_EV_RESTORE, .slot = slot, .restore = &r});
    if (x->exists) {
        post(s, n, READY, slot, SIM_MS + sim_rand(s, 5 * SIM_MS));
    } else {
        tell(s, n, GONE, slot);
    }
}

/* Rows of sessions without a microVM are of no use any more. */
static void drop_rows(struct sim_node *n)
{
    for (uint32_t i = 0; i < n->n_vms; i++) {
        struct row *r = &n->pool->rows[i];
        r->used = r->used &&
                  worker_pool_session_find(n->pool->core, 0, r->is.hash, &r->is.id) != WORKER_NONE;
    }
}

void sim_pool_boot(struct sim *s, struct sim_node *n)
{
    init(s, n);
    for (uint32_t i = 0; i < n->n_vms; i++) {
        adopt(s, n, i);
    }
    drop_rows(n);
    has_template(s, n);
}

void sim_pool_forget(struct sim *s, struct sim_node *n)
{
    for (uint32_t i = 0; i < n->n_vms; i++) {
        n->pool->slots[i].stored = false;
        n->pool->rows[i].used = false;
    }
    init(s, n);
    if (n->up) {
        has_template(s, n);
    }
}

/* What the session table and the pool manager have kept of each other after a restart. */
void sim_pool_attach(struct sim *s, struct sim_node *n)
{
    struct sim_pool *p = n->pool;
    for (uint32_t i = 0; i < s->cfg.sess_max; i++) {
        const struct sched_sess_row *row = &n->host->sess.rows[i];
        if (row->state < SCHED_SESS_STARTING || row->state >= SCHED_SESS_ENDED) {
            continue;
        }
        struct sched_fx_vm id = {.key = row->key, .epoch = row->rec.epoch};
        uint32_t session = session_of(p, row->key);
        struct sim_vm *vm = sim_vm_find(n, &id);
        if (session == WORKER_NONE || vm == NULL ||
            &n->vms[p->core->sessions[session].slot] != vm) {
            sim_vm_tell(s, n, SCHED_EV_VM_DOWN, &id);
            continue;
        }
        p->own[session] = id;
        struct worker_pool_event ev = {
            .kind = row->state == SCHED_SESS_STOPPING ? WORKER_EV_END : WORKER_EV_HOLD,
            .session = session,
            .epoch = p->core->sessions[session].epoch,
            .end = WORKER_END_EXPIRED};
        run(s, n, &ev);
        if (row->state != SCHED_SESS_STOPPING) {
            sim_vm_tell(s, n, SCHED_EV_VM_UP, &id);
            sim_vm_tell_done(s, n, vm);
        }
    }
    for (uint32_t i = 0; i < n->n_vms; i++) {
        const struct worker_session *is = &p->core->sessions[i];
        bool there = is->state == WORKER_SESSION_ADOPTING || is->state == WORKER_SESSION_LIVE ||
                     is->state == WORKER_SESSION_FROZEN;
        if (there && p->own[i].epoch == 0) {
            end_later(p, i, WORKER_END_RESTART);
        }
    }
    run(s, n, &(struct worker_pool_event){.kind = WORKER_EV_TICK});
}

static void check_places(struct sim *s, const struct sim_node *n)
{
    for (uint32_t i = 0; i < n->n_vms; i++) {
        if (n->pool->slots[i].exists && n->pool->core->slots[i].state == WORKER_SLOT_FREE) {
            sim_bad(s, "S15 place %u of H%u is free while a microVM is there", i, n->index);
        }
    }
}

static void on_told(struct sim *s, struct sim_node *n, const struct sim_event *ev)
{
    static const enum worker_pool_event_kind kinds[] = {
        [READY] = WORKER_EV_VM_READY, [CLAIMED] = WORKER_EV_VM_CLAIMED, [GONE] = WORKER_EV_VM_GONE};
    uint32_t slot = ev->arg & 0xffff, what = ev->arg >> 16;
    if (ev->vm.key.lo != n->pool->lives) {
        return;
    }
    if (what == GONE || n->pool->slots[slot].gen == ev->vm.epoch) {
        run(s, n, &(struct worker_pool_event){.kind = kinds[what], .slot = slot});
        check_places(s, n);
    }
}

void sim_pool_event(struct sim *s, struct sim_event *ev)
{
    struct sim_node *n = &s->nodes[ev->node];
    if (ev->kind == SIM_E_POOL_VM) {
        on_machine(s, n, ev);
    } else if (!n->up || ev->gen != n->gen) {
        return;
    } else if (n->paused) {
        sim_event(s, ev, n->resume_ns + sim_rand(s, SIM_MS));
    } else if (ev->kind == SIM_E_POOL_TELL) {
        on_told(s, n, ev);
    } else {
        n->pool->tick_ns = 0;
        run(s, n, &(struct worker_pool_event){.kind = WORKER_EV_TICK});
    }
}
