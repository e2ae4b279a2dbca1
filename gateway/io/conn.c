#include <errno.h>
#include <openssl/err.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/io/conn.h"
#include "gateway/io/tls.h"

enum { READS_PER_EVENT = 4, TURNS = 8 };

enum { IO_AGAIN = -1, IO_OTHER = -2, IO_FAILED = -3 }; /* OTHER: TLS wants the other direction */

static ssize_t tls_result(const struct gw_conn *c, int rc, bool writing)
{
    switch (SSL_get_error(c->ssl, rc)) {
    case SSL_ERROR_WANT_READ:
        return writing ? IO_OTHER : IO_AGAIN;
    case SSL_ERROR_WANT_WRITE:
        return writing ? IO_AGAIN : IO_OTHER;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    default:
        return IO_FAILED;
    }
}

static ssize_t receive(struct gw_conn *c, void *p, size_t n)
{
    if (c->ssl == NULL || c->state == GW_CONN_LINGER) {
        ssize_t r = recv(c->fd, p, n, 0);
        return r >= 0 ? r : errno == EAGAIN || errno == EINTR ? IO_AGAIN : IO_FAILED;
    }
    size_t k = 0;
    ERR_clear_error();
    int rc = SSL_read_ex(c->ssl, p, n, &k);
    return rc == 1 ? (ssize_t)k : tls_result(c, rc, false);
}

static ssize_t transmit(struct gw_conn *c, const void *p, size_t n)
{
    if (c->ssl == NULL) {
        ssize_t r = send(c->fd, p, n, MSG_NOSIGNAL);
        return r >= 0 ? r : errno == EAGAIN || errno == EINTR ? IO_AGAIN : IO_FAILED;
    }
    size_t k = 0;
    ERR_clear_error();
    int rc = SSL_write_ex(c->ssl, p, n, &k);
    return rc == 1 ? (ssize_t)k : tls_result(c, rc, true);
}

static void want(struct gw_conn *c, int events)
{
    struct ev_loop *loop = gw_server_loop(c->server);
    if (events == c->events) {
        return;
    }
    ev_io_stop(loop, &c->io);
    if (events != 0) {
        ev_io_set(&c->io, c->fd, events);
        ev_io_start(loop, &c->io);
    }
    c->events = events;
}

/* ---- events ---- */

static void handshake(struct gw_conn *c)
{
    ERR_clear_error();
    int rc = SSL_do_handshake(c->ssl);
    if (rc != 1) {
        int e = SSL_get_error(c->ssl, rc);
        if (e == SSL_ERROR_WANT_WRITE) {
            want(c, EV_WRITE);
        } else if (e == SSL_ERROR_WANT_READ) {
            want(c, EV_READ);
        } else {
            c->dead = true;
        }
        return;
    }
    const unsigned char *name = NULL;
    unsigned n = 0;
    SSL_get0_alpn_selected(c->ssl, &name, &n);
    if (n == 2 && memcmp(name, "h2", 2) == 0) {
        c->dead |= gw_h2_start(c) < 0;
    } else {
        gw_h1_start(c);
    }
}

static bool can_read(const struct gw_conn *c)
{
    switch (c->state) {
    case GW_CONN_H1:
        return gw_h1_can_read(c);
    case GW_CONN_H2:
        /* A peer that does not take our frames is not read either, or its pings would pile up. */
        return !c->closing && base_buf_size(&c->out) < GW_EXCHANGE_OUT_HIGH;
    case GW_CONN_HANDSHAKE:
    case GW_CONN_LINGER:
    default:
        return true;
    }
}

static void input(struct gw_conn *c, const uint8_t *p, size_t n)
{
    if (c->state == GW_CONN_H1) {
        gw_h1_input(c, p, n);
    } else if (c->state == GW_CONN_H2) {
        gw_h2_input(c, p, n);
    } else {
        c->lingered += n;
        c->dead |= c->lingered > GW_LINGER_BYTES_MAX;
    }
}

