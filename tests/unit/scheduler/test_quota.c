#include "scheduler/core/node.h"
#include "scheduler/core/permits.h"
#include "scheduler/core/voter.h"
#include "scheduler/wire/wire.h"
#include "tests/lib/check.h"

/* One host at a time, one voter of three with the other two played by hand. Many of each under
 * faults are the simulator's business. */

enum { MAX = 10, CHUNK = 2 };

struct rig {
    struct sched_cfg cfg;
    struct sched_fx fx;
    struct sched_view view;
    struct sched_env env; /* of a host */
    struct base_hash_rng rng;
    struct sched_permits p;
    struct sched_pool_max pools[4];
    struct sched_quota_keep k;
    struct sched_quota_env voter;
};

static _Alignas(16) uint8_t memory[1 << 21];

static void rig_init(struct rig *r, uint32_t voters)
{
    struct sched_mem mem = {.base = memory, .size = sizeof memory};
    memset(r, 0, sizeof *r);
    r->cfg = (struct sched_cfg){.n_voters = voters, .members_max = 4, .quota = {MAX, CHUNK}};
    for (uint32_t i = 0; i < voters; i++) {
        r->cfg.voters[i] = i + 1;
    }
    sched_fx_init(&r->fx, &mem);
    sched_view_init(&r->view, 4, &mem);
    r->view.num = 1;
    for (uint64_t node = 10; node < 13; node++) {
        CHECK_EQ(sched_view_admit(&r->view, (struct sched_host){node, 1}, 0, 100), 0);
    }
    base_hash_rng_seed(&r->rng, 1);
    r->env = (struct sched_env){
        .cfg = &r->cfg, .fx = &r->fx, .view = &r->view, .me = {10, 1}, .now_ns = SCHED_MS(1000)};
    sched_permits_init(&r->p, &r->cfg);
    sched_quota_keep_init(&r->k, &r->cfg, 0, &mem);
    r->pools[0].max = MAX;
    CHECK(mem.used <= mem.size);
    r->voter = (struct sched_quota_env){
        .voter = {.cfg = &r->cfg, .fx = &r->fx, .rng = &r->rng, .now_ns = SCHED_MS(1000)},
        .known = &r->view,
        .version = 1,
        .n_pools = 1,
        .pools = r->pools};
}

static const struct sched_msg *sent(const struct rig *r, uint8_t type, uint64_t to)
{
    for (uint32_t i = 0; i < r->fx.n; i++) {
        const struct sched_fx_item *it = &r->fx.items[i];
        if (it->kind == SCHED_FX_SEND && it->msg.type == type && it->msg.to == to) {
            return &it->msg;
        }
    }
    return NULL;
}

/* ---- the host ---- */

/* True: nothing that was missed is left to be asked for. */
static bool host_tick(struct rig *r, uint64_t after_ms, uint32_t used, bool missed)
{
    sched_fx_clear(&r->fx);
    r->env.now_ns += SCHED_MS(after_ms);
    r->p.q[0].used = used;
    r->p.q[0].missed = missed;
    sched_permits_tick(&r->p, &r->env, true);
    return r->p.q[0].missed == 0;
}

static void host_has(struct rig *r, uint32_t permits, uint64_t seq, uint32_t inc)
{
    struct sched_msg m = {
        .type = SCHED_MSG_QHAVE, .quota = {.permits = permits, .seq = seq, .inc = inc}};
    (void)sched_permits_have(&r->p, &r->env, &m);
}

