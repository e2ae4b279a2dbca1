#include <stdlib.h>

#include "proto/base/assert.h"
#include "tests/sim/check.h"
#include "tests/sim/vm.h"

/* A host's machine: microVMs, and the supervisors that freeze and kill them by the lease page
 * alone, whatever the worker process does. */

struct sim_vm *sim_vm_find(struct sim_node *n, const struct sched_fx_vm *id)
{
    for (uint32_t i = 0; i < n->n_vms; i++) {
        struct sim_vm *vm = &n->vms[i];
        if (vm->state != SIM_VM_FREE && vm->id.epoch == id->epoch &&
            sched_key_eq(vm->id.key, id->key)) {
            return vm;
        }
    }
    return NULL;
}

void sim_vm_tell(struct sim *s, struct sim_node *n, uint32_t what, const struct sched_fx_vm *id)
{
    struct sim_event ev = {.kind = SIM_E_VM_TELL,
        .node = (uint32_t)(n - s->nodes),
        .arg = what,
        .gen = n->gen,
        .vm = *id};
    sim_event(s, &ev, s->now_ns + 10000);
}

static void later(struct sim *s, struct sim_node *n, uint8_t kind, const struct sim_vm *vm,
    const struct sched_fx_vm *id, uint64_t after_ns)
{
    struct sim_event ev = {.kind = kind,
        .node = (uint32_t)(n - s->nodes),
        .arg = (uint32_t)(vm - n->vms),
        .gen = vm->gen,
        .vm = *id};
    sim_event(s, &ev, s->now_ns + after_ns);
}

void sim_vm_recount(struct sim *s, struct sim_node *n, struct sim_vm *vm)
{
    sim_check_live(s, n, vm, vm->state == SIM_VM_UP && !n->frozen && !n->asleep);
}

void sim_vm_destroy(struct sim *s, struct sim_node *n, struct sim_vm *vm)
{
    vm->state = SIM_VM_FREE;
    sim_vm_recount(s, n, vm);
    vm->gen++;
    vm->n_runs = 0;
}

void sim_vm_start(struct sim *s, struct sim_node *n, const struct sched_fx_vm *id)
{
    struct sim_vm *vm = sim_vm_find(n, id);
    if (vm != NULL) {
        sim_bad(s, "S15 microVM of epoch %llx started twice", (unsigned long long)id->epoch);
        return;
    }
    if (n->pool != NULL) {
        struct sim_vm bound = {
            .id = *id, .key = sim_key_index(s, id->key), .inc = n->host->env.me.inc};
        sim_check_bound(s, n, &bound);
        sim_pool_start(s, n, id);
        return;
    }
    uint32_t i = 0;
    while (i < n->n_vms && n->vms[i].state != SIM_VM_FREE) {
        i++;
    }
    if (sim_chance(s, s->opt.vm_fail_ppm) || i == n->n_vms) {
        sim_vm_tell(s, n, SCHED_EV_VM_DOWN | SIM_VM_IDLE, id);
        return;
    }
    vm = &n->vms[i];
    vm->state = SIM_VM_STARTING;
    vm->id = *id;
    vm->inc = n->host->env.me.inc;
    vm->key = sim_key_index(s, id->key);
    vm->deleted = n->draining;
    sim_check_bound(s, n, vm);
    vm->born_ns = vm->last_ns = sim_local(n, s->now_ns);
    uint64_t d = 2 * SIM_MS + sim_rand(s, 20 * SIM_MS);
    later(s, n, SIM_E_VM_UP, vm, id, sim_chance(s, s->opt.vm_slow_ppm) ? d * 100 : d);
}

void sim_vm_stop(struct sim *s, struct sim_node *n, const struct sched_fx_vm *id)
{
    struct sim_vm *vm = sim_vm_find(n, id);
    if (n->pool != NULL) {
        sim_pool_stop(s, n, id);
    } else if (vm != NULL) {
        sim_check_stop(s, n, vm);
        later(s, n, SIM_E_KILL, vm, id, SIM_MS + sim_rand(s, 50 * SIM_MS));
    } else {
        sim_vm_tell(s, n, SCHED_EV_VM_DOWN, id);
    }
}

