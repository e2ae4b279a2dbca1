#pragma once
#include <stddef.h>
#include <stdint.h>

#include "gateway/core/http.h"

/* One request and its answer: an HTTP/1.1 request or an HTTP/2 stream, the same to handlers.
 * Nothing here calls back into the handler at once; callbacks come from the loop. */
struct gw_exchange;

enum {
    GW_EXCHANGE_OUT_HIGH = 256 << 10,   /* stop writing when so much is pending ... */
    GW_EXCHANGE_OUT_LOW = 64 << 10,     /* ... drain() comes below this */
    GW_EXCHANGE_BODY_WINDOW = 256 << 10 /* request body handed over and not yet consumed */
};

/* Any may be NULL. gone() is the last one and always comes: after it the exchange does not exist.
 */
struct gw_exchange_ops {
    void (*body)(void *owner, const uint8_t *data, size_t n);
    void (*end)(void *owner); /* the request is complete */
    void (*drain)(void *owner);
    /* The server is being stopped: what does not end by itself is to end now. */
    void (*stopping)(void *owner);
    void (*gone)(void *owner); /* the answer is out, or the client went away before */
};

/* In on_request only: who handles it. Without it the exchange is answered with 404. */
void gw_exchange_accept(struct gw_exchange *x, const struct gw_exchange_ops *ops, void *owner);

/* Valid until gone(). */
const struct gw_request *gw_exchange_request(const struct gw_exchange *x);

/* Stands for the address that the request comes from: the same for all that are under way from
 * there.
 */
const void *gw_exchange_source(const struct gw_exchange *x);

/* Starts the answer. length -1: not known, streamed. An answer before the request is complete ends
 * the connection (HTTP/1) or the stream (HTTP/2) after it. A second call is ignored. */
void gw_exchange_respond(
    struct gw_exchange *x, int status, const struct gw_field *fields, int fields_n, int64_t length);

/* HTTP/1.1, a request without a body that is complete: 101, and the connection is a tunnel. What
 * the client sends comes to body(), what is written goes out as it is, gw_exchange_end() ends both.
 */
void gw_exchange_upgrade(
    struct gw_exchange *x, const char *protocol, const struct gw_field *fields, int fields_n);

/* Adds to the answer's body (dropped for HEAD and after an abort). Returns the bytes that wait to
 * be sent: at GW_EXCHANGE_OUT_HIGH and above stop until drain(). */
size_t gw_exchange_write(struct gw_exchange *x, const void *data, size_t n);

void gw_exchange_end(struct gw_exchange *x);

/* Gives the answer up in the middle, so that the client sees it is not whole. */
void gw_exchange_abort(struct gw_exchange *x);

/* The handler is done with n bytes of the request's body. */
void gw_exchange_consume(struct gw_exchange *x, size_t n);

/* To whoever has accepted it now, from another handler: n bytes of the body that were not consumed,
 * and the end if it has come. */
void gw_exchange_replay(struct gw_exchange *x, const uint8_t *body, size_t n);
