#include "tests/sim/change.h"

#include <stdlib.h>

#include "proto/base/assert.h"
#include "tests/sim/bus.h"
#include "tests/sim/check.h"

enum {
    TURN_MS = 700,      /* mean pause between two questions of a node */
    RESEND_MS = 1500,   /* without an answer: another voter */
    PATIENCE_MS = 6000, /* no answer at all */
    QUIET_MS = 5000,    /* option 2: before the faults end */
    KEYS = 4,
    PROPOSAL_MS = 900, /* as in check.c */
};

struct sim_cat_op {
    uint64_t expect, version; /* version: of an answer OK */
    uint64_t made;            /* the version that it is in; 0: none yet */
    uint64_t after;           /* what had been answered when it began */
    uint64_t start_ns;
    uint32_t key, max;
    bool erase, ok;
};

struct sim_cat {
    struct sched_cat_doc *docs; /* by version; no bytes: nobody knew it yet */
    uint64_t cap, newest, newest_ns;
    struct sim_cat_op *ops;
    uint32_t n_ops, cap_ops, n_ok, tail_asked, tail_told;
    struct {
        uint64_t ballot, version;
    } chosen[SCHED_QUOTA_REGS]; /* of the registers of permits, the last one */
    uint32_t enough;            /* permits for everybody */
    uint64_t told;              /* the highest version that was answered */
    uint64_t birth;             /* of the catalogue */
};

/* Those of pools have their place as the pool's number. */
static const char *const names[KEYS] = {"mcp-key/a", "pool/a", "pool/b", "tenants"};
enum { POOLS_END = SIM_USED + 1 };

void sim_cat_init(struct sim *s)
{
    if (s->opt.catalog == 0) {
        return;
    }
    s->opt.quota = 0; /* maxima are those of the catalogue */
    s->cat = calloc(1, sizeof *s->cat);
    REQUIRE(s->cat != NULL);
    s->cat->enough = s->opt.keys * 3 + s->opt.hosts * 3;
    for (uint32_t i = 0; i < s->n_nodes; i++) {
        s->nodes[i].copy = calloc(1, sizeof *s->nodes[i].copy);
        REQUIRE(s->nodes[i].copy != NULL);
    }
    for (uint32_t i = s->opt.voters; i < s->n_nodes; i++) {
        struct sim_event ev = {.kind = SIM_E_CHANGE, .node = i};
        sim_event(s, &ev, sim_rand(s, 2 * TURN_MS * SIM_MS));
    }
}

void sim_cat_free(struct sim *s)
{
    for (uint64_t v = 0; s->cat != NULL && v < s->cat->cap; v++) {
        free((void *)(uintptr_t)s->cat->docs[v].bytes);
    }
    for (uint32_t i = 0; i < s->n_nodes; i++) {
        free(s->nodes[i].copy);
    }
    if (s->cat != NULL) {
        free(s->cat->docs);
        free(s->cat->ops);
    }
    free(s->cat);
}

/* ---- S21 ---- */

static bool is_key(const struct sched_cat_entry *e, const char *name)
{
    return e->key_n == strlen(name) && memcmp(e->key, name, e->key_n) == 0;
}

static bool find(const struct sched_cat_doc *d, const char *name, struct sched_cat_entry *ret)
{
    uint32_t at = 0;
    while (sched_cat_next(d, &at, ret)) {
        if (is_key(ret, name)) {
            return true;
        }
    }
    return false;
}

/* A value is the number of the change that made it. */
static uint64_t op_of(const struct sched_cat_entry *e)
{
    uint64_t id = 0;
    REQUIRE(e->value_n == sizeof id);
    memcpy(&id, e->value, sizeof id);
    return id;
}

static bool erased(const struct sim_cat *c, uint32_t key, uint64_t since)
{
    for (uint32_t i = 0; i < c->n_ops; i++) {
        if (c->ops[i].erase && c->ops[i].key == key && c->ops[i].expect >= since) {
            return true;
        }
    }
    return false;
}

