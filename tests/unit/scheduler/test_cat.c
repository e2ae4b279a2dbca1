#include <stdlib.h>
#include <string.h>

#include "scheduler/core/catreg.h"
#include "scheduler/core/share.h"
#include "tests/lib/check.h"

/* The catalogue: its document, and the voters' register of it. */

static uint8_t bytes[2][SCHED_CAT_BYTES_MAX];

static struct sched_cat_change change_of(const char *key, const char *value, uint64_t expect)
{
    return (struct sched_cat_change){.expect = expect,
        .erase = value == NULL,
        .entry = {.key = key,
            .key_n = (uint32_t)strlen(key),
            .value = (const uint8_t *)value,
            .value_n = value == NULL ? 0 : (uint32_t)strlen(value)}};
}

/* Changes *d; both rooms are used in turn. */
static enum sched_cat_result apply(struct sched_cat_doc *d, const struct sched_cat_change *c)
{
    uint8_t *to = d->bytes == bytes[0] ? bytes[1] : bytes[0];
    uint32_t n = 0;
    enum sched_cat_result rc = sched_cat_apply(d, c, to, &n);
    if (rc == SCHED_CAT_OK) {
        *d = (struct sched_cat_doc){d->version + 1, n, to};
    }
    CHECK(sched_cat_valid(d));
    return rc;
}

static enum sched_cat_result put(
    struct sched_cat_doc *d, const char *key, const char *value, uint64_t expect)
{
    struct sched_cat_change c = change_of(key, value, expect);
    return apply(d, &c);
}

TEST(entries_are_put_changed_and_erased_in_their_order)
{
    struct sched_cat_doc d = {.bytes = bytes[0]};
    CHECK_EQ(put(&d, "pool/b", "two", 0), SCHED_CAT_OK);
    CHECK_EQ(put(&d, "pool/a", "one", 0), SCHED_CAT_OK);
    CHECK_EQ(put(&d, "pool/a", "x", 0), SCHED_CAT_CONFLICT);
    CHECK_EQ(put(&d, "pool/a", "uno", 2), SCHED_CAT_OK);
    CHECK_EQ(put(&d, "pool/a", "x", 2), SCHED_CAT_CONFLICT); /* it has version 3 now */
    CHECK_EQ(put(&d, "pool/c", "x", 7), SCHED_CAT_CONFLICT);
    CHECK_EQ(put(&d, "pool/c", NULL, SCHED_CAT_ANY), SCHED_CAT_NOT_FOUND);
    CHECK_EQ(put(&d, "Pool", "x", 0), SCHED_CAT_INVALID);
    CHECK_EQ(d.version, 3);
    struct sched_cat_entry e;
    uint32_t at = 0;
    CHECK(sched_cat_next(&d, &at, &e) && e.key_n == 6 && memcmp(e.key, "pool/a", 6) == 0);
    CHECK(e.version == 3 && e.value_n == 3 && memcmp(e.value, "uno", 3) == 0);
    CHECK(sched_cat_next(&d, &at, &e) && e.version == 1 && memcmp(e.value, "two", 3) == 0);
    CHECK(!sched_cat_next(&d, &at, &e));
    CHECK_EQ(put(&d, "pool/a", NULL, 3), SCHED_CAT_OK);
    CHECK_EQ(put(&d, "pool/b", NULL, SCHED_CAT_ANY), SCHED_CAT_OK);
    CHECK(d.n == 0 && d.version == 5);
}

