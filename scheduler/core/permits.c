#include "scheduler/core/permits.h"

#include "scheduler/core/mutant.h"

enum {
    ASK_MS = 300,     /* a host that gets no answer asks the next voter */
    PAUSE_MS = 100,   /* between two requests of a host */
    SOON_MS = 20,     /* with a catalogue, where few permits are kept ahead */
    IDLE_MS = 1000,   /* idle permits are given back after this time */
    DENIED_MS = 1000, /* nobody waits for what was refused */
    OVER_MS = 5000,   /* permits for what is in use already, and was refused, are asked for again */
    KEEP_MS = 60000,  /* what is kept ahead is given back when there is no session for so long */
};

void sched_permits_init(struct sched_permits *p, const struct sched_cfg *cfg)
{
    *p = (struct sched_permits){.single = !cfg->catalog,
        .heard = !cfg->catalog,
        .limited = !cfg->catalog && cfg->quota.max > 0};
    if (p->single) {
        p->n = 1;
        p->q[0].max = cfg->quota.max;
    }
}

void sched_permits_clear(struct sched_permits *p)
{
    for (uint32_t i = 0; i < p->n; i++) {
        p->q[i] = (struct sched_quota){.pool = p->q[i].pool, .max = p->q[i].max};
    }
}

static struct sched_quota *find(const struct sched_permits *p, uint32_t pool)
{
    for (uint32_t i = 0; i < p->n; i++) {
        if (p->single || p->q[i].pool == pool) {
            return (struct sched_quota *)&p->q[i];
        }
    }
    return NULL;
}

/* The pool's entry, made when there is room; NULL when not. */
static struct sched_quota *need(struct sched_permits *p, uint32_t pool)
{
    struct sched_quota *q = find(p, pool);
    if (q == NULL && p->n < SCHED_PERMITS_MAX) {
        q = &p->q[p->n++];
        *q = (struct sched_quota){.pool = pool};
    }
    return q;
}

static void drop_unneeded(struct sched_permits *p)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        const struct sched_quota *q = &p->q[i];
        if (q->max > 0 || q->used > 0 || q->limit > 0 || q->waiting) {
            p->q[n++] = *q;
        }
    }
    p->n = n;
}

void sched_permits_pools(struct sched_permits *p, uint64_t version, bool limited,
    const struct sched_pool_max *pools, uint32_t n)
{
    for (uint32_t i = 0; i < p->n; i++) {
        p->q[i].max = p->q[i].missed = 0;
    }
    drop_unneeded(p);
    for (uint32_t i = 0; i < n; i++) {
        struct sched_quota *q = need(p, pools[i].pool);
        if (q != NULL) {
            q->max = pools[i].max;
            q->denied_ns = 0; /* there may be more now */
        }
    }
    p->heard = true;
    p->version = version;
    p->limited = limited;
}

/* Who does not speak of catalogues yet has none. */
static bool unlimited(const struct sched_permits *p, const struct sched_env *e)
{
    bool none = sched_view_version(e->view) < SCHED_VERSION_CATALOG || MUTANT(70);
    return p->heard ? !p->limited : none;
}

bool sched_permits_room(struct sched_permits *p, const struct sched_env *e, struct sched_key key)
{
    struct sched_quota *q = find(p, sched_key_pool(key));
    if (unlimited(p, e) || (q != NULL && p->heard && q->used < q->limit)) {
        return true;
    }
    if (q != NULL && q->max > 0) {
        q->missed++;
    }
    return false;
}

/* More is in use than is held, after a restart, and that much was refused: not asked for soon. */
static bool refused(const struct sched_quota *q, const struct sched_env *e)
{
    return e->cfg->catalog && q->used > q->limit && q->denied_ns != 0 &&
           e->now_ns < q->denied_ns + SCHED_MS(OVER_MS);
}

bool sched_permits_hope(
    const struct sched_permits *p, const struct sched_env *e, struct sched_key key)
{
    const struct sched_quota *q = find(p, sched_key_pool(key));
    if (!p->heard) {
        return !unlimited(p, e);
    }
    return !p->single && p->limited && q != NULL && q->max > 0 && q->used >= q->limit &&
           e->now_ns >= q->denied_ns && !refused(q, e);
}

bool sched_permits_take(struct sched_permits *p, struct sched_key key)
{
    struct sched_quota *q = need(p, sched_key_pool(key));
    if (q != NULL) {
        q->used++;
    }
    return q != NULL;
}

void sched_permits_give(struct sched_permits *p, struct sched_key key)
{
    struct sched_quota *q = find(p, sched_key_pool(key));
    if (q != NULL && q->used > 0) {
        q->used--;
    }
}

