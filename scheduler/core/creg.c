#include "scheduler/core/creg.h"

#include "scheduler/core/mutant.h"

enum {
    BALLOT_MS = 1000, /* one that takes longer is given up; a lost store relies on the bound */
    TRIES_MAX = 20,
};

static uint64_t after(const struct sched_creg_run *g, uint32_t ms)
{
    return g->env->now_ns + SCHED_MS(ms);
}

static void answer(
    const struct sched_creg_run *g, enum sched_creg_word word, uint64_t to, uint64_t ballot)
{
    bool all = word == SCHED_CREG_PROM || word == SCHED_CREG_TELL;
    const struct sched_creg_say say = {.type = g->ops->types[word],
        .ballot = ballot,
        .promised = all || word == SCHED_CREG_NACK ? g->reg->promised : 0,
        .accepted = all ? g->reg->accepted : 0};
    g->ops->send(g->own, word, to, &say);
}

static void to_others(
    const struct sched_creg_run *g, enum sched_creg_word word, uint64_t ballot, uint8_t but)
{
    const struct sched_creg_say say = {.type = g->ops->types[word], .ballot = ballot};
    for (uint32_t i = 0; i < g->env->cfg->n_voters; i++) {
        if ((but >> i & 1) == 0 && i != g->env->index) {
            g->ops->send(g->own, word, g->env->cfg->voters[i], &say);
        }
    }
}

/* ---- acceptor ---- */

static bool accept(const struct sched_creg_run *g, uint64_t ballot, const struct sched_msg *m)
{
    if ((ballot < g->reg->promised && !MUTANT(71)) || !g->ops->take(g->own, m)) {
        return false;
    }
    g->reg->promised = g->reg->accepted = ballot;
    g->ops->accepted(g->own);
    g->ops->store(g->own);
    return true;
}

static void on_request(
    const struct sched_creg_run *g, enum sched_creg_word word, const struct sched_creg_say *say)
{
    struct sched_creg *r = g->reg;
    uint64_t to = say->msg->from;
    if (r->lost) {
        return;
    }
    if (word == SCHED_CREG_PREP && say->ballot >= r->promised) {
        r->promised = say->ballot; /* equal: the same request, repeated */
        if (!MUTANT(69)) {
            g->ops->store(g->own);
        }
        answer(g, SCHED_CREG_PROM, to, say->ballot);
    } else if (word == SCHED_CREG_ACC && accept(g, say->ballot, say->msg)) {
        answer(g, SCHED_CREG_ACCED, to, say->ballot);
    } else if (say->ballot < r->promised) {
        answer(g, SCHED_CREG_NACK, to, say->ballot);
    }
}

/* ---- proposer ---- */

static bool majority(const struct sched_creg_run *g)
{
    return sched_votes(g->reg->votes) > g->env->cfg->n_voters / 2;
}

static void ask(const struct sched_creg_run *g)
{
    const struct sched_creg *r = g->reg;
    bool phase1 = r->phase == SCHED_CREG_PROMISES;
    to_others(g, phase1 ? SCHED_CREG_PREP : SCHED_CREG_ACC, r->ballot, r->votes);
}

/* Back to rest, or to the next ballot for what has been asked for meanwhile. */
static void again(const struct sched_creg_run *g, bool failed)
{
    struct sched_creg *r = g->reg;
    uint64_t most = SCHED_MS(g->ops->backoff_ms) * r->tries + 1;
    r->phase = g->ops->wants(g->own, failed) ? SCHED_CREG_WAIT : SCHED_CREG_IDLE;
    r->resend_ns = g->env->now_ns + base_hash_rng_below(g->env->rng, most);
}

static void finish(const struct sched_creg_run *g)
{
    if (majority(g) || MUTANT(76)) {
        g->ops->chosen(g->own);
        g->reg->tries = 0;
        again(g, false);
    }
}

static void propose(const struct sched_creg_run *g)
{
    struct sched_creg *r = g->reg;
    if (majority(g)) {
        g->ops->form(g->own);
        r->phase = SCHED_CREG_ACCEPTS;
        r->votes = 0;
        if (accept(g, r->ballot, NULL)) {
            r->votes = (uint8_t)(1U << g->env->index);
        }
        ask(g);
        finish(g);
    }
}

