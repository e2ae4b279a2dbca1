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
        struct worker_row_session r;
        if (worker_row_session_decode(data, n, &r) == 0) {
            size_t out_n = worker_row_session_encode(&r, out);
            if (data[0] == WORKER_ROW_SESSION_VERSION) {
                same(data, n, out, out_n);
            } else {
                struct worker_row_session again;
                if (worker_row_session_decode(out, out_n, &again) != 0) {
                    abort();
                }
                same((const uint8_t *)&r, sizeof r, (const uint8_t *)&again, sizeof again);
            }
        }
    } else if (table % 4 == 1) {
        struct worker_row_vm r;
        if (worker_row_vm_decode(data, n, &r) == 0) {
            size_t out_n = worker_row_vm_encode(&r, out);
            if (data[0] == WORKER_ROW_VM_VERSION) {
                same(data, n, out, out_n);
            } else {
                struct worker_row_vm again;
                if (worker_row_vm_decode(out, out_n, &again) != 0) {
                    abort();
                }
                same((const uint8_t *)&r, sizeof r, (const uint8_t *)&again, sizeof again);
            }
        }
    } else if (table % 4 == 2) {
        struct worker_row_fence r;
        if (worker_row_fence_decode(data, n, &r) == 0) {
            same(data, n, out, worker_row_fence_encode(&r, out));
        }
    } else {
        struct worker_exec x;
        if (worker_row_exec_decode(data, n, &x) == 0) {
            size_t out_n = worker_row_exec_encode(&x, out);
            if (data[0] == WORKER_ROW_EXEC_VERSION) {
                same(data, n, out, out_n);
            } else {
                struct worker_exec again;
                if (worker_row_exec_decode(out, out_n, &again) != 0) {
                    abort();
                }
                same((const uint8_t *)&x, sizeof x, (const uint8_t *)&again, sizeof again);
            }
        }
    }
    return 0;
}
