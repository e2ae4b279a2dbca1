#include "scheduler/wire/wire.h"

#include "proto/base/assert.h"
#include "proto/base/err.h"

/* A walk over a message in either direction. When bad, nothing more is read or written. */
struct walk {
    bool decode, bad;
    uint8_t version;
    const uint8_t *in;
    uint8_t *out;
    size_t at, end;
    struct sched_wire_room *room;
};

static uint64_t word(struct walk *w, uint64_t v, size_t n)
{
    if (w->bad || n > w->end - w->at) {
        w->bad = true;
        return 0;
    }
    if (w->decode) {
        v = 0;
        for (size_t i = 0; i < n; i++) {
            v |= (uint64_t)w->in[w->at + i] << (8 * i);
        }
    } else {
        for (size_t i = 0; i < n; i++) {
            w->out[w->at + i] = (uint8_t)(v >> (8 * i));
        }
    }
    w->at += n;
    return v;
}

static void u8(struct walk *w, uint8_t *v, uint8_t max)
{
    *v = (uint8_t)word(w, *v, 1);
    w->bad = w->bad || *v > max;
}

static void u16(struct walk *w, uint16_t *v)
{
    *v = (uint16_t)word(w, *v, 2);
}

static void u32(struct walk *w, uint32_t *v)
{
    *v = (uint32_t)word(w, *v, 4);
}

static void u64(struct walk *w, uint64_t *v)
{
    *v = word(w, *v, 8);
}

static void flag(struct walk *w, bool *v)
{
    uint8_t b = *v;
    u8(w, &b, 1);
    *v = b != 0;
}

/* A number of elements that follow. */
static void count(struct walk *w, uint32_t *n, uint32_t max)
{
    u32(w, n);
    w->bad = w->bad || *n > max;
    *n = w->bad ? 0 : *n;
}

static void key(struct walk *w, struct sched_key *k)
{
    u64(w, &k->hi);
    u64(w, &k->lo);
}

static void exec_id(struct walk *w, struct sched_exec *x)
{
    u64(w, &x->hi);
    u64(w, &x->lo);
}

static void host(struct walk *w, struct sched_host *h)
{
    u64(w, &h->node);
    u32(w, &h->inc);
}

enum { REC_MOVED = 0x80, REC_RAN = 0x40, REC_IDLE = 0x20 }; /* in the byte of the state */

static void rec(struct walk *w, struct sched_rec *r)
{
    u64(w, &r->epoch);
    host(w, &r->host);
    u32(w, &r->view);
    u64(w, &r->resv);
    exec_id(w, &r->inline_id);
    u64(w, &r->inline_epoch);
    u32(w, &r->cooldown_ms);
    uint8_t flags =
        (uint8_t)((r->moved ? REC_MOVED : 0) | (r->ran ? REC_RAN : 0) | (r->idle ? REC_IDLE : 0));
    uint8_t state = r->state | flags;
    u8(w, &state, 255);
    r->state = state & (uint8_t) ~(REC_MOVED | REC_RAN | REC_IDLE);
    r->moved = (state & REC_MOVED) != 0;
    r->ran = (state & REC_RAN) != 0;
    r->idle = (state & REC_IDLE) != 0;
    w->bad = w->bad || r->state > SCHED_REC_ENDED;
}

static void buckets(struct walk *w, uint64_t *set)
{
    for (int i = 0; i < SCHED_BUCKET_WORDS; i++) {
        u64(w, &set[i]);
    }
}

static void member(struct walk *w, struct sched_member *m)
{
    u64(w, &m->node);
    u32(w, &m->inc);
    u32(w, &m->pinc);
    u16(w, &m->zone);
    u16(w, &m->pzone);
    u8(w, &m->weight, 255);
    u8(w, &m->pweight, 255);
    u8(w, &m->flags, SCHED_MEMBER_IN | SCHED_MEMBER_PREV);
}

static void view_body(struct walk *w, struct sched_view *v)
{
    u32(w, &v->num);
    if (w->version >= 3) {
        u8(w, &v->version, w->version);
        w->bad = w->bad || v->version < SCHED_VERSION_BASE;
    } else {
        v->version = SCHED_VERSION_BASE;
    }
    buckets(w, v->rec);
    count(w, &v->n, w->decode ? w->room->view.cap : v->n);
    for (uint32_t i = 0; i < v->n; i++) {
        struct sched_member m = v->m[i];
        member(w, &m);
        if (w->decode) {
            v->m[i] = m;
        }
        w->bad = w->bad || (i > 0 && v->m[i].node <= v->m[i - 1].node);
    }
}

