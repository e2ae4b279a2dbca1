#include "proto/base/hash.h"
#include "tests/unit/scheduler/swim_rig.h"

/* Joining, anti-entropy, bounds, and random input. */

static void table(struct rig *r, uint64_t from, struct sched_update *u, uint16_t n, uint32_t alive)
{
    static struct sched_announce a[SCHED_SWIM_UPDATES_MAX];
    for (uint16_t i = 0; i < n; i++) {
        a[i] = rig_announce(u[i].id);
        u[i].announce = u[i].kind == SCHED_UPDATE_ALIVE ? &a[i] : NULL;
    }
    rig_packet(r, from,
        (struct sched_swim_packet){.type = SCHED_SWIM_TABLE,
            .flags = SCHED_SWIM_LAST,
            .alive = alive,
            .updates = u,
            .update_count = n});
}

TEST(a_newcomer_asks_three_seeds_at_once_and_again_until_one_answers)
{
    struct rig *r = rig_new();
    r->cfg.seeds = 5;
    rig_init(r);
    CHECK(!sched_swim_joined(r->s));
    CHECK(rig_run(r, 10, SCHED_SWIM_JOIN, false) != NULL);
    for (unsigned i = 0; i < 3; i++) {
        const struct sched_swim_fx *fx = rig_sent(r, SCHED_SWIM_JOIN, i);
        CHECK(fx != NULL && fx->peer == 0 && fx->seed == i && fx->channel == SCHED_SWIM_CTL);
        CHECK_EQ(fx->packet.updates[0].id, 1);
    }
    CHECK(rig_sent(r, SCHED_SWIM_JOIN, 3) == NULL);
    CHECK(rig_run(r, 2000, SCHED_SWIM_JOIN, false) != NULL);
    CHECK_EQ(rig_sent(r, SCHED_SWIM_JOIN, 0)->seed, 3);
    uint16_t seq = rig_sent(r, SCHED_SWIM_JOIN, 0)->packet.seq;
    struct sched_announce a = rig_announce(2);
    struct sched_update u = {.kind = SCHED_UPDATE_ALIVE, .inc = 1, .id = 2, .announce = &a};
    rig_packet(r, 2,
        (struct sched_swim_packet){.type = SCHED_SWIM_TABLE,
            .flags = SCHED_SWIM_LAST,
            .seq = seq,
            .alive = 2,
            .updates = &u,
            .update_count = 1});
    CHECK(rig_fx(r, SCHED_SWIM_FX_JOINED, 0) != NULL);
    CHECK(sched_swim_joined(r->s));
    CHECK_EQ(sched_swim_queued(r->s), 0); /* everybody there knows it already */
    for (int i = 0; i < 10; i++) {        /* seed 3 is member 2 and is left in peace */
        const struct sched_swim_fx *fx = rig_run(r, 20000, SCHED_SWIM_JOIN, true);
        CHECK(fx != NULL && fx->seed != 3);
    }
    rig_free(r);
}

TEST(an_own_address_among_the_seeds_is_recognised)
{
    struct rig *r = rig_new();
    r->cfg.seeds = 1;
    rig_init(r);
    const struct sched_swim_fx *fx = rig_run(r, 10, SCHED_SWIM_JOIN, false);
    rig_packet_as(r, 1, r->cfg.self.boot,
        (struct sched_swim_packet){.type = SCHED_SWIM_JOIN, .seq = fx->packet.seq});
    CHECK(rig_run(r, 30000, SCHED_SWIM_JOIN, false) == NULL);
    rig_packet_as(r, 1, 4711, (struct sched_swim_packet){.type = SCHED_SWIM_PING});
    CHECK_EQ(rig_fx(r, SCHED_SWIM_FX_ODD, 0)->odd, SCHED_SWIM_ODD_TWIN);
    rig_free(r);
}

static unsigned claims_in_tables(struct rig *r, uint64_t to, bool seen[64])
{
    unsigned n = 0;
    for (int turn = 0; turn < 50; turn++) {
        const struct sched_swim_fx *fx;
        for (unsigned i = 0; (fx = rig_sent(r, SCHED_SWIM_TABLE, i)) != NULL; i++) {
            CHECK_EQ(fx->peer, to);
            n += fx->packet.update_count;
            for (uint16_t k = 0; k < fx->packet.update_count; k++) {
                seen[fx->packet.updates[k].id] = true;
            }
            if (fx->packet.flags & SCHED_SWIM_LAST) {
                return n;
            }
        }
        r->now_ns += 1000000;
        rig_step(r, (struct sched_swim_event){.kind = SCHED_SWIM_EV_TICK});
    }
    CHECK(false);
    return 0;
}

