#include "scheduler/core/voter.h"

#include "tests/lib/check.h"
#include "tests/unit/scheduler/core_rig.h"

/* One voter and what it is told; what several do together is the simulator's business. */

struct poll {
    struct sched_cfg cfg;
    struct sched_fx fx;
    struct sched_view first;
    struct sched_voter v;
};

static void poll_init(struct poll *p, struct sched_mem *mem, uint32_t voters)
{
    p->cfg = config(voters);
    sched_fx_init(&p->fx, mem);
    p->first = view_of(mem, 8);
    p->first.version = SCHED_VERSION_BASE;
    struct sched_row vote = {.kind = SCHED_ROW_VOTE};
    struct sched_row known = {.kind = SCHED_ROW_KNOWN, .view = &p->first};
    struct sched_voter_boot b = {.id = 1,
        .speaks = {SCHED_VERSION_BASE, SCHED_VERSION_BASE},
        .seed = 1,
        .now_ns = 1,
        .vote = &vote,
        .known = &known};
    sched_voter_init(&p->v, &p->cfg, mem, &b);
}

static void tell(struct poll *p, uint64_t now_ms, const struct sched_msg *m)
{
    sched_fx_clear(&p->fx);
    sched_voter_step(&p->v, SCHED_MS(now_ms), m, &p->fx);
}

static void renew(struct poll *p, uint64_t now_ms, uint64_t node, uint32_t inc)
{
    struct sched_msg m = {.type = SCHED_MSG_LEASE,
        .from = node,
        .lease = {.inc = inc, .seq = 9, .installed = p->v.known.num, .weight = 100, .ready = 2}};
    tell(p, now_ms, &m);
}

TEST(only_members_are_granted_leases)
{
    struct sched_mem mem = fresh_memory();
    static struct poll p;
    poll_init(&p, &mem, 3);
    renew(&p, 10, 10, 1);
    CHECK(said(&p.fx, SCHED_MSG_GRANT) != NULL);
    renew(&p, 10, 10, 2);
    CHECK(said(&p.fx, SCHED_MSG_NOGRANT) != NULL);
    renew(&p, 10, 55, 1);
    CHECK(said(&p.fx, SCHED_MSG_NOGRANT) != NULL);
    renew(&p, 10, 55, 0);
    CHECK_EQ(p.fx.n, 0);
}

TEST(a_voter_refuses_to_drop_a_running_lease_and_then_lets_it_run_out)
{
    struct sched_mem mem = fresh_memory();
    static struct poll p;
    poll_init(&p, &mem, 3);
    renew(&p, 10, 10, 1);
    struct sched_view next = view_of(&mem, 8);
    sched_view_advance(&next);
    sched_view_drop(&next, 10);
    struct sched_msg acc = {.type = SCHED_MSG_VACC, .from = 2, .vacc = {.ballot = 1 << 8, &next}};
    tell(&p, 20, &acc);
    CHECK(said(&p.fx, SCHED_MSG_VACKED) == NULL);
    renew(&p, 30, 10, 1);
    CHECK(said(&p.fx, SCHED_MSG_NOGRANT) != NULL); /* R2 */
    for (uint64_t node = 11; node < 13; node++) {
        renew(&p, 3000, node, 1);
    }
    tell(&p, 6100, &acc);
    CHECK(said(&p.fx, SCHED_MSG_VACKED) != NULL);
}

TEST(a_voter_remembers_as_many_nodes_as_a_view_has_and_gives_up_those_that_left)
{
    struct sched_mem mem = fresh_memory();
    static struct poll p;
    poll_init(&p, &mem, 3);
    for (uint64_t node = 20; node < 25; node++) {
        renew(&p, 10, node, 1); /* with the three members: all there is room for */
        CHECK(said(&p.fx, SCHED_MSG_NOGRANT) != NULL);
    }
    renew(&p, 20, 30, 1);
    CHECK_EQ(p.fx.n, 0); /* they all ask to be admitted */
    for (uint64_t now = 500; now < 5000; now += 500) {
        tell(&p, now, NULL);
    }
    renew(&p, 5000, 30, 1); /* whoever asked that long ago is forgotten */
    CHECK(said(&p.fx, SCHED_MSG_NOGRANT) != NULL);
    CHECK_EQ(p.v.n_peers, 8);
    CHECK(sched_voter_holds(&p.v, (struct sched_host){10, 1}, SCHED_MS(5000)));
}

