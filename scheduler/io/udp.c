#include "scheduler/io/udp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/hash.h"
#include "proto/base/rand.h"
#include "scheduler/core/map.h"
#include "scheduler/io/aead.h"

enum {
    BATCH = 32,
    BATCHES_MAX = 64, /* of one turn: then the loop's other sources get theirs */
    RECENT = 1024,    /* addresses by which a refusal finds its peer */
    SOCKET_BYTES = 1 << 20,
};

struct sender {
    uint64_t id;
    struct sched_seal_sender rules;
    struct sched_aead *aead; /* for rules.boot, made with ring key `key` of generation `made` */
    uint32_t made;
    uint8_t key;
};

struct slot {
    uint8_t bytes[SCHED_UDP_DATAGRAM_BYTES_MAX];
    struct sockaddr_storage addr;
};

struct sched_udp {
    struct sched_udp_cfg cfg;
    struct sched_udp_stats stats;
    ev_io io;
    ev_prepare prepare;
    int fd;
    int family;
    uint32_t boot;
    uint64_t counter; /* of the next datagram */
    struct sched_seal_ring ring;
    uint32_t generation; /* of the ring */
    struct sched_aead *own[SCHED_SEAL_KEYS];
    struct sender *senders;
    uint32_t sender_n;
    struct sched_map map; /* id to sender */
    void *map_mem;
    struct {
        struct sched_udp_addr addr;
        uint64_t id;
    } recent[RECENT];
    unsigned out_n;
    struct slot out[BATCH], in[BATCH];
    size_t out_len[BATCH];
    uint8_t body[SCHED_UDP_DATAGRAM_BYTES_MAX];
};

struct sched_udp_addr sched_udp_addr_v4(const uint8_t ip[4], uint16_t port)
{
    struct sched_udp_addr a = {.ip = {[10] = 0xff, [11] = 0xff}, .port = port};
    memcpy(a.ip + 12, ip, 4);
    return a;
}

static bool is_v4(const struct sched_udp_addr *a)
{
    static const uint8_t prefix[12] = {[10] = 0xff, [11] = 0xff};
    return memcmp(a->ip, prefix, sizeof prefix) == 0;
}

/* 0: the socket's family cannot reach it. */
static socklen_t to_sockaddr(
    const struct sched_udp *u, const struct sched_udp_addr *a, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof *out);
    if (u->family == AF_INET6) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(a->port);
        memcpy(&in6->sin6_addr, a->ip, 16);
        return sizeof *in6;
    }
    struct sockaddr_in *in = (struct sockaddr_in *)out;
    in->sin_family = AF_INET;
    in->sin_port = htons(a->port);
    memcpy(&in->sin_addr, a->ip + 12, 4);
    return is_v4(a) ? sizeof *in : 0;
}

static struct sched_udp_addr from_sockaddr(const struct sockaddr_storage *s)
{
    struct sched_udp_addr a = {0};
    if (s->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)s;
        memcpy(a.ip, &in6->sin6_addr, 16);
        a.port = ntohs(in6->sin6_port);
    } else if (s->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)s;
        a = sched_udp_addr_v4((const uint8_t *)&in->sin_addr, ntohs(in->sin_port));
    }
    return a;
}

static unsigned recent_of(const struct sched_udp_addr *a)
{
    uint64_t h[2];
    memcpy(h, a->ip, 16);
    return (unsigned)(base_hash_mix64(base_hash_mix64(h[0] ^ a->port) ^ h[1]) % RECENT);
}

static uint64_t now_ms(void)
{
    return base_clock_mono_ns() / BASE_NS_PER_MS;
}

