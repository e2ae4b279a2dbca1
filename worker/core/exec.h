#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/ids.h"
#include "proto/limits.h"
#include "worker/core/list.h"
#include "worker/core/quota.h"

/* Journal of executions: what ran, what runs, how it ended. It decides whether an id may start and
 * which of its events are kept; rows and events themselves are in the store.
 *
 *     begin                 DONE event stored                    retention over
 *     -----> STARTED ---------------------------> DONE ----------------------------> forgotten
 *               \      microVM gone                                 ^
 *                `------------------------------> UNKNOWN ----------'
 *
 * An id that was begun is never begun again while it is remembered: retention_ms after its end at
 * least. When room for events runs out, those of the oldest finished ones are dropped first; their
 * ids stay known. What was asked for under an id is remembered as a digest: who asks for something
 * else under it is refused. No clock, no heap, no I/O; one owner. */

enum worker_exec_state {
    WORKER_EXEC_FREE = 0, /* stored: numbers stay */
    WORKER_EXEC_STARTED = 1,
    WORKER_EXEC_DONE = 2,
    WORKER_EXEC_UNKNOWN = 3,
};

struct worker_exec_config {
    uint32_t execs_max;       /* remembered, in any state: 1..16777216 */
    uint32_t running_max;     /* STARTED at a time */
    uint32_t per_session_max; /* of these, in one session */
    uint64_t retention_ms;    /* after the end; 0 means 600000 */
    uint64_t bytes_max;      /* stored events of all; a quarter more while nothing can be dropped */
    uint64_t exec_bytes_max; /* stored events of one */
    uint8_t key[16];         /* random: ids come from clients */
    struct worker_quota *quota; /* counts those that run; NULL: nobody does */
};

struct worker_exec {
    struct worker_list link;   /* free, running or finished (by age) */
    struct worker_list stored; /* finished ones that still have events, by age */
    struct worker_list readers;
    uint32_t chain;
    uint32_t index;
    uint8_t id[PROTO_EXEC_ID_BYTES];
    uint8_t digest[PROTO_EXEC_DIGEST_BYTES]; /* of what was asked; all zero: not known */
    uint64_t hash;                           /* keyed hash of pool and identifier of its session */
    proto_epoch epoch;                       /* of its session */
    uint32_t session; /* index in the pool manager; WORKER_NONE after a restart */
    enum worker_exec_state state;
    struct worker_quota_who who; /* counted: who pays while it runs */
    bool counted;
    bool truncated;    /* some events were not kept */
    bool dropped;      /* finished, and its events are no more */
    bool cancel;       /* the shell's: to be interrupted when its microVM is attached again */
    uint64_t last_seq; /* last event taken (kept or not) */
    uint64_t bytes;    /* stored events */
    uint64_t started_ns;
    uint64_t ended_ns;
    void *shell; /* the shell's, untouched here; NULL at first */
};

struct worker_execs; /* private */

/* One who reads the events of an execution, now and as they come. Embedded in its owner. */
struct worker_exec_reader {
    struct worker_list link;
    struct worker_exec *exec; /* NULL: not attached */
    uint64_t next_seq;        /* first event it has not got */
    uint64_t unacked;         /* bytes sent and not given back */
};

/* As for the pool manager: bytes for init, 0 when out of range. */
size_t worker_exec_size(const struct worker_exec_config *cfg);
int worker_exec_init(
    struct worker_execs **ret, const struct worker_exec_config *cfg, void *mem, size_t mem_size);

enum worker_exec_verdict {
    WORKER_EXEC_NEW,     /* recorded as STARTED: store the row, then run it */
    WORKER_EXEC_JOIN,    /* it runs: attach */
    WORKER_EXEC_REPLAY,  /* it ended: attach, all events are there */
    WORKER_EXEC_LOST,    /* it may have run; the outcome is not known or no longer stored */
    WORKER_EXEC_FOREIGN, /* the id belongs to an execution of another session's key */
    WORKER_EXEC_REUSED,  /* something else was asked for under the id */
    WORKER_EXEC_FULL,    /* too many; nothing was recorded */
    WORKER_EXEC_QUOTA,   /* too many of the tenant or in the pool (b->quota); as FULL */
};

struct worker_exec_begin {
    const uint8_t *id;     /* PROTO_EXEC_ID_BYTES */
    const uint8_t *digest; /* PROTO_EXEC_DIGEST_BYTES */
    uint64_t hash;
    proto_epoch epoch;
    uint32_t session;
    uint64_t now_ns;
    struct worker_quota_who who;
    bool unrun;                      /* it will not run: no limit but the journal's own */
    enum worker_quota_verdict quota; /* out, with QUOTA */
};

