#include "worker/wire/request.h"

#include <string.h>

#include "proto/limits.h"
#include "proto/terminal.h"

enum {
    TRACE_MAX = 128,
    ARGV_BYTES_MAX = 128 << 10,
    LIST_MAX = 300,
};

static struct worker_request_check ok(void)
{
    return (struct worker_request_check){WARREN__STATUS__STATUS_OK, ""};
}

static struct worker_request_check bad(const char *text)
{
    return (struct worker_request_check){WARREN__STATUS__STATUS_INVALID, text};
}

static struct worker_request_check exec_id(const ProtobufCBinaryData *id)
{
    return id->len == PROTO_EXEC_ID_BYTES ? ok() : bad("execution id: must have 16 bytes");
}

static struct worker_request_check exec_cancel(const Warren__ExecCancel *c)
{
    return c->digest.len == 0 || c->digest.len == PROTO_EXEC_DIGEST_BYTES
               ? exec_id(&c->id)
               : bad("digest: must have 16 bytes");
}

static struct worker_request_check argv(const Warren__Exec *e)
{
    size_t n = 0;
    if (e->n_argv > PROTO_ARGV_MAX) {
        return bad("argv: too many arguments");
    }
    for (size_t i = 0; i < e->n_argv; i++) {
        n += strlen(e->argv[i]) + 1;
    }
    return n <= ARGV_BYTES_MAX ? ok() : bad("argv: too long");
}

static struct worker_request_check exec(const Warren__Exec *e)
{
    struct worker_request_check c = exec_id(&e->id);
    if (c.status != WARREN__STATUS__STATUS_OK) {
        return c;
    }
    if (e->kernel != WARREN__KERNEL__KERNEL_PYTHON && e->kernel != WARREN__KERNEL__KERNEL_NODE &&
        e->kernel != WARREN__KERNEL__KERNEL_SHELL) {
        return bad("kernel: is missing or not known");
    }
    if (e->code.len > PROTO_CODE_BYTES_MAX) {
        return (struct worker_request_check){WARREN__STATUS__STATUS_TOO_LARGE, "code: too long"};
    }
    if (e->code.len == 0 && e->n_argv == 0) {
        return bad("code: is missing");
    }
    if (e->timeout_ms > PROTO_TIMEOUT_MS_MAX) {
        return bad("timeout: too long");
    }
    return argv(e);
}

static struct worker_request_check path(const char *p, bool may_be_empty)
{
    size_t n = strlen(p);
    if (n == 0 && !may_be_empty) {
        return bad("path: is missing");
    }
    return n <= PROTO_PATH_BYTES_MAX ? ok() : bad("path: too long");
}

static struct worker_request_check file_put(const Warren__FilePut *f)
{
    if (f->size_max > PROTO_UPLOAD_BYTES_MAX) {
        return (struct worker_request_check){WARREN__STATUS__STATUS_TOO_LARGE, "size: too large"};
    }
    return path(f->path, false);
}

static struct worker_request_check terminal(const Warren__Terminal *t)
{
    return t->columns <= PROTO_TERMINAL_CELLS_MAX && t->rows <= PROTO_TERMINAL_CELLS_MAX
               ? ok()
               : bad("size: too many columns or rows");
}

static struct worker_request_check operation(const Warren__Request *r)
{
    switch (r->op_case) {
    case WARREN__REQUEST__OP_EXEC:
        return exec(r->exec);
    case WARREN__REQUEST__OP_EXEC_ATTACH:
        return exec_id(&r->exec_attach->id);
    case WARREN__REQUEST__OP_EXEC_CANCEL:
        return exec_cancel(r->exec_cancel);
    case WARREN__REQUEST__OP_FILE_PUT:
        return file_put(r->file_put);
    case WARREN__REQUEST__OP_FILE_GET:
        return path(r->file_get->path, false);
    case WARREN__REQUEST__OP_FILE_LIST:
        return path(r->file_list->path, true);
    case WARREN__REQUEST__OP_FILE_STAT:
        return path(r->file_stat->path, true);
    case WARREN__REQUEST__OP_FILE_DELETE:
        return path(r->file_delete->path, false);
    case WARREN__REQUEST__OP_TERMINAL:
        return terminal(r->terminal);
    case WARREN__REQUEST__OP_SESSION_LIST:
        return r->session_list->limit <= LIST_MAX ? ok() : bad("limit: at most 300");
    case WARREN__REQUEST__OP_SESSION_GET:
    case WARREN__REQUEST__OP_SESSION_DELETE:
    case WARREN__REQUEST__OP_POOL_GET:
        return ok();
    case WARREN__REQUEST__OP__NOT_SET:
    case _WARREN__REQUEST__OP__CASE_IS_INT_SIZE:
        break;
    }
    return bad("operation: is missing or not known");
}

static bool has_no_identifier(const Warren__Request *r)
{
    return r->op_case == WARREN__REQUEST__OP_SESSION_LIST ||
           r->op_case == WARREN__REQUEST__OP_POOL_GET;
}

void worker_request_id(const Warren__Request *r, struct proto_identifier *ret)
{
    memset(ret, 0, sizeof *ret);
    if (!has_no_identifier(r)) {
        (void)proto_identifier_set(ret, r->key->identifier.data, r->key->identifier.len);
    }
}

void worker_request_tenant(const Warren__Request *r, struct proto_tenant *ret)
{
    memset(ret, 0, sizeof *ret);
    if (r->tenant.len == PROTO_TENANT_BYTES) {
        memcpy(ret->id, r->tenant.data, PROTO_TENANT_BYTES);
    }
}

struct worker_request_check worker_request_check(const Warren__Request *r)
{
    if (r->key == NULL) {
        return bad("key: is missing");
    }
    if (!proto_pool_name_valid(r->key->pool, strnlen(r->key->pool, PROTO_POOL_NAME_MAX + 1))) {
        return bad("pool: is not a name of a pool");
    }
    struct proto_identifier id;
    if (has_no_identifier(r)) {
        if (r->key->identifier.len > 0) {
            return bad("identifier: this operation has none");
        }
    } else if (r->key->identifier.len == 0 || proto_identifier_set(&id, r->key->identifier.data,
                                                  r->key->identifier.len) != PROTO_IDENTIFIER_OK) {
        return bad("identifier: wrong length or characters");
    }
    if (strnlen(r->trace_parent, TRACE_MAX + 1) > TRACE_MAX) {
        return bad("trace_parent: too long");
    }
    if (r->tenant.len != 0 && r->tenant.len != PROTO_TENANT_BYTES) {
        return bad("tenant: must have 16 bytes");
    }
    return operation(r);
}

static void *take(void *user, size_t n)
{
    struct worker_request_alloc *a = user;
    size_t cost = n + 32; /* what a heap block costs beyond its bytes, about */
    if (n > SIZE_MAX - 32 || cost > a->left) {
        return NULL;
    }
    void *p = a->more->alloc(a->more->allocator_data, n);
    a->left -= p != NULL ? cost : 0;
    return p;
}

static void give_back(void *user, void *p)
{
    const struct worker_request_alloc *a = user;
    a->more->free(a->more->allocator_data, p);
}

void worker_request_alloc_init(
    struct worker_request_alloc *a, const ProtobufCAllocator *more, size_t bytes_max)
{
    *a = (struct worker_request_alloc){
        .base = {.alloc = take, .free = give_back}, .more = more, .left = bytes_max};
    a->base.allocator_data = a;
}