TEST(who_joins_gets_the_whole_table)
{
    struct rig *r = rig_new();
    rig_init(r);
    rig_know(r, 60);
    rig_claim(
        r, 3, (struct sched_update){.kind = SCHED_UPDATE_SUSPECT, .inc = 1, .id = 9, .by = 3});
    rig_claim(r, 3, (struct sched_update){.kind = SCHED_UPDATE_LEFT, .inc = 2, .id = 10});
    struct sched_announce a = rig_announce(61);
    struct sched_update u = {.kind = SCHED_UPDATE_ALIVE, .inc = 1, .id = 61, .announce = &a};
    rig_packet(r, 61,
        (struct sched_swim_packet){.type = SCHED_SWIM_JOIN,
            .seq = 8,
            .inc = 1,
            .alive = 1,
            .updates = &u,
            .update_count = 1});
    CHECK_EQ(rig_state(r, 61), SCHED_PEER_ALIVE);
    bool seen[64] = {0};
    CHECK_EQ(claims_in_tables(r, 61, seen), 62); /* member 9 takes two */
    for (int id = 1; id <= 61; id++) {
        CHECK(seen[id]);
    }
    rig_free(r);
}

TEST(equal_tables_exchange_nothing_and_different_ones_only_the_buckets_that_differ)
{
    struct rig *a = rig_new(), *b = rig_new();
    b->cfg.self = rig_announce(51);
    rig_init(a);
    rig_init(b);
    rig_know(a, 50);
    rig_know(b, 50);
    rig_claim(a, 3, (struct sched_update){.kind = SCHED_UPDATE_ALIVE, .inc = 1, .id = 51});
    rig_claim(b, 3, (struct sched_update){.kind = SCHED_UPDATE_ALIVE, .inc = 1, .id = 1});
    const struct sched_swim_fx *fx = rig_run(a, 200000, SCHED_SWIM_DIGEST, true);
    CHECK(fx != NULL && fx->packet.digest_count == SCHED_SWIM_BUCKETS);
    struct sched_swim_packet digest = fx->packet;
    uint64_t digests[SCHED_SWIM_BUCKETS];
    memcpy(digests, fx->packet.digests, sizeof digests);
    digest.digests = digests;
    rig_packet(b, 1, digest);
    (void)rig_run(b, 20, SCHED_SWIM_TABLE, false);
    CHECK(rig_sent(b, SCHED_SWIM_TABLE, 0) == NULL);
    rig_claim(b, 3, (struct sched_update){.kind = SCHED_UPDATE_ALIVE, .inc = 1, .id = 52});
    rig_claim(b, 3, (struct sched_update){.kind = SCHED_UPDATE_ALIVE, .inc = 2, .id = 7});
    rig_packet(b, 1, digest);
    bool seen[64] = {0};
    CHECK(claims_in_tables(b, 1, seen) <= 8);
    CHECK(seen[52] && seen[7]);
    rig_free(a);
    rig_free(b);
}

TEST(every_bucket_is_sent_when_asked_for)
{
    struct rig *r = rig_new();
    r->cfg.members_max = 1200;
    r->cfg.timers_max = r->cfg.queue_max = 100;
    free(r->book_mem);
    size_t size = sched_book_size(1500);
    r->book_mem = malloc(size);
    CHECK_EQ(sched_book_init(&r->book, 1500, r->book_mem, size), 0);
    rig_init(r);
    rig_know(r, 1100);
    rig_packet(r, 2, (struct sched_swim_packet){.type = SCHED_SWIM_JOIN, .seq = 8, .inc = 1});
    unsigned n = 0;
    for (bool last = false; !last;) {
        const struct sched_swim_fx *fx;
        for (unsigned i = 0; (fx = rig_sent(r, SCHED_SWIM_TABLE, i)) != NULL; i++) {
            n += fx->packet.update_count;
            last = fx->packet.flags & SCHED_SWIM_LAST;
        }
        r->now_ns += 1000000;
        rig_step(r, (struct sched_swim_event){.kind = SCHED_SWIM_EV_TICK});
    }
    CHECK_EQ(n, 1100);
    rig_free(r);
}

