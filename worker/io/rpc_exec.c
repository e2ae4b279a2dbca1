#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "proto/base/container.h"
#include "proto/exec_digest.h"
#include "worker/io/rpc_state.h"

/* Executions: run, attach, cancel. The events come from the store, whoever asks and whenever. */

static const char unknown_text[] =
    "the microVM ended before the outcome was known; it will not be run again";

static Warren__ExecState state_of(const struct worker_exec *e)
{
    switch (e->state) {
    case WORKER_EXEC_STARTED:
        return WARREN__EXEC_STATE__EXEC_RUNNING;
    case WORKER_EXEC_DONE:
        return WARREN__EXEC_STATE__EXEC_DONE;
    case WORKER_EXEC_UNKNOWN:
        return WARREN__EXEC_STATE__EXEC_UNKNOWN;
    case WORKER_EXEC_FREE:
        break;
    }
    return WARREN__EXEC_STATE__EXEC_NONE;
}

static void fill(struct rpc_exchange *x, Warren__Reply *reply, Warren__Session *session)
{
    reply->status = WARREN__STATUS__STATUS_OK;
    reply->exec_id.data = x->exec_id;
    reply->exec_id.len = sizeof x->exec_id;
    reply->replayed = x->replayed;
    if (x->watch.reader.exec != NULL) {
        reply->exec_state = state_of(x->watch.reader.exec);
        reply->truncated = x->watch.reader.exec->truncated;
    }
    rpc_session_attach(x, reply, session);
}

static void head(struct rpc_exchange *x)
{
    Warren__Reply reply = WARREN__REPLY__INIT;
    Warren__Session session;
    fill(x, &reply, &session);
    rpc_head_reply(x, &reply);
    x->head_sent = true;
}

/* The DONE event of an execution that has one. NULL: damaged or not there. */
static Warren__GuestEvent *done_event(struct rpc_exchange *x)
{
    struct worker_exec_watch *w = &x->watch;
    struct worker_exec_event e;
    uint64_t next = w->reader.next_seq;
    w->reader.next_seq = w->reader.exec->last_seq;
    int rc = worker_exec_io_read(x->rpc->config.sessions, w, &e);
    w->reader.next_seq = next;
    Warren__GuestEvent *ev = rc == 0 ? warren__guest_event__unpack(NULL, e.n, e.raw) : NULL;
    if (ev != NULL && ev->done == NULL) {
        warren__guest_event__free_unpacked(ev, NULL);
        ev = NULL;
    }
    return ev;
}

static void end(struct rpc_exchange *x)
{
    const struct worker_exec *e = x->watch.reader.exec;
    Warren__Reply reply = WARREN__REPLY__INIT;
    Warren__Session session;
    Warren__GuestEvent *ev = NULL;
    fill(x, &reply, &session);
    if (e->state == WORKER_EXEC_UNKNOWN) {
        reply.status = WARREN__STATUS__STATUS_OUTCOME_UNKNOWN;
        reply.code = rpc_text("ExecutionOutcomeUnknown");
        reply.text = rpc_text(unknown_text);
    } else if (e->state == WORKER_EXEC_DONE) {
        ev = done_event(x);
        reply.done = ev != NULL ? ev->done : NULL;
    }
    rpc_end_reply(x, &reply);
    if (ev != NULL) {
        warren__guest_event__free_unpacked(ev, NULL);
    }
}

void rpc_exec_timeout(struct rpc_exchange *x)
{
    Warren__Reply reply = WARREN__REPLY__INIT;
    Warren__Session session;
    fill(x, &reply, &session);
    reply.status = WARREN__STATUS__STATUS_TIMEOUT;
    reply.text = rpc_text("the deadline of the request has passed, the execution goes on");
    x->more = NULL;
    rpc_end_reply(x, &reply);
}

/* Sends committed events within the reader's window. */
static bool events(struct rpc_exchange *x)
{
    struct worker_exec_event e;
    int rc = 0;
    if (!worker_exec_io_started(x->watch.reader.exec)) {
        return false;
    }
    while ((rc = worker_exec_io_read(x->rpc->config.sessions, &x->watch, &e)) == 0) {
        if (!worker_exec_may_send(&x->watch.reader, e.n)) {
            return false; /* CREDIT goes on */
        }
        struct proto_envelope env = {.type = PROTO_ENVELOPE_EVENT, .seq = (uint32_t)e.seq};
        if (rpc_send(x, &env, e.raw, e.n) != 0) {
            return false;
        }
        worker_exec_sent(&x->watch.reader, e.seq, e.n);
    }
    if (rc != BASE_ENOTFOUND) {
        LOG_ERROR(x->rpc->config.log, "stored events cannot be read: %s", base_err_str(rc));
        x->more = NULL;
        rpc_end(x, WARREN__STATUS__STATUS_INTERNAL, "", "stored events cannot be read");
        return false;
    }
    if (worker_exec_io_read_out(&x->watch) || x->no_wait) {
        x->more = NULL; /* flush comes back here otherwise */
        end(x);
        return false;
    }
    return true;
}

