#pragma once
#include <stddef.h>
#include <stdint.h>

/* Growing byte buffer with a read position. Zero value is an empty buffer. */
struct base_buf {
    uint8_t *p;
    size_t off; /* first unread byte */
    size_t len; /* end of the data; off <= len <= cap */
    size_t cap;
};

/* Unread bytes. */
static inline size_t base_buf_size(const struct base_buf *b)
{
    return b->len - b->off;
}

static inline uint8_t *base_buf_data(const struct base_buf *b)
{
    return b->p == NULL ? NULL : b->p + b->off;
}

/* Room for n bytes at the end; NULL when memory is out. Pointers into the buffer become invalid.
 * Say how many were written with base_buf_grow(). */
uint8_t *base_buf_room(struct base_buf *b, size_t n);
void base_buf_grow(struct base_buf *b, size_t n);

/* 0 or BASE_ENOMEM (then nothing was added). */
int base_buf_add(struct base_buf *b, const void *data, size_t n);
int base_buf_printf(struct base_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Drops n unread bytes from the front. */
void base_buf_consume(struct base_buf *b, size_t n);

void base_buf_clear(struct base_buf *b);  /* keeps the memory */
void base_buf_deinit(struct base_buf *b); /* frees it; the buffer is empty and usable again */
