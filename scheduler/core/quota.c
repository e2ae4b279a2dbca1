#include "scheduler/core/quota.h"

#include "scheduler/core/mutant.h"

enum {
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
        bool its = !e->voter.cfg->catalog || e->pools[i].pool % SCHED_QUOTA_REGS == k->reg;
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

/* ---- the register ---- */

/* What the functions of the frame are given. */
struct step {
    struct sched_quota_keep *k;
    const struct sched_quota_env *e;
};

/* What the register holds after all that was asked for; k->val is what it held before. */
static void form(void *own)
{
    const struct step *s = own;
    struct sched_quota_keep *k = s->k;
    const struct sched_quota_env *e = s->e;
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

static void chosen(void *own)
{
    const struct step *s = own;
    struct sched_quota_keep *k = s->k;
    uint32_t left = 0;
    for (uint32_t i = 0; i < k->n_wants; i++) {
        struct sched_quota_want *w = &k->wants[i];
        const struct sched_quota_entry *x = entry(&k->val, w->pool, w->host, false);
        if (!w->in_op) {
            k->wants[left++] = *w;
        } else if (x != NULL || !dead(s->e, w->host)) { /* no room in the table: none */
            sched_fx_send(s->e->voter.fx, SCHED_MSG_QHAVE, w->host.node)->quota =
                (struct sched_m_quota){.pool = w->pool,
                    .inc = w->host.inc,
                    .permits = x != NULL ? x->permits : 0,
                    .seq = x != NULL ? x->seq : w->seq};
        }
    }
    k->n_wants = left;
}

static void store(void *own)
{
    const struct step *s = own;
    const struct sched_quota_keep *k = s->k;
    struct sched_row *r = sched_fx_store(s->e->voter.fx, SCHED_ROW_QUOTA);
    r->first = k->reg;
    r->promised = k->vote.promised;
    r->accepted = k->vote.accepted;
    r->version = k->acc.version;
    r->n = k->acc.n;
    r->entries = k->acc.e;
}

static void send(
    void *own, enum sched_creg_word word, uint64_t to, const struct sched_creg_say *say)
{
    const struct step *s = own;
    const struct sched_quota_table *t = word == SCHED_CREG_PROM || word == SCHED_CREG_TELL
                                            ? &s->k->acc
                                        : word == SCHED_CREG_ACC ? &s->k->val
                                                                 : NULL;
    struct sched_m_qreg *m = &sched_fx_send(s->e->voter.fx, say->type, to)->qreg;
    *m = (struct sched_m_qreg){.reg = s->k->reg,
        .ballot = say->ballot,
        .promised = say->promised,
        .accepted = say->accepted};
    if (t != NULL) {
        m->version = t->version;
        m->n = t->n;
        m->entries = t->e;
    }
}

static bool set(
    struct sched_quota_table *to, const struct sched_quota_table *other, const struct sched_msg *m)
{
    return m == NULL ? copy(to, other->version, other->n, other->e)
                     : copy(to, m->qreg.version, m->qreg.n, m->qreg.entries);
}

static bool take(void *own, const struct sched_msg *m)
{
    const struct step *s = own;
    return set(&s->k->acc, &s->k->val, m);
}

static bool read(void *own, const struct sched_msg *m)
{
    const struct step *s = own;
    return set(&s->k->val, &s->k->acc, m);
}

static bool wants(void *own, bool failed)
{
    const struct step *s = own;
    (void)failed;
    return s->k->n_wants > 0;
}

static void gave_up(void *own)
{
    const struct step *s = own;
    s->k->n_wants = 0; /* the hosts ask somebody else */
}

static void nothing(void *own)
{
    (void)own;
}

static const struct sched_creg_ops ops = {.resend_ms = RESEND_MS,
    .backoff_ms = BACKOFF_MS,
    .types = {[SCHED_CREG_PREP] = SCHED_MSG_QPREP,
        [SCHED_CREG_PROM] = SCHED_MSG_QPROM,
        [SCHED_CREG_ACC] = SCHED_MSG_QACC,
        [SCHED_CREG_ACCED] = SCHED_MSG_QACCED,
        [SCHED_CREG_NACK] = SCHED_MSG_QNACK,
        [SCHED_CREG_ASK] = SCHED_MSG_QASK,
        [SCHED_CREG_TELL] = SCHED_MSG_QTELL},
    .send = send,
    .store = store,
    .take = take,
    .accepted = nothing,
    .read = read,
    .form = form,
    .chosen = chosen,
    .wants = wants,
    .gave_up = gave_up,
    .found = nothing};

static void on_want(const struct step *s, const struct sched_creg_run *g, const struct sched_msg *m)
{
    struct sched_quota_keep *k = s->k;
    struct sched_host h = {m->from, m->quota.inc};
    uint32_t i = 0;
    if (m->quota.version > s->e->version) {
        return; /* the host asks who knows of the pool */
    }
    while (i < k->n_wants &&
           !(k->wants[i].pool == m->quota.pool && sched_host_eq(k->wants[i].host, h))) {
        i++;
    }
    if (k->vote.lost || i == SCHED_QUOTA_WANTS_MAX ||
        (i < k->n_wants && m->quota.seq <= k->wants[i].seq)) {
        return; /* the host asks again */
    }
    k->wants[i] =
        (struct sched_quota_want){m->quota.pool, h, m->quota.permits, m->quota.seq, false};
    k->n_wants += i == k->n_wants;
    if (k->vote.phase == SCHED_CREG_IDLE) {
        sched_creg_start(g);
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
        k->vote.promised = row->promised;
        k->vote.accepted = row->accepted;
    }
}

void sched_quota_keep_msg(
    struct sched_quota_keep *k, const struct sched_quota_env *e, const struct sched_msg *m)
{
    struct step s = {k, e};
    const struct sched_creg_run g = {&k->vote, &ops, &s, &e->voter};
    if (m->type == SCHED_MSG_QWANT) {
        on_want(&s, &g, m);
    } else {
        const struct sched_creg_say say = {.type = m->type,
            .ballot = m->qreg.ballot,
            .promised = m->qreg.promised,
            .accepted = m->qreg.accepted,
            .msg = m};
        sched_creg_msg(&g, &say);
    }
}

void sched_quota_keep_tick(struct sched_quota_keep *k, const struct sched_quota_env *e)
{
    struct step s = {k, e};
    const struct sched_creg_run g = {&k->vote, &ops, &s, &e->voter};
    if (!sched_creg_rests(&k->vote)) {
        sched_creg_tick(&g);
    } else if (e->voter.now_ns >= k->clean_ns) {
        k->clean_ns = e->voter.now_ns + SCHED_MS(CLEAN_MS) +
                      base_hash_rng_below(e->voter.rng, SCHED_MS(CLEAN_MS));
        if (any_dead(&k->acc, e)) {
            sched_creg_start(&g);
        }
    }
}

uint64_t sched_quota_keep_due_ns(const struct sched_quota_keep *k)
{
    return sched_creg_rests(&k->vote) ? k->clean_ns : k->vote.resend_ns;
}
