#include "proto/base/container.h"
#include "proto/base/err.h"
#include "proto/base/hash.h"
#include "scheduler/core/book.h"
#include "scheduler/core/gossip.h"
#include "scheduler/wire/gossip_wire.h"
#include "tests/lib/check.h"

enum { MEMBERS = 100, ITEM_BYTES = 20 };

struct queue {
    struct sched_gossip g;
    void *mem;
};

static struct queue queue_of(uint32_t cap)
{
    struct queue q;
    size_t size = sched_gossip_size(cap, MEMBERS);
    q.mem = malloc(size);
    CHECK(q.mem != NULL);
    memset(q.mem, 0xa5, size);
    CHECK_EQ(sched_gossip_init(&q.g, cap, MEMBERS, q.mem, size), 0);
    return q;
}

static size_t item_size(const void *ctx, const struct sched_gossip_pick *pick)
{
    (void)ctx;
    return pick->member == 99 ? 500 : ITEM_BYTES;
}

static const struct sched_gossip_ask usual = {
    .room = 1000,
    .sends = {3, 2},
    .allowed = {true, true},
    .skip = UINT32_MAX,
    .size = item_size,
};

static size_t take(struct queue *q, size_t room, struct sched_gossip_pick *out)
{
    struct sched_gossip_ask ask = usual;
    ask.room = room;
    size_t bytes;
    return sched_gossip_take(&q->g, &ask, out, 64, &bytes);
}

TEST(items_leave_after_their_number_of_transmissions)
{
    struct queue q = queue_of(8);
    struct sched_gossip_pick out[64];
    sched_gossip_put(&q.g, SCHED_GOSSIP_MEMBER, 5, 77);
    sched_gossip_put(&q.g, SCHED_GOSSIP_EDGE, 6, 0);
    CHECK_EQ(take(&q, 1000, out), 2);
    CHECK_EQ(out[0].member, 5);
    CHECK_EQ(out[0].by, 77);
    CHECK_EQ(out[1].member, 6);
    CHECK_EQ(take(&q, 1000, out), 2);
    CHECK_EQ(take(&q, 1000, out), 1);
    CHECK(sched_gossip_empty(&q.g));
    CHECK_EQ(take(&q, 1000, out), 0);
    free(q.mem);
}

TEST(the_least_sent_go_first_and_membership_before_edges)
{
    struct queue q = queue_of(8);
    struct sched_gossip_pick out[64];
    sched_gossip_put(&q.g, SCHED_GOSSIP_EDGE, 1, 0);
    sched_gossip_put(&q.g, SCHED_GOSSIP_MEMBER, 2, 0);
    CHECK_EQ(take(&q, ITEM_BYTES, out), 1);
    CHECK_EQ(out[0].member, 2);
    sched_gossip_put(&q.g, SCHED_GOSSIP_MEMBER, 3, 0);
    CHECK_EQ(take(&q, 2 * ITEM_BYTES, out), 2);
    CHECK_EQ(out[0].member, 3); /* never sent */
    CHECK_EQ(out[1].member, 2);
    CHECK_EQ(take(&q, 1000, out), 3);
    CHECK_EQ(out[2].member, 1);
    free(q.mem);
}

TEST(newer_news_of_a_member_replaces_older_and_starts_anew)
{
    struct queue q = queue_of(8);
    struct sched_gossip_pick out[64];
    sched_gossip_put(&q.g, SCHED_GOSSIP_MEMBER, 2, 10);
    CHECK_EQ(take(&q, 1000, out), 1);
    CHECK_EQ(take(&q, 1000, out), 1);
    sched_gossip_put(&q.g, SCHED_GOSSIP_MEMBER, 2, 11);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(take(&q, 1000, out), 1);
        CHECK_EQ(out[0].by, 11);
    }
    CHECK(sched_gossip_empty(&q.g));
    free(q.mem);
}

