#include <errno.h>

#include "proto/base/buf.h"
#include "proto/base/clock.h"
#include "proto/base/err.h"
#include "proto/base/hash.h"
#include "proto/base/rand.h"
#include "proto/base/text.h"
#include "tests/lib/check.h"

/* Vectors of the SipHash paper's reference code: key 00..0f, input 00..n-1. */
TEST(siphash_matches_the_reference_vectors)
{
    uint8_t key[16], in[16];
    for (uint8_t i = 0; i < 16; i++) {
        key[i] = in[i] = i;
    }
    CHECK(base_hash_sip24(key, in, 0) == UINT64_C(0x726fdb47dd0e0e31));
    CHECK(base_hash_sip24(key, in, 8) == UINT64_C(0x93f5f5799a932462));
    CHECK(base_hash_sip24(key, in, 15) == UINT64_C(0xa129ca6149be45e5));
}

TEST(random_below_stays_below_and_reaches_every_value)
{
    struct base_hash_rng r;
    base_hash_rng_seed(&r, 42);
    unsigned seen = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t v = base_hash_rng_below(&r, 7);
        CHECK(v < 7);
        seen |= 1u << v;
    }
    CHECK_EQ(seen, 0x7f);
}

TEST(uuid_has_its_form_and_a_random_one_its_version)
{
    uint8_t id[16];
    char text[BASE_TEXT_UUID_MAX], other[BASE_TEXT_UUID_MAX];
    for (uint8_t i = 0; i < 16; i++) {
        id[i] = (uint8_t)(0xf0 + i);
    }
    base_text_uuid(id, text);
    CHECK_STR(text, "f0f1f2f3-f4f5-f6f7-f8f9-fafbfcfdfeff");
    base_rand_uuid(text);
    base_rand_uuid(other);
    CHECK_EQ(strlen(text), BASE_TEXT_UUID_MAX - 1);
    CHECK_EQ(text[14], '4');
    CHECK(strchr("89ab", text[19]) != NULL);
    CHECK(strcmp(text, other) != 0);
}

TEST(buffer_keeps_its_bytes_over_growth_and_consumption)
{
    struct base_buf b = {0};
    for (int i = 0; i < 3000; i++) {
        uint8_t v = (uint8_t)i;
        CHECK_EQ(base_buf_add(&b, &v, 1), 0);
        if (i % 3 == 2) {
            CHECK_EQ(base_buf_data(&b)[0], (uint8_t)(i / 3));
            base_buf_consume(&b, 1);
        }
    }
    CHECK_EQ(base_buf_size(&b), 2000);
    base_buf_deinit(&b);
    CHECK_EQ(base_buf_size(&b), 0);
}

TEST(utf8_refuses_what_rfc_3629_refuses)
{
    CHECK(base_text_utf8("gr\xc3\xbc\xc3\x9f \xf0\x9f\x90\xb0", 11));
    CHECK(!base_text_utf8("\xc0\x80", 2));
    CHECK(!base_text_utf8("\xed\xa0\x80", 3));
    CHECK(!base_text_utf8("\xf4\x90\x80\x80", 4));
    CHECK(!base_text_utf8("a\0b", 3));
    CHECK(!base_text_utf8("\xe2\x82", 2));
}

TEST(hex_round_trip_and_refusals)
{
    char text[9];
    uint8_t back[4];
    base_text_hex("\x00\x7f\x80\xff", 4, text);
    CHECK_STR(text, "007f80ff");
    CHECK(base_text_unhex(text, back, 4));
    CHECK_EQ(back[3], 0xff);
    CHECK(!base_text_unhex("007f80f", back, 4));
    CHECK(!base_text_unhex("007f80fg", back, 4));
    CHECK(!base_text_unhex("007f80ff0", back, 4));
}

TEST(time_is_written_as_rfc_3339)
{
    char text[BASE_CLOCK_TEXT_MAX];
    base_clock_format(UINT64_C(951782400123) * BASE_NS_PER_MS, text);
    CHECK_STR(text, "2000-02-29T00:00:00.123Z");
}

TEST(error_text_is_cut_not_overrun)
{
    struct base_error e;
    CHECK_EQ(base_fail(&e, BASE_EIO, "%0300d", 1), BASE_EIO);
    CHECK_EQ(strlen(e.text), sizeof e.text - 1);
    CHECK_STR(base_err_str(BASE_EIO), "I/O error");
    CHECK_STR(base_err_str(-ENOSPC), "No space left on device");
    CHECK_STR(base_err_str(-5000), "unknown error");
}
