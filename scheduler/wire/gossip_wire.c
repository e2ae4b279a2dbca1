#include "scheduler/wire/gossip_wire.h"

#include <string.h>

#include "proto/base/err.h"

enum tag {
    /* 1..5 are enum sched_update_kind */
    TAG_DYNAMIC = 6,
    TAG_TARGET,
    TAG_COUNT,
    TAG_MASK,
    TAG_DIGESTS,
    TAG_ROOT,
};

/* Room was checked before: sched_swim_packet_bytes() says what will be written. */
struct writer {
    uint8_t *p;
};

static void put(struct writer *w, uint64_t v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        *w->p++ = (uint8_t)(v >> (8 * i));
    }
}

static void put_head(struct writer *w, unsigned tag, size_t len)
{
    put(w, tag, 1);
    put(w, len, 1);
}

static void put_raw(struct writer *w, const void *data, size_t n)
{
    memcpy(w->p, data, n);
    w->p += n;
}

static unsigned ip_bytes(uint8_t version)
{
    return version == SCHED_IP_V4 ? 4 : version == SCHED_IP_V6 ? 16 : 0;
}

static void put_announce(struct writer *w, const struct sched_announce *a)
{
    put(w, a->id, 8);
    put(w, a->boot, 4);
    put(w, a->pools, 4);
    put(w, (unsigned)(a->ip_version[0] | a->ip_version[1] << 4), 1);
    for (unsigned i = 0; i < 2; i++) {
        put_raw(w, a->ip[i], ip_bytes(a->ip_version[i]));
    }
    for (unsigned i = 0; i < SCHED_PORTS; i++) {
        put(w, a->port[i], 2);
    }
    put(w, a->zone, 2);
    put(w, a->features, 2);
    put(w, a->weight, 1);
    put(w, a->role, 1);
    put(w, a->proto_min, 1);
    put(w, a->proto_max, 1);
    put(w, a->proto_now, 1);
}

static void put_update(struct writer *w, const struct sched_update *u)
{
    put_head(w, u->kind, sched_update_bytes(u) - SCHED_SWIM_TLV_BYTES);
    put(w, u->inc, 4);
    if (u->kind == SCHED_UPDATE_ALIVE) {
        put_announce(w, u->announce);
        return;
    }
    put(w, u->id, 8);
    if (u->kind == SCHED_UPDATE_EDGE) {
        put(w, u->edge.number, 1);
        put(w, u->edge.flags, 1);
        put(w, u->edge.room, 8);
    } else if (u->kind != SCHED_UPDATE_LEFT) {
        put(w, u->by, 8);
    }
}

static void put_dynamic(struct writer *w, const struct sched_dynamic *d)
{
    size_t n = sched_dynamic_bytes(d);
    put_head(w, TAG_DYNAMIC, n);
    put(w, d->view, 4);
    put(w, (unsigned)((d->flags & 15) | d->health << 4), 1);
    put(w, d->edge, 1);
    put(w, d->active, 1);
    put(w, d->ready, 1);
    put_raw(w, d->level, n - (SCHED_DYN_BYTES_MAX - sizeof d->level));
}

static void put_digests(struct writer *w, const struct sched_swim_packet *p)
{
    for (unsigned i = 0; i < p->digest_count;) {
        unsigned n = p->digest_count - i;
        n = n < SCHED_SWIM_TLV_DIGESTS ? n : SCHED_SWIM_TLV_DIGESTS;
        put_head(w, TAG_DIGESTS, n * 8);
        for (unsigned k = 0; k < n; k++) {
            put(w, p->digests[i++], 8);
        }
    }
}

