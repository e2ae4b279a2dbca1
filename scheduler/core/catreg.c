#include "scheduler/core/catreg.h"

#include "scheduler/core/mutant.h"

enum {
    OP_MS = 1000, /* a proposal that takes longer is given up; amnesia relies on the bound */
    RESEND_MS = 150,
    BACKOFF_MS = 40,
    TRIES_MAX = 20,
    SURE_MS = 500, /* who accepted and has not heard that it was chosen finds out */
};

static void copy(struct sched_catreg_doc *to, const struct sched_cat_doc *from)
{
    to->version = from->version;
    to->n = from->n;
    if (from->n > 0 && from->bytes != to->bytes) {
        memcpy(to->bytes, from->bytes, from->n);
    }
}

static struct sched_cat_doc doc(const struct sched_catreg_doc *d)
{
    return (struct sched_cat_doc){d->version, d->n, d->bytes};
}

static void store(const struct sched_catreg *k, const struct sched_catreg_env *e)
{
    struct sched_row *r = sched_fx_store(e->fx, SCHED_ROW_CATALOG);
    r->promised = k->promised;
    r->accepted = k->accepted;
    r->catalog = doc(&k->acc);
}

static struct sched_m_creg *send(const struct sched_catreg_env *e, uint8_t type, uint64_t to)
{
    return &sched_fx_send(e->fx, type, to)->creg;
}

/* Something newer may have been chosen: it finds out, unless it is told before. */
static void doubt(struct sched_catreg *k, const struct sched_catreg_env *e)
{
    if (!k->unsure) {
        k->unsure = true;
        k->sure_ns = e->now_ns + SCHED_MS(SURE_MS) + base_hash_rng_below(e->rng, SCHED_MS(SURE_MS));
    }
}

static void choose(
    struct sched_catreg *k, const struct sched_catreg_env *e, const struct sched_cat_doc *d)
{
    (void)e;
    if (d->version >= k->known.version) {
        copy(&k->known, d);
    }
    k->unsure = k->unsure && k->acc.version > k->known.version;
}

/* ---- acceptor ---- */

static bool accept(struct sched_catreg *k, const struct sched_catreg_env *e, uint64_t ballot,
    const struct sched_cat_doc *d)
{
    if (ballot < k->promised && !MUTANT(71)) {
        return false;
    }
    copy(&k->acc, d);
    k->promised = k->accepted = ballot;
    k->unsure = !MUTANT(75);
    k->sure_ns = e->now_ns + SCHED_MS(SURE_MS) + base_hash_rng_below(e->rng, SCHED_MS(SURE_MS));
    store(k, e);
    return true;
}

static void on_request(
    struct sched_catreg *k, const struct sched_catreg_env *e, const struct sched_msg *msg)
{
    const struct sched_m_creg *m = &msg->creg;
    if (k->lost) {
        return;
    }
    if (msg->type == SCHED_MSG_CPREP && m->ballot >= k->promised) {
        k->promised = m->ballot; /* equal: the same request, repeated */
        if (!MUTANT(69)) {
            store(k, e);
        }
        *send(e, SCHED_MSG_CPROM, msg->from) =
            (struct sched_m_creg){m->ballot, k->promised, k->accepted, doc(&k->acc)};
    } else if (msg->type == SCHED_MSG_CACC && sched_cat_valid(&m->doc) &&
               accept(k, e, m->ballot, &m->doc)) {
        send(e, SCHED_MSG_CACCED, msg->from)->ballot = m->ballot;
    } else if (m->ballot < k->promised) {
        struct sched_m_creg *out = send(e, SCHED_MSG_CNACK, msg->from);
        out->ballot = m->ballot;
        out->promised = k->promised;
    }
}

/* ---- proposer ---- */

static bool majority(const struct sched_catreg *k, const struct sched_catreg_env *e)
{
    return sched_votes(k->votes) > e->cfg->n_voters / 2;
}

static void to_others(const struct sched_catreg *k, const struct sched_catreg_env *e)
{
    for (uint32_t i = 0; i < e->cfg->n_voters; i++) {
        if ((k->votes >> i & 1) != 0 || i == e->index) {
            continue;
        }
        bool phase1 = k->phase == SCHED_CATREG_PROMISES;
        struct sched_m_creg *m =
            send(e, phase1 ? SCHED_MSG_CPREP : SCHED_MSG_CACC, e->cfg->voters[i]);
        m->ballot = k->ballot;
        m->doc = phase1 ? (struct sched_cat_doc){0} : doc(&k->val);
    }
}

