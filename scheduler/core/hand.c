#include "scheduler/core/hand.h"

#include "scheduler/core/mutant.h"

enum {
    PASS_EVERY_MS = 250,
    BURST = 32, /* messages of one tick, or one for each of BURST_SHARE members if that is more */
    BURST_SHARE = 64,
    BATCHES = 16, /* addressees of one tick */
};

static uint32_t n_parts(const struct sched_env *e)
{
    return UINT32_C(1) << e->cfg->pbits;
}

static bool rebuilds(const struct sched_env *e, uint32_t part)
{
    return sched_bucket_has(e->view->rec, sched_part_bucket(part, e->cfg->pbits));
}

static void old_group(const struct sched_env *e, uint32_t part, struct sched_group *ret)
{
    e->placer.group(e->placer.ctx, e->view, true, part, ret);
}

void sched_hand_init(struct sched_hand *h, const struct sched_cfg *cfg, struct sched_mem *mem)
{
    memset(h, 0, sizeof *h);
    h->got = sched_mem_take(mem, (size_t)1 << cfg->pbits, 1);
    h->inv_done = sched_mem_take(mem, cfg->members_max, 1);
    h->inv_next = sched_mem_take(mem, cfg->members_max, sizeof *h->inv_next);
}

void sched_hand_clear(struct sched_hand *h, const struct sched_cfg *cfg)
{
    memset(h->got, 0, (size_t)1 << cfg->pbits);
    memset(h->base, 0, sizeof h->base);
    h->unsettled = 0;
    h->pass_ns = 0;
}

/* ---- settling ---- */

/* Partitions that a step has settled: one row, however many they are, because the effects of a step
 * are bounded. What lies between them is stored as it is. */
struct span {
    uint32_t first, end; /* end 0: none */
};

static void settle(struct sched_hand *h, struct sched_reg *reg, uint32_t part, struct span *s)
{
    struct sched_part *p = &reg->parts[part];
    p->settled = p->era;
    h->unsettled--;
    s->first = s->end == 0 || part < s->first ? part : s->first;
    s->end = part >= s->end ? part + 1 : s->end;
}

static void store_span(struct sched_env *e, const struct sched_reg *reg, const struct span *s)
{
    if (s->end > 0) {
        sched_reg_store_parts(reg, e, s->first, s->end - s->first);
    }
}

static bool wants(const struct sched_env *e, const struct sched_reg *reg, uint32_t part)
{
    struct sched_group g;
    if (sched_reg_ready(reg, part) || reg->parts[part].era != e->view->num) {
        return false;
    }
    sched_env_group(e, part, &g);
    return sched_group_seat(&g, e->me) >= 0;
}

static void settle_if_majority(
    struct sched_hand *h, struct sched_env *e, struct sched_reg *reg, uint32_t part, struct span *s)
{
    struct sched_group old;
    old_group(e, part, &old);
    uint32_t votes = sched_votes(h->got[part]);
    uint32_t need = MUTANT(27) ? 1 : sched_group_majority(&old);
    if (old.n > 0 && votes >= need && wants(e, reg, part) && !(MUTANT(58) && part == 0)) {
        settle(h, reg, part, s);
    }
}

static void settle_rebuilt(struct sched_hand *h, struct sched_env *e, struct sched_reg *reg)
{
    if (h->inv_left > (MUTANT(28) ? 1 : 0)) {
        return;
    }
    struct span s = {0, 0};
    for (uint32_t part = 0; part < n_parts(e); part++) {
        if (rebuilds(e, part) && wants(e, reg, part) && !(MUTANT(58) && part == 0)) {
            settle(h, reg, part, &s);
        }
    }
    store_span(e, reg, &s);
}

/* ---- installing a view ---- */

static void rebuild_buckets(struct sched_hand *h, struct sched_env *e, struct sched_sess *sess)
{
    for (uint32_t b = 0; b < SCHED_BUCKETS; b++) {
        if (sched_bucket_has(e->view->rec, b)) {
            h->base[b] = e->view->num;
            sched_sess_release_bucket(sess, e, b);
            struct sched_row *r = sched_fx_store(e->fx, SCHED_ROW_BASE);
            r->first = b;
            r->num = e->view->num;
        }
    }
}

/* True when the partition's era has moved on. */
static bool move_era(struct sched_env *e, struct sched_reg *reg, uint32_t part, uint32_t old,
    struct sched_group *ret_old)
{
    struct sched_group now;
    struct sched_part *p = &reg->parts[part];
    sched_env_group(e, part, &now);
    old_group(e, part, ret_old);
    if (old != 0 && !rebuilds(e, part) && sched_group_eq(&now, ret_old)) {
        return false;
    }
    if (old == 0 && sched_group_seat(&now, e->me) < 0) {
        return false; /* its era is unknown to a newcomer, and does not matter */
    }
    p->prev_era = p->era;
    p->era = e->view->num;
    p->floor = 0;
    return true;
}