TEST(a_relinquished_lease_ends_at_once)
{
    struct sched_mem mem = fresh_memory();
    static struct poll p;
    poll_init(&p, &mem, 1);
    CHECK(sched_voter_holds(&p.v, (struct sched_host){10, 1}, SCHED_MS(5)));
    struct sched_msg m = {.type = SCHED_MSG_RELINQ, .from = 10, .grant = {.inc = 1}};
    tell(&p, 5, &m);
    CHECK(!sched_voter_holds(&p.v, (struct sched_host){10, 1}, SCHED_MS(5)));
}

static void give_back(struct poll *p, uint64_t now_ms, uint64_t node, uint32_t inc)
{
    struct sched_msg m = {.type = SCHED_MSG_RELINQ, .from = node, .grant = {.inc = inc}};
    tell(p, now_ms, &m);
}

TEST(when_all_have_given_their_leases_back_the_next_view_is_empty)
{
    struct sched_mem mem = fresh_memory();
    static struct poll p;
    poll_init(&p, &mem, 1);
    for (uint64_t node = 10; node < 13; node++) {
        renew(&p, 100, node, 1);
        give_back(&p, 200, node, node == 12 ? 2 : 1); /* that was another life of 12 */
    }
    tell(&p, 1000, NULL);
    CHECK_EQ(p.v.known.num, 2);
    CHECK_EQ(sched_view_members(&p.v.known), 1);
    renew(&p, 1100, 12, 1);
    give_back(&p, 1200, 12, 1);
    tell(&p, 2000, NULL);
    CHECK_EQ(p.v.known.num, 3);
    CHECK_EQ(sched_view_members(&p.v.known), 0);
    for (uint64_t now = 3000; now < 60000; now += 500) {
        tell(&p, now, NULL);
    }
    CHECK_EQ(p.v.known.num, 3); /* and stays */
    renew(&p, 60000, 11, 1);
    CHECK(said(&p.fx, SCHED_MSG_NOGRANT) != NULL); /* that life is over */
    tell(&p, 61000, NULL);
    CHECK_EQ(p.v.known.num, 3);
    renew(&p, 61100, 11, 2);
    tell(&p, 62000, NULL);
    CHECK_EQ(p.v.known.num, 4);
    CHECK(sched_view_has(&p.v.known, (struct sched_host){11, 2}));
    CHECK_EQ(sched_view_members(&p.v.known), 1);
}

TEST(members_that_merely_lapsed_stay_when_there_is_nobody_else)
{
    struct sched_mem mem = fresh_memory();
    static struct poll p;
    poll_init(&p, &mem, 1);
    for (uint64_t node = 10; node < 13; node++) {
        renew(&p, 100, node, 1);
    }
    give_back(&p, 200, 10, 1);
    give_back(&p, 200, 11, 1);
    for (uint64_t now = 7000; now < 30000; now += 500) {
        tell(&p, now, NULL); /* 12 has lapsed before anybody looked */
    }
    CHECK_EQ(p.v.known.num, 1);
    renew(&p, 30100, 12, 1); /* it was only cut off */
    CHECK(said(&p.fx, SCHED_MSG_GRANT) != NULL);
    tell(&p, 31000, NULL);
    CHECK_EQ(p.v.known.num, 2);
    CHECK(sched_view_has(&p.v.known, (struct sched_host){12, 1}));
}

TEST(a_single_voter_makes_the_next_view_when_all_have_settled)
{
    struct sched_mem mem = fresh_memory();
    static struct poll p;
    poll_init(&p, &mem, 1);
    for (uint64_t now = 100; now < 9000; now += 100) {
        renew(&p, now, 10, 1);
        renew(&p, now, 11, 1);
        renew(&p, now, 13, 1);
        tell(&p, now, NULL);
    }
    CHECK(p.v.known.num >= 2);
    CHECK(!sched_view_has(&p.v.known, (struct sched_host){12, 1}));
    CHECK(sched_view_has(&p.v.known, (struct sched_host){13, 1}));
}

