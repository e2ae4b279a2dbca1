#include "proto/base/assert.h"
#include "scheduler/core/mutant.h"
#include "scheduler/core/voter_int.h"

enum {
    HEAR_MS = 2000, /* a gateway tells a voter what it speaks, and then the next one */
    MEAN_MS = 100,
    PULL_MS = 200,
    CHANGE_REPEATS_MAX = 2, /* doublings of the patience while a change waits */
    AHEAD_MS = 2000,        /* the others know no more: look at what they have accepted */
};

static struct sched_voter_peer *find(const struct sched_voter *v, uint64_t node)
{
    uint32_t i = sched_map_get(&v->by_node, node, 0);
    return i == SCHED_MAP_NONE ? NULL : &v->peers[i];
}

struct sched_voter_peer *sched_voter_peer_add(struct sched_voter *v, uint64_t node)
{
    struct sched_voter_peer *p = find(v, node);
    if (p != NULL) {
        return p;
    }
    REQUIRE(v->peers != NULL);
    uint32_t i = v->n_peers;
    if (i == v->cfg->members_max) {
        for (i = 0; i < v->n_peers && (v->peers[i].inc != 0 || v->peers[i].join_inc != 0); i++) {
        }
        if (i == v->n_peers) {
            return NULL;
        }
        sched_map_del(&v->by_node, v->peers[i].node, 0);
    } else {
        v->n_peers++;
    }
    v->peers[i] = (struct sched_voter_peer){.node = node};
    (void)sched_map_put(&v->by_node, node, 0, i);
    return &v->peers[i];
}

bool sched_voter_holds(const struct sched_voter *v, struct sched_host h, uint64_t now_ns)
{
    const struct sched_voter_peer *p = find(v, h.node);
    return p != NULL && h.inc != 0 && p->inc == h.inc && !p->gone && now_ns < p->until_ns;
}

struct sched_speaks sched_voter_speaks(const struct sched_voter *v, uint64_t node)
{
    uint8_t now = sched_view_version(&v->known);
    struct sched_speaks s = node == v->id ? v->speaks : sched_speak_of(&v->speak, node, v->now_ns);
    return s.max != 0 ? s : (struct sched_speaks){now, now};
}

static void lower(uint8_t *version, uint8_t to)
{
    *version = to < *version ? to : *version;
}

uint8_t sched_voter_common(const struct sched_voter *v, const struct sched_view *val)
{
    uint8_t now = sched_view_version(&v->known), most = v->speaks.max;
    if (v->now_ns - v->awake_ns < SCHED_MS(HEAR_MS) * (v->cfg->n_voters + 1)) {
        return now; /* gateways tell one voter after another */
    }
    for (uint32_t i = 0; i < v->cfg->n_voters && !MUTANT(80); i++) {
        lower(&most, sched_voter_speaks(v, v->cfg->voters[i]).max);
    }
    for (uint32_t i = 0; i < val->n && !MUTANT(81); i++) {
        if ((val->m[i].flags & SCHED_MEMBER_IN) != 0) {
            lower(&most, sched_voter_speaks(v, val->m[i].node).max);
        }
    }
    for (uint32_t i = 0; i < v->speak.n && !MUTANT(81);
         i++) { /* gateways, and workers that are out */
        const struct sched_speak_entry *e = sched_speak_at(&v->speak, i, v->now_ns);
        if (e != NULL) {
            lower(&most, e->speaks.max != 0 ? e->speaks.max : now);
        }
    }
    return most > now ? most : now;
}

/* A worker that has told nothing is of a build that does not. */
struct sched_speaks sched_voter_spoken(const struct sched_voter *v, uint64_t node)
{
    struct sched_speaks s = sched_speak_of(&v->speak, node, v->now_ns);
    return s.max != 0 ? s : (struct sched_speaks){SCHED_VERSION_BASE, SCHED_VERSION_BASE};
}

static bool speaks_ours(const struct sched_voter *v, uint64_t node)
{
    return MUTANT(82) ||
           sched_speaks_has(sched_voter_spoken(v, node), sched_view_version(&v->known));
}

static bool wants_in(const struct sched_voter *v, const struct sched_voter_peer *p)
{
    return p->join_inc != 0 && (MUTANT(5) || p->join_inc > sched_view_maxinc(&v->known, p->node));
}

bool sched_voter_joining(const struct sched_voter *v, const struct sched_voter_peer *p)
{
    return wants_in(v, p) && speaks_ours(v, p->node);
}

bool sched_voter_refuses(const struct sched_voter *v, uint64_t node)
{
    const struct sched_voter_peer *p = find(v, node);
    return p != NULL && wants_in(v, p) && !speaks_ours(v, node);
}

bool sched_voter_reweigh(const struct sched_voter_peer *p, const struct sched_member *m)
{
    return p->seen_inc == m->inc && p->weight != m->weight;
}