static void on_ready(struct worker_exec_watch *w)
{
    struct rpc_exchange *x = CONTAINER_OF(w, struct rpc_exchange, watch);
    if (x->end_due) {
        rpc_flush(x);
        return;
    }
    if (!x->head_sent && worker_exec_io_started(w->reader.exec)) {
        head(x);
        if (x->detach && !x->dead) {
            x->more = NULL;
            end(x);
            return;
        }
    }
    rpc_flush(x);
}

static void on_refused(struct worker_exec_watch *w, int code, const char *text)
{
    struct rpc_exchange *x = CONTAINER_OF(w, struct rpc_exchange, watch);
    bool again = code == BASE_ENOTFOUND || code == BASE_EFULL || code == BASE_ESTATE;
    rpc_end_error(x, again ? BASE_EAGAIN : code, text);
}

static void watch(struct rpc_exchange *x, struct worker_exec *e, uint64_t after_seq)
{
    x->watch.ready = on_ready;
    x->watch.refused = on_refused;
    worker_exec_io_watch(&x->watch, e, after_seq);
    x->more = events;
    on_ready(&x->watch);
}

static void lost(struct rpc_exchange *x, const struct worker_exec *e)
{
    Warren__Reply reply = WARREN__REPLY__INIT;
    Warren__Session session;
    fill(x, &reply, &session);
    reply.status = WARREN__STATUS__STATUS_OUTCOME_UNKNOWN;
    reply.code = rpc_text("ExecutionOutcomeUnknown");
    reply.exec_state = state_of(e);
    reply.text = rpc_text(
        e->state == WORKER_EXEC_DONE ? "it ran, but its output is no longer stored" : unknown_text);
    rpc_end_reply(x, &reply);
}

/* Reckoned when it is needed and not before: requests that are refused cost less. */
static bool find_digest(struct rpc_exchange *x)
{
    return proto_exec_digest(x->req->msg->exec, x->digest) == 0;
}

static void reused(struct rpc_exchange *x)
{
    rpc_end(x, WARREN__STATUS__STATUS_EXISTS, "IdempotencyKeyReused",
        "this execution id was used for other code or other settings");
}

static void foreign(struct rpc_exchange *x)
{
    rpc_end(x, WARREN__STATUS__STATUS_EXISTS, "execution",
        "this execution id was used in another session");
}

/* --- run ----------------------------------------------------------------------------------- */

static void verdict(struct rpc_exchange *x, enum worker_exec_verdict v, struct worker_exec *e)
{
    switch (v) {
    case WORKER_EXEC_NEW:
        watch(x, e, 0);
        break;
    case WORKER_EXEC_JOIN:
    case WORKER_EXEC_REPLAY:
        x->replayed = true;
        watch(x, e, 0);
        break;
    case WORKER_EXEC_LOST:
        x->replayed = true;
        lost(x, e);
        break;
    case WORKER_EXEC_FOREIGN:
        foreign(x);
        break;
    case WORKER_EXEC_REUSED:
        reused(x);
        break;
    case WORKER_EXEC_QUOTA: /* told by begin() */
    case WORKER_EXEC_FULL:
        rpc_end(x, WARREN__STATUS__STATUS_UNAVAILABLE, "TooManyExecutions",
            "too many executions run or wait");
        break;
    }
}

