#include "proto/base/clock.h"
#include "proto/base/err.h"
#include "proto/base/hash.h"
#include "tests/lib/check.h"
#include "worker/core/exec.h"

#define S BASE_NS_PER_S

static struct worker_exec_config config(uint32_t n)
{
    return (struct worker_exec_config){.execs_max = n,
        .running_max = 4,
        .per_session_max = 2,
        .bytes_max = 1000,
        .exec_bytes_max = 600};
}

static struct worker_execs *journal(const struct worker_exec_config *cfg, void **ret_mem)
{
    size_t size = worker_exec_size(cfg);
    struct worker_execs *j = NULL;
    *ret_mem = malloc(size);
    CHECK_EQ(worker_exec_init(&j, cfg, *ret_mem, size - 1), BASE_ENOMEM);
    CHECK(j == NULL);
    CHECK_EQ(worker_exec_init(&j, cfg, *ret_mem, size), 0);
    return j;
}

static const uint8_t *id_of(unsigned n)
{
    static uint8_t id[PROTO_EXEC_ID_BYTES];
    memset(id, 0, sizeof id);
    memcpy(id, &n, sizeof n);
    return id;
}

static const uint8_t ask_a[PROTO_EXEC_DIGEST_BYTES] = {'a'};
static const uint8_t ask_b[PROTO_EXEC_DIGEST_BYTES] = {'a', [15] = 'b'};
static const uint8_t ask_unknown[PROTO_EXEC_DIGEST_BYTES];

static enum worker_exec_verdict begin(
    struct worker_execs *j, unsigned id, uint64_t epoch, uint64_t now_ns, struct worker_exec **x)
{
    struct worker_exec_begin b = {.id = id_of(id),
        .digest = ask_a,
        .hash = 5,
        .epoch = epoch,
        .session = 1,
        .now_ns = now_ns};
    return worker_exec_begin(j, &b, x);
}

static enum worker_exec_verdict ask(
    struct worker_execs *j, unsigned id, const uint8_t *digest, struct worker_exec **x)
{
    struct worker_exec_begin b = {
        .id = id_of(id), .digest = digest, .hash = 5, .epoch = 10, .session = 1};
    return worker_exec_begin(j, &b, x);
}

TEST(an_id_starts_once_then_joins_then_replays)
{
    void *mem;
    struct worker_exec_config cfg = config(8);
    struct worker_execs *j = journal(&cfg, &mem);
    struct worker_exec *x, *again;
    CHECK_EQ(begin(j, 1, 10, 0, &x), WORKER_EXEC_NEW);
    CHECK_EQ(begin(j, 1, 10, 0, &again), WORKER_EXEC_JOIN);
    CHECK(again == x);
    CHECK_EQ(worker_exec_event(j, x, 1, 100, false), WORKER_EXEC_KEEP);
    CHECK_EQ(worker_exec_event(j, x, 1, 100, false), WORKER_EXEC_AGAIN);
    CHECK_EQ(worker_exec_event(j, x, 3, 100, false), WORKER_EXEC_GAP);
    CHECK_EQ(worker_exec_event(j, x, 2, 20, true), WORKER_EXEC_KEEP);
    worker_exec_finish(j, x, 5 * S);
    CHECK_EQ(worker_exec_event(j, x, 3, 1, false), WORKER_EXEC_AGAIN);
    CHECK_EQ(begin(j, 1, 10, 6 * S, &again), WORKER_EXEC_REPLAY);
    CHECK_EQ(begin(j, 1, 99, 6 * S, &again), WORKER_EXEC_REPLAY); /* a later life of the session */
    struct worker_exec_begin other = {.id = id_of(1), .digest = ask_a, .hash = 6};
    CHECK_EQ(worker_exec_begin(j, &other, &again), WORKER_EXEC_FOREIGN);
    free(mem);
}

