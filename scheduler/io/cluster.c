#include "scheduler/io/cluster.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "proto/base/assert.h"
#include "proto/base/cleanup.h"
#include "proto/base/clock.h"
#include "proto/limits.h"
#include "proto/net/cluster_key.h"
#include "proto/net/curve.h"
#include "scheduler/core/allow.h"
#include "scheduler/wire/wire.h"

enum {
    IDLE_MS = 60000,
    HOLD_MS = 2000,
    OTHER_EVERY_MS = 10000,
    KEYS_EVERY_MS = 500,
    QUESTION_MAX = 128 << 10,  /* a value of the catalogue, escaped */
    SELF_BYTES_MAX = 16 << 20, /* what a node may have to say to itself in one turn */
};

struct sched_cluster {
    struct sched_cluster_cfg cfg;
    struct proto_net *net;
    struct sched_roster *roster;
    struct proto_net_key key;
    struct sched_mesh *mesh;
    struct sched_gossip_node *gossip;
    struct sched_wire_room room;
    void *room_mem;
    struct base_buf self; /* messages to this node: 4 bytes of length, bytes */
    ev_timer turn;        /* never started, only fed */
    ev_timer look;        /* at the file of the gossip's keys */
    struct stat keys;
    bool keys_due;   /* they are not those of the file: to be read again */
    uint8_t version; /* messages are sent in */
    uint64_t not_allowed, malformed, other_version;
    uint64_t told_other_ns, told_version_ns;
    uint64_t tag[3]; /* of the settings: two for the gossip, one for the mesh */
    char name[24];
    uint8_t bytes[SCHED_WIRE_BYTES_MAX];
};

/* ---- messages ---- */

static uint8_t part_of(enum sched_role role)
{
    switch (role) {
    case SCHED_ROSTER_WORKER:
        return SCHED_PART_WORKER;
    case SCHED_ROSTER_GATEWAY:
        return SCHED_PART_GATEWAY;
    case SCHED_ROSTER_VOTER:
        return SCHED_PART_VOTER;
    case SCHED_ROSTER_NONE:
    case SCHED_ROSTER_ADMIN:
        break;
    }
    return 0;
}

/* Once in a while: the node goes on sending. */
static bool time_to_tell(uint64_t *told_ns)
{
    uint64_t now = base_clock_mono_ns();
    bool due = *told_ns == 0 || now - *told_ns > OTHER_EVERY_MS * BASE_NS_PER_MS;
    *told_ns = due ? now : *told_ns;
    return due;
}

static void other_version(struct sched_cluster *c, uint64_t from, uint8_t version)
{
    c->other_version++;
    if (time_to_tell(&c->told_version_ns)) {
        LOG_ERROR(c->cfg.log,
            "node=%s speaks version %u of the cluster's messages, this one versions %u to %u: %s",
            sched_cluster_name(c, from), version, SCHED_VERSION_MIN, SCHED_VERSION_MAX,
            version > SCHED_VERSION_MAX ? "this node has to be upgraded"
                                        : "that node has to be upgraded");
    }
}

static void take_message(
    struct sched_cluster *c, uint64_t from, enum sched_role role, const uint8_t *bytes, size_t n)
{
    struct sched_msg m;
    int rc = sched_wire_decode(bytes, n, &c->room, &m);
    if (rc == BASE_EVERSION) {
        other_version(c, from, bytes[0]);
        return;
    }
    if (rc != 0) {
        c->malformed++;
        return;
    }
    if (!sched_msg_allowed(m.type, part_of(role))) {
        c->not_allowed++;
        return;
    }
    m.from = from;
    m.to = c->cfg.settings->id;
    c->cfg.ops->on_message(c->cfg.user, &m);
}