int sched_gossip_wire_encode(
    const struct sched_swim_packet *p, uint8_t *out, size_t cap, size_t *ret_len)
{
    if (p->version < SCHED_GOSSIP_WIRE_VERSION_MIN || p->version > SCHED_GOSSIP_WIRE_VERSION_MAX) {
        return BASE_EVERSION;
    }
    size_t n = sched_swim_packet_bytes(p);
    if (n > cap) {
        return BASE_ETOOBIG;
    }
    struct writer w = {.p = out};
    put(&w, p->version, 1);
    put(&w, (unsigned)p->type | (unsigned)p->flags << 4, 1);
    put(&w, p->seq, 2);
    put(&w, p->inc, 4);
    if (p->has_dynamic) {
        put_dynamic(&w, &p->dynamic);
    }
    if (p->target != 0) {
        put_head(&w, TAG_TARGET, 8);
        put(&w, p->target, 8);
    }
    if (p->alive != 0) {
        put_head(&w, TAG_COUNT, 4);
        put(&w, p->alive, 4);
    }
    if (p->root != 0) {
        put_head(&w, TAG_ROOT, 4);
        put(&w, p->root, 4);
    }
    if (p->type == SCHED_SWIM_TABLE) {
        put_head(&w, TAG_MASK, sizeof p->mask);
        for (unsigned i = 0; i < 4; i++) {
            put(&w, p->mask[i], 8);
        }
    }
    put_digests(&w, p);
    for (uint16_t i = 0; i < p->update_count; i++) {
        put_update(&w, &p->updates[i]);
    }
    *ret_len = (size_t)(w.p - out);
    return 0;
}

/* Reads past the end give zeros and set `bad`. */
struct reader {
    const uint8_t *p, *end;
    bool bad;
};

static uint64_t get(struct reader *r, unsigned bytes)
{
    if ((size_t)(r->end - r->p) < bytes) {
        r->bad = true;
        return 0;
    }
    uint64_t v = 0;
    for (unsigned i = 0; i < bytes; i++) {
        v |= (uint64_t)r->p[i] << (8 * i);
    }
    r->p += bytes;
    return v;
}

static void get_raw(struct reader *r, void *out, size_t n)
{
    if ((size_t)(r->end - r->p) < n) {
        r->bad = true;
        return;
    }
    memcpy(out, r->p, n);
    r->p += n;
}

static void get_announce(struct reader *r, struct sched_announce *a)
{
    memset(a, 0, sizeof *a);
    a->id = get(r, 8);
    a->boot = (uint32_t)get(r, 4);
    a->pools = (uint32_t)get(r, 4);
    uint8_t versions = (uint8_t)get(r, 1);
    a->ip_version[0] = versions & 15;
    a->ip_version[1] = versions >> 4;
    for (unsigned i = 0; i < 2; i++) {
        get_raw(r, a->ip[i], ip_bytes(a->ip_version[i]));
    }
    for (unsigned i = 0; i < SCHED_PORTS; i++) {
        a->port[i] = (uint16_t)get(r, 2);
    }
    a->zone = (uint16_t)get(r, 2);
    a->features = (uint16_t)get(r, 2);
    a->weight = (uint8_t)get(r, 1);
    a->role = (uint8_t)get(r, 1);
    a->proto_min = (uint8_t)get(r, 1);
    a->proto_max = (uint8_t)get(r, 1);
    a->proto_now = (uint8_t)get(r, 1);
    r->bad = r->bad || !sched_announce_valid(a);
}

static void get_update(struct reader *r, struct sched_gossip_wire_in *in, unsigned tag)
{
    struct sched_swim_packet *p = &in->packet;
    if (p->update_count == SCHED_SWIM_UPDATES_MAX) {
        r->bad = true;
        return;
    }
    struct sched_update *u = &in->updates[p->update_count];
    *u = (struct sched_update){.kind = (enum sched_update_kind)tag, .inc = (uint32_t)get(r, 4)};
    if (u->kind == SCHED_UPDATE_ALIVE) {
        struct sched_announce *a = &in->announces[p->update_count];
        get_announce(r, a);
        u->id = a->id;
        u->announce = a;
    } else {
        u->id = get(r, 8);
    }
    if (u->kind == SCHED_UPDATE_EDGE) {
        u->edge.inc = u->inc;
        u->edge.number = (uint8_t)get(r, 1);
        u->edge.flags = (uint8_t)(get(r, 1) & SCHED_DYN_DRAINING);
        u->edge.room = get(r, 8);
    } else if (u->kind == SCHED_UPDATE_SUSPECT || u->kind == SCHED_UPDATE_DEAD) {
        u->by = get(r, 8);
    }
    p->update_count++;
}

