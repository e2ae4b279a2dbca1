/* Sealed datagrams and whole members on loopback sockets, several of them in one loop. Nothing here
 * waits for a time: every loop runs until a state is reached, the test's time-out is the bound. */
#include <arpa/inet.h>
#include <ev.h>
#include <sys/socket.h>
#include <unistd.h>

#include "scheduler/io/aead.h"
#include "scheduler/io/gossip_node.h"
#include "tests/lib/check.h"

static const uint8_t cluster[SCHED_SEAL_CLUSTER_BYTES] = "test cluster";
static const uint8_t loopback[4] = {127, 0, 0, 1};

static const uint8_t *key_of(uint8_t fill)
{
    static uint8_t key[SCHED_SEAL_KEY_BYTES];
    memset(key, fill, sizeof key);
    return key;
}

TEST(what_one_seals_only_the_receiver_opens_and_only_unchanged)
{
    struct sched_aead *a = sched_aead_create(key_of(1), cluster, 5, 6);
    struct sched_aead *b = sched_aead_create(key_of(1), cluster, 5, 6);
    struct sched_aead *others[3] = {sched_aead_create(key_of(2), cluster, 5, 6),
        sched_aead_create(key_of(1), cluster, 5, 7), sched_aead_create(key_of(1), cluster, 4, 6)};
    struct sched_seal_head h = {.key = 1, .sender = 5, .boot = 6, .counter = 99};
    uint8_t bytes[100 + 40], again[140], out[140];
    const char text[100] = "news";
    CHECK_EQ(sched_aead_seal(a, &h, 9, (const uint8_t *)text, 100, bytes), 0);
    CHECK(memmem(bytes, sizeof bytes, "news", 4) == NULL);
    CHECK_EQ(sched_aead_open(b, &h, 9, bytes, 140, out), 0);
    CHECK(memcmp(out, text, 100) == 0);
    CHECK_EQ(sched_aead_open(b, &h, 8, bytes, 140, out), BASE_EDENIED);
    CHECK_EQ(sched_aead_open(b, &h, 9, bytes, 139, out), BASE_EDENIED);
    CHECK_EQ(sched_aead_open(b, &h, 9, bytes, 39, out), BASE_EDENIED);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(sched_aead_open(others[i], &h, 9, bytes, 140, out), BASE_EDENIED);
        sched_aead_destroy(others[i]);
    }
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] ^= 1;
        struct sched_seal_head read;
        int rc = sched_seal_head_get(&read, bytes, sizeof bytes);
        CHECK(rc != 0 || sched_aead_open(b, &read, 9, bytes, 140, out) == BASE_EDENIED);
        bytes[i] ^= 1;
    }
    h.counter++;
    CHECK_EQ(sched_aead_seal(a, &h, 9, (const uint8_t *)text, 100, again), 0);
    CHECK(memcmp(bytes + 24, again + 24, 100) != 0); /* the same text, sealed otherwise */
    sched_aead_destroy(a);
    sched_aead_destroy(b);
    sched_aead_destroy(NULL);
}

struct end {
    struct sched_udp *udp;
    struct sched_udp_addr addr;
    uint64_t last_from, refused;
    uint32_t last_boot, packets;
    size_t bytes;
};

static void end_packet(void *user, uint64_t from, uint32_t boot, const struct sched_udp_addr *addr,
    const uint8_t *body, size_t n)
{
    struct end *e = user;
    CHECK(addr->port != 0);
    CHECK(n == 0 || body[0] == 0xab);
    e->last_from = from;
    e->last_boot = boot;
    e->packets++;
    e->bytes += n;
}

static void end_refused(void *user, uint64_t id)
{
    ((struct end *)user)->refused = id;
}

static const struct sched_udp_ops end_ops = {end_packet, end_refused};

