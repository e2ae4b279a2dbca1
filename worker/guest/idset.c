#include "worker/guest/idset.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base/err.h"
#include "proto/base/hash.h"

enum { CAP_FIRST = 256 };

void agent_idset_init(struct agent_idset *s, const uint8_t key[16])
{
    *s = (struct agent_idset){0};
    memcpy(s->key, key, sizeof s->key);
}

static void free_half(struct agent_idset_half *h)
{
    free(h->slot);
    free(h->used);
    *h = (struct agent_idset_half){0};
}

void agent_idset_deinit(struct agent_idset *s)
{
    free_half(&s->young);
    free_half(&s->old);
}

/* Where id is, or the free slot where it belongs. cap > 0 and never full. */
static size_t find(const struct agent_idset_half *h, const uint8_t key[16], const uint8_t *id)
{
    size_t i = base_hash_sip24(key, id, PROTO_EXEC_ID_BYTES) & (h->cap - 1);
    while (h->used[i] && memcmp(h->slot[i], id, PROTO_EXEC_ID_BYTES) != 0) {
        i = (i + 1) & (h->cap - 1);
    }
    return i;
}

bool agent_idset_has(const struct agent_idset *s, const uint8_t id[PROTO_EXEC_ID_BYTES])
{
    const struct agent_idset_half *half[] = {&s->young, &s->old};
    for (int i = 0; i < 2; i++) {
        if (half[i]->cap > 0 && half[i]->used[find(half[i], s->key, id)]) {
            return true;
        }
    }
    return false;
}

static int enlarge(struct agent_idset_half *h, const uint8_t key[16])
{
    size_t cap = h->cap == 0 ? CAP_FIRST : h->cap * 2;
    struct agent_idset_half big = {.cap = cap, .count = h->count};
    big.slot = malloc(cap * sizeof *big.slot);
    big.used = calloc(cap, 1);
    if (big.slot == NULL || big.used == NULL) {
        free_half(&big);
        return BASE_ENOMEM;
    }
    for (size_t i = 0; i < h->cap; i++) {
        if (h->used[i]) {
            size_t k = find(&big, key, h->slot[i]);
            memcpy(big.slot[k], h->slot[i], PROTO_EXEC_ID_BYTES);
            big.used[k] = 1;
        }
    }
    free_half(h);
    *h = big;
    return 0;
}

int agent_idset_add(struct agent_idset *s, const uint8_t id[PROTO_EXEC_ID_BYTES])
{
    if (agent_idset_has(s, id)) {
        return 0;
    }
    if (s->young.count >= AGENT_IDSET_KEEP) {
        free_half(&s->old);
        s->old = s->young;
        s->young = (struct agent_idset_half){0};
    }
    if (s->young.count * 2 >= s->young.cap) {
        int rc = enlarge(&s->young, s->key);
        if (rc != 0) {
            return rc;
        }
    }
    size_t k = find(&s->young, s->key, id);
    memcpy(s->young.slot[k], id, PROTO_EXEC_ID_BYTES);
    s->young.used[k] = 1;
    s->young.count++;
    return 0;
}
