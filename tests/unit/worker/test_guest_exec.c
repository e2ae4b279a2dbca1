/* Executions on a port: numbers, acknowledgements, resuming, bounds. The runner is this file. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/err.h"
#include "tests/lib/check.h"
#include "worker/guest/exec.h"

struct bench {
    struct agent_loop loop;
    struct agent_port port;
    struct agent_streams streams;
    struct agent_execs execs;
    struct agent_exec *submitted;
    int acked;
    int host; /* our end */
    struct base_buf in;
};

static void on_frame(struct agent_port *p, const struct proto_frame *f)
{
    struct bench *b = p->owner;
    if (f->type != PROTO_FRAME_OPEN) {
        agent_streams_frame(&b->streams, f);
        return;
    }
    struct agent_stream *s = agent_streams_open(&b->streams, f->stream);
    Warren__GuestOpen *m = warren__guest_open__unpack(NULL, f->len, f->payload);
    if (s != NULL && m->what_case == WARREN__GUEST_OPEN__WHAT_EXEC) {
        agent_execs_open(&b->execs, s, m->exec);
    } else if (s != NULL) {
        agent_execs_resume(&b->execs, s, m->resume);
    }
    warren__guest_open__free_unpacked(m, NULL);
}

static void on_detached(struct agent_port *p)
{
    struct bench *b = p->owner;
    agent_streams_detached(&b->streams);
}

static void on_hello(struct agent_port *p, struct base_buf *out)
{
    (void)p;
    (void)out;
}

static bool on_pull(struct agent_port *p)
{
    struct bench *b = p->owner;
    return agent_streams_pull(&b->streams);
}

static void on_submit(void *owner, struct agent_exec *e)
{
    ((struct bench *)owner)->submitted = e;
}

static void on_acked(void *owner, struct agent_exec *e)
{
    (void)e;
    ((struct bench *)owner)->acked++;
}

static const struct agent_port_ops port_ops = {on_frame, on_detached, on_hello, on_pull};
static const struct agent_execs_ops exec_ops = {on_submit, on_acked};

static void turn(struct bench *b)
{
    for (int i = 0; i < 4; i++) {
        b->port.readable = true;
        b->port.blocked = false;
        agent_port_read(&b->port);
        agent_port_flush(&b->port);
        uint8_t *at = base_buf_room(&b->in, 1 << 20);
        ssize_t n = recv(b->host, at, 1 << 20, MSG_DONTWAIT);
        if (n > 0) {
            base_buf_grow(&b->in, (size_t)n);
        }
    }
}

static void send_frame(
    struct bench *b, enum proto_frame_type type, uint32_t stream, const void *data, size_t n)
{
    uint8_t head[PROTO_FRAME_HEAD];
    proto_frame_head(head, type, stream, (uint16_t)n);
    CHECK_EQ(write(b->host, head, sizeof head), sizeof head);
    CHECK_EQ(n == 0 ? 0 : write(b->host, data, n), n);
}

/* The next frame from the agent; false when there is none. */
static bool next(struct bench *b, struct proto_frame *f)
{
    static uint8_t copy[PROTO_FRAME_PAYLOAD_MAX];
    size_t used;
    int got = proto_frame_next(base_buf_data(&b->in), base_buf_size(&b->in), f, &used);
    if (got == 1) {
        memcpy(copy, f->payload, f->len);
        f->payload = copy;
    }
    base_buf_consume(&b->in, used);
    return got == 1;
}

static void expect(struct bench *b, enum proto_frame_type type, uint32_t stream)
{
    struct proto_frame f;
    CHECK(next(b, &f));
    CHECK_EQ(f.type, type);
    CHECK_EQ(f.stream, stream);
}

static void attach(struct bench *b)
{
    base_buf_clear(&b->in);
    send_frame(b, PROTO_FRAME_HELLO, 0, "12345678", 8);
    turn(b);
    expect(b, PROTO_FRAME_HELLO, 0);
}

