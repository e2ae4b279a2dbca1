#include <stdlib.h>

#include "proto/base/assert.h"
#include "tests/sim/bus.h"
#include "tests/sim/check.h"

enum { TIMEOUT_MS = 12000 };

/* The session of this epoch, if it is up at a member; 0 or NULL: none. */
static const struct sim_vm *session(const struct sim *s, uint32_t key, sched_epoch epoch)
{
    for (uint32_t i = 0; i < s->opt.hosts; i++) {
        const struct sim_node *h = &s->nodes[s->opt.voters + i];
        for (uint32_t k = 0; k < h->n_vms; k++) {
            const struct sim_vm *vm = &h->vms[k];
            if (vm->state == SIM_VM_UP && vm->key == key && vm->id.epoch == epoch && !vm->deleted &&
                sim_check_member(s, (struct sched_host){h->id, vm->inc})) {
                return vm;
            }
        }
    }
    return NULL;
}

/* Nobody asks for the last key but to look. */
static bool looks(struct sim *s, uint32_t key)
{
    return s->opt.looks != 0 && (key == s->opt.keys - 1 || sim_rand(s, 3) == 0);
}

void sim_request(struct sim *s, struct sim_node *n, uint32_t key)
{
    if (s->n_reqs == s->cap_reqs) {
        s->cap_reqs = s->cap_reqs == 0 ? 256 : s->cap_reqs * 2;
        s->reqs = realloc(s->reqs, s->cap_reqs * sizeof *s->reqs);
        REQUIRE(s->reqs != NULL);
    }
    struct sched_route_ask ask = {.key = s->keys[key].key,
        .exec = {base_hash_mix64(s->n_reqs), s->n_reqs},
        .may_inline = sim_rand(s, 100) < s->opt.inline_pct,
        .look = looks(s, key),
        .timeout_ms = TIMEOUT_MS};
    sched_epoch seen = s->keys[key].seen;
    s->reqs[s->n_reqs++] = (struct sim_req){.start_ns = s->now_ns,
        .seen = seen,
        .key = key,
        .look = ask.look,
        .there = ask.look && session(s, key, seen) != NULL ? seen : 0};
    struct sched_fx_outcome none = {.outcome = SCHED_OUTCOME_FAILED, .exec = ask.exec};
    sched_fx_clear(&s->fx);
    if (sched_route_request(n->gw, sim_local(n, s->now_ns), &ask, &s->fx) == 0) {
        sim_outcome(s, n, &none);
        return;
    }
    for (uint32_t i = 0; i < s->fx.n; i++) {
        struct sched_fx_item it = s->fx.items[i];
        if (it.kind == SCHED_FX_SEND) {
            sim_send(s, n, &it.msg);
        }
    }
    struct sched_event tick = {.kind = SCHED_EV_TICK};
    sim_step(s, n, &tick);
}

/* A client asks to delete a session: half of the time the host hears of it at a bad moment. */
static void maybe_delete(struct sim *s)
{
    struct sim_node *h = &s->nodes[s->opt.voters + sim_rand(s, s->opt.hosts)];
    if (s->calm || !h->up || h->paused || !sim_chance(s, 60000)) {
        return;
    }
    for (uint32_t i = 0; i < h->n_vms; i++) {
        struct sim_vm *vm = &h->vms[i];
        if (vm->state == SIM_VM_UP) {
            vm->deleted = true;
            struct sched_event ev = {.kind = SCHED_EV_DELETE, .vm = vm->id};
            sim_step(s, h, &ev);
            return;
        }
    }
}

void sim_load(struct sim *s, struct sim_node *n)
{
    if (s->load_on) {
        struct sim_event next = {.kind = SIM_E_LOAD, .node = (uint32_t)(n - s->nodes)};
        sim_event(s, &next, s->now_ns + sim_rand(s, 2 * s->opt.request_ms * SIM_MS + 1));
    }
    if (s->opt.load == 0 || !s->load_on) {
        return;
    }
    maybe_delete(s);
    if (n->up && !n->paused) {
        sim_request(s, n, (uint32_t)sim_rand(s, s->opt.keys));
    }
}

void sim_outcome(struct sim *s, struct sim_node *n, const struct sched_fx_outcome *o)
{
    struct sim_req *q = &s->reqs[o->exec.lo];
    (void)n;
    if (q->outcome != 0) {
        sim_bad(s, "S4 request %llu has two outcomes", (unsigned long long)o->exec.lo);
        return;
    }
    q->outcome = (uint8_t)(o->outcome + 1);
    uint64_t took = s->now_ns - q->start_ns;
    bool tail = s->calm && q->start_ns > (s->opt.chaos_ms + s->opt.quiet_ms * 28 / 100) * SIM_MS;
    bool ok = o->outcome == SCHED_OUTCOME_OK || (q->look && o->outcome == SCHED_OUTCOME_NONE);
    s->stat.tail_ok += tail && ok;
    /* With hung agents sessions end by their maximal life, whatever runs in them. */
    bool scarce = s->opt.pools > 0 || (s->opt.quota > 0 && s->opt.quota < s->opt.keys * 3);
    bool excused = scarce || (s->opt.vm_hang_ppm > 0 && o->outcome == SCHED_OUTCOME_UNKNOWN);
    s->stat.tail_bad += tail && !ok && !excused;
    s->stat.tail_slow += tail && took > 6 * SIM_S && !scarce;
    if (o->outcome == SCHED_OUTCOME_OK) {
        s->stat.ok++;
        if (q->starts != 1) {
            sim_bad(s, "S4 request %llu is OK after %u starts", (unsigned long long)o->exec.lo,
                q->starts);
        }
        sim_check_answer(s, q, o->epoch);
    } else if (o->outcome == SCHED_OUTCOME_NONE) {
        if (!q->look || q->starts != 0 || (q->there != 0 && session(s, q->key, q->there) != NULL)) {
            sim_bad(s, "S19 key %u is said to have no session, and has epoch %llx", q->key,
                (unsigned long long)q->there);
        }
    } else if (o->outcome == SCHED_OUTCOME_FAILED) {
        s->stat.failed++;
        if (q->starts != 0) {
            sim_bad(s, "S4 request %llu FAILED but was started", (unsigned long long)o->exec.lo);
        }
    } else {
        s->stat.unknown++;
    }
}