static void answer_admin(struct sched_cluster *c, uint64_t from, const uint8_t *bytes, size_t n)
{
    struct base_buf json = {0};
    CLEANUP(base_freep) char *question = NULL;
    if (c->cfg.ops->on_admin != NULL && n <= QUESTION_MAX && memchr(bytes, '\0', n) == NULL) {
        question = malloc(n + 1);
    }
    if (question == NULL) {
        c->malformed++;
        return;
    }
    memcpy(question, bytes, n);
    question[n] = '\0';
    c->cfg.ops->on_admin(c->cfg.user, from, question, &json);
    if (base_buf_size(&json) > 0) {
        sched_cluster_answer(c, from, &json);
    }
    base_buf_deinit(&json);
}

void sched_cluster_answer(struct sched_cluster *c, uint64_t to, const struct base_buf *json)
{
    (void)sched_mesh_send(c->mesh, to, SCHED_MESH_ADMIN, base_buf_data(json), base_buf_size(json));
}

static void on_bytes(void *user, uint64_t from, enum sched_role role,
    enum sched_mesh_channel channel, const uint8_t *bytes, size_t n)
{
    struct sched_cluster *c = user;
    switch (channel) {
    case SCHED_MESH_MSG:
        take_message(c, from, role, bytes, n);
        break;
    case SCHED_MESH_CTL:
        if (role == SCHED_ROSTER_ADMIN || role == SCHED_ROSTER_NONE) {
            c->not_allowed++;
        } else {
            sched_gossip_node_ctl(c->gossip, from, bytes, n);
        }
        break;
    case SCHED_MESH_ADMIN:
        if (role == SCHED_ROSTER_ADMIN) {
            answer_admin(c, from, bytes, n);
        } else {
            c->not_allowed++;
        }
        break;
    case SCHED_MESH_CHANNELS:
        break;
    }
}

static void on_other(void *user, uint64_t from)
{
    struct sched_cluster *c = user;
    if (time_to_tell(&c->told_other_ns)) {
        LOG_ERROR(c->cfg.log,
            "node=%s has other settings than this one: cluster_key, voters, partition_bits, "
            "members_max and lease_ms must be the same everywhere",
            sched_cluster_name(c, from));
    }
}

static void on_bad_roster(void *user, const char *why)
{
    struct sched_cluster *c = user;
    LOG_ERROR(c->cfg.log, "the roster has changed and is not taken: %s", why);
}

static const struct sched_mesh_ops mesh_ops = {
    .on_bytes = on_bytes, .on_other = on_other, .on_bad_roster = on_bad_roster};

static void send_self(struct sched_cluster *c, const uint8_t *bytes, uint32_t n)
{
    if (base_buf_size(&c->self) + n > SELF_BYTES_MAX) {
        return;
    }
    uint8_t *room = base_buf_room(&c->self, 4 + (size_t)n);
    if (room == NULL) {
        return;
    }
    memcpy(room, &n, 4);
    memcpy(room + 4, bytes, n);
    base_buf_grow(&c->self, 4 + (size_t)n);
    ev_feed_event(c->cfg.loop, &c->turn, EV_CUSTOM);
}

static void on_turn(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop;
    (void)events;
    struct sched_cluster *c = w->data;
    /* What is added meanwhile is done too: a message to oneself is not slower than one's thoughts.
     */
    while (base_buf_size(&c->self) > 0) {
        uint32_t n = 0;
        memcpy(&n, base_buf_data(&c->self), 4);
        REQUIRE(n <= sizeof c->bytes);
        memcpy(c->bytes, base_buf_data(&c->self) + 4, n);
        base_buf_consume(&c->self, 4 + n);
        take_message(c, c->cfg.settings->id, c->cfg.role, c->bytes, n);
    }
}

/* Bytes in c->bytes; 0: it cannot be packed, which a core never asks for. */
static size_t pack(struct sched_cluster *c, const struct sched_msg *m)
{
    int n = sched_wire_encode_as(m, c->version, c->bytes, sizeof c->bytes - 64);
    if (n < 0) {
        LOG_ERROR(c->cfg.log, "a message cannot be packed type=%s", sched_msg_name(m->type));
        return 0;
    }
    return (size_t)n;
}

