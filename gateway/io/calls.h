#pragma once
#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/base/log.h"
#include "proto/ids.h"
#include "proto/net/curve.h"
#include "proto/session.pb-c.h"

/* Workers, the connections to them, and calls over these (proto/WIRE.md). A connection that is lost
 * comes back by itself; what a call does then depends on what it is. Code is never run twice: a run
 * that was sent is only ever asked for again under its id. */
struct gw_calls;
struct gw_call;

enum { GW_CALLS_WORKERS_MAX = 1024 };

struct gw_worker_config {
    uint64_t id;
    const char *name;
    const char *ctl, *bulk; /* endpoints */
    const char *public_key; /* z85 */
    uint8_t weight;
    uint16_t zone;
};

struct gw_calls_options {
    struct ev_loop *loop;
    const struct base_log *log;
    const struct proto_net_key *self; /* NULL: plaintext */
    uint8_t cluster_key[16];
    const struct gw_worker_config *workers; /* strings are copied */
    unsigned workers_n;                     /* 0: those that the cluster knows, as they come */
    const char *cluster; /* path of cluster.yaml; NULL: sessions are where the table puts them */
};

int gw_calls_create(
    struct gw_calls **ret, const struct gw_calls_options *opt, struct base_error *err);

/* No calls are made any more: tells the cluster that this gateway goes. left() comes from the loop,
 * or never when nobody hears it; false: there is no cluster. */
bool gw_calls_leave(struct gw_calls *c, void (*left)(void *user), void *user);

/* All calls must be over. Accepts NULL. */
void gw_calls_destroy(struct gw_calls *c);

unsigned gw_calls_workers(const struct gw_calls *c);
const char *gw_calls_name(const struct gw_calls *c, unsigned worker);

/* True when both connections to the worker stand. */
bool gw_calls_ready(const struct gw_calls *c, unsigned worker);

/* False while it waits for the cluster to tell it its first worker. */
bool gw_calls_usable(const struct gw_calls *c);

/* The home of an identifier: the first of its group. -1 when no worker has a weight. */
int gw_calls_home(const struct gw_calls *c, const char *pool, const struct proto_identifier *id);

/* Workers that have been asked the same; zero: nobody. */
struct gw_calls_asked {
    uint8_t bits[GW_CALLS_WORKERS_MAX / 8];
};

void gw_calls_note(struct gw_calls_asked *asked, unsigned worker);

/* Which worker to ask what all of them know, when some have not answered: in a cluster those that
 * it trusts come first, then others. Without one only the home. -1: there is none (left). */
int gw_calls_any(const struct gw_calls *c, int home, const struct gw_calls_asked *asked);

/* Whether sessions may be at the worker: in a cluster those that are not members have none. */
bool gw_calls_may_hold(const struct gw_calls *c, unsigned worker);

/* The number of the view in which gw_calls_may_hold() speaks; 0: the cluster is not known yet. */
uint32_t gw_calls_view(const struct gw_calls *c);

/* The catalogue of the cluster; NULL: there is no cluster, or none was heard of (yet). Until the
 * next turn of the loop. */
struct sched_catalog;
const struct sched_catalog *gw_calls_catalog(const struct gw_calls *c);

/* Nothing was ever in it, and that is certain. */
bool gw_calls_catalog_empty(const struct gw_calls *c);

/* There may be a catalogue: in a cluster, unless that is known to have nodes of before catalogues.
 */
bool gw_calls_catalog_may(const struct gw_calls *c);

/* As sched_catalog_client_put(). BASE_ENOTFOUND: there is no cluster. */
struct sched_catalog_put;
int gw_calls_catalog_put(struct gw_calls *c, const struct sched_catalog_put *put);
void gw_calls_catalog_forget(struct gw_calls *c, const void *ctx);

/* The name of a worker that may hold sessions and that this gateway does not know yet; NULL: none.
 */
const char *gw_calls_missing(const struct gw_calls *c);

enum gw_call_failure {
    GW_CALL_UNREACHABLE, /* nothing was sent: the worker is not connected */
    GW_CALL_LOST,        /* sent, then the connection was lost and did not come back */
    GW_CALL_TIMEOUT,     /* connected, and no answer in time */
};

/* What to do when the connection is lost under a call. */
enum gw_call_kind {
    GW_CALL_READ,  /* asked again, unless its answer has begun */
    GW_CALL_EXEC,  /* asked again under its id; goes on behind the last event seen */
    GW_CALL_WRITE, /* given up */
};

/* Callbacks come from the loop, never from inside a gw_call function. After end() or failed() the
 * call does not exist. Each may be NULL except end() and failed(). */
struct gw_call_ops {
    void (*head)(void *owner, const Warren__Reply *r);
    /* bytes: give them back with gw_call_event_done() when the event is dealt with. */
    void (*event)(void *owner, const Warren__GuestEvent *e, uint32_t bytes);
    /* Give it back with gw_call_chunk_done(). */
    void (*chunk)(void *owner, const uint8_t *data, size_t n, bool fin);
    void (*writable)(void *owner); /* chunks may be sent (again) */
    void (*end)(void *owner, const Warren__Reply *r);
    void (*failed)(void *owner, enum gw_call_failure why);
};

struct gw_call_options {
    unsigned worker;
    enum gw_call_kind kind;
    bool bulk;     /* use the bulk connection; long requests do so anyway */
    bool punctual; /* fails at the deadline; else the worker has a while to say that it is late */
    uint32_t deadline_ms;
    const Warren__Request *request; /* packed at once, not kept */
    const struct gw_call_ops *ops;
    void *owner;
};

/* BASE_ENOMEM, or BASE_ETOOBIG when the request is longer than a message may be. */
int gw_call_start(struct gw_calls *c, const struct gw_call_options *opt, struct gw_call **ret);

/* Gives up: the worker is told, no callback comes. Accepts NULL. */
void gw_call_cancel(struct gw_call *call);

void gw_call_event_done(struct gw_call *call, uint32_t bytes);
void gw_call_chunk_done(struct gw_call *call, uint32_t chunks);

/* After head() of an upload. 0, or BASE_EAGAIN: writable() comes. */
int gw_call_chunk(struct gw_call *call, const void *data, size_t n, bool fin);
