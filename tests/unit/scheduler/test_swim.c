#include "proto/base/hash.h"
#include "tests/unit/scheduler/swim_rig.h"

TEST(precedence_is_by_incarnation_and_then_by_state)
{
    for (uint32_t a = 1; a <= 3; a++) {
        for (uint32_t b = 1; b <= 3; b++) {
            for (int x = SCHED_PEER_ALIVE; x <= SCHED_PEER_LEFT; x++) {
                for (int y = SCHED_PEER_ALIVE; y <= SCHED_PEER_LEFT; y++) {
                    CHECK_EQ(
                        sched_peer_newer(a, (enum sched_peer_state)x, b, (enum sched_peer_state)y),
                        a > b || (a == b && x > y));
                }
            }
        }
    }
}

TEST(every_pair_of_claims_leaves_the_one_with_precedence)
{
    for (unsigned first = 0; first < 12; first++) {
        for (unsigned second = 0; second < 12; second++) {
            struct rig *r = rig_new();
            rig_init(r);
            rig_know(r, 5);
            struct sched_update u[2];
            for (unsigned i = 0; i < 2; i++) {
                unsigned what = i == 0 ? first : second;
                u[i] = (struct sched_update){
                    .kind = (enum sched_update_kind)(SCHED_UPDATE_ALIVE + what % 4),
                    .inc = 2 + what / 4,
                    .id = 5,
                    .by = 3};
                rig_claim(r, 3, u[i]);
            }
            bool newer = u[1].inc > u[0].inc || (u[1].inc == u[0].inc && u[1].kind > u[0].kind);
            const struct sched_update *want = newer ? &u[1] : &u[0];
            CHECK_EQ(rig_inc(r, 5), want->inc);
            CHECK_EQ(rig_state(r, 5), want->kind);
            rig_free(r);
        }
    }
}

TEST(a_ping_is_answered_to_where_it_came_from)
{
    struct rig *r = rig_new();
    rig_init(r);
    rig_know(r, 3);
    rig_packet(r, 3, (struct sched_swim_packet){.type = SCHED_SWIM_PING, .seq = 77, .inc = 1});
    const struct sched_swim_fx *fx = rig_sent(r, SCHED_SWIM_ACK, 0);
    CHECK(fx != NULL && fx->peer == 3 && fx->announce == NULL);
    CHECK_EQ(fx->packet.seq, 77);
    CHECK_EQ(fx->packet.flags, 0);
    CHECK_EQ(fx->packet.inc, 1);
    CHECK(fx->packet.has_dynamic);
    rig_free(r);
}

TEST(a_stranger_is_asked_who_it_is_and_announces_itself_when_asked)
{
    struct rig *r = rig_new();
    rig_init(r);
    rig_know(r, 2);
    rig_packet(r, 9, (struct sched_swim_packet){.type = SCHED_SWIM_PING, .seq = 1, .inc = 1});
    CHECK_EQ(rig_sent(r, SCHED_SWIM_ACK, 0)->packet.flags, SCHED_SWIM_WHO);
    CHECK_EQ(rig_state(r, 9), SCHED_PEER_NONE);
    rig_packet(r, 2, (struct sched_swim_packet){.type = SCHED_SWIM_ACK, .flags = SCHED_SWIM_WHO});
    const struct sched_swim_fx *fx = rig_sent(r, SCHED_SWIM_GOSSIP, 0);
    CHECK(fx != NULL && fx->peer == 2);
    CHECK_EQ(fx->packet.updates[0].id, 1);
    CHECK_EQ(fx->packet.updates[0].kind, SCHED_UPDATE_ALIVE);
    rig_free(r);
}

TEST(all_members_are_probed_before_one_is_probed_again)
{
    struct rig *r = rig_new();
    rig_init(r);
    rig_know(r, 21);
    (void)rig_run(r, 25 * 500, 0, true); /* whoever came after the first shuffle is in by now */
    for (int pass = 0; pass < 3; pass++) {
        unsigned seen[22] = {0};
        for (int i = 0; i < 40; i++) {
            const struct sched_swim_fx *fx = rig_run(r, 1000, SCHED_SWIM_PING, false);
            CHECK(fx != NULL);
            seen[fx->peer]++;
            rig_packet(r, fx->peer,
                (struct sched_swim_packet){.type = SCHED_SWIM_ACK, .seq = fx->packet.seq});
        }
        for (int id = 2; id <= 21; id++) { /* 40 probes of 20: at least one, at most three */
            CHECK(seen[id] >= 1 && seen[id] <= 3);
        }
    }
    CHECK_EQ(sched_swim_stats(r->s)->probes_failed, 0);
    rig_free(r);
}

