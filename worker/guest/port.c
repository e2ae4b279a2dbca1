#include "worker/guest/port.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/assert.h"
#include "proto/base/container.h"

enum {
    READ_BYTES = 32768,
    WRITE_BYTES = 32768,         /* the console driver takes no more at once */
    READ_TURN_BYTES = 256 << 10, /* then the other port has its turn */
    WRITE_TURN_BYTES = 1 << 20,
    TX_LOW_BYTES = 64 << 10, /* below this more is pulled */
    NONCE_BYTES = 8,
};

static void detach(struct agent_port *p)
{
    p->attached = false;
    base_buf_clear(&p->rx);
    base_buf_clear(&p->tx);
    p->tx_partial = 0;
    p->ops->detached(p);
}

static void lose_socket(struct agent_port *p)
{
    agent_loop_remove(p->loop, &p->watch);
    (void)close(p->fd);
    p->fd = -1;
    p->readable = p->blocked = false;
    detach(p);
}

static void put_frame(
    struct agent_port *p, enum proto_frame_type type, uint32_t stream, const void *data, size_t len)
{
    uint8_t *at = base_buf_room(&p->tx, PROTO_FRAME_HEAD + len);
    if (at == NULL) {
        return; /* the host's time-out will tell */
    }
    proto_frame_head(at, type, stream, (uint16_t)len);
    if (len > 0) {
        memcpy(at + PROTO_FRAME_HEAD, data, len);
    }
    base_buf_grow(&p->tx, PROTO_FRAME_HEAD + len);
}

void agent_port_send(struct agent_port *p, enum proto_frame_type type, uint32_t stream,
    const void *payload, size_t len)
{
    REQUIRE(len <= PROTO_FRAME_PAYLOAD_MAX);
    if (p->attached) {
        put_frame(p, type, stream, payload, len);
    }
}

static void on_hello(struct agent_port *p, const struct proto_frame *f)
{
    if (f->len != NONCE_BYTES) {
        return;
    }
    uint8_t nonce[NONCE_BYTES];
    memcpy(nonce, f->payload, NONCE_BYTES);
    p->attached = false;
    base_buf_clear(&p->tx);
    p->tx_partial = 0;
    p->ops->detached(p);
    struct base_buf hello = {0};
    (void)base_buf_add(&hello, nonce, NONCE_BYTES);
    p->ops->hello(p, &hello);
    /* The device may have cut what it was given before: padding ends a half frame there too. */
    uint8_t *pad = base_buf_room(&p->tx, PROTO_FRAME_RESYNC);
    if (pad != NULL) {
        memset(pad, 0, PROTO_FRAME_RESYNC);
        base_buf_grow(&p->tx, PROTO_FRAME_RESYNC);
    }
    p->attached = true;
    size_t n = base_buf_size(&hello);
    put_frame(p, PROTO_FRAME_HELLO, 0, base_buf_data(&hello),
        n > PROTO_FRAME_PAYLOAD_MAX ? NONCE_BYTES : n);
    base_buf_deinit(&hello);
}

/* In front of everything but the frame that is half written already. */
static void on_ping(struct agent_port *p, const struct proto_frame *f)
{
    size_t n = PROTO_FRAME_HEAD + (size_t)f->len;
    if (base_buf_room(&p->tx, n) == NULL) {
        return;
    }
    uint8_t *all = base_buf_data(&p->tx);
    size_t old = base_buf_size(&p->tx);
    memmove(all + p->tx_partial + n, all + p->tx_partial, old - p->tx_partial);
    proto_frame_head(all + p->tx_partial, PROTO_FRAME_PONG, f->stream, f->len);
    memcpy(all + p->tx_partial + PROTO_FRAME_HEAD, f->payload, f->len);
    base_buf_grow(&p->tx, n);
}

static void on_frame(struct agent_port *p, const struct proto_frame *f)
{
    if (f->type == PROTO_FRAME_HELLO) {
        on_hello(p, f);
    } else if (!p->attached) {
        return; /* left over from a connection before this one */
    } else if (f->type == PROTO_FRAME_PING) {
        on_ping(p, f);
    } else {
        p->ops->frame(p, f);
    }
}

/* Handles the frames that are complete in rx. */
static void parse(struct agent_port *p)
{
    for (;;) {
        struct proto_frame f;
        size_t used;
        int got = proto_frame_next(base_buf_data(&p->rx), base_buf_size(&p->rx), &f, &used);
        if (got == 1) {
            on_frame(p, &f);
        }
        if (p->fd < 0) {
            return;
        }
        base_buf_consume(&p->rx, used);
        if (got == 0) {
            return;
        }
    }
}

