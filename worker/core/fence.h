#pragma once
#include <stdbool.h>
#include <stdint.h>

/* When a microVM may run: what the lease page and the clocks say about it. The supervisor beside
 * each QEMU obeys it, the worker asks it before it takes a request. Sans I/O.
 *
 *            freeze_at                         kill_at, another incarnation
 *     RUN ------------> FREEZE ------------------------------> KILL
 *      ^                  |                                     ^
 *      `---- renewed -----'        nobody renews (no lease) ----' from RUN
 *
 * A page that cannot be read freezes: a microVM that runs without a lease breaks the promise that
 * an identifier has one, a frozen one only waits. What never has a session (a template that is
 * being built) needs no lease; it ends when nobody renews. */

enum worker_fence_mode {
    WORKER_FENCE_NO_LEASE = 1, /* a single machine: nobody else may run the same identifier */
    WORKER_FENCE_LEASE = 2,    /* voters grant it; microVMs run before freeze_at_ns only */
};

enum {
    WORKER_FENCE_LOOK_MS = 200,    /* how often a frozen one looks whether it may go on */
    WORKER_FENCE_BLIND_MS = 60000, /* no lease known, and the page unreadable for so long: ends */
    WORKER_FENCE_RESUME_MS = 3000, /* a clock that jumped past kill_at: frozen so long before */
};

/* What the page says. Deadlines are CLOCK_BOOTTIME. */
struct worker_fence_lease {
    uint64_t mode; /* enum worker_fence_mode */
    uint64_t freeze_at_ns;
    uint64_t kill_at_ns; /* not before freeze_at_ns */
    uint64_t epoch;      /* incarnation of the worker that holds the lease; 0: not admitted yet */
    uint64_t alone_ns;   /* what needs no lease ends when the worker was silent for so long, and at
                          * most 1 s or an eighth of it (what is more) later */
    uint64_t beat;       /* the worker is alive: another number with every write */
};

struct worker_fence_clock {
    uint64_t boot_ns; /* CLOCK_BOOTTIME: runs through suspend */
    uint64_t mono_ns; /* CLOCK_MONOTONIC: does not */
};

enum worker_fence_verdict { WORKER_FENCE_RUN, WORKER_FENCE_FREEZE, WORKER_FENCE_KILL };

struct worker_fence {
    enum worker_fence_verdict verdict; /* KILL stays */
    uint64_t epoch;                    /* of the first lease that had one */
    uint64_t beat, heard_ns;           /* last beat seen, when (monotonic) */
    uint64_t frozen_ns;                /* FREEZE: since when (monotonic) */
    uint64_t kill_at_ns;               /* of the last lease that could be read */
    uint64_t blind_ns;                 /* blind: since when (monotonic) */
    bool blind;                        /* the page could not be read in the last look */
    bool seen;                         /* some page could be read */
    bool leased;                       /* and the last one was a lease */
    bool free;                         /* needs no lease, whatever the page says */
};

/* A microVM starts frozen and is judged by the first look. free: it never has a session. */
void worker_fence_init(struct worker_fence *f, const struct worker_fence_clock *now, bool free);

/* lease: NULL when the page cannot be read. *ret_look_ns: look again after so long at the latest
 * (both clocks run alike except in suspend, which ends with a look). */
enum worker_fence_verdict worker_fence_look(struct worker_fence *f,
    const struct worker_fence_lease *lease, const struct worker_fence_clock *now,
    uint64_t *ret_look_ns);

/* Deadlines are in order and the mode is known: what a page must be to count as readable. */
bool worker_fence_valid(const struct worker_fence_lease *lease);
