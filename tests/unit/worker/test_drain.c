#include "proto/base/clock.h"
#include "proto/base/err.h"
#include "tests/lib/check.h"
#include "worker/wire/order.h"

#define S BASE_NS_PER_S

static unsigned start(struct worker_drain *d, enum worker_drain_policy policy, bool leave)
{
    struct worker_drain_order o = {.policy = policy, .grace_ms = 60000, .leave = leave};
    return worker_drain_start(d, &o, 100 * S);
}

TEST(a_drain_that_waits_is_done_when_the_last_session_is_gone)
{
    struct worker_drain d = {.deadline_ns = UINT64_MAX};
    CHECK_EQ(worker_drain_look(&d, true, 1), 0); /* in service, and idle */
    CHECK_EQ(start(&d, WORKER_DRAIN_WAIT, false), WORKER_DRAIN_DO_STOP);
    CHECK(worker_drain_deadline_ns(&d) == UINT64_MAX);
    CHECK_EQ(worker_drain_look(&d, false, 1000000 * S), 0);
    CHECK_EQ(d.phase, WORKER_DRAIN_DRAINING);
    CHECK_EQ(worker_drain_look(&d, true, 1000001 * S), WORKER_DRAIN_DO_TELL);
    CHECK_EQ(d.phase, WORKER_DRAIN_DRAINED);
    CHECK_EQ(worker_drain_look(&d, true, 1000002 * S), 0); /* told once */
}

TEST(a_deadline_ends_the_sessions_once)
{
    struct worker_drain d = {.deadline_ns = UINT64_MAX};
    CHECK_EQ(start(&d, WORKER_DRAIN_DEADLINE, true), WORKER_DRAIN_DO_STOP);
    CHECK_EQ(worker_drain_deadline_ns(&d), 160 * S);
    CHECK_EQ(worker_drain_look(&d, false, 160 * S - 1), 0);
    CHECK_EQ(worker_drain_look(&d, false, 160 * S), WORKER_DRAIN_DO_END);
    CHECK_EQ(worker_drain_look(&d, false, 161 * S), 0);
    CHECK(worker_drain_deadline_ns(&d) == UINT64_MAX);
    CHECK_EQ(worker_drain_look(&d, true, 162 * S), WORKER_DRAIN_DO_TELL | WORKER_DRAIN_DO_LEAVE);
}

TEST(an_end_is_now_and_replaces_a_patient_order)
{
    struct worker_drain d = {.deadline_ns = UINT64_MAX};
    CHECK_EQ(start(&d, WORKER_DRAIN_WAIT, false), WORKER_DRAIN_DO_STOP);
    CHECK_EQ(start(&d, WORKER_DRAIN_END, false), WORKER_DRAIN_DO_STOP | WORKER_DRAIN_DO_END);
    CHECK_EQ(worker_drain_look(&d, false, 500 * S), 0);
    CHECK_EQ(worker_drain_look(&d, true, 501 * S), WORKER_DRAIN_DO_TELL);
}

TEST(it_can_be_called_off_until_the_process_ends)
{
    struct worker_drain d = {.deadline_ns = UINT64_MAX};
    unsigned what = 99;
    CHECK_EQ(worker_drain_stop(&d, &what), 0); /* was not on */
    CHECK_EQ(what, 0);
    (void)start(&d, WORKER_DRAIN_DEADLINE, true);
    CHECK_EQ(worker_drain_stop(&d, &what), 0);
    CHECK_EQ(what, WORKER_DRAIN_DO_START | WORKER_DRAIN_DO_TELL);
    CHECK_EQ(worker_drain_look(&d, false, 999 * S), 0); /* its deadline is off too */
    (void)start(&d, WORKER_DRAIN_WAIT, false);
    (void)worker_drain_look(&d, true, 1000 * S);
    CHECK_EQ(worker_drain_stop(&d, &what), 0); /* drained, and back */
    (void)start(&d, WORKER_DRAIN_WAIT, true);
    CHECK(worker_drain_look(&d, true, 1001 * S) & WORKER_DRAIN_DO_LEAVE);
    CHECK_EQ(worker_drain_stop(&d, &what), BASE_ESTATE);
    CHECK_EQ(what, 0);
}

static int parse(const char *line, struct worker_admin_order *o)
{
    return worker_admin_parse(line, strlen(line), o);
}

TEST(orders_are_read)
{
    struct worker_admin_order o;
    CHECK_EQ(parse("drain wait", &o), 0);
    CHECK(o.kind == WORKER_ADMIN_DRAIN && o.drain.policy == WORKER_DRAIN_WAIT && !o.drain.leave);
    CHECK_EQ(parse("drain  deadline 604800000  leave ", &o), 0);
    CHECK(o.drain.policy == WORKER_DRAIN_DEADLINE && o.drain.leave);
    CHECK_EQ(o.drain.grace_ms, WORKER_DRAIN_GRACE_MS_MAX);
    CHECK_EQ(parse("drain end leave", &o), 0);
    CHECK(o.drain.policy == WORKER_DRAIN_END && o.drain.leave);
    CHECK_EQ(parse("undrain", &o), 0);
    CHECK_EQ(o.kind, WORKER_ADMIN_UNDRAIN);
    CHECK_EQ(parse("status", &o), 0);
    CHECK_EQ(o.kind, WORKER_ADMIN_STATUS);
}

TEST(other_lines_are_refused_and_change_nothing)
{
    static const char *const bad[] = {"", " ", "drain", "drain now", "drain wait wait",
        "drain deadline", "drain deadline 5x", "drain deadline 604800001",
        "drain deadline 99999999999999999999", "drain deadline -1", "drain end leave more",
        "undrain now", "status ok", "DRAIN wait", "drainwait"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct worker_admin_order o = {.kind = 77};
        CHECK_EQ(parse(bad[i], &o), BASE_EINVAL);
        CHECK_EQ(o.kind, 77);
    }
    char zeros[WORKER_ADMIN_LINE_MAX + 10] = {0};
    struct worker_admin_order o;
    CHECK_EQ(worker_admin_parse(zeros, sizeof zeros, &o), BASE_EINVAL);
    CHECK_EQ(worker_admin_parse(zeros, 5, &o), BASE_EINVAL);
}
