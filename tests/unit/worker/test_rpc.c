#include <unistd.h>

#include "proto/base/container.h"
#include "proto/base/hash.h"
#include "tests/unit/worker/rpc_rig.h"
#include "worker/io/rpc_state.h"

static struct rig r;

/* The linker puts this in place of proto_net_send(): a gateway that does not read. */
static bool full;
int __real_proto_net_send(struct proto_net_socket *s, const struct proto_net_peer *to,
    const struct proto_envelope *env, const void *body, size_t body_bytes);
int __wrap_proto_net_send(struct proto_net_socket *s, const struct proto_net_peer *to,
    const struct proto_envelope *env, const void *body, size_t body_bytes);

int __wrap_proto_net_send(struct proto_net_socket *s, const struct proto_net_peer *to,
    const struct proto_envelope *env, const void *body, size_t body_bytes)
{
    return full && to != NULL ? BASE_EAGAIN : __real_proto_net_send(s, to, env, body, body_bytes);
}

static void setup(void)
{
    memset(&r, 0, sizeof r);
    rig_init(&r);
}

/* --- files --------------------------------------------------------------------------------- */

static uint64_t put(const char *path, uint64_t size_max)
{
    Warren__Request q = WARREN__REQUEST__INIT;
    Warren__FilePut f = WARREN__FILE_PUT__INIT;
    f.path = (char *)(uintptr_t)path;
    f.size_max = size_max;
    q.op_case = WARREN__REQUEST__OP_FILE_PUT;
    q.file_put = &f;
    return rig_send(&r, PROTO_NET_BULK, "alice", &q);
}

static uint64_t get(const char *path)
{
    Warren__Request q = WARREN__REQUEST__INIT;
    Warren__FileGet f = WARREN__FILE_GET__INIT;
    f.path = (char *)(uintptr_t)path;
    q.op_case = WARREN__REQUEST__OP_FILE_GET;
    q.file_get = &f;
    return rig_send(&r, PROTO_NET_BULK, "alice", &q);
}

static void chunk(uint64_t corr, uint32_t seq, const void *data, size_t n, bool fin)
{
    struct proto_envelope env = {.type = PROTO_ENVELOPE_CHUNK,
        .corr = corr,
        .seq = seq,
        .flags = fin ? PROTO_ENVELOPE_FIN : 0};
    rig_envelope(&r, PROTO_NET_BULK, &env, data, n);
}

static uint32_t credits(uint64_t corr)
{
    uint32_t n = 0;
    for (uint32_t k = 0; rig_got(&r, corr, PROTO_ENVELOPE_CREDIT, k) != NULL; k++) {
        n += rig_got(&r, corr, PROTO_ENVELOPE_CREDIT, k)->env.seq;
    }
    return n;
}

static uint8_t content[1000000];

static void upload(const char *path, size_t size)
{
    uint64_t c = put(path, 0);
    Warren__Reply *head = rig_reply(&r, c, PROTO_ENVELOPE_HEAD);
    CHECK_EQ(head->status, WARREN__STATUS__STATUS_OK);
    warren__reply__free_unpacked(head, NULL);
    uint32_t seq = 0;
    for (size_t at = 0; at < size || seq == 0; seq++) {
        RIG_UNTIL(&r, seq < PROTO_CHUNK_CREDIT + credits(c)); /* as a gateway does */
        size_t n = size - at < PROTO_CHUNK_BYTES ? size - at : PROTO_CHUNK_BYTES;
        chunk(c, seq, content + at, n, at + n == size);
        at += n;
    }
    Warren__Reply *end = rig_reply(&r, c, PROTO_ENVELOPE_END);
    CHECK_EQ(end->status, WARREN__STATUS__STATUS_OK);
    CHECK(end->file != NULL && end->file->size == size);
    CHECK_STR(end->file->name, path);
    warren__reply__free_unpacked(end, NULL);
}