/* Nobody was a member before: the cluster is born with these, or all had left it (R8). There is no
 * session that a register could be about. What was known of earlier ones, for all that these
 * members know, was lost: they were not there, see sched_env_since(). */
static bool is_birth(const struct sched_view *v)
{
    bool before = false;
    for (uint32_t i = 0; i < v->n; i++) {
        before = before || (v->m[i].flags & SCHED_MEMBER_PREV) != 0;
    }
    return !before || MUTANT(91);
}

void sched_hand_install(struct sched_hand *h, struct sched_env *e, struct sched_reg *reg,
    struct sched_sess *sess, uint32_t old)
{
    bool birth = is_birth(e->view);
    h->unsettled = 0;
    memset(h->got, 0, n_parts(e));
    rebuild_buckets(h, e, sess);
    for (uint32_t part = 0; part < n_parts(e); part++) {
        struct sched_group before;
        if (!move_era(e, reg, part, old, &before)) {
            continue;
        }
        struct sched_part *p = &reg->parts[part];
        if (rebuilds(e, part)) {
            sched_reg_drop_part(reg, part);
        } else if (birth && old == 0) {
            p->settled = p->era; /* nothing that was chosen is worth anything */
            continue;
        } else {
            int seat = sched_group_seat(&before, e->me);
            bool valid = p->settled != 0 && p->settled == p->prev_era;
            h->got[part] = (uint8_t)(seat >= 0 && valid ? 1u << seat : 0u);
        }
        h->unsettled += wants(e, reg, part);
    }
    if (old == 0 && !MUTANT(47)) {
        e->joined = e->view->num;
    }
    struct sched_row *row = sched_fx_store(e->fx, SCHED_ROW_VIEW);
    row->view = e->view;
    row->num = e->joined;
    sched_reg_store_parts(reg, e, 0, n_parts(e));
    sched_hand_resume(h, e, reg);
}

void sched_hand_resume(struct sched_hand *h, struct sched_env *e, const struct sched_reg *reg)
{
    memset(h->inv_done, 0, e->cfg->members_max);
    memset(h->inv_next, 0, sizeof *h->inv_next * e->cfg->members_max);
    h->inv_left = sched_view_members(e->view);
    h->unsettled = 0;
    for (uint32_t part = 0; part < n_parts(e); part++) {
        h->unsettled += wants(e, reg, part);
    }
    h->pass_part = n_parts(e);
    h->pass_member = e->view->n;
    h->pass_ns = e->now_ns;
}

/* ---- asking ---- */

struct batch {
    struct sched_host to;
    uint32_t n;
    uint32_t *parts;
};

struct asking {
    struct batch batch[BATCHES];
    uint32_t n_batches;
    uint32_t sent;
};

static void send_batch(struct sched_env *e, struct asking *a, struct batch *b)
{
    if (b->n == 0) {
        return;
    }
    sched_fx_send(e->fx, SCHED_MSG_SYNC, b->to.node)->sync = (struct sched_m_sync){
        .num = e->view->num, .asker = e->me, .inc = b->to.inc, .n = b->n, .parts = b->parts};
    b->n = 0;
    b->parts = NULL;
    a->sent++;
}

/* False when there is no more room for addressees or bytes in this tick. */
static bool ask_for(struct sched_env *e, struct asking *a, struct sched_host to, uint32_t part)
{
    uint32_t i = 0;
    while (i < a->n_batches && !sched_host_eq(a->batch[i].to, to)) {
        i++;
    }
    if (i == BATCHES) {
        return false;
    }
    struct batch *b = &a->batch[i];
    if (i == a->n_batches) {
        *b = (struct batch){.to = to};
        a->n_batches++;
    }
    if (b->parts == NULL) {
        b->parts = sched_fx_bytes(e->fx, SCHED_SYNC_PARTS_MAX * sizeof *b->parts);
        if (b->parts == NULL) {
            return false;
        }
    }
    b->parts[b->n++] = part;
    if (b->n == SCHED_SYNC_PARTS_MAX) {
        send_batch(e, a, b);
    }
    return true;
}

static bool ask_old_group(
    const struct sched_hand *h, struct sched_env *e, struct asking *a, uint32_t part)
{
    struct sched_group old;
    old_group(e, part, &old);
    for (uint32_t i = 0; i < old.n; i++) {
        if ((h->got[part] >> i & 1) == 0 && old.seat[i].node != e->me.node &&
            !ask_for(e, a, old.seat[i], part)) {
            return false;
        }
    }
    return true;
}