/* Back to rest, or to the next ballot for what has been asked for meanwhile. */
static void again(struct sched_catreg *k, const struct sched_catreg_env *e)
{
    k->phase = k->n_ops > 0 ? SCHED_CATREG_WAIT : SCHED_CATREG_IDLE;
    k->resend_ns = e->now_ns + base_hash_rng_below(e->rng, SCHED_MS(BACKOFF_MS) * k->tries + 1);
}

static void answer(const struct sched_catreg_env *e, uint64_t to, uint64_t op,
    enum sched_cat_result result, uint64_t version)
{
    sched_fx_send(e->fx, SCHED_MSG_CSETR, to)->csetr =
        (struct sched_m_csetr){.op = op, .result = (uint8_t)result, .version = version};
}

/* k->val with all changes that were asked for; k->val is what the register held before. */
static void form_value(struct sched_catreg *k, const struct sched_catreg_env *e)
{
    for (uint32_t i = 0; i < k->n_ops; i++) {
        struct sched_catreg_op *op = &k->ops[i];
        const struct sched_cat_entry *x = &op->change.entry;
        struct sched_cat_doc before = doc(&k->val);
        uint32_t n = 0;
        op->in_val = true;
        op->result = SCHED_CAT_OK;
        op->version = MUTANT(95) ? 0 : sched_cat_made(&before, op->op);
        if (op->version != 0) {
            continue; /* by another ballot, of whomever */
        }
        op->change.id = op->op;
        op->change.birth = base_hash_rng_next(e->rng) | 1;
        op->result = (uint8_t)sched_cat_apply(&before, &op->change, k->next, &n);
        if (op->result == SCHED_CAT_OK) {
            struct sched_cat_doc after = {before.version + 1, n, k->next};
            copy(&k->val, &after);
            op->version = after.version;
        } else if (op->result == SCHED_CAT_CONFLICT) {
            op->version = sched_cat_version(&before, x->key, x->key_n);
        }
    }
}

/* Places of ops keep their memory for values. */
static void drop_op(struct sched_catreg *k, uint32_t i)
{
    struct sched_catreg_op gone = k->ops[i];
    memmove(&k->ops[i], &k->ops[i + 1], (k->n_ops - i - 1) * sizeof gone);
    k->n_ops--;
    k->ops[k->n_ops] = (struct sched_catreg_op){.value = gone.value};
    for (uint32_t j = i; j < k->n_ops; j++) {
        k->ops[j].change.entry.key = k->ops[j].key;
    }
}

static void finish(struct sched_catreg *k, const struct sched_catreg_env *e)
{
    if (!majority(k, e) && !MUTANT(76)) {
        return;
    }
    struct sched_cat_doc chosen = doc(&k->val);
    choose(k, e, &chosen);
    for (uint32_t i = 0; i < e->cfg->n_voters; i++) {
        if (i != e->index) { /* that it was chosen; lost, it finds out by itself */
            struct sched_m_creg *m = send(e, SCHED_MSG_CKNOW, e->cfg->voters[i]);
            m->ballot = k->ballot;
        }
    }
    for (uint32_t i = k->n_ops; i-- > 0;) {
        struct sched_catreg_op *op = &k->ops[i];
        if (op->in_val) {
            answer(e, op->from, op->op, (enum sched_cat_result)op->result, op->version);
            drop_op(k, i);
        }
    }
    k->tries = 0;
    again(k, e);
}

static void propose(struct sched_catreg *k, const struct sched_catreg_env *e)
{
    if (!majority(k, e)) {
        return;
    }
    form_value(k, e);
    k->phase = SCHED_CATREG_ACCEPTS;
    struct sched_cat_doc d = doc(&k->val);
    k->votes = 0;
    if (accept(k, e, k->ballot, &d)) {
        k->votes = (uint8_t)(1U << e->index);
    }
    to_others(k, e);
    finish(k, e);
}

static void start(struct sched_catreg *k, const struct sched_catreg_env *e)
{
    k->promised = ((k->promised >> 8) + 1) << 8 | e->index;
    store(k, e);
    k->phase = SCHED_CATREG_PROMISES;
    k->ballot = k->promised;
    k->best = k->accepted;
    struct sched_cat_doc d = doc(&k->acc);
    copy(&k->val, &d);
    for (uint32_t i = 0; i < k->n_ops; i++) {
        k->ops[i].in_val = false;
    }
    k->votes = (uint8_t)(1u << e->index);
    k->deadline_ns = e->now_ns + SCHED_MS(OP_MS);
    k->resend_ns = e->now_ns + SCHED_MS(RESEND_MS);
    to_others(k, e);
    propose(k, e);
}

