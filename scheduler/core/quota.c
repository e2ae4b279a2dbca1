#include "scheduler/core/quota.h"

#include "scheduler/core/mutant.h"

enum {
    OP_MS = 1000, /* a proposal that takes longer is given up */
    RESEND_MS = 100,
    BACKOFF_MS = 30,
    CLEAN_MS = 1500, /* the voters look in turn for permits of the dead */
};

/* ---- the table ---- */

static bool copy(
    struct sched_quota_table *to, uint64_t version, uint32_t n, const struct sched_quota_entry *e)
{
    if (n > to->cap) {
        return false;
    }
    to->version = version;
    if (n > 0) {
        memcpy(to->e, e, n * sizeof *e);
    }
    to->n = n;
    return true;
}

/* Node 0 holds the maximum. */
static bool dead(const struct sched_quota_env *e, struct sched_host h)
{
    return h.node != 0 && h.inc <= sched_view_maxinc(e->known, h.node) &&
           !sched_view_has(e->known, h);
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

static bool less(const struct sched_quota_entry *e, uint32_t pool, struct sched_host h)
{
    if (e->pool != pool) {
        return e->pool < pool;
    }
    return e->host.node != h.node ? e->host.node < h.node : e->host.inc < h.inc;
}

/* The entry of the host, made when there is room; NULL when not. */
static struct sched_quota_entry *entry(
    struct sched_quota_table *t, uint32_t pool, struct sched_host h, bool make)
{
    uint32_t lo = 0, hi = t->n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (less(&t->e[mid], pool, h)) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    if (lo < t->n && t->e[lo].pool == pool && sched_host_eq(t->e[lo].host, h)) {
        return &t->e[lo];
    }
    if (!make || t->n == t->cap) {
        return NULL;
    }
    memmove(&t->e[lo + 1], &t->e[lo], (t->n - lo) * sizeof *t->e);
    t->n++;
    t->e[lo] = (struct sched_quota_entry){.pool = pool, .host = h};
    return &t->e[lo];
}

static const struct sched_host nobody = {0, 0};

static void drop_empty(struct sched_quota_table *t)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->n; i++) {
        struct sched_quota_entry x = t->e[i];
        if (x.permits > 0 || entry(t, x.pool, nobody, false) != NULL) {
            t->e[n++] = x;
        }
    }
    t->n = n;
}

/* The maxima of a catalogue that is not older than the one of the table. What is left of pools that
 * are gone goes with them, when nobody holds any. */
static void set_maxima(struct sched_quota_keep *k, const struct sched_quota_env *e)
{
    struct sched_quota_table *t = &k->val;
    uint32_t n = 0;
    t->version = e->version;
    for (uint32_t i = 0; i < t->n; i++) {
        if (t->e[i].host.node != 0) {
            t->e[n++] = t->e[i];
        }
    }
    t->n = n;
    for (uint32_t i = 0; i < e->n_pools; i++) {
        bool its = !e->cfg->catalog || e->pools[i].pool % SCHED_QUOTA_REGS == k->reg;
        struct sched_quota_entry *x = its ? entry(t, e->pools[i].pool, nobody, true) : NULL;
        if (x != NULL) {
            x->permits = e->pools[i].max;
        }
    }
    drop_empty(t);
}

/* Permits of a pool that are out. */
static uint64_t out(const struct sched_quota_table *t, uint32_t pool)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < t->n; i++) {
        sum += t->e[i].pool == pool && t->e[i].host.node != 0 ? t->e[i].permits : 0;
    }
    return sum;
}

/* Who holds nothing can be forgotten: what he asked for long ago may then be counted once more, and
 * is idle until he asks again. */
static void make_room(struct sched_quota_table *t)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->n; i++) {
        if (t->e[i].permits > 0 || t->e[i].host.node == 0) {
            t->e[n++] = t->e[i];
        }
    }
    t->n = n;
}

static void count_want(
    struct sched_quota_keep *k, const struct sched_quota_env *e, struct sched_quota_want *w)
{
    struct sched_quota_entry *x = dead(e, w->host) ? NULL : entry(&k->val, w->pool, w->host, true);
    if (x == NULL || w->seq <= x->seq) {
        return;
    }
    const struct sched_quota_entry *top = entry(&k->val, w->pool, nobody, false);
    uint64_t max = top != NULL ? top->permits : 0, sum = MUTANT(43) ? 0 : out(&k->val, w->pool);
    uint64_t most = x->permits + (sum < max ? max - sum : 0);
    x->seq = w->seq;
    x->permits = w->permits < most ? w->permits : (uint32_t)most;
}

