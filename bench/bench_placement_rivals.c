#include <stdlib.h>
#include <string.h>

#include "bench/bench_placement.h"
#include "proto/base/assert.h"
#include "proto/base/hash.h"

static void *must(void *p)
{
    REQUIRE(p != NULL);
    return p;
}

static uint64_t node_hash(uint32_t node, uint64_t salt)
{
    return base_hash_mix64(base_hash_mix64(salt) ^ (node + UINT64_C(1)));
}

/* h as a fraction of 2^64, times n. */
static inline uint32_t scale(uint64_t h, uint32_t n)
{
    return (uint32_t)(((unsigned __int128)h * n) >> 64);
}

/* Consistent hashing on a ring, 256 points per node: the key belongs to the next point. */
enum { POINTS = 256 };

struct point {
    uint64_t at;
    uint32_t node;
};

struct ring {
    struct point *points;
    uint32_t *index; /* first point at or after each 1/2^bits of the ring; NULL: binary search */
    uint32_t n, room;
    unsigned bits;
};

static int by_place(const void *a, const void *b)
{
    const struct point *x = a, *y = b;
    return (x->at > y->at) - (x->at < y->at);
}

static void ring_reindex(struct ring *r)
{
    if (r->index == NULL) {
        return;
    }
    for (r->bits = 1; (UINT32_C(1) << r->bits) < r->n; r->bits++) {
    }
    uint32_t at = 0;
    for (uint32_t i = 0; i < UINT32_C(1) << r->bits; i++) {
        while (at < r->n && r->points[at].at < (uint64_t)i << (64 - r->bits)) {
            at++;
        }
        r->index[i] = at;
    }
}

static void ring_add(struct ring *r, uint32_t node)
{
    for (uint32_t i = 0; i < POINTS; i++) {
        r->points[r->n++] = (struct point){node_hash(node, i + 1), node};
    }
}

static void ring_build(void *s, uint32_t n)
{
    struct ring *r = s;
    r->n = 0;
    for (uint32_t node = 0; node < n; node++) {
        ring_add(r, node);
    }
    qsort(r->points, r->n, sizeof *r->points, by_place);
    ring_reindex(r);
}

static void ring_leave(void *s, uint32_t node)
{
    struct ring *r = s;
    uint32_t to = 0;
    for (uint32_t i = 0; i < r->n; i++) {
        if (r->points[i].node != node) {
            r->points[to++] = r->points[i];
        }
    }
    r->n = to;
    ring_reindex(r);
}

/* Merges the new node's points in from the end. */
static void ring_join(void *s, uint32_t node)
{
    struct ring *r = s, fresh = {.n = 0};
    struct point mine[POINTS];
    fresh.points = mine;
    ring_add(&fresh, node);
    qsort(mine, POINTS, sizeof mine[0], by_place);
    uint32_t old = r->n, left = POINTS, to = old + POINTS;
    r->n = to;
    while (left > 0) {
        bool take_old = old > 0 && r->points[old - 1].at > mine[left - 1].at;
        r->points[--to] = take_old ? r->points[--old] : mine[--left];
    }
    ring_reindex(r);
}

static void ring_locate(const void *s, const uint64_t *key, uint32_t *node, size_t n)
{
    const struct ring *r = s;
    for (size_t i = 0; i < n; i++) {
        uint32_t low = 0, high = r->n;
        while (low < high) {
            uint32_t mid = (low + high) / 2;
            if (r->points[mid].at < key[i]) {
                low = mid + 1;
            } else {
                high = mid;
            }
        }
        node[i] = r->points[low == r->n ? 0 : low].node;
    }
}

static void ring_locate_indexed(const void *s, const uint64_t *key, uint32_t *node, size_t n)
{
    const struct ring *r = s;
    for (size_t i = 0; i < n; i++) {
        uint32_t at = r->index[key[i] >> (64 - r->bits)];
        while (at < r->n && r->points[at].at < key[i]) {
            at++;
        }
        node[i] = r->points[at == r->n ? 0 : at].node;
    }
}

static void *ring_create(uint32_t room)
{
    struct ring *r = must(calloc(1, sizeof *r));
    r->room = room;
    r->points = must(calloc((size_t)room * POINTS, sizeof *r->points));
    return r;
}

static void *ring_create_indexed(uint32_t room)
{
    struct ring *r = ring_create(room);
    r->index = must(calloc((size_t)room * POINTS * 2, sizeof *r->index));
    return r;
}

