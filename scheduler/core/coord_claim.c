#include "scheduler/core/coord_int.h"
#include "scheduler/core/mutant.h"

enum {
    PATIENCE_MS = 20, /* with the slower of two answers */
    PERMIT_MS = 20
};

void sched_coord_route(
    struct sched_env *e, struct sched_asker to, struct sched_key key, const struct sched_rec *rec)
{
    sched_fx_send(e->fx, SCHED_MSG_ROUTE, to.gw)->route = (struct sched_m_route){.rid = to.rid,
        .key = key,
        .rec = *rec,
        .view = e->view->num,
        .base = sched_env_since(e, key)};
}

void sched_coord_ask_host(struct sched_env *e, const struct sched_op *op)
{
    bool fence = op->phase == SCHED_OP_FENCE;
    const struct sched_rec *rec = fence ? &op->best : &op->val;
    struct sched_m_bind *b =
        &sched_fx_send(e->fx, fence ? SCHED_MSG_GONEQ : SCHED_MSG_BIND, rec->host.node)->bind;
    b->op = op->id;
    b->key = op->key;
    b->rec = *rec;
    /* An execution rides along only into the session that its own claim created. */
    for (uint32_t i = 0; !fence && i < op->n_waiters; i++) {
        const struct sched_waiter *w = &op->waiters[i];
        bool first = rec->inline_epoch == rec->epoch && sched_exec_eq(w->exec, rec->inline_id);
        if (w->has_exec && (first || MUTANT(34))) {
            b->exec = w->exec;
            b->asker = w->who;
        }
    }
}

static void ask_host(struct sched_env *e, struct sched_op *op, uint8_t phase)
{
    op->phase = phase;
    sched_coord_resend_at(e, op);
    sched_coord_ask_host(e, op);
}

/* ---- places for new sessions ---- */

/* What the new session's host may have to know of earlier ones, whatever ended them, and of all
 * that came between: it is forgotten with the register only, when it is too old to matter. One in
 * which nothing ran, as its host has promised, is not one of them. */
static void inherit(const struct sched_op *op, struct sched_rec *rec)
{
    const struct sched_rec *old = &op->best;
    bool same = sched_host_eq(old->host, op->place);
    bool idle =
        (old->state == SCHED_REC_ENDED && old->idle) || old->epoch == op->idle || MUTANT(67);
    bool ran = old->state != SCHED_REC_NONE && ((old->ran && !MUTANT(68)) || !idle);
    rec->moved = old->state != SCHED_REC_NONE && (old->moved || (ran && !same && !MUTANT(62)));
    rec->ran = ran && same;
}

static void claim(struct sched_coord *c, struct sched_env *e, struct sched_op *op)
{
    struct sched_rec rec = {.epoch = op->ballot,
        .host = op->place,
        .view = e->view->num,
        .resv = op->resv,
        .inline_id = op->best.inline_id,
        .inline_epoch = op->best.inline_epoch,
        .cooldown_ms = e->cfg->cooldown_ms,
        .state = SCHED_REC_LIVE};
    inherit(op, &rec);
    /* What travelled with the first session may travel with this one when that has run nothing, and
     * none came between: it may have run there. */
    bool first = op->best.state == SCHED_REC_NONE ||
                 (op->idle != 0 && op->best.epoch == op->idle && op->best.inline_epoch == op->idle);
    for (uint32_t i = 0; first && i < op->n_waiters; i++) {
        if (op->waiters[i].has_exec) {
            rec.inline_id = op->waiters[i].exec;
            rec.inline_epoch = op->ballot;
            break;
        }
    }
    op->val = rec;
    sched_coord_accept(c, e, op);
}

static bool try_here(struct sched_coord *c, struct sched_env *e, struct sched_op *op)
{
    uint64_t resv = sched_sess_reserve(c->sess, e, op->key);
    if (resv == 0) {
        return false;
    }
    op->place = e->me;
    op->resv = resv;
    claim(c, e, op);
    return true;
}

/* The permit that was asked for may come, or the word that there is none. */
static void wait_for_permit(const struct sched_env *e, struct sched_op *op)
{
    op->phase = SCHED_OP_RESERVE;
    op->awaited = 0;
    op->resend_ns = e->now_ns + SCHED_MS(PERMIT_MS);
}

void sched_coord_permits(struct sched_coord *c, struct sched_env *e)
{
    for (uint32_t i = 0; c->used > 0 && i < e->cfg->ops_max; i++) {
        struct sched_op *op = &c->ops[i];
        if (op->kind != SCHED_OP_FREE && op->phase == SCHED_OP_RESERVE && op->awaited == 0) {
            sched_coord_reserve(c, e, op);
        }
    }
}

