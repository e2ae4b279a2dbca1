/* Addresses: nothing outside the text, and what is found keeps its promises. */
#include <stdlib.h>
#include <string.h>

#include "gateway/core/file_path.h"
#include "gateway/core/range.h"
#include "gateway/core/route.h"
#include "proto/base/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static bool climbs(const char *path)
{
    for (const char *c = path; c != NULL; c = strchr(c, '/')) {
        c += *c == '/';
        if (strncmp(c, "..", 2) == 0 && (c[2] == '\0' || c[2] == '/')) {
            return true;
        }
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct gw_target t;
    char *text = malloc(n + 1);
    memcpy(text, data, n);
    text[n] = '\0';
    struct gw_range range;
    if (gw_range_parse(text, 1000, &range) == GW_RANGE_PART &&
        (range.length == 0 || range.first + range.length > 1000)) {
        abort();
    }
    (void)gw_file_type(text);
    (void)gw_http_list_has(text, "text/event-stream");
    if (gw_target_parse(&t, text) == 0) {
        for (int m = GW_METHOD_OTHER; m <= GW_METHOD_OPTIONS; m++) {
            struct gw_route r;
            if (gw_route_find(&t, (enum gw_method)m, &r) != GW_ROUTE_OK) {
                continue;
            }
            bool needs = gw_route_needs_identifier(r.op);
            if ((needs && r.id.len < PROTO_IDENTIFIER_MIN) || r.prefix_len > n || climbs(r.path) ||
                !base_text_utf8(r.path, strlen(r.path))) {
                abort();
            }
        }
    }
    free(text);
    return 0;
}