/* The sender's entry, or a new one in the place of the one that has been silent longest. */
static struct sender *sender_enter(struct sched_udp *u, uint64_t id)
{
    uint32_t row = sched_map_get(&u->map, id, 0);
    if (row != SCHED_MAP_NONE) {
        return &u->senders[row];
    }
    row = u->sender_n;
    if (row < u->cfg.senders_max) {
        u->sender_n++;
    } else {
        row = 0;
        for (uint32_t i = 1; i < u->sender_n; i++) {
            if (u->senders[i].rules.heard_ms < u->senders[row].rules.heard_ms) {
                row = i;
            }
        }
        sched_map_del(&u->map, u->senders[row].id, 0);
        sched_aead_destroy(u->senders[row].aead);
    }
    u->senders[row] = (struct sender){.id = id};
    bool put = sched_map_put(&u->map, id, 0, row);
    REQUIRE(put);
    return &u->senders[row];
}

/* Opens with the kept key schedule when it is the right one. Only what opens changes anything: a
 * stranger costs a derivation, no memory. */
static int open_datagram(
    struct sched_udp *u, const struct sched_seal_head *h, const uint8_t *bytes, size_t n)
{
    const uint8_t *key = sched_seal_ring_key(&u->ring, h->key);
    if (key == NULL) {
        return BASE_EDENIED;
    }
    uint32_t row = sched_map_get(&u->map, h->sender, 0);
    struct sender *s = row == SCHED_MAP_NONE ? NULL : &u->senders[row];
    struct sched_seal_sender none = {0};
    uint64_t now = now_ms();
    if (sched_seal_judge(s == NULL ? &none : &s->rules, h, now) == SCHED_SEAL_REFUSE) {
        return BASE_EEXISTS;
    }
    bool kept = s != NULL && s->aead != NULL && s->rules.boot == h->boot && s->key == h->key &&
                s->made == u->generation;
    struct sched_aead *aead =
        kept ? s->aead : sched_aead_create(key, u->cfg.cluster, h->sender, h->boot);
    if (aead == NULL) {
        return BASE_ENOMEM;
    }
    int rc = sched_aead_open(aead, h, u->cfg.self, bytes, n, u->body);
    if (rc != 0) {
        if (!kept) {
            sched_aead_destroy(aead);
        }
        return rc;
    }
    s = s == NULL ? sender_enter(u, h->sender) : s;
    if (!kept) {
        sched_aead_destroy(s->aead);
        s->aead = aead;
        s->key = h->key;
        s->made = u->generation;
    }
    sched_seal_note(&s->rules, h, now);
    return 0;
}

static void take(struct sched_udp *u, const struct slot *slot, size_t n)
{
    struct sched_seal_head h;
    if (n > SCHED_UDP_DATAGRAM_BYTES_MAX || sched_seal_head_get(&h, slot->bytes, n) != 0) {
        u->stats.bad++;
        return;
    }
    if (h.sender == u->cfg.self && h.boot == u->boot) {
        u->stats.denied++; /* own datagram, reflected */
        return;
    }
    int rc = open_datagram(u, &h, slot->bytes, n);
    if (rc != 0) {
        u->stats.denied += rc == BASE_EEXISTS ? 0 : 1;
        u->stats.replays += rc == BASE_EEXISTS ? 1 : 0;
        return;
    }
    u->stats.received++;
    struct sched_udp_addr addr = from_sockaddr(&slot->addr);
    u->cfg.ops->on_packet(u->cfg.user, h.sender, h.boot, &addr, u->body,
        n - SCHED_SEAL_HEAD_BYTES - SCHED_SEAL_TAG_BYTES);
}

/* ICMP errors wait in a queue of their own, with the address the datagram went to. */
static void read_errors(struct sched_udp *u)
{
    for (int i = 0; i < BATCHES_MAX; i++) {
        struct sockaddr_storage addr = {0};
        char control[512];
        struct msghdr m = {.msg_name = &addr,
            .msg_namelen = sizeof addr,
            .msg_control = control,
            .msg_controllen = sizeof control};
        if (recvmsg(u->fd, &m, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) {
            return;
        }
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c != NULL; c = CMSG_NXTHDR(&m, c)) {
            bool ip4 = c->cmsg_level == SOL_IP && c->cmsg_type == IP_RECVERR;
            bool ip6 = c->cmsg_level == SOL_IPV6 && c->cmsg_type == IPV6_RECVERR;
            struct sock_extended_err e;
            if ((!ip4 && !ip6) || c->cmsg_len < CMSG_LEN(sizeof e)) {
                continue;
            }
            memcpy(&e, CMSG_DATA(c), sizeof e);
            struct sched_udp_addr to = from_sockaddr(&addr);
            unsigned at = recent_of(&to);
            if (e.ee_errno == ECONNREFUSED && u->recent[at].id != 0 &&
                memcmp(&u->recent[at].addr, &to, sizeof to) == 0) {
                u->stats.refused++;
                u->cfg.ops->on_refused(u->cfg.user, u->recent[at].id);
            }
        }
    }
}

