#include "scheduler/core/place.h"

#include <stdbool.h>
#include <string.h>

#include "proto/base/assert.h"
#include "proto/base/err.h"
#include "proto/base/hash.h"
#include "scheduler/core/mutant.h"

struct sched_place_slot {
    uint64_t id; /* 0: free */
    uint64_t hash;
    uint32_t weight;
    uint16_t zone;
};

/* No bound yet. Larger than any score, and times a weight it still fits in 64 bits. */
#define BOUND_NONE (UINT64_C(1) << 48)

/* -log2(1/2 + i/512) in units of 2^-32, rounded; recomputed by tests/unit/scheduler/test_place.c
 * and by place_reference.py beside it. */
static const uint64_t neglog2_table[257] = {0x100000000, 0x0fe8f63b9, 0x0fd2035e9, 0x0fbb273ba,
    0x0fa461a5f, 0x0f8db2711, 0x0f7719715, 0x0f60967b6, 0x0f4a29645, 0x0f33d201e, 0x0f1d902a3,
    0x0f0763b3e, 0x0ef14c760, 0x0edb4a482, 0x0ec55d023, 0x0eaf847ca, 0x0e99c0905, 0x0e8411169,
    0x0e6e75e92, 0x0e58eee21, 0x0e437bdbf, 0x0e2e1cb1d, 0x0e18d13ef, 0x0e03995f1, 0x0dee74ee6,
    0x0dd963c97, 0x0dc465cd1, 0x0daf7ad6a, 0x0d9aa2c3b, 0x0d85dd725, 0x0d712ac0d, 0x0d5c8a8df,
    0x0d47fcb8c, 0x0d338120a, 0x0d1f17a56, 0x0d0ac0270, 0x0cf67a860, 0x0ce246a30, 0x0cce245f1,
    0x0cba139ba, 0x0ca6143a5, 0x0c92261d1, 0x0c7e49264, 0x0c6a7d387, 0x0c56c2368, 0x0c4318039,
    0x0c2f7e831, 0x0c1bf598e, 0x0c087d28e, 0x0bf515177, 0x0be1bd491, 0x0bce75a2b, 0x0bbb3e095,
    0x0ba816625, 0x0b94fe936, 0x0b81f6825, 0x0b6efe154, 0x0b5c15329, 0x0b493bc0f, 0x0b3671a72,
    0x0b23b6cc5, 0x0b110b17d, 0x0afe6e714, 0x0aebe0c05, 0x0ad961ed1, 0x0ac6f1dfc, 0x0ab49080f,
    0x0aa23db93, 0x0a8ff9718, 0x0a7dc392f, 0x0a6b9c06e, 0x0a5982b6e, 0x0a47778ca, 0x0a357a721,
    0x0a238b516, 0x0a11aa14f, 0x09ffd6a74, 0x09ee10f31, 0x09dc58e34, 0x09caae631, 0x09b9115dc,
    0x09a781beb, 0x0995ff71c, 0x09848a62a, 0x0973227d6, 0x0961c7ae4, 0x095079e1a, 0x093f39040,
    0x092e05023, 0x091cddc90, 0x090bc3458, 0x08fab564f, 0x08e9b414b, 0x08d8bf425, 0x08c7d6db7,
    0x08b6face0, 0x08a62b07f, 0x089567778, 0x0884b00af, 0x087404b0c, 0x086365578, 0x0852d1ee1,
    0x08424a633, 0x0831cea61, 0x08215ea5d, 0x0810fa51c, 0x0800a1996, 0x07f0546c4, 0x07e012ba3,
    0x07cfdc730, 0x07bfb186c, 0x07af91e58, 0x079f7d7f9, 0x078f74456, 0x077f76275, 0x076f83163,
    0x075f9b02b, 0x074fbdddb, 0x073feb984, 0x073024238, 0x07206770b, 0x0710b5713, 0x07010e168,
    0x06f171522, 0x06e1df15f, 0x06d25753a, 0x06c2d9fd4, 0x06b36704c, 0x06a3fe5c6, 0x06949ff65,
    0x06854bc51, 0x067601baf, 0x0666c1caa, 0x06578be6d, 0x064860025, 0x06393e0ff, 0x062a2602b,
    0x061b17cdb, 0x060c13643, 0x05fd18b96, 0x05ee27c0b, 0x05df406da, 0x05d062b3b, 0x05c18e869,
    0x05b2c3da2, 0x05a402a21, 0x05954ad26, 0x05869c5f3, 0x0577f73c8, 0x05695b5e9, 0x055ac8b9b,
    0x054c3f424, 0x053dbeecb, 0x052f47ada, 0x0520d979a, 0x051274458, 0x05041805f, 0x04f5c4afe,
    0x04e77a385, 0x04d938944, 0x04caffb8e, 0x04bccf9b5, 0x04aea830d, 0x04a0896ed, 0x0492734ac,
    0x048465ba2, 0x047660b27, 0x046864297, 0x045a7014e, 0x044c846a7, 0x043ea1201, 0x0430c62bb,
    0x0422f3836, 0x0415291d3, 0x040766ef4, 0x03f9acefd, 0x03ebfb152, 0x03de5155a, 0x03d0afa7a,
    0x03c31601c, 0x03b5845a8, 0x03a7faa87, 0x039a78e26, 0x038cfefef, 0x037f8cf50, 0x037222bb7,
    0x0364c0493, 0x035765954, 0x034a1296b, 0x033cc7449, 0x032f83962, 0x03224782a, 0x031513015,
    0x0307e609a, 0x02fac092e, 0x02eda2949, 0x02e08c064, 0x02d37cdf7, 0x02c67517f, 0x02b974a74,
    0x02ac7b854, 0x029f89a9b, 0x02929f0c7, 0x0285bba57, 0x0278df6ca, 0x026c0a5a0, 0x025f3c65b,
    0x02527587c, 0x0245b5b85, 0x0238fcefc, 0x022c4b263, 0x021fa0540, 0x0212fc71a, 0x02065f776,
    0x01f9c95dc, 0x01ed3a1d5, 0x01e0b1ae9, 0x01d4300a2, 0x01c7b528b, 0x01bb41030, 0x01aed391b,
    0x01a26ccda, 0x01960cafa, 0x0189b3309, 0x017d60497, 0x017113f32, 0x0164ce26c, 0x01588edd5,
    0x014c560fe, 0x014023b7b, 0x0133f7cde, 0x0127d24bb, 0x011bb32a6, 0x010f9a634, 0x010387efc,
    0x00f77bc93, 0x00eb75e90, 0x00df7648b, 0x00d37ce1c, 0x00c789adc, 0x00bb9ca65, 0x00afb5c51,
    0x00a3d503a, 0x0097fa5bc, 0x008c25c72, 0x0080573fb, 0x00748ebf1, 0x0068cc3f4, 0x005d0fba2,
    0x005159299, 0x0045a8879, 0x0039fdce2, 0x002e58f74, 0x0022b9fd2, 0x001720d9c, 0x000b8d875,
    0x000000000};