static void on_readable(struct gw_conn *c)
{
    size_t cap = 0;
    uint8_t *scratch = gw_server_scratch(c->server, &cap);
    for (int i = 0; i < READS_PER_EVENT && !c->dead && can_read(c); i++) {
        /* Beside a running request only a little is read ahead. */
        bool ahead =
            c->state == GW_CONN_H1 && c->exchanges != NULL && !c->h1.in_body && !c->h1.tunnel;
        ssize_t n = receive(c, scratch, ahead ? GW_PIPELINE_MAX : cap);
        c->unread = n > 0 || n == IO_OTHER;
        if (n == IO_AGAIN || n == IO_OTHER) {
            return;
        }
        if (n <= 0) {
            c->dead = true;
            return;
        }
        size_t room = ahead ? GW_PIPELINE_MAX : cap;
        input(c, scratch, (size_t)n);
        if ((size_t)n < room && (c->ssl == NULL || SSL_has_pending(c->ssl) == 0)) {
            c->unread = false; /* there was no more, and the loop tells when there is */
            return;
        }
    }
}

static void on_io(struct ev_loop *loop, ev_io *w, int revents)
{
    (void)loop;
    struct gw_conn *c = w->data;
    gw_server_mark(c);
    if (c->state == GW_CONN_HANDSHAKE) {
        handshake(c);
        if (c->state == GW_CONN_HANDSHAKE) {
            return;
        }
        revents |= EV_READ; /* data may have come with the handshake */
    }
    if ((revents & EV_READ) != 0) {
        on_readable(c);
    }
}

void gw_conn_start(struct gw_conn *c)
{
    ev_io_init(&c->io, on_io, c->fd, EV_READ);
    c->io.data = c;
    ev_io_start(gw_server_loop(c->server), &c->io);
    c->events = EV_READ;
    c->since_s = c->wrote_s = gw_server_now_s(c->server);
    if (c->ssl == NULL) {
        gw_h1_start(c);
    }
}

/* ---- once per turn ---- */

/* Returns true when the socket takes no more. */
static bool flush(struct gw_conn *c)
{
    while (base_buf_size(&c->out) > 0) {
        ssize_t n = transmit(c, base_buf_data(&c->out), base_buf_size(&c->out));
        if (n < 0) {
            c->dead |= n == IO_FAILED;
            return true;
        }
        base_buf_consume(&c->out, (size_t)n);
        c->wrote_s = gw_server_now_s(c->server);
    }
    base_buf_deinit(&c->out);
    return false;
}

/* Lets handlers go on whose output has drained; true when one of them was called. */
static bool run_drains(struct gw_conn *c)
{
    bool ran = false;
    for (struct gw_exchange *x = c->exchanges, *next; x != NULL; x = next) {
        next = x->next;
        if (x->blocked && !x->aborted && gw_exchange_pending(x) <= GW_EXCHANGE_OUT_LOW) {
            x->blocked = false;
            ran = true;
            if (x->ops->drain != NULL) {
                x->ops->drain(x->owner);
            }
        }
    }
    return ran;
}

/* Closing at once with unread bytes makes the kernel send a reset, which can destroy the answer on
 * its way. So say that we are done and read on for a little. */
static void linger(struct gw_conn *c)
{
    while (c->exchanges != NULL) {
        gw_exchange_free(c->exchanges);
    }
    if (c->ssl != NULL) {
        ERR_clear_error();
        (void)SSL_shutdown(c->ssl);
    }
    (void)shutdown(c->fd, SHUT_WR);
    base_buf_deinit(&c->in);
    c->state = GW_CONN_LINGER;
    c->since_s = gw_server_now_s(c->server);
}

void gw_conn_settle(struct gw_conn *c)
{
    bool more = false;
    if (c->dead || c->state == GW_CONN_HANDSHAKE || c->state == GW_CONN_LINGER) {
        return;
    }
    for (int turn = 0; turn < TURNS && !c->dead; turn++) {
        if (c->state == GW_CONN_H1) {
            gw_h1_turn(c);
        } else {
            gw_h2_turn(c);
        }
        bool blocked = flush(c);
        more = run_drains(c);
        more |= c->state == GW_CONN_H2 && nghttp2_session_want_write(c->h2) != 0;
        if (blocked || !more) {
            break;
        }
    }
    if (c->dead) {
        return;
    }
    if (c->closing && base_buf_size(&c->out) == 0) {
        linger(c);
        want(c, EV_READ);
        return;
    }
    bool reading = can_read(c), writing = more || base_buf_size(&c->out) > 0;
    want(c, (reading ? EV_READ : 0) | (writing ? EV_WRITE : 0));
    if (reading && c->ssl != NULL && c->unread && SSL_has_pending(c->ssl) != 0) {
        ev_feed_event(gw_server_loop(c->server), &c->io, EV_READ);
    }
}