TEST(two_pools_of_one_number_and_more_than_fits_are_refused)
{
    struct sched_cat_doc d = {.bytes = bytes[0]};
    char key[32];
    struct sched_cat_change c = change_of("pool/first", "x", 0);
    c.entry.pool = 77;
    CHECK_EQ(apply(&d, &c), SCHED_CAT_OK);
    c = change_of("pool/other", "x", 0);
    c.entry.pool = 77;
    CHECK_EQ(apply(&d, &c), SCHED_CAT_INVALID);
    for (uint32_t i = 1; i < SCHED_CAT_POOLS_MAX; i++) {
        (void)snprintf(key, sizeof key, "pool/n%u", i);
        c = change_of(key, "x", 0);
        c.entry.pool = 1000 + i;
        CHECK_EQ(apply(&d, &c), SCHED_CAT_OK);
    }
    c = change_of("pool/more", "x", 0);
    c.entry.pool = 5000;
    CHECK_EQ(apply(&d, &c), SCHED_CAT_FULL);
    static char large[SCHED_CAT_VALUE_MAX + 2];
    memset(large, 'v', sizeof large - 1);
    CHECK_EQ(put(&d, "tenant/large", large, 0), SCHED_CAT_INVALID);
    large[SCHED_CAT_VALUE_MAX] = '\0';
    enum sched_cat_result rc = SCHED_CAT_OK;
    for (uint32_t i = 0; rc == SCHED_CAT_OK; i++) {
        (void)snprintf(key, sizeof key, "tenant/n%u", i);
        rc = put(&d, key, large, 0);
    }
    CHECK_EQ(rc, SCHED_CAT_FULL);
    CHECK(d.n + SCHED_CAT_VALUE_MAX + 64 > SCHED_CAT_BYTES_MAX);
}

/* The last ones are remembered, with what they made, whatever becomes of their entries. */
TEST(a_document_knows_its_last_changes_and_its_birth)
{
    struct sched_cat_doc d = {.bytes = bytes[0]};
    struct sched_cat_entry e;
    char key[32];
    for (uint64_t id = 1; id <= SCHED_CAT_MADE_MAX + 5; id++) {
        (void)snprintf(key, sizeof key, "tenant/n%u", (unsigned)(id % 7));
        struct sched_cat_change c = change_of(key, "x", SCHED_CAT_ANY);
        c.id = id << 40;
        c.birth = 1000 + id;
        CHECK_EQ(apply(&d, &c), SCHED_CAT_OK);
        CHECK_EQ(sched_cat_birth(&d), 1001);
        CHECK_EQ(sched_cat_made(&d, id << 40), id);
    }
    struct sched_cat_change gone = change_of("tenant/n3", NULL, SCHED_CAT_ANY);
    gone.id = 99;
    CHECK_EQ(apply(&d, &gone), SCHED_CAT_OK);
    CHECK_EQ(sched_cat_made(&d, 99), d.version);
    CHECK_EQ(sched_cat_made(&d, 6ULL << 40), 0); /* long ago */
    CHECK_EQ(sched_cat_made(&d, 7ULL << 40), 7);
    CHECK_EQ(sched_cat_made(&d, 0), 0);
    CHECK_EQ(put(&d, ".", "x", SCHED_CAT_ANY), SCHED_CAT_INVALID);
    CHECK_EQ(put(&d, ".", NULL, SCHED_CAT_ANY), SCHED_CAT_INVALID);
    CHECK_EQ(put(&d, "tenant/n1", "y", SCHED_CAT_ANY), SCHED_CAT_OK); /* by who knows no ids */
    CHECK(sched_cat_birth(&d) == 1001 && sched_cat_made(&d, 99) == d.version - 1);
    uint32_t at = 0, n = 0;
    while (sched_cat_next(&d, &at, &e)) {
        n += !sched_cat_own(&e);
    }
    CHECK_EQ(n, 6);
}

TEST(a_change_is_made_where_there_is_no_room_to_remember_it)
{
    static char large[SCHED_CAT_VALUE_MAX + 1];
    struct sched_cat_doc d = {.bytes = bytes[0]};
    char key[32];
    memset(large, 'v', SCHED_CAT_VALUE_MAX);
    struct sched_cat_change c = {0};
    enum sched_cat_result rc = SCHED_CAT_OK;
    for (uint64_t id = 1; id < 100 && large[0] != '\0'; id++) {
        (void)snprintf(key, sizeof key, "tenant/n%u", (unsigned)id);
        c = change_of(key, large, 0);
        c.id = c.birth = id;
        rc = apply(&d, &c);
        if (rc == SCHED_CAT_FULL) { /* to the last byte */
            large[strlen(large) / 2] = '\0';
        }
    }
    CHECK_EQ(rc, SCHED_CAT_FULL);
    uint32_t before = d.n;
    c = change_of("tenant/n1", NULL, 1);
    c.id = 500;
    CHECK_EQ(apply(&d, &c), SCHED_CAT_OK);
    CHECK(d.n < before);
    for (uint32_t i = 0; i < SCHED_CAT_ENTRIES_MAX; i++) {
        (void)snprintf(key, sizeof key, "tenant/few%u", i);
        rc = put(&d, key, "", 0);
    }
    CHECK_EQ(rc, SCHED_CAT_FULL);
}

