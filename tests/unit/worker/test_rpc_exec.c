#include <unistd.h>

#include "tests/unit/worker/rpc_rig.h"
#include "worker/io/rpc_state.h"

static struct rig r;

static void setup(void)
{
    memset(&r, 0, sizeof r);
    rig_init(&r);
}

static uint64_t attach(uint8_t id, uint64_t after, bool wait)
{
    return rig_attach(&r, "alice", id, after, wait);
}

static uint64_t cancel(uint8_t id)
{
    return rig_cancel(&r, "alice", id);
}

static void credit(uint64_t corr, uint32_t n)
{
    struct proto_envelope env = {.type = PROTO_ENVELOPE_CREDIT, .corr = corr, .seq = n};
    rig_envelope(&r, PROTO_NET_CTL, &env, NULL, 0);
}

static void output_is(uint64_t corr, const char *want)
{
    char text[RIG_OUTPUT_MAX];
    CHECK_STR(rig_output(&r, corr, text), want);
}

TEST(code_runs_in_a_new_session_and_its_events_come_in_order)
{
    setup();
    uint64_t c = rig_exec(&r, "alice", 1, "say one\nsay two");
    Warren__Reply *head = rig_reply(&r, c, PROTO_ENVELOPE_HEAD);
    CHECK_EQ(head->status, WARREN__STATUS__STATUS_OK);
    CHECK_EQ(head->exec_state, WARREN__EXEC_STATE__EXEC_RUNNING);
    CHECK(head->session != NULL && head->session->new_allocation && !head->replayed);
    CHECK_STR(head->session->isolation, "tcg");
    CHECK(head->session->generation >> 32 == 1 && head->session->vm_id.len == 16);
    CHECK(head->session->expires_ns > head->session->created_ns);
    Warren__Reply *end = rig_reply(&r, c, PROTO_ENVELOPE_END);
    CHECK_EQ(end->status, WARREN__STATUS__STATUS_OK);
    CHECK_EQ(end->exec_state, WARREN__EXEC_STATE__EXEC_DONE);
    CHECK(end->done != NULL && end->done->status == WARREN__DONE_STATUS__DONE_OK);
    CHECK_EQ(end->done->duration_us, 42);
    output_is(c, "one|two|");
    CHECK_EQ(rig_count(&r, c, PROTO_ENVELOPE_EVENT), 3);
    CHECK_EQ(fake_world_kept(r.world), 0); /* acknowledged and forgotten */
    uint64_t generation = end->session->generation;
    warren__reply__free_unpacked(head, NULL);
    warren__reply__free_unpacked(end, NULL);
    c = rig_exec(&r, "alice", 2, "fail");
    end = rig_reply(&r, c, PROTO_ENVELOPE_END);
    CHECK(end->session->generation == generation && !end->session->new_allocation);
    CHECK_EQ(end->done->status, WARREN__DONE_STATUS__DONE_ERROR);
    warren__reply__free_unpacked(end, NULL);
    rig_deinit(&r);
}

TEST(the_same_id_joins_while_it_runs_and_is_replayed_afterwards)
{
    setup();
    uint64_t a = rig_exec(&r, "alice", 1, "say x\nhold\nsay y");
    RIG_UNTIL(&r, rig_count(&r, a, PROTO_ENVELOPE_EVENT) == 1);
    uint64_t b = rig_exec(&r, "alice", 1, "say x\nhold\nsay y");
    RIG_UNTIL(&r, rig_count(&r, b, PROTO_ENVELOPE_EVENT) == 1);
    fake_world_go_on(r.world);
    CHECK_EQ(rig_status(&r, a), WARREN__STATUS__STATUS_OK);
    CHECK_EQ(rig_status(&r, b), WARREN__STATUS__STATUS_OK);
    uint64_t c = rig_exec(&r, "alice", 1, "say x\nhold\nsay y");
    Warren__Reply *end = rig_reply(&r, c, PROTO_ENVELOPE_END);
    CHECK(end->replayed && end->done != NULL);
    warren__reply__free_unpacked(end, NULL);
    output_is(a, "x|y|");
    output_is(b, "x|y|");
    output_is(c, "x|y|");
    CHECK_EQ(fake_world_runs(r.world), 1);
    /* The same id in another session is somebody else's mistake. */
    CHECK_EQ(rig_status(&r, rig_exec(&r, "bobby", 1, "say x")), WARREN__STATUS__STATUS_EXISTS);
    rig_deinit(&r);
}

