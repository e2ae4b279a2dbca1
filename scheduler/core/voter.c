#include "scheduler/core/voter.h"

#include "proto/base/assert.h"
#include "scheduler/core/mutant.h"
#include "scheduler/core/voter_int.h"

enum {
    TICK_MS = 500,
    OP_MS = 1000,    /* a proposal that takes longer is given up; amnesia relies on the bound */
    QUIET_MS = 1500, /* more than that by any clock */
    JOIN_MS = 3000,  /* a join that is not repeated within this time is forgotten */
};

static void carve(struct sched_voter *v, const struct sched_cfg *cfg, struct sched_mem *mem)
{
    sched_view_init(&v->known, cfg->members_max, mem);
    sched_view_init(&v->acc, cfg->members_max, mem);
    sched_view_init(&v->val, cfg->members_max, mem);
    v->peers = sched_mem_take(mem, cfg->members_max, sizeof *v->peers);
    v->lapses = sched_mem_take(mem, cfg->members_max, 1);
    sched_map_init(&v->by_node, cfg->members_max, mem);
    sched_speak_init(&v->speak, cfg->members_max, mem);
    v->n_quotas = cfg->catalog ? SCHED_QUOTA_REGS : cfg->quota.max > 0;
    v->quotas = sched_mem_take(mem, v->n_quotas, sizeof *v->quotas);
    if (cfg->catalog) {
        v->catalog = sched_mem_take(mem, 1, sizeof *v->catalog);
        struct sched_catreg unused;
        sched_catreg_init(v->catalog != NULL ? v->catalog : &unused, mem);
    }
    struct sched_quota_keep sizes;
    for (uint32_t i = 0; i < v->n_quotas; i++) {
        sched_quota_keep_init(v->quotas != NULL ? &v->quotas[i] : &sizes, cfg, i, mem);
    }
}

size_t sched_voter_size(const struct sched_cfg *cfg)
{
    struct sched_voter v;
    struct sched_mem mem = {0};
    carve(&v, cfg, &mem);
    return mem.used;
}

static uint64_t guard_ns(const struct sched_voter *v)
{
    return v->now_ns + sched_cfg_guard_ns(v->cfg);
}

/* R4, and after a restart: whoever may hold a lease that this process does not remember. */
static void grant_members(struct sched_voter *v, const struct sched_view *view)
{
    for (uint32_t i = 0; i < view->n; i++) {
        const struct sched_member *m = &view->m[i];
        if ((m->flags & SCHED_MEMBER_IN) == 0) {
            continue;
        }
        struct sched_voter_peer *p = sched_voter_peer_add(v, m->node);
        if (p != NULL && p->inc != m->inc) {
            p->inc = m->inc;
            p->gone = false;
            p->until_ns = MUTANT(13) ? v->now_ns : guard_ns(v);
        }
    }
}

static void boot_quotas(struct sched_voter *v, const struct sched_voter_boot *boot)
{
    if (!v->cfg->catalog) {
        v->pools_version = v->n_pools = 1;
        v->pools[0].max = v->cfg->quota.max;
    }
    for (uint32_t i = 0; i < v->n_quotas; i++) {
        struct sched_quota_keep *k = &v->quotas[i];
        k->vote.lost = v->amnesia;
        k->vote.nonce = v->nonce;
        k->vote.resend_ns = v->quiet_ns;
        k->clean_ns = v->now_ns;
        if (boot->quotas[i] != NULL) {
            sched_quota_keep_restore(k, boot->quotas[i]);
        }
    }
}

static void restore_register(struct sched_voter *v, const struct sched_voter_boot *boot)
{
    if (v->amnesia) {
        return;
    }
    REQUIRE(sched_view_copy(&v->known, boot->known->view) == 0);
    v->repeats = sched_bucket_any(v->known.rec) ? SCHED_VOTER_REPEATS_MAX : 0; /* not stored */
    grant_members(v, &v->known);
    if (boot->vote != NULL) {
        v->promised = boot->vote->promised;
        v->accepted = boot->vote->accepted;
        REQUIRE(boot->vote->view == NULL || sched_view_copy(&v->acc, boot->vote->view) == 0);
    }
}

