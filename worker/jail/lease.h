#pragma once
#include <stdatomic.h>
#include <stdint.h>

/* The lease page: one file in the run folder, mapped by the worker (writes) and by the supervisor
 * beside every QEMU (reads). Times are CLOCK_BOOTTIME in ns of this machine. A worker that is
 * stopped or dead cannot break the rule, because the supervisors act on their own timers: at
 * freeze_at the microVM is stopped, at kill_at it is ended. Source: the cluster design,
 * section 3.6. */
enum { WORKER_LEASE_MAGIC = 0x57524c31 }; /* "WRL1" */

struct worker_lease_page {
    uint32_t magic;
    uint32_t version; /* 1 */
    _Atomic uint64_t freeze_at_ns;
    _Atomic uint64_t kill_at_ns; /* later than freeze_at_ns */
};
