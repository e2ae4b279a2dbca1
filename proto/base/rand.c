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

void base_rand_uuid(char text[BASE_TEXT_UUID_MAX])
{
    uint8_t raw[16];
    base_rand_bytes(raw, sizeof raw);
    base_rand_uuid_of(raw, text);
}

void base_rand_uuid_of(uint8_t raw[16], char text[BASE_TEXT_UUID_MAX])
{
    raw[6] = (uint8_t)((raw[6] & 0x0f) | 0x40); /* version 4 */
    raw[8] = (uint8_t)((raw[8] & 0x3f) | 0x80); /* the variant of the RFC */
    base_text_uuid(raw, text);
}