static void end_open(struct end *e, struct ev_loop *loop, uint64_t id, uint32_t senders_max)
{
    struct sched_udp_cfg cfg = {.loop = loop,
        .self = id,
        .ip = "127.0.0.1",
        .senders_max = senders_max,
        .ops = &end_ops,
        .user = e};
    memcpy(cfg.cluster, cluster, sizeof cluster);
    struct base_error err;
    *e = (struct end){.udp = sched_udp_create(&cfg, &err)};
    CHECK(e->udp != NULL);
    e->addr = sched_udp_addr_v4(loopback, sched_udp_port(e->udp));
}

static void say(struct end *from, uint64_t to, const struct sched_udp_addr *addr, size_t n)
{
    uint8_t body[SCHED_UDP_BODY_BYTES_MAX] = {0xab};
    sched_udp_send(from->udp, to, addr, body, n);
}

TEST(datagrams_arrive_opened_with_their_sender_in_batches)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct end a, b;
    end_open(&a, loop, 1, 4);
    end_open(&b, loop, 2, 4);
    say(&a, 2, &b.addr, 10);
    CHECK_EQ(sched_udp_stats(a.udp)->no_key, 1);
    CHECK_EQ(sched_udp_key_install(a.udp, 7, key_of(1)), 0);
    CHECK_EQ(sched_udp_key_install(b.udp, 7, key_of(1)), 0);
    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < 100; i++) { /* more than one batch */
            say(&a, 2, &b.addr, i % 2 == 0 ? SCHED_UDP_BODY_BYTES_MAX : 1);
        }
        while (b.packets < (uint32_t)(100 * (round + 1))) {
            ev_run(loop, EVRUN_ONCE);
        }
    }
    CHECK_EQ(b.last_from, 1);
    CHECK_EQ(b.last_boot, sched_udp_boot(a.udp));
    CHECK_EQ(b.bytes, 50 * (50 * SCHED_UDP_BODY_BYTES_MAX + 50));
    CHECK_EQ(sched_udp_stats(a.udp)->sent, 5000);
    CHECK_EQ(sched_udp_stats(b.udp)->received, 5000);
    CHECK_EQ(sched_udp_stats(b.udp)->denied + sched_udp_stats(b.udp)->replays, 0);
    sched_udp_destroy(a.udp);
    sched_udp_destroy(b.udp);
    ev_loop_destroy(loop);
}

/* A plain socket in the middle: what it gets it can repeat and change. */
struct middle {
    int fd;
    struct sched_udp_addr addr;
};

