#pragma once
#include <stdbool.h>
#include <stdint.h>

/* Taking a worker out of service in good order. While it drains it makes no new session; those it
 * has live on until they end by themselves, until a deadline, or not at all. OFF becomes DRAINING
 * by an order, DRAINED when no session and no microVM is left; then the process ends, if asked.
 * Undrain leads back from both, unless the process ends. Another order while it drains replaces the
 * one before. Sans I/O. */

enum worker_drain_phase { WORKER_DRAIN_OFF, WORKER_DRAIN_DRAINING, WORKER_DRAIN_DRAINED };

enum worker_drain_policy {
    WORKER_DRAIN_WAIT,     /* until the sessions have ended by themselves */
    WORKER_DRAIN_DEADLINE, /* those that live grace_ms from now are ended then */
    WORKER_DRAIN_END,      /* all sessions are ended at once */
};

struct worker_drain_order {
    enum worker_drain_policy policy;
    uint32_t grace_ms; /* DEADLINE */
    bool leave;        /* the process ends when it is drained, and stays ended */
};

enum { WORKER_DRAIN_GRACE_MS_MAX = 7 * 86400 * 1000 };

struct worker_drain {
    enum worker_drain_phase phase;
    struct worker_drain_order order;
    uint64_t deadline_ns; /* UINT64_MAX: none */
    bool ended;           /* sessions were told to end */
};

/* What has to be done; carried out in this order. */
enum {
    WORKER_DRAIN_DO_STOP = 1,  /* no new sessions */
    WORKER_DRAIN_DO_END = 2,   /* end all sessions */
    WORKER_DRAIN_DO_START = 4, /* new sessions are welcome again */
    WORKER_DRAIN_DO_TELL = 8,  /* it is drained: whoever waits hears of it */
    WORKER_DRAIN_DO_LEAVE = 16,
};

/* now_ns: CLOCK_BOOTTIME. */
unsigned worker_drain_start(
    struct worker_drain *d, const struct worker_drain_order *order, uint64_t now_ns);

/* BASE_ESTATE: the process is about to end; nothing changes. *ret_do is always written. */
int worker_drain_stop(struct worker_drain *d, unsigned *ret_do);

/* After every change, and when the deadline has come. empty: no session and no microVM is left. */
unsigned worker_drain_look(struct worker_drain *d, bool empty, uint64_t now_ns);

/* When to look at the latest; UINT64_MAX: no deadline. */
uint64_t worker_drain_deadline_ns(const struct worker_drain *d);
