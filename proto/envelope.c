#include "proto/envelope.h"

#include <string.h>

#include "proto/base/err.h"

/* 0 magic "WRN" 3 version | 4 type 5 zero 6 flags | 8 corr | 16 view | 20 deadline | 24 stream |
 * 28 seq | 32 body bytes | 36 zero */
static const uint8_t magic[3] = {'W', 'R', 'N'};

static void put(uint8_t *p, uint64_t v, int n)
{
    for (int i = 0; i < n; i++) {
        p[i] = (uint8_t)(v >> (8 * i));
    }
}

static uint64_t get(const uint8_t *p, int n)
{
    uint64_t v = 0;
    for (int i = n - 1; i >= 0; i--) {
        v = v << 8 | p[i];
    }
    return v;
}

void proto_envelope_encode(const struct proto_envelope *e, uint8_t out[PROTO_ENVELOPE_BYTES])
{
    memset(out, 0, PROTO_ENVELOPE_BYTES);
    memcpy(out, magic, sizeof magic);
    out[3] = PROTO_ENVELOPE_VERSION;
    out[4] = (uint8_t)e->type;
    put(out + 6, e->flags, 2);
    put(out + 8, e->corr, 8);
    put(out + 16, e->view, 4);
    put(out + 20, e->deadline_ms, 4);
    put(out + 24, e->stream, 4);
    put(out + 28, e->seq, 4);
    put(out + 32, e->body_bytes, 4);
}

int proto_envelope_decode(const uint8_t *data, size_t n, struct proto_envelope *ret)
{
    if (n != PROTO_ENVELOPE_BYTES || memcmp(data, magic, sizeof magic) != 0) {
        return BASE_EBADMSG;
    }
    if (data[3] != PROTO_ENVELOPE_VERSION) {
        return BASE_EVERSION;
    }
    if (data[4] == 0 || data[4] >= PROTO_ENVELOPE_TYPE_END || data[5] != 0) {
        return BASE_EBADMSG;
    }
    *ret = (struct proto_envelope){
        .version = data[3],
        .type = (enum proto_envelope_type)data[4],
        .flags = (uint16_t)get(data + 6, 2),
        .corr = get(data + 8, 8),
        .view = (uint32_t)get(data + 16, 4),
        .deadline_ms = (uint32_t)get(data + 20, 4),
        .stream = (uint32_t)get(data + 24, 4),
        .seq = (uint32_t)get(data + 28, 4),
        .body_bytes = (uint32_t)get(data + 32, 4),
    };
    return 0;
}

int proto_envelope_next(
    struct proto_envelope_frame *frame, struct proto_envelope *ret, const uint8_t **ret_body)
{
    if (frame->n < PROTO_ENVELOPE_BYTES) {
        return BASE_EBADMSG;
    }
    struct proto_envelope e;
    int rc = proto_envelope_decode(frame->data, PROTO_ENVELOPE_BYTES, &e);
    if (rc != 0) {
        return rc;
    }
    if (e.body_bytes > frame->n - PROTO_ENVELOPE_BYTES) {
        return BASE_EBADMSG;
    }
    *ret = e;
    *ret_body = frame->data + PROTO_ENVELOPE_BYTES;
    frame->data += PROTO_ENVELOPE_BYTES + e.body_bytes;
    frame->n -= PROTO_ENVELOPE_BYTES + e.body_bytes;
    return 0;
}
