#include "worker/guest/kernel_msg.h"

#include <string.h>

#include "proto/base/err.h"
#include "proto/base/text.h"

enum { DIGITS_MAX = 10 };

static const struct {
    const char *word;
    enum agent_kernel_verb verb;
    bool has_body;
} verbs[] = {
    {"ready", AGENT_KERNEL_READY, false},
    {"seeded", AGENT_KERNEL_SEEDED, false},
    {"display", AGENT_KERNEL_DISPLAY, true},
    {"show", AGENT_KERNEL_SHOW, true},
    {"result", AGENT_KERNEL_RESULT, true},
    {"error", AGENT_KERNEL_ERROR, true},
    {"done", AGENT_KERNEL_DONE, false},
    {"started", AGENT_KERNEL_STARTED, false},
};

/* The next word of a line; false at its end. Words are separated by one space. */
static bool next_word(const char **at, const char *end, const char **word, size_t *len)
{
    if (*at >= end) {
        return false;
    }
    const char *stop = memchr(*at, ' ', (size_t)(end - *at));
    *word = *at;
    *len = (size_t)((stop == NULL ? end : stop) - *at);
    *at = stop == NULL ? end : stop + 1;
    return *len > 0;
}

static bool number(const char *word, size_t len, int64_t *ret)
{
    bool minus = len > 1 && word[0] == '-';
    int64_t v = 0;
    size_t i = minus ? 1 : 0;
    if (len == 0 || len - i > DIGITS_MAX) {
        return false;
    }
    for (; i < len; i++) {
        if (word[i] < '0' || word[i] > '9') {
            return false;
        }
        v = v * 10 + (word[i] - '0');
    }
    *ret = minus ? -v : v;
    return true;
}

static bool is_word(const char *word, size_t len, const char *text)
{
    return strlen(text) == len && memcmp(word, text, len) == 0;
}

static int parse_tail(const char *at, const char *end, struct agent_kernel_msg *m)
{
    const char *word;
    size_t len;
    if (m->verb == AGENT_KERNEL_DONE) {
        if (!next_word(&at, end, &word, &len)) {
            return BASE_EBADMSG;
        }
        if (is_word(word, len, "ok")) {
            m->status = WARREN__DONE_STATUS__DONE_OK;
        } else if (is_word(word, len, "error")) {
            m->status = WARREN__DONE_STATUS__DONE_ERROR;
        } else if (is_word(word, len, "interrupted")) {
            m->status = WARREN__DONE_STATUS__DONE_INTERRUPTED;
        } else {
            return BASE_EBADMSG;
        }
    }
    if (m->verb == AGENT_KERNEL_DONE || m->verb == AGENT_KERNEL_STARTED) {
        if (!next_word(&at, end, &word, &len) || !number(word, len, &m->number) ||
            m->number > INT32_MAX || m->number < INT32_MIN) {
            return BASE_EBADMSG;
        }
    }
    if (m->verb == AGENT_KERNEL_DONE &&
        (!next_word(&at, end, &word, &len) || !number(word, len, &m->serial) || m->serial < 0)) {
        return BASE_EBADMSG;
    }
    return at == end ? 0 : BASE_EBADMSG;
}

int agent_kernel_msg_parse(const uint8_t *data, size_t n, struct agent_kernel_msg *m)
{
    const uint8_t *lf =
        n == 0 ? NULL : memchr(data, '\n', n < AGENT_KERNEL_HEAD_MAX ? n : AGENT_KERNEL_HEAD_MAX);
    if (lf == NULL) {
        return n < AGENT_KERNEL_HEAD_MAX ? 0 : BASE_EBADMSG;
    }
    const char *at = (const char *)data, *end = (const char *)lf, *word;
    size_t len;
    *m = (struct agent_kernel_msg){0};
    bool has_body = false;
    if (!next_word(&at, end, &word, &len)) {
        return BASE_EBADMSG;
    }
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        if (is_word(word, len, verbs[i].word)) {
            m->verb = verbs[i].verb;
            has_body = verbs[i].has_body;
        }
    }
    int64_t size;
    if (m->verb == 0 || !next_word(&at, end, &word, &len) || !number(word, len, &size) ||
        size < 0 || size > PROTO_EVENT_BYTES_MAX || (size > 0 && !has_body) ||
        parse_tail(at, end, m) != 0) {
        return BASE_EBADMSG;
    }
    size_t head = (size_t)(lf + 1 - data);
    m->total = head + (size_t)size;
    if (n < m->total) {
        return 0;
    }
    m->body = data + head;
    m->body_len = (size_t)size;
    return 1;
}

int agent_kernel_msg_mime(const struct agent_kernel_msg *m, struct agent_kernel_mime *out)
{
    const uint8_t *p = m->body, *end = m->body + m->body_len;
    int n = 0;
    while (p < end) {
        const uint8_t *lf = memchr(p, '\n', (size_t)(end - p));
        if (lf == NULL || n == AGENT_KERNEL_MIME_MAX) {
            return BASE_EBADMSG;
        }
        const char *at = (const char *)p, *type, *word;
        size_t type_len, len;
        int64_t size;
        if (!next_word(&at, (const char *)lf, &type, &type_len) ||
            !next_word(&at, (const char *)lf, &word, &len) || !number(word, len, &size) ||
            size < 0 || size > end - lf - 1 || type_len >= sizeof out->types[n] ||
            !base_text_utf8(type, type_len)) {
            return BASE_EBADMSG;
        }
        memcpy(out->types[n], type, type_len);
        out->types[n][type_len] = '\0';
        warren__guest_mime__init(&out->part[n]);
        out->part[n].type = out->types[n];
        out->part[n].data.data = (uint8_t *)(uintptr_t)(lf + 1);
        out->part[n].data.len = (size_t)size;
        out->list[n] = &out->part[n];
        n++;
        p = lf + 1 + size;
    }
    return n;
}

int agent_kernel_msg_error(const struct agent_kernel_msg *m, const char **name, const char **value,
    ProtobufCBinaryData *tb)
{
    const uint8_t *a = memchr(m->body, 0, m->body_len);
    if (a == NULL) {
        return BASE_EBADMSG;
    }
    size_t left = m->body_len - (size_t)(a + 1 - m->body);
    const uint8_t *b = left == 0 ? NULL : memchr(a + 1, 0, left);
    if (b == NULL || b - m->body > AGENT_KERNEL_TEXT_MAX) {
        return BASE_EBADMSG;
    }
    *name = (const char *)m->body;
    *value = (const char *)(a + 1);
    tb->data = (uint8_t *)(uintptr_t)(b + 1);
    tb->len = m->body_len - (size_t)(b + 1 - m->body);
    if (!base_text_utf8(*name, strlen(*name)) || !base_text_utf8(*value, strlen(*value))) {
        return BASE_EBADMSG;
    }
    return 0;
}
