#include "tests/unit/worker/pool_rig.h"

/* --- directed cases ------------------------------------------------------------------------ */

TEST(init_takes_any_memory_that_is_large_enough_and_refuses_every_smaller_one)
{
    struct worker_pool_config cfg = config(5);
    size_t size = worker_pool_size(&cfg, 4);
    for (size_t n = 0; n <= size; n += n + 64 < size ? 61 : 1) {
        uint8_t *mem = malloc(n + 1);
        struct worker_pools *p = NULL;
        mem[n] = 0x5a;
        int rc = worker_pool_init(&p, &cfg, 4, 0, mem, n);
        CHECK_EQ(rc, n < size ? BASE_ENOMEM : 0);
        CHECK((p == NULL) == (rc != 0));
        CHECK_EQ(mem[n], 0x5a);
        free(mem);
    }
    cfg.vms_max = 0;
    CHECK_EQ(worker_pool_size(&cfg, 4), 0);
}

TEST(ready_instances_are_made_two_at_a_time_and_pools_take_turns)
{
    struct bench b;
    struct worker_pool_config cfg = config(20);
    bench_init(&b, &cfg);
    uint32_t one = 0, two = 0, seen[2] = {0, 0};
    struct worker_pool_spec s1 = spec("one", 10, 4), s2 = spec("two", 10, 4);
    CHECK_EQ(worker_pool_add(b.p, &s1, &one), 0);
    CHECK_EQ(worker_pool_add(b.p, &s2, &two), 0);
    step(&b, (struct worker_pool_event){
                 .kind = WORKER_EV_TEMPLATE, .pool = two, .template = WORKER_POOL_TEMPLATE_READY});
    CHECK(fx(&b, WORKER_FX_START, 1) != NULL && fx(&b, WORKER_FX_START, 2) == NULL);
    uint32_t first = fx(&b, WORKER_FX_START, 0)->slot;
    step(&b, (struct worker_pool_event){
                 .kind = WORKER_EV_TEMPLATE, .pool = one, .template = WORKER_POOL_TEMPLATE_READY});
    CHECK(fx(&b, WORKER_FX_START, 0) == NULL);
    uint32_t next = first;
    for (int i = 0; i < 4; i++) { /* each one that is done makes room for the next pool's */
        slot_event(&b, WORKER_EV_VM_READY, next);
        const struct worker_pool_fx *f = fx(&b, WORKER_FX_START, 0);
        CHECK(f != NULL && fx(&b, WORKER_FX_START, 1) == NULL && !f->urgent);
        seen[f->pool]++;
        next = f->slot;
    }
    CHECK_EQ(seen[0], 2);
    CHECK_EQ(seen[1], 2);
    free(b.mem);
}

TEST(a_ready_instance_is_claimed_at_once_and_replaced_off_the_request_path)
{
    struct bench b;
    struct worker_pool_config cfg = config(8);
    cfg.replenish_ms = 100;
    bench_init(&b, &cfg);
    uint32_t pool = pool_add(&b, spec("python", 5, 1));
    slot_event(&b, WORKER_EV_VM_READY, fx(&b, WORKER_FX_START, 0)->slot);
    ask(&b, 7, pool, "alice");
    const struct worker_pool_fx *claim = fx(&b, WORKER_FX_CLAIM, 0);
    CHECK(claim != NULL && fx(&b, WORKER_FX_START, 0) == NULL);
    CHECK(fx(&b, WORKER_FX_STORE_SESSION, 0) < claim); /* stored before it is carried out */
    proto_epoch epoch = claim->epoch;
    slot_event(&b, WORKER_EV_VM_CLAIMED, claim->slot);
    const struct worker_pool_fx *a = fx(&b, WORKER_FX_ANSWER, 0);
    CHECK(a->answer == WORKER_ANSWER_USE && a->fresh && a->epoch == epoch && a->request == 7);
    ask(&b, 8, pool, "alice");
    a = fx(&b, WORKER_FX_ANSWER, 0);
    CHECK(a->answer == WORKER_ANSWER_USE && !a->fresh && a->epoch == epoch);
    CHECK(worker_pool_deadline_ns(b.p) <= b.now_ns + 120 * MS);
    tick_to(&b, b.now_ns + 120 * MS);
    CHECK(fx(&b, WORKER_FX_START, 0) != NULL);
    free(b.mem);
}

