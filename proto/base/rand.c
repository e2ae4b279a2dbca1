#include "proto/base/rand.h"

#include <errno.h>
#include <sys/random.h>

#include "proto/base/assert.h"

void base_rand_bytes(void *out, size_t n)
{
    uint8_t *p = out;
    while (n > 0) {
        ssize_t r = getrandom(p, n, 0);
        REQUIRE(r > 0 || errno == EINTR);
        if (r > 0) {
            p += r;
            n -= (size_t)r;
        }
    }
}

uint64_t base_rand_u64(void)
{
    uint64_t v;
    base_rand_bytes(&v, sizeof v);
    return v;
}
