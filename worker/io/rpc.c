#include "worker/io/rpc.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base/assert.h"
#include "proto/base/container.h"
#include "proto/base/hash.h"
#include "worker/io/rpc_state.h"

enum {
    EXCHANGES_DEFAULT = 8192,
    END_GRACE_S = 10,
    DEADLINE_MS_DEFAULT = 3600000,
    PEERS_MS_DEFAULT = 10000
};
static const uint64_t request_bytes_default = UINT64_C(256) << 20;

/* --- exchanges ----------------------------------------------------------------------------- */

static struct rpc_exchange **bucket_of(
    struct worker_rpc *r, const struct proto_net_peer *peer, uint64_t corr)
{
    uint64_t h = base_hash_mix64(corr);
    for (uint8_t i = 0; i < peer->len; i++) {
        h = base_hash_mix64(h ^ peer->id[i]);
    }
    return &r->buckets[h % RPC_BUCKETS];
}

static bool same_peer(const struct proto_net_peer *a, const struct proto_net_peer *b)
{
    return a->len == b->len && memcmp(a->id, b->id, a->len) == 0;
}

static struct rpc_exchange *find(
    struct worker_rpc *r, enum proto_net_class class, const struct proto_net_message *m)
{
    struct rpc_exchange *x = *bucket_of(r, &m->peer, m->env.corr);
    while (x != NULL &&
           (x->corr != m->env.corr || x->class != class || !same_peer(&x->peer, &m->peer))) {
        x = x->chain;
    }
    return x;
}

void rpc_request_release(void *request)
{
    struct rpc_request *q = request;
    if (q != NULL) {
        if (q->rpc != NULL) {
            q->rpc->stats.request_bytes -= q->bytes;
            rpc_admit_release(q);
        }
        worker_list_remove(&q->link);
        warren__request__free_unpacked(q->msg, NULL);
        free(q);
    }
}

/* Lets go of everything that could call back, except the stream: this may be inside its callback.
 */
void rpc_close(struct rpc_exchange *x)
{
    if (x->dead) {
        return;
    }
    struct worker_rpc *r = x->rpc;
    x->dead = true;
    struct rpc_exchange **at = bucket_of(r, &x->peer, x->corr);
    while (*at != x) {
        REQUIRE(*at != NULL);
        at = &(*at)->chain;
    }
    *at = x->chain;
    r->stats.exchanges--;
    rpc_admit_leave(x);
    rpc_gate_leave(x);
    ev_timer_stop(r->config.loop, &x->timer);
    worker_session_cancel(r->config.sessions, &x->want);
    worker_session_use_remove(&x->use);
    worker_exec_io_unwatch(&x->watch);
    worker_list_remove(&x->blocked);
    worker_list_remove(&x->link);
    worker_list_append(&r->dead, &x->link);
    worker_session_release(r->config.sessions, x->ref);
    x->ref.epoch = 0;
}

static void reap(struct worker_rpc *r)
{
    struct worker_list *l;
    while ((l = worker_list_first(&r->dead)) != NULL) {
        struct rpc_exchange *x = CONTAINER_OF(l, struct rpc_exchange, link);
        worker_list_remove(l);
        if (x->stream != NULL) {
            worker_stream_reset(x->stream); /* an unfinished upload is undone */
        }
        rpc_request_release(x->req);
        base_buf_deinit(&x->input);
        base_buf_deinit(&x->data);
        base_buf_deinit(&x->extra);
        base_buf_deinit(&x->head);
        base_buf_deinit(&x->end);
        free(x);
    }
}

static void on_prepare(struct ev_loop *loop, struct ev_prepare *w, int events)
{
    (void)loop;
    (void)events;
    reap(CONTAINER_OF(w, struct worker_rpc, reaper));
}

static void on_deadline(struct ev_loop *loop, struct ev_timer *w, int events)
{
    (void)loop;
    (void)events;
    struct rpc_exchange *x = CONTAINER_OF(w, struct rpc_exchange, timer);
    if (x->end_due) { /* the gateway has not taken its END for END_GRACE_S */
        rpc_close(x);
        return;
    }
    if (x->watch.reader.exec != NULL) {
        rpc_exec_timeout(x);
    } else {
        rpc_end(x, WARREN__STATUS__STATUS_TIMEOUT, "", "the deadline of the request has passed");
    }
}

