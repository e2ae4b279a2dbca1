#pragma once
#include "proto/base/buf.h"
#include "proto/session.pb-c.h"
#include "worker/io/exec_io.h"
#include "worker/io/rpc.h"
#include "worker/wire/request.h"

/* Inside of worker/io/rpc*.c. */

/* protobuf-c has no const: what is packed is not written to. */
static inline char *rpc_text(const char *text)
{
    return (char *)(uintptr_t)text;
}

/* A request with its memory, counted. */
struct rpc_request {
    struct worker_list link;
    Warren__Request *msg;
    struct worker_rpc *rpc; /* NULL: it is gone, an execution still has this */
    uint64_t bytes;
    struct worker_quota_who who;
    bool counted; /* its bytes are, for `who` */
};

enum { RPC_CHUNKS = PROTO_CHUNK_CREDIT };

struct rpc_exchange {
    struct worker_list link;    /* all, or the dead */
    struct worker_list blocked; /* the socket's queue was full */
    struct rpc_exchange *chain;
    struct worker_rpc *rpc;
    struct proto_net_peer peer;
    enum proto_net_class class;
    Warren__Request__OpCase op;
    uint64_t corr;
    struct ev_timer timer; /* the request's deadline */
    struct rpc_request *req;
    uint32_t pool;
    uint32_t entries;  /* of a list */
    int32_t exit_code; /* of a terminal's shell */
    struct proto_identifier id;
    struct worker_quota_who who;  /* pays */
    struct worker_fair_item turn; /* while queued */

    struct worker_session_want want;
    struct worker_session_use use;
    struct worker_session_ref ref;   /* held while epoch != 0 */
    struct worker_session_info info; /* what replies point into while they are packed */
    uint64_t waited_ns;
    void (*go)(struct rpc_exchange *x); /* has its session */

    /* executions */
    struct worker_exec_watch watch;
    uint8_t exec_id[PROTO_EXEC_ID_BYTES];
    uint8_t digest[PROTO_EXEC_DIGEST_BYTES]; /* of what is asked, once it was needed */

    /* files and terminals */
    struct worker_stream *stream;
    struct base_buf input;        /* bytes on their way to the guest */
    struct base_buf data;         /* and from it */
    struct base_buf extra;        /* packed fields (file, files) for HEAD and END */
    uint32_t pending[RPC_CHUNKS]; /* upload: bytes of each chunk not yet written */
    uint32_t pending_n;
    uint32_t seq_in, seq_out;
    uint32_t credit;     /* chunks that may be sent */
    uint32_t credit_due; /* chunks to give back */
    uint64_t bytes_in, bytes_max;

    /* to be sent, in this order: head, credits, events or chunks, end */
    struct base_buf head, end;
    bool (*more)(struct rpc_exchange *x); /* sends events or chunks; false: cannot go on now */
    bool head_due, end_due;

    bool counted, queued;                      /* for `who`; until its turn comes */
    uint64_t epoch;                            /* in a cluster: the session that is meant */
    bool no_allocate;                          /* its session had its microVM */
    bool knows;                                /* the client has named the session's generation */
    bool waits;                                /* for the first one of a session of the cluster */
    bool dead;                                 /* freed at the end of the turn */
    bool fresh;                                /* its request made the session */
    bool replayed, no_wait, detach, head_sent; /* executions */
    bool fin_in, fin_done, input_done, source_done, truncated, started; /* files, terminals */
};

enum { RPC_BUCKETS = 4096 };

struct worker_rpc {
    struct worker_rpc_config config;
    struct proto_net *net;
    struct proto_net_socket *sockets[2]; /* by class */
    struct worker_list blocked[2];
    struct worker_list exchanges, dead, requests;
    struct rpc_exchange *buckets[RPC_BUCKETS];
    struct ev_prepare reaper;
    struct ev_timer peers;
    struct worker_fair turns; /* requests that wait for theirs */
    struct ev_check check;
    struct ev_idle more;
    uint32_t served; /* in this turn of the loop */
    struct worker_rpc_stats stats;
};

