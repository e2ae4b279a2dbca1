#include "gateway/core/json_view.h"

#include <string.h>

/* Every function here relies on gw_json_valid(), and still never reads past the view's end. */

static const char *skip_space(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')) {
        p++;
    }
    return p;
}

/* p is at the opening quote; behind the closing one. */
static const char *skip_string(const char *p, const char *end)
{
    for (p++; p < end && *p != '"'; p++) {
        p += *p == '\\' && p + 1 < end;
    }
    return p < end ? p + 1 : end;
}

static const char *skip_value(const char *p, const char *end)
{
    int depth = 0;
    while (p < end) {
        if (*p == '"') {
            p = skip_string(p, end);
        } else if (*p == '{' || *p == '[') {
            depth++;
            p++;
        } else if (*p == '}' || *p == ']') {
            depth--;
            p++;
        } else if (depth == 0) { /* a number or a word */
            while (p < end && strchr(",]} \t\r\n", *p) == NULL) {
                p++;
            }
        } else {
            p++;
            continue;
        }
        if (depth <= 0) {
            return p;
        }
    }
    return end;
}

struct gw_json_view gw_json_root(const void *text, size_t n)
{
    const char *end = (const char *)text + n, *p = skip_space(text, end);
    const char *q = skip_value(p, end);
    return (struct gw_json_view){p, (size_t)(q - p)};
}

char gw_json_kind(struct gw_json_view v)
{
    if (v.n == 0) {
        return '\0';
    }
    return v.p[0];
}

static bool same(const char *p, size_t n, const char *text)
{
    return strlen(text) == n && memcmp(p, text, n) == 0;
}

struct gw_json_view gw_json_member(struct gw_json_view v, const char *name)
{
    struct gw_json_view none = {NULL, 0};
    if (gw_json_kind(v) != '{') {
        return none;
    }
    const char *end = v.p + v.n;
    const char *p = skip_space(v.p + 1, end);
    while (p < end && *p == '"') {
        const char *key = p + 1;
        p = skip_string(p, end);
        size_t key_n = (size_t)(p - key) - 1;
        p = skip_space(p, end); /* the colon */
        p = skip_space(p + 1, end);
        const char *q = skip_value(p, end);
        if (same(key, key_n, name)) {
            return (struct gw_json_view){p, (size_t)(q - p)};
        }
        p = skip_space(q, end);
        p = p < end && *p == ',' ? skip_space(p + 1, end) : end;
    }
    return none;
}

bool gw_json_next(struct gw_json_view array, const char **at, struct gw_json_view *ret)
{
    if (gw_json_kind(array) != '[') {
        return false;
    }
    const char *end = array.p + array.n;
    const char *p = skip_space(*at == NULL ? array.p + 1 : *at, end);
    if (*at != NULL && p < end && *p == ',') {
        p = skip_space(p + 1, end);
    }
    if (p >= end || *p == ']') {
        return false;
    }
    *at = skip_value(p, end);
    *ret = (struct gw_json_view){p, (size_t)(*at - p)};
    return true;
}

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) - 'a' + 10;
}

static bool hex4(const char **p, const char *end, unsigned *ret)
{
    if (end - *p < 4) {
        return false;
    }
    for (*ret = 0, end = *p + 4; *p < end; (*p)++) {
        *ret = *ret << 4 | (unsigned)hex(**p);
    }
    return true;
}

/* The character of \uXXXX, or of two of them; 0 when it has none. */
static unsigned code_point(const char **p, const char *end)
{
    unsigned u = 0, low = 0;
    if (!hex4(p, end, &u) || (u >= 0xdc00 && u < 0xe000)) {
        return 0;
    }
    if (u < 0xd800 || u >= 0xe000) {
        return u;
    }
    if (end - *p < 6 || (*p)[0] != '\\' || (*p)[1] != 'u') {
        return 0;
    }
    *p += 2;
    return hex4(p, end, &low) && low >= 0xdc00 && low < 0xe000
               ? 0x10000 + ((u - 0xd800) << 10) + (low - 0xdc00)
               : 0;
}

static size_t put_utf8(unsigned u, char to[4])
{
    size_t n = u < 0x80 ? 1 : u < 0x800 ? 2 : u < 0x10000 ? 3 : 4;
    static const unsigned char first[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = n; i-- > 1; u >>= 6) {
        to[i] = (char)(0x80 | (u & 0x3f));
    }
    to[0] = (char)(first[n] | u);
    return n;
}

/* One escape behind the backslash: its bytes, 0 when it has no character. */
static size_t unescape(const char **p, const char *end, char to[4])
{
    static const char from[] = "\"\\/bfnrt", plain[] = "\"\\/\b\f\n\r\t";
    char c = *(*p)++;
    const char *simple = strchr(from, c);
    if (c == 'u') {
        unsigned u = code_point(p, end);
        return u == 0 ? 0 : put_utf8(u, to);
    }
    if (simple == NULL || c == '\0') {
        return 0;
    }
    to[0] = plain[simple - from];
    return 1;
}

bool gw_json_text(struct gw_json_view v, char *to, size_t cap)
{
    to[0] = '\0';
    if (gw_json_kind(v) != '"' || v.n < 2) {
        return false;
    }
    const char *p = v.p + 1, *end = v.p + v.n - 1;
    size_t n = 0;
    while (p < end) {
        char c[4] = {*p++};
        size_t len = c[0] != '\\' ? 1 : p < end ? unescape(&p, end, c) : 0;
        if (len == 0 || n + len >= cap) {
            to[0] = '\0';
            return false;
        }
        memcpy(to + n, c, len);
        n += len;
    }
    to[n] = '\0';
    return true;
}

bool gw_json_is(struct gw_json_view v, const char *text)
{
    return gw_json_kind(v) == '"' && v.n >= 2 && same(v.p + 1, v.n - 2, text);
}

bool gw_json_integer(struct gw_json_view v)
{
    size_t i = gw_json_kind(v) == '-';
    if (i >= v.n) {
        return false;
    }
    while (i < v.n && v.p[i] >= '0' && v.p[i] <= '9') {
        i++;
    }
    return i == v.n;
}