TEST(a_host_asks_when_it_missed_one_and_may_use_what_it_was_given)
{
    struct rig r;
    rig_init(&r, 3);
    CHECK_EQ(r.p.q[0].limit, 0);
    (void)host_tick(&r, 0, 0, false);
    CHECK_EQ(r.fx.n, 0);
    CHECK(host_tick(&r, 0, 0, true));
    const struct sched_msg *m = sent(&r, SCHED_MSG_QWANT, 1);
    CHECK(m != NULL && m->quota.permits == CHUNK && m->quota.inc == 1);
    host_has(&r, 2, m->quota.seq, 2); /* of another life */
    host_has(&r, 2, m->quota.seq + 1, 1);
    CHECK_EQ(r.p.q[0].limit, 0);
    host_has(&r, 2, m->quota.seq, 1);
    CHECK_EQ(r.p.q[0].limit, 2);
    host_has(&r, 7, m->quota.seq, 1); /* the answer to this request came already */
    CHECK_EQ(r.p.q[0].limit, 2);
}

TEST(a_host_without_an_answer_asks_the_next_voter_for_the_same)
{
    struct rig r;
    rig_init(&r, 3);
    CHECK(host_tick(&r, 0, 0, true));
    uint64_t seq = sent(&r, SCHED_MSG_QWANT, 1)->quota.seq;
    CHECK(!host_tick(&r, 100, 0, true));
    CHECK_EQ(r.fx.n, 0);
    CHECK(!host_tick(&r, 300, 0, true));
    const struct sched_msg *m = sent(&r, SCHED_MSG_QWANT, 2);
    CHECK(m != NULL && m->quota.seq == seq && m->quota.permits == CHUNK);
}

TEST(idle_permits_are_given_back_and_not_used_from_then_on)
{
    struct rig r;
    rig_init(&r, 3);
    CHECK(host_tick(&r, 0, 7, true) == false); /* after a restart it holds what it uses, first */
    const struct sched_msg *m = sent(&r, SCHED_MSG_QWANT, 1);
    CHECK(m != NULL && m->quota.permits == 7);
    host_has(&r, 7, m->quota.seq, 1);
    (void)host_tick(&r, 200, 1, false);
    (void)host_tick(&r, 500, 7, false); /* in use again: from the start */
    (void)host_tick(&r, 600, 1, false);
    (void)host_tick(&r, 900, 1, false);
    CHECK_EQ(r.fx.n, 0);
    (void)host_tick(&r, 200, 1, false);
    m = sent(&r, SCHED_MSG_QWANT, 1);
    CHECK(m != NULL && m->quota.permits == 1 + CHUNK);
    CHECK_EQ(r.p.q[0].limit, 1 + CHUNK);
    host_has(&r, 3, m->quota.seq, 1);
    (void)host_tick(&r, 200, 0, false);
    (void)host_tick(&r, 1100, 0, false);
    m = sent(&r, SCHED_MSG_QWANT, 1);
    CHECK(m != NULL && m->quota.permits == 0);
    CHECK_EQ(r.p.q[0].limit, 0);
}

TEST(without_a_quota_or_a_place_in_the_view_nobody_asks)
{
    struct rig r;
    rig_init(&r, 3);
    r.env.me.inc = 2;
    CHECK(host_tick(&r, 0, 0, true));
    CHECK_EQ(r.fx.n, 0);
    r.cfg.quota.max = 0;
    sched_permits_init(&r.p, &r.cfg);
    CHECK(sched_permits_room(&r.p, &r.env, (struct sched_key){1, 2}));
    (void)host_tick(&r, 1000, 5, true);
    CHECK_EQ(r.fx.n, 0);
}

/* ---- the voter ---- */

static void want(struct rig *r, uint64_t node, uint32_t inc, uint32_t permits, uint64_t seq)
{
    struct sched_msg m = {.type = SCHED_MSG_QWANT,
        .from = node,
        .quota = {.inc = inc, .permits = permits, .seq = seq}};
    sched_quota_keep_msg(&r->k, &r->voter, &m);
}

/* Permits told to the node in this step; -1: nothing. */
static int told(const struct rig *r, uint64_t node)
{
    const struct sched_msg *m = sent(r, SCHED_MSG_QHAVE, node);
    return m == NULL ? -1 : (int)m->quota.permits;
}

