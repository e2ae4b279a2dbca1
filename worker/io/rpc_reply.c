#include <string.h>

#include "proto/base/text.h"
#include "worker/io/rpc_state.h"

/* What goes back: Reply messages as HEAD and END. */

static int pack(struct base_buf *to, const Warren__Reply *reply, const struct base_buf *extra)
{
    size_t n = warren__reply__get_packed_size(reply);
    uint8_t *p = base_buf_room(to, n > 0 ? n : 1);
    if (p == NULL) {
        return BASE_ENOMEM;
    }
    base_buf_grow(to, warren__reply__pack(reply, p));
    /* Fields that were packed as they came: messages may be joined. */
    return extra == NULL ? 0 : base_buf_add(to, base_buf_data(extra), base_buf_size(extra));
}

void rpc_head_reply(struct rpc_exchange *x, Warren__Reply *reply)
{
    reply->view = x->rpc->config.view;
    if (pack(&x->head, reply, &x->extra) != 0) {
        rpc_close(x);
        return;
    }
    x->head_due = true;
}

void rpc_end_reply(struct rpc_exchange *x, Warren__Reply *reply)
{
    if (x->dead || x->end_due) {
        return;
    }
    rpc_admit_unqueue(x); /* answered: not to be carried out any more */
    worker_session_cancel(x->rpc->config.sessions, &x->want);
    rpc_gate_answered(x);
    reply->view = x->rpc->config.view;
    if (pack(&x->end, reply, reply->status == WARREN__STATUS__STATUS_OK ? &x->extra : NULL) != 0) {
        rpc_close(x);
        return;
    }
    x->end_due = true;
    rpc_flush(x);
}

void rpc_end(struct rpc_exchange *x, Warren__Status status, const char *code, const char *text)
{
    Warren__Reply reply = WARREN__REPLY__INIT;
    Warren__Session session;
    reply.status = status;
    reply.code = rpc_text(code);
    reply.text = rpc_text(text);
    rpc_session_attach(x, &reply, &session);
    if (status == WARREN__STATUS__STATUS_FULL || status == WARREN__STATUS__STATUS_UNAVAILABLE) {
        reply.retry_after_ms = 1000;
    }
    if (status != WARREN__STATUS__STATUS_OK) {
        x->more = NULL; /* an error overtakes what has not been sent */
    }
    rpc_end_reply(x, &reply);
}

void rpc_refuse(struct worker_rpc *r, enum proto_net_class class, const struct proto_net_message *m,
    Warren__Status status, const char *text)
{
    Warren__Reply reply = WARREN__REPLY__INIT;
    struct base_buf body = {0};
    reply.status = status;
    reply.text = rpc_text(text);
    reply.view = r->config.view;
    if (status == WARREN__STATUS__STATUS_FULL || status == WARREN__STATUS__STATUS_UNAVAILABLE) {
        reply.retry_after_ms = 1000;
    }
    struct proto_envelope env = {
        .type = PROTO_ENVELOPE_END, .corr = m->env.corr, .view = r->config.view};
    if (pack(&body, &reply, NULL) == 0) {
        /* A full queue means that the gateway does not read: it will find out by its deadline. */
        (void)proto_net_send(
            r->sockets[class], &m->peer, &env, base_buf_data(&body), base_buf_size(&body));
    }
    base_buf_deinit(&body);
    r->stats.refused++;
}

void rpc_end_quota(struct rpc_exchange *x, const char *text, uint32_t retry_ms)
{
    Warren__Reply reply = WARREN__REPLY__INIT;
    reply.status = WARREN__STATUS__STATUS_FULL;
    reply.code = rpc_text("QuotaExceeded");
    reply.text = rpc_text(text);
    reply.retry_after_ms = retry_ms;
    rpc_end_reply(x, &reply);
}

void rpc_end_unleased(struct rpc_exchange *x)
{
    Warren__Reply reply = WARREN__REPLY__INIT;
    reply.status = WARREN__STATUS__STATUS_UNAVAILABLE;
    reply.text = rpc_text("the worker has no lease at the moment");
    reply.retry_after_ms = 1000;
    rpc_end_reply(x, &reply);
}