void sched_voter_init(struct sched_voter *v, const struct sched_cfg *cfg, struct sched_mem *mem,
    const struct sched_voter_boot *boot)
{
    memset(v, 0, sizeof *v);
    carve(v, cfg, mem);
    REQUIRE(mem->used <= mem->size);
    v->cfg = cfg;
    v->id = boot->id;
    v->speaks = sched_speaks_or_all(boot->speaks);
    v->now_ns = boot->now_ns;
    base_hash_rng_seed(&v->rng, boot->seed);
    while (v->index < cfg->n_voters && cfg->voters[v->index] != boot->id) {
        v->index++;
    }
    REQUIRE(v->index < cfg->n_voters);
    v->tick_ns = boot->now_ns + base_hash_rng_below(&v->rng, SCHED_MS(TICK_MS));
    v->learned_ns = v->awake_ns = boot->now_ns;
    v->amnesia = boot->known == NULL || (boot->vote == NULL && !MUTANT(59));
    v->nonce = base_hash_rng_next(&v->rng);
    restore_register(v, boot);
    v->quiet_ns = v->now_ns + (v->amnesia && !MUTANT(24) ? SCHED_MS(QUIET_MS) : 0);
    boot_quotas(v, boot);
    if (v->catalog != NULL) {
        sched_catreg_restore(v->catalog, boot->catalog, boot->first, v->quiet_ns, v->nonce);
    }
}

static void store_vote(struct sched_voter *v)
{
    struct sched_row *r = sched_fx_store(v->fx, SCHED_ROW_VOTE);
    r->promised = v->promised;
    r->accepted = v->accepted;
    r->view = v->acc.num > 0 ? &v->acc : NULL;
}

/* ---- learning ---- */

/* How often in a row a rebuilding has been begun anew, with nobody lost, when `view` is the last.
 * Where views were missed as many as there may be: the least patient voter decides for all. */
static uint32_t repeats_after(const struct sched_voter *v, const struct sched_view *view)
{
    if (view->num > v->known.num + 1) {
        return sched_bucket_any(view->rec) ? SCHED_VOTER_REPEATS_MAX : 0;
    }
    if (sched_bucket_apart(v->known.rec, view->rec)) {
        return 0;
    }
    for (uint32_t i = 0; i < view->n; i++) {
        uint8_t was = SCHED_MEMBER_IN | SCHED_MEMBER_PREV;
        if ((view->m[i].flags & was) == SCHED_MEMBER_PREV) {
            return 0; /* lost */
        }
    }
    return v->repeats + (v->repeats < SCHED_VOTER_REPEATS_MAX);
}

void sched_voter_learn(struct sched_voter *v, const struct sched_view *view)
{
    if (view->num <= v->known.num) {
        return;
    }
    uint32_t repeats = repeats_after(v, view);
    if (sched_view_copy(&v->known, view) != 0) {
        return;
    }
    v->repeats = repeats;
    v->learned_ns = v->now_ns;
    v->unsettled_ns = v->ahead_ns = 0;
    for (uint32_t i = 0; i < v->n_peers; i++) {
        struct sched_voter_peer *p = &v->peers[i];
        p->refused = false;
        if (!sched_view_has(&v->known, (struct sched_host){p->node, p->inc})) {
            p->inc = 0; /* chosen without it: by R1 a majority had let it lapse */
        }
    }
    grant_members(v, &v->known);
    if (!v->amnesia || MUTANT(59)) {
        sched_fx_store(v->fx, SCHED_ROW_KNOWN)->view = &v->known;
    }
    if (v->op.phase != SCHED_VOTER_IDLE && v->op.num <= v->known.num) {
        v->op.phase = SCHED_VOTER_IDLE;
    }
}

/* ---- acceptor ---- */