/* Runs to the next ping and lets it go unanswered; returns the target. */
static uint64_t unanswered_ping(struct rig *r)
{
    const struct sched_swim_fx *fx = rig_run(r, 10000, SCHED_SWIM_PING, false);
    CHECK(fx != NULL);
    uint64_t target = fx->peer;
    r->now_ns += 10000000;
    rig_packet(r, 77, (struct sched_swim_packet){.type = SCHED_SWIM_GOSSIP}); /* not deaf */
    return target;
}

TEST(an_unanswered_ping_goes_through_three_relays_and_then_to_suspicion)
{
    struct rig *r = rig_new();
    rig_init(r);
    rig_know(r, 6);
    uint64_t target = unanswered_ping(r), start = r->now_ns;
    const struct sched_swim_fx *fx = rig_run(r, 1000, SCHED_SWIM_PING_REQ, false);
    CHECK(fx != NULL);
    CHECK((r->now_ns - start) / 1000000 >= 50 && (r->now_ns - start) / 1000000 <= 200);
    uint64_t relays[3];
    for (unsigned i = 0; i < 3; i++) {
        fx = rig_sent(r, SCHED_SWIM_PING_REQ, i);
        CHECK(fx != NULL && fx->packet.target == target && fx->peer != target);
        relays[i] = fx->peer;
    }
    CHECK(relays[0] != relays[1] && relays[1] != relays[2] && relays[0] != relays[2]);
    CHECK(rig_sent(r, SCHED_SWIM_PING_REQ, 3) == NULL);
    for (unsigned i = 0; i < 3; i++) {
        rig_packet(r, relays[i],
            (struct sched_swim_packet){
                .type = SCHED_SWIM_NACK, .seq = fx->packet.seq, .target = target});
    }
    CHECK_EQ(rig_state(r, target), SCHED_PEER_ALIVE);
    CHECK(rig_run(r, 1000, SCHED_SWIM_PING, false) != NULL);
    CHECK_EQ(rig_state(r, target), SCHED_PEER_SUSPECT);
    const struct sched_swim_fx *m = rig_fx(r, SCHED_SWIM_FX_PEER, 0);
    CHECK(m->peer == target && m->cause == SCHED_SWIM_BY_PROBE);
    CHECK_EQ((r->now_ns - start) / 1000000, 490);
    CHECK_EQ(sched_swim_health(r->s), 0); /* all relays said that they are there */
    rig_free(r);
}

TEST(a_ping_is_repeated_in_the_rest_of_its_period_and_a_late_answer_counts)
{
    for (int answer = 0; answer < 2; answer++) {
        struct rig *r = rig_new();
        r->cfg.params.retries = 3;
        rig_init(r);
        rig_know(r, 6);
        const struct sched_swim_fx *fx = rig_run(r, 10000, SCHED_SWIM_PING, false);
        uint64_t target = fx->peer, start = r->now_ns;
        uint16_t seq = fx->packet.seq;
        for (int i = 0; i < 3; i++) {
            fx = rig_run(r, 500, SCHED_SWIM_PING, false);
            CHECK(fx != NULL && fx->peer == target && fx->packet.seq == seq);
            CHECK((r->now_ns - start) / 1000000 < 500);
        }
        if (answer) {
            rig_packet(r, target, (struct sched_swim_packet){.type = SCHED_SWIM_ACK, .seq = seq});
        } else {
            rig_packet(r, target == 2 ? 3 : 2, (struct sched_swim_packet){.type = SCHED_SWIM_PING});
        }
        fx = rig_run(r, 500, SCHED_SWIM_PING, false);
        CHECK(fx != NULL && fx->packet.seq != seq);
        CHECK_EQ((r->now_ns - start) / 1000000, 500);
        CHECK_EQ(rig_state(r, target), answer ? SCHED_PEER_ALIVE : SCHED_PEER_SUSPECT);
        rig_free(r);
    }
}

TEST(a_relay_repeats_its_ping_once)
{
    struct rig *r = rig_new();
    r->cfg.params.retries = 3;
    rig_init(r);
    rig_know(r, 4);
    (void)rig_run(r, 10000, SCHED_SWIM_PING, false);
    struct sched_swim_packet req = {.type = SCHED_SWIM_PING_REQ, .seq = 500, .target = 4};
    rig_packet(r, 3, req);
    uint16_t seq = rig_sent(r, SCHED_SWIM_PING, 0)->packet.seq;
    unsigned again = 0;
    while (rig_sent(r, SCHED_SWIM_NACK, 0) == NULL) {
        r->now_ns = sched_swim_deadline_ns(r->s);
        rig_step(r, (struct sched_swim_event){.kind = SCHED_SWIM_EV_TICK});
        for (unsigned i = 0; rig_sent(r, SCHED_SWIM_PING, i) != NULL; i++) {
            again += rig_sent(r, SCHED_SWIM_PING, i)->packet.seq == seq;
        }
    }
    CHECK_EQ(again, 1);
    rig_free(r);
}

