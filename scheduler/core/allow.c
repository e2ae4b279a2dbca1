#include "scheduler/core/allow.h"

#include "scheduler/core/msgtype.h"

enum {
    W = SCHED_PART_WORKER,
    G = SCHED_PART_GATEWAY,
    V = SCHED_PART_VOTER,
};

/* A worker that could send VIEW could remove all others. Of gateways CSET is only for keys, see
 * io/voter_node.c. */
static const uint8_t senders[SCHED_MSG_TYPES] = {
    [SCHED_MSG_VPREP] = V,
    [SCHED_MSG_VPROM] = V,
    [SCHED_MSG_VACC] = V,
    [SCHED_MSG_VACKED] = V,
    [SCHED_MSG_VNACK] = V,
    [SCHED_MSG_VASK] = V,
    [SCHED_MSG_VTELL] = V,
    [SCHED_MSG_GRANT] = V,
    [SCHED_MSG_NOGRANT] = V,
    [SCHED_MSG_QHAVE] = V,
    [SCHED_MSG_QPREP] = V,
    [SCHED_MSG_QPROM] = V,
    [SCHED_MSG_QACC] = V,
    [SCHED_MSG_QACCED] = V,
    [SCHED_MSG_QNACK] = V,
    [SCHED_MSG_QASK] = V,
    [SCHED_MSG_QTELL] = V,
    [SCHED_MSG_CSETR] = V,
    [SCHED_MSG_CDOC] = V,
    [SCHED_MSG_CPREP] = V,
    [SCHED_MSG_CPROM] = V,
    [SCHED_MSG_CACC] = V,
    [SCHED_MSG_CACCED] = V,
    [SCHED_MSG_CNACK] = V,
    [SCHED_MSG_CKNOW] = V,
    [SCHED_MSG_CASK] = V,
    [SCHED_MSG_CTELL] = V,
    [SCHED_MSG_VIEW] = V,
    [SCHED_MSG_VPULL] = V | G | W,
    [SCHED_MSG_CSET] = V | G,
    [SCHED_MSG_CGET] = V | G | W,
    [SCHED_MSG_OPEN] = G,
    [SCHED_MSG_EXEC] = G,
    [SCHED_MSG_LEASE] = W,
    [SCHED_MSG_RELINQ] = W,
    [SCHED_MSG_SYNC] = W,
    [SCHED_MSG_SYNCED] = W,
    [SCHED_MSG_INV] = W,
    [SCHED_MSG_INVED] = W,
    [SCHED_MSG_PREP] = W,
    [SCHED_MSG_PROM] = W,
    [SCHED_MSG_ACC] = W,
    [SCHED_MSG_ACCED] = W,
    [SCHED_MSG_NACK] = W,
    [SCHED_MSG_RESERVE] = W,
    [SCHED_MSG_RESERVED] = W,
    [SCHED_MSG_RELEASE] = W,
    [SCHED_MSG_BIND] = W,
    [SCHED_MSG_BOUND] = W,
    [SCHED_MSG_UNBOUND] = W,
    [SCHED_MSG_GONEQ] = W,
    [SCHED_MSG_GONE] = W,
    [SCHED_MSG_ALIVE] = W,
    [SCHED_MSG_END] = W,
    [SCHED_MSG_ENDED] = W,
    [SCHED_MSG_ROUTE] = W,
    [SCHED_MSG_RETRY] = W,
    [SCHED_MSG_DONE] = W,
    [SCHED_MSG_NOTHERE] = W,
    [SCHED_MSG_TIMERS] = W,
    [SCHED_MSG_QWANT] = W,
};

bool sched_msg_allowed(uint8_t type, uint8_t sender)
{
    return type < SCHED_MSG_TYPES && (senders[type] & sender) != 0;
}