uint64_t sched_place_neglog2_q32(uint64_t u)
{
    u |= u == 0;
    unsigned shift = (unsigned)__builtin_clzll(u);
    uint64_t m = u << shift; /* the mantissa, in [1/2, 1) */
    const uint64_t *at = &neglog2_table[m >> 55 & 255];
    uint64_t part = m >> 23 & UINT32_MAX;
    return ((uint64_t)shift << 32) + at[0] - ((at[0] - at[1]) * part >> 32);
}

/* A member that stands for a seat of the partition at hand. */
struct cand {
    uint64_t score;
    uint64_t id;
    uint16_t slot;
    uint16_t zone;
};

/* The group of one partition while it is worked on. */
struct pick {
    uint64_t mixed; /* mix64(p + 1) */
    uint64_t bound; /* a member whose score is not below gets no seat */
    unsigned n;
    struct cand seat[SCHED_PLACE_SEATS];
};

static inline uint64_t draw(const struct pick *k, const struct sched_place_slot *s)
{
    return base_hash_mix64(k->mixed ^ s->hash);
}

/* Exact, and without the logarithm: -log2(x) >= 1 - x, and neglog2 is never below. Weight 0 (and
 * so a free slot) is always hopeless, because bound * 0 is. */
static inline bool hopeless(const struct pick *k, const struct sched_place_slot *s, uint64_t u)
{
    return ~u >> 32 >= k->bound * s->weight;
}

static inline bool better(const struct cand *a, const struct cand *b)
{
    return a->score < b->score || (a->score == b->score && a->id < b->id);
}

static bool zone_seated(const struct pick *k, uint16_t zone)
{
    for (unsigned i = 0; i < k->n; i++) {
        if (k->seat[i].zone == zone) {
            return true;
        }
    }
    return false;
}

/* Once every seat is taken and the group spans as many zones as it can, a newcomer has to beat the
 * worst of the group. A tie with it is not decided here. */