static void ask_inventory(struct sched_hand *h, struct sched_env *e, struct asking *a)
{
    uint32_t share = e->view->n / BURST_SHARE, burst = share > BURST ? share : BURST;
    for (; h->pass_member < e->view->n && a->sent < burst; h->pass_member++) {
        const struct sched_member *m = &e->view->m[h->pass_member];
        if ((m->flags & SCHED_MEMBER_IN) != 0 && h->inv_done[h->pass_member] == 0) {
            sched_fx_send(e->fx, SCHED_MSG_INV, m->node)->sync =
                (struct sched_m_sync){.num = e->view->num,
                    .asker = e->me,
                    .inc = m->inc,
                    .cursor = h->inv_next[h->pass_member]};
            a->sent++;
        }
    }
}

void sched_hand_tick(
    struct sched_hand *h, struct sched_env *e, struct sched_reg *reg, struct sched_sess *sess)
{
    (void)sess;
    if (h->unsettled == 0) {
        return;
    }
    if (h->pass_part == n_parts(e) && h->pass_member == e->view->n) {
        if (e->now_ns < h->pass_ns) {
            return;
        }
        h->pass_ns = e->now_ns + SCHED_MS(PASS_EVERY_MS);
        h->pass_part = 0;
        h->pass_member = sched_bucket_any(e->view->rec) ? 0 : e->view->n;
        settle_rebuilt(h, e, reg);
    }
    struct span s = {0, 0};
    struct asking a = {.n_batches = 0};
    ask_inventory(h, e, &a);
    for (; h->pass_part < n_parts(e) && a.sent < BURST; h->pass_part++) {
        if (!wants(e, reg, h->pass_part) || rebuilds(e, h->pass_part)) {
            continue;
        }
        settle_if_majority(h, e, reg, h->pass_part, &s); /* a group of one: only we were in it */
        if (wants(e, reg, h->pass_part) && !ask_old_group(h, e, &a, h->pass_part)) {
            break;
        }
    }
    store_span(e, reg, &s);
    for (uint32_t i = 0; i < a.n_batches; i++) {
        send_batch(e, &a, &a.batch[i]);
    }
}

/* ---- answering ---- */

/* Does this worker hold what the group before view `num` had? */
static bool can_hand_over(
    const struct sched_env *e, const struct sched_reg *reg, uint32_t part, uint32_t num)
{
    const struct sched_part *p = &reg->parts[part];
    struct sched_group old;
    if (MUTANT(29) && num > e->view->num) {
        sched_env_group(e, part, &old);
        return sched_reg_ready(reg, part) && sched_group_seat(&old, e->me) >= 0;
    }
    old_group(e, part, &old);
    return p->era == num && p->settled != 0 &&
           (p->settled == p->era || p->settled == p->prev_era) &&
           sched_group_seat(&old, e->me) >= 0;
}

void sched_hand_sync(
    struct sched_hand *h, struct sched_env *e, struct sched_reg *reg, const struct sched_msg *msg)
{
    (void)h;
    const struct sched_m_sync *m = &msg->sync;
    bool sealed = m->num == e->view->num || (MUTANT(29) && m->num > e->view->num);
    if (m->inc != e->me.inc || !sealed || m->n > SCHED_SYNC_PARTS_MAX) {
        return;
    }
    uint32_t *parts = sched_fx_bytes(e->fx, SCHED_SYNC_PARTS_MAX * sizeof *parts);
    struct sched_sync_rec *recs =
        sched_fx_bytes(e->fx, SCHED_SYNC_RECS_MAX * (uint32_t)sizeof *recs);
    if (parts == NULL || recs == NULL) {
        return;
    }
    struct sched_m_synced out = {
        .num = m->num, .asker = m->asker, .inc = e->me.inc, .parts = parts, .recs = recs};
    for (uint32_t i = 0; i < m->n && out.n_recs < SCHED_SYNC_RECS_MAX; i++) {
        uint32_t part = m->parts[i];
        if (part >= n_parts(e) || !can_hand_over(e, reg, part, m->num)) {
            continue;
        }
        const struct sched_key *after =
            i == 0 && (m->after.hi != 0 || m->after.lo != 0) ? &m->after : NULL;
        uint32_t room = SCHED_SYNC_RECS_MAX - out.n_recs;
        uint32_t n = sched_reg_list(reg, part, after, recs + out.n_recs, room);
        out.partial = n == room;
        out.n_recs += n;
        parts[out.n_parts++] = part;
    }
    if (out.n_parts > 0) {
        sched_fx_send(e->fx, SCHED_MSG_SYNCED, msg->from)->synced = out;
    }
}

static bool fresh(const struct sched_env *e, const struct sched_m_synced *m)
{
    return m->num == e->view->num && sched_host_eq(m->asker, e->me) &&
           m->n_recs <= SCHED_SYNC_RECS_MAX && m->n_parts <= SCHED_SYNC_PARTS_MAX;
}

