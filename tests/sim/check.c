#include <stdarg.h>

#include "tests/sim/bus.h"
#include "tests/sim/change.h"
#include "tests/sim/check.h"

enum { PROPOSAL_MS = 900 }; /* a voter gives up its proposal after a second, by its own clock */

void sim_bad(struct sim *s, const char *fmt, ...)
{
    if (s->bad[0] != '\0') {
        return;
    }
    int n = snprintf(s->bad, sizeof s->bad, "%.6f s: ", (double)s->now_ns / 1e9);
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(s->bad + n, sizeof s->bad - (size_t)n, fmt, ap);
    va_end(ap);
}

const char *sim_bad_name(const struct sim *s)
{
    const char *p = strstr(s->bad, ": ");
    return p == NULL ? "" : p + 2;
}

uint32_t sim_key_index(const struct sim *s, struct sched_key key)
{
    return sched_map_get(&s->key_of, key.hi, key.lo);
}

/* ---- views: S5, S6, S7 ---- */

void sim_check_view(struct sim *s, struct sim_node *n, const struct sched_view *v)
{
    char name[16];
    sim_name(n, name);
    if (v->num < n->seen_view) {
        sim_bad(s, "S5 %s installs view %u after %u", name, v->num, n->seen_view);
    }
    n->seen_view = v->num;
    sim_check_chosen(s, v);
}

/* A lease page of (node, inc) that has not run out. */
static bool may_run(struct sim *s, const struct sim_node *n, uint32_t inc)
{
    return n->page_inc == inc && sim_local(n, s->now_ns) < n->page.freeze_at_ns;
}

static void check_dropped(struct sim *s, const struct sched_view *v)
{
    for (uint32_t i = 0; i < v->n; i++) {
        const struct sched_member *m = &v->m[i];
        struct sim_node *n = sim_node_of(s, m->node);
        bool in = (m->flags & SCHED_MEMBER_IN) != 0, was = (m->flags & SCHED_MEMBER_PREV) != 0;
        if (was && (!in || m->inc != m->pinc) && may_run(s, n, m->pinc)) {
            sim_bad(s, "S6 view %u drops H%u/%u whose lease runs", v->num, n->index, m->pinc);
        }
        if (was && (!in || m->inc != m->pinc)) {
            n->gone_inc = m->pinc;
            n->gone_ns = s->now_ns;
        }
        uint32_t k = (uint32_t)(n - s->nodes);
        if (in && (!was || m->inc != m->pinc)) {
            if (m->inc <= s->admitted[k]) {
                sim_bad(s, "S7 H%u/%u is admitted twice, in view %u", n->index, m->inc, v->num);
            }
            s->admitted[k] = m->inc;
        }
    }
}

/* ---- versions: S18 ---- */

/* Nobody whose messages count is spoken to in a version that he does not know: not voters, not
 * members. A gateway that no voter has heard of may be. */
void sim_check_unread(struct sim *s, const struct sim_node *to, const struct sim_packet *p)
{
    struct sched_host h = {to->id, to->inc};
    if (to->kind == SIM_VOTER || (to->kind == SIM_HOST && sched_view_has(sim_chosen_view(s), h))) {
        char name[16];
        sim_name(to, name);
        sim_bad(s, "S18 %s speaks versions to %u and is sent %s in version %u", name,
            to->speaks.max, sched_msg_name(p->type), p->bytes[0]);
    }
}

static void check_version(struct sim *s, const struct sched_view *v)
{
    if (v->version < s->version) {
        sim_bad(s, "S18 view %u is of version %u, after %u", v->num, v->version, s->version);
    }
    s->version = v->version;
    for (uint32_t i = 0; i < s->n_nodes; i++) {
        const struct sim_node *n = &s->nodes[i];
        if ((n->kind == SIM_VOTER || sched_view_has(v, (struct sched_host){n->id, n->inc})) &&
            n->speaks.max < v->version) {
            sim_bad(s, "S18 view %u is of version %u, and %c%u does not speak it", v->num,
                v->version, "VHG"[n->kind], n -> index);
        }
    }
}

