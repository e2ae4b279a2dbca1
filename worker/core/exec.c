#include "worker/core/exec.h"

#include <string.h>

#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/container.h"
#include "proto/base/err.h"
#include "proto/base/hash.h"
#include "worker/core/size.h"

enum { NONE = UINT32_MAX };

struct worker_execs {
    struct worker_exec_config cfg;
    struct worker_exec *execs;
    uint32_t *buckets;
    uint32_t mask;
    uint32_t running_n;
    uint32_t n; /* remembered */
    uint64_t bytes;
    struct worker_list free, running, finished, stored;
};

size_t worker_exec_size(const struct worker_exec_config *cfg)
{
    if (cfg->execs_max < 1 || cfg->execs_max > (1U << 24) || cfg->running_max < 1 ||
        cfg->per_session_max < 1) {
        return 0;
    }
    return worker_size_aligned(sizeof(struct worker_execs)) +
           worker_size_aligned(cfg->execs_max * sizeof(struct worker_exec)) +
           worker_size_aligned(worker_size_buckets(cfg->execs_max) * sizeof(uint32_t));
}

int worker_exec_init(
    struct worker_execs **ret, const struct worker_exec_config *cfg, void *mem, size_t mem_size)
{
    size_t need = worker_exec_size(cfg);
    if (need == 0) {
        return BASE_EINVAL;
    }
    if (mem_size < need) {
        return BASE_ENOMEM;
    }
    struct worker_execs *j = mem;
    memset(j, 0, sizeof *j);
    j->cfg = *cfg;
    j->cfg.retention_ms = cfg->retention_ms == 0 ? 600000 : cfg->retention_ms;
    uint8_t *at = (uint8_t *)mem + worker_size_aligned(sizeof *j);
    j->execs = (struct worker_exec *)(void *)at;
    at += worker_size_aligned(cfg->execs_max * sizeof *j->execs);
    j->buckets = (uint32_t *)(void *)at;
    uint32_t buckets = worker_size_buckets(cfg->execs_max);
    j->mask = buckets - 1;
    memset(j->buckets, 0xff, buckets * sizeof *j->buckets);
    worker_list_init(&j->free);
    worker_list_init(&j->running);
    worker_list_init(&j->finished);
    worker_list_init(&j->stored);
    for (uint32_t i = 0; i < cfg->execs_max; i++) {
        struct worker_exec *x = &j->execs[i];
        memset(x, 0, sizeof *x);
        x->index = i;
        worker_list_init(&x->stored);
        worker_list_init(&x->readers);
        worker_list_append(&j->free, &x->link);
    }
    *ret = j;
    return 0;
}

static uint32_t *bucket_of(const struct worker_execs *j, const uint8_t *id)
{
    uint64_t h = base_hash_sip24(j->cfg.key, id, PROTO_EXEC_ID_BYTES);
    return &j->buckets[h & j->mask];
}

struct worker_exec *worker_exec_find(
    const struct worker_execs *j, const uint8_t id[PROTO_EXEC_ID_BYTES])
{
    for (uint32_t i = *bucket_of(j, id); i != NONE; i = j->execs[i].chain) {
        if (memcmp(j->execs[i].id, id, PROTO_EXEC_ID_BYTES) == 0) {
            return &j->execs[i];
        }
    }
    return NULL;
}

static struct worker_exec *record(struct worker_execs *j, const uint8_t *id)
{
    struct worker_list *l = worker_list_first(&j->free);
    REQUIRE(l != NULL);
    struct worker_exec *x = CONTAINER_OF(l, struct worker_exec, link);
    worker_list_remove(&x->link);
    memcpy(x->id, id, PROTO_EXEC_ID_BYTES);
    x->truncated = x->dropped = x->counted = x->cancel = false;
    x->last_seq = x->bytes = x->started_ns = x->ended_ns = 0;
    uint32_t *b = bucket_of(j, id);
    x->chain = *b;
    *b = x->index;
    j->n++;
    return x;
}

