#include "gateway/core/range.h"

#include <stddef.h>

#include "gateway/core/http.h"

/* Digits up to 18; false when there are none or more. */
static bool digits(const char **p, uint64_t *ret)
{
    uint64_t v = 0;
    int n = 0;
    while (**p >= '0' && **p <= '9' && n < 19) {
        v = v * 10 + (uint64_t)(*(*p)++ - '0');
        n++;
    }
    *ret = v;
    return n > 0 && n < 19;
}

enum gw_range_verdict gw_range_parse(const char *text, uint64_t size, struct gw_range *ret)
{
    if (text == NULL || !gw_http_same_n(text, "bytes=", 6)) {
        return GW_RANGE_NONE;
    }
    const char *p = text + 6;
    uint64_t first = 0, last = UINT64_MAX;
    if (*p == '-') { /* the last n bytes */
        p++;
        uint64_t n = 0;
        if (!digits(&p, &n) || *p != '\0') {
            return GW_RANGE_NONE;
        }
        if (n == 0 || size == 0) {
            return GW_RANGE_OUTSIDE;
        }
        first = n < size ? size - n : 0;
    } else {
        if (!digits(&p, &first) || *p++ != '-' || (*p != '\0' && !digits(&p, &last)) ||
            *p != '\0' || last < first) {
            return GW_RANGE_NONE;
        }
        if (first >= size) {
            return GW_RANGE_OUTSIDE;
        }
    }
    last = last < size - 1 ? last : size - 1;
    *ret = (struct gw_range){first, last - first + 1};
    return GW_RANGE_PART;
}
