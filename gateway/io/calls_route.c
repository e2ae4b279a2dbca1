#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/io/calls_state.h"
#include "proto/base/clock.h"
#include "proto/base/rand.h"
#include "scheduler/core/name.h"

/* Calls in a cluster: which worker a session is at is asked of the workers themselves, see
 * scheduler/io/route_node.h. A call waits at no worker until it has been told one; it moves on when
 * that worker has promised that nothing was done there. */

enum {
    REQS_MAX = 4096,
    CACHE_MAX = 1 << 16,
    HEDGE_MS = 100,
    RESEND_MS = 500,
    TIMEOUT_MS_MAX = 590000, /* less than workers remember */
    SLACK_MS = 1000,         /* the call's own timer comes first */
    FULL_RETRY_MS = 2000,
    AGAIN_MS = 1000, /* for a connection that was lost the worker counts its requests a while yet */
    LEASES_AWAY = 2,
    CATALOG_VERSION = 3, /* of the cluster's messages, from which on there may be one */
    VIEW_OF_LIST = 1,    /* the workers of gateway.yaml are the one view there is */
};

static struct gw_call **bucket(struct gw_calls *c, uint64_t rid)
{
    return &c->rids[rid % GW_CALLS_BUCKETS];
}

static struct gw_call *find(struct gw_calls *c, uint64_t rid)
{
    struct gw_call *call = *bucket(c, rid);
    while (call != NULL && call->rid != rid) {
        call = call->rid_chain;
    }
    return call;
}

static void unlist(struct gw_call *call)
{
    struct gw_call **p = bucket(call->calls, call->rid);
    while (*p != call) {
        p = &(*p)->rid_chain;
    }
    *p = call->rid_chain;
    call->rid = 0;
}

void gw_calls_route_forget(struct gw_call *call)
{
    if (call->rid != 0) {
        uint64_t rid = call->rid;
        unlist(call);
        sched_route_node_forget(call->calls->route, rid);
    }
}

static void nowhere(struct gw_call *call)
{
    gw_calls_move(call, &call->calls->nowhere);
    gw_calls_wait(call, UINT32_MAX);
}

/* BASE_EFULL: too many calls are looking for their worker. */
static int ask(struct gw_call *call)
{
    struct gw_calls *c = call->calls;
    struct sched_exec exec = {base_rand_u64(), base_rand_u64()};
    uint32_t left = gw_calls_left_ms(call);
    left = left < TIMEOUT_MS_MAX ? left + SLACK_MS : TIMEOUT_MS_MAX;
    call->epoch = 0;
    call->rid = (call->look ? sched_route_node_look : sched_route_node_request)(
        c->route, call->key_hash, exec, left);
    if (call->rid == 0) {
        return BASE_EFULL;
    }
    struct gw_call **p = bucket(c, call->rid);
    call->rid_chain = *p;
    *p = call;
    return 0;
}

int gw_calls_route_start(struct gw_call *call, const Warren__Key *key)
{
    struct gw_calls *c = call->calls;
    gw_calls_link_add(&c->nowhere, call);
    gw_calls_wait(call, UINT32_MAX);
    if (sched_name_key(c->cluster_key, key->pool, (const char *)key->identifier.data,
            key->identifier.len, &call->key_hash) != 0) {
        return BASE_ETOOBIG;
    }
    return ask(call);
}

/* A worker that does not live is out of the cluster within about a lease, and its calls are asked
 * for again then. One that is a member for longer and cannot be reached from here is not waited
 * for. */
static uint32_t patience_ms(const struct gw_calls *c, const struct link *link)
{
    uint64_t down_ms = (base_clock_mono_ns() - link->down_ns) / BASE_NS_PER_MS;
    uint64_t most_ms = LEASES_AWAY * (uint64_t)c->settings->lease_ms;
    return link->ready ? UINT32_MAX : down_ms < most_ms ? (uint32_t)(most_ms - down_ms) : 0;
}

static void on_go(void *user, uint64_t rid, struct sched_host host, sched_epoch epoch)
{
    struct gw_calls *c = user;
    struct gw_call *call = find(c, rid);
    unsigned i = 0;
    while (i < c->workers_n && c->workers[i].id != host.node) {
        i++;
    }
    if (call == NULL || i == c->workers_n) {
        return; /* a worker that gateway.yaml does not have: the call's time runs out */
    }
    call->refusal.full = false;
    struct link *link = &c->workers[i].links[call->bulk ? PROTO_NET_BULK : PROTO_NET_CTL];
    if (call->link == link && call->epoch == epoch) {
        return; /* on its way, or waiting for the connection */
    }
    call->epoch = epoch;
    gw_calls_move(call, link);
    gw_calls_wait(call, patience_ms(c, link));
    if (link->ready) {
        gw_calls_transmit(call);
    }
}