TEST(attach_reads_behind_a_number_and_waits_only_when_asked)
{
    setup();
    uint64_t a = rig_exec(&r, "alice", 1, "say x\nsay y\nhold\nsay z");
    RIG_UNTIL(&r, rig_count(&r, a, PROTO_ENVELOPE_EVENT) == 2);
    uint64_t b = attach(1, 1, false);
    Warren__Reply *end = rig_reply(&r, b, PROTO_ENVELOPE_END);
    CHECK_EQ(end->exec_state, WARREN__EXEC_STATE__EXEC_RUNNING);
    warren__reply__free_unpacked(end, NULL);
    output_is(b, "y|");
    uint64_t c = attach(1, 2, true);
    CHECK_EQ(rig_status(&r, attach(9, 0, true)), WARREN__STATUS__STATUS_NOT_FOUND);
    fake_world_go_on(r.world);
    CHECK_EQ(rig_status(&r, c), WARREN__STATUS__STATUS_OK);
    output_is(c, "z|");
    rig_deinit(&r);
}

TEST(a_detached_execution_ends_its_exchange_at_the_start_and_can_be_cancelled)
{
    setup();
    uint64_t a = rig_exec_how(&r, "alice", 5, "hold", &(struct rig_exec_how){.detach = true});
    Warren__Reply *end = rig_reply(&r, a, PROTO_ENVELOPE_END);
    CHECK_EQ(end->exec_state, WARREN__EXEC_STATE__EXEC_RUNNING);
    warren__reply__free_unpacked(end, NULL);
    CHECK_EQ(rig_status(&r, cancel(5)), WARREN__STATUS__STATUS_OK);
    end = rig_reply(&r, attach(5, 0, true), PROTO_ENVELOPE_END);
    CHECK_EQ(end->done->status, WARREN__DONE_STATUS__DONE_INTERRUPTED);
    warren__reply__free_unpacked(end, NULL);
    rig_deinit(&r);
}

TEST(events_stop_at_the_window_and_go_on_with_credit)
{
    setup();
    uint64_t a = rig_exec(&r, "alice", 1, "big 100000 10\nsay end");
    /* Another request's answer shows that the worker had its chance to send more. */
    RIG_UNTIL(&r, rig_count(&r, a, PROTO_ENVELOPE_EVENT) == 2);
    CHECK_EQ(rig_status(&r, rig_exec(&r, "bobby", 2, "say x")), WARREN__STATUS__STATUS_OK);
    CHECK_EQ(rig_count(&r, a, PROTO_ENVELOPE_EVENT), 2);
    for (uint32_t n = 2; n < 10; n++) {
        size_t bytes = base_buf_size(&rig_got(&r, a, PROTO_ENVELOPE_EVENT, n - 2)->body);
        credit(a, (uint32_t)bytes);
        RIG_UNTIL(&r, rig_count(&r, a, PROTO_ENVELOPE_EVENT) >= n + 1);
    }
    CHECK_EQ(rig_status(&r, a), WARREN__STATUS__STATUS_OK);
    CHECK_EQ(rig_count(&r, a, PROTO_ENVELOPE_EVENT), 12);
    rig_deinit(&r);
}

TEST(output_beyond_the_store_s_limit_is_cut_and_said_so)
{
    setup();
    /* 4 MiB for all, a quarter for one: one event of 1 MB fits, the next does not. */
    uint64_t a = rig_exec(&r, "alice", 1, "big 1000000 1\nbig 900000 3\nsay tiny");
    RIG_UNTIL(&r, rig_count(&r, a, PROTO_ENVELOPE_EVENT) == 1);
    credit(a, 1000100);
    Warren__Reply *end = rig_reply(&r, a, PROTO_ENVELOPE_END);
    CHECK(end->truncated && end->done != NULL && end->done->status == WARREN__DONE_STATUS__DONE_OK);
    warren__reply__free_unpacked(end, NULL);
    CHECK_EQ(rig_count(&r, a, PROTO_ENVELOPE_EVENT), 3);
    rig_deinit(&r);
}