/* --- rpc.c --------------------------------------------------------------------------------- */

/* Sends what is due. May end the exchange (x->dead). */
void rpc_flush(struct rpc_exchange *x);
/* Gives everything up without an answer. */
void rpc_close(struct rpc_exchange *x);
void rpc_request_release(void *request);
/* Sends one message. 0, or the exchange cannot go on now: BASE_EAGAIN, BASE_ECLOSED (dead). */
int rpc_send(struct rpc_exchange *x, const struct proto_envelope *env, const void *body, size_t n);

void rpc_operate(struct rpc_exchange *x);

/* --- rpc_admit.c --------------------------------------------------------------------------- */

/* Counts it for its tenant, or ends it: over a quota. */
bool rpc_admit(struct rpc_exchange *x);
void rpc_admit_unqueue(struct rpc_exchange *x); /* its turn will not come */
void rpc_admit_leave(struct rpc_exchange *x);
void rpc_admit_release(struct rpc_request *req);
/* Operates now, or when it is its tenant's turn. */
void rpc_turn(struct rpc_exchange *x);
void rpc_turns_init(struct worker_rpc *r);
void rpc_turns_deinit(struct worker_rpc *r);

/* --- rpc_reply.c --------------------------------------------------------------------------- */

/* An END with this status and text goes out after what is due before it. */
void rpc_end(struct rpc_exchange *x, Warren__Status status, const char *code, const char *text);
void rpc_end_reply(struct rpc_exchange *x, Warren__Reply *reply);
void rpc_head_reply(struct rpc_exchange *x, Warren__Reply *reply);
/* For an exchange that there is not (yet). */
void rpc_refuse(struct worker_rpc *r, enum proto_net_class class, const struct proto_net_message *m,
    Warren__Status status, const char *text);
/* other: what rpc_gate_failed() says. */
void rpc_end_answer(
    struct rpc_exchange *x, const struct worker_session_answer *a, Warren__Status other);
void rpc_end_error(struct rpc_exchange *x, int code, const char *text);
/* The worker has no lease; says nothing about the session. */
void rpc_end_unleased(struct rpc_exchange *x);
/* Over a quota; retry_ms 0: soon. */
void rpc_end_quota(struct rpc_exchange *x, const char *text, uint32_t retry_ms);
void rpc_session_fill(
    const struct rpc_exchange *x, const struct worker_session_info *info, Warren__Session *ret);
/* The exchange's session when it is still there; points *reply at *session. */
void rpc_session_attach(struct rpc_exchange *x, Warren__Reply *reply, Warren__Session *session);

/* --- operations ---------------------------------------------------------------------------- */

void rpc_acquire(struct rpc_exchange *x, void (*go)(struct rpc_exchange *x));
void rpc_exec(struct rpc_exchange *x);
void rpc_exec_attach(struct rpc_exchange *x);
void rpc_exec_cancel(struct rpc_exchange *x);
bool rpc_exec_known(const struct rpc_exchange *x); /* its execution's records are here */
void rpc_exec_timeout(struct rpc_exchange *x);     /* while it watches an execution */
void rpc_file(struct rpc_exchange *x);
void rpc_file_chunk(struct rpc_exchange *x, const struct proto_net_message *m);
void rpc_session(struct rpc_exchange *x);
/* In a cluster: is the session that the gateway means here? False: the request was answered. */
bool rpc_gate(struct rpc_exchange *x);
/* It waits for the session's microVM no longer. */
void rpc_gate_leave(struct rpc_exchange *x);
/* It is answered: a place that was bound for it, and has no microVM, is of no use. */
void rpc_gate_answered(struct rpc_exchange *x);
/* It has its session's microVM (x->ref). False: that is not the place which it was sent to, and it
 * was answered. */
bool rpc_gate_made(struct rpc_exchange *x);
/* The pool has none for it. NOT_HERE: the cluster's session is given up here, another worker may
 * have it. RETRY: others wait for it as well, it will be given up with the last of them. OK: the
 * answer stands. */
Warren__Status rpc_gate_failed(struct rpc_exchange *x, const struct worker_session_answer *a);
