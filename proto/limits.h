#pragma once
#include <stdint.h>

/* Bounds on everything that crosses a process boundary. One place, so that both ends agree. */
enum {
    /* names; source: api contract section 1 and 11 */
    PROTO_POOL_NAME_MIN = 3,
    PROTO_POOL_NAME_MAX = 63,
    PROTO_IDENTIFIER_MIN = 4,
    PROTO_IDENTIFIER_MAX = 128,
    PROTO_EXEC_ID_BYTES = 16,
    PROTO_EXEC_DIGEST_BYTES = 16,

    /* executions */
    PROTO_CODE_BYTES_MAX = 4 << 20,    /* one execution's code or shell command */
    PROTO_EVENT_BYTES_MAX = 8 << 20,   /* one event (a figure, say), serialised */
    PROTO_EVENT_WINDOW = 256 << 10,    /* unacknowledged event bytes per execution, each hop */
    PROTO_TIMEOUT_MS_DEFAULT = 120000, /* container default of the public service */
    PROTO_TIMEOUT_MS_MAX = 220000,     /* service maximum */
    PROTO_ARGV_MAX = 256,

    /* files */
    PROTO_PATH_BYTES_MAX = 1024,
    PROTO_UPLOAD_BYTES_MAX = 128 << 20,
    PROTO_LIST_ENTRIES_MAX = 10000,

    /* streams between gateway and worker */
    PROTO_CHUNK_BYTES = 64 << 10,
    PROTO_CHUNK_CREDIT = 4, /* chunks in flight per stream */
    PROTO_CTL_BYTES_MAX = 128 << 10,
    PROTO_BULK_BYTES_MAX = 9 << 20, /* a whole request with the longest code, or one event */
    PROTO_CLUSTER_LEASE_MS = 5000,  /* of settings that a cluster does not name */
    PROTO_CLUSTER_MEMBERS = 256,
    PROTO_CLUSTER_PARTITION_BITS = 12,
    PROTO_NODE_BYTES_MAX = 1 << 20, /* between schedulers; the longest is a view */

    /* guest channel */
    PROTO_FRAME_HEAD = 8,
    PROTO_FRAME_PAYLOAD_MAX = 32760, /* the virtio console driver writes at most 32768 at once */
    PROTO_FRAME_RESYNC = 32768 + 8,  /* zero bytes that complete any half frame */
    PROTO_FRAME_STREAM_WINDOW = 256 << 10,
    PROTO_GUEST_STREAMS_MAX = 256,

    /* pools of one worker */
    PROTO_POOLS_MAX = 64,
    PROTO_SESSIONS_PER_POOL_MAX = 4096,
};
