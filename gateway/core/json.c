#include "gateway/core/json.h"

#include <string.h>

#include "proto/base/err.h"
#include "proto/base/text.h"

/* ---- writing ---- */

static int put_escape(struct base_buf *b, unsigned char c)
{
    static const char digits[] = "0123456789abcdef";
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    char out[6] = {'\\', 'u', '0', '0', digits[c >> 4], digits[c & 15]};
    const char *p = c == '\0' ? NULL : strchr(from, c);
    if (p != NULL) {
        out[1] = to[p - from];
        return base_buf_add(b, out, 2);
    }
    return base_buf_add(b, out, sizeof out);
}

/* Bytes from p on that may stand in a string as they are. */
static size_t plain_run(const unsigned char *p, size_t n)
{
    size_t i = 0;
    while (i < n && p[i] >= 0x20 && p[i] < 0x7f && p[i] != '"' && p[i] != '\\') {
        i++;
    }
    return i;
}

static size_t utf8_len(const unsigned char *p, size_t n)
{
    size_t len = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    return p[0] >= 0xc2 && len <= n && base_text_utf8(p, len) ? len : 0;
}

int gw_json_string(struct base_buf *b, const void *text, size_t n)
{
    const unsigned char *p = text;
    int rc = base_buf_add(b, "\"", 1);
    while (n > 0 && rc == 0) {
        size_t len = plain_run(p, n);
        if (len == 0 && p[0] >= 0x80) {
            len = utf8_len(p, n);
        }
        if (len > 0) {
            rc = base_buf_add(b, p, len);
        } else if (p[0] < 0x80) {
            len = 1;
            rc = put_escape(b, p[0]);
        } else {
            len = 1;
            rc = base_buf_add(b, "\xef\xbf\xbd", 3);
        }
        p += len;
        n -= len;
    }
    return rc < 0 ? rc : base_buf_add(b, "\"", 1);
}

int gw_json_base64(struct base_buf *b, const void *data, size_t n)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=";
    const unsigned char *p = data;
    size_t len = (n + 2) / 3 * 4 + 2;
    char *to = (char *)base_buf_room(b, len);
    if (to == NULL) {
        return BASE_ENOMEM;
    }
    *to++ = '"';
    for (; n > 0; p += 3) {
        unsigned v = (unsigned)p[0] << 16 | (n > 1 ? (unsigned)p[1] << 8 : 0) | (n > 2 ? p[2] : 0);
        *to++ = digits[v >> 18];
        *to++ = digits[v >> 12 & 63];
        *to++ = digits[n > 1 ? v >> 6 & 63 : 64];
        *to++ = digits[n > 2 ? v & 63 : 64];
        n = n > 3 ? n - 3 : 0;
    }
    *to = '"';
    base_buf_grow(b, len);
    return 0;
}

/* ---- checking ---- */

struct scan {
    const char *p, *end;
};

static bool at(const struct scan *s, char c)
{
    return s->p < s->end && *s->p == c;
}

static bool digit(const struct scan *s)
{
    return s->p < s->end && *s->p >= '0' && *s->p <= '9';
}

static void skip_space(struct scan *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r')) {
        s->p++;
    }
}

static bool one_of(char c, const char *set)
{
    return c != '\0' && strchr(set, c) != NULL;
}

static bool hex4(struct scan *s)
{
    for (int i = 0; i < 4; i++, s->p++) {
        if (s->p == s->end || !one_of(*s->p, "0123456789abcdefABCDEF")) {
            return false;
        }
    }
    return true;
}

static bool string(struct scan *s)
{
    if (!at(s, '"')) {
        return false;
    }
    const char *start = ++s->p;
    while (s->p < s->end && *s->p != '"') {
        unsigned char c = (unsigned char)*s->p++;
        if (c < 0x20) {
            return false;
        }
        if (c != '\\') {
            continue;
        }
        if (s->p == s->end || !one_of(*s->p, "\"\\/bfnrtu")) {
            return false;
        }
        if (*s->p++ == 'u' && !hex4(s)) {
            return false;
        }
    }
    if (s->p == s->end) {
        return false;
    }
    bool utf8 = base_text_utf8(start, (size_t)(s->p - start));
    s->p++;
    return utf8;
}

static bool digits(struct scan *s)
{
    if (!digit(s)) {
        return false;
    }
    while (digit(s)) {
        s->p++;
    }
    return true;
}

static bool number(struct scan *s)
{
    if (at(s, '-')) {
        s->p++;
    }
    if (at(s, '0')) {
        s->p++;
    } else if (!digits(s)) {
        return false;
    }
    if (at(s, '.')) {
        s->p++;
        if (!digits(s)) {
            return false;
        }
    }
    if (at(s, 'e') || at(s, 'E')) {
        s->p++;
        if (at(s, '+') || at(s, '-')) {
            s->p++;
        }
        return digits(s);
    }
    return true;
}

static bool word(struct scan *s, const char *text)
{
    size_t n = strlen(text);
    if ((size_t)(s->end - s->p) < n || memcmp(s->p, text, n) != 0) {
        return false;
    }
    s->p += n;
    return true;
}

static bool scalar(struct scan *s)
{
    if (s->p == s->end) {
        return false;
    }
    switch (*s->p) {
    case '"':
        return string(s);
    case 't':
        return word(s, "true");
    case 'f':
        return word(s, "false");
    case 'n':
        return word(s, "null");
    default:
        return number(s);
    }
}

static bool name(struct scan *s)
{
    skip_space(s);
    if (!string(s)) {
        return false;
    }
    skip_space(s);
    return word(s, ":");
}

/* Without recursion: the brackets that are open are kept in a small array. */
bool gw_json_valid(const void *text, size_t n)
{
    struct scan s = {text, n == 0 ? text : (const char *)text + n}; /* text may be NULL then */
    char open[GW_JSON_DEPTH_MAX];
    int depth = 0;
    for (;;) {
        skip_space(&s);
        if (at(&s, '{') || at(&s, '[')) { /* into a value */
            if (depth == GW_JSON_DEPTH_MAX) {
                return false;
            }
            char c = *s.p++;
            char close = c == '{' ? '}' : ']';
            skip_space(&s);
            if (!at(&s, close)) {
                open[depth++] = close;
                if (close == '}' && !name(&s)) {
                    return false;
                }
                continue;
            }
            s.p++;
        } else if (!scalar(&s)) {
            return false;
        }
        for (;;) { /* behind a value */
            skip_space(&s);
            if (depth == 0) {
                return s.p == s.end;
            }
            if (at(&s, ',')) {
                s.p++;
                if (open[depth - 1] == '}' && !name(&s)) {
                    return false;
                }
                break;
            }
            if (!at(&s, open[depth - 1])) {
                return false;
            }
            s.p++;
            depth--;
        }
    }
}
