#include "scheduler/core/node.h"
#include "tests/lib/check.h"

/* One worker of a cluster with one voter, member of its first view, and its only group's one seat.
 */

static _Alignas(16) uint8_t memory[1 << 21];
static const struct sched_key key = {7, 8};

struct rig {
    struct sched_cfg cfg;
    struct sched_fx fx;
    struct sched_view view;
    struct sched_node n;
};

static void group(
    void *ctx, const struct sched_view *v, bool prev, uint32_t part, struct sched_group *ret)
{
    (void)ctx, (void)prev, (void)part;
    *ret = (struct sched_group){v->num == 0 ? 0 : 1, {{10, 2}}};
}

static void step(struct rig *g, uint64_t at_ms, const struct sched_msg *m)
{
    struct sched_event ev = {
        .kind = m == NULL ? SCHED_EV_TICK : SCHED_EV_MSG, .now_ns = SCHED_MS(at_ms), .msg = m};
    sched_fx_clear(&g->fx);
    sched_node_step(&g->n, &ev, &g->fx);
}

static const struct sched_fx_item *effect(const struct rig *g, uint8_t kind)
{
    for (uint32_t i = 0; i < g->fx.n; i++) {
        if (g->fx.items[i].kind == kind) {
            return &g->fx.items[i];
        }
    }
    return NULL;
}

/* Its second life, with a session in `state` under epoch 5 since 1 ms. */
static void rig_init(struct rig *g, uint8_t state, uint32_t cooldown_ms, uint32_t max_alive_ms)
{
    struct sched_mem mem = {.base = memory, .size = sizeof memory};
    memset(g, 0, sizeof *g);
    g->cfg = (struct sched_cfg){.pbits = 4,
        .n_voters = 1,
        .voters = {1},
        .members_max = 4,
        .lease_ms = 6000,
        .renew_ms = 1500,
        .stuck_ms = 4000,
        .regs_max = 8,
        .sess_max = 4,
        .execs_max = 4,
        .ops_max = 4,
        .keep_ms = 30000,
        .cooldown_ms = cooldown_ms,
        .max_alive_ms = max_alive_ms};
    sched_fx_init(&g->fx, &mem);
    sched_view_init(&g->view, 4, &mem);
    g->view.num = 1;
    CHECK_EQ(sched_view_admit(&g->view, (struct sched_host){10, 2}, 0, 100), 0);
    struct sched_node_boot b = {.node = 10, .inc = 2, .run = 1, .now_ns = 1, .placer = {g, group}};
    sched_node_init(&g->n, &g->cfg, &mem, &b);
    struct sched_row row = {.kind = SCHED_ROW_VIEW, .view = &g->view, .num = 1};
    sched_node_restore(&g->n, &row);
    row = (struct sched_row){.kind = SCHED_ROW_SESS,
        .state = state,
        .key = key,
        .born_ns = SCHED_MS(1),
        .rec = {.state = SCHED_REC_LIVE,
            .host = {10, 2},
            .epoch = 5,
            .view = 1,
            .cooldown_ms = cooldown_ms}};
    sched_node_restore(&g->n, &row);
    sched_node_resume(&g->n);
}

static void lease(struct rig *g, uint64_t at_ms)
{
    struct sched_msg m = {.type = SCHED_MSG_GRANT, .from = 1, .grant = {.inc = 2}};
    g->n.lease.renew_at_ns = 0;
    step(g, at_ms, NULL);
    m.grant.seq = g->n.lease.seq;
    step(g, at_ms, &m);
}

static enum sched_node_says says(const struct rig *g, uint64_t at_ms, uint64_t epoch, uint32_t inc)
{
    return sched_node_check(&g->n, SCHED_MS(at_ms), key, epoch, inc);
}