/* A voter that writes something else there gets nobody beyond the limit. */
TEST(what_a_document_has_for_itself_may_be_anything)
{
    static char value[SCHED_CAT_VALUE_MAX + 1];
    char key[32];
    static const uint32_t sizes[] = {
        0, 1, 15, 16, 17, 47, 48, 2031, 2032, 2037, 2063, 2064, 2070, 9000, SCHED_CAT_VALUE_MAX};
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
        uint32_t own = sizes[k];
        struct sched_cat_doc d = {.bytes = bytes[0]};
        memset(value, 'x', SCHED_CAT_VALUE_MAX);
        value[own] = '\0';
        CHECK_EQ(put(&d, "a", value, 0), SCHED_CAT_OK);
        uint32_t last = 0;
        for (uint32_t i = 1; d.n < SCHED_CAT_BYTES_MAX - 3; i++) {
            uint32_t left = SCHED_CAT_BYTES_MAX - 3 - d.n, head = 25 + 11;
            uint32_t n = left < 4000 ? left - head : left < 8000 ? 2000 : 4000;
            memset(value, 'x', SCHED_CAT_VALUE_MAX);
            value[n] = '\0';
            (void)snprintf(key, sizeof key, "tenant/%04u", i);
            CHECK_EQ(put(&d, key, value, 0), SCHED_CAT_OK);
            last = n;
        }
        uint8_t *p = d.bytes == bytes[0] ? bytes[0] : bytes[1];
        CHECK(p[1] == 'a' && sched_cat_made(&d, 9) == 0);
        p[1] = '.';
        value[last] = '\0';
        struct sched_cat_change c = change_of(key, value, SCHED_CAT_ANY);
        c.id = c.birth = 9;
        CHECK_EQ(apply(&d, &c), SCHED_CAT_OK);
        uint64_t made = sched_cat_made(&d, 9);
        CHECK(made == d.version || made == 0);
        c.entry.value_n = 0;
        c.id = 10;
        CHECK_EQ(apply(&d, &c), SCHED_CAT_OK);
        CHECK_EQ(sched_cat_made(&d, 10), d.version);
    }
}

TEST(what_is_no_document_is_refused)
{
    struct sched_cat_doc d = {.bytes = bytes[0]};
    CHECK_EQ(put(&d, "pool/a", "one", 0), SCHED_CAT_OK);
    CHECK_EQ(put(&d, "pool/b", "two", 0), SCHED_CAT_OK);
    uint8_t copy[256];
    CHECK(d.n <= sizeof copy);
    memcpy(copy, d.bytes, d.n);
    struct sched_cat_doc x = {d.version, d.n, copy};
    CHECK(sched_cat_valid(&x));
    for (uint32_t i = 0; i < d.n; i++) {
        x.n = i;
        CHECK(!sched_cat_valid(&x) || i == 0 || i == d.n / 2);
    }
    x = (struct sched_cat_doc){1, d.n, copy}; /* an entry of the future */
    CHECK(!sched_cat_valid(&x));
    x.version = d.version;
    memcpy(copy, d.bytes + d.n / 2, d.n / 2); /* the same key twice */
    CHECK(!sched_cat_valid(&x));
}

/* ---- three voters on a bad network ---- */

enum { VOTERS = 3, QUEUE = 256, CLIENTS = 3, STEPS = 4000, SEEDS = 60, DOC = 4096 };

struct packet {
    struct sched_msg msg;
    uint8_t doc[DOC], value[64];
    char key[16];
};