static int ask_alone(struct rig *r, uint64_t node, uint32_t permits, uint64_t seq)
{
    sched_fx_clear(&r->fx);
    want(r, node, 1, permits, seq);
    return told(r, node);
}

TEST(permits_of_all_hosts_are_never_more_than_the_maximum)
{
    struct rig r;
    rig_init(&r, 1);
    CHECK_EQ(ask_alone(&r, 10, 6, 1), 6);
    CHECK_EQ(ask_alone(&r, 11, 6, 1), 4);
    CHECK_EQ(ask_alone(&r, 12, 1, 1), 0);
    CHECK_EQ(ask_alone(&r, 10, 6, 1), 6); /* asked again: the same answer */
    CHECK_EQ(ask_alone(&r, 10, 2, 2), 2);
    (void)ask_alone(&r, 10, 6, 1);     /* late: not counted again */
    CHECK_EQ(r.k.acc.e[1].permits, 2); /* the first is the maximum */
    CHECK_EQ(ask_alone(&r, 12, 9, 2), 4);
}

TEST(a_lower_maximum_takes_nothing_away_and_gives_nothing)
{
    struct rig r;
    rig_init(&r, 1);
    CHECK_EQ(ask_alone(&r, 10, 8, 1), 8);
    r.pools[0].max = 5;
    r.voter.version = 2;
    CHECK_EQ(ask_alone(&r, 10, 9, 2), 8);
    CHECK_EQ(ask_alone(&r, 11, 1, 1), 0);
    CHECK_EQ(ask_alone(&r, 10, 3, 3), 3);
    CHECK_EQ(ask_alone(&r, 11, 3, 2), 2);
}

TEST(what_the_dead_held_comes_back_and_they_get_no_more)
{
    struct rig r;
    rig_init(&r, 1);
    CHECK_EQ(ask_alone(&r, 10, MAX, 1), MAX);
    sched_view_advance(&r.view);
    sched_view_drop(&r.view, 10);
    sched_fx_clear(&r.fx);
    r.voter.voter.now_ns += SCHED_MS(5000);
    sched_quota_keep_tick(&r.k, &r.voter);
    CHECK_EQ(r.k.acc.n, 1); /* the maximum */
    CHECK_EQ(ask_alone(&r, 10, 1, 2), -1);
    CHECK_EQ(ask_alone(&r, 11, 4, 1), 4);
    sched_fx_clear(&r.fx);
    want(&r, 10, 2, 3, 3); /* the next life, which this voter's view does not know yet */
    CHECK_EQ(told(&r, 10), 3);
}

TEST(a_full_table_has_no_permits_until_somebody_gives_his_back)
{
    struct rig r;
    rig_init(&r, 1);
    for (uint32_t i = 0; i < 4; i++) {
        CHECK_EQ(ask_alone(&r, 20 + i, 1, 1), 1);
    }
    CHECK_EQ(ask_alone(&r, 10, 1, 1), 0);
    CHECK_EQ(r.k.acc.n, 5);
    CHECK_EQ(ask_alone(&r, 20, 0, 2), 0);
    CHECK_EQ(ask_alone(&r, 10, 1, 2), 1); /* in place of who holds none */
}

static void from_voter(struct rig *r, uint8_t type, uint64_t voter, struct sched_m_qreg body)
{
    struct sched_msg m = {.type = type, .from = voter, .qreg = body};
    sched_fx_clear(&r->fx);
    sched_quota_keep_msg(&r->k, &r->voter, &m);
}