/* A node that hears nobody has more reason to doubt itself than all others. */
TEST(who_hears_nobody_accuses_nobody_for_a_while)
{
    struct rig *r = rig_new();
    rig_init(r);
    rig_know(r, 6);
    rig_claim(
        r, 3, (struct sched_update){.kind = SCHED_UPDATE_SUSPECT, .inc = 1, .id = 6, .by = 3});
    (void)rig_run(r, 29000, 0, false);
    CHECK_EQ(sched_swim_count(r->s, SCHED_PEER_ALIVE), 5);
    CHECK_EQ(rig_state(r, 6), SCHED_PEER_SUSPECT); /* its time is up, but who knows */
    CHECK_EQ(sched_swim_stats(r->s)->suspicions, 0);
    CHECK(sched_swim_health(r->s) > 3);
    (void)rig_run(r, 30000, 0, false); /* they may be dead all the same */
    CHECK_EQ(rig_state(r, 6), SCHED_PEER_DEAD);
    CHECK(sched_swim_count(r->s, SCHED_PEER_ALIVE) < 5);
    rig_free(r);
    r = rig_new(); /* of a single peer, silence says it all */
    rig_init(r);
    rig_know(r, 2);
    (void)rig_run(r, 5000, 0, false);
    CHECK_EQ(rig_state(r, 2), SCHED_PEER_DEAD);
    rig_free(r);
}

TEST(silent_relays_put_the_node_itself_in_doubt_and_slow_it_down)
{
    struct rig *r = rig_new();
    rig_init(r);
    rig_know(r, 40);
    (void)unanswered_ping(r);
    (void)unanswered_ping(r);
    CHECK_EQ(sched_swim_health(r->s), 3); /* three expected, none came */
    uint64_t start = r->now_ns;
    (void)unanswered_ping(r);
    CHECK_EQ((r->now_ns - start) / 1000000, 4 * 500);
    CHECK_EQ(sched_swim_health(r->s), 6);
    for (int i = 0; i < 5; i++) {
        (void)unanswered_ping(r);
    }
    CHECK_EQ(sched_swim_health(r->s), 8);
    (void)rig_run(r, 60000, 0, true);
    CHECK_EQ(sched_swim_health(r->s), 0);
    rig_free(r);
}

TEST(an_ack_through_a_relay_saves_the_target_and_one_with_another_number_does_not)
{
    for (int right = 0; right < 2; right++) {
        struct rig *r = rig_new();
        rig_init(r);
        rig_know(r, 6);
        uint64_t target = unanswered_ping(r);
        const struct sched_swim_fx *fx = rig_run(r, 1000, SCHED_SWIM_PING_REQ, false);
        struct sched_swim_packet ack = {.type = SCHED_SWIM_ACK,
            .seq = (uint16_t)(fx->packet.seq + (right ? 0 : 9)),
            .target = target};
        rig_packet(r, fx->peer, ack);
        (void)rig_run(r, 1000, SCHED_SWIM_PING, false);
        CHECK_EQ(rig_state(r, target), right ? SCHED_PEER_ALIVE : SCHED_PEER_SUSPECT);
        rig_free(r);
    }
}

TEST(acks_of_others_than_the_target_and_its_relays_count_for_nothing)
{
    struct rig *r = rig_new();
    rig_init(r);
    rig_know(r, 12);
    const struct sched_swim_fx *fx = rig_run(r, 10000, SCHED_SWIM_PING, false);
    uint64_t target = fx->peer;
    uint16_t seq = fx->packet.seq;
    for (uint64_t id = 2; id <= 12; id++) {
        if (id != target) {
            rig_packet(r, id,
                (struct sched_swim_packet){.type = SCHED_SWIM_ACK, .seq = seq, .target = target});
        }
    }
    (void)rig_run(r, 1000, SCHED_SWIM_PING, false);
    CHECK_EQ(rig_state(r, target), SCHED_PEER_SUSPECT);
    rig_free(r);
}

TEST(a_relay_pings_and_passes_the_answer_on_or_says_that_none_came)
{
    struct rig *r = rig_new();
    rig_init(r);
    rig_know(r, 4);
    struct sched_swim_packet req = {.type = SCHED_SWIM_PING_REQ, .seq = 500, .target = 4};
    rig_packet(r, 3, req);
    const struct sched_swim_fx *ping = rig_sent(r, SCHED_SWIM_PING, 0);
    CHECK(ping != NULL && ping->peer == 4);
    uint16_t seq = ping->packet.seq;
    rig_packet(r, 3, req); /* the same again */
    CHECK(rig_sent(r, SCHED_SWIM_PING, 0) == NULL);
    rig_packet(r, 4, (struct sched_swim_packet){.type = SCHED_SWIM_ACK, .seq = seq});
    const struct sched_swim_fx *ack = rig_sent(r, SCHED_SWIM_ACK, 0);
    CHECK(ack != NULL && ack->peer == 3 && ack->packet.seq == 500 && ack->packet.target == 4);
    req.seq = 501;
    rig_packet(r, 3, req);
    const struct sched_swim_fx *nack = rig_run(r, 300, SCHED_SWIM_NACK, false);
    CHECK(nack != NULL && nack->peer == 3 && nack->packet.seq == 501 && nack->packet.target == 4);
    rig_free(r);
}

