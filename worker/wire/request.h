#pragma once
#include <stddef.h>
#include <stdint.h>

#include "proto/session.pb-c.h"
#include "proto/tenant.h"
#include "worker/core/pool.h"

/* Requests of gateways: bytes of a peer, so every length, number and name is checked here and
 * nowhere else. */

struct worker_request_check {
    Warren__Status status; /* STATUS_OK, or what to answer */
    const char *text;      /* why, for people; static */
};

/* Is the request whole and within the limits? */
struct worker_request_check worker_request_check(const Warren__Request *r);

/* The identifier of a checked request; len 0 when its operation has none. */
void worker_request_id(const Warren__Request *r, struct proto_identifier *ret);

/* Who pays for a checked request; all zero: nobody. */
void worker_request_tenant(const Warren__Request *r, struct proto_tenant *ret);

/* Memory for unpacking: a message can ask for many times its own size (empty repeated fields), so
 * what it may take in all is bounded. Embed, init, pass &a->base to unpack. The memory itself comes
 * from `more` and goes back with its free, so a message may be freed with a NULL allocator when
 * `more` is the default. */
struct worker_request_alloc {
    ProtobufCAllocator base;
    const ProtobufCAllocator *more;
    size_t left;
};
void worker_request_alloc_init(
    struct worker_request_alloc *a, const ProtobufCAllocator *more, size_t bytes_max);