static void note_refusal(struct gw_call_refusal *f, uint64_t by, const Warren__Reply *r)
{
    bool known = false;
    for (unsigned i = 0; i < f->n; i++) {
        known = known || f->by[i] == by;
    }
    if (!known && f->n < GW_CALLS_REFUSALS_MAX) {
        f->by[f->n++] = by;
    }
    f->retry_ms = r->retry_after_ms;
    (void)snprintf(f->code, sizeof f->code, "%s", r->code == NULL ? "" : r->code);
    (void)snprintf(f->text, sizeof f->text, "%s", r->text);
}

static Warren__Status refusal_status(const struct gw_call_refusal *f)
{
    bool full = strcmp(f->code, "PoolFull") == 0;
    return full ? WARREN__STATUS__STATUS_FULL : WARREN__STATUS__STATUS_UNAVAILABLE;
}

bool gw_calls_route_refused(struct gw_call *call)
{
    struct gw_call_refusal f = call->refusal;
    if ((f.n == 0 && !f.full) || call->sent_before) {
        return false;
    }
    Warren__Reply r = WARREN__REPLY__INIT;
    r.status = refusal_status(&f);
    r.code = f.code;
    r.text = f.text;
    r.retry_after_ms = f.retry_ms;
    gw_calls_end(call, &r);
    return true;
}

/* As a worker would say. */
static void no_session(struct gw_call *call)
{
    Warren__Reply r = WARREN__REPLY__INIT;
    r.status = WARREN__STATUS__STATUS_NOT_FOUND;
    r.code = (char *)(uintptr_t) "session";
    r.text = (char *)(uintptr_t) "no such session";
    gw_calls_end(call, &r);
}

static void on_outcome(void *user, uint64_t rid, enum sched_outcome outcome, sched_epoch epoch)
{
    struct gw_call *call = find(user, rid);
    (void)epoch;
    if (call == NULL) {
        return;
    }
    unlist(call);
    if (outcome == SCHED_OUTCOME_OK) {
        return;
    }
    if (outcome == SCHED_OUTCOME_NONE) {
        no_session(call);
        return;
    }
    /* Its worker is out of the cluster, or nobody has found one in time. What was never sent has
     * certainly not run, whatever the core has to think. */
    if (!call->sent_before && outcome == SCHED_OUTCOME_UNKNOWN && gw_calls_left_ms(call) > 0) {
        nowhere(call);
        if (ask(call) == 0) {
            return;
        }
    }
    if (!gw_calls_route_refused(call)) {
        bool lost = call->sent_before && outcome == SCHED_OUTCOME_UNKNOWN;
        gw_calls_fail(call, lost ? GW_CALL_LOST : GW_CALL_UNREACHABLE);
    }
}

/* The pool has as many sessions in the cluster as it may have, or no worker has room. */
static void on_full(void *user, uint64_t rid)
{
    struct gw_call *call = find(user, rid);
    if (call == NULL || call->sent_before || call->refusal.n > 0) {
        return; /* workers have said more */
    }
    struct gw_call_refusal *f = &call->refusal;
    f->full = true;
    f->retry_ms = FULL_RETRY_MS;
    (void)snprintf(f->code, sizeof f->code, "PoolFull");
    (void)snprintf(f->text, sizeof f->text, "all sessions of the pool are in use");
}

static void on_left(void *user)
{
    struct gw_calls *c = user;
    if (c->left != NULL) {
        c->left(c->left_user);
    }
}

static const struct sched_route_ops ops = {
    .go = on_go, .full = on_full, .outcome = on_outcome, .left = on_left};

/* The host has no microVM for it, and says why; so did others. Then that is the answer. */
static bool refused_by_all(struct gw_call *call, Warren__Reply *r)
{
    if (r->text == NULL || r->retry_after_ms == 0) {
        return false;
    }
    note_refusal(&call->refusal, call->link->worker->id, r);
    uint32_t members = sched_route_node_members(call->calls->route);
    if (call->refusal.n < GW_CALLS_REFUSALS_MAX && call->refusal.n < members) {
        return false;
    }
    r->status = refusal_status(&call->refusal);
    gw_calls_route_forget(call);
    return true;
}

/* Code that was sent before the connection was lost may have run, whatever is said of the request
 * that came behind: who is told to try again runs it twice. These are said by a worker that has not
 * looked into its journal, or still has the first request. */