TEST(a_microvm_that_dies_leaves_an_unknown_outcome_and_the_code_never_runs_again)
{
    setup();
    uint64_t a = rig_exec(&r, "alice", 1, "say x\ndie\nsay y");
    Warren__Reply *end = rig_reply(&r, a, PROTO_ENVELOPE_END);
    CHECK_EQ(end->status, WARREN__STATUS__STATUS_OUTCOME_UNKNOWN);
    CHECK_EQ(end->exec_state, WARREN__EXEC_STATE__EXEC_UNKNOWN);
    CHECK_STR(end->code, "ExecutionOutcomeUnknown");
    warren__reply__free_unpacked(end, NULL);
    output_is(a, "x|");
    a = rig_exec(&r, "alice", 1, "say x\ndie\nsay y");
    CHECK_EQ(rig_status(&r, a), WARREN__STATUS__STATUS_OUTCOME_UNKNOWN);
    CHECK_EQ(fake_world_runs(r.world), 1);
    end = rig_reply(&r, rig_exec(&r, "alice", 2, "say x"), PROTO_ENVELOPE_END);
    CHECK_EQ(end->status, WARREN__STATUS__STATUS_OK);
    CHECK_STR(end->session->recreated, "vm-lost");
    CHECK_EQ(end->session->generation & 0xffffffff, 2);
    warren__reply__free_unpacked(end, NULL);
    rig_deinit(&r);
}

TEST(without_a_lease_nothing_is_taken_and_what_runs_is_not_said_to_be_done)
{
    setup();
    uint64_t c = rig_exec(&r, "alice", 1, "say x\nhold\nsay y");
    RIG_UNTIL(&r, rig_count(&r, c, PROTO_ENVELOPE_EVENT) == 1);
    fake_world_freeze(r.world, true);
    fake_world_go_on(r.world);
    Warren__Reply *end = rig_reply(&r, rig_exec(&r, "alice", 2, "say z"), PROTO_ENVELOPE_END);
    CHECK_EQ(end->status, WARREN__STATUS__STATUS_UNAVAILABLE);
    CHECK(end->retry_after_ms > 0);
    CHECK_STR(end->text, "the worker has no lease at the moment");
    warren__reply__free_unpacked(end, NULL);
    CHECK_EQ(rig_status(&r, rig_exec(&r, "bobby", 3, "say z")), WARREN__STATUS__STATUS_UNAVAILABLE);
    CHECK_EQ(rig_count(&r, c, PROTO_ENVELOPE_END), 0);
    CHECK_EQ(fake_world_runs(r.world), 1);
    fake_world_freeze(r.world, false);
    fake_world_go_on(r.world);
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 2, "say z")), WARREN__STATUS__STATUS_OK);
    fake_world_go_on(r.world);
    CHECK_EQ(rig_status(&r, c), WARREN__STATUS__STATUS_OK);
    output_is(c, "x|y|");
    CHECK_EQ(fake_world_runs(r.world), 2);
    rig_deinit(&r);
}

static void unleased(uint64_t corr)
{
    Warren__Reply *end = rig_reply(&r, corr, PROTO_ENVELOPE_END);
    CHECK_EQ(end->status, WARREN__STATUS__STATUS_UNAVAILABLE);
    CHECK_EQ(end->retry_after_ms, 1000);
    CHECK_STR(end->text, "the worker has no lease at the moment");
    CHECK(end->session == NULL && end->n_sessions == 0);
    warren__reply__free_unpacked(end, NULL);
}

/* Neither that a session is here nor that there is none. */
TEST(without_a_lease_nothing_is_said_about_sessions)
{
    setup();
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 1, "say x")), WARREN__STATUS__STATUS_OK);
    uint64_t run = rig_exec(&r, "alice", 2, "say y\nhold\nsay z");
    RIG_UNTIL(&r, rig_count(&r, run, PROTO_ENVELOPE_EVENT) == 1);
    fake_world_freeze(r.world, true); /* nobody has told the worker yet */
    unleased(rig_about(&r, WARREN__REQUEST__OP_SESSION_GET, "alice", 0));
    unleased(rig_about(&r, WARREN__REQUEST__OP_SESSION_GET, "bobby", 0));
    unleased(rig_about(&r, WARREN__REQUEST__OP_SESSION_DELETE, "alice", 0));
    unleased(rig_about(&r, WARREN__REQUEST__OP_SESSION_DELETE, "bobby", 0));
    unleased(rig_about(&r, WARREN__REQUEST__OP_SESSION_LIST, NULL, 0));
    unleased(attach(9, 0, false));
    unleased(cancel(9));
    unleased(rig_exec(&r, "bobby", 2, "say x")); /* another session's id */
    CHECK_EQ(rig_status(&r, rig_about(&r, WARREN__REQUEST__OP_POOL_GET, NULL, 0)),
        WARREN__STATUS__STATUS_OK);
    uint64_t known = attach(1, 0, true);
    CHECK_EQ(rig_status(&r, known), WARREN__STATUS__STATUS_OK);
    output_is(known, "x|");
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 1, "say x")), WARREN__STATUS__STATUS_OK);
    CHECK_EQ(rig_status(&r, cancel(2)), WARREN__STATUS__STATUS_OK);
    CHECK_EQ(rig_count(&r, run, PROTO_ENVELOPE_END), 0);
    fake_world_freeze(r.world, false);
    CHECK_EQ(rig_status(&r, run), WARREN__STATUS__STATUS_OK); /* interrupted */
    CHECK_EQ(rig_status(&r, attach(9, 0, false)), WARREN__STATUS__STATUS_NOT_FOUND);
    CHECK_EQ(rig_status(&r, rig_about(&r, WARREN__REQUEST__OP_SESSION_DELETE, "alice", 0)),
        WARREN__STATUS__STATUS_OK);
    CHECK_EQ(fake_world_runs(r.world), 2);
    rig_deinit(&r);
}