TEST(a_value_takes_two_rounds_with_a_majority_and_keeps_what_was_accepted)
{
    struct rig r;
    rig_init(&r, 3);
    want(&r, 10, 1, 6, 1);
    CHECK_EQ(told(&r, 10), -1);
    const struct sched_msg *m = sent(&r, SCHED_MSG_QPREP, 2);
    CHECK(m != NULL && sent(&r, SCHED_MSG_QPREP, 3) != NULL);
    uint64_t ballot = m->qreg.ballot;
    const struct sched_quota_entry other = {0, 7, {11, 1}, 5};
    from_voter(&r, SCHED_MSG_QPROM, 99, (struct sched_m_qreg){.ballot = ballot}); /* no voter */
    CHECK_EQ(r.fx.n, 0);
    from_voter(&r, SCHED_MSG_QPROM, 2,
        (struct sched_m_qreg){.ballot = ballot, .accepted = 1, .n = 1, .entries = &other});
    m = sent(&r, SCHED_MSG_QACC, 2);
    CHECK(m != NULL && m->qreg.n == 3);
    CHECK_EQ(m->qreg.entries[1].permits, 3); /* node 10 */
    CHECK_EQ(m->qreg.entries[2].permits, 7);
    CHECK_EQ(told(&r, 10), -1);
    from_voter(&r, SCHED_MSG_QACCED, 3, (struct sched_m_qreg){.ballot = ballot});
    CHECK_EQ(told(&r, 10), 3);
}

TEST(lost_requests_are_sent_again_and_refused_ones_with_a_higher_ballot)
{
    struct rig r;
    rig_init(&r, 3);
    want(&r, 10, 1, 6, 1);
    uint64_t ballot = sent(&r, SCHED_MSG_QPREP, 2)->qreg.ballot;
    sched_fx_clear(&r.fx);
    r.voter.voter.now_ns = sched_quota_keep_due_ns(&r.k);
    sched_quota_keep_tick(&r.k, &r.voter);
    CHECK_EQ(sent(&r, SCHED_MSG_QPREP, 2)->qreg.ballot, ballot);
    from_voter(&r, SCHED_MSG_QNACK, 2, (struct sched_m_qreg){.ballot = ballot, .promised = 0x702});
    r.voter.voter.now_ns = sched_quota_keep_due_ns(&r.k);
    sched_fx_clear(&r.fx);
    sched_quota_keep_tick(&r.k, &r.voter);
    CHECK_EQ(sent(&r, SCHED_MSG_QPREP, 3)->qreg.ballot, 0x800);
    r.voter.voter.now_ns += SCHED_MS(1000); /* nobody answers: the host must ask elsewhere */
    sched_quota_keep_tick(&r.k, &r.voter);
    CHECK_EQ(r.k.n_wants, 0);
    CHECK_EQ(r.k.vote.phase, SCHED_CREG_IDLE);
}

TEST(an_acceptor_keeps_its_promise_also_over_a_restart)
{
    struct rig r;
    rig_init(&r, 3);
    const struct sched_quota_entry e = {0, 7, {11, 1}, 5};
    from_voter(&r, SCHED_MSG_QPREP, 2, (struct sched_m_qreg){.ballot = 0x501});
    CHECK(sent(&r, SCHED_MSG_QPROM, 2) != NULL);
    const struct sched_row row = {.promised = r.fx.items[0].row.promised};
    CHECK_EQ(r.fx.items[0].kind, SCHED_FX_STORE);
    from_voter(
        &r, SCHED_MSG_QACC, 3, (struct sched_m_qreg){.ballot = 0x402, .n = 1, .entries = &e});
    CHECK_EQ(sent(&r, SCHED_MSG_QNACK, 3)->qreg.promised, 0x501);
    rig_init(&r, 3);
    sched_quota_keep_restore(&r.k, &row);
    from_voter(&r, SCHED_MSG_QPREP, 3, (struct sched_m_qreg){.ballot = 0x402});
    CHECK(sent(&r, SCHED_MSG_QNACK, 3) != NULL);
    from_voter(
        &r, SCHED_MSG_QACC, 2, (struct sched_m_qreg){.ballot = 0x501, .n = 1, .entries = &e});
    CHECK(sent(&r, SCHED_MSG_QACCED, 2) != NULL);
    CHECK_EQ(r.k.acc.e[0].permits, 7);
}