TEST(a_pool_miss_starts_one_urgently_and_all_requests_of_the_identifier_share_it)
{
    struct bench b;
    struct worker_pool_config cfg = config(8);
    bench_init(&b, &cfg);
    uint32_t pool = pool_add(&b, spec("python", 5, 0));
    ask(&b, 1, pool, "alice");
    CHECK(fx(&b, WORKER_FX_START, 0)->urgent);
    uint32_t slot = fx(&b, WORKER_FX_START, 0)->slot;
    ask(&b, 2, pool, "alice");
    CHECK_EQ(b.n, 0);
    slot_event(&b, WORKER_EV_VM_READY, slot);
    CHECK_EQ(fx(&b, WORKER_FX_CLAIM, 0)->slot, slot);
    slot_event(&b, WORKER_EV_VM_CLAIMED, slot);
    CHECK(fx(&b, WORKER_FX_ANSWER, 0)->fresh && !fx(&b, WORKER_FX_ANSWER, 1)->fresh);
    CHECK_EQ(fx(&b, WORKER_FX_ANSWER, 0)->epoch, fx(&b, WORKER_FX_ANSWER, 1)->epoch);
    free(b.mem);
}

TEST(a_full_pool_says_when_to_come_again)
{
    struct bench b;
    struct worker_pool_config cfg = config(8);
    bench_init(&b, &cfg);
    struct worker_pool_spec s = spec("python", 1, 0);
    s.cooldown_ms = 20000;
    uint32_t pool = pool_add(&b, s);
    struct worker_pool_fx a = open_session(&b, pool, "alice");
    use(&b, WORKER_EV_RELEASE, &a);
    b.now_ns += 5 * S;
    ask(&b, 2, pool, "bobby");
    const struct worker_pool_fx *f = fx(&b, WORKER_FX_ANSWER, 0);
    CHECK_EQ(f->answer, WORKER_ANSWER_FULL);
    CHECK(f->retry_ms >= 15000 && f->retry_ms <= 15100);
    CHECK(fx(&b, WORKER_FX_START, 0) == NULL);
    free(b.mem);
}

TEST(cooldown_counts_from_the_last_use_and_never_ends_a_session_in_use)
{
    struct bench b;
    struct worker_pool_config cfg = config(4);
    bench_init(&b, &cfg);
    uint32_t pool = pool_add(&b, spec("python", 2, 0));
    struct worker_pool_fx a = open_session(&b, pool, "alice");
    tick_to(&b, b.now_ns + 1000 * S); /* its request still runs */
    CHECK_EQ(b.n, 0);
    use(&b, WORKER_EV_RELEASE, &a);
    uint64_t last = b.now_ns;
    tick_to(&b, last + 200 * S);
    use(&b, WORKER_EV_TOUCH, &a);
    CHECK(fx(&b, WORKER_FX_STORE_SESSION, 0) != NULL); /* more than an eighth of the cooldown */
    tick_to(&b, last + 499 * S);
    CHECK_EQ(b.n, 0);
    tick_to(&b, last + 500 * S + 10 * MS);
    CHECK_EQ(fx(&b, WORKER_FX_ENDING, 0)->end, WORKER_END_EXPIRED);
    CHECK(fx(&b, WORKER_FX_KILL, 0) != NULL);
    slot_event(&b, WORKER_EV_VM_GONE, a.slot);
    CHECK_EQ(fx(&b, WORKER_FX_GONE, 0)->end, WORKER_END_EXPIRED);
    CHECK(worker_pool_idle(b.p));
    free(b.mem);
}

TEST(on_exit_pools_have_no_cooldown_but_a_limit_of_life)
{
    struct bench b;
    struct worker_pool_config cfg = config(4);
    bench_init(&b, &cfg);
    struct worker_pool_spec s = spec("job", 2, 0);
    s.lifecycle = WORKER_LIFECYCLE_ON_EXIT;
    s.cooldown_ms = 0;
    s.alive_ms_max = 3600000;
    uint32_t pool = pool_add(&b, s);
    struct worker_pool_fx a = open_session(&b, pool, "alice");
    tick_to(&b, b.now_ns + 3590 * S);
    CHECK_EQ(b.n, 0);
    tick_to(&b, b.now_ns + 11 * S); /* the limit holds even while a request runs */
    CHECK_EQ(fx(&b, WORKER_FX_ENDING, 0)->end, WORKER_END_ALIVE);
    slot_event(&b, WORKER_EV_VM_GONE, a.slot);
    a = open_session(&b, pool, "bobby");
    step(&b, (struct worker_pool_event){
                 .kind = WORKER_EV_VM_DEAD, .slot = a.slot, .exited = true, .text = "exit 0"});
    CHECK_EQ(fx(&b, WORKER_FX_ENDING, 0)->end, WORKER_END_EXITED);
    CHECK(fx(&b, WORKER_FX_KILL, 0) == NULL);
    free(b.mem);
}