TEST(relays_are_bounded_and_senseless_requests_ignored)
{
    struct rig *r = rig_new();
    rig_init(r);
    rig_know(r, 4);
    const uint64_t senseless[] = {0, 1, 3, 77};
    for (unsigned i = 0; i < 4; i++) {
        rig_packet(r, 3,
            (struct sched_swim_packet){
                .type = SCHED_SWIM_PING_REQ, .seq = 9, .target = senseless[i]});
        CHECK_EQ(r->fx.n, 0);
    }
    unsigned pings = 0;
    for (uint16_t seq = 10; seq < 100; seq++) {
        rig_packet(
            r, 3, (struct sched_swim_packet){.type = SCHED_SWIM_PING_REQ, .seq = seq, .target = 4});
        pings += rig_sent(r, SCHED_SWIM_PING, 0) != NULL;
    }
    CHECK_EQ(pings, 32);
    rig_free(r);
}

static uint64_t ms_to_dead(unsigned confirmers, bool same)
{
    struct rig *r = rig_new();
    rig_init(r);
    rig_know(r, 10);
    struct sched_update u = {.kind = SCHED_UPDATE_SUSPECT, .inc = 1, .id = 10};
    uint64_t start = r->now_ns;
    for (unsigned i = 0; i <= confirmers; i++) {
        u.by = same ? 2 : 2 + i;
        rig_claim(r, 3, u);
    }
    while (rig_state(r, 10) == SCHED_PEER_SUSPECT) {
        (void)rig_run(r, 1, 0, true);
    }
    CHECK_EQ(rig_state(r, 10), SCHED_PEER_DEAD);
    uint64_t ms = (r->now_ns - start) / 1000000;
    rig_free(r);
    return ms;
}

TEST(every_confirmation_by_another_node_shortens_the_suspicion)
{
    CHECK_EQ(ms_to_dead(0, false), 9000);
    uint64_t one = ms_to_dead(1, false), two = ms_to_dead(2, false);
    CHECK(one >= 5240 && one <= 5260);
    CHECK(two >= 3050 && two <= 3070);
    CHECK_EQ(ms_to_dead(3, false), 1500);
    CHECK_EQ(ms_to_dead(6, false), 1500);
    CHECK_EQ(ms_to_dead(6, true), 9000); /* one node, however often it says so */
}

TEST(the_dead_are_told_to_others_and_forgotten_later)
{
    struct rig *r = rig_new();
    rig_init(r);
    rig_know(r, 4);
    (void)rig_run(r, 3000, 0, true);
    rig_claim(r, 3, (struct sched_update){.kind = SCHED_UPDATE_DEAD, .inc = 1, .id = 4, .by = 3});
    CHECK_EQ(rig_state(r, 4), SCHED_PEER_DEAD);
    const struct sched_swim_fx *fx = rig_run(r, 1000, SCHED_SWIM_GOSSIP, true);
    CHECK_EQ(rig_about(fx, 4)->kind, SCHED_UPDATE_DEAD);
    CHECK_EQ(rig_about(fx, 4)->by, 3);
    (void)rig_run(r, 28000, 0, true);
    CHECK_EQ(rig_state(r, 4), SCHED_PEER_DEAD);
    (void)rig_run(r, 2000, 0, true);
    CHECK_EQ(rig_state(r, 4), SCHED_PEER_NONE);
    CHECK_EQ(sched_swim_count(r->s, SCHED_PEER_ALIVE), 3);
    rig_free(r);
}

TEST(a_claim_against_the_node_is_refuted_with_a_larger_incarnation)
{
    struct rig *r = rig_new();
    rig_init(r);
    rig_know(r, 4);
    rig_claim(
        r, 3, (struct sched_update){.kind = SCHED_UPDATE_SUSPECT, .inc = 1, .id = 1, .by = 4});
    CHECK_EQ(sched_swim_incarnation(r->s), 2);
    const struct sched_swim_fx *self = rig_fx(r, SCHED_SWIM_FX_SELF, 0);
    CHECK(self != NULL && self->inc == 2 && self->old_inc == 1);
    CHECK_EQ(sched_swim_health(r->s), 1);
    rig_claim(
        r, 3, (struct sched_update){.kind = SCHED_UPDATE_SUSPECT, .inc = 1, .id = 1, .by = 4});
    CHECK_EQ(sched_swim_incarnation(r->s), 2); /* that is settled */
    rig_claim(r, 3, (struct sched_update){.kind = SCHED_UPDATE_DEAD, .inc = 7, .id = 1, .by = 4});
    CHECK_EQ(sched_swim_incarnation(r->s), 8);
    const struct sched_swim_fx *fx = rig_run(r, 1000, SCHED_SWIM_GOSSIP, false);
    CHECK(rig_about(fx, 1) != NULL && rig_about(fx, 1)->inc == 8);
    CHECK_EQ(rig_about(fx, 1)->kind, SCHED_UPDATE_ALIVE);
    rig_free(r);
}