TEST(a_voter_that_lost_its_store_votes_only_when_two_others_have_told_it)
{
    struct rig r;
    rig_init(&r, 3);
    r.k.vote.lost = true;
    r.k.vote.nonce = 77;
    const struct sched_quota_entry e = {0, 7, {11, 1}, 5};
    sched_quota_keep_tick(&r.k, &r.voter);
    CHECK_EQ(sent(&r, SCHED_MSG_QASK, 2)->qreg.ballot, 77);
    want(&r, 10, 1, 1, 1);
    from_voter(&r, SCHED_MSG_QPREP, 2, (struct sched_m_qreg){.ballot = 0x601});
    CHECK_EQ(r.fx.n, 0);
    struct sched_m_qreg tells = {
        .ballot = 77, .promised = 0x501, .accepted = 0x401, .n = 1, .entries = &e};
    from_voter(&r, SCHED_MSG_QTELL, 2, (struct sched_m_qreg){.ballot = 76});
    from_voter(&r, SCHED_MSG_QTELL, 2, tells);
    from_voter(&r, SCHED_MSG_QTELL, 2, tells);
    CHECK(r.k.vote.lost);
    from_voter(&r, SCHED_MSG_QTELL, 3, (struct sched_m_qreg){.ballot = 77, .promised = 0x702});
    CHECK(!r.k.vote.lost);
    CHECK_EQ(r.k.vote.promised, 0x702);
    CHECK_EQ(r.k.acc.e[0].permits, 7);
    from_voter(&r, SCHED_MSG_QASK, 3, (struct sched_m_qreg){.ballot = 5});
    const struct sched_msg *m = sent(&r, SCHED_MSG_QTELL, 3);
    CHECK(m != NULL && m->qreg.ballot == 5 && m->qreg.accepted == 0x401 && m->qreg.n == 1);
}

/* ---- several pools ---- */

static int of_pool(struct rig *r, uint32_t pool, uint64_t node, uint32_t permits, uint64_t seq)
{
    sched_fx_clear(&r->fx);
    struct sched_msg m = {.type = SCHED_MSG_QWANT,
        .from = node,
        .quota = {.pool = pool, .inc = 1, .permits = permits, .seq = seq, .version = 5}};
    sched_quota_keep_msg(&r->k, &r->voter, &m);
    const struct sched_msg *out = sent(r, SCHED_MSG_QHAVE, node);
    CHECK(out == NULL || out->quota.pool == pool);
    return told(r, node);
}

static void with_pools(struct rig *r)
{
    rig_init(r, 1);
    r->cfg.catalog = true;
    r->pools[0] = (struct sched_pool_max){SCHED_QUOTA_REGS, 3};
    r->pools[1] = (struct sched_pool_max){SCHED_QUOTA_REGS * 2, 5};
    r->pools[2] = (struct sched_pool_max){SCHED_QUOTA_REGS + 1, 7}; /* of another register */
    r->voter.n_pools = 3;
    r->voter.version = 5;
    struct sched_mem mem = {.base = memory + (1 << 20), .size = sizeof memory - (1 << 20)};
    sched_quota_keep_init(&r->k, &r->cfg, 0, &mem);
}

TEST(every_pool_has_its_own_maximum)
{
    struct rig r;
    with_pools(&r);
    CHECK_EQ(of_pool(&r, SCHED_QUOTA_REGS, 10, 9, 1), 3);
    CHECK_EQ(of_pool(&r, SCHED_QUOTA_REGS * 2, 10, 4, 2), 4);
    CHECK_EQ(of_pool(&r, SCHED_QUOTA_REGS * 2, 11, 4, 1), 1);
    CHECK_EQ(of_pool(&r, SCHED_QUOTA_REGS * 3, 11, 4, 2), 0); /* no such pool */
    CHECK_EQ(of_pool(&r, SCHED_QUOTA_REGS, 10, 1, 3), 1);
    CHECK_EQ(of_pool(&r, SCHED_QUOTA_REGS, 12, 9, 1), 2);
}

