#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/frame.h"
#include "proto/limits.h"
#include "worker/guest/port.h"

/* The streams of one port: numbers, credit in both directions, ends. What a stream is for is in its
 * handler; the handler's task is told exactly once that the stream is gone. */

struct agent_stream;

struct agent_stream_ops {
    /* Bytes from the host; all of them are taken. NULL: none are expected. */
    void (*data)(struct agent_stream *s, const uint8_t *bytes, size_t n);
    bool paced; /* they are given back with agent_stream_consumed(), else at once */
    /* The host sends no more. */
    void (*fin)(struct agent_stream *s);
    /* Queues more frames; false when there is nothing to send now. */
    bool (*pull)(struct agent_stream *s);
    /* The stream ended in any way: complete, by RST of either side, or with its connection.
     * The task must not touch the stream afterwards. */
    void (*gone)(struct agent_stream *s);
};

struct agent_stream {
    uint32_t id; /* 0: free slot */
    bool fin_in;
    bool fin_out;
    uint32_t rx_left;     /* bytes the host may still send */
    uint32_t rx_consumed; /* and those it was not yet given back */
    uint32_t tx_left;     /* bytes we may still send */
    const struct agent_stream_ops *ops;
    struct agent_port *port;
    void *task;
};

struct agent_streams {
    struct agent_port *port;
    struct agent_stream slot[PROTO_GUEST_STREAMS_MAX];
    uint32_t last; /* highest number opened in this connection */
    int used_end;  /* slots behind this are free */
    int turn;      /* who is asked first for more to send */
};

void agent_streams_init(struct agent_streams *t, struct agent_port *p);

/* A free slot for the number in an OPEN frame, or NULL when the frame was refused with an RST.
 * The caller sets ops and task, or calls agent_stream_reset. */
struct agent_stream *agent_streams_open(struct agent_streams *t, uint32_t id);

/* DATA, FIN, RST and CREDIT of the host. Frames of unknown streams are ignored. */
void agent_streams_frame(struct agent_streams *t, const struct proto_frame *f);

/* The connection is gone and with it all streams. */
void agent_streams_detached(struct agent_streams *t);

/* Asks the streams in turn for more to send; false when none had something. */
bool agent_streams_pull(struct agent_streams *t);

/* Gives credit for n bytes of data() back. */
void agent_stream_consumed(struct agent_stream *s, size_t n);
/* Most bytes that agent_stream_data() takes now. */
size_t agent_stream_room(const struct agent_stream *s);
void agent_stream_data(struct agent_stream *s, const void *bytes, size_t n);
/* Any other frame of the stream. */
void agent_stream_frame(
    struct agent_stream *s, enum proto_frame_type type, const void *payload, size_t n);
/* Nothing more from us. The stream may be gone when this returns. */
void agent_stream_fin(struct agent_stream *s);
/* The same, and what the host still sends is of no interest: the stream is gone. */
void agent_stream_end(struct agent_stream *s);
/* Ends the stream with a reason: an enum base_err. It is gone when this returns. */
void agent_stream_reset(struct agent_stream *s, int code, const char *text);
/* RST for a number that has no stream. */
void agent_stream_refuse(struct agent_port *p, uint32_t id, int code, const char *text);
