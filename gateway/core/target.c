#include "gateway/core/target.h"

#include <string.h>

#include "gateway/core/http.h"
#include "proto/base/err.h"
#include "proto/base/text.h"

struct out {
    char *p;
    size_t used;
};

static int hex(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 32);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Appends the decoded text with its terminator; NULL when it holds NUL or is not UTF-8. Decoding
 * never makes text longer, and each piece's terminator takes the place of its separator. */
static const char *decode(struct out *o, const char *s, size_t n, bool plus)
{
    char *start = o->p + o->used;
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        if (c == '%' && i + 2 < n && hex(s[i + 1]) >= 0 && hex(s[i + 2]) >= 0) {
            c = (char)(hex(s[i + 1]) << 4 | hex(s[i + 2]));
            i += 2;
        } else if (c == '+' && plus) {
            c = ' ';
        }
        if (c == '\0') {
            return NULL;
        }
        o->p[o->used++] = c;
    }
    size_t len = (size_t)(o->p + o->used - start);
    o->p[o->used++] = '\0';
    return base_text_utf8(start, len) ? start : NULL;
}

static int parse_path(struct gw_target *t, struct out *o, const char *path, const char *end)
{
    while (path < end) {
        const char *slash = path; /* at a '/' */
        const char *stop = memchr(slash + 1, '/', (size_t)(end - slash - 1));
        path = stop == NULL ? end : stop;
        size_t n = (size_t)(path - slash - 1);
        if (n == 0) {
            continue;
        }
        if (t->segments_n == GW_TARGET_SEGMENTS_MAX) {
            return BASE_ETOOBIG;
        }
        const char *text = decode(o, slash + 1, n, false);
        if (text == NULL) {
            return BASE_EBADMSG;
        }
        t->raw_at[t->segments_n] = (size_t)(slash - t->raw);
        t->segments[t->segments_n++] = text;
    }
    return 0;
}

static int parse_query(struct gw_target *t, struct out *o, const char *p)
{
    while (*p != '\0') {
        size_t n = strcspn(p, "&");
        const char *equals = memchr(p, '=', n);
        size_t name_n = equals == NULL ? n : (size_t)(equals - p);
        if (n > 0) {
            if (t->params_n == GW_TARGET_PARAMS_MAX) {
                return BASE_ETOOBIG;
            }
            const char *name = decode(o, p, name_n, true);
            bool plus = name != NULL && !gw_http_same(name, "identifier");
            const char *value = equals == NULL ? "" : decode(o, equals + 1, n - name_n - 1, plus);
            if (name == NULL || value == NULL) {
                return BASE_EBADMSG;
            }
            t->params[t->params_n].name = name;
            t->params[t->params_n++].value = value;
        }
        p += n + (p[n] == '&' ? 1 : 0);
    }
    return 0;
}

int gw_target_parse(struct gw_target *t, const char *target)
{
    size_t n = strnlen(target, GW_H1_TARGET_MAX + 1);
    if (n > GW_H1_TARGET_MAX) {
        return BASE_ETOOBIG;
    }
    t->segments_n = t->params_n = 0;
    t->raw = target;
    const char *path = target;
    if (gw_http_same_n(path, "http://", 7) || gw_http_same_n(path, "https://", 8)) {
        path = strchr(path, '/') + 2;
        path += strcspn(path, "/?");
    }
    const char *question = strchr(path, '?');
    const char *end = question == NULL ? target + n : question;
    struct out o = {t->text, 0};
    if (path < end && *path != '/') {
        return *path == '*' ? 0 : BASE_EBADMSG; /* OPTIONS * */
    }
    int rc = parse_path(t, &o, path, end);
    return rc < 0 || question == NULL ? rc : parse_query(t, &o, question + 1);
}

const char *gw_target_param(const struct gw_target *t, const char *name)
{
    for (int i = 0; i < t->params_n; i++) {
        if (gw_http_same(t->params[i].name, name)) {
            return t->params[i].value;
        }
    }
    return NULL;
}

void gw_target_escape(const char *text, size_t n, char *to)
{
    static const char digits[] = "0123456789ABCDEF";
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                     (c != '\0' && strchr("-._~", c) != NULL);
        if (plain) {
            *to++ = (char)c;
        } else {
            *to++ = '%';
            *to++ = digits[c >> 4];
            *to++ = digits[c & 15];
        }
    }
    *to = '\0';
}