TEST(tables_at_rest_that_differ_are_synced_soon_and_in_vain_less_and_less)
{
    struct rig *r = rig_new();
    rig_init(r);
    rig_know(r, 6);
    struct sched_swim_packet ping = {.type = SCHED_SWIM_PING, .inc = 1, .root = 12345};
    rig_packet(r, 3, ping);
    CHECK(rig_sent(r, SCHED_SWIM_DIGEST, 0) == NULL); /* own table has just changed */
    (void)rig_run(r, 1500, 0, true);
    uint64_t at[8];
    unsigned n = 0;
    for (uint64_t start = r->now_ns; n < 6 && r->now_ns - start < UINT64_C(200000000000);) {
        (void)rig_run(r, 100, 0, true);
        rig_packet(r, 3, ping);
        if (rig_sent(r, SCHED_SWIM_DIGEST, 0) != NULL) {
            at[n++] = r->now_ns / 1000000;
        }
    }
    CHECK_EQ(n, 6);
    CHECK(at[1] - at[0] >= 1000 && at[1] - at[0] <= 1500);
    CHECK(at[5] - at[4] >= 16000 && at[5] - at[4] <= 21000);
    rig_free(r);
}

TEST(a_death_in_a_table_is_only_a_suspicion)
{
    struct rig *r = rig_new();
    rig_init(r);
    rig_know(r, 6);
    struct sched_update u = {.kind = SCHED_UPDATE_DEAD, .inc = 1, .id = 5, .by = 3};
    table(r, 3, &u, 1, 5);
    CHECK_EQ(rig_state(r, 5), SCHED_PEER_SUSPECT);
    u.id = 6; /* the sender sees hardly anybody: it was itself cut off */
    table(r, 3, &u, 1, 2);
    CHECK_EQ(rig_state(r, 6), SCHED_PEER_ALIVE);
    rig_free(r);
}

TEST(a_node_that_was_cut_off_drops_its_obituaries)
{
    struct rig *r = rig_new();
    rig_init(r);
    rig_know(r, 9);
    struct sched_update u[9];
    for (uint64_t id = 3; id <= 9; id++) {
        u[id - 3] = (struct sched_update){.kind = SCHED_UPDATE_DEAD, .inc = 1, .id = id, .by = 1};
        rig_claim(r, 2, u[id - 3]);
        u[id - 3].kind = SCHED_UPDATE_ALIVE;
    }
    table(r, 2, u, 7, 2);
    CHECK_EQ(rig_state(r, 4), SCHED_PEER_DEAD); /* the sender knows no more than this node */
    table(r, 2, u, 7, 9);
    for (uint64_t id = 3; id <= 9; id++) {
        CHECK_EQ(rig_state(r, id), SCHED_PEER_ALIVE);
    }
    rig_free(r);
}

TEST(the_dead_are_pinged_now_and_then_and_told_of_it)
{
    struct rig *r = rig_new();
    rig_init(r);
    rig_know(r, 4);
    rig_claim(r, 3, (struct sched_update){.kind = SCHED_UPDATE_DEAD, .inc = 1, .id = 4, .by = 3});
    unsigned pings = 0;
    for (uint64_t end = r->now_ns + UINT64_C(20000000000); r->now_ns < end;) {
        const struct sched_swim_fx *fx =
            rig_run(r, (end - r->now_ns + 999999) / 1000000, SCHED_SWIM_PING, true);
        if (fx != NULL && fx->peer == 4) {
            CHECK_EQ(rig_about(fx, 4)->kind, SCHED_UPDATE_DEAD);
            pings++;
        } else if (fx != NULL) {
            rig_packet(r, fx->peer,
                (struct sched_swim_packet){.type = SCHED_SWIM_ACK, .seq = fx->packet.seq});
        }
    }
    CHECK(pings >= 7 && pings <= 11);
    rig_free(r);
}

TEST(a_full_table_takes_nobody_in_and_says_so)
{
    struct rig *r = rig_new();
    r->cfg.members_max = r->cfg.timers_max = 4;
    rig_init(r);
    rig_know(r, 5);
    CHECK_EQ(rig_state(r, 4), SCHED_PEER_ALIVE);
    CHECK_EQ(rig_state(r, 5), SCHED_PEER_NONE);
    CHECK_EQ(rig_fx(r, SCHED_SWIM_FX_ODD, 0)->odd, SCHED_SWIM_ODD_FULL);
    CHECK_EQ(sched_swim_stats(r->s)->full, 1);
    rig_claim(r, 3, (struct sched_update){.kind = SCHED_UPDATE_DEAD, .inc = 1, .id = 4, .by = 3});
    (void)rig_run(r, 31000, 0, true);
    rig_claim(r, 3, (struct sched_update){.kind = SCHED_UPDATE_ALIVE, .inc = 1, .id = 5});
    CHECK_EQ(rig_state(r, 5), SCHED_PEER_ALIVE);
    rig_free(r);
}

