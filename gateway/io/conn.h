#pragma once
#include <ev.h>
#include <llhttp.h>
#include <nghttp2/nghttp2.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>

#include "gateway/core/h1_guard.h"
#include "gateway/io/exchange.h"
#include "gateway/io/server.h"
#include "proto/base/buf.h"

/* Inside of the HTTP server: shared by server.c, conn.c, exchange.c, h1.c and h2.c only.
 * Rule: callbacks change state and mark the connection dirty; gw_conn_settle(), run once before the
 * loop sleeps, writes, feeds and frees. So nothing is freed under a running callback. */

enum { /* seconds, counted by the server's tick */
    GW_HANDSHAKE_S = 10,
    GW_HEAD_S = 10,
    GW_IDLE_S = 75,
    GW_BODY_STALL_S = 30,
    GW_WRITE_STALL_S = 60,
    GW_LINGER_S = 5,
    GW_BODY_RATE_MIN = 256, /* bytes per second, after GW_BODY_STALL_S */
};

enum {
    GW_PIPELINE_MAX = 16 << 10,      /* bytes read ahead while a request runs */
    GW_H2_BATCH = 64 << 10,          /* frames gathered for one write */
    GW_LINGER_BYTES_MAX = 160 << 20, /* a client that sends all of a big upload first */
};

enum gw_conn_state { GW_CONN_HANDSHAKE, GW_CONN_H1, GW_CONN_H2, GW_CONN_LINGER };

struct gw_exchange {
    struct gw_conn *conn;
    int32_t stream; /* 0: HTTP/1 */
    struct gw_exchange *prev, *next;
    const struct gw_exchange_ops *ops;
    void *owner;
    struct gw_request request;
    struct gw_field fields[GW_H1_FIELDS_MAX];
    struct base_buf text; /* what the request's strings point into */
    bool begun;           /* on_request was called */
    bool request_done;
    bool head_sent;
    bool response_done;
    bool aborted; /* writes are dropped */
    bool closed;  /* HTTP/2: the stream is over */
    bool keep;    /* HTTP/1: the connection may live on */
    bool http10;
    bool chunked;   /* HTTP/1: the answer is */
    bool deferred;  /* HTTP/2: the data provider waits */
    bool blocked;   /* the handler waits for drain() */
    bool reset_due; /* HTTP/2: answered early, the rest of the request is not wanted */
    int refuse;     /* HTTP/2: status to answer instead of calling on_request */
    size_t unconsumed;
    uint64_t body_bytes;
    uint32_t begun_s, body_s, wrote_s, body_wait_s;
    struct base_buf out; /* HTTP/2 */
};

struct gw_h1 {
    llhttp_t parser;
    struct gw_h1_chunks chunks;
    size_t scan;
    const uint8_t *mark; /* framing bytes from here on are not checked yet */
    bool in_body, chunked, blank, bad, complete;
    bool tunnel; /* no HTTP any more: all bytes are the exchange's */
};

struct gw_conn {
    struct gw_server *server;
    struct gw_conn *prev, *next;
    struct gw_conn *dirty_next;
    ev_io io;
    int fd, events;
    SSL *ssl;
    enum gw_conn_state state;
    bool dirty, dead;
    bool unread;  /* TLS may hold bytes that make no event: we stopped before it said there are none
                   */
    bool closing; /* write what is pending, then end */
    struct base_buf in, out;
    struct gw_exchange *exchanges; /* HTTP/1: one at most */
    struct gw_h1 h1;
    nghttp2_session *h2;
    bool goaway;
    uint32_t since_s, idle_s, head_s, wrote_s;
    size_t lingered;
    struct gw_peer *peer;
    char address[46];
};

/* server.c */
void gw_server_mark(struct gw_conn *c);
uint32_t gw_server_now_s(const struct gw_server *s);
const char *gw_server_date(const struct gw_server *s);
bool gw_server_draining(const struct gw_server *s);
struct ev_loop *gw_server_loop(const struct gw_server *s);
struct gw_server_stats *gw_server_counters(struct gw_server *s);
void gw_server_request(struct gw_server *s, struct gw_exchange *x);
uint8_t *gw_server_scratch(struct gw_server *s, size_t *ret_n); /* one read buffer for all */

/* conn.c */
void gw_conn_start(struct gw_conn *c);
void gw_conn_settle(struct gw_conn *c);
void gw_conn_tick(struct gw_conn *c);
void gw_conn_free(struct gw_conn *c); /* by the server, when dead */

/* exchange.c */
struct gw_exchange *gw_exchange_create(struct gw_conn *c, int32_t stream);
void gw_exchange_free(struct gw_exchange *x); /* calls gone() */
void gw_exchange_begin(struct gw_exchange *x);
void gw_exchange_deliver(struct gw_exchange *x, const uint8_t *data, size_t n);
void gw_exchange_complete(struct gw_exchange *x);
void gw_exchange_timeout(struct gw_exchange *x);
size_t gw_exchange_pending(const struct gw_exchange *x);

/* h1.c */
void gw_h1_start(struct gw_conn *c);
bool gw_h1_can_read(const struct gw_conn *c);
void gw_h1_input(struct gw_conn *c, const uint8_t *p, size_t n);
void gw_h1_turn(struct gw_conn *c); /* ends a finished exchange, goes on with what was read ahead */
void gw_h1_error(struct gw_conn *c, int status);
void gw_h1_respond(struct gw_exchange *x, int status, const struct gw_field *f, int n, int64_t len);
void gw_h1_upgrade(struct gw_exchange *x, const char *protocol, const struct gw_field *f, int n);

/* h2.c */
int gw_h2_start(struct gw_conn *c);
void gw_h2_input(struct gw_conn *c, const uint8_t *p, size_t n);
void gw_h2_turn(struct gw_conn *c); /* gathers frames into c->out, frees closed streams */
void gw_h2_respond(struct gw_exchange *x, int status, const struct gw_field *f, int n, int64_t len);
void gw_h2_resume(struct gw_exchange *x);
void gw_h2_consume(struct gw_exchange *x, size_t n);
void gw_h2_reset(struct gw_exchange *x, uint32_t code);
void gw_h2_goaway(struct gw_conn *c);
