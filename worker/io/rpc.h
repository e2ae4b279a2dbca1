#pragma once
#include <ev.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "proto/base/log.h"
#include "proto/net/loop_zmq.h"
#include "worker/io/engine.h"
#include "worker/io/member.h"
#include "worker/io/session_io.h"

/* The worker's side of proto/WIRE.md: two ROUTER sockets, one state machine per exchange.
 * Everything a gateway can make it keep is bounded: exchanges, bytes of requests, chunks and events
 * in flight.
 *
 * Request.tenant is who a request, its session and its execution are counted for
 * (worker/core/quota); over a limit it is answered STATUS_FULL, "QuotaExceeded". Requests of
 * tenants take turns. */
struct worker_rpc;

struct worker_rpc_config {
    struct ev_loop *loop;
    const struct base_log *log;
    struct worker_sessions *sessions;
    struct worker_engine *engine;
    const char *ctl; /* endpoints to bind */
    const char *bulk;
    const struct proto_net_key *key; /* NULL: no encryption (loopback only, insecure mode) */
    const char *clients;             /* allow-list file; with key */
    uint32_t view;                   /* 1: gateways and workers of this version know no other */
    struct worker_member *member;    /* NULL: not in a cluster */
    uint32_t exchanges_max;          /* 0: 8192 */
    uint64_t request_bytes_max;      /* memory of all requests held; 0: 256 MiB */
    /* No exchange lasts longer, whatever its gateway says: one that died would hold a session for
     * ever. 0: 1 h. */
    uint32_t deadline_ms_max;
    /* How often it looks whether the gateways of open exchanges are still connected, beside
     * when some connection ends. 0: 10 s. */
    uint32_t peers_ms;
};

int worker_rpc_create(
    const struct worker_rpc_config *config, struct worker_rpc **ret, struct base_error *err);
/* Drops every exchange without an answer. NULL is fine. */
void worker_rpc_destroy(struct worker_rpc *r);

/* What was bound, with the port. */
const char *worker_rpc_endpoint(const struct worker_rpc *r, enum proto_net_class class);

struct worker_rpc_stats {
    uint64_t requests;
    uint64_t refused;   /* malformed, wrong version, over a limit */
    uint32_t exchanges; /* open now */
    uint64_t request_bytes;
};
void worker_rpc_stats(const struct worker_rpc *r, struct worker_rpc_stats *ret);
