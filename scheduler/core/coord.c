#include "scheduler/core/coord.h"

#include "proto/base/assert.h"
#include "scheduler/core/coord_int.h"
#include "scheduler/core/mutant.h"

enum { NONE = 0xffffffff, OP_MS = 2000, RESEND_MS = 100, TRIES_MAX = 8, BACKOFF_MS = 20 };

void sched_coord_init(struct sched_coord *c, const struct sched_cfg *cfg, struct sched_mem *mem)
{
    c->ops = sched_mem_take(mem, cfg->ops_max, sizeof *c->ops);
    sched_map_init(&c->by_key, cfg->ops_max, mem);
    sched_map_init(&c->by_id, cfg->ops_max, mem);
    if (c->ops != NULL && mem->used <= mem->size) {
        sched_coord_clear(c, cfg);
    }
}

void sched_coord_clear(struct sched_coord *c, const struct sched_cfg *cfg)
{
    sched_map_clear(&c->by_key);
    sched_map_clear(&c->by_id);
    for (uint32_t i = 0; i < cfg->ops_max; i++) {
        c->ops[i] = (struct sched_op){.next = i + 1 < cfg->ops_max ? i + 1 : NONE};
    }
    c->free = 0;
    c->used = 0;
}

static struct sched_op *find(const struct sched_coord *c, struct sched_key key)
{
    uint32_t i = sched_map_get(&c->by_key, key.hi, key.lo);
    return i == SCHED_MAP_NONE ? NULL : &c->ops[i];
}

static struct sched_op *add(
    struct sched_coord *c, struct sched_env *e, uint8_t kind, struct sched_key key)
{
    if (c->free == NONE) {
        return NULL;
    }
    REQUIRE(c->ops != NULL);
    uint32_t i = c->free;
    struct sched_op *op = &c->ops[i];
    c->free = op->next;
    c->used++;
    *op = (struct sched_op){.kind = kind,
        .key = key,
        .id = ++e->serial,
        .part = sched_key_part(key, e->cfg->pbits),
        .deadline_ns = e->now_ns + SCHED_MS(OP_MS)};
    (void)sched_map_put(&c->by_key, key.hi, key.lo, i);
    (void)sched_map_put(&c->by_id, op->id, 0, i);
    return op;
}

void sched_coord_free(struct sched_coord *c, struct sched_env *e, struct sched_op *op)
{
    if (op->place.inc != 0) { /* a reservation that nobody used */
        struct sched_m_resv *r = &sched_fx_send(e->fx, SCHED_MSG_RELEASE, op->place.node)->resv;
        r->key = op->key;
        r->resv = op->resv;
    }
    sched_map_del(&c->by_key, op->key.hi, op->key.lo);
    sched_map_del(&c->by_id, op->id, 0);
    *op = (struct sched_op){.next = c->free};
    c->free = (uint32_t)(op - c->ops);
    c->used--;
}

static void retry_to(struct sched_env *e, struct sched_asker to, uint8_t why)
{
    sched_fx_send(e->fx, SCHED_MSG_RETRY, to.gw)->retry =
        (struct sched_m_retry){.rid = to.rid, .view = e->view->num, .why = why};
}

void sched_coord_fail(struct sched_coord *c, struct sched_env *e, struct sched_op *op, uint8_t why)
{
    for (uint32_t i = 0; op->kind == SCHED_OP_OPEN && i < op->n_waiters; i++) {
        retry_to(e, op->waiters[i].who, why);
    }
    sched_coord_free(c, e, op);
}

void sched_coord_resend_at(struct sched_env *e, struct sched_op *op)
{
    op->resend_ns = e->now_ns + SCHED_MS(RESEND_MS);
}

/* The next ballot, after a pause that grows: two coordinators must not chase each other. */
void sched_coord_again(struct sched_coord *c, struct sched_env *e, struct sched_op *op)
{
    if (++op->tries > TRIES_MAX) {
        sched_coord_fail(c, e, op, SCHED_RETRY_LATER);
        return;
    }
    op->phase = SCHED_OP_WAIT;
    op->resend_ns = e->now_ns + base_hash_rng_below(&e->rng, SCHED_MS(BACKOFF_MS)) * op->tries;
}

/* ---- phase 1 ---- */

