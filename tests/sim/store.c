#include <stdlib.h>

#include "proto/base/assert.h"
#include "proto/base/hash.h"
#include "scheduler/core/map.h"
#include "tests/sim/store.h"

/* The twin of a node's stores: rows by kind and key, what was committed and nothing else. */

struct sim_rows {
    struct sched_row *rows;
    struct sched_map by_name;
    void *index;
    struct sched_part *parts;
    uint32_t n, cap, n_parts;
    struct sched_row vote, known, view;
    bool has_vote, has_known, has_view, has_catalog, has_quota[SCHED_QUOTA_REGS];
    struct sched_row quota[SCHED_QUOTA_REGS], catalog;
    struct sched_quota_entry *entries[SCHED_QUOTA_REGS]; /* owned copies, as what follows */
    uint8_t *document;
    struct sched_view vote_view, known_view; /* owned copies */
    uint32_t base[SCHED_BUCKETS];
};

struct sim_rows *sim_rows_new(void)
{
    struct sim_rows *r = calloc(1, sizeof *r);
    REQUIRE(r != NULL);
    return r;
}

void sim_rows_free(struct sim_rows *r)
{
    free(r->rows);
    free(r->index);
    free(r->parts);
    for (uint32_t i = 0; i < SCHED_QUOTA_REGS; i++) {
        free(r->entries[i]);
    }
    free(r->document);
    free(r->vote_view.m);
    free(r->known_view.m);
    free(r);
}

void sim_rows_clear(struct sim_rows *r)
{
    r->n = 0;
    if (r->cap > 0) {
        sched_map_clear(&r->by_name);
    }
    r->has_vote = r->has_known = r->has_view = r->has_catalog = false;
    memset(r->has_quota, 0, sizeof r->has_quota);
    memset(r->base, 0, sizeof r->base);
    if (r->n_parts > 0) {
        memset(r->parts, 0, r->n_parts * sizeof *r->parts);
    }
}

/* REG, SESS and EXEC rows are found by what names them. */
static struct sched_key name_of(const struct sched_row *row)
{
    bool exec = row->kind == SCHED_ROW_EXEC;
    struct sched_key k = {exec ? row->exec.hi : row->key.hi, exec ? row->exec.lo : row->key.lo};
    k.lo = base_hash_mix64(k.lo ^ row->kind);
    return k;
}

static void index_row(struct sim_rows *r, uint32_t i)
{
    struct sched_key k = name_of(&r->rows[i]);
    (void)sched_map_put(&r->by_name, k.hi, k.lo, i);
}

static void grow(struct sim_rows *r)
{
    r->cap = r->cap == 0 ? 16 : r->cap * 2;
    r->rows = realloc(r->rows, r->cap * sizeof *r->rows);
    struct sched_mem mem = {0};
    sched_map_init(&r->by_name, r->cap, &mem);
    free(r->index);
    r->index = aligned_alloc(16, mem.used);
    REQUIRE(r->rows != NULL && r->index != NULL);
    mem = (struct sched_mem){.base = r->index, .size = mem.used};
    sched_map_init(&r->by_name, r->cap, &mem);
    for (uint32_t i = 0; i < r->n; i++) {
        index_row(r, i);
    }
}

/* The last one takes its place. */
static void erase_row(struct sim_rows *r, uint32_t i)
{
    struct sched_key k = name_of(&r->rows[i]);
    sched_map_del(&r->by_name, k.hi, k.lo);
    if (i != --r->n) {
        r->rows[i] = r->rows[r->n];
        index_row(r, i);
    }
}

static void put_list(struct sim_rows *r, const struct sched_row *row)
{
    struct sched_key k = name_of(row);
    uint32_t i = r->cap == 0 ? SCHED_MAP_NONE : sched_map_get(&r->by_name, k.hi, k.lo);
    if (row->erase) {
        if (i != SCHED_MAP_NONE) {
            erase_row(r, i);
        }
    } else if (i != SCHED_MAP_NONE) {
        r->rows[i] = *row;
    } else {
        if (r->n == r->cap) {
            grow(r);
        }
        r->rows[r->n] = *row;
        index_row(r, r->n++);
    }
}

static void drop_bucket(struct sim_rows *r, const struct sched_row *row, unsigned pbits)
{
    r->base[row->first] = row->num;
    for (uint32_t i = 0; i < r->n;) {
        uint32_t part = sched_key_part(r->rows[i].key, pbits);
        if (r->rows[i].kind == SCHED_ROW_REG && sched_part_bucket(part, pbits) == row->first) {
            erase_row(r, i);
        } else {
            i++;
        }
    }
}

static void put_parts(struct sim_rows *r, const struct sched_row *row)
{
    if (row->first + row->n > r->n_parts) {
        uint32_t n = row->first + row->n;
        r->parts = realloc(r->parts, n * sizeof *r->parts);
        REQUIRE(r->parts != NULL);
        memset(r->parts + r->n_parts, 0, (n - r->n_parts) * sizeof *r->parts);
        r->n_parts = n;
    }
    memcpy(r->parts + row->first, row->parts, row->n * sizeof *row->parts);
}