/* optional: NULL is allowed. */
static void view(struct walk *w, const struct sched_view **v, bool optional)
{
    bool there = *v != NULL;
    flag(w, &there);
    w->bad = w->bad || (!there && !optional);
    if (!there || w->bad) {
        *v = NULL;
        return;
    }
    struct sched_view copy;
    if (w->decode) {
        view_body(w, &w->room->view);
        *v = &w->room->view;
    } else {
        REQUIRE(*v != NULL);
        copy = **v; /* the walk writes back what it read: into the copy's header only */
        view_body(w, &copy);
    }
}

static void ballot_body(struct walk *w, struct sched_m_ballot *m)
{
    u64(w, &m->ballot);
}

static void pull_body(struct walk *w, struct sched_m_pull *m)
{
    uint16_t none = 0;
    u32(w, &m->known);
    u8(w, &m->speaks.min, 255);
    u8(w, &m->speaks.max, 255);
    u16(w, &none);
    w->bad = w->bad || none != 0 || m->speaks.min > m->speaks.max;
}

static void vprom_body(struct walk *w, struct sched_m_vprom *m)
{
    u64(w, &m->ballot);
    u64(w, &m->accepted);
    view(w, &m->view, true);
    u32(w, &m->known);
    count(w, &m->n_lapsed, w->room->members_max);
    for (uint32_t i = 0; i < m->n_lapsed; i++) {
        struct sched_host h = w->decode ? (struct sched_host){0} : m->lapsed[i];
        host(w, &h);
        if (w->decode) {
            w->room->hosts[i] = h;
        }
    }
    m->lapsed = w->decode ? w->room->hosts : m->lapsed;
}

static void vacc_body(struct walk *w, struct sched_m_vacc *m)
{
    u64(w, &m->ballot);
    view(w, &m->view, false);
}

static void vtell_body(struct walk *w, struct sched_m_vtell *m)
{
    u64(w, &m->nonce);
    u64(w, &m->promised);
    u64(w, &m->accepted);
    u32(w, &m->known);
    view(w, &m->view, true);
}

static void view_msg_body(struct walk *w, struct sched_m_view *m)
{
    view(w, &m->view, false);
}

static void lease_body(struct walk *w, struct sched_m_lease *m)
{
    u32(w, &m->inc);
    u64(w, &m->seq);
    u32(w, &m->installed);
    buckets(w, m->unsettled);
    u16(w, &m->zone);
    u8(w, &m->weight, 255);
    u8(w, &m->draining, 1);
    u32(w, &m->active);
    u32(w, &m->ready);
}

static void grant_body(struct walk *w, struct sched_m_grant *m)
{
    u32(w, &m->inc);
    u64(w, &m->seq);
    u32(w, &m->maxinc);
    u32(w, &m->mean);
    count(w, &m->n_samples, SCHED_SPILL_SAMPLES_MAX);
    for (uint32_t i = 0; i < m->n_samples; i++) {
        struct sched_load l = w->decode ? (struct sched_load){0} : m->samples[i];
        u64(w, &l.node);
        u32(w, &l.active);
        u32(w, &l.ready);
        if (w->decode) {
            w->room->loads[i] = l;
        }
    }
    m->samples = w->decode ? w->room->loads : m->samples;
}

static void parts(struct walk *w, uint32_t *n, const uint32_t **list)
{
    count(w, n, SCHED_SYNC_PARTS_MAX);
    for (uint32_t i = 0; i < *n; i++) {
        uint32_t p = w->decode ? 0 : (*list)[i];
        u32(w, &p);
        if (w->decode) {
            w->room->parts[i] = p;
        }
    }
    *list = w->decode ? w->room->parts : *list;
}

static void sync_body(struct walk *w, struct sched_m_sync *m)
{
    u32(w, &m->num);
    host(w, &m->asker);
    u32(w, &m->inc);
    u32(w, &m->cursor);
    key(w, &m->after);
    parts(w, &m->n, &m->parts);
}