/* --- sending ------------------------------------------------------------------------------- */

int rpc_send(struct rpc_exchange *x, const struct proto_envelope *env, const void *body, size_t n)
{
    struct worker_rpc *r = x->rpc;
    struct proto_envelope e = *env;
    e.corr = x->corr;
    e.view = r->config.view;
    int rc = proto_net_send(r->sockets[x->class], &x->peer, &e, body, n);
    if (rc == BASE_EAGAIN) {
        worker_list_remove(&x->blocked);
        worker_list_append(&r->blocked[x->class], &x->blocked);
    } else if (rc != 0) {
        if (rc != BASE_ECLOSED) {
            LOG_WARN(r->config.log, "an answer cannot be sent, dropped: %s", base_err_str(rc));
        }
        rpc_close(x);
    }
    return rc;
}

static bool send_reply(
    struct rpc_exchange *x, enum proto_envelope_type type, struct base_buf *body, bool *due)
{
    if (!*due) {
        return true;
    }
    struct proto_envelope env = {.type = type};
    if (rpc_send(x, &env, base_buf_data(body), base_buf_size(body)) != 0) {
        return false;
    }
    *due = false;
    base_buf_clear(body);
    return true;
}

void rpc_flush(struct rpc_exchange *x)
{
    if (x->dead || !send_reply(x, PROTO_ENVELOPE_HEAD, &x->head, &x->head_due)) {
        return;
    }
    if (x->credit_due > 0) {
        struct proto_envelope env = {.type = PROTO_ENVELOPE_CREDIT, .seq = x->credit_due};
        if (rpc_send(x, &env, NULL, 0) != 0) {
            return;
        }
        x->credit_due = 0;
    }
    if (x->more != NULL && !x->more(x)) {
        return;
    }
    if (!x->dead && x->end_due) {
        bool due = true;
        if (send_reply(x, PROTO_ENVELOPE_END, &x->end, &due)) {
            rpc_close(x);
        } else if (!x->dead) {
            ev_timer_stop(x->rpc->config.loop, &x->timer);
            ev_timer_set(&x->timer, END_GRACE_S, 0.);
            ev_timer_start(x->rpc->config.loop, &x->timer);
        }
    }
}

static void on_writable(struct worker_rpc *r, enum proto_net_class class)
{
    struct worker_list now, *l;
    worker_list_init(&now);
    worker_list_splice(&now, &r->blocked[class]);
    while ((l = worker_list_first(&now)) != NULL) {
        worker_list_remove(l);
        rpc_flush(CONTAINER_OF(l, struct rpc_exchange, blocked));
    }
}

/* A walk over all exchanges. What is done to one may close it, and others wherever they are: so it
 * is always the first of those that are left that is looked at. */
static void walk_begin(struct worker_rpc *r, struct worker_list *left)
{
    worker_list_init(left);
    worker_list_splice(left, &r->exchanges);
}

static struct rpc_exchange *walk_next(struct worker_rpc *r, struct worker_list *left)
{
    struct worker_list *l = worker_list_first(left);
    if (l == NULL) {
        return NULL;
    }
    worker_list_remove(l);
    worker_list_append(&r->exchanges, l);
    return CONTAINER_OF(l, struct rpc_exchange, link);
}

/* That a gateway is gone shows only when something is sent to it. A gateway takes a pong at any
 * time. */
static void probe_peers(struct worker_rpc *r)
{
    enum { SEEN = 32 }; /* gateways that get one pong each, others one for each exchange */
    struct proto_net_peer seen[SEEN];
    enum proto_net_class class[SEEN];
    unsigned n = 0;
    struct proto_envelope env = {.type = PROTO_ENVELOPE_PONG};
    struct worker_list left;
    struct rpc_exchange *x;
    walk_begin(r, &left);
    while ((x = walk_next(r, &left)) != NULL) { /* a send that fails closes */
        bool known = !worker_list_empty(&x->blocked);
        for (unsigned i = 0; i < n && !known; i++) {
            known = class[i] == x->class && same_peer(&seen[i], &x->peer);
        }
        if (!known && rpc_send(x, &env, NULL, 0) == 0 && n < SEEN) {
            class[n] = x->class;
            seen[n++] = x->peer;
        }
    }
}