TEST(a_lost_session_is_told_and_the_new_one_has_a_larger_epoch)
{
    struct bench b;
    struct worker_pool_config cfg = config(4);
    bench_init(&b, &cfg);
    uint32_t pool = pool_add(&b, spec("python", 2, 0));
    struct worker_pool_fx a = open_session(&b, pool, "alice");
    slot_event(&b, WORKER_EV_VM_DEAD, a.slot);
    CHECK_EQ(fx(&b, WORKER_FX_ENDING, 0)->end, WORKER_END_VM_LOST);
    struct proto_identifier id = ident("alice");
    ask(&b, 5, pool, "alice"); /* waits until nothing of the old microVM is left */
    CHECK_EQ(b.n, 0);
    slot_event(&b, WORKER_EV_VM_GONE, a.slot);
    CHECK(fx(&b, WORKER_FX_STORE_TOMB, 0) != NULL && fx(&b, WORKER_FX_GONE, 0) != NULL);
    slot_event(&b, WORKER_EV_VM_READY, fx(&b, WORKER_FX_START, 0)->slot);
    slot_event(&b, WORKER_EV_VM_CLAIMED, fx(&b, WORKER_FX_CLAIM, 0)->slot);
    struct worker_pool_fx again = *fx(&b, WORKER_FX_ANSWER, 0);
    CHECK(again.fresh && again.epoch > a.epoch);
    CHECK_EQ(b.p->sessions[again.session].recreated, WORKER_END_VM_LOST);
    step(&b, (struct worker_pool_event){.kind = WORKER_EV_REQUEST,
                 .request = 6,
                 .pool = pool,
                 .hash = hash_of(&id),
                 .id = &id,
                 .allocate = true,
                 .generation = a.epoch});
    CHECK_EQ(fx(&b, WORKER_FX_ANSWER, 0)->answer, WORKER_ANSWER_LOST);
    CHECK_EQ(fx(&b, WORKER_FX_ANSWER, 0)->end, WORKER_END_VM_LOST);
    free(b.mem);
}

TEST(starts_that_fail_are_tried_again_with_growing_pauses_and_then_refused)
{
    struct bench b;
    struct worker_pool_config cfg = config(4);
    bench_init(&b, &cfg);
    uint32_t pool = pool_add(&b, spec("python", 2, 0));
    ask(&b, 1, pool, "alice");
    uint64_t pause[3];
    for (int i = 0; i < 3; i++) {
        uint32_t slot = fx(&b, WORKER_FX_START, 0)->slot;
        slot_event(&b, WORKER_EV_VM_DEAD, slot);
        CHECK(fx(&b, WORKER_FX_START, 0) == NULL && fx(&b, WORKER_FX_CLAIM, 0) == NULL);
        if (i < 2) {
            CHECK(fx(&b, WORKER_FX_ANSWER, 0) == NULL);
        }
        if (i == 2) {
            CHECK_EQ(fx(&b, WORKER_FX_ANSWER, 0)->answer, WORKER_ANSWER_UNAVAILABLE);
        }
        slot_event(&b, WORKER_EV_VM_GONE, slot);
        pause[i] = b.p->pools[pool].backoff_ns - b.now_ns;
        if (i < 2) {
            tick_to(&b, b.now_ns + pause[i] + 10 * MS);
            CHECK(fx(&b, WORKER_FX_START, 0) != NULL);
        }
    }
    CHECK(pause[1] >= 2 * pause[0] && pause[2] >= 2 * pause[1]);
    ask(&b, 2, pool, "bobby");
    CHECK_EQ(fx(&b, WORKER_FX_ANSWER, 0)->answer, WORKER_ANSWER_UNAVAILABLE);
    CHECK_STR(worker_pool_fault(b.p, pool), "it broke");
    tick_to(&b, b.now_ns + 2 * S); /* the pause is over: it is tried again */
    ask(&b, 3, pool, "carol");
    CHECK(fx(&b, WORKER_FX_START, 0) != NULL);
    free(b.mem);
}

TEST(a_start_that_hangs_is_ended_and_counts_as_failed)
{
    struct bench b;
    struct worker_pool_config cfg = config(4);
    cfg.start_ms_max = 5000;
    bench_init(&b, &cfg);
    uint32_t pool = pool_add(&b, spec("python", 2, 0));
    ask(&b, 1, pool, "alice");
    uint32_t slot = fx(&b, WORKER_FX_START, 0)->slot;
    tick_to(&b, b.now_ns + 5010 * MS);
    CHECK_EQ(fx(&b, WORKER_FX_KILL, 0)->slot, slot);
    CHECK_EQ(b.p->pools[pool].failures, 1);
    slot_event(&b, WORKER_EV_VM_READY, slot); /* too late: never handed out */
    CHECK_EQ(b.n, 0);
    free(b.mem);
}