static void synced_body(struct walk *w, struct sched_m_synced *m)
{
    u32(w, &m->num);
    host(w, &m->asker);
    u32(w, &m->inc);
    u32(w, &m->cursor);
    u32(w, &m->next);
    flag(w, &m->partial);
    parts(w, &m->n_parts, &m->parts);
    count(w, &m->n_recs, SCHED_SYNC_RECS_MAX);
    for (uint32_t i = 0; i < m->n_recs; i++) {
        struct sched_sync_rec r = w->decode ? (struct sched_sync_rec){0} : m->recs[i];
        key(w, &r.key);
        u64(w, &r.accepted);
        rec(w, &r.rec);
        if (w->decode) {
            w->room->recs[i] = r;
        }
    }
    m->recs = w->decode ? w->room->recs : m->recs;
}

static void prep_body(struct walk *w, struct sched_m_prep *m)
{
    u64(w, &m->op);
    key(w, &m->key);
    u64(w, &m->ballot);
}

static void prom_body(struct walk *w, struct sched_m_prom *m)
{
    u64(w, &m->op);
    u64(w, &m->ballot);
    u64(w, &m->accepted);
    rec(w, &m->rec);
}

static void acc_body(struct walk *w, struct sched_m_acc *m)
{
    u64(w, &m->op);
    key(w, &m->key);
    u64(w, &m->ballot);
    rec(w, &m->rec);
}

static void resv_body(struct walk *w, struct sched_m_resv *m)
{
    u64(w, &m->op);
    key(w, &m->key);
    u64(w, &m->resv);
    u32(w, &m->inc);
    u32(w, &m->active);
    u32(w, &m->ready);
}

static void asker(struct walk *w, struct sched_asker *a)
{
    u64(w, &a->gw);
    u64(w, &a->rid);
}

static void bind_body(struct walk *w, struct sched_m_bind *m)
{
    u64(w, &m->op);
    key(w, &m->key);
    rec(w, &m->rec);
    exec_id(w, &m->exec);
    asker(w, &m->asker);
}

static void open_body(struct walk *w, struct sched_m_open *m)
{
    u64(w, &m->rid);
    key(w, &m->key);
    u32(w, &m->view);
    u64(w, &m->gone);
    flag(w, &m->has_exec);
    if (w->version >= 3) {
        flag(w, &m->look);
    }
    exec_id(w, &m->exec);
    u32(w, &m->exec_view);
}

static void route_body(struct walk *w, struct sched_m_route *m)
{
    u64(w, &m->rid);
    key(w, &m->key);
    rec(w, &m->rec);
    u32(w, &m->view);
    u32(w, &m->base);
}

static void retry_body(struct walk *w, struct sched_m_retry *m)
{
    u64(w, &m->rid);
    u32(w, &m->view);
    u8(w, &m->why, w->version >= 3 ? SCHED_RETRY_NONE : SCHED_RETRY_FULL);
}

static void exec_body(struct walk *w, struct sched_m_exec *m)
{
    u64(w, &m->rid);
    key(w, &m->key);
    u64(w, &m->epoch);
    u32(w, &m->inc);
    exec_id(w, &m->exec);
    u8(w, &m->outcome, SCHED_OUTCOME_UNKNOWN);
}

static void timers_body(struct walk *w, struct sched_m_timers *m)
{
    count(w, &m->n, SCHED_TIMERS_MAX);
    for (uint32_t i = 0; i < m->n; i++) {
        struct sched_timer t = w->decode ? (struct sched_timer){0} : m->timers[i];
        key(w, &t.key);
        u64(w, &t.epoch);
        u32(w, &t.remaining_ms);
        if (w->decode) {
            w->room->timers[i] = t;
        }
    }
    m->timers = w->decode ? w->room->timers : m->timers;
}

static void quota_body(struct walk *w, struct sched_m_quota *m)
{
    u32(w, &m->pool);
    u32(w, &m->inc);
    u32(w, &m->permits);
    u64(w, &m->seq);
    u64(w, &m->version);
}

static void qreg_body(struct walk *w, struct sched_m_qreg *m)
{
    u32(w, &m->reg);
    u64(w, &m->ballot);
    u64(w, &m->promised);
    u64(w, &m->accepted);
    u64(w, &m->version);
    count(w, &m->n, SCHED_WIRE_PERMITS_MAX(w->room->members_max));
    for (uint32_t i = 0; i < m->n; i++) {
        struct sched_quota_entry q = w->decode ? (struct sched_quota_entry){0} : m->entries[i];
        u32(w, &q.pool);
        host(w, &q.host);
        u32(w, &q.permits);
        u64(w, &q.seq);
        if (w->decode) {
            w->room->entries[i] = q;
        }
    }
    m->entries = w->decode ? w->room->entries : m->entries;
}