static void on_peers(struct ev_loop *loop, struct ev_timer *w, int events)
{
    (void)loop;
    (void)events;
    probe_peers(CONTAINER_OF(w, struct worker_rpc, peers));
}

/* As if it had given all its exchanges up. */
static void peer_gone(
    struct worker_rpc *r, enum proto_net_class class, const struct proto_net_peer *peer)
{
    struct worker_list left;
    struct rpc_exchange *x;
    walk_begin(r, &left);
    while ((x = walk_next(r, &left)) != NULL) {
        if (x->class == class && same_peer(&x->peer, peer)) {
            rpc_close(x);
        }
    }
}

/* --- sessions ------------------------------------------------------------------------------ */

static void on_answer(struct worker_session_want *w, const struct worker_session_answer *a)
{
    struct rpc_exchange *x = CONTAINER_OF(w, struct rpc_exchange, want);
    if (a->what != WORKER_ANSWER_USE) {
        rpc_end_answer(x, a, rpc_gate_failed(x, a));
        return;
    }
    x->ref = a->ref;
    if (!rpc_gate_made(x)) {
        return;
    }
    x->fresh = a->fresh;
    x->waited_ns = a->waited_ns;
    worker_session_use_add(x->rpc->config.sessions, &x->use, x->ref);
    x->go(x);
}

static void on_session_ended(struct worker_session_use *u, enum worker_end end, bool gone)
{
    struct rpc_exchange *x = CONTAINER_OF(u, struct rpc_exchange, use);
    if (x->op == WARREN__REQUEST__OP_SESSION_DELETE) {
        if (gone) {
            rpc_end(x, WARREN__STATUS__STATUS_OK, "", "");
        }
    } else if (x->op != WARREN__REQUEST__OP_EXEC) { /* executions end by their journal */
        rpc_end(x, WARREN__STATUS__STATUS_LOST, "SessionLost", worker_pool_end_text(end));
    }
}

void rpc_acquire(struct rpc_exchange *x, void (*go)(struct rpc_exchange *x))
{
    const Warren__Request *q = x->req->msg;
    x->go = go;
    x->want.done = on_answer;
    x->want.pool = x->pool;
    x->want.id = x->id;
    x->want.tenant = x->who.tenant;
    x->want.allocate = !q->no_allocate && !x->no_allocate;
    x->want.generation = q->expect_generation;
    worker_session_acquire(x->rpc->config.sessions, &x->want);
}

/* --- requests ------------------------------------------------------------------------------ */

/* Without a lease another worker may have the identifier by now: "no such session" would be a claim
 * as much as "here it is". What ran here is known here only, and pools are not identifiers. */
static bool may_answer(const struct rpc_exchange *x)
{
    return x->op == WARREN__REQUEST__OP_POOL_GET ||
           worker_session_leased(x->rpc->config.sessions) || rpc_exec_known(x);
}

void rpc_operate(struct rpc_exchange *x)
{
    /* What ran here is told from the journal, whatever has become of its session: "nothing was
     * done" would be a lie, and who believes it runs the code again. */
    if (!rpc_exec_known(x) && !rpc_gate(x)) {
        return;
    }
    if (!may_answer(x)) {
        rpc_end_unleased(x);
        return;
    }
    switch (x->op) {
    case WARREN__REQUEST__OP_EXEC:
        rpc_exec(x);
        break;
    case WARREN__REQUEST__OP_EXEC_ATTACH:
        rpc_exec_attach(x);
        break;
    case WARREN__REQUEST__OP_EXEC_CANCEL:
        rpc_exec_cancel(x);
        break;
    case WARREN__REQUEST__OP_FILE_PUT:
    case WARREN__REQUEST__OP_FILE_GET:
    case WARREN__REQUEST__OP_FILE_LIST:
    case WARREN__REQUEST__OP_FILE_STAT:
    case WARREN__REQUEST__OP_FILE_DELETE:
    case WARREN__REQUEST__OP_TERMINAL:
        rpc_file(x);
        break;
    case WARREN__REQUEST__OP_SESSION_GET:
    case WARREN__REQUEST__OP_SESSION_DELETE:
    case WARREN__REQUEST__OP_SESSION_LIST:
    case WARREN__REQUEST__OP_POOL_GET:
        rpc_session(x);
        break;
    case WARREN__REQUEST__OP__NOT_SET: /* refused before */
    case _WARREN__REQUEST__OP__CASE_IS_INT_SIZE:
        rpc_close(x);
        break;
    }
}

