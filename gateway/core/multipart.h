#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Streaming multipart/form-data (RFC 7578), pulled: give it bytes, get one event at a time. Bytes
 * may be cut anywhere; the data that comes out is the same. Bounded: no allocation, no unbounded
 * state. */
enum {
    GW_MULTIPART_HEAD_MAX = 8 << 10,
    GW_MULTIPART_PARTS_MAX = 128,
    GW_MULTIPART_NAME_MAX = 1024
};

enum gw_multipart_event {
    GW_MULTIPART_MORE, /* all bytes are used; give more */
    GW_MULTIPART_PART, /* a part begins: name, filename */
    GW_MULTIPART_DATA, /* data, data_n: bytes of the part */
    GW_MULTIPART_PART_END,
    GW_MULTIPART_END, /* the last delimiter; the rest is padding */
    GW_MULTIPART_BAD,
};

struct gw_multipart {
    char delimiter[80]; /* CR LF - - boundary */
    uint8_t delimiter_n;
    uint8_t matched; /* bytes of the delimiter seen */
    uint8_t state;
    uint16_t head_n, parts;
    char head[GW_MULTIPART_HEAD_MAX];
    char name[GW_MULTIPART_NAME_MAX];     /* of the part; "" when it has none */
    char filename[GW_MULTIPART_NAME_MAX]; /* of the part; "" when it has none */
    const uint8_t *data;                  /* valid until the bytes given are */
    size_t data_n;
};

/* content_type: the request's. False when it is not multipart/form-data with a usable boundary. */
bool gw_multipart_init(struct gw_multipart *m, const char *content_type);

/* *used: how many of the n bytes are done with. Call again with the rest until MORE, END or BAD. */
enum gw_multipart_event gw_multipart_next(
    struct gw_multipart *m, const uint8_t *p, size_t n, size_t *used);

/* True when the end delimiter has been seen. */
bool gw_multipart_complete(const struct gw_multipart *m);