struct disk {
    bool there;
    uint64_t promised, accepted, version;
    uint32_t n;
    uint8_t bytes[DOC];
};

struct client {
    uint64_t op; /* 0: none is under way */
    uint64_t expect, seen;
    char value[16];
    unsigned voter;
};

struct world {
    struct base_hash_rng rng;
    struct sched_cfg cfg;
    struct sched_fx fx;
    void *fx_mem, *mem[VOTERS];
    struct sched_catreg keep[VOTERS];
    struct disk disk[VOTERS];
    bool up[VOTERS];
    struct packet *queue;
    uint32_t queued;
    uint64_t now_ns, ops;
    struct client clients[CLIENTS];
    /* what was chosen: content by version */
    uint64_t versions;
    uint64_t hash[4096];
    char won[4096][16];  /* value of "k" in that version, as its client was told */
    uint64_t made[4096]; /* by number of the change: the version that has it */
    bool calm;
};

static uint32_t dice(struct world *w, uint32_t n)
{
    return (uint32_t)base_hash_rng_below(&w->rng, n);
}

static struct sched_creg_env env_of(struct world *w, uint32_t i)
{
    return (struct sched_creg_env){
        .cfg = &w->cfg, .fx = &w->fx, .rng = &w->rng, .now_ns = w->now_ns, .index = i};
}

static void keep_doc(const struct sched_cat_doc *from, struct sched_cat_doc *to, uint8_t *room)
{
    CHECK(from->n <= DOC);
    if (from->n > 0) {
        memcpy(room, from->bytes, from->n);
    }
    *to = (struct sched_cat_doc){from->version, from->n, room};
}

static struct sched_cat_doc *doc_in(struct sched_msg *m)
{
    return m->type == SCHED_MSG_CDOC                                  ? &m->cdoc
           : m->type >= SCHED_MSG_CPREP && m->type <= SCHED_MSG_CTELL ? &m->creg.doc
                                                                      : NULL;
}

static void post(struct world *w, const struct sched_msg *m)
{
    if (w->queued == QUEUE || (!w->calm && dice(w, 10) == 0)) {
        return; /* lost */
    }
    struct packet *p = &w->queue[w->queued++];
    p->msg = *m;
    struct sched_cat_doc *d = doc_in(&p->msg);
    if (d != NULL) {
        struct sched_cat_doc from = *d;
        keep_doc(&from, d, p->doc);
    }
}

static bool entry_k(const struct sched_cat_doc *d, struct sched_cat_entry *ret)
{
    uint32_t at = 0;
    while (sched_cat_next(d, &at, ret)) {
        if (!sched_cat_own(ret)) {
            return true;
        }
    }
    return false;
}

/* The document of a version is one and the same for ever, and every voter's knowledge grows. */
static void check_known(struct world *w, const struct sched_catreg *k)
{
    uint64_t v = k->known.version;
    static const uint8_t key[16] = "content";
    uint64_t h = base_hash_sip24(key, k->known.bytes, k->known.n);
    CHECK(v < 4096);
    CHECK(w->hash[v] == 0 || v == 0 || w->hash[v] == h);
    w->hash[v] = h;
    w->versions = v > w->versions ? v : w->versions;
    struct sched_cat_doc d = {v, k->known.n, k->known.bytes};
    struct sched_cat_entry e;
    bool there = entry_k(&d, &e);
    if (w->won[v][0] != '\0') { /* who was told OK finds his value */
        CHECK(there && e.version == v && e.value_n == strlen(w->won[v]) &&
              memcmp(e.value, w->won[v], e.value_n) == 0);
    }
    if (there) { /* which is made once */
        char number[16] = "";
        memcpy(number, e.value + 1, e.value_n - 1);
        uint64_t *made = &w->made[strtoul(number, NULL, 10) % 4096];
        CHECK(*made == 0 || *made == e.version);
        *made = e.version;
    }
}