static void *system_alloc(void *user, size_t n)
{
    (void)user;
    return malloc(n);
}

static void system_free(void *user, void *p)
{
    (void)user;
    free(p);
}

static struct rpc_request *request_read(struct worker_rpc *r, const struct proto_net_message *m)
{
    static const ProtobufCAllocator system = {.alloc = system_alloc, .free = system_free};
    struct worker_request_alloc a;
    size_t max = m->body_bytes * 4 + (64 << 10);
    worker_request_alloc_init(&a, &system, max);
    struct rpc_request *q = calloc(1, sizeof *q);
    if (q == NULL) {
        return NULL;
    }
    q->rpc = r;
    q->msg = warren__request__unpack(&a.base, m->body_bytes, m->body);
    if (q->msg == NULL) {
        free(q);
        return NULL;
    }
    q->bytes = max - a.left;
    r->stats.request_bytes += q->bytes;
    worker_list_init(&q->link);
    worker_list_append(&r->requests, &q->link);
    return q;
}

static struct rpc_exchange *exchange_new(struct worker_rpc *r, enum proto_net_class class,
    const struct proto_net_message *m, struct rpc_request *q)
{
    struct rpc_exchange *x = calloc(1, sizeof *x);
    if (x == NULL) {
        return NULL;
    }
    x->rpc = r;
    x->class = class;
    x->peer = m->peer;
    x->corr = m->env.corr;
    x->req = q;
    x->op = q->msg->op_case;
    worker_request_id(q->msg, &x->id);
    if (x->op == WARREN__REQUEST__OP_EXEC) {
        memcpy(x->exec_id, q->msg->exec->id.data, sizeof x->exec_id);
    }
    worker_request_tenant(q->msg, &x->who.tenant);
    worker_list_init(&x->blocked);
    worker_fair_item_init(&x->turn);
    worker_list_init(&x->watch.reader.link);
    worker_session_use_init(&x->use);
    x->use.ended = on_session_ended;
    x->credit = PROTO_CHUNK_CREDIT;
    worker_list_append(&r->exchanges, &x->link);
    struct rpc_exchange **bucket = bucket_of(r, &x->peer, x->corr);
    x->chain = *bucket;
    *bucket = x;
    r->stats.exchanges++;
    uint32_t ms = r->config.deadline_ms_max;
    ms = m->env.deadline_ms > 0 && m->env.deadline_ms < ms ? m->env.deadline_ms : ms;
    ev_timer_init(&x->timer, on_deadline, ms / 1e3, 0.);
    ev_timer_start(r->config.loop, &x->timer);
    return x;
}

/* Limits of the worker, whoever asks; those of tenants: rpc_admit(). */
static const char *full_of(const struct worker_rpc *r, const struct proto_net_message *m)
{
    if (r->stats.exchanges >= r->config.exchanges_max) {
        return "too many requests at a time";
    }
    return r->stats.request_bytes + m->body_bytes > r->config.request_bytes_max
               ? "requests in memory are too large together"
               : NULL;
}

/* False: it was told that there is none. The member of a cluster may not have heard of it yet. What
 * is to be done with a deleted one is decided where it is known whether something runs. */
static bool find_pool(struct rpc_exchange *x)
{
    struct worker_sessions *s = x->rpc->config.sessions;
    const struct worker_member *m = x->rpc->config.member;
    bool about_pool = x->op == WARREN__REQUEST__OP_POOL_GET;
    x->pool = worker_session_pool(s, x->req->msg->key->pool);
    bool known = x->pool != WORKER_NONE;
    if (known && !(about_pool && worker_session_pool_retired(s, x->pool))) {
        return true;
    }
    x->id.len = 0;
    if (!known && !about_pool && m != NULL && !worker_member_knows_pools(m)) {
        rpc_end(x, WARREN__STATUS__STATUS_RETRY, "", "the pool is not known here yet");
    } else {
        rpc_end(x, WARREN__STATUS__STATUS_NOT_FOUND, "pool", "no such pool");
    }
    return false;
}