bool sched_cluster_reach(
    const struct sched_announce *a, uint16_t port, char ret[SCHED_CLUSTER_ENDPOINT_MAX])
{
    for (unsigned i = 0; port != 0 && i < 2; i++) {
        char ip[INET6_ADDRSTRLEN];
        int family = a->ip_version[i] == SCHED_IP_V4 ? AF_INET : AF_INET6;
        if (a->ip_version[i] != SCHED_IP_NONE &&
            inet_ntop(family, a->ip[i], ip, sizeof ip) != NULL) {
            (void)snprintf(ret, SCHED_CLUSTER_ENDPOINT_MAX,
                family == AF_INET ? "tcp://%s:%u" : "tcp://[%s]:%u", ip, port);
            return true;
        }
    }
    return false;
}

static void learn_address(struct sched_cluster *c, const struct sched_announce *a)
{
    char endpoint[SCHED_CLUSTER_ENDPOINT_MAX];
    if (sched_cluster_reach(a, a->port[SCHED_PORT_GOSSIP], endpoint)) {
        (void)sched_mesh_address(c->mesh, a->id, endpoint);
    }
}

/* A node may be heard of before it is in the roster; then its address was not taken. */
static void learn_again(struct sched_cluster *c, uint64_t id)
{
    struct sched_swim_peer p;
    const struct sched_settings *s = c->cfg.settings;
    for (unsigned i = 0; i < s->seed_n; i++) {
        if (s->seed[i].id == id) {
            (void)sched_mesh_address(c->mesh, id, s->seed[i].endpoint);
        }
    }
    if (c->gossip != NULL && sched_swim_find(sched_gossip_node_swim(c->gossip), id, &p)) {
        learn_address(c, p.announce);
    }
}

static void send_bytes(struct sched_cluster *c, uint64_t to, enum sched_mesh_channel channel,
    const uint8_t *bytes, size_t n)
{
    if (!sched_mesh_knows(c->mesh, to)) {
        learn_again(c, to);
    }
    (void)sched_mesh_send(c->mesh, to, channel, bytes, n);
}

void sched_cluster_send(struct sched_cluster *c, const struct sched_msg *m)
{
    size_t n = pack(c, m);
    if (n > 0 && m->to == c->cfg.settings->id) {
        send_self(c, c->bytes, (uint32_t)n);
    } else if (n > 0) {
        send_bytes(c, m->to, SCHED_MESH_MSG, c->bytes, n);
    }
}

void sched_cluster_push(struct sched_cluster *c, const struct sched_msg *m)
{
    size_t n = pack(c, m);
    uint32_t at = 0;
    struct sched_swim_peer p;
    while (n > 0 && sched_swim_next(sched_gossip_node_swim(c->gossip), &at, &p)) {
        bool there = p.state == SCHED_PEER_ALIVE || p.state == SCHED_PEER_SUSPECT;
        if (there && p.announce->id != c->cfg.settings->id) {
            send_bytes(c, p.announce->id, SCHED_MESH_MSG, c->bytes, n);
        }
    }
}

/* ---- gossip ---- */

static void on_peer(struct sched_cluster *c, const struct sched_swim_fx *fx)
{
    if (fx->peer == c->cfg.settings->id) {
        return;
    }
    bool gone = fx->state == SCHED_PEER_DEAD || fx->state == SCHED_PEER_LEFT;
    bool suspected = gone || fx->state == SCHED_PEER_SUSPECT;
    if (fx->announce != NULL && !gone) {
        learn_address(c, fx->announce);
    }
    if (fx->state == SCHED_PEER_LEFT) {
        sched_mesh_drop(c->mesh, fx->peer);
    }
    if (fx->state != fx->old_state) {
        LOG_INFO(c->cfg.log, "peer node=%s state=%s was=%s", sched_cluster_name(c, fx->peer),
            sched_peer_state_str(fx->state), sched_peer_state_str(fx->old_state));
    }
    if (c->cfg.ops->on_suspect != NULL) {
        c->cfg.ops->on_suspect(c->cfg.user, fx->peer, suspected);
    }
}