TEST(a_host_tells_its_sessions_from_those_of_an_earlier_life)
{
    struct rig g;
    rig_init(&g, SCHED_SESS_LIVE, 5000, 60000);
    CHECK_EQ(says(&g, 10, 5, 2), SCHED_NODE_NOT_NOW); /* no lease: it cannot promise anything */
    CHECK_EQ(says(&g, 10, 5, 1), SCHED_NODE_NOT_NOW);
    lease(&g, 10);
    CHECK_EQ(says(&g, 10, 5, 2), SCHED_NODE_HERE);
    CHECK_EQ(says(&g, 10, 4, 2), SCHED_NODE_NOT_HERE);
    CHECK_EQ(says(&g, 10, 4, 1), SCHED_NODE_EARLIER);
    CHECK_EQ(says(&g, 10, 5, 1), SCHED_NODE_EARLIER);
    CHECK_EQ(says(&g, 7000, 5, 2), SCHED_NODE_NOT_NOW);
    rig_init(&g, SCHED_SESS_STOPPING, 5000, 60000);
    lease(&g, 10);
    CHECK_EQ(says(&g, 10, 5, 2), SCHED_NODE_NOT_NOW);
    rig_init(&g, SCHED_SESS_ENDED, 5000, 60000);
    lease(&g, 10);
    CHECK_EQ(says(&g, 10, 5, 2), SCHED_NODE_NOT_HERE);
}

/* Whether it gives a place to an identifier of this pool. */
static bool gives_place(struct rig *g, uint64_t at_ms, uint64_t pool)
{
    struct sched_msg m = {
        .type = SCHED_MSG_RESERVE, .from = 11, .resv = {.op = 1, .key = {at_ms, pool}}};
    step(g, at_ms, &m);
    const struct sched_fx_item *it = effect(g, SCHED_FX_SEND);
    CHECK(it != NULL && it->msg.type == SCHED_MSG_RESERVED);
    return it->msg.resv.resv != 0;
}

TEST(a_pool_that_is_shut_gets_no_place_for_a_while)
{
    struct rig g;
    rig_init(&g, SCHED_SESS_LIVE, 5000, 60000);
    lease(&g, 10);
    struct sched_event shut = {
        .kind = SCHED_EV_SHUT, .now_ns = SCHED_MS(20), .vm.key = {1, 5}, .grace_ms = 1000};
    sched_fx_clear(&g.fx);
    sched_node_step(&g.n, &shut, &g.fx);
    CHECK(!gives_place(&g, 1000, 5));
    CHECK(gives_place(&g, 1001, 6));
    shut.all = true;
    sched_fx_clear(&g.fx);
    sched_node_step(&g.n, &shut, &g.fx);
    CHECK(!gives_place(&g, 1002, 6));
    CHECK(gives_place(&g, 1100, 5));
}

TEST(a_view_from_a_worker_is_not_installed)
{
    struct rig g;
    rig_init(&g, SCHED_SESS_LIVE, 5000, 60000);
    struct sched_view forged = {.num = 2}, next = g.view;
    struct sched_msg m = {.type = SCHED_MSG_VIEW, .from = 11, .view = {&forged}};
    step(&g, 10, &m);
    CHECK_EQ(g.n.env.view->num, 1);
    CHECK(effect(&g, SCHED_FX_KILL_ALL) == NULL);
    struct sched_msg pull = {.type = SCHED_MSG_VPULL, .from = 11, .pull = {0}};
    step(&g, 10, &pull); /* nor does it pass one on */
    CHECK(effect(&g, SCHED_FX_SEND) == NULL);
    next.num = 2;
    m = (struct sched_msg){.type = SCHED_MSG_VIEW, .from = 1, .view = {&next}};
    step(&g, 10, &m);
    CHECK_EQ(g.n.env.view->num, 2);
}

TEST(sessions_that_never_cool_down_outlive_every_number_of_milliseconds)
{
    struct rig g;
    uint64_t year_ms = UINT64_C(366) * 86400000;
    rig_init(&g, SCHED_SESS_LIVE, SCHED_NEVER_MS, SCHED_NEVER_MS);
    step(&g, year_ms, NULL);
    CHECK(effect(&g, SCHED_FX_VM_STOP) == NULL);
    rig_init(&g, SCHED_SESS_LIVE, SCHED_NEVER_MS, SCHED_NEVER_MS - 1);
    step(&g, year_ms, NULL);
    CHECK(effect(&g, SCHED_FX_VM_STOP) != NULL);
    rig_init(&g, SCHED_SESS_LIVE, SCHED_NEVER_MS - 1, SCHED_NEVER_MS);
    step(&g, year_ms, NULL);
    CHECK(effect(&g, SCHED_FX_VM_STOP) != NULL);
}

static const struct sched_key other = {9, 9};

