#pragma once
#include <ev.h>
#include <stdbool.h>

#include "proto/base/buf.h"
#include "proto/ids.h"
#include "proto/net/loop_zmq.h"
#include "proto/session.pb-c.h"

/* A worker without microVMs that speaks proto/WIRE.md: sessions and files are in memory, "code" is
 * a handful of commands (echo_exec.c). For tests and benchmarks of the gateway. */
enum { ECHO_POOLS_MAX = 8, ECHO_FILES_MAX = 64, ECHO_EXEC_LISTS = 1 << 16 };

struct echo_pool {
    char name[PROTO_POOL_NAME_MAX + 1];
    char type[32];
    unsigned sessions_max, sessions;
    bool mcp, mcp_extended;
};

struct echo_file {
    char path[PROTO_PATH_BYTES_MAX + 1];
    struct base_buf data;
    uint64_t modified_ns;
};

struct echo_session {
    struct echo_session *next;
    struct echo_pool *pool;
    struct proto_identifier id;
    uint64_t generation, created_ns, last_ns;
    uint8_t vm_id[16];
    struct base_buf tenant; /* as the request named it */
    bool fresh;             /* made by the request at hand */
    bool recreated;         /* there was one of this identifier */
    struct echo_file files[ECHO_FILES_MAX];
    int files_n;
};

struct echo_exec {
    struct echo_exec *next;
    struct echo_session *session;
    uint8_t id[PROTO_EXEC_ID_BYTES];
    uint8_t digest[PROTO_EXEC_DIGEST_BYTES];
    struct base_buf *events; /* packed */
    unsigned events_n, events_cap;
    bool done, cancelled;
    Warren__DoneStatus status;
    int exit_code;
    char *code, *at; /* at: the next line */
    uint64_t stdout_max, stdout_bytes, started_ns;
    ev_timer timer;
    struct echo *echo;
};

struct echo_exchange {
    struct echo_exchange *next;
    struct echo *echo;
    enum proto_net_class class;
    struct proto_net_peer peer;
    uint64_t corr;
    Warren__Request__OpCase op;
    bool dead;
    Warren__Request *held; /* waits for a new session */
    /* executions */
    struct echo_exec *exec;
    unsigned next_event;
    int64_t window;
    bool no_wait, replayed;
    /* files */
    struct echo_session *session;
    char path[PROTO_PATH_BYTES_MAX + 1];
    struct base_buf data; /* upload: received; download: still to be sent */
    uint64_t size_max;
    uint32_t credit, seq;
    bool fin_sent;
    /* terminals: data is for the screen */
    struct base_buf typed;
    uint32_t seq_out;
    bool deaf;
    char line[32];
    size_t line_n;
    ev_timer timer; /* of a slow upload: gives credit later */
};

struct echo {
    struct ev_loop *loop;
    struct proto_net *net;
    struct proto_net_socket *sockets[2];
    struct echo_pool pools[ECHO_POOLS_MAX];
    int pools_n;
    unsigned tenant_sessions; /* a tenant may have; 0: any number */
    struct echo_session *sessions;
    struct echo_exec *execs[ECHO_EXEC_LISTS]; /* by the first bytes of the id, which is a hash */
    struct echo_exchange *exchanges;
    uint64_t generation, runs;
    struct proto_identifier ended[16]; /* of the last sessions that ended */
    unsigned ended_n;
    bool hold; /* new sessions are not made yet */
};

/* ---- echo_worker.c ---- */
void echo_send(struct echo_exchange *x, enum proto_envelope_type type, uint32_t seq,
    const void *body, size_t n);
void echo_reply(struct echo_exchange *x, enum proto_envelope_type type, Warren__Reply *r);
void echo_end(struct echo_exchange *x, Warren__Status status, const char *code, const char *text);
void echo_fill_session(const struct echo_session *s, Warren__Session *ret);

/* ---- echo_exec.c ---- */
void echo_exec_run(struct echo_exchange *x, struct echo_session *s, const Warren__Exec *q);
void echo_exec_attach(struct echo_exchange *x, const Warren__ExecAttach *q);
void echo_exec_cancel(struct echo_exchange *x, const Warren__ExecCancel *q);
struct echo_exec **echo_exec_list(struct echo *e, const uint8_t *id);
struct echo_exec *echo_exec_find(struct echo *e, const ProtobufCBinaryData *id);
void echo_exec_flush(struct echo_exchange *x); /* sends what the window allows */
void echo_exec_free(struct echo_exec *e);

/* ---- echo_files.c ---- */
void echo_files_request(struct echo_exchange *x, struct echo_session *s, const Warren__Request *r);
void echo_files_chunk(struct echo_exchange *x, const struct proto_net_message *m);
void echo_files_flush(struct echo_exchange *x);
void echo_files_clear(struct echo_session *s);

/* ---- echo_terminal.c ---- */
void echo_terminal_start(
    struct echo_exchange *x, struct echo_session *s, const Warren__Terminal *q);
void echo_terminal_chunk(struct echo_exchange *x, const struct proto_net_message *m);
void echo_terminal_flush(struct echo_exchange *x);