TEST(a_claim_that_fails_takes_the_next_microvm)
{
    struct bench b;
    struct worker_pool_config cfg = config(6);
    bench_init(&b, &cfg);
    uint32_t pool = pool_add(&b, spec("python", 4, 2));
    uint32_t s0 = fx(&b, WORKER_FX_START, 0)->slot, s1 = fx(&b, WORKER_FX_START, 1)->slot;
    slot_event(&b, WORKER_EV_VM_READY, s0);
    slot_event(&b, WORKER_EV_VM_READY, s1);
    ask(&b, 1, pool, "alice");
    proto_epoch first = fx(&b, WORKER_FX_CLAIM, 0)->epoch;
    CHECK_EQ(fx(&b, WORKER_FX_CLAIM, 0)->slot, s0);
    slot_event(&b, WORKER_EV_VM_DEAD, s0);
    CHECK_EQ(fx(&b, WORKER_FX_CLAIM, 0)->slot, s1);
    CHECK(fx(&b, WORKER_FX_CLAIM, 0)->epoch > first);
    slot_event(&b, WORKER_EV_VM_CLAIMED, s1);
    CHECK(fx(&b, WORKER_FX_ANSWER, 0)->fresh);
    slot_event(&b, WORKER_EV_VM_GONE, s0); /* the one that failed takes nothing with it */
    CHECK(fx(&b, WORKER_FX_GONE, 0) == NULL);
    free(b.mem);
}

TEST(a_request_that_waits_is_answered_at_its_deadline_and_leaves_no_session)
{
    struct bench b;
    struct worker_pool_config cfg = config(4);
    bench_init(&b, &cfg);
    struct worker_pool_spec s = spec("python", 1, 0);
    uint32_t pool = 0;
    CHECK_EQ(worker_pool_add(b.p, &s, &pool), 0); /* its template is still being built */
    struct proto_identifier id = ident("alice");
    step(&b, (struct worker_pool_event){.kind = WORKER_EV_REQUEST,
                 .request = 9,
                 .pool = pool,
                 .hash = hash_of(&id),
                 .id = &id,
                 .allocate = true,
                 .deadline_ns = b.now_ns + 2 * S});
    CHECK_EQ(b.n, 0);
    ask(&b, 10, pool, "bobby");
    CHECK_EQ(fx(&b, WORKER_FX_ANSWER, 0)->answer, WORKER_ANSWER_FULL);
    tick_to(&b, b.now_ns + 2 * S + 10 * MS);
    CHECK_EQ(fx(&b, WORKER_FX_ANSWER, 0)->answer, WORKER_ANSWER_TIMEOUT);
    CHECK_EQ(fx(&b, WORKER_FX_ANSWER, 0)->request, 9);
    CHECK_EQ(b.p->sessions_n, 0);
    ask(&b, 11, pool, "bobby");
    CHECK_EQ(b.n, 0);
    step(&b, (struct worker_pool_event){.kind = WORKER_EV_CANCEL, .request = 11});
    CHECK_EQ(b.n, 0);
    CHECK_EQ(b.p->sessions_n, 0);
    free(b.mem);
}

TEST(when_every_slot_is_taken_an_idle_instance_of_another_pool_makes_room)
{
    struct bench b;
    struct worker_pool_config cfg = config(2);
    bench_init(&b, &cfg);
    (void)pool_add(&b, spec("one", 2, 2));
    uint32_t s0 = fx(&b, WORKER_FX_START, 0)->slot, s1 = fx(&b, WORKER_FX_START, 1)->slot;
    slot_event(&b, WORKER_EV_VM_READY, s0);
    slot_event(&b, WORKER_EV_VM_READY, s1);
    uint32_t two = pool_add(&b, spec("two", 2, 0));
    ask(&b, 1, two, "alice");
    CHECK_EQ(fx(&b, WORKER_FX_KILL, 0)->slot, s0);
    CHECK(fx(&b, WORKER_FX_KILL, 1) == NULL);
    slot_event(&b, WORKER_EV_VM_GONE, s0);
    CHECK(fx(&b, WORKER_FX_START, 0)->urgent && fx(&b, WORKER_FX_START, 0)->pool == two);
    free(b.mem);
}

