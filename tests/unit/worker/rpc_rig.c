#include "tests/unit/worker/rpc_rig.h"

#include <unistd.h>

#include "worker/io/store_make.h"

static void on_message(void *owner, const struct proto_net_message *m)
{
    struct rig *r = owner;
    CHECK(r->inbox_n < 4096);
    struct rig_message *x = &r->inbox[r->inbox_n++];
    x->env = m->env;
    x->body = (struct base_buf){0};
    CHECK_EQ(base_buf_add(&x->body, m->body, m->body_bytes), 0);
}

static void on_state(void *owner, enum proto_net_state state)
{
    (void)owner;
    (void)state;
}

void rig_start(struct rig *r)
{
    struct worker_session_config c = {.loop = r->loop,
        .log = &r->log,
        .run = r->run,
        .node = r->node,
        .cluster_key = {7},
        .vms_max = 4,
        .waiters_max = 64,
        .execs_max = 64,
        .retention_ms = r->retention_ms,
        .event_bytes_max = 4 << 20,
        .tenant = r->limits,
        .drop_unwanted = r->join != NULL,
        .on_change = r->on_change,
        .user = r->user};
    CHECK_EQ(worker_session_create(&c, &r->sessions, NULL), 0);
    r->engine = fake_engine_create(r->world, r->loop, worker_session_engine_events(r->sessions));
    worker_session_set_engine(r->sessions, r->engine);
    struct worker_pool_file file = {.spec = {.name = "python",
                                        .sessions_max = r->sessions_max,
                                        .ready_target = r->ready,
                                        .cooldown_ms = r->cooldown_ms},
        .cpus = 1,
        .memory_mib = 256};
    CHECK_EQ(worker_session_pool_add(r->sessions, &file, NULL), 0);
    (void)snprintf(file.spec.name, sizeof file.spec.name, "other");
    CHECK_EQ(r->two_pools ? worker_session_pool_add(r->sessions, &file, NULL) : 0, 0);
    CHECK_EQ(worker_session_start(r->sessions, NULL), 0);
    if (r->join != NULL) {
        r->join(r);
    }
    struct worker_rpc_config rc = {.loop = r->loop,
        .log = &r->log,
        .sessions = r->sessions,
        .engine = r->engine,
        .member = r->member,
        .ctl = "tcp://127.0.0.1:*",
        .bulk = "tcp://127.0.0.1:*",
        .view = 1,
        .request_bytes_max = 64 << 20,
        .deadline_ms_max = r->deadline_ms_max,
        .peers_ms = r->peers_ms};
    CHECK_EQ(worker_rpc_create(&rc, &r->rpc, NULL), 0);
    CHECK_EQ(proto_net_create(&r->net, r->loop, NULL, NULL), 0);
    static const struct proto_net_ops ops = {.on_message = on_message, .on_state = on_state};
    for (int i = 0; i < 2; i++) {
        struct proto_net_options o = {.class = (enum proto_net_class)i,
            .endpoint = worker_rpc_endpoint(r->rpc, (enum proto_net_class)i),
            .ops = &ops,
            .owner = r};
        CHECK_EQ(proto_net_connect(r->net, &o, &r->sockets[i], NULL), 0);
    }
}

void rig_init(struct rig *r)
{
    r->loop = ev_loop_new(0);
    base_log_init(&r->log, "test", STDERR_FILENO);
    r->log.level = BASE_LOG_ERROR;
    r->world = fake_world_create(4);
    CHECK_EQ(worker_store_open_mem(&r->run), 0);
    CHECK_EQ(worker_store_open_mem(&r->node), 0);
    worker_store_attach(r->run, r->loop, NULL, NULL);
    r->sessions_max = r->sessions_max != 0 ? r->sessions_max : 2;
    r->cooldown_ms = r->cooldown_ms != 0 ? r->cooldown_ms : 300000;
    r->view = 1;
    rig_start(r);
}

void rig_stop(struct rig *r)
{
    worker_rpc_destroy(r->rpc);
    worker_member_destroy(r->member);
    r->member = NULL;
    worker_session_destroy(r->sessions);
    worker_engine_destroy(r->engine);
    worker_store_abort(r->run);
    r->run->failed = 0;
    r->crashed = false;
    struct proto_net_stats stats;
    proto_net_stats(r->net, &stats);
    CHECK_EQ(stats.late, 0);
    proto_net_destroy(r->net);
}