static void collect_lapsed(const struct sched_voter *v, struct sched_m_vprom *out)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < v->known.n; i++) {
        const struct sched_member *m = &v->known.m[i];
        n += (m->flags & SCHED_MEMBER_IN) != 0 &&
             !sched_voter_holds(v, (struct sched_host){m->node, m->inc}, v->now_ns);
    }
    struct sched_host *list = sched_fx_bytes(v->fx, n * (uint32_t)sizeof *list);
    if (n == 0 || list == NULL) {
        return; /* as if all were held: safe, and the next proposal may do better */
    }
    for (uint32_t i = 0; i < v->known.n; i++) {
        const struct sched_member *m = &v->known.m[i];
        struct sched_host h = {m->node, m->inc};
        if ((m->flags & SCHED_MEMBER_IN) != 0 && !sched_voter_holds(v, h, v->now_ns)) {
            list[out->n_lapsed++] = h;
        }
    }
    out->lapsed = list;
}

static void on_prepare(struct sched_voter *v, const struct sched_msg *m, struct sched_m_vprom *ret)
{
    v->promised = m->ballot.ballot;
    if (!MUTANT(25)) {
        store_vote(v);
    }
    *ret = (struct sched_m_vprom){.ballot = v->promised,
        .accepted = v->accepted,
        .view = v->acc.num > v->known.num ? &v->acc : NULL,
        .known = v->known.num};
    collect_lapsed(v, ret);
}

/* R1 and R2. */
static bool drops_a_holder(struct sched_voter *v, const struct sched_view *val)
{
    bool drops = false;
    for (uint32_t i = 0; i < v->n_peers; i++) {
        struct sched_voter_peer *p = &v->peers[i];
        struct sched_host h = {p->node, p->inc};
        if (sched_voter_holds(v, h, v->now_ns) && !sched_view_has(val, h)) {
            p->refused = !MUTANT(2);
            drops = true;
        }
    }
    return drops && !MUTANT(1);
}

static bool accept(struct sched_voter *v, uint64_t ballot, const struct sched_view *val)
{
    bool next = MUTANT(61) ? val->num > v->known.num : val->num == v->known.num + 1;
    if (ballot < v->promised || !next || drops_a_holder(v, val) ||
        sched_view_copy(&v->acc, val) != 0) {
        return false;
    }
    v->promised = v->accepted = ballot;
    store_vote(v);
    return true;
}

/* ---- proposer ---- */

static void count_promise(struct sched_voter *v, uint32_t from, const struct sched_m_vprom *p)
{
    struct sched_voter_op *op = &v->op;
    op->promises |= (uint8_t)(1u << from);
    if (p->accepted > op->best) {
        op->best = p->accepted;
        op->adopted =
            p->view != NULL && p->view->num == op->num && sched_view_copy(&v->val, p->view) == 0;
    }
    if (p->known != v->known.num) {
        return; /* it knows less: as if it held all */
    }
    for (uint32_t i = 0; i < p->n_lapsed; i++) {
        const struct sched_member *e = sched_view_find(&v->known, p->lapsed[i].node);
        if (e != NULL && e->inc == p->lapsed[i].inc) {
            v->lapses[e - v->known.m]++;
        }
    }
}

/* R3. False when somebody stays of whom this voter does not know that it settled the known view
 * (R6): others may hold its lease although its reports do not come through to here. */
static bool drop_lapsed(struct sched_voter *v, uint32_t *changes)
{
    uint32_t votes = sched_votes(v->op.promises);
    for (uint32_t i = 0; i < v->known.n; i++) {
        const struct sched_member *m = &v->known.m[i];
        if ((m->flags & SCHED_MEMBER_IN) == 0) {
            continue;
        }
        if (MUTANT(3) ? v->lapses[i] > 0 : v->lapses[i] == votes) {
            sched_view_drop(&v->val, m->node);
            ++*changes;
        } else if (!sched_voter_settled(v, m, v->op.rec) && !MUTANT(6)) {
            return false;
        }
    }
    return true;
}

