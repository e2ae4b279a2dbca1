#include "proto/exec_digest.h"
#include "tests/unit/worker/rpc_rig.h"
#include "worker/wire/rows.h"

/* An execution id that comes again with something else. */

static struct rig r;

static void setup(void)
{
    memset(&r, 0, sizeof r);
    rig_init(&r);
}

static void output_is(uint64_t corr, const char *want)
{
    char text[RIG_OUTPUT_MAX];
    CHECK_STR(rig_output(&r, corr, text), want);
}

static void reused(uint64_t corr)
{
    Warren__Reply *end = rig_reply(&r, corr, PROTO_ENVELOPE_END);
    CHECK_EQ(end->status, WARREN__STATUS__STATUS_EXISTS);
    CHECK_STR(end->code, "IdempotencyKeyReused");
    CHECK(!end->replayed && end->done == NULL);
    warren__reply__free_unpacked(end, NULL);
    CHECK_EQ(rig_count(&r, corr, PROTO_ENVELOPE_HEAD), 0);
    CHECK_EQ(rig_count(&r, corr, PROTO_ENVELOPE_EVENT), 0);
}

TEST(other_code_under_an_id_is_refused_and_what_runs_does_not_notice)
{
    setup();
    uint64_t a = rig_exec(&r, "alice", 1, "say x\nhold\nsay y");
    RIG_UNTIL(&r, rig_count(&r, a, PROTO_ENVELOPE_EVENT) == 1);
    reused(rig_exec(&r, "alice", 1, "say other"));
    reused(rig_exec_how(
        &r, "alice", 1, "say other", &(struct rig_exec_how){.given = true, .detach = true}));
    rig_stop(&r);
    rig_start(&r); /* it knows by its row */
    reused(rig_exec(&r, "alice", 1, "say other"));
    uint64_t b = rig_exec(&r, "alice", 1, "say x\nhold\nsay y");
    RIG_UNTIL(&r, rig_count(&r, b, PROTO_ENVELOPE_EVENT) == 1);
    fake_world_go_on(r.world);
    CHECK_EQ(rig_status(&r, b), WARREN__STATUS__STATUS_OK);
    output_is(b, "x|y|");
    reused(rig_exec(&r, "alice", 1, "say other"));
    rig_stop(&r);
    rig_start(&r);
    reused(rig_exec(&r, "alice", 1, "say other"));
    uint64_t c = rig_attach(&r, "alice", 1, 0, true); /* by its id: nothing is said of code */
    CHECK_EQ(rig_status(&r, c), WARREN__STATUS__STATUS_OK);
    output_is(c, "x|y|");
    CHECK_EQ(fake_world_runs(r.world), 1);
    rig_deinit(&r);
}

/* As a worker before ours left it. */
static void forget_digest(uint8_t id)
{
    struct worker_store_row row;
    uint8_t key[PROTO_EXEC_ID_BYTES] = {id}, value[WORKER_ROW_MAX];
    CHECK_EQ(worker_store_seek(r.run, WORKER_STORE_EXEC, key, sizeof key, &row), 0);
    CHECK_EQ(row.value[0], WORKER_ROW_EXEC_VERSION);
    memcpy(value, row.value, row.value_n);
    value[0] = 1;
    row = (struct worker_store_row){.key = key,
        .key_n = sizeof key,
        .value = value,
        .value_n = row.value_n - PROTO_EXEC_DIGEST_BYTES};
    CHECK_EQ(worker_store_put(r.run, WORKER_STORE_EXEC, &row), 0);
    CHECK_EQ(worker_store_commit(r.run), 0);
}

TEST(rows_of_an_older_worker_do_not_say_what_was_asked_and_refuse_nothing)
{
    setup();
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 1, "say x")), WARREN__STATUS__STATUS_OK);
    forget_digest(1);
    rig_stop(&r);
    rig_start(&r);
    RIG_UNTIL(&r, worker_session_ready(r.sessions));
    uint64_t a = rig_exec(&r, "alice", 1, "say other");
    CHECK_EQ(rig_status(&r, a), WARREN__STATUS__STATUS_OK);
    output_is(a, "x|");
    CHECK_EQ(fake_world_runs(r.world), 1);
    rig_deinit(&r);
}