TEST(files_go_up_and_come_down_in_chunks_under_credit)
{
    setup();
    for (size_t i = 0; i < sizeof content; i++) {
        content[i] = (uint8_t)(base_hash_mix64(i) >> 8);
    }
    fake_world_slow(r.world, 30000); /* the guest is slower than the gateway */
    upload("data.bin", sizeof content);
    upload("empty", 0);
    uint64_t c = get("data.bin");
    uint32_t seen = 0, given = 0;
    while (rig_got(&r, c, PROTO_ENVELOPE_END, 0) == NULL) {
        RIG_UNTIL(&r, rig_count(&r, c, PROTO_ENVELOPE_CHUNK) > seen ||
                          rig_got(&r, c, PROTO_ENVELOPE_END, 0) != NULL);
        seen = rig_count(&r, c, PROTO_ENVELOPE_CHUNK);
        CHECK(seen <= given + PROTO_CHUNK_CREDIT);
        struct proto_envelope env = {.type = PROTO_ENVELOPE_CREDIT, .corr = c, .seq = seen - given};
        rig_envelope(&r, PROTO_NET_BULK, &env, NULL, 0);
        given = seen;
    }
    size_t at = 0;
    for (uint32_t k = 0; k < seen; k++) {
        const struct rig_message *m = rig_got(&r, c, PROTO_ENVELOPE_CHUNK, k);
        CHECK_EQ(m->env.seq, k);
        CHECK_EQ(m->env.flags, k + 1 == seen ? PROTO_ENVELOPE_FIN : 0);
        CHECK(memcmp(base_buf_data(&m->body), content + at, base_buf_size(&m->body)) == 0);
        at += base_buf_size(&m->body);
    }
    CHECK_EQ(at, sizeof content);
    Warren__Reply *head = rig_reply(&r, c, PROTO_ENVELOPE_HEAD);
    CHECK(head->file != NULL && head->file->size == sizeof content);
    warren__reply__free_unpacked(head, NULL);
    c = get("empty");
    CHECK_EQ(rig_status(&r, c), WARREN__STATUS__STATUS_OK);
    CHECK_EQ(rig_count(&r, c, PROTO_ENVELOPE_CHUNK), 1);
    CHECK_EQ(rig_status(&r, get("absent")), WARREN__STATUS__STATUS_NOT_FOUND);
    rig_deinit(&r);
}

TEST(a_reader_that_gives_no_credit_gets_four_chunks_and_holds_up_nobody)
{
    setup();
    upload("data.bin", sizeof content);
    uint64_t c = get("data.bin");
    RIG_UNTIL(&r, rig_count(&r, c, PROTO_ENVELOPE_CHUNK) == PROTO_CHUNK_CREDIT);
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 1, "say x")), WARREN__STATUS__STATUS_OK);
    CHECK_EQ(rig_count(&r, c, PROTO_ENVELOPE_CHUNK), PROTO_CHUNK_CREDIT);
    struct proto_envelope env = {.type = PROTO_ENVELOPE_RESET, .corr = c};
    rig_envelope(&r, PROTO_NET_BULK, &env, NULL, 0);
    struct worker_rpc_stats s;
    RIG_UNTIL(&r, (worker_rpc_stats(r.rpc, &s), s.exchanges == 0));
    rig_deinit(&r);
}

TEST(uploads_that_break_the_rules_end_and_leave_no_file)
{
    setup();
    uint64_t c = put("big", 100000);
    warren__reply__free_unpacked(rig_reply(&r, c, PROTO_ENVELOPE_HEAD), NULL);
    chunk(c, 0, content, PROTO_CHUNK_BYTES, false);
    chunk(c, 1, content, PROTO_CHUNK_BYTES, true);
    CHECK_EQ(rig_status(&r, c), WARREN__STATUS__STATUS_TOO_LARGE);
    c = put("order", 0);
    warren__reply__free_unpacked(rig_reply(&r, c, PROTO_ENVELOPE_HEAD), NULL);
    chunk(c, 1, content, 10, true);
    CHECK_EQ(rig_status(&r, c), WARREN__STATUS__STATUS_INVALID);
    fake_world_slow(r.world, 1); /* five chunks and more without credit for the fifth */
    c = put("credit", 0);
    warren__reply__free_unpacked(rig_reply(&r, c, PROTO_ENVELOPE_HEAD), NULL);
    for (uint32_t i = 0; i < 12; i++) {
        chunk(c, i, content, PROTO_CHUNK_BYTES, false);
    }
    CHECK_EQ(rig_status(&r, c), WARREN__STATUS__STATUS_INVALID);
    fake_world_slow(r.world, 0);
    c = put("given up", 0);
    warren__reply__free_unpacked(rig_reply(&r, c, PROTO_ENVELOPE_HEAD), NULL);
    chunk(c, 0, content, 10, false);
    struct proto_envelope env = {.type = PROTO_ENVELOPE_RESET, .corr = c};
    rig_envelope(&r, PROTO_NET_BULK, &env, NULL, 0);
    struct worker_rpc_stats s;
    RIG_UNTIL(&r, (worker_rpc_stats(r.rpc, &s), s.exchanges == 0));
    CHECK_EQ(fake_world_files(r.world), 0);
    rig_deinit(&r);
}