/* The first `members` renew for so long, and these buckets do not settle. */
static uint64_t rebuild(
    struct poll *p, uint64_t from_ms, uint64_t to_ms, uint32_t members, uint64_t unsettled)
{
    for (uint64_t now = from_ms; now < to_ms; now += 100) {
        for (uint64_t node = 10; node < 10 + members; node++) {
            struct sched_msg m = {.type = SCHED_MSG_LEASE,
                .from = node,
                .lease = {.inc = 1,
                    .seq = 9,
                    .installed = p->v.known.num,
                    .weight = 100,
                    .unsettled = {unsettled}}};
            tell(p, now, &m);
        }
        tell(p, now, NULL);
    }
    return to_ms;
}

/* A single voter that has begun to rebuild bucket 5 four times; it would do so again after 66 s. */
static uint64_t patient(struct poll *p, struct sched_mem *mem)
{
    poll_init(p, mem, 1);
    uint64_t now = rebuild(p, 100, 6000, 3, 32);
    CHECK_EQ(p->v.known.num, 2);
    CHECK(sched_bucket_has(p->v.known.rec, 5));
    now = rebuild(p, now, 36000, 3, 32); /* after 4, 8 and 16 s */
    CHECK_EQ(p->v.known.num, 5);
    return now;
}

TEST(a_voter_waits_twice_as_long_each_time_for_a_rebuilding_that_goes_on)
{
    struct sched_mem mem = fresh_memory();
    static struct poll p;
    uint64_t now = patient(&p, &mem);
    now = rebuild(&p, now, 60000, 3, 32);
    CHECK_EQ(p.v.known.num, 5);
    (void)rebuild(&p, now, 70000, 3, 32);
    CHECK_EQ(p.v.known.num, 6);
}

TEST(who_is_lost_is_not_waited_for_however_patient_a_voter_is)
{
    struct sched_mem mem = fresh_memory();
    static struct poll p;
    uint64_t now = patient(&p, &mem);
    now = rebuild(&p, now, 46000, 2, 32);
    CHECK_EQ(p.v.known.num, 6);
    CHECK(!sched_view_has(&p.v.known, (struct sched_host){12, 1}));
    (void)rebuild(&p, now, 54000, 2, 32); /* and what follows begins with the first patience */
    CHECK(p.v.known.num >= 7);
}

TEST(a_bucket_that_must_be_rebuilt_too_is_not_kept_waiting)
{
    struct sched_mem mem = fresh_memory();
    static struct poll p;
    uint64_t now = patient(&p, &mem);
    (void)rebuild(&p, now, 42000, 3, 32 | 64);
    CHECK_EQ(p.v.known.num, 6);
    CHECK(sched_bucket_has(p.v.known.rec, 6));
}

TEST(who_wants_to_join_waits_four_times_as_long_at_most)
{
    struct sched_mem mem = fresh_memory();
    static struct poll p;
    uint64_t now = patient(&p, &mem);
    (void)rebuild(&p, now, 54000, 4, 32);
    CHECK(sched_view_has(&p.v.known, (struct sched_host){13, 1}));
}

TEST(a_voter_that_was_away_is_no_less_patient_than_the_others)
{
    struct sched_mem mem = fresh_memory();
    static struct poll p;
    poll_init(&p, &mem, 1);
    (void)rebuild(&p, 100, 6000, 3, 32);
    struct sched_view known = view_of(&mem, 8);
    CHECK_EQ(sched_view_copy(&known, &p.v.known), 0);
    struct sched_row vote = {.kind = SCHED_ROW_VOTE};
    struct sched_row row = {.kind = SCHED_ROW_KNOWN, .view = &known};
    struct sched_voter_boot b = {
        .id = 1, .seed = 1, .now_ns = SCHED_MS(6000), .vote = &vote, .known = &row};
    sched_voter_init(&p.v, &p.cfg, &mem, &b);
    (void)rebuild(&p, 6000, 60000, 3, 32);
    CHECK_EQ(p.v.known.num, 2);
}

