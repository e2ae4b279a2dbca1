#include <stdlib.h>

#include "proto/base/assert.h"
#include "tests/sim/bus.h"
#include "tests/sim/change.h"
#include "tests/sim/check.h"
#include "tests/sim/vm.h"

static struct sim_node *at(struct sim *s, uint64_t i)
{
    return &s->nodes[i % s->n_nodes];
}

static void down(struct sim *s, struct sim_node *n, const struct sim_fault *f)
{
    n->down_until_ns = s->now_ns + f->dur_ms * SIM_MS;
    sim_halt(s, n);
}

/* The process stops, or the whole machine does; a second time only prolongs it. */
static bool sleeps(struct sim *s, struct sim_node *n, const struct sim_fault *f)
{
    uint64_t until = s->now_ns + f->dur_ms * SIM_MS, end = (s->opt.chaos_ms + 1000) * SIM_MS;
    until = until < end ? until : end; /* what waits for it comes when it wakes, not later */
    if (!n->up) {
        return false;
    }
    n->resume_ns = n->paused && n->resume_ns > until ? n->resume_ns : until;
    n->paused = true;
    if (f->kind == SIM_F_SUSPEND && n->kind == SIM_HOST && !n->asleep) {
        sim_vm_sleep(s, n, true);
    }
    return true;
}

static void wakes(struct sim *s, struct sim_node *n)
{
    n->paused = false;
    n->awake_ns = s->now_ns;
    if (n->asleep) {
        sim_vm_sleep(s, n, false);
    }
}

/* The machine dies: what ran on it and what lay on its tmpfs is gone, its number of lives is not.
 */
static void crash_host(struct sim *s, struct sim_node *n, bool relinquish)
{
    uint32_t old = n->inc - n->left; /* a worker that left has counted already */
    sim_vm_kill_all(s, n, false);
    sim_vm_forget(s, n);
    sim_rows_clear(n->rows);
    n->page = (struct sched_fx_page){0};
    n->frozen = true;
    n->inc = old + 1;
    n->left = false;
    n->draining = false;
    s->stat.crashes++;
    for (uint32_t i = 0; relinquish && i < s->opt.voters; i++) {
        /* Sent when it is up again; the delay of the network stands for that. */
        struct sched_msg m = {.type = SCHED_MSG_RELINQ, .to = i + 1, .grant = {.inc = old}};
        sim_send(s, n, &m);
    }
}

static bool another_voter_is_lost(struct sim *s, const struct sim_node *me)
{
    for (uint32_t i = 0; i < s->opt.voters; i++) {
        struct sim_node *v = &s->nodes[i];
        if (v != me &&
            (sim_rows_known(v->rows) == NULL || sim_rows_vote(v->rows) == NULL ||
                v->voter->amnesia || (v->voter->catalog != NULL && v->voter->catalog->vote.lost) ||
                sim_local(v, s->now_ns) < v->voter->quiet_ns)) {
            return true;
        }
    }
    return false;
}

static void fell(struct sim *s, struct sim_node *n, const struct sim_fault *f)
{
    if (!n->up) {
        return;
    }
    if (n->asleep) {
        wakes(s, n);
    }
    sim_check_commit(s, n);
    if (f->kind == SIM_F_CRASH && n->kind == SIM_HOST) {
        crash_host(s, n, f->b != 0);
    } else if (f->kind == SIM_F_LOSE && n->kind == SIM_VOTER && s->opt.voters > 1 &&
               !another_voter_is_lost(s, n)) {
        sim_rows_clear(n->rows);
        n->lost = n->promise;
        n->promise = (struct sim_promise){0};
        if (n->copy != NULL) {
            n->copy->lost = n->copy->promise;
            n->copy->promise = (struct sim_promise){0};
        }
    }
    down(s, n, f);
}

static void link(struct sim *s, const struct sim_fault *f, bool cut)
{
    size_t i = (size_t)(f->a % s->n_nodes) * s->n_nodes + f->b % s->n_nodes;
    if (!cut && s->links[i] == 0) {
        return; /* healed by the end of the safety phase */
    }
    s->links[i] = (uint8_t)(s->links[i] + (cut ? 1 : -1));
    s->n_links += cut ? 1u : UINT32_MAX;
}

static void drain(struct sim *s, struct sim_node *n, const struct sim_fault *f)
{
    if (n->kind != SIM_HOST || !n->up || n->paused) {
        return;
    }
    n->draining = true;
    struct sched_event ev = {.kind = SCHED_EV_DRAIN, .grace_ms = f->dur_ms / 2};
    sim_step(s, n, &ev);
}

static void directed(struct sim *s, const struct sim_fault *f)
{
    if (f->kind == SIM_F_REQUEST) {
        struct sim_node *g = at(s, s->opt.voters + s->opt.hosts + f->a);
        if (g->up && !g->paused) {
            sim_request(s, g, (uint32_t)(f->b % s->opt.keys));
        }
        return;
    }
    for (uint32_t i = 0; i < s->opt.hosts; i++) {
        struct sim_node *h = &s->nodes[s->opt.voters + i];
        for (uint32_t k = 0; h->up && k < h->n_vms; k++) {
            if (h->vms[k].state == SIM_VM_UP && h->vms[k].key == f->a) {
                h->vms[k].deleted = true;
                struct sched_event ev = {.kind = SCHED_EV_DELETE, .vm = h->vms[k].id};
                sim_step(s, h, &ev);
                return;
            }
        }
    }
}