static void pick_bound(const struct sched_place *t, struct pick *k)
{
    uint64_t worst = 0;
    unsigned zones = 0;
    k->bound = BOUND_NONE;
    for (unsigned i = 0; i < k->n; i++) {
        worst = k->seat[i].score > worst ? k->seat[i].score : worst;
        unsigned j = 0;
        while (j < i && k->seat[j].zone != k->seat[i].zone) {
            j++;
        }
        zones += j == i;
    }
    if (k->n == SCHED_PLACE_SEATS && zones == t->zones) {
        k->bound = worst + 1;
    }
}

/* A full group of three zones, or of the only zone there is, is in ascending order, and c can only
 * take one seat: that of its own zone or else the last one. */
static void pick_replace(struct pick *k, const struct cand *c, bool zoned)
{
    unsigned at = SCHED_PLACE_SEATS - 1;
    for (unsigned i = 0; zoned && i < SCHED_PLACE_SEATS; i++) {
        at = k->seat[i].zone == c->zone ? i : at;
    }
    if (!better(c, &k->seat[at])) {
        return;
    }
    for (; at > 0 && better(c, &k->seat[at - 1]); at--) {
        k->seat[at] = k->seat[at - 1];
    }
    k->seat[at] = *c;
    k->bound = k->seat[SCHED_PLACE_SEATS - 1].score + 1;
}

/* Seats the best three of the group and c. The rule of the header, applied to these four alone:
 * whoever the rule seats among all members is among them, so no other member has to be looked at.
 */
static void pick_merge(const struct sched_place *t, struct pick *k, const struct cand *c)
{
    struct cand all[SCHED_PLACE_SEATS + 1];
    unsigned n = 0;
    for (unsigned i = 0; i <= k->n; i++) { /* insertion sort, best first */
        const struct cand *in = i < k->n ? &k->seat[i] : c;
        unsigned at = n++;
        for (; at > 0 && better(in, &all[at - 1]); at--) {
            all[at] = all[at - 1];
        }
        all[at] = *in;
    }
    k->n = 0;
    while (n > 0 && k->n < SCHED_PLACE_SEATS) {
        unsigned at = 0;
        while (at < n && zone_seated(k, all[at].zone)) {
            at++;
        }
        at = at == n ? 0 : at;
        k->seat[k->n++] = all[at];
        n--;
        for (; at < n; at++) {
            all[at] = all[at + 1];
        }
    }
    pick_bound(t, k);
}

static void pick_add(const struct sched_place *t, struct pick *k, const struct cand *c)
{
    if (k->bound != BOUND_NONE && t->zones != 2) {
        pick_replace(k, c, t->zones > 1);
    } else {
        pick_merge(t, k, c);
    }
}

static struct cand cand_of(const struct sched_place *t, const struct pick *k, uint32_t slot)
{
    const struct sched_place_slot *s = &t->slots[slot];
    REQUIRE(s->weight > 0);
    return (struct cand){.score = sched_place_neglog2_q32(draw(k, s)) / s->weight,
        .id = s->id,
        .slot = (uint16_t)slot,
        .zone = s->zone};
}

static void pick_try(const struct sched_place *t, struct pick *k, uint32_t slot)
{
    const struct sched_place_slot *s = &t->slots[slot];
    if (!hopeless(k, s, draw(k, s))) {
        struct cand c = cand_of(t, k, slot);
        if (c.score < k->bound) {
            pick_add(t, k, &c);
        }
    }
}

static void pick_load(const struct sched_place *t, struct pick *k, uint32_t p)
{
    const struct sched_place_group *g = &t->groups[p];
    k->n = g->n;
    for (unsigned i = 0; i < k->n; i++) {
        k->seat[i] = cand_of(t, k, g->slot[i]);
    }
}

static void pick_store(struct sched_place *t, const struct pick *k, uint32_t p)
{
    struct sched_place_group g = {.n = (uint16_t)k->n};
    for (unsigned i = 0; i < k->n; i++) {
        g.slot[i] = k->seat[i].slot;
    }
    t->groups[p] = g;
    t->bounds[p] = k->bound;
}

static void partition_build(struct sched_place *t, uint32_t p)
{
    struct pick k = {.mixed = base_hash_mix64((uint64_t)p + 1), .bound = BOUND_NONE};
    for (uint32_t s = 0; s < t->high; s++) {
        pick_try(t, &k, s);
    }
    pick_store(t, &k, p);
}

static bool group_has(const struct sched_place_group *g, uint32_t slot)
{
    for (unsigned i = 0; i < g->n; i++) {
        if (g->slot[i] == slot) {
            return true;
        }
    }
    return false;
}