TEST(a_microvm_that_ends_frozen_leaves_an_unknown_outcome)
{
    setup();
    uint64_t c = rig_exec(&r, "alice", 1, "say x\nhold\nsay y");
    RIG_UNTIL(&r, rig_count(&r, c, PROTO_ENVELOPE_EVENT) == 1);
    fake_world_freeze(r.world, true);
    CHECK_EQ(rig_status(&r, rig_exec(&r, "bobby", 2, "say b")), WARREN__STATUS__STATUS_UNAVAILABLE);
    fake_world_die(r.world, 0);
    CHECK_EQ(rig_status(&r, c), WARREN__STATUS__STATUS_OUTCOME_UNKNOWN);
    fake_world_freeze(r.world, false);
    CHECK_EQ(rig_status(&r, rig_exec(&r, "bobby", 2, "say b")), WARREN__STATUS__STATUS_OK);
    rig_deinit(&r);
}

TEST(a_refusal_of_the_agent_is_told_and_the_id_may_be_used_again)
{
    setup();
    char code[32];
    (void)snprintf(code, sizeof code, "rst %d", BASE_EINVAL);
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 1, code)), WARREN__STATUS__STATUS_INVALID);
    CHECK_EQ(fake_world_runs(r.world), 0);
    (void)snprintf(code, sizeof code, "rst %d", BASE_EIO);
    CHECK_EQ(
        rig_status(&r, rig_exec(&r, "alice", 2, code)), WARREN__STATUS__STATUS_OUTCOME_UNKNOWN);
    rig_deinit(&r);
}

TEST(a_reset_leaves_the_execution_running_and_its_outcome_stored)
{
    setup();
    uint64_t a = rig_exec(&r, "alice", 1, "say x\nhold\nsay y");
    RIG_UNTIL(&r, rig_count(&r, a, PROTO_ENVELOPE_EVENT) == 1);
    struct proto_envelope reset = {.type = PROTO_ENVELOPE_RESET, .corr = a};
    rig_envelope(&r, PROTO_NET_CTL, &reset, NULL, 0);
    uint64_t b = attach(1, 0, true);
    RIG_UNTIL(&r, rig_count(&r, b, PROTO_ENVELOPE_EVENT) == 1);
    fake_world_go_on(r.world);
    CHECK_EQ(rig_status(&r, b), WARREN__STATUS__STATUS_OK);
    output_is(b, "x|y|");
    CHECK_EQ(rig_count(&r, a, PROTO_ENVELOPE_END), 0);
    rig_deinit(&r);
}

TEST(a_reset_and_a_cancel_stop_what_waits_for_its_microvm)
{
    setup();
    fake_world_hold_starts(r.world, true);
    uint64_t a = rig_exec(&r, "alice", 1, "say x");
    struct proto_envelope reset = {.type = PROTO_ENVELOPE_RESET, .corr = a};
    rig_envelope(&r, PROTO_NET_CTL, &reset, NULL, 0);
    CHECK_EQ(rig_status(&r, cancel(1)), WARREN__STATUS__STATUS_NOT_FOUND);
    fake_world_hold_starts(r.world, false);
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 2, "say y")), WARREN__STATUS__STATUS_OK);
    CHECK_EQ(fake_world_runs(r.world), 1);
    rig_deinit(&r);
}

TEST(the_deadline_answers_by_itself_and_the_execution_goes_on)
{
    setup();
    r.deadline_ms = 300;
    uint64_t a = rig_exec(&r, "alice", 1, "hold\nsay y");
    r.deadline_ms = 0;
    Warren__Reply *end = rig_reply(&r, a, PROTO_ENVELOPE_END);
    CHECK_EQ(end->status, WARREN__STATUS__STATUS_TIMEOUT);
    CHECK_EQ(end->exec_state, WARREN__EXEC_STATE__EXEC_RUNNING);
    warren__reply__free_unpacked(end, NULL);
    fake_world_go_on(r.world);
    uint64_t b = attach(1, 0, true);
    CHECK_EQ(rig_status(&r, b), WARREN__STATUS__STATUS_OK);
    output_is(b, "y|");
    rig_deinit(&r);
}

