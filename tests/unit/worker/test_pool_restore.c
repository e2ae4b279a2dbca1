#include "tests/unit/worker/pool_rig.h"

/* --- after a restart ------------------------------------------------------------------------ */

static struct worker_pool_restore row_of(const char *name, uint32_t slot, proto_epoch epoch)
{
    struct worker_pool_restore r = {.slot = slot,
        .has_session = true,
        .id = ident(name),
        .epoch = epoch,
        .created_ns = 10 * S,
        .last_ns = 900 * S};
    r.hash = hash_of(&r.id);
    return r;
}

static int restore(struct bench *b, const struct worker_pool_restore *r)
{
    return step(b, (struct worker_pool_event){.kind = WORKER_EV_RESTORE, .restore = r});
}

TEST(a_restored_session_answers_only_after_its_microvm_was_taken_over)
{
    struct bench b;
    struct worker_pool_config cfg = config(4);
    bench_init(&b, &cfg);
    uint32_t pool = pool_add(&b, spec("python", 3, 0));
    proto_epoch old = cfg.epoch_next + 7;
    struct worker_pool_restore row = row_of("alice", 2, old);
    CHECK_EQ(restore(&b, &row), 0);
    /* Its last use may have been later than the row says, by what is not stored at once. */
    const struct worker_session *s =
        &b.p->sessions[worker_pool_session_find(b.p, pool, row.hash, &row.id)];
    CHECK(s->stored_ns == 900 * S && s->last_ns == 900 * S + 300 * S / 8);
    ask(&b, 1, pool, "alice");
    CHECK(fx(&b, WORKER_FX_ANSWER, 0) == NULL && fx(&b, WORKER_FX_START, 0) == NULL);
    slot_event(&b, WORKER_EV_VM_READY, 2);
    const struct worker_pool_fx *a = fx(&b, WORKER_FX_ANSWER, 0);
    CHECK(a != NULL && a->answer == WORKER_ANSWER_USE && a->epoch == old && !a->fresh);
    CHECK_EQ(s->created_ns, 10 * S);
    CHECK_EQ(open_session(&b, pool, "bobby").epoch, old + 1); /* never one that was used */
    free(b.mem);
}

TEST(instances_of_another_template_end_though_they_are_only_being_taken_over)
{
    struct bench b;
    struct worker_pool_config cfg = config(4);
    bench_init(&b, &cfg);
    uint32_t pool = pool_add(&b, spec("python", 3, 0));
    struct worker_pool_restore used = row_of("alice", 2, cfg.epoch_next + 7);
    struct worker_pool_restore idle = {.pool = pool, .slot = 1};
    CHECK_EQ(restore(&b, &used), 0);
    CHECK_EQ(restore(&b, &idle), 0);
    step(&b, (struct worker_pool_event){.kind = WORKER_EV_TEMPLATE,
                 .pool = pool,
                 .template = WORKER_POOL_TEMPLATE_READY,
                 .renewed = true});
    CHECK_EQ(fx(&b, WORKER_FX_KILL, 0)->slot, 1);
    CHECK(fx(&b, WORKER_FX_KILL, 1) == NULL); /* what is used lives on */
    free(b.mem);
}

TEST(a_restored_session_whose_microvm_is_gone_has_ended)
{
    struct bench b;
    struct worker_pool_config cfg = config(4);
    bench_init(&b, &cfg);
    uint32_t pool = pool_add(&b, spec("python", 3, 0));
    struct worker_pool_restore row = row_of("alice", 2, cfg.epoch_next);
    CHECK_EQ(restore(&b, &row), 0);
    slot_event(&b, WORKER_EV_VM_DEAD, 2);
    CHECK_EQ(fx(&b, WORKER_FX_ENDING, 0)->end, WORKER_END_RESTART);
    slot_event(&b, WORKER_EV_VM_GONE, 2);
    CHECK_EQ(fx(&b, WORKER_FX_GONE, 0)->end, WORKER_END_RESTART);
    struct worker_pool_fx a = open_session(&b, pool, "alice");
    CHECK(a.epoch > row.epoch && a.fresh);
    CHECK_EQ(b.p->sessions[a.session].recreated, WORKER_END_RESTART);
    /* An idle instance is simply ready again. */
    row = (struct worker_pool_restore){.slot = 3};
    CHECK_EQ(restore(&b, &row), 0);
    slot_event(&b, WORKER_EV_VM_READY, 3);
    ask(&b, 2, pool, "bobby");
    CHECK_EQ(fx(&b, WORKER_FX_CLAIM, 0)->slot, 3);
    free(b.mem);
}