TEST(the_accuser_hears_the_refutation_first)
{
    struct rig *r = rig_new();
    rig_init(r);
    rig_know(r, 30); /* much other news is waiting */
    struct sched_update u = {.kind = SCHED_UPDATE_SUSPECT, .inc = 1, .id = 1, .by = 4};
    rig_packet(r, 4,
        (struct sched_swim_packet){
            .type = SCHED_SWIM_PING, .seq = 3, .inc = 1, .updates = &u, .update_count = 1});
    const struct sched_swim_fx *ack = rig_sent(r, SCHED_SWIM_ACK, 0);
    CHECK_EQ(ack->packet.updates[0].id, 1);
    CHECK_EQ(ack->packet.updates[0].inc, 2);
    CHECK_EQ(ack->packet.inc, 2);
    rig_free(r);
}

TEST(the_suspect_is_told_first)
{
    struct rig *r = rig_new();
    rig_init(r);
    rig_know(r, 30);
    (void)rig_run(r, 20000, 0, true); /* all news is out */
    rig_claim(
        r, 3, (struct sched_update){.kind = SCHED_UPDATE_SUSPECT, .inc = 1, .id = 9, .by = 3});
    rig_packet(r, 9, (struct sched_swim_packet){.type = SCHED_SWIM_PING, .seq = 3, .inc = 1});
    const struct sched_swim_fx *ack = rig_sent(r, SCHED_SWIM_ACK, 0);
    CHECK(ack->packet.update_count >= 1);
    CHECK_EQ(ack->packet.updates[0].id, 9);
    CHECK_EQ(ack->packet.updates[0].kind, SCHED_UPDATE_SUSPECT);
    CHECK_EQ(ack->packet.updates[0].by, 3);
    rig_free(r);
}

TEST(a_member_speaks_for_itself_with_the_incarnation_in_its_packets)
{
    struct rig *r = rig_new();
    rig_init(r);
    rig_know(r, 5);
    rig_claim(
        r, 3, (struct sched_update){.kind = SCHED_UPDATE_SUSPECT, .inc = 1, .id = 5, .by = 3});
    rig_packet(r, 5, (struct sched_swim_packet){.type = SCHED_SWIM_PING, .inc = 1});
    CHECK_EQ(rig_state(r, 5), SCHED_PEER_SUSPECT); /* it must refute */
    rig_packet_as(r, 5, 999, (struct sched_swim_packet){.type = SCHED_SWIM_PING, .inc = 2});
    CHECK_EQ(rig_state(r, 5), SCHED_PEER_SUSPECT); /* another life */
    rig_packet(r, 5, (struct sched_swim_packet){.type = SCHED_SWIM_PING, .inc = 2});
    CHECK_EQ(rig_state(r, 5), SCHED_PEER_ALIVE);
    CHECK_EQ(rig_inc(r, 5), 2);
    CHECK_EQ(rig_fx(r, SCHED_SWIM_FX_PEER, 0)->cause, SCHED_SWIM_BY_SENDER);
    rig_free(r);
}

TEST(one_who_lives_another_life_is_told_what_is_believed_of_the_old_one)
{
    struct rig *r = rig_new();
    rig_init(r);
    rig_know(r, 4);
    rig_claim(r, 3, (struct sched_update){.kind = SCHED_UPDATE_LEFT, .inc = 6, .id = 4});
    rig_packet_as(r, 4, 999, (struct sched_swim_packet){.type = SCHED_SWIM_PING, .inc = 1});
    const struct sched_swim_fx *ack = rig_sent(r, SCHED_SWIM_ACK, 0);
    CHECK_EQ(ack->packet.flags, SCHED_SWIM_WHO);
    CHECK_EQ(ack->packet.updates[0].kind, SCHED_UPDATE_LEFT);
    CHECK_EQ(ack->packet.updates[0].inc, 6);
    rig_claim(r, 3, (struct sched_update){.kind = SCHED_UPDATE_ALIVE, .inc = 6, .id = 3});
    rig_packet_as(r, 3, 999, (struct sched_swim_packet){.type = SCHED_SWIM_PING, .inc = 1});
    ack = rig_sent(r, SCHED_SWIM_ACK, 0);
    CHECK_EQ(ack->packet.updates[0].kind, SCHED_UPDATE_ALIVE);
    CHECK_EQ(ack->packet.updates[0].id, 3);
    rig_free(r);
}