/* A change that was answered OK, in a document of its version or a later one. */
static void check_kept(struct sim *s, uint32_t id, const struct sched_cat_doc *d)
{
    const struct sim_cat *c = s->cat;
    const struct sim_cat_op *op = &c->ops[id];
    struct sched_cat_entry e;
    bool there = find(d, names[op->key], &e), bad;
    if (!op->ok || op->version == 0 || op->version > d->version) {
        return;
    }
    if (op->erase) {
        bad = there && e.version <= op->version;
    } else if (there) {
        bad = e.version < op->version || (e.version == op->version && op_of(&e) != id);
    } else {
        bad = d->version == op->version || !erased(c, op->key, op->version);
    }
    if (bad) {
        sim_bad(s, "S21 change %u of %s was OK as version %llu and is not in version %llu", id,
            names[op->key], (unsigned long long)op->version, (unsigned long long)d->version);
    }
}

/* The version that an entry had at most when the change was made. */
static uint64_t floor_of(const struct sim_cat_op *op)
{
    return op->expect == SCHED_CAT_ANY ? 0 : op->expect;
}

static void check_once(struct sim *s, const struct sched_cat_entry *e, uint64_t id)
{
    uint64_t *made = &s->cat->ops[id].made;
    if (*made != 0 && *made != e->version) {
        sim_bad(s, "S21 change %llu is version %llu and version %llu", (unsigned long long)id,
            (unsigned long long)*made, (unsigned long long)e->version);
    }
    *made = e->version;
}

static void check_birth(struct sim *s, const struct sched_cat_doc *d)
{
    uint64_t birth = sched_cat_birth(d);
    if (birth == 0 || (s->cat->birth != 0 && s->cat->birth != birth)) {
        sim_bad(s, "S21 version %llu is of another birth", (unsigned long long)d->version);
    }
    s->cat->birth = birth;
}

/* Everything in it was asked for; and what the latest one before it has, unless changed. */
static void check_doc(struct sim *s, const struct sched_cat_doc *d)
{
    const struct sim_cat *c = s->cat;
    struct sched_cat_entry e, x;
    uint64_t u = d->version - 1;
    uint32_t at = 0;
    while (u > 0 && c->docs[u].bytes == NULL) {
        u--;
    }
    if (!sched_cat_valid(d)) {
        sim_bad(s, "S21 version %llu is no document", (unsigned long long)d->version);
        return;
    }
    check_birth(s, d);
    while (sched_cat_next(d, &at, &e)) {
        if (sched_cat_own(&e)) {
            continue;
        }
        uint64_t id = op_of(&e);
        bool asked = id < c->n_ops && !c->ops[id].erase && is_key(&e, names[c->ops[id].key]) &&
                     floor_of(&c->ops[id]) < e.version;
        bool old = e.version <= u && !(find(&c->docs[u], names[c->ops[id].key], &x) &&
                                         x.version == e.version && op_of(&x) == id);
        if (!asked || old) {
            sim_bad(s, "S21 nobody asked for version %llu of %.*s", (unsigned long long)e.version,
                (int)e.key_n, e.key);
            return;
        }
        check_once(s, &e, id);
    }
    for (uint32_t i = 0; i < KEYS && u > 0; i++) {
        if (find(&c->docs[u], names[i], &x) && !find(d, names[i], &e) && !erased(c, i, x.version)) {
            sim_bad(s, "S21 version %llu has lost %s", (unsigned long long)d->version, names[i]);
        }
    }
}

static void reserve(struct sim_cat *c, uint64_t version)
{
    if (version < c->cap) {
        return;
    }
    uint64_t cap = 2 * version + 64;
    c->docs = realloc(c->docs, cap * sizeof *c->docs);
    REQUIRE(c->docs != NULL);
    memset(c->docs + c->cap, 0, (cap - c->cap) * sizeof *c->docs);
    c->cap = cap;
}