TEST(a_voter_without_its_store_is_silent_until_a_majority_of_others_spoke)
{
    struct sched_mem mem = fresh_memory();
    static struct poll p;
    poll_init(&p, &mem, 3);
    struct sched_voter_boot b = {.id = 1, .seed = 1, .now_ns = 1};
    sched_voter_init(&p.v, &p.cfg, &mem, &b);
    struct sched_msg prep = {.type = SCHED_MSG_VPREP, .from = 2, .ballot = {3 << 8}};
    tell(&p, 10, &prep);
    CHECK_EQ(p.fx.n, 0);
    struct sched_msg known = {.type = SCHED_MSG_VIEW, .from = 2, .view = {&p.first}};
    tell(&p, 20, &known);
    for (uint64_t from = 2; from < 4; from++) {
        CHECK(p.v.amnesia);
        struct sched_msg m = {.type = SCHED_MSG_VTELL,
            .from = from,
            .vtell = {.nonce = p.v.nonce,
                .promised = 2 << 8,
                .accepted = 1 << 8,
                .known = 1,
                .view = &p.first}};
        tell(&p, 30, &m);
    }
    CHECK(!p.v.amnesia);
    CHECK_EQ(p.v.promised, 2 << 8);
    tell(&p, 40, &prep);
    CHECK(said(&p.fx, SCHED_MSG_VPROM) != NULL);
}

static uint32_t stored(const struct sched_fx *fx, uint8_t kind)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < fx->n; i++) {
        n += fx->items[i].kind == SCHED_FX_STORE && fx->items[i].row.kind == kind;
    }
    return n;
}

TEST(a_voter_without_its_store_stores_nothing_before_it_may_vote)
{
    struct sched_mem mem = fresh_memory();
    static struct poll p;
    poll_init(&p, &mem, 3);
    struct sched_row known = {.kind = SCHED_ROW_KNOWN, .view = &p.first};
    struct sched_voter_boot b = {.id = 1, .seed = 1, .now_ns = 1, .known = &known};
    sched_voter_init(&p.v, &p.cfg, &mem, &b);
    CHECK(p.v.amnesia);
    CHECK_EQ(p.v.known.num, 0);
    struct sched_msg view = {.type = SCHED_MSG_VIEW, .from = 2, .view = {&p.first}};
    tell(&p, 20, &view);
    CHECK_EQ(p.v.known.num, 1);
    CHECK_EQ(p.fx.n, 0);
    struct sched_msg nack = {.type = SCHED_MSG_VNACK, .from = 2, .ballot = {5 << 8}};
    tell(&p, 20, &nack);
    CHECK_EQ(p.fx.n, 0);
    for (uint64_t from = 2; from < 4; from++) {
        struct sched_msg m = {.type = SCHED_MSG_VTELL,
            .from = from,
            .vtell = {.nonce = p.v.nonce, .promised = 2 << 8, .known = 1}};
        tell(&p, 30, &m);
        CHECK_EQ(stored(&p.fx, SCHED_ROW_KNOWN), from - 2);
        CHECK_EQ(stored(&p.fx, SCHED_ROW_VOTE), from - 2);
    }
    CHECK(!p.v.amnesia);
}

/* What it has accepted of the catalogue may be what makes a majority: as long as that is lost, a
 * row of its vote would make the next process take it for a voter that has lost nothing. */
TEST(a_voter_without_its_store_waits_for_its_catalogue_and_its_permits)
{
    struct sched_mem mem = fresh_memory();
    static struct poll p;
    poll_init(&p, &mem, 3);
    p.cfg.catalog = true;
    p.first.version = SCHED_VERSION_CATALOG;
    struct sched_voter_boot b = {.id = 1, .seed = 1, .now_ns = 1};
    sched_voter_init(&p.v, &p.cfg, &mem, &b);
    struct sched_msg view = {.type = SCHED_MSG_VIEW, .from = 2, .view = {&p.first}};
    tell(&p, 20, &view);
    for (uint64_t from = 2; from < 4; from++) {
        struct sched_msg m = {.type = SCHED_MSG_VTELL,
            .from = from,
            .vtell = {.nonce = p.v.nonce, .promised = 2 << 8, .known = 1}};
        tell(&p, 30, &m);
        CHECK_EQ(p.fx.n, 0);
    }
    CHECK(p.v.amnesia);
    for (uint64_t from = 2; from < 4; from++) {
        struct sched_msg m = {
            .type = SCHED_MSG_CTELL, .from = from, .creg = {.ballot = p.v.catalog->vote.nonce}};
        tell(&p, 40, &m);
        for (uint8_t i = 0; i < SCHED_QUOTA_REGS; i++) {
            m = (struct sched_msg){.type = SCHED_MSG_QTELL,
                .from = from,
                .qreg = {.reg = i, .ballot = p.v.quotas[i].vote.nonce}};
            tell(&p, 40, &m);
        }
        CHECK(p.v.amnesia);
        CHECK_EQ(stored(&p.fx, SCHED_ROW_VOTE), 0);
    }
    struct sched_msg again = {.type = SCHED_MSG_VTELL,
        .from = 2,
        .vtell = {.nonce = p.v.nonce, .promised = 2 << 8, .known = 1}};
    tell(&p, 50, &again);
    CHECK(!p.v.amnesia);
    CHECK_EQ(stored(&p.fx, SCHED_ROW_VOTE), 1);
}

