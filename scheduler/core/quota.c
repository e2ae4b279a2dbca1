#include "scheduler/core/quota.h"

#include "scheduler/core/mutant.h"

enum {
    ASK_MS = 300,   /* a host that gets no answer asks the next voter */
    PAUSE_MS = 100, /* between two requests of a host */
    IDLE_MS = 1000, /* idle permits are given back after this time */
    OP_MS = 1000,   /* a proposal that takes longer is given up */
    RESEND_MS = 100,
    BACKOFF_MS = 30,
    CLEAN_MS = 1500, /* the voters look in turn for permits of the dead */
};

/* ---- the host ---- */

void sched_quota_init(struct sched_quota *q, const struct sched_cfg *cfg)
{
    *q = (struct sched_quota){.limit = cfg->n_quotas == 0 ? UINT32_MAX : 0};
}

static void ask(struct sched_quota *q, struct sched_env *e)
{
    q->due_ns = e->now_ns + SCHED_MS(ASK_MS);
    sched_fx_send(e->fx, SCHED_MSG_QWANT, e->cfg->voters[q->voter % e->cfg->n_voters])->quota =
        (struct sched_m_quota){.inc = e->me.inc, .permits = q->want, .seq = q->seq};
}

static void want(struct sched_quota *q, struct sched_env *e, uint32_t permits)
{
    q->want = permits;
    q->seq = ++e->serial;
    q->waiting = true;
    q->idle_ns = 0;
    if (q->want < q->limit && !MUTANT(45)) {
        q->limit = q->want; /* given back from now on */
    }
    ask(q, e);
}

bool sched_quota_tick(struct sched_quota *q, struct sched_env *e, uint32_t used, bool missed)
{
    if (e->cfg->n_quotas == 0) {
        return true;
    }
    if (e->now_ns < q->due_ns) {
        return false;
    }
    if (!sched_env_member(e)) {
        q->due_ns = e->now_ns + SCHED_MS(ASK_MS);
        return true;
    }
    uint32_t least = e->cfg->quotas[0].chunk, more = used / 4 > least ? used / 4 : least;
    bool idle = q->limit > 0 && (used == 0 || used + more < q->limit);
    if (q->waiting) {
        q->voter++;
        ask(q, e);
        return false;
    }
    if (used > q->limit) { /* after a restart: hold what is in use */
        want(q, e, used);
    } else if (missed) {
        want(q, e, used + more);
        return true;
    } else if (!idle) {
        q->idle_ns = 0;
    } else if (q->idle_ns == 0) {
        q->idle_ns = e->now_ns;
    } else if (e->now_ns - q->idle_ns > SCHED_MS(IDLE_MS)) {
        want(q, e, used == 0 ? 0 : used + more);
    }
    return false;
}

void sched_quota_have(struct sched_quota *q, const struct sched_env *e, const struct sched_msg *msg)
{
    const struct sched_m_quota *m = &msg->quota;
    if (q->waiting && m->inc == e->me.inc && m->seq == q->seq) {
        q->waiting = false;
        q->limit = m->permits;
        q->due_ns = e->now_ns + SCHED_MS(PAUSE_MS);
    }
}

/* ---- the table ---- */

static bool copy(struct sched_quota_table *to, uint32_t n, const struct sched_quota_entry *e)
{
    if (n > to->cap) {
        return false;
    }
    if (n > 0) {
        memcpy(to->e, e, n * sizeof *e);
    }
    to->n = n;
    return true;
}

static bool dead(const struct sched_quota_env *e, struct sched_host h)
{
    return h.inc <= sched_view_maxinc(e->known, h.node) && !sched_view_has(e->known, h);
}

static bool any_dead(const struct sched_quota_table *t, const struct sched_quota_env *e)
{
    for (uint32_t i = 0; i < t->n; i++) {
        if (dead(e, t->e[i].host)) {
            return true;
        }
    }
    return false;
}

static void drop_dead(struct sched_quota_table *t, const struct sched_quota_env *e)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->n; i++) {
        if (!dead(e, t->e[i].host) || MUTANT(44)) {
            t->e[n++] = t->e[i];
        }
    }
    t->n = n;
}

static bool less(struct sched_host a, struct sched_host b)
{
    return a.node != b.node ? a.node < b.node : a.inc < b.inc;
}