TEST(a_full_queue_gives_up_edges_first_and_then_what_was_sent_most)
{
    struct queue q = queue_of(3);
    struct sched_gossip_pick out[64];
    sched_gossip_put(&q.g, SCHED_GOSSIP_MEMBER, 1, 0);
    CHECK_EQ(take(&q, 1000, out), 1); /* sent once */
    sched_gossip_put(&q.g, SCHED_GOSSIP_MEMBER, 2, 0);
    sched_gossip_put(&q.g, SCHED_GOSSIP_EDGE, 3, 0);
    sched_gossip_put(&q.g, SCHED_GOSSIP_MEMBER, 4, 0); /* the edge goes */
    CHECK_EQ(q.g.count[SCHED_GOSSIP_EDGE], 0);
    sched_gossip_put(&q.g, SCHED_GOSSIP_MEMBER, 5, 0); /* member 1 goes */
    CHECK_EQ(take(&q, 1000, out), 3);
    CHECK_EQ(out[0].member, 2);
    CHECK_EQ(out[1].member, 4);
    CHECK_EQ(out[2].member, 5);
    CHECK_EQ(q.g.overflows, 2);
    sched_gossip_put(&q.g, SCHED_GOSSIP_EDGE, 6, 0); /* no membership gives way to an edge */
    CHECK_EQ(q.g.count[SCHED_GOSSIP_MEMBER], 3);
    CHECK_EQ(q.g.count[SCHED_GOSSIP_EDGE], 0);
    free(q.mem);
}

TEST(unsent_news_is_never_thrown_out_for_other_news)
{
    struct queue q = queue_of(2);
    struct sched_gossip_pick out[64];
    for (uint16_t i = 0; i < 5; i++) {
        sched_gossip_put(&q.g, SCHED_GOSSIP_MEMBER, i, 0);
    }
    CHECK_EQ(take(&q, 1000, out), 2);
    CHECK_EQ(out[0].member, 0);
    CHECK_EQ(out[1].member, 1);
    free(q.mem);
}

TEST(forgotten_members_and_skipped_ones_are_not_sent)
{
    struct queue q = queue_of(8);
    struct sched_gossip_pick out[64];
    struct sched_gossip_ask ask = usual;
    size_t bytes;
    for (uint16_t i = 0; i < 4; i++) {
        sched_gossip_put(&q.g, SCHED_GOSSIP_MEMBER, i, 0);
        sched_gossip_put(&q.g, SCHED_GOSSIP_EDGE, i, 0);
    }
    sched_gossip_forget(&q.g, 1);
    ask.skip = 2;
    ask.allowed[SCHED_GOSSIP_EDGE] = false;
    CHECK_EQ(sched_gossip_take(&q.g, &ask, out, 64, &bytes), 2);
    CHECK_EQ(out[0].member, 0);
    CHECK_EQ(out[1].member, 3);
    CHECK_EQ(bytes, 2 * ITEM_BYTES);
    CHECK_EQ(q.g.count[SCHED_GOSSIP_EDGE], 3);
    free(q.mem);
}

TEST(an_item_that_does_not_fit_lets_smaller_ones_pass)
{
    struct queue q = queue_of(8);
    struct sched_gossip_pick out[64];
    sched_gossip_put(&q.g, SCHED_GOSSIP_MEMBER, 99, 0);
    sched_gossip_put(&q.g, SCHED_GOSSIP_MEMBER, 1, 0);
    CHECK_EQ(take(&q, 100, out), 1);
    CHECK_EQ(out[0].member, 1);
    CHECK_EQ(take(&q, 600, out), 2);
    CHECK_EQ(out[0].member, 99);
    free(q.mem);
}

TEST(a_queue_out_of_range_or_without_memory_is_refused)
{
    struct sched_gossip g;
    uint64_t mem[64];
    CHECK_EQ(sched_gossip_size(0, 10), 0);
    CHECK_EQ(sched_gossip_size(10, 0), 0);
    CHECK_EQ(sched_gossip_size(0x10000, 10), 0);
    CHECK_EQ(sched_gossip_init(&g, 0, 10, mem, sizeof mem), BASE_EINVAL);
    CHECK_EQ(sched_gossip_init(&g, 8, 10, mem, sched_gossip_size(8, 10) - 1), BASE_ENOMEM);
    CHECK_EQ(sched_gossip_init(&g, 8, 10, mem, sizeof mem), 0);
}