/* Somebody takes this one for chosen. */
static void known(struct sim *s, const struct sched_cat_doc *d)
{
    struct sim_cat *c = s->cat;
    if (d->version == 0) {
        return;
    }
    reserve(c, d->version);
    struct sched_cat_doc *mine = &c->docs[d->version];
    if (mine->bytes != NULL) {
        if (mine->n != d->n || memcmp(mine->bytes, d->bytes, d->n) != 0) {
            sim_bad(s, "S21 two catalogues have version %llu", (unsigned long long)d->version);
        }
        return;
    }
    uint8_t *bytes = malloc(d->n + 1);
    REQUIRE(bytes != NULL);
    memcpy(bytes, d->bytes, d->n);
    *mine = (struct sched_cat_doc){d->version, d->n, bytes};
    if (d->version > c->newest) {
        c->newest = d->version;
        c->newest_ns = s->now_ns;
    }
    check_doc(s, mine);
    for (uint32_t i = 0; i < c->n_ops; i++) {
        check_kept(s, i, mine);
    }
}

static void check_ok(struct sim *s, uint32_t id)
{
    const struct sim_cat *c = s->cat;
    const struct sim_cat_op *op = &c->ops[id];
    if (op->version != 0 && (op->version <= op->after || op->version <= floor_of(op))) {
        sim_bad(s, "S21 change %u is version %llu, and began when %llu had been answered", id,
            (unsigned long long)op->version, (unsigned long long)op->after);
    }
    for (uint32_t i = 0; i < c->n_ops && !op->erase && floor_of(op) != 0; i++) {
        const struct sim_cat_op *x = &c->ops[i];
        if (i != id && x->ok && x->key == op->key && x->expect == op->expect) {
            sim_bad(s, "S21 changes %u and %u of version %llu of %s are both OK", i, id,
                (unsigned long long)op->expect, names[op->key]);
        }
    }
    for (uint64_t v = op->version; v < c->cap; v++) {
        if (c->docs[v].bytes != NULL) {
            check_kept(s, id, &c->docs[v]);
        }
    }
}

void sim_cat_look(struct sim *s, struct sim_node *n)
{
    const struct sched_catreg *k = n->voter->catalog;
    if (s->cat == NULL || k->known.version == n->copy->version) {
        return;
    }
    if (k->known.version < n->copy->version) {
        sim_bad(s, "S21 V%u knows version %llu after %llu", n->index,
            (unsigned long long)k->known.version, (unsigned long long)n->copy->version);
    }
    n->copy->version = k->known.version;
    struct sched_cat_doc d = {k->known.version, k->known.n, k->known.bytes};
    known(s, &d);
}

bool sim_cat_differs(const struct sim_node *n)
{
    const struct sched_catreg *k = n->voter->catalog;
    if (n->copy == NULL) {
        return false;
    }
    const struct sched_row *row = sim_rows_catalog(n->rows);
    uint64_t promised = row != NULL ? row->promised : 0;
    uint64_t accepted = row != NULL ? row->accepted : 0;
    return k != NULL && !k->vote.lost &&
           (promised < n->copy->promise.ballot || accepted != k->vote.accepted);
}

/* A voter answers a host: its proposal is chosen. */
static void check_maxima(struct sim *s, const struct sim_node *n, uint32_t reg)
{
    const struct sched_quota_keep *k = &n->voter->quotas[reg];
    uint64_t ballot = s->cat->chosen[reg].ballot, version = s->cat->chosen[reg].version;
    if (k->vote.ballot >= ballot ? k->val.version < version : k->val.version > version) {
        sim_bad(s, "S11 permits have the maxima of version %llu after those of %llu",
            (unsigned long long)k->val.version, (unsigned long long)version);
    }
    if (k->vote.ballot > ballot) {
        s->cat->chosen[reg].ballot = k->vote.ballot;
        s->cat->chosen[reg].version = k->val.version;
    }
}

