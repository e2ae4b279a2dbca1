#include "proto/base/assert.h"

#include <stdio.h>
#include <stdlib.h>

void base_assert_fail(const char *expr, const char *file, int line, const char *func)
{
    (void)fprintf(stderr, "%s:%d: %s: broken: %s\n", file, line, func, expr);
    abort();
}
