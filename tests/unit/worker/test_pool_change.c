#include "tests/unit/worker/pool_rig.h"

/* Pools that change, are retired and come back. */

/* All that start, and that start then. */
static void all_ready(struct bench *b)
{
    for (uint32_t i = 0; i < b->p->cfg.vms_max; i++) {
        if (b->p->slots[i].state == WORKER_SLOT_STARTING) {
            slot_event(b, WORKER_EV_VM_READY, i);
        }
    }
}

TEST(a_pool_is_changed_while_it_runs)
{
    struct bench b;
    struct worker_pool_config cfg = config(8);
    bench_init(&b, &cfg);
    struct worker_pool_spec s = spec("python", 3, 3);
    uint32_t pool = pool_add(&b, s);
    all_ready(&b);
    struct worker_pool_fx one = open_session(&b, pool, "user-1");
    struct worker_pool_fx two = open_session(&b, pool, "user-2");
    all_ready(&b);
    CHECK_EQ(b.p->pools[pool].slots[WORKER_SLOT_READY], 1);
    s.sessions_max = 1;
    s.ready_target = 0;
    s.cooldown_ms = 100000;
    step(&b, (struct worker_pool_event){.kind = WORKER_EV_CHANGE, .pool = pool, .spec = &s});
    CHECK_EQ(b.p->pools[pool].slots[WORKER_SLOT_READY], 0); /* the idle one ends */
    CHECK_EQ(b.p->pools[pool].sessions, 2);                 /* sessions beyond the maximum do not */
    ask(&b, 3, pool, "user-3");
    CHECK_EQ(fx(&b, WORKER_FX_ANSWER, 0)->answer, WORKER_ANSWER_FULL);
    use(&b, WORKER_EV_RELEASE, &one);
    use(&b, WORKER_EV_RELEASE, &two);
    b.now_ns += 101 * S; /* the shorter cooldown, though it was set after the last use began */
    step(&b, (struct worker_pool_event){.kind = WORKER_EV_TICK});
    CHECK_EQ(fx(&b, WORKER_FX_ENDING, 1)->end, WORKER_END_EXPIRED);
    free(b.mem);
}

TEST(a_shorter_cooldown_counts_for_who_is_idle_already)
{
    struct bench b;
    struct worker_pool_config cfg = config(4);
    bench_init(&b, &cfg);
    struct worker_pool_spec s = spec("python", 3, 0);
    uint32_t pool = pool_add(&b, s);
    struct worker_pool_fx a = open_session(&b, pool, "user-1");
    use(&b, WORKER_EV_RELEASE, &a);
    s.cooldown_ms = 10000;
    step(&b, (struct worker_pool_event){.kind = WORKER_EV_CHANGE, .pool = pool, .spec = &s});
    CHECK(worker_pool_deadline_ns(b.p) <= b.now_ns + 11 * S);
    b.now_ns += 11 * S;
    step(&b, (struct worker_pool_event){.kind = WORKER_EV_TICK});
    CHECK_EQ(fx(&b, WORKER_FX_ENDING, 0)->end, WORKER_END_EXPIRED);
    free(b.mem);
}

