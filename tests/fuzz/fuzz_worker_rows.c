#include <stdlib.h>
#include <string.h>

#include "worker/wire/rows.h"

/* The first byte chooses the table. What is read as a row must be written as the same bytes, and a
 * row of an older version as one that reads the same. */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void same(const uint8_t *data, size_t n, const uint8_t *out, size_t out_n)
{
    if (n != out_n || memcmp(data, out, n) != 0) {
        abort();
    }
}

/* A row of this table, of whichever version. */
#define CHECK_ROW(type, decode, encode, version)                                                   \
    do {                                                                                           \
        type r, again;                                                                             \
        if (decode(data, n, &r) != 0) {                                                            \
            break;                                                                                 \
        }                                                                                          \
        size_t out_n = encode(&r, out);                                                            \
        if (data[0] == (version)) {                                                                \
            same(data, n, out, out_n);                                                             \
            break;                                                                                 \
        }                                                                                          \
        if (decode(out, out_n, &again) != 0) {                                                     \
            abort();                                                                               \
        }                                                                                          \
        same((const uint8_t *)&r, sizeof r, (const uint8_t *)&again, sizeof again);                \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    uint8_t out[WORKER_ROW_MAX];
    if (n == 0) {
        return 0;
    }
    uint8_t table = data[0];
    data++;
    n--;
    if (table % 4 == 0) {
        CHECK_ROW(struct worker_row_session, worker_row_session_decode, worker_row_session_encode,
            WORKER_ROW_SESSION_VERSION);
    } else if (table % 4 == 1) {
        CHECK_ROW(struct worker_row_vm, worker_row_vm_decode, worker_row_vm_encode,
            WORKER_ROW_VM_VERSION);
    } else if (table % 4 == 2) {
        CHECK_ROW(struct worker_row_fence, worker_row_fence_decode, worker_row_fence_encode,
            data[0]); /* there is one version */
    } else {
        CHECK_ROW(struct worker_exec, worker_row_exec_decode, worker_row_exec_encode,
            WORKER_ROW_EXEC_VERSION);
    }
    return 0;
}
