#include <sys/socket.h>
#include <unistd.h>

#include "proto/base/hash.h"
#include "proto/frame.h"
#include "proto/ids.h"
#include "tests/lib/check.h"
#include "worker/io/link.h"

/* The link on one end of two socket pairs, the test plays the agent on the others. */
struct world {
    struct worker_link link;
    struct ev_loop *loop;
    int fd[2];
    int attached, lost, replies, events, results, closed, closed_code, writable;
    size_t data;
    char why[100];
};

static void on_attached(void *user, const Warren__GuestHello *hello)
{
    struct world *w = user;
    CHECK_EQ(hello->protocol, PROTO_GUEST_VERSION);
    w->attached++;
}

static void on_lost(void *user, const char *why)
{
    struct world *w = user;
    w->lost++;
    (void)snprintf(w->why, sizeof w->why, "%s", why);
}

static void set_up(struct world *w, bool resync)
{
    int a[2], b[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, a), 0);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, b), 0);
    *w = (struct world){.loop = ev_loop_new(0), .fd = {a[1], b[1]}};
    struct worker_link_events ev = {w, on_attached, on_lost};
    CHECK_EQ(worker_link_init(&w->link, w->loop, (int[]){a[0], b[0]}, &ev, resync), 0);
}

static void tear_down(struct world *w)
{
    worker_link_deinit(&w->link);
    (void)close(w->fd[0]);
    (void)close(w->fd[1]);
    ev_loop_destroy(w->loop);
}

static void turn(struct world *w)
{
    for (int i = 0; i < 4; i++) {
        ev_run(w->loop, EVRUN_NOWAIT);
    }
}

static void send_frame(
    struct world *w, int port, enum proto_frame_type type, uint32_t stream, const void *p, size_t n)
{
    uint8_t raw[PROTO_FRAME_HEAD + 4096];
    CHECK(n <= 4096);
    proto_frame_head(raw, type, stream, (uint16_t)n);
    memcpy(raw + PROTO_FRAME_HEAD, p, n);
    ssize_t all = (ssize_t)(PROTO_FRAME_HEAD + n);
    CHECK_EQ(write(w->fd[port], raw, (size_t)all), all);
    turn(w);
}

/* Reads what the link sent and answers the HELLO with its nonce (or another one). */
static void answer_hello(struct world *w, int port, uint8_t spoil)
{
    static uint8_t raw[2 * PROTO_FRAME_RESYNC];
    ssize_t n = read(w->fd[port], raw, sizeof raw);
    struct proto_frame f;
    size_t used;
    CHECK_EQ(proto_frame_next(raw, (size_t)n, &f, &used), 1);
    CHECK_EQ(f.type, PROTO_FRAME_HELLO);
    uint8_t out[8 + 64];
    memcpy(out, f.payload, 8);
    out[0] ^= spoil;
    Warren__GuestHello hello = WARREN__GUEST_HELLO__INIT;
    hello.protocol = PROTO_GUEST_VERSION;
    size_t m = warren__guest_hello__pack(&hello, out + 8);
    send_frame(w, port, PROTO_FRAME_HELLO, 0, out, 8 + m);
}

static void attach(struct world *w)
{
    turn(w);
    answer_hello(w, 0, 0);
    answer_hello(w, 1, 0);
    CHECK_EQ(w->attached, 1);
}

static void on_event(void *user, const Warren__GuestEvent *e, const uint8_t *raw, size_t n)
{
    struct world *w = user;
    (void)raw;
    CHECK(n > 0);
    CHECK_EQ(e->kind, WARREN__EVENT_KIND__EVENT_STDOUT);
    w->events++;
    w->data += e->data.len;
}

static void on_result(void *user, const Warren__GuestResult *r)
{
    (void)r;
    ((struct world *)user)->results++;
}

static void on_data(void *user, const uint8_t *data, size_t n)
{
    (void)data;
    ((struct world *)user)->data += n;
}

static void on_writable(void *user)
{
    ((struct world *)user)->writable++;
}

static void on_closed(void *user, int code, const char *text)
{
    struct world *w = user;
    (void)text;
    w->closed++;
    w->closed_code = code;
}

static const struct worker_stream_ops ops = {on_event, on_result, on_data, on_writable, on_closed};

static struct worker_stream *open_stat(struct world *w)
{
    Warren__GuestStat stat = WARREN__GUEST_STAT__INIT;
    stat.path = (char *)(uintptr_t) "a";
    Warren__GuestOpen open = WARREN__GUEST_OPEN__INIT;
    open.what_case = WARREN__GUEST_OPEN__WHAT_STAT;
    open.stat = &stat;
    struct worker_stream *s = NULL;
    CHECK_EQ(worker_link_open(&w->link, &open, &ops, w, &s), 0);
    turn(w);
    return s;
}

TEST(attaches_by_its_own_nonce_only)
{
    struct world w;
    set_up(&w, true);
    turn(&w);
    answer_hello(&w, 0, 1);
    answer_hello(&w, 1, 0);
    CHECK_EQ(w.attached, 0);
    CHECK_EQ(w.lost, 0);
    tear_down(&w);
}

TEST(bytes_of_an_earlier_connection_are_ignored)
{
    struct world w;
    set_up(&w, false);
    turn(&w);
    send_frame(&w, 0, PROTO_FRAME_EVENT, 1, "\xff\xff", 2);
    send_frame(&w, 0, PROTO_FRAME_REPLY, 1, "\xff\xff", 2);
    attach(&w);
    CHECK_EQ(w.lost, 0);
    tear_down(&w);
}