TEST(more_suspects_than_timers_end_too)
{
    struct rig *r = rig_new();
    r->cfg.timers_max = 1;
    rig_init(r);
    rig_know(r, 40);
    for (uint64_t id = 21; id <= 40; id++) {
        rig_claim(
            r, 3, (struct sched_update){.kind = SCHED_UPDATE_SUSPECT, .inc = 1, .id = id, .by = 3});
    }
    CHECK_EQ(sched_swim_count(r->s, SCHED_PEER_SUSPECT), 20);
    (void)rig_run(r, 20000, 0, true);
    CHECK_EQ(sched_swim_count(r->s, SCHED_PEER_DEAD), 20);
    (void)rig_run(r, 40000, 0, true);
    CHECK_EQ(sched_swim_count(r->s, SCHED_PEER_DEAD), 0);
    CHECK_EQ(sched_swim_count(r->s, SCHED_PEER_ALIVE), 20);
    rig_free(r);
}

TEST(news_waits_when_the_budget_is_used_up_and_probes_do_not)
{
    struct rig *r = rig_new();
    r->cfg.params.rate = 200;
    r->cfg.params.burst = 2400;
    rig_init(r);
    rig_know(r, 50);
    (void)rig_run(r, 30000, 0, true);
    const struct sched_swim_stats *st = sched_swim_stats(r->s);
    CHECK(st->bytes <= 30 * 200 + 2400 + 1200);
    CHECK(st->over_budget > 0);
    CHECK(st->packets[SCHED_SWIM_PING] >= 55);
    CHECK(sched_swim_queued(r->s) > 0);
    rig_free(r);
}

TEST(the_announcement_can_be_changed_with_a_larger_incarnation)
{
    struct rig *r = rig_new();
    rig_init(r);
    rig_know(r, 3);
    struct sched_announce a = rig_announce(1);
    a.weight = 0;
    rig_step(r, (struct sched_swim_event){.kind = SCHED_SWIM_EV_SELF, .self = &a});
    const struct sched_swim_fx *fx = rig_run(r, 1000, SCHED_SWIM_GOSSIP, true);
    CHECK_EQ(rig_about(fx, 1)->inc, 2);
    CHECK_EQ(rig_about(fx, 1)->announce->weight, 0);
    struct sched_announce b = rig_announce(3);
    b.zone = 7;
    rig_claim(
        r, 3, (struct sched_update){.kind = SCHED_UPDATE_ALIVE, .inc = 2, .id = 3, .announce = &b});
    struct sched_swim_peer p;
    CHECK(sched_swim_find(r->s, 3, &p) && p.announce->zone == 7);
    rig_free(r);
}

TEST(a_configuration_out_of_range_or_too_little_memory_is_refused)
{
    struct rig *r = rig_new();
    struct sched_swim_cfg good = r->cfg;
    size_t size = sched_swim_size(&good);
    CHECK(size > 0);
    for (unsigned i = 0; i < 12; i++) {
        r->cfg = good;
        uint32_t *fields[] = {&r->cfg.members_max, &r->cfg.timers_max, &r->cfg.queue_max,
            &r->cfg.incarnation, &r->cfg.params.period_ms, &r->cfg.params.suspect_mult,
            &r->cfg.params.suspect_max_mult, &r->cfg.params.gossip_ms, &r->cfg.params.burst,
            &r->cfg.params.reclaim_ms, &r->cfg.params.sync_ms, &r->cfg.params.seed_ms};
        *fields[i] = 0;
        CHECK_EQ(sched_swim_size(&r->cfg), 0);
        CHECK(sched_swim_init(&r->cfg, 0, r->book_mem, 1 << 20) == NULL);
    }
    r->cfg = good;
    r->cfg.self.id = 0;
    CHECK_EQ(sched_swim_size(&r->cfg), 0);
    r->cfg = good;
    uint64_t *mem = malloc(size);
    CHECK(sched_swim_init(&r->cfg, 0, mem, size - 1) == NULL);
    free(mem);
    rig_init(r);
    rig_free(r);
}