static void report(struct poll *p, uint64_t now_ms, uint32_t installed)
{
    struct sched_msg m = {.type = SCHED_MSG_LEASE,
        .from = 10,
        .lease = {.inc = 1, .seq = 9, .installed = installed, .weight = 100}};
    tell(p, now_ms, &m);
}

TEST(what_a_worker_says_about_views_is_asked_of_the_voters)
{
    struct sched_mem mem = fresh_memory();
    static struct poll p;
    poll_init(&p, &mem, 3);
    struct sched_view forged = view_of(&mem, 8);
    sched_view_advance(&forged);
    sched_view_drop(&forged, 11);
    forged.num = UINT32_MAX;
    struct sched_msg view = {.type = SCHED_MSG_VIEW, .from = 10, .view = {&forged}};
    tell(&p, 10, &view);
    CHECK_EQ(p.v.known.num, 1);
    CHECK_EQ(p.fx.n, 0);
    report(&p, 20, 2);
    const struct sched_msg *pull = said(&p.fx, SCHED_MSG_VPULL);
    CHECK(pull != NULL && pull->to == 2);
    CHECK_EQ(p.fx.n, 3); /* both others, and its lease */
    report(&p, 30, 2);
    CHECK(said(&p.fx, SCHED_MSG_VPULL) == NULL); /* not as often as workers report */
    forged.num = 2;
    view.from = 3;
    tell(&p, 40, &view);
    CHECK_EQ(p.v.known.num, 2);
}

TEST(a_view_that_no_voter_knows_any_more_is_found_in_what_they_accepted)
{
    struct sched_mem mem = fresh_memory();
    static struct poll p;
    poll_init(&p, &mem, 5);
    struct sched_view next = view_of(&mem, 8);
    sched_view_advance(&next);
    CHECK_EQ(sched_view_admit(&next, (struct sched_host){15, 1}, 0, 100), 0);
    uint64_t now = 500;
    do {
        now += 100;
        renew(&p, now, 11, 1);
        renew(&p, now, 12, 1);
        report(&p, now, 2);
        tell(&p, now, NULL);
    } while (said(&p.fx, SCHED_MSG_VPREP) == NULL && now < 6000);
    const struct sched_msg *prep = said(&p.fx, SCHED_MSG_VPREP);
    CHECK(prep != NULL);
    struct sched_msg prom = {
        .type = SCHED_MSG_VPROM, .from = 2, .vprom = {.ballot = prep->ballot.ballot, .known = 0}};
    tell(&p, now, &prom); /* it cannot accept a successor of what it does not know */
    CHECK(said(&p.fx, SCHED_MSG_VIEW) != NULL && said(&p.fx, SCHED_MSG_VIEW)->to == 2);
    prom.from = 3;
    prom.vprom.accepted = 1 << 8 | 2;
    prom.vprom.view = &next;
    prom.vprom.known = 1;
    tell(&p, now, &prom);
    const struct sched_msg *acc = said(&p.fx, SCHED_MSG_VACC);
    CHECK(acc != NULL && sched_view_digest(acc->vacc.view) == sched_view_digest(&next));
}