TEST(an_id_that_is_used_for_something_else_is_refused_in_every_state)
{
    void *mem;
    struct worker_exec_config cfg = config(8);
    struct worker_execs *j = journal(&cfg, &mem);
    struct worker_exec *x, *none = NULL;
    CHECK_EQ(ask(j, 1, ask_a, &x), WORKER_EXEC_NEW);
    CHECK_EQ(ask(j, 1, ask_b, &none), WORKER_EXEC_REUSED); /* it runs */
    CHECK(none == NULL);
    CHECK_EQ(ask(j, 1, ask_a, &x), WORKER_EXEC_JOIN);
    CHECK_EQ(worker_exec_event(j, x, 1, 600, true), WORKER_EXEC_KEEP);
    worker_exec_finish(j, x, S);
    CHECK_EQ(ask(j, 1, ask_b, &none), WORKER_EXEC_REUSED); /* it has ended */
    CHECK_EQ(ask(j, 1, ask_a, &x), WORKER_EXEC_REPLAY);
    struct worker_exec_begin other = {.id = id_of(1), .digest = ask_b, .hash = 6};
    CHECK_EQ(worker_exec_begin(j, &other, &none), WORKER_EXEC_FOREIGN); /* says nothing of it */
    CHECK_EQ(ask(j, 2, ask_b, &x), WORKER_EXEC_NEW);
    CHECK_EQ(worker_exec_event(j, x, 1, 600, true), WORKER_EXEC_KEEP);
    worker_exec_finish(j, x, 2 * S);
    CHECK_EQ(worker_exec_expire(j, 2 * S, &x), WORKER_EXEC_DROP_EVENTS);
    CHECK_EQ(ask(j, 1, ask_b, &none), WORKER_EXEC_REUSED); /* its events are no more */
    CHECK_EQ(ask(j, 1, ask_a, &x), WORKER_EXEC_LOST);
    CHECK_EQ(ask(j, 3, ask_a, &x), WORKER_EXEC_NEW);
    CHECK(worker_exec_lost(j, 10, 3 * S) == x);
    CHECK_EQ(ask(j, 3, ask_b, &none), WORKER_EXEC_REUSED); /* nobody knows how it ended */
    CHECK_EQ(ask(j, 3, ask_a, &x), WORKER_EXEC_LOST);
    CHECK(none == NULL);
    while (worker_exec_expire(j, 700 * S, &x) != WORKER_EXEC_DROP_NONE) {
    }
    CHECK_EQ(ask(j, 3, ask_b, &x), WORKER_EXEC_NEW); /* forgotten */
    free(mem);
}

TEST(a_restored_row_refuses_something_else_when_it_knows_what_was_asked)
{
    void *mem;
    struct worker_exec_config cfg = config(8);
    struct worker_execs *j = journal(&cfg, &mem);
    static const enum worker_exec_state states[] = {
        WORKER_EXEC_STARTED, WORKER_EXEC_DONE, WORKER_EXEC_UNKNOWN};
    static const enum worker_exec_verdict same[] = {
        WORKER_EXEC_JOIN, WORKER_EXEC_REPLAY, WORKER_EXEC_LOST};
    for (unsigned i = 0; i < 3; i++) {
        struct worker_exec row = {.state = states[i], .hash = 5, .epoch = 10, .last_seq = 3};
        struct worker_exec *x, *none = NULL;
        memcpy(row.id, id_of(2 * i), sizeof row.id);
        memcpy(row.digest, ask_a, sizeof row.digest);
        CHECK_EQ(worker_exec_restore(j, &row, &x), 0);
        CHECK_EQ(ask(j, 2 * i, ask_a, &x), same[i]);
        CHECK_EQ(ask(j, 2 * i, ask_b, &none), WORKER_EXEC_REUSED);
        CHECK(none == NULL);
        memcpy(row.id, id_of(2 * i + 1), sizeof row.id); /* of an older worker */
        memcpy(row.digest, ask_unknown, sizeof row.digest);
        CHECK_EQ(worker_exec_restore(j, &row, &x), 0);
        CHECK_EQ(ask(j, 2 * i + 1, ask_a, &x), same[i]);
        CHECK_EQ(ask(j, 2 * i + 1, ask_b, &x), same[i]);
        CHECK(memcmp(x->digest, ask_unknown, sizeof ask_unknown) == 0); /* is not made up */
        CHECK_EQ(ask(j, 2 * i, ask_unknown, &x), same[i]);
    }
    free(mem);
}

