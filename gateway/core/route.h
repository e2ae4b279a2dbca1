#pragma once
#include <stdbool.h>

#include "gateway/core/http.h"
#include "gateway/core/target.h"
#include "proto/ids.h"

/* Which operation a request asks for, on which pool and identifier (api contract sections 0 to 8).
 */
enum gw_op {
    GW_OP_NONE,
    GW_OP_EXECUTE,
    GW_OP_EXECUTION_GET,
    GW_OP_EXECUTION_EVENTS,
    GW_OP_EXECUTION_CANCEL,
    GW_OP_FILES_LIST,
    GW_OP_FILE_UPLOAD,
    GW_OP_FILE_STAT,
    GW_OP_FILE_CONTENT,
    GW_OP_FILE_DELETE,
    GW_OP_SESSION_GET,
    GW_OP_SESSION_DELETE,
    GW_OP_SESSIONS_LIST,
    GW_OP_MANAGEMENT_GET,
    GW_OP_MANAGEMENT_LIST,
    GW_OP_MANAGEMENT_STOP,
    GW_OP_METADATA,
    GW_OP_TERMINAL,
    GW_OP_MCP,        /* has keys of its own instead of tokens */
    GW_OP_MCP_FETCH,  /* the pool's key */
    GW_OP_MCP_ROTATE, /* a new one in its place */
    GW_OP_HEALTH,     /* of the gateway: no pool, no token */
};

const char *gw_route_op_name(enum gw_op op);

/* True when the operation is about one session, so that it needs an identifier. */
bool gw_route_needs_identifier(enum gw_op op);

enum gw_route_fault {
    GW_ROUTE_OK,
    GW_ROUTE_NO_RESOURCE, /* 404 */
    GW_ROUTE_NO_POOL,     /* 404: the name cannot be one of a pool */
    GW_ROUTE_METHOD,      /* 405; allow says which there are */
    GW_ROUTE_NO_IDENTIFIER,
    GW_ROUTE_IDENTIFIER_LENGTH,
    GW_ROUTE_IDENTIFIER_CHARACTER,
    GW_ROUTE_IDENTIFIER_TWICE, /* path and query name different ones */
    GW_ROUTE_PATH,             /* a file path that is not allowed */
};

/* Generations of the public API; by the date in api-version. */
enum gw_version {
    GW_VERSION_LEGACY,  /* up to 2024-08-02: files in `properties` */
    GW_VERSION_2024_10, /* executionResult is always text (its one client cannot read a number) */
    GW_VERSION_FLAT,    /* up to 2025-10-01, unknown ones, and none */
    GW_VERSION_2025_10, /* outputs are cut at 4096 unless asked for more */
};

struct gw_route {
    enum gw_op op;
    enum gw_version version;
    bool legacy; /* answer in the legacy shape */
    bool python; /* /python/execute: its clients read the legacy fields without `properties` */
    const char *allow; /* GW_ROUTE_METHOD */
    char pool[PROTO_POOL_NAME_MAX + 1];
    struct proto_identifier id;          /* len 0 when there is none */
    char execution[130];                 /* id of an execution, as the client spells it */
    char path[PROTO_PATH_BYTES_MAX + 1]; /* of a file or folder, relative to /mnt/data; "" = root */
    bool absolute;  /* path began with '/' and is outside /mnt/data; meant for shell pools */
    bool recursive; /* recursive=true */
    bool stream;    /* stream=true */
    uint32_t skip;  /* skip=N */
    uint32_t columns, rows; /* of a terminal; 0: not said */
    uint64_t after;         /* after=N */
    size_t prefix_len;      /* bytes of the target in front of the operation, for links */
};

enum gw_version gw_route_version(const char *v);

enum gw_route_fault gw_route_find(
    const struct gw_target *t, enum gw_method method, struct gw_route *ret);
