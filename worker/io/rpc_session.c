#include <stdlib.h>

#include "worker/io/rpc_state.h"

/* Sessions and pools: get, delete, list. None of these counts as use of a session. */

enum { LIST_DEFAULT = 300 };

static void not_found(struct rpc_exchange *x)
{
    rpc_end(x, WARREN__STATUS__STATUS_NOT_FOUND, "session", "no such session");
}

static bool wrong_generation(const struct rpc_exchange *x, const struct worker_session_info *info)
{
    uint64_t want = x->req->msg->expect_generation;
    return want != 0 && want != info->ref.epoch;
}

/* In a cluster one that its place has not made is nobody's: it came up when an earlier place had
 * been given up. No client is told of it. */
static bool find(struct rpc_exchange *x)
{
    struct worker_sessions *s = x->rpc->config.sessions;
    bool any = worker_session_find(s, x->pool, &x->id, &x->info);
    if (any && x->waits) {
        worker_session_end(s, x->info.ref, WORKER_END_EXPIRED);
    }
    return any && !x->waits;
}

static void get(struct rpc_exchange *x)
{
    if (!find(x)) {
        not_found(x);
    } else if (wrong_generation(x, &x->info)) {
        rpc_end(x, WARREN__STATUS__STATUS_LOST, "SessionLost",
            "the session of this generation is gone");
    } else {
        rpc_end(x, WARREN__STATUS__STATUS_OK, "", "");
    }
}

/* Answered when nothing of the microVM is left. */
static void delete (struct rpc_exchange *x)
{
    struct worker_sessions *s = x->rpc->config.sessions;
    if (!find(x)) {
        not_found(x);
    } else if (wrong_generation(x, &x->info)) {
        rpc_end(x, WARREN__STATUS__STATUS_LOST, "SessionLost",
            "the session of this generation is gone");
    } else {
        struct worker_session_ref ref = x->info.ref;
        worker_session_use_add(s, &x->use, ref);
        worker_session_end(s, ref, WORKER_END_DELETED);
    }
}

/* Of nobody, see find(). */
static bool is_nobodys(const struct rpc_exchange *x, const struct worker_session_info *info)
{
    struct worker_member *m = x->rpc->config.member;
    return m != NULL && !worker_member_has(m, x->pool, &info->id);
}

struct listed {
    struct worker_session_info info;
    Warren__Session session;
};

static void list(struct rpc_exchange *x)
{
    struct worker_sessions *s = x->rpc->config.sessions;
    const Warren__SessionList *q = x->req->msg->session_list;
    uint32_t limit = q->limit != 0 ? q->limit : LIST_DEFAULT, total = 0, n = 0;
    struct listed *all = calloc(limit, sizeof *all);
    Warren__Session **sessions = calloc(limit, sizeof(void *));
    struct worker_session_info info;
    if (all == NULL || sessions == NULL) {
        rpc_end(x, WARREN__STATUS__STATUS_UNAVAILABLE, "", "out of memory");
    } else {
        uint32_t i = WORKER_NONE;
        while ((i = worker_session_next(s, x->pool, i, &info)) != WORKER_NONE) {
            if (!is_nobodys(x, &info) && total++ >= q->skip && n < limit) {
                all[n].info = info;
                rpc_session_fill(x, &all[n].info, &all[n].session);
                sessions[n] = &all[n].session;
                n++;
            }
        }
        Warren__Reply reply = WARREN__REPLY__INIT;
        reply.status = WARREN__STATUS__STATUS_OK;
        reply.total = total;
        reply.n_sessions = n;
        reply.sessions = sessions;
        rpc_end_reply(x, &reply);
    }
    free(all);
    free(sessions);
}

