#include "proto/base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *base_err_str(int code)
{
    switch (code) {
    case BASE_OK:
        return "ok";
#define X(name, num, text)                                                                         \
    case BASE_E##name:                                                                             \
        return text;
        BASE_ERR_MAP(X)
#undef X
    default:
        return code < 0 && code > -1000 ? strerror(-code) : "unknown error";
    }
}

int base_fail(struct base_error *err, int code, const char *fmt, ...)
{
    if (err != NULL) {
        va_list ap;
        va_start(ap, fmt);
        (void)vsnprintf(err->text, sizeof err->text, fmt, ap);
        va_end(ap);
        err->code = code;
    }
    return code;
}