/* Bytes of the message itself: they are not copied. */
static void bytes(struct walk *w, const uint8_t **p, uint32_t *n, uint32_t max)
{
    count(w, n, max);
    if (w->bad || *n > w->end - w->at) {
        w->bad = true;
        *n = 0;
        return;
    }
    if (w->decode) {
        *p = w->in + w->at;
    } else if (*n > 0) {
        memcpy(w->out + w->at, *p, *n);
    }
    w->at += *n;
}

static void cdoc_body(struct walk *w, struct sched_cat_doc *d)
{
    u64(w, &d->version);
    bytes(w, &d->bytes, &d->n, SCHED_CAT_BYTES_MAX);
}

static void cset_body(struct walk *w, struct sched_m_cset *m)
{
    struct sched_cat_entry *e = &m->change.entry;
    const uint8_t *name = (const uint8_t *)e->key;
    u64(w, &m->op);
    u64(w, &m->change.expect);
    flag(w, &m->change.erase);
    bytes(w, &name, &e->key_n, SCHED_CAT_KEY_MAX);
    e->key = (const char *)name;
    u32(w, &e->pool);
    u32(w, &e->max);
    u32(w, &e->ready);
    bytes(w, &e->value, &e->value_n, SCHED_CAT_VALUE_MAX);
}

static void csetr_body(struct walk *w, struct sched_m_csetr *m)
{
    u64(w, &m->op);
    u8(w, &m->result, SCHED_CAT_RESULTS - 1);
    u64(w, &m->version);
}

static void cget_body(struct walk *w, struct sched_m_cget *m)
{
    u64(w, &m->version);
}

static void creg_body(struct walk *w, struct sched_m_creg *m)
{
    u64(w, &m->ballot);
    u64(w, &m->promised);
    u64(w, &m->accepted);
    cdoc_body(w, &m->doc);
}

static void body(struct walk *w, struct sched_msg *m)
{
#define view_body view_msg_body
#define X(name, field)                                                                             \
    case SCHED_MSG_##name:                                                                         \
        field##_body(w, &m->field);                                                                \
        break;
    switch ((enum sched_msg_type)m->type) {
        SCHED_MSG_MAP(X)
    case SCHED_MSG_NONE:
    case SCHED_MSG_TYPES:
        w->bad = true;
    }
#undef X
#undef view_body
}

void sched_wire_room_init(struct sched_wire_room *room, uint32_t members_max, struct sched_mem *mem)
{
    memset(room, 0, sizeof *room);
    sched_view_init(&room->view, members_max, mem);
    room->members_max = members_max;
    room->hosts = sched_mem_take(mem, members_max, sizeof *room->hosts);
    room->loads = sched_mem_take(mem, SCHED_SPILL_SAMPLES_MAX, sizeof *room->loads);
    room->parts = sched_mem_take(mem, SCHED_SYNC_PARTS_MAX, sizeof *room->parts);
    room->recs = sched_mem_take(mem, SCHED_SYNC_RECS_MAX, sizeof *room->recs);
    room->timers = sched_mem_take(mem, SCHED_TIMERS_MAX, sizeof *room->timers);
    room->entries = sched_mem_take(mem, SCHED_WIRE_PERMITS_MAX(members_max), sizeof *room->entries);
}

/* What came with a later version than the first is after what was there before. */
static uint8_t since(uint8_t type)
{
    return type > SCHED_MSG_QTELL ? 3 : SCHED_VERSION_BASE;
}

static const struct sched_view *carried(const struct sched_msg *m)
{
    switch (m->type) {
    case SCHED_MSG_VPROM:
        return m->vprom.view;
    case SCHED_MSG_VACC:
        return m->vacc.view;
    case SCHED_MSG_VTELL:
        return m->vtell.view;
    case SCHED_MSG_VIEW:
        return m->view.view;
    default:
        return NULL;
    }
}

static uint8_t higher(uint8_t version, const struct sched_view *view)
{
    return view != NULL && sched_view_version(view) > version ? sched_view_version(view) : version;
}