static struct bench *make(void)
{
    struct bench *b = calloc(1, sizeof *b);
    int pair[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    CHECK_EQ(fcntl(pair[0], F_SETFL, O_NONBLOCK), 0);
    int size = 4 << 20;
    (void)setsockopt(pair[0], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
    CHECK_EQ(agent_loop_init(&b->loop), 0);
    b->port = (struct agent_port){.ops = &port_ops, .owner = b, .name = "test"};
    CHECK_EQ(agent_port_open(&b->port, &b->loop, pair[0]), 0);
    agent_streams_init(&b->streams, &b->port);
    agent_execs_init(&b->execs, &exec_ops, b);
    b->host = pair[1];
    attach(b);
    return b;
}

static void drop(struct bench *b)
{
    agent_streams_detached(&b->streams);
    agent_execs_deinit(&b->execs);
    agent_port_close(&b->port);
    agent_loop_deinit(&b->loop);
    base_buf_deinit(&b->in);
    (void)close(b->host);
    free(b);
}

static void open_what(struct bench *b, uint32_t stream, Warren__GuestOpen *m)
{
    uint8_t raw[512];
    send_frame(b, PROTO_FRAME_OPEN, stream, raw, warren__guest_open__pack(m, raw));
}

static ProtobufCBinaryData make_id(uint8_t tag, uint8_t raw[16])
{
    memset(raw, tag, 16);
    return (ProtobufCBinaryData){.data = raw, .len = 16};
}

static struct agent_exec *start(struct bench *b, uint32_t stream, uint8_t tag)
{
    uint8_t raw[16];
    Warren__GuestExec e = WARREN__GUEST_EXEC__INIT;
    Warren__GuestOpen m = WARREN__GUEST_OPEN__INIT;
    e.id = make_id(tag, raw);
    e.kernel = WARREN__KERNEL__KERNEL_PYTHON;
    m.what_case = WARREN__GUEST_OPEN__WHAT_EXEC;
    m.exec = &e;
    b->submitted = NULL;
    open_what(b, stream, &m);
    send_frame(b, PROTO_FRAME_DATA, stream, "code", 4);
    send_frame(b, PROTO_FRAME_FIN, stream, NULL, 0);
    turn(b);
    return b->submitted;
}

static void resume(struct bench *b, uint32_t stream, uint8_t tag, uint64_t after)
{
    uint8_t raw[16];
    Warren__GuestResume r = WARREN__GUEST_RESUME__INIT;
    Warren__GuestOpen m = WARREN__GUEST_OPEN__INIT;
    r.id = make_id(tag, raw);
    r.after_seq = after;
    m.what_case = WARREN__GUEST_OPEN__WHAT_RESUME;
    m.resume = &r;
    open_what(b, stream, &m);
    turn(b);
}

static void emit(struct agent_exec *e, size_t n)
{
    Warren__GuestEvent ev = WARREN__GUEST_EVENT__INIT;
    uint8_t *data = calloc(1, n + 1);
    ev.kind = WARREN__EVENT_KIND__EVENT_STDOUT;
    ev.data.data = data;
    ev.data.len = n;
    CHECK_EQ(agent_exec_emit(e, &ev), 0);
    free(data);
}

static void finish(struct agent_exec *e)
{
    Warren__GuestDone done = WARREN__GUEST_DONE__INIT;
    done.status = WARREN__DONE_STATUS__DONE_OK;
    agent_exec_finish(e, &done);
}

static void expect_event(struct bench *b, uint32_t stream, uint64_t seq)
{
    struct proto_frame f;
    CHECK(next(b, &f));
    CHECK_EQ(f.type, PROTO_FRAME_EVENT);
    CHECK_EQ(f.stream, stream);
    Warren__GuestEvent *ev = warren__guest_event__unpack(NULL, f.len, f.payload);
    CHECK_EQ(ev->seq, seq);
    warren__guest_event__free_unpacked(ev, NULL);
}

TEST(events_are_numbered_sent_and_followed_by_fin)
{
    struct bench *b = make();
    struct agent_exec *e = start(b, 1, 1);
    CHECK(e != NULL && base_buf_size(&e->code) == 4);
    agent_exec_start(e);
    emit(e, 5);
    turn(b);
    expect_event(b, 1, 1);
    finish(e);
    turn(b);
    expect_event(b, 1, 2);
    expect(b, PROTO_FRAME_FIN, 1);
    CHECK(e->first != NULL); /* not acknowledged yet */
    drop(b);
}

TEST(an_event_longer_than_a_frame_is_cut)
{
    struct bench *b = make();
    struct agent_exec *e = start(b, 1, 1);
    agent_exec_start(e);
    emit(e, 2 * PROTO_FRAME_PAYLOAD_MAX);
    turn(b);
    expect(b, PROTO_FRAME_EVENT_MORE, 1);
    expect(b, PROTO_FRAME_EVENT_MORE, 1);
    expect(b, PROTO_FRAME_EVENT, 1);
    drop(b);
}

TEST(an_event_over_the_limit_is_left_out_and_takes_no_number)
{
    struct bench *b = make();
    struct agent_exec *e = start(b, 1, 1);
    agent_exec_start(e);
    Warren__GuestEvent ev = WARREN__GUEST_EVENT__INIT;
    ev.data.len = PROTO_EVENT_BYTES_MAX + 1;
    ev.data.data = calloc(1, ev.data.len);
    CHECK_EQ(agent_exec_emit(e, &ev), BASE_ETOOBIG);
    free(ev.data.data);
    CHECK_EQ(e->seq, 0);
    drop(b);
}

TEST(acknowledged_events_go_and_the_window_opens)
{
    struct bench *b = make();
    struct agent_exec *e = start(b, 1, 1);
    uint8_t raw[16];
    ProtobufCBinaryData id = make_id(1, raw);
    agent_exec_start(e);
    while (agent_exec_window(e)) {
        emit(e, 16 << 10);
    }
    CHECK(e->kept_bytes >= PROTO_EVENT_WINDOW && e->kept_bytes < PROTO_EVENT_WINDOW + (17 << 10));
    turn(b);
    agent_execs_ack(&b->execs, &id, e->seq + 1); /* was never sent: ignored */
    CHECK_EQ(b->acked, 0);
    agent_execs_ack(&b->execs, &id, e->seq - 1);
    CHECK_EQ(b->acked, 1);
    CHECK(agent_exec_window(e));
    CHECK(e->first == e->last && e->first->seq == e->seq);
    agent_execs_ack(&b->execs, &id, 1); /* older than the last one */
    CHECK_EQ(b->acked, 1);
    drop(b);
}

TEST(an_acknowledgement_in_the_middle_of_a_resent_event_does_not_mix_two_events)
{
    struct bench *b = make();
    struct agent_exec *e = start(b, 1, 1);
    uint8_t raw[16];
    ProtobufCBinaryData id = make_id(1, raw);
    agent_exec_start(e);
    emit(e, 3 * PROTO_FRAME_PAYLOAD_MAX);
    emit(e, 1);
    CHECK(agent_streams_pull(&b->streams)); /* the first piece is out */
    agent_execs_ack(&b->execs, &id, 2);
    turn(b);
    for (int i = 0; i < 3; i++) {
        expect(b, PROTO_FRAME_EVENT_MORE, 1);
    }
    expect(b, PROTO_FRAME_EVENT, 1);
    struct proto_frame f;
    while (next(b, &f)) {
        CHECK_EQ(f.type, PROTO_FRAME_EVENT);
    }
    CHECK(e->first == NULL && e->kept_bytes == 0 && b->execs.event_bytes == 0);
    drop(b);
}

TEST(resume_sends_what_follows_the_number)
{
    struct bench *b = make();
    struct agent_exec *e = start(b, 1, 1);
    agent_exec_start(e);
    emit(e, 1);
    emit(e, 2);
    turn(b);
    attach(b);
    CHECK(e->stream == NULL);
    emit(e, 3);
    resume(b, 1, 1, 1);
    expect_event(b, 1, 2);
    expect_event(b, 1, 3);
    finish(e);
    turn(b);
    expect_event(b, 1, 4);
    expect(b, PROTO_FRAME_FIN, 1);
    resume(b, 2, 1, 4);
    expect(b, PROTO_FRAME_FIN, 2);
    resume(b, 3, 1, 5);
    expect(b, PROTO_FRAME_RST, 3);
    resume(b, 4, 9, 0);
    expect(b, PROTO_FRAME_RST, 4);
    drop(b);
}

TEST(an_id_runs_once_even_when_it_was_forgotten)
{
    struct bench *b = make();
    uint8_t raw[16];
    ProtobufCBinaryData id = make_id(1, raw);
    struct agent_exec *e = start(b, 1, 1);
    CHECK(start(b, 2, 1) == NULL);
    expect(b, PROTO_FRAME_RST, 2);
    agent_exec_start(e);
    agent_execs_forget(&b->execs, &id); /* it runs on, unheard */
    emit(e, 100);
    CHECK(e->first == NULL);
    CHECK(agent_exec_window(e));
    finish(e);
    CHECK_EQ(b->execs.count, 0);
    turn(b);
    base_buf_clear(&b->in);
    CHECK(start(b, 3, 1) == NULL);
    expect(b, PROTO_FRAME_RST, 3);
    drop(b);
}

TEST(code_that_breaks_off_was_never_sent)
{
    struct bench *b = make();
    uint8_t raw[16];
    Warren__GuestExec x = WARREN__GUEST_EXEC__INIT;
    Warren__GuestOpen m = WARREN__GUEST_OPEN__INIT;
    x.id = make_id(1, raw);
    x.kernel = WARREN__KERNEL__KERNEL_PYTHON;
    m.what_case = WARREN__GUEST_OPEN__WHAT_EXEC;
    m.exec = &x;
    open_what(b, 1, &m);
    send_frame(b, PROTO_FRAME_DATA, 1, "half", 4);
    turn(b);
    CHECK_EQ(b->execs.count, 1);
    attach(b);
    CHECK_EQ(b->execs.count, 0);
    CHECK_EQ(b->execs.code_bytes, 0);
    CHECK_EQ(b->execs.waiting, 0);
    CHECK(start(b, 1, 1) != NULL);
    drop(b);
}

TEST(a_hidden_execution_is_not_held_after_its_end)
{
    struct bench *b = make();
    uint8_t raw[16];
    Warren__GuestExec x = WARREN__GUEST_EXEC__INIT;
    Warren__GuestOpen m = WARREN__GUEST_OPEN__INIT;
    b->execs.refuse_visible = true;
    CHECK(start(b, 1, 1) == NULL);
    expect(b, PROTO_FRAME_RST, 1);
    x.id = make_id(2, raw);
    x.kernel = WARREN__KERNEL__KERNEL_PYTHON;
    x.hidden = 1;
    m.what_case = WARREN__GUEST_OPEN__WHAT_EXEC;
    m.exec = &x;
    open_what(b, 2, &m);
    send_frame(b, PROTO_FRAME_FIN, 2, NULL, 0);
    turn(b);
    agent_exec_start(b->submitted);
    finish(b->submitted);
    turn(b);
    expect_event(b, 2, 1);
    expect(b, PROTO_FRAME_FIN, 2);
    CHECK_EQ(b->execs.count, 0);
    drop(b);
}

TEST(an_answer_to_ping_overtakes_what_is_queued)
{
    struct bench *b = make();
    struct agent_exec *e = start(b, 1, 1);
    agent_exec_start(e);
    agent_port_send(&b->port, PROTO_FRAME_RESULT, 7, "queued", 6);
    send_frame(b, PROTO_FRAME_PING, 3, "payload", 7);
    turn(b);
    struct proto_frame f;
    CHECK(next(b, &f));
    CHECK_EQ(f.type, PROTO_FRAME_PONG);
    CHECK(f.len == 7 && memcmp(f.payload, "payload", 7) == 0);
    expect(b, PROTO_FRAME_RESULT, 7);
    drop(b);
}

TEST(credit_is_given_back_and_not_overrun)
{
    struct bench *b = make();
    uint8_t raw[16], data[PROTO_FRAME_PAYLOAD_MAX] = {0};
    Warren__GuestExec x = WARREN__GUEST_EXEC__INIT;
    Warren__GuestOpen m = WARREN__GUEST_OPEN__INIT;
    x.id = make_id(1, raw);
    x.kernel = WARREN__KERNEL__KERNEL_PYTHON;
    m.what_case = WARREN__GUEST_OPEN__WHAT_EXEC;
    m.exec = &x;
    open_what(b, 1, &m);
    turn(b);
    size_t sent = 0, back = 0;
    for (int i = 0; i < 40; i++) {
        send_frame(b, PROTO_FRAME_DATA, 1, data, sizeof data);
        sent += sizeof data;
        turn(b);
        struct proto_frame f;
        while (next(b, &f)) {
            CHECK_EQ(f.type, PROTO_FRAME_CREDIT);
            back += proto_frame_u32(f.payload);
        }
        CHECK(sent - back < PROTO_FRAME_STREAM_WINDOW);
    }
    CHECK_EQ(b->execs.code_bytes, sent);
    uint8_t more[4];
    proto_frame_put_u32(more, 1); /* credit that was never used */
    send_frame(b, PROTO_FRAME_CREDIT, 1, more, 4);
    turn(b);
    expect(b, PROTO_FRAME_RST, 1);
    CHECK_EQ(b->execs.count, 0);
    drop(b);
}

static void nothing(struct agent_timer *t)
{
    (void)t;
}

TEST(time_that_the_microvm_was_frozen_counts_for_no_timer)
{
    struct agent_loop l = {.epoll_fd = -1};
    struct agent_timer limit = {.at_ns = 105 * BASE_NS_PER_S, .fired = nothing}, off = {0};
    agent_loop_timer_add(&l, &limit);
    agent_loop_timer_add(&l, &off);
    agent_loop_awake(&l, 100 * BASE_NS_PER_S); /* the first time */
    CHECK_EQ(limit.at_ns, 105 * BASE_NS_PER_S);
    agent_loop_awake(&l, 101 * BASE_NS_PER_S); /* busy for a second: that is the guest's own time */
    CHECK_EQ(limit.at_ns, 105 * BASE_NS_PER_S);
    l.rest_ns = BASE_NS_PER_S;
    agent_loop_awake(&l, 103 * BASE_NS_PER_S); /* woke up a second late: as emulation does */
    CHECK_EQ(limit.at_ns, 105 * BASE_NS_PER_S);
    l.rest_ns = BASE_NS_PER_S;
    agent_loop_awake(&l, 164 * BASE_NS_PER_S); /* a minute late */
    CHECK_EQ(limit.at_ns, 165 * BASE_NS_PER_S);
    CHECK_EQ(off.at_ns, 0);
}

static struct agent_loop turning;
static struct agent_timer limited;
static bool fired;

static void on_limited(struct agent_timer *t)
{
    (void)t;
    fired = true;
}

/* The microVM is frozen for ten seconds in here, with four of the limit left. */
static void frozen_inside(struct agent_watch *w, uint32_t events)
{
    (void)events;
    uint64_t now = base_clock_mono_ns();
    turning.seen_ns = now - 10 * BASE_NS_PER_S;
    limited.at_ns = now - 6 * BASE_NS_PER_S;
    agent_loop_remove(&turning, w);
}

TEST(a_freeze_while_something_is_served_fires_no_timer_of_that_turn)
{
    int fds[2];
    CHECK_EQ(agent_loop_init(&turning), 0);
    CHECK_EQ(pipe(fds), 0);
    CHECK_EQ(write(fds[1], "x", 1), 1);
    struct agent_watch w = {.fd = -1, .ready = frozen_inside};
    CHECK_EQ(agent_loop_add(&turning, &w, fds[0], EPOLLIN), 0);
    limited = (struct agent_timer){.fired = on_limited};
    agent_loop_timer_add(&turning, &limited);
    agent_loop_turn(&turning);
    CHECK(!fired);
    CHECK(limited.at_ns > base_clock_mono_ns());
    limited.at_ns = 1; /* long due */
    agent_loop_turn(&turning);
    CHECK(fired);
    agent_loop_deinit(&turning);
    (void)close(fds[0]);
    (void)close(fds[1]);
}