static void begin(struct rpc_exchange *x)
{
    const Warren__Exec *q = x->req->msg->exec;
    struct worker_exec_order o = {.code = q->code.data,
        .code_n = q->code.len,
        .digest = x->digest,
        .who = x->who,
        .owner = x->req,
        .release = rpc_request_release};
    warren__guest_exec__init(&o.exec);
    o.exec.id = q->id;
    o.exec.kernel = q->kernel;
    o.exec.timeout_ms = q->timeout_ms != 0 ? q->timeout_ms : PROTO_TIMEOUT_MS_DEFAULT;
    o.exec.stdout_max = q->stdout_max;
    o.exec.stderr_max = q->stderr_max;
    o.exec.fresh_kernel = q->fresh_kernel;
    o.exec.n_argv = q->n_argv;
    o.exec.argv = q->argv;
    uint64_t hash = worker_session_hash(x->rpc->config.sessions, x->pool, &x->id);
    struct worker_exec *e = NULL;
    x->req = NULL; /* the order's from here on */
    enum worker_exec_verdict v =
        worker_exec_io_begin(x->rpc->config.sessions, x->ref, hash, &o, &e);
    if (v == WORKER_EXEC_QUOTA) {
        rpc_end_quota(x, worker_quota_text(o.quota, WORKER_QUOTA_EXECUTIONS), 0);
        return;
    }
    verdict(x, v, e);
}

bool rpc_exec_known(const struct rpc_exchange *x)
{
    const Warren__Request *q = x->req->msg;
    const ProtobufCBinaryData *id = x->op == WARREN__REQUEST__OP_EXEC          ? &q->exec->id
                                    : x->op == WARREN__REQUEST__OP_EXEC_ATTACH ? &q->exec_attach->id
                                    : x->op == WARREN__REQUEST__OP_EXEC_CANCEL ? &q->exec_cancel->id
                                                                               : NULL;
    struct worker_sessions *s = x->rpc->config.sessions;
    const struct worker_exec *e = id == NULL ? NULL : worker_exec_io_find(s, id->data);
    return e != NULL && e->hash == worker_session_hash(s, x->pool, &x->id);
}

/* May an execution that is not in this journal have run in an earlier session, at another worker?
 * A client that names the generation of this one has been told that the earlier is gone. */
static bool elsewhere(struct rpc_exchange *x)
{
    struct worker_member *m = x->rpc->config.member;
    return m != NULL && !x->knows && worker_member_moved(m, x->pool, &x->id);
}

static void end_elsewhere(struct rpc_exchange *x)
{
    Warren__Reply reply = WARREN__REPLY__INIT;
    Warren__Session session = WARREN__SESSION__INIT;
    char text[256];
    (void)snprintf(text, sizeof text,
        "an earlier session was at another worker, and whether this operation ran there is not "
        "known; with x-warren-if-generation: %" PRIu64 " it runs in the present one",
        x->epoch);
    session.generation = x->epoch;
    reply.status = WARREN__STATUS__STATUS_OUTCOME_UNKNOWN;
    reply.code = rpc_text("ExecutionOutcomeUnknown");
    reply.text = text;
    reply.exec_state = WARREN__EXEC_STATE__EXEC_UNKNOWN;
    reply.session = &session;
    rpc_gate_leave(x); /* the place stays for a while: its generation was named */
    rpc_end_reply(x, &reply);
}

/* An id that is known needs no session: its outcome outlives it. */
void rpc_exec(struct rpc_exchange *x)
{
    const Warren__Exec *q = x->req->msg->exec;
    struct worker_sessions *s = x->rpc->config.sessions;
    x->detach = q->detach;
    struct worker_exec *e = worker_exec_io_find(s, x->exec_id);
    if (!find_digest(x)) {
        rpc_end(x, WARREN__STATUS__STATUS_UNAVAILABLE, "", "out of memory");
    } else if (e == NULL && q->given && elsewhere(x)) {
        end_elsewhere(x);
    } else if (e == NULL) {
        rpc_acquire(x, begin);
    } else {
        uint64_t hash = worker_session_hash(s, x->pool, &x->id);
        verdict(x, worker_exec_again(e, hash, x->digest), e);
    }
}

/* --- attach, cancel ------------------------------------------------------------------------ */

/* A request for the same execution that has not begun: it waits for its turn or a microVM. */
static struct rpc_exchange *waiting(const struct rpc_exchange *x)
{
    const struct worker_list *all = &x->rpc->exchanges;
    for (struct worker_list *l = all->next; l != all; l = l->next) {
        struct rpc_exchange *y = CONTAINER_OF(l, struct rpc_exchange, link);
        if (y->op == WARREN__REQUEST__OP_EXEC && y->req != NULL && !y->end_due &&
            y->pool == x->pool && y->id.len == x->id.len &&
            memcmp(y->id.text, x->id.text, x->id.len) == 0 &&
            memcmp(y->exec_id, x->exec_id, sizeof x->exec_id) == 0) {
            return y;
        }
    }
    return NULL;
}

