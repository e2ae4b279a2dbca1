#include "scheduler/core/catreg.h"

#include "scheduler/core/mutant.h"

enum {
    OP_MS = 1000, /* a change that takes longer is answered "later" */
    RESEND_MS = 150,
    BACKOFF_MS = 40,
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

static uint64_t sure_at(const struct sched_creg_env *e)
{
    return e->now_ns + SCHED_MS(SURE_MS) + base_hash_rng_below(e->rng, SCHED_MS(SURE_MS));
}

/* Something newer may have been chosen: it finds out, unless it is told before. */
static void doubt(struct sched_catreg *k, const struct sched_creg_env *e)
{
    if (!k->unsure) {
        k->unsure = true;
        k->sure_ns = sure_at(e);
    }
}

static void choose(struct sched_catreg *k, const struct sched_cat_doc *d)
{
    if (d->version >= k->known.version) {
        copy(&k->known, d);
    }
    k->unsure = k->unsure && k->acc.version > k->known.version;
}

/* ---- the register ---- */

/* What the functions of the frame are given. */
struct step {
    struct sched_catreg *k;
    const struct sched_creg_env *e;
};

static void store(void *own)
{
    const struct step *s = own;
    struct sched_row *r = sched_fx_store(s->e->fx, SCHED_ROW_CATALOG);
    r->promised = s->k->vote.promised;
    r->accepted = s->k->vote.accepted;
    r->catalog = doc(&s->k->acc);
}

static void send(
    void *own, enum sched_creg_word word, uint64_t to, const struct sched_creg_say *say)
{
    const struct step *s = own;
    struct sched_m_creg *m = &sched_fx_send(s->e->fx, say->type, to)->creg;
    *m = (struct sched_m_creg){
        .ballot = say->ballot, .promised = say->promised, .accepted = say->accepted};
    if (word == SCHED_CREG_PROM || word == SCHED_CREG_TELL) {
        m->doc = doc(&s->k->acc);
    } else if (word == SCHED_CREG_ACC) {
        m->doc = doc(&s->k->val);
    }
}

static bool set(
    struct sched_catreg_doc *to, const struct sched_catreg_doc *other, const struct sched_msg *m)
{
    struct sched_cat_doc d = m == NULL ? doc(other) : m->creg.doc;
    bool valid = m == NULL || sched_cat_valid(&d);
    if (valid) {
        copy(to, &d);
    }
    return valid;
}

static bool take(void *own, const struct sched_msg *m)
{
    const struct step *s = own;
    return set(&s->k->acc, &s->k->val, m);
}

static void accepted(void *own)
{
    const struct step *s = own;
    s->k->unsure = !MUTANT(75);
    s->k->sure_ns = sure_at(s->e);
}

static bool read(void *own, const struct sched_msg *m)
{
    const struct step *s = own;
    for (uint32_t i = 0; m == NULL && i < s->k->n_ops; i++) {
        s->k->ops[i].in_val = false;
    }
    return set(&s->k->val, &s->k->acc, m);
}

static void answer(const struct sched_creg_env *e, uint64_t to, uint64_t op,
    enum sched_cat_result result, uint64_t version)
{
    sched_fx_send(e->fx, SCHED_MSG_CSETR, to)->csetr =
        (struct sched_m_csetr){.op = op, .result = (uint8_t)result, .version = version};
}

/* With all changes that were asked for. */
static void form(void *own)
{
    const struct step *s = own;
    struct sched_catreg *k = s->k;
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
        op->change.birth = base_hash_rng_next(s->e->rng) | 1;
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

static void chosen(void *own)
{
    const struct step *s = own;
    struct sched_catreg *k = s->k;
    const struct sched_creg_env *e = s->e;
    struct sched_cat_doc d = doc(&k->val);
    choose(k, &d);
    for (uint32_t i = 0; i < e->cfg->n_voters; i++) {
        if (i != e->index) { /* that it was chosen; lost, it finds out by itself */
            sched_fx_send(e->fx, SCHED_MSG_CKNOW, e->cfg->voters[i])->creg.ballot = k->vote.ballot;
        }
    }
    for (uint32_t i = k->n_ops; i-- > 0;) {
        struct sched_catreg_op *op = &k->ops[i];
        if (op->in_val) {
            answer(e, op->from, op->op, (enum sched_cat_result)op->result, op->version);
            drop_op(k, i);
        }
    }
}

/* Also who only wants to know does not give in to others. */
static bool wants(void *own, bool failed)
{
    const struct step *s = own;
    return failed || s->k->n_ops > 0;
}

static void gave_up(void *own)
{
    const struct step *s = own;
    s->k->sure_ns = sure_at(s->e);
}

static void found(void *own)
{
    const struct step *s = own;
    s->k->unsure = s->k->vote.accepted > 0;
}

static const struct sched_creg_ops ops = {.resend_ms = RESEND_MS,
    .backoff_ms = BACKOFF_MS,
    .types = {[SCHED_CREG_PREP] = SCHED_MSG_CPREP,
        [SCHED_CREG_PROM] = SCHED_MSG_CPROM,
        [SCHED_CREG_ACC] = SCHED_MSG_CACC,
        [SCHED_CREG_ACCED] = SCHED_MSG_CACCED,
        [SCHED_CREG_NACK] = SCHED_MSG_CNACK,
        [SCHED_CREG_ASK] = SCHED_MSG_CASK,
        [SCHED_CREG_TELL] = SCHED_MSG_CTELL},
    .send = send,
    .store = store,
    .take = take,
    .accepted = accepted,
    .read = read,
    .form = form,
    .chosen = chosen,
    .wants = wants,
    .gave_up = gave_up,
    .found = found};

/* ---- what is asked for ---- */

static void on_set(struct sched_catreg *k, const struct sched_creg_env *e,
    const struct sched_creg_run *g, const struct sched_msg *m)
{
    const struct sched_cat_change *c = &m->cset.change;
    for (uint32_t i = 0; i < k->n_ops; i++) {
        if (k->ops[i].from == m->from && k->ops[i].op == m->cset.op) {
            return; /* under way */
        }
    }
    if (k->vote.lost || k->n_ops == SCHED_CATREG_OPS_MAX) {
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
    if (k->vote.phase == SCHED_CREG_IDLE) {
        sched_creg_start(g);
    }
}

static void on_get(
    struct sched_catreg *k, const struct sched_creg_env *e, const struct sched_msg *m)
{
    bool none = m->cget.version == 0 && !k->vote.lost && !k->unsure; /* which is worth knowing */
    const struct sched_catreg_doc *d = MUTANT(74) ? &k->acc : &k->known;
    if (m->cget.version < d->version || none) {
        sched_fx_send(e->fx, SCHED_MSG_CDOC, m->from)->cdoc = doc(d);
    } else if (m->cget.version > k->known.version && !k->vote.lost) {
        doubt(k, e); /* others have told more */
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
    k->vote.nonce = nonce;
    k->vote.lost = row == NULL && !fresh && !MUTANT(72);
    k->vote.resend_ns = quiet_ns;
    k->unsure = row == NULL && fresh; /* it may only have missed the first one */
    k->sure_ns = quiet_ns;
    if (row != NULL && sched_cat_valid(&row->catalog)) {
        copy(&k->acc, &row->catalog);
        k->vote.promised = row->promised;
        k->vote.accepted = row->accepted;
        k->unsure = k->vote.accepted > 0;
    }
}

static void on_know(
    struct sched_catreg *k, const struct sched_creg_env *e, const struct sched_msg *m)
{
    uint64_t ballot = m->creg.ballot;
    if (k->vote.lost || !sched_cfg_is_voter(e->cfg, m->from)) {
        return;
    }
    if (ballot == k->vote.accepted || MUTANT(77)) {
        struct sched_cat_doc d = doc(&k->acc);
        choose(k, &d);
    } else if (ballot > k->vote.accepted) {
        doubt(k, e); /* it missed that one */
    }
}

void sched_catreg_msg(
    struct sched_catreg *k, const struct sched_creg_env *e, const struct sched_msg *m)
{
    struct step s = {k, e};
    const struct sched_creg_run g = {&k->vote, &ops, &s, e};
    if (m->type == SCHED_MSG_CSET) {
        on_set(k, e, &g, m);
    } else if (m->type == SCHED_MSG_CGET) {
        on_get(k, e, m);
    } else if (m->type == SCHED_MSG_CKNOW) {
        on_know(k, e, m);
    } else {
        const struct sched_creg_say say = {.type = m->type,
            .ballot = m->creg.ballot,
            .promised = m->creg.promised,
            .accepted = m->creg.accepted,
            .msg = m};
        sched_creg_msg(&g, &say);
    }
}

/* Changes whose time is over, also while others overtake this voter again and again. */
static void drop_late(struct sched_catreg *k, const struct sched_creg_env *e)
{
    for (uint32_t i = k->n_ops; i-- > 0;) {
        if (e->now_ns >= k->ops[i].until_ns) {
            answer(e, k->ops[i].from, k->ops[i].op, SCHED_CAT_LATER, 0);
            drop_op(k, i);
        }
    }
}

void sched_catreg_tick(struct sched_catreg *k, const struct sched_creg_env *e)
{
    struct step s = {k, e};
    const struct sched_creg_run g = {&k->vote, &ops, &s, e};
    drop_late(k, e);
    if (!sched_creg_rests(&k->vote)) {
        sched_creg_tick(&g);
    } else if (k->unsure && e->now_ns >= k->sure_ns) {
        sched_creg_start(&g);
    }
}

uint64_t sched_catreg_due_ns(const struct sched_catreg *k)
{
    if (sched_creg_rests(&k->vote)) {
        return k->unsure ? k->sure_ns : UINT64_MAX;
    }
    return k->vote.resend_ns;
}
