#include "worker/wire/rows.h"

#include <string.h>

#include "proto/base/err.h"

struct out {
    uint8_t *p;
    size_t n;
};

static void put(struct out *o, uint64_t v, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        o->p[o->n++] = (uint8_t)(v >> (8 * i));
    }
}

static void put_be(struct out *o, uint64_t v, size_t bytes)
{
    for (size_t i = bytes; i > 0; i--) {
        o->p[o->n++] = (uint8_t)(v >> (8 * (i - 1)));
    }
}

static void put_bytes(struct out *o, const void *p, size_t n)
{
    memcpy(o->p + o->n, p, n);
    o->n += n;
}

static void put_pool(struct out *o, const char *pool)
{
    size_t n = strnlen(pool, PROTO_POOL_NAME_MAX);
    put(o, n, 1);
    put_bytes(o, pool, n);
}

static void put_id(struct out *o, const struct proto_identifier *id)
{
    put(o, id->len, 1);
    put_bytes(o, id->text, id->len);
}

struct in {
    const uint8_t *p;
    size_t n; /* left */
    int rc;   /* sticks */
};

static const uint8_t *take(struct in *i, size_t n)
{
    if (i->rc != 0 || i->n < n) {
        i->rc = i->rc != 0 ? i->rc : BASE_EBADMSG;
        return NULL;
    }
    const uint8_t *p = i->p;
    i->p += n;
    i->n -= n;
    return p;
}

static uint64_t get(struct in *i, size_t bytes)
{
    const uint8_t *p = take(i, bytes);
    uint64_t v = 0;
    for (size_t k = bytes; p != NULL && k > 0; k--) {
        v = v << 8 | p[k - 1];
    }
    return v;
}

/* A number below the limit. */
static unsigned get_enum(struct in *i, unsigned limit)
{
    uint64_t v = get(i, 1);
    if (v >= limit && i->rc == 0) {
        i->rc = BASE_EBADMSG;
    }
    return v < limit ? (unsigned)v : 0;
}

static void get_pool(struct in *i, char pool[PROTO_POOL_NAME_MAX + 1])
{
    size_t n = (size_t)get(i, 1);
    const uint8_t *p = take(i, n);
    memset(pool, 0, PROTO_POOL_NAME_MAX + 1);
    if (p != NULL && proto_pool_name_valid((const char *)p, n)) {
        memcpy(pool, p, n);
    } else if (i->rc == 0) {
        i->rc = BASE_EBADMSG;
    }
}

static void get_id(struct in *i, struct proto_identifier *id)
{
    size_t n = (size_t)get(i, 1);
    const uint8_t *p = take(i, n);
    memset(id, 0, sizeof *id);
    if (p != NULL && proto_identifier_set(id, p, n) != PROTO_IDENTIFIER_OK) {
        i->rc = BASE_EBADMSG;
    }
}

static struct in start(const uint8_t *p, size_t n, uint64_t newest, uint64_t *ret_version)
{
    struct in i = {.p = p, .n = n};
    *ret_version = get(&i, 1);
    if (i.rc == 0 && (*ret_version == 0 || *ret_version > newest)) {
        i.rc = *ret_version == 0 ? BASE_EBADMSG : BASE_EVERSION;
    }
    return i;
}

static struct in start_first(const uint8_t *p, size_t n)
{
    uint64_t version;
    return start(p, n, WORKER_ROW_VERSION, &version);
}

/* Bytes behind the last field belong to no version that we know. */
static int finish(const struct in *i)
{
    return i->rc != 0 ? i->rc : i->n == 0 ? 0 : BASE_EBADMSG;
}

/* --- keys ---------------------------------------------------------------------------------- */

size_t worker_row_session_key(
    uint64_t hash, const char *pool, const struct proto_identifier *id, uint8_t *out)
{
    struct out o;
    o.p = out;
    o.n = 0;
    put_be(&o, hash, 8);
    put_bytes(&o, pool, strnlen(pool, PROTO_POOL_NAME_MAX));
    put(&o, 0, 1);
    put_bytes(&o, id->text, id->len);
    return o.n;
}

size_t worker_row_vm_key(uint32_t slot, uint8_t *out)
{
    struct out o;
    o.p = out;
    o.n = 0;
    put_be(&o, slot, 4);
    return o.n;
}

size_t worker_row_event_key(const uint8_t id[PROTO_EXEC_ID_BYTES], uint64_t seq, uint8_t *out)
{
    struct out o;
    o.p = out;
    o.n = 0;
    put_bytes(&o, id, PROTO_EXEC_ID_BYTES);
    put_be(&o, seq, 8);
    return o.n;
}

int worker_row_event_seq(const uint8_t *key, size_t n, uint64_t *ret_seq)
{
    if (n != PROTO_EXEC_ID_BYTES + 8) {
        return BASE_EBADMSG;
    }
    uint64_t v = 0;
    for (size_t i = PROTO_EXEC_ID_BYTES; i < n; i++) {
        v = v << 8 | key[i];
    }
    *ret_seq = v;
    return 0;
}

/* --- rows ---------------------------------------------------------------------------------- */

size_t worker_row_session_encode(const struct worker_row_session *r, uint8_t *out)
{
    struct out o;
    o.p = out;
    o.n = 0;
    put(&o, WORKER_ROW_SESSION_VERSION, 1);
    put(&o, r->state, 1);
    put(&o, r->end, 1);
    put(&o, r->recreated, 1);
    put(&o, r->slot, 4);
    put(&o, r->epoch, 8);
    put(&o, r->hash, 8);
    put(&o, r->created_ns, 8);
    put(&o, r->last_ns, 8);
    put_pool(&o, r->pool);
    put_id(&o, &r->id);
    put_bytes(&o, r->tenant.id, sizeof r->tenant.id);
    return o.n;
}