TEST(a_session_that_is_deleted_while_it_is_taken_over_ends)
{
    struct bench b;
    struct worker_pool_config cfg = config(4);
    bench_init(&b, &cfg);
    (void)pool_add(&b, spec("python", 3, 0));
    struct worker_pool_restore row = row_of("alice", 1, cfg.epoch_next);
    CHECK_EQ(restore(&b, &row), 0);
    uint32_t at = worker_pool_session_find(b.p, 0, row.hash, &row.id);
    struct worker_pool_fx a = {.session = at, .epoch = row.epoch};
    use(&b, WORKER_EV_HOLD, &a);
    CHECK_EQ(b.p->sessions[at].holds, 0); /* nothing can run in it yet */
    use(&b, WORKER_EV_END, &a);
    CHECK(fx(&b, WORKER_FX_KILL, 0) != NULL && fx(&b, WORKER_FX_ENDING, 0) != NULL);
    slot_event(&b, WORKER_EV_VM_GONE, 1);
    CHECK_EQ(worker_pool_session_find(b.p, 0, row.hash, &row.id), WORKER_NONE);
    free(b.mem);
}

TEST(rows_that_cannot_be_are_refused_and_change_nothing)
{
    struct bench b;
    struct worker_pool_config cfg = config(4);
    bench_init(&b, &cfg);
    (void)pool_add(&b, spec("python", 3, 0));
    struct worker_pool_restore good = row_of("alice", 2, cfg.epoch_next), row;
    CHECK_EQ(restore(&b, &good), 0);
    static const struct {
        uint32_t pool, slot;
        proto_epoch epoch;
        const char *name;
        int rc;
    } bad[] = {{1, 0, 7, "bobby", BASE_EINVAL}, {0, 4, 7, "bobby", BASE_EINVAL},
        {0, 2, 7, "bobby", BASE_EEXISTS}, {0, 0, 0, "bobby", BASE_EINVAL},
        {0, 0, UINT64_MAX, "bobby", BASE_EINVAL}, {0, 0, 7, "alice", BASE_EEXISTS}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        row = row_of(bad[i].name, bad[i].slot, bad[i].epoch);
        row.pool = bad[i].pool;
        CHECK_EQ(restore(&b, &row), bad[i].rc);
        CHECK(b.n == 0 && b.p->free_n == 3 && b.p->sessions_n == 1);
    }
    row = row_of("bobby", 0, 7);
    row.id.len = PROTO_IDENTIFIER_MIN - 1;
    CHECK_EQ(restore(&b, &row), BASE_EINVAL);
    CHECK_EQ(b.p->cfg.epoch_next, cfg.epoch_next + 1);
    free(b.mem);
}

TEST(ended_sessions_come_back_with_their_reason_and_their_epoch)
{
    struct bench b;
    struct worker_pool_config cfg = config(4);
    bench_init(&b, &cfg);
    uint32_t pool = pool_add(&b, spec("python", 3, 0));
    struct worker_pool_restore row = row_of("alice", 0, cfg.epoch_next + 5);
    row.end = WORKER_END_ALIVE;
    struct worker_pool_event ev = {.kind = WORKER_EV_RESTORE_TOMB, .restore = &row};
    CHECK_EQ(step(&b, ev), 0);
    struct proto_identifier id = ident("alice");
    step(&b, (struct worker_pool_event){.kind = WORKER_EV_REQUEST,
                 .request = 6,
                 .pool = pool,
                 .hash = row.hash,
                 .id = &id,
                 .allocate = true,
                 .generation = row.epoch});
    CHECK_EQ(fx(&b, WORKER_FX_ANSWER, 0)->answer, WORKER_ANSWER_LOST);
    CHECK_EQ(fx(&b, WORKER_FX_ANSWER, 0)->end, WORKER_END_ALIVE);
    CHECK_EQ(open_session(&b, pool, "alice").epoch, row.epoch + 1);
    struct worker_pool_restore bad = row;
    ev.restore = &bad;
    bad.pool = 1;
    CHECK_EQ(step(&b, ev), BASE_EINVAL);
    bad = row;
    bad.end = WORKER_END_MAX;
    CHECK_EQ(step(&b, ev), BASE_EINVAL);
    bad = row;
    bad.id.len = 0;
    CHECK_EQ(step(&b, ev), BASE_EINVAL);
    free(b.mem);
}