static void carry_out(struct world *w, uint32_t i)
{
    for (uint32_t k = 0; k < w->fx.n; k++) {
        struct sched_fx_item *it = &w->fx.items[k];
        if (it->kind == SCHED_FX_STORE) {
            struct disk *d = &w->disk[i];
            struct sched_cat_doc kept;
            *d = (struct disk){
                .there = true, .promised = it->row.promised, .accepted = it->row.accepted};
            keep_doc(&it->row.catalog, &kept, d->bytes);
            d->version = kept.version;
            d->n = kept.n;
        }
    }
    for (uint32_t k = 0; k < w->fx.n; k++) {
        struct sched_fx_item *it = &w->fx.items[k];
        if (it->kind == SCHED_FX_SEND) {
            it->msg.from = w->cfg.voters[i];
            post(w, &it->msg);
        }
    }
    check_known(w, &w->keep[i]);
}

static void boot(struct world *w, uint32_t i, bool fresh)
{
    struct sched_mem mem = {0};
    struct disk *d = &w->disk[i];
    sched_catreg_init(&w->keep[i], &mem);
    if (w->mem[i] == NULL) {
        w->mem[i] = aligned_alloc(16, mem.used);
    }
    mem = (struct sched_mem){.base = w->mem[i], .size = mem.used};
    sched_catreg_init(&w->keep[i], &mem);
    struct sched_row row = {
        .promised = d->promised, .accepted = d->accepted, .catalog = {d->version, d->n, d->bytes}};
    sched_catreg_restore(&w->keep[i], d->there ? &row : NULL, fresh, w->now_ns + SCHED_MS(1500),
        base_hash_rng_next(&w->rng) | 1);
    w->up[i] = true;
}

static void told(struct world *w, uint32_t i, const struct sched_m_csetr *m)
{
    struct client *c = &w->clients[i];
    if (c->op != m->op) {
        return;
    }
    if (m->result == SCHED_CAT_LATER) {
        c->voter = dice(w, VOTERS);
        return;
    }
    if (m->result == SCHED_CAT_OK) {
        CHECK(m->version > (c->expect == SCHED_CAT_ANY ? 0 : c->expect));
        CHECK(w->won[m->version][0] == '\0'); /* one change a version */
        memcpy(w->won[m->version], c->value, sizeof c->value);
        c->seen = m->version;
    } else {
        CHECK_EQ(m->result, SCHED_CAT_CONFLICT);
        CHECK(c->expect != SCHED_CAT_ANY && m->version != c->expect);
    }
    c->op = 0;
}

/* A packet was copied. */
static void point(struct packet *p)
{
    struct sched_cat_doc *d = doc_in(&p->msg);
    if (d != NULL) {
        d->bytes = p->doc;
    }
}

static void deliver(struct world *w)
{
    static struct packet p;
    if (w->queued == 0) {
        return;
    }
    uint32_t k = dice(w, w->queued);
    p = w->queue[k];
    point(&p);
    if (w->calm || dice(w, 8) != 0) { /* else it comes again */
        w->queue[k] = w->queue[--w->queued];
        point(&w->queue[k]);
    }
    for (uint32_t i = 0; i < CLIENTS; i++) {
        if (p.msg.to == 100 + i && p.msg.type == SCHED_MSG_CSETR) {
            told(w, i, &p.msg.csetr);
        } else if (p.msg.to == 100 + i && p.msg.type == SCHED_MSG_CDOC) {
            struct sched_cat_entry e;
            struct client *c = &w->clients[i];
            if (c->op == 0 && entry_k(&p.msg.cdoc, &e) && e.version > c->seen) {
                c->seen = e.version;
            }
        }
    }
    for (uint32_t i = 0; i < VOTERS; i++) {
        if (p.msg.to == w->cfg.voters[i] && w->up[i]) {
            struct sched_creg_env e = env_of(w, i);
            sched_fx_clear(&w->fx);
            sched_catreg_msg(&w->keep[i], &e, &p.msg);
            carry_out(w, i);
        }
    }
}

