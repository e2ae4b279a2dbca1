#include "scheduler/core/sess.h"

#include "proto/base/assert.h"
#include "scheduler/core/mutant.h"

enum { END_REPORTS = 8, END_EVERY_MS = 300, REPORTS_MAX = 64, NONE = 0xffffffff };

void sched_sess_init(struct sched_sess *s, const struct sched_cfg *cfg, struct sched_mem *mem)
{
    memset(s, 0, sizeof *s);
    sched_permits_init(&s->permits, cfg);
    s->rows = sched_mem_take(mem, cfg->sess_max, sizeof *s->rows);
    sched_map_init(&s->by_key, cfg->sess_max, mem);
    sched_map_init(&s->by_resv, cfg->sess_max, mem);
    if (s->rows != NULL && mem->used <= mem->size) {
        sched_sess_clear(s, cfg);
    }
}

void sched_sess_clear(struct sched_sess *s, const struct sched_cfg *cfg)
{
    sched_map_clear(&s->by_key);
    sched_map_clear(&s->by_resv);
    for (uint32_t i = 0; i < cfg->sess_max; i++) {
        s->rows[i] = (struct sched_sess_row){.next = i + 1 < cfg->sess_max ? i + 1 : NONE};
    }
    s->free = 0;
    s->used = s->scan = 0;
    sched_permits_clear(&s->permits);
}

struct sched_sess_row *sched_sess_find(const struct sched_sess *s, struct sched_key key)
{
    uint32_t i = sched_map_get(&s->by_key, key.hi, key.lo);
    return i == SCHED_MAP_NONE ? NULL : &s->rows[i];
}

static struct sched_sess_row *reserved(
    const struct sched_sess *s, uint64_t resv, struct sched_key key)
{
    REQUIRE(s->rows != NULL);
    uint32_t i = sched_map_get(&s->by_resv, resv, 0);
    return i != SCHED_MAP_NONE && sched_key_eq(s->rows[i].key, key) ? &s->rows[i] : NULL;
}

static struct sched_sess_row *take(struct sched_sess *s, struct sched_key key)
{
    if (s->free == NONE) {
        return NULL;
    }
    struct sched_sess_row *row = &s->rows[s->free];
    s->free = row->next;
    s->used++;
    *row = (struct sched_sess_row){.key = key};
    row->counted = sched_permits_take(&s->permits, key);
    return row;
}

static void release(struct sched_sess *s, struct sched_sess_row *row)
{
    if (row->state == SCHED_SESS_RESERVED) {
        sched_map_del(&s->by_resv, row->rec.resv, 0);
    } else {
        sched_map_del(&s->by_key, row->key.hi, row->key.lo);
    }
    if (row->counted) {
        sched_permits_give(&s->permits, row->key);
    }
    *row = (struct sched_sess_row){.next = s->free};
    s->free = (uint32_t)(row - s->rows);
    s->used--;
}

static void store(struct sched_env *e, const struct sched_sess_row *row, bool erase)
{
    struct sched_row *r = sched_fx_store(e->fx, SCHED_ROW_SESS);
    r->key = row->key;
    r->rec = row->rec;
    r->state = row->state;
    r->born_ns = row->born_ns;
    r->erase = erase;
}

bool sched_sess_shut(const struct sched_sess *s, const struct sched_env *e)
{
    return s->closed || e->now_ns < s->shut_ns;
}

bool sched_sess_shut_for(
    const struct sched_sess *s, const struct sched_env *e, struct sched_key key)
{
    bool shut = sched_sess_shut(s, e);
    for (uint32_t i = 0; !shut && i < SCHED_SHUT_MAX; i++) {
        shut = e->now_ns < s->shut[i].until_ns && s->shut[i].pool == sched_key_pool(key);
    }
    return shut;
}

/* The pool's entry, else that which ends first: with more pools than entries one is asked for too
 * early, and says so again. */