/* The execution that is meant; NULL: it has not begun, or there is none in this session. */
static struct worker_exec *known(struct rpc_exchange *x, const ProtobufCBinaryData *id)
{
    struct worker_sessions *s = x->rpc->config.sessions;
    memcpy(x->exec_id, id->data, sizeof x->exec_id);
    struct worker_exec *e = worker_exec_io_find(s, x->exec_id);
    return e == NULL || e->hash != worker_session_hash(s, x->pool, &x->id) ? NULL : e;
}

static void none(struct rpc_exchange *x)
{
    rpc_end(x, WARREN__STATUS__STATUS_NOT_FOUND, "execution", "no such execution");
}

static void end_state(struct rpc_exchange *x, Warren__ExecState state)
{
    Warren__Reply reply = WARREN__REPLY__INIT;
    Warren__Session session;
    fill(x, &reply, &session);
    reply.exec_state = state;
    rpc_end_reply(x, &reply);
}

void rpc_exec_attach(struct rpc_exchange *x)
{
    const Warren__ExecAttach *q = x->req->msg->exec_attach;
    struct worker_exec *e = known(x, &q->id);
    x->no_wait = !q->wait;
    if (e == NULL && waiting(x) == NULL && elsewhere(x)) {
        end_elsewhere(x);
    } else if (e == NULL && waiting(x) == NULL) {
        none(x);
    } else if (e == NULL && x->no_wait) {
        end_state(x, WARREN__EXEC_STATE__EXEC_NONE);
    } else if (e == NULL) {
        rpc_end(x, WARREN__STATUS__STATUS_UNAVAILABLE, "", "the execution waits for a microVM");
    } else if (e->dropped) {
        lost(x, e);
    } else {
        x->replayed = e->state != WORKER_EXEC_STARTED;
        watch(x, e, q->after_seq);
    }
}

/* Its end is that it was canceled; it never runs. NULL: too many are remembered. */
static struct worker_exec *void_it(struct rpc_exchange *x, const uint8_t *digest)
{
    struct worker_sessions *s = x->rpc->config.sessions;
    uint64_t hash = worker_session_hash(s, x->pool, &x->id);
    struct worker_exec *e = worker_exec_io_void(s, x->exec_id, hash, digest);
    if (e != NULL && x->rpc->config.member != NULL) {
        worker_member_told(x->rpc->config.member, x->pool, &x->id, x->epoch);
    }
    return e;
}

/* What waits gets that end; what asks for something else than the first under this id never had
 * it. */
static struct worker_exec *cancel_waiting(struct rpc_exchange *x)
{
    struct worker_sessions *s = x->rpc->config.sessions;
    struct worker_exec *e = NULL;
    struct rpc_exchange *y;
    while ((y = waiting(x)) != NULL) {
        e = !find_digest(y) ? NULL : e != NULL ? e : void_it(x, y->digest);
        if (e == NULL) {
            return NULL;
        }
        rpc_admit_unqueue(y);
        worker_session_cancel(s, &y->want);
        rpc_request_release(y->req);
        y->req = NULL;
        if (worker_exec_same(e->digest, y->digest)) {
            watch(y, e, 0);
        } else {
            reused(y);
        }
    }
    return e;
}

/* Is it what the cancel means? Of those that wait the first has the id: e NULL. */
static bool means(struct rpc_exchange *x, const struct worker_exec *e, struct rpc_exchange *first)
{
    const ProtobufCBinaryData *digest = &x->req->msg->exec_cancel->digest;
    return digest->len == 0 ||
           (e != NULL ? worker_exec_same(e->digest, digest->data)
                      : find_digest(first) && worker_exec_same(first->digest, digest->data));
}

void rpc_exec_cancel(struct rpc_exchange *x)
{
    struct worker_exec *e = known(x, &x->req->msg->exec_cancel->id);
    struct rpc_exchange *first = e == NULL ? waiting(x) : NULL;
    if (e == NULL && first == NULL) {
        (elsewhere(x) ? end_elsewhere : none)(x);
        return;
    }
    if (!means(x, e, first)) {
        none(x);
        return;
    }
    if (e != NULL) {
        worker_exec_io_interrupt(x->rpc->config.sessions, e);
    } else if ((e = cancel_waiting(x)) == NULL) {
        rpc_end(x, WARREN__STATUS__STATUS_UNAVAILABLE, "TooManyExecutions",
            "too many executions are remembered");
        return;
    }
    end_state(x, state_of(e));
}
