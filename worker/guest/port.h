#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/frame.h"
#include "worker/guest/loop.h"

/* One end of a virtio-serial port: bytes to frames and back, attach by HELLO (proto/GUEST.md).
 * The device tells of a host that comes and goes only sometimes, so nothing here depends on it. */

struct agent_port;

struct agent_port_ops {
    /* A frame of an attached host, HELLO and PING excluded. The payload is valid during the call.
     */
    void (*frame)(struct agent_port *p, const struct proto_frame *f);
    /* The host of before is gone: forget its streams. */
    void (*detached)(struct agent_port *p);
    /* Serialises a GuestHello into out. */
    void (*hello)(struct agent_port *p, struct base_buf *out);
    /* Queues more frames of what is waiting to be sent; false when there was nothing. */
    bool (*pull)(struct agent_port *p);
};

struct agent_port {
    struct agent_watch watch;
    struct agent_watch accept; /* test mode: a listening socket in place of QEMU's */
    struct agent_loop *loop;
    const struct agent_port_ops *ops;
    const char *name;
    void *owner;
    int fd;
    bool is_socket;
    bool readable; /* may have more to read: the device tells once */
    bool blocked;  /* full, or no host: the device tells when that ends */
    bool attached; /* HELLO was answered and the host was not seen leaving since */
    struct base_buf rx;
    struct base_buf tx;
    size_t tx_partial; /* bytes left of the frame at the front of tx that is half written */
};

/* owner and ops must be set already. Takes fd over. 0 or -errno. */
int agent_port_open(struct agent_port *p, struct agent_loop *l, int fd);
void agent_port_close(struct agent_port *p);

/* Queues a frame; dropped when nobody is attached. len <= PROTO_FRAME_PAYLOAD_MAX. */
void agent_port_send(struct agent_port *p, enum proto_frame_type type, uint32_t stream,
    const void *payload, size_t len);

/* Bytes that are queued here and not yet with the device. */
static inline size_t agent_port_queued(const struct agent_port *p)
{
    return base_buf_size(&p->tx);
}

/* Reads and handles a bounded part of what has come. Called once per turn of the loop. */
void agent_port_read(struct agent_port *p);

/* Writes what can be written. Called once per turn of the loop, too. */
void agent_port_flush(struct agent_port *p);
