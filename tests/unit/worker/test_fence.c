#include "proto/base/clock.h"
#include "proto/base/hash.h"
#include "tests/lib/check.h"
#include "worker/core/fence.h"

#define S BASE_NS_PER_S
#define MS BASE_NS_PER_MS

/* One microVM, its clocks and the page. */
struct stage {
    struct worker_fence f;
    struct worker_fence_clock now;
    struct worker_fence_lease page;
    bool damaged;
    uint64_t look_ns;
};

static struct stage stage(enum worker_fence_mode mode)
{
    struct stage s = {.now = {1000 * S, 400 * S}};
    s.page = (struct worker_fence_lease){.mode = mode,
        .freeze_at_ns = 1006 * S,
        .kill_at_ns = 1066 * S,
        .epoch = 7,
        .alone_ns = 70 * S,
        .beat = 1};
    worker_fence_init(&s.f, &s.now, false);
    return s;
}

static enum worker_fence_verdict look(struct stage *s)
{
    return worker_fence_look(&s->f, s->damaged ? NULL : &s->page, &s->now, &s->look_ns);
}

static enum worker_fence_verdict after(struct stage *s, uint64_t ns)
{
    s->now.boot_ns += ns;
    s->now.mono_ns += ns;
    return look(s);
}

static enum worker_fence_verdict after_suspend(struct stage *s, uint64_t ns)
{
    s->now.boot_ns += ns;
    return look(s);
}

static void renew(struct stage *s, uint64_t freeze_in_ns)
{
    s->page.freeze_at_ns = s->now.boot_ns + freeze_in_ns;
    s->page.kill_at_ns = s->page.freeze_at_ns + 60 * S;
    s->page.beat++;
}

TEST(runs_before_freeze_at_stands_still_after_it_and_ends_at_kill_at)
{
    struct stage s = stage(WORKER_FENCE_LEASE);
    CHECK_EQ(s.f.verdict, WORKER_FENCE_FREEZE); /* before anybody has looked */
    CHECK_EQ(look(&s), WORKER_FENCE_RUN);
    CHECK_EQ(s.look_ns, 6 * S);
    CHECK_EQ(after(&s, 6 * S - 1), WORKER_FENCE_RUN);
    CHECK_EQ(s.look_ns, 1);
    CHECK_EQ(after(&s, 1), WORKER_FENCE_FREEZE);
    CHECK_EQ(s.look_ns, WORKER_FENCE_LOOK_MS * MS);
    CHECK_EQ(after(&s, 60 * S - 100 * MS), WORKER_FENCE_FREEZE);
    CHECK_EQ(s.look_ns, 100 * MS); /* not a look late */
    CHECK_EQ(after(&s, 100 * MS - 1), WORKER_FENCE_FREEZE);
    CHECK_EQ(after(&s, 1), WORKER_FENCE_KILL);
    renew(&s, 60 * S);
    CHECK_EQ(look(&s), WORKER_FENCE_KILL); /* there is no way back */
}

TEST(a_renewal_in_time_is_no_freeze_and_a_late_one_is_a_thaw)
{
    struct stage s = stage(WORKER_FENCE_LEASE);
    CHECK_EQ(look(&s), WORKER_FENCE_RUN);
    s.now.boot_ns += 5 * S;
    renew(&s, 6 * S);
    CHECK_EQ(after(&s, 1 * S), WORKER_FENCE_RUN);
    CHECK_EQ(s.look_ns, 5 * S);
    CHECK_EQ(after(&s, 30 * S), WORKER_FENCE_FREEZE);
    renew(&s, 6 * S);
    CHECK_EQ(after(&s, 200 * MS), WORKER_FENCE_RUN);
    CHECK_EQ(after(&s, 6 * S), WORKER_FENCE_FREEZE);
}

TEST(one_that_starts_without_a_lease_does_not_run)
{
    struct stage s = stage(WORKER_FENCE_LEASE);
    s.now.boot_ns = s.page.freeze_at_ns;
    CHECK_EQ(look(&s), WORKER_FENCE_FREEZE);
    renew(&s, 1 * S);
    CHECK_EQ(look(&s), WORKER_FENCE_RUN);
}

TEST(a_lease_that_is_given_back_ends_everything_at_once)
{
    struct stage s = stage(WORKER_FENCE_LEASE);
    CHECK_EQ(look(&s), WORKER_FENCE_RUN);
    s.page.freeze_at_ns = s.page.kill_at_ns = 0;
    CHECK_EQ(look(&s), WORKER_FENCE_KILL);
}

