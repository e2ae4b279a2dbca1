#include "proto/base/err.h"
#include "proto/base/hash.h"
#include "proto/envelope.h"
#include "proto/frame.h"
#include "proto/ids.h"
#include "tests/lib/check.h"

static size_t put_frame(uint8_t *out, enum proto_frame_type type, uint32_t stream, const char *text)
{
    size_t n = strlen(text);
    proto_frame_head(out, type, stream, (uint16_t)n);
    memcpy(out + PROTO_FRAME_HEAD, text, n);
    return PROTO_FRAME_HEAD + n;
}

TEST(frames_come_out_whole_however_the_bytes_are_cut)
{
    uint8_t all[256];
    size_t n = put_frame(all, PROTO_FRAME_OPEN, 7, "hello");
    n += put_frame(all + n, PROTO_FRAME_FIN, 7, "");
    for (size_t cut = 0; cut <= n; cut++) {
        struct proto_frame f;
        size_t used, at = 0, got = 0;
        while (proto_frame_next(all + at, cut - at, &f, &used) == 1) {
            got++;
            at += used;
        }
        at += used;
        CHECK(at <= cut);
        while (proto_frame_next(all + at, n - at, &f, &used) == 1) {
            got++;
            at += used;
        }
        CHECK_EQ(got, 2);
        CHECK_EQ(f.type, PROTO_FRAME_FIN);
        CHECK_EQ(f.stream, 7);
    }
}

TEST(padding_completes_a_half_frame_and_is_skipped)
{
    static uint8_t all[PROTO_FRAME_RESYNC + 100];
    proto_frame_head(all, PROTO_FRAME_DATA, 1, PROTO_FRAME_PAYLOAD_MAX);
    memset(all + PROTO_FRAME_HEAD, 'x', 10); /* the connection broke here */
    size_t at = PROTO_FRAME_HEAD + 10 + PROTO_FRAME_RESYNC;
    uint8_t *full = calloc(1, at + 100);
    memcpy(full, all, PROTO_FRAME_HEAD + 10);
    size_t n = at + put_frame(full + at, PROTO_FRAME_HELLO, 0, "12345678");
    struct proto_frame f;
    size_t used;
    CHECK_EQ(proto_frame_next(full, n, &f, &used), 1);
    CHECK_EQ(f.type, PROTO_FRAME_DATA);
    size_t first = used;
    CHECK_EQ(proto_frame_next(full + first, n - first, &f, &used), 1);
    CHECK_EQ(f.type, PROTO_FRAME_HELLO);
    CHECK_EQ(first + used, n);
    free(full);
}

TEST(random_bytes_never_produce_a_frame_outside_the_bytes)
{
    struct base_hash_rng r;
    base_hash_rng_seed(&r, 1);
    uint8_t data[64];
    for (int round = 0; round < 200000; round++) {
        for (size_t i = 0; i < sizeof data; i += 8) {
            uint64_t v = base_hash_rng_next(&r);
            memcpy(data + i, &v, 8);
        }
        data[round % 60] = 0xA5;
        struct proto_frame f;
        size_t used;
        if (proto_frame_next(data, sizeof data, &f, &used) == 1) {
            CHECK(f.payload + f.len <= data + sizeof data);
            CHECK(f.payload + f.len == data + used);
        }
        CHECK(used <= sizeof data);
    }
}

