#include "scheduler/core/view.h"

#include "proto/base/err.h"
#include "proto/base/hash.h"

void sched_view_init(struct sched_view *v, uint32_t cap, struct sched_mem *mem)
{
    memset(v, 0, sizeof *v);
    v->cap = cap;
    v->m = sched_mem_take(mem, cap, sizeof *v->m);
}

int sched_view_copy(struct sched_view *dst, const struct sched_view *src)
{
    if (src->n > dst->cap) {
        return BASE_EFULL;
    }
    dst->num = src->num;
    dst->version = src->version;
    dst->n = src->n;
    memcpy(dst->rec, src->rec, sizeof dst->rec);
    if (src->n > 0) {
        memcpy(dst->m, src->m, sizeof *src->m * src->n);
    }
    return 0;
}

void sched_view_advance(struct sched_view *v)
{
    for (uint32_t i = 0; i < v->n; i++) {
        struct sched_member *m = &v->m[i];
        if ((m->flags & SCHED_MEMBER_IN) != 0) {
            m->flags = SCHED_MEMBER_IN | SCHED_MEMBER_PREV;
            m->pinc = m->inc;
            m->pzone = m->zone;
            m->pweight = m->weight;
        } else if ((m->flags & SCHED_MEMBER_PREV) != 0) {
            m->flags = 0;
            m->pinc = v->num;
            m->pzone = 0;
            m->pweight = 0;
        }
    }
    v->num++;
    memset(v->rec, 0, sizeof v->rec);
}

/* Index of the first entry whose node is not below `node`. */
static uint32_t lower(const struct sched_view *v, uint64_t node)
{
    uint32_t lo = 0, hi = v->n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (v->m[mid].node < node) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

static struct sched_member *find(const struct sched_view *v, uint64_t node)
{
    uint32_t i = lower(v, node);
    return i < v->n && v->m[i].node == node ? &v->m[i] : NULL;
}

static bool forget_oldest(struct sched_view *v)
{
    uint32_t best = v->n;
    for (uint32_t i = 0; i < v->n; i++) {
        if (v->m[i].flags == 0 && (best == v->n || v->m[i].pinc < v->m[best].pinc)) {
            best = i;
        }
    }
    if (best == v->n) {
        return false;
    }
    memmove(&v->m[best], &v->m[best + 1], sizeof *v->m * (v->n - best - 1));
    v->n--;
    return true;
}

int sched_view_admit(struct sched_view *v, struct sched_host h, uint16_t zone, uint8_t weight)
{
    struct sched_member *m = find(v, h.node);
    if (m != NULL && h.inc <= m->inc) {
        return BASE_ESTATE;
    }
    if (m == NULL) {
        if (v->n == v->cap && !forget_oldest(v)) {
            return BASE_EFULL;
        }
        uint32_t i = lower(v, h.node);
        memmove(&v->m[i + 1], &v->m[i], sizeof *v->m * (v->n - i));
        v->n++;
        m = &v->m[i];
        *m = (struct sched_member){.node = h.node};
    }
    if ((m->flags & SCHED_MEMBER_PREV) == 0) {
        m->pinc = 0;
    }
    m->inc = h.inc;
    m->zone = zone;
    m->weight = weight;
    m->flags |= SCHED_MEMBER_IN;
    return 0;
}

void sched_view_drop(struct sched_view *v, uint64_t node)
{
    struct sched_member *m = find(v, node);
    if (m != NULL && (m->flags & SCHED_MEMBER_IN) != 0) {
        m->flags &= (uint8_t)~SCHED_MEMBER_IN;
        m->weight = 0;
    }
}

int sched_view_weigh(struct sched_view *v, uint64_t node, uint8_t weight)
{
    struct sched_member *m = find(v, node);
    if (m == NULL || (m->flags & SCHED_MEMBER_IN) == 0) {
        return BASE_ENOTFOUND;
    }
    m->weight = weight;
    return 0;
}

const struct sched_member *sched_view_find(const struct sched_view *v, uint64_t node)
{
    return find(v, node);
}

bool sched_view_has(const struct sched_view *v, struct sched_host h)
{
    const struct sched_member *m = find(v, h.node);
    return m != NULL && (m->flags & SCHED_MEMBER_IN) != 0 && m->inc == h.inc;
}

uint32_t sched_view_maxinc(const struct sched_view *v, uint64_t node)
{
    const struct sched_member *m = find(v, node);
    return m == NULL ? 0 : m->inc;
}

uint32_t sched_view_members(const struct sched_view *v)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < v->n; i++) {
        n += (v->m[i].flags & SCHED_MEMBER_IN) != 0;
    }
    return n;
}

static bool member_equal(const struct sched_member *a, const struct sched_member *b)
{
    return a->node == b->node && a->inc == b->inc && a->pinc == b->pinc && a->zone == b->zone &&
           a->pzone == b->pzone && a->weight == b->weight && a->pweight == b->pweight &&
           a->flags == b->flags;
}

bool sched_view_equal(const struct sched_view *a, const struct sched_view *b)
{
    if (a->num != b->num || a->n != b->n || sched_view_version(a) != sched_view_version(b) ||
        memcmp(a->rec, b->rec, sizeof a->rec) != 0) {
        return false;
    }
    for (uint32_t i = 0; i < a->n; i++) {
        if (!member_equal(&a->m[i], &b->m[i])) {
            return false;
        }
    }
    return true;
}

uint64_t sched_view_digest(const struct sched_view *v)
{
    uint64_t d = base_hash_mix64(v->num ^ (uint64_t)v->n << 32);
    if (sched_view_version(v) > SCHED_VERSION_BASE) { /* else as builds that know no other say */
        d = base_hash_mix64(d ^ v->version);
    }
    for (uint32_t i = 0; i < SCHED_BUCKET_WORDS; i++) {
        d = base_hash_mix64(d ^ v->rec[i]);
    }
    for (uint32_t i = 0; i < v->n; i++) {
        const struct sched_member *m = &v->m[i];
        d = base_hash_mix64(d ^ m->node);
        d = base_hash_mix64(d ^ m->inc ^ (uint64_t)m->pinc << 32);
        d = base_hash_mix64(d ^ m->zone ^ (uint64_t)m->weight << 16 ^ (uint64_t)m->pweight << 24 ^
                            (uint64_t)m->flags << 32 ^ (uint64_t)m->pzone << 40);
    }
    return d;
}

bool sched_view_changed(const struct sched_member *m)
{
    uint8_t both = SCHED_MEMBER_IN | SCHED_MEMBER_PREV;
    if (m->flags == 0) {
        return false;
    }
    return m->flags != both || m->inc != m->pinc || m->weight != m->pweight;
}
