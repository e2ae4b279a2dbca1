#include <stdlib.h>
#include <string.h>

#include "proto/base/cleanup.h"
#include "worker/io/exec_io.h"
#include "worker/io/session_state.h"
#include "worker/wire/rows.h"

/* After a restart of the worker (same boot): microVMs that still run are adopted with their
 * sessions, everything else in the store is buried. */

struct restore {
    struct worker_sessions *s;
    struct worker_row_session *sessions; /* by slot; epoch 0: none */
    struct worker_row_vm *vms;           /* by slot */
    bool *has_vm;
    struct worker_row_fence *fences;
    size_t fences_n, fences_cap;
    struct worker_exec *execs;
    size_t execs_n, execs_cap;
    uint32_t bad; /* rows that could not be read */
    uint32_t adopted, buried;
};

static void *room(void *p, size_t n, size_t *cap, size_t size)
{
    if (n < *cap) {
        return p;
    }
    size_t more = *cap == 0 ? 64 : *cap * 2;
    void *q = realloc(p, more * size);
    if (q != NULL) {
        *cap = more;
    }
    return q;
}

/* --- read everything ----------------------------------------------------------------------- */

static void tomb_put(struct restore *r, const struct worker_row_session *row, enum worker_end end)
{
    uint8_t key[WORKER_ROW_KEY_MAX], value[WORKER_ROW_MAX];
    struct worker_row_fence f = {.end = end, .epoch = row->epoch, .hash = row->hash, .id = row->id};
    memcpy(f.pool, row->pool, sizeof f.pool);
    struct worker_store_row put = {.key = key, .value = value};
    put.key_n = worker_row_session_key(row->hash, row->pool, &row->id, key);
    put.value_n = worker_row_fence_encode(&f, value);
    (void)worker_store_put(r->s->config.run, WORKER_STORE_FENCE, &put);
    (void)worker_store_del(r->s->config.run, WORKER_STORE_SESSION, key, put.key_n);
}

static bool adoptable(const struct restore *r, const struct worker_row_session *row)
{
    if ((row->state != WORKER_SESSION_LIVE && row->state != WORKER_SESSION_FROZEN) ||
        row->slot >= r->s->config.vms_max || !r->has_vm[row->slot] ||
        worker_session_pool(r->s, row->pool) == WORKER_NONE) {
        return false;
    }
    const struct worker_row_vm *vm = &r->vms[row->slot];
    return vm->epoch == row->epoch && strcmp(vm->pool, row->pool) == 0 &&
           (vm->state == WORKER_SLOT_LIVE || vm->state == WORKER_SLOT_FROZEN);
}

static int on_vm(void *user, const struct worker_store_row *row)
{
    struct restore *r = user;
    struct worker_row_vm vm;
    if (worker_row_vm_decode(row->value, row->value_n, &vm) != 0 ||
        vm.slot >= r->s->config.vms_max) {
        r->bad++;
    } else {
        r->vms[vm.slot] = vm;
        r->has_vm[vm.slot] = true;
    }
    return 0;
}

static int on_session(void *user, const struct worker_store_row *row)
{
    struct restore *r = user;
    struct worker_row_session x;
    if (worker_row_session_decode(row->value, row->value_n, &x) != 0) {
        r->bad++;
        return worker_store_del(r->s->config.run, WORKER_STORE_SESSION, row->key, row->key_n);
    }
    if (adoptable(r, &x)) {
        r->sessions[x.slot] = x;
    } else if (x.state == WORKER_SESSION_CLAIMED) { /* nobody has seen it yet */
        return worker_store_del(r->s->config.run, WORKER_STORE_SESSION, row->key, row->key_n);
    } else {
        r->buried++;
        tomb_put(r, &x, x.end != WORKER_END_NONE ? x.end : WORKER_END_RESTART);
    }
    return 0;
}

static int on_fence(void *user, const struct worker_store_row *row)
{
    struct restore *r = user;
    struct worker_row_fence f;
    if (worker_row_fence_decode(row->value, row->value_n, &f) != 0) {
        r->bad++;
        return 0;
    }
    struct worker_row_fence *p = room(r->fences, r->fences_n, &r->fences_cap, sizeof *p);
    if (p == NULL) {
        return BASE_ENOMEM;
    }
    r->fences = p;
    p[r->fences_n++] = f;
    return 0;
}