/* The entry of the host, made when there is room; NULL when not. */
static struct sched_quota_entry *entry(struct sched_quota_table *t, struct sched_host h, bool make)
{
    uint32_t lo = 0, hi = t->n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (less(t->e[mid].host, h)) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    if (lo < t->n && sched_host_eq(t->e[lo].host, h)) {
        return &t->e[lo];
    }
    if (!make || t->n == t->cap) {
        return NULL;
    }
    memmove(&t->e[lo + 1], &t->e[lo], (t->n - lo) * sizeof *t->e);
    t->n++;
    t->e[lo] = (struct sched_quota_entry){.host = h};
    return &t->e[lo];
}

/* What the register holds after all that was asked for; k->val is what it held before. */
static void form_value(struct sched_quota_keep *k, const struct sched_quota_env *e)
{
    drop_dead(&k->val, e);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < k->val.n; i++) {
        sum += k->val.e[i].permits;
    }
    for (uint32_t i = 0; i < k->n_wants; i++) {
        struct sched_quota_want *w = &k->wants[i];
        struct sched_quota_entry *x = dead(e, w->host) ? NULL : entry(&k->val, w->host, true);
        w->in_op = true;
        if (x == NULL || w->seq <= x->seq) {
            continue;
        }
        uint64_t left = sum < k->max ? k->max - sum : 0;
        uint32_t was = x->permits, most = was + (uint32_t)left;
        x->seq = w->seq;
        x->permits = w->permits < most ? w->permits : most;
        sum += MUTANT(43) ? 0 : (uint64_t)x->permits - was;
    }
}

/* ---- acceptor ---- */

static void store(const struct sched_quota_keep *k, const struct sched_quota_env *e)
{
    struct sched_row *r = sched_fx_store(e->fx, SCHED_ROW_QUOTA);
    r->first = k->pool;
    r->promised = k->promised;
    r->accepted = k->accepted;
    r->n = k->acc.n;
    r->entries = k->acc.e;
}

static bool accept(struct sched_quota_keep *k, const struct sched_quota_env *e, uint64_t ballot,
    const struct sched_quota_table *t)
{
    if ((ballot < k->promised && !MUTANT(46)) || !copy(&k->acc, t->n, t->e)) {
        return false;
    }
    k->promised = k->accepted = ballot;
    store(k, e);
    return true;
}

static struct sched_m_qreg *send(
    const struct sched_quota_keep *k, const struct sched_quota_env *e, uint8_t type, uint64_t to)
{
    struct sched_m_qreg *m = &sched_fx_send(e->fx, type, to)->qreg;
    m->pool = k->pool;
    return m;
}

static void on_request(
    struct sched_quota_keep *k, const struct sched_quota_env *e, const struct sched_msg *msg)
{
    const struct sched_m_qreg *m = &msg->qreg;
    if (k->lost) {
        return;
    }
    const struct sched_quota_table t = {m->n, m->n, (struct sched_quota_entry *)m->entries};
    if (msg->type == SCHED_MSG_QPREP && m->ballot >= k->promised) {
        k->promised = m->ballot; /* equal: the same request, repeated */
        store(k, e);
        struct sched_m_qreg *out = send(k, e, SCHED_MSG_QPROM, msg->from);
        *out =
            (struct sched_m_qreg){k->pool, m->ballot, k->promised, k->accepted, k->acc.n, k->acc.e};
    } else if (msg->type == SCHED_MSG_QACC && accept(k, e, m->ballot, &t)) {
        send(k, e, SCHED_MSG_QACCED, msg->from)->ballot = m->ballot;
    } else if (m->ballot < k->promised) {
        struct sched_m_qreg *out = send(k, e, SCHED_MSG_QNACK, msg->from);
        out->ballot = m->ballot;
        out->promised = k->promised;
    }
}

/* ---- proposer ---- */

static bool majority(const struct sched_quota_keep *k, const struct sched_quota_env *e)
{
    return sched_votes(k->votes) > e->cfg->n_voters / 2;
}

static void to_others(const struct sched_quota_keep *k, const struct sched_quota_env *e)
{
    for (uint32_t i = 0; i < e->cfg->n_voters; i++) {
        if ((k->votes >> i & 1) != 0 || i == e->index) {
            continue;
        }
        bool phase1 = k->phase == SCHED_QUOTA_PROMISES;
        struct sched_m_qreg *m =
            send(k, e, phase1 ? SCHED_MSG_QPREP : SCHED_MSG_QACC, e->cfg->voters[i]);
        m->ballot = k->ballot;
        m->n = phase1 ? 0 : k->val.n;
        m->entries = k->val.e;
    }
}