static void forge(struct sim *s, struct sim_node *n, uint32_t ahead)
{
    if (n->kind != SIM_HOST || !n->up || n->paused) {
        return;
    }
    const struct sched_view *now = n->host->env.view;
    struct sched_view v = {.cap = now->n, .m = calloc(now->n + 1, sizeof *v.m)};
    REQUIRE(v.m != NULL && sched_view_copy(&v, now) == 0);
    for (; ahead > 0; ahead--) {
        sched_view_advance(&v);
    }
    for (uint32_t i = 0; i < v.n; i++) {
        if (v.m[i].node != n->id) {
            sched_view_drop(&v, v.m[i].node);
        }
    }
    sim_forge(s, n, &v);
    free(v.m);
}

static void heal_later(struct sim *s, uint32_t i)
{
    struct sim_event ev = {.kind = SIM_E_HEAL, .arg = i};
    sim_event(s, &ev, s->now_ns + s->faults[i].dur_ms * SIM_MS);
}

void sim_fault_begin(struct sim *s, uint32_t i)
{
    const struct sim_fault *f = &s->faults[i];
    struct sim_node *n = at(s, f->a);
    if (s->calm) {
        return;
    }
    if (s->opt.trace) {
        (void)printf("%10.6f   ", (double)s->now_ns / 1e9);
        sim_schedule_print_fault(&s->opt, f, stdout);
    }
    switch ((enum sim_fault_kind)f->kind) {
    case SIM_F_CUT:
        s->cut = true;
        s->cut_a = f->a;
        heal_later(s, i);
        break;
    case SIM_F_LINK:
        link(s, f, true);
        heal_later(s, i);
        break;
    case SIM_F_DROP:
    case SIM_F_HOLD:
        if (s->n_drops < SIM_DROPS_MAX) {
            s->drops[s->n_drops++] = f;
            heal_later(s, i);
        }
        break;
    case SIM_F_PAUSE:
    case SIM_F_SUSPEND:
        if (sleeps(s, n, f)) {
            struct sim_event ev = {.kind = SIM_E_HEAL, .arg = i};
            sim_event(s, &ev, n->resume_ns);
        }
        break;
    case SIM_F_SLOW:
        n->cost_ms = (uint32_t)f->b;
        n->slow_ns = s->now_ns + f->dur_ms * SIM_MS;
        break;
    case SIM_F_RESTART:
    case SIM_F_CRASH:
    case SIM_F_LOSE:
        fell(s, n, f);
        break;
    case SIM_F_TORN:
        n->torn = (uint8_t)(1 + (f->b & 1));
        n->down_until_ns = s->now_ns + f->dur_ms * SIM_MS;
        break;
    case SIM_F_DRAIN:
        drain(s, n, f);
        heal_later(s, i);
        break;
    case SIM_F_FORGE:
        forge(s, n, (uint32_t)f->b);
        break;
    case SIM_F_DELETE:
    case SIM_F_REQUEST:
        directed(s, f);
        break;
    case SIM_F_KINDS:
        break;
    }
}

/* A drained worker that left is started anew, as an upgrade would. */
static void renew(struct sim *s, struct sim_node *n)
{
    if (!n->draining) {
        return;
    }
    if (n->up) {
        struct sim_fault f = {.kind = SIM_F_CRASH, .dur_ms = 200, .b = 1};
        fell(s, n, &f);
    } else {
        n->draining = false;
    }
}

void sim_fault_end(struct sim *s, uint32_t i)
{
    const struct sim_fault *f = &s->faults[i];
    struct sim_node *n = at(s, f->a);
    if (f->kind == SIM_F_CUT && s->cut_a == f->a) {
        s->cut = false;
    } else if (f->kind == SIM_F_LINK) {
        link(s, f, false);
    } else if ((f->kind == SIM_F_PAUSE || f->kind == SIM_F_SUSPEND) && n->paused &&
               n->resume_ns <= s->now_ns) {
        wakes(s, n);
    } else if (f->kind == SIM_F_DRAIN) {
        renew(s, n);
    } else if (f->kind == SIM_F_DROP || f->kind == SIM_F_HOLD) {
        for (uint32_t k = 0; k < s->n_drops; k++) {
            if (s->drops[k] == f) {
                s->drops[k] = s->drops[--s->n_drops];
            }
        }
    }
}

void sim_calm(struct sim *s)
{
    s->calm = true;
    s->cut = false;
    s->n_drops = 0;
    s->n_links = 0;
    memset(s->links, 0, (size_t)s->n_nodes * s->n_nodes);
    for (uint32_t i = 0; i < s->n_nodes; i++) {
        struct sim_node *n = &s->nodes[i];
        n->torn = 0;
        n->slow_ns = 0;
        if (n->up && n->speaks.max < s->opt.speaks) {
            struct sim_fault f = {.kind = SIM_F_RESTART, .dur_ms = 500};
            fell(s, n, &f);
        } else if (!n->up) {
            struct sim_event ev = {.kind = SIM_E_UP, .node = i, .gen = n->gen};
            sim_event(s, &ev, s->now_ns + SIM_S / 2);
        }
        renew(s, n);
    }
}