TEST(of_two_that_wait_under_one_id_the_first_has_it)
{
    setup();
    fake_world_hold_starts(r.world, true);
    uint64_t a = rig_exec(&r, "alice", 1, "say never");
    uint64_t b = rig_exec(&r, "alice", 1, "say other");
    uint64_t c = rig_exec(&r, "alice", 2, "say x");
    uint64_t d = rig_exec(&r, "alice", 2, "say other");
    uint64_t e = rig_exec(&r, "alice", 2, "say x");
    CHECK_EQ(rig_status(&r, rig_cancel(&r, "alice", 1)), WARREN__STATUS__STATUS_OK);
    rig_canceled(&r, a);
    reused(b);
    reused(rig_exec(&r, "alice", 1, "say other"));
    fake_world_hold_starts(r.world, false);
    CHECK_EQ(rig_status(&r, c), WARREN__STATUS__STATUS_OK);
    reused(d);
    CHECK_EQ(rig_status(&r, e), WARREN__STATUS__STATUS_OK);
    output_is(e, "x|");
    CHECK_EQ(fake_world_runs(r.world), 1);
    rig_deinit(&r);
}

/* If it is this code that the id means. */
static uint64_t cancel_of(const char *name, uint8_t id, const char *code, size_t digest_n)
{
    Warren__Exec what = WARREN__EXEC__INIT;
    Warren__Request q = WARREN__REQUEST__INIT;
    Warren__ExecCancel c = WARREN__EXEC_CANCEL__INIT;
    uint8_t raw[PROTO_EXEC_ID_BYTES] = {id}, digest[PROTO_EXEC_DIGEST_BYTES];
    what.kernel = WARREN__KERNEL__KERNEL_PYTHON;
    what.code = (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)code, .len = strlen(code)};
    CHECK_EQ(proto_exec_digest(&what, digest), 0);
    c.id = (ProtobufCBinaryData){.data = raw, .len = sizeof raw};
    c.digest = (ProtobufCBinaryData){.data = digest, .len = digest_n};
    q.op_case = WARREN__REQUEST__OP_EXEC_CANCEL;
    q.exec_cancel = &c;
    return rig_send(&r, PROTO_NET_CTL, name, &q);
}

TEST(a_cancel_of_something_else_leaves_what_has_the_id)
{
    static const char code[] = "say x\nhold\nsay y";
    setup();
    uint64_t a = rig_exec(&r, "alice", 1, code);
    RIG_UNTIL(&r, rig_count(&r, a, PROTO_ENVELOPE_EVENT) == 1);
    CHECK_EQ(
        rig_status(&r, cancel_of("alice", 1, "say other", 16)), WARREN__STATUS__STATUS_NOT_FOUND);
    CHECK_EQ(rig_status(&r, cancel_of("alice", 1, code, 15)), WARREN__STATUS__STATUS_INVALID);
    fake_world_go_on(r.world);
    CHECK_EQ(rig_status(&r, a), WARREN__STATUS__STATUS_OK);
    output_is(a, "x|y|");
    fake_world_hold_starts(r.world, true);
    uint64_t b = rig_exec(&r, "bobby", 2, "say never");
    uint64_t c = rig_exec(&r, "bobby", 3, "say z");
    uint64_t d = rig_exec(&r, "bobby", 3, "say other"); /* the second: not what the id means */
    CHECK_EQ(
        rig_status(&r, cancel_of("bobby", 2, "say other", 16)), WARREN__STATUS__STATUS_NOT_FOUND);
    CHECK_EQ(
        rig_status(&r, cancel_of("bobby", 3, "say other", 16)), WARREN__STATUS__STATUS_NOT_FOUND);
    CHECK_EQ(rig_status(&r, cancel_of("bobby", 2, "say never", 16)), WARREN__STATUS__STATUS_OK);
    rig_canceled(&r, b);
    fake_world_hold_starts(r.world, false);
    CHECK_EQ(rig_status(&r, c), WARREN__STATUS__STATUS_OK);
    output_is(c, "z|");
    reused(d);
    CHECK_EQ(fake_world_runs(r.world), 2);
    rig_deinit(&r);
}