TEST(a_node_that_forgot_its_incarnation_goes_beyond_the_old_one)
{
    struct rig *r = rig_new();
    rig_init(r);
    struct sched_announce old = rig_announce(1);
    old.boot = 55;
    rig_claim(r, 2,
        (struct sched_update){.kind = SCHED_UPDATE_ALIVE, .inc = 5, .id = 1, .announce = &old});
    CHECK_EQ(sched_swim_incarnation(r->s), 6);
    const struct sched_swim_fx *odd = rig_fx(r, SCHED_SWIM_FX_ODD, 0);
    CHECK(odd != NULL && odd->odd == SCHED_SWIM_ODD_TWIN && odd->other == 55);
    rig_claim(r, 2,
        (struct sched_update){.kind = SCHED_UPDATE_ALIVE, .inc = 5, .id = 1, .announce = &old});
    CHECK_EQ(sched_swim_incarnation(r->s), 6);
    rig_claim(r, 2, (struct sched_update){.kind = SCHED_UPDATE_ALIVE, .inc = 6, .id = 1});
    CHECK_EQ(sched_swim_incarnation(r->s), 6); /* own news coming back */
    rig_free(r);
}

TEST(claims_that_make_no_sense_change_nothing)
{
    struct rig *r = rig_new();
    rig_init(r);
    rig_know(r, 4);
    rig_claim(r, 3, (struct sched_update){.kind = SCHED_UPDATE_DEAD, .inc = 0, .id = 4});
    rig_claim(r, 3, (struct sched_update){.kind = SCHED_UPDATE_DEAD, .inc = 0x80000000, .id = 4});
    rig_claim(r, 3, (struct sched_update){.kind = SCHED_UPDATE_DEAD, .inc = 0x80000000, .id = 1});
    rig_claim(r, 3, (struct sched_update){.kind = SCHED_UPDATE_DEAD, .inc = 1, .id = 77});
    rig_claim(r, 0, (struct sched_update){.kind = SCHED_UPDATE_DEAD, .inc = 1, .id = 4});
    CHECK_EQ(rig_state(r, 4), SCHED_PEER_ALIVE);
    CHECK_EQ(rig_state(r, 77), SCHED_PEER_NONE);
    CHECK_EQ(sched_swim_incarnation(r->s), 1);
    CHECK_EQ(sched_swim_stats(r->s)->bad, 4);
    rig_claim(r, 3,
        (struct sched_update){.kind = SCHED_UPDATE_DEAD, .inc = SCHED_INC_MAX, .id = 1, .by = 3});
    CHECK_EQ(sched_swim_incarnation(r->s), 1); /* there is no number above it */
    rig_free(r);
}

TEST(a_late_turn_moves_the_clock_little_and_accuses_nobody)
{
    struct rig *r = rig_new();
    rig_init(r);
    rig_know(r, 6);
    const struct sched_swim_fx *fx = rig_run(r, 10000, SCHED_SWIM_PING, false);
    uint64_t target = fx->peer;
    uint16_t seq = fx->packet.seq;
    rig_claim(
        r, 3, (struct sched_update){.kind = SCHED_UPDATE_SUSPECT, .inc = 1, .id = 6, .by = 3});
    r->now_ns += UINT64_C(60000) * 1000000; /* the process was stopped for a minute */
    rig_step(r, (struct sched_swim_event){.kind = SCHED_SWIM_EV_TICK});
    CHECK_EQ(r->fx.n, 0); /* first what waits in the socket */
    CHECK_EQ(sched_swim_stats(r->s)->stalls, 1);
    CHECK(sched_swim_deadline_ns(r->s) > r->now_ns);
    rig_packet(r, target, (struct sched_swim_packet){.type = SCHED_SWIM_ACK, .seq = seq});
    (void)rig_run(r, 1200, 0, true);
    CHECK_EQ(rig_state(r, 6), SCHED_PEER_SUSPECT); /* not dead: its time has not run */
    for (uint64_t id = 2; id <= 5; id++) {
        CHECK_EQ(rig_state(r, id), SCHED_PEER_ALIVE);
    }
    CHECK_EQ(sched_swim_stats(r->s)->probes_failed, 0);
    rig_free(r);
}

TEST(waiting_as_long_as_asked_is_not_a_stall)
{
    struct rig *r = rig_new();
    r->cfg.params.period_ms = 5000;
    rig_init(r);
    rig_know(r, 3);
    uint64_t start = r->now_ns;
    (void)rig_run(r, 120000, 0, true);
    CHECK_EQ(sched_swim_stats(r->s)->stalls, 0);
    CHECK(sched_swim_stats(r->s)->probes >= 23); /* the clock has not slowed down */
    CHECK_EQ((r->now_ns - start) / 1000000, 120000);
    rig_free(r);
}

