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

/* Sends the response's head. */
void gw_stream_begin(struct gw_stream *s);

void gw_stream_event(struct gw_stream *s, const Warren__GuestEvent *e, uint32_t bytes);
void gw_stream_drain(struct gw_stream *s);

/* Ends the stream; fault (may be NULL) becomes its last event. */
void gw_stream_end(struct gw_stream *s, const struct gw_fault *fault);

void gw_stream_deinit(struct gw_stream *s);
