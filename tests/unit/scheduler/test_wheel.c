#include "scheduler/core/wheel.h"

#include "proto/base/container.h"
#include "proto/base/hash.h"
#include "tests/lib/check.h"

#define TICK SCHED_WHEEL_TICK_NS

enum { NODES = 200 };

struct timer {
    uint64_t due_ns; /* what the model thinks */
    bool armed;
    struct sched_wheel_node node;
};

/* The naive model: a list of due times, looked through from end to end. */
struct model {
    struct sched_wheel w;
    struct base_hash_rng rng;
    uint64_t now_ns;
    struct timer t[NODES];
};

static uint64_t rounded_up(uint64_t ns)
{
    return ns > UINT64_MAX / TICK * TICK ? UINT64_MAX : (ns + TICK - 1) / TICK * TICK;
}

static bool must_have_fired(const struct model *m, const struct timer *t)
{
    uint64_t at = rounded_up(t->due_ns);
    return t->armed && at != UINT64_MAX && at <= m->now_ns;
}

static uint64_t below(struct model *m, uint64_t n)
{
    return base_hash_rng_below(&m->rng, n);
}

/* Spans of every size from ns to a thousand years, and exactly never. */
static uint64_t any_due(struct model *m)
{
    if (below(m, 50) == 0) {
        return UINT64_MAX;
    }
    uint64_t span = base_hash_rng_next(&m->rng) >> below(m, 64);
    if (below(m, 4) == 0) {
        span = below(m, 70000) * TICK; /* on a tick exactly */
    }
    if (below(m, 8) == 0) {
        return m->now_ns - (span < m->now_ns ? span : m->now_ns); /* in the past */
    }
    return span > UINT64_MAX - m->now_ns ? UINT64_MAX - 1 : m->now_ns + span;
}

static void set(struct model *m, struct timer *t, uint64_t due_ns)
{
    sched_wheel_set(&m->w, &t->node, due_ns);
    t->due_ns = due_ns;
    t->armed = true;
}

static void cancel(struct model *m, struct timer *t)
{
    sched_wheel_cancel(&m->w, &t->node);
    t->armed = false;
}

static void check_next(const struct model *m)
{
    uint64_t next = sched_wheel_next_ns(&m->w), first = UINT64_MAX;
    size_t armed = 0;
    for (int i = 0; i < NODES; i++) {
        CHECK(sched_wheel_armed(&m->t[i].node) == m->t[i].armed);
        armed += m->t[i].armed;
        uint64_t at = rounded_up(m->t[i].due_ns);
        first = m->t[i].armed && at < first ? at : first;
    }
    CHECK_EQ(m->w.n, armed);
    CHECK(next <= first);
    CHECK(armed > 0 || next == UINT64_MAX);
}

/* Pops with some budget. When the budget lasted, nothing that is due may be left. */
static void turn(struct model *m, unsigned budget, bool play)
{
    unsigned given = budget, fired = 0;
    struct sched_wheel_node *n;
    while ((n = sched_wheel_pop(&m->w, m->now_ns, &budget)) != NULL) {
        struct timer *t = CONTAINER_OF(n, struct timer, node);
        fired++;
        CHECK(t->armed);
        CHECK(!sched_wheel_armed(n));
        CHECK(n->due_ns == t->due_ns);
        CHECK(t->due_ns <= m->now_ns);
        CHECK(must_have_fired(m, t));
        t->armed = false;
        if (play && below(m, 4) == 0) { /* what an owner does in its callback */
            set(m, &m->t[below(m, NODES)], any_due(m));
            cancel(m, &m->t[below(m, NODES)]);
        }
    }
    CHECK(fired <= given - budget);
    if (budget > 0) {
        for (int i = 0; i < NODES; i++) {
            CHECK(!must_have_fired(m, &m->t[i]));
        }
        CHECK(sched_wheel_next_ns(&m->w) > m->now_ns);
    }
}

static void step(struct model *m)
{
    struct timer *t = &m->t[below(m, NODES)];
    switch (below(m, 8)) {
    case 0:
    case 1:
    case 2:
        set(m, t, any_due(m));
        break;
    case 3: /* put off, as a request does */
        if (t->armed && t->due_ns < UINT64_MAX - 60000 * TICK) {
            set(m, t, t->due_ns + below(m, 60000 * TICK));
        }
        break;
    case 4:
        cancel(m, t);
        break;
    case 5: { /* a jump of time: from one ns to centuries */
        uint64_t span = base_hash_rng_next(&m->rng) >> (8 + below(m, 56));
        m->now_ns += span < UINT64_MAX / 2 - m->now_ns ? span : 0;
        break;
    }
    case 6: {
        uint64_t next = sched_wheel_next_ns(&m->w);
        m->now_ns = next > m->now_ns && next < UINT64_MAX / 2 ? next : m->now_ns;
        break;
    }
    default:
        turn(m, (unsigned)below(m, 30), true);
    }
    check_next(m);
}