static void on_event(void *user, const struct sched_swim_fx *fx)
{
    struct sched_cluster *c = user;
    if (fx->kind == SCHED_SWIM_FX_PEER) {
        on_peer(c, fx);
    } else if (fx->kind == SCHED_SWIM_FX_SELF && c->cfg.ops->on_incarnation != NULL) {
        c->cfg.ops->on_incarnation(c->cfg.user, fx->inc);
    } else if (fx->kind == SCHED_SWIM_FX_LEFT && c->cfg.ops->on_left != NULL) {
        c->cfg.ops->on_left(c->cfg.user);
    } else if (fx->kind == SCHED_SWIM_FX_ODD) {
        static const char *const odds[] = {
            "another process has this name", "its version does not meet ours", "no room for it"};
        LOG_WARN(
            c->cfg.log, "odd peer node=%s: %s", sched_cluster_name(c, fx->peer), odds[fx->odd]);
    }
}

static void ctl_send(void *user, uint64_t to, uint8_t seed, const uint8_t *bytes, size_t n)
{
    struct sched_cluster *c = user;
    to = to == 0 ? c->cfg.settings->seed[seed].id : to;
    if (to != c->cfg.settings->id) {
        send_bytes(c, to, SCHED_MESH_CTL, bytes, n);
    }
}

static const struct sched_gossip_node_ops gossip_ops = {on_event, ctl_send};

static uint8_t gossip_role(enum sched_role role)
{
    return role == SCHED_ROSTER_WORKER  ? SCHED_ROLE_WORKER
           : role == SCHED_ROSTER_VOTER ? SCHED_ROLE_VOTER
                                        : SCHED_ROLE_OBSERVER;
}

static int make_tags(struct sched_cluster *c, struct base_error *err)
{
    uint8_t key[16];
    int rc = proto_net_cluster_key_read(c->cfg.settings->cluster_key, key, err);
    for (unsigned i = 0; rc == 0 && i < 3; i++) {
        c->tag[i] = sched_settings_tag(c->cfg.settings, key, i);
    }
    explicit_bzero(key, sizeof key);
    return rc;
}

static int start_gossip(struct sched_cluster *c, struct base_error *err)
{
    const struct sched_settings *s = c->cfg.settings;
    struct sched_ring ring;
    struct sched_gossip_node_cfg g = {.loop = c->cfg.loop,
        .ip = s->ip,
        .incarnation = c->cfg.gossip_inc,
        .members_max = s->members_max,
        .seeds = (uint8_t)s->seed_n,
        .ops = &gossip_ops,
        .user = c};
    int rc = sched_ring_read(s->gossip_keys, &ring, err);
    if (rc != 0) {
        return rc;
    }
    /* What seals datagrams is bound to the cluster: two clusters with one ring do not mix. */
    _Static_assert(sizeof g.cluster == 2 * sizeof c->tag[0], "two tags");
    memcpy(g.cluster, c->tag, sizeof g.cluster);
    g.key_id = ring.k[0].id;
    memcpy(g.key, ring.k[0].key, sizeof g.key);
    struct sched_announce *a = &g.announce;
    *a = (struct sched_announce){.id = s->id,
        .zone = (uint16_t)s->zone,
        .weight = (uint8_t)s->weight,
        .role = gossip_role(c->cfg.role)};
    a->ip_version[0] = strchr(s->public_ip, ':') != NULL ? SCHED_IP_V6 : SCHED_IP_V4;
    (void)inet_pton(a->ip_version[0] == SCHED_IP_V6 ? AF_INET6 : AF_INET, s->public_ip, a->ip[0]);
    unsigned long port = strtoul(strrchr(sched_mesh_endpoint(c->mesh), ':') + 1, NULL, 10);
    a->port[SCHED_PORT_GOSSIP] = g.port = (uint16_t)port; /* the same number for UDP */
    a->port[SCHED_PORT_CTL] = c->cfg.ctl_port;
    a->port[SCHED_PORT_BULK] = c->cfg.bulk_port;
    if (s->gossip_period_ms == 250) {
        sched_swim_params_fast(&g.params);
    } else {
        sched_swim_params_default(&g.params);
    }
    c->gossip = sched_gossip_node_create(&g, err);
    explicit_bzero(&g, sizeof g);
    explicit_bzero(&ring, sizeof ring);
    return c->gossip == NULL ? BASE_EINVAL : sched_cluster_rekey(c, err);
}

