#include "gateway/io/calls_state.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base/clock.h"
#include "proto/base/hash.h"
#include "proto/base/rand.h"
#include "proto/limits.h"

enum {
    VIEW = 1,             /* a static list of workers is the one view there is */
    CONNECT_MS = 2000,    /* so long after a connection was lost, new calls wait for it */
    RECONNECT_MS = 15000, /* one under way waits so long for it to come back */
    GRACE_MS = 2000,      /* we wait so much longer than we told the worker */
    HOPS_MAX = 2,
};

static enum proto_net_class class_of(const struct link *link)
{
    return link == &link->worker->links[PROTO_NET_CTL] ? PROTO_NET_CTL : PROTO_NET_BULK;
}

/* ---- the books ---- */

static struct gw_call **bucket_of(struct gw_calls *c, uint64_t corr)
{
    return &c->buckets[corr % GW_CALLS_BUCKETS];
}

static void forget_corr(struct gw_call *call)
{
    if (call->corr == 0) {
        return;
    }
    struct gw_call **p = bucket_of(call->calls, call->corr);
    while (*p != call) {
        p = &(*p)->chain;
    }
    *p = call->chain;
    call->corr = 0;
}

static void new_corr(struct gw_call *call)
{
    forget_corr(call);
    call->corr = call->calls->next_corr++;
    struct gw_call **p = bucket_of(call->calls, call->corr);
    call->chain = *p;
    *p = call;
}

static struct gw_call *find(struct gw_calls *c, const struct link *link, uint64_t corr)
{
    struct gw_call *call = *bucket_of(c, corr);
    while (call != NULL && call->corr != corr) {
        call = call->chain;
    }
    return call != NULL && call->link == link ? call : NULL;
}

void gw_calls_link_add(struct link *link, struct gw_call *call)
{
    call->link = link;
    call->prev = NULL;
    call->next = link->list;
    if (link->list != NULL) {
        link->list->prev = call;
    }
    link->list = call;
}

static void link_remove(struct gw_call *call)
{
    if (call->prev != NULL) {
        call->prev->next = call->next;
    } else {
        call->link->list = call->next;
    }
    if (call->next != NULL) {
        call->next->prev = call->prev;
    }
}

void gw_calls_move(struct gw_call *call, struct link *to)
{
    link_remove(call);
    gw_calls_link_add(to, call);
}

static void owe(struct gw_call *call, uint32_t n)
{
    struct gw_calls *c = call->calls;
    if (call->owed == 0 && n > 0) {
        call->owing_prev = NULL;
        call->owing_next = c->owing;
        if (c->owing != NULL) {
            c->owing->owing_prev = call;
        }
        c->owing = call;
    }
    call->owed += n;
}

static void forget_owed(struct gw_call *call)
{
    if (call->owed == 0) {
        return;
    }
    if (call->owing_prev != NULL) {
        call->owing_prev->owing_next = call->owing_next;
    } else {
        call->calls->owing = call->owing_next;
    }
    if (call->owing_next != NULL) {
        call->owing_next->owing_prev = call->owing_prev;
    }
    call->owed = 0;
}

static void release(struct gw_call *call)
{
    ev_timer_stop(call->calls->loop, &call->timer);
    gw_calls_route_forget(call);
    forget_owed(call);
    forget_corr(call);
    link_remove(call);
    base_buf_deinit(&call->request);
    base_buf_deinit(&call->key);
    free(call);
}

void gw_calls_fail(struct gw_call *call, enum gw_call_failure why)
{
    const struct gw_call_ops *ops = call->ops;
    void *owner = call->owner;
    release(call);
    ops->failed(owner, why);
}

void gw_calls_end(struct gw_call *call, const Warren__Reply *r)
{
    const struct gw_call_ops *ops = call->ops;
    void *owner = call->owner;
    release(call);
    ops->end(owner, r);
}

/* ---- time ---- */