TEST(a_voter_with_an_older_catalogue_goes_by_the_table)
{
    struct rig r;
    with_pools(&r);
    CHECK_EQ(of_pool(&r, SCHED_QUOTA_REGS, 10, 1, 1), 1);
    r.k.acc.version = 9; /* another voter has proposed */
    r.k.acc.e[0].permits = 2;
    r.voter.version = 6;
    CHECK_EQ(of_pool(&r, SCHED_QUOTA_REGS, 11, 9, 1), 1);
    r.voter.version = 9;
    CHECK_EQ(of_pool(&r, SCHED_QUOTA_REGS, 11, 9, 2), 2);
    r.voter.version = 4; /* it does not know what the host knows: others do */
    CHECK_EQ(of_pool(&r, SCHED_QUOTA_REGS, 12, 9, 1), -1);
}

TEST(a_pool_that_is_gone_leaves_what_is_held)
{
    struct rig r;
    with_pools(&r);
    CHECK_EQ(of_pool(&r, SCHED_QUOTA_REGS, 10, 2, 1), 2);
    CHECK_EQ(of_pool(&r, SCHED_QUOTA_REGS, 11, 1, 1), 1);
    r.pools[0].pool = SCHED_QUOTA_REGS * 7;
    r.voter.version = 6;
    CHECK_EQ(of_pool(&r, SCHED_QUOTA_REGS, 11, 0, 2), 0);
    CHECK_EQ(of_pool(&r, SCHED_QUOTA_REGS, 10, 5, 2), 2);
    CHECK_EQ(of_pool(&r, SCHED_QUOTA_REGS, 12, 1, 1), 0);
    r.pools[0].pool = SCHED_QUOTA_REGS; /* it is back */
    r.voter.version = 7;
    CHECK_EQ(of_pool(&r, SCHED_QUOTA_REGS, 12, 3, 2), 1);
}

/* Sends what a tick asks for, and answers it with so many permits. */
static void host_served(struct rig *r, uint64_t after_ms, uint32_t most)
{
    sched_fx_clear(&r->fx);
    r->env.now_ns += SCHED_MS(after_ms);
    sched_permits_tick(&r->p, &r->env, true);
    for (uint32_t i = 0; i < r->fx.n; i++) {
        const struct sched_m_quota *q = &r->fx.items[i].msg.quota;
        struct sched_msg m = {.type = SCHED_MSG_QHAVE, .quota = *q};
        m.quota.permits = q->permits < most ? q->permits : most;
        CHECK(sched_permits_have(&r->p, &r->env, &m));
    }
}

TEST(a_host_takes_sessions_of_the_pools_of_the_catalogue_only)
{
    struct rig r;
    rig_init(&r, 3);
    struct sched_key a = {1, 7}, b = {2, 8};
    struct sched_pool_max pools[2] = {{7, 100}, {9, 1}};
    r.cfg.catalog = true;
    r.view.version = SCHED_VERSION_CATALOG;
    sched_permits_init(&r.p, &r.cfg);
    CHECK(!sched_permits_room(&r.p, &r.env, a) && sched_permits_hope(&r.p, &r.env, a));
    r.view.version = SCHED_VERSION_CATALOG - 1; /* nobody speaks of catalogues */
    CHECK(sched_permits_room(&r.p, &r.env, a));
    r.view.version = SCHED_VERSION_CATALOG;
    sched_permits_pools(&r.p, 0, false, NULL, 0); /* there is none */
    CHECK(sched_permits_room(&r.p, &r.env, a));
    CHECK(sched_permits_take(&r.p, a)); /* before there were maxima */
    sched_permits_pools(&r.p, 3, true, pools, 2);
    CHECK(!sched_permits_room(&r.p, &r.env, a) && sched_permits_hope(&r.p, &r.env, a));
    CHECK(!sched_permits_room(&r.p, &r.env, b) && !sched_permits_hope(&r.p, &r.env, b));
    host_served(&r, 100, 1000); /* first what is in use */
    CHECK_EQ(r.p.q[0].limit, 1);
    host_served(&r, 100, 1000); /* then some ahead: a quarter of the maximum, of three members */
    CHECK_EQ(r.p.q[0].limit, 1 + 100 / 4 / 3);
    CHECK(sched_permits_room(&r.p, &r.env, a));
    sched_permits_give(&r.p, a);
    host_served(&r, 100, 1000);
    host_served(&r, 2000, 1000); /* idle for long: one goes back */
    CHECK_EQ(r.p.q[0].limit, 100 / 4 / 3);
}