static void on_crash(void *user)
{
    struct rig *r = user;
    r->crashed = true;
    worker_store_abort(r->run);
    r->run->failed = BASE_EIO; /* whatever else this turn wants to write */
    ev_break(r->loop, EVBREAK_ALL);
}

void rig_crash_at(struct rig *r, uint32_t n)
{
    fake_world_crash_at(r->world, n, on_crash, r);
}

void rig_deinit(struct rig *r)
{
    rig_stop(r);
    fake_world_destroy(r->world);
    worker_store_close(r->run);
    worker_store_close(r->node);
    for (uint32_t i = 0; i < r->inbox_n; i++) {
        base_buf_deinit(&r->inbox[i].body);
    }
    ev_loop_destroy(r->loop);
}

void rig_envelope(struct rig *r, enum proto_net_class class, const struct proto_envelope *env,
    const void *body, size_t n)
{
    struct proto_envelope e = *env;
    int rc;
    e.view = r->view;
    (void)alarm(60);
    while ((rc = proto_net_send(r->sockets[class], NULL, &e, body, n)) == BASE_EAGAIN) {
        ev_run(r->loop, EVRUN_ONCE); /* not connected yet */
    }
    (void)alarm(0);
    CHECK_EQ(rc, 0);
}

uint64_t rig_send(struct rig *r, enum proto_net_class class, const char *name, Warren__Request *q)
{
    Warren__Key key = WARREN__KEY__INIT;
    key.pool = (char *)(uintptr_t)(r->pool != NULL ? r->pool : "python");
    if (name != NULL) {
        key.identifier.data = (uint8_t *)(uintptr_t)name;
        key.identifier.len = strlen(name);
    }
    if (r->tenant != 0) {
        memset(r->tenant_id, r->tenant, sizeof r->tenant_id);
        q->tenant = (ProtobufCBinaryData){.data = r->tenant_id, .len = sizeof r->tenant_id};
    }
    q->key = q->key != NULL ? q->key : &key;
    struct base_buf body = {0};
    size_t n = warren__request__get_packed_size(q);
    (void)warren__request__pack(q, base_buf_room(&body, n));
    base_buf_grow(&body, n);
    struct proto_envelope env = {.type = PROTO_ENVELOPE_REQ,
        .corr = ++r->corr,
        .stream = (uint32_t)r->epoch,
        .seq = (uint32_t)(r->epoch >> 32)};
    env.deadline_ms = r->deadline_ms;
    rig_envelope(r, class, &env, base_buf_data(&body), base_buf_size(&body));
    base_buf_deinit(&body);
    return r->corr;
}

const struct rig_message *rig_got(
    const struct rig *r, uint64_t corr, enum proto_envelope_type type, uint32_t k)
{
    for (uint32_t i = 0; i < r->inbox_n; i++) {
        if (r->inbox[i].env.corr == corr && r->inbox[i].env.type == type && k-- == 0) {
            return &r->inbox[i];
        }
    }
    return NULL;
}

uint32_t rig_count(const struct rig *r, uint64_t corr, enum proto_envelope_type type)
{
    uint32_t n = 0;
    while (rig_got(r, corr, type, n) != NULL) {
        n++;
    }
    return n;
}

Warren__Reply *rig_reply(struct rig *r, uint64_t corr, enum proto_envelope_type type)
{
    RIG_UNTIL(r, rig_got(r, corr, type, 0) != NULL || rig_got(r, corr, PROTO_ENVELOPE_END, 0));
    const struct rig_message *m = rig_got(r, corr, type, 0);
    CHECK(m != NULL);
    Warren__Reply *reply =
        warren__reply__unpack(NULL, base_buf_size(&m->body), base_buf_data(&m->body));
    CHECK(reply != NULL);
    return reply;
}

Warren__Status rig_status(struct rig *r, uint64_t corr)
{
    Warren__Reply *reply = rig_reply(r, corr, PROTO_ENVELOPE_END);
    Warren__Status status = reply->status;
    warren__reply__free_unpacked(reply, NULL);
    return status;
}