/* --- a worker that dies and comes back ------------------------------------------------------ */

TEST(a_restarted_worker_takes_over_running_executions)
{
    setup();
    uint64_t a = rig_exec(&r, "alice", 1, "say x\nhold\nsay y");
    RIG_UNTIL(&r, rig_count(&r, a, PROTO_ENVELOPE_EVENT) == 1);
    Warren__Reply *head = rig_reply(&r, a, PROTO_ENVELOPE_HEAD);
    uint64_t generation = head->session->generation;
    warren__reply__free_unpacked(head, NULL);
    rig_stop(&r);
    rig_start(&r);
    uint64_t b = attach(1, 0, true); /* comes before the microVM is attached again */
    RIG_UNTIL(&r, rig_count(&r, b, PROTO_ENVELOPE_EVENT) == 1);
    RIG_UNTIL(&r, worker_session_ready(r.sessions)); /* template, then the rest */
    uint64_t c = rig_exec(&r, "alice", 2, "say z");  /* waits for the adoption */
    CHECK_EQ(rig_status(&r, c), WARREN__STATUS__STATUS_OK);
    fake_world_go_on(r.world);
    Warren__Reply *end = rig_reply(&r, b, PROTO_ENVELOPE_END);
    CHECK_EQ(end->status, WARREN__STATUS__STATUS_OK);
    CHECK(end->session != NULL && end->session->generation == generation);
    warren__reply__free_unpacked(end, NULL);
    output_is(b, "x|y|");
    CHECK_EQ(fake_world_runs(r.world), 2);
    rig_deinit(&r);
}

TEST(output_that_was_cut_is_not_asked_for_again_after_a_restart)
{
    setup();
    uint64_t a = rig_exec(&r, "alice", 1, "big 1048576 2\nhold\nsay y");
    uint64_t b = rig_exec(&r, "alice", 2, "say x");
    CHECK_EQ(rig_status(&r, b), WARREN__STATUS__STATUS_OK);
    RIG_UNTIL(&r, fake_world_kept(r.world) == 0); /* both cut events are acknowledged */
    (void)a;
    rig_stop(&r);
    rig_start(&r);
    uint64_t c = attach(1, 0, true);
    RIG_UNTIL(&r, worker_session_ready(r.sessions));
    RIG_UNTIL(&r, rig_got(&r, c, PROTO_ENVELOPE_HEAD, 0) != NULL);
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 3, "say x")), WARREN__STATUS__STATUS_OK);
    fake_world_go_on(r.world);
    Warren__Reply *end = rig_reply(&r, c, PROTO_ENVELOPE_END);
    CHECK_EQ(end->status, WARREN__STATUS__STATUS_OK);
    CHECK(end->truncated && end->done != NULL);
    warren__reply__free_unpacked(end, NULL);
    output_is(c, "y|");
    rig_deinit(&r);
}

TEST(an_id_older_than_the_retention_is_unknown_but_never_run_again_in_its_session)
{
    memset(&r, 0, sizeof r);
    r.retention_ms = 1;
    rig_init(&r);
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 1, "say x")), WARREN__STATUS__STATUS_OK);
    RIG_UNTIL(&r, rig_status(&r, attach(1, 0, false)) == WARREN__STATUS__STATUS_NOT_FOUND);
    CHECK_EQ(
        rig_status(&r, rig_exec(&r, "alice", 1, "say x")), WARREN__STATUS__STATUS_OUTCOME_UNKNOWN);
    CHECK_EQ(fake_world_runs(r.world), 1);
    rig_deinit(&r);
}

TEST(a_restarted_worker_tells_what_did_not_survive)
{
    setup();
    uint64_t a = rig_exec(&r, "alice", 1, "say x\nhold\nsay y");
    RIG_UNTIL(&r, rig_count(&r, a, PROTO_ENVELOPE_EVENT) == 1);
    rig_stop(&r);
    for (uint32_t i = 0; i < 4; i++) {
        fake_world_vanish(r.world, i);
    }
    rig_start(&r);
    uint64_t b = attach(1, 0, true);
    CHECK_EQ(rig_status(&r, b), WARREN__STATUS__STATUS_OUTCOME_UNKNOWN);
    output_is(b, "x|");
    Warren__Reply *end = rig_reply(&r, rig_exec(&r, "alice", 2, "say z"), PROTO_ENVELOPE_END);
    CHECK_STR(end->session->recreated, "worker-restart");
    CHECK(end->session->generation > (UINT64_C(1) << 32) + 1);
    warren__reply__free_unpacked(end, NULL);
    rig_deinit(&r);
}