void sim_vm_exec(struct sim *s, struct sim_node *n, const struct sched_fx_vm *id)
{
    struct sim_vm *vm = sim_vm_find(n, id);
    if (vm == NULL || vm->state != SIM_VM_UP) {
        return; /* it died on the way */
    }
    if (vm->n_runs == vm->cap_runs) {
        vm->cap_runs = vm->cap_runs == 0 ? 8 : vm->cap_runs * 2;
        vm->runs = realloc(vm->runs, vm->cap_runs * sizeof *vm->runs);
        REQUIRE(vm->runs != NULL);
    }
    vm->runs[vm->n_runs++] = (struct sim_run){.exec = id->exec};
    vm->last_ns = sim_local(n, s->now_ns);
    sim_check_started(s, id->exec, id->epoch);
    sim_check_ran(s, n, vm);
    if (sim_chance(s, s->opt.vm_hang_ppm) && !s->calm) {
        return; /* a hung agent: no answer ever */
    }
    uint64_t d = SIM_MS + sim_rand(s, 60 * SIM_MS);
    later(s, n, SIM_E_VM_DONE, vm, id, sim_chance(s, 30000) ? d * 60 : d);
}

void sim_vm_kill_all(struct sim *s, struct sim_node *n, bool to_process)
{
    if (n->pool != NULL) {
        sim_pool_killed(s, n, to_process);
        return;
    }
    for (uint32_t i = 0; i < n->n_vms; i++) {
        struct sim_vm *vm = &n->vms[i];
        if (vm->state != SIM_VM_FREE) {
            struct sched_fx_vm id = vm->id;
            sim_vm_destroy(s, n, vm);
            if (to_process) {
                sim_vm_tell(s, n, SCHED_EV_VM_DOWN, &id);
            }
        }
    }
}

void sim_vm_forget(struct sim *s, struct sim_node *n)
{
    if (n->pool != NULL) {
        sim_pool_forget(s, n);
    }
}

static void freeze(struct sim *s, struct sim_node *n, bool on)
{
    if (n->frozen == on) {
        return;
    }
    n->frozen = on;
    s->stat.freezes += on;
    for (uint32_t i = 0; i < n->n_vms; i++) {
        if (n->vms[i].state == SIM_VM_UP) {
            sim_vm_recount(s, n, &n->vms[i]);
        }
    }
    if (n->pool != NULL) {
        sim_pool_frozen(s, n);
    }
}

/* Supervisors end what has been frozen for too long. */
static void too_late(struct sim *s, struct sim_node *n)
{
    for (uint32_t i = 0; i < n->n_vms; i++) {
        if (n->vms[i].state != SIM_VM_FREE) {
            sim_check_killed(s, n, &n->vms[i]);
        }
    }
    sim_vm_kill_all(s, n, n->up);
}

/* The timer of all supervisors of a machine; a later deadline is looked up when it fires. */
static void arm_page(struct sim *s, struct sim_node *n, uint8_t kind, uint64_t deadline_ns)
{
    uint64_t *due = kind == SIM_E_FREEZE ? &n->freeze_ns : &n->kill_ns;
    uint64_t at = sim_virtual(n, deadline_ns);
    at = at < s->now_ns ? s->now_ns : at;
    if (*due != 0 && *due <= at) {
        return;
    }
    *due = at;
    struct sim_event ev = {.kind = kind, .node = (uint32_t)(n - s->nodes), .arg = SIM_ANY};
    sim_event(s, &ev, at);
}

void sim_vm_sleep(struct sim *s, struct sim_node *n, bool on)
{
    n->asleep = on;
    /* Its clock has gone on: what is due happens before anything runs again. */
    bool late = !on && sim_local(n, s->now_ns) >= n->page.freeze_at_ns;
    n->frozen = n->frozen || late;
    for (uint32_t i = 0; i < n->n_vms; i++) {
        sim_vm_recount(s, n, &n->vms[i]);
    }
    if (late && sim_local(n, s->now_ns) >= n->page.kill_at_ns) {
        too_late(s, n);
    }
    if (!on) { /* it may wake before what was put off until then */
        n->freeze_ns = n->kill_ns = 0;
        arm_page(s, n, SIM_E_FREEZE, n->page.freeze_at_ns);
        arm_page(s, n, SIM_E_KILL, n->page.kill_at_ns);
    }
}

