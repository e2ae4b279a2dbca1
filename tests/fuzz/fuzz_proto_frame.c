/* The frame and envelope parsers: never outside the bytes, always forward. */
#include <stdlib.h>

#include "proto/envelope.h"
#include "proto/frame.h"
#include "proto/ids.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    size_t at = 0, used;
    struct proto_frame f;
    while (proto_frame_next(data + at, n - at, &f, &used) == 1) {
        if (used < PROTO_FRAME_HEAD || f.payload + f.len != data + at + used) {
            abort();
        }
        at += used;
    }
    if (at + used > n) {
        abort();
    }
    struct proto_envelope e;
    if (proto_envelope_decode(data, n, &e) == 0) {
        uint8_t again[PROTO_ENVELOPE_BYTES];
        proto_envelope_encode(&e, again);
    }
    struct proto_envelope_frame frame = {.data = data, .n = n};
    const uint8_t *body, *before = data;
    while (proto_envelope_next(&frame, &e, &body) == 0) {
        if (body != before + PROTO_ENVELOPE_BYTES || body + e.body_bytes != frame.data ||
            frame.data + frame.n != data + n) {
            abort();
        }
        before = frame.data;
    }
    struct proto_identifier id;
    (void)proto_identifier_set(&id, data, n);
    return 0;
}
