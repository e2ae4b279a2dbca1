#pragma once
#include <stddef.h>
#include <stdint.h>

/* Bytes decoded into to, which has room for 3 * n / 4 + 1; -1 when the text is not base64. Padding
 * may be left out. */
ptrdiff_t gw_base64_decode(const char *text, size_t n, uint8_t *to);