static int on_event_row(void *user, const struct worker_store_row *row)
{
    struct worker_exec *x = user;
    uint64_t seq;
    if (worker_row_event_seq(row->key, row->key_n, &seq) == 0) {
        x->last_seq = seq > x->last_seq ? seq : x->last_seq;
        x->bytes += row->value_n;
    }
    return 0;
}

static int on_exec(void *user, const struct worker_store_row *row)
{
    struct restore *r = user;
    struct worker_exec x;
    if (worker_row_exec_decode(row->value, row->value_n, &x) != 0) {
        r->bad++;
        return 0;
    }
    struct worker_exec *p = room(r->execs, r->execs_n, &r->execs_cap, sizeof *p);
    if (p == NULL) {
        return BASE_ENOMEM;
    }
    r->execs = p;
    p[r->execs_n++] = x;
    return 0;
}

/* --- take over ------------------------------------------------------------------------------- */

static int by_epoch(const void *a, const void *b)
{
    const struct worker_row_fence *x = a, *y = b;
    return (x->epoch > y->epoch) - (x->epoch < y->epoch);
}

static int by_end(const void *a, const void *b)
{
    const struct worker_exec *x = a, *y = b;
    return (x->ended_ns > y->ended_ns) - (x->ended_ns < y->ended_ns);
}

static void fences_restore(struct restore *r)
{
    if (r->fences_n > 0) {
        qsort(r->fences, r->fences_n, sizeof *r->fences, by_epoch);
    }
    for (size_t i = 0; i < r->fences_n; i++) {
        const struct worker_row_fence *f = &r->fences[i];
        struct worker_pool_restore t = {.pool = worker_session_pool(r->s, f->pool),
            .hash = f->hash,
            .id = f->id,
            .epoch = f->epoch,
            .end = f->end};
        struct worker_pool_event ev = {.kind = WORKER_EV_RESTORE_TOMB, .restore = &t};
        if (t.pool == WORKER_NONE || worker_session_step(r->s, &ev) != 0) {
            uint8_t key[WORKER_ROW_KEY_MAX];
            size_t n = worker_row_session_key(f->hash, f->pool, &f->id, key);
            (void)worker_store_del(r->s->config.run, WORKER_STORE_FENCE, key, n);
        }
    }
}

static void exec_restore(struct restore *r, struct worker_exec *row)
{
    struct worker_sessions *s = r->s;
    struct worker_exec *x;
    if (row->state == WORKER_EXEC_STARTED) { /* its row is older than its events */
        row->bytes = 0;
        (void)worker_store_each(
            s->config.run, WORKER_STORE_EVENT, row->id, sizeof row->id, on_event_row, row);
    }
    if (worker_exec_restore(s->execs, row, &x) != 0) {
        r->bad++;
        (void)worker_store_del_prefix(s->config.run, WORKER_STORE_EVENT, row->id, sizeof row->id);
        (void)worker_store_del(s->config.run, WORKER_STORE_EXEC, row->id, sizeof row->id);
    }
}

static bool epoch_adopted(const struct restore *r, proto_epoch epoch)
{
    for (uint32_t i = 0; i < r->s->config.vms_max; i++) {
        if (r->sessions[i].epoch == epoch) {
            return true;
        }
    }
    return false;
}

static void execs_restore(struct restore *r)
{
    if (r->execs_n > 0) {
        qsort(r->execs, r->execs_n, sizeof *r->execs, by_end);
    }
    for (size_t i = 0; i < r->execs_n; i++) {
        exec_restore(r, &r->execs[i]);
    }
    for (size_t i = 0; i < r->execs_n; i++) {
        const struct worker_exec *row = &r->execs[i];
        if (row->state == WORKER_EXEC_STARTED && !epoch_adopted(r, row->epoch)) {
            worker_exec_io_lost(r->s, row->epoch, WORKER_END_RESTART);
        }
    }
}

/* Instances that nobody uses yet are those of one template, which the pool's may prove not to be
 * when it is there: then they end. */
static bool of_template(struct session_pool *p, const struct worker_row_vm *vm)
{
    if (vm->template != 0 && p->template == 0) {
        p->template = vm->template;
    }
    return vm->template != 0 && vm->template == p->template;
}

