/* HTTP/1 heads and chunk framing: what the guard accepts llhttp must frame in the same way. */
#include <llhttp.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/core/h1_guard.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static int complete(llhttp_t *p)
{
    *(int *)p->data = 1;
    return HPE_PAUSED;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    size_t scan = 0, len = 0, again = 0, len2 = 0;
    int status = gw_h1_guard_find(data, n, &scan, &len);
    for (size_t k = 1; k <= n && len2 == 0; k++) { /* the same, byte by byte */
        int s = gw_h1_guard_find(data, k, &again, &len2);
        if (s != 0) {
            if (status == 0 && (len == 0 || k <= len)) {
                abort();
            }
            break;
        }
    }
    if (status == 0 && len != len2) {
        abort();
    }
    struct gw_h1_chunks chunks = {0};
    (void)gw_h1_guard_chunks(&chunks, data, n);
    struct gw_h1_facts facts;
    if (status != 0 || len == 0 || gw_h1_guard_head(data, len, &facts) != 0) {
        return 0;
    }
    int done = 0;
    llhttp_settings_t settings = {.on_message_complete = complete};
    llhttp_t p;
    llhttp_init(&p, HTTP_REQUEST, &settings);
    p.data = &done;
    llhttp_errno_t e = llhttp_execute(&p, (const char *)data, len);
    if (e != HPE_OK && e != HPE_PAUSED && e != HPE_PAUSED_UPGRADE) {
        return 0; /* llhttp may be stricter */
    }
    bool body = facts.chunked || facts.content_length > 0;
    bool chunked = (p.flags & F_CHUNKED) != 0;
    if (p.method != HTTP_CONNECT &&
        (chunked != facts.chunked || (done != 0) == body ||
            (!chunked && body && p.content_length != (uint64_t)facts.content_length))) {
        abort();
    }
    return 0;
}