static void ask(const struct sched_permits *p, struct sched_quota *q, struct sched_env *e)
{
    q->due_ns = e->now_ns + SCHED_MS(ASK_MS);
    sched_fx_send(e->fx, SCHED_MSG_QWANT, e->cfg->voters[q->voter % e->cfg->n_voters])->quota =
        (struct sched_m_quota){.pool = q->pool,
            .inc = e->me.inc,
            .permits = q->want,
            .seq = q->seq,
            .version = p->version};
}

static void want(
    const struct sched_permits *p, struct sched_quota *q, struct sched_env *e, uint32_t permits)
{
    q->want = permits;
    q->seq = ++e->serial;
    q->waiting = true;
    q->idle_ns = 0;
    if (q->want < q->limit && !MUTANT(45)) {
        q->limit = q->want; /* given back from now on */
    }
    ask(p, q, e);
}

/* Permits beyond those in use that a host keeps: the more the less they can be scarce. */
static uint32_t spare(
    const struct sched_permits *p, const struct sched_quota *q, const struct sched_env *e)
{
    if (e->cfg->catalog) {
        uint32_t members = sched_view_members(e->view);
        return p->room ? q->max / 4 / (members > 0 ? members : 1) : 0;
    }
    return q->used / 4 > e->cfg->quota.chunk ? q->used / 4 : e->cfg->quota.chunk;
}

/* How many should be held; UINT32_MAX: as many as are. */
static uint32_t aim(const struct sched_permits *p, struct sched_quota *q, const struct sched_env *e)
{
    bool ahead = e->cfg->catalog; /* asks before the last one is used */
    uint32_t more = spare(p, q, e);
    if (refused(q, e)) {
        q->missed = 0;
        return UINT32_MAX;
    }
    if (q->used > q->limit) { /* after a restart: hold what is in use */
        return q->used;
    }
    if (q->missed > 0) {
        uint32_t least = ahead ? q->missed : 0;
        q->missed = 0;
        return q->used + (more > least ? more : least);
    }
    bool in_use = ahead && (q->used > 0 || q->limit > 0); /* not for pools that are not asked for */
    if (in_use && e->now_ns >= q->denied_ns && q->limit - q->used < (more + 1) / 2) {
        return q->used + more;
    }
    bool idle = q->limit > 0 && (q->used + more < q->limit || q->used == 0);
    if (!idle) {
        q->idle_ns = 0;
    } else if (q->idle_ns == 0) {
        q->idle_ns = e->now_ns;
    } else if (e->now_ns - q->idle_ns > SCHED_MS(KEEP_MS) && q->used == 0) {
        return 0;
    } else if (e->now_ns - q->idle_ns > SCHED_MS(IDLE_MS) &&
               (!ahead || q->used + more < q->limit)) {
        return q->used == 0 && !ahead ? 0 : q->used + more;
    }
    return UINT32_MAX;
}

static void tick(const struct sched_permits *p, struct sched_quota *q, struct sched_env *e)
{
    if (e->now_ns < q->due_ns) {
        return;
    }
    if (!sched_env_member(e)) {
        q->due_ns = e->now_ns + SCHED_MS(ASK_MS);
        q->missed = 0;
        return;
    }
    if (q->waiting) {
        q->voter++;
        ask(p, q, e);
        return;
    }
    uint32_t permits = aim(p, q, e);
    if (permits != UINT32_MAX) {
        want(p, q, e, permits);
    }
}

void sched_permits_tick(struct sched_permits *p, struct sched_env *e, bool room)
{
    p->room = room;
    for (uint32_t i = 0; p->limited && i < p->n; i++) {
        tick(p, &p->q[i], e);
    }
}

bool sched_permits_have(
    struct sched_permits *p, const struct sched_env *e, const struct sched_msg *msg)
{
    const struct sched_m_quota *m = &msg->quota;
    struct sched_quota *q = find(p, m->pool);
    if (q == NULL || !q->waiting || m->inc != e->me.inc || m->seq != q->seq) {
        return false;
    }
    q->waiting = false;
    q->limit = m->permits;
    q->missed = p->single ? q->missed : 0; /* who waits looks again */
    q->denied_ns = m->permits < q->want ? e->now_ns + SCHED_MS(DENIED_MS) : 0;
    q->due_ns = e->now_ns + SCHED_MS(e->cfg->catalog ? SOON_MS : PAUSE_MS);
    return true;
}

uint64_t sched_permits_due_ns(const struct sched_permits *p)
{
    uint64_t at = UINT64_MAX;
    for (uint32_t i = 0; p->limited && i < p->n; i++) {
        const struct sched_quota *q = &p->q[i];
        at = (q->waiting || q->missed > 0) && q->due_ns < at ? q->due_ns : at;
    }
    return at;
}
