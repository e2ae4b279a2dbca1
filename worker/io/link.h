#pragma once
#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/guest.pb-c.h"
#include "worker/io/engine.h"

/* Host side of the guest channel (proto/GUEST.md): two ports, attach by nonce, streams with credit,
 * calls. One link per microVM; it is not reused after on_lost. */
enum worker_link_port { WORKER_LINK_CTL, WORKER_LINK_BULK, WORKER_LINK_PORTS };

struct worker_link;

struct worker_link_events {
    void *user;
    /* Both ports answered our nonce. hello is valid during the call. */
    void (*attached)(void *user, const Warren__GuestHello *hello);
    /* A port closed or broke the protocol. Called once, from the loop; streams are still open (the
     * owner calls worker_link_deinit(), which closes them). */
    void (*lost)(void *user, const char *why);
};

typedef void worker_link_reply_fn(void *user, const Warren__GuestReply *reply);

enum { WORKER_LINK_CALLS_MAX = 8 };

struct worker_link {
    struct ev_loop *loop;
    struct worker_link_events events;
    ev_prepare cork; /* what a turn queues goes out in one write: one interrupt for the guest */
    struct worker_link_side {
        struct worker_link *link;
        ev_io io;
        int fd; /* owned, -1 when closed */
        bool attached;
        uint8_t nonce[8];
        uint32_t next_stream;
        struct base_buf in, out;
    } side[WORKER_LINK_PORTS];
    struct worker_stream *streams; /* list */
    struct worker_stream *trash;   /* freed when no callback is running */
    unsigned depth;                /* of running callbacks */
    bool lost;
    struct {
        uint32_t number; /* 0: free */
        worker_link_reply_fn *fn;
        void *user;
    } calls[WORKER_LINK_CALLS_MAX];
    uint32_t next_call;
    Warren__GuestHello *hello; /* of the control port, until both are attached */
};

/* Takes over both descriptors (connected, non-blocking) and begins to attach. resync: somebody else
 * was connected to this QEMU before, so complete a half frame first. */
int worker_link_init(struct worker_link *l, struct ev_loop *loop, const int fds[WORKER_LINK_PORTS],
    const struct worker_link_events *events, bool resync);

/* Closes ports and every stream (closed callback with BASE_ECLOSED). A zeroed link is fine. */
void worker_link_deinit(struct worker_link *l);

int worker_link_open(struct worker_link *l, const Warren__GuestOpen *open,
    const struct worker_stream_ops *ops, void *user, struct worker_stream **ret);

/* fn may be NULL for calls that have no reply. BASE_EFULL when too many wait. */
int worker_link_call(
    struct worker_link *l, const Warren__GuestCall *call, worker_link_reply_fn *fn, void *user);

/* The host has stored the events of an execution up to seq; it will not ask for any of it again. */
void worker_link_event_ack(struct worker_link *l, const uint8_t exec_id[16], uint64_t seq);
void worker_link_forget(struct worker_link *l, const uint8_t exec_id[16]);