static void ask_promises(struct sched_env *e, const struct sched_op *op)
{
    for (uint32_t i = 0; i < op->group.n; i++) {
        if ((op->votes >> i & 1) == 0 && i != op->seat) {
            sched_fx_send(e->fx, SCHED_MSG_PREP, op->group.seat[i].node)->prep =
                (struct sched_m_prep){op->id, op->key, op->ballot};
        }
    }
}

static bool majority(const struct sched_op *op)
{
    return sched_votes(op->votes) >= sched_group_majority(&op->group);
}

/* A member that knows of no session says what it has forgotten. */
static void note_promise(struct sched_op *op, const struct sched_m_prom *m)
{
    if (m->rec.state == SCHED_REC_NONE && m->rec.epoch > op->forgotten) {
        op->forgotten = m->rec.epoch;
    }
    if (m->accepted > op->best_ballot && !MUTANT(33)) {
        op->best_ballot = m->accepted;
        op->best = m->rec;
    }
}

static void prepare(struct sched_coord *c, struct sched_env *e, struct sched_op *op)
{
    struct sched_m_prom own = {0};
    if (sched_reg_promise(c->reg, e, op->key, op->ballot, &own) != SCHED_REG_OK) {
        sched_coord_again(c, e, op);
        return;
    }
    op->phase = SCHED_OP_PREPARE;
    op->votes = (uint8_t)(1u << op->seat);
    op->best = own.rec;
    op->best_ballot = own.accepted;
    op->forgotten = 0;
    note_promise(op, &own);
    sched_coord_resend_at(e, op);
    ask_promises(e, op);
    if (majority(op)) {
        sched_coord_decide(c, e, op);
    }
}

void sched_coord_start(struct sched_coord *c, struct sched_env *e, struct sched_op *op)
{
    sched_env_group(e, op->part, &op->group);
    int seat = sched_group_seat(&op->group, e->me);
    if (seat < 0 || !sched_reg_ready(c->reg, op->part)) {
        sched_coord_fail(c, e, op, SCHED_RETRY_NOW);
        return;
    }
    uint32_t round = sched_reg_next_round(c->reg, op->key, op->part, MUTANT(30) ? 0 : seat);
    if (round < op->min_round) {
        round = op->min_round;
    }
    if (round > SCHED_ROUND_MAX) {
        sched_coord_fail(c, e, op, SCHED_RETRY_LATER);
        return;
    }
    op->seat = (uint8_t)seat;
    op->ballot = sched_epoch_make(c->reg->parts[op->part].era, round, (uint32_t)seat);
    if (round > 0) {
        prepare(c, e, op);
        return;
    }
    /* One round: nobody else can have used a lower ballot in this era, and what was chosen before
     * it came with the hand-over. */
    const struct sched_reg_row *row = sched_reg_find(c->reg, op->key);
    op->best = row != NULL ? row->rec : (struct sched_rec){0};
    op->best_ballot = row != NULL ? row->accepted : 0;
    op->forgotten = 0;
    sched_coord_decide(c, e, op);
}

/* ---- phase 2 ---- */

static void ask_accepts(struct sched_env *e, const struct sched_op *op)
{
    for (uint32_t i = 0; i < op->group.n; i++) {
        if ((op->votes >> i & 1) == 0 && i != op->seat) {
            sched_fx_send(e->fx, SCHED_MSG_ACC, op->group.seat[i].node)->acc =
                (struct sched_m_acc){op->id, op->key, op->ballot, op->val};
        }
    }
}

void sched_coord_accept(struct sched_coord *c, struct sched_env *e, struct sched_op *op)
{
    struct sched_m_acc acc = {op->id, op->key, op->ballot, op->val};
    struct sched_m_prom own = {0};
    /* Our own vote comes first and is stored with this step: a restart cannot use the ballot for
     * another value. */
    if (sched_reg_accept(c->reg, e, &acc, &own) != SCHED_REG_OK) {
        sched_coord_again(c, e, op);
        return;
    }
    op->phase = SCHED_OP_ACCEPT;
    op->votes = (uint8_t)(1u << op->seat);
    sched_coord_resend_at(e, op);
    ask_accepts(e, op);
    if (majority(op) || MUTANT(31)) {
        sched_coord_chosen(c, e, op);
    }
}

/* ---- requests ---- */