static void vm_adopt(struct restore *r, uint32_t slot)
{
    struct worker_sessions *s = r->s;
    const struct worker_row_vm *vm = &r->vms[slot];
    const struct worker_row_session *x = &r->sessions[slot];
    bool claimed = x->epoch != 0;
    uint32_t pool = worker_session_pool(s, vm->pool);
    struct worker_pool_restore t = {.pool = pool,
        .slot = slot,
        .has_session = claimed,
        .hash = x->hash,
        .id = x->id,
        .tenant = x->tenant,
        .epoch = x->epoch,
        .created_ns = x->created_ns,
        .last_ns = x->last_ns,
        .recreated = x->recreated};
    struct worker_pool_event ev = {.kind = WORKER_EV_RESTORE, .slot = slot, .restore = &t};
    int rc = BASE_EINVAL;
    if (pool != WORKER_NONE &&
        (claimed || (vm->state == WORKER_SLOT_READY && of_template(&s->shell[pool], vm)))) {
        rc = worker_session_step(s, &ev);
    }
    if (rc != 0) {
        uint8_t key[WORKER_ROW_KEY_MAX];
        size_t n = worker_row_vm_key(slot, key);
        (void)worker_store_del(s->config.run, WORKER_STORE_VM, key, n);
        if (claimed) {
            r->buried++;
            tomb_put(r, x, WORKER_END_RESTART);
        }
        return;
    }
    memcpy(s->slots[slot].vm_id, vm->vm_id, sizeof vm->vm_id);
    s->slots[slot].named = true;
    s->slots[slot].template = vm->template;
    rc = worker_engine_vm_adopt(s->engine, slot, s->shell[pool].engine, vm->vm_id, claimed);
    r->adopted += rc == 0;
    if (rc != 0) {
        r->buried += claimed;
        (void)worker_session_step(s,
            &(struct worker_pool_event){.kind = WORKER_EV_VM_DEAD, .slot = slot, .text = "gone"});
        (void)worker_session_step(
            s, &(struct worker_pool_event){.kind = WORKER_EV_VM_GONE, .slot = slot});
    }
}

static int all(struct restore *r)
{
    struct worker_store *run = r->s->config.run;
    int rc = worker_store_each(run, WORKER_STORE_VM, NULL, 0, on_vm, r);
    rc = rc != 0 ? rc : worker_store_each(run, WORKER_STORE_SESSION, NULL, 0, on_session, r);
    rc = rc != 0 ? rc : worker_store_each(run, WORKER_STORE_FENCE, NULL, 0, on_fence, r);
    rc = rc != 0 ? rc : worker_store_each(run, WORKER_STORE_EXEC, NULL, 0, on_exec, r);
    if (rc != 0) {
        return rc;
    }
    fences_restore(r);
    execs_restore(r);
    for (uint32_t i = 0; i < r->s->config.vms_max; i++) {
        if (r->has_vm[i]) {
            vm_adopt(r, i);
        }
    }
    worker_engine_reap_strangers(r->s->engine);
    return worker_store_commit(run);
}

int worker_session_restore(struct worker_sessions *s, struct base_error *err)
{
    uint32_t n = s->config.vms_max;
    struct restore r = {.s = s};
    r.sessions = calloc(n, sizeof *r.sessions);
    r.vms = calloc(n, sizeof *r.vms);
    r.has_vm = calloc(n, sizeof *r.has_vm);
    int rc = BASE_ENOMEM;
    if (r.sessions != NULL && r.vms != NULL && r.has_vm != NULL) {
        rc = all(&r);
    }
    free(r.sessions);
    free(r.vms);
    free(r.has_vm);
    free(r.fences);
    free(r.execs);
    if (r.bad > 0) {
        LOG_WARN(s->config.log, "rows of the store were unreadable and dropped rows=%u", r.bad);
    }
    if (r.adopted > 0 || r.buried > 0) {
        LOG_INFO(s->config.log, "took over from an earlier worker microvms=%u sessions_lost=%u",
            r.adopted, r.buried);
    }
    return rc == 0
               ? 0
               : base_fail(err, rc, "the store of this boot cannot be read: %s", base_err_str(rc));
}
