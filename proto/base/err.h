#pragma once
#include <stddef.h>

/* One list: the enum and the texts cannot drift apart. Numbers start past 1000,
 * so that they never meet a negative errno. */
#define BASE_ERR_MAP(X)                                                                            \
    X(NOMEM, 1, "out of memory")                                                                   \
    X(FULL, 2, "a fixed limit is reached")                                                         \
    X(BADMSG, 3, "message is malformed")                                                           \
    X(IO, 4, "I/O error")                                                                          \
    X(INVAL, 5, "invalid argument")                                                                \
    X(TOOBIG, 6, "larger than the limit")                                                          \
    X(TIMEOUT, 7, "deadline passed")                                                               \
    X(CLOSED, 8, "the other side is gone")                                                         \
    X(NOTFOUND, 9, "not found")                                                                    \
    X(EXISTS, 10, "exists already")                                                                \
    X(DENIED, 11, "not allowed")                                                                   \
    X(VERSION, 12, "unknown version")                                                              \
    X(AGAIN, 13, "not now, try again")                                                             \
    X(STATE, 14, "not possible in this state")                                                     \
    X(CORRUPT, 15, "stored data is damaged")

enum base_err {
    BASE_OK = 0,
#define X(name, num, text) BASE_E##name = -(1000 + (num)),
    BASE_ERR_MAP(X)
#undef X
};

/* Code plus text for the operator. Lives on the caller's stack, owns nothing. */
struct base_error {
    int code; /* enum base_err, or -errno when the cause is the system */
    char text[200];
};

/* Of both kinds of codes. */
const char *base_err_str(int code);

/* Fills *err (may be NULL) and returns code, so: return base_fail(err, ...). */
int base_fail(struct base_error *err, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