int worker_row_session_decode(const uint8_t *p, size_t n, struct worker_row_session *ret)
{
    uint64_t version;
    struct in i = start(p, n, WORKER_ROW_SESSION_VERSION, &version);
    struct worker_row_session r;
    memset(&r, 0, sizeof r);
    r.state = (enum worker_session_state)get_enum(&i, WORKER_SESSION_STATE_END);
    r.end = (enum worker_end)get_enum(&i, WORKER_END_MAX);
    r.recreated = (enum worker_end)get_enum(&i, WORKER_END_MAX);
    r.slot = (uint32_t)get(&i, 4);
    r.epoch = get(&i, 8);
    r.hash = get(&i, 8);
    r.created_ns = get(&i, 8);
    r.last_ns = get(&i, 8);
    get_pool(&i, r.pool);
    get_id(&i, &r.id);
    const uint8_t *tenant = version >= 2 ? take(&i, sizeof r.tenant.id) : NULL;
    if (tenant != NULL) {
        memcpy(r.tenant.id, tenant, sizeof r.tenant.id);
    }
    int rc = finish(&i);
    if (rc == 0) {
        *ret = r;
    }
    return rc;
}

size_t worker_row_vm_encode(const struct worker_row_vm *r, uint8_t *out)
{
    struct out o;
    o.p = out;
    o.n = 0;
    put(&o, WORKER_ROW_VM_VERSION, 1);
    put(&o, r->state, 1);
    put(&o, r->slot, 4);
    put(&o, r->epoch, 8);
    put_bytes(&o, r->vm_id, sizeof r->vm_id);
    put_pool(&o, r->pool);
    put(&o, r->template, 8);
    return o.n;
}

int worker_row_vm_decode(const uint8_t *p, size_t n, struct worker_row_vm *ret)
{
    uint64_t version;
    struct in i = start(p, n, WORKER_ROW_VM_VERSION, &version);
    struct worker_row_vm r;
    memset(&r, 0, sizeof r);
    r.state = (enum worker_slot_state)get_enum(&i, WORKER_SLOT_STATE_END);
    r.slot = (uint32_t)get(&i, 4);
    r.epoch = get(&i, 8);
    const uint8_t *id = take(&i, sizeof r.vm_id);
    if (id != NULL) {
        memcpy(r.vm_id, id, sizeof r.vm_id);
    }
    get_pool(&i, r.pool);
    r.template = version >= 2 ? get(&i, 8) : 0;
    int rc = finish(&i);
    if (rc == 0) {
        *ret = r;
    }
    return rc;
}

size_t worker_row_fence_encode(const struct worker_row_fence *r, uint8_t *out)
{
    struct out o;
    o.p = out;
    o.n = 0;
    put(&o, WORKER_ROW_VERSION, 1);
    put(&o, r->end, 1);
    put(&o, r->epoch, 8);
    put(&o, r->hash, 8);
    put_pool(&o, r->pool);
    put_id(&o, &r->id);
    return o.n;
}

int worker_row_fence_decode(const uint8_t *p, size_t n, struct worker_row_fence *ret)
{
    struct in i = start_first(p, n);
    struct worker_row_fence r;
    memset(&r, 0, sizeof r);
    r.end = (enum worker_end)get_enum(&i, WORKER_END_MAX);
    r.epoch = get(&i, 8);
    r.hash = get(&i, 8);
    get_pool(&i, r.pool);
    get_id(&i, &r.id);
    int rc = finish(&i);
    if (rc == 0) {
        *ret = r;
    }
    return rc;
}

enum { EXEC_TRUNCATED = 1, EXEC_DROPPED = 2 };

size_t worker_row_exec_encode(const struct worker_exec *x, uint8_t *out)
{
    struct out o;
    o.p = out;
    o.n = 0;
    put(&o, WORKER_ROW_EXEC_VERSION, 1);
    put(&o, x->state, 1);
    put(&o, (x->truncated ? EXEC_TRUNCATED : 0U) | (x->dropped ? EXEC_DROPPED : 0U), 1);
    put_bytes(&o, x->id, sizeof x->id);
    put(&o, x->hash, 8);
    put(&o, x->epoch, 8);
    put(&o, x->last_seq, 8);
    put(&o, x->bytes, 8);
    put(&o, x->started_ns, 8);
    put(&o, x->ended_ns, 8);
    put_bytes(&o, x->digest, sizeof x->digest);
    return o.n;
}

int worker_row_exec_decode(const uint8_t *p, size_t n, struct worker_exec *ret)
{
    uint64_t version;
    struct in i = start(p, n, WORKER_ROW_EXEC_VERSION, &version);
    struct worker_exec x;
    memset(&x, 0, sizeof x);
    x.state = (enum worker_exec_state)get_enum(&i, WORKER_EXEC_UNKNOWN + 1);
    unsigned flags = get_enum(&i, 4);
    const uint8_t *id = take(&i, sizeof x.id);
    if (id != NULL) {
        memcpy(x.id, id, sizeof x.id);
    }
    x.truncated = (flags & EXEC_TRUNCATED) != 0;
    x.dropped = (flags & EXEC_DROPPED) != 0;
    x.hash = get(&i, 8);
    x.epoch = get(&i, 8);
    x.last_seq = get(&i, 8);
    x.bytes = get(&i, 8);
    x.started_ns = get(&i, 8);
    x.ended_ns = get(&i, 8);
    const uint8_t *digest = version >= 2 ? take(&i, sizeof x.digest) : NULL;
    if (digest != NULL) {
        memcpy(x.digest, digest, sizeof x.digest);
    }
    int rc = finish(&i);
    if (rc == 0) {
        *ret = x;
    }
    return rc;
}
