#pragma once
#include <stddef.h>
#include <stdint.h>

#include "proto/limits.h"

/* Framing of the guest channel: two virtio-serial ports ("warren.ctl", "warren.bulk"), each a byte
 * pipe that may start in the middle of a frame after a reconnect. Protocol: proto/GUEST.md.
 *
 *     u8 magic 0xA5 | u8 type | u16 len | u32 stream | len bytes      (little endian)
 *
 * A zero byte where a magic is expected is padding. */
enum proto_frame_type {
    PROTO_FRAME_HELLO = 1,  /* both: 8-byte nonce, then (guest) a GuestHello */
    PROTO_FRAME_OPEN,       /* host: GuestOpen; starts the stream */
    PROTO_FRAME_DATA,       /* both: bytes of the stream, under credit */
    PROTO_FRAME_FIN,        /* both: no more DATA from this side */
    PROTO_FRAME_RST,        /* both: i32 code (enum base_err), then text; the stream is gone */
    PROTO_FRAME_CREDIT,     /* both: u32 bytes that were consumed and may be sent again */
    PROTO_FRAME_EVENT,      /* guest: last or only part of a GuestEvent */
    PROTO_FRAME_EVENT_MORE, /* guest: a part of a GuestEvent, more follows */
    PROTO_FRAME_RESULT,     /* guest: GuestResult of a file operation */
    PROTO_FRAME_CALL,       /* host: GuestCall; stream is the call's number */
    PROTO_FRAME_REPLY,      /* guest: GuestReply to the call of that number */
    PROTO_FRAME_PING,       /* host: any payload; answered before anything else queued */
    PROTO_FRAME_PONG,       /* guest: the same payload */
    PROTO_FRAME_TYPE_END,
};

struct proto_frame {
    enum proto_frame_type type;
    uint32_t stream;
    const uint8_t *payload; /* into the caller's bytes */
    uint16_t len;
};

/* Looks for the next frame in n bytes. Returns 1 with *f set, or 0 when more bytes are needed.
 * *used is how many bytes to drop from the front in both cases (padding and damaged bytes included;
 * on 1 the frame itself too, so use *f first). Never fails: what is not a frame is skipped. */
int proto_frame_next(const uint8_t *data, size_t n, struct proto_frame *f, size_t *used);

/* Writes the 8 bytes in front of a payload. len <= PROTO_FRAME_PAYLOAD_MAX. */
void proto_frame_head(
    uint8_t out[PROTO_FRAME_HEAD], enum proto_frame_type type, uint32_t stream, uint16_t len);

static inline uint32_t proto_frame_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline void proto_frame_put_u32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
    p[2] = (uint8_t)(v >> 16);
    p[3] = (uint8_t)(v >> 24);
}