TEST(the_budget_bounds_every_window_whatever_is_asked)
{
    struct sched_budget b;
    struct base_hash_rng rng;
    base_hash_rng_seed(&rng, 1);
    sched_budget_init(&b, 8000, 16000, 0);
    uint64_t sent = 0, now = 0;
    for (int i = 0; i < 200000; i++) {
        now += base_hash_rng_below(&rng, 1000);
        enum sched_budget_class class = (enum sched_budget_class)base_hash_rng_below(&rng, 3);
        size_t want = 100 + (size_t)base_hash_rng_below(&rng, 1100);
        if (sched_budget_room(&b, class, now) >= want) {
            sched_budget_spend(&b, want);
            sent += want;
        }
        CHECK(sent <= 8 * now / 1000 + 16000 + 8000);
    }
    CHECK(sent > 8 * now / 1000); /* and it is used up */
}

TEST(urgent_packets_may_overdraw_and_edges_use_the_upper_half_only)
{
    struct sched_budget b;
    sched_budget_init(&b, 1000, 4000, 5);
    CHECK_EQ(sched_budget_room(&b, SCHED_BUDGET_URGENT, 5), 6000);
    CHECK_EQ(sched_budget_room(&b, SCHED_BUDGET_MEMBER, 5), 4000);
    CHECK_EQ(sched_budget_room(&b, SCHED_BUDGET_EDGE, 5), 2000);
    sched_budget_spend(&b, 4000);
    CHECK_EQ(sched_budget_room(&b, SCHED_BUDGET_URGENT, 5), 2000);
    CHECK_EQ(sched_budget_room(&b, SCHED_BUDGET_MEMBER, 5), 0);
    CHECK_EQ(sched_budget_room(&b, SCHED_BUDGET_MEMBER, 5 + 1000000), 1000);
    CHECK_EQ(sched_budget_room(&b, SCHED_BUDGET_EDGE, 5 + 1000000), 0);
    CHECK_EQ(sched_budget_room(&b, SCHED_BUDGET_MEMBER, UINT64_MAX), 4000);
}

static struct sched_announce announce_of(uint64_t id)
{
    return (struct sched_announce){.id = id,
        .boot = 7,
        .ip = {{10, 1, 2, 3}},
        .ip_version = {SCHED_IP_V4},
        .port = {1, 2, 3},
        .proto_min = 1,
        .proto_now = 1,
        .proto_max = 1};
}

TEST(the_book_keeps_equal_announcements_once)
{
    uint64_t mem[128];
    struct sched_book b;
    CHECK(sched_book_size(4) <= sizeof mem);
    CHECK_EQ(sched_book_init(&b, 4, mem, sched_book_size(4) - 1), BASE_ENOMEM);
    CHECK_EQ(sched_book_init(&b, 0, mem, sizeof mem), BASE_EINVAL);
    CHECK_EQ(sched_book_init(&b, 4, mem, sizeof mem), 0);
    struct sched_announce a[6];
    uint32_t n[6];
    for (unsigned i = 0; i < 6; i++) {
        a[i] = announce_of(i + 1);
        n[i] = sched_book_hold(&b, &a[i]);
        CHECK_EQ(n[i] == SCHED_BOOK_NONE, i >= 4);
    }
    CHECK_EQ(sched_book_hold(&b, &a[2]), n[2]);
    sched_book_release(&b, n[2]);
    CHECK(sched_announce_equal(sched_book_get(&b, n[2]), &a[2]));
    sched_book_share(&b, n[2]);
    sched_book_release(&b, n[2]);
    sched_book_release(&b, n[2]);
    CHECK_EQ(b.used, 3);
    CHECK(sched_book_hold(&b, &a[5]) != SCHED_BOOK_NONE);
    CHECK_EQ(sched_book_hold(&b, &a[0]), n[0]);
    CHECK_EQ(sched_book_hold(&b, &a[3]), n[3]);
}