/* The client asks again until it is told something final. */
static Warren__Status ask_again(const char *want)
{
    for (int tries = 0; tries < 5; tries++) {
        uint64_t b = rig_exec(&r, "alice", 1, "say x\nsay y");
        Warren__Status status = rig_status(&r, b);
        if (status == WARREN__STATUS__STATUS_OK) {
            output_is(b, want);
        }
        if (status != WARREN__STATUS__STATUS_UNAVAILABLE && status != WARREN__STATUS__STATUS_LOST) {
            return status;
        }
    }
    return WARREN__STATUS__STATUS_NONE;
}

/* The worker dies after its n-th word to a guest (claim, code, acknowledgement, forget), for every
 * n, and comes back. With its microVM alive the outcome is right and complete; when that died too
 * it is right or unknown. The code never runs twice. */
static void crash_everywhere(bool vm_dies)
{
    uint32_t right = 0, unknown = 0;
    for (uint32_t n = 1;; n++) {
        memset(&r, 0, sizeof r);
        r.ready = 1;
        rig_init(&r);
        RIG_UNTIL(&r, worker_session_ready(r.sessions));
        rig_crash_at(&r, n);
        uint64_t a = rig_exec(&r, "alice", 1, "say x\nsay y");
        RIG_UNTIL(&r, rig_got(&r, a, PROTO_ENVELOPE_END, 0) != NULL);
        bool crashed = r.crashed;
        rig_crash_at(&r, 0);
        rig_stop(&r);
        for (uint32_t i = 0; vm_dies && i < 4; i++) {
            fake_world_vanish(r.world, i);
        }
        rig_start(&r);
        Warren__Status status = ask_again("x|y|");
        right += status == WARREN__STATUS__STATUS_OK;
        unknown += status == WARREN__STATUS__STATUS_OUTCOME_UNKNOWN;
        CHECK(status == WARREN__STATUS__STATUS_OK ||
              (vm_dies && status == WARREN__STATUS__STATUS_OUTCOME_UNKNOWN));
        CHECK_EQ(fake_world_runs(r.world), 1);
        rig_deinit(&r);
        if (!crashed) {
            break; /* it was through before its n-th word */
        }
    }
    CHECK(right >= 3);
    CHECK(!vm_dies || unknown >= 1);
}

TEST(a_crash_after_any_word_to_the_guest_loses_nothing)
{
    crash_everywhere(false);
}

TEST(a_crash_that_takes_the_microvm_along_never_runs_code_twice)
{
    crash_everywhere(true);
}

/* Cut at every turn of the loop. */
TEST(a_crash_at_any_turn_never_runs_code_twice)
{
    for (int turns = 1; turns < 60; turns++) {
        setup();
        (void)rig_exec(&r, "alice", 1, "say x\nsay y");
        for (int i = 0; i < turns; i++) {
            ev_run(r.loop, EVRUN_NOWAIT);
        }
        rig_stop(&r);
        rig_start(&r);
        CHECK_EQ(ask_again("x|y|"), WARREN__STATUS__STATUS_OK);
        CHECK_EQ(fake_world_runs(r.world), 1);
        rig_deinit(&r);
    }
}

/* --- canceled before it began ----------------------------------------------------------------- */

static void canceled(uint64_t corr)
{
    rig_canceled(&r, corr);
}

TEST(what_waits_for_a_microvm_is_known_and_canceled_it_never_runs)
{
    setup();
    fake_world_hold_starts(r.world, true);
    uint64_t a = rig_exec(&r, "alice", 1, "say never");
    uint64_t b = rig_exec(&r, "alice", 1, "say never"); /* the same, asked for twice */
    uint64_t other = rig_exec(&r, "alice", 2, "say x");
    Warren__Reply *end = rig_reply(&r, attach(1, 0, false), PROTO_ENVELOPE_END);
    CHECK_EQ(end->status, WARREN__STATUS__STATUS_OK);
    CHECK_EQ(end->exec_state, WARREN__EXEC_STATE__EXEC_NONE);
    warren__reply__free_unpacked(end, NULL);
    CHECK_EQ(rig_status(&r, attach(1, 0, true)), WARREN__STATUS__STATUS_UNAVAILABLE);
    CHECK_EQ(rig_status(&r, cancel(9)), WARREN__STATUS__STATUS_NOT_FOUND);
    CHECK_EQ(rig_status(&r, cancel(1)), WARREN__STATUS__STATUS_OK);
    canceled(a);
    canceled(b);
    fake_world_hold_starts(r.world, false);
    CHECK_EQ(rig_status(&r, other), WARREN__STATUS__STATUS_OK);
    canceled(rig_exec(&r, "alice", 1, "say never")); /* asked for again: the same outcome */
    canceled(attach(1, 0, true));
    CHECK_EQ(rig_status(&r, cancel(1)), WARREN__STATUS__STATUS_OK);
    rig_stop(&r);
    rig_start(&r); /* it is stored */
    canceled(rig_exec(&r, "alice", 1, "say never"));
    CHECK_EQ(fake_world_runs(r.world), 1);
    rig_deinit(&r);
}