/* A host asks for permits. */
static void wants(struct sim_node *n, const struct sched_msg *m)
{
    if (m->type != SCHED_MSG_QWANT || m->quota.pool >= POOLS_END) {
        return;
    }
    struct sim_permits *p = &n->copy->used[m->quota.pool];
    if (p->from == 0 || p->inc != m->quota.inc) {
        p->from = m->quota.version;
        p->inc = m->quota.inc;
    }
    p->seq = m->quota.seq;
}

void sim_cat_vote(struct sim *s, struct sim_node *n, const struct sched_msg *m)
{
    if (s->cat == NULL) {
        return;
    }
    wants(n, m);
    if (m->type == SCHED_MSG_QHAVE) {
        check_maxima(s, n, m->quota.pool % SCHED_QUOTA_REGS);
    }
    bool accepted = m->type == SCHED_MSG_CACCED;
    if (!accepted && m->type != SCHED_MSG_CPROM) {
        return;
    }
    uint64_t ballot = m->creg.ballot;
    bool alive = s->now_ns - n->copy->lost.at_ns < PROPOSAL_MS * SIM_MS;
    if (ballot < n->copy->promise.ballot || (accepted && alive && ballot < n->copy->lost.ballot)) {
        sim_bad(s, "S21 V%u answers for ballot %llx and has promised more", n->index,
            (unsigned long long)ballot);
    }
    if (ballot > n->copy->promise.ballot) {
        n->copy->promise = (struct sim_promise){ballot, s->now_ns};
    }
}

/* ---- nodes ---- */

void sim_cat_boot(struct sim *s, struct sim_node *n)
{
    if (s->cat != NULL) {
        n->copy->version = 0;
        n->copy->op = 0;
        for (uint32_t i = 0; i < POOLS_END; i++) {
            n->copy->used[i].limit = 0; /* and the voters may have it that there are more */
        }
    }
}

static uint64_t some_voter(struct sim *s)
{
    return s->nodes[sim_rand(s, s->opt.voters)].id;
}

static void ask(struct sim *s, struct sim_node *n)
{
    const struct sim_cat_op *op = &s->cat->ops[n->copy->op];
    uint64_t id = n->copy->op;
    uint32_t pool = op->key == 1 || op->key == 2 ? op->key : 0;
    struct sched_msg m = {.type = SCHED_MSG_CSET,
        .to = some_voter(s),
        .cset = {.op = id,
            .change = {.expect = op->expect,
                .erase = op->erase,
                .entry = {.key = names[op->key],
                    .key_n = (uint32_t)strlen(names[op->key]),
                    .pool = op->erase ? 0 : pool,
                    .max = op->max,
                    .value = (const uint8_t *)&id,
                    .value_n = op->erase ? 0 : sizeof id}}}};
    n->copy->sent_ns = s->now_ns;
    sim_send(s, n, &m);
}

/* What is not as it should be in the end comes first then. */
static uint32_t next_key(struct sim *s, const struct sim_node *n)
{
    struct sched_cat_entry e;
    for (uint32_t i = 1; i < POOLS_END && s->calm; i++) {
        if (n->copy->version == 0 || !find(&s->cat->docs[n->copy->version], names[i], &e) ||
            e.max < s->cat->enough) {
            return i;
        }
    }
    return (uint32_t)sim_rand(s, KEYS);
}

/* Number 0 is nobody's: "none is under way". */
static void begin(struct sim *s, struct sim_node *n)
{
    struct sim_cat *c = s->cat;
    struct sched_cat_entry e = {0};
    if (c->n_ops + 2 > c->cap_ops) {
        c->cap_ops = 2 * c->cap_ops + 64;
        c->ops = realloc(c->ops, c->cap_ops * sizeof *c->ops);
        REQUIRE(c->ops != NULL);
    }
    if (c->n_ops == 0) {
        c->ops[c->n_ops++] = (struct sim_cat_op){0};
    }
    uint32_t key = next_key(s, n);
    bool well = s->calm || s->opt.catalog == 2; /* no more shortage */
    bool there = n->copy->version > 0 && find(&c->docs[n->copy->version], names[key], &e);
    n->copy->op = c->n_ops++;
    c->ops[n->copy->op] = (struct sim_cat_op){.expect = sim_rand(s, 4) == 0 ? SCHED_CAT_ANY
                                                        : there             ? e.version
                                                                            : 0,
        .after = c->told,
        .start_ns = s->now_ns,
        .key = key,
        .max = well || sim_rand(s, 3) == 0 ? c->enough : (uint32_t)sim_rand(s, s->opt.keys),
        .erase = there && !well && sim_rand(s, 5) == 0};
    c->tail_asked += s->calm;
    ask(s, n);
}

