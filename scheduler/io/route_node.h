#pragma once
#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "proto/base/log.h"
#include "scheduler/core/route.h"
#include "scheduler/io/catalog_client.h"
#include "scheduler/io/settings.h"

/* A gateway's share of the cluster in a libev loop: the core of core/route.h and its messages. It
 * finds the host of a key, makes a session where there is none, goes on elsewhere when the host has
 * promised that nothing happened there. How a request gets to its host and back is the owner's. */
struct sched_route_node;

struct sched_route_ops {
    /* The request is to be carried out by this host under this epoch and by nobody else. Comes
     * again for a request that has no answer yet: then it may be sent again, under its exec id.
     * NULL: it is an EXEC message between the cores. */
    void (*go)(void *user, uint64_t rid, struct sched_host host, sched_epoch epoch);
    /* Nobody has a place for the request's session: outcome() comes right after it. NULL is fine.
     */
    void (*full)(void *user, uint64_t rid);
    /* The request is over. Comes from the loop, never from inside a call. */
    void (*outcome)(void *user, uint64_t rid, enum sched_outcome outcome, sched_epoch epoch);
    /* After sched_route_node_leave(): the others know. May be NULL. */
    void (*left)(void *user);
};

struct sched_route_node_cfg {
    struct ev_loop *loop;
    const struct base_log *log;
    const struct sched_settings *settings;
    uint32_t reqs_max;  /* requests at a time */
    uint32_t cache_max; /* remembered hosts of keys; a power of two */
    uint32_t hedge_ms, resend_ms;
    const struct sched_route_ops *ops;
    void *user;
};

int sched_route_node_create(
    struct sched_route_node **ret, const struct sched_route_node_cfg *cfg, struct base_error *err);
void sched_route_node_destroy(struct sched_route_node *n); /* NULL is fine */

/* The number of a new request, 0 when there are too many. exec: of no other request. go() and
 * outcome() come later. */
uint64_t sched_route_node_request(
    struct sched_route_node *n, struct sched_key key, struct sched_exec exec, uint32_t timeout_ms);

/* The same for one that only looks: outcome NONE when there is no session. None is made for it once
 * the cluster is at version 3. */
uint64_t sched_route_node_look(
    struct sched_route_node *n, struct sched_key key, struct sched_exec exec, uint32_t timeout_ms);

/* What the host of go() has said. done: it was carried out. not_here: it was not, and will never be
 * under this epoch. Nothing when the request is over or has moved on. */
void sched_route_node_done(struct sched_route_node *n, uint64_t rid, sched_epoch epoch);
void sched_route_node_not_here(struct sched_route_node *n, uint64_t rid, sched_epoch epoch);

/* The owner has lost interest; no callback comes any more. */
void sched_route_node_forget(struct sched_route_node *n, uint64_t rid);

/* The catalogue of the cluster, NULL: none was heard of. It is another one after a turn of the
 * loop.
 */
const struct sched_catalog *sched_route_node_catalog(const struct sched_route_node *n);

/* Nothing was ever in it, as a majority of the voters says. */
bool sched_route_node_catalog_empty(const struct sched_route_node *n);

/* For changes of it; as long as the node. */
struct sched_catalog_client *sched_route_node_catalog_client(struct sched_route_node *n);

/* A view is installed: hosts can be found. */
bool sched_route_node_ready(const struct sched_route_node *n);
uint32_t sched_route_node_view(const struct sched_route_node *n); /* its number; 0: not ready */
uint32_t sched_route_node_members(const struct sched_route_node *n);

/* A worker as gossip and the roster know it now. */
struct sched_route_worker {
    uint64_t id;
    const char *name;
    const char *ctl, *bulk;   /* endpoints */
    const char *key, *second; /* z85; while a key is replaced there are two, else NULL */
};

/* Calls fn for each worker whose addresses and key are known; what it points to is valid during the
 * call. */
void sched_route_node_workers(const struct sched_route_node *n,
    void (*fn)(void *ctx, const struct sched_route_worker *w), void *ctx);

/* The roster has the worker with this key (NULL: with any). */
bool sched_route_node_lists(const struct sched_route_node *n, uint64_t id, const char *key);

/* A member that known() denies: its name, else NULL. */
const char *sched_route_node_missing(
    const struct sched_route_node *n, bool (*known)(void *ctx, uint64_t id), void *ctx);

/* The node is a member of the cluster: sessions may be at it, and at no others. */
bool sched_route_node_member(const struct sched_route_node *n, uint64_t id);

/* And nobody suspects that it is gone. */
bool sched_route_node_trusts(const struct sched_route_node *n, uint64_t id);

/* Says goodbye, so that nobody looks for this gateway when it ends; left() follows within a second
 * or so. */
void sched_route_node_leave(struct sched_route_node *n);

/* For looking only. */
const struct sched_route *sched_route_node_core(const struct sched_route_node *n);
const char *sched_route_node_endpoint(const struct sched_route_node *n);