void worker_exec_pay(
    struct worker_execs *j, struct worker_exec *x, const struct worker_quota_who *who)
{
    REQUIRE(!x->counted && x->state == WORKER_EXEC_STARTED);
    x->who = *who;
    x->counted =
        j->cfg.quota != NULL && worker_quota_charge(j->cfg.quota, who, WORKER_QUOTA_EXECUTIONS, 1);
}

static void uncount(struct worker_execs *j, struct worker_exec *x)
{
    if (x->counted) {
        worker_quota_refund(j->cfg.quota, &x->who, WORKER_QUOTA_EXECUTIONS, 1);
        x->counted = false;
    }
}

static void forget(struct worker_execs *j, struct worker_exec *x)
{
    REQUIRE(worker_list_empty(&x->readers));
    uint32_t *at = bucket_of(j, x->id);
    while (*at != x->index) {
        REQUIRE(*at != NONE);
        at = &j->execs[*at].chain;
    }
    *at = x->chain;
    uncount(j, x);
    j->running_n -= x->state == WORKER_EXEC_STARTED ? 1 : 0;
    j->bytes -= x->bytes;
    x->state = WORKER_EXEC_FREE;
    worker_list_remove(&x->link);
    worker_list_remove(&x->stored);
    worker_list_append(&j->free, &x->link);
    j->n--;
}

static uint32_t running_in(const struct worker_execs *j, proto_epoch epoch)
{
    uint32_t n = 0;
    for (const struct worker_list *l = j->running.next; l != &j->running; l = l->next) {
        n += CONTAINER_OF(l, struct worker_exec, link)->epoch == epoch;
    }
    return n;
}

/* May it run? NEW: it may. */
static enum worker_exec_verdict room(const struct worker_execs *j, struct worker_exec_begin *b)
{
    if (worker_list_empty(&j->free) ||
        (!b->unrun && (j->running_n >= j->cfg.running_max ||
                          running_in(j, b->epoch) >= j->cfg.per_session_max))) {
        return WORKER_EXEC_FULL;
    }
    b->quota = WORKER_QUOTA_OK;
    if (j->cfg.quota != NULL && !b->unrun) {
        b->quota = worker_quota_check(j->cfg.quota, &b->who, WORKER_QUOTA_EXECUTIONS, 1);
    }
    return b->quota == WORKER_QUOTA_OK ? WORKER_EXEC_NEW : WORKER_EXEC_QUOTA;
}

bool worker_exec_same(
    const uint8_t a[PROTO_EXEC_DIGEST_BYTES], const uint8_t b[PROTO_EXEC_DIGEST_BYTES])
{
    static const uint8_t unknown[PROTO_EXEC_DIGEST_BYTES];
    return memcmp(a, b, sizeof unknown) == 0 || memcmp(a, unknown, sizeof unknown) == 0 ||
           memcmp(b, unknown, sizeof unknown) == 0;
}

enum worker_exec_verdict worker_exec_again(
    const struct worker_exec *x, uint64_t hash, const uint8_t digest[PROTO_EXEC_DIGEST_BYTES])
{
    if (x->hash != hash) {
        return WORKER_EXEC_FOREIGN;
    }
    if (!worker_exec_same(x->digest, digest)) {
        return WORKER_EXEC_REUSED;
    }
    if (x->state == WORKER_EXEC_STARTED) {
        return WORKER_EXEC_JOIN;
    }
    return x->state == WORKER_EXEC_DONE && !x->dropped ? WORKER_EXEC_REPLAY : WORKER_EXEC_LOST;
}