TEST(pools_are_found_by_name_and_numbers_out_of_range_are_refused)
{
    struct bench b;
    struct worker_pool_config cfg = config(4);
    bench_init(&b, &cfg);
    CHECK_EQ(pool_add(&b, spec("python", 3, 0)), 0);
    CHECK_EQ(pool_add(&b, spec("shell", 3, 0)), 1);
    CHECK_EQ(pool_add(&b, spec("python", 2, 0)), 0); /* other numbers */
    CHECK_EQ(worker_pool_find(b.p, "shell"), 1);
    CHECK_EQ(worker_pool_find(b.p, "other"), WORKER_NONE);
    uint32_t pool = 99;
    struct worker_pool_spec bad[] = {spec("P_1", 1, 0), spec("a-1", 0, 0),
        spec("a-1", PROTO_SESSIONS_PER_POOL_MAX + 1, 0), spec("a-1", 1, 0)};
    bad[3].cooldown_ms = 0;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK_EQ(worker_pool_add(b.p, &bad[i], &pool), BASE_EINVAL);
    }
    struct worker_pool_spec more = spec("a-1", 1, 0);
    CHECK_EQ(worker_pool_add(b.p, &more, &pool), 0);
    memcpy(more.name, "a-2", 3);
    CHECK_EQ(worker_pool_add(b.p, &more, &pool), 0);
    memcpy(more.name, "a-3", 3);
    CHECK_EQ(worker_pool_add(b.p, &more, &pool), BASE_EFULL);
    CHECK_STR(worker_pool_end_text(WORKER_END_VM_LOST), "vm-lost");
    CHECK_STR(worker_pool_end_text(WORKER_END_MAX), "");
    struct worker_pools *p = NULL;
    cfg.vms_max = 0;
    CHECK_EQ(worker_pool_init(&p, &cfg, 1, 0, b.mem, 1 << 20), BASE_EINVAL);
    CHECK(p == NULL);
    free(b.mem);
}

/* --- the check itself ----------------------------------------------------------------------- */

/* Flips one number after the other in a manager with a live, a waiting and an idle one. */
TEST(the_recount_sees_every_kind_of_disagreement)
{
    struct bench b;
    struct worker_pool_config cfg = config(4);
    bench_init(&b, &cfg);
    uint32_t pool = pool_add(&b, spec("python", 3, 1));
    struct worker_pool_fx a = open_session(&b, pool, "alice");
    ask(&b, 2, pool, "bobby");
    struct worker_pools *p = b.p;
    struct worker_session *live = &p->sessions[a.session];
    uint32_t w =
        worker_pool_session_find(p, pool, hash_of(&(struct proto_identifier[]){ident("bobby")}[0]),
            &(struct proto_identifier[]){ident("bobby")}[0]);
    struct worker_session *waiting = &p->sessions[w];
    CHECK(waiting->state == WORKER_SESSION_WAITING && worker_pool_check(p) == NULL);
    uint32_t *const numbers[] = {&live->slot, &waiting->slot, &p->slots[a.slot].session,
        &p->pools[pool].sessions, &p->pools[pool].queued, &p->sessions_n, &p->starting, &p->ending,
        &p->free_n, &p->pools[pool].slots[WORKER_SLOT_LIVE],
        &p->pools[pool].slots[WORKER_SLOT_STARTING]};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        uint32_t was = *numbers[i];
        *numbers[i] = was == 0 || was == WORKER_NONE ? 1 : was - 1;
        if (numbers[i] == &live->slot || numbers[i] == &p->slots[a.slot].session) {
            *numbers[i] = was == 0 ? 1 : 0;
        }
        CHECK(worker_pool_check(p) != NULL);
        *numbers[i] = was;
        CHECK(worker_pool_check(p) == NULL);
    }
    proto_epoch epoch = live->epoch;
    live->epoch = p->cfg.epoch_next;
    CHECK_STR(worker_pool_check(p), "a session has an epoch of the future");
    live->epoch = epoch;
    live->hash++;
    CHECK_STR(worker_pool_check(p), "a session is not found by its key, or twice");
    live->hash--;
    p->cfg.starts_max = 0;
    CHECK_STR(worker_pool_check(p), "too many microVMs start at a time");
    p->cfg.starts_max = 2;
    struct worker_waiter *first = CONTAINER_OF(waiting->waiters.next, struct worker_waiter, link);
    first->session = a.session;
    CHECK_STR(worker_pool_check(p), "a request waits for another session");
    first->session = w;
    worker_list_remove(&first->link);
    CHECK_STR(worker_pool_check(p), "a session waits for nobody");
    worker_list_append(&live->waiters, &first->link);
    CHECK_STR(worker_pool_check(p), "a request waits for a live session");
    worker_list_remove(&first->link);
    worker_list_append(&waiting->waiters, &first->link);
    struct worker_list *free_slot = worker_list_first(&p->free_slots);
    worker_list_remove(free_slot);
    CHECK_STR(worker_pool_check(p), "the list of free slots is wrong");
    worker_list_append(&p->free_slots, free_slot);
    struct worker_list *free_session = worker_list_first(&p->free_sessions);
    worker_list_remove(free_session);
    CHECK_STR(worker_pool_check(p), "a session record is lost");
    worker_list_append(&p->free_sessions, free_session);
    CHECK(worker_pool_check(p) == NULL);
    free(b.mem);
}