static void ask_places(struct sched_coord *c, struct sched_env *e, struct sched_op *op)
{
    struct sched_host to[SCHED_SPILL_CHOICES];
    op->awaited = (uint8_t)sched_spill_pick(&c->spill, e, to);
    op->asked++;
    op->phase = SCHED_OP_RESERVE;
    sched_coord_resend_at(e, op);
    for (uint32_t i = 0; i < op->awaited; i++) {
        struct sched_m_resv *r = &sched_fx_send(e->fx, SCHED_MSG_RESERVE, to[i].node)->resv;
        r->op = op->id;
        r->key = op->key;
    }
}

void sched_coord_reserve(struct sched_coord *c, struct sched_env *e, struct sched_op *op)
{
    if (op->place.inc != 0) {
        claim(c, e, op); /* the second answer is late */
        return;
    }
    bool spread = base_hash_rng_below(&e->rng, 100) < e->cfg->spread_pct;
    bool here = sched_spill_here(&c->spill, c->sess->used, e->cfg->sess_max);
    bool first = op->asked == 0 && here && !spread;
    if (first && try_here(c, e, op)) {
        return;
    }
    if (first && sched_sess_hope(c->sess, e, op->key)) {
        wait_for_permit(e, op);
        return;
    }
    if (op->asked < SCHED_SPILL_ROUNDS && sched_view_members(e->view) > 1) {
        ask_places(c, e, op);
    } else if (try_here(c, e, op)) { /* unevenly loaded is better than refused */
        return;
    } else if (sched_sess_hope(c->sess, e, op->key)) {
        wait_for_permit(e, op);
    } else {
        sched_coord_fail(c, e, op, SCHED_RETRY_FULL);
    }
}

static void give_back(struct sched_env *e, struct sched_key key, uint64_t node, uint64_t resv)
{
    struct sched_m_resv *r = &sched_fx_send(e->fx, SCHED_MSG_RELEASE, node)->resv;
    r->key = key;
    r->resv = resv;
}

/* Keeps the better of two reservations. */
static void keep_better(struct sched_env *e, struct sched_op *op, const struct sched_msg *msg)
{
    const struct sched_m_resv *m = &msg->resv;
    struct sched_load load = {msg->from, m->active, m->ready};
    if (op->place.inc != 0 && !sched_spill_better(&load, &op->place_load)) {
        give_back(e, op->key, msg->from, m->resv);
        return;
    }
    if (op->place.inc != 0) {
        give_back(e, op->key, op->place.node, op->resv);
    }
    op->place = (struct sched_host){msg->from, m->inc};
    op->place_load = load;
    op->resv = m->resv;
}

void sched_coord_reserved(
    struct sched_coord *c, struct sched_env *e, struct sched_op *op, const struct sched_msg *msg)
{
    const struct sched_m_resv *m = &msg->resv;
    bool wanted = op != NULL && op->phase == SCHED_OP_RESERVE && op->awaited > 0;
    bool member = sched_view_has(e->view, (struct sched_host){msg->from, m->inc});
    if (!wanted) {
        if (m->resv != 0) {
            give_back(e, m->key, msg->from, m->resv);
        }
        return;
    }
    op->awaited--;
    if (m->resv != 0 && member) {
        keep_better(e, op, msg);
        op->resend_ns = e->now_ns + SCHED_MS(PATIENCE_MS);
    }
    if (op->awaited == 0) {
        sched_coord_reserve(c, e, op);
    }
}

/* ---- decisions ---- */

static bool said_gone(const struct sched_op *op, sched_epoch epoch)
{
    for (uint32_t i = 0; i < op->n_waiters; i++) {
        if (op->waiters[i].gone == epoch) {
            return true;
        }
    }
    return false;
}

static void tell_ended(struct sched_coord *c, struct sched_env *e, struct sched_op *op)
{
    for (uint32_t i = 0; op->kind == SCHED_OP_END && i < op->n_waiters; i++) {
        struct sched_m_bind *b =
            &sched_fx_send(e->fx, SCHED_MSG_ENDED, op->waiters[i].who.gw)->bind;
        b->op = op->waiters[i].who.rid;
        b->key = op->key;
        b->rec.epoch = op->fenced;
    }
    sched_coord_free(c, e, op);
}

static void decide_end(struct sched_coord *c, struct sched_env *e, struct sched_op *op)
{
    /* Only a session's own host may say that it is over, and whether anything ran. */
    bool its = op->best.epoch == op->fenced && op->best.host.node == op->waiters[0].who.gw;
    bool other = op->kind == SCHED_OP_END && !its && !MUTANT(23);
    if (op->kind == SCHED_OP_REAP && op->best.state == SCHED_REC_ENDED) {
        op->val = op->best; /* our own copy missed the end: bring it up */
        sched_coord_accept(c, e, op);
    } else if (op->best.state != SCHED_REC_LIVE || other) {
        tell_ended(c, e, op);
    } else if (op->best.epoch == op->fenced || sched_rec_dead(&op->best, e->view) || MUTANT(23)) {
        op->val = op->best;
        op->val.state = SCHED_REC_ENDED;
        op->val.idle = op->best.epoch == op->idle;
        sched_coord_accept(c, e, op);
    } else {
        ask_host(e, op, SCHED_OP_FENCE);
    }
}