static void join_waiters(struct sched_env *e, struct sched_op *op, const struct sched_msg *msg)
{
    const struct sched_m_open *m = &msg->open;
    struct sched_waiter w = {.who = {msg->from, m->rid},
        .gone = m->gone,
        .has_exec = m->has_exec && (m->exec_view >= sched_env_since(e, m->key) || MUTANT(32)),
        .exec = m->exec};
    uint32_t i = 0;
    while (i < op->n_waiters &&
           (op->waiters[i].who.gw != w.who.gw || op->waiters[i].who.rid != w.who.rid)) {
        i++;
    }
    if (op->kind != SCHED_OP_OPEN || i == SCHED_WAITERS_MAX) {
        retry_to(e, w.who, SCHED_RETRY_LATER);
        return;
    }
    op->waiters[i] = w;
    op->n_waiters += i == op->n_waiters;
    op->look = op->look && m->look;
}

/* A session that this worker saw running is told at once; if it is gone, its host will say so. */
static bool tell_known(struct sched_coord *c, struct sched_env *e, const struct sched_msg *msg)
{
    const struct sched_reg_row *row = sched_reg_find(c->reg, msg->open.key);
    if (row == NULL || !row->bound || row->rec.state != SCHED_REC_LIVE ||
        row->rec.epoch == msg->open.gone || sched_rec_dead(&row->rec, e->view)) {
        return false;
    }
    sched_coord_route(e, (struct sched_asker){msg->from, msg->open.rid}, row->key, &row->rec);
    return true;
}

void sched_coord_open(struct sched_coord *c, struct sched_env *e, const struct sched_msg *msg)
{
    const struct sched_m_open *m = &msg->open;
    struct sched_asker who = {msg->from, m->rid};
    uint32_t part = sched_key_part(m->key, e->cfg->pbits);
    if (m->view > e->view->num || !sched_reg_ready(c->reg, part)) {
        retry_to(e, who, SCHED_RETRY_NOW);
        return;
    }
    if (!sched_env_serving(e)) {
        retry_to(e, who, SCHED_RETRY_LATER);
        return;
    }
    struct sched_op *op = find(c, m->key);
    if (op == NULL && tell_known(c, e, msg)) {
        return;
    }
    if (op != NULL) {
        join_waiters(e, op, msg);
        return;
    }
    op = add(c, e, SCHED_OP_OPEN, m->key);
    if (op == NULL) {
        retry_to(e, who, SCHED_RETRY_LATER);
        return;
    }
    op->look = m->look && !MUTANT(83);
    op->min_round = op->look && !MUTANT(84); /* others may have written what is not here */
    join_waiters(e, op, msg);
    sched_coord_start(c, e, op);
}

void sched_coord_end(struct sched_coord *c, struct sched_env *e, const struct sched_msg *msg)
{
    const struct sched_m_bind *m = &msg->bind;
    if (find(c, m->key) != NULL || m->rec.host.node != msg->from ||
        !sched_reg_ready(c->reg, sched_key_part(m->key, e->cfg->pbits))) {
        return; /* the host says it again */
    }
    struct sched_op *op = add(c, e, SCHED_OP_END, m->key);
    if (op != NULL) {
        op->fenced = m->rec.epoch;
        op->idle = m->rec.idle ? m->rec.epoch : 0;
        op->waiters[0].who = (struct sched_asker){msg->from, m->op};
        op->n_waiters = 1;
        sched_coord_start(c, e, op);
    }
}

void sched_coord_reap(struct sched_coord *c, struct sched_env *e, struct sched_key key)
{
    if (find(c, key) == NULL) {
        struct sched_op *op = add(c, e, SCHED_OP_REAP, key);
        if (op != NULL) {
            sched_coord_start(c, e, op);
        }
    }
}

/* ---- answers ---- */

static int seat_of(const struct sched_op *op, uint64_t node)
{
    for (uint32_t i = 0; i < op->group.n; i++) {
        if (op->group.seat[i].node == node) {
            return (int)i;
        }
    }
    return -1;
}

