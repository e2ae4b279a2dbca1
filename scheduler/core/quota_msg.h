#pragma once
#include "scheduler/core/ids.h"

/* Messages about permits, see quota.h. */

/* QWANT: how many permits of a pool the host wants to hold. QHAVE: how many it holds. */
struct sched_m_quota {
    uint32_t pool, inc, permits;
    uint64_t seq;     /* of the request; a host's grow */
    uint64_t version; /* QWANT: of the catalogue that the host knows */
};

/* Permits of a pool that a host holds. Of node 0: the pool's maximum, and nobody's. */
struct sched_quota_entry {
    uint32_t pool;
    uint32_t permits;
    struct sched_host host;
    uint64_t seq; /* of the last request that was counted */
};

/* Between voters: a register of the permits of some pools. */
struct sched_m_qreg {
    uint32_t reg;                /* its number */
    uint64_t ballot;             /* of the request. QASK, QTELL: nonce of the question */
    uint64_t promised, accepted; /* QNACK, QPROM, QTELL */
    uint64_t version;            /* of the catalogue that the maxima are from */
    uint32_t n;
    const struct sched_quota_entry *entries;
};
