/* One member of a Warren cluster as a process of its own, for bench/bench_gossip: the product's
 * machine, bytes, seals and sockets (scheduler/io/gossip_node.h). What the node shell does over
 * ZeroMQ, the control connection, is a TCP connection per message here, without authentication.
 *
 *     bench_gossip_member ID N
 *
 * Member ID of 127.0.0.1: datagrams at port 10000 + ID, control at 20000 + ID; joins at 1..3.
 * Prints what it believes, with the monotonic clock in ns: "<ns> <state> <peer>". Ends with its
 * parent. */
#include <arpa/inet.h>
#include <errno.h>
#include <ev.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/container.h"
#include "scheduler/io/gossip_node.h"

enum { UDP_PORT = 10000, CTL_PORT = 20000, SEEDS = 3, CONNS = 64, HEAD = 8 };

struct conn {
    struct member *m; /* NULL: free */
    ev_io io;
    size_t n;
    uint8_t in[HEAD + SCHED_GOSSIP_NODE_CTL_BYTES_MAX];
};

struct member {
    struct ev_loop *loop;
    struct sched_gossip_node *node;
    uint64_t id;
    ev_io accept;
    ev_signal tell;
    struct conn conns[CONNS];
};

static struct sockaddr_in ctl_address(uint64_t id)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
        .sin_port = htons((uint16_t)(CTL_PORT + id))};
}

static void on_event(void *user, const struct sched_swim_fx *fx)
{
    (void)user;
    if (fx->kind == SCHED_SWIM_FX_PEER) {
        (void)printf("%llu %s %llu\n", (unsigned long long)base_clock_mono_ns(),
            sched_peer_state_str(fx->state), (unsigned long long)fx->peer);
        (void)fflush(stdout);
    }
}

/* Loopback takes a message of this size at once or not at all; what it does not take is lost, as
 * the interface allows. */
static void ctl_send(void *user, uint64_t to, uint8_t seed, const uint8_t *bytes, size_t n)
{
    struct member *m = user;
    struct sockaddr_in a = ctl_address(to != 0 ? to : seed + 1U);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    uint8_t out[HEAD + SCHED_GOSSIP_NODE_CTL_BYTES_MAX];
    memcpy(out, &m->id, HEAD);
    memcpy(out + HEAD, bytes, n);
    if (fd >= 0 && (connect(fd, (struct sockaddr *)&a, sizeof a) == 0 || errno == EINPROGRESS)) {
        (void)!send(fd, out, HEAD + n, MSG_NOSIGNAL);
    }
    (void)close(fd);
}

static const struct sched_gossip_node_ops ops = {on_event, ctl_send};

static void conn_end(struct conn *c)
{
    ev_io_stop(c->m->loop, &c->io);
    (void)close(c->io.fd);
    c->m = NULL;
}

static void on_bytes(struct ev_loop *loop, ev_io *w, int revents)
{
    (void)loop;
    (void)revents;
    struct conn *c = CONTAINER_OF(w, struct conn, io);
    struct member *m = c->m;
    ssize_t n = recv(w->fd, c->in + c->n, sizeof c->in - c->n, 0);
    if (n > 0) {
        c->n += (size_t)n;
    } else if (n == 0 || errno != EAGAIN) {
        conn_end(c);
        uint64_t from;
        memcpy(&from, c->in, HEAD);
        if (n == 0 && c->n > HEAD) {
            sched_gossip_node_ctl(m->node, from, c->in + HEAD, c->n - HEAD);
        }
    }
}

static void on_accept(struct ev_loop *loop, ev_io *w, int revents)
{
    (void)revents;
    struct member *m = CONTAINER_OF(w, struct member, accept);
    int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    for (int i = 0; fd >= 0 && i < CONNS; i++) {
        struct conn *c = &m->conns[i];
        if (c->m == NULL) {
            c->m = m;
            c->n = 0;
            ev_io_init(&c->io, on_bytes, fd, EV_READ);
            ev_io_start(loop, &c->io);
            return;
        }
    }
    (void)close(fd);
}

static void on_tell(struct ev_loop *loop, ev_signal *w, int revents)
{
    (void)loop;
    (void)revents;
    struct member *m = CONTAINER_OF(w, struct member, tell);
    const struct sched_swim_stats *s = sched_swim_stats(sched_gossip_node_swim(m->node));
    const struct sched_udp_stats *u = sched_udp_stats(sched_gossip_node_udp(m->node));
    (void)printf("# probes %llu failed %llu suspicions %llu refutations %llu stalls %llu budget "
                 "%llu health %u sent %llu not_sent %llu received %llu replays %llu\n",
        (unsigned long long)s->probes, (unsigned long long)s->probes_failed,
        (unsigned long long)s->suspicions, (unsigned long long)s->refutations,
        (unsigned long long)s->stalls, (unsigned long long)s->over_budget,
        sched_swim_health(sched_gossip_node_swim(m->node)), (unsigned long long)u->sent,
        (unsigned long long)u->not_sent, (unsigned long long)u->received,
        (unsigned long long)u->replays);
    (void)fflush(stdout);
}

static int listen_ctl(struct member *m)
{
    struct sockaddr_in a = ctl_address(m->id);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) != 0 || listen(fd, 64) != 0) {
        perror("control port");
        return -1;
    }
    ev_io_init(&m->accept, on_accept, fd, EV_READ);
    ev_io_start(m->loop, &m->accept);
    return 0;
}

int main(int argc, char **argv)
{
    static struct member m;
    if (argc != 3) {
        (void)fputs("usage: bench_gossip_member ID MEMBERS_MAX\n", stderr);
        return 2;
    }
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    m.loop = ev_default_loop(EVBACKEND_EPOLL);
    m.id = strtoull(argv[1], NULL, 10);
    struct sched_gossip_node_cfg cfg = {.loop = m.loop,
        .ip = "127.0.0.1",
        .port = (uint16_t)(UDP_PORT + m.id),
        .cluster = "bench",
        .key_id = 1,
        .key = "0123456789abcdef0123456789abcdef",
        .announce = {.id = m.id, .ip_version = {SCHED_IP_V4}, .weight = 1},
        .incarnation = 1,
        .members_max = (uint32_t)strtoul(argv[2], NULL, 10),
        .seeds = SEEDS,
        .ops = &ops,
        .user = &m};
    memcpy(cfg.announce.ip[0], (const uint8_t[]){127, 0, 0, 1}, 4);
    sched_swim_params_default(&cfg.params);
    ev_signal_init(&m.tell, on_tell, SIGUSR1);
    ev_signal_start(m.loop, &m.tell);
    struct base_error err;
    m.node = sched_gossip_node_create(&cfg, &err);
    if (m.node == NULL || listen_ctl(&m) != 0) {
        (void)fprintf(stderr, "%s\n", m.node == NULL ? err.text : "no control port");
        return 1;
    }
    ev_run(m.loop, 0);
    return 0;
}
