#pragma once
#include <stddef.h>
#include <stdint.h>

/* Sizes of the parts of a core's block. */

/* A power of two for a hash table of n places; at least 16. */
static inline uint32_t worker_size_buckets(uint32_t n)
{
    uint32_t b = 16;
    while (b < n) {
        b *= 2;
    }
    return b;
}

static inline size_t worker_size_aligned(size_t n)
{
    return (n + 7) & ~(size_t)7;
}