TEST(a_lost_microvm_leaves_its_executions_unknown_for_ever)
{
    void *mem;
    struct worker_exec_config cfg = config(8);
    struct worker_execs *j = journal(&cfg, &mem);
    struct worker_exec *a, *b, *c;
    CHECK_EQ(begin(j, 1, 10, 0, &a), WORKER_EXEC_NEW);
    CHECK_EQ(begin(j, 2, 11, 0, &b), WORKER_EXEC_NEW);
    CHECK_EQ(begin(j, 3, 10, 0, &c), WORKER_EXEC_NEW);
    CHECK(worker_exec_lost(j, 10, S) == a);
    CHECK(worker_exec_lost(j, 10, S) == c);
    CHECK(worker_exec_lost(j, 10, S) == NULL);
    CHECK_EQ(begin(j, 1, 12, S, &a), WORKER_EXEC_LOST);
    CHECK_EQ(b->state, WORKER_EXEC_STARTED);
    CHECK(worker_exec_running(j, NULL) == b && worker_exec_running(j, b) == NULL);
    free(mem);
}

TEST(limits_of_running_ones_refuse_and_record_nothing)
{
    void *mem;
    struct worker_exec_config cfg = config(8);
    struct worker_execs *j = journal(&cfg, &mem);
    struct worker_exec *x, *first;
    CHECK_EQ(begin(j, 1, 10, 0, &first), WORKER_EXEC_NEW);
    CHECK_EQ(begin(j, 2, 10, 0, &x), WORKER_EXEC_NEW);
    CHECK_EQ(begin(j, 3, 10, 0, &x), WORKER_EXEC_FULL); /* per session */
    CHECK_EQ(begin(j, 3, 11, 0, &x), WORKER_EXEC_NEW);
    CHECK_EQ(begin(j, 4, 12, 0, &x), WORKER_EXEC_NEW);
    CHECK_EQ(begin(j, 5, 13, 0, &x), WORKER_EXEC_FULL); /* in all */
    CHECK(worker_exec_find(j, id_of(5)) == NULL);
    worker_exec_undo(j, first);
    CHECK_EQ(begin(j, 5, 13, 0, &x), WORKER_EXEC_NEW);
    CHECK_EQ(begin(j, 1, 14, 0, &x), WORKER_EXEC_FULL);
    free(mem);
}

TEST(outcomes_stay_for_the_retention_and_go_afterwards)
{
    void *mem;
    struct worker_exec_config cfg = config(8);
    struct worker_execs *j = journal(&cfg, &mem);
    struct worker_exec *x, *gone;
    CHECK_EQ(begin(j, 1, 10, 0, &x), WORKER_EXEC_NEW);
    CHECK_EQ(worker_exec_event(j, x, 1, 10, true), WORKER_EXEC_KEEP);
    worker_exec_finish(j, x, 100 * S);
    CHECK_EQ(worker_exec_deadline_ns(j), 700 * S);
    CHECK_EQ(worker_exec_expire(j, 700 * S - 1, &gone), WORKER_EXEC_DROP_NONE);
    struct worker_exec_reader r = {0};
    worker_exec_attach(&r, x, 0);
    CHECK_EQ(worker_exec_expire(j, 700 * S, &gone), WORKER_EXEC_DROP_NONE); /* being read */
    worker_exec_detach(&r);
    worker_exec_detach(&r);
    CHECK_EQ(worker_exec_expire(j, 700 * S, &gone), WORKER_EXEC_DROP_ALL);
    CHECK(memcmp(gone->id, id_of(1), PROTO_EXEC_ID_BYTES) == 0);
    CHECK_EQ(worker_exec_expire(j, 700 * S, &gone), WORKER_EXEC_DROP_NONE);
    CHECK_EQ(worker_exec_bytes(j), 0);
    CHECK_EQ(worker_exec_count(j), 0);
    free(mem);
}