/* One microVM in each state: ready, starting, claimed, in use and in use while somebody waits. */
TEST(a_retired_pool_ends_with_all_that_it_has_and_its_name_comes_back)
{
    struct bench b;
    struct worker_pool_config cfg = config(8);
    bench_init(&b, &cfg);
    struct worker_pool_spec s = spec("python", 6, 2), o = spec("other", 2, 0);
    uint32_t pool = pool_add(&b, s), other = pool_add(&b, o), again = 98;
    all_ready(&b);
    struct worker_pool_fx a = open_session(&b, pool, "user-1");
    struct worker_pool_fx x = open_session(&b, other, "user-1");
    all_ready(&b);
    ask(&b, 5, pool, "user-2"); /* is being claimed */
    CHECK_EQ(b.p->pools[pool].slots[WORKER_SLOT_CLAIMED], 1);
    step(&b, (struct worker_pool_event){.kind = WORKER_EV_RETIRE, .pool = pool});
    CHECK_EQ(fx(&b, WORKER_FX_ANSWER, 0)->request, 5);
    CHECK_EQ(fx(&b, WORKER_FX_ANSWER, 0)->answer, WORKER_ANSWER_UNAVAILABLE);
    CHECK_EQ(fx(&b, WORKER_FX_ENDING, 0)->end, WORKER_END_POOL);
    CHECK_EQ(fx(&b, WORKER_FX_ENDING, 0)->epoch, a.epoch);
    CHECK(fx(&b, WORKER_FX_ENDING, 1) == NULL); /* what is not of the pool lives on */
    CHECK_EQ(b.p->pools[pool].sessions, 1);
    CHECK_EQ(worker_pool_spent(b.p), WORKER_NONE); /* microVMs are still there */
    ask(&b, 6, pool, "user-1");
    CHECK_EQ(fx(&b, WORKER_FX_ANSWER, 0)->answer, WORKER_ANSWER_UNAVAILABLE);
    ask(&b, 7, pool, "user-3");
    CHECK_EQ(fx(&b, WORKER_FX_ANSWER, 0)->answer, WORKER_ANSWER_UNAVAILABLE);
    CHECK_STR(worker_pool_fault(b.p, pool), "the pool is deleted");
    CHECK_EQ(worker_pool_add(b.p, &s, &again), 0);
    CHECK_EQ(again, pool);
    step(&b, (struct worker_pool_event){
                 .kind = WORKER_EV_TEMPLATE, .pool = pool, .template = WORKER_POOL_TEMPLATE_READY});
    all_ready(&b);
    ask(&b, 8, pool, "user-1"); /* waits for the end of the former one */
    CHECK(fx(&b, WORKER_FX_ANSWER, 0) == NULL && fx(&b, WORKER_FX_CLAIM, 0) == NULL);
    slot_event(&b, WORKER_EV_VM_GONE, a.slot);
    CHECK(fx(&b, WORKER_FX_CLAIM, 0) != NULL && fx(&b, WORKER_FX_CLAIM, 0)->epoch > a.epoch);
    use(&b, WORKER_EV_END, &x);
    CHECK_EQ(fx(&b, WORKER_FX_ENDING, 0)->end, WORKER_END_DELETED);
    free(b.mem);
}

TEST(a_frozen_session_of_a_retired_pool_ends_too)
{
    struct bench b;
    struct worker_pool_config cfg = config(4);
    bench_init(&b, &cfg);
    uint32_t pool = pool_add(&b, spec("python", 2, 0));
    struct worker_pool_fx a = open_session(&b, pool, "user-1");
    step(&b, (struct worker_pool_event){.kind = WORKER_EV_FREEZE});
    step(&b, (struct worker_pool_event){.kind = WORKER_EV_RETIRE, .pool = pool});
    CHECK_EQ(fx(&b, WORKER_FX_ENDING, 0)->end, WORKER_END_POOL);
    CHECK_EQ(fx(&b, WORKER_FX_KILL, 0)->slot, a.slot);
    slot_event(&b, WORKER_EV_VM_GONE, a.slot);
    CHECK_EQ(worker_pool_spent(b.p), pool);
    free(b.mem);
}

