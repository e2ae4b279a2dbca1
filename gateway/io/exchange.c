#include "gateway/io/exchange.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/io/conn.h"

static const struct gw_exchange_ops no_ops = {0};

struct gw_exchange *gw_exchange_create(struct gw_conn *c, int32_t stream)
{
    struct gw_exchange *x = calloc(1, sizeof *x);
    if (x == NULL) {
        return NULL;
    }
    x->conn = c;
    x->stream = stream;
    x->ops = &no_ops;
    x->begun_s = x->body_s = x->wrote_s = gw_server_now_s(c->server);
    x->next = c->exchanges;
    if (c->exchanges != NULL) {
        c->exchanges->prev = x;
    }
    c->exchanges = x;
    return x;
}

void gw_exchange_free(struct gw_exchange *x)
{
    struct gw_conn *c = x->conn;
    x->aborted = true;
    if (x->ops->gone != NULL) {
        x->ops->gone(x->owner);
    }
    if (x->prev != NULL) {
        x->prev->next = x->next;
    } else {
        c->exchanges = x->next;
    }
    if (x->next != NULL) {
        x->next->prev = x->prev;
    }
    base_buf_deinit(&x->text);
    base_buf_deinit(&x->out);
    free(x);
}

void gw_exchange_begin(struct gw_exchange *x)
{
    x->begun = true;
    x->request.peer = x->conn->address;
    x->request.secure = x->conn->ssl != NULL;
    if (x->refuse != 0) {
        gw_exchange_respond(x, x->refuse, NULL, 0, 0);
        gw_exchange_end(x);
        return;
    }
    gw_server_request(x->conn->server, x);
}

void gw_exchange_accept(struct gw_exchange *x, const struct gw_exchange_ops *ops, void *owner)
{
    x->ops = ops;
    x->owner = owner;
}

const void *gw_exchange_source(const struct gw_exchange *x)
{
    return x->conn->peer;
}

const struct gw_request *gw_exchange_request(const struct gw_exchange *x)
{
    return &x->request;
}

void gw_exchange_deliver(struct gw_exchange *x, const uint8_t *data, size_t n)
{
    x->unconsumed += n;
    x->body_bytes += n;
    x->body_s = gw_server_now_s(x->conn->server);
    if (x->response_done || x->aborted) {
        return; /* not wanted: the client's window closes */
    }
    if (x->ops->body != NULL) {
        x->ops->body(x->owner, data, n);
    } else {
        gw_exchange_consume(x, n);
    }
}

void gw_exchange_complete(struct gw_exchange *x)
{
    x->request_done = true;
    gw_server_mark(x->conn);
    if (x->ops->end != NULL && !x->response_done && !x->aborted) {
        x->ops->end(x->owner);
    }
}

void gw_exchange_replay(struct gw_exchange *x, const uint8_t *body, size_t n)
{
    x->unconsumed -= n;
    x->body_bytes -= n;
    if (n > 0) {
        gw_exchange_deliver(x, body, n);
    }
    if (x->request_done) {
        gw_exchange_complete(x);
    }
}

void gw_exchange_consume(struct gw_exchange *x, size_t n)
{
    n = n < x->unconsumed ? n : x->unconsumed;
    x->unconsumed -= n;
    x->body_s = gw_server_now_s(x->conn->server); /* the client may go on from now */
    gw_server_mark(x->conn);
    if (x->stream != 0 && !x->closed) {
        gw_h2_consume(x, n);
    }
}

void gw_exchange_respond(
    struct gw_exchange *x, int status, const struct gw_field *fields, int fields_n, int64_t length)
{
    if (x->head_sent || x->aborted) {
        return;
    }
    x->head_sent = true;
    x->wrote_s = gw_server_now_s(x->conn->server);
    gw_server_mark(x->conn);
    if (x->stream != 0) {
        gw_h2_respond(x, status, fields, fields_n, length);
    } else {
        gw_h1_respond(x, status, fields, fields_n, length);
    }
}

void gw_exchange_upgrade(
    struct gw_exchange *x, const char *protocol, const struct gw_field *fields, int fields_n)
{
    if (x->head_sent || x->aborted) {
        return;
    }
    x->head_sent = true;
    x->wrote_s = gw_server_now_s(x->conn->server);
    gw_server_mark(x->conn);
    gw_h1_upgrade(x, protocol, fields, fields_n);
}

size_t gw_exchange_pending(const struct gw_exchange *x)
{
    return x->stream != 0 ? base_buf_size(&x->out) : base_buf_size(&x->conn->out);
}

static int add(struct gw_exchange *x, const void *data, size_t n)
{
    struct base_buf *out = x->stream != 0 ? &x->out : &x->conn->out;
    if (!x->chunked) {
        return base_buf_add(out, data, n);
    }
    int rc = base_buf_printf(out, "%zx\r\n", n);
    rc = rc < 0 ? rc : base_buf_add(out, data, n);
    return rc < 0 ? rc : base_buf_add(out, "\r\n", 2);
}

size_t gw_exchange_write(struct gw_exchange *x, const void *data, size_t n)
{
    if (x->aborted || x->response_done || !x->head_sent || n == 0 ||
        x->request.method == GW_METHOD_HEAD) {
        return 0;
    }
    if (gw_exchange_pending(x) == 0) {
        x->wrote_s = gw_server_now_s(x->conn->server);
    }
    gw_server_mark(x->conn);
    if (add(x, data, n) < 0) {
        gw_exchange_abort(x);
        return 0;
    }
    gw_h2_resume(x);
    size_t pending = gw_exchange_pending(x);
    if (pending >= GW_EXCHANGE_OUT_HIGH) {
        x->blocked = true;
    }
    return pending;
}

void gw_exchange_end(struct gw_exchange *x)
{
    if (x->aborted || x->response_done) {
        return;
    }
    if (x->chunked && base_buf_add(&x->conn->out, "0\r\n\r\n", 5) < 0) {
        gw_exchange_abort(x);
        return;
    }
    x->response_done = true;
    x->blocked = false;
    gw_server_mark(x->conn);
    gw_h2_resume(x);
}

void gw_exchange_abort(struct gw_exchange *x)
{
    if (x->aborted) {
        return;
    }
    x->aborted = true;
    gw_server_mark(x->conn);
    if (x->stream == 0) {
        x->conn->closing = true; /* without the last chunk, or short of Content-Length */
    } else if (!x->closed) {
        gw_h2_reset(x, NGHTTP2_INTERNAL_ERROR);
    }
}

/* The request's body does not come. */
void gw_exchange_timeout(struct gw_exchange *x)
{
    gw_server_counters(x->conn->server)->timeouts++;
    if (x->head_sent) {
        gw_exchange_abort(x);
        return;
    }
    static const char text[] = "{\"error\":{\"code\":\"RequestTimeout\","
                               "\"message\":\"The request's body did not arrive in time.\"}}";
    static const struct gw_field json = {"content-type", "application/json"};
    gw_exchange_respond(x, 408, &json, 1, sizeof text - 1);
    (void)gw_exchange_write(x, text, sizeof text - 1);
    gw_exchange_end(x);
}