/* Back to rest, or to the next ballot for what has been asked for meanwhile. */
static void again(struct sched_quota_keep *k, const struct sched_quota_env *e)
{
    k->phase = k->n_wants > 0 ? SCHED_QUOTA_WAIT : SCHED_QUOTA_IDLE;
    k->deadline_ns = e->now_ns + SCHED_MS(OP_MS);
    k->resend_ns = e->now_ns + base_hash_rng_below(e->rng, SCHED_MS(BACKOFF_MS) * k->tries + 1);
}

static void finish(struct sched_quota_keep *k, const struct sched_quota_env *e)
{
    if (!majority(k, e)) {
        return;
    }
    uint32_t left = 0;
    for (uint32_t i = 0; i < k->n_wants; i++) {
        struct sched_quota_want *w = &k->wants[i];
        const struct sched_quota_entry *x = entry(&k->val, w->host, false);
        if (!w->in_op) {
            k->wants[left++] = *w;
        } else if (x != NULL) {
            sched_fx_send(e->fx, SCHED_MSG_QHAVE, w->host.node)->quota = (struct sched_m_quota){
                .pool = k->pool, .inc = w->host.inc, .permits = x->permits, .seq = x->seq};
        }
    }
    k->n_wants = left;
    k->tries = 0;
    again(k, e);
}

static void propose(struct sched_quota_keep *k, const struct sched_quota_env *e)
{
    if (!majority(k, e)) {
        return;
    }
    form_value(k, e);
    k->phase = SCHED_QUOTA_ACCEPTS;
    uint8_t own = (uint8_t)(1U << e->index);
    k->votes = accept(k, e, k->ballot, &k->val) ? own : 0;
    to_others(k, e);
    finish(k, e);
}

static void start(struct sched_quota_keep *k, const struct sched_quota_env *e)
{
    k->promised = ((k->promised >> 8) + 1) << 8 | e->index;
    store(k, e);
    k->phase = SCHED_QUOTA_PROMISES;
    k->ballot = k->promised;
    k->best = k->accepted;
    (void)copy(&k->val, k->acc.n, k->acc.e);
    k->votes = (uint8_t)(1u << e->index);
    k->deadline_ns = e->now_ns + SCHED_MS(OP_MS);
    k->resend_ns = e->now_ns + SCHED_MS(RESEND_MS);
    to_others(k, e);
    propose(k, e);
}

static void on_vote(struct sched_quota_keep *k, const struct sched_quota_env *e, uint32_t from,
    const struct sched_msg *msg)
{
    const struct sched_m_qreg *m = &msg->qreg;
    bool phase1 = msg->type == SCHED_MSG_QPROM && k->phase == SCHED_QUOTA_PROMISES;
    bool phase2 = msg->type == SCHED_MSG_QACCED && k->phase == SCHED_QUOTA_ACCEPTS;
    bool voting = k->phase == SCHED_QUOTA_PROMISES || k->phase == SCHED_QUOTA_ACCEPTS;
    if (!voting || m->ballot != k->ballot || e->now_ns > k->deadline_ns) {
        return;
    }
    if (msg->type == SCHED_MSG_QNACK && m->promised > k->promised) {
        k->promised = m->promised; /* only to choose a higher ballot next time */
        store(k, e);
        k->tries++;
        again(k, e);
    } else if (phase1) {
        if (m->accepted > k->best && copy(&k->val, m->n, m->entries)) {
            k->best = m->accepted;
        }
        k->votes |= (uint8_t)(1u << from);
        propose(k, e);
    } else if (phase2) {
        k->votes |= (uint8_t)(1u << from);
        finish(k, e);
    }
}

static void on_want(
    struct sched_quota_keep *k, const struct sched_quota_env *e, const struct sched_msg *m)
{
    struct sched_host h = {m->from, m->quota.inc};
    uint32_t i = 0;
    while (i < k->n_wants && !sched_host_eq(k->wants[i].host, h)) {
        i++;
    }
    if (k->lost || i == SCHED_QUOTA_WANTS_MAX ||
        (i < k->n_wants && m->quota.seq <= k->wants[i].seq)) {
        return; /* the host asks again */
    }
    k->wants[i] = (struct sched_quota_want){h, m->quota.permits, m->quota.seq, false};
    k->n_wants += i == k->n_wants;
    if (k->phase == SCHED_QUOTA_IDLE) {
        start(k, e);
    }
}

