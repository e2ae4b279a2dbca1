#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/guest.pb-c.h"
#include "proto/limits.h"
#include "worker/guest/idset.h"
#include "worker/guest/stream.h"

/* Executions as the host sees them: code comes in, numbered events go out and are kept until the
 * host has acknowledged them. Who runs the code is behind agent_execs_ops. */

/*   RECEIVING --code complete--> QUEUED --its turn--> RUNNING --EVENT_DONE--> FINISHED
 *       |                          '------interrupted before its turn------------^
 *       '--connection lost: as if it had never been sent */
enum agent_exec_state {
    AGENT_EXEC_RECEIVING,
    AGENT_EXEC_QUEUED,
    AGENT_EXEC_RUNNING,
    AGENT_EXEC_FINISHED,
};

struct agent_event {
    struct agent_event *next;
    uint64_t seq;
    size_t len;
    uint8_t bytes[]; /* serialised GuestEvent */
};

struct agent_execs;

struct agent_exec {
    struct agent_exec *next;        /* in the table, oldest first */
    struct agent_exec *next_queued; /* the runner's */
    struct agent_execs *table;
    enum agent_exec_state state;
    uint8_t id[PROTO_EXEC_ID_BYTES];
    Warren__Kernel kernel;
    bool fresh;
    bool hidden;
    bool forgotten; /* events are not kept any more */
    uint32_t timeout_ms;
    struct base_buf code;
    uint64_t started_ns; /* monotonic; 0 before its turn */

    uint64_t seq;   /* of the newest event */
    uint64_t acked; /* what the host has stored */
    struct agent_event *first, *last;
    size_t kept_bytes;

    struct agent_stream *stream; /* where events go, or NULL */
    struct agent_event *send;    /* next to be sent there */
    size_t send_off;             /* bytes of it that are sent */

    /* The runner's. */
    uint64_t out_max[2], out_kept[2], out_written[2]; /* stdout, stderr */
    int stop_reason; /* DONE_TIMEOUT or DONE_INTERRUPTED once asked to stop */
};

struct agent_execs_ops {
    void (*submit)(void *owner, struct agent_exec *e); /* the code is complete */
    void (*acked)(void *owner, struct agent_exec *e);  /* there may be room for events again */
};

struct agent_execs {
    const struct agent_execs_ops *ops;
    void *owner;
    struct agent_exec *first;
    struct agent_idset ran;
    int count;
    int waiting;         /* RECEIVING or QUEUED */
    size_t code_bytes;   /* of those */
    size_t event_bytes;  /* kept, all executions together */
    bool refuse_visible; /* no seed yet: only hidden executions may run */
};

void agent_execs_init(struct agent_execs *t, const struct agent_execs_ops *ops, void *owner);
void agent_execs_deinit(struct agent_execs *t);

/* OPEN{exec} and OPEN{resume} on a stream that was just opened; resets it when refused. */
void agent_execs_open(struct agent_execs *t, struct agent_stream *s, const Warren__GuestExec *m);
void agent_execs_resume(
    struct agent_execs *t, struct agent_stream *s, const Warren__GuestResume *m);

/* NULL when no such execution is held. */
struct agent_exec *agent_execs_find(const struct agent_execs *t, const ProtobufCBinaryData *id);
void agent_execs_ack(struct agent_execs *t, const ProtobufCBinaryData *id, uint64_t seq);
void agent_execs_forget(struct agent_execs *t, const ProtobufCBinaryData *id);

/* True when one is queued or runs. */
bool agent_execs_busy(const struct agent_execs *t);

/* True while the host has acknowledged enough for more output of e to be read. */
bool agent_exec_window(const struct agent_exec *e);

/* Its turn: the clock of the execution starts. */
void agent_exec_start(struct agent_exec *e);

/* Numbers, stamps, serialises and keeps an event. ev is not changed and not kept. An event over
 * PROTO_EVENT_BYTES_MAX is left out: BASE_ETOOBIG. 0 or BASE_ENOMEM. */
int agent_exec_emit(struct agent_exec *e, const Warren__GuestEvent *ev);

/* The same for EVENT_DONE; e is FINISHED afterwards and may even be freed when it was forgotten. */
void agent_exec_finish(struct agent_exec *e, const Warren__GuestDone *done);