/* R8. Nothing changes in a cluster that nobody is in. */
static bool may_be_empty(const struct sched_voter *v)
{
    for (uint32_t i = 0; i < v->known.n; i++) {
        const struct sched_member *m = &v->known.m[i];
        if ((m->flags & SCHED_MEMBER_IN) != 0 && !sched_voter_gave_back(v, m) && !MUTANT(90)) {
            return false;
        }
    }
    return sched_view_members(&v->known) > 0;
}

/* R3, R5, R8: the successor of the known view. False when it would not differ, or may not be. */
static bool form_value(struct sched_voter *v)
{
    struct sched_view *val = &v->val;
    uint32_t changes = 0;
    REQUIRE(sched_view_copy(val, &v->known) == 0);
    sched_view_advance(val);
    if (!drop_lapsed(v, &changes)) {
        return false;
    }
    for (uint32_t i = 0; i < v->n_peers; i++) {
        struct sched_voter_peer *p = &v->peers[i];
        const struct sched_member *m = sched_view_find(val, p->node);
        bool in = m != NULL && (m->flags & SCHED_MEMBER_IN) != 0;
        if (!in && sched_voter_joining(v, p)) {
            changes += sched_view_admit(
                           val, (struct sched_host){p->node, p->join_inc}, p->zone, p->weight) == 0;
        } else if (in && sched_voter_reweigh(p, m)) {
            changes += sched_view_weigh(val, p->node, p->weight) == 0;
        }
    }
    val->version = sched_voter_common(v, val);
    changes += sched_view_version(val) != sched_view_version(&v->known);
    memcpy(val->rec, v->op.rec, sizeof val->rec);
    return (changes > 0 || sched_bucket_any(val->rec)) &&
           (sched_view_members(val) > 0 || may_be_empty(v));
}

static void finish(struct sched_voter *v)
{
    if (sched_votes(v->op.accepts) <= v->cfg->n_voters / 2) {
        return;
    }
    v->op.phase = SCHED_VOTER_IDLE;
    sched_voter_learn(v, &v->val);
    sched_fx_add(v->fx, SCHED_FX_PUSH)->msg =
        (struct sched_msg){.type = SCHED_MSG_VIEW, .view = {&v->known}};
}

void sched_voter_to_others(struct sched_voter *v, uint8_t type, uint64_t ballot)
{
    for (uint32_t i = 0; i < v->cfg->n_voters; i++) {
        if (i == v->index) {
            continue;
        }
        struct sched_msg *m = sched_fx_send(v->fx, type, v->cfg->voters[i]);
        if (type == SCHED_MSG_VACC) {
            m->vacc = (struct sched_m_vacc){ballot, &v->val};
        } else if (type == SCHED_MSG_VPULL) {
            m->pull.known = v->known.num;
        } else {
            m->ballot.ballot = ballot;
        }
    }
}

static void propose_value(struct sched_voter *v)
{
    struct sched_voter_op *op = &v->op;
    if (sched_votes(op->promises) <= v->cfg->n_voters / 2) {
        return;
    }
    if (!op->adopted && !form_value(v)) {
        op->phase = SCHED_VOTER_IDLE;
        return;
    }
    op->phase = SCHED_VOTER_ACCEPTS;
    if (accept(v, op->ballot, &v->val)) {
        op->accepts |= (uint8_t)(1u << v->index);
    }
    sched_voter_to_others(v, SCHED_MSG_VACC, op->ballot);
    finish(v);
}

void sched_voter_propose(struct sched_voter *v, const uint64_t *rec)
{
    uint64_t round = (v->promised >> 8) + 1;
    v->op = (struct sched_voter_op){.phase = SCHED_VOTER_PROMISES,
        .ballot = round << 8 | v->index,
        .deadline_ns = v->now_ns + SCHED_MS(OP_MS),
        .num = v->known.num + 1};
    memcpy(v->op.rec, rec, sizeof v->op.rec);
    memset(v->lapses, 0, v->cfg->members_max);
    sched_voter_to_others(v, SCHED_MSG_VPREP, v->op.ballot);
    struct sched_msg self = {.type = SCHED_MSG_VPREP, .ballot = {v->op.ballot}};
    struct sched_m_vprom own;
    on_prepare(v, &self, &own);
    count_promise(v, v->index, &own);
    propose_value(v);
}