static int read_batch(struct sched_udp *u)
{
    struct mmsghdr m[BATCH];
    struct iovec v[BATCH];
    memset(m, 0, sizeof m);
    for (unsigned i = 0; i < BATCH; i++) {
        v[i] = (struct iovec){u->in[i].bytes, sizeof u->in[i].bytes};
        m[i].msg_hdr = (struct msghdr){.msg_name = &u->in[i].addr,
            .msg_namelen = sizeof u->in[i].addr,
            .msg_iov = &v[i],
            .msg_iovlen = 1};
    }
    int n = recvmmsg(u->fd, m, BATCH, MSG_DONTWAIT | MSG_TRUNC, NULL);
    for (int i = 0; i < n; i++) {
        take(u, &u->in[i], m[i].msg_len);
    }
    return n;
}

static void on_readable(struct ev_loop *loop, ev_io *w, int events)
{
    (void)loop;
    (void)events;
    struct sched_udp *u = w->data;
    read_errors(u);
    for (int i = 0; i < BATCHES_MAX; i++) {
        int n = read_batch(u);
        if (n < 0 && (errno == EAGAIN)) {
            return;
        }
        /* Any other error belonged to an earlier send and is consumed by having been told. */
    }
}

static void on_prepare(struct ev_loop *loop, ev_prepare *w, int events)
{
    (void)loop;
    (void)events;
    sched_udp_flush(w->data);
}

static int open_socket(const struct sched_udp_cfg *cfg, int *ret_family, struct base_error *err)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(cfg->port)};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(cfg->port)};
    bool six = inet_pton(AF_INET6, cfg->ip, &in6.sin6_addr) == 1;
    if (!six && inet_pton(AF_INET, cfg->ip, &in.sin_addr) != 1) {
        return base_fail(err, BASE_EINVAL, "not an IP address: '%s'", cfg->ip);
    }
    *ret_family = six ? AF_INET6 : AF_INET;
    int fd = socket(*ret_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return base_fail(err, -errno, "UDP socket: %s", strerror(errno));
    }
    int off = 0, on = 1, bytes = SOCKET_BYTES;
    if (six) {
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_RECVERR, &on, sizeof on);
    }
    (void)setsockopt(fd, IPPROTO_IP, IP_RECVERR, &on, sizeof on);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    const struct sockaddr *addr = six ? (struct sockaddr *)&in6 : (struct sockaddr *)&in;
    if (bind(fd, addr, six ? sizeof in6 : sizeof in) != 0) {
        int e = errno;
        (void)close(fd);
        return base_fail(err, -e, "bind %s port %u: %s", cfg->ip, cfg->port, strerror(e));
    }
    return fd;
}

static bool make_tables(struct sched_udp *u)
{
    struct sched_mem m = {0};
    sched_map_init(&u->map, u->cfg.senders_max, &m);
    u->map_mem = aligned_alloc(16, (m.used + 15) & ~(size_t)15);
    u->senders = calloc(u->cfg.senders_max, sizeof *u->senders);
    if (u->map_mem == NULL || u->senders == NULL) {
        return false;
    }
    m = (struct sched_mem){.base = u->map_mem, .size = m.used};
    sched_map_init(&u->map, u->cfg.senders_max, &m);
    return true;
}