int sched_wire_encode_as(const struct sched_msg *m, uint8_t version, uint8_t *buf, size_t cap)
{
    if (m->type == SCHED_MSG_NONE || m->type >= SCHED_MSG_TYPES) {
        return BASE_EINVAL;
    }
    version = higher(version, carried(m));
    if (version < since(m->type)) {
        return BASE_EVERSION;
    }
    struct sched_wire_room limits = {.members_max = SCHED_MEMBERS_MAX};
    struct walk w = {.version = version, .out = buf, .end = cap, .room = &limits};
    struct sched_msg copy = *m;
    u8(&w, &version, 255);
    u8(&w, &copy.type, 255);
    body(&w, &copy);
    return w.bad ? BASE_ETOOBIG : (int)w.at;
}

int sched_wire_encode(const struct sched_msg *m, uint8_t *buf, size_t cap)
{
    return sched_wire_encode_as(m, since(m->type), buf, cap);
}

static bool spoken(uint8_t version)
{
    return version >= SCHED_VERSION_MIN && version <= SCHED_VERSION_MAX;
}

int sched_wire_decode(
    const uint8_t *buf, size_t len, struct sched_wire_room *room, struct sched_msg *ret)
{
    struct walk w = {.decode = true, .in = buf, .end = len, .room = room};
    memset(ret, 0, sizeof *ret);
    u8(&w, &w.version, 255);
    if (!w.bad && !spoken(w.version)) {
        return BASE_EVERSION; /* its types may be others */
    }
    u8(&w, &ret->type, SCHED_MSG_TYPES - 1);
    if (!w.bad && w.version < since(ret->type)) {
        w.bad = true;
    }
    if (!w.bad) {
        body(&w, ret);
    }
    return w.bad || w.at != len ? BASE_EBADMSG : 0;
}

/* ---- rows of a store ---- */

static void row_body(struct walk *w, struct sched_row *r)
{
    u8(w, &r->kind, SCHED_ROW_QUOTA);
    switch ((enum sched_row_kind)r->kind) {
    case SCHED_ROW_VIEW:
        u32(w, &r->num);
        view(w, &r->view, false);
        break;
    case SCHED_ROW_BASE:
        u32(w, &r->first);
        u32(w, &r->num);
        w->bad = w->bad || r->first >= SCHED_BUCKETS;
        break;
    case SCHED_ROW_REG:
        key(w, &r->key);
        u64(w, &r->promised);
        u64(w, &r->accepted);
        rec(w, &r->rec);
        break;
    case SCHED_ROW_SESS:
        key(w, &r->key);
        u8(w, &r->state, 255);
        u64(w, &r->born_ns);
        rec(w, &r->rec);
        break;
    case SCHED_ROW_EXEC:
        key(w, &r->key);
        exec_id(w, &r->exec);
        u8(w, &r->state, 255);
        u64(w, &r->rec.epoch);
        break;
    case SCHED_ROW_META:
    case SCHED_ROW_PARTS:
    case SCHED_ROW_VOTE:
    case SCHED_ROW_KNOWN:
    case SCHED_ROW_QUOTA:
    case SCHED_ROW_CATALOG:
        w->bad = true;
        break;
    }
}

static uint8_t row_version(const struct sched_row *r)
{
    return higher(SCHED_VERSION_BASE, r->kind == SCHED_ROW_VIEW ? r->view : NULL);
}

int sched_wire_row_encode(const struct sched_row *r, uint8_t *buf, size_t cap)
{
    struct sched_wire_room limits = {.members_max = SCHED_MEMBERS_MAX};
    uint8_t version = row_version(r);
    struct walk w = {.version = version, .out = buf, .end = cap, .room = &limits};
    struct sched_row copy = *r;
    u8(&w, &version, 255);
    row_body(&w, &copy);
    return w.bad ? BASE_EINVAL : (int)w.at;
}

int sched_wire_row_decode(
    const uint8_t *buf, size_t len, struct sched_wire_room *room, struct sched_row *ret)
{
    struct walk w = {.decode = true, .in = buf, .end = len, .room = room};
    memset(ret, 0, sizeof *ret);
    u8(&w, &w.version, 255);
    if (!w.bad && !spoken(w.version)) {
        return BASE_EVERSION;
    }
    if (!w.bad) {
        row_body(&w, ret);
        w.bad = w.bad || w.version != row_version(ret);
    }
    return w.bad || w.at != len ? BASE_EBADMSG : 0;
}