static uint64_t path_op(Warren__Request__OpCase op, const char *path)
{
    Warren__Request q = WARREN__REQUEST__INIT;
    Warren__FileList l = WARREN__FILE_LIST__INIT;
    Warren__FileStat s = WARREN__FILE_STAT__INIT;
    Warren__FileDelete d = WARREN__FILE_DELETE__INIT;
    l.path = s.path = d.path = (char *)(uintptr_t)path;
    q.op_case = op;
    if (op == WARREN__REQUEST__OP_FILE_LIST) {
        q.file_list = &l;
    } else if (op == WARREN__REQUEST__OP_FILE_STAT) {
        q.file_stat = &s;
    } else {
        q.file_delete = &d;
    }
    return rig_send(&r, PROTO_NET_CTL, "alice", &q);
}

TEST(files_are_listed_looked_at_and_deleted)
{
    setup();
    upload("a.csv", 10);
    upload("b.png", 70000);
    Warren__Reply *end =
        rig_reply(&r, path_op(WARREN__REQUEST__OP_FILE_LIST, ""), PROTO_ENVELOPE_END);
    CHECK_EQ(end->n_files, 2);
    CHECK_STR(end->files[1]->name, "b.png");
    CHECK_EQ(end->files[1]->size, 70000);
    warren__reply__free_unpacked(end, NULL);
    end = rig_reply(&r, path_op(WARREN__REQUEST__OP_FILE_STAT, "a.csv"), PROTO_ENVELOPE_END);
    CHECK(end->file != NULL && end->file->size == 10);
    warren__reply__free_unpacked(end, NULL);
    CHECK_EQ(rig_status(&r, path_op(WARREN__REQUEST__OP_FILE_DELETE, "a.csv")),
        WARREN__STATUS__STATUS_OK);
    CHECK_EQ(rig_status(&r, path_op(WARREN__REQUEST__OP_FILE_DELETE, "a.csv")),
        WARREN__STATUS__STATUS_NOT_FOUND);
    CHECK_EQ(fake_world_files(r.world), 1);
    rig_deinit(&r);
}

TEST(a_microvm_that_dies_under_a_transfer_is_told)
{
    setup();
    upload("data.bin", sizeof content);
    uint64_t c = get("data.bin");
    RIG_UNTIL(&r, rig_count(&r, c, PROTO_ENVELOPE_CHUNK) == PROTO_CHUNK_CREDIT);
    for (uint32_t i = 0; i < 4; i++) {
        fake_world_die(r.world, i);
    }
    CHECK_EQ(rig_status(&r, c), WARREN__STATUS__STATUS_LOST);
    rig_deinit(&r);
}

/* --- terminals ----------------------------------------------------------------------------- */