static void on_vote(struct sched_catreg *k, const struct sched_catreg_env *e, uint32_t from,
    const struct sched_msg *msg)
{
    const struct sched_m_creg *m = &msg->creg;
    bool phase1 = msg->type == SCHED_MSG_CPROM && k->phase == SCHED_CATREG_PROMISES;
    bool phase2 = msg->type == SCHED_MSG_CACCED && k->phase == SCHED_CATREG_ACCEPTS;
    bool voting = k->phase == SCHED_CATREG_PROMISES || k->phase == SCHED_CATREG_ACCEPTS;
    if (!voting || m->ballot != k->ballot || e->now_ns > k->deadline_ns) {
        return;
    }
    if (msg->type == SCHED_MSG_CNACK && m->promised > k->promised) {
        k->promised = m->promised; /* only to choose a higher ballot next time */
        store(k, e);
        k->tries = (uint8_t)(k->tries < TRIES_MAX ? k->tries + 1 : TRIES_MAX);
        again(k, e);
        k->phase = SCHED_CATREG_WAIT; /* also who only wants to know */
    } else if (phase1) {
        if (m->accepted > k->best && sched_cat_valid(&m->doc) && !MUTANT(79)) {
            copy(&k->val, &m->doc);
            k->best = m->accepted;
        }
        k->votes |= (uint8_t)(1u << from);
        propose(k, e);
    } else if (phase2) {
        k->votes |= (uint8_t)(1u << from);
        finish(k, e);
    }
}

static void on_set(
    struct sched_catreg *k, const struct sched_catreg_env *e, const struct sched_msg *m)
{
    const struct sched_cat_change *c = &m->cset.change;
    for (uint32_t i = 0; i < k->n_ops; i++) {
        if (k->ops[i].from == m->from && k->ops[i].op == m->cset.op) {
            return; /* under way */
        }
    }
    if (k->lost || k->n_ops == SCHED_CATREG_OPS_MAX) {
        answer(e, m->from, m->cset.op, SCHED_CAT_LATER, 0);
        return;
    }
    if (!sched_cat_key_valid(c->entry.key, c->entry.key_n) ||
        c->entry.value_n > SCHED_CAT_VALUE_MAX) {
        answer(e, m->from, m->cset.op, SCHED_CAT_INVALID, 0);
        return;
    }
    struct sched_catreg_op *op = &k->ops[k->n_ops++];
    uint8_t *value = op->value;
    *op = (struct sched_catreg_op){.from = m->from,
        .op = m->cset.op,
        .until_ns = e->now_ns + SCHED_MS(OP_MS),
        .change = *c,
        .value = value};
    memcpy(op->key, c->entry.key, c->entry.key_n);
    if (c->entry.value_n > 0) {
        memcpy(value, c->entry.value, c->entry.value_n);
    }
    op->change.entry.key = op->key;
    op->change.entry.value = value;
    if (k->phase == SCHED_CATREG_IDLE) {
        start(k, e);
    }
}

static void on_get(
    struct sched_catreg *k, const struct sched_catreg_env *e, const struct sched_msg *m)
{
    bool none = m->cget.version == 0 && !k->lost && !k->unsure; /* which is worth knowing */
    const struct sched_catreg_doc *d = MUTANT(74) ? &k->acc : &k->known;
    if (m->cget.version < d->version || none) {
        sched_fx_send(e->fx, SCHED_MSG_CDOC, m->from)->cdoc = doc(d);
    } else if (m->cget.version > k->known.version && !k->lost) {
        doubt(k, e); /* others have told more */
    }
}

/* ---- a lost store ---- */

static void on_tell(struct sched_catreg *k, const struct sched_catreg_env *e, uint32_t from,
    const struct sched_m_creg *m)
{
    if (!k->lost || m->ballot != k->nonce) {
        return;
    }
    k->told |= (uint8_t)(1u << from);
    k->promised = m->promised > k->promised ? m->promised : k->promised;
    if (m->accepted > k->accepted && sched_cat_valid(&m->doc)) {
        copy(&k->acc, &m->doc);
        k->accepted = m->accepted;
    }
    if (sched_votes(k->told) > e->cfg->n_voters / 2) {
        k->lost = false;
        k->unsure = k->accepted > 0;
        store(k, e);
    }
}

/* ---- all of it ---- */

void sched_catreg_init(struct sched_catreg *k, struct sched_mem *mem)
{
    struct sched_catreg_doc *docs[] = {&k->acc, &k->val, &k->known};
    bool carve = mem->base != NULL;
    if (carve) {
        memset(k, 0, sizeof *k);
    }
    for (int i = 0; i < 3; i++) {
        uint8_t *bytes = sched_mem_take(mem, SCHED_CAT_BYTES_MAX, 1);
        if (carve) {
            docs[i]->bytes = bytes;
        }
    }
    uint8_t *next = sched_mem_take(mem, SCHED_CAT_BYTES_MAX, 1);
    if (carve) {
        k->next = next;
    }
    for (int i = 0; i < SCHED_CATREG_OPS_MAX; i++) {
        uint8_t *value = sched_mem_take(mem, SCHED_CAT_VALUE_MAX, 1);
        if (carve) {
            k->ops[i].value = value;
        }
    }
}