TEST(a_cancel_that_comes_with_its_execution_is_not_too_early)
{
    setup();
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 1, "say x")), WARREN__STATUS__STATUS_OK);
    uint64_t a = rig_exec(&r, "alice", 2, "say never"); /* both in one turn: not in the guest yet */
    uint64_t c = cancel(2);
    CHECK_EQ(rig_status(&r, c), WARREN__STATUS__STATUS_OK);
    canceled(a);
    canceled(attach(2, 0, true));
    CHECK_EQ(fake_world_runs(r.world), 1);
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 3, "say x")), WARREN__STATUS__STATUS_OK);
    rig_deinit(&r);
}

TEST(a_cancel_finds_code_that_is_on_its_way_to_the_guest)
{
    setup();
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 1, "say x")), WARREN__STATUS__STATUS_OK);
    static char code[PROTO_FRAME_STREAM_WINDOW + 4096]; /* the guest gives no credit for the rest */
    memset(code, ' ', sizeof code - 1);
    memcpy(code, "say never", 9);
    uint64_t a = rig_exec(&r, "alice", 2, code);
    RIG_UNTIL(&r, rig_count(&r, a, PROTO_ENVELOPE_HEAD) == 1);
    CHECK_EQ(rig_status(&r, cancel(2)), WARREN__STATUS__STATUS_OK);
    canceled(a);
    canceled(attach(2, 0, true));
    CHECK_EQ(fake_world_runs(r.world), 1);
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 3, "say x")), WARREN__STATUS__STATUS_OK);
    rig_deinit(&r);
}

/* --- quotas -------------------------------------------------------------------------------- */

static void over_quota(uint64_t corr, const char *text)
{
    Warren__Reply *end = rig_reply(&r, corr, PROTO_ENVELOPE_END);
    CHECK_EQ(end->status, WARREN__STATUS__STATUS_FULL);
    CHECK_STR(end->code, "QuotaExceeded");
    CHECK(strstr(end->text, text) != NULL);
    warren__reply__free_unpacked(end, NULL);
}

TEST(a_tenant_over_a_quota_is_told_which_and_others_are_not_bound)
{
    memset(&r, 0, sizeof r);
    r.sessions_max = 4;
    r.limits = (struct worker_quota_limits){.max = {[WORKER_QUOTA_SESSIONS] = 2,
                                                [WORKER_QUOTA_EXECUTIONS] = 2,
                                                [WORKER_QUOTA_REQUESTS] = 3,
                                                [WORKER_QUOTA_BYTES] = 64 << 10}};
    rig_init(&r);
    r.tenant = 1;
    uint64_t a = rig_exec(&r, "alice", 1, "say x\nhold");
    uint64_t b = rig_exec(&r, "bobby", 2, "say x\nhold");
    RIG_UNTIL(&r,
        rig_count(&r, a, PROTO_ENVELOPE_EVENT) == 1 && rig_count(&r, b, PROTO_ENVELOPE_EVENT) == 1);
    over_quota(rig_exec(&r, "carol", 3, "say x"), "sessions");
    over_quota(rig_exec(&r, "alice", 4, "say x"), "executions");
    uint64_t c = rig_exec(&r, "alice", 1, "say x\nhold"); /* joins, runs nothing new */
    RIG_UNTIL(&r, rig_count(&r, c, PROTO_ENVELOPE_EVENT) == 1);
    over_quota(attach(1, 0, false), "requests");
    r.tenant = 2;
    CHECK_EQ(rig_status(&r, rig_exec(&r, "dave", 5, "say x")), WARREN__STATUS__STATUS_OK);
    static char big[80 << 10] = "say x\nhold\n";
    memset(big + strlen(big), '\n', sizeof big - strlen(big) - 1);
    Warren__Reply *end = rig_reply(&r, rig_exec(&r, "dave", 6, big), PROTO_ENVELOPE_END);
    CHECK_EQ(end->status, WARREN__STATUS__STATUS_TOO_LARGE); /* never, however long it waits */
    CHECK_EQ(end->retry_after_ms, 0);
    warren__reply__free_unpacked(end, NULL);
    r.tenant = 1;
    CHECK_EQ(rig_status(&r, cancel(1)), WARREN__STATUS__STATUS_OK); /* never over a quota */
    fake_world_go_on(r.world);
    CHECK_EQ(rig_status(&r, a), WARREN__STATUS__STATUS_OK);
    CHECK_EQ(rig_status(&r, c), WARREN__STATUS__STATUS_OK);
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 7, "say x")), WARREN__STATUS__STATUS_OK);
    rig_deinit(&r);
}