uint64_t rig_about(
    struct rig *r, Warren__Request__OpCase op, const char *name, uint64_t expect_generation)
{
    static Warren__SessionGet g = WARREN__SESSION_GET__INIT;
    static Warren__SessionDelete d = WARREN__SESSION_DELETE__INIT;
    static Warren__SessionList l = WARREN__SESSION_LIST__INIT;
    static Warren__PoolGet p = WARREN__POOL_GET__INIT;
    Warren__Request q = WARREN__REQUEST__INIT;
    q.op_case = op;
    q.expect_generation = expect_generation;
    if (op == WARREN__REQUEST__OP_SESSION_GET) {
        q.session_get = &g;
    } else if (op == WARREN__REQUEST__OP_SESSION_DELETE) {
        q.session_delete = &d;
    } else if (op == WARREN__REQUEST__OP_SESSION_LIST) {
        q.session_list = &l;
    } else {
        q.pool_get = &p;
    }
    return rig_send(r, PROTO_NET_CTL, name, &q);
}

uint64_t rig_exec_how(
    struct rig *r, const char *name, uint8_t id, const char *code, const struct rig_exec_how *how)
{
    Warren__Request q = WARREN__REQUEST__INIT;
    Warren__Exec e = WARREN__EXEC__INIT;
    uint8_t raw[PROTO_EXEC_ID_BYTES] = {id};
    e.id = (ProtobufCBinaryData){.data = raw, .len = sizeof raw};
    e.kernel = WARREN__KERNEL__KERNEL_PYTHON;
    e.code = (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)code, .len = strlen(code)};
    e.given = how->given;
    e.detach = how->detach;
    q.op_case = WARREN__REQUEST__OP_EXEC;
    q.exec = &e;
    q.expect_generation = how->generation;
    bool small = strlen(code) < PROTO_CTL_BYTES_MAX / 2;
    return rig_send(r, small ? PROTO_NET_CTL : PROTO_NET_BULK, name, &q);
}

uint64_t rig_exec(struct rig *r, const char *name, uint8_t id, const char *code)
{
    return rig_exec_how(r, name, id, code, &(struct rig_exec_how){0});
}

uint64_t rig_attach(struct rig *r, const char *name, uint8_t id, uint64_t after, bool wait)
{
    Warren__Request q = WARREN__REQUEST__INIT;
    Warren__ExecAttach a = WARREN__EXEC_ATTACH__INIT;
    uint8_t raw[PROTO_EXEC_ID_BYTES] = {id};
    a.id = (ProtobufCBinaryData){.data = raw, .len = sizeof raw};
    a.after_seq = after;
    a.wait = wait;
    q.op_case = WARREN__REQUEST__OP_EXEC_ATTACH;
    q.exec_attach = &a;
    return rig_send(r, PROTO_NET_CTL, name, &q);
}

uint64_t rig_cancel(struct rig *r, const char *name, uint8_t id)
{
    Warren__Request q = WARREN__REQUEST__INIT;
    Warren__ExecCancel e = WARREN__EXEC_CANCEL__INIT;
    uint8_t raw[PROTO_EXEC_ID_BYTES] = {id};
    e.id = (ProtobufCBinaryData){.data = raw, .len = sizeof raw};
    q.op_case = WARREN__REQUEST__OP_EXEC_CANCEL;
    q.exec_cancel = &e;
    return rig_send(r, PROTO_NET_CTL, name, &q);
}

const char *rig_output(const struct rig *r, uint64_t corr, char text[RIG_OUTPUT_MAX])
{
    text[0] = '\0';
    for (uint32_t k = 0; rig_got(r, corr, PROTO_ENVELOPE_EVENT, k) != NULL; k++) {
        const struct rig_message *m = rig_got(r, corr, PROTO_ENVELOPE_EVENT, k);
        Warren__GuestEvent *ev =
            warren__guest_event__unpack(NULL, base_buf_size(&m->body), base_buf_data(&m->body));
        CHECK(ev != NULL && ev->seq == m->env.seq);
        if (ev->kind == WARREN__EVENT_KIND__EVENT_STDOUT) {
            (void)snprintf(text + strlen(text), RIG_OUTPUT_MAX - strlen(text), "%.*s|",
                (int)ev->data.len, (const char *)ev->data.data);
        }
        warren__guest_event__free_unpacked(ev, NULL);
    }
    return text;
}

void rig_canceled(struct rig *r, uint64_t corr)
{
    Warren__Reply *end = rig_reply(r, corr, PROTO_ENVELOPE_END);
    CHECK_EQ(end->status, WARREN__STATUS__STATUS_OK);
    CHECK(end->done != NULL && end->done->status == WARREN__DONE_STATUS__DONE_INTERRUPTED);
    warren__reply__free_unpacked(end, NULL);
}