TEST(any_difference_of_announcements_is_one_for_the_book_too)
{
    struct sched_announce a = announce_of(1);
    for (unsigned i = 0; i < 14; i++) {
        struct sched_announce b = a;
        uint8_t *fields[] = {(uint8_t *)&b.id, (uint8_t *)&b.boot, (uint8_t *)&b.pools, &b.ip[0][3],
            &b.ip_version[1], (uint8_t *)&b.port[1], (uint8_t *)&b.port[2], (uint8_t *)&b.zone,
            (uint8_t *)&b.features, &b.weight, &b.role, &b.proto_min, &b.proto_max, &b.proto_now};
        *fields[i] ^= i == 4 ? SCHED_IP_V6 : 1;
        CHECK(!sched_announce_equal(&a, &b));
        CHECK(sched_announce_digest(&a) != sched_announce_digest(&b));
    }
    struct sched_announce c = a;
    c.ip[0][9] = 1; /* behind an IPv4 address */
    CHECK(sched_announce_equal(&a, &c));
    CHECK(sched_announce_digest(&a) == sched_announce_digest(&c));
}

/* A random packet that the encoder can write. */
struct random_packet {
    struct sched_swim_packet p;
    struct sched_update updates[SCHED_SWIM_UPDATES_MAX];
    struct sched_announce announces[SCHED_SWIM_UPDATES_MAX];
    uint64_t digests[SCHED_SWIM_BUCKETS];
};

static void random_update(struct base_hash_rng *r, struct random_packet *out, unsigned i)
{
    struct sched_update *u = &out->updates[i];
    struct sched_announce *a = &out->announces[i];
    static const uint8_t versions[] = {SCHED_IP_NONE, SCHED_IP_V4, SCHED_IP_V6};
    uint8_t *raw = (uint8_t *)a;
    for (size_t k = 0; k < sizeof *a; k++) {
        raw[k] = (uint8_t)base_hash_rng_next(r);
    }
    a->role %= SCHED_ROLES;
    a->ip_version[0] = versions[base_hash_rng_below(r, 3)];
    a->ip_version[1] = versions[base_hash_rng_below(r, 3)];
    a->proto_min = a->proto_now = a->proto_max = (uint8_t)(1 + base_hash_rng_below(r, 255));
    *u = (struct sched_update){
        .kind = (enum sched_update_kind)(SCHED_UPDATE_ALIVE + base_hash_rng_below(r, 5)),
        .inc = (uint32_t)base_hash_rng_next(r),
        .id = a->id};
    if (u->kind == SCHED_UPDATE_ALIVE) {
        u->announce = a;
    } else if (u->kind == SCHED_UPDATE_SUSPECT || u->kind == SCHED_UPDATE_DEAD) {
        u->by = base_hash_rng_next(r);
    } else if (u->kind == SCHED_UPDATE_EDGE) {
        u->edge = (struct sched_edge){.inc = u->inc,
            .number = (uint8_t)base_hash_rng_next(r),
            .flags = base_hash_rng_below(r, 2) ? SCHED_DYN_DRAINING : 0,
            .room = base_hash_rng_next(r)};
    }
}

static void random_packet(struct base_hash_rng *r, struct random_packet *out)
{
    memset(out, 0, sizeof *out);
    struct sched_swim_packet *p = &out->p;
    p->version = 1;
    p->type = (enum sched_swim_type)(1 + base_hash_rng_below(r, SCHED_SWIM_TYPES - 1));
    p->flags = (uint8_t)base_hash_rng_below(r, 8);
    p->seq = (uint16_t)base_hash_rng_next(r);
    p->inc = (uint32_t)base_hash_rng_next(r);
    p->alive = base_hash_rng_below(r, 2) ? (uint32_t)base_hash_rng_next(r) : 0;
    p->root = base_hash_rng_below(r, 2) ? (uint32_t)base_hash_rng_next(r) : 0;
    p->target = base_hash_rng_below(r, 2) ? base_hash_rng_next(r) : 0;
    p->has_dynamic = base_hash_rng_below(r, 2);
    if (p->has_dynamic) {
        uint8_t *raw = (uint8_t *)&p->dynamic;
        for (size_t k = 0; k < offsetof(struct sched_dynamic, level) + 16; k++) {
            raw[k] = (uint8_t)base_hash_rng_next(r);
        }
        p->dynamic.flags &= 15;
        p->dynamic.health &= 15;
        size_t zeros = (size_t)base_hash_rng_below(r, sizeof p->dynamic.level + 1);
        memset(p->dynamic.level + sizeof p->dynamic.level - zeros, 0, zeros);
    }
    for (unsigned i = 0; p->type == SCHED_SWIM_TABLE && i < 4; i++) {
        p->mask[i] = base_hash_rng_next(r);
    }
    static const uint16_t counts[] = {0, 1, SCHED_SWIM_BUCKETS};
    p->digest_count = counts[base_hash_rng_below(r, 3)];
    for (unsigned i = 0; i < p->digest_count; i++) {
        out->digests[i] = base_hash_rng_next(r);
    }
    p->update_count = (uint16_t)base_hash_rng_below(r, SCHED_SWIM_UPDATES_MAX + 1);
    for (unsigned i = 0; i < p->update_count; i++) {
        random_update(r, out, i);
    }
    p->updates = out->updates;
    p->digests = out->digests;
}

