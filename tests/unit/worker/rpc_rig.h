#pragma once
#include "proto/base/buf.h"
#include "proto/net/loop_zmq.h"
#include "proto/session.pb-c.h"
#include "tests/lib/check.h"
#include "tests/lib/fake_engine.h"
#include "worker/io/member.h"
#include "worker/io/rpc.h"
#include "worker/io/session_io.h"
#include "worker/io/store.h"

/* A worker without microVMs (tests/lib/fake_engine.h) and a gateway's sockets, in one loop. */

struct rig_message {
    struct proto_envelope env;
    struct base_buf body;
};

struct rig {
    struct ev_loop *loop;
    struct base_log log;
    struct fake_world *world;
    struct worker_store *run, *node;
    struct worker_sessions *sessions;
    struct worker_engine *engine;
    struct worker_rpc *rpc;
    struct proto_net *net;
    struct proto_net_socket *sockets[2];
    struct rig_message inbox[4096];
    uint32_t inbox_n;
    uint64_t corr;
    uint32_t sessions_max, ready;
    uint32_t cooldown_ms;
    uint64_t retention_ms;
    uint32_t deadline_ms_max;
    uint32_t peers_ms;
    uint32_t view;
    uint8_t tenant; /* of requests sent from now on; 0: nobody's */
    uint8_t tenant_id[PROTO_TENANT_BYTES];
    struct worker_quota_limits limits; /* of each tenant */
    bool crashed;
    const char *pool; /* of requests sent from now on; NULL: "python" */
    bool two_pools;   /* "other" is like "python" */
    uint64_t epoch;   /* of requests sent from now on, in a cluster */
    /* Makes the worker a member of a cluster; called by rig_start(). NULL: there is none. */
    void (*join)(struct rig *r);
    struct worker_member *member;
    uint32_t deadline_ms;          /* of requests sent from now on; 0: none */
    void (*on_change)(void *user); /* of the sessions; NULL: none */
    void *user;
};

/* Two sessions at most, none ready, unless changed before. */
void rig_init(struct rig *r);
void rig_start(struct rig *r); /* the worker */
void rig_stop(struct rig *r);  /* as by kill -9: what is not committed is lost */
void rig_deinit(struct rig *r);
/* The worker dies right after its n-th word to a guest: what is not committed by then is lost. */
void rig_crash_at(struct rig *r, uint32_t n);

/* Runs the loop until the condition holds; the test is ended when that takes a minute. */
#define RIG_UNTIL(r, cond)                                                                         \
    do {                                                                                           \
        (void)alarm(60);                                                                           \
        while (!(r)->crashed && !(cond)) {                                                         \
            ev_run((r)->loop, EVRUN_ONCE);                                                         \
        }                                                                                          \
        (void)alarm(0);                                                                            \
    } while (0)

/* Sends a request for r->pool and identifier `name` (NULL: none); returns its corr. */
uint64_t rig_send(struct rig *r, enum proto_net_class class, const char *name, Warren__Request *q);
void rig_envelope(struct rig *r, enum proto_net_class class, const struct proto_envelope *env,
    const void *body, size_t n);
/* The k-th message of a kind for a corr so far, NULL when there are fewer. */
const struct rig_message *rig_got(
    const struct rig *r, uint64_t corr, enum proto_envelope_type type, uint32_t k);
uint32_t rig_count(const struct rig *r, uint64_t corr, enum proto_envelope_type type);
/* Waits for HEAD or END; the caller frees. */
Warren__Reply *rig_reply(struct rig *r, uint64_t corr, enum proto_envelope_type type);
/* Waits for END and returns its status. */
Warren__Status rig_status(struct rig *r, uint64_t corr);

/* GET, DELETE or LIST of sessions, or GET of the pool. */
uint64_t rig_about(
    struct rig *r, Warren__Request__OpCase op, const char *name, uint64_t expect_generation);
struct rig_exec_how {
    bool given, detach; /* as in the request */
    uint64_t generation;
};
uint64_t rig_exec_how(
    struct rig *r, const char *name, uint8_t id, const char *code, const struct rig_exec_how *how);
uint64_t rig_exec(struct rig *r, const char *name, uint8_t id, const char *code);
uint64_t rig_attach(struct rig *r, const char *name, uint8_t id, uint64_t after, bool wait);
uint64_t rig_cancel(struct rig *r, const char *name, uint8_t id);

/* What an exchange was told of stdout so far, "|" behind each piece; returns text. */
enum { RIG_OUTPUT_MAX = 256 };
const char *rig_output(const struct rig *r, uint64_t corr, char text[RIG_OUTPUT_MAX]);
/* Waits for END and checks that it was interrupted. */
void rig_canceled(struct rig *r, uint64_t corr);