static void on_request(
    struct worker_rpc *r, enum proto_net_class class, const struct proto_net_message *m)
{
    r->stats.requests++;
    if (find(r, class, m) != NULL) {
        return; /* a name is used once; the first one goes on */
    }
    if (m->env.view != r->config.view) {
        rpc_refuse(r, class, m, WARREN__STATUS__STATUS_RETRY, "another view of the cluster");
        return;
    }
    const char *full = full_of(r, m);
    if (full != NULL) {
        rpc_refuse(r, class, m, WARREN__STATUS__STATUS_UNAVAILABLE, full);
        return;
    }
    struct rpc_request *q = request_read(r, m);
    if (q == NULL) {
        rpc_refuse(r, class, m, WARREN__STATUS__STATUS_INVALID, "the request is malformed");
        return;
    }
    struct worker_request_check check = worker_request_check(q->msg);
    if (check.status != WARREN__STATUS__STATUS_OK) {
        rpc_refuse(r, class, m, check.status, check.text);
        rpc_request_release(q);
        return;
    }
    struct rpc_exchange *x = exchange_new(r, class, m, q);
    if (x == NULL) {
        rpc_refuse(r, class, m, WARREN__STATUS__STATUS_UNAVAILABLE, "out of memory");
        rpc_request_release(q);
        return;
    }
    if (!find_pool(x)) {
        return;
    }
    x->who.pool = x->pool;
    x->epoch = (uint64_t)m->env.seq << 32 | m->env.stream;
    if (rpc_admit(x)) {
        rpc_turn(x);
    }
}

static void on_credit(struct rpc_exchange *x, uint32_t n)
{
    if (x->watch.reader.exec != NULL) {
        worker_exec_credit(&x->watch.reader, n);
    }
    uint32_t room = PROTO_CHUNK_CREDIT - x->credit;
    x->credit += n < room ? n : room;
    rpc_flush(x);
}

static void on_message(
    struct worker_rpc *r, enum proto_net_class class, const struct proto_net_message *m)
{
    if (m->fault != 0) {
        rpc_refuse(r, class, m, WARREN__STATUS__STATUS_INVALID, "unknown envelope version");
        return;
    }
    struct rpc_exchange *x = find(r, class, m);
    switch (m->env.type) {
    case PROTO_ENVELOPE_REQ:
        on_request(r, class, m);
        break;
    case PROTO_ENVELOPE_CHUNK:
        if (x != NULL && x->queued) {
            rpc_end(x, WARREN__STATUS__STATUS_INVALID, "", "a chunk came before its HEAD");
        } else if (x != NULL) {
            rpc_file_chunk(x, m);
        }
        break;
    case PROTO_ENVELOPE_CREDIT:
        if (x != NULL) {
            on_credit(x, m->env.seq);
        }
        break;
    case PROTO_ENVELOPE_RESET:
        if (x != NULL) {
            rpc_close(x);
        }
        break;
    case PROTO_ENVELOPE_PING: {
        struct proto_envelope env = {
            .type = PROTO_ENVELOPE_PONG, .corr = m->env.corr, .view = r->config.view};
        (void)proto_net_send(r->sockets[class], &m->peer, &env, NULL, 0);
        break;
    }
    case PROTO_ENVELOPE_HEAD: /* a worker's own: ignored */
    case PROTO_ENVELOPE_EVENT:
    case PROTO_ENVELOPE_END:
    case PROTO_ENVELOPE_PONG:
    case PROTO_ENVELOPE_NODE: /* of another socket */
    case PROTO_ENVELOPE_TYPE_END:
        break;
    }
}

/* --- sockets ------------------------------------------------------------------------------- */

static void on_ctl(void *owner, const struct proto_net_message *m)
{
    on_message(owner, PROTO_NET_CTL, m);
}

static void on_bulk(void *owner, const struct proto_net_message *m)
{
    on_message(owner, PROTO_NET_BULK, m);
}

