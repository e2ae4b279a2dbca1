#pragma once
#include "scheduler/core/msg.h"

/* Effects: what a core wants done. The shell carries them out in order, with one rule: every STORE
 * of a step is committed before any other effect of that step leaves the process. A step that was
 * not committed (crash) has not happened. */

enum sched_row_kind {
    /* Incarnation `num`. Larger than that of the running process: it leaves, and who starts next
     * starts as that incarnation, with an empty run store and no microVM. */
    SCHED_ROW_META,
    SCHED_ROW_VIEW,    /* the installed view; `num`: the one in which this life began */
    SCHED_ROW_PARTS,   /* state of partitions first .. first + n - 1 */
    SCHED_ROW_BASE,    /* bucket `first` is rebuilt in view `num`: drop its registers */
    SCHED_ROW_REG,     /* one register */
    SCHED_ROW_SESS,    /* one session of this host */
    SCHED_ROW_EXEC,    /* one execution */
    SCHED_ROW_VOTE,    /* promise and accepted view of a voter */
    SCHED_ROW_KNOWN,   /* highest chosen view a voter knows */
    SCHED_ROW_QUOTA,   /* who holds permits: a voter's register number `first` */
    SCHED_ROW_CATALOG, /* promise and accepted catalogue of a voter */
};

/* What a worker knows about a partition's registers. */
struct sched_part {
    uint32_t era;      /* view in which its group last changed or was rebuilt; 0: unknown */
    uint32_t prev_era; /* the one before */
    uint32_t settled;  /* era for which this worker holds what its group had chosen; 0: none */
    uint32_t floor;    /* rounds below are spent: registers were forgotten in this era */
};

struct sched_row {
    uint8_t kind;  /* enum sched_row_kind */
    uint8_t state; /* SESS, EXEC: the row's state */
    bool erase;    /* REG, SESS, EXEC */
    uint32_t first, n;
    uint32_t num;
    uint64_t born_ns; /* SESS: own clock, which survives a restart of the process */
    struct sched_key key;
    struct sched_exec exec;
    sched_epoch promised, accepted;
    struct sched_rec rec;
    const struct sched_part *parts; /* valid like messages: until the next step */
    const struct sched_view *view;
    uint64_t version;                        /* QUOTA: of the maxima */
    const struct sched_quota_entry *entries; /* QUOTA: n of them */
    struct sched_cat_doc catalog;            /* CATALOG */
};

enum sched_fx_kind {
    SCHED_FX_SEND,
    SCHED_FX_PUSH, /* send VIEW to every node this process knows */
    SCHED_FX_STORE,
    SCHED_FX_PAGE,     /* lease page of the supervisors: freeze and kill times, own clock */
    SCHED_FX_KILL_ALL, /* destroy every microVM of this host; the store was emptied */
    SCHED_FX_VM_START, /* answered by SCHED_EV_VM_UP or SCHED_EV_VM_DOWN */
    SCHED_FX_VM_STOP,  /* answered by SCHED_EV_VM_DOWN */
    SCHED_FX_VM_EXEC,  /* answered by SCHED_EV_VM_DONE, or never */
    SCHED_FX_OUTCOME,  /* gateway: the request is finished */
};

struct sched_fx_page {
    uint64_t freeze_at_ns; /* run only before this; 0: freeze now */
    uint64_t kill_at_ns;
};

struct sched_fx_vm {
    struct sched_key key;
    sched_epoch epoch;
    struct sched_exec exec;
};

struct sched_fx_outcome {
    uint64_t rid;
    uint8_t outcome; /* enum sched_outcome */
    bool full;       /* FAILED: nobody has a place for the session */
    sched_epoch epoch;
    struct sched_exec exec;
};

struct sched_fx_item {
    uint8_t kind; /* enum sched_fx_kind */
    union {
        struct sched_msg msg;
        struct sched_row row;
        struct sched_fx_page page;
        struct sched_fx_vm vm;
        struct sched_fx_outcome outcome;
    };
};

/* The queue of one step. Messages may be dropped when it is full, as a network may drop them; what
 * must not be lost has a reserve, whose size every step is bounded by. */
struct sched_fx {
    struct sched_fx_item *items;
    uint32_t n, cap;
    uint8_t *bytes; /* arrays of this step's messages */
    uint32_t bytes_n, bytes_cap;
    uint32_t dropped;
};

enum { SCHED_FX_BYTES = 1 << 16, SCHED_FX_RESERVE = 512 };

void sched_fx_init(struct sched_fx *fx, struct sched_mem *mem);

/* Before each step. */
void sched_fx_clear(struct sched_fx *fx);

/* A message to fill in; its `from` is the shell's business. Never NULL: when the queue is full it
 * is one that will not be sent. */
struct sched_msg *sched_fx_send(struct sched_fx *fx, uint8_t type, uint64_t to);
struct sched_fx_item *sched_fx_add(struct sched_fx *fx, uint8_t kind);
struct sched_row *sched_fx_store(struct sched_fx *fx, uint8_t kind);

/* n bytes, aligned to 8, that live as long as the step's messages; NULL when there are no more. */
void *sched_fx_bytes(struct sched_fx *fx, uint32_t n);