/* *ret is set for all but FULL, QUOTA, FOREIGN and REUSED. */
enum worker_exec_verdict worker_exec_begin(
    struct worker_execs *j, struct worker_exec_begin *b, struct worker_exec **ret);

/* Was the same asked? A digest that is not known (of a row of an older worker) is like any. */
bool worker_exec_same(
    const uint8_t a[PROTO_EXEC_DIGEST_BYTES], const uint8_t b[PROTO_EXEC_DIGEST_BYTES]);

/* What begin says of one that is recorded: JOIN, REPLAY, LOST, FOREIGN or REUSED. */
enum worker_exec_verdict worker_exec_again(
    const struct worker_exec *x, uint64_t hash, const uint8_t digest[PROTO_EXEC_DIGEST_BYTES]);

/* A new one could not be started after all (nothing of it reached the guest): forgets it. */
void worker_exec_undo(struct worker_execs *j, struct worker_exec *x);

/* One that was restored as STARTED runs on in a session: who pays for that. */
void worker_exec_pay(
    struct worker_execs *j, struct worker_exec *x, const struct worker_quota_who *who);

/* A row of the store after a restart: STARTED rows stay STARTED until worker_exec_lost() or their
 * DONE event. BASE_EEXISTS, BASE_EFULL, BASE_EINVAL (no such state). Call in order of ended_ns. */
int worker_exec_restore(
    struct worker_execs *j, const struct worker_exec *row, struct worker_exec **ret);

struct worker_exec *worker_exec_find(
    const struct worker_execs *j, const uint8_t id[PROTO_EXEC_ID_BYTES]);

enum worker_exec_keep {
    WORKER_EXEC_KEEP,  /* store it, then acknowledge it to the guest */
    WORKER_EXEC_SKIP,  /* no room: not stored, but acknowledged */
    WORKER_EXEC_AGAIN, /* taken before: acknowledge again */
    WORKER_EXEC_GAP,   /* events before it are missing: resume behind last_seq */
};

/* The guest's next event of n bytes. DONE events are always kept; send worker_exec_finish() too. */
enum worker_exec_keep worker_exec_event(
    struct worker_execs *j, struct worker_exec *x, uint64_t seq, uint64_t n, bool done);
void worker_exec_finish(struct worker_execs *j, struct worker_exec *x, uint64_t now_ns);

/* The session of this epoch is gone: each of its running executions becomes UNKNOWN. Returns them
 * one by one, NULL when there is no more. */
struct worker_exec *worker_exec_lost(struct worker_execs *j, proto_epoch epoch, uint64_t now_ns);

/* A running one whose outcome cannot be known any more: UNKNOWN. */
void worker_exec_give_up(struct worker_execs *j, struct worker_exec *x, uint64_t now_ns);

/* Running executions one by one: x NULL for the first. */
struct worker_exec *worker_exec_running(const struct worker_execs *j, const struct worker_exec *x);

enum worker_exec_drop {
    WORKER_EXEC_DROP_NONE,
    WORKER_EXEC_DROP_EVENTS, /* delete its events, store its row */
    WORKER_EXEC_DROP_ALL,    /* delete its events and its row */
};

/* The next thing to delete, call until NONE. *ret is readable until the next call into the journal.
 * What somebody reads is not dropped. */
enum worker_exec_drop worker_exec_expire(
    struct worker_execs *j, uint64_t now_ns, struct worker_exec **ret);

/* When worker_exec_expire() is due for age (UINT64_MAX: never); what is being read does not count.
 */
uint64_t worker_exec_deadline_ns(const struct worker_execs *j);

uint64_t worker_exec_bytes(const struct worker_execs *j);
uint32_t worker_exec_count(const struct worker_execs *j);

/* Readers. The window is PROTO_EVENT_WINDOW bytes; a larger event goes alone. */
void worker_exec_attach(struct worker_exec_reader *r, struct worker_exec *x, uint64_t after_seq);
void worker_exec_detach(struct worker_exec_reader *r);
bool worker_exec_may_send(const struct worker_exec_reader *r, uint64_t n);
void worker_exec_sent(struct worker_exec_reader *r, uint64_t seq, uint64_t n);
void worker_exec_credit(
    struct worker_exec_reader *r, uint64_t n); /* more than is out counts less */
/* True when the execution has ended and the reader has all of it. */
bool worker_exec_read_out(const struct worker_exec_reader *r);
