#pragma once
#include <stddef.h>
#include <stdint.h>

/* What goes to a terminal in a microVM, as a stream of records: kind, length (little endian), that
 * many bytes. What comes from it is the screen's bytes as they are. */
enum proto_terminal_kind {
    PROTO_TERMINAL_INPUT = 1, /* bytes as a keyboard gives them */
    PROTO_TERMINAL_SIZE = 2,  /* columns and rows, two bytes each, little endian */
};

enum {
    PROTO_TERMINAL_HEAD = 3,
    PROTO_TERMINAL_INPUT_MAX = 2048, /* bytes of one record */
    PROTO_TERMINAL_SIZE_BYTES = 4,
    PROTO_TERMINAL_CELLS_MAX = 1000, /* columns, rows */
};

static inline void proto_terminal_head(uint8_t *p, enum proto_terminal_kind kind, size_t n)
{
    p[0] = (uint8_t)kind;
    p[1] = (uint8_t)n;
    p[2] = (uint8_t)(n >> 8);
}

static inline size_t proto_terminal_u16(const uint8_t *p)
{
    return (size_t)p[0] | (size_t)p[1] << 8;
}

static inline void proto_terminal_size(uint8_t *p, unsigned columns, unsigned rows)
{
    proto_terminal_head(p, PROTO_TERMINAL_SIZE, PROTO_TERMINAL_SIZE_BYTES);
    p[3] = (uint8_t)columns;
    p[4] = (uint8_t)(columns >> 8);
    p[5] = (uint8_t)rows;
    p[6] = (uint8_t)(rows >> 8);
}