TEST(another_incarnation_ends_what_ran_under_this_one)
{
    struct stage s = stage(WORKER_FENCE_LEASE);
    s.page.epoch = 0; /* started before the worker was admitted */
    CHECK_EQ(look(&s), WORKER_FENCE_RUN);
    s.page.epoch = 7;
    CHECK_EQ(look(&s), WORKER_FENCE_RUN);
    CHECK_EQ(after(&s, 20 * S), WORKER_FENCE_FREEZE);
    s.page.epoch = 0; /* says nothing */
    CHECK_EQ(look(&s), WORKER_FENCE_FREEZE);
    s.page.epoch = 8; /* removed, admitted again, and with a fresh lease: not for this one */
    renew(&s, 6 * S);
    CHECK_EQ(look(&s), WORKER_FENCE_KILL);
}

TEST(a_suspended_machine_that_wakes_up_late_stands_still_before_it_ends_anything)
{
    struct stage s = stage(WORKER_FENCE_LEASE);
    CHECK_EQ(look(&s), WORKER_FENCE_RUN);
    CHECK_EQ(after_suspend(&s, 3600 * S), WORKER_FENCE_FREEZE);
    CHECK(s.look_ns <= WORKER_FENCE_LOOK_MS * MS);
    CHECK_EQ(after(&s, 1 * S), WORKER_FENCE_FREEZE);
    struct stage member = s; /* still a member: the worker renews as soon as it runs */
    renew(&member, 6 * S);
    CHECK_EQ(look(&member), WORKER_FENCE_RUN);
    CHECK_EQ(after(&s, 1 * S + 900 * MS), WORKER_FENCE_FREEZE);
    CHECK_EQ(s.look_ns, 100 * MS);
    CHECK_EQ(after(&s, 100 * MS), WORKER_FENCE_KILL); /* nobody did */
}

TEST(a_suspend_shorter_than_the_lease_is_not_noticed)
{
    struct stage s = stage(WORKER_FENCE_LEASE);
    CHECK_EQ(look(&s), WORKER_FENCE_RUN);
    CHECK_EQ(after_suspend(&s, 5 * S), WORKER_FENCE_RUN);
    CHECK_EQ(s.look_ns, 1 * S);
    CHECK_EQ(after_suspend(&s, 10 * S), WORKER_FENCE_FREEZE);
}

TEST(without_a_lease_only_a_worker_that_stays_away_ends_it)
{
    struct stage s = stage(WORKER_FENCE_NO_LEASE);
    s.now.boot_ns = s.page.kill_at_ns + 99 * S; /* deadlines mean nothing here */
    CHECK_EQ(look(&s), WORKER_FENCE_RUN);
    CHECK_EQ(s.look_ns, 70 * S / 8);
    CHECK_EQ(after(&s, 69 * S), WORKER_FENCE_RUN);
    s.page.beat++;
    CHECK_EQ(after(&s, 1 * S), WORKER_FENCE_RUN);
    CHECK_EQ(s.look_ns, 70 * S / 8);
    CHECK_EQ(after_suspend(&s, 7 * 86400 * S), WORKER_FENCE_RUN); /* nobody could renew */
    CHECK_EQ(after(&s, 70 * S - 1), WORKER_FENCE_RUN);
    CHECK_EQ(after(&s, 1), WORKER_FENCE_KILL);
}

/* Followed by its looks only; the worker beats every second and dies at any moment. */
TEST(without_a_lease_it_ends_soon_after_the_time_that_is_stated)
{
    for (uint64_t dies = 0; dies < 80 * S; dies += 137 * MS) {
        struct stage s = stage(WORKER_FENCE_NO_LEASE);
        uint64_t begun = s.now.mono_ns, last = begun + dies / S * S;
        while (look(&s) != WORKER_FENCE_KILL) {
            CHECK(s.look_ns > 0);
            s.now.boot_ns += s.look_ns;
            s.now.mono_ns += s.look_ns;
            uint64_t beat = s.now.mono_ns < last ? s.now.mono_ns : last;
            s.page.beat = 1 + (beat - begun) / S;
        }
        CHECK(s.now.mono_ns - last >= 70 * S);
        CHECK(s.now.mono_ns - last <= 70 * S + 70 * S / 8);
    }
}

TEST(what_has_no_session_needs_no_lease)
{
    struct stage s = stage(WORKER_FENCE_LEASE);
    worker_fence_init(&s.f, &s.now, true);
    s.page.freeze_at_ns = s.page.kill_at_ns = 0;
    CHECK_EQ(look(&s), WORKER_FENCE_RUN);
    s.page.epoch = 8;
    CHECK_EQ(after(&s, 69 * S), WORKER_FENCE_RUN);
    CHECK_EQ(after(&s, 1 * S), WORKER_FENCE_KILL); /* the worker is gone */
}