TEST(the_place_of_a_retired_pool_is_taken_by_another_name_when_nothing_of_it_is_left)
{
    struct bench b;
    struct worker_pool_config cfg = config(8);
    bench_init(&b, &cfg);
    static const char *const names[] = {"pool-0", "pool-1", "pool-2", "pool-3"};
    struct worker_pool_spec s;
    uint32_t pool;
    for (uint32_t i = 0; i < 4; i++) {
        s = spec(names[i], 4, 0);
        CHECK_EQ(worker_pool_add(b.p, &s, &pool), 0);
        CHECK_EQ(pool, i);
    }
    s = spec("more", 4, 0);
    CHECK_EQ(worker_pool_add(b.p, &s, &pool), BASE_EFULL);
    step(&b, (struct worker_pool_event){
                 .kind = WORKER_EV_TEMPLATE, .pool = 2, .template = WORKER_POOL_TEMPLATE_READY});
    struct worker_pool_fx a = open_session(&b, 2, "user-1");
    use(&b, WORKER_EV_END, &a);
    step(&b, (struct worker_pool_event){.kind = WORKER_EV_RETIRE, .pool = 2});
    CHECK_EQ(worker_pool_spent(b.p), WORKER_NONE); /* its microVM is not gone */
    slot_event(&b, WORKER_EV_VM_GONE, a.slot);
    struct worker_quota_who who = {.pool = 2};
    CHECK(worker_quota_charge(b.p->quota, &who, WORKER_QUOTA_REQUESTS, 1));
    CHECK_EQ(worker_pool_spent(b.p), WORKER_NONE); /* a request for it is under way */
    worker_quota_refund(b.p->quota, &who, WORKER_QUOTA_REQUESTS, 1);
    CHECK_EQ(worker_pool_spent(b.p), 2);
    worker_pool_forget(b.p, 2);
    CHECK_EQ(worker_pool_spent(b.p), WORKER_NONE);
    CHECK_EQ(worker_pool_add(b.p, &s, &pool), 0);
    CHECK_EQ(pool, 2);
    step(&b, (struct worker_pool_event){
                 .kind = WORKER_EV_TEMPLATE, .pool = 2, .template = WORKER_POOL_TEMPLATE_READY});
    ask(&b, 9, 2, "user-1"); /* nothing is known of the other pool's session */
    struct proto_identifier id = ident("user-1");
    uint32_t i = worker_pool_session_find(b.p, 2, hash_of(&id), &id);
    CHECK(i != WORKER_NONE);
    CHECK_EQ(b.p->sessions[i].recreated, WORKER_END_NONE);
    free(b.mem);
}

TEST(a_smaller_maximum_is_reached_though_identifiers_come_again)
{
    struct bench b;
    struct worker_pool_config cfg = config(8);
    bench_init(&b, &cfg);
    struct worker_pool_spec s = spec("python", 3, 0);
    uint32_t pool = pool_add(&b, s);
    struct worker_pool_fx a = open_session(&b, pool, "user-1");
    (void)open_session(&b, pool, "user-2");
    s.sessions_max = 1;
    step(&b, (struct worker_pool_event){.kind = WORKER_EV_CHANGE, .pool = pool, .spec = &s});
    use(&b, WORKER_EV_END, &a);
    ask(&b, 9, pool, "user-1"); /* waits for the end */
    slot_event(&b, WORKER_EV_VM_GONE, a.slot);
    CHECK_EQ(fx(&b, WORKER_FX_ANSWER, 0)->answer, WORKER_ANSWER_FULL);
    CHECK_EQ(b.p->pools[pool].sessions, 1);
    free(b.mem);
}

TEST(what_is_being_started_from_an_old_template_is_not_handed_out)
{
    struct bench b;
    struct worker_pool_config cfg = config(4);
    bench_init(&b, &cfg);
    struct worker_pool_spec s = spec("python", 2, 1);
    uint32_t pool = 99;
    CHECK_EQ(worker_pool_add(b.p, &s, &pool), 0);
    struct worker_pool_event template = {
        .kind = WORKER_EV_TEMPLATE, .pool = pool, .template = WORKER_POOL_TEMPLATE_READY};
    step(&b, template);
    uint32_t slot = fx(&b, WORKER_FX_START, 0)->slot;
    template.renewed = true;
    step(&b, template);
    CHECK_EQ(fx(&b, WORKER_FX_KILL, 0)->slot, slot);
    CHECK(fx(&b, WORKER_FX_START, 0) != NULL && fx(&b, WORKER_FX_START, 0)->slot != slot);
    free(b.mem);
}
