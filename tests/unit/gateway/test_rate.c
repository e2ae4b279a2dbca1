#include "gateway/core/rate.h"
#include "tests/lib/check.h"

static struct gw_rate r;
enum { S = 1000000000 };

TEST(a_burst_passes_and_then_the_rate_holds)
{
    gw_rate_init(&r, 10, 5);
    uint64_t now = 7 * (uint64_t)S;
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(gw_rate_take(&r, 1, now), 0);
    }
    CHECK_EQ(gw_rate_take(&r, 1, now), S / 10);
    CHECK_EQ(gw_rate_take(&r, 2, now), 0); /* another key is not touched */
    CHECK_EQ(gw_rate_take(&r, 1, now + S / 10), 0);
    CHECK_EQ(gw_rate_take(&r, 1, now + S / 10 + 1), S / 10 - 1);
    int passed = 0;
    for (int i = 0; i < 10000; i++) { /* ten seconds, a thousand tries in each */
        passed += gw_rate_take(&r, 3, now + (uint64_t)i * (S / 1000)) == 0;
    }
    CHECK(passed >= 104 && passed <= 105);
}

TEST(after_a_pause_the_burst_is_there_again_and_not_more)
{
    gw_rate_init(&r, 10, 5);
    int passed = 0;
    (void)gw_rate_take(&r, 1, 0);
    for (int i = 0; i < 100; i++) {
        passed += gw_rate_take(&r, 1, 3600 * (uint64_t)S) == 0;
    }
    CHECK_EQ(passed, 5);
}

TEST(no_rate_means_no_limit)
{
    gw_rate_init(&r, 0, 0);
    for (int i = 0; i < 1000; i++) {
        CHECK_EQ(gw_rate_take(&r, 1, 0), 0);
    }
}

TEST(more_keys_than_slots_never_block_a_new_one)
{
    gw_rate_init(&r, 1, 1);
    for (uint64_t k = 1; k < 3 * GW_RATE_SLOTS; k++) {
        CHECK_EQ(gw_rate_take(&r, k * 0x9e3779b97f4a7c15, S), 0);
    }
}
