#include "proto/base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/assert.h"
#include "proto/base/err.h"

uint8_t *base_buf_room(struct base_buf *b, size_t n)
{
    if (b->off == b->len) {
        b->off = b->len = 0;
    }
    if (b->cap - b->len >= n && b->p != NULL) {
        return b->p + b->len;
    }
    if (b->off > 0 && b->p != NULL) {
        memmove(b->p, b->p + b->off, b->len - b->off);
        b->len -= b->off;
        b->off = 0;
    }
    if (b->cap - b->len < n || b->p == NULL) {
        size_t cap = b->cap == 0 ? 512 : b->cap;
        while (cap - b->len < n) {
            if (cap > SIZE_MAX / 2) {
                return NULL;
            }
            cap *= 2;
        }
        uint8_t *p = realloc(b->p, cap);
        if (p == NULL) {
            return NULL;
        }
        b->p = p;
        b->cap = cap;
    }
    return b->p + b->len;
}

void base_buf_grow(struct base_buf *b, size_t n)
{
    REQUIRE(b->cap - b->len >= n);
    b->len += n;
}

int base_buf_add(struct base_buf *b, const void *data, size_t n)
{
    if (n == 0) {
        return 0;
    }
    uint8_t *p = base_buf_room(b, n);
    if (p == NULL) {
        return BASE_ENOMEM;
    }
    memcpy(p, data, n);
    b->len += n;
    return 0;
}

int base_buf_printf(struct base_buf *b, const char *fmt, ...)
{
    va_list ap;
    uint8_t *p = base_buf_room(b, 1);
    if (p == NULL) {
        return BASE_ENOMEM;
    }
    size_t room = b->cap - b->len;
    va_start(ap, fmt);
    int n = vsnprintf((char *)p, room, fmt, ap);
    va_end(ap);
    if (n < 0) {
        return BASE_EINVAL;
    }
    if ((size_t)n >= room) { /* once more, with room for all of it */
        p = base_buf_room(b, (size_t)n + 1);
        if (p == NULL) {
            return BASE_ENOMEM;
        }
        va_start(ap, fmt);
        (void)vsnprintf((char *)p, (size_t)n + 1, fmt, ap);
        va_end(ap);
    }
    b->len += (size_t)n;
    return 0;
}

void base_buf_consume(struct base_buf *b, size_t n)
{
    REQUIRE(n <= b->len - b->off);
    b->off += n;
    if (b->off == b->len) {
        b->off = b->len = 0;
    }
}

void base_buf_clear(struct base_buf *b)
{
    b->off = b->len = 0;
}

void base_buf_deinit(struct base_buf *b)
{
    free(b->p);
    *b = (struct base_buf){0};
}
