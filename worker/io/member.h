#pragma once
#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "proto/base/log.h"
#include "scheduler/io/catalog.h"
#include "worker/io/session_io.h"

/* The worker as a member of a cluster: its sessions are those that the cluster has bound to it.
 *
 * What is bound here has a place, no microVM yet: it gets one from the pool with the first request
 * for it, once. When that microVM is gone the session is over for the cluster too, and a request
 * under its epoch is told that nothing runs here under it any more. What nobody asks for within
 * UNUSED_MS is given up.
 *
 * No microVM runs without a lease: worker_lease_publish(). One thread. */
struct worker_member;

struct worker_member_config {
    struct ev_loop *loop;
    const struct base_log *log;
    const char *settings; /* path of cluster.yaml */
    const char *run_dir;
    uint8_t cluster_key[16]; /* that of worker.yaml: must be the cluster's */
    const char *ctl, *bulk;  /* endpoints where gateways reach this worker; NULL: not told */
    uint32_t sessions_max;   /* of all pools together */
    const struct sched_catalog *catalog; /* of before the restart; NULL: none is known */
    struct worker_sessions *sessions;
    /* worker_lease_publish() of an engine that was made with leased = true. */
    void (*lease)(void *user, uint64_t freeze_at_ns, uint64_t kill_at_ns, uint64_t epoch);
    /* This life is over: all microVMs have been told to end, the process must too. */
    void (*leave)(void *user, const char *why);
    /* The catalogue of the cluster has changed, or this worker's share of it. NULL is fine. */
    void (*catalog_changed)(void *user);
    void *user;
};

/* After worker_session_start(): ends sessions that the cluster does not know, and tells it of those
 * that are gone. */
int worker_member_create(
    struct worker_member **ret, const struct worker_member_config *config, struct base_error *err);
void worker_member_destroy(struct worker_member *m); /* NULL is fine; before the sessions */

enum worker_member_verdict {
    WORKER_MEMBER_HERE,
    WORKER_MEMBER_NOT_NOW,  /* ask again */
    WORKER_MEMBER_NOT_HERE, /* nothing was done, and will not be, under this epoch */
};

/* What to do with a request for a session under an epoch. *ret_allocate: it may make the microVM.
 * What is in the journal of executions is answered from there and needs no gate. NOT_HERE says
 * nothing about what an earlier life of this worker may have been sent: the gateway knows whether
 * it has sent it, and does not go on elsewhere then. */
enum worker_member_verdict worker_member_gate(struct worker_member *m, uint32_t pool,
    const struct proto_identifier *id, uint64_t epoch, bool *ret_allocate);

/* A request that may have made the microVM waits for it no longer; once for each gate() that set
 * *ret_allocate. A place that nobody waits for is given up after a while. */
void worker_member_waited(
    struct worker_member *m, uint32_t pool, const struct proto_identifier *id, uint64_t epoch);

/* An execution has an outcome, though the session has no microVM: it was canceled before. */
void worker_member_told(
    struct worker_member *m, uint32_t pool, const struct proto_identifier *id, uint64_t epoch);

enum worker_member_place {
    WORKER_MEMBER_STAYS,      /* it has its microVM, or is not here (any more) */
    WORKER_MEMBER_WAITED_FOR, /* others wait for a microVM, too */
    WORKER_MEMBER_GIVEN_UP,   /* another worker can have the session; nothing was done under this
                                 epoch, and will be */
};

/* As waited(), and the pool has no microVM: *why says for how long, and whether any pool has. With
 * the last who waits the session is given up. */
enum worker_member_place worker_member_failed(struct worker_member *m, uint32_t pool,
    const struct proto_identifier *id, uint64_t epoch, const struct worker_session_answer *why);

/* As waited(), and the request has been answered without a microVM, or will be: the place is given
 * up at once, unless others wait for it. */
void worker_member_unused(
    struct worker_member *m, uint32_t pool, const struct proto_identifier *id, uint64_t epoch);

/* The session under this epoch has its microVM. False: that was given up meanwhile, nothing may run
 * under it any more; the microVM is ended, or another epoch's. */
bool worker_member_made(struct worker_member *m, uint32_t pool, const struct proto_identifier *id,
    uint64_t epoch, struct worker_session_ref ref);

/* NULL: none is known. Until the next turn of the loop. */
const struct sched_catalog *worker_member_catalog(const struct worker_member *m);

/* A pool that this worker does not have is of no other one either: there is no catalogue, and never
 * was one. Else it may not have heard of it yet. */
bool worker_member_knows_pools(const struct worker_member *m);

/* This worker's part of the ready instances of a pool with this number; 0 until it has joined. */
uint32_t worker_member_share(const struct worker_member *m, uint32_t pool, uint32_t ready);

/* It is a member of the cluster's view. */
bool worker_member_joined(const struct worker_member *m);

/* What clients know as the session's generation; 0: it is not bound here. */
uint64_t worker_member_generation(
    struct worker_member *m, uint32_t pool, const struct proto_identifier *id);

/* The place of this identifier has made its session. Else one that is there came up when an earlier
 * place had been given up: it is nobody's. */
bool worker_member_has(struct worker_member *m, uint32_t pool, const struct proto_identifier *id);

/* An execution that the journal does not have may have run elsewhere, see sched_host_node_moved().
 */
bool worker_member_moved(struct worker_member *m, uint32_t pool, const struct proto_identifier *id);

/* No new sessions; those that are here stay until the owner ends them. Back in service, unless it
 * leaves. */
void worker_member_drain(struct worker_member *m);
void worker_member_undrain(struct worker_member *m);

/* No new sessions, and with the last one the lease is given back, so that the identifiers of this
 * worker wait for nothing; then leave() comes. The owner ends the sessions. */
void worker_member_leave(struct worker_member *m);

/* After leave(): the lease was given back, though leave() has not come yet. */
bool worker_member_gave_back(const struct worker_member *m);

/* How long to wait for leave() when there is no session left: after that the lease is over anyway.
 */
uint32_t worker_member_lease_ms(const struct worker_member *m);