static bool speaks(const struct sim_node *n)
{
    const struct sched_view *v = n->kind == SIM_HOST ? n->host->env.view : n->gw->view;
    return v->num > 0 && sched_view_version(v) >= 3;
}

void sim_cat_turn(struct sim *s, struct sim_node *n)
{
    struct sim_event next = {.kind = SIM_E_CHANGE, .node = (uint32_t)(n - s->nodes)};
    sim_event(s, &next, s->now_ns + (TURN_MS / 2 + sim_rand(s, TURN_MS)) * SIM_MS);
    bool over = s->opt.catalog == 2 && s->now_ns + QUIET_MS * SIM_MS > s->opt.chaos_ms * SIM_MS;
    if (!n->up || n->paused || !speaks(n)) {
        return;
    }
    struct sched_msg get = {
        .type = SCHED_MSG_CGET, .to = some_voter(s), .cget = {n->copy->version}};
    sim_send(s, n, &get);
    if (n->copy->op != 0 &&
        (over || s->now_ns - s->cat->ops[n->copy->op].start_ns > PATIENCE_MS * SIM_MS)) {
        n->copy->op = 0;
    }
    if (n->copy->op != 0 && s->now_ns - n->copy->sent_ns > RESEND_MS * SIM_MS) {
        ask(s, n);
    } else if (n->copy->op == 0 && n->kind == SIM_GATEWAY && s->load_on && !over &&
               sim_rand(s, 3) != 0) {
        begin(s, n);
    }
}

static void told(struct sim *s, struct sim_node *n, const struct sched_m_csetr *m)
{
    struct sim_cat *c = s->cat;
    if (n->copy->op == 0 || m->op != n->copy->op || m->result == SCHED_CAT_LATER) {
        return;
    }
    uint32_t id = n->copy->op;
    n->copy->op = 0;
    c->tail_told += s->calm;
    if (m->result == SCHED_CAT_OK) {
        c->ops[id].ok = true;
        c->ops[id].version = m->version;
        c->n_ok++;
        check_ok(s, id);
        c->told = m->version > c->told ? m->version : c->told;
    } else if (m->result != SCHED_CAT_NOT_FOUND &&
               (m->result != SCHED_CAT_CONFLICT || c->ops[id].expect == SCHED_CAT_ANY)) {
        sim_bad(s, "S21 change %u is answered %u", id, m->result);
    }
}

/* As scheduler/io/host_node.c does: a catalogue that has had pools decides for ever. */
static void tell_pools(struct sim *s, struct sim_node *n, const struct sched_cat_doc *d)
{
    struct sched_pool_max pools[KEYS];
    struct sched_cat_entry e;
    uint32_t count = 0;
    bool limited = false;
    for (uint32_t i = 1; i < POOLS_END && d->version > 0; i++) {
        if (find(d, names[i], &e)) {
            pools[count++] = (struct sched_pool_max){e.pool, e.max};
        }
        limited = limited || erased(s->cat, i, 0);
    }
    if (n->kind == SIM_HOST) {
        sched_node_pools(n->host, d->version, limited || count > 0, pools, count);
    }
}

