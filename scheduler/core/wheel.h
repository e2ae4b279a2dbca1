#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Timers by the hundred thousand: a hierarchical wheel of 4 x 256 slots with a tick of 10 ms.
 *
 * A timer is a node embedded in its owner; the wheel allocates nothing and knows no clock. Setting
 * and cancelling cost a few stores whatever the number of timers. Putting a timer off, the case of
 * every request of a session, is one store: the node stays where it is and moves on when its old
 * time comes (that is what makes the wheel lazy).
 *
 * A timer never fires early. It fires in the first pop whose time has reached its due time rounded
 * up to a whole tick. The work of one turn is bounded by a budget of nodes; what is left over comes
 * first in the next turn. Timers fire in the order of their ticks, within a tick in an order that
 * depends only on the calls made, never on addresses.
 *
 *     unsigned budget = 2000;
 *     struct sched_wheel_node *n;
 *     while ((n = sched_wheel_pop(&w, now_ns, &budget)) != NULL) {
 *         struct session *s = CONTAINER_OF(n, struct session, timer);
 *         ...                                     may set or cancel any node, or free s
 *     }
 *     arm the loop's timer for sched_wheel_next_ns(&w);
 *
 * Times are ns of one monotonic clock, the caller's choice. Not thread-safe. */

#define SCHED_WHEEL_TICK_NS UINT64_C(10000000)

enum {
    SCHED_WHEEL_LEVELS = 4,
    SCHED_WHEEL_SLOTS = 256, /* per level */
    /* One list more for what lies beyond the current block of 2^32 ticks (497 days). */
    SCHED_WHEEL_LISTS = SCHED_WHEEL_LEVELS * SCHED_WHEEL_SLOTS + 1,
};

/* Zero means not armed. While armed it must stay at its address. */
struct sched_wheel_node {
    struct sched_wheel_node *next; /* NULL: not armed */
    struct sched_wheel_node *prev;
    uint64_t due_ns;
};

/* About 16 KiB; must stay at its address while a node is armed. Fields are private. */
struct sched_wheel {
    uint64_t tick;                               /* lists hold nodes of later ticks only */
    uint64_t now_ns;                             /* the latest time seen */
    size_t n;                                    /* armed nodes */
    uint64_t used[(SCHED_WHEEL_LISTS - 1) / 64]; /* bit set: the list is not empty */
    struct sched_wheel_node ready;               /* due, or to be moved to a list */
    struct sched_wheel_node lists[SCHED_WHEEL_LISTS];
};

void sched_wheel_init(struct sched_wheel *w, uint64_t now_ns);

/* Arms the node for due_ns, or changes its due time when it is armed. A due time that has passed
 * already fires in the next pop. UINT64_MAX never fires. */
void sched_wheel_set(struct sched_wheel *w, struct sched_wheel_node *n, uint64_t due_ns);

/* Disarms the node; nothing happens when it is not armed. */
void sched_wheel_cancel(struct sched_wheel *w, struct sched_wheel_node *n);

static inline bool sched_wheel_armed(const struct sched_wheel_node *n)
{
    return n->next != NULL;
}

/* The next node that is due at now_ns, disarmed; its due_ns tells what it was armed for. NULL when
 * no more are due or the budget is used up. *budget falls by one for every node that is looked at,
 * whether it fires or only moves on to its list; that bounds the work of a turn. A now_ns before
 * the latest one seen counts as that one. */
struct sched_wheel_node *sched_wheel_pop(struct sched_wheel *w, uint64_t now_ns, unsigned *budget);

/* When to call pop next. A time that has passed, 0 too, means at once (the budget ended a turn);
 * UINT64_MAX: nothing will ever fire. Never later than the first timer's tick. It may be earlier,
 * when nodes only have to move on: a timer causes at most 4 such turns, and a few more when it has
 * been put off or lies more than 497 days ahead. */
uint64_t sched_wheel_next_ns(const struct sched_wheel *w);