TEST(drain_ends_idle_instances_refuses_new_sessions_and_keeps_running_ones)
{
    struct bench b;
    struct worker_pool_config cfg = config(4);
    bench_init(&b, &cfg);
    uint32_t pool = pool_add(&b, spec("python", 3, 1));
    uint32_t idle = fx(&b, WORKER_FX_START, 0)->slot;
    slot_event(&b, WORKER_EV_VM_READY, idle);
    struct worker_pool_fx a = open_session(&b, pool, "alice");
    step(&b, (struct worker_pool_event){.kind = WORKER_EV_DRAIN, .on = true});
    CHECK(fx(&b, WORKER_FX_ENDING, 0) == NULL);
    ask(&b, 2, pool, "bobby");
    CHECK_EQ(fx(&b, WORKER_FX_ANSWER, 0)->answer, WORKER_ANSWER_UNAVAILABLE);
    ask(&b, 3, pool, "alice");
    CHECK_EQ(fx(&b, WORKER_FX_ANSWER, 0)->answer, WORKER_ANSWER_USE);
    step(&b, (struct worker_pool_event){.kind = WORKER_EV_DRAIN, .on = true, .end_all = true});
    CHECK_EQ(fx(&b, WORKER_FX_ENDING, 0)->end, WORKER_END_DRAINED);
    for (uint32_t i = 0; i < 4; i++) {
        slot_event(&b, WORKER_EV_VM_GONE, i);
    }
    CHECK(worker_pool_idle(b.p));
    (void)a;
    free(b.mem);
}

TEST(a_new_template_replaces_the_idle_instances_of_the_old_one)
{
    struct bench b;
    struct worker_pool_config cfg = config(4);
    bench_init(&b, &cfg);
    uint32_t pool = pool_add(&b, spec("python", 3, 1));
    uint32_t idle = fx(&b, WORKER_FX_START, 0)->slot;
    slot_event(&b, WORKER_EV_VM_READY, idle);
    step(&b, (struct worker_pool_event){.kind = WORKER_EV_TEMPLATE,
                 .pool = pool,
                 .template = WORKER_POOL_TEMPLATE_READY,
                 .renewed = true});
    CHECK_EQ(fx(&b, WORKER_FX_KILL, 0)->slot, idle);
    CHECK(fx(&b, WORKER_FX_START, 0) != NULL);
    free(b.mem);
}

TEST(epochs_are_set_aside_before_they_run_out_and_nothing_is_claimed_without_one)
{
    struct bench b;
    struct worker_pool_config cfg = config(4);
    cfg.epoch_limit = cfg.epoch_next + 1;
    bench_init(&b, &cfg);
    uint32_t pool = pool_add(&b, spec("python", 3, 0));
    ask(&b, 1, pool, "alice");
    uint32_t first = fx(&b, WORKER_FX_START, 0)->slot;
    ask(&b, 2, pool, "bobby");
    uint32_t second = fx(&b, WORKER_FX_START, 0)->slot;
    slot_event(&b, WORKER_EV_VM_READY, first);
    CHECK(fx(&b, WORKER_FX_CLAIM, 0) != NULL);
    proto_epoch limit = fx(&b, WORKER_FX_EPOCHS, 0)->epoch;
    CHECK(limit > cfg.epoch_limit);
    /* They could not be set aside: who waits, or comes, has better chances elsewhere. */
    slot_event(&b, WORKER_EV_VM_READY, second);
    CHECK(fx(&b, WORKER_FX_CLAIM, 0) == NULL);
    CHECK_EQ(fx(&b, WORKER_FX_ANSWER, 0)->answer, WORKER_ANSWER_UNAVAILABLE);
    CHECK_STR(worker_pool_fault(b.p, pool), "the worker cannot write to its disk");
    ask(&b, 3, pool, "carol");
    CHECK_EQ(fx(&b, WORKER_FX_ANSWER, 0)->answer, WORKER_ANSWER_UNAVAILABLE);
    step(&b, (struct worker_pool_event){.kind = WORKER_EV_EPOCHS, .epoch = limit});
    ask(&b, 4, pool, "david");
    CHECK_EQ(fx(&b, WORKER_FX_CLAIM, 0)->epoch, cfg.epoch_limit);
    free(b.mem);
}

static void lease(struct bench *b, bool held)
{
    step(b, (struct worker_pool_event){.kind = held ? WORKER_EV_THAW : WORKER_EV_FREEZE});
}

static enum worker_answer answer_of(struct bench *b, uint64_t request)
{
    const struct worker_pool_fx *f;
    for (int k = 0; (f = fx(b, WORKER_FX_ANSWER, k)) != NULL; k++) {
        if (f->request == request) {
            return f->answer;
        }
    }
    return 99;
}