void sim_check_chosen(struct sim *s, const struct sched_view *v)
{
    struct sim_view *sv = sim_view_of(s, v);
    if (sv->chosen) {
        return;
    }
    for (struct sim_view *x = s->views[v->num]; x != NULL; x = x->next) {
        if (x->chosen) {
            sim_bad(s, "S5 two views are chosen as number %u", v->num);
            return; /* what is below follows one line of views */
        }
    }
    sv->chosen = true;
    s->stat.views++;
    s->stat.rebuilt += sched_bucket_any(v->rec);
    for (uint32_t i = 0; i < SCHED_BUCKET_WORDS; i++) {
        s->rebuilt[i] |= sched_view_members(v) > 0 ? v->rec[i] : UINT64_MAX; /* nobody keeps it */
    }
    if (v->num > s->chosen_num) {
        if (v->num != s->chosen_num + 1) {
            sim_bad(s, "S5 view %u is chosen after %u", v->num, s->chosen_num);
        }
        s->chosen_num = v->num;
    }
    check_dropped(s, v);
    check_version(s, v);
    sim_check_place(s, v);
}

/* A voter that answers for a ballot has promised to refuse lower ones: for ever when it keeps its
 * store, and as long as the proposal may live when it loses it. */
void sim_check_vote(struct sim *s, struct sim_node *n, const struct sched_msg *m)
{
    bool accepted = m->type == SCHED_MSG_VACKED;
    if (!accepted && m->type != SCHED_MSG_VPROM) {
        return;
    }
    uint64_t ballot = accepted ? m->ballot.ballot : m->vprom.ballot;
    bool alive = s->now_ns - n->lost.at_ns < PROPOSAL_MS * SIM_MS;
    if (ballot < n->promise.ballot || (accepted && alive && ballot < n->lost.ballot)) {
        sim_bad(s, "S5 V%u answers for ballot %llx and has promised %llx", n->index,
            (unsigned long long)ballot,
            (unsigned long long)(ballot < n->promise.ballot ? n->promise : n->lost).ballot);
    }
    if (ballot > n->promise.ballot) {
        n->promise = (struct sim_promise){ballot, s->now_ns};
    }
}

/* ---- the pool's maximum: S11, L8 ---- */

const struct sched_view *sim_chosen_view(const struct sim *s)
{
    const struct sim_view *v = s->views[s->chosen_num];
    while (v != NULL && !v->chosen) {
        v = v->next;
    }
    return v == NULL ? NULL : &v->v;
}

bool sim_check_member(const struct sim *s, struct sched_host h)
{
    return sched_view_has(sim_chosen_view(s), h);
}

static uint32_t permits(const struct sim *s, const struct sim_node *n)
{
    uint32_t vms = 0;
    for (uint32_t i = 0; i < n->n_vms; i++) {
        vms += n->vms[i].state != SIM_VM_FREE;
    }
    uint32_t limit =
        n->up && s->opt.quota > 0 && s->opt.pools == 0 ? n->host->sess.permits.q[0].limit : 0;
    return vms > limit ? vms : limit;
}

/* What hosts of the view may use or do use, together. */
void sim_check_quota(struct sim *s, struct sim_node *n)
{
    uint32_t now = s->opt.quota == 0 || s->opt.pools > 0 ? n->permits : permits(s, n), sum = 0;
    bool more = now > n->permits;
    n->permits = now;
    const struct sched_view *v = more ? sim_chosen_view(s) : NULL;
    for (uint32_t i = s->opt.voters; v != NULL && i < s->opt.voters + s->opt.hosts; i++) {
        const struct sim_node *h = &s->nodes[i];
        sum += sched_view_has(v, h->host->env.me) ? permits(s, h) : 0;
    }
    if (sum > s->opt.quota) {
        sim_bad(s, "S11 %u permits are out, of %u", sum, s->opt.quota);
    }
}

