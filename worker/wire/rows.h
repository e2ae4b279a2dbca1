#pragma once
#include <stddef.h>
#include <stdint.h>

#include "worker/core/exec.h"
#include "worker/core/pool.h"

/* Rows of the store: packed, little endian, a version byte first. Keys sort as their parts do
 * (big endian). Rows name pools by name: numbers of pools change with the configuration.
 *
 * Decoders take any bytes: 0, BASE_EBADMSG (not such a row), BASE_EVERSION (of a newer program). */
enum {
    WORKER_ROW_VERSION = 1,
    WORKER_ROW_SESSION_VERSION = 2, /* 1 had no tenant */
    WORKER_ROW_VM_VERSION = 2,      /* 1 had no template */
    WORKER_ROW_EXEC_VERSION = 2,    /* 1 had no digest */
    WORKER_ROW_MAX = 320,           /* bytes of any row here */
    WORKER_ROW_KEY_MAX = 208,       /* bytes of any key here */
    WORKER_ROW_VM_ID_BYTES = 16,
};

struct worker_row_session {
    enum worker_session_state state;
    enum worker_end end;
    enum worker_end recreated;
    uint32_t slot;
    proto_epoch epoch;
    uint64_t hash;
    uint64_t created_ns; /* boot time */
    uint64_t last_ns;
    char pool[PROTO_POOL_NAME_MAX + 1];
    struct proto_identifier id;
    struct proto_tenant tenant;
};

struct worker_row_vm {
    enum worker_slot_state state;
    uint32_t slot;
    proto_epoch epoch; /* of its session, 0: none */
    uint64_t template; /* a hash of what it was made of; 0: not known */
    uint8_t vm_id[WORKER_ROW_VM_ID_BYTES];
    char pool[PROTO_POOL_NAME_MAX + 1];
};

struct worker_row_fence {
    enum worker_end end;
    proto_epoch epoch;
    uint64_t hash;
    char pool[PROTO_POOL_NAME_MAX + 1];
    struct proto_identifier id;
};

/* All encoders return the number of bytes written, at most WORKER_ROW_MAX or _KEY_MAX. */
size_t worker_row_session_key(
    uint64_t hash, const char *pool, const struct proto_identifier *id, uint8_t *out);
size_t worker_row_vm_key(uint32_t slot, uint8_t *out);
size_t worker_row_event_key(const uint8_t id[PROTO_EXEC_ID_BYTES], uint64_t seq, uint8_t *out);

size_t worker_row_session_encode(const struct worker_row_session *r, uint8_t *out);
size_t worker_row_vm_encode(const struct worker_row_vm *r, uint8_t *out);
size_t worker_row_fence_encode(const struct worker_row_fence *r, uint8_t *out);
size_t worker_row_exec_encode(const struct worker_exec *x, uint8_t *out); /* key: its id */

int worker_row_session_decode(const uint8_t *p, size_t n, struct worker_row_session *ret);
int worker_row_vm_decode(const uint8_t *p, size_t n, struct worker_row_vm *ret);
int worker_row_fence_decode(const uint8_t *p, size_t n, struct worker_row_fence *ret);
/* Fills what worker_exec_restore() reads. */
int worker_row_exec_decode(const uint8_t *p, size_t n, struct worker_exec *ret);
/* The number in an event's key. BASE_EBADMSG. */
int worker_row_event_seq(const uint8_t *key, size_t n, uint64_t *ret_seq);
