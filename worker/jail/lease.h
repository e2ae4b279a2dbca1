#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "worker/core/fence.h"

/* The lease page: one file in the run folder, mapped by the worker (writes) and by the supervisor
 * beside every QEMU (reads). A worker that is stopped or dead cannot break the rule, because the
 * supervisors act on their own timers (core/fence.h). Source: the cluster design, section 3.6.
 *
 * Two copies, of which `turn` names the valid one: a writer that is stopped or killed in the middle
 * of a write leaves the other copy as it was. A check sum finds what nobody wrote on purpose. */
enum { WORKER_LEASE_MAGIC = 0x57524c31, WORKER_LEASE_VERSION = 2 }; /* "WRL1" */

enum worker_lease_word {
    WORKER_LEASE_MODE,
    WORKER_LEASE_FREEZE_AT,
    WORKER_LEASE_KILL_AT,
    WORKER_LEASE_EPOCH,
    WORKER_LEASE_ALONE,
    WORKER_LEASE_BEAT,
    WORKER_LEASE_WORDS,
};

struct worker_lease_copy {
    _Atomic uint64_t word[WORKER_LEASE_WORDS];
    _Atomic uint64_t check;
};

struct worker_lease_page {
    _Atomic uint32_t magic; /* written last */
    uint32_t version;
    _Atomic uint64_t turn; /* copy[turn % 2] is valid */
    struct worker_lease_copy copy[2];
};

/* One writer at a time. lease->beat is set here. */
void worker_lease_write(struct worker_lease_page *page, const struct worker_fence_lease *lease);

/* False: not a page of this version, torn or damaged; *ret is not written then. */
bool worker_lease_read(const struct worker_lease_page *page, struct worker_fence_lease *ret);