void agent_port_read(struct agent_port *p)
{
    size_t got = 0;
    while (p->readable && p->fd >= 0) {
        if (got >= READ_TURN_BYTES) {
            p->loop->again = true;
            return;
        }
        uint8_t *at = base_buf_room(&p->rx, READ_BYTES);
        if (at == NULL) {
            return;
        }
        ssize_t n = read(p->fd, at, READ_BYTES);
        if (n > 0) {
            got += (size_t)n;
            base_buf_grow(&p->rx, (size_t)n);
            parse(p);
        } else if (n < 0 && errno == EINTR) {
            continue;
        } else if (n < 0 && errno == EAGAIN) {
            p->readable = false;
        } else if (p->is_socket) {
            lose_socket(p);
        } else {
            /* 0 from the device: no host, or one whose bytes overtook the message that it is there
             * (after a restore). So it says nothing about what was just received: an answer to a
             * HELLO must not be dropped. Who connects next says HELLO, and that starts anew. */
            p->readable = false;
        }
    }
}

/* Moves the mark of the half-written frame on by n written bytes. Padding is frames of one byte. */
static void account(struct agent_port *p, size_t n)
{
    const uint8_t *d = base_buf_data(&p->tx);
    size_t at = 0;
    while (at < n) {
        if (p->tx_partial == 0) {
            p->tx_partial =
                d[at] == 0 ? 1 : PROTO_FRAME_HEAD + (size_t)(d[at + 2] | d[at + 3] << 8);
        }
        size_t step = n - at < p->tx_partial ? n - at : p->tx_partial;
        p->tx_partial -= step;
        at += step;
    }
    base_buf_consume(&p->tx, n);
}

void agent_port_flush(struct agent_port *p)
{
    size_t sent = 0;
    while (p->fd >= 0 && !p->blocked) {
        while (p->attached && base_buf_size(&p->tx) < TX_LOW_BYTES && p->ops->pull(p)) {
        }
        size_t n = base_buf_size(&p->tx);
        if (n == 0) {
            return;
        }
        if (sent >= WRITE_TURN_BYTES) {
            p->loop->again = true;
            return;
        }
        ssize_t w = write(p->fd, base_buf_data(&p->tx), n < WRITE_BYTES ? n : WRITE_BYTES);
        if (w > 0) {
            sent += (size_t)w;
            account(p, (size_t)w);
        } else if (w < 0 && errno == EINTR) {
            continue;
        } else if (w < 0 && errno == EAGAIN) {
            p->blocked = true;
        } else if (p->is_socket) {
            lose_socket(p);
        } else {
            p->blocked = true;
        }
    }
}

static void ready(struct agent_watch *w, uint32_t events)
{
    struct agent_port *p = CONTAINER_OF(w, struct agent_port, watch);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        p->readable = true;
    }
    if (events & EPOLLOUT) {
        p->blocked = false;
    }
}

/* The device stays EPOLLHUP while no host is there: only edges may wake the loop. */
static int watch_fd(struct agent_port *p, int fd)
{
    p->watch.ready = ready;
    int rc = agent_loop_add(p->loop, &p->watch, fd, EPOLLIN | EPOLLOUT | EPOLLET);
    if (rc == 0) {
        p->fd = fd;
        p->readable = true;
        p->blocked = false;
    }
    return rc;
}

static void on_accept(struct agent_watch *w, uint32_t events)
{
    (void)events;
    struct agent_port *p = CONTAINER_OF(w, struct agent_port, accept);
    int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        return;
    }
    if (p->fd >= 0) {
        lose_socket(p);
    }
    if (watch_fd(p, fd) != 0) {
        (void)close(fd);
    }
}

int agent_port_open(struct agent_port *p, struct agent_loop *l, int fd)
{
    p->loop = l;
    p->fd = p->watch.fd = p->accept.fd = -1;
    int listening = 0;
    socklen_t n = sizeof listening;
    p->is_socket = getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &n) == 0;
    if (listening) {
        p->accept.ready = on_accept;
        return agent_loop_add(l, &p->accept, fd, EPOLLIN);
    }
    return watch_fd(p, fd);
}

void agent_port_close(struct agent_port *p)
{
    struct agent_watch *all[] = {&p->watch, &p->accept};
    for (int i = 0; i < 2; i++) {
        int fd = all[i]->fd;
        agent_loop_remove(p->loop, all[i]);
        if (fd >= 0) {
            (void)close(fd);
        }
    }
    p->fd = -1;
    base_buf_deinit(&p->rx);
    base_buf_deinit(&p->tx);
}
