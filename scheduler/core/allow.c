#include "scheduler/core/allow.h"

#include "scheduler/core/msgtype.h"

enum {
    W = SCHED_PART_WORKER,
    G = SCHED_PART_GATEWAY,
    V = SCHED_PART_VOTER,
};

static uint8_t senders(enum sched_msg_type type)
{
    switch (type) {
    case SCHED_MSG_VPREP:
    case SCHED_MSG_VPROM:
    case SCHED_MSG_VACC:
    case SCHED_MSG_VACKED:
    case SCHED_MSG_VNACK:
    case SCHED_MSG_VASK:
    case SCHED_MSG_VTELL:
    case SCHED_MSG_GRANT:
    case SCHED_MSG_NOGRANT:
    case SCHED_MSG_QHAVE:
    case SCHED_MSG_QPREP:
    case SCHED_MSG_QPROM:
    case SCHED_MSG_QACC:
    case SCHED_MSG_QACCED:
    case SCHED_MSG_QNACK:
    case SCHED_MSG_QASK:
    case SCHED_MSG_QTELL:
    case SCHED_MSG_CSETR:
    case SCHED_MSG_CDOC:
    case SCHED_MSG_CPREP:
    case SCHED_MSG_CPROM:
    case SCHED_MSG_CACC:
    case SCHED_MSG_CACCED:
    case SCHED_MSG_CNACK:
    case SCHED_MSG_CKNOW:
    case SCHED_MSG_CASK:
    case SCHED_MSG_CTELL:
    case SCHED_MSG_VIEW: /* a worker that could send it could remove all others */
        return V;
    case SCHED_MSG_CSET: /* of a gateway only keys, see io/voter_node.c */
        return V | G;
    case SCHED_MSG_VPULL:
    case SCHED_MSG_CGET:
        return V | G | W;
    case SCHED_MSG_OPEN:
    case SCHED_MSG_EXEC:
        return G;
    case SCHED_MSG_LEASE:
    case SCHED_MSG_RELINQ:
    case SCHED_MSG_SYNC:
    case SCHED_MSG_SYNCED:
    case SCHED_MSG_INV:
    case SCHED_MSG_INVED:
    case SCHED_MSG_PREP:
    case SCHED_MSG_PROM:
    case SCHED_MSG_ACC:
    case SCHED_MSG_ACCED:
    case SCHED_MSG_NACK:
    case SCHED_MSG_RESERVE:
    case SCHED_MSG_RESERVED:
    case SCHED_MSG_RELEASE:
    case SCHED_MSG_BIND:
    case SCHED_MSG_BOUND:
    case SCHED_MSG_UNBOUND:
    case SCHED_MSG_GONEQ:
    case SCHED_MSG_GONE:
    case SCHED_MSG_ALIVE:
    case SCHED_MSG_END:
    case SCHED_MSG_ENDED:
    case SCHED_MSG_ROUTE:
    case SCHED_MSG_RETRY:
    case SCHED_MSG_DONE:
    case SCHED_MSG_NOTHERE:
    case SCHED_MSG_TIMERS:
    case SCHED_MSG_QWANT:
        return W;
    case SCHED_MSG_NONE:
    case SCHED_MSG_TYPES:
        break;
    }
    return 0;
}

bool sched_msg_allowed(uint8_t type, uint8_t sender)
{
    return type < SCHED_MSG_TYPES && (senders((enum sched_msg_type)type) & sender) != 0;
}
