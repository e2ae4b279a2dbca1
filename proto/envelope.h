#pragma once
#include <stddef.h>
#include <stdint.h>

/* The 40 bytes in front of every message between gateway and worker; its body follows them. A
 * ZeroMQ frame has one message or more, one behind the other. Little endian. Order, credit and
 * retries: proto/WIRE.md. Version 1 had envelope and body in two frames. */
enum { PROTO_ENVELOPE_BYTES = 40, PROTO_ENVELOPE_VERSION = 2 };

enum proto_envelope_type {
    PROTO_ENVELOPE_REQ = 1, /* gateway: body Request */
    PROTO_ENVELOPE_HEAD,    /* worker: body Reply; accepted, more follows */
    PROTO_ENVELOPE_EVENT,   /* worker: body GuestEvent */
    PROTO_ENVELOPE_CHUNK,   /* both: body bytes of a file; seq counts from 0 */
    PROTO_ENVELOPE_CREDIT,  /* both: seq = how much more may be sent (chunks, or bytes of events) */
    PROTO_ENVELOPE_END,     /* worker: body Reply; nothing follows for this corr */
    PROTO_ENVELOPE_RESET,   /* both: the exchange is given up; no answer */
    PROTO_ENVELOPE_PING,    /* gateway: answered by PONG with the worker's view */
    PROTO_ENVELOPE_PONG,
    PROTO_ENVELOPE_NODE, /* between the nodes of a cluster; stream = channel, corr = tag of the
                            sender's settings, see scheduler/io/mesh.h */
    PROTO_ENVELOPE_TYPE_END,
};

enum {
    PROTO_ENVELOPE_FIN = 1, /* flag of CHUNK: the last one (its body may be empty) */
};

struct proto_envelope {
    uint8_t version;
    enum proto_envelope_type type;
    uint16_t flags;
    uint64_t corr;        /* names the exchange; chosen by the gateway, never used twice */
    uint32_t view;        /* number of the sender's view */
    uint32_t deadline_ms; /* what is left; 0 = none. A duration: no clock crosses machines */
    uint32_t stream;
    uint32_t seq;
    uint32_t body_bytes;
};

void proto_envelope_encode(const struct proto_envelope *e, uint8_t out[PROTO_ENVELOPE_BYTES]);

/* Returns 0, BASE_EBADMSG (wrong size, magic, type or reserved bits) or BASE_EVERSION. */
int proto_envelope_decode(const uint8_t *data, size_t n, struct proto_envelope *ret);

/* Takes the next message off a frame: the frame is behind it then, *ret_body points into it. As
 * proto_envelope_decode(); BASE_EBADMSG too when the body is not whole. On an error nothing more
 * can be taken. */
struct proto_envelope_frame {
    const uint8_t *data;
    size_t n;
};
int proto_envelope_next(
    struct proto_envelope_frame *frame, struct proto_envelope *ret, const uint8_t **ret_body);
