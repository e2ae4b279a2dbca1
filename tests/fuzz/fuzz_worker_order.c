#include <stdint.h>
#include <stdlib.h>

#include "worker/wire/order.h"

/* A line of the admin socket. */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct worker_admin_order o = {.kind = WORKER_ADMIN_STATUS};
    if (worker_admin_parse((const char *)data, n, &o) == 0 &&
        (n > WORKER_ADMIN_LINE_MAX || o.kind > WORKER_ADMIN_STATUS ||
            o.drain.policy > WORKER_DRAIN_END || o.drain.grace_ms > WORKER_DRAIN_GRACE_MS_MAX ||
            (o.drain.grace_ms != 0 && o.drain.policy != WORKER_DRAIN_DEADLINE))) {
        abort();
    }
    return 0;
}