uint32_t gw_calls_left_ms(const struct gw_call *call)
{
    uint64_t now = base_clock_mono_ns();
    return call->deadline_ns <= now ? 0 : (uint32_t)((call->deadline_ns - now) / BASE_NS_PER_MS);
}

static void set_timer(struct gw_call *call, uint32_t ms)
{
    struct ev_loop *loop = call->calls->loop;
    ev_timer_stop(loop, &call->timer);
    ev_timer_set(&call->timer, ms / 1e3, 0.);
    ev_timer_start(loop, &call->timer);
}

static void on_timer(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop;
    (void)revents;
    struct gw_call *call = w->data;
    if (call->state == WAITING && call->again && gw_calls_left_ms(call) > 0) {
        gw_calls_wait(call, RECONNECT_MS);
        if (call->link->ready) {
            gw_calls_transmit(call);
        }
        return;
    }
    if (call->state == WAITING && gw_calls_route_refused(call)) {
        return;
    }
    enum gw_call_failure why = call->state != WAITING ? GW_CALL_TIMEOUT
                               : call->sent_before    ? GW_CALL_LOST
                                                      : GW_CALL_UNREACHABLE;
    if (call->state != WAITING && call->kind != GW_CALL_EXEC) {
        struct proto_envelope env = {
            .type = PROTO_ENVELOPE_RESET, .corr = call->corr, .view = VIEW};
        (void)proto_net_send(call->link->socket, NULL, &env, NULL, 0);
    }
    gw_calls_fail(call, why);
}

void gw_calls_wait(struct gw_call *call, uint32_t ms)
{
    forget_owed(call); /* a new exchange begins with the full window */
    forget_corr(call);
    call->state = WAITING;
    call->again = false;
    uint32_t left = gw_calls_left_ms(call);
    set_timer(call, left < ms ? left : ms);
}

/* A worker that has been away for longer is not waited for. */
static uint32_t connect_ms(const struct link *link)
{
    uint64_t down_ms = (base_clock_mono_ns() - link->down_ns) / BASE_NS_PER_MS;
    return link->ready || down_ms < CONNECT_MS / 2 ? CONNECT_MS
           : down_ms < CONNECT_MS                  ? (uint32_t)(CONNECT_MS - down_ms)
                                                   : 0;
}

/* ---- sending ---- */

static int pack(const Warren__Request *r, struct base_buf *to)
{
    size_t n = warren__request__get_packed_size(r);
    if (n > PROTO_BULK_BYTES_MAX) {
        return BASE_ETOOBIG;
    }
    uint8_t *p = base_buf_room(to, n + 1);
    if (p == NULL) {
        return BASE_ENOMEM;
    }
    base_buf_grow(to, warren__request__pack(r, p));
    return 0;
}

/* The request that goes on with a run whose events we have seen a part of. */
static int pack_attach(struct gw_call *call, struct base_buf *to)
{
    Warren__Request *r =
        warren__request__unpack(NULL, base_buf_size(&call->key), base_buf_data(&call->key));
    if (r == NULL) {
        return BASE_ENOMEM;
    }
    Warren__ExecAttach attach = WARREN__EXEC_ATTACH__INIT;
    attach.id.data = call->exec_id;
    attach.id.len = sizeof call->exec_id;
    attach.after_seq = call->last_seq;
    attach.wait = true;
    r->op_case = WARREN__REQUEST__OP_EXEC_ATTACH;
    r->exec_attach = &attach;
    int rc = pack(r, to);
    r->op_case = WARREN__REQUEST__OP__NOT_SET;
    r->exec_attach = NULL;
    warren__request__free_unpacked(r, NULL);
    return rc;
}

