#pragma once
#include "scheduler/core/map.h"
#include "scheduler/core/version.h"

/* Which versions others speak, as they said lately. Who has said nothing for SCHED_SPEAK_LIFE_MS is
 * as one that never did: an older build that runs again under a name tells nothing. */

enum {
    SCHED_SPEAK_TELL_MS = 1500, /* it is said this often while it matters */
    SCHED_SPEAK_LIFE_MS = 30000,
    SCHED_SPEAK_GUESTS_MAX =
        256, /* nodes beside the members: voters, gateways, who wants to join */
};

struct sched_speak_entry {
    uint64_t node;
    uint64_t heard_ns;
    struct sched_speaks speaks; /* max 0: it was heard, and has not told */
};

struct sched_speak {
    struct sched_map by_node;
    struct sched_speak_entry *entries;
    uint32_t n, cap;
};

void sched_speak_init(struct sched_speak *s, uint32_t members_max, struct sched_mem *mem);

/* What a node says; {0, 0}: that it is there, which changes nothing that it said lately. When the
 * table is full of nodes that were heard lately it is not noted. */
void sched_speak_hear(
    struct sched_speak *s, uint64_t node, struct sched_speaks speaks, uint64_t now_ns);

/* max 0: nothing is known. */
struct sched_speaks sched_speak_of(const struct sched_speak *s, uint64_t node, uint64_t now_ns);

/* The i-th entry if it was heard lately, else NULL; i < s->n. */
const struct sched_speak_entry *sched_speak_at(
    const struct sched_speak *s, uint32_t i, uint64_t now_ns);