static void check_same_update(const struct sched_update *a, const struct sched_update *b)
{
    CHECK_EQ(a->kind, b->kind);
    CHECK_EQ(a->inc, b->inc);
    CHECK(a->id == b->id && a->by == b->by);
    CHECK_EQ(a->announce == NULL, b->announce == NULL);
    CHECK(a->announce == NULL || sched_announce_equal(a->announce, b->announce));
    CHECK(a->edge.room == b->edge.room && a->edge.inc == b->edge.inc);
    CHECK(a->edge.number == b->edge.number && a->edge.flags == b->edge.flags);
}

static void check_same(const struct sched_swim_packet *a, const struct sched_swim_packet *b)
{
    CHECK_EQ(a->version, b->version);
    CHECK_EQ(a->type, b->type);
    CHECK_EQ(a->flags, b->flags);
    CHECK_EQ(a->seq, b->seq);
    CHECK_EQ(a->inc, b->inc);
    CHECK_EQ(a->alive, b->alive);
    CHECK_EQ(a->root, b->root);
    CHECK(a->target == b->target);
    CHECK(memcmp(a->mask, b->mask, sizeof a->mask) == 0);
    CHECK_EQ(a->has_dynamic, b->has_dynamic);
    CHECK(memcmp(&a->dynamic, &b->dynamic, sizeof a->dynamic) == 0);
    CHECK_EQ(a->digest_count, b->digest_count);
    CHECK(memcmp(a->digests, b->digests, a->digest_count * sizeof(uint64_t)) == 0);
    CHECK_EQ(a->update_count, b->update_count);
    for (unsigned i = 0; i < a->update_count; i++) {
        check_same_update(&a->updates[i], &b->updates[i]);
    }
}

TEST(what_is_encoded_is_decoded_and_as_long_as_the_core_says)
{
    struct base_hash_rng rng;
    base_hash_rng_seed(&rng, 7);
    static struct random_packet rp;
    static struct sched_gossip_wire_in in;
    static uint8_t bytes[SCHED_SWIM_CTL_BYTES_MAX];
    for (int i = 0; i < 2000; i++) {
        random_packet(&rng, &rp);
        size_t len = 0;
        CHECK_EQ(sched_gossip_wire_encode(&rp.p, bytes, sizeof bytes, &len), 0);
        CHECK_EQ(len, sched_swim_packet_bytes(&rp.p));
        CHECK_EQ(sched_gossip_wire_encode(&rp.p, bytes, len - 1, &len), BASE_ETOOBIG);
        CHECK_EQ(sched_gossip_wire_decode(&in, bytes, len), 0);
        CHECK_EQ(in.skipped, 0);
        check_same(&rp.p, &in.packet);
    }
}

TEST(a_cut_packet_is_malformed_unless_cut_between_fields)
{
    struct base_hash_rng rng;
    base_hash_rng_seed(&rng, 8);
    static struct random_packet rp;
    static struct sched_gossip_wire_in in;
    static uint8_t bytes[SCHED_SWIM_CTL_BYTES_MAX];
    for (int i = 0; i < 50; i++) {
        random_packet(&rng, &rp);
        size_t len = 0, good = 0;
        CHECK_EQ(sched_gossip_wire_encode(&rp.p, bytes, sizeof bytes, &len), 0);
        for (size_t cut = 0; cut < len; cut++) {
            int rc = sched_gossip_wire_decode(&in, bytes, cut);
            CHECK(rc == 0 || rc == BASE_EBADMSG);
            good += rc == 0;
        }
        CHECK(good <= 16u + rp.p.update_count);
    }
}