static struct middle middle_open(void)
{
    struct middle m = {.fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof in;
    CHECK(m.fd >= 0);
    CHECK_EQ(bind(m.fd, (struct sockaddr *)&in, sizeof in), 0);
    CHECK_EQ(getsockname(m.fd, (struct sockaddr *)&in, &n), 0);
    m.addr = sched_udp_addr_v4(loopback, ntohs(in.sin_port));
    return m;
}

static void middle_pass(
    const struct middle *m, const uint8_t *bytes, size_t n, const struct end *to)
{
    struct sockaddr_in in = {.sin_family = AF_INET,
        .sin_port = htons(to->addr.port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CHECK_EQ(sendto(m->fd, bytes, n, 0, (struct sockaddr *)&in, sizeof in), (ssize_t)n);
}

TEST(copies_forgeries_and_misdirected_datagrams_are_dropped_and_counted)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct end a, b, c;
    struct middle m = middle_open();
    end_open(&a, loop, 1, 4);
    end_open(&b, loop, 2, 4);
    end_open(&c, loop, 3, 4);
    CHECK_EQ(sched_udp_key_install(a.udp, 7, key_of(1)), 0);
    CHECK_EQ(sched_udp_key_install(b.udp, 7, key_of(1)), 0);
    CHECK_EQ(sched_udp_key_install(c.udp, 7, key_of(1)), 0);
    say(&a, 2, &m.addr, 50);
    sched_udp_flush(a.udp);
    uint8_t bytes[2000] = {0};
    ssize_t n = recv(m.fd, bytes, sizeof bytes, 0);
    CHECK_EQ(n, 90);
    const struct sched_udp_stats *sb = sched_udp_stats(b.udp), *sc = sched_udp_stats(c.udp);
    middle_pass(&m, bytes, 90, &c); /* sealed for 2, not for 3 */
    bytes[60] ^= 4;
    middle_pass(&m, bytes, 90, &b); /* changed */
    bytes[60] ^= 4;
    middle_pass(
        &m, bytes, 90, &b); /* as it was: the forgery before it has not used its number up */
    middle_pass(&m, bytes, 90, &b); /* again */
    middle_pass(&m, bytes, 30, &b); /* too short */
    middle_pass(&m, bytes, 2000, &b);
    bytes[1] = 8; /* no such key */
    middle_pass(&m, bytes, 90, &b);
    bytes[0] = 9; /* another version */
    middle_pass(&m, bytes, 90, &b);
    while (sb->received + sb->bad + sb->denied + sb->replays < 7 || sc->denied < 1) {
        ev_run(loop, EVRUN_ONCE);
    }
    CHECK_EQ(sb->received, 1);
    CHECK_EQ(sb->replays, 1);
    CHECK_EQ(sb->denied, 2);
    CHECK_EQ(sb->bad, 3);
    CHECK_EQ(sc->received, 0);
    CHECK_EQ(b.packets, 1);
    (void)close(m.fd);
    sched_udp_destroy(a.udp);
    sched_udp_destroy(b.udp);
    sched_udp_destroy(c.udp);
    ev_loop_destroy(loop);
}

TEST(the_key_is_changed_without_a_gap)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct end a, b;
    end_open(&a, loop, 1, 4);
    end_open(&b, loop, 2, 4);
    struct end *ends[2] = {&a, &b};
    uint32_t sent = 0;
    for (int stage = 0; stage < 7; stage++) {
        for (int i = 0; i < 2; i++) { /* one end is always a step ahead of the other */
            switch (stage) {
            case 0:
                CHECK_EQ(sched_udp_key_install(ends[i]->udp, 1, key_of(1)), 0);
                break;
            case 1:
            case 4:
                CHECK_EQ(sched_udp_key_install(ends[i]->udp, (uint8_t)(stage == 1 ? 2 : 1),
                             key_of((uint8_t)(stage + 10))),
                    0);
                break;
            case 2:
            case 5:
                CHECK_EQ(sched_udp_key_use(ends[i]->udp, (uint8_t)(stage == 2 ? 2 : 1)), 0);
                break;
            default:
                CHECK_EQ(sched_udp_key_remove(ends[i]->udp, (uint8_t)(stage == 3 ? 1 : 2)), 0);
            }
            if (stage == 0 && i == 0) {
                continue; /* the other one has no key yet */
            }
            say(&a, 2, &b.addr, 9);
            say(&b, 1, &a.addr, 9);
            sent++;
            while (a.packets < sent || b.packets < sent) {
                ev_run(loop, EVRUN_ONCE);
            }
        }
    }
    CHECK_EQ(sched_udp_stats(a.udp)->denied + sched_udp_stats(b.udp)->denied, 0);
    sched_udp_destroy(a.udp);
    sched_udp_destroy(b.udp);
    ev_loop_destroy(loop);
}

static struct sched_seal_ring ring_of(unsigned first, unsigned n)
{
    struct sched_seal_ring r = {.n = 0};
    for (uint8_t i = 0; i < n; i++) {
        uint8_t id = (uint8_t)(first + i);
        CHECK_EQ(sched_seal_ring_install(&r, id, key_of(id)), 0);
    }
    return r;
}

TEST(a_ring_is_taken_whole_or_not_at_all)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct end a, b;
    end_open(&a, loop, 1, 4);
    end_open(&b, loop, 2, 4);
    struct sched_seal_ring r = ring_of(1, 3), none = {.n = 0}, wrong = ring_of(4, 2);
    CHECK_EQ(sched_udp_key_ring(a.udp, &r), 0);
    CHECK_EQ(sched_udp_key_ring(b.udp, &r), 0);
    say(&a, 2, &b.addr, 5);
    while (b.packets < 1) {
        ev_run(loop, EVRUN_ONCE);
    }
    CHECK_EQ(sched_seal_ring_install(&wrong, 3, key_of(9)), 0); /* 3 is another key */
    CHECK_EQ(sched_udp_key_ring(b.udp, &wrong), BASE_EEXISTS);
    CHECK_EQ(sched_udp_key_ring(b.udp, &none), BASE_EINVAL);
    say(&a, 2, &b.addr, 5); /* all is as it was */
    while (b.packets < 2) {
        ev_run(loop, EVRUN_ONCE);
    }
    CHECK_EQ(sched_udp_stats(b.udp)->denied, 0);
    r = ring_of(4, 3); /* three others in one step, the one that seals, too */
    CHECK_EQ(sched_udp_key_ring(a.udp, &r), 0);
    CHECK_EQ(sched_udp_key_ring(b.udp, &r), 0);
    say(&b, 1, &a.addr, 5);
    say(&a, 2, &b.addr, 5);
    while (a.packets < 1 || b.packets < 3) {
        ev_run(loop, EVRUN_ONCE);
    }
    sched_udp_destroy(a.udp);
    sched_udp_destroy(b.udp);
    ev_loop_destroy(loop);
}

