#pragma once
#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/base/err.h"

/* HTTP server: accepts, speaks HTTP/1.1 and HTTP/2 (over TLS), hands exchanges to on_request.
 * Everything runs in the loop's thread. */
struct gw_server;
struct gw_exchange;
struct gw_tls;

struct gw_server_options {
    const char *listen;       /* "127.0.0.1:8443", "[::]:8443"; port 0 takes a free one */
    struct gw_tls *tls;       /* borrowed; NULL: plain HTTP/1.1 */
    unsigned connections_max; /* 0: 20000 */
    unsigned per_address_max; /* connections of one client address; 0: 4096 */
    /* The head is complete. Call gw_exchange_accept() or respond. */
    void (*on_request)(void *owner, struct gw_exchange *x);
    void *owner;
};

struct gw_server_stats {
    uint64_t accepted;
    uint64_t refused;  /* above a limit */
    uint64_t requests; /* handed to on_request */
    uint64_t bad;      /* framing errors, with an answer or without */
    uint64_t timeouts;
    unsigned connections; /* now */
};

int gw_server_create(struct gw_server **ret, struct ev_loop *loop,
    const struct gw_server_options *opt, struct base_error *err);

/* Ends every connection at once. Accepts NULL. */
void gw_server_destroy(struct gw_server *s);

/* The port that is really bound. */
int gw_server_port(const struct gw_server *s);

/* Takes no new connections and requests; done() when the last connection is gone, or after limit_s
 * seconds, when what is left is cut. */
void gw_server_drain(struct gw_server *s, unsigned limit_s, void (*done)(void *owner), void *owner);

void gw_server_stats(const struct gw_server *s, struct gw_server_stats *ret);
