#include "gateway/core/base64.h"

#include <string.h>

static int digit(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *p = c == '\0' ? NULL : strchr(digits, c);
    return p == NULL ? -1 : (int)(p - digits);
}

ptrdiff_t gw_base64_decode(const char *text, size_t n, uint8_t *to)
{
    size_t out = 0;
    unsigned bits = 0;
    if (n >= 4 && n % 4 == 0 && text[n - 1] == '=') {
        n -= text[n - 2] == '=' ? 2 : 1;
    }
    if (n % 4 == 1) {
        return -1;
    }
    for (size_t i = 0; i < n; i++) {
        int v = digit(text[i]);
        if (v < 0) {
            return -1;
        }
        bits = bits << 6 | (unsigned)v;
        if (i % 4 != 0) {
            to[out++] = (uint8_t)(bits >> (6 - 2 * (i % 4)));
        }
    }
    return (ptrdiff_t)out;
}