TEST(a_refused_port_ends_the_probe_at_once_and_shortens_nothing_else)
{
    struct rig *r = rig_new();
    rig_init(r);
    rig_know(r, 6);
    uint64_t target = unanswered_ping(r);
    for (uint64_t id = 2; id <= 6; id++) { /* of others it means nothing */
        if (id != target) {
            rig_step(r, (struct sched_swim_event){.kind = SCHED_SWIM_EV_REFUSED, .from = id});
            CHECK_EQ(rig_state(r, id), SCHED_PEER_ALIVE);
        }
    }
    rig_step(r, (struct sched_swim_event){.kind = SCHED_SWIM_EV_REFUSED, .from = target});
    CHECK_EQ(rig_state(r, target), SCHED_PEER_SUSPECT);
    uint64_t start = r->now_ns;
    while (rig_state(r, target) == SCHED_PEER_SUSPECT) {
        (void)rig_run(r, 1, 0, true);
    }
    CHECK_EQ((r->now_ns - start) / 1000000, 9000); /* the whole suspicion */
    rig_free(r);
}

TEST(a_node_leaves_by_its_own_word_and_stops)
{
    struct rig *r = rig_new();
    rig_init(r);
    rig_know(r, 4);
    rig_step(r, (struct sched_swim_event){.kind = SCHED_SWIM_EV_LEAVE});
    CHECK_EQ(sched_swim_incarnation(r->s), 2);
    const struct sched_swim_fx *fx = rig_run(r, 1000, SCHED_SWIM_GOSSIP, true);
    CHECK_EQ(rig_about(fx, 1)->kind, SCHED_UPDATE_LEFT);
    CHECK_EQ(fx->packet.inc, 0); /* no claim to be alive */
    rig_claim(r, 3, (struct sched_update){.kind = SCHED_UPDATE_LEFT, .inc = 2, .id = 1});
    rig_claim(r, 3, (struct sched_update){.kind = SCHED_UPDATE_DEAD, .inc = 2, .id = 1, .by = 3});
    CHECK_EQ(sched_swim_incarnation(r->s), 2); /* no refutation any more */
    for (int i = 0; i < 100 && rig_fx(r, SCHED_SWIM_FX_LEFT, 0) == NULL; i++) {
        r->now_ns = sched_swim_deadline_ns(r->s);
        rig_step(r, (struct sched_swim_event){.kind = SCHED_SWIM_EV_TICK});
    }
    CHECK(rig_fx(r, SCHED_SWIM_FX_LEFT, 0) != NULL);
    CHECK(sched_swim_deadline_ns(r->s) == UINT64_MAX);
    rig_packet(r, 3, (struct sched_swim_packet){.type = SCHED_SWIM_PING});
    CHECK_EQ(r->fx.n, 0);
    rig_free(r);
}

TEST(who_has_left_stays_so_until_it_comes_back_with_a_larger_incarnation)
{
    struct rig *r = rig_new();
    rig_init(r);
    rig_know(r, 4);
    rig_claim(r, 3, (struct sched_update){.kind = SCHED_UPDATE_LEFT, .inc = 2, .id = 4});
    rig_claim(r, 3, (struct sched_update){.kind = SCHED_UPDATE_DEAD, .inc = 2, .id = 4, .by = 3});
    rig_claim(r, 3, (struct sched_update){.kind = SCHED_UPDATE_ALIVE, .inc = 2, .id = 4});
    CHECK_EQ(rig_state(r, 4), SCHED_PEER_LEFT);
    rig_claim(r, 3, (struct sched_update){.kind = SCHED_UPDATE_ALIVE, .inc = 3, .id = 4});
    CHECK_EQ(rig_state(r, 4), SCHED_PEER_ALIVE);
    rig_free(r);
}

static void set_room(struct rig *r, uint8_t level)
{
    struct sched_dynamic d = {.view = 3, .level = {level}};
    rig_step(r, (struct sched_swim_event){.kind = SCHED_SWIM_EV_DYNAMIC, .dynamic = &d});
}

/* The room goes up and down five times a second; counts the edges that go out. */
static unsigned own_edges(struct rig *r, uint64_t ms)
{
    unsigned edges = 0;
    static uint8_t last;
    for (uint64_t i = 0; i < ms / 100; i++) {
        set_room(r, i % 2 == 0 ? 1 : 0);
        uint64_t end = r->now_ns + 100000000;
        while (r->now_ns < end) {
            const struct sched_swim_fx *fx =
                rig_run(r, (end - r->now_ns + 999999) / 1000000, SCHED_SWIM_GOSSIP, true);
            const struct sched_update *u = rig_about(fx, 1);
            if (u != NULL && u->kind == SCHED_UPDATE_EDGE && u->edge.number != last) {
                last = u->edge.number;
                edges++;
            }
        }
    }
    return edges;
}

