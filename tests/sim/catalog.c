#include <stdlib.h>

#include "proto/base/assert.h"
#include "tests/sim/bus.h"
#include "tests/sim/catalog.h"
#include "tests/sim/change.h"
#include "tests/sim/check.h"
#include "tests/sim/store.h"

/* The catalogue, with the option `pools`: keys are of that many pools, whose maxima an
 * administrator changes while faults happen; hosts ask voters for what is new, as the shells do
 * (scheduler/io/catalog_client.c). What is checked of it and of the pools' permits is here, too. */

enum {
    ADMIN, /* event: a change */
    ASK,   /* event: a host asks */
    ASK_MS = 700,
    CHANGE_MS = 1500,
    LINGER_S = 30, /* a document that was replaced may still be gone by, where nobody told of it */
};

struct sim_doc {
    uint64_t hash; /* 0: nobody is known to know it */
    uint64_t seen_ns;
    uint32_t max[SIM_POOLS_MAX];
};

static uint32_t pool_number(uint32_t i)
{
    return i + 1;
}

void sim_catalog_key(const struct sim *s, struct sched_key *k, uint32_t i)
{
    uint32_t pools = s->opt.catalog > 0 ? SIM_USED : s->opt.pools;
    if (pools > 0) {
        k->lo = (k->lo & ~(uint64_t)SCHED_KEY_POOL_MASK) | pool_number(i % pools);
    }
}

static void event(struct sim *s, uint32_t node, uint32_t what, uint64_t mean_ms)
{
    struct sim_event ev = {.kind = SIM_E_CATALOG, .node = node, .arg = what};
    sim_event(s, &ev, s->now_ns + SIM_MS + sim_rand(s, 2 * mean_ms * SIM_MS));
}

void sim_catalog_start(struct sim *s)
{
    sim_cat_init(s);
    if (s->opt.pools == 0) {
        return;
    }
    s->docs = calloc(SIM_DOCS_MAX, sizeof *s->docs);
    REQUIRE(s->docs != NULL);
    event(s, 0, ADMIN, CHANGE_MS);
    for (uint32_t i = 0; i < s->n_nodes; i++) {
        if (s->nodes[i].kind == SIM_HOST) {
            event(s, i, ASK, ASK_MS);
        }
    }
}

static struct sched_cat_change entry(struct sim *s, uint32_t pool, char key[16])
{
    uint32_t few = s->opt.keys / s->opt.pools + 1;
    (void)snprintf(key, 16, "pool/%u", pool);
    return (struct sched_cat_change){.expect = SCHED_CAT_ANY,
        .entry = {.key = key,
            .key_n = (uint32_t)strlen(key),
            .pool = pool_number(pool),
            .max = 1 + (uint32_t)sim_rand(s, few),
            .value = (const uint8_t *)"{}",
            .value_n = 2}};
}

/* All voters have one catalogue from their birth: what was before there was any is not looked at.
 */
void sim_catalog_birth(struct sim *s, struct sim_node *voter)
{
    static uint8_t bytes[2][SCHED_CAT_BYTES_MAX];
    struct sched_row row = {.kind = SCHED_ROW_CATALOG, .promised = 1, .accepted = 1};
    char key[16];
    if (s->opt.pools == 0) {
        return;
    }
    for (uint32_t i = 0; voter == &s->nodes[0] && i < s->opt.pools; i++) {
        struct sched_cat_change c = entry(s, i, key);
        uint8_t *to = bytes[row.catalog.version & 1];
        REQUIRE(sched_cat_apply(&row.catalog, &c, to, &row.catalog.n) == SCHED_CAT_OK);
        row.catalog.bytes = to;
        row.catalog.version++;
    }
    const struct sched_row *first = sim_rows_catalog(s->nodes[0].rows);
    sim_rows_put(voter->rows, first != NULL ? first : &row);
}

/* ---- what happens ---- */

/* The messages are of a version that the cluster speaks. */
static bool spoken(const struct sim_node *n)
{
    const struct sched_view *v = n->kind == SIM_VOTER ? &n->voter->known : n->host->env.view;
    return n->up && !n->paused && v->num > 0 && sched_view_version(v) >= SCHED_VERSION_CATALOG;
}

/* At a voter, by its administrator; what becomes of it is seen in the documents. */
static void change(struct sim *s)
{
    struct sim_node *v = &s->nodes[sim_rand(s, s->opt.voters)];
    char key[16];
    struct sched_cat_change c = entry(s, (uint32_t)sim_rand(s, s->opt.pools), key);
    c.erase = sim_rand(s, 8) == 0;
    struct sched_msg m = {
        .type = SCHED_MSG_CSET, .to = v->id, .cset = {.op = ++s->changes, .change = c}};
    if (spoken(v)) {
        sim_send(s, v, &m);
    }
}

static void ask(struct sim *s, struct sim_node *n)
{
    struct sched_msg m = {.type = SCHED_MSG_CGET,
        .to = s->nodes[sim_rand(s, s->opt.voters)].id,
        .cget = {.version = n->pools.version}};
    if (spoken(n)) {
        sim_send(s, n, &m);
    }
}

void sim_catalog_event(struct sim *s, const struct sim_event *ev)
{
    if (ev->arg == ASK) {
        ask(s, &s->nodes[ev->node]);
        event(s, ev->node, ASK, ASK_MS);
    } else if (!s->calm) {
        change(s);
        event(s, 0, ADMIN, CHANGE_MS);
    }
}

static void tell(struct sim_node *n)
{
    const struct sim_pools *p = &n->pools;
    sched_node_pools(n->host, p->version, p->version > 0, p->p, p->n);
}