enum worker_exec_verdict worker_exec_begin(
    struct worker_execs *j, struct worker_exec_begin *b, struct worker_exec **ret)
{
    struct worker_exec *x = worker_exec_find(j, b->id);
    if (x != NULL) {
        enum worker_exec_verdict again = worker_exec_again(x, b->hash, b->digest);
        if (again != WORKER_EXEC_FOREIGN && again != WORKER_EXEC_REUSED) {
            *ret = x;
        }
        return again;
    }
    enum worker_exec_verdict v = room(j, b);
    if (v != WORKER_EXEC_NEW) {
        return v;
    }
    x = record(j, b->id);
    memcpy(x->digest, b->digest, sizeof x->digest);
    x->hash = b->hash;
    x->epoch = b->epoch;
    x->session = b->session;
    x->state = WORKER_EXEC_STARTED;
    x->started_ns = b->now_ns;
    worker_list_append(&j->running, &x->link);
    j->running_n++;
    if (!b->unrun) {
        worker_exec_pay(j, x, &b->who);
    }
    *ret = x;
    return WORKER_EXEC_NEW;
}

void worker_exec_undo(struct worker_execs *j, struct worker_exec *x)
{
    REQUIRE(x->state == WORKER_EXEC_STARTED && x->last_seq == 0);
    forget(j, x);
}

int worker_exec_restore(
    struct worker_execs *j, const struct worker_exec *row, struct worker_exec **ret)
{
    if (row->state != WORKER_EXEC_STARTED && row->state != WORKER_EXEC_DONE &&
        row->state != WORKER_EXEC_UNKNOWN) {
        return BASE_EINVAL;
    }
    if (worker_exec_find(j, row->id) != NULL) {
        return BASE_EEXISTS;
    }
    if (worker_list_empty(&j->free)) {
        return BASE_EFULL;
    }
    struct worker_exec *x = record(j, row->id);
    memcpy(x->digest, row->digest, sizeof x->digest);
    x->hash = row->hash;
    x->epoch = row->epoch;
    x->session = NONE;
    x->state = row->state;
    x->truncated = row->truncated;
    x->dropped = row->dropped;
    x->last_seq = row->last_seq;
    x->bytes = row->bytes;
    x->started_ns = row->started_ns;
    x->ended_ns = row->ended_ns;
    j->bytes += x->bytes;
    if (x->state == WORKER_EXEC_STARTED) {
        worker_list_append(&j->running, &x->link);
        j->running_n++;
    } else {
        worker_list_append(&j->finished, &x->link);
        if (x->bytes > 0) {
            worker_list_append(&j->stored, &x->stored);
        }
    }
    *ret = x;
    return 0;
}

enum worker_exec_keep worker_exec_event(
    struct worker_execs *j, struct worker_exec *x, uint64_t seq, uint64_t n, bool done)
{
    if (seq <= x->last_seq || x->state != WORKER_EXEC_STARTED) {
        return WORKER_EXEC_AGAIN;
    }
    if (seq != x->last_seq + 1) {
        return WORKER_EXEC_GAP;
    }
    x->last_seq = seq;
    bool fits = x->bytes + n <= j->cfg.exec_bytes_max &&
                j->bytes + n <= j->cfg.bytes_max + j->cfg.bytes_max / 4;
    if (!fits && !done) {
        x->truncated = true;
        return WORKER_EXEC_SKIP;
    }
    x->bytes += n;
    j->bytes += n;
    return WORKER_EXEC_KEEP;
}

static void end(
    struct worker_execs *j, struct worker_exec *x, enum worker_exec_state state, uint64_t now_ns)
{
    REQUIRE(x->state == WORKER_EXEC_STARTED);
    uncount(j, x);
    x->state = state;
    x->ended_ns = now_ns;
    worker_list_remove(&x->link);
    worker_list_append(&j->finished, &x->link);
    if (x->bytes > 0) {
        worker_list_append(&j->stored, &x->stored);
    }
    j->running_n--;
}

void worker_exec_finish(struct worker_execs *j, struct worker_exec *x, uint64_t now_ns)
{
    end(j, x, WORKER_EXEC_DONE, now_ns);
}

