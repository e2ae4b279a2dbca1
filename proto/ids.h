#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/limits.h"

/* Version of the guest channel that this build speaks (GuestHello.protocol). */
enum { PROTO_GUEST_VERSION = 1 };

typedef uint64_t proto_epoch; /* view:32 | round:16 | seat:16; what clients see as the generation */

/* A client's identifier: 4..128 characters of the public contract's set (section 1, pattern A). */
struct proto_identifier {
    uint8_t len;
    char text[PROTO_IDENTIFIER_MAX]; /* not terminated */
};

enum proto_identifier_fault {
    PROTO_IDENTIFIER_OK,
    PROTO_IDENTIFIER_LENGTH,
    PROTO_IDENTIFIER_CHARACTER,
};

enum proto_identifier_fault proto_identifier_set(
    struct proto_identifier *id, const void *text, size_t n);

/* Pool name: [a-z][a-z0-9-]*[a-z0-9], 3..63. */
bool proto_pool_name_valid(const char *text, size_t n);