/* ---- time ---- */

/* A client that owes us body bytes, and whether it is too slow. */
static bool body_late(struct gw_exchange *x, uint32_t now)
{
    if (x->request_done || x->response_done || x->aborted) {
        return false;
    }
    if (!x->begun) {
        return now - x->begun_s > GW_HEAD_S;
    }
    if (x->unconsumed > 0) {
        return false; /* it waits for us */
    }
    x->body_wait_s++;
    bool slow = x->body_wait_s > GW_BODY_STALL_S &&
                x->body_bytes < (uint64_t)GW_BODY_RATE_MIN * (x->body_wait_s - GW_BODY_STALL_S);
    return slow || now - x->body_s > GW_BODY_STALL_S;
}

static void tick_exchanges(struct gw_conn *c, uint32_t now)
{
    for (struct gw_exchange *x = c->exchanges, *next; x != NULL; x = next) {
        next = x->next;
        if (x->reset_due && !x->closed) {
            /* Not at once: some clients (curl 7.88) then lose the answer. Their window stays shut.
             */
            x->reset_due = false;
            gw_h2_reset(x, NGHTTP2_NO_ERROR);
            gw_server_mark(c);
        } else if (body_late(x, now)) {
            gw_exchange_timeout(x);
        } else if (x->stream != 0 && base_buf_size(&x->out) > 0 && !x->aborted &&
                   now - x->wrote_s > GW_WRITE_STALL_S) {
            gw_server_counters(c->server)->timeouts++;
            gw_exchange_abort(x);
        }
    }
}

static void tick_idle(struct gw_conn *c, uint32_t now)
{
    bool partial = c->state == GW_CONN_H1 && base_buf_size(&c->in) > 0;
    if (partial && now - c->head_s > GW_HEAD_S) {
        gw_server_counters(c->server)->timeouts++;
        gw_h1_error(c, 408);
    } else if (gw_server_draining(c->server) || now - c->idle_s > GW_IDLE_S) {
        if (c->state == GW_CONN_H2) {
            gw_h2_goaway(c);
        }
        c->closing = true;
        gw_server_mark(c);
    }
}

void gw_conn_tick(struct gw_conn *c)
{
    uint32_t now = gw_server_now_s(c->server);
    uint32_t linger_s = gw_server_draining(c->server) ? 1 : GW_LINGER_S;
    bool timeout = (c->state == GW_CONN_HANDSHAKE && now - c->since_s > GW_HANDSHAKE_S) ||
                   (c->state == GW_CONN_LINGER && now - c->since_s > linger_s) ||
                   (base_buf_size(&c->out) > 0 && now - c->wrote_s > GW_WRITE_STALL_S);
    if (timeout) {
        gw_server_counters(c->server)->timeouts += c->state != GW_CONN_LINGER;
        c->dead = true;
        gw_server_mark(c);
    } else if (c->state == GW_CONN_H1 || c->state == GW_CONN_H2) {
        if (gw_server_draining(c->server) && c->state == GW_CONN_H2) {
            gw_h2_goaway(c);
        }
        if (c->exchanges != NULL) {
            tick_exchanges(c, now);
        } else if (!c->closing) {
            tick_idle(c, now);
        }
    }
}

void gw_conn_free(struct gw_conn *c)
{
    ev_io_stop(gw_server_loop(c->server), &c->io);
    while (c->exchanges != NULL) {
        if (c->h2 != NULL) {
            c->exchanges->closed = true;
        }
        gw_exchange_free(c->exchanges);
    }
    nghttp2_session_del(c->h2);
    SSL_free(c->ssl);
    (void)close(c->fd);
    base_buf_deinit(&c->in);
    base_buf_deinit(&c->out);
}
