#include "scheduler/core/reg.h"

#include "proto/base/assert.h"
#include "scheduler/core/mutant.h"

static uint32_t n_parts(const struct sched_cfg *cfg)
{
    return UINT32_C(1) << cfg->pbits;
}

void sched_reg_init(struct sched_reg *r, const struct sched_cfg *cfg, struct sched_mem *mem)
{
    memset(r, 0, sizeof *r);
    r->parts = sched_mem_take(mem, n_parts(cfg), sizeof *r->parts);
    r->heads = sched_mem_take(mem, n_parts(cfg), sizeof *r->heads);
    r->rows = sched_mem_take(mem, cfg->regs_max, sizeof *r->rows);
    sched_map_init(&r->by_key, cfg->regs_max, mem);
    if (r->rows != NULL && mem->used <= mem->size) {
        sched_reg_clear(r, cfg);
    }
}

void sched_reg_clear(struct sched_reg *r, const struct sched_cfg *cfg)
{
    memset(r->parts, 0, sizeof *r->parts * n_parts(cfg));
    memset(r->heads, 0xff, sizeof *r->heads * n_parts(cfg));
    memset(r->rows, 0, sizeof *r->rows * cfg->regs_max);
    sched_map_clear(&r->by_key);
    for (uint32_t i = 0; i < cfg->regs_max; i++) {
        r->rows[i].next = i + 1 < cfg->regs_max ? i + 1 : SCHED_REG_NONE;
    }
    r->free = 0;
    r->n = 0;
    r->scan = 0;
}

struct sched_reg_row *sched_reg_find(const struct sched_reg *r, struct sched_key key)
{
    uint32_t i = sched_map_get(&r->by_key, key.hi, key.lo);
    return i == SCHED_MAP_NONE ? NULL : &r->rows[i];
}

/* The row of the key, made when it is new; NULL when the table is full. */
static struct sched_reg_row *touch(
    struct sched_reg *r, const struct sched_env *e, struct sched_key key)
{
    struct sched_reg_row *row = sched_reg_find(r, key);
    if (row != NULL || r->free == SCHED_REG_NONE) {
        return row;
    }
    uint32_t i = r->free, part = sched_key_part(key, e->cfg->pbits);
    REQUIRE(r->rows != NULL);
    row = &r->rows[i];
    r->free = row->next;
    r->n++;
    *row = (struct sched_reg_row){
        .key = key, .part = part, .used = true, .due_ns = e->now_ns + SCHED_MS(e->cfg->keep_ms)};
    uint32_t *at = &r->heads[part];
    while (*at != SCHED_REG_NONE && sched_key_less(r->rows[*at].key, key)) {
        at = &r->rows[*at].next;
    }
    row->next = *at;
    *at = i;
    (void)sched_map_put(&r->by_key, key.hi, key.lo, i);
    return row;
}

static void erase(struct sched_reg *r, struct sched_reg_row *row)
{
    uint32_t i = (uint32_t)(row - r->rows);
    uint32_t *at = &r->heads[row->part];
    while (*at != i) {
        at = &r->rows[*at].next;
    }
    *at = row->next;
    sched_map_del(&r->by_key, row->key.hi, row->key.lo);
    *row = (struct sched_reg_row){.next = r->free};
    r->free = i;
    r->n--;
}

static void store(struct sched_env *e, const struct sched_reg_row *row)
{
    struct sched_row *s = sched_fx_store(e->fx, SCHED_ROW_REG);
    s->key = row->key;
    s->promised = row->promised;
    s->accepted = row->accepted;
    s->rec = row->rec;
}

bool sched_reg_ready(const struct sched_reg *r, uint32_t part)
{
    const struct sched_part *p = &r->parts[part];
    return p->era != 0 && p->settled == p->era;
}

/* May a ballot of this era be voted on? */
static bool votes(const struct sched_reg *r, uint32_t part, sched_epoch ballot)
{
    if (MUTANT(8)) {
        return r->parts[part].settled != 0;
    }
    return sched_reg_ready(r, part) && sched_epoch_era(ballot) == r->parts[part].era;
}

/* The highest ballot that was promised for the key, forgotten registers included. */
static sched_epoch promised(const struct sched_reg *r, uint32_t part, struct sched_key key)
{
    const struct sched_reg_row *row = sched_reg_find(r, key);
    const struct sched_part *p = &r->parts[part];
    if (row != NULL) {
        return row->promised;
    }
    return p->floor == 0 ? 0 : sched_epoch_make(p->era, p->floor, 0);
}