void gw_calls_transmit(struct gw_call *call)
{
    struct base_buf attach = {0};
    const struct base_buf *body = &call->request;
    if (call->headed_before && call->kind == GW_CALL_EXEC) {
        if (pack_attach(call, &attach) < 0) {
            return; /* out of memory: the timer ends it */
        }
        body = &attach;
    }
    uint32_t told = gw_calls_left_ms(call);
    new_corr(call);
    struct proto_envelope env = {.type = PROTO_ENVELOPE_REQ,
        .corr = call->corr,
        .view = VIEW,
        .deadline_ms = told > 0 ? told : 1,
        .stream = (uint32_t)call->epoch,
        .seq = (uint32_t)(call->epoch >> 32)};
    int rc =
        proto_net_send(call->link->socket, NULL, &env, base_buf_data(body), base_buf_size(body));
    base_buf_deinit(&attach);
    if (rc < 0) {
        forget_corr(call); /* stays WAITING: on_writable or a new connection sends it */
        return;
    }
    call->state = SENT;
    call->sent_before = true;
    call->chunk_credit = PROTO_CHUNK_CREDIT;
    call->chunk_out = call->chunk_in = 0;
    set_timer(call, call->punctual ? told : told + GRACE_MS);
}

static void transmit_waiting(struct link *link)
{
    for (struct gw_call *call = link->list; call != NULL; call = call->next) {
        if (call->state == WAITING) {
            gw_calls_transmit(call);
        }
    }
}

/* Credit goes out once a turn: most calls have ended by then. */
static void on_give_back(struct ev_loop *loop, ev_prepare *w, int revents)
{
    (void)loop;
    (void)revents;
    const struct gw_calls *c = w->data;
    for (struct gw_call *call = c->owing, *next; call != NULL; call = next) {
        next = call->owing_next;
        struct proto_envelope env = {
            .type = PROTO_ENVELOPE_CREDIT, .corr = call->corr, .view = VIEW, .seq = call->owed};
        if (proto_net_send(call->link->socket, NULL, &env, NULL, 0) != BASE_EAGAIN) {
            forget_owed(call); /* else in a later turn: a stream without credit stands still */
        }
    }
}

static void give_back(struct gw_call *call, uint32_t n)
{
    if (call->state != WAITING) {
        owe(call, n);
    }
}

void gw_call_event_done(struct gw_call *call, uint32_t bytes)
{
    give_back(call, bytes);
}

void gw_call_chunk_done(struct gw_call *call, uint32_t chunks)
{
    give_back(call, chunks);
}

int gw_call_chunk(struct gw_call *call, const void *data, size_t n, bool fin)
{
    if (call->state != HEADED || call->chunk_credit == 0) {
        call->want_write = true;
        return BASE_EAGAIN;
    }
    struct proto_envelope env = {.type = PROTO_ENVELOPE_CHUNK,
        .flags = fin ? PROTO_ENVELOPE_FIN : 0,
        .corr = call->corr,
        .view = VIEW,
        .seq = call->chunk_out};
    if (proto_net_send(call->link->socket, NULL, &env, data, n) < 0) {
        call->want_write = true;
        return BASE_EAGAIN;
    }
    call->chunk_credit--;
    call->chunk_out++;
    return 0;
}

/* ---- receiving ---- */

static void send_ping(struct link *link)
{
    struct proto_envelope env = {.type = PROTO_ENVELOPE_PING, .corr = 0, .view = VIEW};
    link->ping_due = proto_net_send(link->socket, NULL, &env, NULL, 0) < 0;
}

static void on_pong(struct link *link, uint32_t view)
{
    if (!link->ready) {
        LOG_INFO(link->calls->log, "worker connected worker=%s class=%s view=%u",
            link->worker->name, class_of(link) == PROTO_NET_CTL ? "ctl" : "bulk", view);
    }
    link->ready = true;
    transmit_waiting(link);
}