TEST(room_for_events_is_made_by_dropping_the_oldest_finished_ones_but_their_ids_stay)
{
    void *mem;
    struct worker_exec_config cfg = config(8);
    struct worker_execs *j = journal(&cfg, &mem);
    struct worker_exec *x[3], *gone;
    for (unsigned i = 0; i < 2; i++) {
        CHECK_EQ(begin(j, i, 10 + i, 0, &x[i]), WORKER_EXEC_NEW);
        CHECK_EQ(worker_exec_event(j, x[i], 1, 500, true), WORKER_EXEC_KEEP);
        worker_exec_finish(j, x[i], (i + 1) * S);
    }
    CHECK_EQ(worker_exec_expire(j, 3 * S, &gone), WORKER_EXEC_DROP_NONE);
    CHECK_EQ(begin(j, 7, 20, 0, &x[2]), WORKER_EXEC_NEW);
    CHECK_EQ(worker_exec_event(j, x[2], 1, 200, false), WORKER_EXEC_KEEP);
    CHECK_EQ(worker_exec_event(j, x[2], 2, 200, false), WORKER_EXEC_SKIP); /* above the reserve */
    CHECK(x[2]->truncated);
    CHECK_EQ(worker_exec_expire(j, 3 * S, &gone), WORKER_EXEC_DROP_EVENTS);
    CHECK(gone == x[0]);
    CHECK_EQ(worker_exec_expire(j, 3 * S, &gone), WORKER_EXEC_DROP_NONE);
    CHECK_EQ(begin(j, 0, 10, 3 * S, &gone), WORKER_EXEC_LOST);
    CHECK_EQ(worker_exec_event(j, x[2], 3, 500, false), WORKER_EXEC_SKIP); /* limit of one */
    CHECK_EQ(worker_exec_event(j, x[2], 4, 500, true), WORKER_EXEC_KEEP);  /* DONE always */
    free(mem);
}

TEST(a_reader_sends_within_its_window_and_one_large_event_alone)
{
    void *mem;
    struct worker_exec_config cfg = config(8);
    struct worker_execs *j = journal(&cfg, &mem);
    struct worker_exec *x;
    CHECK_EQ(begin(j, 1, 10, 0, &x), WORKER_EXEC_NEW);
    struct worker_exec_reader r = {0};
    worker_exec_attach(&r, x, 0);
    CHECK(worker_exec_may_send(&r, PROTO_EVENT_BYTES_MAX));
    worker_exec_sent(&r, 1, 100);
    CHECK(!worker_exec_may_send(&r, PROTO_EVENT_WINDOW));
    CHECK(worker_exec_may_send(&r, PROTO_EVENT_WINDOW - 100));
    worker_exec_credit(&r, UINT32_MAX); /* a liar gains nothing */
    CHECK_EQ(r.unacked, 0);
    CHECK(!worker_exec_read_out(&r));
    CHECK_EQ(worker_exec_event(j, x, 1, 100, true), WORKER_EXEC_KEEP);
    worker_exec_finish(j, x, S);
    CHECK(worker_exec_read_out(&r));
    free(mem);
}

TEST(rows_come_back_after_a_restart)
{
    void *mem;
    struct worker_exec_config cfg = config(2);
    struct worker_execs *j = journal(&cfg, &mem);
    struct worker_exec row = {.state = WORKER_EXEC_DONE,
        .hash = 5,
        .epoch = 10,
        .bytes = 100,
        .last_seq = 3,
        .ended_ns = S};
    struct worker_exec *x;
    memcpy(row.id, id_of(1), sizeof row.id);
    CHECK_EQ(worker_exec_restore(j, &row, &x), 0);
    CHECK_EQ(worker_exec_restore(j, &row, &x), BASE_EEXISTS);
    CHECK_EQ(begin(j, 1, 11, 2 * S, &x), WORKER_EXEC_REPLAY);
    memcpy(row.id, id_of(2), sizeof row.id);
    row.state = WORKER_EXEC_FREE;
    CHECK_EQ(worker_exec_restore(j, &row, &x), BASE_EINVAL);
    row.state = WORKER_EXEC_STARTED;
    CHECK_EQ(worker_exec_restore(j, &row, &x), 0);
    CHECK_EQ(begin(j, 2, 11, 2 * S, &x), WORKER_EXEC_JOIN);
    memcpy(row.id, id_of(3), sizeof row.id);
    CHECK_EQ(worker_exec_restore(j, &row, &x), BASE_EFULL);
    CHECK_EQ(worker_exec_event(j, x, 4, 10, true), WORKER_EXEC_KEEP);
    free(mem);
}

/* Random begins, events, ends, losses and expiries: an id never starts twice within its retention,
 * and the counts agree with what was handed out. */