void sim_check_dead_permits(struct sim *s, const struct sched_view *v, uint32_t reg)
{
    const struct sched_quota_keep *last = NULL;
    for (uint32_t i = 0; i < s->opt.voters; i++) {
        const struct sched_quota_keep *k = &s->nodes[i].voter->quotas[reg];
        last = last == NULL || k->vote.accepted > last->vote.accepted ? k : last;
    }
    for (uint32_t i = 0; last != NULL && i < last->acc.n; i++) {
        const struct sched_quota_entry *e = &last->acc.e[i];
        if (e->host.node != 0 && !sched_view_has(v, e->host) && e->permits > 0) {
            sim_bad(s, "L8 the dead H%u/%u holds %u permits",
                (uint32_t)e->host.node - s->opt.voters - 1, e->host.inc, e->permits);
        }
    }
}

/* ---- sessions: S1, S2, S3, S10, S15 ---- */

void sim_check_live(struct sim *s, struct sim_node *n, struct sim_vm *vm, bool on)
{
    if (on == vm->counted) {
        return;
    }
    vm->counted = on;
    struct sim_key *k = &s->keys[vm->key];
    k->live += on ? 1u : UINT32_MAX;
    if (k->live > 1) {
        sim_bad(s, "S1 key %u has %u live sessions; the last is epoch %llx on H%u", vm->key,
            k->live, (unsigned long long)vm->id.epoch, n->index);
    }
    if (on && vm->id.epoch < k->ran) {
        sim_bad(s, "S8 key %u runs in epoch %llx on H%u, after %llx", vm->key,
            (unsigned long long)vm->id.epoch, n->index, (unsigned long long)k->ran);
    }
    k->ran = on && vm->id.epoch > k->ran ? vm->id.epoch : k->ran;
}

/* S17: a host whose journal does not have what ran last in a session of a key knows that. */
static void check_moved(struct sim *s, const struct sim_node *n, const struct sim_vm *vm)
{
    const struct sim_key *k = &s->keys[vm->key];
    const struct sched_sess_row *row = sched_sess_find(&n->host->sess, vm->id.key);
    unsigned pbits = s->cfg.pbits;
    uint32_t bucket = sched_part_bucket(sched_key_part(vm->id.key, pbits), pbits);
    struct sched_host here = {n->id, vm->inc};
    bool recent = k->at_ns != 0 && s->now_ns - k->at_ns < s->cfg.keep_ms * SIM_MS / 2;
    if (recent && !sched_host_eq(k->at, here) && !sched_bucket_has(s->rebuilt, bucket) &&
        (row == NULL || !row->rec.moved)) {
        sim_bad(s, "S17 key %u comes to H%u, which does not know that it was elsewhere", vm->key,
            n->index);
    }
}

void sim_check_ran(struct sim *s, const struct sim_node *n, const struct sim_vm *vm)
{
    struct sim_key *k = &s->keys[vm->key];
    k->at = (struct sched_host){n->id, vm->inc};
    k->at_ns = s->now_ns;
}

void sim_check_bound(struct sim *s, const struct sim_node *n, struct sim_vm *vm)
{
    struct sim_key *k = &s->keys[vm->key];
    check_moved(s, n, vm);
    if (s->opt.looks != 0 && vm->key == s->opt.keys - 1) {
        sim_bad(s, "S19 a session of key %u begins, for which everybody only looks", vm->key);
    }
    if (vm->id.epoch <= k->bound) {
        sim_bad(s, "S2 key %u starts epoch %llx after %llx", vm->key,
            (unsigned long long)vm->id.epoch, (unsigned long long)k->bound);
    }
    k->bound = vm->id.epoch;
    k->bound_view = s->chosen_num;
    s->stat.opened++;
}