TEST(a_terminal_is_a_stream_both_ways_until_its_shell_ends)
{
    setup();
    Warren__Request q = WARREN__REQUEST__INIT;
    Warren__Terminal t = WARREN__TERMINAL__INIT;
    q.op_case = WARREN__REQUEST__OP_TERMINAL;
    q.terminal = &t;
    t.columns = 1001;
    CHECK_EQ(
        rig_status(&r, rig_send(&r, PROTO_NET_BULK, "alice", &q)), WARREN__STATUS__STATUS_INVALID);
    t.columns = 80;
    uint64_t c = rig_send(&r, PROTO_NET_BULK, "alice", &q);
    warren__reply__free_unpacked(rig_reply(&r, c, PROTO_ENVELOPE_HEAD), NULL);
    chunk(c, 0, "ls", 2, false); /* comes back at once, not when a chunk is full */
    RIG_UNTIL(&r, rig_count(&r, c, PROTO_ENVELOPE_CHUNK) == 1 && credits(c) == 1);
    CHECK_EQ(base_buf_size(&rig_got(&r, c, PROTO_ENVELOPE_CHUNK, 0)->body), 2);
    for (uint32_t i = 1; i < 3 * PROTO_CHUNK_CREDIT; i++) { /* nobody gives the worker credit */
        RIG_UNTIL(&r, i < PROTO_CHUNK_CREDIT + credits(c) ||
                          rig_count(&r, c, PROTO_ENVELOPE_CHUNK) == PROTO_CHUNK_CREDIT);
        if (i < PROTO_CHUNK_CREDIT + credits(c)) {
            chunk(c, i, content, PROTO_CHUNK_BYTES, false);
        }
    }
    CHECK_EQ(rig_count(&r, c, PROTO_ENVELOPE_CHUNK), PROTO_CHUNK_CREDIT);
    struct proto_envelope env = {.type = PROTO_ENVELOPE_RESET, .corr = c};
    rig_envelope(&r, PROTO_NET_BULK, &env, NULL, 0);
    struct worker_rpc_stats s;
    RIG_UNTIL(&r, (worker_rpc_stats(r.rpc, &s), s.exchanges == 0));
    c = rig_send(&r, PROTO_NET_BULK, "alice", &q);
    warren__reply__free_unpacked(rig_reply(&r, c, PROTO_ENVELOPE_HEAD), NULL);
    chunk(c, 0, "exit", 4, true);
    Warren__Reply *end = rig_reply(&r, c, PROTO_ENVELOPE_END);
    CHECK_EQ(end->status, WARREN__STATUS__STATUS_OK);
    CHECK(end->done != NULL && end->done->exit_code == 7);
    warren__reply__free_unpacked(end, NULL);
    rig_deinit(&r);
}

static uint64_t terminal(void)
{
    Warren__Request q = WARREN__REQUEST__INIT;
    Warren__Terminal t = WARREN__TERMINAL__INIT;
    q.op_case = WARREN__REQUEST__OP_TERMINAL;
    q.terminal = &t;
    return rig_send(&r, PROTO_NET_BULK, "alice", &q);
}

TEST(a_terminal_that_is_silent_for_the_cooldown_ends)
{
    memset(&r, 0, sizeof r);
    r.cooldown_ms = 1000;
    rig_init(&r);
    uint64_t c = terminal();
    warren__reply__free_unpacked(rig_reply(&r, c, PROTO_ENVELOPE_HEAD), NULL);
    Warren__Reply *end = rig_reply(&r, c, PROTO_ENVELOPE_END);
    CHECK_EQ(end->status, WARREN__STATUS__STATUS_TIMEOUT);
    CHECK(end->session != NULL); /* it did not end before */
    warren__reply__free_unpacked(end, NULL);
    rig_deinit(&r);
}

TEST(a_quiet_terminal_ends_with_its_gateway)
{
    memset(&r, 0, sizeof r);
    r.peers_ms = 20;
    rig_init(&r);
    uint64_t c = terminal();
    warren__reply__free_unpacked(rig_reply(&r, c, PROTO_ENVELOPE_HEAD), NULL);
    RIG_UNTIL(&r, rig_count(&r, c, PROTO_ENVELOPE_PONG) >= 2);
    struct worker_rpc_stats s;
    worker_rpc_stats(r.rpc, &s);
    CHECK_EQ(s.exchanges, 1);
    proto_net_close(r.sockets[PROTO_NET_BULK]);
    RIG_UNTIL(&r, (worker_rpc_stats(r.rpc, &s), s.exchanges == 0));
    rig_deinit(&r);
}