struct sched_udp *sched_udp_create(const struct sched_udp_cfg *cfg, struct base_error *err)
{
    REQUIRE(cfg->self != 0 && cfg->senders_max > 0);
    struct sched_udp *u = calloc(1, sizeof *u);
    if (u == NULL) {
        (void)base_fail(err, BASE_ENOMEM, "gossip socket: out of memory");
        return NULL;
    }
    u->cfg = *cfg;
    u->fd = -1;
    if (!make_tables(u)) {
        (void)base_fail(err, BASE_ENOMEM, "gossip socket: out of memory");
        sched_udp_destroy(u);
        return NULL;
    }
    int fd = open_socket(cfg, &u->family, err);
    if (fd < 0) {
        sched_udp_destroy(u);
        return NULL;
    }
    u->fd = fd;
    do {
        u->boot = (uint32_t)base_rand_u64();
    } while (u->boot == 0);
    u->counter = sched_seal_first_counter(base_clock_real_ns() / BASE_NS_PER_MS);
    ev_io_init(&u->io, on_readable, fd, EV_READ);
    ev_set_priority(&u->io, EV_MAXPRI); /* what waits is read before any timer fires */
    u->io.data = u;
    ev_io_start(cfg->loop, &u->io);
    ev_prepare_init(&u->prepare, on_prepare);
    u->prepare.data = u;
    ev_prepare_start(cfg->loop, &u->prepare);
    return u;
}

void sched_udp_destroy(struct sched_udp *u)
{
    if (u == NULL) {
        return;
    }
    if (u->fd >= 0) {
        ev_prepare_stop(u->cfg.loop, &u->prepare);
        ev_io_stop(u->cfg.loop, &u->io);
        (void)close(u->fd);
    }
    for (unsigned i = 0; i < SCHED_SEAL_KEYS; i++) {
        sched_aead_destroy(u->own[i]);
    }
    for (uint32_t i = 0; i < u->sender_n; i++) {
        sched_aead_destroy(u->senders[i].aead);
    }
    free(u->senders);
    free(u->map_mem);
    explicit_bzero(&u->ring, sizeof u->ring);
    free(u);
}

uint16_t sched_udp_port(const struct sched_udp *u)
{
    struct sockaddr_storage s = {0};
    socklen_t n = sizeof s;
    if (getsockname(u->fd, (struct sockaddr *)&s, &n) != 0) {
        return 0;
    }
    return from_sockaddr(&s).port;
}

uint32_t sched_udp_boot(const struct sched_udp *u)
{
    return u->boot;
}

const struct sched_udp_stats *sched_udp_stats(const struct sched_udp *u)
{
    return &u->stats;
}

int sched_udp_key_install(struct sched_udp *u, uint8_t id, const uint8_t key[SCHED_SEAL_KEY_BYTES])
{
    int rc = sched_seal_ring_install(&u->ring, id, key);
    if (rc != 0) {
        return rc;
    }
    struct sched_aead **own = &u->own[sched_seal_ring_slot(&u->ring, id)];
    if (*own == NULL) {
        *own = sched_aead_create(key, u->cfg.cluster, u->cfg.self, u->boot);
    }
    return *own == NULL ? BASE_ENOMEM : 0; /* sends without it are counted as without key */
}

int sched_udp_key_use(struct sched_udp *u, uint8_t id)
{
    return sched_seal_ring_use(&u->ring, id);
}

int sched_udp_key_remove(struct sched_udp *u, uint8_t id)
{
    int rc = sched_seal_ring_remove(&u->ring, id);
    for (unsigned i = 0; rc == 0 && i < SCHED_SEAL_KEYS; i++) {
        if (!u->ring.slots[i].used) {
            sched_aead_destroy(u->own[i]);
            u->own[i] = NULL;
        }
    }
    u->generation += rc == 0 ? 1 : 0; /* its id may come back with another key */
    return rc;
}

