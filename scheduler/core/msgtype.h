#pragma once
#include <stdint.h>

/* Every message between the cores. Arrays and views are pointers: in a message that a core sends
 * they point into the core and are valid until its next step; in one that it receives they are the
 * shell's and must stay only for the step, except for views, see sched_node_step(). */
#define SCHED_MSG_MAP(X)                                                                           \
    X(VPREP, ballot)  /* voter to voter: phase 1 of the view register */                           \
    X(VPROM, vprom)   /* promise, with what was accepted and whose lease ran out */                \
    X(VACC, vacc)     /* phase 2 */                                                                \
    X(VACKED, ballot) /* accepted */                                                               \
    X(VNACK, ballot)  /* refused: a higher ballot was promised */                                  \
    X(VASK, ballot)   /* a voter that lost its store asks for the register's state */              \
    X(VTELL, vtell)   /* the answer */                                                             \
    X(VIEW, view)     /* a chosen view, to anybody */                                              \
    X(VPULL, pull)    /* send me the view, I have number `known`; and what I speak */              \
    X(LEASE, lease)   /* worker to voter: renew me, or admit me */                                 \
    X(GRANT, grant)   /* the lease runs from when request seq was sent */                          \
    X(NOGRANT, grant) /* not a member, or not to be renewed */                                     \
    X(RELINQ, grant)  /* incarnation inc is dead or leaves: its lease ends now */                  \
    X(SYNC, sync)     /* new group member to old: seal these partitions, send records */           \
    X(SYNCED, synced) /* records; complete for the partitions listed */                            \
    X(INV, sync)      /* rebuild: which sessions of the listed buckets run with you? */            \
    X(INVED, synced)                                                                               \
    X(PREP, prep) /* coordinator to group: phase 1 of a register */                                \
    X(PROM, prom)                                                                                  \
    X(ACC, acc) /* phase 2 */                                                                      \
    X(ACCED, prom)                                                                                 \
    X(NACK, prom)     /* ballot = what was promised */                                             \
    X(RESERVE, resv)  /* coordinator to host: keep a place for this key */                         \
    X(RESERVED, resv) /* resv = 0: full */                                                         \
    X(RELEASE, resv)                                                                               \
    X(BIND, bind)     /* start the session of this record, use up its reservation */               \
    X(BOUND, bind)    /* it runs */                                                                \
    X(UNBOUND, bind)  /* promise: this epoch will never run here */                                \
    X(GONEQ, bind)    /* promise that this epoch will never run here again? */                     \
    X(GONE, bind)     /* promised. rec.state NONE: nor has it ever run */                          \
    X(ALIVE, bind)    /* no: it runs */                                                            \
    X(END, bind)      /* host to group: this session is destroyed */                               \
    X(ENDED, bind)    /* the register says so */                                                   \
    X(OPEN, open)     /* gateway to coordinator: where does it run? make it run */                 \
    X(ROUTE, route)   /* there */                                                                  \
    X(RETRY, retry)   /* not me, not now */                                                        \
    X(EXEC, exec)     /* gateway to host */                                                        \
    X(DONE, exec)     /* outcome */                                                                \
    X(NOTHERE, exec)  /* promise: id will never start here under this epoch */                     \
    X(TIMERS, timers) /* host to group: remaining cooldowns */                                     \
    X(QWANT, quota)   /* host to voter: let me hold this many permits */                           \
    X(QHAVE, quota)   /* you hold this many */                                                     \
    X(QPREP, qreg)    /* voter to voter: phase 1 of a register of permits */                       \
    X(QPROM, qreg)                                                                                 \
    X(QACC, qreg) /* phase 2 */                                                                    \
    X(QACCED, qreg)                                                                                \
    X(QNACK, qreg) /* refused: a higher ballot was promised */                                     \
    X(QASK, qreg)  /* a voter that lost its store asks for the register's state */                 \
    X(QTELL, qreg)                                                                                 \
    X(CSET, cset)   /* anybody to a voter: change this entry of the catalogue */                   \
    X(CSETR, csetr) /* what became of it */                                                        \
    X(CGET, cget)   /* anybody to a voter: have you a newer catalogue than this version? */        \
    X(CDOC, cdoc)   /* yes; of version 0: there was never any */                                   \
    X(CPREP, creg)  /* voter to voter: phase 1 of the register of the catalogue */                 \
    X(CPROM, creg)                                                                                 \
    X(CACC, creg) /* phase 2 */                                                                    \
    X(CACCED, creg)                                                                                \
    X(CNACK, creg) /* refused: a higher ballot was promised */                                     \
    X(CKNOW, creg) /* what was accepted under this ballot is chosen */                             \
    X(CASK, creg)  /* a voter that lost its store asks for the register's state */                 \
    X(CTELL, creg)

enum sched_msg_type {
    SCHED_MSG_NONE,
#define X(name, body) SCHED_MSG_##name,
    SCHED_MSG_MAP(X)
#undef X
        SCHED_MSG_TYPES
};

const char *sched_msg_name(uint8_t type);
