#include "scheduler/core/cat.h"

#include <string.h>

#include "scheduler/core/mutant.h"

enum {
    HEAD = 1 + 8 + 4 + 4 + 4 + 4,
    DIGITS = 16, /* of a number in the document's own entry */
    MADE = 2 * DIGITS,
    OWN_MAX = DIGITS + SCHED_CAT_MADE_MAX * MADE,
};

static const char own_key[] = ".";

static uint64_t get(const uint8_t *p, unsigned n)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < n; i++) {
        v |= (uint64_t)p[i] << (8 * i);
    }
    return v;
}

static uint8_t *put(uint8_t *p, uint64_t v, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        p[i] = (uint8_t)(v >> (8 * i));
    }
    return p + n;
}

bool sched_cat_next(const struct sched_cat_doc *d, uint32_t *at, struct sched_cat_entry *ret)
{
    uint32_t left = *at < d->n ? d->n - *at : 0;
    if (left < HEAD) {
        return false;
    }
    const uint8_t *p = d->bytes + *at;
    if (left - HEAD < p[0]) {
        return false;
    }
    const uint8_t *q = p + 1 + p[0];
    uint32_t n = (uint32_t)get(q + 20, 4);
    if (left - HEAD - p[0] < n) {
        return false;
    }
    *ret = (struct sched_cat_entry){.key = (const char *)p + 1,
        .key_n = p[0],
        .version = get(q, 8),
        .pool = (uint32_t)get(q + 8, 4),
        .max = (uint32_t)get(q + 12, 4),
        .ready = (uint32_t)get(q + 16, 4),
        .value = q + 24,
        .value_n = n};
    *at += HEAD + p[0] + n;
    return true;
}

bool sched_cat_key_valid(const char *key, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        char c = key[i];
        bool good = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
                    c == '/' || c == '-';
        if (!good) {
            return false;
        }
    }
    return n > 0 && n <= SCHED_CAT_KEY_MAX;
}

static int compare(const struct sched_cat_entry *a, const struct sched_cat_entry *b)
{
    int rc = memcmp(a->key, b->key, a->key_n < b->key_n ? a->key_n : b->key_n);
    return rc != 0 ? rc : (a->key_n > b->key_n) - (a->key_n < b->key_n);
}

bool sched_cat_valid(const struct sched_cat_doc *d)
{
    struct sched_cat_entry e, before = {.key = ""};
    uint32_t pools[SCHED_CAT_POOLS_MAX], pools_n = 0, at = 0, n = 0;
    while (sched_cat_next(d, &at, &e)) {
        if (++n > SCHED_CAT_ENTRIES_MAX || !sched_cat_key_valid(e.key, e.key_n) ||
            e.value_n > SCHED_CAT_VALUE_MAX || e.version == 0 || e.version > d->version ||
            compare(&before, &e) >= 0) {
            return false;
        }
        for (uint32_t i = 0; e.pool != 0 && i < pools_n; i++) {
            if (pools[i] == e.pool) {
                return false;
            }
        }
        if (e.pool != 0 && pools_n == SCHED_CAT_POOLS_MAX) {
            return false;
        }
        if (e.pool != 0) {
            pools[pools_n++] = e.pool;
        }
        before = e;
    }
    return at == d->n && d->n <= SCHED_CAT_BYTES_MAX;
}

/* ---- the document's own entry ---- */

bool sched_cat_own(const struct sched_cat_entry *e)
{
    return e->key_n == 1 && e->key[0] == own_key[0];
}

static uint64_t get_hex(const uint8_t *p)
{
    uint64_t v = 0;
    for (int i = 0; i < DIGITS; i++) {
        v = v << 4 | (uint64_t)((p[i] & 15) + (p[i] >= 'a' ? 9 : 0));
    }
    return v;
}

static uint8_t *put_hex(uint8_t *p, uint64_t v)
{
    for (int i = 0; i < DIGITS; i++) {
        p[i] = (uint8_t) "0123456789abcdef"[v >> (60 - 4 * i) & 15];
    }
    return p + DIGITS;
}

static bool find(
    const struct sched_cat_doc *d, const char *key, uint32_t n, struct sched_cat_entry *ret)
{
    uint32_t at = 0;
    while (sched_cat_next(d, &at, ret)) {
        if (ret->key_n == n && memcmp(ret->key, key, n) == 0) {
            return true;
        }
    }
    return false;
}

uint64_t sched_cat_version(const struct sched_cat_doc *d, const char *key, uint32_t key_n)
{
    struct sched_cat_entry e;
    return find(d, key, key_n, &e) ? e.version : 0;
}

uint64_t sched_cat_birth_in(const struct sched_cat_entry *e)
{
    return sched_cat_own(e) && e->value_n >= DIGITS ? get_hex(e->value) : 0;
}

uint64_t sched_cat_birth(const struct sched_cat_doc *d)
{
    struct sched_cat_entry e;
    return find(d, own_key, 1, &e) ? sched_cat_birth_in(&e) : 0;
}

uint64_t sched_cat_made(const struct sched_cat_doc *d, uint64_t id)
{
    struct sched_cat_entry e;
    if (id == 0 || !find(d, own_key, 1, &e)) {
        return 0;
    }
    for (uint32_t at = DIGITS; at + MADE <= e.value_n; at += MADE) {
        if (get_hex(e.value + at) == id) {
            return get_hex(e.value + at + DIGITS);
        }
    }
    return 0;
}

/* ---- changes ---- */