/* The session lives at another worker: ask there. */
static bool follow(struct gw_call *call, const Warren__Reply *r)
{
    struct gw_calls *c = call->calls;
    const char *to = r->moved_to == NULL ? "" : r->moved_to;
    for (unsigned i = 0; i < c->workers_n && call->hops < HOPS_MAX; i++) {
        if (strcmp(c->workers[i].name, to) == 0) {
            enum proto_net_class class = class_of(call->link);
            call->hops++;
            gw_calls_move(call, &c->workers[i].links[class]);
            gw_calls_wait(call, connect_ms(call->link));
            if (call->link->ready) {
                gw_calls_transmit(call);
            }
            return true;
        }
    }
    return false;
}

static void on_reply(struct gw_call *call, const struct proto_net_message *m)
{
    Warren__Reply *r = warren__reply__unpack(NULL, m->body_bytes, m->body);
    if (r == NULL) {
        LOG_WARN(call->calls->log, "malformed reply worker=%s", call->link->worker->name);
        gw_calls_fail(call, GW_CALL_LOST);
        return;
    }
    const struct gw_call_ops *ops = call->ops;
    void *owner = call->owner;
    if (gw_calls_route_reply(call, r)) {
        warren__reply__free_unpacked(r, NULL);
        return;
    }
    if (m->env.type == PROTO_ENVELOPE_HEAD) {
        bool again = call->headed_before;
        call->state = HEADED;
        call->headed_before = true;
        if (call->kind == GW_CALL_EXEC) {
            base_buf_deinit(&call->request); /* from now on it is attached to */
        }
        if (ops->head != NULL && !again) {
            ops->head(owner, r);
        }
    } else if (r->status != WARREN__STATUS__STATUS_MOVED || call->headed_before ||
               !follow(call, r)) {
        gw_calls_end(call, r);
    }
    warren__reply__free_unpacked(r, NULL);
}

static void on_event(struct gw_call *call, const struct proto_net_message *m)
{
    Warren__GuestEvent *e = warren__guest_event__unpack(NULL, m->body_bytes, m->body);
    uint32_t bytes = (uint32_t)m->body_bytes;
    bool use = e != NULL && e->seq > call->last_seq && call->ops->event != NULL;
    if (e != NULL && e->seq > call->last_seq) {
        call->last_seq = e->seq;
    }
    if (use) {
        call->ops->event(call->owner, e, bytes);
    } else {
        give_back(call, bytes);
    }
    if (e != NULL) {
        warren__guest_event__free_unpacked(e, NULL);
    }
}

static void on_chunk(struct gw_call *call, const struct proto_net_message *m)
{
    if (m->env.seq != call->chunk_in || m->body_bytes > PROTO_CHUNK_BYTES ||
        call->ops->chunk == NULL || call->state != HEADED) {
        LOG_WARN(call->calls->log, "chunk out of order worker=%s", call->link->worker->name);
        gw_calls_fail(call, GW_CALL_LOST);
        return;
    }
    call->chunk_in++;
    bool fin = (m->env.flags & PROTO_ENVELOPE_FIN) != 0;
    call->ops->chunk(call->owner, m->body, m->body_bytes, fin);
}

static void on_credit(struct gw_call *call, uint32_t n)
{
    uint32_t room = PROTO_CHUNK_CREDIT - call->chunk_credit;
    call->chunk_credit += n < room ? n : room;
    if (call->want_write && call->ops->writable != NULL) {
        call->want_write = false;
        call->ops->writable(call->owner);
    }
}

static void on_message(void *owner, const struct proto_net_message *m)
{
    struct link *link = owner;
    if (m->fault != 0) {
        return; /* a worker of another version; counted by the network */
    }
    if (m->env.type == PROTO_ENVELOPE_PONG) {
        on_pong(link, m->env.view);
        return;
    }
    struct gw_call *call = find(link->calls, link, m->env.corr);
    if (call == NULL || m->env.corr == 0) {
        return; /* given up a moment ago */
    }
    if (m->env.type == PROTO_ENVELOPE_HEAD || m->env.type == PROTO_ENVELOPE_END) {
        on_reply(call, m);
    } else if (m->env.type == PROTO_ENVELOPE_EVENT) {
        on_event(call, m);
    } else if (m->env.type == PROTO_ENVELOPE_CHUNK) {
        on_chunk(call, m);
    } else if (m->env.type == PROTO_ENVELOPE_CREDIT) {
        on_credit(call, m->env.seq);
    } else if (m->env.type == PROTO_ENVELOPE_RESET) {
        gw_calls_fail(call, GW_CALL_LOST);
    }
}

