#pragma once
#include <stdint.h>
#include <string.h>

/* Memory of a core: one block of the caller, carved once in init. With base NULL nothing is carved
 * and `used` tells how much a block must have; so the size and the carving cannot disagree. */
struct sched_mem {
    uint8_t *base; /* aligned to 16 bytes */
    size_t size;
    size_t used;
};

/* n zeroed elements, aligned to 16 bytes; NULL when only counting or when the block is too small
 * (then used > size). */
static inline void *sched_mem_take(struct sched_mem *m, size_t n, size_t element)
{
    size_t at = m->used, len = (n * element + 15) & ~(size_t)15;
    m->used = at + len;
    if (m->base == NULL || m->used > m->size) {
        return NULL;
    }
    memset(m->base + at, 0, len);
    return m->base + at;
}