static void on_ctl_writable(void *owner)
{
    on_writable(owner, PROTO_NET_CTL);
}

static void on_bulk_writable(void *owner)
{
    on_writable(owner, PROTO_NET_BULK);
}

static void on_ctl_gone(void *owner, const struct proto_net_peer *peer)
{
    peer_gone(owner, PROTO_NET_CTL, peer);
}

static void on_bulk_gone(void *owner, const struct proto_net_peer *peer)
{
    peer_gone(owner, PROTO_NET_BULK, peer);
}

/* Somebody's connection has ended: whose? */
static void on_connection(void *owner, enum proto_net_state state)
{
    (void)state;
    probe_peers(owner);
}

static int bind_both(struct worker_rpc *r, struct base_error *err)
{
    static const struct proto_net_ops ops[2] = {
        [PROTO_NET_CTL] = {on_ctl, on_connection, on_ctl_writable, on_ctl_gone},
        [PROTO_NET_BULK] = {on_bulk, on_connection, on_bulk_writable, on_bulk_gone}};
    for (int class = PROTO_NET_CTL; class <= PROTO_NET_BULK; class ++) {
        struct proto_net_options o = {.class = (enum proto_net_class) class,
            .endpoint = class == PROTO_NET_CTL ? r->config.ctl : r->config.bulk,
            .self = r->config.key,
            .ops = &ops[class],
            .owner = r};
        int rc = proto_net_bind(r->net, &o, &r->sockets[class], err);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

int worker_rpc_create(
    const struct worker_rpc_config *config, struct worker_rpc **ret, struct base_error *err)
{
    struct worker_rpc *r = calloc(1, sizeof *r);
    if (r == NULL) {
        return base_fail(err, BASE_ENOMEM, "out of memory");
    }
    r->config = *config;
    r->config.exchanges_max =
        config->exchanges_max != 0 ? config->exchanges_max : EXCHANGES_DEFAULT;
    r->config.request_bytes_max =
        config->request_bytes_max != 0 ? config->request_bytes_max : request_bytes_default;
    r->config.deadline_ms_max =
        config->deadline_ms_max != 0 ? config->deadline_ms_max : DEADLINE_MS_DEFAULT;
    worker_list_init(&r->blocked[PROTO_NET_CTL]);
    worker_list_init(&r->blocked[PROTO_NET_BULK]);
    worker_list_init(&r->exchanges);
    worker_list_init(&r->dead);
    worker_list_init(&r->requests);
    ev_prepare_init(&r->reaper, on_prepare);
    ev_prepare_start(config->loop, &r->reaper);
    rpc_turns_init(r);
    double peers_s = (config->peers_ms != 0 ? config->peers_ms : PEERS_MS_DEFAULT) / 1e3;
    ev_timer_init(&r->peers, on_peers, peers_s, peers_s);
    ev_timer_start(config->loop, &r->peers);
    int rc =
        proto_net_create(&r->net, config->loop, config->key != NULL ? config->clients : NULL, err);
    rc = rc != 0 ? rc : bind_both(r, err);
    if (rc != 0) {
        worker_rpc_destroy(r);
        return rc;
    }
    *ret = r;
    return 0;
}

void worker_rpc_destroy(struct worker_rpc *r)
{
    if (r == NULL) {
        return;
    }
    struct worker_list *l;
    while ((l = worker_list_first(&r->exchanges)) != NULL) {
        rpc_close(CONTAINER_OF(l, struct rpc_exchange, link));
    }
    reap(r);
    while ((l = worker_list_first(&r->requests)) != NULL) {
        worker_list_remove(l);
        CONTAINER_OF(l, struct rpc_request, link)->rpc = NULL;
    }
    ev_prepare_stop(r->config.loop, &r->reaper);
    rpc_turns_deinit(r);
    ev_timer_stop(r->config.loop, &r->peers);
    proto_net_destroy(r->net);
    free(r);
}

const char *worker_rpc_endpoint(const struct worker_rpc *r, enum proto_net_class class)
{
    return proto_net_endpoint(r->sockets[class]);
}

void worker_rpc_stats(const struct worker_rpc *r, struct worker_rpc_stats *ret)
{
    *ret = r->stats;
}
