#include "proto/base/err.h"
#include "proto/base/hash.h"
#include "scheduler/core/seal.h"
#include "tests/lib/check.h"

TEST(a_head_is_read_as_it_was_written)
{
    struct sched_seal_head h = {.key = 3,
                               .flags = 9,
                               .boot = 0x01020304,
                               .sender = UINT64_C(0x1122334455667788),
                               .counter = UINT64_C(0x99aabbccddeeff00)},
                           got;
    uint8_t bytes[64] = {0};
    sched_seal_head_put(bytes, &h);
    CHECK_EQ(sched_seal_head_get(&got, bytes, 40), 0);
    CHECK(got.key == 3 && got.flags == 9 && got.boot == h.boot && got.sender == h.sender &&
          got.counter == h.counter);
    CHECK_EQ(sched_seal_head_get(&got, bytes, 39), BASE_EBADMSG);
    bytes[0] = 2;
    CHECK_EQ(sched_seal_head_get(&got, bytes, 40), BASE_EVERSION);
    h.sender = 0;
    sched_seal_head_put(bytes, &h);
    CHECK_EQ(sched_seal_head_get(&got, bytes, 40), BASE_EBADMSG);
}

TEST(nonce_head_and_receiver_are_all_authenticated_or_derived)
{
    struct sched_seal_head h = {.key = 1, .boot = 2, .sender = 3, .counter = 0x0405};
    uint8_t nonce[SCHED_SEAL_NONCE_BYTES], aad[SCHED_SEAL_AAD_BYTES], head[24];
    sched_seal_nonce(nonce, h.counter);
    const uint8_t want[12] = {0, 0, 0, 0, 5, 4};
    CHECK(memcmp(nonce, want, 12) == 0);
    sched_seal_aad(aad, &h, 0x0607);
    sched_seal_head_put(head, &h);
    CHECK(memcmp(aad, head, 24) == 0);
    CHECK(aad[24] == 7 && aad[25] == 6 && aad[31] == 0);
    uint8_t cluster[16] = {42}, info[SCHED_SEAL_INFO_BYTES], other[SCHED_SEAL_INFO_BYTES];
    sched_seal_info(info, cluster, 3, 2);
    CHECK(memcmp(info, "warren gossip 1", 15) == 0 && info[15] == 42 && info[31] == 3);
    sched_seal_info(other, cluster, 3, 4);
    CHECK(memcmp(info, other, sizeof info) != 0);
}

TEST(a_later_life_starts_beyond_every_counter_of_an_earlier_one)
{
    uint64_t a = sched_seal_first_counter(1700000000000),
             b = sched_seal_first_counter(1700000000001);
    CHECK_EQ(b - a, 1 << 20); /* more packets than a millisecond has room for */
    CHECK(sched_seal_first_counter(UINT64_C(16000000000000)) > b); /* year 2477: no overflow */
}

static void key_of(uint8_t key[SCHED_SEAL_KEY_BYTES], uint8_t fill)
{
    memset(key, fill, SCHED_SEAL_KEY_BYTES);
}

TEST(a_ring_takes_three_keys_and_uses_the_first_until_told_otherwise)
{
    struct sched_seal_ring r = {0};
    uint8_t key[4][SCHED_SEAL_KEY_BYTES];
    for (uint8_t i = 0; i < 4; i++) {
        key_of(key[i], (uint8_t)(i + 1));
    }
    CHECK(sched_seal_ring_key(&r, 10) == NULL);
    CHECK_EQ(sched_seal_ring_use(&r, 10), BASE_ENOTFOUND);
    CHECK_EQ(sched_seal_ring_install(&r, 10, key[0]), 0);
    CHECK_EQ(sched_seal_ring_install(&r, 11, key[1]), 0);
    CHECK_EQ(sched_seal_ring_install(&r, 11, key[1]), 0); /* said twice */
    CHECK_EQ(sched_seal_ring_install(&r, 11, key[2]), BASE_EEXISTS);
    CHECK_EQ(sched_seal_ring_install(&r, 12, key[2]), 0);
    CHECK_EQ(sched_seal_ring_install(&r, 13, key[3]), BASE_EFULL);
    CHECK_EQ(r.slots[r.primary].id, 10);
    CHECK_EQ(sched_seal_ring_remove(&r, 10), BASE_ESTATE);
    CHECK_EQ(sched_seal_ring_use(&r, 12), 0);
    CHECK_EQ(sched_seal_ring_remove(&r, 10), 0);
    CHECK_EQ(sched_seal_ring_remove(&r, 10), BASE_ENOTFOUND);
    CHECK(sched_seal_ring_key(&r, 10) == NULL);
    for (size_t i = 0; i + SCHED_SEAL_KEY_BYTES <= sizeof r; i++) { /* gone from memory too */
        CHECK(memcmp((const uint8_t *)&r + i, key[0], SCHED_SEAL_KEY_BYTES) != 0);
    }
    CHECK_EQ(sched_seal_ring_install(&r, 13, key[3]), 0);
    CHECK_EQ(r.slots[r.primary].id, 12);
    CHECK(memcmp(sched_seal_ring_key(&r, 13), key[3], SCHED_SEAL_KEY_BYTES) == 0);
}

