#include "proto/base/text.h"

#include <string.h>

void base_text_hex(const void *data, size_t n, char *text)
{
    static const char digit[] = "0123456789abcdef";
    const uint8_t *p = data;
    for (size_t i = 0; i < n; i++) {
        text[2 * i] = digit[p[i] >> 4];
        text[2 * i + 1] = digit[p[i] & 15];
    }
    text[2 * n] = '\0';
}

void base_text_uuid(const uint8_t id[16], char text[BASE_TEXT_UUID_MAX])
{
    static const uint8_t parts[] = {4, 2, 2, 2, 6};
    size_t at = 0;
    for (size_t i = 0; i < sizeof parts; i++) {
        if (i > 0) {
            *text++ = '-';
        }
        base_text_hex(id + at, parts[i], text); /* its NUL is overwritten by the next part */
        text += (size_t)2 * parts[i];
        at += parts[i];
    }
}

static int nibble(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return -1;
}

bool base_text_unhex(const char *text, void *data, size_t n)
{
    if (strnlen(text, 2 * n + 1) != 2 * n) {
        return false;
    }
    uint8_t *p = data;
    for (size_t i = 0; i < n; i++) {
        int hi = nibble(text[2 * i]), lo = nibble(text[2 * i + 1]);
        if (hi < 0 || lo < 0) {
            return false;
        }
        p[i] = (uint8_t)(hi << 4 | lo);
    }
    return true;
}

bool base_text_copy(char *to, size_t cap, const char *from)
{
    size_t n = strnlen(from, cap);
    if (n == cap) {
        to[0] = '\0';
        return false;
    }
    memcpy(to, from, n + 1);
    return true;
}

/* Length of the UTF-8 sequence at p (at most n bytes), 0 when it is malformed. */
static size_t utf8_len(const uint8_t *p, size_t n)
{
    if (p[0] < 0x80) {
        return p[0] == 0 ? 0 : 1;
    }
    size_t len = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || len > n) {
        return 0;
    }
    uint8_t lo = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
    uint8_t hi = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
    if (p[1] < lo || p[1] > hi) {
        return 0;
    }
    for (size_t i = 2; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return len;
}

bool base_text_utf8(const void *data, size_t n)
{
    const uint8_t *p = data;
    while (n > 0) {
        size_t len = utf8_len(p, n);
        if (len == 0) {
            return false;
        }
        p += len;
        n -= len;
    }
    return true;
}