static void own_view(struct sched_view *mine, struct sched_row *row)
{
    if (row->view == NULL) {
        return;
    }
    if (row->view->n > mine->cap) {
        free(mine->m);
        mine->cap = row->view->n;
        mine->m = calloc(mine->cap, sizeof *mine->m);
        REQUIRE(mine->m != NULL);
    }
    REQUIRE(sched_view_copy(mine, row->view) == 0);
    row->view = mine;
}

static void own_entries(struct sim_rows *r, const struct sched_row *row)
{
    struct sched_quota_entry **to = &r->entries[row->first];
    r->quota[row->first] = *row;
    r->has_quota[row->first] = true;
    *to = realloc(*to, (row->n + 1) * sizeof **to);
    REQUIRE(*to != NULL);
    memcpy(*to, row->entries, row->n * sizeof **to);
    r->quota[row->first].entries = *to;
}

static void own_document(struct sim_rows *r, const struct sched_row *row)
{
    r->catalog = *row;
    r->has_catalog = true;
    r->document = realloc(r->document, row->catalog.n + 1);
    REQUIRE(r->document != NULL);
    if (row->catalog.n > 0) {
        memcpy(r->document, row->catalog.bytes, row->catalog.n);
    }
    r->catalog.catalog.bytes = r->document;
}

static unsigned pbits_of(const struct sim_rows *r)
{
    unsigned b = 0;
    while ((1u << b) < r->n_parts) {
        b++;
    }
    return b;
}

void sim_rows_put(struct sim_rows *r, const struct sched_row *row)
{
    switch ((enum sched_row_kind)row->kind) {
    case SCHED_ROW_META:
        break; /* the node's inc */
    case SCHED_ROW_VIEW:
        r->view = *row; /* interned */
        r->has_view = true;
        break;
    case SCHED_ROW_VOTE:
        r->vote = *row;
        own_view(&r->vote_view, &r->vote);
        r->has_vote = true;
        break;
    case SCHED_ROW_KNOWN:
        r->known = *row;
        own_view(&r->known_view, &r->known);
        r->has_known = true;
        break;
    case SCHED_ROW_CATALOG:
        own_document(r, row);
        break;
    case SCHED_ROW_QUOTA:
        own_entries(r, row);
        break;
    case SCHED_ROW_PARTS:
        put_parts(r, row);
        break;
    case SCHED_ROW_BASE:
        drop_bucket(r, row, pbits_of(r));
        break;
    case SCHED_ROW_REG:
    case SCHED_ROW_SESS:
    case SCHED_ROW_EXEC:
        put_list(r, row);
        break;
    }
}

void sim_rows_each(
    const struct sim_rows *r, void (*fn)(void *ctx, const struct sched_row *row), void *ctx)
{
    if (r->has_view) {
        fn(ctx, &r->view);
    }
    if (r->n_parts > 0) {
        struct sched_row p = {.kind = SCHED_ROW_PARTS, .n = r->n_parts, .parts = r->parts};
        fn(ctx, &p);
    }
    for (uint32_t b = 0; b < SCHED_BUCKETS; b++) {
        if (r->base[b] != 0) {
            struct sched_row row = {.kind = SCHED_ROW_BASE, .first = b, .num = r->base[b]};
            fn(ctx, &row);
        }
    }
    for (uint32_t i = 0; i < r->n; i++) {
        fn(ctx, &r->rows[i]);
    }
}

const struct sched_row *sim_rows_find(const struct sim_rows *r, const struct sched_row *like)
{
    struct sched_key k = name_of(like);
    uint32_t i = r->cap == 0 ? SCHED_MAP_NONE : sched_map_get(&r->by_name, k.hi, k.lo);
    return i == SCHED_MAP_NONE ? NULL : &r->rows[i];
}

uint32_t sim_rows_count(const struct sim_rows *r, uint8_t kind)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->n; i++) {
        n += r->rows[i].kind == kind;
    }
    return n;
}

const struct sched_part *sim_rows_parts(const struct sim_rows *r, uint32_t *ret_n)
{
    *ret_n = r->n_parts;
    return r->parts;
}

const struct sched_row *sim_rows_vote(const struct sim_rows *r)
{
    return r->has_vote ? &r->vote : NULL;
}

const struct sched_row *sim_rows_known(const struct sim_rows *r)
{
    return r->has_known ? &r->known : NULL;
}

const struct sched_row *sim_rows_quota(const struct sim_rows *r, uint32_t reg)
{
    return r->has_quota[reg] ? &r->quota[reg] : NULL;
}

const struct sched_row *sim_rows_catalog(const struct sim_rows *r)
{
    return r->has_catalog ? &r->catalog : NULL;
}
