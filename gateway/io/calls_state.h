#pragma once
#include "gateway/io/calls.h"
#include "proto/base/buf.h"
#include "proto/net/loop_zmq.h"
#include "scheduler/core/place.h"
#include "scheduler/io/route_node.h"

/* Inside of gateway/io/calls*.c. */

enum {
    GW_CALLS_BUCKETS = 4096, /* numbers count up, so the low bits spread evenly */
    GW_CALLS_ENDPOINT_MAX = 80,
};

enum gw_call_state {
    WAITING, /* for the connection, or to be told the worker */
    SENT,
    HEADED, /* its answer has begun */
};

struct link {
    struct gw_calls *calls;
    struct worker *worker;
    struct proto_net_socket *socket;
    struct gw_call *list;
    bool ready, ping_due;
    uint64_t down_ns; /* since when it is not connected */
    /* of a worker that the cluster has told */
    char at[GW_CALLS_ENDPOINT_MAX];
    char key[PROTO_NET_Z85_MAX]; /* that it was opened for */
    uint64_t tried_ns;
};

struct worker {
    char *name;
    uint64_t id;
    struct link links[2]; /* by enum proto_net_class */
};

enum { GW_CALLS_REFUSALS_MAX = 3, GW_CALLS_REASON_MAX = 160 };

/* Workers that had no microVM for a call, and what the last one said. */
struct gw_call_refusal {
    uint64_t by[GW_CALLS_REFUSALS_MAX];
    unsigned n;
    bool full; /* nobody has a place, the cluster says; of use while no worker has said more */
    uint32_t retry_ms;
    char code[32], text[GW_CALLS_REASON_MAX];
};

struct gw_call {
    struct gw_calls *calls;
    struct link *link;
    struct gw_call *prev, *next; /* of the link */
    struct gw_call *chain;       /* of the bucket, while it has a corr */
    struct gw_call *owing_prev, *owing_next;
    uint32_t owed; /* credit to be given back; not 0: in the list */
    enum gw_call_state state;
    enum gw_call_kind kind;
    bool punctual, sent_before, headed_before, want_write;
    bool again; /* WAITING: for the time to ask the same worker once more */
    unsigned hops;
    uint64_t corr; /* 0: none */
    uint64_t deadline_ns;
    uint64_t last_seq; /* of events */
    uint32_t chunk_credit, chunk_out, chunk_in;
    uint8_t exec_id[PROTO_EXEC_ID_BYTES];
    struct base_buf request; /* packed; kept while it may have to be sent again */
    struct base_buf key;     /* packed Request with the key only, to attach with */
    ev_timer timer;
    /* in a cluster */
    struct sched_key key_hash;
    struct gw_call_refusal refusal;
    uint64_t rid; /* of the question for its worker; 0: not asked, or told for good */
    struct gw_call *rid_chain;
    sched_epoch epoch; /* under which its worker was asked; 0: without a cluster */
    bool bulk;
    bool look;    /* of a session, which is not made for it */
    bool tainted; /* code that was sent, and the connection was lost before an answer: it may have
                   * run whatever is said of a later attempt */
    const struct gw_call_ops *ops;
    void *owner;
};

struct gw_calls {
    struct ev_loop *loop;
    const struct base_log *log;
    struct proto_net *net;
    uint8_t cluster_key[16];
    struct proto_net_key self; /* secure */
    bool secure;
    struct worker *workers; /* stay where they are; in a cluster there may come more */
    unsigned workers_n, workers_max;
    struct sched_place place;
    void *place_memory;
    uint64_t next_corr;
    struct gw_call *buckets[GW_CALLS_BUCKETS];
    struct gw_call *owing; /* calls with credit to give back */
    ev_prepare give_back;
    /* in a cluster */
    struct sched_settings *settings;
    struct sched_route_node *route; /* NULL: the workers are those of gateway.yaml, for ever */
    void (*left)(void *user);       /* see gw_calls_leave() */
    void *left_user;
    struct link nowhere; /* calls that have no worker yet; never ready */
    struct gw_call *rids[GW_CALLS_BUCKETS];
    ev_timer look; /* for workers; active when they are not those of gateway.yaml */
    /* Sums of the ids of workers without a place: as of this look, and of the last one. Those of
     * the next one are named when they are others. */
    uint64_t unplaced, were_unplaced;
    bool name_unplaced;
};

/* ---- calls.c ---- */

void gw_calls_link_add(struct link *link, struct gw_call *call);
void gw_calls_move(struct gw_call *call, struct link *to);
uint32_t gw_calls_left_ms(const struct gw_call *call);

/* Waits at its link for a connection, at most ms. */
void gw_calls_wait(struct gw_call *call, uint32_t ms);
void gw_calls_transmit(struct gw_call *call);
void gw_calls_fail(struct gw_call *call, enum gw_call_failure why);
void gw_calls_end(struct gw_call *call, const Warren__Reply *r);

/* A worker without connections in the place w: one more behind the last, or another one's, which is
 * neither connected nor has calls. BASE_ENOMEM. */
int gw_calls_settle(struct gw_calls *c, struct worker *w, uint64_t id, const char *name);

/* Opens a link; strings are needed during the call only. */
int gw_calls_connect(
    struct link *link, const char *endpoint, const char *public_key, struct base_error *err);

/* As if the connection were lost, and it does not come back. */
void gw_calls_disconnect(struct link *link);

/* ---- calls_workers.c ---- */

void gw_calls_workers_start(struct gw_calls *c);
void gw_calls_workers_stop(struct gw_calls *c);

/* ---- calls_route.c ---- */

int gw_calls_route_create(struct gw_calls *c, const char *settings, struct base_error *err);
void gw_calls_route_destroy(struct gw_calls *c); /* after all calls */

/* The cluster takes the worker for one that lives. */
bool gw_calls_route_trusts(const struct gw_calls *c, const struct worker *w);

/* Takes a new call. BASE_EFULL, BASE_ETOOBIG: the caller releases it. */
int gw_calls_route_start(struct gw_call *call, const Warren__Key *key);

/* True when the reply was about where or when to ask, and the call goes on or has failed. Else it
 * is the answer; its status may be another one then. */
bool gw_calls_route_reply(struct gw_call *call, Warren__Reply *r);
void gw_calls_route_forget(struct gw_call *call);

/* Nobody has a place for it, and some have said why: then that is its end, which is more than that
 * no worker was found. False: it goes on. */
bool gw_calls_route_refused(struct gw_call *call);