TEST(a_page_that_cannot_be_read_freezes_and_ends_when_the_last_word_says_so)
{
    struct stage s = stage(WORKER_FENCE_LEASE);
    CHECK_EQ(look(&s), WORKER_FENCE_RUN);
    s.damaged = true;
    CHECK_EQ(after(&s, 1 * S), WORKER_FENCE_FREEZE);
    CHECK_EQ(s.look_ns, WORKER_FENCE_LOOK_MS * MS);
    s.damaged = false;
    CHECK_EQ(after(&s, 1 * S), WORKER_FENCE_RUN);
    s.damaged = true;
    CHECK_EQ(after(&s, 64 * S - 1), WORKER_FENCE_FREEZE);
    CHECK_EQ(after(&s, 1), WORKER_FENCE_KILL);
}

TEST(a_page_that_was_never_readable_ends_it_after_a_minute)
{
    struct stage s = stage(WORKER_FENCE_LEASE);
    s.damaged = true;
    CHECK_EQ(look(&s), WORKER_FENCE_FREEZE);
    CHECK_EQ(after(&s, WORKER_FENCE_BLIND_MS * MS - 1), WORKER_FENCE_FREEZE);
    CHECK_EQ(after(&s, 1), WORKER_FENCE_KILL);
}

TEST(without_a_lease_a_look_that_could_not_read_ends_nothing)
{
    struct stage s = stage(WORKER_FENCE_NO_LEASE);
    CHECK_EQ(look(&s), WORKER_FENCE_RUN);
    s.damaged = true; /* the first look for a long time */
    CHECK_EQ(after(&s, 69 * S), WORKER_FENCE_FREEZE);
    s.damaged = false;
    s.page.beat++;
    CHECK_EQ(after(&s, 200 * MS), WORKER_FENCE_RUN);
    s.damaged = true;
    CHECK_EQ(after(&s, 1 * S), WORKER_FENCE_FREEZE);
    CHECK_EQ(after(&s, WORKER_FENCE_BLIND_MS * MS - 1), WORKER_FENCE_FREEZE);
    CHECK_EQ(after(&s, 1), WORKER_FENCE_KILL);
}

TEST(nonsense_counts_as_unreadable)
{
    struct stage s = stage(WORKER_FENCE_LEASE);
    s.page.kill_at_ns = s.page.freeze_at_ns - 1;
    CHECK(!worker_fence_valid(&s.page));
    CHECK_EQ(look(&s), WORKER_FENCE_FREEZE);
    s = stage(WORKER_FENCE_LEASE);
    s.page.mode = 3;
    CHECK_EQ(look(&s), WORKER_FENCE_FREEZE);
    s.page.mode = 0;
    CHECK_EQ(look(&s), WORKER_FENCE_FREEZE);
    s = stage(WORKER_FENCE_NO_LEASE);
    s.page.alone_ns = 0;
    CHECK_EQ(look(&s), WORKER_FENCE_FREEZE);
}

TEST(a_monotonic_clock_that_steps_back_harms_nothing)
{
    struct stage s = stage(WORKER_FENCE_NO_LEASE);
    CHECK_EQ(look(&s), WORKER_FENCE_RUN);
    s.now.mono_ns -= 300 * S;
    CHECK_EQ(look(&s), WORKER_FENCE_RUN);
    CHECK_EQ(s.look_ns, 70 * S / 8);
}

/* Whatever page, clocks and damage: it never runs outside of a lease, never lives on after an end,
 * and always says when to look again. */
TEST(no_schedule_lets_it_run_without_a_lease)
{
    struct base_hash_rng rng;
    base_hash_rng_seed(&rng, 6);
    uint64_t ran = 0, ended = 0;
    for (int round = 0; round < 20000; round++) {
        struct stage s = stage(WORKER_FENCE_LEASE);
        uint64_t first = 0;
        for (int i = 0; i < 30; i++) {
            uint64_t dice = base_hash_rng_below(&rng, 12);
            if (dice < 4) {
                renew(&s, base_hash_rng_below(&rng, 8) * S);
            } else if (dice == 4) {
                s.page.epoch = base_hash_rng_below(&rng, 3);
            } else if (dice == 5) {
                s.damaged = !s.damaged;
            } else if (dice == 6) {
                s.now.boot_ns += base_hash_rng_below(&rng, 100) * S;
            }
            enum worker_fence_verdict was = s.f.verdict;
            enum worker_fence_verdict v = after(&s, base_hash_rng_below(&rng, 4) * S);
            first = first == 0 && !s.damaged ? s.page.epoch : first;
            bool held = !s.damaged && s.now.boot_ns < s.page.freeze_at_ns;
            bool other = !s.damaged && s.page.epoch != 0 && first != 0 && s.page.epoch != first;
            CHECK(v != WORKER_FENCE_RUN || (held && !other));
            CHECK(was != WORKER_FENCE_KILL || v == WORKER_FENCE_KILL);
            CHECK(v == WORKER_FENCE_KILL || s.look_ns > 0);
            ran += v == WORKER_FENCE_RUN;
            ended += v == WORKER_FENCE_KILL && was != WORKER_FENCE_KILL;
        }
    }
    CHECK(ran > 20000 && ended > 5000); /* the schedules do something */
}
