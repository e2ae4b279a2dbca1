#include "proto/base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/clock.h"

static const char *const names[] = {"error", "warn", "info", "debug"};

void base_log_init(struct base_log *log, const char *name, int fd)
{
    *log = (struct base_log){.fd = fd, .level = BASE_LOG_INFO, .name = name, .stamp = true};
}

bool base_log_parse(const char *text, enum base_log_level *ret_level)
{
    for (int i = 0; i < 4; i++) {
        if (strcmp(text, names[i]) == 0) {
            *ret_level = (enum base_log_level)i;
            return true;
        }
    }
    return false;
}

enum { LINE_MAX_BYTES = 1024 };

/* The time, and a space; its seconds are formatted once a second where there is a place to keep
 * them. */
static size_t stamp(const struct base_log *log, char *line)
{
    struct base_log_batch *b = log->batch;
    uint64_t now = base_clock_real_ns(), second = now / BASE_NS_PER_S;
    size_t n;
    if (b == NULL || b->second != second) {
        base_clock_format(now, line);
        n = strlen(line);
        if (b != NULL) {
            b->second = second;
            memcpy(b->day, line, n + 1);
        }
    } else {
        unsigned ms = (unsigned)(now / BASE_NS_PER_MS % 1000);
        n = strlen(b->day);
        memcpy(line, b->day, n);
        line[n - 4] = (char)('0' + ms / 100); /* "...ss.mmmZ" */
        line[n - 3] = (char)('0' + ms / 10 % 10);
        line[n - 2] = (char)('0' + ms % 10);
    }
    line[n++] = ' ';
    return n;
}

void base_log_flush(const struct base_log *log)
{
    struct base_log_batch *b = log->batch;
    if (b != NULL && b->n > 0) {
        (void)!write(log->fd, b->text, b->n);
        b->n = 0;
    }
}

static void put(const struct base_log *log, enum base_log_level level, const char *line, size_t n)
{
    struct base_log_batch *b = log->batch;
    if (b == NULL) {
        (void)!write(log->fd, line, n);
        return;
    }
    if (n > sizeof b->text - b->n) {
        base_log_flush(log);
    }
    memcpy(b->text + b->n, line, n);
    b->n += n;
    if (level <= BASE_LOG_WARN) {
        base_log_flush(log);
    }
}

void base_log_write(const struct base_log *log, enum base_log_level level, const char *fmt, ...)
{
    if (level > log->level) {
        return;
    }
    char line[LINE_MAX_BYTES];
    size_t n = log->stamp ? stamp(log, line) : 0;
    n += (size_t)snprintf(line + n, 64, "%s %s: ", names[level], log->name);
    va_list ap;
    va_start(ap, fmt);
    int body = vsnprintf(line + n, sizeof line - n - 1, fmt, ap);
    va_end(ap);
    n += body < 0 ? 0 : (size_t)body;
    if (n > sizeof line - 2) {
        n = sizeof line - 2;
    }
    /* Text of others must not start a line of its own. */
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f) {
            line[i] = ' ';
        }
    }
    line[n++] = '\n';
    put(log, level, line, n);
}
