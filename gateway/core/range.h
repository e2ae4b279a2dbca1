#pragma once
#include <stdbool.h>
#include <stdint.h>

/* One byte range of a Range field (RFC 9110 section 14). */
struct gw_range {
    uint64_t first, length;
};

enum gw_range_verdict {
    GW_RANGE_NONE,    /* no field, or one that may be ignored: send all */
    GW_RANGE_PART,    /* send *ret */
    GW_RANGE_OUTSIDE, /* 416 */
};

/* text: the field's value or NULL; size: of the whole. Several ranges are ignored, as is allowed.
 */
enum gw_range_verdict gw_range_parse(const char *text, uint64_t size, struct gw_range *ret);