TEST(frozen_sessions_are_not_used_and_thaw)
{
    struct bench b;
    struct worker_pool_config cfg = config(4);
    bench_init(&b, &cfg);
    uint32_t pool = pool_add(&b, spec("python", 3, 0));
    struct worker_pool_fx a = open_session(&b, pool, "alice");
    lease(&b, false);
    CHECK_EQ(b.p->slots[a.slot].state, WORKER_SLOT_FROZEN);
    ask(&b, 2, pool, "alice");
    CHECK_EQ(answer_of(&b, 2), WORKER_ANSWER_UNAVAILABLE);
    CHECK(fx(&b, WORKER_FX_ANSWER, 0)->retry_ms > 0);
    CHECK_STR(worker_pool_fault(b.p, pool), "the worker has no lease at the moment");
    ask(&b, 3, pool, "bobby"); /* nor is a new one made: it may be somebody else's by now */
    CHECK_EQ(answer_of(&b, 3), WORKER_ANSWER_UNAVAILABLE);
    CHECK(fx(&b, WORKER_FX_START, 0) == NULL);
    lease(&b, true);
    ask(&b, 4, pool, "alice");
    CHECK_EQ(answer_of(&b, 4), WORKER_ANSWER_USE);
    free(b.mem);
}

TEST(who_waits_is_refused_when_the_lease_goes)
{
    struct bench b;
    struct worker_pool_config cfg = config(4);
    bench_init(&b, &cfg);
    uint32_t pool = pool_add(&b, spec("python", 3, 0));
    ask(&b, 1, pool, "alice"); /* waits for a start */
    uint32_t starting = fx(&b, WORKER_FX_START, 0)->slot;
    ask(&b, 2, pool, "bobby");
    uint32_t claimed = fx(&b, WORKER_FX_START, 0)->slot;
    slot_event(&b, WORKER_EV_VM_READY, claimed); /* alice's now, waits for the claim */
    CHECK(fx(&b, WORKER_FX_CLAIM, 0) != NULL);
    lease(&b, false);
    CHECK_EQ(answer_of(&b, 1), WORKER_ANSWER_UNAVAILABLE);
    CHECK_EQ(answer_of(&b, 2), WORKER_ANSWER_UNAVAILABLE);
    slot_event(&b, WORKER_EV_VM_CLAIMED, claimed); /* the engine had done it already */
    CHECK_EQ(b.p->slots[claimed].state, WORKER_SLOT_FROZEN);
    slot_event(&b, WORKER_EV_VM_READY, starting); /* said so before it was frozen */
    CHECK(fx(&b, WORKER_FX_CLAIM, 0) == NULL);
    lease(&b, true);
    ask(&b, 3, pool, "alice");
    CHECK_EQ(answer_of(&b, 3), WORKER_ANSWER_USE);
    free(b.mem);
}

/* Two requests for one session, whose microVM is being claimed. */
static uint32_t claim_for_two(struct bench *b, bool drop_unwanted)
{
    struct worker_pool_config cfg = config(4);
    cfg.drop_unwanted = drop_unwanted;
    bench_init(b, &cfg);
    uint32_t pool = pool_add(b, spec("python", 3, 0));
    ask(b, 1, pool, "alice");
    uint32_t slot = fx(b, WORKER_FX_START, 0)->slot;
    ask(b, 2, pool, "alice");
    slot_event(b, WORKER_EV_VM_READY, slot);
    CHECK(fx(b, WORKER_FX_CLAIM, 0) != NULL);
    return slot;
}

static void cancel(struct bench *b, uint64_t request)
{
    step(b, (struct worker_pool_event){.kind = WORKER_EV_CANCEL, .request = request});
}

TEST(a_claim_for_nobody_goes_on_or_is_dropped)
{
    struct bench b;
    uint32_t slot = claim_for_two(&b, false);
    cancel(&b, 1);
    cancel(&b, 2);
    slot_event(&b, WORKER_EV_VM_CLAIMED, slot);
    CHECK_EQ(b.p->slots[slot].state, WORKER_SLOT_LIVE);
    free(b.mem);
    slot = claim_for_two(&b, true);
    cancel(&b, 1);
    CHECK_EQ(b.n, 0);
    cancel(&b, 2);
    CHECK(fx(&b, WORKER_FX_DROP_SESSION, 0) != NULL && fx(&b, WORKER_FX_KILL, 0) != NULL);
    CHECK_EQ(b.p->sessions_n, 0);
    slot_event(&b, WORKER_EV_VM_CLAIMED, slot); /* it was on its way */
    CHECK_EQ(b.n, 0);
    slot_event(&b, WORKER_EV_VM_GONE, slot);
    CHECK(worker_pool_idle(b.p));
    free(b.mem);
}