void sim_vm_page(struct sim *s, struct sim_node *n, const struct sched_fx_page *p)
{
    uint32_t inc = n->host->env.me.inc;
    n->held_ns = inc == n->page_inc && n->held_ns > p->freeze_at_ns ? n->held_ns : p->freeze_at_ns;
    n->page = *p;
    n->page_inc = inc;
    uint64_t now = sim_local(n, s->now_ns);
    freeze(s, n, now >= p->freeze_at_ns);
    if (!n->frozen) {
        arm_page(s, n, SIM_E_FREEZE, p->freeze_at_ns);
    }
    if (now < p->kill_at_ns) {
        arm_page(s, n, SIM_E_KILL, p->kill_at_ns);
    } else {
        too_late(s, n);
    }
}

/* A supervisor's timer: does what the page says by now. */
static void on_page(struct sim *s, struct sim_node *n, uint8_t kind)
{
    uint64_t *due = kind == SIM_E_FREEZE ? &n->freeze_ns : &n->kill_ns;
    uint64_t deadline = kind == SIM_E_FREEZE ? n->page.freeze_at_ns : n->page.kill_at_ns;
    if (*due != s->now_ns) {
        return; /* it was set to an earlier time */
    }
    *due = 0;
    if (n->asleep) {
        *due = n->resume_ns + 1000;
        struct sim_event ev = {.kind = kind, .node = (uint32_t)(n - s->nodes), .arg = SIM_ANY};
        sim_event(s, &ev, *due);
    } else if (sim_local(n, s->now_ns) < deadline) {
        arm_page(s, n, kind, deadline);
    } else if (kind == SIM_E_FREEZE) {
        freeze(s, n, true);
    } else {
        too_late(s, n);
    }
}

static void on_process(struct sim *s, struct sim_node *n, const struct sim_event *ev)
{
    if (!n->up || ev->gen != n->gen) {
        return;
    }
    if (n->paused) {
        sim_event(s, ev, n->resume_ns + sim_rand(s, SIM_MS));
        return;
    }
    struct sched_event in = {.kind = (uint8_t)ev->arg,
        .outcome = (uint8_t)(ev->arg >> 8),
        .vm = ev->vm,
        .idle = (ev->arg & SIM_VM_IDLE) != 0};
    if (in.kind == SCHED_EV_SHUT) { /* hosts have one pool here */
        in.grace_ms = (uint32_t)ev->vm.exec.lo;
        in.all = true;
    }
    sim_step(s, n, &in);
}

static void on_done(
    struct sim *s, struct sim_node *n, struct sim_vm *vm, const struct sim_event *ev)
{
    if (n->frozen) {
        sim_event(s, ev, s->now_ns + 200 * SIM_MS);
        return;
    }
    for (uint32_t i = 0; i < vm->n_runs; i++) {
        if (sched_exec_eq(vm->runs[i].exec, ev->vm.exec)) {
            vm->runs[i].done = true;
        }
    }
    vm->last_ns = sim_local(n, s->now_ns);
    sim_vm_tell(s, n, SCHED_EV_VM_DONE, &ev->vm);
}

void sim_vm_event(struct sim *s, struct sim_event *ev)
{
    struct sim_node *n = &s->nodes[ev->node];
    if (s->opt.trace) {
        (void)printf("%10.6f   H%u microVM event %u arg %x key %d epoch %llx\n",
            (double)s->now_ns / 1e9, n->index, ev->kind, ev->arg, (int)sim_key_index(s, ev->vm.key),
            (unsigned long long)ev->vm.epoch);
    }
    if (ev->kind == SIM_E_VM_TELL) {
        on_process(s, n, ev);
        return;
    }
    if (ev->arg == SIM_ANY) {
        on_page(s, n, ev->kind);
        return;
    }
    if (n->asleep) {
        sim_event(s, ev, n->resume_ns + 1000);
        return;
    }
    struct sim_vm *vm = &n->vms[ev->arg];
    if (vm->gen != ev->gen || vm->state == SIM_VM_FREE) {
        return;
    }
    if (ev->kind == SIM_E_VM_UP) {
        vm->state = SIM_VM_UP;
        vm->last_ns = sim_local(n, s->now_ns); /* it may have been long on its way: asleep */
        sim_vm_recount(s, n, vm);
        sim_vm_tell(s, n, SCHED_EV_VM_UP, &ev->vm);
    } else if (ev->kind == SIM_E_VM_DONE) {
        on_done(s, n, vm, ev);
    } else {
        uint32_t idle = vm->n_runs == 0 ? SIM_VM_IDLE : 0;
        sim_vm_destroy(s, n, vm);
        sim_vm_tell(s, n, SCHED_EV_VM_DOWN | idle, &ev->vm);
    }
}