TEST(what_a_gateway_began_ends_with_it_and_what_runs_goes_on)
{
    memset(&r, 0, sizeof r);
    r.peers_ms = 3600000; /* the end of its connection tells */
    rig_init(&r);
    struct worker_rpc_stats s;
    uint64_t running = rig_exec(&r, "alice", 1, "say x\nhold\nsay y");
    RIG_UNTIL(&r, rig_count(&r, running, PROTO_ENVELOPE_EVENT) == 1);
    fake_world_hold_starts(r.world, true);
    (void)rig_exec(&r, "bobby", 2, "say never"); /* waits for a microVM */
    Warren__Request q = WARREN__REQUEST__INIT;
    Warren__FilePut put = WARREN__FILE_PUT__INIT;
    put.path = (char *)(uintptr_t) "half.bin";
    q.op_case = WARREN__REQUEST__OP_FILE_PUT;
    q.file_put = &put;
    uint64_t up = rig_send(&r, PROTO_NET_BULK, "alice", &q);
    warren__reply__free_unpacked(rig_reply(&r, up, PROTO_ENVELOPE_HEAD), NULL);
    chunk(up, 0, "half", 4, false);
    RIG_UNTIL(&r, (worker_rpc_stats(r.rpc, &s), s.exchanges == 3));
    proto_net_close(r.sockets[PROTO_NET_CTL]);
    proto_net_close(r.sockets[PROTO_NET_BULK]);
    RIG_UNTIL(&r, (worker_rpc_stats(r.rpc, &s), s.exchanges == 0));
    RIG_UNTIL(&r, fake_world_files(r.world) == 0);
    fake_world_hold_starts(r.world, false);
    fake_world_go_on(r.world);
    RIG_UNTIL(&r, fake_world_kept(r.world) == 0); /* it has ended, and is stored */
    CHECK_EQ(fake_world_runs(r.world), 1);
    rig_deinit(&r);
}

TEST(a_terminal_that_waits_for_its_session_keeps_its_deadline)
{
    setup();
    fake_world_hold_starts(r.world, true);
    r.deadline_ms = 50;
    uint64_t c = terminal();
    r.deadline_ms = 0;
    chunk(c, 0, "ls", 2, false);
    CHECK_EQ(rig_status(&r, c), WARREN__STATUS__STATUS_TIMEOUT);
    rig_deinit(&r);
}

/* --- sessions and pools -------------------------------------------------------------------- */

TEST(sessions_are_found_listed_and_deleted_for_good)
{
    setup();
    CHECK_EQ(rig_status(&r, rig_about(&r, WARREN__REQUEST__OP_SESSION_GET, "alice", 0)),
        WARREN__STATUS__STATUS_NOT_FOUND);
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 1, "say x")), WARREN__STATUS__STATUS_OK);
    CHECK_EQ(rig_status(&r, rig_exec(&r, "bobby", 2, "say x")), WARREN__STATUS__STATUS_OK);
    Warren__Reply *end = rig_reply(
        &r, rig_about(&r, WARREN__REQUEST__OP_SESSION_GET, "alice", 0), PROTO_ENVELOPE_END);
    CHECK(end->session != NULL && end->session->identifier.len == 5);
    CHECK_STR(end->session->state, "running");
    uint64_t generation = end->session->generation;
    warren__reply__free_unpacked(end, NULL);
    end =
        rig_reply(&r, rig_about(&r, WARREN__REQUEST__OP_SESSION_LIST, NULL, 0), PROTO_ENVELOPE_END);
    CHECK(end->n_sessions == 2 && end->total == 2);
    warren__reply__free_unpacked(end, NULL);
    end = rig_reply(&r, rig_exec(&r, "carol", 3, "say x"), PROTO_ENVELOPE_END);
    CHECK_EQ(end->status, WARREN__STATUS__STATUS_FULL);
    CHECK_STR(end->code, "PoolFull");
    CHECK(end->retry_after_ms >= 1000);
    warren__reply__free_unpacked(end, NULL);
    CHECK_EQ(
        rig_status(&r, rig_about(&r, WARREN__REQUEST__OP_SESSION_DELETE, "alice", generation + 9)),
        WARREN__STATUS__STATUS_LOST);
    CHECK_EQ(rig_status(&r, rig_about(&r, WARREN__REQUEST__OP_SESSION_DELETE, "alice", 0)),
        WARREN__STATUS__STATUS_OK);
    CHECK_EQ(fake_world_alive(r.world), 1);
    CHECK_EQ(rig_status(&r, rig_about(&r, WARREN__REQUEST__OP_SESSION_DELETE, "alice", 0)),
        WARREN__STATUS__STATUS_NOT_FOUND);
    end = rig_reply(&r, rig_exec(&r, "alice", 4, "say x"), PROTO_ENVELOPE_END);
    CHECK_STR(end->session->recreated, "deleted");
    warren__reply__free_unpacked(end, NULL);
    rig_deinit(&r);
}