void sim_check_started(struct sim *s, struct sched_exec exec, sched_epoch epoch)
{
    struct sim_req *q = &s->reqs[exec.lo];
    s->stat.execs++;
    q->epoch = epoch;
    if (++q->starts > 1) {
        sim_bad(s, "S3 request %llu starts a second time", (unsigned long long)exec.lo);
    }
    if (q->outcome == SCHED_OUTCOME_FAILED + 1) {
        sim_bad(s, "S4 request %llu starts after it FAILED", (unsigned long long)exec.lo);
    }
}

/* S8: the history of an identifier is that of one session after another. An answer names the epoch
 * in which its request really ran, so it takes effect at a moment between its question and its
 * answer when that session ran; sessions run one at a time (S1) and in the order of their epochs
 * (above), and none comes back; so an answer is never of a session that was over, or replaced in
 * somebody's eyes, when it was asked for. */
void sim_check_answer(struct sim *s, const struct sim_req *q, sched_epoch epoch)
{
    struct sim_key *k = &s->keys[q->key];
    if (epoch != q->epoch) {
        sim_bad(s, "S8 key %u answered by epoch %llx, ran in %llx", q->key,
            (unsigned long long)epoch, (unsigned long long)q->epoch);
    }
    if (epoch < q->seen) {
        sim_bad(s, "S8 key %u answered by epoch %llx after %llx was seen", q->key,
            (unsigned long long)epoch, (unsigned long long)q->seen);
    }
    k->seen = epoch > k->seen ? epoch : k->seen;
}

void sim_check_stop(struct sim *s, struct sim_node *n, struct sim_vm *vm)
{
    uint64_t now = sim_local(n, s->now_ns);
    bool cooled = now >= vm->last_ns + s->opt.cooldown_ms * SIM_MS;
    bool old = now >= vm->born_ns + s->cfg.max_alive_ms * SIM_MS;
    if (!cooled && !old && !vm->deleted && !n->draining) {
        sim_bad(s, "S10 key %u is stopped %llu ms after its last activity", vm->key,
            (unsigned long long)((now - vm->last_ns) / SIM_MS));
    }
}

void sim_check_attached(struct sim *s, struct sim_node *n)
{
    for (uint32_t i = 0; i < n->n_vms; i++) {
        if (n->vms[i].state != SIM_VM_FREE &&
            sched_sess_find(&n->host->sess, n->vms[i].id.key) == NULL) {
            sim_bad(s, "S15 H%u has a microVM without a session", n->index);
        }
    }
}

/* ---- S9: a replica that settles a partition holds what was chosen for it ---- */

static const struct sim_vm *running(struct sim *s, uint32_t key)
{
    for (uint32_t i = 0; i < s->n_nodes; i++) {
        struct sim_node *n = &s->nodes[i];
        for (uint32_t k = 0; n->kind == SIM_HOST && k < n->n_vms; k++) {
            struct sim_vm *vm = &n->vms[k];
            if (vm->state == SIM_VM_UP && vm->key == key && !n->frozen && !n->asleep &&
                vm->id.epoch == s->keys[key].bound) {
                return vm;
            }
        }
    }
    return NULL;
}

void sim_check_settled(struct sim *s, struct sim_node *n, uint32_t part)
{
    uint32_t era = n->host->reg.parts[part].era;
    if (s->opt.keys > 64) {
        return; /* too dear; small runs check it */
    }
    for (uint32_t i = 0; i < s->opt.keys; i++) {
        if (sched_key_part(s->keys[i].key, s->opt.pbits) != part || s->keys[i].bound_view >= era) {
            continue; /* perhaps chosen in this era only */
        }
        const struct sim_vm *vm = running(s, i);
        const struct sched_reg_row *row = sched_reg_find(&n->host->reg, s->keys[i].key);
        if (vm != NULL && !vm->deleted && (row == NULL || row->rec.epoch < vm->id.epoch)) {
            sim_bad(s, "S9 H%u settles partition %u in view %u without key %u, epoch %llx",
                n->index, part, era, i, (unsigned long long)vm->id.epoch);
        }
    }
}