static void ask(struct world *w, uint32_t i)
{
    struct client *c = &w->clients[i];
    uint32_t v = c->voter;
    struct sched_msg m = {.from = 100 + i, .type = SCHED_MSG_CGET, .to = w->cfg.voters[v]};
    if (!w->up[v]) {
        c->voter = dice(w, VOTERS);
        return;
    }
    m.cget.version = c->seen;
    if (c->op == 0 && dice(w, 3) != 0) {
        c->op = ++w->ops;
        c->expect = dice(w, 3) == 0 ? SCHED_CAT_ANY : c->seen;
        (void)snprintf(c->value, sizeof c->value, "v%u", (unsigned)c->op);
    }
    if (c->op != 0) { /* also once more: the answer may be lost */
        m.type = SCHED_MSG_CSET;
        m.cset = (struct sched_m_cset){c->op, change_of("k", c->value, c->expect)};
    }
    struct sched_creg_env e = env_of(w, v);
    sched_fx_clear(&w->fx);
    sched_catreg_msg(&w->keep[v], &e, &m);
    carry_out(w, v);
}

static void tick(struct world *w)
{
    w->now_ns += SCHED_MS(1 + dice(w, 60));
    for (uint32_t i = 0; i < VOTERS; i++) {
        if (w->up[i] && sched_catreg_due_ns(&w->keep[i]) <= w->now_ns) {
            struct sched_creg_env e = env_of(w, i);
            sched_fx_clear(&w->fx);
            sched_catreg_tick(&w->keep[i], &e);
            carry_out(w, i);
        }
    }
}

/* One may lose its store when no other has: that is what the protocol promises to survive. */
static void fault(struct world *w)
{
    uint32_t i = dice(w, VOTERS), down = 0, lost = 0;
    for (uint32_t k = 0; k < VOTERS; k++) {
        down += !w->up[k];
        lost += w->up[k] && w->keep[k].vote.lost;
    }
    if (!w->up[i]) {
        boot(w, i, false);
    } else if (down == 0 && lost == 0) {
        w->up[i] = false;
        if (dice(w, 4) == 0) {
            w->disk[i].there = false;
            uint32_t left = 0; /* of that life nothing is on its way any more */
            for (uint32_t k = 0; k < w->queued; k++) {
                if (w->queue[k].msg.from != w->cfg.voters[i] &&
                    w->queue[k].msg.to != w->cfg.voters[i]) {
                    w->queue[left] = w->queue[k];
                    point(&w->queue[left++]);
                }
            }
            w->queued = left;
        }
    }
}

static void one(struct world *w)
{
    uint32_t what = dice(w, 100);
    if (what < 60) {
        deliver(w);
    } else if (what < 80) {
        tick(w);
    } else if (what < 99) {
        ask(w, dice(w, CLIENTS));
    } else if (dice(w, 3) == 0) {
        fault(w);
    }
}

static void settle(struct world *w)
{
    w->calm = true;
    for (uint32_t i = 0; i < VOTERS; i++) {
        if (!w->up[i]) {
            boot(w, i, false);
        }
    }
    for (int i = 0; i < 4000; i++) {
        deliver(w);
        if (i % 4 == 0) {
            tick(w);
        }
    }
    for (uint32_t i = 1; i < VOTERS; i++) {
        CHECK_EQ(w->keep[i].known.version, w->keep[0].known.version);
        CHECK(!w->keep[i].vote.lost);
    }
    CHECK_EQ(w->keep[0].known.version, w->versions);
}

static uint64_t run(uint64_t seed)
{
    static struct world w;
    w = (struct world){.now_ns = SCHED_MS(1000),
        .cfg = {.n_voters = VOTERS, .voters = {1, 2, 3}, .catalog = true}};
    base_hash_rng_seed(&w.rng, seed);
    struct sched_mem mem = {0};
    sched_fx_init(&w.fx, &mem);
    w.fx_mem = aligned_alloc(16, mem.used);
    mem = (struct sched_mem){.base = w.fx_mem, .size = mem.used};
    sched_fx_init(&w.fx, &mem);
    w.queue = calloc(QUEUE, sizeof *w.queue);
    for (uint32_t i = 0; i < VOTERS; i++) {
        boot(&w, i, true);
    }
    for (int i = 0; i < STEPS; i++) {
        one(&w);
    }
    settle(&w);
    for (uint32_t i = 0; i < VOTERS; i++) {
        free(w.mem[i]);
    }
    free(w.queue);
    free(w.fx_mem);
    return w.versions;
}