static bool seen(const struct sim_vm *vm, struct sched_exec exec)
{
    for (uint32_t i = 0; i < vm->n_runs; i++) {
        if (sched_exec_eq(vm->runs[i].exec, exec)) {
            return true;
        }
    }
    return false;
}

/* Executions that were stored as started, but whose bytes died with the process. */
static void deny_unseen(struct sim *s, struct sim_node *n)
{
    for (uint32_t i = 0; i < s->cfg.execs_max; i++) {
        const struct sched_run *run = &n->host->journal.runs[i];
        struct sched_fx_vm id = {.key = run->key, .epoch = run->epoch, .exec = run->exec};
        const struct sim_vm *vm = run->state == SCHED_RUN_STARTED ? sim_vm_find(n, &id) : NULL;
        if (vm != NULL && !seen(vm, run->exec)) {
            sim_vm_tell(s, n, SCHED_EV_VM_DONE | SCHED_OUTCOME_FAILED << 8, &id);
        }
    }
}

void sim_vm_tell_done(struct sim *s, struct sim_node *n, const struct sim_vm *vm)
{
    for (uint32_t k = 0; k < vm->n_runs; k++) {
        struct sched_fx_vm id = vm->id;
        id.exec = vm->runs[k].exec;
        if (vm->runs[k].done) {
            sim_vm_tell(s, n, SCHED_EV_VM_DONE, &id);
        }
    }
}

/* Rows are committed before microVMs start and erased after they are destroyed. */
static void check_rows(struct sim *s, struct sim_node *n, struct sim_vm *vm)
{
    const struct sched_sess_row *row = sched_sess_find(&n->host->sess, vm->id.key);
    if (row == NULL || row->rec.epoch != vm->id.epoch || row->state == SCHED_SESS_ENDED) {
        sim_bad(
            s, "S15 H%u restarts and has a microVM of key %u without a session", n->index, vm->key);
        sim_vm_destroy(s, n, vm);
    }
}

static void attach_sessions(struct sim *s, struct sim_node *n)
{
    for (uint32_t i = 0; i < n->n_vms; i++) {
        struct sim_vm *vm = &n->vms[i];
        if (vm->state == SIM_VM_UP) {
            sim_vm_tell(s, n, SCHED_EV_VM_UP, &vm->id);
            sim_vm_tell_done(s, n, vm);
        }
    }
    for (uint32_t i = 0; i < s->cfg.sess_max; i++) {
        const struct sched_sess_row *row = &n->host->sess.rows[i];
        struct sched_fx_vm id = {.key = row->key, .epoch = row->rec.epoch};
        if (row->state >= SCHED_SESS_STARTING && row->state < SCHED_SESS_ENDED) {
            struct sim_vm *vm = sim_vm_find(n, &id);
            if (vm == NULL) {
                sim_vm_tell(s, n, SCHED_EV_VM_DOWN, &id);
            } else if (row->state == SCHED_SESS_STOPPING) {
                later(s, n, SIM_E_KILL, vm, &id, SIM_MS);
            }
        }
    }
}

/* What a shell does after a restart: a microVM without a session is destroyed, a session without a
 * microVM has ended, the rest is attached. */
void sim_vm_attach(struct sim *s, struct sim_node *n)
{
    for (uint32_t i = 0; i < n->n_vms; i++) {
        if (n->vms[i].state != SIM_VM_FREE) {
            check_rows(s, n, &n->vms[i]);
        }
    }
    if (n->pool != NULL) {
        sim_pool_attach(s, n);
    } else {
        attach_sessions(s, n);
    }
    deny_unseen(s, n);
    sim_check_attached(s, n);
}
