#include "scheduler/io/gossip_node.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/hash.h"
#include "proto/base/rand.h"
#include "scheduler/wire/gossip_wire.h"

enum { HEARD = 1024, BOOT_BYTES = 4 };

struct sched_gossip_node {
    struct sched_gossip_node_cfg cfg;
    struct sched_gossip_node_stats stats;
    struct sched_udp *udp;
    struct sched_swim *swim;
    struct sched_book book;
    void *book_mem, *swim_mem;
    ev_timer timer;
    struct {
        uint64_t id;
        struct sched_udp_addr addr;
    } heard[HEARD]; /* where peers wrote from lately: answers go there */
    struct sched_swim_effects fx;
    struct sched_gossip_wire_in in;
    uint8_t bytes[SCHED_GOSSIP_NODE_CTL_BYTES_MAX];
};

static bool address_of(const struct sched_announce *a, struct sched_udp_addr *ret)
{
    for (unsigned i = 0; i < 2; i++) {
        if (a->ip_version[i] == SCHED_IP_V4) {
            *ret = sched_udp_addr_v4(a->ip[i], a->port[SCHED_PORT_GOSSIP]);
            return true;
        }
        if (a->ip_version[i] == SCHED_IP_V6) {
            memcpy(ret->ip, a->ip[i], 16);
            ret->port = a->port[SCHED_PORT_GOSSIP];
            return true;
        }
    }
    return false;
}

static bool find_address(
    const struct sched_gossip_node *n, const struct sched_swim_fx *fx, struct sched_udp_addr *ret)
{
    if (fx->announce != NULL) {
        return address_of(fx->announce, ret);
    }
    unsigned at = (unsigned)(base_hash_mix64(fx->peer) % HEARD);
    if (n->heard[at].id != fx->peer) {
        return false;
    }
    *ret = n->heard[at].addr;
    return true;
}

static void send_packet(struct sched_gossip_node *n, const struct sched_swim_fx *fx)
{
    size_t len = 0;
    uint32_t boot = n->cfg.announce.boot;
    uint8_t *body = n->bytes + BOOT_BYTES;
    int rc = sched_gossip_wire_encode(&fx->packet, body, SCHED_SWIM_CTL_BYTES_MAX, &len);
    REQUIRE(rc == 0); /* the core knows the sizes and speaks only versions of this build */
    if (fx->channel == SCHED_SWIM_CTL) {
        for (unsigned i = 0; i < BOOT_BYTES; i++) {
            n->bytes[i] = (uint8_t)(boot >> (8 * i));
        }
        n->cfg.ops->ctl_send(n->cfg.user, fx->peer, fx->seed, n->bytes, len + BOOT_BYTES);
        return;
    }
    struct sched_udp_addr addr;
    if (!find_address(n, fx, &addr)) {
        n->stats.no_address++;
        return;
    }
    sched_udp_send(n->udp, fx->peer, &addr, body, len);
}

static void step(struct sched_gossip_node *n, struct sched_swim_event ev)
{
    ev.now_ns = base_clock_mono_ns();
    sched_swim_step(n->swim, &ev, &n->fx);
    for (uint32_t i = 0; i < n->fx.n; i++) {
        const struct sched_swim_fx *fx = &n->fx.fx[i];
        if (fx->kind == SCHED_SWIM_FX_SEND) {
            send_packet(n, fx);
        } else {
            n->cfg.ops->on_event(n->cfg.user, fx);
        }
    }
    ev_timer_stop(n->cfg.loop, &n->timer);
    uint64_t due = sched_swim_deadline_ns(n->swim), now = base_clock_mono_ns();
    if (due != UINT64_MAX) {
        double wait = due > now ? (double)(due - now) / 1e9 : 0.;
        ev_timer_set(&n->timer, wait, 0.);
        ev_timer_start(n->cfg.loop, &n->timer);
    }
}

static void on_timer(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop;
    (void)events;
    step(w->data, (struct sched_swim_event){.kind = SCHED_SWIM_EV_TICK});
}

static void packet_in(struct sched_gossip_node *n, enum sched_swim_channel channel, uint64_t from,
    uint32_t boot, const uint8_t *bytes, size_t len)
{
    if (sched_gossip_wire_decode(&n->in, bytes, len) != 0) {
        n->stats.malformed++;
        return;
    }
    step(n, (struct sched_swim_event){.kind = SCHED_SWIM_EV_PACKET,
                .channel = channel,
                .from = from,
                .from_boot = boot,
                .packet = &n->in.packet});
}

static void on_packet(void *user, uint64_t from, uint32_t boot, const struct sched_udp_addr *addr,
    const uint8_t *body, size_t len)
{
    struct sched_gossip_node *n = user;
    unsigned at = (unsigned)(base_hash_mix64(from) % HEARD);
    n->heard[at].id = from;
    n->heard[at].addr = *addr;
    packet_in(n, SCHED_SWIM_UDP, from, boot, body, len);
}

static void on_refused(void *user, uint64_t id)
{
    step(user, (struct sched_swim_event){.kind = SCHED_SWIM_EV_REFUSED, .from = id});
}

static const struct sched_udp_ops udp_ops = {on_packet, on_refused};