TEST(a_refused_host_tells_those_who_wait_that_there_is_no_hope)
{
    struct rig r;
    rig_init(&r, 3);
    struct sched_key a = {1, 7};
    struct sched_pool_max pool = {7, 2};
    r.cfg.catalog = true;
    sched_permits_init(&r.p, &r.cfg);
    sched_permits_pools(&r.p, 3, true, &pool, 1);
    host_served(&r, 0, 0); /* few: none is kept ahead */
    CHECK_EQ(r.fx.n, 0);
    CHECK(!sched_permits_room(&r.p, &r.env, a) && !sched_permits_room(&r.p, &r.env, a));
    CHECK(sched_permits_due_ns(&r.p) <= r.env.now_ns);
    host_served(&r, 0, 1);
    CHECK_EQ(r.fx.items[0].msg.quota.permits, 2); /* two were missed */
    CHECK(sched_permits_room(&r.p, &r.env, a));
    CHECK(sched_permits_take(&r.p, a));
    CHECK(!sched_permits_room(&r.p, &r.env, a) && !sched_permits_hope(&r.p, &r.env, a));
    r.env.now_ns += SCHED_MS(2000);
    CHECK(sched_permits_hope(&r.p, &r.env, a));
    sched_permits_pools(&r.p, 4, true, NULL, 0);
    CHECK(!sched_permits_hope(&r.p, &r.env, a));
    CHECK_EQ(r.p.n, 1); /* one is left */
    sched_permits_give(&r.p, a);
    host_served(&r, 100, 9);
    host_served(&r, 2000, 9);
    sched_permits_pools(&r.p, 5, true, NULL, 0);
    CHECK_EQ(r.p.n, 0);
}

/* ---- around it ---- */

TEST(tables_travel_whole_and_only_when_they_fit)
{
    struct sched_mem mem = {.base = memory, .size = sizeof memory};
    struct sched_wire_room room;
    sched_wire_room_init(&room, 2, &mem);
    const struct sched_quota_entry e[3] = {{9, 3, {1, 2}, 4}, {9, 7, {5, 6}, 8}, {9, 1, {9, 1}, 1}};
    struct sched_msg got,
        m = {.type = SCHED_MSG_QPROM, .qreg = {1, 2, 3, 4, 5, .n = 2, .entries = e}};
    uint8_t buf[256];
    int len = sched_wire_encode(&m, buf, sizeof buf);
    CHECK(len > 0);
    CHECK_EQ(sched_wire_decode(buf, (size_t)len, &room, &got), 0);
    CHECK_EQ(got.qreg.accepted, 4);
    CHECK_EQ(got.qreg.entries[1].seq, 8);
    CHECK_EQ(got.qreg.entries[1].pool, 9);
    CHECK_EQ(got.qreg.version, 5);
    struct sched_quota_entry many[300] = {0};
    m.qreg.n = 300;
    m.qreg.entries = many;
    static uint8_t large[16384];
    len = sched_wire_encode(&m, large, sizeof large);
    CHECK(len > 0 && sched_wire_decode(large, (size_t)len, &room, &got) != 0);
}