/* All of the file or nothing: a ring by half would cut this node off from those that have it whole.
 */
int sched_cluster_rekey(struct sched_cluster *c, struct base_error *err)
{
    struct sched_ring file;
    struct sched_seal_ring ring = {.n = 0};
    int rc = sched_ring_read(c->cfg.settings->gossip_keys, &file, err);
    if (rc != 0) {
        return rc;
    }
    for (unsigned i = 0; rc == 0 && i < file.n; i++) { /* the first one seals */
        rc = sched_seal_ring_install(&ring, file.k[i].id, file.k[i].key);
    }
    rc = rc != 0 ? rc : sched_udp_key_ring(sched_gossip_node_udp(c->gossip), &ring);
    explicit_bzero(&file, sizeof file);
    explicit_bzero(&ring, sizeof ring);
    if (rc == BASE_EEXISTS) {
        return base_fail(err, rc, "a number in '%.150s' stands for another key than before",
            c->cfg.settings->gossip_keys);
    }
    return rc == 0 ? 0
                   : base_fail(err, rc, "the key ring of the gossip cannot be changed: %s",
                         base_err_str(rc));
}

static bool keys_changed(struct sched_cluster *c)
{
    struct stat st;
    if (stat(c->cfg.settings->gossip_keys, &st) != 0) {
        return false;
    }
    bool same = proto_net_same_file(&st, &c->keys);
    c->keys = st;
    return !same;
}

static void on_look(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop;
    (void)events;
    struct sched_cluster *c = w->data;
    struct base_error err;
    bool changed = keys_changed(c);
    if (!changed && !c->keys_due) {
        return;
    }
    c->keys_due = sched_cluster_rekey(c, &err) != 0; /* it may not be the file's fault */
    if (!c->keys_due) {
        LOG_INFO(c->cfg.log, "gossip keys read again");
    } else if (changed) {
        LOG_ERROR(c->cfg.log, "the gossip keys have changed and are not taken: %s", err.text);
    }
}

/* ---- life ---- */

static int make_room(struct sched_cluster *c, struct base_error *err)
{
    struct sched_mem mem = {0};
    sched_wire_room_init(&c->room, c->cfg.settings->members_max, &mem);
    c->room_mem = aligned_alloc(16, mem.used);
    if (c->room_mem == NULL) {
        return base_fail(err, BASE_ENOMEM, "cluster: out of memory");
    }
    mem = (struct sched_mem){.base = c->room_mem, .size = mem.used};
    sched_wire_room_init(&c->room, c->cfg.settings->members_max, &mem);
    return 0;
}

static int check_roster(struct sched_cluster *c, struct base_error *err)
{
    const struct sched_settings *s = c->cfg.settings;
    enum sched_role role = sched_roster_role(c->roster, s->id);
    if (role != c->cfg.role) {
        return base_fail(err, BASE_EDENIED, "'%s' is not a %s in '%s'", s->name,
            sched_role_str(c->cfg.role), s->roster);
    }
    for (unsigned i = 0; i < s->voters_count; i++) {
        if (sched_roster_role(c->roster, s->voter[i]) != SCHED_ROSTER_VOTER) {
            return base_fail(
                err, BASE_EDENIED, "'%s' is not a voter in '%s'", s->voters[i], s->roster);
        }
    }
    if (!sched_roster_lists(c->roster, s->id, c->key.public_z85)) {
        return base_fail(err, BASE_EDENIED, "the key in '%s' is not that of '%s' in the roster",
            s->curve_secret, s->name);
    }
    uint64_t needed[1 + SCHED_VOTERS_MAX] = {s->id};
    _Static_assert(1 + SCHED_VOTERS_MAX <= SCHED_ROSTER_REQUIRED_MAX, "room for all of them");
    memcpy(needed + 1, s->voter, s->voters_count * sizeof needed[0]);
    sched_roster_require(c->roster, needed, 1 + s->voters_count);
    return 0;
}

