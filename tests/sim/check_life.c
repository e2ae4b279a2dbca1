#include <stdlib.h>

#include "proto/base/assert.h"
#include "tests/sim/change.h"
#include "tests/sim/check.h"

/* Invariants about what is kept and what ends: S10 (not too late), S14, S15, L6. */

/* ---- S14: equal view number, equal placement, whatever way led to it ---- */

static void change(struct sim *s, const struct sched_member *m)
{
    bool in = (m->flags & SCHED_MEMBER_IN) != 0, was = (m->flags & SCHED_MEMBER_PREV) != 0;
    struct sched_place_member now = {m->node, m->zone, m->weight};
    if (was && (!in || m->zone != m->pzone)) {
        REQUIRE(sched_place_leave(&s->grown, m->node) == 0);
        was = false;
    }
    if (in && !was) {
        REQUIRE(sched_place_join(&s->grown, &now) == 0);
    } else if (in && m->weight != m->pweight) {
        REQUIRE(sched_place_reweight(&s->grown, m->node, m->weight) == 0);
    }
}

/* Who follows the views change by change has the table of one who builds it from the last view. */
void sim_check_place(struct sim *s, const struct sched_view *v)
{
    struct sched_place_member *m = calloc(v->n + 1, sizeof *m);
    REQUIRE(m != NULL);
    uint32_t n = 0;
    for (uint32_t i = 0; i < v->n; i++) {
        const struct sched_member *e = &v->m[i];
        change(s, e);
        if ((e->flags & SCHED_MEMBER_IN) != 0) {
            m[n++] = (struct sched_place_member){e->node, e->zone, e->weight};
        }
    }
    REQUIRE(sched_place_build(&s->place, m, n) == 0);
    if (sched_place_digest(&s->place) != sched_place_digest(&s->grown)) {
        sim_bad(s, "S14 two ways to view %u lead to different placements", v->num);
    }
    free(m);
}

/* ---- S15: what a process knows is what it has stored ---- */

static bool same_rec(const struct sched_rec *a, const struct sched_rec *b)
{
    return a->epoch == b->epoch && a->state == b->state && a->resv == b->resv &&
           sched_host_eq(a->host, b->host) && a->inline_epoch == b->inline_epoch;
}

static uint32_t registers_differ(const struct sim *s, const struct sim_node *n)
{
    uint32_t have = 0, bad = 0;
    for (uint32_t i = 0; i < s->cfg.regs_max; i++) {
        const struct sched_reg_row *row = &n->host->reg.rows[i];
        if (row->used) {
            struct sched_row like = {.kind = SCHED_ROW_REG, .key = row->key};
            const struct sched_row *kept = sim_rows_find(n->rows, &like);
            bad += kept == NULL || kept->promised != row->promised ||
                   kept->accepted != row->accepted || !same_rec(&kept->rec, &row->rec);
            have++;
        }
    }
    return bad + (have != sim_rows_count(n->rows, SCHED_ROW_REG));
}

static uint32_t sessions_differ(const struct sim *s, const struct sim_node *n)
{
    uint32_t have = 0, bad = 0;
    for (uint32_t i = 0; i < s->cfg.sess_max; i++) {
        const struct sched_sess_row *row = &n->host->sess.rows[i];
        if (row->state >= SCHED_SESS_STARTING) {
            struct sched_row like = {.kind = SCHED_ROW_SESS, .key = row->key};
            const struct sched_row *kept = sim_rows_find(n->rows, &like);
            bad += kept == NULL || kept->state != row->state || !same_rec(&kept->rec, &row->rec) ||
                   kept->born_ns != row->born_ns;
            have++;
        }
    }
    return bad + (have != sim_rows_count(n->rows, SCHED_ROW_SESS));
}

static uint32_t executions_differ(const struct sim *s, const struct sim_node *n)
{
    uint32_t have = 0, bad = 0;
    for (uint32_t i = 0; i < s->cfg.execs_max; i++) {
        const struct sched_run *run = &n->host->journal.runs[i];
        if (run->state != 0) {
            struct sched_row like = {.kind = SCHED_ROW_EXEC, .exec = run->exec};
            const struct sched_row *kept = sim_rows_find(n->rows, &like);
            bad += kept == NULL || kept->state != (run->state | run->outcome << 4) ||
                   kept->rec.epoch != run->epoch;
            have++;
        }
    }
    return bad + (have != sim_rows_count(n->rows, SCHED_ROW_EXEC));
}