TEST(a_claim_is_dropped_when_time_or_the_lease_runs_out_too)
{
    struct bench b;
    (void)claim_for_two(&b, true);
    tick_to(&b, b.now_ns + 61 * S);
    CHECK_EQ(answer_of(&b, 2), WORKER_ANSWER_TIMEOUT);
    CHECK_EQ(b.p->sessions_n, 0);
    free(b.mem);
    (void)claim_for_two(&b, true);
    lease(&b, false);
    CHECK_EQ(answer_of(&b, 2), WORKER_ANSWER_UNAVAILABLE);
    CHECK(fx(&b, WORKER_FX_KILL, 0) != NULL);
    CHECK_EQ(b.p->sessions_n, 0);
    free(b.mem);
}

TEST(a_start_has_its_whole_time_again_after_a_thaw)
{
    struct bench b;
    struct worker_pool_config cfg = config(4);
    cfg.start_ms_max = 10000;
    bench_init(&b, &cfg);
    uint32_t pool = pool_add(&b, spec("python", 3, 1));
    uint32_t slot = fx(&b, WORKER_FX_START, 0)->slot;
    (void)pool;
    b.now_ns += 9 * S;
    lease(&b, false);
    b.now_ns += 60 * S;
    step(&b, (struct worker_pool_event){.kind = WORKER_EV_TICK});
    CHECK_EQ(b.p->slots[slot].state, WORKER_SLOT_STARTING);
    lease(&b, true);
    b.now_ns += 9 * S;
    step(&b, (struct worker_pool_event){.kind = WORKER_EV_TICK});
    CHECK_EQ(b.p->slots[slot].state, WORKER_SLOT_STARTING);
    b.now_ns += 2 * S;
    step(&b, (struct worker_pool_event){.kind = WORKER_EV_TICK});
    CHECK_EQ(b.p->slots[slot].state, WORKER_SLOT_ENDING);
    free(b.mem);
}

TEST(a_frozen_session_cools_down_as_ever)
{
    struct bench b;
    struct worker_pool_config cfg = config(4);
    bench_init(&b, &cfg);
    uint32_t pool = pool_add(&b, spec("python", 3, 0));
    struct worker_pool_fx a = open_session(&b, pool, "alice");
    step(&b, (struct worker_pool_event){
                 .kind = WORKER_EV_RELEASE, .session = a.session, .epoch = a.epoch});
    lease(&b, false);
    b.now_ns += 299 * S;
    step(&b, (struct worker_pool_event){.kind = WORKER_EV_TICK});
    CHECK(fx(&b, WORKER_FX_KILL, 0) == NULL);
    b.now_ns += 2 * S;
    step(&b, (struct worker_pool_event){.kind = WORKER_EV_TICK});
    CHECK_EQ(fx(&b, WORKER_FX_KILL, 0)->slot, a.slot);
    CHECK_EQ(fx(&b, WORKER_FX_ENDING, 0)->end, WORKER_END_EXPIRED);
    free(b.mem);
}

/* --- tenants ------------------------------------------------------------------------------- */

static void ask_as(struct bench *b, uint8_t tenant, uint64_t request, const char *name)
{
    struct proto_identifier id = ident(name);
    step(b, (struct worker_pool_event){.kind = WORKER_EV_REQUEST,
                .request = request,
                .hash = hash_of(&id),
                .id = &id,
                .tenant = {.id = {tenant}},
                .allocate = true});
}

TEST(a_tenant_has_its_sessions_and_no_more_and_hears_when_to_come_again)
{
    struct bench b;
    struct worker_pool_config cfg = config(8);
    bench_init(&b, &cfg);
    struct worker_pool_spec s = spec("python", 5, 0);
    s.cooldown_ms = 20000;
    s.each.max[WORKER_QUOTA_SESSIONS] = 1;
    uint32_t pool = pool_add(&b, s);
    CHECK_EQ(pool, 0);
    ask_as(&b, 1, 1, "alice");
    slot_event(&b, WORKER_EV_VM_READY, fx(&b, WORKER_FX_START, 0)->slot);
    slot_event(&b, WORKER_EV_VM_CLAIMED, fx(&b, WORKER_FX_CLAIM, 0)->slot);
    struct worker_pool_fx a = *fx(&b, WORKER_FX_ANSWER, 0);
    use(&b, WORKER_EV_RELEASE, &a);
    b.now_ns += 5 * S;
    ask_as(&b, 1, 2, "bobby");
    const struct worker_pool_fx *f = fx(&b, WORKER_FX_ANSWER, 0);
    CHECK_EQ(f->answer, WORKER_ANSWER_QUOTA);
    CHECK_EQ(f->verdict, WORKER_QUOTA_OF_TENANT_IN_POOL);
    CHECK(f->retry_ms >= 15000 && f->retry_ms <= 15100);
    CHECK(fx(&b, WORKER_FX_START, 0) == NULL);
    ask_as(&b, 1, 3, "alice"); /* what it has it may use */
    CHECK_EQ(fx(&b, WORKER_FX_ANSWER, 0)->answer, WORKER_ANSWER_USE);
    ask_as(&b, 2, 4, "carol"); /* another tenant has its own */
    CHECK(fx(&b, WORKER_FX_START, 0) != NULL);
    use(&b, WORKER_EV_END, &a);
    slot_event(&b, WORKER_EV_VM_GONE, a.slot);
    ask_as(&b, 1, 5, "bobby");
    CHECK(fx(&b, WORKER_FX_ANSWER, 0) == NULL); /* waits for its microVM */
    free(b.mem);
}