static void on_vote(
    struct sched_coord *c, struct sched_env *e, struct sched_op *op, const struct sched_msg *msg)
{
    int seat = seat_of(op, msg->from);
    bool phase1 = msg->type == SCHED_MSG_PROM && op->phase == SCHED_OP_PREPARE;
    bool phase2 = msg->type == SCHED_MSG_ACCED && op->phase == SCHED_OP_ACCEPT;
    bool ours = msg->prom.ballot == op->ballot || MUTANT(41);
    if (seat < 0 || !ours || (!phase1 && !phase2)) {
        return;
    }
    op->votes |= (uint8_t)(1u << seat);
    if (phase1) {
        note_promise(op, &msg->prom);
    }
    if (!majority(op)) {
        return;
    }
    if (phase1) {
        sched_coord_decide(c, e, op);
    } else {
        sched_coord_chosen(c, e, op);
    }
}

static void on_nack(
    struct sched_coord *c, struct sched_env *e, struct sched_op *op, sched_epoch promised)
{
    bool voting = op->phase == SCHED_OP_PREPARE || op->phase == SCHED_OP_ACCEPT;
    if (!voting || promised <= op->ballot ||
        sched_epoch_era(promised) != sched_epoch_era(op->ballot)) {
        return;
    }
    op->min_round = sched_epoch_round(promised) + 1;
    sched_coord_again(c, e, op);
}

void sched_coord_reply(struct sched_coord *c, struct sched_env *e, const struct sched_msg *msg)
{
    bool vote =
        msg->type == SCHED_MSG_PROM || msg->type == SCHED_MSG_ACCED || msg->type == SCHED_MSG_NACK;
    uint64_t id = vote                              ? msg->prom.op
                  : msg->type == SCHED_MSG_RESERVED ? msg->resv.op
                                                    : msg->bind.op;
    uint32_t i = sched_map_get(&c->by_id, id, 0);
    struct sched_op *op = i == SCHED_MAP_NONE ? NULL : &c->ops[i];
    if (msg->type == SCHED_MSG_RESERVED) {
        sched_coord_reserved(c, e, op, msg);
    } else if (op == NULL) {
        return;
    } else if (msg->type == SCHED_MSG_NACK) {
        on_nack(c, e, op, msg->prom.ballot);
    } else if (vote) {
        on_vote(c, e, op, msg);
    } else {
        sched_coord_host_says(c, e, op, msg);
    }
}

/* ---- views and time ---- */

void sched_coord_review(struct sched_coord *c, struct sched_env *e)
{
    for (uint32_t i = 0; i < e->cfg->ops_max; i++) {
        struct sched_op *op = &c->ops[i];
        if (op->kind == SCHED_OP_FREE) {
            continue;
        }
        bool moved =
            !sched_reg_ready(c->reg, op->part) ||
            (op->ballot != 0 && sched_epoch_era(op->ballot) != c->reg->parts[op->part].era);
        if (moved) {
            sched_coord_fail(c, e, op, SCHED_RETRY_NOW);
        } else if (op->kind == SCHED_OP_OPEN &&
                   ((op->phase > SCHED_OP_RESERVE && sched_rec_dead(&op->val, e->view)) ||
                       (op->phase == SCHED_OP_FENCE && sched_rec_dead(&op->best, e->view)))) {
            sched_coord_again(c, e, op);
        }
    }
}

static void resend(struct sched_coord *c, struct sched_env *e, struct sched_op *op)
{
    switch ((enum sched_op_phase)op->phase) {
    case SCHED_OP_WAIT:
        sched_coord_start(c, e, op);
        return;
    case SCHED_OP_PREPARE:
        ask_promises(e, op);
        break;
    case SCHED_OP_ACCEPT:
        ask_accepts(e, op);
        break;
    case SCHED_OP_RESERVE:
        sched_coord_reserve(c, e, op);
        return;
    case SCHED_OP_FENCE:
    case SCHED_OP_BIND:
        sched_coord_ask_host(e, op);
        break;
    }
    sched_coord_resend_at(e, op);
}

void sched_coord_tick(struct sched_coord *c, struct sched_env *e)
{
    for (uint32_t i = 0; c->used > 0 && i < e->cfg->ops_max; i++) {
        struct sched_op *op = &c->ops[i];
        if (op->kind == SCHED_OP_FREE) {
            continue;
        }
        if (e->now_ns >= op->deadline_ns) {
            sched_coord_fail(c, e, op, SCHED_RETRY_LATER);
        } else if (e->now_ns >= op->resend_ns) {
            resend(c, e, op);
        }
    }
}
