#include "gateway/core/multipart.h"

#include <string.h>

#include "gateway/core/http.h"
#include "proto/base/text.h"

enum state {
    PREAMBLE,   /* before the first delimiter */
    AFTER,      /* behind a delimiter: end of line, or "--" */
    AFTER_CR,   /* ... after its CR */
    AFTER_DASH, /* ... after its first '-' */
    HEAD,       /* lines of a part's head */
    DATA,       /* bytes of a part */
    EPILOGUE,
};

/* ---- parameters of Content-Type and Content-Disposition ---- */

/* Copies the value of `; name=value` or `; name="value"` from a field. False: not there, or too
 * long. */
static bool quoted(const char *p, const char *end, char *to, size_t cap)
{
    size_t n = 0;
    for (; p < end && *p != '"'; p++) {
        /* Only a quote and a backslash are escaped; names of Windows files hold single backslashes.
         */
        if (*p == '\\' && p + 1 < end && (p[1] == '"' || p[1] == '\\')) {
            p++;
        }
        if (n + 1 == cap) {
            return false;
        }
        to[n++] = *p;
    }
    to[n] = '\0';
    return p < end;
}

static bool unquoted(const char *p, const char *end, char *to, size_t cap)
{
    size_t n = 0;
    while (p + n < end && p[n] != ';') {
        n++;
    }
    while (n > 0 && (p[n - 1] == ' ' || p[n - 1] == '\t')) {
        n--;
    }
    if (n + 1 > cap) {
        return false;
    }
    memcpy(to, p, n);
    to[n] = '\0';
    return true;
}

/* The end of one parameter's text that starts at p: the next ';' outside quotes, or end. */
static const char *skip_value(const char *p, const char *end)
{
    bool inside = false;
    for (; p < end && (inside || *p != ';'); p++) {
        if (*p == '"') {
            inside = !inside;
        } else if (inside && *p == '\\' && p + 1 < end && (p[1] == '"' || p[1] == '\\')) {
            p++;
        }
    }
    return p;
}

static bool parameter(const char *p, size_t n, const char *name, char *to, size_t cap)
{
    const char *end = p + n;
    size_t len = strlen(name);
    to[0] = '\0';
    p = skip_value(p, end);
    while (p < end) {
        p++; /* ';' */
        while (p < end && (*p == ' ' || *p == '\t')) {
            p++;
        }
        const char *stop = skip_value(p, end);
        if ((size_t)(stop - p) > len && p[len] == '=' && gw_http_same_n(p, name, len)) {
            p += len + 1;
            bool quote = p < stop && *p == '"';
            return quote ? quoted(p + 1, stop, to, cap) : unquoted(p, stop, to, cap);
        }
        p = stop;
    }
    return false;
}

bool gw_multipart_init(struct gw_multipart *m, const char *content_type)
{
    static const char type[] = "multipart/form-data";
    char boundary[72];
    if (content_type == NULL || !gw_http_same_n(content_type, type, sizeof type - 1) ||
        strchr("; \t", content_type[sizeof type - 1]) == NULL ||
        !parameter(content_type, strlen(content_type), "boundary", boundary, sizeof boundary)) {
        return false;
    }
    size_t n = strlen(boundary);
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)boundary[i] < 0x20 || (unsigned char)boundary[i] > 0x7e) {
            return false;
        }
    }
    if (n < 1 || n > 70) {
        return false;
    }
    memcpy(m->delimiter, "\r\n--", 4);
    memcpy(m->delimiter + 4, boundary, n);
    m->delimiter_n = (uint8_t)(n + 4);
    m->matched = 2; /* the first delimiter needs no line end before it */
    m->state = PREAMBLE;
    m->head_n = m->parts = 0;
    m->name[0] = m->filename[0] = '\0';
    m->data = NULL;
    m->data_n = 0;
    return true;
}

bool gw_multipart_complete(const struct gw_multipart *m)
{
    return m->state == EPILOGUE;
}

/* ---- a part's head ---- */

static int hex(char c)
{
    const char *p =
        c == '\0' ? NULL : strchr("0123456789abcdef", c >= 'A' && c <= 'F' ? c | 32 : c);
    return p == NULL ? -1 : (int)(p - "0123456789abcdef");
}

/* RFC 5987: charset'language'percent-encoded; UTF-8 only. */
static bool extended(char *value)
{
    char *text = strchr(value, '\'');
    text = text == NULL ? NULL : strchr(text + 1, '\'');
    if (text == NULL || !gw_http_same_n(value, "utf-8'", 6)) {
        return false;
    }
    size_t n = 0;
    for (const char *p = text + 1; *p != '\0'; p++) {
        char c = *p;
        if (c == '%') {
            int hi = hex(p[1]), lo = hi < 0 ? -1 : hex(p[2]);
            if (lo < 0) {
                return false;
            }
            c = (char)(hi << 4 | lo);
            p += 2;
        }
        if (c == '\0') {
            return false;
        }
        value[n++] = c;
    }
    value[n] = '\0';
    return true;
}