TEST(deleting_under_a_running_execution_tells_its_client)
{
    setup();
    uint64_t a = rig_exec(&r, "alice", 1, "say x\nhold");
    RIG_UNTIL(&r, rig_count(&r, a, PROTO_ENVELOPE_EVENT) == 1);
    uint64_t d = rig_about(&r, WARREN__REQUEST__OP_SESSION_DELETE, "alice", 0);
    CHECK_EQ(rig_status(&r, a), WARREN__STATUS__STATUS_OUTCOME_UNKNOWN);
    CHECK_EQ(rig_status(&r, d), WARREN__STATUS__STATUS_OK);
    rig_deinit(&r);
}

TEST(an_expected_generation_is_kept_or_lost_never_replaced)
{
    setup();
    Warren__Request q = WARREN__REQUEST__INIT;
    Warren__FileStat s = WARREN__FILE_STAT__INIT;
    q.op_case = WARREN__REQUEST__OP_FILE_STAT;
    q.file_stat = &s;
    q.expect_generation = 77;
    CHECK_EQ(rig_status(&r, rig_send(&r, PROTO_NET_CTL, "alice", &q)), WARREN__STATUS__STATUS_LOST);
    q.expect_generation = 0;
    q.no_allocate = true;
    q.key = NULL;
    CHECK_EQ(
        rig_status(&r, rig_send(&r, PROTO_NET_CTL, "alice", &q)), WARREN__STATUS__STATUS_NOT_FOUND);
    CHECK_EQ(fake_world_alive(r.world), 0);
    rig_deinit(&r);
}

TEST(a_pool_tells_its_numbers)
{
    memset(&r, 0, sizeof r);
    r.ready = 2;
    r.sessions_max = 3;
    rig_init(&r);
    RIG_UNTIL(&r, worker_session_ready(r.sessions));
    Warren__Reply *end =
        rig_reply(&r, rig_about(&r, WARREN__REQUEST__OP_POOL_GET, NULL, 0), PROTO_ENVELOPE_END);
    CHECK(end->pool != NULL && end->pool->ready == 2 && end->pool->sessions_max == 3);
    CHECK_STR(end->pool->state, "ready");
    CHECK_STR(end->pool->container_type, "PythonLTS");
    CHECK_STR(end->pool->template_id, "t1");
    warren__reply__free_unpacked(end, NULL);
    worker_session_drain(r.sessions, true, true);
    RIG_UNTIL(&r, worker_session_idle(r.sessions));
    CHECK_EQ(fake_world_alive(r.world), 0);
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 1, "say x")), WARREN__STATUS__STATUS_UNAVAILABLE);
    rig_deinit(&r);
}

TEST(failed_starts_and_claims_are_replaced_behind_the_client_s_back)
{
    memset(&r, 0, sizeof r);
    r.ready = 1;
    rig_init(&r);
    RIG_UNTIL(&r, worker_session_ready(r.sessions));
    fake_world_fail_claims(r.world, 1);
    fake_world_fail_starts(r.world, 1);
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 1, "say x")), WARREN__STATUS__STATUS_OK);
    rig_deinit(&r);
}

TEST(a_session_expires_after_its_cooldown)
{
    memset(&r, 0, sizeof r);
    r.cooldown_ms = 100;
    rig_init(&r);
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 1, "say x")), WARREN__STATUS__STATUS_OK);
    RIG_UNTIL(&r, fake_world_alive(r.world) == 0);
    Warren__Reply *end = rig_reply(&r, rig_exec(&r, "alice", 2, "say x"), PROTO_ENVELOPE_END);
    CHECK_STR(end->session->recreated, "expired");
    warren__reply__free_unpacked(end, NULL);
    rig_deinit(&r);
}

/* --- bad and late requests ----------------------------------------------------------------- */