TEST(voters_agree_on_one_document_for_each_version_whatever_is_lost)
{
    uint64_t versions = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        versions += run(seed);
    }
    (void)printf("%d schedules, %d versions\n", SEEDS, (int)versions);
    CHECK(versions > 5 * SEEDS);
}

/* ---- one voter, and what the others say ---- */

static void world_init(struct world *w)
{
    *w = (struct world){.now_ns = SCHED_MS(1000),
        .calm = true,
        .cfg = {.n_voters = VOTERS, .voters = {1, 2, 3}, .catalog = true}};
    base_hash_rng_seed(&w->rng, 7);
    struct sched_mem mem = {0};
    sched_fx_init(&w->fx, &mem);
    w->fx_mem = aligned_alloc(16, mem.used);
    mem = (struct sched_mem){.base = w->fx_mem, .size = mem.used};
    sched_fx_init(&w->fx, &mem);
    w->queue = calloc(QUEUE, sizeof *w->queue);
    boot(w, 0, true);
}

static void world_free(struct world *w)
{
    free(w->mem[0]);
    free(w->queue);
    free(w->fx_mem);
}

static void hear(struct world *w, const struct sched_msg *m)
{
    struct sched_creg_env e = env_of(w, 0);
    sched_fx_clear(&w->fx);
    sched_catreg_msg(&w->keep[0], &e, m);
}

/* Of the last step: the message of this type, NULL: there is none. */
static const struct sched_msg *said(const struct world *w, uint8_t type)
{
    for (uint32_t i = 0; i < w->fx.n; i++) {
        if (w->fx.items[i].kind == SCHED_FX_SEND && w->fx.items[i].msg.type == type) {
            return &w->fx.items[i].msg;
        }
    }
    return NULL;
}

/* Voter 2 promises and accepts. */
static const struct sched_msg *agree(struct world *w)
{
    struct sched_msg m = {
        .from = 2, .type = SCHED_MSG_CPROM, .creg.ballot = w->keep[0].vote.ballot};
    hear(w, &m);
    m.type = SCHED_MSG_CACCED;
    hear(w, &m);
    return said(w, SCHED_MSG_CSETR);
}

TEST(a_conflict_says_which_version_there_is)
{
    static struct world w;
    world_init(&w);
    struct sched_msg m = {.from = 100, .type = SCHED_MSG_CSET, .cset = {1, change_of("k", "a", 0)}};
    hear(&w, &m);
    CHECK(agree(&w)->csetr.version == 1);
    m.cset = (struct sched_m_cset){2, change_of("k", "b", 5)};
    hear(&w, &m);
    const struct sched_msg *r = agree(&w);
    CHECK(r->csetr.result == SCHED_CAT_CONFLICT && r->csetr.version == 1);
    m.cset = (struct sched_m_cset){3, change_of("x", "b", 5)};
    hear(&w, &m);
    r = agree(&w);
    CHECK(r->csetr.result == SCHED_CAT_CONFLICT && r->csetr.version == 0);
    world_free(&w);
}

TEST(a_change_that_comes_again_is_not_made_again)
{
    static struct world w;
    world_init(&w);
    struct sched_msg m = {
        .from = 100, .type = SCHED_MSG_CSET, .cset = {1, change_of("k", "a", SCHED_CAT_ANY)}};
    struct sched_msg other = {
        .from = 101, .type = SCHED_MSG_CSET, .cset = {2, change_of("k", "b", SCHED_CAT_ANY)}};
    hear(&w, &m);
    CHECK_EQ(agree(&w)->csetr.version, 1);
    hear(&w, &other);
    CHECK_EQ(agree(&w)->csetr.version, 2);
    hear(&w, &m);
    const struct sched_msg *r = agree(&w);
    CHECK(r->csetr.result == SCHED_CAT_OK && r->csetr.version == 1);
    CHECK_EQ(w.keep[0].known.version, 2);
    m.cset = (struct sched_m_cset){3, change_of("k", NULL, SCHED_CAT_ANY)};
    hear(&w, &m);
    CHECK_EQ(agree(&w)->csetr.version, 3);
    hear(&w, &m);
    r = agree(&w);
    CHECK(r->csetr.result == SCHED_CAT_OK && r->csetr.version == 3);
    world_free(&w);
}