TEST(votes_for_a_proposal_that_has_taken_too_long_are_void)
{
    struct sched_mem mem = fresh_memory();
    static struct poll p;
    poll_init(&p, &mem, 3);
    uint64_t now = 500;
    do {
        now += 100;
        renew(&p, now, 11, 1);
        renew(&p, now, 12, 1);
        tell(&p, now, NULL);
    } while (said(&p.fx, SCHED_MSG_VPREP) == NULL && now < 20000);
    const struct sched_msg *prep = said(&p.fx, SCHED_MSG_VPREP);
    CHECK(prep != NULL);
    struct sched_msg prom = {
        .type = SCHED_MSG_VPROM, .from = 2, .vprom = {.ballot = prep->ballot.ballot, .known = 1}};
    tell(&p, now + 1100, &prom);
    CHECK(said(&p.fx, SCHED_MSG_VACC) == NULL);
    CHECK_EQ(p.v.op.phase, SCHED_VOTER_IDLE);
}

TEST(a_voter_accepts_the_successor_of_the_view_it_knows_and_no_later_one)
{
    struct sched_mem mem = fresh_memory();
    static struct poll p;
    poll_init(&p, &mem, 3);
    struct sched_view second = view_of(&mem, 8), third = view_of(&mem, 8);
    sched_view_advance(&second);
    sched_view_advance(&third);
    sched_view_advance(&third);
    struct sched_msg acc = {.type = SCHED_MSG_VACC, .from = 2, .vacc = {1 << 8 | 1, &third}};
    tell(&p, 10, &acc);
    CHECK(said(&p.fx, SCHED_MSG_VACKED) == NULL);
    struct sched_msg view = {.type = SCHED_MSG_VIEW, .from = 2, .view = {&second}};
    tell(&p, 20, &view);
    tell(&p, 30, &acc);
    CHECK(said(&p.fx, SCHED_MSG_VACKED) != NULL);
}

/* ---- V1: the version of the messages ---- */

static void say_speaks(struct poll *p, uint64_t now_ms, uint64_t node, uint8_t max)
{
    struct sched_msg m = {.type = SCHED_MSG_VPULL,
        .from = node,
        .pull = {UINT32_MAX, {max != 0 ? SCHED_VERSION_BASE : 0, max}}};
    tell(p, now_ms, &m);
}

/* Whether the voter, the only one whose vote counts here, has raised the version by now_ms + 500.
 * The members renew and settle; `silent` of them tells nothing. */
static bool raised(struct poll *p, uint64_t now_ms, uint64_t silent)
{
    for (uint64_t node = 10; node < 13; node++) {
        renew(p, now_ms, node, 1);
        if (node != silent) {
            say_speaks(p, now_ms, node, SCHED_VERSION_MAX);
        }
    }
    for (uint64_t t = now_ms; t <= now_ms + 500; t += 100) {
        tell(p, t, NULL);
    }
    return sched_view_version(&p->v.known) == SCHED_VERSION_MAX;
}

static void poll_of_new(struct poll *p, struct sched_mem *mem, uint32_t voters)
{
    poll_init(p, mem, voters);
    p->v.speaks.max = SCHED_VERSION_MAX;
    p->v.awake_ns -= SCHED_MS(60000); /* it has heard everybody */
}

TEST(the_version_rises_when_every_member_speaks_it_and_does_not_fall)
{
    struct sched_mem mem = fresh_memory();
    static struct poll p;
    poll_of_new(&p, &mem, 1);
    CHECK(!raised(&p, 1000, 11));
    CHECK_EQ(sched_voter_speaks(&p.v, 11).max, SCHED_VERSION_BASE);
    CHECK_EQ(sched_voter_speaks(&p.v, 12).max, SCHED_VERSION_MAX);
    CHECK(raised(&p, 2000, 0));
    CHECK_EQ(p.v.known.num, 2);
    CHECK_EQ(sched_view_members(&p.v.known), 3);
    CHECK(raised(&p, 40000, 11)); /* long after it said so */
}

TEST(what_a_member_said_long_ago_does_not_count)
{
    struct sched_mem mem = fresh_memory();
    static struct poll p;
    poll_of_new(&p, &mem, 1);
    say_speaks(&p, 10, 11, SCHED_VERSION_MAX);
    for (uint64_t now = 1000; now < 30000; now += 1000) {
        for (uint64_t node = 10; node < 13; node++) {
            renew(&p, now, node, 1);
        }
    }
    CHECK(!raised(&p, 30100, 11));
    CHECK(raised(&p, 31000, 0));
}