static uint64_t sessions_of(const struct bench *b, uint8_t tenant)
{
    struct proto_tenant t = {.id = {tenant}};
    return worker_quota_used(b->p->quota, &t, 0, WORKER_QUOTA_SESSIONS);
}

TEST(a_session_made_again_for_another_tenant_is_that_one_s)
{
    struct bench b;
    struct worker_pool_config cfg = config(8);
    bench_init(&b, &cfg);
    struct worker_pool_spec s = spec("python", 5, 0);
    s.each.max[WORKER_QUOTA_SESSIONS] = 1;
    (void)pool_add(&b, s);
    ask_as(&b, 2, 1, "bobby");
    ask_as(&b, 1, 2, "alice");
    uint32_t starting = fx(&b, WORKER_FX_START, 0)->slot;
    slot_event(&b, WORKER_EV_VM_READY, starting);
    const struct worker_pool_fx *claim = fx(&b, WORKER_FX_CLAIM, 0);
    uint32_t first = claim->slot;
    slot_event(&b, WORKER_EV_VM_CLAIMED, first);
    struct worker_pool_fx a = *fx(&b, WORKER_FX_ANSWER, 0);
    CHECK_EQ(a.request, 1);
    CHECK(sessions_of(&b, 1) == 1 && sessions_of(&b, 2) == 1);
    use(&b, WORKER_EV_RELEASE, &a);
    use(&b, WORKER_EV_END, &a);
    ask_as(&b, 1, 3, "bobby"); /* has alice already */
    ask_as(&b, 3, 4, "bobby");
    ask_as(&b, 2, 5, "carol");
    CHECK_EQ(fx(&b, WORKER_FX_ANSWER, 0)->answer, WORKER_ANSWER_QUOTA);
    CHECK_EQ(fx(&b, WORKER_FX_ANSWER, 0)->retry_ms, 1000); /* one is ending */
    slot_event(&b, WORKER_EV_VM_GONE, first);
    const struct worker_pool_fx *f = fx(&b, WORKER_FX_ANSWER, 0);
    CHECK(f != NULL && f->request == 3 && f->answer == WORKER_ANSWER_QUOTA);
    CHECK_EQ(f->verdict, WORKER_QUOTA_OF_TENANT_IN_POOL);
    CHECK(fx(&b, WORKER_FX_ANSWER, 1) == NULL);
    CHECK(sessions_of(&b, 1) == 1 && sessions_of(&b, 2) == 0 && sessions_of(&b, 3) == 1);
    free(b.mem);
}

TEST(microvms_go_to_waiting_tenants_in_turns)
{
    struct bench b;
    struct worker_pool_config cfg = config(8);
    cfg.starts_max = 1;
    bench_init(&b, &cfg);
    (void)pool_add(&b, spec("python", 8, 0));
    ask_as(&b, 1, 11, "flood-1");
    uint32_t slot = fx(&b, WORKER_FX_START, 0)->slot;
    ask_as(&b, 1, 12, "flood-2");
    ask_as(&b, 1, 13, "flood-3");
    ask_as(&b, 1, 14, "flood-4");
    ask_as(&b, 2, 21, "quiet-1");
    ask_as(&b, 2, 22, "quiet-2");
    static const uint64_t want[] = {11, 21, 12, 22, 13, 14};
    for (int i = 0; i < 6; i++) {
        slot_event(&b, WORKER_EV_VM_READY, slot);
        const struct worker_pool_fx *next = fx(&b, WORKER_FX_START, 0);
        uint32_t next_slot = next == NULL ? 0 : next->slot;
        slot_event(&b, WORKER_EV_VM_CLAIMED, slot);
        CHECK_EQ(fx(&b, WORKER_FX_ANSWER, 0)->request, want[i]);
        slot = next_slot;
    }
    free(b.mem);
}