TEST(result_and_fin_close_a_stream_with_zero)
{
    struct world w;
    set_up(&w, false);
    attach(&w);
    (void)open_stat(&w);
    send_frame(&w, 1, PROTO_FRAME_RESULT, 1, "", 0);
    send_frame(&w, 1, PROTO_FRAME_FIN, 1, "", 0);
    CHECK_EQ(w.results, 1);
    CHECK_EQ(w.closed, 1);
    CHECK_EQ(w.closed_code, 0);
    send_frame(&w, 1, PROTO_FRAME_RESULT, 1, "", 0);
    CHECK_EQ(w.results, 1);
    tear_down(&w);
}

TEST(a_refusal_has_its_code_and_a_lost_link_closes_every_stream)
{
    struct world w;
    set_up(&w, false);
    attach(&w);
    (void)open_stat(&w);
    (void)open_stat(&w);
    uint8_t rst[8];
    proto_frame_put_u32(rst, (uint32_t)BASE_EDENIED);
    memcpy(rst + 4, "nope", 4);
    send_frame(&w, 1, PROTO_FRAME_RST, 1, rst, sizeof rst);
    CHECK_EQ(w.closed_code, BASE_EDENIED);
    worker_link_deinit(&w.link);
    CHECK_EQ(w.closed, 2);
    CHECK_EQ(w.closed_code, BASE_ECLOSED);
    tear_down(&w);
}

TEST(credit_bounds_what_is_sent)
{
    struct world w;
    set_up(&w, false);
    attach(&w);
    struct worker_stream *s = open_stat(&w);
    static char block[PROTO_FRAME_STREAM_WINDOW + 10];
    CHECK_EQ(worker_stream_write(s, block, sizeof block), PROTO_FRAME_STREAM_WINDOW);
    CHECK_EQ(worker_stream_write(s, block, 10), 0);
    uint8_t credit[4];
    proto_frame_put_u32(credit, 100);
    send_frame(&w, 1, PROTO_FRAME_CREDIT, 1, credit, 4);
    CHECK_EQ(w.writable, 1);
    CHECK_EQ(worker_stream_write(s, block, 200), 100);
    proto_frame_put_u32(credit, PROTO_FRAME_STREAM_WINDOW + 1);
    send_frame(&w, 1, PROTO_FRAME_CREDIT, 1, credit, 4);
    CHECK_EQ(w.lost, 1);
    tear_down(&w);
}

TEST(an_event_in_parts_arrives_once_and_whole)
{
    struct world w;
    set_up(&w, false);
    attach(&w);
    Warren__GuestExec exec = WARREN__GUEST_EXEC__INIT;
    Warren__GuestOpen open = WARREN__GUEST_OPEN__INIT;
    open.what_case = WARREN__GUEST_OPEN__WHAT_EXEC;
    open.exec = &exec;
    struct worker_stream *s;
    CHECK_EQ(worker_link_open(&w.link, &open, &ops, &w, &s), 0);
    Warren__GuestEvent e = WARREN__GUEST_EVENT__INIT;
    uint8_t data[1000] = {1}, raw[1100];
    e.kind = WARREN__EVENT_KIND__EVENT_STDOUT;
    e.data = (ProtobufCBinaryData){sizeof data, data};
    size_t n = warren__guest_event__pack(&e, raw);
    send_frame(&w, 0, PROTO_FRAME_EVENT_MORE, 1, raw, 400);
    send_frame(&w, 0, PROTO_FRAME_EVENT_MORE, 1, raw + 400, 300);
    CHECK_EQ(w.events, 0);
    send_frame(&w, 0, PROTO_FRAME_EVENT, 1, raw + 700, n - 700);
    CHECK_EQ(w.events, 1);
    CHECK_EQ(w.data, sizeof data);
    tear_down(&w);
}

TEST(a_reset_stream_hears_nothing_more)
{
    struct world w;
    set_up(&w, false);
    attach(&w);
    struct worker_stream *s = open_stat(&w);
    worker_stream_reset(s);
    send_frame(&w, 1, PROTO_FRAME_DATA, 1, "abc", 3);
    CHECK_EQ(w.data, 0);
    worker_link_deinit(&w.link);
    CHECK_EQ(w.closed, 0);
    tear_down(&w);
}

TEST(random_frames_of_a_hostile_agent_do_no_harm)
{
    struct base_hash_rng r;
    base_hash_rng_seed(&r, 7);
    for (int round = 0; round < 200; round++) {
        struct world w;
        set_up(&w, false);
        attach(&w);
        (void)open_stat(&w);
        for (int i = 0; i < 50 && w.lost == 0; i++) {
            uint8_t p[64];
            for (size_t k = 0; k < sizeof p; k += 8) {
                uint64_t v = base_hash_rng_next(&r);
                memcpy(p + k, &v, 8);
            }
            int type = 1 + (int)base_hash_rng_below(&r, PROTO_FRAME_TYPE_END - 1);
            send_frame(&w, i % 2, (enum proto_frame_type)type, (uint32_t)base_hash_rng_below(&r, 3),
                p, (size_t)base_hash_rng_below(&r, 64));
        }
        CHECK(w.closed <= 1);
        tear_down(&w);
    }
}
