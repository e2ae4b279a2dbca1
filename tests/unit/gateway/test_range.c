#include "gateway/core/range.h"
#include "gateway/core/sse.h"
#include "tests/lib/check.h"

static struct gw_range r;

static void part(const char *text, uint64_t size, uint64_t first, uint64_t length)
{
    CHECK_EQ(gw_range_parse(text, size, &r), GW_RANGE_PART);
    CHECK_EQ(r.first, first);
    CHECK_EQ(r.length, length);
}

TEST(ranges_are_cut_to_the_size)
{
    part("bytes=0-0", 10, 0, 1);
    part("bytes=2-5", 10, 2, 4);
    part("bytes=2-", 10, 2, 8);
    part("bytes=2-99", 10, 2, 8);
    part("bytes=-3", 10, 7, 3);
    part("bytes=-99", 10, 0, 10);
    part("Bytes=0-", 10, 0, 10);
}

TEST(ranges_outside_and_nonsense_are_told_apart)
{
    CHECK_EQ(gw_range_parse("bytes=10-", 10, &r), GW_RANGE_OUTSIDE);
    CHECK_EQ(gw_range_parse("bytes=0-", 0, &r), GW_RANGE_OUTSIDE);
    CHECK_EQ(gw_range_parse("bytes=-0", 10, &r), GW_RANGE_OUTSIDE);
    static const char *const ignored[] = {NULL, "", "bytes=", "bytes=a-b", "bytes=5-2",
        "bytes=1-2,4-5", "items=1-2", "bytes=1", "bytes=--1", "bytes=99999999999999999999-"};
    for (unsigned i = 0; i < sizeof ignored / sizeof *ignored; i++) {
        CHECK_EQ(gw_range_parse(ignored[i], 10, &r), GW_RANGE_NONE);
    }
}

TEST(events_become_server_sent_events)
{
    struct base_buf b = {0};
    struct gw_event e = {.seq = 3,
        .kind = GW_EVENT_STDOUT,
        .data = (const uint8_t *)"a\nb",
        .data_n = 3,
        .error_name = "",
        .error_value = ""};
    CHECK_EQ(gw_sse_event(&e, &b), 0);
    e.kind = GW_EVENT_DISPLAY;
    e.seq = 4;
    e.mimes = 2;
    e.mime[0] = (struct gw_mime){"text/plain", (const uint8_t *)"x", 1};
    e.mime[1] = (struct gw_mime){"image/png", (const uint8_t *)"PNG", 3};
    CHECK_EQ(gw_sse_event(&e, &b), 0);
    CHECK_EQ(gw_sse_keepalive(&b), 0);
    CHECK_EQ(base_buf_add(&b, "", 1), 0);
    CHECK_STR((char *)base_buf_data(&b),
        "id: 3\nevent: stdout\ndata: {\"text\":\"a\\nb\"}\n\n"
        "id: 4\nevent: display\ndata: "
        "{\"data\":{\"text/plain\":\"x\",\"image/png\":\"UE5H\"}}\n\n:\n\n");
    base_buf_deinit(&b);
}