/* The contexts of a new ring; those of keys that stay are the same. */
static int prepare_ring(const struct sched_udp *u, const struct sched_seal_ring *ring,
    struct sched_aead *own[SCHED_SEAL_KEYS])
{
    int rc = ring->n == 0 ? BASE_EINVAL : 0;
    for (int i = 0; rc == 0 && i < SCHED_SEAL_KEYS; i++) {
        int old = ring->slots[i].used ? sched_seal_ring_slot(&u->ring, ring->slots[i].id) : -1;
        const uint8_t *key = ring->slots[i].key;
        if (old >= 0 && memcmp(u->ring.slots[old].key, key, SCHED_SEAL_KEY_BYTES) != 0) {
            rc = BASE_EEXISTS;
        } else if (old >= 0) {
            own[i] = u->own[old];
        } else if (ring->slots[i].used) {
            own[i] = sched_aead_create(key, u->cfg.cluster, u->cfg.self, u->boot);
            rc = own[i] == NULL ? BASE_ENOMEM : 0;
        }
    }
    return rc;
}

static bool has(struct sched_aead *const own[SCHED_SEAL_KEYS], const struct sched_aead *a)
{
    int i = 0;
    while (i < SCHED_SEAL_KEYS && own[i] != a) {
        i++;
    }
    return i < SCHED_SEAL_KEYS;
}

int sched_udp_key_ring(struct sched_udp *u, const struct sched_seal_ring *ring)
{
    struct sched_aead *own[SCHED_SEAL_KEYS] = {NULL};
    int rc = prepare_ring(u, ring, own);
    struct sched_aead *const *over = rc == 0 ? u->own : own, *const *stay = rc == 0 ? own : u->own;
    for (int i = 0; i < SCHED_SEAL_KEYS; i++) {
        if (over[i] != NULL && !has(stay, over[i])) {
            sched_aead_destroy(over[i]);
            u->generation += rc == 0 ? 1 : 0;
        }
    }
    if (rc == 0) {
        explicit_bzero(&u->ring, sizeof u->ring);
        u->ring = *ring;
        memcpy(u->own, own, sizeof u->own);
    }
    return rc;
}

void sched_udp_send(struct sched_udp *u, uint64_t to, const struct sched_udp_addr *addr,
    const uint8_t *body, size_t n)
{
    REQUIRE(n <= SCHED_UDP_BODY_BYTES_MAX);
    struct sched_aead *own = u->ring.n == 0 ? NULL : u->own[u->ring.primary];
    if (own == NULL) {
        u->stats.no_key++;
        return;
    }
    if (u->out_n == BATCH) {
        sched_udp_flush(u);
    }
    struct slot *slot = &u->out[u->out_n];
    struct sched_seal_head h = {.key = u->ring.slots[u->ring.primary].id,
        .sender = u->cfg.self,
        .boot = u->boot,
        .counter = u->counter++};
    if (to_sockaddr(u, addr, &slot->addr) == 0 ||
        sched_aead_seal(own, &h, to, body, n, slot->bytes) != 0) {
        u->stats.not_sent++;
        return;
    }
    u->out_len[u->out_n++] = n + SCHED_SEAL_HEAD_BYTES + SCHED_SEAL_TAG_BYTES;
    unsigned at = recent_of(addr);
    u->recent[at].addr = *addr;
    u->recent[at].id = to;
}

void sched_udp_flush(struct sched_udp *u)
{
    struct mmsghdr m[BATCH];
    struct iovec v[BATCH];
    memset(m, 0, sizeof m);
    for (unsigned i = 0; i < u->out_n; i++) {
        v[i] = (struct iovec){u->out[i].bytes, u->out_len[i]};
        m[i].msg_hdr = (struct msghdr){.msg_name = &u->out[i].addr,
            .msg_namelen =
                u->family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in),
            .msg_iov = &v[i],
            .msg_iovlen = 1};
    }
    bool again = true; /* an error may belong to an earlier datagram: told once, then gone */
    for (unsigned at = 0; at < u->out_n;) {
        int n = sendmmsg(u->fd, m + at, u->out_n - at, MSG_DONTWAIT);
        if (n > 0) {
            u->stats.sent += (unsigned)n;
            at += (unsigned)n;
            again = true;
        } else if (again && errno != EAGAIN) {
            again = false;
        } else {
            u->stats.not_sent++;
            at++;
            again = true;
        }
    }
    u->out_n = 0;
}