/* ---- connections ---- */

/* Each step takes one call out of the states that are looked for, so it ends. */
static void link_lost(struct link *link)
{
    for (;;) {
        struct gw_call *call = link->list;
        while (call != NULL && call->state == WAITING) {
            call = call->next;
        }
        if (call == NULL) {
            return;
        }
        bool again =
            call->kind == GW_CALL_EXEC || (call->kind == GW_CALL_READ && !call->headed_before);
        if (again) {
            call->tainted = call->kind == GW_CALL_EXEC;
            gw_calls_wait(call, RECONNECT_MS);
        } else {
            gw_calls_fail(call, GW_CALL_LOST);
        }
    }
}

static void on_state(void *owner, enum proto_net_state state)
{
    struct link *link = owner;
    if (state == PROTO_NET_UP) {
        send_ping(link);
        return;
    }
    if (link->ready || state == PROTO_NET_REFUSED) {
        LOG_WARN(link->calls->log, "worker %s worker=%s",
            state == PROTO_NET_REFUSED ? "refuses our key" : "disconnected", link->worker->name);
    }
    if (link->ready) {
        link->down_ns = base_clock_mono_ns();
    }
    link->ready = false;
    link->ping_due = false;
    link_lost(link);
}

static void on_writable(void *owner)
{
    struct link *link = owner;
    if (link->ping_due) {
        send_ping(link);
    }
    if (!link->ready) {
        return;
    }
    transmit_waiting(link);
    for (struct gw_call *call = link->list, *next; call != NULL; call = next) {
        next = call->next;
        if (call->want_write && call->chunk_credit > 0 && call->ops->writable != NULL) {
            call->want_write = false;
            call->ops->writable(call->owner);
        }
    }
}

/* ---- calls ---- */

/* What an attach needs later, without the code. */
static int keep_key(struct gw_call *call, const Warren__Request *request)
{
    if (call->kind != GW_CALL_EXEC) {
        return 0;
    }
    Warren__Request key = *request;
    key.op_case = WARREN__REQUEST__OP__NOT_SET;
    key.exec = NULL;
    const ProtobufCBinaryData *id = request->op_case == WARREN__REQUEST__OP_EXEC
                                        ? &request->exec->id
                                        : &request->exec_attach->id;
    memcpy(call->exec_id, id->data, sizeof call->exec_id);
    if (request->op_case == WARREN__REQUEST__OP_EXEC_ATTACH) {
        call->last_seq = request->exec_attach->after_seq;
    }
    return pack(&key, &call->key);
}

int gw_call_start(struct gw_calls *c, const struct gw_call_options *opt, struct gw_call **ret)
{
    struct gw_call *call = calloc(1, sizeof *call);
    if (call == NULL) {
        return BASE_ENOMEM;
    }
    call->calls = c;
    call->kind = opt->kind;
    call->punctual = opt->punctual;
    call->ops = opt->ops;
    call->owner = opt->owner;
    call->deadline_ns = base_clock_mono_ns() + opt->deadline_ms * BASE_NS_PER_MS;
    int rc = pack(opt->request, &call->request);
    rc = rc < 0 ? rc : keep_key(call, opt->request);
    if (rc < 0) {
        base_buf_deinit(&call->request);
        base_buf_deinit(&call->key);
        free(call);
        return rc;
    }
    /* The answers of other operations depend on sessions that are over. */
    call->look = opt->request->op_case == WARREN__REQUEST__OP_SESSION_GET ||
                 opt->request->op_case == WARREN__REQUEST__OP_SESSION_DELETE;
    call->bulk = opt->bulk || base_buf_size(&call->request) > PROTO_CTL_BYTES_MAX;
    ev_timer_init(&call->timer, on_timer, 0., 0.);
    call->timer.data = call;
    const Warren__Key *key = opt->request->key;
    if (c->route != NULL && key != NULL && key->identifier.len > 0) {
        rc = gw_calls_route_start(call, key);
        if (rc != 0) {
            release(call);
            return rc;
        }
        *ret = call;
        return 0;
    }
    gw_calls_link_add(
        &c->workers[opt->worker].links[call->bulk ? PROTO_NET_BULK : PROTO_NET_CTL], call);
    gw_calls_wait(call, connect_ms(call->link));
    if (call->link->ready) {
        gw_calls_transmit(call);
    }
    *ret = call;
    return 0;
}