/* Distinct zones of members with a weight, counted up to the number of seats: more make no
 * difference to any group. */
static uint16_t zones_count(const struct sched_place *t)
{
    uint16_t seen[SCHED_PLACE_SEATS];
    uint16_t n = 0;
    for (uint32_t s = 0; s < t->high && n < SCHED_PLACE_SEATS; s++) {
        uint16_t i = 0;
        while (i < n && seen[i] != t->slots[s].zone) {
            i++;
        }
        if (t->slots[s].weight > 0 && i == n) {
            seen[n++] = t->slots[s].zone;
        }
    }
    return n;
}

/* Brings the table up to date after the weight of one slot changed (0: it is on its way out).
 * A group without the member can only gain it; a group with it is made anew. */
static void slot_changed(struct sched_place *t, uint32_t slot)
{
    uint16_t zones = zones_count(t);
    bool all = zones != t->zones;
    t->zones = zones;
    for (uint32_t p = 0; p < sched_place_partitions(t); p++) {
        if (group_has(&t->groups[p], slot)) {
            partition_build(t, p);
            continue;
        }
        struct pick k = {
            .mixed = base_hash_mix64((uint64_t)p + 1), .bound = all ? BOUND_NONE : t->bounds[p]};
        const struct sched_place_slot *s = &t->slots[slot];
        if (!hopeless(&k, s, draw(&k, s))) {
            pick_load(t, &k, p);
            pick_try(t, &k, slot);
            pick_store(t, &k, p);
        }
    }
}

static bool cfg_valid(const struct sched_place_cfg *cfg)
{
    return cfg->pbits >= SCHED_PLACE_PBITS_MIN && cfg->pbits <= SCHED_PLACE_PBITS_MAX &&
           cfg->members_max >= 1 && cfg->members_max <= SCHED_PLACE_MEMBERS_MAX;
}

size_t sched_place_size(const struct sched_place_cfg *cfg)
{
    struct sched_place *t;
    if (!cfg_valid(cfg)) {
        return 0;
    }
    return ((size_t)1 << cfg->pbits) * (sizeof *t->groups + sizeof *t->bounds) +
           (size_t)cfg->members_max * sizeof *t->slots;
}

int sched_place_init(
    struct sched_place *t, const struct sched_place_cfg *cfg, void *mem, size_t mem_size)
{
    size_t need = sched_place_size(cfg);
    if (need == 0) {
        return BASE_EINVAL;
    }
    if (mem_size < need) {
        return BASE_ENOMEM;
    }
    REQUIRE((uintptr_t)mem % _Alignof(uint64_t) == 0);
    static const char domain[] = "place/1";
    uint8_t *at = mem;
    *t = (struct sched_place){.pbits = (uint16_t)cfg->pbits,
        .members_max = cfg->members_max,
        .salt = base_hash_sip24(cfg->key, domain, sizeof domain - 1)};
    t->groups = (void *)at;
    at += sizeof *t->groups << cfg->pbits;
    t->bounds = (void *)at;
    at += sizeof *t->bounds << cfg->pbits;
    t->slots = (void *)at;
    return sched_place_build(t, NULL, 0);
}

/* The first free slot; there is one when n < members_max. */
static uint32_t slot_take(struct sched_place *t, const struct sched_place_member *m)
{
    uint32_t s = 0;
    while (s < t->high && t->slots[s].id != 0) {
        s++;
    }
    t->slots[s] = (struct sched_place_slot){.id = m->id,
        .hash = base_hash_mix64(m->id ^ t->salt),
        .weight = m->weight,
        .zone = m->zone};
    t->high = s == t->high ? s + 1 : t->high;
    t->n++;
    return s;
}

static void slot_free(struct sched_place *t, uint32_t slot)
{
    t->slots[slot] = (struct sched_place_slot){0};
    t->n--;
    while (t->high > 0 && t->slots[t->high - 1].id == 0) {
        t->high--;
    }
}

static void clear(struct sched_place *t)
{
    memset(t->groups, 0, sizeof *t->groups << t->pbits);
    memset(t->slots, 0, sizeof *t->slots * t->members_max);
    for (uint32_t p = 0; p < sched_place_partitions(t); p++) {
        t->bounds[p] = BOUND_NONE;
    }
    t->n = t->high = t->zones = 0;
}

static int may_join(const struct sched_place *t, const struct sched_place_member *m)
{
    uint16_t slot;
    if (m->id == 0) {
        return BASE_EINVAL;
    }
    if (sched_place_find(t, m->id, &slot) == 0) {
        return BASE_EEXISTS;
    }
    return t->n < t->members_max ? 0 : BASE_EFULL;
}

