#pragma once
#include "scheduler/core/env.h"

/* A register that the voters keep together, CASPaxos: who wants it changed reads it from a
 * majority, makes the next value of what it has read, and has that accepted by a majority. This is
 * what the catalogue (catreg.h) and the tables of permits (quota.h) have in common: ballots and
 * votes, time-outs, and what a voter does whose store was lost. What a value is, where it is kept
 * and how it travels is the owner's, who has room for two: what was accepted, and what is proposed.
 *
 * What is promised or accepted is stored before the answer leaves. */

/* What voters say to each other. */
enum sched_creg_word {
    SCHED_CREG_PREP,
    SCHED_CREG_PROM, /* with the value that was accepted */
    SCHED_CREG_ACC,  /* with the value that is proposed */
    SCHED_CREG_ACCED,
    SCHED_CREG_NACK,
    SCHED_CREG_ASK,  /* whose store was lost */
    SCHED_CREG_TELL, /* with the value that was accepted */
    SCHED_CREG_WORDS,
};

struct sched_creg_say {
    uint8_t type;                /* of the message */
    uint64_t ballot;             /* of the request. ASK, TELL: nonce of the question */
    uint64_t promised, accepted; /* NACK, PROM, TELL */
    const struct sched_msg *msg; /* that came, and has the value; NULL: it is to be sent */
};

enum sched_creg_phase {
    SCHED_CREG_IDLE,
    SCHED_CREG_WAIT, /* before the next ballot */
    SCHED_CREG_PROMISES,
    SCHED_CREG_ACCEPTS,
};

/* One voter's part. */
struct sched_creg {
    uint64_t promised, accepted;
    bool lost; /* the store was lost: it asks the others and does not vote until then */
    uint8_t told;
    uint64_t nonce;
    uint8_t phase; /* enum sched_creg_phase, of this voter's proposal */
    uint8_t votes, tries;
    uint64_t ballot, best;
    uint64_t resend_ns, deadline_ns;
};

/* The owner's part. own: what the step was given. */
struct sched_creg_ops {
    uint32_t resend_ms, backoff_ms;
    uint8_t types[SCHED_CREG_WORDS]; /* messages that these words are */
    void (*send)(
        void *own, enum sched_creg_word word, uint64_t to, const struct sched_creg_say *say);
    void (*store)(void *own);
    /* The message's value (NULL: the one that is proposed) is the accepted one from now on. False,
     * and nothing has changed: it is none. */
    bool (*take)(void *own, const struct sched_msg *m);
    void (*accepted)(void *own); /* a value was, by this voter, in a ballot */
    /* The message's value (NULL: the one that was accepted here) is what the register held before.
     * False: it is none. */
    bool (*read)(void *own, const struct sched_msg *m);
    void (*form)(void *own);               /* makes the proposal of it */
    void (*chosen)(void *own);             /* and that is what the register holds */
    bool (*wants)(void *own, bool failed); /* another ballot; failed: the last one was overtaken */
    void (*gave_up)(void *own);            /* it took too long */
    void (*found)(void *own);              /* what was lost is back */
};

/* A step of a voter. */
struct sched_creg_env {
    const struct sched_cfg *cfg;
    struct sched_fx *fx;
    struct base_hash_rng *rng;
    uint64_t now_ns;
    uint32_t index; /* of this voter */
};

/* What of it is about one register. */
struct sched_creg_run {
    struct sched_creg *reg;
    const struct sched_creg_ops *ops;
    void *own;
    const struct sched_creg_env *env;
};

/* A ballot of this voter, who is idle and has not lost its store. */
void sched_creg_start(const struct sched_creg_run *g);

/* A message. Nothing when it is no word of another voter; what it says is in say. */
void sched_creg_msg(const struct sched_creg_run *g, const struct sched_creg_say *say);

/* Nothing for one who rests. */
void sched_creg_tick(const struct sched_creg_run *g);

static inline bool sched_creg_rests(const struct sched_creg *r)
{
    return r->phase == SCHED_CREG_IDLE && !r->lost;
}