/* It has voted for `old` as the record of `other`. */
static void with_register(struct rig *g, const struct sched_rec *old)
{
    static struct sched_part parts[16];
    rig_init(g, SCHED_SESS_LIVE, 5000, 60000);
    for (size_t i = 0; i < 16; i++) {
        parts[i] = (struct sched_part){.era = 1, .settled = 1};
    }
    struct sched_row row = {.kind = SCHED_ROW_PARTS, .n = 16, .parts = parts};
    sched_node_restore(&g->n, &row);
    row = (struct sched_row){.kind = SCHED_ROW_REG,
        .key = other,
        .promised = old->epoch,
        .accepted = old->epoch,
        .rec = *old};
    sched_node_restore(&g->n, &row);
    lease(g, 10);
}

/* The record that this worker's claim writes over `old`, as its own BIND says. */
static struct sched_rec successor(struct rig *g, const struct sched_rec *old)
{
    with_register(g, old);
    struct sched_msg open = {
        .type = SCHED_MSG_OPEN, .from = 11, .open = {.rid = 1, .key = other, .view = 1}};
    step(g, 11, &open);
    for (uint32_t i = 0; i < g->fx.n; i++) {
        const struct sched_fx_item *it = &g->fx.items[i];
        if (it->kind == SCHED_FX_SEND && it->msg.type == SCHED_MSG_BIND) {
            return it->msg.bind.rec;
        }
    }
    CHECK(false);
    return *old;
}

TEST(a_session_is_in_doubt_about_those_in_which_something_may_have_run)
{
    static const struct sched_host here = {10, 2}; /* {10, 1} is an earlier life, {20, 1} dead */
    static const struct {
        struct sched_host host;
        uint8_t state;
        bool moved, ran, idle, then_moved, then_ran;
    } cases[] = {
        {{10, 2}, SCHED_REC_NONE, false, false, false, false, false},
        {{10, 2}, SCHED_REC_ENDED, false, false, false, false, true},
        {{10, 2}, SCHED_REC_ENDED, false, false, true, false, false},
        {{10, 2}, SCHED_REC_ENDED, false, true, true, false, true},
        {{10, 2}, SCHED_REC_ENDED, true, false, true, true, false},
        {{10, 1}, SCHED_REC_LIVE, false, false, false, true, false},
        {{20, 1}, SCHED_REC_LIVE, false, false, false, true, false},
        {{20, 1}, SCHED_REC_ENDED, false, false, false, true, false},
        {{20, 1}, SCHED_REC_ENDED, false, false, true, false, false}, /* it was only full */
        {{20, 1}, SCHED_REC_ENDED, false, true, true, true, false},
        {{20, 1}, SCHED_REC_ENDED, true, false, true, true, false},
        {{20, 1}, SCHED_REC_LIVE, false, false, true, true, false}, /* who says so is dead */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rig g;
        struct sched_rec old = {.epoch = sched_epoch_make(1, 1, 0),
            .host = cases[i].host,
            .view = 1,
            .state = cases[i].state,
            .moved = cases[i].moved,
            .ran = cases[i].ran,
            .idle = cases[i].idle};
        struct sched_rec rec = successor(&g, &old);
        CHECK(sched_host_eq(rec.host, here) && rec.epoch > old.epoch && !rec.idle);
        CHECK_EQ(rec.moved, cases[i].then_moved);
        CHECK_EQ(rec.ran, cases[i].then_ran);
    }
}

static const struct sched_m_bind *answered(const struct rig *g, uint8_t type)
{
    for (uint32_t i = 0; i < g->fx.n; i++) {
        const struct sched_fx_item *it = &g->fx.items[i];
        if (it->kind == SCHED_FX_SEND && it->msg.type == type) {
            return &it->msg.bind;
        }
    }
    return NULL;
}

