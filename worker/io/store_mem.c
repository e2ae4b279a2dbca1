#include <stdlib.h>
#include <string.h>

#include "proto/base/container.h"
#include "worker/io/store_make.h"

/* The twin in memory: sorted arrays, and a list of what to put back on abort. */

struct entry {
    uint8_t *key;
    size_t key_n;
    uint8_t *value;
    size_t value_n;
};

struct table {
    struct entry *entries;
    size_t n, cap;
};

struct undo {
    enum worker_store_table table;
    bool absent; /* it was not there before */
    struct entry old;
};

struct mem_store {
    struct worker_store base;
    struct table tables[WORKER_STORE_TABLE_END];
    struct undo *undo;
    size_t undo_n, undo_cap;
};

static struct mem_store *mem_of(struct worker_store *st)
{
    return CONTAINER_OF(st, struct mem_store, base);
}

static int compare(const struct entry *e, const uint8_t *key, size_t n)
{
    int c = memcmp(e->key, key, e->key_n < n ? e->key_n : n);
    return c != 0 ? c : (e->key_n > n) - (e->key_n < n);
}

/* Index of the first entry that is not smaller. */
static size_t lower(const struct table *t, const uint8_t *key, size_t n)
{
    size_t lo = 0, hi = t->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (compare(&t->entries[mid], key, n) < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

static bool at_key(const struct table *t, size_t i, const uint8_t *key, size_t n)
{
    return i < t->n && compare(&t->entries[i], key, n) == 0;
}

static uint8_t *copy(const uint8_t *p, size_t n)
{
    uint8_t *c = malloc(n > 0 ? n : 1);
    if (c != NULL && n > 0) {
        memcpy(c, p, n);
    }
    return c;
}

static void *grown(void *p, size_t *cap, size_t n, size_t size)
{
    if (n < *cap) {
        return p;
    }
    size_t more = *cap == 0 ? 16 : *cap * 2;
    void *q = realloc(p, more * size);
    if (q != NULL) {
        *cap = more;
    }
    return q;
}

static int insert(struct table *t, size_t i, const struct entry *e)
{
    struct entry *p = grown(t->entries, &t->cap, t->n, sizeof *p);
    if (p == NULL) {
        return BASE_ENOMEM;
    }
    t->entries = p;
    memmove(p + i + 1, p + i, (t->n - i) * sizeof *p);
    p[i] = *e;
    t->n++;
    return 0;
}

static void take_out(struct table *t, size_t i)
{
    t->n--;
    memmove(t->entries + i, t->entries + i + 1, (t->n - i) * sizeof *t->entries);
}

static int undo_add(struct mem_store *m, const struct undo *u)
{
    struct undo *p = grown(m->undo, &m->undo_cap, m->undo_n, sizeof *p);
    if (p == NULL) {
        return BASE_ENOMEM;
    }
    m->undo = p;
    m->undo[m->undo_n++] = *u;
    return 0;
}

static void entry_free(struct entry *e)
{
    free(e->key);
    free(e->value);
}

static int mem_put(
    struct worker_store *st, enum worker_store_table t, const struct worker_store_row *row)
{
    struct mem_store *m = mem_of(st);
    struct table *tab = &m->tables[t];
    size_t i = lower(tab, row->key, row->key_n);
    struct entry e = {.key = copy(row->key, row->key_n),
        .key_n = row->key_n,
        .value = copy(row->value, row->value_n),
        .value_n = row->value_n};
    struct undo u = {.table = t, .absent = !at_key(tab, i, row->key, row->key_n)};
    if (u.absent) {
        u.old = (struct entry){.key = copy(row->key, row->key_n), .key_n = row->key_n};
    } else {
        u.old = tab->entries[i];
    }
    if (e.key == NULL || e.value == NULL || u.old.key == NULL || undo_add(m, &u) != 0) {
        entry_free(&e);
        if (u.absent) {
            entry_free(&u.old);
        }
        return BASE_ENOMEM;
    }
    if (!u.absent) {
        tab->entries[i] = e;
        return 0;
    }
    int rc = insert(tab, i, &e);
    if (rc != 0) {
        m->undo_n--;
        entry_free(&u.old);
        entry_free(&e);
    }
    return rc;
}

static int del_at(struct mem_store *m, enum worker_store_table t, size_t i)
{
    struct undo u = {.table = t, .old = m->tables[t].entries[i]};
    int rc = undo_add(m, &u);
    if (rc == 0) {
        take_out(&m->tables[t], i);
    }
    return rc;
}

static int mem_del(
    struct worker_store *st, enum worker_store_table t, const void *key, size_t key_n)
{
    struct mem_store *m = mem_of(st);
    size_t i = lower(&m->tables[t], key, key_n);
    return at_key(&m->tables[t], i, key, key_n) ? del_at(m, t, i) : 0;
}

static int mem_del_prefix(
    struct worker_store *st, enum worker_store_table t, const void *p, size_t n)
{
    struct mem_store *m = mem_of(st);
    struct table *tab = &m->tables[t];
    size_t i = lower(tab, p, n);
    int rc = 0;
    while (rc == 0 && i < tab->n && tab->entries[i].key_n >= n &&
           memcmp(tab->entries[i].key, p, n) == 0) {
        rc = del_at(m, t, i);
    }
    return rc;
}

static int mem_seek(struct worker_store *st, enum worker_store_table t,
    const struct worker_store_row *key, struct worker_store_row *ret)
{
    struct table *tab = &mem_of(st)->tables[t];
    size_t i = lower(tab, key->key, key->key_n);
    if (i == tab->n) {
        return BASE_ENOTFOUND;
    }
    struct entry *e = &tab->entries[i];
    *ret = (struct worker_store_row){
        .key = e->key, .key_n = e->key_n, .value = e->value, .value_n = e->value_n};
    return 0;
}

static int mem_commit(struct worker_store *st)
{
    struct mem_store *m = mem_of(st);
    for (size_t i = 0; i < m->undo_n; i++) {
        entry_free(&m->undo[i].old);
    }
    m->undo_n = 0;
    return 0;
}

static void mem_abort(struct worker_store *st)
{
    struct mem_store *m = mem_of(st);
    while (m->undo_n > 0) {
        struct undo *u = &m->undo[--m->undo_n];
        struct table *tab = &m->tables[u->table];
        size_t i = lower(tab, u->old.key, u->old.key_n);
        bool there = at_key(tab, i, u->old.key, u->old.key_n);
        if (there) {
            entry_free(&tab->entries[i]);
        }
        if (!u->absent && there) {
            tab->entries[i] = u->old;
        } else if (!u->absent) {
            (void)insert(tab, i, &u->old); /* cannot fail: the place it had is still there */
        } else {
            if (there) {
                take_out(tab, i);
            }
            entry_free(&u->old);
        }
    }
}

static void mem_check(struct worker_store *st)
{
    (void)st;
}

static void mem_close(struct worker_store *st)
{
    struct mem_store *m = mem_of(st);
    mem_abort(st);
    for (int t = 0; t < WORKER_STORE_TABLE_END; t++) {
        for (size_t i = 0; i < m->tables[t].n; i++) {
            entry_free(&m->tables[t].entries[i]);
        }
        free(m->tables[t].entries);
    }
    free(m->undo);
    free(m);
}

int worker_store_open_mem(struct worker_store **ret)
{
    static const struct worker_store_ops ops = {.put = mem_put,
        .del = mem_del,
        .del_prefix = mem_del_prefix,
        .seek = mem_seek,
        .commit = mem_commit,
        .abort = mem_abort,
        .check = mem_check,
        .close = mem_close};
    struct mem_store *m = calloc(1, sizeof *m);
    if (m == NULL) {
        return BASE_ENOMEM;
    }
    worker_store_init(&m->base, &ops);
    *ret = &m->base;
    return 0;
}