void gw_call_cancel(struct gw_call *call)
{
    if (call == NULL) {
        return;
    }
    if (call->state != WAITING) {
        struct proto_envelope env = {
            .type = PROTO_ENVELOPE_RESET, .corr = call->corr, .view = VIEW};
        (void)proto_net_send(call->link->socket, NULL, &env, NULL, 0);
    }
    release(call);
}

/* ---- life ---- */

unsigned gw_calls_workers(const struct gw_calls *c)
{
    return c->workers_n;
}

const char *gw_calls_name(const struct gw_calls *c, unsigned worker)
{
    return c->workers[worker].name;
}

bool gw_calls_ready(const struct gw_calls *c, unsigned worker)
{
    const struct worker *w = &c->workers[worker];
    return w->links[0].ready && w->links[1].ready;
}

int gw_calls_home(const struct gw_calls *c, const char *pool, const struct proto_identifier *id)
{
    uint64_t h = 0, ids[SCHED_PLACE_SEATS];
    if (c->route != NULL) { /* where it is only the workers know; whom to ask is spread */
        return c->workers_n == 0
                   ? -1
                   : (int)(base_hash_sip24(c->cluster_key, id->text, id->len) % c->workers_n);
    }
    if (sched_place_key(c->cluster_key, pool, id->text, id->len, &h) < 0 ||
        sched_place_lookup(&c->place, h, ids) == 0) {
        return -1;
    }
    for (unsigned i = 0; i < c->workers_n; i++) {
        if (c->workers[i].id == ids[0]) {
            return (int)i;
        }
    }
    return -1;
}

static int make_place(
    struct gw_calls *c, const struct gw_calls_options *opt, struct base_error *err)
{
    struct sched_place_cfg cfg = {
        .pbits = SCHED_PLACE_PBITS_DEFAULT, .members_max = opt->workers_n};
    memcpy(cfg.key, opt->cluster_key, sizeof cfg.key);
    size_t n = sched_place_size(&cfg);
    struct sched_place_member *members = calloc(opt->workers_n, sizeof *members);
    c->place_memory = n == 0 ? NULL : malloc(n);
    if (members == NULL || c->place_memory == NULL) {
        free(members);
        return base_fail(err, BASE_ENOMEM, "build the table of workers");
    }
    for (unsigned i = 0; i < opt->workers_n; i++) {
        const struct gw_worker_config *w = &opt->workers[i];
        members[i] = (struct sched_place_member){.id = w->id, .zone = w->zone, .weight = w->weight};
    }
    int rc = sched_place_init(&c->place, &cfg, c->place_memory, n);
    rc = rc < 0 ? rc : sched_place_build(&c->place, members, opt->workers_n);
    free(members);
    return rc < 0 ? base_fail(err, rc, "workers: %s", base_err_str(rc)) : 0;
}

