#include <stdlib.h>
#include <string.h>

#include "worker/wire/request.h"

/* A body from a gateway: unpacked in bounded memory, then checked. What passes the check keeps the
 * promises that worker/io/rpc*.c relies on. */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void *take(void *user, size_t n)
{
    (void)user;
    return malloc(n);
}

static void give_back(void *user, void *p)
{
    (void)user;
    free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const ProtobufCAllocator system = {.alloc = take, .free = give_back};
    struct worker_request_alloc a;
    worker_request_alloc_init(&a, &system, n * 4 + 4096);
    Warren__Request *r = warren__request__unpack(&a.base, n, data);
    if (r == NULL) {
        return 0;
    }
    if (worker_request_check(r).status == WARREN__STATUS__STATUS_OK) {
        struct proto_identifier id;
        worker_request_id(r, &id);
        struct proto_tenant tenant;
        worker_request_tenant(r, &tenant);
        if (r->tenant.len != 0 && memcmp(&tenant, r->tenant.data, sizeof tenant) != 0) {
            abort();
        }
        bool none = r->op_case == WARREN__REQUEST__OP_SESSION_LIST ||
                    r->op_case == WARREN__REQUEST__OP_POOL_GET;
        if ((id.len == 0) != none || id.len > PROTO_IDENTIFIER_MAX) {
            abort();
        }
        if (r->op_case == WARREN__REQUEST__OP_EXEC &&
            (r->exec->id.len != PROTO_EXEC_ID_BYTES || r->exec->code.len > PROTO_CODE_BYTES_MAX)) {
            abort();
        }
    }
    warren__request__free_unpacked(r, NULL);
    return 0;
}
