#pragma once
#include <ev.h>
#include <stdbool.h>

#include "gateway/core/fault.h"
#include "proto/session.pb-c.h"

/* The answer of a task as a stream of server-sent events, under back-pressure: events that the
 * client does not take stay at the worker. */
struct gw_task;

struct gw_stream {
    struct gw_task *t;
    ev_timer keepalive;
    uint32_t held; /* bytes of events that are not given back yet */
    bool begun;
};

void gw_stream_init(struct gw_stream *s, struct gw_task *t);

/* Sends the response's head: as Warren's own events, or with other content-type and cache-control.
 * Nothing when it was sent. */
void gw_stream_begin(struct gw_stream *s);
void gw_stream_begin_as(struct gw_stream *s, const char *type, const char *cache);

/* Sends b, which stands for an event of so many bytes at the worker. */
void gw_stream_send(struct gw_stream *s, const struct base_buf *b, uint32_t bytes);

void gw_stream_event(struct gw_stream *s, const Warren__GuestEvent *e, uint32_t bytes);
void gw_stream_drain(struct gw_stream *s);

/* Ends the stream; fault (may be NULL) becomes its last event. */
void gw_stream_end(struct gw_stream *s, const struct gw_fault *fault);

void gw_stream_deinit(struct gw_stream *s);