static void get_dynamic(struct reader *r, struct sched_swim_packet *p)
{
    struct sched_dynamic *d = &p->dynamic;
    memset(d, 0, sizeof *d);
    d->view = (uint32_t)get(r, 4);
    uint8_t both = (uint8_t)get(r, 1);
    d->flags = both & 15;
    d->health = both >> 4;
    d->edge = (uint8_t)get(r, 1);
    d->active = (uint8_t)get(r, 1);
    d->ready = (uint8_t)get(r, 1);
    size_t n = (size_t)(r->end - r->p);
    get_raw(r, d->level, n < sizeof d->level ? n : sizeof d->level);
    p->has_dynamic = true;
}

static void get_digests(struct reader *r, struct sched_gossip_wire_in *in)
{
    struct sched_swim_packet *p = &in->packet;
    while (r->p < r->end && !r->bad) {
        if (p->digest_count == SCHED_SWIM_BUCKETS) {
            r->bad = true;
            return;
        }
        in->digests[p->digest_count++] = get(r, 8);
    }
}

static void get_field(struct reader *r, struct sched_gossip_wire_in *in, unsigned tag)
{
    struct sched_swim_packet *p = &in->packet;
    switch (tag) {
    case SCHED_UPDATE_ALIVE:
    case SCHED_UPDATE_SUSPECT:
    case SCHED_UPDATE_DEAD:
    case SCHED_UPDATE_LEFT:
    case SCHED_UPDATE_EDGE:
        get_update(r, in, tag);
        break;
    case TAG_DYNAMIC:
        get_dynamic(r, p);
        break;
    case TAG_TARGET:
        p->target = get(r, 8);
        break;
    case TAG_COUNT:
        p->alive = (uint32_t)get(r, 4);
        break;
    case TAG_ROOT:
        p->root = (uint32_t)get(r, 4);
        break;
    case TAG_MASK:
        for (unsigned i = 0; i < 4; i++) {
            p->mask[i] = get(r, 8);
        }
        break;
    case TAG_DIGESTS:
        get_digests(r, in);
        break;
    default:
        in->skipped++;
        break;
    }
}

int sched_gossip_wire_decode(struct sched_gossip_wire_in *in, const uint8_t *bytes, size_t n)
{
    struct reader r = {.p = bytes, .end = bytes + n};
    struct sched_swim_packet *p = &in->packet;
    memset(p, 0, sizeof *p);
    p->updates = in->updates;
    p->digests = in->digests;
    in->skipped = 0;
    p->version = (uint8_t)get(&r, 1);
    if (!r.bad && (p->version < SCHED_GOSSIP_WIRE_VERSION_MIN ||
                      p->version > SCHED_GOSSIP_WIRE_VERSION_MAX)) {
        return BASE_EVERSION;
    }
    unsigned both = (unsigned)get(&r, 1);
    p->type = (enum sched_swim_type)(both & 15);
    p->flags = (uint8_t)(both >> 4);
    p->seq = (uint16_t)get(&r, 2);
    p->inc = (uint32_t)get(&r, 4);
    if (r.bad || p->type < SCHED_SWIM_PING || p->type >= SCHED_SWIM_TYPES) {
        return BASE_EBADMSG;
    }
    while (r.p < r.end) {
        unsigned tag = (unsigned)get(&r, 1);
        size_t len = (size_t)get(&r, 1);
        if (r.bad || (size_t)(r.end - r.p) < len) {
            return BASE_EBADMSG;
        }
        struct reader field = {.p = r.p, .end = r.p + len};
        get_field(&field, in, tag);
        if (field.bad) {
            return BASE_EBADMSG;
        }
        r.p += len;
    }
    return 0;
}
