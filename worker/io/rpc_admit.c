#include <string.h>

#include "proto/base/container.h"
#include "worker/io/rpc_state.h"

/* Who may have how much of this worker, and whose turn it is. Requests are counted for their
 * tenant; what comes faster than it is served waits in a queue per tenant (deficit round robin, by
 * bytes), so a tenant that sends many delays its own. */

enum {
    SERVED_A_TURN = 64,     /* requests begun in one turn of the loop */
    REQUEST_COST = 2 << 10, /* what a request costs beside its bytes */
    COST_MAX = 16 << 20,
};

static struct worker_quota *quota(const struct worker_rpc *r)
{
    return worker_session_quota(r->config.sessions);
}

/* May it begin? What ends work is always let through. Answers when not. */
bool rpc_admit(struct rpc_exchange *x)
{
    struct worker_quota *q = quota(x->rpc);
    struct rpc_request *req = x->req;
    bool free_of_quota =
        x->op == WARREN__REQUEST__OP_EXEC_CANCEL || x->op == WARREN__REQUEST__OP_SESSION_DELETE;
    enum worker_quota_kind kind = WORKER_QUOTA_REQUESTS;
    enum worker_quota_verdict v = worker_quota_check(q, &x->who, kind, 1);
    if (v == WORKER_QUOTA_OK) {
        kind = WORKER_QUOTA_BYTES;
        v = worker_quota_check(q, &x->who, kind, req->bytes);
    }
    if (!free_of_quota && !worker_quota_fits(q, &x->who, WORKER_QUOTA_BYTES, req->bytes)) {
        rpc_end(x, WARREN__STATUS__STATUS_TOO_LARGE, "",
            "the request is longer than all that may wait together");
        return false;
    }
    if (v != WORKER_QUOTA_OK && !free_of_quota) {
        rpc_end_quota(x, worker_quota_text(v, kind), 0);
        return false;
    }
    x->counted = worker_quota_charge(q, &x->who, WORKER_QUOTA_REQUESTS, 1);
    req->counted = x->counted && worker_quota_charge(q, &x->who, WORKER_QUOTA_BYTES, req->bytes);
    req->who = x->who;
    if (!req->counted) {
        rpc_end(x, WARREN__STATUS__STATUS_UNAVAILABLE, "", "too many requests at a time");
    }
    return req->counted;
}

void rpc_admit_unqueue(struct rpc_exchange *x)
{
    if (x->queued) {
        worker_fair_remove(
            worker_quota_flow(quota(x->rpc), &x->who.tenant, WORKER_QUOTA_ALL), &x->turn);
        x->queued = false;
    }
}

void rpc_admit_leave(struct rpc_exchange *x)
{
    if (x->counted) {
        rpc_admit_unqueue(x); /* its flow is there while it is counted */
        x->counted = false;
        worker_quota_refund(quota(x->rpc), &x->who, WORKER_QUOTA_REQUESTS, 1);
    }
}

void rpc_admit_release(struct rpc_request *req)
{
    if (req->counted && req->rpc != NULL) {
        worker_quota_refund(quota(req->rpc), &req->who, WORKER_QUOTA_BYTES, req->bytes);
    }
    req->counted = false;
}

/* --- turns --------------------------------------------------------------------------------- */

void rpc_turn(struct rpc_exchange *x)
{
    struct worker_rpc *r = x->rpc;
    if (worker_list_empty(&r->turns.turn) && r->served < SERVED_A_TURN) {
        r->served++;
        rpc_operate(x);
        return;
    }
    uint64_t cost = REQUEST_COST + x->req->bytes;
    x->queued = true;
    worker_fair_add(&r->turns, worker_quota_flow(quota(r), &x->who.tenant, WORKER_QUOTA_ALL),
        &x->turn, (uint32_t)(cost < COST_MAX ? cost : COST_MAX));
    if (!ev_is_active(&r->more)) {
        ev_idle_start(r->config.loop, &r->more); /* do not sleep on it */
    }
}

static void on_check(struct ev_loop *loop, struct ev_check *w, int events)
{
    (void)events;
    struct worker_rpc *r = CONTAINER_OF(w, struct worker_rpc, check);
    struct worker_fair_item *i;
    r->served = 0;
    while (r->served < SERVED_A_TURN && (i = worker_fair_next(&r->turns)) != NULL) {
        struct rpc_exchange *x = CONTAINER_OF(i, struct rpc_exchange, turn);
        worker_fair_serve(
            &r->turns, worker_quota_flow(quota(r), &x->who.tenant, WORKER_QUOTA_ALL), i);
        x->queued = false;
        r->served++;
        rpc_operate(x);
    }
    if (worker_list_empty(&r->turns.turn)) {
        ev_idle_stop(loop, &r->more);
    }
}

static void on_more(struct ev_loop *loop, struct ev_idle *w, int events)
{
    (void)loop;
    (void)w;
    (void)events; /* on_check() does it */
}

void rpc_turns_init(struct worker_rpc *r)
{
    worker_fair_init(&r->turns);
    ev_check_init(&r->check, on_check);
    ev_check_start(r->config.loop, &r->check);
    ev_idle_init(&r->more, on_more);
}

void rpc_turns_deinit(struct worker_rpc *r)
{
    ev_check_stop(r->config.loop, &r->check);
    ev_idle_stop(r->config.loop, &r->more);
}