TEST(a_port_that_nobody_listens_at_is_reported_with_the_peer)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct end a, b;
    end_open(&a, loop, 1, 4);
    end_open(&b, loop, 2, 4);
    CHECK_EQ(sched_udp_key_install(a.udp, 1, key_of(1)), 0);
    struct sched_udp_addr gone = b.addr;
    sched_udp_destroy(b.udp);
    say(&a, 2, &gone, 5);
    while (a.refused == 0) {
        ev_run(loop, EVRUN_ONCE);
    }
    CHECK_EQ(a.refused, 2);
    end_open(&b, loop, 3, 4);
    CHECK_EQ(sched_udp_key_install(b.udp, 1, key_of(1)), 0);
    for (int i = 0; i < 10; i++) { /* a refusal does not swallow what is sent elsewhere */
        say(&a, 2, &gone, 5);
        say(&a, 3, &b.addr, 5);
    }
    while (b.packets < 10) {
        ev_run(loop, EVRUN_ONCE);
    }
    sched_udp_destroy(a.udp);
    sched_udp_destroy(b.udp);
    ev_loop_destroy(loop);
}

TEST(more_senders_than_there_is_room_for_replace_the_silent_ones)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct end hub, ends[6];
    end_open(&hub, loop, 100, 3);
    CHECK_EQ(sched_udp_key_install(hub.udp, 1, key_of(1)), 0);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 6; i++) {
            if (round == 0) {
                end_open(&ends[i], loop, i + 1, 3);
                CHECK_EQ(sched_udp_key_install(ends[i].udp, 1, key_of(1)), 0);
            }
            say(&ends[i], 100, &hub.addr, 5);
            while (hub.packets < round * 6 + i + 1) {
                ev_run(loop, EVRUN_ONCE);
            }
            CHECK_EQ(hub.last_from, i + 1);
        }
    }
    for (unsigned i = 0; i < 6; i++) {
        sched_udp_destroy(ends[i].udp);
    }
    sched_udp_destroy(hub.udp);
    ev_loop_destroy(loop);
}