/* ---- liveness ---- */

void sim_check_end(struct sim *s)
{
    uint32_t num = s->chosen_num;
    const struct sched_view *v = sim_chosen_view(s);
    for (uint32_t i = 0; i < s->n_nodes && v != NULL; i++) {
        const struct sim_node *n = &s->nodes[i];
        if (n->kind == SIM_VOTER && n->voter->known.num != num) {
            sim_bad(s, "L2 V%u knows view %u of %u", n->index, n->voter->known.num, num);
        }
        if (n->kind == SIM_GATEWAY && n->gw->view->num != num) {
            sim_bad(s, "L2 G%u has view %u of %u", n->index, n->gw->view->num, num);
        }
        if (n->kind != SIM_HOST || n->draining) {
            continue;
        }
        if (!sched_view_has(v, n->host->env.me) || n->host->env.view->num != num) {
            sim_bad(s, "L2 H%u/%u is not in view %u, has %u", n->index, n->host->env.me.inc, num,
                n->host->env.view->num);
        }
        if (n->host->hand.unsettled > 0) {
            sim_bad(s, "L3 H%u has %u unsettled partitions in view %u", n->index,
                n->host->hand.unsettled, num);
        }
        if (n->frozen) {
            sim_bad(s, "L2 H%u is frozen", n->index);
        }
    }
    if (s->version != s->opt.speaks) {
        sim_bad(s, "L9 everybody speaks version %u, the cluster %u", s->opt.speaks, s->version);
    }
    if (s->opt.quota > 0 && s->opt.pools == 0) {
        sim_check_dead_permits(s, v, 0);
    }
    sim_check_catalog_end(s, v);
    sim_cat_end(s);
    for (uint32_t i = 0; s->opt.catalog > 0 && i < SCHED_QUOTA_REGS; i++) {
        sim_check_dead_permits(s, v, i);
    }
    uint32_t want = s->opt.load == 0 || s->opt.pools > 0 ? 0 : 8; /* pools may be gone */
    if (s->stat.tail_ok < want || s->stat.tail_bad > 0 || s->stat.tail_slow > 0) {
        sim_bad(s, "L4 after the faults %llu requests were OK, %llu not, %llu slow",
            (unsigned long long)s->stat.tail_ok, (unsigned long long)s->stat.tail_bad,
            (unsigned long long)s->stat.tail_slow);
    }
}

void sim_check_directed(struct sim *s, bool end)
{
    if (!end && s->stat.views < s->opt.views_min) {
        sim_bad(s, "L2 only %llu views by now", (unsigned long long)s->stat.views);
    }
    if (s->opt.lives_below != 0 && s->stat.evicted >= s->opt.lives_below) {
        sim_bad(
            s, "L7 %llu workers were removed without need", (unsigned long long)s->stat.evicted);
    }
    if (s->opt.views_below != 0 && s->stat.views >= s->opt.views_below) {
        sim_bad(s, "L2 %llu views", (unsigned long long)s->stat.views);
    }
}

void sim_check_reclaimed(struct sim *s)
{
    sim_check_directed(s, true);
    for (uint32_t i = 0; i < s->n_nodes; i++) {
        const struct sim_node *n = &s->nodes[i];
        for (uint32_t k = 0; n->kind == SIM_HOST && k < n->n_vms; k++) {
            if (n->vms[k].state != SIM_VM_FREE) {
                sim_bad(s, "L5 key %u still has a session on H%u", n->vms[k].key, n->index);
            }
        }
        for (uint32_t k = 0; n->kind == SIM_HOST && k < s->cfg.regs_max; k++) {
            const struct sched_reg_row *row = &n->host->reg.rows[k];
            if (row->used && row->rec.state == SCHED_REC_LIVE &&
                sched_reg_ready(&n->host->reg, row->part)) {
                sim_bad(s, "L5 H%u still believes in a session of key %u", n->index,
                    sim_key_index(s, row->key));
            }
        }
    }
}
