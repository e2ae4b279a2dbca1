#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One line per event, `key=value` after a short message, to one descriptor. Only main.c and io/ log
 * above debug. Never log an identifier, a token or a key: log the keyed hash.
 * error = someone must act, warn = we go on (say how), info = state changes, debug = free. */
enum base_log_level { BASE_LOG_ERROR, BASE_LOG_WARN, BASE_LOG_INFO, BASE_LOG_DEBUG };

/* Lines that wait for base_log_flush(): for a program that writes one for each request. Those of
 * the levels error and warn leave at once, with all before them. */
struct base_log_batch {
    size_t n;
    uint64_t second; /* that `day` shows */
    char day[32];
    char text[16 << 10];
};

struct base_log {
    int fd; /* borrowed */
    enum base_log_level level;
    const char *name;             /* of the program, borrowed */
    bool stamp;                   /* put the time in front */
    struct base_log_batch *batch; /* borrowed; NULL: every line at once */
};

void base_log_init(struct base_log *log, const char *name, int fd);

/* "error" … "debug"; returns false for anything else. */
bool base_log_parse(const char *text, enum base_log_level *ret_level);

void base_log_write(const struct base_log *log, enum base_log_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Writes what waits. Without a batch: nothing. */
void base_log_flush(const struct base_log *log);

#define LOG_ERROR(log, ...) base_log_write((log), BASE_LOG_ERROR, __VA_ARGS__)
#define LOG_WARN(log, ...) base_log_write((log), BASE_LOG_WARN, __VA_ARGS__)
#define LOG_INFO(log, ...) base_log_write((log), BASE_LOG_INFO, __VA_ARGS__)
#define LOG_DEBUG(log, ...) base_log_write((log), BASE_LOG_DEBUG, __VA_ARGS__)
