#include "proto/frame.h"

#include <string.h>

#include "proto/base/assert.h"

enum { MAGIC = 0xA5 };

int proto_frame_next(const uint8_t *data, size_t n, struct proto_frame *f, size_t *used)
{
    size_t i = 0;
    while (i < n) {
        if (data[i] != MAGIC) {
            const uint8_t *m = memchr(data + i, MAGIC, n - i);
            i = m == NULL ? n : (size_t)(m - data);
            continue;
        }
        if (n - i < PROTO_FRAME_HEAD) {
            break;
        }
        const uint8_t *h = data + i;
        uint16_t len = (uint16_t)(h[2] | h[3] << 8);
        if (h[1] == 0 || h[1] >= PROTO_FRAME_TYPE_END || len > PROTO_FRAME_PAYLOAD_MAX) {
            i++;
            continue;
        }
        if (n - i < PROTO_FRAME_HEAD + (size_t)len) {
            break;
        }
        *f = (struct proto_frame){
            .type = (enum proto_frame_type)h[1],
            .stream = proto_frame_u32(h + 4),
            .payload = h + PROTO_FRAME_HEAD,
            .len = len,
        };
        *used = i + PROTO_FRAME_HEAD + len;
        return 1;
    }
    *used = i;
    return 0;
}

void proto_frame_head(
    uint8_t out[PROTO_FRAME_HEAD], enum proto_frame_type type, uint32_t stream, uint16_t len)
{
    REQUIRE(len <= PROTO_FRAME_PAYLOAD_MAX);
    out[0] = MAGIC;
    out[1] = (uint8_t)type;
    out[2] = (uint8_t)len;
    out[3] = (uint8_t)(len >> 8);
    proto_frame_put_u32(out + 4, stream);
}