/* ---- a lost store ---- */

static void on_tell(struct sched_quota_keep *k, const struct sched_quota_env *e, uint32_t from,
    const struct sched_m_qreg *m)
{
    if (!k->lost || m->ballot != k->nonce) {
        return;
    }
    k->told |= (uint8_t)(1u << from);
    k->promised = m->promised > k->promised ? m->promised : k->promised;
    if (m->accepted > k->accepted && copy(&k->acc, m->n, m->entries)) {
        k->accepted = m->accepted;
    }
    if (sched_votes(k->told) > e->cfg->n_voters / 2) {
        k->lost = false;
        store(k, e);
    }
}

/* ---- all of it ---- */

void sched_quota_keep_init(
    struct sched_quota_keep *k, const struct sched_cfg *cfg, uint32_t pool, struct sched_mem *mem)
{
    memset(k, 0, sizeof *k);
    k->pool = pool;
    k->max = cfg->quotas[pool].max;
    k->acc.cap = k->val.cap = cfg->members_max;
    k->acc.e = sched_mem_take(mem, cfg->members_max, sizeof *k->acc.e);
    k->val.e = sched_mem_take(mem, cfg->members_max, sizeof *k->val.e);
}

void sched_quota_keep_restore(struct sched_quota_keep *k, const struct sched_row *row)
{
    if (copy(&k->acc, row->n, row->entries)) {
        k->promised = row->promised;
        k->accepted = row->accepted;
    }
}

void sched_quota_keep_msg(
    struct sched_quota_keep *k, const struct sched_quota_env *e, const struct sched_msg *m)
{
    if (m->type == SCHED_MSG_QWANT) {
        on_want(k, e, m);
        return;
    }
    uint32_t from = 0;
    while (from < e->cfg->n_voters && e->cfg->voters[from] != m->from) {
        from++;
    }
    if (from == e->cfg->n_voters) {
        return;
    }
    if (m->type == SCHED_MSG_QPREP || m->type == SCHED_MSG_QACC) {
        on_request(k, e, m);
    } else if (m->type == SCHED_MSG_QTELL) {
        on_tell(k, e, from, &m->qreg);
    } else if (m->type != SCHED_MSG_QASK) {
        on_vote(k, e, from, m);
    } else if (!k->lost) {
        struct sched_m_qreg *out = send(k, e, SCHED_MSG_QTELL, m->from);
        *out = (struct sched_m_qreg){
            k->pool, m->qreg.ballot, k->promised, k->accepted, k->acc.n, k->acc.e};
    }
}

static void ask_others(struct sched_quota_keep *k, const struct sched_quota_env *e)
{
    k->resend_ns = e->now_ns + SCHED_MS(RESEND_MS) * 2;
    for (uint32_t i = 0; i < e->cfg->n_voters; i++) {
        if (i != e->index) {
            send(k, e, SCHED_MSG_QASK, e->cfg->voters[i])->ballot = k->nonce;
        }
    }
}

void sched_quota_keep_tick(struct sched_quota_keep *k, const struct sched_quota_env *e)
{
    if (k->lost) {
        if (e->now_ns >= k->resend_ns) {
            ask_others(k, e);
        }
        return;
    }
    if (k->phase == SCHED_QUOTA_IDLE) {
        if (e->now_ns >= k->clean_ns) {
            k->clean_ns =
                e->now_ns + SCHED_MS(CLEAN_MS) + base_hash_rng_below(e->rng, SCHED_MS(CLEAN_MS));
            if (any_dead(&k->acc, e)) {
                start(k, e);
            }
        }
    } else if (k->phase != SCHED_QUOTA_WAIT && e->now_ns >= k->deadline_ns) {
        k->n_wants = 0; /* the hosts ask somebody else */
        k->tries = 0;
        again(k, e);
    } else if (e->now_ns >= k->resend_ns) {
        if (k->phase == SCHED_QUOTA_WAIT) {
            start(k, e);
        } else {
            k->resend_ns = e->now_ns + SCHED_MS(RESEND_MS);
            to_others(k, e);
        }
    }
}

uint64_t sched_quota_keep_due_ns(const struct sched_quota_keep *k)
{
    bool resting = k->phase == SCHED_QUOTA_IDLE && !k->lost;
    return resting ? k->clean_ns : k->resend_ns;
}