/* What the register holds after all that was asked for; k->val is what it held before. */
static void form_value(struct sched_quota_keep *k, const struct sched_quota_env *e)
{
    drop_dead(&k->val, e);
    if (k->val.n + k->n_wants + e->n_pools >= k->val.cap) {
        make_room(&k->val);
    }
    if (e->version >= k->val.version || MUTANT(85)) {
        set_maxima(k, e);
    }
    for (uint32_t i = 0; i < k->n_wants; i++) {
        k->wants[i].in_op = true;
        count_want(k, e, &k->wants[i]);
    }
}

/* ---- acceptor ---- */

static void store(const struct sched_quota_keep *k, const struct sched_quota_env *e)
{
    struct sched_row *r = sched_fx_store(e->fx, SCHED_ROW_QUOTA);
    r->first = k->reg;
    r->promised = k->promised;
    r->accepted = k->accepted;
    r->version = k->acc.version;
    r->n = k->acc.n;
    r->entries = k->acc.e;
}

static bool accept(struct sched_quota_keep *k, const struct sched_quota_env *e, uint64_t ballot,
    const struct sched_quota_table *t)
{
    if ((ballot < k->promised && !MUTANT(46)) || !copy(&k->acc, t->version, t->n, t->e)) {
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
    m->reg = k->reg;
    return m;
}

static void on_request(
    struct sched_quota_keep *k, const struct sched_quota_env *e, const struct sched_msg *msg)
{
    const struct sched_m_qreg *m = &msg->qreg;
    if (k->lost) {
        return;
    }
    const struct sched_quota_table t = {
        m->version, m->n, m->n, (struct sched_quota_entry *)m->entries};
    if (msg->type == SCHED_MSG_QPREP && m->ballot >= k->promised) {
        k->promised = m->ballot; /* equal: the same request, repeated */
        store(k, e);
        struct sched_m_qreg *out = send(k, e, SCHED_MSG_QPROM, msg->from);
        *out = (struct sched_m_qreg){
            k->reg, m->ballot, k->promised, k->accepted, k->acc.version, k->acc.n, k->acc.e};
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
        m->version = k->val.version;
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
        const struct sched_quota_entry *x = entry(&k->val, w->pool, w->host, false);
        if (!w->in_op) {
            k->wants[left++] = *w;
        } else if (x != NULL || !dead(e, w->host)) { /* no room in the table: none */
            sched_fx_send(e->fx, SCHED_MSG_QHAVE, w->host.node)->quota =
                (struct sched_m_quota){.pool = w->pool,
                    .inc = w->host.inc,
                    .permits = x != NULL ? x->permits : 0,
                    .seq = x != NULL ? x->seq : w->seq};
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
    (void)copy(&k->val, k->acc.version, k->acc.n, k->acc.e);
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
        if (m->accepted > k->best && copy(&k->val, m->version, m->n, m->entries)) {
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
    if (m->quota.version > e->version) {
        return; /* the host asks who knows of the pool */
    }
    while (i < k->n_wants &&
           !(k->wants[i].pool == m->quota.pool && sched_host_eq(k->wants[i].host, h))) {
        i++;
    }
    if (k->lost || i == SCHED_QUOTA_WANTS_MAX ||
        (i < k->n_wants && m->quota.seq <= k->wants[i].seq)) {
        return; /* the host asks again */
    }
    k->wants[i] =
        (struct sched_quota_want){m->quota.pool, h, m->quota.permits, m->quota.seq, false};
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
    if (m->accepted > k->accepted && copy(&k->acc, m->version, m->n, m->entries)) {
        k->accepted = m->accepted;
    }
    if (sched_votes(k->told) > e->cfg->n_voters / 2) {
        k->lost = false;
        store(k, e);
    }
}

/* ---- all of it ---- */

/* Every member may hold permits of two of the register's pools; then those who hold none make room.
 */
static uint32_t capacity(const struct sched_cfg *cfg)
{
    return cfg->catalog ? cfg->members_max * 2 + SCHED_CAT_POOLS_MAX * 4 : cfg->members_max + 1;
}

void sched_quota_keep_init(
    struct sched_quota_keep *k, const struct sched_cfg *cfg, uint32_t reg, struct sched_mem *mem)
{
    memset(k, 0, sizeof *k);
    k->reg = reg;
    k->acc.cap = k->val.cap = capacity(cfg);
    k->acc.e = sched_mem_take(mem, k->acc.cap, sizeof *k->acc.e);
    k->val.e = sched_mem_take(mem, k->val.cap, sizeof *k->val.e);
}

void sched_quota_keep_restore(struct sched_quota_keep *k, const struct sched_row *row)
{
    if (copy(&k->acc, row->version, row->n, row->entries)) {
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
            k->reg, m->qreg.ballot, k->promised, k->accepted, k->acc.version, k->acc.n, k->acc.e};
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
