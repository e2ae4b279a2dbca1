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

void base_log_write(const struct base_log *log, enum base_log_level level, const char *fmt, ...)
{
    if (level > log->level) {
        return;
    }
    char line[1024];
    size_t n = 0;
    if (log->stamp) {
        base_clock_format(base_clock_real_ns(), line);
        n = strlen(line);
        line[n++] = ' ';
    }
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
    (void)!write(log->fd, line, n);
}