static uint64_t *shut_of(struct sched_sess *s, uint32_t pool)
{
    struct sched_sess_shut *first = &s->shut[0];
    for (uint32_t i = 0; i < SCHED_SHUT_MAX; i++) {
        struct sched_sess_shut *it = &s->shut[i];
        if (it->until_ns != 0 && it->pool == pool) {
            return &it->until_ns;
        }
        first = it->until_ns < first->until_ns ? it : first;
    }
    *first = (struct sched_sess_shut){.pool = pool};
    return &first->until_ns;
}

void sched_sess_shut_until(
    struct sched_sess *s, const struct sched_env *e, const struct sched_key *key, uint32_t ms)
{
    uint64_t *to = key == NULL ? &s->shut_ns : shut_of(s, sched_key_pool(*key));
    uint64_t until = e->now_ns + SCHED_MS(ms);
    *to = until > *to ? until : *to;
}

bool sched_sess_hope(const struct sched_sess *s, const struct sched_env *e, struct sched_key key)
{
    return s->free != NONE && !sched_sess_shut_for(s, e, key) &&
           sched_permits_hope(&s->permits, e, key);
}

uint64_t sched_sess_reserve(struct sched_sess *s, struct sched_env *e, struct sched_key key)
{
    bool room = !sched_sess_shut_for(s, e, key) && sched_permits_room(&s->permits, e, key);
    struct sched_sess_row *row = room ? take(s, key) : NULL;
    if (row == NULL) {
        return 0;
    }
    row->state = SCHED_SESS_RESERVED;
    row->rec.resv = ++e->serial;
    row->due_ns = e->now_ns + SCHED_MS(e->cfg->reserve_ms);
    (void)sched_map_put(&s->by_resv, row->rec.resv, 0, (uint32_t)(row - s->rows));
    return row->rec.resv;
}

void sched_sess_release(struct sched_sess *s, uint64_t resv, struct sched_key key)
{
    struct sched_sess_row *row = reserved(s, resv, key);
    if (row != NULL) {
        release(s, row);
    }
}

void sched_sess_release_bucket(struct sched_sess *s, const struct sched_env *e, uint32_t bucket)
{
    unsigned pbits = e->cfg->pbits;
    for (uint32_t i = 0; i < e->cfg->sess_max; i++) {
        struct sched_sess_row *row = &s->rows[i];
        if (row->state == SCHED_SESS_RESERVED &&
            sched_part_bucket(sched_key_part(row->key, pbits), pbits) == bucket) {
            release(s, row);
        }
    }
}

static void answer(
    struct sched_env *e, uint8_t type, struct sched_asker to, const struct sched_sess_row *row)
{
    if (to.gw != 0) {
        struct sched_m_bind *b = &sched_fx_send(e->fx, type, to.gw)->bind;
        b->op = to.rid;
        b->key = row->key;
        b->rec = row->rec;
    }
}

static void start(struct sched_sess *s, struct sched_env *e, struct sched_sess_row *row,
    const struct sched_msg *msg)
{
    const struct sched_m_bind *m = &msg->bind;
    sched_map_del(&s->by_resv, row->rec.resv, 0);
    row->state = SCHED_SESS_STARTING;
    row->rec = m->rec;
    row->born_ns = row->last_ns = e->now_ns;
    row->binder = (struct sched_asker){msg->from, m->op};
    row->exec = m->exec;
    row->asker = m->asker;
    (void)sched_map_put(&s->by_key, row->key.hi, row->key.lo, (uint32_t)(row - s->rows));
    if (!MUTANT(11)) {
        store(e, row, false);
    }
    sched_fx_add(e->fx, SCHED_FX_VM_START)->vm =
        (struct sched_fx_vm){.key = row->key, .epoch = row->rec.epoch};
}