TEST(waiting_requests_end_at_their_deadline_or_by_reset)
{
    setup();
    fake_world_hold_starts(r.world, true);
    Warren__Request q = WARREN__REQUEST__INIT;
    Warren__FileStat s = WARREN__FILE_STAT__INIT;
    q.op_case = WARREN__REQUEST__OP_FILE_STAT;
    q.file_stat = &s;
    r.deadline_ms = 50;
    CHECK_EQ(
        rig_status(&r, rig_send(&r, PROTO_NET_CTL, "alice", &q)), WARREN__STATUS__STATUS_TIMEOUT);
    r.deadline_ms = 0;
    uint64_t a = rig_exec(&r, "bobby", 1, "say x");
    struct proto_envelope env = {.type = PROTO_ENVELOPE_RESET, .corr = a};
    rig_envelope(&r, PROTO_NET_CTL, &env, NULL, 0);
    struct worker_rpc_stats st;
    RIG_UNTIL(&r, (worker_rpc_stats(r.rpc, &st),
                      st.requests == 2 && st.exchanges == 0 && st.request_bytes == 0));
    fake_world_hold_starts(r.world, false);
    CHECK_EQ(rig_status(&r, rig_exec(&r, "carol", 2, "say x")), WARREN__STATUS__STATUS_OK);
    CHECK_EQ(fake_world_runs(r.world), 1);
    rig_deinit(&r);
}

static struct rpc_exchange *waiting(uint64_t corr)
{
    for (struct worker_list *l = r.rpc->exchanges.next; l != &r.rpc->exchanges; l = l->next) {
        struct rpc_exchange *x = CONTAINER_OF(l, struct rpc_exchange, link);
        if (x->corr == corr && (x->queued || x->end_due)) {
            return x;
        }
    }
    return NULL;
}

static void only_session(const char *name)
{
    struct worker_session_info info;
    uint32_t n = 0;
    for (uint32_t i = WORKER_NONE;
         (i = worker_session_next(r.sessions, 0, i, &info)) != WORKER_NONE;) {
        n++;
        CHECK(info.id.len == strlen(name) && memcmp(info.id.text, name, info.id.len) == 0);
    }
    CHECK_EQ(n, 1);
}

TEST(what_was_answered_while_it_waited_for_its_turn_is_not_carried_out)
{
    setup();
    CHECK_EQ(rig_status(&r, rig_exec(&r, "bobby", 1, "say x")), WARREN__STATUS__STATUS_OK);
    ev_check_stop(r.loop, &r.rpc->check); /* no turns: what comes waits */
    r.rpc->served = UINT32_MAX;
    uint64_t late = (r.deadline_ms = 200, rig_exec(&r, "alice", 2, "say x"));
    uint64_t wrong = (r.deadline_ms = 0, rig_exec(&r, "carol", 3, "say x"));
    RIG_UNTIL(&r, waiting(late) != NULL && waiting(wrong) != NULL);
    CHECK(waiting(late)->queued && waiting(wrong)->queued);
    full = true;
    struct proto_envelope env = {.type = PROTO_ENVELOPE_CHUNK, .corr = wrong};
    rig_envelope(&r, PROTO_NET_CTL, &env, "x", 1);
    RIG_UNTIL(&r, waiting(late)->end_due && waiting(wrong)->end_due);
    CHECK(!waiting(late)->queued && !waiting(wrong)->queued);
    ev_check_start(r.loop, &r.rpc->check);
    uint64_t c = rig_exec(&r, "bobby", 4, "say x");
    RIG_UNTIL(&r, fake_world_runs(r.world) == 2); /* that one, behind them */
    full = false;
    RIG_UNTIL(&r, waiting(c) == NULL || waiting(c)->end_due);
    only_session("bobby");
    CHECK_EQ(fake_world_runs(r.world), 2);
    rig_deinit(&r);
}

TEST(what_was_answered_while_it_waited_for_a_microvm_does_not_run)
{
    setup();
    fake_world_hold_starts(r.world, true);
    uint64_t late = (r.deadline_ms = 50, rig_exec(&r, "alice", 1, "say x"));
    full = true;
    RIG_UNTIL(&r, waiting(late) != NULL && waiting(late)->end_due);
    r.deadline_ms = 0;
    (void)rig_exec(&r, "carol", 2, "say x");
    fake_world_hold_starts(r.world, false);
    RIG_UNTIL(&r, fake_world_runs(r.world) > 0);
    CHECK(waiting(late) != NULL); /* its gateway has not taken the answer yet */
    only_session("carol");
    CHECK_EQ(fake_world_runs(r.world), 1);
    full = false;
    rig_deinit(&r);
}