TEST(random_use_equals_the_naive_model)
{
    static struct model m;
    for (uint64_t seed = 0; seed < 300; seed++) {
        memset(&m, 0, sizeof m);
        base_hash_rng_seed(&m.rng, seed);
        m.now_ns = base_hash_rng_next(&m.rng) >> (8 + below(&m, 56));
        sched_wheel_init(&m.w, m.now_ns);
        for (int i = 0; i < 1500; i++) {
            step(&m);
        }
        turn(&m, 100000, false);
    }
}

TEST(sleeping_until_next_fires_every_timer_at_its_tick)
{
    static struct model m;
    for (uint64_t seed = 0; seed < 200; seed++) {
        memset(&m, 0, sizeof m);
        base_hash_rng_seed(&m.rng, seed);
        m.now_ns = base_hash_rng_next(&m.rng) >> 12;
        sched_wheel_init(&m.w, m.now_ns);
        for (int i = 0; i < NODES; i++) {
            set(&m, &m.t[i], m.now_ns + 1 + (base_hash_rng_next(&m.rng) >> (8 + below(&m, 56))));
        }
        unsigned turns = 0;
        while (m.w.n > 0) {
            uint64_t next = sched_wheel_next_ns(&m.w);
            CHECK(next > m.now_ns);
            m.now_ns = next;
            unsigned budget = NODES;
            struct sched_wheel_node *n;
            while ((n = sched_wheel_pop(&m.w, m.now_ns, &budget)) != NULL) {
                CHECK(rounded_up(n->due_ns) == m.now_ns);
            }
            turns++;
        }
        /* One turn fires it, four move it down; far ones also pass blocks of 497 days: at most
         * 2^56 / 2^32 / 10^7 of them, together. */
        CHECK(turns <= NODES * 5 + 2);
    }
}

TEST(a_timer_never_fires_before_its_time)
{
    struct sched_wheel w;
    struct sched_wheel_node n = {0};
    unsigned budget = 100;
    for (uint64_t due = 0; due < 3 * TICK; due += TICK / 8 - 1) {
        sched_wheel_init(&w, 0);
        sched_wheel_set(&w, &n, due);
        uint64_t at = rounded_up(due);
        CHECK(at == 0 || sched_wheel_pop(&w, at - 1, &budget) == NULL);
        CHECK(sched_wheel_pop(&w, at, &budget) == &n);
    }
}

TEST(a_due_time_in_the_past_fires_at_once)
{
    struct sched_wheel w;
    struct sched_wheel_node n = {0};
    unsigned budget = 2;
    sched_wheel_init(&w, 1000 * TICK + 5);
    sched_wheel_set(&w, &n, 3);
    CHECK(sched_wheel_next_ns(&w) == 0);
    CHECK(sched_wheel_pop(&w, 1000 * TICK + 5, &budget) == &n);
    CHECK_EQ(budget, 1);
    CHECK(sched_wheel_next_ns(&w) == UINT64_MAX);
}

TEST(time_that_goes_back_does_no_harm)
{
    struct sched_wheel w;
    struct sched_wheel_node a = {0}, b = {0};
    unsigned budget = 10;
    sched_wheel_init(&w, 500 * TICK);
    sched_wheel_set(&w, &a, 510 * TICK);
    CHECK(sched_wheel_pop(&w, 100 * TICK, &budget) == NULL);
    CHECK(sched_wheel_pop(&w, 509 * TICK, &budget) == NULL);
    sched_wheel_set(&w, &b, 505 * TICK);
    CHECK(sched_wheel_pop(&w, 1, &budget) == &b);
    CHECK(sched_wheel_pop(&w, 2, &budget) == NULL);
    CHECK(sched_wheel_next_ns(&w) == 510 * TICK);
    CHECK(sched_wheel_pop(&w, 510 * TICK, &budget) == &a);
}

TEST(never_never_fires_and_can_be_cancelled)
{
    struct sched_wheel w;
    struct sched_wheel_node n = {0};
    unsigned budget = 100000;
    sched_wheel_init(&w, 0);
    sched_wheel_set(&w, &n, UINT64_MAX);
    CHECK(sched_wheel_pop(&w, UINT64_MAX, &budget) == NULL);
    CHECK(budget > 0);
    CHECK(sched_wheel_armed(&n));
    sched_wheel_cancel(&w, &n);
    CHECK(!sched_wheel_armed(&n));
    CHECK_EQ(w.n, 0);
    CHECK(sched_wheel_next_ns(&w) == UINT64_MAX);
    sched_wheel_cancel(&w, &n);
    CHECK_EQ(w.n, 0);
}