static int start_mesh(struct sched_cluster *c, struct base_error *err)
{
    const struct sched_settings *s = c->cfg.settings;
    char endpoint[96], port[8] = "*";
    if (s->port != 0) {
        (void)snprintf(port, sizeof port, "%u", s->port);
    }
    (void)snprintf(endpoint, sizeof endpoint,
        strchr(s->ip, ':') != NULL ? "tcp://[%s]:%s" : "tcp://%s:%s", s->ip, port);
    struct sched_mesh_cfg m = {.loop = c->cfg.loop,
        .net = c->net,
        .roster = c->roster,
        .key = &c->key,
        .self = s->id,
        .tag = c->tag[2],
        .endpoint = endpoint,
        .peers_max = 2 * s->members_max + 16,
        .idle_ms = IDLE_MS,
        .hold_ms = HOLD_MS,
        .ops = &mesh_ops,
        .user = c};
    int rc = sched_mesh_create(&c->mesh, &m, err);
    for (unsigned i = 0; rc == 0 && i < s->seed_n; i++) {
        rc = sched_mesh_address(c->mesh, s->seed[i].id, s->seed[i].endpoint);
        rc = rc == BASE_ENOTFOUND ? 0 : rc; /* see send_bytes() */
    }
    return rc;
}

/* A node of each place of the cluster may have to be reached at the same time. */
static void look_at_limits(const struct sched_cluster *c)
{
    uint64_t have = proto_net_raise_limits();
    uint64_t need = UINT64_C(4) * c->cfg.settings->members_max + 256;
    if (have < need) {
        LOG_WARN(c->cfg.log,
            "members_max needs %" PRIu64 " open files and there may be %" PRIu64
            ": connections fail beyond that (LimitNOFILE)",
            need, have);
    }
}

int sched_cluster_create(
    struct sched_cluster **ret, const struct sched_cluster_cfg *cfg, struct base_error *err)
{
    struct sched_cluster *c = calloc(1, sizeof *c);
    if (c == NULL) {
        return base_fail(err, BASE_ENOMEM, "cluster: out of memory");
    }
    c->cfg = *cfg;
    c->version = SCHED_VERSION_MIN;
    ev_timer_init(&c->turn, on_turn, 0., 0.);
    ev_timer_init(&c->look, on_look, KEYS_EVERY_MS / 1e3, KEYS_EVERY_MS / 1e3);
    c->turn.data = c->look.data = c;
    const struct sched_settings *s = cfg->settings;
    int rc = make_room(c, err);
    rc = rc != 0 ? rc : make_tags(c, err);
    rc = rc != 0 ? rc : proto_net_key_read(s->curve_secret, &c->key, err);
    rc = rc != 0 ? rc : sched_roster_load(&c->roster, s->roster, err);
    rc = rc != 0 ? rc : check_roster(c, err);
    look_at_limits(c);
    rc = rc != 0 ? rc : proto_net_create(&c->net, cfg->loop, s->roster, err);
    rc = rc != 0 ? rc : start_mesh(c, err);
    (void)keys_changed(c); /* before they are read */
    rc = rc != 0 ? rc : start_gossip(c, err);
    if (rc != 0) {
        sched_cluster_destroy(c);
        return rc;
    }
    ev_timer_start(cfg->loop, &c->look);
    *ret = c;
    return 0;
}

void sched_cluster_destroy(struct sched_cluster *c)
{
    if (c == NULL) {
        return;
    }
    ev_clear_pending(c->cfg.loop, &c->turn);
    ev_timer_stop(c->cfg.loop, &c->look);
    sched_gossip_node_destroy(c->gossip);
    sched_mesh_destroy(c->mesh);
    proto_net_destroy(c->net);
    sched_roster_destroy(c->roster);
    base_buf_deinit(&c->self);
    free(c->room_mem);
    explicit_bzero(&c->key, sizeof c->key);
    free(c);
}