/* What of the document bears on the change. */
struct look {
    bool there;
    struct sched_cat_entry old;
    uint32_t from, to;   /* the old entry's bytes, or twice the place of the new one */
    uint32_t n, pools_n; /* entries besides the old one */
    bool number_taken;
};

static struct look look_at(const struct sched_cat_doc *d, const struct sched_cat_entry *e)
{
    struct look l = {.from = 0};
    struct sched_cat_entry x;
    uint32_t at = 0, start = 0;
    for (; sched_cat_next(d, &at, &x); start = at) {
        int rc = compare(&x, e);
        if (rc == 0) {
            l.there = true;
            l.old = x;
            l.from = start;
            l.to = at;
            continue;
        }
        if (rc < 0) {
            l.from = l.to = at;
        }
        l.n++;
        l.pools_n += x.pool != 0;
        l.number_taken = l.number_taken || (e->pool != 0 && x.pool == e->pool);
    }
    return l;
}

static uint8_t *write_entry(uint8_t *p, const struct sched_cat_entry *e, uint64_t version)
{
    *p++ = (uint8_t)e->key_n;
    memcpy(p, e->key, e->key_n);
    p = put(p + e->key_n, version, 8);
    p = put(p, e->pool, 4);
    p = put(p, e->max, 4);
    p = put(p, e->ready, 4);
    p = put(p, e->value_n, 4);
    if (e->value_n > 0) {
        memcpy(p, e->value, e->value_n);
    }
    return p + e->value_n;
}

/* Changes that its own entry remembers. */
static uint32_t remembered(const struct sched_cat_entry *own)
{
    return own->value_n < DIGITS ? 0 : (own->value_n - DIGITS) / MADE;
}

/* And those of them that it goes on to remember with one more. */
static uint32_t kept(const struct sched_cat_entry *own)
{
    uint32_t n = remembered(own);
    return n < SCHED_CAT_MADE_MAX ? n : SCHED_CAT_MADE_MAX - 1;
}

/* Bytes that it has then, and has before. */
static uint32_t own_after(const struct sched_cat_doc *d, uint32_t *ret_before)
{
    struct sched_cat_entry own;
    bool there = find(d, own_key, 1, &own);
    *ret_before = there ? HEAD + 1 + own.value_n : 0;
    return HEAD + 1 + DIGITS + ((there ? kept(&own) : 0) + 1) * MADE;
}

/* The change is noted in the document of n bytes that has it; returns its new length. */
static uint32_t note(const struct sched_cat_change *c, uint64_t version, uint8_t *doc, uint32_t n)
{
    uint8_t value[OWN_MAX];
    const struct sched_cat_doc d = {version, n, doc};
    struct sched_cat_entry own = {.key = own_key, .key_n = 1, .value = value};
    struct look l = look_at(&d, &own);
    uint32_t have = l.there ? kept(&l.old) : 0;
    uint32_t from = l.there ? DIGITS + (remembered(&l.old) - have) * MADE : 0;
    bool born = l.there && l.old.value_n >= DIGITS && !MUTANT(96);
    uint8_t *p = put_hex(value, born ? get_hex(l.old.value) : c->birth);
    if (have > 0) {
        memcpy(p, l.old.value + from, (size_t)have * MADE);
    }
    p = put_hex(put_hex(p + (size_t)have * MADE, c->id), version);
    own.value_n = (uint32_t)(p - value);
    uint32_t size = HEAD + 1 + own.value_n;
    memmove(doc + l.from + size, doc + l.to, n - l.to);
    (void)write_entry(doc + l.from, &own, version);
    return n - (l.to - l.from) + size;
}

enum sched_cat_result sched_cat_apply(const struct sched_cat_doc *d,
    const struct sched_cat_change *change, uint8_t *to, uint32_t *ret_n)
{
    const struct sched_cat_entry *e = &change->entry;
    if (!sched_cat_key_valid(e->key, e->key_n) || sched_cat_own(e) ||
        e->value_n > SCHED_CAT_VALUE_MAX) {
        return SCHED_CAT_INVALID;
    }
    struct look l = look_at(d, e);
    if (change->erase && !l.there) {
        return SCHED_CAT_NOT_FOUND;
    }
    if (change->expect != SCHED_CAT_ANY && !MUTANT(73) &&
        change->expect != (l.there ? l.old.version : 0)) {
        return SCHED_CAT_CONFLICT;
    }
    uint32_t added = change->erase ? 0 : HEAD + e->key_n + e->value_n;
    uint32_t n = d->n - (l.to - l.from) + added;
    if (!change->erase && l.number_taken) {
        return SCHED_CAT_INVALID;
    }
    if (!change->erase && (n > SCHED_CAT_BYTES_MAX || l.n == SCHED_CAT_ENTRIES_MAX ||
                              (e->pool != 0 && l.pools_n == SCHED_CAT_POOLS_MAX))) {
        return SCHED_CAT_FULL;
    }
    if (l.from > 0) {
        memcpy(to, d->bytes, l.from);
    }
    uint8_t *p = to + l.from;
    p = change->erase ? p : write_entry(p, e, d->version + 1);
    if (d->n > l.to) {
        memcpy(p, d->bytes + l.to, d->n - l.to);
    }
    uint32_t own_before = 0, own = own_after(d, &own_before);
    uint32_t entries = l.n + !change->erase + (own_before == 0);
    bool room = n - own_before + own <= SCHED_CAT_BYTES_MAX && entries <= SCHED_CAT_ENTRIES_MAX;
    *ret_n = change->id != 0 && room ? note(change, d->version + 1, to, n) : n;
    return SCHED_CAT_OK;
}
