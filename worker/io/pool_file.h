#pragma once
#include "proto/pool/pool.h"
#include "worker/core/pool.h"

/* A pool file (proto/pool/pool.h) as the pool manager and the engine take it. */
struct worker_pool_file {
    struct worker_pool_spec spec;
    enum proto_pool_container container;
    uint32_t cpus;
    uint32_t memory_mib;
    bool mcp;                 /* the pool has an MCP endpoint */
    bool mcp_extended;        /* with all tools */
    struct base_buf warnings; /* text, one warning a line; owned */
};

/* On success *ret is the caller's, to end with worker_pool_file_deinit(). Errors are those of
 * proto_pool_load(). */
int worker_pool_file_load(const char *path, struct worker_pool_file *ret, struct base_error *err);
int worker_pool_file_parse(
    const char *json, size_t n, struct worker_pool_file *ret, struct base_error *err);
void worker_pool_file_deinit(struct worker_pool_file *f);