TEST(after_an_idle_time_a_near_timer_needs_one_look)
{
    struct sched_wheel w;
    struct sched_wheel_node n = {0};
    unsigned budget = 100;
    sched_wheel_init(&w, 0);
    uint64_t now = (UINT64_C(1) << 33) * TICK;
    CHECK(sched_wheel_pop(&w, now, &budget) == NULL);
    sched_wheel_set(&w, &n, now + 3 * TICK);
    CHECK(sched_wheel_next_ns(&w) == now + 3 * TICK);
    CHECK(sched_wheel_pop(&w, now + 3 * TICK, &budget) == &n);
    CHECK_EQ(budget, 99);
}

TEST(a_burst_is_spread_over_turns_and_comes_in_order)
{
    enum { BURST = 10000 };
    static struct sched_wheel_node n[BURST];
    static struct sched_wheel w;
    sched_wheel_init(&w, 0);
    for (uint64_t i = 0; i < BURST; i++) {
        sched_wheel_set(&w, &n[i], (1 + i % 5 + 70000) * TICK);
    }
    unsigned turns = 0, fired = 0;
    uint64_t last = 0, now = (uint64_t)80000 * TICK;
    while (w.n > 0) {
        unsigned budget = 1000;
        struct sched_wheel_node *p;
        while ((p = sched_wheel_pop(&w, now, &budget)) != NULL) {
            CHECK(p->due_ns >= last);
            last = p->due_ns;
            fired++;
        }
        CHECK(w.n == 0 || sched_wheel_next_ns(&w) <= now);
        now += TICK;
        turns++;
    }
    CHECK_EQ(fired, BURST);
    CHECK(turns >= 20 && turns <= 31); /* each is looked at two or three times */
}

TEST(an_owner_that_rearms_into_the_past_cannot_starve_the_others)
{
    struct sched_wheel w;
    struct sched_wheel_node greedy = {0}, other = {0};
    sched_wheel_init(&w, 0);
    sched_wheel_set(&w, &greedy, 0);
    sched_wheel_set(&w, &other, 0);
    unsigned budget = 5, others = 0;
    struct sched_wheel_node *n;
    while ((n = sched_wheel_pop(&w, 0, &budget)) != NULL) {
        others += n == &other;
        sched_wheel_set(&w, n, 0);
    }
    CHECK_EQ(budget, 0);
    CHECK_EQ(others, 2);
}

TEST(putting_off_costs_no_move_and_pulling_in_does)
{
    struct sched_wheel w;
    struct sched_wheel_node n = {0};
    unsigned budget = 100;
    sched_wheel_init(&w, 0);
    sched_wheel_set(&w, &n, 100 * TICK);
    struct sched_wheel_node *list = n.next;
    sched_wheel_set(&w, &n, 90000 * TICK);
    CHECK(n.next == list);
    CHECK(sched_wheel_next_ns(&w) == 100 * TICK);
    CHECK(sched_wheel_pop(&w, 100 * TICK, &budget) == NULL);
    CHECK_EQ(budget, 99);
    sched_wheel_set(&w, &n, 200 * TICK);
    CHECK(sched_wheel_next_ns(&w) == 200 * TICK);
    CHECK(sched_wheel_pop(&w, 199 * TICK, &budget) == NULL);
    CHECK(sched_wheel_pop(&w, 200 * TICK, &budget) == &n);
}

TEST(the_firing_order_depends_on_the_calls_only)
{
    static struct sched_wheel_node n[2][64];
    static struct sched_wheel w[2];
    for (int k = 0; k < 2; k++) {
        struct base_hash_rng r;
        base_hash_rng_seed(&r, 9);
        sched_wheel_init(&w[k], 0);
        for (unsigned i = 0; i < 64; i++) { /* the second wheel has its nodes in reverse memory */
            unsigned at = k == 0 ? i : 63 - i;
            sched_wheel_set(&w[k], &n[k][at], base_hash_rng_below(&r, 4) * 300 * TICK);
        }
    }
    for (unsigned i = 0; i < 64; i++) {
        unsigned b0 = 1000, b1 = 1000;
        struct sched_wheel_node *x = sched_wheel_pop(&w[0], 1000 * TICK, &b0);
        struct sched_wheel_node *y = sched_wheel_pop(&w[1], 1000 * TICK, &b1);
        CHECK(x != NULL && y != NULL);
        CHECK_EQ(x - n[0], 63 - (y - n[1]));
        CHECK_EQ(b0, b1);
    }
}