static uint32_t partitions_differ(const struct sim *s, const struct sim_node *n)
{
    uint32_t stored, bad = 0;
    const struct sched_part *kept = sim_rows_parts(n->rows, &stored);
    for (uint32_t i = 0; i < 1u << s->opt.pbits; i++) {
        struct sched_part none = {0}, now = n->host->reg.parts[i];
        bad += memcmp(i < stored ? &kept[i] : &none, &now, sizeof now) != 0;
    }
    return bad;
}

/* A voter may have in mind a higher ballot than it has promised. */
static bool vote_differs(const struct sim_node *n)
{
    const struct sched_voter *v = n->voter;
    const struct sched_row *vote = sim_rows_vote(n->rows), *known = sim_rows_known(n->rows);
    uint64_t promised = vote != NULL ? vote->promised : 0;
    uint64_t accepted = vote != NULL ? vote->accepted : 0;
    return !v->amnesia && (known == NULL || v->known.num != known->view->num ||
                              promised < n->promise.ballot || accepted != v->accepted);
}

void sim_check_commit(struct sim *s, const struct sim_node *n)
{
    char name[16];
    sim_name(n, name);
    uint32_t regs = 0, sess = 0, execs = 0, parts = 0;
    if (n->kind == SIM_HOST && !n->left) {
        regs = registers_differ(s, n);
        sess = sessions_differ(s, n);
        execs = executions_differ(s, n);
        parts = partitions_differ(s, n);
    }
    if (regs + sess + execs + parts > 0) {
        sim_bad(s,
            "S15 %s has not stored what it knows: %u registers, %u sessions, %u executions, "
            "%u partitions",
            name, regs, sess, execs, parts);
    }
    if (n->kind == SIM_VOTER && (vote_differs(n) || sim_cat_differs(n))) {
        sim_bad(s, "S15 %s has not stored what it has promised", name);
    }
}

/* ---- S10, L6: what must be over ---- */

/* How long a host may take to see that a session is over: it looks at a part of its table, and ends
 * a few, five times a second. */
static uint64_t look_ns(const struct sim *s)
{
    return 3 * SIM_S + s->cfg.sess_max / 32 * 400 * SIM_MS;
}

static uint64_t later_of(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static void check_overdue(struct sim *s, const struct sim_node *n, const struct sim_vm *vm)
{
    const struct sched_sess_row *row = sched_sess_find(&n->host->sess, vm->id.key);
    uint64_t now = sim_local(n, s->now_ns), awake = sim_local(n, n->awake_ns);
    uint64_t idle = later_of(awake, vm->last_ns) + s->opt.cooldown_ms * SIM_MS + look_ns(s);
    uint64_t old = later_of(awake, vm->born_ns) + s->cfg.max_alive_ms * SIM_MS + look_ns(s);
    if (row != NULL && ((row->running == 0 && now > idle) || now > old)) {
        sim_bad(s, "S10 key %u still runs on H%u, %llu ms after its last activity", vm->key,
            n->index, (unsigned long long)((now - vm->last_ns) / SIM_MS));
    }
}

void sim_check_killed(struct sim *s, const struct sim_node *n, const struct sim_vm *vm)
{
    uint64_t now = sim_local(n, s->now_ns), end = n->held_ns + s->cfg.kill_ms * SIM_MS;
    if (now < end) {
        sim_bad(s, "S10 key %u is killed on H%u/%u %llu ms early: it held a lease", vm->key,
            n->index, vm->inc, (unsigned long long)((end - now) / SIM_MS));
    }
}

void sim_check_look(struct sim *s)
{
    for (uint32_t i = s->opt.voters; i < s->opt.voters + s->opt.hosts; i++) {
        struct sim_node *n = &s->nodes[i];
        bool awake = n->up && !n->paused && s->now_ns >= n->slow_ns + 5 * SIM_S;
        bool killed = !n->asleep && s->now_ns > later_of(n->gone_ns, n->awake_ns) +
                                                    s->cfg.kill_ms * SIM_MS + 2 * SIM_S;
        for (uint32_t k = 0; k < n->n_vms; k++) {
            const struct sim_vm *vm = &n->vms[k];
            if (vm->state == SIM_VM_UP && awake) {
                check_overdue(s, n, vm);
            }
            if (vm->state != SIM_VM_FREE && killed && vm->inc <= n->gone_inc) {
                sim_bad(s, "L6 key %u still has a microVM on H%u/%u, which has long been removed",
                    vm->key, n->index, vm->inc);
            }
        }
    }
}
