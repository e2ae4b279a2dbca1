#include "gateway/io/ws.h"
#include "proto/base/buf.h"
#include "tests/lib/check.h"

/* What a client sends and gets. Its frames are masked with zeros: the payload is as it is. */
static struct gw_ws *ws;
static struct base_buf got, sent;

static void on_send(void *owner, const uint8_t *data, size_t n)
{
    (void)owner;
    CHECK_EQ(base_buf_add(&sent, data, n), 0);
}

static void on_binary(void *owner, const uint8_t *data, size_t n)
{
    (void)owner;
    CHECK_EQ(base_buf_add(&got, data, n), 0);
}

static void on_text(void *owner, const char *text, size_t n)
{
    (void)owner;
    CHECK_EQ(base_buf_printf(&got, "<%.*s>", (int)n, text), 0);
}

static void setup(void)
{
    static const struct gw_ws_ops ops = {on_send, on_binary, on_text};
    ws = gw_ws_create(&ops, NULL);
    CHECK(ws != NULL);
}

static void teardown(void)
{
    gw_ws_destroy(ws);
    base_buf_deinit(&got);
    base_buf_deinit(&sent);
}

static void frame(uint8_t first, const void *payload, size_t n)
{
    uint8_t head[8] = {first, (uint8_t)(0x80 | (n < 126 ? n : 126))};
    size_t at = 2;
    if (n >= 126) {
        head[at++] = (uint8_t)(n >> 8);
        head[at++] = (uint8_t)n;
    }
    gw_ws_input(ws, head, at + 4);
    gw_ws_input(ws, payload, n);
}

static void check_got(const char *want)
{
    CHECK_EQ(base_buf_add(&got, "", 1), 0);
    CHECK_STR((const char *)base_buf_data(&got), want);
    base_buf_clear(&got);
}

static void check_sent(const void *want, size_t n)
{
    CHECK_EQ(base_buf_size(&sent), n);
    CHECK_EQ(memcmp(base_buf_data(&sent), want, n), 0);
    base_buf_clear(&sent);
}

enum { NO_CODE = 0, BROKEN = 1002 };

/* The code of the close frame that was sent. */
static int close_code(void)
{
    const uint8_t *p = base_buf_data(&sent);
    CHECK(gw_ws_over(ws));
    CHECK(base_buf_size(&sent) >= 2 && p[0] == 0x88);
    return p[1] == 0 ? NO_CODE : p[2] << 8 | p[3];
}

TEST(messages_come_in_parts_and_go_whole)
{
    setup();
    frame(0x82, "ls", 2);
    frame(0x02, "ab", 2);
    frame(0x89, "ping", 4); /* between two parts */
    frame(0x80, "cd", 2);
    frame(0x01, "{", 1);
    frame(0x80, "}", 1);
    frame(0x81, "", 0);
    check_got("lsabcd<{}><>");
    check_sent("\x8a\x04ping", 6);
    gw_ws_binary(ws, (const uint8_t *)"out", 3);
    gw_ws_text(ws, "{}");
    gw_ws_ping(ws);
    check_sent("\x82\x03out\x81\x02{}\x89\x00", 11);
    CHECK(!gw_ws_over(ws));
    teardown();
}

TEST(a_close_is_returned_and_is_the_last)
{
    setup();
    frame(0x88,
        "\x03\xe8"
        "bye",
        5);
    CHECK_EQ(close_code(), GW_WS_NORMAL);
    base_buf_clear(&sent);
    gw_ws_binary(ws, (const uint8_t *)"x", 1);
    gw_ws_close(ws, GW_WS_FAILED, "");
    frame(0x82, "y", 1);
    check_sent("", 0);
    check_got("");
    teardown();
}

static void check_refused(uint8_t first, const void *payload, size_t n, int code)
{
    setup();
    frame(first, payload, n);
    CHECK_EQ(close_code(), code);
    check_got("");
    teardown();
}

TEST(what_breaks_the_rules_is_closed_with_its_code)
{
    static char long_text[GW_WS_TEXT_MAX + 1];
    memset(long_text, 'x', sizeof long_text);
    check_refused(0xc2, "x", 1, BROKEN);  /* a reserved bit */
    check_refused(0x83, "x", 1, BROKEN);  /* an opcode that there is not */
    check_refused(0x80, "x", 1, BROKEN);  /* the end of nothing */
    check_refused(0x09, "x", 1, NO_CODE); /* half a ping */
    check_refused(0x81, "\xff", 1, GW_WS_INVALID);
    check_refused(0x81, long_text, sizeof long_text, GW_WS_TOO_BIG);
    setup();
    gw_ws_input(ws, (const uint8_t *)"\x82\x01x", 3); /* not masked */
    CHECK_EQ(close_code(), 1002);
    check_got("");
    teardown();
    setup();
    gw_ws_input(ws, (const uint8_t *)"\x82\xff\0\0\0\0\0\x20\0\0\0\0\0\0xyz", 17); /* of 2 MiB */
    CHECK_EQ(close_code(), GW_WS_TOO_BIG);
    teardown();
}

TEST(a_reason_is_cut_between_characters)
{
    char reason[200], want[4 + 119];
    memset(reason, 'x', sizeof reason);
    memcpy(reason + 119, "\xc3\xbc", 2); /* the limit of 120 bytes is inside of it */
    reason[sizeof reason - 1] = '\0';
    setup();
    gw_ws_close(ws, GW_WS_POLICY, reason);
    memset(want, 'x', sizeof want);
    memcpy(want, "\x88\x79\x03\xf0", 4);
    check_sent(want, 4 + 119);
    teardown();
}

TEST(the_handshake_is_that_of_the_rfc)
{
    char accept[GW_WS_ACCEPT_MAX];
    CHECK(gw_ws_accept("dGhlIHNhbXBsZSBub25jZQ==", accept));
    CHECK_STR(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    CHECK(!gw_ws_accept("", accept));
    CHECK(!gw_ws_accept("dGhlIHNhbXBsZSBub25jZQ=", accept));
    CHECK(!gw_ws_accept("dGhlIHNhbXBsZSBub25jZQAA", accept));
    CHECK(!gw_ws_accept("!!!lIHNhbXBsZSBub25jZQ==", accept));
}