TEST(a_host_says_of_a_session_that_is_over_whether_something_ran_in_it)
{
    for (unsigned idle = 0; idle < 2; idle++) {
        struct rig g;
        rig_init(&g, SCHED_SESS_LIVE, 5000, 60000);
        lease(&g, 10);
        struct sched_event down = {.kind = SCHED_EV_VM_DOWN,
            .now_ns = SCHED_MS(11),
            .vm = {.key = key, .epoch = 5},
            .idle = idle == 1};
        struct sched_msg gone = {.type = SCHED_MSG_GONEQ,
            .from = 11,
            .bind = {.key = key, .rec = {.epoch = 5, .host = {10, 2}, .state = SCHED_REC_LIVE}}};
        step(&g, 11, &gone);
        CHECK(answered(&g, SCHED_MSG_ALIVE) != NULL && !answered(&g, SCHED_MSG_ALIVE)->rec.idle);
        sched_fx_clear(&g.fx);
        sched_node_step(&g.n, &down, &g.fx);
        step(&g, 12, &gone);
        CHECK(answered(&g, SCHED_MSG_GONE) != NULL);
        CHECK_EQ(answered(&g, SCHED_MSG_GONE)->rec.idle, idle == 1);
        gone.bind.rec.epoch = 4; /* nothing is known of it any more */
        step(&g, 12, &gone);
        CHECK(answered(&g, SCHED_MSG_GONE) != NULL && !answered(&g, SCHED_MSG_GONE)->rec.idle);
        step(&g, 500, NULL); /* and in what it reports */
        CHECK(answered(&g, SCHED_MSG_END) != NULL);
        CHECK_EQ(answered(&g, SCHED_MSG_END)->rec.idle, idle == 1);
    }
}

static bool ended(const struct rig *g)
{
    for (uint32_t i = 0; i < g->fx.n; i++) {
        const struct sched_row *row = &g->fx.items[i].row;
        if (g->fx.items[i].kind == SCHED_FX_STORE && row->kind == SCHED_ROW_REG &&
            row->rec.state == SCHED_REC_ENDED) {
            return true;
        }
    }
    return false;
}

TEST(only_its_own_host_ends_a_session)
{
    struct rig g;
    struct sched_rec live = {.epoch = sched_epoch_make(1, 1, 0),
        .host = {10, 2},
        .view = 1,
        .cooldown_ms = 5000,
        .state = SCHED_REC_LIVE};
    struct sched_msg end = {
        .type = SCHED_MSG_END, .from = 11, .bind = {.op = 1, .key = other, .rec = live}};
    end.bind.rec.host = (struct sched_host){11, 1};
    end.bind.rec.idle = true;
    with_register(&g, &live);
    step(&g, 11, &end);
    CHECK(!ended(&g));
    end.from = 10;
    end.bind.rec.host = live.host;
    step(&g, 12, &end);
    CHECK(ended(&g));
}

static struct sched_rec bound_to(const struct rig *g)
{
    const struct sched_m_bind *b = answered(g, SCHED_MSG_BIND);
    CHECK(b != NULL);
    return b != NULL ? b->rec : (struct sched_rec){0};
}

/* The session that an execution, which may travel with it, is bound to. */
static struct sched_rec open_with(struct rig *g, struct sched_exec exec)
{
    struct sched_msg open = {.type = SCHED_MSG_OPEN,
        .from = 11,
        .open = {
            .rid = 1, .key = other, .view = 1, .exec = exec, .has_exec = true, .exec_view = 1}};
    step(g, 11, &open);
    return bound_to(g);
}

/* Its host does not start it. */
static void refuse_bind(struct rig *g, uint64_t at_ms, const struct sched_rec *rec, bool idle)
{
    struct sched_msg unbound = {.type = SCHED_MSG_UNBOUND,
        .from = 10,
        .bind = {.op = answered(g, SCHED_MSG_BIND)->op, .key = other, .rec = *rec}};
    unbound.bind.rec.idle = idle;
    step(g, at_ms, &unbound);
}

TEST(an_execution_travels_again_when_the_session_it_came_with_has_run_nothing)
{
    for (unsigned idle = 0; idle < 2; idle++) {
        struct rig g;
        struct sched_rec none = {0};
        with_register(&g, &none);
        struct sched_rec first = open_with(&g, (struct sched_exec){3, 4});
        CHECK(first.inline_epoch == first.epoch && first.inline_id.lo == 4);
        refuse_bind(&g, 12, &first, idle == 1);
        for (uint64_t ms = 13; ms < 600 && answered(&g, SCHED_MSG_BIND) == NULL; ms++) {
            step(&g, ms, NULL);
        }
        struct sched_rec second = bound_to(&g);
        CHECK(second.epoch > first.epoch);
        CHECK_EQ(second.inline_epoch, idle == 1 ? second.epoch : first.epoch);
    }
}

