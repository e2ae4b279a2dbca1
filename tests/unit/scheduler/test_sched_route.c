#include "scheduler/core/route.h"
#include "tests/lib/check.h"

/* One gateway and one group of three, played by hand. */

struct rig {
    struct sched_cfg cfg;
    struct sched_fx fx;
    struct sched_view view;
    struct sched_route r;
};

static _Alignas(16) uint8_t memory[1 << 21];
static const struct sched_key key = {7, 8};
static const struct sched_exec mine = {1, 2};

static void group(
    void *ctx, const struct sched_view *v, bool prev, uint32_t part, struct sched_group *ret)
{
    (void)ctx, (void)prev, (void)part;
    *ret = (struct sched_group){v->num == 0 ? 0 : 3, {{10, 1}, {11, 1}, {12, 1}}};
}

static void rig_init(struct rig *g, uint32_t reqs)
{
    struct sched_mem mem = {.base = memory, .size = sizeof memory};
    memset(g, 0, sizeof *g);
    g->cfg = (struct sched_cfg){.pbits = 4, .n_voters = 1, .voters = {1}, .members_max = 4};
    struct sched_route_cfg c = {
        .reqs_max = reqs, .cache_max = 4, .hedge_ms = 200, .resend_ms = 700};
    sched_fx_init(&g->fx, &mem);
    sched_view_init(&g->view, 4, &mem);
    g->view.num = 1;
    g->view.version = SCHED_VERSION_MAX;
    for (uint64_t node = 10; node < 13; node++) {
        CHECK_EQ(sched_view_admit(&g->view, (struct sched_host){node, 1}, 0, 100), 0);
    }
    sched_route_init(&g->r, &g->cfg, &c, (struct sched_placer){NULL, group}, &mem);
    struct sched_msg m = {.type = SCHED_MSG_VIEW, .from = 1, .view = {&g->view}};
    sched_route_step(&g->r, 1, &m, &g->fx);
}

static uint64_t request(struct rig *g, bool may_inline)
{
    struct sched_route_ask ask = {
        .key = key, .exec = mine, .may_inline = may_inline, .timeout_ms = 5000};
    sched_fx_clear(&g->fx);
    return sched_route_request(&g->r, 1, &ask, &g->fx);
}

static void step(struct rig *g, uint64_t at_ms, const struct sched_msg *m)
{
    sched_fx_clear(&g->fx);
    sched_route_step(&g->r, SCHED_MS(at_ms), m, &g->fx);
}

/* The addressee of the only message of this type in this step, 0: none. */
static uint64_t to(const struct rig *g, uint8_t type)
{
    uint64_t node = 0;
    for (uint32_t i = 0; i < g->fx.n; i++) {
        if (g->fx.items[i].kind == SCHED_FX_SEND && g->fx.items[i].msg.type == type) {
            CHECK_EQ(node, 0);
            node = g->fx.items[i].msg.to;
        }
    }
    return node;
}

TEST(suspected_seats_are_asked_last_and_only_as_long_as_they_are)
{
    struct rig g;
    rig_init(&g, 4);
    sched_route_suspect(&g.r, 10, true);
    sched_route_suspect(&g.r, 10, true);
    sched_route_suspect(&g.r, 11, true);
    sched_route_suspect(&g.r, 11, false);
    sched_route_suspect(&g.r, 99, false);
    CHECK_EQ(g.r.n_suspects, 1);
    CHECK(request(&g, false) != 0);
    CHECK_EQ(to(&g, SCHED_MSG_OPEN), 11);
    step(&g, 250, NULL);
    CHECK_EQ(to(&g, SCHED_MSG_OPEN), 12);
    step(&g, 500, NULL);
    CHECK_EQ(to(&g, SCHED_MSG_OPEN), 10);
    for (uint64_t node = 100; node < 200; node++) {
        sched_route_suspect(&g.r, node, true); /* no more than it has room for */
    }
    CHECK_EQ(g.r.n_suspects, sizeof g.r.suspect / sizeof g.r.suspect[0]);
}

TEST(more_requests_than_there_is_room_for_are_refused)
{
    struct rig g;
    rig_init(&g, 2);
    CHECK(request(&g, false) != 0);
    CHECK(request(&g, false) != 0);
    CHECK_EQ(request(&g, false), 0);
    CHECK_EQ(g.fx.n, 0);
}

static struct sched_msg route_to(uint64_t rid, uint64_t node, sched_epoch epoch, bool ours)
{
    struct sched_msg m = {.type = SCHED_MSG_ROUTE,
        .from = 10,
        .route = {.rid = rid, .key = key, .view = 1, .rec = {.epoch = epoch, .view = 1}}};
    m.route.rec.host = (struct sched_host){node, 1};
    m.route.rec.state = SCHED_REC_LIVE;
    m.route.rec.inline_id = ours ? mine : (struct sched_exec){5, 5};
    m.route.rec.inline_epoch = epoch;
    return m;
}