int gw_calls_connect(
    struct link *link, const char *endpoint, const char *public_key, struct base_error *err)
{
    static const struct proto_net_ops ops = {
        .on_message = on_message, .on_state = on_state, .on_writable = on_writable};
    struct gw_calls *c = link->calls;
    struct proto_net_options opt = {.class = class_of(link),
        .endpoint = endpoint,
        .self = c->secure ? &c->self : NULL,
        .server_key = public_key,
        .ops = &ops,
        .owner = link};
    link->down_ns = base_clock_mono_ns();
    return proto_net_connect(c->net, &opt, &link->socket, err);
}

void gw_calls_disconnect(struct link *link)
{
    if (link->socket != NULL) {
        on_state(link, PROTO_NET_DOWN);
        proto_net_close(link->socket);
        link->socket = NULL;
    }
}

int gw_calls_settle(struct gw_calls *c, struct worker *w, uint64_t id, const char *name)
{
    char *copy = strdup(name);
    if (copy == NULL) {
        return BASE_ENOMEM;
    }
    free(w->name);
    *w = (struct worker){.name = copy, .id = id};
    for (int class = PROTO_NET_CTL; class <= PROTO_NET_BULK; class ++) {
        w->links[class].calls = c;
        w->links[class].worker = w;
        w->links[class].down_ns = base_clock_mono_ns();
    }
    c->workers_n += w == &c->workers[c->workers_n];
    return 0;
}

static int add_worker(
    struct gw_calls *c, const struct gw_worker_config *config, struct base_error *err)
{
    struct worker *w = &c->workers[c->workers_n];
    int rc = gw_calls_settle(c, w, config->id, config->name);
    if (rc != 0) {
        return base_fail(err, rc, "connect '%s'", config->name);
    }
    rc = gw_calls_connect(&w->links[PROTO_NET_CTL], config->ctl, config->public_key, err);
    return rc != 0
               ? rc
               : gw_calls_connect(&w->links[PROTO_NET_BULK], config->bulk, config->public_key, err);
}

int gw_calls_create(
    struct gw_calls **ret, const struct gw_calls_options *opt, struct base_error *err)
{
    struct gw_calls *c = calloc(1, sizeof *c);
    unsigned room = opt->workers_n == 0 ? GW_CALLS_WORKERS_MAX : opt->workers_n;
    if (c == NULL || (c->workers = calloc(room, sizeof *c->workers)) == NULL) {
        free(c);
        return base_fail(err, BASE_ENOMEM, "start the calls");
    }
    c->workers_max = room;
    c->loop = opt->loop;
    c->log = opt->log;
    c->secure = opt->self != NULL;
    if (c->secure) {
        c->self = *opt->self;
    }
    memcpy(c->cluster_key, opt->cluster_key, sizeof c->cluster_key);
    c->next_corr = base_rand_u64() >> 1 | 1;
    ev_prepare_init(&c->give_back, on_give_back);
    c->give_back.data = c;
    ev_prepare_start(c->loop, &c->give_back);
    int rc = opt->workers_n == 0 ? 0 : make_place(c, opt, err);
    rc = rc < 0 ? rc : proto_net_create(&c->net, opt->loop, NULL, err);
    for (unsigned i = 0; rc == 0 && i < opt->workers_n; i++) {
        rc = add_worker(c, &opt->workers[i], err);
    }
    rc = rc < 0 || opt->cluster == NULL ? rc : gw_calls_route_create(c, opt->cluster, err);
    if (rc == 0 && opt->workers_n == 0) {
        gw_calls_workers_start(c);
    }
    if (rc < 0) {
        gw_calls_destroy(c);
        return rc;
    }
    *ret = c;
    return 0;
}

void gw_calls_destroy(struct gw_calls *c)
{
    if (c == NULL) {
        return;
    }
    ev_prepare_stop(c->loop, &c->give_back);
    gw_calls_workers_stop(c);
    gw_calls_route_destroy(c);
    proto_net_destroy(c->net);
    for (unsigned i = 0; i < c->workers_n; i++) {
        free(c->workers[i].name);
    }
    free(c->workers);
    free(c->place_memory);
    explicit_bzero(&c->self, sizeof c->self);
    free(c);
}