static bool arrives(struct sched_seal_sender *s, uint32_t boot, uint64_t counter, uint64_t now_ms)
{
    struct sched_seal_head h = {.sender = 1, .boot = boot, .counter = counter};
    if (sched_seal_judge(s, &h, now_ms) == SCHED_SEAL_REFUSE) {
        return false;
    }
    sched_seal_note(s, &h, now_ms);
    return true;
}

TEST(no_counter_is_accepted_twice_however_they_are_shuffled)
{
    enum { N = 20000 };
    static bool seen[N + 3000];
    struct base_hash_rng rng;
    base_hash_rng_seed(&rng, 3);
    struct sched_seal_sender s = {0};
    unsigned accepted = 0;
    for (int i = 0; i < 10 * N; i++) {
        uint64_t counter = (uint64_t)(i / 10) + base_hash_rng_below(&rng, 3000);
        bool ok = arrives(&s, 1, counter, 5);
        CHECK(!(ok && seen[counter]));
        seen[counter] |= ok;
        accepted += ok;
    }
    CHECK(accepted > N / 2);
}

TEST(a_datagram_may_be_late_by_the_window_and_no_more)
{
    struct sched_seal_sender s = {0};
    CHECK(arrives(&s, 1, 5000, 0));
    CHECK(!arrives(&s, 1, 5000 - SCHED_SEAL_WINDOW, 0));
    CHECK(arrives(&s, 1, 5000 - SCHED_SEAL_WINDOW + 1, 0));
    CHECK(!arrives(&s, 1, 5000 - SCHED_SEAL_WINDOW + 1, 0));
    CHECK(arrives(&s, 1, 5000 + 100 * SCHED_SEAL_WINDOW, 0)); /* a gap larger than the window */
    CHECK(arrives(&s, 1, 4999 + 100 * SCHED_SEAL_WINDOW, 0));
    CHECK(!arrives(&s, 1, 5000, 0));
}

TEST(the_last_counter_there_is_ends_nothing)
{
    struct sched_seal_sender s = {0};
    CHECK(arrives(&s, 1, UINT64_MAX - 2, 0));
    CHECK(arrives(&s, 1, UINT64_MAX, 0));
    CHECK(!arrives(&s, 1, UINT64_MAX, 0));
    CHECK(arrives(&s, 1, UINT64_MAX - 1, 0));
}

TEST(a_new_life_is_believed_and_a_replay_of_an_old_one_is_not)
{
    struct sched_seal_sender s = {0};
    CHECK(arrives(&s, 1, 1000, 0));
    CHECK(arrives(&s, 2, 9000, 1)); /* it restarted */
    for (uint64_t c = 900; c < 1100; c++) {
        CHECK(!arrives(&s, 1, c, 2)); /* what was recorded of the old life */
    }
    CHECK(arrives(&s, 2, 9001, 3)); /* and the new one is not disturbed */
    CHECK(!arrives(&s, 2, 9000, 4));
    CHECK(!arrives(&s, 3, 500, 3 + SCHED_SEAL_SILENCE_MS - 1));
    CHECK(arrives(&s, 3, 500, 3 + SCHED_SEAL_SILENCE_MS)); /* its clock was set back */
    CHECK(arrives(&s, 3, 501, 3 + SCHED_SEAL_SILENCE_MS));
}