static size_t ring_bytes(const void *s)
{
    const struct ring *r = s;
    return r->n * sizeof *r->points + (r->index == NULL ? 0 : sizeof *r->index << r->bits);
}

static void ring_destroy(void *s)
{
    struct ring *r = s;
    free(r->points);
    free(r->index);
    free(r);
}

const struct bench_placer bench_placer_ring = {"ring, 256 points", true, true, ring_create,
    ring_build, ring_leave, ring_join, ring_locate, ring_bytes, ring_destroy};
const struct bench_placer bench_placer_ring_indexed = {"ring, indexed", true, true,
    ring_create_indexed, ring_build, ring_leave, ring_join, ring_locate_indexed, ring_bytes,
    ring_destroy};

/* A list of the nodes that are there: all that jump and rendezvous keep. */
struct list {
    uint32_t n, room;
    struct {
        uint64_t hash;
        uint32_t node;
    } at[];
};

static void *list_create(uint32_t room)
{
    struct list *l = must(calloc(1, sizeof *l + room * sizeof l->at[0]));
    l->room = room;
    return l;
}

static void list_join(void *s, uint32_t node)
{
    struct list *l = s;
    l->at[l->n].hash = node_hash(node, 7);
    l->at[l->n++].node = node;
}

static void list_build(void *s, uint32_t n)
{
    struct list *l = s;
    l->n = 0;
    for (uint32_t node = 0; node < n; node++) {
        list_join(l, node);
    }
}

/* The last one takes the leaver's number. */
static void list_leave(void *s, uint32_t node)
{
    struct list *l = s;
    for (uint32_t i = 0; i < l->n; i++) {
        if (l->at[i].node == node) {
            l->at[i] = l->at[--l->n];
        }
    }
}

static size_t list_bytes(const void *s)
{
    const struct list *l = s;
    return l->n * sizeof l->at[0];
}

/* Lamping and Veach 2014: the next bucket a key jumps to as the number of buckets grows. */
static void jump_locate(const void *s, const uint64_t *key, uint32_t *node, size_t n)
{
    const struct list *l = s;
    for (size_t i = 0; i < n; i++) {
        uint64_t k = key[i];
        int64_t b = -1, j = 0;
        while (j < (int64_t)l->n) {
            b = j;
            k = k * UINT64_C(2862933555777941757) + 1;
            j = (int64_t)((double)(b + 1) * (0x1p31 / (double)((k >> 33) + 1)));
        }
        node[i] = l->at[b].node;
    }
}

static void rendezvous_locate(const void *s, const uint64_t *key, uint32_t *node, size_t n)
{
    const struct list *l = s;
    for (size_t i = 0; i < n; i++) {
        uint64_t best = 0;
        uint32_t at = 0;
        for (uint32_t j = 0; j < l->n; j++) {
            uint64_t score = base_hash_mix64(key[i] ^ l->at[j].hash);
            if (score >= best) {
                best = score;
                at = l->at[j].node;
            }
        }
        node[i] = at;
    }
}

const struct bench_placer bench_placer_jump = {"jump", false, false, list_create, list_build,
    list_leave, list_join, jump_locate, list_bytes, free};
const struct bench_placer bench_placer_rendezvous = {"rendezvous O(n)", true, true, list_create,
    list_build, list_leave, list_join, rendezvous_locate, list_bytes, free};

/* Maglev (Eisenbud et al. 2016): nodes take turns to claim table entries in their own order. */
struct maglev {
    uint32_t size; /* a prime, at least 100 entries per node */
    uint32_t room;
    uint32_t *table;
    struct {
        uint32_t at, skip; /* its next wish, and the step to the one after */
        bool there;
    } * node;
};

static void *maglev_create(uint32_t room)
{
    struct maglev *m = must(calloc(1, sizeof *m));
    m->room = room;
    m->size = room <= 655 ? 65537 : room <= 6553 ? 655373 : 5242883;
    m->table = must(calloc(m->size, sizeof *m->table));
    m->node = must(calloc(room, sizeof *m->node));
    return m;
}

