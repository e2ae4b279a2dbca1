#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The queue of news that a node still has to pass on, and the budget of bytes it may send.
 *
 * An item names a member and a class, not a content: what is sent is what the member's entry says
 * at that moment, so that old news is never sent after newer. Items leave after a number of
 * transmissions; those sent least often go first, membership before edges.
 *
 * No heap, clock or I/O. Not thread-safe. */
enum sched_gossip_class {
    SCHED_GOSSIP_MEMBER, /* somebody joined, is suspected, died, left, refuted */
    SCHED_GOSSIP_EDGE,   /* somebody's drain flag or room changed */
    SCHED_GOSSIP_CLASSES,
};

enum {
    SCHED_GOSSIP_SENDS_MAX = 32, /* no item is sent more often */
    SCHED_GOSSIP_QUEUE_MAX = 0xfffe,
    SCHED_GOSSIP_NONE = 0xffff,
};

struct sched_gossip_item;

struct sched_gossip_list {
    uint16_t head, tail;
};

struct sched_gossip {
    struct sched_gossip_item *items;
    uint64_t *queued[SCHED_GOSSIP_CLASSES]; /* bit per member */
    struct sched_gossip_list lists[SCHED_GOSSIP_CLASSES][SCHED_GOSSIP_SENDS_MAX];
    uint16_t count[SCHED_GOSSIP_CLASSES];
    uint16_t cap;
    uint16_t free;
    uint16_t high; /* items at and above were never used */
    uint32_t members_max;
    uint64_t overflows; /* items thrown out, or not taken in, for want of room */
};

/* Bytes for a queue of cap items about members 0..members_max-1: 24 per item, 2 bits per member.
 * 0: out of range. */
size_t sched_gossip_size(uint32_t cap, uint32_t members_max);

/* mem is aligned to 8 bytes and stays until the last use. BASE_EINVAL, BASE_ENOMEM. */
int sched_gossip_init(
    struct sched_gossip *g, uint32_t cap, uint32_t members_max, void *mem, size_t mem_size);

/* Queues news of a member with no transmission behind it, replacing older news of the class. `by`
 * is passed along (who suspects). When the queue is full an edge makes room, then the membership
 * item sent most often; when nothing has been sent yet the new item is not taken. */
void sched_gossip_put(
    struct sched_gossip *g, enum sched_gossip_class class, uint16_t member, uint64_t by);

/* Drops what is queued about a member. */
void sched_gossip_forget(struct sched_gossip *g, uint16_t member);

static inline bool sched_gossip_empty(const struct sched_gossip *g)
{
    return g->count[SCHED_GOSSIP_MEMBER] == 0 && g->count[SCHED_GOSSIP_EDGE] == 0;
}

struct sched_gossip_pick {
    uint64_t by;
    uint16_t member;
    uint16_t class;
};

struct sched_gossip_ask {
    size_t room;                         /* bytes left in the packet */
    uint8_t sends[SCHED_GOSSIP_CLASSES]; /* items leave after so many, 1..SENDS_MAX */
    bool allowed[SCHED_GOSSIP_CLASSES];  /* by the budget */
    uint32_t skip;                       /* a member whose news does not go out now */
    size_t (*size)(const void *ctx, const struct sched_gossip_pick *pick);
    const void *ctx;
};

/* Chooses items for one packet, at most max, and counts the transmission. Returns how many;
 * *ret_bytes is what they take. */
size_t sched_gossip_take(struct sched_gossip *g, const struct sched_gossip_ask *ask,
    struct sched_gossip_pick *out, size_t max, size_t *ret_bytes);

/* Bytes per second, as a bucket of tokens. In any time t at most rate * t + burst + debt bytes are
 * sent, where debt is how far the urgent packets may overdraw. */
struct sched_budget {
    int64_t tokens; /* bytes times 10^6 */
    uint64_t at_us;
    uint32_t rate; /* bytes per second; 0: no limit */
    uint32_t burst;
    uint32_t debt;
};

enum sched_budget_class {
    SCHED_BUDGET_URGENT, /* probes and their answers */
    SCHED_BUDGET_MEMBER, /* news of members */
    SCHED_BUDGET_EDGE,   /* only from the upper half of the bucket */
};

void sched_budget_init(struct sched_budget *b, uint32_t rate, uint32_t burst, uint64_t now_us);

/* How many bytes of the class may go now; does not spend them. */
size_t sched_budget_room(struct sched_budget *b, enum sched_budget_class class, uint64_t now_us);
void sched_budget_spend(struct sched_budget *b, size_t bytes);