/* May the session of op->best be older than one that is over and forgotten? It may when its claim
 * never reached those who forgot, or when it came with a hand-over, which does not bring along what
 * was forgotten. Then it goes on if it runs, and must not start any more. */
static bool doubtful(const struct sched_op *op)
{
    return op->best.epoch <= op->forgotten ||
           (sched_epoch_era(op->best.epoch) != sched_epoch_era(op->ballot) && !MUTANT(49));
}

void sched_coord_decide(struct sched_coord *c, struct sched_env *e, struct sched_op *op)
{
    if (op->kind != SCHED_OP_OPEN) {
        decide_end(c, e, op);
        return;
    }
    if (op->unstarted != 0 && op->best.epoch == op->unstarted &&
        op->best.inline_epoch == op->best.epoch) {
        op->best = (struct sched_rec){0}; /* it was the first, and nothing came of it */
    }
    bool live = op->best.state == SCHED_REC_LIVE && op->best.epoch != op->fenced &&
                !sched_rec_dead(&op->best, e->view);
    bool gone = live && said_gone(op, op->best.epoch);
    if (gone && MUTANT(35)) {
        sched_coord_reserve(c, e, op);
    } else if (gone || (live && doubtful(op) && !MUTANT(48))) {
        ask_host(e, op, SCHED_OP_FENCE); /* a gateway's word is not enough to replace it */
    } else if (live) {
        op->val = op->best;
        sched_coord_accept(c, e, op);
    } else if (op->look) {
        sched_coord_fail(c, e, op, SCHED_RETRY_NONE);
    } else if (op->place.inc != 0 && sched_view_has(e->view, op->place)) {
        claim(c, e, op); /* with the reservation of the last attempt */
    } else {
        op->place.inc = 0;
        op->asked = 0;
        op->awaited = 0;
        sched_coord_reserve(c, e, op);
    }
}

void sched_coord_chosen(struct sched_coord *c, struct sched_env *e, struct sched_op *op)
{
    if (op->kind != SCHED_OP_OPEN) {
        tell_ended(c, e, op);
        return;
    }
    if (op->val.resv == op->resv) {
        op->place.inc = 0; /* the reservation belongs to the record now */
    }
    ask_host(e, op, SCHED_OP_BIND);
}

static void bound(struct sched_coord *c, struct sched_env *e, struct sched_op *op)
{
    struct sched_reg_row *row = sched_reg_find(c->reg, op->key);
    if (row != NULL && row->rec.epoch == op->val.epoch) {
        row->bound = true;
    }
    for (uint32_t i = 0; i < op->n_waiters; i++) {
        sched_coord_route(e, op->waiters[i].who, op->key, &op->val);
    }
    sched_coord_free(c, e, op);
}

static void fenced(struct sched_coord *c, struct sched_env *e, struct sched_op *op, bool unstarted)
{
    op->fenced = op->best.epoch;
    op->unstarted = unstarted || MUTANT(55) ? op->best.epoch : op->unstarted;
    if (op->resv == op->best.resv && sched_host_eq(op->place, op->best.host)) {
        op->place.inc = 0; /* the host has released it */
    }
    sched_coord_decide(c, e, op);
}

static void alive(struct sched_coord *c, struct sched_env *e, struct sched_op *op)
{
    struct sched_reg_row *row = sched_reg_find(c->reg, op->key);
    if (op->kind != SCHED_OP_OPEN) {
        if (row != NULL) {
            row->due_ns = e->now_ns + SCHED_MS(op->best.cooldown_ms);
        }
        sched_coord_free(c, e, op);
        return;
    }
    op->val = op->best;
    sched_coord_accept(c, e, op);
}

void sched_coord_host_says(
    struct sched_coord *c, struct sched_env *e, struct sched_op *op, const struct sched_msg *msg)
{
    const struct sched_rec *asked = op->phase == SCHED_OP_BIND ? &op->val : &op->best;
    sched_epoch epoch = msg->bind.rec.epoch;
    if (msg->from != asked->host.node) {
        return;
    }
    sched_epoch idle = msg->bind.rec.idle ? epoch : op->idle;
    if (op->phase == SCHED_OP_BIND && epoch == op->val.epoch) {
        if (msg->type == SCHED_MSG_BOUND) {
            bound(c, e, op);
        } else if (msg->type == SCHED_MSG_UNBOUND) {
            op->fenced = epoch;
            op->idle = idle;
            sched_coord_again(c, e, op);
        }
    } else if (op->phase == SCHED_OP_FENCE && epoch == op->best.epoch) {
        if (msg->type == SCHED_MSG_GONE) {
            op->idle = idle;
            fenced(c, e, op, msg->bind.rec.state == SCHED_REC_NONE);
        } else if (msg->type == SCHED_MSG_ALIVE) {
            alive(c, e, op);
        }
    }
}