static void maglev_fill(struct maglev *m)
{
    memset(m->table, 0xff, m->size * sizeof *m->table);
    for (uint32_t i = 0; i < m->room; i++) {
        m->node[i].at = (uint32_t)(node_hash(i, 11) % m->size);
        m->node[i].skip = (uint32_t)(node_hash(i, 13) % (m->size - 1) + 1);
    }
    uint32_t filled = 0;
    for (uint32_t i = 0;; i = i + 1 == m->room ? 0 : i + 1) {
        if (!m->node[i].there) {
            continue;
        }
        uint32_t at;
        do {
            at = m->node[i].at;
            uint32_t next = at + m->node[i].skip;
            m->node[i].at = next >= m->size ? next - m->size : next;
        } while (m->table[at] != UINT32_MAX);
        m->table[at] = i;
        if (++filled == m->size) {
            return;
        }
    }
}

static void maglev_build(void *s, uint32_t n)
{
    struct maglev *m = s;
    for (uint32_t i = 0; i < m->room; i++) {
        m->node[i].there = i < n;
    }
    maglev_fill(m);
}

static void maglev_leave(void *s, uint32_t node)
{
    struct maglev *m = s;
    m->node[node].there = false;
    maglev_fill(m);
}

static void maglev_join(void *s, uint32_t node)
{
    struct maglev *m = s;
    m->node[node].there = true;
    maglev_fill(m);
}

static void maglev_locate(const void *s, const uint64_t *key, uint32_t *node, size_t n)
{
    const struct maglev *m = s;
    for (size_t i = 0; i < n; i++) {
        node[i] = m->table[scale(key[i], m->size)];
    }
}

static size_t maglev_bytes(const void *s)
{
    const struct maglev *m = s;
    return m->size * sizeof *m->table;
}

static void maglev_destroy(void *s)
{
    struct maglev *m = s;
    free(m->table);
    free(m->node);
    free(m);
}

const struct bench_placer bench_placer_maglev = {"Maglev", false, true, maglev_create, maglev_build,
    maglev_leave, maglev_join, maglev_locate, maglev_bytes, maglev_destroy};

/* AnchorHash (Mendelson et al. 2020), with room for as many nodes again. a[b]: how many were left
 * when b went (0: it is there); w: who is there, l: where in w, k: who follows a bucket that went.
 */
struct anchor {
    uint32_t size, n, gone_n;
    uint32_t *a, *w, *l, *k, *gone;
};

static void *anchor_create(uint32_t room)
{
    struct anchor *t = must(calloc(1, sizeof *t));
    t->size = room * 2;
    t->a = must(calloc(t->size, sizeof *t->a * 5));
    t->w = t->a + t->size;
    t->l = t->w + t->size;
    t->k = t->l + t->size;
    t->gone = t->k + t->size;
    return t;
}

static void anchor_leave(void *s, uint32_t b)
{
    struct anchor *t = s;
    t->gone[t->gone_n++] = b;
    t->n--;
    t->a[b] = t->n;
    t->w[t->l[b]] = t->k[b] = t->w[t->n];
    t->l[t->w[t->n]] = t->l[b];
}

static void anchor_join(void *s, uint32_t node)
{
    struct anchor *t = s;
    uint32_t b = t->gone[--t->gone_n];
    REQUIRE(b == node); /* AnchorHash can only take back the last one that left */
    t->a[b] = 0;
    t->l[t->w[t->n]] = t->n;
    t->w[t->l[b]] = t->k[b] = b;
    t->n++;
}

static void anchor_build(void *s, uint32_t n)
{
    struct anchor *t = s;
    t->n = t->size;
    t->gone_n = 0;
    for (uint32_t b = 0; b < t->size; b++) {
        t->a[b] = 0;
        t->w[b] = t->l[b] = t->k[b] = b;
    }
    while (t->n > n) {
        anchor_leave(t, t->n - 1);
    }
}

static void anchor_locate(const void *s, const uint64_t *key, uint32_t *node, size_t n)
{
    const struct anchor *t = s;
    for (size_t i = 0; i < n; i++) {
        uint32_t b = scale(key[i], t->size);
        while (t->a[b] > 0) {
            uint32_t h = scale(base_hash_mix64(key[i] ^ (uint64_t)b << 32), t->a[b]);
            while (t->a[h] >= t->a[b]) {
                h = t->k[h];
            }
            b = h;
        }
        node[i] = b;
    }
}

static size_t anchor_bytes(const void *s)
{
    const struct anchor *t = s;
    return t->size * sizeof *t->a * 5;
}

static void anchor_destroy(void *s)
{
    struct anchor *t = s;
    free(t->a);
    free(t);
}

const struct bench_placer bench_placer_anchor = {"AnchorHash, a = 2n", true, true, anchor_create,
    anchor_build, anchor_leave, anchor_join, anchor_locate, anchor_bytes, anchor_destroy};