int sched_place_build(struct sched_place *t, const struct sched_place_member *members, uint32_t n)
{
    clear(t);
    for (uint32_t i = 0; i < n; i++) {
        int rc = may_join(t, &members[i]);
        if (rc < 0) {
            clear(t);
            return rc;
        }
        (void)slot_take(t, &members[i]);
    }
    t->zones = zones_count(t);
    for (uint32_t p = 0; n > 0 && p < sched_place_partitions(t); p++) {
        partition_build(t, p);
    }
    return 0;
}

int sched_place_join(struct sched_place *t, const struct sched_place_member *m)
{
    int rc = may_join(t, m);
    if (rc == 0) {
        slot_changed(t, slot_take(t, m));
    }
    return rc;
}

int sched_place_reweight(struct sched_place *t, uint64_t id, uint8_t weight)
{
    uint16_t slot;
    int rc = sched_place_find(t, id, &slot);
    if (rc == 0 && t->slots[slot].weight != weight) {
        t->slots[slot].weight = weight;
        if (weight > 0 || !MUTANT(52)) {
            slot_changed(t, slot);
        }
    }
    return rc;
}

int sched_place_leave(struct sched_place *t, uint64_t id)
{
    uint16_t slot;
    int rc = sched_place_reweight(t, id, 0);
    if (rc == 0 && sched_place_find(t, id, &slot) == 0) {
        slot_free(t, slot);
    }
    return rc;
}

int sched_place_key(
    const uint8_t key[16], const char *pool, const char *id, size_t id_n, uint64_t *ret_h)
{
    char text[SCHED_PLACE_KEY_BYTES_MAX];
    size_t pool_n = strnlen(pool, sizeof text) + 1; /* with its NUL, the separator */
    if (pool_n > sizeof text || id_n > sizeof text - pool_n) {
        return BASE_ETOOBIG;
    }
    memcpy(text, pool, pool_n);
    memcpy(text + pool_n, id, id_n);
    *ret_h = base_hash_sip24(key, text, pool_n + id_n);
    return 0;
}

unsigned sched_place_lookup(
    const struct sched_place *t, uint64_t h, uint64_t ids[SCHED_PLACE_SEATS])
{
    const struct sched_place_group *g = sched_place_group(t, h);
    for (unsigned i = 0; i < g->n; i++) {
        ids[i] = t->slots[g->slot[i]].id;
    }
    return g->n;
}

int sched_place_member(const struct sched_place *t, uint16_t slot, struct sched_place_member *ret_m)
{
    if (slot >= t->high || t->slots[slot].id == 0) {
        return BASE_ENOTFOUND;
    }
    const struct sched_place_slot *s = &t->slots[slot];
    *ret_m =
        (struct sched_place_member){.id = s->id, .zone = s->zone, .weight = (uint8_t)s->weight};
    return 0;
}

int sched_place_find(const struct sched_place *t, uint64_t id, uint16_t *ret_slot)
{
    for (uint32_t s = 0; id != 0 && s < t->high; s++) {
        if (t->slots[s].id == id) {
            *ret_slot = (uint16_t)s;
            return 0;
        }
    }
    return BASE_ENOTFOUND;
}

unsigned sched_place_rank(const struct sched_place *t, uint32_t p, uint16_t *slots, unsigned max)
{
    struct pick k = {.mixed = base_hash_mix64((uint64_t)p + 1)};
    struct cand last = {0}; /* scores are at least 1 unless a weight divides them to 0; ids too */
    unsigned n = 0;
    for (; n < max; n++) {
        struct cand best = {.score = UINT64_MAX};
        for (uint32_t s = 0; s < t->high; s++) {
            if (t->slots[s].weight == 0) {
                continue;
            }
            struct cand c = cand_of(t, &k, s);
            if (better(&last, &c) && better(&c, &best)) {
                best = c;
            }
        }
        if (best.score == UINT64_MAX) {
            break;
        }
        slots[n] = best.slot;
        last = best;
    }
    return n;
}

uint64_t sched_place_digest(const struct sched_place *t)
{
    uint64_t d = base_hash_mix64(t->pbits);
    for (uint32_t p = 0; p < sched_place_partitions(t); p++) {
        const struct sched_place_group *g = &t->groups[p];
        d = base_hash_mix64(d ^ g->n);
        for (unsigned i = 0; i < g->n; i++) {
            d = base_hash_mix64(d ^ t->slots[g->slot[i]].id);
        }
    }
    return d;
}