TEST(memory_per_member_is_what_the_header_says)
{
    struct rig *r = rig_new();
    r->cfg.edges = false;
    r->cfg.timers_max = r->cfg.queue_max = 8;
    r->cfg.members_max = 1000;
    size_t small = sched_swim_size(&r->cfg);
    r->cfg.members_max = 10000;
    size_t large = sched_swim_size(&r->cfg);
    CHECK((large - small) / 9000 <= 22);
    CHECK(small <= 8 * 1024 + 1000 * 24);
    r->cfg.edges = true;
    CHECK_EQ(sched_swim_size(&r->cfg) - large, 160000);
    rig_init(r);
    rig_free(r);
}

/* Packets with everything in them that the decoder lets through, small ids, so that they meet. */
static void random_packet(
    struct base_hash_rng *g, struct sched_swim_packet *p, struct sched_update *u)
{
    static struct sched_announce a[SCHED_SWIM_UPDATES_MAX];
    static uint64_t digests[SCHED_SWIM_BUCKETS];
    *p = (struct sched_swim_packet){
        .type = (enum sched_swim_type)(1 + base_hash_rng_below(g, SCHED_SWIM_TYPES - 1)),
        .flags = (uint8_t)base_hash_rng_below(g, 8),
        .seq = (uint16_t)base_hash_rng_below(g, 64),
        .inc = (uint32_t)base_hash_rng_below(g, 6),
        .alive = (uint32_t)base_hash_rng_below(g, 40),
        .root = (uint32_t)base_hash_rng_below(g, 2),
        .target = base_hash_rng_below(g, 20),
        .has_dynamic = base_hash_rng_below(g, 2),
        .mask = {base_hash_rng_next(g)},
        .digest_count = (uint16_t)(base_hash_rng_below(g, 2) ? 1 : SCHED_SWIM_BUCKETS),
        .digests = digests,
        .updates = u,
        .update_count = (uint16_t)base_hash_rng_below(g, SCHED_SWIM_UPDATES_MAX + 1)};
    for (uint16_t i = 0; i < p->update_count; i++) {
        uint64_t id = 1 + base_hash_rng_below(g, 20);
        a[i] = rig_announce(id);
        a[i].boot += (uint32_t)base_hash_rng_below(g, 2);
        a[i].proto_min = a[i].proto_now = a[i].proto_max =
            (uint8_t)(1 + base_hash_rng_below(g, 20) / 19);
        u[i] =
            (struct sched_update){.kind = (enum sched_update_kind)(1 + base_hash_rng_below(g, 5)),
                .inc = (uint32_t)base_hash_rng_below(g, 8),
                .id = id,
                .by = base_hash_rng_below(g, 20),
                .announce = &a[i],
                .edge = {.number = (uint8_t)base_hash_rng_next(g), .room = base_hash_rng_next(g)}};
        u[i].edge.inc = u[i].inc;
    }
}

TEST(random_packets_at_random_times_never_break_the_machine)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct base_hash_rng g;
        base_hash_rng_seed(&g, seed);
        struct rig *r = rig_new();
        r->cfg.members_max = seed % 3 == 0 ? 12 : 64;
        r->cfg.timers_max = seed % 2 == 0 ? 3 : 12;
        r->cfg.queue_max = seed % 5 == 0 ? 8 : 64;
        r->cfg.seeds = seed % 4;
        rig_init(r);
        uint32_t inc = 1, most = 0;
        for (int i = 0; i < 3000; i++) {
            static struct sched_swim_packet p;
            static struct sched_update u[SCHED_SWIM_UPDATES_MAX];
            r->now_ns += base_hash_rng_below(&g, 3) == 0
                             ? base_hash_rng_below(&g, UINT64_C(1000000000))
                             : base_hash_rng_below(&g, 1000000);
            if (base_hash_rng_below(&g, 2) == 0) {
                rig_step(r, (struct sched_swim_event){.kind = SCHED_SWIM_EV_TICK});
            } else {
                random_packet(&g, &p, u);
                uint64_t from = base_hash_rng_below(&g, 20);
                rig_packet_as(r, from, (uint32_t)(100 + from + base_hash_rng_below(&g, 2)), p);
            }
            CHECK(sched_swim_incarnation(r->s) >= inc);
            inc = sched_swim_incarnation(r->s);
            most = r->fx.n > most ? r->fx.n : most;
        }
        CHECK(most > 10);
        rig_free(r);
    }
}
