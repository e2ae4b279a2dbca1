#pragma once
#include <stdbool.h>
#include <stddef.h>

/* Ring of embedded links: a head and its members look alike. A link that is in no list points at
 * itself, so removing twice is harmless. */
struct worker_list {
    struct worker_list *prev;
    struct worker_list *next;
};

static inline void worker_list_init(struct worker_list *l)
{
    l->prev = l->next = l;
}

static inline bool worker_list_empty(const struct worker_list *l)
{
    return l->next == l;
}

static inline void worker_list_remove(struct worker_list *l)
{
    l->prev->next = l->next;
    l->next->prev = l->prev;
    worker_list_init(l);
}

/* Before `at`: at the end when `at` is the head. */
static inline void worker_list_insert(struct worker_list *at, struct worker_list *l)
{
    l->prev = at->prev;
    l->next = at;
    at->prev->next = l;
    at->prev = l;
}

static inline void worker_list_append(struct worker_list *head, struct worker_list *l)
{
    worker_list_insert(head, l);
}

static inline void worker_list_prepend(struct worker_list *head, struct worker_list *l)
{
    worker_list_insert(head->next, l);
}

/* The first member, NULL when there is none. */
static inline struct worker_list *worker_list_first(const struct worker_list *head)
{
    return worker_list_empty(head) ? NULL : head->next;
}

/* Moves all members of `from` to the end of `to`. */
static inline void worker_list_splice(struct worker_list *to, struct worker_list *from)
{
    if (worker_list_empty(from)) {
        return;
    }
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    worker_list_init(from);
}
