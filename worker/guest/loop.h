#pragma once
#include <stdbool.h>
#include <stdint.h>

/* Event loop of the agent: epoll and a handful of timers, one thread. It blocks in epoll_wait with
 * no timeout when no timer runs, so an idle agent costs nothing. While one runs it wakes up once a
 * second: a longer absence was a frozen microVM, and that time counts for no timer. */

struct agent_watch {
    int fd; /* -1: not watched */
    void (*ready)(struct agent_watch *w, uint32_t events);
};

/* A timer that fires once at at_ns of the monotonic clock; 0 is off. Linked while in the loop. */
struct agent_timer {
    uint64_t at_ns;
    void (*fired)(struct agent_timer *t);
    struct agent_timer *next;
};

enum { AGENT_LOOP_BATCH = 16 };

struct agent_loop {
    int epoll_fd;
    struct agent_watch *batch[AGENT_LOOP_BATCH]; /* of this turn; NULL once removed */
    int batch_n;
    struct agent_timer *timers;
    uint64_t seen_ns; /* when it was awake last */
    uint64_t rest_ns; /* and how long it meant to sleep then */
    bool again;       /* work is left: the next turn does not block */
};

/* 0 or -errno. */
int agent_loop_init(struct agent_loop *l);
void agent_loop_deinit(struct agent_loop *l);

/* events as for epoll_ctl. The watch must stay where it is until it is removed. 0 or -errno. */
int agent_loop_add(struct agent_loop *l, struct agent_watch *w, int fd, uint32_t events);
/* Arms a one-shot watch again or changes what it waits for. */
void agent_loop_rearm(struct agent_loop *l, struct agent_watch *w, uint32_t events);
/* Stops watching; does not close. Safe inside any callback and for a watch that is not added. */
void agent_loop_remove(struct agent_loop *l, struct agent_watch *w);

void agent_loop_timer_add(struct agent_loop *l, struct agent_timer *t);
void agent_loop_timer_remove(struct agent_loop *l, struct agent_timer *t);

/* The loop is awake: moves the timers by what it missed. A part of the turn, here for tests. */
void agent_loop_awake(struct agent_loop *l, uint64_t now_ns);

/* One turn: waits, calls what is ready, then the timers that are due. */
void agent_loop_turn(struct agent_loop *l);