static void on_vote(struct sched_voter *v, uint32_t from, const struct sched_msg *m)
{
    struct sched_voter_op *op = &v->op;
    if (op->phase != SCHED_VOTER_IDLE && v->now_ns > op->deadline_ns) {
        op->phase = SCHED_VOTER_IDLE;
    }
    if (m->type == SCHED_MSG_VPROM && op->phase == SCHED_VOTER_PROMISES &&
        m->vprom.ballot == op->ballot && (op->promises >> from & 1) == 0) {
        if (m->vprom.known > v->known.num) {
            op->phase = SCHED_VOTER_IDLE;
            sched_fx_send(v->fx, SCHED_MSG_VPULL, m->from)->pull.known = v->known.num;
            return;
        }
        if (m->vprom.known < v->known.num) { /* it cannot accept the next one yet */
            sched_fx_send(v->fx, SCHED_MSG_VIEW, m->from)->view.view = &v->known;
        }
        count_promise(v, from, &m->vprom);
        propose_value(v);
    } else if (m->type == SCHED_MSG_VACKED && op->phase == SCHED_VOTER_ACCEPTS &&
               m->ballot.ballot == op->ballot) {
        op->accepts |= (uint8_t)(1u << from);
        finish(v);
    } else if (m->type == SCHED_MSG_VNACK && m->ballot.ballot > v->promised) {
        v->promised = m->ballot.ballot; /* only to choose a higher ballot next time */
        store_vote(v);
        op->phase = SCHED_VOTER_IDLE;
    }
}

static void on_request(struct sched_voter *v, const struct sched_msg *m)
{
    if (v->amnesia) {
        return;
    }
    uint64_t ballot = m->type == SCHED_MSG_VPREP ? m->ballot.ballot : m->vacc.ballot;
    if (m->type == SCHED_MSG_VPREP && ballot > v->promised) {
        struct sched_m_vprom ret;
        on_prepare(v, m, &ret);
        sched_fx_send(v->fx, SCHED_MSG_VPROM, m->from)->vprom = ret;
    } else if (m->type == SCHED_MSG_VACC && accept(v, ballot, m->vacc.view)) {
        sched_fx_send(v->fx, SCHED_MSG_VACKED, m->from)->ballot.ballot = ballot;
    } else if (ballot < v->promised) {
        sched_fx_send(v->fx, SCHED_MSG_VNACK, m->from)->ballot.ballot = v->promised;
    }
}

/* ---- a lost store ---- */

static void on_ask(struct sched_voter *v, const struct sched_msg *m)
{
    if (v->amnesia) {
        return;
    }
    sched_fx_send(v->fx, SCHED_MSG_VIEW, m->from)->view.view = &v->known;
    sched_fx_send(v->fx, SCHED_MSG_VTELL, m->from)->vtell =
        (struct sched_m_vtell){.nonce = m->ballot.ballot,
            .promised = v->promised,
            .accepted = v->accepted,
            .known = v->known.num,
            .view = v->acc.num > 0 ? &v->acc : NULL};
}

/* Until all of it is back it counts as lost: a process that ends before starts from nothing again,
 * and does not take a register of which it has no row for one that never was. */
static bool registers_lost(const struct sched_voter *v)
{
    if (sched_view_version(&v->known) < SCHED_VERSION_CATALOG) {
        return false; /* there is none yet, and older builds do not answer */
    }
    bool lost = v->catalog != NULL && v->catalog->vote.lost;
    for (uint32_t i = 0; i < v->n_quotas && !lost; i++) {
        lost = v->quotas[i].vote.lost;
    }
    return lost;
}

