#include <stdlib.h>
#include <string.h>

#include "scheduler/core/seal.h"

/* Datagrams of anybody, one after the other (a length byte before each): heads are read and judged
 * as if each had opened. What was noted is never accepted again, and heads survive a round trip. */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void one(struct sched_seal_sender *s, const uint8_t *bytes, size_t n, uint64_t now_ms)
{
    struct sched_seal_head h;
    if (sched_seal_head_get(&h, bytes, n) != 0) {
        return;
    }
    uint8_t again[SCHED_SEAL_HEAD_BYTES];
    struct sched_seal_head copy;
    uint8_t padded[SCHED_SEAL_HEAD_BYTES + SCHED_SEAL_TAG_BYTES] = {0};
    sched_seal_head_put(again, &h);
    memcpy(padded, again, sizeof again);
    if (n < sizeof padded || h.sender == 0 ||
        sched_seal_head_get(&copy, padded, sizeof padded) != 0 || copy.counter != h.counter ||
        copy.sender != h.sender || copy.boot != h.boot || copy.key != h.key) {
        abort();
    }
    if (sched_seal_judge(s, &h, now_ms) == SCHED_SEAL_REFUSE) {
        return;
    }
    sched_seal_note(s, &h, now_ms);
    if (sched_seal_judge(s, &h, now_ms) != SCHED_SEAL_REFUSE) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct sched_seal_sender s = {0};
    uint64_t now_ms = 1;
    while (n > 1) {
        size_t len = data[0] < n - 1 ? data[0] : n - 1;
        now_ms += data[0];
        one(&s, data + 1, len, now_ms);
        data += len + 1;
        n -= len + 1;
    }
    return 0;
}