static bool says_nothing(const struct gw_call *call, const Warren__Reply *r)
{
    if (call->kind != GW_CALL_EXEC || call->state != SENT ||
        !(call->headed_before || call->tainted)) {
        return false;
    }
    bool anywhere = call->rid != 0 && !call->headed_before; /* see below */
    return r->status == WARREN__STATUS__STATUS_FULL ||
           r->status == WARREN__STATUS__STATUS_UNAVAILABLE ||
           (r->status == WARREN__STATUS__STATUS_RETRY && !anywhere);
}

bool gw_calls_route_reply(struct gw_call *call, Warren__Reply *r)
{
    if (says_nothing(call, r)) { /* it will, or the call is lost when its time is up */
        gw_calls_wait(call, AGAIN_MS);
        call->again = true;
        return true;
    }
    struct gw_calls *c = call->calls;
    uint64_t rid = call->rid;
    sched_epoch epoch = call->epoch;
    bool not_here = r->status == WARREN__STATUS__STATUS_NOT_HERE;
    if ((call->headed_before || call->tainted) && not_here) { /* it is gone with its session */
        gw_calls_fail(call, GW_CALL_LOST);
        return true;
    }
    if (rid == 0) {
        return false;
    }
    if (not_here && refused_by_all(call, r)) {
        return false;
    }
    if (!call->headed_before && (not_here || r->status == WARREN__STATUS__STATUS_RETRY)) {
        call->sent_before = call->tainted; /* this time nothing was done */
        call->epoch = 0;
        nowhere(call);
        if (not_here) {
            sched_route_node_not_here(c->route, rid, epoch);
        } /* else it is sent again after a while */
        return true;
    }
    unlist(call);
    sched_route_node_done(c->route, rid, epoch);
    return false;
}

bool gw_calls_may_hold(const struct gw_calls *c, unsigned worker)
{
    return c->route == NULL || !sched_route_node_ready(c->route) ||
           sched_route_node_member(c->route, c->workers[worker].id);
}

uint32_t gw_calls_view(const struct gw_calls *c)
{
    return c->route == NULL ? VIEW_OF_LIST : sched_route_node_view(c->route);
}

bool gw_calls_route_trusts(const struct gw_calls *c, const struct worker *w)
{
    return sched_route_node_trusts(c->route, w->id);
}

int gw_calls_route_create(struct gw_calls *c, const char *settings, struct base_error *err)
{
    int rc = sched_settings_load(settings, &c->settings, err);
    if (rc != 0) {
        return rc;
    }
    struct sched_route_node_cfg cfg = {.loop = c->loop,
        .log = c->log,
        .settings = c->settings,
        .reqs_max = REQS_MAX,
        .cache_max = CACHE_MAX,
        .hedge_ms = HEDGE_MS,
        .resend_ms = RESEND_MS,
        .ops = &ops,
        .user = c};
    c->nowhere.calls = c;
    return sched_route_node_create(&c->route, &cfg, err);
}

const struct sched_catalog *gw_calls_catalog(const struct gw_calls *c)
{
    return c->route == NULL ? NULL : sched_route_node_catalog(c->route);
}

bool gw_calls_catalog_empty(const struct gw_calls *c)
{
    return c->route != NULL && sched_route_node_catalog_empty(c->route);
}

bool gw_calls_catalog_may(const struct gw_calls *c)
{
    if (c->route == NULL || gw_calls_catalog(c) != NULL || !sched_route_node_ready(c->route)) {
        return c->route != NULL;
    }
    return sched_view_version(sched_route_node_core(c->route)->view) >= CATALOG_VERSION;
}

int gw_calls_catalog_put(struct gw_calls *c, const struct sched_catalog_put *put)
{
    return c->route == NULL
               ? BASE_ENOTFOUND
               : sched_catalog_client_put(sched_route_node_catalog_client(c->route), put);
}

void gw_calls_catalog_forget(struct gw_calls *c, const void *ctx)
{
    if (c->route != NULL) {
        sched_catalog_client_forget(sched_route_node_catalog_client(c->route), ctx);
    }
}

bool gw_calls_leave(struct gw_calls *c, void (*left)(void *user), void *user)
{
    if (c->route == NULL) {
        return false;
    }
    c->left = left;
    c->left_user = user;
    sched_route_node_leave(c->route);
    return true;
}

void gw_calls_route_destroy(struct gw_calls *c)
{
    sched_route_node_destroy(c->route);
    sched_settings_destroy(c->settings);
}