TEST(a_gateway_that_tells_nothing_holds_the_version_until_it_is_gone)
{
    struct sched_mem mem = fresh_memory();
    static struct poll p;
    poll_of_new(&p, &mem, 1);
    say_speaks(&p, 900, 77, 0); /* as an older build asks for the view */
    CHECK(!raised(&p, 1000, 0));
    say_speaks(&p, 1600, 77, SCHED_VERSION_MAX); /* replaced by a newer one */
    say_speaks(&p, 1700, 77, 0);                 /* whose questions are the same */
    CHECK(raised(&p, 2000, 0));
}

TEST(a_worker_that_leaves_holds_the_version_until_it_cannot_wait_for_its_removal_any_more)
{
    struct sched_mem mem = fresh_memory();
    static struct poll p;
    poll_of_new(&p, &mem, 1);
    renew(&p, 100, 11, 1);
    struct sched_msg m = {.type = SCHED_MSG_RELINQ, .from = 11, .grant = {.inc = 1}};
    tell(&p, 200, &m);
    uint32_t num = p.v.known.num;
    for (uint64_t now = 300; now < 30000; now += 1000) {
        for (uint64_t node = 10; node < 13; node += 2) {
            renew(&p, now, node, 1);
            say_speaks(&p, now, node, SCHED_VERSION_MAX);
        }
        tell(&p, now + 600, NULL);
    }
    CHECK_EQ(p.v.known.num, num + 1); /* it is out, in a version that it knows */
    CHECK_EQ(sched_view_version(&p.v.known), SCHED_VERSION_BASE);
    for (uint64_t now = 30000; now < 32000; now += 500) {
        for (uint64_t node = 10; node < 13; node += 2) {
            renew(&p, now, node, 1);
        }
        tell(&p, now + 400, NULL);
    }
    CHECK_EQ(sched_view_version(&p.v.known), SCHED_VERSION_MAX);
}

TEST(the_version_waits_for_the_other_voters_too)
{
    struct sched_mem mem = fresh_memory();
    static struct poll p;
    poll_of_new(&p, &mem, 3);
    for (uint64_t node = 10; node < 13; node++) {
        renew(&p, 100, node, 1);
        say_speaks(&p, 100, node, SCHED_VERSION_MAX);
    }
    say_speaks(&p, 110, 2, SCHED_VERSION_MAX);
    uint32_t told = 0;
    for (uint64_t t = 200; t <= 1400; t += 100) {
        tell(&p, t, NULL);
        CHECK(said(&p.fx, SCHED_MSG_VPREP) == NULL);
        const struct sched_msg *m = said(&p.fx, SCHED_MSG_VPULL);
        told += m != NULL && m->pull.known == UINT32_MAX && m->pull.speaks.max == SCHED_VERSION_MAX;
    }
    CHECK_EQ(told, 1); /* it does not tell all the time */
    say_speaks(&p, 1500, 3, SCHED_VERSION_MAX);
    p.v.awake_ns += SCHED_MS(60000);
    for (uint64_t t = 1500; t <= 2200; t += 100) {
        tell(&p, t, NULL);
        CHECK(said(&p.fx, SCHED_MSG_VPREP) == NULL); /* not all gateways can have told it */
    }
    p.v.awake_ns -= SCHED_MS(8000);
    bool proposes = false;
    for (uint64_t t = 2300; t <= 3000 && !proposes; t += 100) {
        tell(&p, t, NULL);
        proposes = said(&p.fx, SCHED_MSG_VPREP) != NULL;
    }
    CHECK(proposes);
}

TEST(who_does_not_speak_the_version_of_the_cluster_is_not_admitted)
{
    struct sched_mem mem = fresh_memory();
    static struct poll p;
    poll_of_new(&p, &mem, 1);
    p.v.known.version = SCHED_VERSION_MAX;
    renew(&p, 100, 20, 1);
    CHECK(sched_voter_refuses(&p.v, 20));
    CHECK_EQ(sched_voter_spoken(&p.v, 20).max, SCHED_VERSION_BASE);
    (void)raised(&p, 200, 0);
    CHECK(!sched_view_has(&p.v.known, (struct sched_host){20, 1}));
    say_speaks(&p, 800, 20, SCHED_VERSION_MAX);
    CHECK(!sched_voter_refuses(&p.v, 20));
    renew(&p, 800, 20, 1);
    (void)raised(&p, 900, 0);
    CHECK(sched_view_has(&p.v.known, (struct sched_host){20, 1}));
}