bool sim_cat_takes(struct sim *s, struct sim_node *n, const struct sched_msg *m)
{
    if (s->cat == NULL || n->kind == SIM_VOTER ||
        (m->type != SCHED_MSG_CDOC && m->type != SCHED_MSG_CSETR)) {
        return false;
    }
    if (m->type == SCHED_MSG_CSETR) {
        told(s, n, &m->csetr);
    } else {
        known(s, &m->cdoc);
        if (m->cdoc.version > n->copy->version || (m->cdoc.version == 0 && n->copy->version == 0)) {
            n->copy->version = m->cdoc.version;
            tell_pools(s, n, &m->cdoc);
        }
    }
    return true;
}

/* ---- S11 ---- */

/* The highest maximum that the pool had in this version or a later one. */
static uint32_t highest(const struct sim_cat *c, uint32_t pool, uint64_t since)
{
    uint32_t max = 0;
    struct sched_cat_entry e;
    for (uint64_t v = since; v < c->cap; v++) {
        if (c->docs[v].bytes != NULL && find(&c->docs[v], names[pool], &e) && e.max > max) {
            max = e.max;
        }
    }
    return max;
}

static void check_pool(struct sim *s, uint32_t pool)
{
    const struct sched_view *v = sim_chosen_view(s);
    uint64_t sum = 0, since = UINT64_MAX;
    for (uint32_t i = s->opt.voters; v != NULL && i < s->opt.voters + s->opt.hosts; i++) {
        const struct sim_node *h = &s->nodes[i];
        const struct sim_permits *p = &h->copy->used[pool];
        if (p->limit > 0 && sched_view_has(v, h->host->env.me)) {
            sum += p->limit;
            since = p->from < since ? p->from : since;
        }
    }
    if (sum > 0 && sum > highest(s->cat, pool, since)) {
        sim_bad(s, "S11 %llu permits of %s are out, of %u since version %llu",
            (unsigned long long)sum, names[pool], highest(s->cat, pool, since),
            (unsigned long long)since);
    }
}

static const struct sched_quota *quota_of(const struct sim_node *n, uint32_t pool)
{
    const struct sched_permits *p = &n->host->sess.permits;
    uint32_t i = 0;
    while (i < p->n && p->q[i].pool != pool) {
        i++;
    }
    return i < p->n ? &p->q[i] : NULL;
}

void sim_cat_permits(struct sim *s, struct sim_node *n)
{
    for (uint32_t i = 1; s->cat != NULL && i < POOLS_END; i++) {
        const struct sched_quota *q = quota_of(n, i);
        uint32_t limit = q != NULL ? q->limit : 0;
        bool more = limit > n->copy->used[i].limit;
        n->copy->used[i].limit = limit;
        if (more) {
            check_pool(s, i);
        } else if (q != NULL && limit == 0 && !q->waiting && q->seq == n->copy->used[i].seq) {
            n->copy->used[i].from = 0; /* so the voters have said */
        }
    }
}

/* ---- L10 ---- */

void sim_cat_end(struct sim *s)
{
    const struct sim_cat *c = s->cat;
    for (uint32_t i = 0; c != NULL && i < s->n_nodes; i++) {
        const struct sim_node *n = &s->nodes[i];
        bool long_ago = s->now_ns - c->newest_ns > 2 * SIM_S;
        if (n->up && long_ago && n->copy->version != c->newest) {
            sim_bad(s, "L10 %c%u has version %llu of the catalogue, not %llu", "VHG"[n->kind],
                n -> index, (unsigned long long)n -> copy -> version,
                (unsigned long long)c -> newest);
        }
    }
    for (uint32_t i = 0; c != NULL && i < s->opt.voters; i++) {
        const struct sched_catreg *k = s->nodes[i].voter->catalog;
        if (k->vote.lost || k->acc.version > k->known.version) {
            sim_bad(s, "L10 V%u does not know whether version %llu was chosen", i,
                (unsigned long long)k->acc.version);
        }
    }
    if (c != NULL && (c->n_ok == 0 || c->tail_told + s->opt.gateways < c->tail_asked)) {
        sim_bad(s, "L10 of %u changes after the faults %u were answered, %u OK in all",
            c->tail_asked, c->tail_told, c->n_ok);
    }
}
