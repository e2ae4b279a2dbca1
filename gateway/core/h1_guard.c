#include "gateway/core/h1_guard.h"

#include <string.h>

enum { TOKEN = 1, VALUE = 2, TARGET = 4, NAME = TOKEN | VALUE | TARGET, MARK = VALUE | TARGET };

/* RFC 9110: tchar; field values are HTAB, SP to 0x7e and obs-text. Targets are visible ASCII except
 * '#', '"' and '\\'; clients paste identifiers with other marks unescaped, so those pass. */
static const uint8_t classes[256] = {
    ['\t'] = VALUE,
    [' '] = VALUE,
    ['!'] = NAME,
    ['"'] = VALUE,
    ['#'] = TOKEN | VALUE,
    ['$' ... '\''] = NAME,
    ['(' ... ')'] = MARK,
    ['*' ... '+'] = NAME,
    [','] = MARK,
    ['-' ... '.'] = NAME,
    ['/'] = MARK,
    ['0' ... '9'] = NAME,
    [':' ... '@'] = MARK,
    ['A' ... 'Z'] = NAME,
    ['['] = MARK,
    ['\\'] = VALUE,
    [']'] = MARK,
    ['^' ... 'z'] = NAME, /* ^ _ ` and the letters */
    ['{'] = MARK,
    ['|'] = NAME,
    ['}'] = MARK,
    ['~'] = NAME,
    [0x80 ... 0xff] = VALUE,
};

static size_t skip(const uint8_t *p, size_t n, size_t at, int class)
{
    while (at < n && (classes[p[at]] & class) != 0) {
        at++;
    }
    return at;
}

static bool same(const uint8_t *p, size_t n, const char *lower)
{
    if (strlen(lower) != n) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        uint8_t c = p[i] >= 'A' && p[i] <= 'Z' ? p[i] | 32 : p[i];
        if (c != (uint8_t)lower[i]) {
            return false;
        }
    }
    return true;
}

/* "METHOD target HTTP/1.x\r\n"; returns a status, *at is behind the line. */
static int request_line(const uint8_t *p, size_t n, size_t *at, struct gw_h1_facts *f)
{
    size_t end = skip(p, n, 0, TOKEN);
    if (end == 0 || end > 24 || end >= n || p[end] != ' ') {
        return 400;
    }
    size_t target = end + 1;
    end = skip(p, n, target, TARGET);
    if (end - target > GW_H1_TARGET_MAX) {
        return 414;
    }
    if (end == target || end >= n || p[end] != ' ' || n - end < 11) {
        return 400;
    }
    const uint8_t *version = p + end + 1;
    if (memcmp(version, "HTTP/", 5) != 0) {
        return 400;
    }
    if (memcmp(version, "HTTP/1.", 7) != 0 || (version[7] != '0' && version[7] != '1') ||
        version[8] != '\r') {
        return 505;
    }
    f->http10 = version[7] == '0';
    *at = end + 11;
    return 0;
}

int gw_h1_guard_find(const uint8_t *p, size_t n, size_t *scan, size_t *ret_len)
{
    struct gw_h1_facts facts;
    size_t at = 0;
    *ret_len = 0;
    for (size_t i = *scan; i < n; i++) {
        uint8_t c = p[i];
        if (i >= GW_H1_HEAD_MAX) {
            return 431;
        }
        if (c == '\n') {
            if (i == 0 || p[i - 1] != '\r') {
                return 400;
            }
            /* The first line is judged at once: who speaks HTTP/0.9 sends no more. An empty one is
             * left to gw_h1_guard_head(). */
            bool first = i > 1 && memchr(p, '\n', i) == NULL;
            int status = first ? request_line(p, i + 1, &at, &facts) : 0;
            if (status != 0) {
                return status;
            }
            if (i >= 3 && p[i - 2] == '\n') {
                *scan = 0;
                *ret_len = i + 1;
                return 0;
            }
        } else if ((i > 0 && p[i - 1] == '\r') || (c != '\r' && classes[c] == 0)) {
            return 400; /* CR without LF; a TLS hello on a plain port ends here too */
        }
    }
    *scan = n;
    return 0;
}

struct counts {
    int host, length, encoding;
};

static int content_length(const uint8_t *v, size_t n, struct gw_h1_facts *f)
{
    if (n == 0 || n > 15) {
        return 400;
    }
    int64_t value = 0;
    for (size_t i = 0; i < n; i++) {
        if (v[i] < '0' || v[i] > '9') {
            return 400;
        }
        value = value * 10 + (v[i] - '0');
    }
    f->content_length = value;
    return 0;
}

static int host(const uint8_t *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        bool alnum = (v[i] >= '0' && v[i] <= '9') || ((v[i] | 32) >= 'a' && (v[i] | 32) <= 'z');
        if (!alnum && (v[i] == '\0' || strchr(".-_:[]%", v[i]) == NULL)) {
            return 400;
        }
    }
    return 0;
}

static int field(const uint8_t *name, size_t name_n, const uint8_t *v, size_t n,
    struct counts *seen, struct gw_h1_facts *f)
{
    if (same(name, name_n, "host")) {
        return seen->host++ > 0 ? 400 : host(v, n);
    }
    if (same(name, name_n, "content-length")) {
        return seen->length++ > 0 ? 400 : content_length(v, n, f);
    }
    if (same(name, name_n, "transfer-encoding")) {
        if (seen->encoding++ > 0 || f->http10) {
            return 400;
        }
        f->chunked = same(v, n, "chunked");
        return f->chunked ? 0 : 501;
    }
    return 0;
}

int gw_h1_guard_head(const uint8_t *p, size_t n, struct gw_h1_facts *ret)
{
    struct gw_h1_facts f = {.content_length = -1};
    struct counts seen = {0};
    size_t at = 0;
    int fields = 0, status = request_line(p, n, &at, &f);
    while (status == 0 && at + 2 < n) {
        size_t name = at, colon = skip(p, n, at, TOKEN);
        if (colon == name || p[colon] != ':') {
            return 400; /* a folded line, a space before the colon, an empty name */
        }
        size_t v = colon + 1;
        while (v < n && (p[v] == ' ' || p[v] == '\t')) {
            v++;
        }
        size_t end = skip(p, n, v, VALUE);
        if (end + 1 >= n || p[end] != '\r' || p[end + 1] != '\n') {
            return 400;
        }
        at = end + 2;
        while (end > v && (p[end - 1] == ' ' || p[end - 1] == '\t')) {
            end--;
        }
        if (++fields > GW_H1_FIELDS_MAX) {
            return 431;
        }
        status = field(p + name, colon - name, p + v, end - v, &seen, &f);
    }
    if (status != 0) {
        return status;
    }
    bool framed_twice = seen.encoding > 0 && seen.length > 0;
    if (framed_twice || (seen.host == 0 && !f.http10)) {
        return 400;
    }
    *ret = f;
    return 0;
}

int gw_h1_guard_chunks(struct gw_h1_chunks *c, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        bool pair = c->last == '\r' && p[i] == '\n';
        if (!pair && (c->last == '\r' || p[i] == '\n' || (p[i] != '\r' && classes[p[i]] == 0))) {
            return 400;
        }
        c->line = pair ? 0 : c->line + 1;
        c->last = p[i];
        if (c->line > GW_H1_CHUNK_LINE_MAX || ++c->total > GW_H1_TRAILERS_MAX) {
            return 400;
        }
    }
    return 0;
}

void gw_h1_guard_chunk_data(struct gw_h1_chunks *c)
{
    *c = (struct gw_h1_chunks){0};
}