void rpc_end_answer(
    struct rpc_exchange *x, const struct worker_session_answer *a, Warren__Status other)
{
    Warren__Reply reply = WARREN__REPLY__INIT;
    reply.retry_after_ms = a->retry_ms;
    switch (a->what) {
    case WORKER_ANSWER_FULL:
        reply.status = WARREN__STATUS__STATUS_FULL;
        reply.code = rpc_text("PoolFull");
        reply.text = rpc_text("all sessions of the pool are in use");
        break;
    case WORKER_ANSWER_QUOTA:
        rpc_end_quota(x, a->text, a->retry_ms);
        return;
    case WORKER_ANSWER_NOT_FOUND:
        reply.status = WARREN__STATUS__STATUS_NOT_FOUND;
        reply.code = rpc_text("session");
        reply.text = rpc_text("no such session");
        break;
    case WORKER_ANSWER_LOST:
        reply.status = WARREN__STATUS__STATUS_LOST;
        reply.code = rpc_text("SessionLost");
        reply.text = rpc_text(a->end == WORKER_END_NONE ? "the session of this generation is gone"
                                                        : worker_pool_end_text(a->end));
        break;
    case WORKER_ANSWER_TIMEOUT:
        reply.status = WARREN__STATUS__STATUS_TIMEOUT;
        reply.text = rpc_text("no microVM became free in time");
        break;
    case WORKER_ANSWER_USE: /* not an end */
    case WORKER_ANSWER_UNAVAILABLE:
        reply.status = WARREN__STATUS__STATUS_UNAVAILABLE;
        reply.code = rpc_text(a->code);
        reply.text = rpc_text(a->text[0] != '\0' ? a->text : "not ready yet, try again");
        if (strcmp(a->code, "PoolDeleted") == 0) {
            reply.status = WARREN__STATUS__STATUS_NOT_FOUND;
            reply.code = rpc_text("pool");
        }
        break;
    }
    if (other != WARREN__STATUS__STATUS_OK) { /* code and text say why, for when nobody takes it */
        reply.status = other;
        x->id.len = 0;
    }
    rpc_end_reply(x, &reply);
}

/* What the agent or the engine says, as a status. */
void rpc_end_error(struct rpc_exchange *x, int code, const char *text)
{
    static const struct {
        int code;
        Warren__Status status;
        const char *word;
    } map[] = {
        {BASE_ENOTFOUND, WARREN__STATUS__STATUS_NOT_FOUND, "file"},
        {BASE_EEXISTS, WARREN__STATUS__STATUS_EXISTS, ""},
        {BASE_ETOOBIG, WARREN__STATUS__STATUS_TOO_LARGE, ""},
        {BASE_EFULL, WARREN__STATUS__STATUS_TOO_LARGE, "full"},
        {BASE_EINVAL, WARREN__STATUS__STATUS_INVALID, ""},
        {BASE_EDENIED, WARREN__STATUS__STATUS_INVALID, "denied"},
        {BASE_ESTATE, WARREN__STATUS__STATUS_INVALID, "state"},
        {BASE_ETIMEOUT, WARREN__STATUS__STATUS_TIMEOUT, ""},
        {BASE_ECLOSED, WARREN__STATUS__STATUS_LOST, "SessionLost"},
        {BASE_EAGAIN, WARREN__STATUS__STATUS_UNAVAILABLE, ""},
    };
    enum { TEXT_MAX = 300 };
    size_t n = text == NULL ? 0 : strnlen(text, TEXT_MAX + 1);
    if (n == 0 || n > TEXT_MAX || !base_text_utf8(text, n)) { /* a guest may say anything */
        text = base_err_str(code);
    }
    for (size_t i = 0; i < sizeof map / sizeof map[0]; i++) {
        if (map[i].code == code) {
            rpc_end(x, map[i].status, map[i].word, text);
            return;
        }
    }
    rpc_end(x, WARREN__STATUS__STATUS_INTERNAL, "", text);
}

void rpc_session_fill(
    const struct rpc_exchange *x, const struct worker_session_info *info, Warren__Session *ret)
{
    warren__session__init(ret);
    ret->identifier.data = (uint8_t *)(uintptr_t)info->id.text;
    ret->identifier.len = info->id.len;
    ret->generation = info->ref.epoch;
    if (x->rpc->config.member != NULL) {
        ret->generation = worker_member_generation(x->rpc->config.member, x->pool, &info->id);
    }
    ret->isolation = rpc_text(worker_engine_isolation(x->rpc->config.engine));
    ret->created_ns = info->created_ns;
    ret->last_access_ns = info->last_ns;
    ret->expires_ns = info->expires_ns;
    ret->recreated = rpc_text(info->recreated);
    ret->vm_id.data = (uint8_t *)(uintptr_t)info->vm_id;
    ret->vm_id.len = sizeof info->vm_id;
    ret->state = rpc_text(info->state);
}

void rpc_session_attach(struct rpc_exchange *x, Warren__Reply *reply, Warren__Session *session)
{
    struct worker_session_info *info = &x->info;
    struct worker_sessions *s = x->rpc->config.sessions;
    if (worker_session_frozen(s)) {
        return; /* another worker may have it by now */
    }
    bool may = x->id.len > 0 && !x->waits; /* what its place has not made is not its session */
    bool there = x->ref.epoch != 0 ? worker_session_look(s, x->ref, info)
                                   : may && worker_session_find(s, x->pool, &x->id, info);
    if (there) {
        rpc_session_fill(x, info, session);
        session->new_allocation = x->fresh;
        session->allocation_us = x->waited_ns / 1000;
        reply->session = session;
    }
}