TEST(an_address_that_is_none_or_taken_is_an_error)
{
    struct ev_loop *loop = ev_loop_new(0);
    struct end a;
    end_open(&a, loop, 1, 4);
    struct base_error err = {0};
    struct sched_udp_cfg cfg = {
        .loop = loop, .self = 2, .ip = "localhost", .senders_max = 1, .ops = &end_ops};
    CHECK(sched_udp_create(&cfg, &err) == NULL);
    CHECK_EQ(err.code, BASE_EINVAL);
    cfg.ip = "127.0.0.1";
    cfg.port = a.addr.port;
    CHECK(sched_udp_create(&cfg, &err) == NULL);
    CHECK(err.code < 0 && strstr(err.text, "bind") != NULL);
    sched_udp_destroy(a.udp);
    sched_udp_destroy(NULL);
    ev_loop_destroy(loop);
}

/* Whole members. Control messages go through a queue, as they would through a connection. */
enum { NODES = 5 };

struct letter {
    struct letter *next;
    uint64_t from, to;
    size_t len;
    uint8_t bytes[SCHED_GOSSIP_NODE_CTL_BYTES_MAX];
};

struct town;

struct citizen {
    struct town *town;
    struct sched_gossip_node *node;
    uint64_t id;
    uint8_t drains; /* bit per id: seen draining */
    bool joined, left;
};

struct town {
    struct ev_loop *loop;
    struct citizen all[NODES];
    struct letter *letters;
    ev_idle idle;
};

static void citizen_event(void *user, const struct sched_swim_fx *fx)
{
    struct citizen *c = user;
    c->joined |= fx->kind == SCHED_SWIM_FX_JOINED;
    c->left |= fx->kind == SCHED_SWIM_FX_LEFT;
    if (fx->kind == SCHED_SWIM_FX_EDGE && (fx->edge.flags & SCHED_DYN_DRAINING)) {
        c->drains = (uint8_t)(c->drains | 1u << fx->peer);
    }
}

static void citizen_ctl(void *user, uint64_t to, uint8_t seed, const uint8_t *bytes, size_t n)
{
    struct citizen *c = user;
    struct letter *l = malloc(sizeof *l);
    CHECK(l != NULL && n <= sizeof l->bytes);
    *l = (struct letter){.from = c->id, .to = to == 0 ? seed + 1u : to, .len = n};
    memcpy(l->bytes, bytes, n);
    l->next = c->town->letters;
    c->town->letters = l;
    ev_idle_start(c->town->loop, &c->town->idle);
}

static void deliver(struct ev_loop *loop, ev_idle *w, int events)
{
    (void)events;
    struct town *t = w->data;
    struct letter *list = t->letters, *ordered = NULL;
    t->letters = NULL;
    ev_idle_stop(loop, w);
    while (list != NULL) {
        struct letter *next = list->next;
        list->next = ordered;
        ordered = list;
        list = next;
    }
    while (ordered != NULL) {
        struct letter *next = ordered->next;
        struct sched_gossip_node *to = t->all[ordered->to - 1].node;
        if (to != NULL) {
            sched_gossip_node_ctl(to, ordered->from, ordered->bytes, ordered->len);
        }
        free(ordered);
        ordered = next;
    }
}

static const struct sched_gossip_node_ops citizen_ops = {citizen_event, citizen_ctl};

static void settle_in(struct town *t, uint64_t id)
{
    struct sched_gossip_node_cfg cfg = {.loop = t->loop,
        .ip = "127.0.0.1",
        .key_id = 1,
        .announce = {.id = id,
            .ip = {{127, 0, 0, 1}},
            .ip_version = {SCHED_IP_V4},
            .role = id == NODES ? SCHED_ROLE_OBSERVER : SCHED_ROLE_WORKER},
        .dynamic = {.level = {0xff}},
        .incarnation = 1,
        .members_max = 16,
        .seeds = 2,
        .ops = &citizen_ops,
        .user = &t->all[id - 1]};
    memcpy(cfg.cluster, cluster, sizeof cluster);
    memcpy(cfg.key, key_of(1), sizeof cfg.key);
    sched_swim_params_fast(&cfg.params);
    struct base_error err;
    t->all[id - 1] = (struct citizen){.town = t, .id = id};
    t->all[id - 1].node = sched_gossip_node_create(&cfg, &err);
    CHECK(t->all[id - 1].node != NULL);
}