TEST(an_execution_does_not_travel_again_when_another_session_came_between)
{
    struct rig g;
    struct sched_rec old = {.epoch = sched_epoch_make(1, 1, 1),
        .host = {10, 2},
        .view = 1,
        .cooldown_ms = 5000,
        .inline_id = {7, 7},
        .inline_epoch = sched_epoch_make(1, 1, 1),
        .state = SCHED_REC_LIVE};
    with_register(&g, &old);
    struct sched_rec first = open_with(&g, (struct sched_exec){3, 4});
    refuse_bind(&g, 11, &first, true);
    /* Another coordinator's session, in which the execution has run: it is over. */
    struct sched_rec between = first;
    between.epoch = sched_epoch_make(1, 5, 1);
    between.host = (struct sched_host){20, 1};
    between.state = SCHED_REC_ENDED;
    struct sched_msg acc = {
        .type = SCHED_MSG_ACC, .from = 12, .acc = {1, other, sched_epoch_make(1, 6, 1), between}};
    step(&g, 11, &acc);
    for (uint64_t ms = 12; ms < 1500 && answered(&g, SCHED_MSG_BIND) == NULL; ms++) {
        step(&g, ms, NULL);
    }
    struct sched_rec second = bound_to(&g);
    CHECK(second.epoch > between.epoch && second.moved);
    CHECK(second.inline_id.lo == 7 && second.inline_epoch == old.epoch);
}

static void say(struct rig *g, uint64_t at_ms, enum sched_event_kind kind, bool stay)
{
    struct sched_event ev = {
        .kind = kind, .now_ns = SCHED_MS(at_ms), .grace_ms = SCHED_NEVER_MS, .stay = stay};
    sched_fx_clear(&g->fx);
    sched_node_step(&g->n, &ev, &g->fx);
}

TEST(a_worker_takes_sessions_again_after_its_drain_but_not_when_it_has_left)
{
    struct rig g;
    rig_init(&g, SCHED_SESS_ENDED, 5000, 60000);
    lease(&g, 10);
    say(&g, 11, SCHED_EV_UNDRAIN, false); /* nothing to undo */
    CHECK(!g.n.sess.closed);
    say(&g, 12, SCHED_EV_DRAIN, true);
    CHECK(g.n.sess.closed);
    say(&g, 13, SCHED_EV_UNDRAIN, false);
    CHECK(!g.n.sess.closed);
    CHECK_EQ(g.n.lease.renew_at_ns, SCHED_MS(13)); /* the voters hear of it at once */
    CHECK_EQ(sched_view_weigh(&g.view, 10, 0), 0); /* no seats any more */
    say(&g, 14, SCHED_EV_DRAIN, false);
    struct sched_msg known = {
        .type = SCHED_MSG_ENDED, .from = 10, .bind = {.key = key, .rec = {.epoch = 5}}};
    step(&g, 14, &known); /* its last session */
    for (uint64_t ms = 15; ms < 2000 && !sched_drain_left(&g.n.drain); ms += 100) {
        step(&g, ms, NULL);
    }
    CHECK(sched_drain_left(&g.n.drain));
    say(&g, 2000, SCHED_EV_UNDRAIN, false);
    CHECK(g.n.sess.closed && sched_drain_left(&g.n.drain));
}

TEST(who_looks_for_a_session_that_is_not_there_gets_no_place)
{
    struct rig g;
    rig_init(&g, SCHED_SESS_LIVE, 5000, 60000);
    struct sched_part parts[16];
    for (uint32_t i = 0; i < 16; i++) {
        parts[i] = (struct sched_part){.era = 1, .settled = 1};
    }
    struct sched_row row = {.kind = SCHED_ROW_PARTS, .n = 16, .parts = parts};
    sched_node_restore(&g.n, &row);
    lease(&g, 10);
    struct sched_msg m = {.type = SCHED_MSG_OPEN,
        .from = 99,
        .open = {.rid = 4, .key = {9, 9}, .view = 1, .look = true}};
    uint32_t used = g.n.sess.used;
    step(&g, 20, &m);
    const struct sched_fx_item *it = effect(&g, SCHED_FX_SEND);
    CHECK(it != NULL && it->msg.type == SCHED_MSG_RETRY && it->msg.to == 99);
    CHECK(it->msg.retry.rid == 4 && it->msg.retry.why == SCHED_RETRY_NONE);
    CHECK_EQ(g.n.sess.used, used);
    CHECK_EQ(g.n.coord.used, 0);
    m.open.look = false;
    step(&g, 30, &m);
    CHECK_EQ(g.n.sess.used, used + 1);
}