static bool disposition(struct gw_multipart *m, const char *p, size_t n)
{
    char wide[GW_MULTIPART_NAME_MAX];
    (void)parameter(p, n, "name", m->name, sizeof m->name);
    (void)parameter(p, n, "filename", m->filename, sizeof m->filename);
    if (parameter(p, n, "filename*", wide, sizeof wide) && extended(wide)) {
        memcpy(m->filename, wide, sizeof wide);
    }
    return base_text_utf8(m->name, strlen(m->name)) &&
           base_text_utf8(m->filename, strlen(m->filename));
}

/* m->head holds whole lines; the last one is empty. */
static bool parse_head(struct gw_multipart *m)
{
    static const char want[] = "content-disposition:";
    const char *p = m->head, *end = m->head + m->head_n - 2;
    m->name[0] = m->filename[0] = '\0';
    while (p < end) {
        const char *stop = memchr(p, '\r', (size_t)(end - p));
        size_t n = (size_t)((stop == NULL ? end : stop) - p);
        if (n >= sizeof want - 1 && gw_http_same_n(p, want, sizeof want - 1) &&
            !disposition(m, p + sizeof want - 1, n - (sizeof want - 1))) {
            return false;
        }
        p += n + 2;
    }
    return true;
}

/* Takes bytes up to the end of the head; true when it is complete. */
static bool head_byte(struct gw_multipart *m, char c, bool *ret_bad)
{
    if (m->head_n == GW_MULTIPART_HEAD_MAX || c == '\0') {
        *ret_bad = true;
        return false;
    }
    m->head[m->head_n++] = c;
    uint16_t n = m->head_n;
    if (c != '\n') {
        *ret_bad = n >= 2 && m->head[n - 2] == '\r';
        return false;
    }
    if (n < 2 || m->head[n - 2] != '\r') {
        *ret_bad = true;
        return false;
    }
    return n == 2 || m->head[n - 3] == '\n';
}

/* ---- the delimiter ---- */

/* One step of looking for the delimiter in p. Data that is certain is left in m->data. Only the
 * first byte of the delimiter is CR, so after a mismatch nothing but this byte can start another
 * one. */
static size_t search(struct gw_multipart *m, const uint8_t *p, size_t n)
{
    m->data_n = 0;
    if (m->matched == 0) {
        const uint8_t *cr = memchr(p, '\r', n);
        m->data = p;
        m->data_n = cr == NULL ? n : (size_t)(cr - p);
        m->matched = cr == NULL ? 0 : 1;
        return m->data_n + (cr == NULL ? 0 : 1);
    }
    size_t i = 0;
    while (i < n && m->matched < m->delimiter_n && p[i] == (uint8_t)m->delimiter[m->matched]) {
        m->matched++;
        i++;
    }
    if (m->matched < m->delimiter_n && i < n) {
        m->data = (const uint8_t *)m->delimiter;
        m->data_n = m->matched;
        m->matched = 0;
    }
    return i;
}

static enum gw_multipart_event after(struct gw_multipart *m, char c)
{
    switch (m->state) {
    case AFTER:
        if (c == '\r' || c == '-') {
            m->state = c == '\r' ? AFTER_CR : AFTER_DASH;
        } else if (c != ' ' && c != '\t') {
            return GW_MULTIPART_BAD;
        }
        return GW_MULTIPART_MORE;
    case AFTER_CR:
        if (c != '\n' || ++m->parts > GW_MULTIPART_PARTS_MAX) {
            return GW_MULTIPART_BAD;
        }
        m->state = HEAD;
        m->head_n = 0;
        return GW_MULTIPART_MORE;
    case AFTER_DASH:
    default:
        if (c != '-') {
            return GW_MULTIPART_BAD;
        }
        m->state = EPILOGUE;
        return GW_MULTIPART_END;
    }
}

static enum gw_multipart_event step(
    struct gw_multipart *m, const uint8_t *p, size_t n, size_t *used)
{
    if (m->state == PREAMBLE || m->state == DATA) {
        bool data = m->state == DATA;
        *used = search(m, p, n);
        if (m->matched == m->delimiter_n) {
            m->matched = 0;
            m->state = AFTER;
            return data ? GW_MULTIPART_PART_END : GW_MULTIPART_MORE;
        }
        return data && m->data_n > 0 ? GW_MULTIPART_DATA : GW_MULTIPART_MORE;
    }
    *used = 1;
    if (m->state != HEAD) {
        return after(m, (char)p[0]);
    }
    bool bad = false;
    if (head_byte(m, (char)p[0], &bad)) {
        m->state = DATA;
        m->matched = 0;
        return parse_head(m) ? GW_MULTIPART_PART : GW_MULTIPART_BAD;
    }
    return bad ? GW_MULTIPART_BAD : GW_MULTIPART_MORE;
}

enum gw_multipart_event gw_multipart_next(
    struct gw_multipart *m, const uint8_t *p, size_t n, size_t *used)
{
    *used = 0;
    while (*used < n && m->state != EPILOGUE) {
        size_t k = 0;
        enum gw_multipart_event e = step(m, p + *used, n - *used, &k);
        *used += k;
        if (e != GW_MULTIPART_MORE) {
            return e;
        }
    }
    if (m->state == EPILOGUE) {
        *used = n;
        return GW_MULTIPART_END;
    }
    return GW_MULTIPART_MORE;
}