static bool renewable(const struct sched_voter *v, struct sched_host h,
    const struct sched_voter_peer *p, const struct sched_m_lease *m)
{
    bool stuck = m->installed < v->known.num &&
                 v->now_ns - v->learned_ns > SCHED_MS(v->cfg->stuck_ms) && !MUTANT(7);
    return sched_view_has(&v->known, h) && p->inc == h.inc && !p->gone && !p->refused && !stuck &&
           (v->acc.num <= v->known.num || sched_view_has(&v->acc, h));
}

/* Up to SCHED_SPILL_SAMPLES_MAX members with room, from a random place on: every asker gets others,
 * so that they do not all run to the same one. */
static void sample(struct sched_voter *v, uint64_t asker, struct sched_m_grant *g)
{
    struct sched_load *out = sched_fx_bytes(v->fx, SCHED_SPILL_SAMPLES_MAX * (uint32_t)sizeof *out);
    if (out == NULL || v->n_peers == 0) {
        return;
    }
    uint32_t at = (uint32_t)base_hash_rng_below(&v->rng, v->n_peers), step = v->n_peers;
    for (uint32_t tries = 0; tries < 4 * SCHED_SPILL_SAMPLES_MAX && step > 0; tries++, step--) {
        const struct sched_voter_peer *p = &v->peers[(at + tries) % v->n_peers];
        if (p->inc != 0 && p->ready > 0 && p->weight > 0 && p->node != asker &&
            g->n_samples < SCHED_SPILL_SAMPLES_MAX) {
            out[g->n_samples++] = (struct sched_load){p->node, p->active, p->ready};
        }
    }
    g->samples = out;
}

/* Counted now and then, not for every one of thousands of requests. */
static uint32_t mean_active(struct sched_voter *v)
{
    if (v->mean_ns != 0 && v->now_ns - v->mean_ns < SCHED_MS(MEAN_MS)) {
        return v->mean;
    }
    uint64_t sum = 0, n = 0;
    for (uint32_t i = 0; i < v->n_peers; i++) {
        sum += v->peers[i].inc != 0 ? v->peers[i].active : 0;
        n += v->peers[i].inc != 0;
    }
    v->mean_ns = v->now_ns;
    v->mean = n == 0 ? 0 : (uint32_t)((sum + n - 1) / n);
    return v->mean;
}

static void note(struct sched_voter *v, struct sched_voter_peer *p, const struct sched_m_lease *m)
{
    p->seen_inc = m->inc;
    p->installed = m->installed;
    memcpy(p->unsettled, m->unsettled, sizeof p->unsettled);
    p->zone = m->zone;
    p->weight = m->draining != 0 ? 0 : m->weight;
    p->active = m->active;
    p->ready = m->ready;
    if (m->inc > sched_view_maxinc(&v->known, p->node) || MUTANT(5)) {
        p->join_inc = m->inc;
        p->join_ns = v->now_ns;
    }
}

/* A worker has installed a view that is not known here, or says so. It is not believed: the voters
 * know, or have accepted, whatever was chosen. */
static void fall_behind(struct sched_voter *v)
{
    v->ahead_ns = v->ahead_ns == 0 ? v->now_ns : v->ahead_ns;
    if (v->now_ns >= v->pull_ns) {
        v->pull_ns = v->now_ns + SCHED_MS(PULL_MS);
        sched_voter_to_others(v, SCHED_MSG_VPULL, v->known.num);
    }
}

void sched_voter_lease(struct sched_voter *v, const struct sched_msg *msg)
{
    const struct sched_m_lease *m = &msg->lease;
    struct sched_voter_peer *p =
        v->amnesia || m->inc == 0 ? NULL : sched_voter_peer_add(v, msg->from);
    if (p == NULL) {
        return;
    }
    /* Who leaves has to be told that it is out: the version waits for it, too. */
    sched_speak_hear(&v->speak, msg->from, (struct sched_speaks){0}, v->now_ns);
    struct sched_host h = {msg->from, m->inc};
    /* Reports can overtake each other; a lower one is old news. */
    if (m->inc > p->seen_inc || (m->inc == p->seen_inc && m->installed >= p->installed)) {
        note(v, p, m);
    }
    bool grant = renewable(v, h, p, m);
    if (grant) {
        p->until_ns = v->now_ns + sched_cfg_guard_ns(v->cfg);
    }
    if (m->installed < v->known.num) {
        sched_fx_send(v->fx, SCHED_MSG_VIEW, msg->from)->view.view = &v->known;
    } else if (m->installed > v->known.num) {
        fall_behind(v);
    }
    struct sched_m_grant *g =
        &sched_fx_send(v->fx, grant ? SCHED_MSG_GRANT : SCHED_MSG_NOGRANT, msg->from)->grant;
    g->inc = m->inc;
    g->seq = m->seq;
    g->maxinc = sched_view_maxinc(&v->known, msg->from);
    if (grant) {
        g->mean = mean_active(v);
        sample(v, msg->from, g);
    }
}