void sched_creg_start(const struct sched_creg_run *g)
{
    struct sched_creg *r = g->reg;
    r->promised = ((r->promised >> 8) + 1) << 8 | g->env->index;
    g->ops->store(g->own);
    r->phase = SCHED_CREG_PROMISES;
    r->ballot = r->promised;
    r->best = r->accepted;
    (void)g->ops->read(g->own, NULL);
    r->votes = (uint8_t)(1U << g->env->index);
    r->deadline_ns = after(g, BALLOT_MS);
    r->resend_ns = after(g, g->ops->resend_ms);
    ask(g);
    propose(g);
}

static void on_vote(const struct sched_creg_run *g, uint32_t from, enum sched_creg_word word,
    const struct sched_creg_say *say)
{
    struct sched_creg *r = g->reg;
    bool phase1 = word == SCHED_CREG_PROM && r->phase == SCHED_CREG_PROMISES;
    bool phase2 = word == SCHED_CREG_ACCED && r->phase == SCHED_CREG_ACCEPTS;
    bool voting = r->phase == SCHED_CREG_PROMISES || r->phase == SCHED_CREG_ACCEPTS;
    if (!voting || say->ballot != r->ballot || g->env->now_ns > r->deadline_ns) {
        return;
    }
    if (word == SCHED_CREG_NACK) {
        if (say->promised > r->promised) { /* or it was promised here as well */
            r->promised = say->promised;   /* only to choose a higher ballot next time */
            g->ops->store(g->own);
        }
        r->tries = (uint8_t)(r->tries < TRIES_MAX ? r->tries + 1 : TRIES_MAX);
        again(g, true);
    } else if (phase1) {
        if (say->accepted > r->best && !MUTANT(79) && g->ops->read(g->own, say->msg)) {
            r->best = say->accepted;
        }
        r->votes |= (uint8_t)(1U << from);
        propose(g);
    } else if (phase2) {
        r->votes |= (uint8_t)(1U << from);
        finish(g);
    }
}

/* ---- a lost store ---- */

static void on_tell(const struct sched_creg_run *g, uint32_t from, const struct sched_creg_say *say)
{
    struct sched_creg *r = g->reg;
    if (!r->lost || say->ballot != r->nonce) {
        return;
    }
    r->told |= (uint8_t)(1U << from);
    r->promised = say->promised > r->promised ? say->promised : r->promised;
    if (say->accepted > r->accepted && g->ops->take(g->own, say->msg)) {
        r->accepted = say->accepted;
    }
    if (sched_votes(r->told) > g->env->cfg->n_voters / 2) {
        r->lost = false;
        g->ops->found(g->own);
        g->ops->store(g->own);
    }
}

/* ---- all of it ---- */

void sched_creg_msg(const struct sched_creg_run *g, const struct sched_creg_say *say)
{
    uint32_t from = 0, word = 0;
    while (from < g->env->cfg->n_voters && g->env->cfg->voters[from] != say->msg->from) {
        from++;
    }
    while (word < SCHED_CREG_WORDS && g->ops->types[word] != say->type) {
        word++;
    }
    if (from == g->env->cfg->n_voters) {
        return;
    }
    switch ((enum sched_creg_word)word) {
    case SCHED_CREG_PREP:
    case SCHED_CREG_ACC:
        on_request(g, (enum sched_creg_word)word, say);
        break;
    case SCHED_CREG_PROM:
    case SCHED_CREG_ACCED:
    case SCHED_CREG_NACK:
        on_vote(g, from, (enum sched_creg_word)word, say);
        break;
    case SCHED_CREG_TELL:
        on_tell(g, from, say);
        break;
    case SCHED_CREG_ASK:
        if (!g->reg->lost) {
            answer(g, SCHED_CREG_TELL, say->msg->from, say->ballot);
        }
        break;
    case SCHED_CREG_WORDS:
        break;
    }
}

void sched_creg_tick(const struct sched_creg_run *g)
{
    struct sched_creg *r = g->reg;
    bool due = g->env->now_ns >= r->resend_ns;
    if (r->lost) {
        if (due) {
            r->resend_ns = after(g, 2 * g->ops->resend_ms);
            to_others(g, SCHED_CREG_ASK, r->nonce, 0);
        }
    } else if (r->phase == SCHED_CREG_IDLE) {
        return;
    } else if (r->phase != SCHED_CREG_WAIT && g->env->now_ns >= r->deadline_ns) {
        r->tries = 0;
        g->ops->gave_up(g->own);
        again(g, false);
    } else if (due && r->phase == SCHED_CREG_WAIT) {
        sched_creg_start(g);
    } else if (due) {
        r->resend_ns = after(g, g->ops->resend_ms);
        ask(g);
    }
}