static bool make_swim(struct sched_gossip_node *n)
{
    const struct sched_gossip_node_cfg *c = &n->cfg;
    struct sched_swim_cfg cfg = {.self = c->announce,
        .dynamic = c->dynamic,
        .incarnation = c->incarnation,
        .seed = base_rand_u64(),
        .params = c->params,
        .members_max = c->members_max,
        .timers_max = c->members_max,
        .queue_max = c->members_max < 1024 ? (c->members_max < 8 ? 8 : c->members_max) : 1024,
        .edges = true,
        .seeds = c->seeds,
        .book = &n->book};
    /* Twice the members: a changed announcement is there beside the old one for a moment. */
    size_t book_size = sched_book_size(2 * c->members_max + 8), size = sched_swim_size(&cfg);
    if (size == 0) {
        return false;
    }
    n->book_mem = malloc(book_size);
    n->swim_mem = malloc(size);
    if (n->book_mem == NULL || n->swim_mem == NULL ||
        sched_book_init(&n->book, 2 * c->members_max + 8, n->book_mem, book_size) != 0) {
        return false;
    }
    n->swim = sched_swim_init(&cfg, base_clock_mono_ns(), n->swim_mem, size);
    return n->swim != NULL;
}

struct sched_gossip_node *sched_gossip_node_create(
    const struct sched_gossip_node_cfg *cfg, struct base_error *err)
{
    struct sched_gossip_node *n = calloc(1, sizeof *n);
    if (n == NULL) {
        (void)base_fail(err, BASE_ENOMEM, "gossip: out of memory");
        return NULL;
    }
    n->cfg = *cfg;
    struct sched_udp_cfg udp = {.loop = cfg->loop,
        .self = cfg->announce.id,
        .ip = cfg->ip,
        .port = cfg->port,
        .senders_max = 2 * cfg->members_max + 8,
        .ops = &udp_ops,
        .user = n};
    memcpy(udp.cluster, cfg->cluster, sizeof udp.cluster);
    n->udp = sched_udp_create(&udp, err);
    if (n->udp == NULL) {
        sched_gossip_node_destroy(n);
        return NULL;
    }
    int rc = sched_udp_key_install(n->udp, cfg->key_id, cfg->key);
    explicit_bzero(n->cfg.key, sizeof n->cfg.key);
    n->cfg.announce.boot = sched_udp_boot(n->udp);
    n->cfg.announce.proto_min = SCHED_GOSSIP_WIRE_VERSION_MIN;
    n->cfg.announce.proto_max = n->cfg.announce.proto_now = SCHED_GOSSIP_WIRE_VERSION_MAX;
    n->cfg.announce.port[SCHED_PORT_GOSSIP] = sched_udp_port(n->udp);
    if (rc != 0 || !make_swim(n)) {
        (void)base_fail(err, BASE_EINVAL, "gossip: settings out of range, or out of memory");
        sched_gossip_node_destroy(n);
        return NULL;
    }
    ev_timer_init(&n->timer, on_timer, 0., 0.);
    ev_set_priority(&n->timer, EV_MINPRI); /* after everything that waits in sockets */
    n->timer.data = n;
    ev_timer_start(cfg->loop, &n->timer);
    return n;
}

void sched_gossip_node_destroy(struct sched_gossip_node *n)
{
    if (n == NULL) {
        return;
    }
    if (n->swim != NULL) {
        ev_timer_stop(n->cfg.loop, &n->timer);
    }
    sched_udp_destroy(n->udp);
    free(n->swim_mem);
    free(n->book_mem);
    explicit_bzero(n->cfg.key, sizeof n->cfg.key);
    free(n);
}

void sched_gossip_node_ctl(
    struct sched_gossip_node *n, uint64_t from, const uint8_t *bytes, size_t len)
{
    if (len < BOOT_BYTES || len > SCHED_GOSSIP_NODE_CTL_BYTES_MAX) {
        n->stats.malformed++;
        return;
    }
    uint32_t boot = 0;
    for (unsigned i = 0; i < BOOT_BYTES; i++) {
        boot |= (uint32_t)bytes[i] << (8 * i);
    }
    packet_in(n, SCHED_SWIM_CTL, from, boot, bytes + BOOT_BYTES, len - BOOT_BYTES);
}

void sched_gossip_node_set_dynamic(struct sched_gossip_node *n, const struct sched_dynamic *d)
{
    step(n, (struct sched_swim_event){.kind = SCHED_SWIM_EV_DYNAMIC, .dynamic = d});
}

void sched_gossip_node_leave(struct sched_gossip_node *n)
{
    step(n, (struct sched_swim_event){.kind = SCHED_SWIM_EV_LEAVE});
}

const struct sched_swim *sched_gossip_node_swim(const struct sched_gossip_node *n)
{
    return n->swim;
}

struct sched_udp *sched_gossip_node_udp(struct sched_gossip_node *n)
{
    return n->udp;
}

const struct sched_announce *sched_gossip_node_announce(const struct sched_gossip_node *n)
{
    return &n->cfg.announce;
}

const struct sched_gossip_node_stats *sched_gossip_node_stats(const struct sched_gossip_node *n)
{
    return &n->stats;
}