TEST(quotas_outlive_a_worker)
{
    memset(&r, 0, sizeof r);
    r.sessions_max = 4;
    r.limits = (struct worker_quota_limits){
        .max = {[WORKER_QUOTA_SESSIONS] = 1, [WORKER_QUOTA_EXECUTIONS] = 1}};
    rig_init(&r);
    r.tenant = 1;
    uint64_t a = rig_exec(&r, "alice", 1, "say x\nhold");
    RIG_UNTIL(&r, rig_count(&r, a, PROTO_ENVELOPE_EVENT) == 1);
    rig_stop(&r);
    rig_start(&r);
    a = attach(1, 0, true);
    RIG_UNTIL(&r, rig_count(&r, a, PROTO_ENVELOPE_EVENT) == 1);
    over_quota(rig_exec(&r, "bobby", 2, "say x"), "sessions");
    over_quota(rig_exec(&r, "alice", 3, "say x"), "executions");
    fake_world_go_on(r.world);
    CHECK_EQ(rig_status(&r, a), WARREN__STATUS__STATUS_OK);
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 4, "say x")), WARREN__STATUS__STATUS_OK);
    rig_deinit(&r);
}

TEST(a_flood_of_one_tenant_is_not_before_another_ones_request)
{
    enum { FLOOD = 300 }; /* as many as leave in one frame: all are there at once */
    setup();
    r.tenant = 2;
    CHECK_EQ(rig_status(&r, rig_exec(&r, "alice", 1, "say x")), WARREN__STATUS__STATUS_OK);
    r.tenant = 1;
    Warren__Request q = WARREN__REQUEST__INIT;
    Warren__PoolGet g = WARREN__POOL_GET__INIT;
    q.op_case = WARREN__REQUEST__OP_POOL_GET;
    q.pool_get = &g;
    ev_check_stop(r.loop, &r.rpc->check); /* no turns until all of it is there */
    r.rpc->served = UINT32_MAX;
    uint64_t last = 0;
    for (int i = 0; i < FLOOD; i++) {
        last = rig_send(&r, PROTO_NET_CTL, NULL, &q);
    }
    r.tenant = 2;
    uint64_t quiet = rig_send(&r, PROTO_NET_CTL, NULL, &q);
    struct worker_rpc_stats s;
    RIG_UNTIL(&r, (worker_rpc_stats(r.rpc, &s), s.exchanges == FLOOD + 1));
    ev_check_start(r.loop, &r.rpc->check);
    uint32_t had = r.inbox_n;
    CHECK_EQ(rig_status(&r, quiet), WARREN__STATUS__STATUS_OK);
    CHECK(rig_got(&r, quiet, PROTO_ENVELOPE_END, 0) < &r.inbox[had + 100]); /* sent last of all */
    CHECK_EQ(rig_status(&r, last), WARREN__STATUS__STATUS_OK);
    rig_deinit(&r);
}

TEST(a_cancel_before_the_microvm_is_attached_again_is_not_lost)
{
    setup();
    uint64_t a = rig_exec_how(&r, "alice", 5, "hold", &(struct rig_exec_how){.detach = true});
    CHECK_EQ(rig_status(&r, a), WARREN__STATUS__STATUS_OK);
    rig_stop(&r);
    fake_world_freeze(r.world, true); /* its lease ran out, adoption waits for the next one */
    rig_start(&r);
    CHECK_EQ(rig_status(&r, cancel(5)), WARREN__STATUS__STATUS_OK);
    fake_world_freeze(r.world, false);
    Warren__Reply *end = rig_reply(&r, attach(5, 0, true), PROTO_ENVELOPE_END);
    CHECK_EQ(end->done->status, WARREN__DONE_STATUS__DONE_INTERRUPTED);
    warren__reply__free_unpacked(end, NULL);
    rig_deinit(&r);
}