/* It promises what overtakes it before it hears that it was overtaken. */
TEST(a_proposal_that_was_overtaken_with_this_voter_s_own_promise_begins_anew)
{
    static struct world w;
    world_init(&w);
    struct sched_msg m = {.from = 100, .type = SCHED_MSG_CSET, .cset = {1, change_of("k", "a", 0)}};
    hear(&w, &m);
    uint64_t mine = w.keep[0].vote.ballot, rival = (mine >> 8 << 8) | 1;
    m = (struct sched_msg){.from = 2, .type = SCHED_MSG_CPREP, .creg.ballot = rival};
    hear(&w, &m);
    CHECK(said(&w, SCHED_MSG_CPROM) != NULL);
    m = (struct sched_msg){
        .from = 2, .type = SCHED_MSG_CNACK, .creg = {.ballot = mine, .promised = rival}};
    hear(&w, &m);
    CHECK_EQ(w.keep[0].vote.phase, SCHED_CREG_WAIT);
    world_free(&w);
}

/* Another voter is ahead each time. */
TEST(a_change_that_is_overtaken_again_and_again_is_answered)
{
    static struct world w;
    world_init(&w);
    uint64_t start = w.now_ns;
    struct sched_msg m = {.from = 100, .type = SCHED_MSG_CSET, .cset = {1, change_of("k", "a", 0)}};
    hear(&w, &m);
    const struct sched_msg *r = NULL;
    while (r == NULL && w.now_ns < start + SCHED_MS(5000)) {
        struct sched_creg_env e;
        struct sched_msg no = {.from = 2,
            .type = SCHED_MSG_CNACK,
            .creg = {.ballot = w.keep[0].vote.ballot, .promised = w.keep[0].vote.ballot + 256}};
        hear(&w, &no);
        w.now_ns = sched_catreg_due_ns(&w.keep[0]);
        e = env_of(&w, 0);
        sched_fx_clear(&w.fx);
        sched_catreg_tick(&w.keep[0], &e);
        r = said(&w, SCHED_MSG_CSETR);
    }
    CHECK(r != NULL && r->csetr.result == SCHED_CAT_LATER);
    CHECK(w.now_ns >= start + SCHED_MS(1000) && w.now_ns < start + SCHED_MS(2500));
    world_free(&w);
}

/* ---- shares ---- */

TEST(ready_instances_are_shared_out_exactly)
{
    struct sched_member m[7] = {{0}};
    struct sched_view v = {.num = 3, .n = 7, .m = m};
    for (uint32_t i = 0; i < 7; i++) {
        m[i] = (struct sched_member){.node = 1000 + i * 17,
            .inc = 1,
            .weight = i == 2 ? 0 : 100,
            .flags = i == 4 ? SCHED_MEMBER_PREV : SCHED_MEMBER_IN};
    }
    uint32_t more[7] = {0};
    for (uint32_t pool = 1; pool <= 40; pool++) {
        for (uint32_t ready = 0; ready < 23; ready++) {
            uint32_t sum = 0;
            for (uint32_t i = 0; i < 7; i++) {
                uint32_t s = sched_share(&v, m[i].node, pool, ready);
                CHECK(i == 2 || i == 4 ? s == 0 : s == ready / 5 || s == ready / 5 + 1);
                sum += s;
                more[i] += ready == 1 && s == 1;
            }
            CHECK_EQ(sum, ready);
        }
        CHECK_EQ(sched_share(&v, 5, pool, 9), 0);
    }
    for (uint32_t i = 0; i < 7; i++) {
        CHECK(i == 2 || i == 4 || (more[i] > 0 && more[i] < 20)); /* not always the same */
    }
}
