#include "scheduler/core/wheel.h"

enum { DIGIT = 8, FAR = SCHED_WHEEL_LISTS - 1, BLOCK = DIGIT * SCHED_WHEEL_LEVELS };

/* The tick whose start is at or after the time: a timer may be late by a tick, never early. */
static uint64_t tick_of(uint64_t due_ns)
{
    return due_ns / SCHED_WHEEL_TICK_NS + (due_ns % SCHED_WHEEL_TICK_NS != 0);
}

static void list_init(struct sched_wheel_node *head)
{
    head->next = head->prev = head;
}

static bool list_empty(const struct sched_wheel_node *head)
{
    return head->next == head;
}

static void list_append(struct sched_wheel_node *head, struct sched_wheel_node *n)
{
    n->next = head;
    n->prev = head->prev;
    head->prev->next = n;
    head->prev = n;
}

static void mark(struct sched_wheel *w, size_t list, bool used)
{
    if (list < FAR) {
        uint64_t bit = UINT64_C(1) << (list & 63);
        uint64_t *word = &w->used[list / 64];
        *word = used ? *word | bit : *word & ~bit;
    }
}

/* A node goes to the list of the highest base-256 digit in which its tick differs from the
 * wheel's. So all nodes of a level come before all nodes of the next one, and within a level the
 * used lists lie above the wheel's own digit. */
static void place(struct sched_wheel *w, struct sched_wheel_node *n)
{
    uint64_t tick = tick_of(n->due_ns);
    if (tick <= w->tick) {
        list_append(&w->ready, n);
        return;
    }
    size_t level = (63 - (unsigned)__builtin_clzll(tick ^ w->tick)) / DIGIT;
    size_t list = FAR;
    if (level < SCHED_WHEEL_LEVELS) {
        list = level * SCHED_WHEEL_SLOTS + (tick >> (level * DIGIT) & (SCHED_WHEEL_SLOTS - 1));
    }
    list_append(&w->lists[list], n);
    mark(w, list, true);
}

static void unlink_node(struct sched_wheel *w, struct sched_wheel_node *n)
{
    struct sched_wheel_node *head = n->next;
    bool last = head == n->prev;
    n->prev->next = n->next;
    n->next->prev = n->prev;
    n->next = n->prev = NULL;
    if (last && head != &w->ready) {
        mark(w, (size_t)(head - w->lists), false);
    }
}

void sched_wheel_init(struct sched_wheel *w, uint64_t now_ns)
{
    *w = (struct sched_wheel){.tick = now_ns / SCHED_WHEEL_TICK_NS, .now_ns = now_ns};
    list_init(&w->ready);
    for (size_t i = 0; i < SCHED_WHEEL_LISTS; i++) {
        list_init(&w->lists[i]);
    }
}

void sched_wheel_set(struct sched_wheel *w, struct sched_wheel_node *n, uint64_t due_ns)
{
    if (n->next != NULL) {
        if (due_ns >= n->due_ns) {
            n->due_ns = due_ns; /* it moves on when its list comes up */
            return;
        }
        unlink_node(w, n);
        w->n--;
    }
    n->due_ns = due_ns;
    place(w, n);
    w->n++;
}

void sched_wheel_cancel(struct sched_wheel *w, struct sched_wheel_node *n)
{
    if (n->next != NULL) {
        unlink_node(w, n);
        w->n--;
    }
}

/* The first used list and the tick at which it has to be looked at. False: all are empty. */
static bool first_list(const struct sched_wheel *w, size_t *list, uint64_t *tick)
{
    for (size_t i = 0; i < sizeof w->used / sizeof w->used[0]; i++) {
        if (w->used[i] != 0) {
            *list = i * 64 + (unsigned)__builtin_ctzll(w->used[i]);
            size_t shift = *list / SCHED_WHEEL_SLOTS * DIGIT, slot = *list % SCHED_WHEEL_SLOTS;
            *tick = (w->tick >> (shift + DIGIT) << DIGIT | slot) << shift;
            return true;
        }
    }
    *list = FAR;
    *tick = ((w->tick >> BLOCK) + 1) << BLOCK;
    return !list_empty(&w->lists[FAR]);
}

/* The whole list becomes ready: its nodes fire or find a list of a lower level. */
static void take(struct sched_wheel *w, size_t list)
{
    struct sched_wheel_node *head = &w->lists[list];
    w->ready = *head;
    w->ready.next->prev = w->ready.prev->next = &w->ready;
    list_init(head);
    mark(w, list, false);
}

struct sched_wheel_node *sched_wheel_pop(struct sched_wheel *w, uint64_t now_ns, unsigned *budget)
{
    w->now_ns = now_ns > w->now_ns ? now_ns : w->now_ns;
    uint64_t target = w->now_ns / SCHED_WHEEL_TICK_NS;
    while (*budget > 0) {
        if (list_empty(&w->ready)) {
            size_t list;
            uint64_t tick;
            if (!first_list(w, &list, &tick) || tick > target) {
                w->tick = target;
                return NULL;
            }
            w->tick = tick;
            take(w, list);
        }
        (*budget)--;
        struct sched_wheel_node *n = w->ready.next;
        unlink_node(w, n);
        if (tick_of(n->due_ns) <= w->tick) {
            w->n--;
            return n;
        }
        place(w, n);
    }
    return NULL;
}

uint64_t sched_wheel_next_ns(const struct sched_wheel *w)
{
    size_t list;
    uint64_t tick;
    if (!list_empty(&w->ready)) {
        return 0;
    }
    if (!first_list(w, &list, &tick)) {
        return UINT64_MAX;
    }
    return tick > UINT64_MAX / SCHED_WHEEL_TICK_NS ? UINT64_MAX : tick * SCHED_WHEEL_TICK_NS;
}