struct worker_exec *worker_exec_lost(struct worker_execs *j, proto_epoch epoch, uint64_t now_ns)
{
    for (struct worker_list *l = j->running.next; l != &j->running; l = l->next) {
        struct worker_exec *x = CONTAINER_OF(l, struct worker_exec, link);
        if (x->epoch == epoch) {
            end(j, x, WORKER_EXEC_UNKNOWN, now_ns);
            return x;
        }
    }
    return NULL;
}

void worker_exec_give_up(struct worker_execs *j, struct worker_exec *x, uint64_t now_ns)
{
    end(j, x, WORKER_EXEC_UNKNOWN, now_ns);
}

struct worker_exec *worker_exec_running(const struct worker_execs *j, const struct worker_exec *x)
{
    const struct worker_list *l = x == NULL ? j->running.next : x->link.next;
    return l == &j->running ? NULL : CONTAINER_OF(l, struct worker_exec, link);
}

enum worker_exec_drop worker_exec_expire(
    struct worker_execs *j, uint64_t now_ns, struct worker_exec **ret)
{
    for (struct worker_list *l = j->finished.next; l != &j->finished; l = l->next) {
        struct worker_exec *x = CONTAINER_OF(l, struct worker_exec, link);
        if (x->ended_ns + j->cfg.retention_ms * BASE_NS_PER_MS > now_ns) {
            break; /* the rest is younger */
        }
        if (worker_list_empty(&x->readers)) {
            forget(j, x);
            *ret = x;
            return WORKER_EXEC_DROP_ALL;
        }
    }
    if (j->bytes <= j->cfg.bytes_max) {
        return WORKER_EXEC_DROP_NONE;
    }
    for (struct worker_list *l = j->stored.next; l != &j->stored; l = l->next) {
        struct worker_exec *x = CONTAINER_OF(l, struct worker_exec, stored);
        if (worker_list_empty(&x->readers)) {
            j->bytes -= x->bytes;
            x->bytes = 0;
            x->dropped = true;
            worker_list_remove(&x->stored);
            *ret = x;
            return WORKER_EXEC_DROP_EVENTS;
        }
    }
    return WORKER_EXEC_DROP_NONE;
}

uint64_t worker_exec_deadline_ns(const struct worker_execs *j)
{
    for (const struct worker_list *l = j->finished.next; l != &j->finished; l = l->next) {
        const struct worker_exec *x = CONTAINER_OF(l, struct worker_exec, link);
        if (worker_list_empty(&x->readers)) {
            return x->ended_ns + j->cfg.retention_ms * BASE_NS_PER_MS;
        }
    }
    return UINT64_MAX;
}

uint64_t worker_exec_bytes(const struct worker_execs *j)
{
    return j->bytes;
}

uint32_t worker_exec_count(const struct worker_execs *j)
{
    return j->n;
}

/* --- readers ------------------------------------------------------------------------------- */

void worker_exec_attach(struct worker_exec_reader *r, struct worker_exec *x, uint64_t after_seq)
{
    r->exec = x;
    r->next_seq = after_seq < UINT64_MAX ? after_seq + 1 : after_seq;
    r->unacked = 0;
    worker_list_append(&x->readers, &r->link);
}

void worker_exec_detach(struct worker_exec_reader *r)
{
    if (r->exec != NULL) {
        worker_list_remove(&r->link);
        r->exec = NULL;
    }
}

bool worker_exec_may_send(const struct worker_exec_reader *r, uint64_t n)
{
    return r->unacked == 0 || r->unacked + n <= PROTO_EVENT_WINDOW;
}

void worker_exec_sent(struct worker_exec_reader *r, uint64_t seq, uint64_t n)
{
    r->next_seq = seq + 1;
    r->unacked += n;
}

void worker_exec_credit(struct worker_exec_reader *r, uint64_t n)
{
    r->unacked -= n < r->unacked ? n : r->unacked;
}

bool worker_exec_read_out(const struct worker_exec_reader *r)
{
    return r->exec->state != WORKER_EXEC_STARTED && r->next_seq > r->exec->last_seq;
}
