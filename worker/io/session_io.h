#pragma once
#include <ev.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "proto/base/log.h"
#include "worker/core/pool.h"
#include "worker/io/engine.h"
#include "worker/io/pool_file.h"
#include "worker/io/store.h"

/* The sessions of a worker: the pool manager and the journal of executions, joined to the engine,
 * the store and the clock. Decisions are in worker/core; here events go in and effects come out.
 *
 * Start-up: create, engine (with worker_session_engine_events), set_engine, pool_add for each pool,
 * start (takes over what an earlier worker of this boot left). One thread. */
struct worker_sessions;

struct worker_session_config {
    struct ev_loop *loop;
    const struct base_log *log;
    struct worker_store *run;          /* borrowed, attached to the loop by the caller */
    struct worker_store *node;         /* borrowed, committed from here when epochs are set aside */
    uint8_t cluster_key[16];           /* of placement; also hashes identifiers in logs */
    uint32_t vms_max;                  /* microVMs of the machine: slots of the engine */
    uint32_t waiters_max;              /* requests that wait for a microVM; 0: 4096 */
    uint32_t starts_max;               /* microVMs that start at a time; 0: 2 */
    uint32_t replenish_ms;             /* pause between a claim and the start of a replacement */
    uint32_t execs_max;                /* remembered executions; 0: 131072 */
    uint64_t event_bytes_max;          /* of their stored events; 0: 128 MiB */
    uint64_t retention_ms;             /* of outcomes; 0: 10 minutes */
    uint32_t requests_max;             /* that quotas may have to count; 0: 8192 */
    struct worker_quota_limits tenant; /* of each tenant */
    const struct worker_quota_tenant *tenants; /* with limits of their own; borrowed */
    uint32_t tenants_n;
    bool drop_unwanted;            /* see struct worker_pool_config; the member of a cluster does */
    const char *manifest;          /* of the image, JSON; borrowed; NULL: none */
    void (*on_change)(void *user); /* something that worker_session_ready() reads has changed */
    void *user;
};

int worker_session_create(const struct worker_session_config *config, struct worker_sessions **ret,
    struct base_error *err);
void worker_session_destroy(struct worker_sessions *s); /* NULL is fine; ends no microVM */

const struct worker_engine_events *worker_session_engine_events(struct worker_sessions *s);
void worker_session_set_engine(struct worker_sessions *s, struct worker_engine *e);

/* Starts its template too. BASE_EEXISTS. */
int worker_session_pool_add(
    struct worker_sessions *s, const struct worker_pool_file *file, struct base_error *err);

/* At any time: a pool is as the file says from now on. What is new is added; what was retired comes
 * back. When its microVMs are to be others, those that are made before the new template is ready
 * are still the old ones. On an error nothing has changed. Not from inside of callbacks of this
 * module. */
int worker_session_pool_set(
    struct worker_sessions *s, const struct worker_pool_file *file, struct base_error *err);

/* No new sessions; those that there are end, with what runs in them, and ready instances. Of a pool
 * that is not retired. Not from inside of callbacks. */
void worker_session_pool_retire(struct worker_sessions *s, uint32_t pool);
bool worker_session_pool_retired(const struct worker_sessions *s, uint32_t pool);
uint32_t worker_session_pools(const struct worker_sessions *s); /* 0 .. n-1, retired ones too */

/* Limits of all tenants from now on; copied. BASE_EFULL, BASE_ENOMEM: nothing has changed. */
int worker_session_tenants(struct worker_sessions *s, const struct worker_quota_limits *every,
    const struct worker_quota_tenant *tenants, uint32_t n);

/* The name of the pool that the engine's number stands for; "". */
const char *worker_session_pool_name(const struct worker_sessions *s, uint32_t engine_pool);

/* Reads the store of this boot and adopts what still runs; the rest is buried. */
int worker_session_start(struct worker_sessions *s, struct base_error *err);

/* No new sessions; with end_all the running ones end too. */
void worker_session_drain(struct worker_sessions *s, bool on, bool end_all);
bool worker_session_idle(const struct worker_sessions *s); /* no microVM is left */

struct worker_session_counts {
    uint32_t sessions; /* those that wait for a microVM too */
    uint32_t microvms;
};
struct worker_session_counts worker_session_counts(const struct worker_sessions *s);
/* Every pool has its ready instances (or as many as have room); or the worker is out of service. */
bool worker_session_ready(const struct worker_sessions *s);