/* Before the cluster speaks of a catalogue there was nothing in these registers to be lost. */
static void find_registers(struct sched_voter *v)
{
    if (v->cfg->catalog && sched_view_version(&v->known) < SCHED_VERSION_CATALOG) {
        v->catalog->vote.lost = false;
        for (uint32_t i = 0; i < v->n_quotas; i++) {
            v->quotas[i].vote.lost = false;
        }
    }
}

static void on_tell(struct sched_voter *v, uint32_t from, const struct sched_m_vtell *m)
{
    if (!v->amnesia || m->nonce != v->nonce || m->known > v->known.num) {
        return;
    }
    v->told |= (uint8_t)(1u << from);
    if (m->promised > v->promised) {
        v->promised = m->promised;
    }
    if (m->accepted > v->accepted && m->view != NULL && sched_view_copy(&v->acc, m->view) == 0) {
        v->accepted = m->accepted;
    }
    if (sched_votes(v->told) > v->cfg->n_voters / 2 && (!registers_lost(v) || MUTANT(78))) {
        v->amnesia = false;
        v->awake_ns = v->now_ns;
        find_registers(v);
        store_vote(v);
        sched_fx_store(v->fx, SCHED_ROW_KNOWN)->view = &v->known;
    }
}

static void on_voter(struct sched_voter *v, const struct sched_msg *m)
{
    uint32_t from = 0;
    while (from < v->cfg->n_voters && v->cfg->voters[from] != m->from) {
        from++;
    }
    if (from == v->cfg->n_voters) {
        if (m->type == SCHED_MSG_VIEW && MUTANT(60)) {
            sched_voter_learn(v, m->view.view);
        }
        return;
    }
    if (m->type == SCHED_MSG_VPREP || m->type == SCHED_MSG_VACC) {
        on_request(v, m);
    } else if (m->type == SCHED_MSG_VASK) {
        on_ask(v, m);
    } else if (m->type == SCHED_MSG_VTELL) {
        on_tell(v, from, &m->vtell);
    } else if (m->type == SCHED_MSG_VIEW) {
        sched_voter_learn(v, m->view.view);
    } else if (!v->amnesia) {
        on_vote(v, from, m);
    }
}

/* ---- time ---- */

/* The other voters hear what this one speaks while that is more than what the cluster is at. */
static void tell_versions(struct sched_voter *v)
{
    if (v->speaks.max <= sched_view_version(&v->known) || v->now_ns < v->speak_ns) {
        return;
    }
    v->speak_ns = v->now_ns + SCHED_MS(SCHED_SPEAK_TELL_MS);
    for (uint32_t i = 0; i < v->cfg->n_voters; i++) {
        if (i != v->index) {
            sched_fx_send(v->fx, SCHED_MSG_VPULL, v->cfg->voters[i])->pull =
                (struct sched_m_pull){UINT32_MAX, v->speaks};
        }
    }
}

static void tick(struct sched_voter *v)
{
    v->tick_ns = v->now_ns + SCHED_MS(TICK_MS) * 9 / 10 +
                 base_hash_rng_below(&v->rng, SCHED_MS(TICK_MS) / 5);
    if (v->amnesia) {
        if (v->now_ns >= v->quiet_ns) {
            sched_voter_to_others(v, SCHED_MSG_VASK, v->nonce);
        }
        return;
    }
    tell_versions(v);
    if (v->op.phase == SCHED_VOTER_IDLE || v->now_ns > v->op.deadline_ns) {
        v->op.phase = SCHED_VOTER_IDLE;
        sched_voter_review(v, SCHED_MS(JOIN_MS));
    }
}

/* ---- permits ---- */