static enum sched_peer_state seen(const struct town *t, uint64_t by, uint64_t id)
{
    struct sched_swim_peer p;
    const struct sched_swim *s = sched_gossip_node_swim(t->all[by - 1].node);
    return sched_swim_find(s, id, &p) ? p.state : SCHED_PEER_NONE;
}

/* Runs until all that are there see `id` so. */
static void until(struct town *t, uint64_t id, enum sched_peer_state state)
{
    for (bool all = false; !all;) {
        ev_run(t->loop, EVRUN_ONCE);
        all = true;
        for (uint64_t by = 1; by <= NODES; by++) {
            all = all && (t->all[by - 1].node == NULL || by == id || seen(t, by, id) == state);
        }
    }
}

TEST(members_join_die_come_back_drain_leave_and_change_their_key)
{
    static struct town t;
    t.loop = ev_loop_new(0);
    ev_idle_init(&t.idle, deliver);
    t.idle.data = &t;
    for (uint64_t id = 1; id <= NODES; id++) {
        settle_in(&t, id);
    }
    for (uint64_t id = 1; id <= NODES; id++) {
        until(&t, id, SCHED_PEER_ALIVE);
        while (!t.all[id - 1].joined) { /* others may know of it before it knows of them */
            ev_run(t.loop, EVRUN_ONCE);
        }
    }
    sched_gossip_node_destroy(t.all[3].node); /* its port refuses from now on */
    t.all[3].node = NULL;
    until(&t, 4, SCHED_PEER_DEAD);
    settle_in(&t, 4); /* with no memory of its incarnation */
    until(&t, 4, SCHED_PEER_ALIVE);
    until(&t, 1, SCHED_PEER_ALIVE);
    struct sched_dynamic draining = {.flags = SCHED_DYN_DRAINING, .level = {0xff}};
    sched_gossip_node_set_dynamic(t.all[1].node, &draining);
    for (unsigned i = 0; i < NODES; i++) {
        while (i != 1 && !(t.all[i].drains & 1u << 2)) {
            ev_run(t.loop, EVRUN_ONCE);
        }
    }
    for (unsigned i = 0; i < NODES; i++) {
        CHECK_EQ(sched_udp_key_install(sched_gossip_node_udp(t.all[i].node), 2, key_of(2)), 0);
    }
    for (unsigned i = 0; i < NODES; i++) {
        CHECK_EQ(sched_udp_key_use(sched_gossip_node_udp(t.all[i].node), 2), 0);
    }
    sched_gossip_node_leave(t.all[2].node);
    until(&t, 3, SCHED_PEER_LEFT);
    while (!t.all[2].left) {
        ev_run(t.loop, EVRUN_ONCE);
    }
    for (unsigned i = 0; i < NODES; i++) {
        CHECK_EQ(sched_gossip_node_stats(t.all[i].node)->malformed, 0);
        CHECK_EQ(sched_gossip_node_stats(t.all[i].node)->no_address, 0);
        CHECK_EQ(sched_udp_stats(sched_gossip_node_udp(t.all[i].node))->bad, 0);
        CHECK(sched_swim_check(sched_gossip_node_swim(t.all[i].node)));
        sched_gossip_node_ctl(t.all[i].node, 2, (const uint8_t *)"nonsense", 8);
        CHECK_EQ(sched_gossip_node_stats(t.all[i].node)->malformed, 1);
        sched_gossip_node_destroy(t.all[i].node);
        t.all[i].node = NULL;
    }
    deliver(t.loop, &t.idle, 0);
    ev_loop_destroy(t.loop);
}
