#pragma once
#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/base/buf.h"
#include "proto/base/err.h"
#include "proto/base/log.h"
#include "scheduler/core/node.h"
#include "scheduler/io/catalog.h"
#include "scheduler/io/settings.h"

/* A worker's share of the cluster in a libev loop: the core of core/node.h, its stores and its
 * messages. What a session is made of is the owner's: it is told to start and to stop, and tells
 * what became of it.
 *
 * Incarnation and number of starts are in STATE/node.mdb, on the disk; all else is in
 * RUN/sched.mdb, which is gone with the microVMs. A worker that finds its run store gone begins a
 * new life.
 *
 * Time everywhere is CLOCK_BOOTTIME in ns. */
struct sched_host_node;

struct sched_host_ops {
    /* microVMs run before freeze_at and end at kill_at; inc: the life that holds the lease. */
    void (*lease)(void *user, uint64_t freeze_at_ns, uint64_t kill_at_ns, uint32_t inc);
    /* Answer with sched_host_node_up() or down(), from inside or later. */
    void (*vm_start)(void *user, struct sched_key key, sched_epoch epoch);
    void (*vm_stop)(void *user, struct sched_key key, sched_epoch epoch);
    /* Answer with done(), or never. NULL: nothing ever starts this way. */
    void (*vm_exec)(void *user, const struct sched_fx_vm *vm);
    /* This life is over, or the store has failed: all microVMs must end, and then the process. Who
     * starts next is somebody else. After drain(): the lease has been given back, and the cluster
     * goes on without this worker. Called once; afterwards nothing happens any more. The node is
     * in the middle of a step: do not destroy it from inside. */
    void (*leave)(void *user, const char *why);
    /* The catalogue is another one, or the view, and with it this worker's share: see
     * sched_host_node_catalog(). Not from inside of a call. NULL is fine. */
    void (*catalog)(void *user);
    /* {"pools":[...]} without the braces, for administrators. NULL is fine. */
    int (*describe)(void *user, struct base_buf *to);
};

struct sched_host_cfg {
    struct ev_loop *loop;
    const struct base_log *log;
    const struct sched_settings *settings;
    const char *run_dir;
    uint32_t sess_max; /* places for sessions */
    uint32_t regs_max; /* registers; 0: 12 * sess_max + 1024 */
    uint32_t execs_max;
    uint32_t cooldown_ms, max_alive_ms;  /* 0: only the owner ends sessions */
    uint32_t keep_ms;                    /* 0: 10 minutes */
    const struct sched_catalog *catalog; /* known from before; copied; NULL: none */
    uint16_t ctl_port, bulk_port;        /* where gateways reach this worker; 0: not told */
    const struct sched_host_ops *ops;
    void *user;
};

/* Starts to ask for a lease at once. Sessions of the same life are there: see each(). */
int sched_host_node_create(
    struct sched_host_node **ret, const struct sched_host_cfg *cfg, struct base_error *err);
void sched_host_node_destroy(struct sched_host_node *n); /* NULL is fine */

/* Sessions that an earlier process of this life had: for each of them the owner must say up() or
 * down() (what was to be stopped is to be stopped again). */
void sched_host_node_each(struct sched_host_node *n,
    void (*fn)(void *ctx, struct sched_key key, sched_epoch epoch, bool stop), void *ctx);

void sched_host_node_up(struct sched_host_node *n, struct sched_key key, sched_epoch epoch);
void sched_host_node_down(struct sched_host_node *n, struct sched_key key, sched_epoch epoch);

/* As down(), and nothing has run in the session, nor has it had a microVM: where it is next, an
 * execution that is not known there has not run here. */
void sched_host_node_unused(struct sched_host_node *n, struct sched_key key, sched_epoch epoch);
void sched_host_node_done(
    struct sched_host_node *n, const struct sched_fx_vm *vm, enum sched_outcome outcome);

/* A client ends a session. */
void sched_host_node_delete(struct sched_host_node *n, struct sched_key key);

/* No new sessions; those that are left end after grace_ms (SCHED_NEVER_MS: by themselves). With the
 * last one the lease is given back and leave() comes, when a majority of the voters is there; not
 * for who stays. */
void sched_host_node_drain(struct sched_host_node *n, uint32_t grace_ms, bool stay);

/* Nothing when the lease was given back already. */
void sched_host_node_undrain(struct sched_host_node *n);

/* The owner cannot start sessions of the key's pool (NULL: of any pool) for so long, and knows it:
 * those that this worker would take go to others meanwhile. Those that run here are not concerned.
 */
void sched_host_node_shut(struct sched_host_node *n, const struct sched_key *key, uint32_t ms);

enum sched_host_verdict {
    SCHED_HOST_HERE,         /* it runs here under this epoch, and may */
    SCHED_HOST_NOT_NOW,      /* no lease, or it starts or stops: ask again */
    SCHED_HOST_NOT_HERE,     /* a promise: nothing will run here under this epoch from now on */
    SCHED_HOST_EARLIER_LIFE, /* nor from now on; but what an earlier life ran is not known */
};

/* What to do with a request that was sent here for a session of the life `inc` of this worker.
 *
 * It says nothing about the past: the session may have run the request and ended. So the owner
 * looks into its own journal of executions first, and answers from it. Only what is not in there,
 * for a session that is NOT_HERE, may be sent to another one. After EARLIER_LIFE the journal is
 * gone, too: what may have been sent to that life has the outcome UNKNOWN. */
enum sched_host_verdict sched_host_node_check_life(
    const struct sched_host_node *n, struct sched_key key, sched_epoch epoch, uint32_t inc);

/* The same where the asker does not say which life it means: this one is taken, and whoever asks
 * must not send elsewhere what it may have sent to an earlier one. */
enum sched_host_verdict sched_host_node_check(
    const struct sched_host_node *n, struct sched_key key, sched_epoch epoch);

/* The epoch under which the key's session runs or starts here; 0: none. */
sched_epoch sched_host_node_epoch(const struct sched_host_node *n, struct sched_key key);

/* An earlier session of the key was at another worker, or in an earlier life of this one, so short
 * a time ago that its executions would still be remembered there, and something may have run in it:
 * what, is not known here. */
bool sched_host_node_moved(const struct sched_host_node *n, struct sched_key key);

/* The catalogue of the cluster; NULL: none was heard of. Until the next turn of the loop. */
const struct sched_catalog *sched_host_node_catalog(const struct sched_host_node *n);
/* A majority of the voters has said that there was never anything in it. */
bool sched_host_node_catalog_empty(const struct sched_host_node *n);

/* This worker's part of a pool's ready instances; 0 while it is not a member. */
uint32_t sched_host_node_share(const struct sched_host_node *n, uint32_t pool, uint32_t ready);

/* It has been a member of a view since this process has started. */
bool sched_host_node_joined(const struct sched_host_node *n);

/* For looking only. */
const struct sched_node *sched_host_node_core(const struct sched_host_node *n);
const char *sched_host_node_endpoint(const struct sched_host_node *n);