static void learn(struct sim_node *n, const struct sched_cat_doc *d)
{
    struct sim_pools *p = &n->pools;
    struct sched_cat_entry e;
    uint32_t at = 0;
    if (p->heard && d->version <= p->version) {
        return;
    }
    *p = (struct sim_pools){.heard = true, .version = d->version};
    while (p->n < SIM_POOLS_MAX && sched_cat_next(d, &at, &e)) {
        if (!sched_cat_own(&e)) {
            p->p[p->n++] = (struct sched_pool_max){e.pool, e.max};
        }
    }
    tell(n);
}

bool sim_catalog_take(struct sim *s, struct sim_node *n, const struct sched_msg *m)
{
    (void)s;
    if (m->type == SCHED_MSG_CDOC && n->kind == SIM_HOST) {
        learn(n, &m->cdoc);
    }
    return m->type == SCHED_MSG_CDOC || m->type == SCHED_MSG_CSETR;
}

/* A host has the last catalogue in a file, when the file is there. */
void sim_catalog_boot(struct sim *s, struct sim_node *n)
{
    if (s->opt.pools == 0) {
        return;
    }
    if (n->pools.heard && sim_rand(s, 3) != 0) {
        tell(n);
    } else {
        n->pools = (struct sim_pools){0};
    }
}

/* ---- what must hold ---- */

/* S20: a version is one document, whoever knows it. */
void sim_check_known(struct sim *s, const struct sim_node *n)
{
    const struct sched_catreg_doc *k = s->opt.pools > 0 ? &n->voter->catalog->known : NULL;
    if (k == NULL || k->version == 0) {
        return;
    }
    static const uint8_t key[16] = "documents";
    uint64_t h = base_hash_sip24(key, k->bytes, k->n) | 1;
    REQUIRE(k->version < SIM_DOCS_MAX);
    struct sim_doc *d = &s->docs[k->version];
    if (d->hash != 0 && d->hash != h) {
        sim_bad(s, "S20 V%u knows another catalogue of version %llu than others", n->index,
            (unsigned long long)k->version);
    }
    if (d->hash != 0) {
        return;
    }
    const struct sched_cat_doc doc = {k->version, k->n, k->bytes};
    struct sched_cat_entry e;
    uint32_t at = 0;
    *d = (struct sim_doc){.hash = h, .seen_ns = s->now_ns};
    while (sched_cat_next(&doc, &at, &e)) {
        if (!sched_cat_own(&e)) {
            d->max[e.pool - 1] = e.max;
        }
    }
    s->newest = k->version > s->newest ? (uint32_t)k->version : s->newest;
}

/* The largest maximum of the documents that somebody may still go by. */
static uint32_t top(const struct sim *s, uint32_t pool)
{
    uint32_t most = 0;
    uint64_t since = UINT64_MAX; /* when the next one came */
    for (uint32_t v = s->newest; v > 0; v--) {
        const struct sim_doc *d = &s->docs[v];
        if (since != UINT64_MAX && since + LINGER_S * SIM_S < s->now_ns) {
            break;
        }
        most = d->hash != 0 && d->max[pool] > most ? d->max[pool] : most;
        since = d->hash != 0 ? d->seen_ns : since;
    }
    return most;
}

static uint32_t held(const struct sim *s, const struct sim_node *n, uint32_t pool)
{
    const struct sched_permits *p = &n->host->sess.permits;
    uint32_t vms = 0, limit = 0;
    for (uint32_t i = 0; i < n->n_vms; i++) {
        vms += n->vms[i].state != SIM_VM_FREE && n->vms[i].key % s->opt.pools == pool;
    }
    for (uint32_t i = 0; n->up && i < p->n; i++) {
        limit = p->q[i].pool == pool_number(pool) ? p->q[i].limit : limit;
    }
    return vms > limit ? vms : limit;
}

/* S11 of each pool: nobody gets more while all have as many as the maximum. */
void sim_check_pools(struct sim *s, struct sim_node *n)
{
    for (uint32_t pool = 0; pool < s->opt.pools; pool++) {
        uint32_t now = held(s, n, pool), sum = 0;
        bool more = now > n->held[pool];
        n->held[pool] = now;
        const struct sched_view *v = more ? sim_chosen_view(s) : NULL;
        for (uint32_t i = s->opt.voters; v != NULL && i < s->opt.voters + s->opt.hosts; i++) {
            const struct sim_node *h = &s->nodes[i];
            sum += sched_view_has(v, h->host->env.me) ? held(s, h, pool) : 0;
        }
        if (sum > top(s, pool)) {
            sim_bad(s, "S11 %u permits of pool %u are out, of %u", sum, pool, top(s, pool));
        }
    }
}

/* L10: everybody has the newest document, and the dead hold nothing. */
void sim_check_catalog_end(struct sim *s, const struct sched_view *v)
{
    for (uint32_t i = 0; s->opt.pools > 0 && i < s->n_nodes; i++) {
        const struct sim_node *n = &s->nodes[i];
        uint64_t has = n->kind == SIM_VOTER  ? n->voter->catalog->known.version
                       : n->kind == SIM_HOST ? n->pools.version
                                             : s->newest;
        if (has != s->newest) {
            sim_bad(
                s, "L10 node %u has catalogue %llu, not %u", i, (unsigned long long)has, s->newest);
        }
    }
    for (uint32_t reg = 0; s->opt.pools > 0 && reg < SCHED_QUOTA_REGS; reg++) {
        sim_check_dead_permits(s, v, reg);
    }
}
