#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* HTTP/1 framing is where a proxy in front can be made to see other requests than we do. llhttp
 * parses; this refuses beforehand what llhttp's strict mode still accepts: HTTP/0.9 and versions
 * other than 1.0 and 1.1, Transfer-Encoding in 1.0 or next to Content-Length, repeated or decorated
 * Content-Length, several Hosts, double spaces, bare LF or CR, NUL and control bytes, folded lines,
 * oversized heads. Functions return 0 or the HTTP status to answer with before closing. */
enum {
    GW_H1_HEAD_MAX = 16 << 10,
    GW_H1_TARGET_MAX = 8 << 10,
    GW_H1_FIELDS_MAX = 64,
    GW_H1_CHUNK_LINE_MAX = 300, /* size in at most 12 digits, and extensions */
    GW_H1_TRAILERS_MAX = 8 << 10,
};

/* Finds the end of a head that may not be complete. *scan: bytes looked at before, 0 at first. Sets
 * *ret_len to the head's length with its empty line, or 0 when more bytes are needed. */
int gw_h1_guard_find(const uint8_t *p, size_t n, size_t *scan, size_t *ret_len);

/* What the head says about the body. */
struct gw_h1_facts {
    bool http10;
    bool chunked;
    int64_t content_length; /* -1: none */
};

/* Checks a complete head (n as found above). */
int gw_h1_guard_head(const uint8_t *p, size_t n, struct gw_h1_facts *ret);

/* The bytes of a chunked body between the data: sizes, extensions, trailers. Zero value to start.
 */
struct gw_h1_chunks {
    uint32_t line;  /* bytes in this line */
    uint32_t total; /* bytes since the last chunk's data */
    uint8_t last;
};

int gw_h1_guard_chunks(struct gw_h1_chunks *c, const uint8_t *p, size_t n);

/* Call when data of a chunk begins: framing before it was complete. */
void gw_h1_guard_chunk_data(struct gw_h1_chunks *c);