TEST(own_edges_are_told_when_they_change_and_not_more_often_than_allowed)
{
    struct rig *r = rig_new();
    rig_init(r);
    rig_know(r, 4);
    (void)rig_run(r, 5000, 0, true);
    CHECK_EQ(own_edges(r, 3000), 1);
    unsigned edges = own_edges(r, 60000);
    CHECK(edges >= 3 && edges <= 6);
    rig_free(r);
}

TEST(an_edge_is_taken_once_passed_on_and_not_replaced_by_an_older_one)
{
    struct rig *r = rig_new();
    rig_init(r);
    rig_know(r, 4);
    (void)rig_run(r, 5000, 0, true);
    struct sched_update u = {.kind = SCHED_UPDATE_EDGE,
        .inc = 1,
        .id = 4,
        .edge = {.room = 5, .inc = 1, .number = 250, .flags = SCHED_DYN_DRAINING}};
    rig_claim(r, 3, u);
    const struct sched_swim_fx *fx = rig_fx(r, SCHED_SWIM_FX_EDGE, 0);
    CHECK(fx != NULL && fx->peer == 4 && fx->edge.room == 5);
    fx = rig_run(r, 1000, SCHED_SWIM_GOSSIP, true);
    CHECK(rig_about(fx, 4) != NULL && rig_about(fx, 4)->edge.number == 250);
    u.edge.number = 249;
    u.edge.room = 1;
    rig_claim(r, 3, u);
    CHECK(rig_fx(r, SCHED_SWIM_FX_EDGE, 0) == NULL);
    u.edge.number = 3; /* it wraps */
    rig_claim(r, 3, u);
    CHECK_EQ(rig_fx(r, SCHED_SWIM_FX_EDGE, 0)->edge.room, 1);
    struct sched_swim_packet ping = {.type = SCHED_SWIM_PING,
        .inc = 1,
        .has_dynamic = true,
        .dynamic = {.edge = 3, .level = {0x0c}}};
    rig_packet(r, 4, ping); /* the member itself knows better, under the same number too */
    CHECK_EQ(rig_fx(r, SCHED_SWIM_FX_EDGE, 0)->edge.room, 2);
    CHECK_EQ(rig_fx(r, SCHED_SWIM_FX_DYNAMIC, 0)->peer, 4);
    rig_free(r);
}

TEST(versions_are_negotiated_and_peers_without_a_common_one_not_taken_in)
{
    struct rig *r = rig_new();
    r->cfg.self.proto_max = 3;
    r->cfg.self.proto_min = r->cfg.self.proto_now = 2;
    rig_init(r);
    struct sched_announce a[3];
    for (unsigned i = 0; i < 3; i++) { /* 1..1, 1..2, 3..4 */
        a[i] = rig_announce(2 + i);
        a[i].proto_min = a[i].proto_now = i == 2 ? 3 : 1;
        a[i].proto_max = (uint8_t)(i == 2 ? 4 : 1 + i);
        struct sched_update u = {
            .kind = SCHED_UPDATE_ALIVE, .inc = 1, .id = 2 + i, .announce = &a[i]};
        rig_packet(r, 3,
            (struct sched_swim_packet){
                .version = 2, .type = SCHED_SWIM_GOSSIP, .updates = &u, .update_count = 1});
        CHECK_EQ(rig_state(r, 2 + i), i == 0 ? SCHED_PEER_NONE : SCHED_PEER_ALIVE);
    }
    CHECK_EQ(sched_swim_stats(r->s)->wrong_version, 1);
    uint8_t seen[5] = {0};
    for (int i = 0; i < 8; i++) {
        const struct sched_swim_fx *fx = rig_run(r, 5000, SCHED_SWIM_PING, true);
        seen[fx->peer] = fx->packet.version;
    }
    CHECK_EQ(seen[3], 2);
    CHECK_EQ(seen[4], 3);
    uint64_t bad = sched_swim_stats(r->s)->bad;
    rig_packet(r, 3, (struct sched_swim_packet){.version = 1, .type = SCHED_SWIM_PING});
    rig_packet(r, 3, (struct sched_swim_packet){.version = 4, .type = SCHED_SWIM_PING});
    CHECK_EQ(r->fx.n, 0);
    CHECK_EQ(sched_swim_stats(r->s)->bad, bad + 2);
    rig_free(r);
}

TEST(every_state_of_a_peer_has_a_name)
{
    static const char *const names[] = {"none", "alive", "suspect", "dead", "left", "unknown"};
    for (int i = 0; i <= SCHED_PEER_STATES; i++) {
        CHECK_STR(sched_peer_state_str((enum sched_peer_state)i), names[i]);
    }
}
