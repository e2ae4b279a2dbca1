#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/limits.h"

/* Which execution ids ran already. Remembers at least the last AGENT_IDSET_KEEP of them in bounded
 * memory: two generations, the older one is dropped when the younger is full. */
enum { AGENT_IDSET_KEEP = 65536 };

struct agent_idset_half {
    uint8_t (*slot)[PROTO_EXEC_ID_BYTES];
    uint8_t *used;
    size_t cap; /* power of two, or 0 */
    size_t count;
};

struct agent_idset {
    struct agent_idset_half young, old;
    uint8_t key[16]; /* of the hash */
};

void agent_idset_init(struct agent_idset *s, const uint8_t key[16]);
void agent_idset_deinit(struct agent_idset *s);

bool agent_idset_has(const struct agent_idset *s, const uint8_t id[PROTO_EXEC_ID_BYTES]);

/* 0 (also when it is known already) or BASE_ENOMEM. */
int agent_idset_add(struct agent_idset *s, const uint8_t id[PROTO_EXEC_ID_BYTES]);