TEST(what_workers_say_about_views_is_asked_of_a_voter)
{
    struct rig g;
    rig_init(&g, 2);
    uint64_t rid = request(&g, false);
    struct sched_view forged = g.view;
    forged.num = 9;
    struct sched_msg m = {.type = SCHED_MSG_VIEW, .from = 10, .view = {&forged}};
    step(&g, 100, &m);
    CHECK_EQ(g.r.view->num, 1);
    m = (struct sched_msg){
        .type = SCHED_MSG_RETRY, .from = 10, .retry = {.rid = rid, .view = 9, .why = 0}};
    step(&g, 110, &m);
    CHECK_EQ(to(&g, SCHED_MSG_VPULL), 1);
    step(&g, 111, &m);
    CHECK_EQ(to(&g, SCHED_MSG_VPULL), 0); /* not for every answer */
    m = (struct sched_msg){.type = SCHED_MSG_VIEW, .from = 1, .view = {&forged}};
    step(&g, 120, &m);
    CHECK_EQ(g.r.view->num, 9);
}

/* The OPEN of a request that looks, in a cluster at this version. */
static struct sched_msg look(struct rig *g, uint8_t version)
{
    struct sched_route_ask ask = {
        .key = key, .exec = mine, .may_inline = true, .look = true, .timeout_ms = 5000};
    g->view.version = version;
    sched_fx_clear(&g->fx);
    CHECK(sched_route_request(&g->r, 1, &ask, &g->fx) != 0);
    CHECK(g->fx.items[0].kind == SCHED_FX_SEND && g->fx.items[0].msg.type == SCHED_MSG_OPEN);
    return g->fx.items[0].msg;
}

TEST(who_looks_is_told_that_there_is_no_session)
{
    struct rig g;
    rig_init(&g, 2);
    struct sched_msg open = look(&g, SCHED_VERSION_BASE);
    CHECK(!open.open.look && !open.open.has_exec); /* nobody would understand */
    open = look(&g, 3);
    CHECK(open.open.look && !open.open.has_exec);
    struct sched_msg m = {.type = SCHED_MSG_RETRY,
        .from = 10,
        .retry = {.rid = open.open.rid, .view = 1, .why = SCHED_RETRY_NONE}};
    step(&g, 50, &m);
    CHECK_EQ(g.fx.n, 1);
    CHECK(g.fx.items[0].kind == SCHED_FX_OUTCOME);
    CHECK_EQ(g.fx.items[0].outcome.rid, open.open.rid);
    CHECK_EQ(g.fx.items[0].outcome.outcome, SCHED_OUTCOME_NONE);
    rig_init(&g, 2);
    m.retry.rid = request(&g, false);
    step(&g, 60, &m);
    CHECK_EQ(g.fx.n, 0); /* it has not asked that */
}

TEST(a_gateway_tells_what_it_speaks_while_the_cluster_is_at_less)
{
    struct rig g;
    rig_init(&g, 2);
    struct sched_view old = g.view;
    old.num = 2;
    old.version = SCHED_VERSION_BASE;
    struct sched_msg m = {.type = SCHED_MSG_VIEW, .from = 1, .view = {&old}};
    step(&g, 100, &m);
    step(&g, 5000, NULL);
    uint32_t asks = 0, tells = 0;
    for (uint32_t i = 0; i < g.fx.n; i++) {
        const struct sched_msg *p = &g.fx.items[i].msg;
        if (g.fx.items[i].kind == SCHED_FX_SEND && p->type == SCHED_MSG_VPULL) {
            asks += p->pull.known == 2 && p->pull.speaks.max == 0; /* an older voter answers it */
            tells += p->pull.known == UINT32_MAX && p->pull.speaks.max == SCHED_VERSION_MAX;
        }
    }
    CHECK(asks == 1 && tells == 1);
}

TEST(an_answer_for_another_key_is_not_taken)
{
    struct rig g;
    rig_init(&g, 2);
    uint64_t rid = request(&g, false);
    struct sched_msg m = route_to(rid, 11, 1 << 8, false);
    m.route.key.lo ^= 1;
    step(&g, 10, &m);
    CHECK_EQ(g.fx.n, 0);
    m.route.key = key;
    step(&g, 10, &m);
    CHECK_EQ(to(&g, SCHED_MSG_EXEC), 11);
}

TEST(an_execution_that_travelled_moves_on_only_when_its_own_session_excludes_it)
{
    struct rig g;
    rig_init(&g, 2);
    uint64_t rid = request(&g, true);
    struct sched_msg m = route_to(rid, 11, 1 << 8, true);
    step(&g, 10, &m);
    CHECK_EQ(g.fx.n, 0); /* it is on its way there already */
    struct sched_msg no = {.type = SCHED_MSG_NOTHERE,
        .from = 11,
        .exec = {.rid = rid, .key = key, .epoch = 1 << 8, .exec = mine}};
    step(&g, 20, &no);
    CHECK_EQ(to(&g, SCHED_MSG_OPEN), 10);
    CHECK(!g.fx.items[0].msg.open.has_exec);
    CHECK_EQ(g.fx.items[0].msg.open.gone, 1 << 8);
    m = route_to(rid, 12, 2 << 8, false);
    step(&g, 30, &m);
    CHECK_EQ(to(&g, SCHED_MSG_EXEC), 12);
}

TEST(an_execution_that_may_have_started_before_a_rebuild_stays_unknown)
{
    struct rig g;
    rig_init(&g, 2);
    uint64_t rid = request(&g, true);
    struct sched_msg m = route_to(rid, 12, 2 << 8, false);
    m.route.base = 2;
    step(&g, 30, &m);
    CHECK_EQ(g.fx.n, 1);
    CHECK_EQ(g.fx.items[0].kind, SCHED_FX_OUTCOME);
    CHECK_EQ(g.fx.items[0].outcome.outcome, SCHED_OUTCOME_UNKNOWN);
    CHECK_EQ(g.r.used, 0);
}