static void ask_rest(struct sched_env *e, const struct sched_msg *msg)
{
    const struct sched_m_synced *m = &msg->synced;
    uint32_t *part = sched_fx_bytes(e->fx, sizeof *part);
    if (part == NULL || m->n_recs == 0) {
        return;
    }
    *part = m->parts[m->n_parts - 1];
    sched_fx_send(e->fx, SCHED_MSG_SYNC, msg->from)->sync = (struct sched_m_sync){.num = m->num,
        .asker = e->me,
        .inc = m->inc,
        .after = m->recs[m->n_recs - 1].key,
        .n = 1,
        .parts = part};
}

void sched_hand_synced(
    struct sched_hand *h, struct sched_env *e, struct sched_reg *reg, const struct sched_msg *msg)
{
    const struct sched_m_synced *m = &msg->synced;
    if (!fresh(e, m) || h->unsettled == 0) {
        return;
    }
    struct sched_host from = {msg->from, m->inc};
    struct span s = {0, 0};
    for (uint32_t i = 0; i < m->n_recs; i++) {
        uint32_t part = sched_key_part(m->recs[i].key, e->cfg->pbits);
        if (wants(e, reg, part) && !rebuilds(e, part) && !sched_reg_merge(reg, e, &m->recs[i])) {
            return; /* full: never settled, never wrong */
        }
    }
    for (uint32_t i = 0; i < m->n_parts; i++) {
        uint32_t part = m->parts[i];
        if (part >= n_parts(e) || !wants(e, reg, part) || rebuilds(e, part)) {
            continue;
        }
        if (m->partial && i + 1 == m->n_parts) {
            ask_rest(e, msg);
            continue;
        }
        struct sched_group old;
        old_group(e, part, &old);
        int seat = sched_group_seat(&old, from);
        if (seat >= 0) {
            h->got[part] |= (uint8_t)(1u << seat);
            settle_if_majority(h, e, reg, part, &s);
        }
    }
    store_span(e, reg, &s);
}

void sched_hand_inv(struct sched_env *e, struct sched_sess *sess, const struct sched_msg *msg)
{
    const struct sched_m_sync *m = &msg->sync;
    if (m->inc != e->me.inc || m->num != e->view->num || m->cursor >= e->cfg->sess_max) {
        return;
    }
    struct sched_sync_rec *recs =
        sched_fx_bytes(e->fx, SCHED_SYNC_RECS_MAX * (uint32_t)sizeof *recs);
    if (recs == NULL) {
        return;
    }
    struct sched_m_synced out = {
        .num = m->num, .asker = m->asker, .inc = e->me.inc, .cursor = m->cursor, .recs = recs};
    out.n_recs = sched_sess_list(sess, e, m->asker, m->cursor, recs, &out.next);
    sched_fx_send(e->fx, SCHED_MSG_INVED, msg->from)->synced = out;
}

void sched_hand_inved(
    struct sched_hand *h, struct sched_env *e, struct sched_reg *reg, const struct sched_msg *msg)
{
    const struct sched_m_synced *m = &msg->synced;
    const struct sched_member *from = sched_view_find(e->view, msg->from);
    if (!fresh(e, m) || h->unsettled == 0 || from == NULL || from->inc != m->inc ||
        (from->flags & SCHED_MEMBER_IN) == 0) {
        return;
    }
    uint32_t i = (uint32_t)(from - e->view->m);
    if (h->inv_done[i] != 0 || m->cursor != h->inv_next[i]) {
        return;
    }
    for (uint32_t k = 0; k < m->n_recs; k++) {
        uint32_t part = sched_key_part(m->recs[k].key, e->cfg->pbits);
        if (rebuilds(e, part) && wants(e, reg, part) && !sched_reg_merge(reg, e, &m->recs[k])) {
            return;
        }
    }
    if (m->next == 0) {
        h->inv_done[i] = 1;
        h->inv_left--;
        settle_rebuilt(h, e, reg);
    } else if (m->next > m->cursor) {
        h->inv_next[i] = m->next;
        sched_fx_send(e->fx, SCHED_MSG_INV, msg->from)->sync = (struct sched_m_sync){
            .num = e->view->num, .asker = e->me, .inc = m->inc, .cursor = m->next};
    }
}

void sched_hand_unsettled(const struct sched_hand *h, const struct sched_env *e,
    const struct sched_reg *reg, uint64_t *ret_buckets)
{
    memset(ret_buckets, 0, sizeof(uint64_t) * SCHED_BUCKET_WORDS);
    if (h->unsettled == 0) {
        return;
    }
    for (uint32_t part = 0; part < n_parts(e); part++) {
        if (wants(e, reg, part)) {
            sched_bucket_add(ret_buckets, sched_part_bucket(part, e->cfg->pbits));
        }
    }
}