enum sched_reg_answer sched_reg_promise(struct sched_reg *r, struct sched_env *e,
    struct sched_key key, sched_epoch ballot, struct sched_m_prom *ret)
{
    uint32_t part = sched_key_part(key, e->cfg->pbits);
    if (!votes(r, part, ballot)) {
        return SCHED_REG_SILENT;
    }
    sched_epoch high = promised(r, part, key);
    if (ballot < high) { /* equal: the same request, repeated */
        ret->ballot = high;
        return SCHED_REG_REFUSED;
    }
    bool forgotten = high != 0 && sched_reg_find(r, key) == NULL;
    struct sched_reg_row *row = touch(r, e, key);
    if (row == NULL) {
        return SCHED_REG_SILENT;
    }
    if (forgotten) {
        row->rec.epoch = high - 1;
    }
    row->promised = ballot;
    store(e, row);
    ret->ballot = ballot;
    ret->accepted = row->accepted;
    ret->rec = row->rec;
    return SCHED_REG_OK;
}

static void keep_due(struct sched_reg_row *row, const struct sched_env *e)
{
    uint32_t wait = row->rec.state == SCHED_REC_LIVE ? row->rec.cooldown_ms : e->cfg->keep_ms;
    row->due_ns = e->now_ns + SCHED_MS(wait);
}

enum sched_reg_answer sched_reg_accept(
    struct sched_reg *r, struct sched_env *e, const struct sched_m_acc *m, struct sched_m_prom *ret)
{
    uint32_t part = sched_key_part(m->key, e->cfg->pbits);
    if (!votes(r, part, m->ballot)) {
        return SCHED_REG_SILENT;
    }
    sched_epoch high = promised(r, part, m->key);
    if (m->ballot < high && !MUTANT(9)) {
        ret->ballot = high;
        return SCHED_REG_REFUSED;
    }
    struct sched_reg_row *row = touch(r, e, m->key);
    if (row == NULL) {
        return SCHED_REG_SILENT;
    }
    row->bound = row->bound && row->rec.epoch == m->rec.epoch;
    row->promised = row->accepted = m->ballot;
    row->rec = m->rec;
    keep_due(row, e);
    if (!MUTANT(10)) {
        store(e, row);
    }
    ret->ballot = m->ballot;
    return SCHED_REG_OK;
}

uint32_t sched_reg_next_round(
    const struct sched_reg *r, struct sched_key key, uint32_t part, int seat)
{
    uint32_t era = r->parts[part].era;
    sched_epoch high = promised(r, part, key);
    if (sched_epoch_era(high) == era) {
        return sched_epoch_round(high) + 1;
    }
    return seat == 0 ? 0 : 1;
}

bool sched_reg_merge(struct sched_reg *r, struct sched_env *e, const struct sched_sync_rec *s)
{
    struct sched_reg_row *row = touch(r, e, s->key);
    if (row == NULL) {
        return false;
    }
    if (s->accepted > row->accepted) {
        row->accepted = s->accepted;
        row->rec = s->rec;
        row->bound = false;
        if (row->promised < s->accepted) {
            row->promised = s->accepted;
        }
        keep_due(row, e);
        store(e, row);
    }
    return true;
}

uint32_t sched_reg_list(const struct sched_reg *r, uint32_t part, const struct sched_key *after,
    struct sched_sync_rec *out, uint32_t max)
{
    uint32_t n = 0;
    for (uint32_t i = r->heads[part]; i != SCHED_REG_NONE && n < max; i = r->rows[i].next) {
        const struct sched_reg_row *row = &r->rows[i];
        if (row->rec.state != SCHED_REC_NONE &&
            (after == NULL || sched_key_less(*after, row->key))) {
            out[n++] = (struct sched_sync_rec){row->key, row->accepted, row->rec};
        }
    }
    return n;
}

void sched_reg_drop_part(struct sched_reg *r, uint32_t part)
{
    while (r->heads[part] != SCHED_REG_NONE) {
        erase(r, &r->rows[r->heads[part]]);
    }
    r->parts[part].floor = 0;
}

void sched_reg_forget(struct sched_reg *r, struct sched_env *e, struct sched_reg_row *row)
{
    struct sched_part *p = &r->parts[row->part];
    if (sched_epoch_era(row->promised) == p->era && sched_epoch_round(row->promised) >= p->floor &&
        !MUTANT(26)) {
        p->floor = sched_epoch_round(row->promised) + 1;
        sched_reg_store_parts(r, e, row->part, 1);
    }
    struct sched_row *s = sched_fx_store(e->fx, SCHED_ROW_REG);
    s->key = row->key;
    s->erase = true;
    erase(r, row);
}

void sched_reg_store_parts(
    const struct sched_reg *r, struct sched_env *e, uint32_t first, uint32_t n)
{
    struct sched_row *s = sched_fx_store(e->fx, SCHED_ROW_PARTS);
    s->first = first;
    s->n = n;
    s->parts = &r->parts[first];
}

void sched_reg_restore(struct sched_reg *r, struct sched_env *e, const struct sched_row *s)
{
    if (s->kind == SCHED_ROW_PARTS) {
        memcpy(&r->parts[s->first], s->parts, sizeof *s->parts * s->n);
        return;
    }
    struct sched_reg_row *row = touch(r, e, s->key);
    if (row != NULL) {
        row->promised = s->promised;
        row->accepted = s->accepted;
        row->rec = s->rec;
        keep_due(row, e);
    }
}