TEST(envelope_round_trip_and_refusals)
{
    struct proto_envelope in = {.type = PROTO_ENVELOPE_CHUNK,
        .flags = PROTO_ENVELOPE_FIN,
        .corr = UINT64_C(0x1122334455667788),
        .view = 9,
        .deadline_ms = 1500,
        .stream = 3,
        .seq = 77,
        .body_bytes = 65536};
    uint8_t raw[PROTO_ENVELOPE_BYTES];
    proto_envelope_encode(&in, raw);
    struct proto_envelope out;
    CHECK_EQ(proto_envelope_decode(raw, sizeof raw, &out), 0);
    CHECK(out.corr == in.corr && out.view == 9 && out.deadline_ms == 1500 && out.seq == 77);
    CHECK_EQ(out.flags, PROTO_ENVELOPE_FIN);
    CHECK_EQ(proto_envelope_decode(raw, sizeof raw - 1, &out), BASE_EBADMSG);
    raw[3] = PROTO_ENVELOPE_VERSION - 1;
    CHECK_EQ(proto_envelope_decode(raw, sizeof raw, &out), BASE_EVERSION);
    raw[3] = PROTO_ENVELOPE_VERSION;
    raw[4] = PROTO_ENVELOPE_TYPE_END;
    CHECK_EQ(proto_envelope_decode(raw, sizeof raw, &out), BASE_EBADMSG);
}

TEST(a_frame_has_messages_one_behind_the_other)
{
    uint8_t raw[3 * PROTO_ENVELOPE_BYTES + 7];
    const size_t bodies[] = {0, 5, 2};
    size_t n = 0;
    for (uint32_t i = 0; i < 3; i++) {
        struct proto_envelope e = {
            .type = PROTO_ENVELOPE_PING, .seq = i, .body_bytes = (uint32_t)bodies[i]};
        proto_envelope_encode(&e, raw + n);
        n += PROTO_ENVELOPE_BYTES;
        memset(raw + n, (int)i, bodies[i]);
        n += bodies[i];
    }
    for (size_t cut = 0; cut <= n; cut++) {
        struct proto_envelope_frame f = {.data = raw, .n = cut};
        struct proto_envelope e;
        const uint8_t *body;
        uint32_t got = 0;
        int rc;
        while ((rc = proto_envelope_next(&f, &e, &body)) == 0) {
            CHECK_EQ(e.seq, got);
            CHECK_EQ(e.body_bytes, bodies[got]);
            CHECK(body + e.body_bytes == f.data && f.data + f.n == raw + cut);
            got++;
        }
        CHECK_EQ(rc, BASE_EBADMSG); /* the end, or a message that is not whole */
        CHECK_EQ(got, cut == n ? 3 : cut >= 85 ? 2 : cut >= 40 ? 1 : 0);
    }
}

TEST(identifiers_follow_the_public_contract)
{
    struct proto_identifier id;
    char text[PROTO_IDENTIFIER_MAX + 1];
    memset(text, 'a', sizeof text);
    CHECK_EQ(proto_identifier_set(&id, text, 3), PROTO_IDENTIFIER_LENGTH);
    CHECK_EQ(proto_identifier_set(&id, text, 4), PROTO_IDENTIFIER_OK);
    CHECK_EQ(proto_identifier_set(&id, text, 128), PROTO_IDENTIFIER_OK);
    CHECK_EQ(proto_identifier_set(&id, text, 129), PROTO_IDENTIFIER_LENGTH);
    CHECK_EQ(proto_identifier_set(&id, "a b c", 5), PROTO_IDENTIFIER_CHARACTER);
    CHECK_EQ(proto_identifier_set(&id, "a\\bc", 4), PROTO_IDENTIFIER_CHARACTER);
    CHECK_EQ(proto_identifier_set(&id, "a\0bc", 4), PROTO_IDENTIFIER_CHARACTER);
    const char all[] = "_|}{[]:\"';<>?/.,@#$%^&*()-+=!~`";
    CHECK_EQ(proto_identifier_set(&id, all, sizeof all - 1), PROTO_IDENTIFIER_OK);
}

TEST(pool_names)
{
    CHECK(proto_pool_name_valid("my-pool1", 8));
    CHECK(!proto_pool_name_valid("My-pool", 7));
    CHECK(!proto_pool_name_valid("1pool", 5));
    CHECK(!proto_pool_name_valid("pool-", 5));
    CHECK(!proto_pool_name_valid("po", 2));
}
