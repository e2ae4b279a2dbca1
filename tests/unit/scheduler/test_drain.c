#include "scheduler/core/drain.h"

#include "scheduler/core/sess.h"
#include "tests/lib/check.h"

/* A worker that takes no new sessions: it leaves, it is out of service, it cannot start any. */

static _Alignas(16) uint8_t memory[1 << 20];

struct worker {
    struct sched_mem mem;
    struct sched_cfg cfg;
    struct sched_fx fx;
    struct sched_view view;
    struct sched_env env;
};

static void worker_init(struct worker *w)
{
    *w = (struct worker){.mem = {.base = memory, .size = sizeof memory}};
    w->cfg = (struct sched_cfg){
        .n_voters = 1, .voters = {1}, .lease_ms = 6000, .sess_max = 4, .reserve_ms = 2000};
    sched_fx_init(&w->fx, &w->mem);
    w->view = (struct sched_view){.cap = 8, .m = sched_mem_take(&w->mem, 8, sizeof *w->view.m)};
    CHECK_EQ(sched_view_admit(&w->view, (struct sched_host){10, 1}, 0, 100), 0);
    w->env = (struct sched_env){
        .cfg = &w->cfg, .fx = &w->fx, .view = &w->view, .me = {10, 1}, .now_ns = SCHED_MS(1000)};
}

static bool gave_back(const struct worker *w)
{
    for (uint32_t i = 0; i < w->fx.n; i++) {
        if (w->fx.items[i].kind == SCHED_FX_SEND && w->fx.items[i].msg.type == SCHED_MSG_RELINQ) {
            return true;
        }
    }
    return false;
}

TEST(a_draining_worker_leaves_when_it_has_no_seat_and_no_session)
{
    struct worker h;
    struct sched_drain d = {0};
    worker_init(&h);
    CHECK(!sched_drain_removed(&d));
    sched_drain_start(&d, &h.env, 1000, false);
    CHECK(!sched_drain_tick(&d, &h.env, 0));
    CHECK_EQ(d.phase, SCHED_DRAIN_SESSIONS); /* still has seats */
    CHECK_EQ(sched_view_weigh(&h.view, 10, 0), 0);
    h.env.now_ns += SCHED_MS(1000);
    CHECK(sched_drain_tick(&d, &h.env, 2)); /* grace is over: stop them */
    CHECK(!sched_drain_tick(&d, &h.env, 0));
    CHECK(gave_back(&h));
    CHECK(!sched_drain_stop(&d)); /* too late */
    sched_drain_start(&d, &h.env, 1000, true);
    CHECK_EQ(d.phase, SCHED_DRAIN_LEAVE);
    CHECK(sched_drain_removed(&d));
}

TEST(a_worker_that_stays_drains_without_giving_its_lease_back)
{
    struct worker h;
    struct sched_drain d = {0};
    worker_init(&h);
    CHECK_EQ(sched_view_weigh(&h.view, 10, 0), 0);
    sched_drain_start(&d, &h.env, SCHED_NEVER_MS, true);
    h.env.now_ns += SCHED_MS(UINT64_C(100) * 86400000);
    CHECK(!sched_drain_tick(&d, &h.env, 2)); /* nobody stops them */
    CHECK(!sched_drain_tick(&d, &h.env, 0));
    CHECK(sched_drain_on(&d) && !sched_drain_left(&d));
    CHECK(!gave_back(&h));
    CHECK(sched_drain_stop(&d));
    CHECK(!sched_drain_on(&d));
    sched_drain_start(&d, &h.env, SCHED_NEVER_MS, true);
    sched_drain_start(&d, &h.env, 0, false); /* it shall leave after all */
    (void)sched_drain_tick(&d, &h.env, 0);
    CHECK(sched_drain_left(&d));
    CHECK(gave_back(&h));
}

TEST(a_pool_that_cannot_start_sessions_refuses_its_own_only)
{
    struct worker w;
    struct sched_sess sess;
    struct sched_key one = {5, 6}, same = {7, UINT64_C(1) << SCHED_KEY_POOL_BITS | 6},
                     other = {5, 7};
    worker_init(&w);
    sched_sess_init(&sess, &w.cfg, &w.mem);
    sched_sess_shut_until(&sess, &w.env, &one, 5000);
    sched_sess_shut_until(&sess, &w.env, &same, 1000); /* no shorter than what was said before */
    CHECK_EQ(sched_sess_reserve(&sess, &w.env, one), 0);
    CHECK_EQ(sched_sess_reserve(&sess, &w.env, same), 0);
    CHECK(sched_sess_reserve(&sess, &w.env, other) != 0);
    CHECK(!sched_sess_shut(&sess, &w.env));
    w.env.now_ns += SCHED_MS(4999);
    CHECK(sched_sess_shut_for(&sess, &w.env, one));
    w.env.now_ns += SCHED_MS(1);
    CHECK(!sched_sess_shut_for(&sess, &w.env, one));
    sched_sess_shut_until(&sess, &w.env, NULL, 500);
    sched_sess_shut_until(&sess, &w.env, NULL, 400);
    w.env.now_ns += SCHED_MS(499);
    CHECK(sched_sess_shut(&sess, &w.env) && sched_sess_shut_for(&sess, &w.env, other));
    w.env.now_ns += SCHED_MS(1);
    CHECK(!sched_sess_shut_for(&sess, &w.env, other));
    for (uint64_t i = 0; i <= SCHED_SHUT_MAX; i++) { /* one too many: the first to end makes room */
        struct sched_key k = {1, 100 + i};
        sched_sess_shut_until(&sess, &w.env, &k, (uint32_t)(1000 + i));
    }
    for (uint64_t i = 0; i <= SCHED_SHUT_MAX; i++) {
        CHECK_EQ(sched_sess_shut_for(&sess, &w.env, (struct sched_key){1, 100 + i}), i > 0);
    }
}

TEST(who_cannot_start_sessions_has_no_place_for_a_while)
{
    struct worker w;
    struct sched_sess sess;
    struct sched_key k = {5, 6};
    worker_init(&w);
    sched_sess_init(&sess, &w.cfg, &w.mem);
    CHECK(sched_sess_reserve(&sess, &w.env, k) != 0);
    sess.shut_ns = w.env.now_ns + SCHED_MS(1000);
    CHECK_EQ(sched_sess_reserve(&sess, &w.env, k), 0);
    CHECK(!sess.permits.q[0].missed &&
          sched_sess_shut(&sess, &w.env)); /* a permit more would not help */
    w.env.now_ns += SCHED_MS(1000);
    CHECK(!sched_sess_shut(&sess, &w.env));
    CHECK(sched_sess_reserve(&sess, &w.env, k) != 0);
    sess.closed = true;
    CHECK(sched_sess_shut(&sess, &w.env));
}