static void pool(struct rpc_exchange *x)
{
    struct worker_session_pool_info i;
    worker_session_pool_look(x->rpc->config.sessions, x->pool, &i);
    Warren__PoolInfo p = WARREN__POOL_INFO__INIT;
    p.name = rpc_text(i.spec->name);
    p.container_type = rpc_text(i.container);
    p.sessions_max = i.spec->sessions_max;
    p.ready_target = i.spec->ready_target;
    p.ready = i.ready;
    p.starting = i.starting;
    p.active = i.active;
    p.cooldown_s = i.spec->cooldown_ms / 1000;
    p.isolation = rpc_text(i.isolation);
    p.template_id = rpc_text(i.template_id);
    p.image_manifest = rpc_text(i.manifest);
    p.state = rpc_text(i.state);
    p.created_ns = i.created_ns;
    p.mcp_enabled = i.mcp;
    p.mcp_extended = i.mcp_extended;
    Warren__Reply reply = WARREN__REPLY__INIT;
    reply.status = WARREN__STATUS__STATUS_OK;
    reply.pool = &p;
    rpc_end_reply(x, &reply);
}

void rpc_session(struct rpc_exchange *x)
{
    if (x->op == WARREN__REQUEST__OP_SESSION_GET) {
        get(x);
    } else if (x->op == WARREN__REQUEST__OP_SESSION_DELETE) {
        delete (x);
    } else if (x->op == WARREN__REQUEST__OP_SESSION_LIST) {
        list(x);
    } else {
        pool(x);
    }
}

static void not_here(struct rpc_exchange *x)
{
    x->id.len = 0; /* nothing of the session is told */
    rpc_end(x, WARREN__STATUS__STATUS_NOT_HERE, "", "nothing runs here under this epoch");
}

bool rpc_gate(struct rpc_exchange *x)
{
    struct worker_member *m = x->rpc->config.member;
    bool allocate = false;
    if (m == NULL || x->id.len == 0) {
        return true;
    }
    enum worker_member_verdict v = worker_member_gate(m, x->pool, &x->id, x->epoch, &allocate);
    if (v == WORKER_MEMBER_NOT_HERE) {
        not_here(x);
        return false;
    }
    if (v == WORKER_MEMBER_NOT_NOW) {
        x->id.len = 0;
        rpc_end(x, WARREN__STATUS__STATUS_RETRY, "", "not now, ask again");
        return false;
    }
    x->no_allocate = !allocate;
    x->waits = allocate; /* whatever the answer is */
    uint64_t want = x->req->msg->expect_generation;
    if (want != 0 && want != x->epoch) {
        rpc_end(x, WARREN__STATUS__STATUS_LOST, "SessionLost",
            "the session of this generation is gone");
        return false;
    }
    x->req->msg->expect_generation = 0; /* inside, lives of sessions have numbers of their own */
    x->knows = want != 0;
    return true;
}

Warren__Status rpc_gate_failed(struct rpc_exchange *x, const struct worker_session_answer *a)
{
    bool none = a->what == WORKER_ANSWER_FULL || a->what == WORKER_ANSWER_UNAVAILABLE;
    if (!x->waits || !none) {
        return WARREN__STATUS__STATUS_OK;
    }
    x->waits = false;
    switch (worker_member_failed(x->rpc->config.member, x->pool, &x->id, x->epoch, a)) {
    case WORKER_MEMBER_GIVEN_UP:
        return WARREN__STATUS__STATUS_NOT_HERE;
    case WORKER_MEMBER_WAITED_FOR:
        return WARREN__STATUS__STATUS_RETRY;
    case WORKER_MEMBER_STAYS:
        break;
    }
    return WARREN__STATUS__STATUS_OK;
}

bool rpc_gate_made(struct rpc_exchange *x)
{
    struct worker_member *m = x->rpc->config.member;
    if (m == NULL || worker_member_made(m, x->pool, &x->id, x->epoch, x->ref)) {
        rpc_gate_leave(x);
        return true;
    }
    x->waits = false; /* its place is gone */
    worker_session_release(x->rpc->config.sessions, x->ref);
    x->ref.epoch = 0;
    not_here(x);
    return false;
}

void rpc_gate_answered(struct rpc_exchange *x)
{
    if (x->waits) {
        x->waits = false;
        worker_member_unused(x->rpc->config.member, x->pool, &x->id, x->epoch);
    }
}

void rpc_gate_leave(struct rpc_exchange *x)
{
    if (x->waits) {
        x->waits = false;
        worker_member_waited(x->rpc->config.member, x->pool, &x->id, x->epoch);
    }
}
