#pragma once
#include "scheduler/core/cat.h"
#include "scheduler/core/msgtype.h"
#include "scheduler/core/quota_msg.h"
#include "scheduler/core/rec.h"
#include "scheduler/core/version.h"
#include "scheduler/core/view.h"

struct sched_m_ballot {
    uint64_t ballot;
};

/* The form is the same in every version. Before nodes told what they speak the body was the
 * number alone, in eight bytes: who knows only that takes what is told for a number higher than
 * any, and does not answer. So a question that an older voter shall answer tells nothing. */
struct sched_m_pull {
    uint32_t known; /* UINT32_MAX: nothing is asked for */
    struct sched_speaks speaks;
};

struct sched_m_vprom {
    uint64_t ballot;
    uint64_t accepted;             /* its ballot */
    const struct sched_view *view; /* accepted but not known to be chosen, else NULL */
    uint32_t known;                /* number of the view the sender knows as chosen */
    uint32_t n_lapsed;
    const struct sched_host *lapsed; /* members of `known` that hold no lease from the sender */
};

struct sched_m_vacc {
    uint64_t ballot;
    const struct sched_view *view;
};

struct sched_m_vtell {
    uint64_t nonce; /* of the question */
    uint64_t promised;
    uint64_t accepted;
    uint32_t known;
    const struct sched_view *view; /* accepted, or NULL */
};

struct sched_m_view {
    const struct sched_view *view;
};

struct sched_m_lease {
    uint32_t inc;
    uint64_t seq;
    uint32_t installed;                     /* number of the view the worker has installed */
    uint64_t unsettled[SCHED_BUCKET_WORDS]; /* buckets of that view it has not settled */
    uint16_t zone;
    uint8_t weight;
    uint8_t draining;
    uint32_t active, ready; /* load: sessions, places left */
};

struct sched_load {
    uint64_t node;
    uint32_t active, ready;
};

struct sched_m_grant {
    uint32_t inc;
    uint64_t seq;
    uint32_t maxinc;    /* highest incarnation admitted so far, for one that lost its number */
    uint32_t mean;      /* sessions per member, rounded up */
    uint32_t n_samples; /* members with room, different for every asker */
    const struct sched_load *samples;
};

struct sched_m_sync {
    uint32_t num; /* the view that is being settled */
    struct sched_host asker;
    uint32_t inc;           /* of the addressee */
    uint32_t cursor;        /* INV: where to go on */
    struct sched_key after; /* SYNC: of the first partition, records past this key only */
    uint32_t n;
    const uint32_t *parts;
};

struct sched_sync_rec {
    struct sched_key key;
    sched_epoch accepted;
    struct sched_rec rec;
};

struct sched_m_synced {
    uint32_t num;
    struct sched_host asker;
    uint32_t inc;    /* of the sender */
    uint32_t cursor; /* INVED: where this answer starts */
    uint32_t next;   /* INVED: where to go on, 0: complete */
    bool partial;    /* SYNCED: the last partition is not complete */
    uint32_t n_parts;
    const uint32_t *parts;
    uint32_t n_recs;
    const struct sched_sync_rec *recs;
};

struct sched_m_prep {
    uint64_t op;
    struct sched_key key;
    sched_epoch ballot;
};

struct sched_m_prom {
    uint64_t op;
    sched_epoch ballot;   /* of the request, which an operation may have repeated with a higher one.
                           * NACK: what was promised */
    sched_epoch accepted; /* PROM: ballot of rec */
    struct sched_rec rec;
};

struct sched_m_acc {
    uint64_t op;
    struct sched_key key;
    sched_epoch ballot;
    struct sched_rec rec;
};

struct sched_m_resv {
    uint64_t op;
    struct sched_key key;
    uint64_t resv;
    uint32_t inc; /* RESERVED: of the host */
    uint32_t active, ready;
};

/* Who waits for an execution's outcome. gw 0: nobody. */
struct sched_asker {
    uint64_t gw;
    uint64_t rid;
};

struct sched_m_bind {
    uint64_t op;
    struct sched_key key;
    struct sched_rec rec;
    struct sched_exec exec; /* BIND: starts with the session; both 0: none */
    struct sched_asker asker;
};

struct sched_m_open {
    uint64_t rid;
    struct sched_key key;
    uint32_t view;
    sched_epoch gone; /* the host of this epoch said it is not there; 0: nothing known */
    bool has_exec;
    struct sched_exec exec; /* may start with a session that this request creates ... */
    bool look;              /* a session is to be found, not made; from version 3 on */
    uint32_t exec_view;     /* ... unless the directory was rebuilt after this view, which was that
                             * of the first attempt: the record of an earlier start may be lost */
};

struct sched_m_route {
    uint64_t rid;
    struct sched_key key;
    struct sched_rec rec;
    uint32_t view; /* the sender's */
    uint32_t base; /* what started in older views is unknown: rebuilt, or not heard of, since */
};

enum sched_retry {
    SCHED_RETRY_NOW,   /* the sender is not in charge, or its view is older */
    SCHED_RETRY_LATER, /* busy, no lease, moving */
    SCHED_RETRY_FULL,  /* no place in the pool */
    SCHED_RETRY_NONE,  /* to one who looks: there is no session */
};

struct sched_m_retry {
    uint64_t rid;
    uint32_t view;
    uint8_t why; /* enum sched_retry */
};

enum sched_outcome {
    SCHED_OUTCOME_OK,
    SCHED_OUTCOME_FAILED,  /* it certainly never started */
    SCHED_OUTCOME_UNKNOWN, /* it may have run, whole or in part */
    SCHED_OUTCOME_NONE,    /* at a gateway that looked: there was no session meanwhile */
};

struct sched_m_exec {
    uint64_t rid;
    struct sched_key key;
    sched_epoch epoch;
    uint32_t inc;
    struct sched_exec exec;
    uint8_t outcome; /* DONE */
};

struct sched_timer {
    struct sched_key key;
    sched_epoch epoch;
    uint32_t remaining_ms;
};

struct sched_m_timers {
    uint32_t n;
    const struct sched_timer *timers;
};

struct sched_msg {
    uint8_t type; /* enum sched_msg_type */
    uint64_t from, to;
    union {
        struct sched_m_ballot ballot;
        struct sched_m_pull pull;
        struct sched_m_vprom vprom;
        struct sched_m_vacc vacc;
        struct sched_m_vtell vtell;
        struct sched_m_view view;
        struct sched_m_lease lease;
        struct sched_m_grant grant;
        struct sched_m_sync sync;
        struct sched_m_synced synced;
        struct sched_m_prep prep;
        struct sched_m_prom prom;
        struct sched_m_acc acc;
        struct sched_m_resv resv;
        struct sched_m_bind bind;
        struct sched_m_open open;
        struct sched_m_route route;
        struct sched_m_retry retry;
        struct sched_m_exec exec;
        struct sched_m_timers timers;
        struct sched_m_quota quota;
        struct sched_m_qreg qreg;
        struct sched_m_cset cset;
        struct sched_m_csetr csetr;
        struct sched_m_cget cget;
        struct sched_cat_doc cdoc;
        struct sched_m_creg creg;
    };
};