void sched_voter_relinquish(struct sched_voter *v, const struct sched_msg *m)
{
    struct sched_voter_peer *p = find(v, m->from);
    if (p != NULL && p->inc == m->grant.inc) {
        p->gone = true;
    }
}

bool sched_voter_gave_back(const struct sched_voter *v, const struct sched_member *m)
{
    const struct sched_voter_peer *p = find(v, m->node);
    return p != NULL && p->inc == m->inc && p->gone;
}

bool sched_voter_settled(
    const struct sched_voter *v, const struct sched_member *m, const uint64_t *rec)
{
    const struct sched_voter_peer *p = find(v, m->node);
    if (p == NULL || p->seen_inc != m->inc || p->installed < v->known.num) {
        return false;
    }
    uint64_t open = 0;
    for (uint32_t i = 0; i < SCHED_BUCKET_WORDS; i++) {
        open |= p->unsettled[i] & ~rec[i];
    }
    return open == 0 || p->installed > v->known.num;
}

/* ---- what the next view should be ---- */

struct review {
    bool change; /* somebody lapsed, joins or wants another weight */
    bool lapsed;
    bool behind; /* a surviving member has not installed the known view */
    uint64_t unsettled[SCHED_BUCKET_WORDS];
};

static void look_at_member(
    const struct sched_voter *v, const struct sched_member *m, struct review *r)
{
    struct sched_host h = {m->node, m->inc};
    if (!sched_voter_holds(v, h, v->now_ns)) {
        r->change = r->lapsed = true;
        return;
    }
    const struct sched_voter_peer *p = find(v, m->node);
    r->change = r->change || sched_voter_reweigh(p, m);
    if (p->seen_inc != m->inc || p->installed < v->known.num) {
        r->behind = true;
        return;
    }
    for (uint32_t i = 0; i < SCHED_BUCKET_WORDS; i++) {
        r->unsettled[i] |= p->installed == v->known.num ? p->unsettled[i] : 0;
    }
}

/* Is it time for the next view although this one has not settled? One that loses nobody and lists
 * no bucket more would only start the rebuilding anew, and where that takes long, because there are
 * many members or they are slow, it would never end: such a view gets twice the time of the last,
 * within bounds while somebody waits to be let in. */
static bool stuck(const struct sched_voter *v, const struct review *r)
{
    bool again = !r->lapsed && sched_bucket_within(r->unsettled, v->known.rec);
    uint32_t most = r->change ? CHANGE_REPEATS_MAX : SCHED_VOTER_REPEATS_MAX;
    uint32_t doublings = again && !MUTANT(63) ? v->repeats : 0;
    uint64_t patience_ns = SCHED_MS(v->cfg->stuck_ms) << (doublings < most ? doublings : most);
    return v->unsettled_ns != 0 && v->now_ns - v->unsettled_ns > patience_ns;
}

void sched_voter_review(struct sched_voter *v, uint64_t join_ns)
{
    struct review r = {0};
    for (uint32_t i = 0; i < v->n_peers; i++) {
        struct sched_voter_peer *p = &v->peers[i];
        if (p->join_inc != 0 && v->now_ns - p->join_ns > join_ns) {
            p->join_inc = 0;
        }
        const struct sched_member *m = sched_view_find(&v->known, p->node);
        bool in = m != NULL && (m->flags & SCHED_MEMBER_IN) != 0;
        r.change = r.change || (!in && sched_voter_joining(v, p));
    }
    for (uint32_t i = 0; i < v->known.n; i++) {
        if ((v->known.m[i].flags & SCHED_MEMBER_IN) != 0) {
            look_at_member(v, &v->known.m[i], &r);
        }
    }
    r.change = r.change || sched_voter_common(v, &v->known) > sched_view_version(&v->known);
    bool unsettled = sched_bucket_any(r.unsettled);
    if (!unsettled) {
        v->unsettled_ns = 0;
    } else if (v->unsettled_ns == 0) {
        v->unsettled_ns = v->now_ns;
    }
    bool rebuild = unsettled && stuck(v, &r);
    bool missed = v->ahead_ns != 0 && v->now_ns - v->ahead_ns > SCHED_MS(AHEAD_MS);
    if ((r.behind || (unsettled && !rebuild)) && !missed && !MUTANT(6)) {
        return; /* R6: hand-over first; what changes meanwhile comes in one view after it */
    }
    if (r.change || rebuild || missed) {
        v->ahead_ns = 0; /* a report that is a lie costs a proposal now and then */
        sched_voter_propose(v, rebuild ? r.unsettled : (uint64_t[SCHED_BUCKET_WORDS]){0});
    }
}