TEST(an_upload_whose_gateway_is_gone_does_not_hold_its_session_for_ever)
{
    memset(&r, 0, sizeof r);
    r.deadline_ms_max = 200;
    r.cooldown_ms = 100;
    rig_init(&r);
    uint64_t c = put("half", 0);
    warren__reply__free_unpacked(rig_reply(&r, c, PROTO_ENVELOPE_HEAD), NULL);
    chunk(c, 0, content, 10, false);
    CHECK_EQ(rig_status(&r, c), WARREN__STATUS__STATUS_TIMEOUT);
    RIG_UNTIL(&r, fake_world_alive(r.world) == 0);
    rig_deinit(&r);
}

TEST(wrong_requests_are_refused_with_a_reason)
{
    setup();
    struct proto_envelope env = {.type = PROTO_ENVELOPE_REQ, .corr = 1000};
    rig_envelope(&r, PROTO_NET_CTL, &env, "\xff\xff\xff", 3);
    CHECK_EQ(rig_status(&r, 1000), WARREN__STATUS__STATUS_INVALID);
    /* 60,000 empty arguments: a small message that wants a lot of memory. */
    static uint8_t bomb[3 + 120000];
    bomb[0] = 0x52; /* exec, 120000 bytes */
    bomb[1] = 0xc0;
    bomb[2] = 0xa9;
    bomb[3] = 0x07;
    for (size_t i = 4; i + 1 < sizeof bomb; i += 2) {
        bomb[i] = 0x42; /* argv */
    }
    env.corr = 1001;
    rig_envelope(&r, PROTO_NET_CTL, &env, bomb, sizeof bomb);
    CHECK_EQ(rig_status(&r, 1001), WARREN__STATUS__STATUS_INVALID);
    Warren__Request q = WARREN__REQUEST__INIT;
    CHECK_EQ(rig_status(&r, rig_send(&r, PROTO_NET_CTL, "alice", &q)),
        WARREN__STATUS__STATUS_INVALID); /* no operation */
    CHECK_EQ(rig_status(&r, rig_exec(&r, "al", 1, "say x")), WARREN__STATUS__STATUS_INVALID);
    Warren__Key key = WARREN__KEY__INIT;
    Warren__FileStat s = WARREN__FILE_STAT__INIT;
    key.pool = (char *)(uintptr_t) "nowhere";
    key.identifier = (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t) "alice", .len = 5};
    warren__request__init(&q);
    q.key = &key;
    q.op_case = WARREN__REQUEST__OP_FILE_STAT;
    q.file_stat = &s;
    Warren__Reply *end = rig_reply(&r, rig_send(&r, PROTO_NET_CTL, NULL, &q), PROTO_ENVELOPE_END);
    CHECK_EQ(end->status, WARREN__STATUS__STATUS_NOT_FOUND);
    CHECK_STR(end->code, "pool");
    warren__reply__free_unpacked(end, NULL);
    r.view = 2;
    end = rig_reply(&r, rig_exec(&r, "alice", 1, "say x"), PROTO_ENVELOPE_END);
    CHECK_EQ(end->status, WARREN__STATUS__STATUS_RETRY);
    CHECK_EQ(end->view, 1);
    warren__reply__free_unpacked(end, NULL);
    env.type = PROTO_ENVELOPE_PING;
    env.corr = 1002;
    rig_envelope(&r, PROTO_NET_CTL, &env, NULL, 0);
    RIG_UNTIL(&r, rig_got(&r, 1002, PROTO_ENVELOPE_PONG, 0) != NULL);
    CHECK_EQ(fake_world_alive(r.world), 0);
    struct worker_rpc_stats st;
    worker_rpc_stats(r.rpc, &st);
    CHECK(st.exchanges == 0 && st.request_bytes == 0);
    rig_deinit(&r);
}
