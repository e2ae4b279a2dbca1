/* What a hostile agent may send: first byte chooses the port per piece, the rest goes in as it is,
 * after a proper attach. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/frame.h"
#include "proto/ids.h"
#include "worker/io/link.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void on_attached(void *user, const Warren__GuestHello *hello)
{
    (void)hello;
    *(bool *)user = true;
}

static void on_lost(void *user, const char *why)
{
    (void)user;
    (void)why;
}

static void on_data(void *user, const uint8_t *data, size_t n)
{
    (void)data;
    worker_stream_consume(*(struct worker_stream **)user, n);
}

static void on_closed(void *user, int code, const char *text)
{
    (void)code;
    (void)text;
    (void)user;
}

static const struct worker_stream_ops ops = {.data = on_data, .closed = on_closed};

static void on_reply(void *user, const Warren__GuestReply *reply)
{
    (void)user;
    (void)reply;
}

static void hello(struct worker_link *l, int port, int fd)
{
    uint8_t raw[PROTO_FRAME_HEAD + 16];
    memcpy(raw + PROTO_FRAME_HEAD, l->side[port].nonce, 8);
    Warren__GuestHello h = WARREN__GUEST_HELLO__INIT;
    h.protocol = PROTO_GUEST_VERSION;
    size_t m = warren__guest_hello__pack(&h, raw + PROTO_FRAME_HEAD + 8);
    proto_frame_head(raw, PROTO_FRAME_HELLO, 0, (uint16_t)(8 + m));
    (void)!write(fd, raw, PROTO_FRAME_HEAD + 8 + m);
}

static void prepare(struct worker_link *l, struct worker_stream *streams[2])
{
    Warren__GuestStat stat = WARREN__GUEST_STAT__INIT;
    Warren__GuestResume resume = WARREN__GUEST_RESUME__INIT;
    Warren__GuestOpen open = WARREN__GUEST_OPEN__INIT;
    open.what_case = WARREN__GUEST_OPEN__WHAT_STAT;
    open.stat = &stat;
    (void)worker_link_open(l, &open, &ops, &streams[0], &streams[0]);
    open.what_case = WARREN__GUEST_OPEN__WHAT_RESUME;
    open.resume = &resume;
    (void)worker_link_open(l, &open, &ops, &streams[1], &streams[1]);
    Warren__GuestStats stats = WARREN__GUEST_STATS__INIT;
    Warren__GuestCall call = WARREN__GUEST_CALL__INIT;
    call.what_case = WARREN__GUEST_CALL__WHAT_STATS;
    call.stats = &stats;
    (void)worker_link_call(l, &call, on_reply, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct ev_loop *loop;
    loop = loop == NULL ? ev_loop_new(0) : loop;
    int a[2], b[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, a) != 0) {
        return 0;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, b) != 0) {
        (void)close(a[0]);
        (void)close(a[1]);
        return 0;
    }
    bool attached = false;
    struct worker_link l;
    struct worker_link_events ev = {&attached, on_attached, on_lost};
    (void)worker_link_init(&l, loop, (int[]){a[0], b[0]}, &ev, false);
    hello(&l, 0, a[1]);
    hello(&l, 1, b[1]);
    ev_run(loop, EVRUN_NOWAIT);
    struct worker_stream *streams[2] = {NULL, NULL};
    prepare(&l, streams);
    while (n > 1) {
        size_t k = 1 + data[0] / 2u;
        k = k < n - 1 ? k : n - 1;
        (void)!write(data[0] & 1 ? b[1] : a[1], data + 1, k);
        ev_run(loop, EVRUN_NOWAIT);
        data += 1 + k;
        n -= 1 + k;
    }
    worker_link_deinit(&l);
    (void)close(a[1]);
    (void)close(b[1]);
    return 0;
}