TEST(random_schedules_never_start_an_id_twice)
{
    struct base_hash_rng rng;
    base_hash_rng_seed(&rng, 7);
    void *mem;
    struct worker_exec_config cfg = config(64);
    struct worker_execs *j = journal(&cfg, &mem);
    uint64_t ended_ns[40], now = 0, bytes_max = 0;
    bool known[40] = {false}, ended[40] = {false};
    uint32_t starts = 0, replays = 0;
    for (int i = 0; i < 200000; i++) {
        unsigned id = (unsigned)base_hash_rng_below(&rng, 40);
        uint64_t epoch = id % 8 + 1;
        struct worker_exec *x = worker_exec_find(j, id_of(id)), *got;
        switch (base_hash_rng_below(&rng, 5)) {
        case 0: {
            enum worker_exec_verdict v = begin(j, id, epoch, now, &got);
            CHECK((v == WORKER_EXEC_NEW || v == WORKER_EXEC_FULL) == !known[id]);
            if (v == WORKER_EXEC_NEW) {
                starts++;
                known[id] = true;
                ended[id] = false;
            }
            replays += v == WORKER_EXEC_REPLAY;
            break;
        }
        case 1:
        case 2:
            if (x != NULL && x->state == WORKER_EXEC_STARTED) {
                bool done = base_hash_rng_below(&rng, 3) == 0;
                uint64_t n = base_hash_rng_below(&rng, 300);
                (void)worker_exec_event(j, x, x->last_seq + 1, n, done);
                if (done) {
                    worker_exec_finish(j, x, now);
                    ended[id] = true;
                    ended_ns[id] = now;
                }
            }
            break;
        case 3:
            if (base_hash_rng_below(&rng, 20) == 0) {
                while ((x = worker_exec_lost(j, epoch, now)) != NULL) {
                    unsigned k;
                    memcpy(&k, x->id, sizeof k);
                    ended[k] = true;
                    ended_ns[k] = now;
                }
            }
            break;
        default:
            now += base_hash_rng_below(&rng, 30) * S;
            enum worker_exec_drop d;
            while ((d = worker_exec_expire(j, now, &got)) != WORKER_EXEC_DROP_NONE) {
                unsigned k;
                memcpy(&k, got->id, sizeof k);
                CHECK(ended[k]);
                if (d == WORKER_EXEC_DROP_ALL) {
                    CHECK(now >= ended_ns[k] + 600 * S);
                    known[k] = false;
                }
            }
            bytes_max = worker_exec_bytes(j) > bytes_max ? worker_exec_bytes(j) : bytes_max;
            break;
        }
    }
    CHECK(starts > 1000 && replays > 100);
    CHECK(bytes_max <= 1250 + 4 * 300); /* DONE events come on top */
    free(mem);
}

TEST(sizes_out_of_range_are_refused_and_an_execution_can_be_given_up)
{
    static const struct worker_exec_config bad[] = {
        {.execs_max = 0, .running_max = 1, .per_session_max = 1},
        {.execs_max = (1U << 24) + 1, .running_max = 1, .per_session_max = 1},
        {.execs_max = 1, .running_max = 0, .per_session_max = 1},
        {.execs_max = 1, .running_max = 1, .per_session_max = 0}};
    uint64_t room[8];
    struct worker_execs *j = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK_EQ(worker_exec_size(&bad[i]), 0);
        CHECK_EQ(worker_exec_init(&j, &bad[i], room, sizeof room), BASE_EINVAL);
        CHECK(j == NULL);
    }
    void *mem;
    struct worker_exec_config cfg = config(8);
    struct worker_exec *x, *again;
    j = journal(&cfg, &mem);
    CHECK_EQ(worker_exec_deadline_ns(j), UINT64_MAX);
    CHECK_EQ(begin(j, 1, 10, 0, &x), WORKER_EXEC_NEW);
    CHECK(worker_exec_running(j, NULL) == x && worker_exec_running(j, x) == NULL);
    CHECK_EQ(worker_exec_deadline_ns(j), UINT64_MAX); /* what runs does not go */
    worker_exec_give_up(j, x, 7 * S);
    CHECK_EQ(x->state, WORKER_EXEC_UNKNOWN);
    CHECK(worker_exec_running(j, NULL) == NULL);
    CHECK_EQ(worker_exec_deadline_ns(j), 7 * S + 600 * S);
    CHECK_EQ(begin(j, 1, 10, 8 * S, &again), WORKER_EXEC_LOST); /* never a second start */
    CHECK(again == x);
    free(mem);
}
