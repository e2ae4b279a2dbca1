#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "worker/jail/lease.h"

/* The worker's side of the lease page: RUN/lease. A worker that takes over finds the lease of the
 * one before it and keeps it for as long as it was granted. */
struct worker_lease {
    struct worker_lease_page *page;
    int fd; /* read only, for supervisors; -1 */
    struct worker_fence_lease now;
};

struct worker_lease_config {
    const char *run_dir;
    bool leased;       /* false: a single machine, the page says that no lease is needed */
    uint64_t kill_ns;  /* leased: from the start until microVMs end if no lease ever comes */
    uint64_t alone_ns; /* what needs no lease ends so long after the worker's last beat */
};

/* *l is zeroed by it. On failure nothing is left open. */
int worker_lease_open(
    struct worker_lease *l, const struct worker_lease_config *config, struct base_error *err);
void worker_lease_close(struct worker_lease *l); /* the file stays */

/* The worker is alive; once a second. The worker is the page's only writer: who else writes (a test
 * in place of voters) may be overwritten and has to write until the page says it. */
void worker_lease_beat(struct worker_lease *l);

/* New deadlines (CLOCK_BOOTTIME, kill_at_ns not before freeze_at_ns). True when microVMs may have
 * to stop earlier than they knew: then the supervisors must be told to look. Without effect on a
 * page that needs no lease. */
bool worker_lease_grant(
    struct worker_lease *l, uint64_t freeze_at_ns, uint64_t kill_at_ns, uint64_t epoch);

/* May microVMs run now? Read from the page itself. *ret_look_ns: for how long that is so at most;
 * UINT64_MAX: until something is written. */
bool worker_lease_held(const struct worker_lease *l, uint64_t *ret_look_ns);