/* --- pools and sessions -------------------------------------------------------------------- */

/* WORKER_NONE: never heard of. May be a retired one. */
uint32_t worker_session_pool(const struct worker_sessions *s, const char *name);
uint64_t worker_session_hash(
    const struct worker_sessions *s, uint32_t pool, const struct proto_identifier *id);

/* Looks at the lease now. False: there is none, so nothing may be said about any session. */
bool worker_session_leased(struct worker_sessions *s);
/* As it was when the worker last looked. */
bool worker_session_frozen(const struct worker_sessions *s);

/* What tenants use; requests are counted by who serves them. */
struct worker_quota *worker_session_quota(struct worker_sessions *s);

/* One life of a session. Stale ones are harmless everywhere. */
struct worker_session_ref {
    uint32_t session;
    proto_epoch epoch; /* 0: none */
    uint32_t slot;
};

struct worker_session_answer {
    enum worker_answer what;
    struct worker_session_ref ref; /* USE: a hold is the caller's until worker_session_release() */
    bool fresh;
    uint64_t waited_ns;
    uint32_t retry_ms;
    enum worker_end end; /* LOST */
    const char *text;    /* UNAVAILABLE, QUOTA: why */
    const char *code;    /* UNAVAILABLE: the same as a word, or "" */
    bool all_pools;      /* FULL: another pool would not have a place either */
};

/* A request for a session; embedded in its owner. */
struct worker_session_want {
    void (*done)(struct worker_session_want *w, const struct worker_session_answer *a);
    bool waiting;
    uint32_t pool;
    struct proto_identifier id;
    struct proto_tenant tenant; /* pays for the session when this makes it */
    bool allocate;
    proto_epoch generation;
    uint32_t deadline_ms; /* 0: the default */
};

/* done() may be called from inside. */
void worker_session_acquire(struct worker_sessions *s, struct worker_session_want *w);
void worker_session_cancel(struct worker_sessions *s, struct worker_session_want *w);
void worker_session_release(struct worker_sessions *s, struct worker_session_ref ref);
void worker_session_end(
    struct worker_sessions *s, struct worker_session_ref ref, enum worker_end end);

/* Wants to know when a session ends: first ended(false) when that is decided, then ended(true) when
 * its microVM is no more. Embedded in its owner; remove before it goes. */
struct worker_session_use {
    struct worker_list link;
    void (*ended)(struct worker_session_use *u, enum worker_end end, bool gone);
};
void worker_session_use_init(struct worker_session_use *u);
void worker_session_use_add(
    struct worker_sessions *s, struct worker_session_use *u, struct worker_session_ref ref);
void worker_session_use_remove(struct worker_session_use *u);

struct worker_session_info {
    struct worker_session_ref ref;
    struct proto_identifier id;
    const char *state;     /* "allocating", "running", "frozen", "ending" */
    const char *recreated; /* "" or how the identifier's session before this one ended */
    uint64_t created_ns;   /* since 1970 */
    uint64_t last_ns;
    uint64_t expires_ns; /* 0: never by itself */
    uint8_t vm_id[16];
};

/* False when the identifier has no session that has or had a microVM. */
bool worker_session_find(struct worker_sessions *s, uint32_t pool,
    const struct proto_identifier *id, struct worker_session_info *ret);
/* False when that life of it is over. */
bool worker_session_look(
    struct worker_sessions *s, struct worker_session_ref ref, struct worker_session_info *ret);
/* Sessions of a pool behind `after` (WORKER_NONE at first) in a fixed order; WORKER_NONE at the
 * end. */
uint32_t worker_session_next(
    struct worker_sessions *s, uint32_t pool, uint32_t after, struct worker_session_info *ret);

struct worker_session_pool_info {
    const struct worker_pool_spec *spec;
    const char *container;
    bool mcp, mcp_extended; /* the pool has an MCP endpoint, with all tools */
    const char *isolation;
    const char *template_id;
    const char *manifest;
    const char *state; /* "building", "ready", "failed: why"; valid until the next event */
    uint32_t ready, starting, active;
    uint64_t created_ns;
};
void worker_session_pool_look(
    struct worker_sessions *s, uint32_t pool, struct worker_session_pool_info *ret);
