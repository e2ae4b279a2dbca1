#include "gateway/io/stream.h"

#include "gateway/core/sse.h"
#include "gateway/io/task.h"

#define KEEPALIVE_S 15.

static void write_out(struct gw_stream *s, const struct base_buf *b)
{
    (void)gw_exchange_write(s->t->x, base_buf_data(b), base_buf_size(b));
}

static void on_keepalive(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop;
    (void)revents;
    struct gw_stream *s = w->data;
    struct base_buf b = {0};
    if (s->held == 0 && gw_sse_keepalive(&b) == 0) { /* a client that does not read needs none */
        write_out(s, &b);
    }
    base_buf_deinit(&b);
}

void gw_stream_init(struct gw_stream *s, struct gw_task *t)
{
    s->t = t;
    s->held = 0;
    s->begun = false;
    ev_timer_init(&s->keepalive, on_keepalive, KEEPALIVE_S, KEEPALIVE_S);
    s->keepalive.data = s;
}

void gw_stream_begin_as(struct gw_stream *s, const char *type, const char *cache)
{
    if (s->begun || s->t->answered) {
        return;
    }
    s->begun = true;
    gw_fields_text(&s->t->fields, "content-type", type);
    gw_fields_text(&s->t->fields, "cache-control", cache);
    gw_fields_text(&s->t->fields, "x-accel-buffering", "no");
    gw_task_respond(s->t, 200, -1);
    ev_timer_start(gw_api_loop(s->t->api), &s->keepalive);
}

void gw_stream_begin(struct gw_stream *s)
{
    gw_stream_begin_as(s, "text/event-stream; charset=utf-8", "no-store");
}

void gw_stream_send(struct gw_stream *s, const struct base_buf *b, uint32_t bytes)
{
    if (gw_exchange_write(s->t->x, base_buf_data(b), base_buf_size(b)) < GW_EXCHANGE_OUT_HIGH) {
        gw_call_event_done(s->t->call, bytes);
    } else {
        s->held += bytes; /* given back in drain() */
    }
}

void gw_stream_event(struct gw_stream *s, const Warren__GuestEvent *e, uint32_t bytes)
{
    struct gw_event event;
    struct base_buf b = {0};
    gw_wire_event(e, &event);
    gw_stream_begin(s);
    if (gw_sse_event(&event, &b) == 0) {
        gw_stream_send(s, &b, bytes);
    } else {
        gw_exchange_abort(s->t->x); /* a stream with a hole would be a lie */
        gw_call_event_done(s->t->call, bytes);
    }
    base_buf_deinit(&b);
}

void gw_stream_drain(struct gw_stream *s)
{
    if (s->held > 0 && s->t->call != NULL) {
        gw_call_event_done(s->t->call, s->held);
    }
    s->held = 0;
}

void gw_stream_end(struct gw_stream *s, const struct gw_fault *fault)
{
    if (!s->begun) {
        return;
    }
    ev_timer_stop(gw_api_loop(s->t->api), &s->keepalive);
    if (fault != NULL) {
        struct base_buf b = {0};
        s->t->code = fault->code;
        if (gw_sse_fault(fault, s->t->trace, &b) == 0) {
            write_out(s, &b);
        }
        base_buf_deinit(&b);
    }
    gw_exchange_end(s->t->x);
}

void gw_stream_deinit(struct gw_stream *s)
{
    ev_timer_stop(gw_api_loop(s->t->api), &s->keepalive);
}