/* BIND of an epoch that has no session here. */
static void bind_new(struct sched_sess *s, struct sched_env *e, struct sched_sess_row *old,
    const struct sched_msg *msg)
{
    const struct sched_m_bind *m = &msg->bind;
    struct sched_sess_row *row = reserved(s, m->rec.resv, m->key);
    bool stale = sched_epoch_era(m->rec.epoch) < sched_env_base(e, m->key) && !MUTANT(12);
    if (row == NULL && MUTANT(14)) {
        sched_sess_reserve(s, e, m->key);
        row = reserved(s, e->serial, m->key);
    }
    if (row == NULL || stale || (old != NULL && old->rec.epoch > m->rec.epoch)) {
        sched_sess_release(s, m->rec.resv, m->key);
        struct sched_m_bind *to = &sched_fx_send(e->fx, SCHED_MSG_UNBOUND, msg->from)->bind;
        *to = *m;
        to->rec.idle = row != NULL; /* its reservation was not used */
        return;
    }
    if ((!sched_env_serving(e) && !MUTANT(15)) || (old != NULL && old->state != SCHED_SESS_ENDED)) {
        return;
    }
    if (old != NULL) {
        store(e, old, true);
        release(s, old);
    }
    start(s, e, row, msg);
}

bool sched_sess_bind(struct sched_sess *s, struct sched_env *e, const struct sched_msg *msg)
{
    const struct sched_m_bind *m = &msg->bind;
    if (!sched_host_eq(m->rec.host, e->me) || !sched_env_member(e)) {
        return false;
    }
    struct sched_sess_row *row = sched_sess_find(s, m->key);
    if (row == NULL || row->rec.epoch != m->rec.epoch) {
        bind_new(s, e, row, msg);
        return false;
    }
    struct sched_asker from = {msg->from, m->op};
    if (row->state == SCHED_SESS_STARTING) {
        row->binder = from;
        if (row->exec.hi == 0 && row->exec.lo == 0) {
            row->exec = m->exec;
            row->asker = m->asker;
        }
    } else if (row->state == SCHED_SESS_LIVE) {
        answer(e, SCHED_MSG_BOUND, from, row);
        return true;
    } else if (row->state == SCHED_SESS_ENDED) {
        answer(e, SCHED_MSG_UNBOUND, from, row);
    }
    return false;
}

void sched_sess_gone(struct sched_sess *s, struct sched_env *e, const struct sched_msg *msg)
{
    const struct sched_m_bind *m = &msg->bind;
    if (!sched_host_eq(m->rec.host, e->me)) {
        return;
    }
    const struct sched_sess_row *row = sched_sess_find(s, m->key);
    bool alive = row != NULL && row->rec.epoch == m->rec.epoch && row->state != SCHED_SESS_ENDED;
    bool unused = reserved(s, m->rec.resv, m->key) != NULL;
    if (!alive && !MUTANT(16)) {
        sched_sess_release(s, m->rec.resv, m->key); /* the promise: it cannot start later */
    }
    struct sched_m_bind *to =
        &sched_fx_send(e->fx, alive ? SCHED_MSG_ALIVE : SCHED_MSG_GONE, msg->from)->bind;
    *to = *m;
    bool over = !alive && row != NULL && row->rec.epoch == m->rec.epoch;
    to->rec.idle = !alive && (unused || (over && row->rec.idle));
    to->rec.state = !alive && unused ? SCHED_REC_NONE : m->rec.state;
}

void sched_sess_acked(struct sched_sess *s, struct sched_env *e, const struct sched_m_bind *m)
{
    struct sched_sess_row *row = sched_sess_find(s, m->key);
    if (row != NULL && row->state == SCHED_SESS_ENDED && row->rec.epoch == m->rec.epoch) {
        store(e, row, true);
        release(s, row);
    }
}

static struct sched_sess_row *of_vm(const struct sched_sess *s, const struct sched_fx_vm *vm)
{
    struct sched_sess_row *row = sched_sess_find(s, vm->key);
    return row != NULL && row->rec.epoch == vm->epoch ? row : NULL;
}

bool sched_sess_up(struct sched_sess *s, struct sched_env *e, const struct sched_fx_vm *vm)
{
    struct sched_sess_row *row = of_vm(s, vm);
    if (row == NULL || row->state != SCHED_SESS_STARTING) {
        return false;
    }
    row->state = SCHED_SESS_LIVE;
    row->last_ns = e->now_ns;
    if (!MUTANT(53)) {
        store(e, row, false);
    }
    answer(e, SCHED_MSG_BOUND, row->binder, row);
    return true;
}