uint8_t sched_cluster_version(const struct sched_cluster *c)
{
    return c->version;
}

uint64_t sched_cluster_self(const struct sched_cluster *c)
{
    return c->cfg.settings->id;
}

void sched_cluster_dynamic(struct sched_cluster *c, const struct sched_dynamic *d)
{
    sched_gossip_node_set_dynamic(c->gossip, d);
}

void sched_cluster_set_version(struct sched_cluster *c, uint8_t version)
{
    c->version = version;
}

void sched_cluster_leave(struct sched_cluster *c)
{
    sched_gossip_node_leave(c->gossip);
}

const char *sched_cluster_name(const struct sched_cluster *c, uint64_t id)
{
    const char *name = sched_roster_name(c->roster, id);
    if (name == NULL) {
        char *own = (char *)(uintptr_t)c->name;
        (void)snprintf(own, sizeof c->name, "%016" PRIx64, id);
        name = own;
    }
    return name;
}

/* ---- what can be seen ---- */

static int describe_mesh(const struct sched_cluster *c, struct base_buf *to)
{
    struct sched_mesh_stats s;
    sched_mesh_stats(c->mesh, &s);
    return base_buf_printf(to,
        "\"mesh\":{\"sent\":%" PRIu64 ",\"received\":%" PRIu64 ",\"full\":%" PRIu64
        ",\"stale\":%" PRIu64 ",\"noAddress\":%" PRIu64 ",\"denied\":%" PRIu64
        ",\"malformed\":%" PRIu64 ",\"otherSettings\":%" PRIu64 ",\"refused\":%" PRIu64
        ",\"otherVersion\":%" PRIu64 ",\"late\":%" PRIu64
        ",\"connections\":%u,\"notAllowed\":%" PRIu64 "}",
        s.sent, s.received, s.full, s.stale, s.no_address, s.denied, s.malformed + c->malformed,
        s.other, s.refused, c->other_version, s.late, s.connections, c->not_allowed);
}

int sched_cluster_describe(const struct sched_cluster *c, struct base_buf *to)
{
    uint32_t at = 0;
    struct sched_swim_peer p;
    int rc = describe_mesh(c, to);
    rc = rc != 0 ? rc : base_buf_printf(to, ",\"gossip\":[");
    for (bool first = true; rc == 0 && sched_swim_next(sched_gossip_node_swim(c->gossip), &at, &p);
         first = false) {
        static const char *const roles[SCHED_ROLES] = {"worker", "gateway", "voter"};
        const struct sched_announce *a = p.announce;
        char ip[INET6_ADDRSTRLEN] = "";
        (void)inet_ntop(
            a->ip_version[0] == SCHED_IP_V4 ? AF_INET : AF_INET6, a->ip[0], ip, sizeof ip);
        rc = base_buf_printf(to,
            "%s{\"node\":\"%s\",\"role\":\"%s\",\"state\":\"%s\",\"incarnation\":%u,"
            "\"address\":\"%s\",\"port\":%u,\"versions\":[%u,%u]}",
            first ? "" : ",", sched_cluster_name(c, a->id), roles[a->role],
            sched_peer_state_str(p.state), p.inc, ip, a->port[SCHED_PORT_GOSSIP], a->proto_min,
            a->proto_max);
    }
    return rc != 0 ? rc : base_buf_printf(to, "]");
}

void sched_cluster_stats(const struct sched_cluster *c, struct sched_cluster_stats *ret)
{
    *ret = (struct sched_cluster_stats){.not_allowed = c->not_allowed, .malformed = c->malformed};
    sched_mesh_stats(c->mesh, &ret->mesh);
}

const struct sched_roster *sched_cluster_roster(const struct sched_cluster *c)
{
    return c->roster;
}

const struct sched_swim *sched_cluster_swim(const struct sched_cluster *c)
{
    return sched_gossip_node_swim(c->gossip);
}

const char *sched_cluster_endpoint(const struct sched_cluster *c)
{
    return sched_mesh_endpoint(c->mesh);
}