void sched_catreg_restore(struct sched_catreg *k, const struct sched_row *row, bool fresh,
    uint64_t quiet_ns, uint64_t nonce)
{
    k->nonce = nonce;
    k->lost = row == NULL && !fresh && !MUTANT(72);
    k->resend_ns = quiet_ns;
    k->unsure = row == NULL && fresh; /* it may only have missed the first one */
    k->sure_ns = quiet_ns;
    if (row != NULL && sched_cat_valid(&row->catalog)) {
        copy(&k->acc, &row->catalog);
        k->promised = row->promised;
        k->accepted = row->accepted;
        k->unsure = k->accepted > 0;
    }
}

static void from_voter(struct sched_catreg *k, const struct sched_catreg_env *e, uint32_t from,
    const struct sched_msg *m)
{
    if (m->type == SCHED_MSG_CPREP || m->type == SCHED_MSG_CACC) {
        on_request(k, e, m);
    } else if (m->type == SCHED_MSG_CTELL) {
        on_tell(k, e, from, &m->creg);
    } else if (m->type == SCHED_MSG_CKNOW) {
        if (!k->lost && (m->creg.ballot == k->accepted || MUTANT(77))) {
            struct sched_cat_doc d = doc(&k->acc);
            choose(k, e, &d);
        } else if (!k->lost && m->creg.ballot > k->accepted) {
            doubt(k, e); /* it missed that one */
        }
    } else if (m->type != SCHED_MSG_CASK) {
        on_vote(k, e, from, m);
    } else if (!k->lost) {
        *send(e, SCHED_MSG_CTELL, m->from) =
            (struct sched_m_creg){m->creg.ballot, k->promised, k->accepted, doc(&k->acc)};
    }
}

void sched_catreg_msg(
    struct sched_catreg *k, const struct sched_catreg_env *e, const struct sched_msg *m)
{
    if (m->type == SCHED_MSG_CSET) {
        on_set(k, e, m);
        return;
    }
    if (m->type == SCHED_MSG_CGET) {
        on_get(k, e, m);
        return;
    }
    uint32_t from = 0;
    while (from < e->cfg->n_voters && e->cfg->voters[from] != m->from) {
        from++;
    }
    if (from < e->cfg->n_voters) {
        from_voter(k, e, from, m);
    }
}

static void ask_others(struct sched_catreg *k, const struct sched_catreg_env *e)
{
    k->resend_ns = e->now_ns + SCHED_MS(RESEND_MS) * 2;
    for (uint32_t i = 0; i < e->cfg->n_voters; i++) {
        if (i != e->index) {
            send(e, SCHED_MSG_CASK, e->cfg->voters[i])->ballot = k->nonce;
        }
    }
}

/* Changes whose time is over, also while others overtake this voter again and again. */
static void drop_late(struct sched_catreg *k, const struct sched_catreg_env *e)
{
    for (uint32_t i = k->n_ops; i-- > 0;) {
        if (e->now_ns >= k->ops[i].until_ns) {
            answer(e, k->ops[i].from, k->ops[i].op, SCHED_CAT_LATER, 0);
            drop_op(k, i);
        }
    }
}

/* Of the ballot. */
static void give_up(struct sched_catreg *k, const struct sched_catreg_env *e)
{
    k->tries = 0;
    k->sure_ns = e->now_ns + SCHED_MS(SURE_MS) + base_hash_rng_below(e->rng, SCHED_MS(SURE_MS));
    again(k, e);
}

void sched_catreg_tick(struct sched_catreg *k, const struct sched_catreg_env *e)
{
    drop_late(k, e);
    if (k->lost) {
        if (e->now_ns >= k->resend_ns) {
            ask_others(k, e);
        }
    } else if (k->phase == SCHED_CATREG_IDLE) {
        if (k->unsure && e->now_ns >= k->sure_ns) {
            start(k, e);
        }
    } else if (k->phase != SCHED_CATREG_WAIT && e->now_ns >= k->deadline_ns) {
        give_up(k, e);
    } else if (e->now_ns >= k->resend_ns) {
        if (k->phase == SCHED_CATREG_WAIT) {
            start(k, e);
        } else {
            k->resend_ns = e->now_ns + SCHED_MS(RESEND_MS);
            to_others(k, e);
        }
    }
}

uint64_t sched_catreg_due_ns(const struct sched_catreg *k)
{
    if (k->phase == SCHED_CATREG_IDLE && !k->lost) {
        return k->unsure ? k->sure_ns : UINT64_MAX;
    }
    return k->resend_ns;
}