static void note_pools(struct sched_voter *v)
{
    const struct sched_catreg_doc *known = &v->catalog->known;
    if (known->version == v->pools_version) {
        return;
    }
    const struct sched_cat_doc doc = {known->version, known->n, known->bytes};
    struct sched_cat_entry x;
    uint32_t at = 0;
    v->pools_version = known->version;
    v->n_pools = 0;
    while (v->n_pools < SCHED_CAT_POOLS_MAX && sched_cat_next(&doc, &at, &x)) {
        if (x.pool != 0) {
            v->pools[v->n_pools++] = (struct sched_pool_max){x.pool, x.max};
        }
    }
}

static struct sched_creg_env env_of(struct sched_voter *v)
{
    return (struct sched_creg_env){
        .cfg = v->cfg, .fx = v->fx, .rng = &v->rng, .now_ns = v->now_ns, .index = v->index};
}

/* NULL: time has passed. */
static void step_quota(struct sched_voter *v, uint32_t reg, const struct sched_msg *m)
{
    const struct sched_quota_env e = {.voter = env_of(v),
        .known = &v->known,
        .version = v->pools_version,
        .n_pools = v->n_pools,
        .pools = v->pools};
    if (m == NULL) {
        sched_quota_keep_tick(&v->quotas[reg], &e);
    } else if (reg < v->n_quotas) {
        sched_quota_keep_msg(&v->quotas[reg], &e, m);
    }
}

/* Before that not everybody would understand. */
static bool asks_for_catalog(const struct sched_voter *v)
{
    return sched_view_version(&v->known) >= SCHED_VERSION_CATALOG;
}

static bool speaks_of_permits(const struct sched_voter *v)
{
    return !v->cfg->catalog || asks_for_catalog(v);
}

/* NULL: time has passed. */
static void step_catalog(struct sched_voter *v, const struct sched_msg *m)
{
    const struct sched_creg_env e = env_of(v);
    if (v->catalog == NULL || (m == NULL && !asks_for_catalog(v))) {
        return;
    }
    if (m == NULL) {
        sched_catreg_tick(v->catalog, &e);
    } else {
        sched_catreg_msg(v->catalog, &e, m);
    }
    note_pools(v);
}

void sched_voter_step(
    struct sched_voter *v, uint64_t now_ns, const struct sched_msg *m, struct sched_fx *fx)
{
    v->fx = fx;
    v->now_ns = now_ns;
    if (m == NULL) {
        if (now_ns >= v->tick_ns) {
            tick(v);
        }
        for (uint32_t i = 0; i < v->n_quotas && speaks_of_permits(v); i++) {
            step_quota(v, i, NULL);
        }
        step_catalog(v, NULL);
    } else if (m->type >= SCHED_MSG_CSET) {
        step_catalog(v, m);
    } else if (m->type == SCHED_MSG_QWANT) {
        step_quota(v, v->cfg->catalog ? m->quota.pool % SCHED_QUOTA_REGS : 0, m);
    } else if (m->type >= SCHED_MSG_QPREP) {
        step_quota(v, m->qreg.reg, m);
    } else if (m->type == SCHED_MSG_LEASE) {
        sched_voter_lease(v, m);
    } else if (m->type == SCHED_MSG_RELINQ) {
        sched_voter_relinquish(v, m);
    } else if (m->type == SCHED_MSG_VPULL) {
        sched_speak_hear(&v->speak, m->from, m->pull.speaks, v->now_ns);
        if (!v->amnesia && m->pull.known < v->known.num) {
            sched_fx_send(v->fx, SCHED_MSG_VIEW, m->from)->view.view = &v->known;
        }
    } else {
        on_voter(v, m);
    }
}

uint64_t sched_voter_deadline_ns(const struct sched_voter *v)
{
    uint64_t at = v->tick_ns;
    for (uint32_t i = 0; i < v->n_quotas && speaks_of_permits(v); i++) {
        uint64_t due = sched_quota_keep_due_ns(&v->quotas[i]);
        at = due < at ? due : at;
    }
    if (v->catalog != NULL && asks_for_catalog(v)) {
        uint64_t due = sched_catreg_due_ns(v->catalog);
        at = due < at ? due : at;
    }
    return at;
}
