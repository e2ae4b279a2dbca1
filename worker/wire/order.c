#include "worker/wire/order.h"

#include <stdbool.h>
#include <string.h>

#include "proto/base/err.h"

/* The next word, cut from the front of the line; its length is 0 at the end. */
static size_t word(const char **line, size_t *n, const char **ret)
{
    while (*n > 0 && **line == ' ') {
        (*line)++;
        (*n)--;
    }
    *ret = *line;
    size_t len = 0;
    while (len < *n && (*line)[len] != ' ') {
        len++;
    }
    *line += len;
    *n -= len;
    return len;
}

static bool is(const char *w, size_t n, const char *text)
{
    return n == strlen(text) && memcmp(w, text, n) == 0;
}

static bool number(const char *w, size_t n, uint32_t max, uint32_t *ret)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++) {
        if (w[i] < '0' || w[i] > '9' || v > max) {
            return false;
        }
        v = v * 10 + (uint64_t)(w[i] - '0');
    }
    *ret = (uint32_t)v;
    return n > 0 && v <= max;
}

static int parse_drain(const char *line, size_t n, struct worker_drain_order *ret)
{
    const char *w;
    size_t len = word(&line, &n, &w);
    if (is(w, len, "wait")) {
        ret->policy = WORKER_DRAIN_WAIT;
    } else if (is(w, len, "end")) {
        ret->policy = WORKER_DRAIN_END;
    } else if (is(w, len, "deadline")) {
        ret->policy = WORKER_DRAIN_DEADLINE;
        len = word(&line, &n, &w);
        if (!number(w, len, WORKER_DRAIN_GRACE_MS_MAX, &ret->grace_ms)) {
            return BASE_EINVAL;
        }
    } else {
        return BASE_EINVAL;
    }
    len = word(&line, &n, &w);
    ret->leave = is(w, len, "leave");
    return (len == 0 || ret->leave) && word(&line, &n, &w) == 0 ? 0 : BASE_EINVAL;
}

int worker_admin_parse(const char *line, size_t n, struct worker_admin_order *ret)
{
    struct worker_admin_order o = {.kind = WORKER_ADMIN_STATUS};
    const char *w;
    size_t len = n > WORKER_ADMIN_LINE_MAX ? 0 : word(&line, &n, &w);
    int rc = BASE_EINVAL;
    if (len > 0 && is(w, len, "drain")) {
        o.kind = WORKER_ADMIN_DRAIN;
        rc = parse_drain(line, n, &o.drain);
    } else if (len > 0 && (is(w, len, "undrain") || is(w, len, "status"))) {
        o.kind = is(w, len, "undrain") ? WORKER_ADMIN_UNDRAIN : WORKER_ADMIN_STATUS;
        rc = word(&line, &n, &w) == 0 ? 0 : BASE_EINVAL;
    }
    if (rc == 0) {
        *ret = o;
    }
    return rc;
}