bool sched_sess_down(
    struct sched_sess *s, struct sched_env *e, const struct sched_fx_vm *vm, bool idle)
{
    struct sched_sess_row *row = of_vm(s, vm);
    if (row == NULL || row->state == SCHED_SESS_ENDED) {
        return false;
    }
    row->rec.idle = idle;
    if (row->state == SCHED_SESS_STARTING) {
        answer(e, SCHED_MSG_UNBOUND, row->binder, row);
    }
    row->state = SCHED_SESS_ENDED;
    row->running = 0;
    row->due_ns = e->now_ns;
    store(e, row, false);
    return true;
}

void sched_sess_stop(struct sched_env *e, struct sched_sess_row *row)
{
    if (row->state != SCHED_SESS_LIVE) {
        return;
    }
    row->state = MUTANT(17) ? SCHED_SESS_ENDED : SCHED_SESS_STOPPING;
    store(e, row, false);
    sched_fx_add(e->fx, SCHED_FX_VM_STOP)->vm =
        (struct sched_fx_vm){.key = row->key, .epoch = row->rec.epoch};
}

/* Only after the microVM is destroyed does the group learn of it, so that nobody starts another one
 * too early. Reports may all be lost: then a coordinator that needs to know asks GONEQ. */
static void report_end(struct sched_sess *s, struct sched_env *e, struct sched_sess_row *row)
{
    struct sched_group g;
    sched_env_group(e, sched_key_part(row->key, e->cfg->pbits), &g);
    if (row->tries >= END_REPORTS || g.n == 0) {
        store(e, row, true);
        release(s, row);
        return;
    }
    struct sched_asker to = {g.seat[row->tries % g.n].node, 0};
    answer(e, SCHED_MSG_END, to, row);
    row->tries++;
    row->due_ns = e->now_ns + SCHED_MS(END_EVERY_MS) * row->tries;
}

void sched_sess_tick(struct sched_sess *s, struct sched_env *e)
{
    uint32_t n = sched_cfg_scan(e->cfg->sess_max), reports = 0;
    for (uint32_t i = 0; i < n && reports < REPORTS_MAX; i++) {
        struct sched_sess_row *row = &s->rows[s->scan];
        s->scan = (s->scan + 1) % e->cfg->sess_max;
        if (row->state == SCHED_SESS_RESERVED && e->now_ns >= row->due_ns) {
            release(s, row);
        } else if (row->state == SCHED_SESS_ENDED && e->now_ns >= row->due_ns) {
            report_end(s, e, row);
            reports++;
        }
    }
}

uint32_t sched_sess_list(const struct sched_sess *s, const struct sched_env *e,
    struct sched_host asker, uint32_t cursor, struct sched_sync_rec *out, uint32_t *ret_next)
{
    uint32_t n = 0, i = cursor;
    unsigned pbits = e->cfg->pbits;
    for (; i < e->cfg->sess_max && n < SCHED_SYNC_RECS_MAX; i++) {
        const struct sched_sess_row *row = &s->rows[i];
        uint32_t part = sched_key_part(row->key, pbits);
        if (row->state < SCHED_SESS_STARTING || row->state == SCHED_SESS_ENDED ||
            !sched_bucket_has(e->view->rec, sched_part_bucket(part, pbits))) {
            continue;
        }
        struct sched_group g;
        sched_env_group(e, part, &g);
        if (sched_group_seat(&g, asker) >= 0) {
            out[n] = (struct sched_sync_rec){row->key, row->rec.epoch, row->rec};
            out[n++].rec.state = SCHED_REC_LIVE;
        }
    }
    *ret_next = i < e->cfg->sess_max ? i : 0;
    return n;
}

void sched_sess_restore(struct sched_sess *s, struct sched_env *e, const struct sched_row *r)
{
    struct sched_sess_row *row = take(s, r->key);
    if (row != NULL) {
        row->state = r->state;
        row->rec = r->rec;
        row->born_ns = r->born_ns;
        row->last_ns = row->due_ns = e->now_ns; /* rather too late an end than too early a one */
        (void)sched_map_put(&s->by_key, row->key.hi, row->key.lo, (uint32_t)(row - s->rows));
    }
}