TEST(unknown_fields_are_skipped_and_longer_known_ones_read)
{
    static struct sched_gossip_wire_in in;
    const uint8_t bytes[] = {1, SCHED_SWIM_ACK, 9, 0, 4, 0, 0, 0, 200, 3, 'x', 'y', 'z',
        7 /* target, two bytes longer than we know */, 10, 42, 0, 0, 0, 0, 0, 0, 0, 'm', 'n'};
    CHECK_EQ(sched_gossip_wire_decode(&in, bytes, sizeof bytes), 0);
    CHECK_EQ(in.skipped, 1);
    CHECK_EQ(in.packet.seq, 9);
    CHECK_EQ(in.packet.inc, 4);
    CHECK_EQ(in.packet.target, 42);
}

TEST(other_versions_and_types_are_not_read)
{
    static struct sched_gossip_wire_in in;
    uint8_t bytes[8] = {2, SCHED_SWIM_PING};
    CHECK_EQ(sched_gossip_wire_decode(&in, bytes, 8), BASE_EVERSION);
    bytes[0] = 0;
    CHECK_EQ(sched_gossip_wire_decode(&in, bytes, 8), BASE_EVERSION);
    bytes[0] = 1;
    CHECK_EQ(sched_gossip_wire_decode(&in, bytes, 8), 0);
    bytes[1] = SCHED_SWIM_TYPES;
    CHECK_EQ(sched_gossip_wire_decode(&in, bytes, 8), BASE_EBADMSG);
    bytes[1] = 0;
    CHECK_EQ(sched_gossip_wire_decode(&in, bytes, 8), BASE_EBADMSG);
    struct sched_swim_packet p = {.version = 2, .type = SCHED_SWIM_PING};
    size_t len;
    CHECK_EQ(sched_gossip_wire_encode(&p, bytes, 8, &len), BASE_EVERSION);
}

TEST(too_many_claims_or_digests_are_malformed)
{
    static struct sched_gossip_wire_in in;
    static uint8_t bytes[SCHED_SWIM_CTL_BYTES_MAX];
    size_t n = 0;
    bytes[n++] = 1;
    bytes[n++] = SCHED_SWIM_TABLE;
    n += 6;
    for (int i = 0; i < SCHED_SWIM_UPDATES_MAX + 1; i++) {
        bytes[n++] = SCHED_UPDATE_LEFT;
        bytes[n++] = 12;
        n += 12;
    }
    CHECK_EQ(sched_gossip_wire_decode(&in, bytes, n - 14), 0);
    CHECK_EQ(sched_gossip_wire_decode(&in, bytes, n), BASE_EBADMSG);
    for (n = 8; n < 8 + 257 * 10; n += 10) {
        bytes[n] = 10; /* digests */
        bytes[n + 1] = 8;
    }
    CHECK_EQ(sched_gossip_wire_decode(&in, bytes, n - 10), 0);
    CHECK_EQ(sched_gossip_wire_decode(&in, bytes, n), BASE_EBADMSG);
}

TEST(random_bytes_never_read_or_write_outside)
{
    struct base_hash_rng rng;
    base_hash_rng_seed(&rng, 9);
    static struct sched_gossip_wire_in in;
    for (int i = 0; i < 20000; i++) {
        size_t n = (size_t)base_hash_rng_below(&rng, 300);
        uint8_t *bytes = malloc(n + 1); /* so that the sanitizer sees a step too far */
        CHECK(bytes != NULL);
        for (size_t k = 0; k < n; k++) {
            bytes[k] = (uint8_t)base_hash_rng_next(&rng);
        }
        if (n > 2) {
            bytes[0] = 1;
            bytes[1] = (uint8_t)(1 + bytes[1] % 8);
        }
        int rc = sched_gossip_wire_decode(&in, bytes, n);
        CHECK(rc == 0 || rc == BASE_EBADMSG || rc == BASE_EVERSION);
        free(bytes);
    }
}
