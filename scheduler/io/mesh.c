#include "scheduler/io/mesh.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/text.h"
#include "proto/limits.h"
#include "scheduler/core/map.h"

enum {
    ENDPOINT_MAX = 80,
    WAIT_MESSAGES = 256, /* of one peer, for a connection */
    WAIT_BYTES = 2 << 20,
    LOOK_MS = 250,
    KEY_TRY_MS = 3000, /* without a handshake: the peer may have the next of its keys */
};

/* A message that waits for a connection. */
struct waiting {
    struct waiting *next;
    uint64_t since_ns;
    uint32_t n;
    uint8_t channel;
    uint8_t bytes[];
};

struct peer {
    struct sched_mesh *mesh;
    uint32_t at; /* in the mesh's table */
    uint64_t id;
    char endpoint[ENDPOINT_MAX]; /* empty: not known */
    struct proto_net_socket *out;
    bool up;
    unsigned key_at;             /* which of its keys */
    char key[PROTO_NET_Z85_MAX]; /* the one of `out` */
    struct proto_net_peer back;
    bool has_back;                    /* it has a connection to us */
    char back_key[PROTO_NET_Z85_MAX]; /* the one of `back` */
    uint64_t used_ns, opened_ns;
    struct waiting *first, **last;
    uint32_t waits;
    size_t waiting_bytes;
};

struct sched_mesh {
    struct sched_mesh_cfg cfg;
    struct proto_net_key key;
    struct proto_net_socket *router;
    struct peer **peers;
    uint32_t n_peers;
    struct sched_map by_id;
    void *map_mem;
    ev_timer look;
    struct sched_mesh_stats stats;
};

static uint64_t ms(uint32_t n)
{
    return n * BASE_NS_PER_MS;
}

static struct peer *find(const struct sched_mesh *m, uint64_t id)
{
    uint32_t i = sched_map_get(&m->by_id, id, 0);
    return i == SCHED_MAP_NONE ? NULL : m->peers[i];
}

/* ---- messages that wait ---- */

static void drop_first(struct peer *p)
{
    struct waiting *w = p->first;
    p->first = w->next;
    p->last = p->first == NULL ? &p->first : p->last;
    p->waits--;
    p->waiting_bytes -= w->n;
    free(w);
}

static void drop_stale(struct peer *p, uint64_t now_ns)
{
    while (p->first != NULL && now_ns - p->first->since_ns > ms(p->mesh->cfg.hold_ms)) {
        p->mesh->stats.stale++;
        drop_first(p);
    }
}

static int hold(struct peer *p, enum sched_mesh_channel channel, const uint8_t *bytes, size_t n)
{
    struct sched_mesh *m = p->mesh;
    if (p->waits == WAIT_MESSAGES || p->waiting_bytes + n > WAIT_BYTES) {
        m->stats.full++;
        return BASE_EAGAIN;
    }
    struct waiting *w = malloc(sizeof *w + n);
    if (w == NULL) {
        m->stats.full++;
        return BASE_ENOMEM;
    }
    *w = (struct waiting){
        .since_ns = base_clock_mono_ns(), .n = (uint32_t)n, .channel = (uint8_t)channel};
    if (n > 0) {
        memcpy(w->bytes, bytes, n);
    }
    *p->last = w;
    p->last = &w->next;
    p->waits++;
    p->waiting_bytes += n;
    return 0;
}

/* ---- connections ---- */

static int put(struct peer *p, enum sched_mesh_channel channel, const uint8_t *bytes, size_t n)
{
    struct sched_mesh *m = p->mesh;
    struct proto_envelope e = {.type = PROTO_ENVELOPE_NODE, .stream = channel, .corr = m->cfg.tag};
    bool direct = p->out != NULL && p->up;
    int rc = BASE_ECLOSED;
    if (direct) {
        rc = proto_net_send(p->out, NULL, &e, bytes, n);
        p->used_ns = base_clock_mono_ns();
    } else if (p->has_back) {
        rc = proto_net_send(m->router, &p->back, &e, bytes, n);
        p->has_back = rc != BASE_ECLOSED;
    }
    if (rc == 0) {
        m->stats.sent++;
    } else if (direct || rc != BASE_ECLOSED) {
        m->stats.full++;
        return BASE_EAGAIN;
    }
    return rc;
}

static void flush(struct peer *p)
{
    drop_stale(p, base_clock_mono_ns());
    while (p->first != NULL) {
        (void)put(p, p->first->channel, p->first->bytes, p->first->n);
        drop_first(p);
    }
}

static void shut(struct peer *p)
{
    if (p->out != NULL) {
        proto_net_close(p->out);
        p->out = NULL;
        p->up = false;
        p->mesh->stats.connections--;
    }
}

/* All that there is to a peer but its address. */
static void cut(struct peer *p)
{
    shut(p);
    p->has_back = false;
    while (p->first != NULL) {
        drop_first(p);
    }
}

/* A place for one more: a new one, or that of a node that is in the roster no more. */
static struct peer *place(struct sched_mesh *m)
{
    for (uint32_t i = 0; m->n_peers == m->cfg.peers_max && i < m->n_peers; i++) {
        struct peer *p = m->peers[i];
        if (sched_roster_role(m->cfg.roster, p->id) == SCHED_ROSTER_NONE) {
            cut(p);
            sched_map_del(&m->by_id, p->id, 0);
            *p = (struct peer){.at = i};
            return p;
        }
    }
    struct peer *p = m->n_peers == m->cfg.peers_max ? NULL : calloc(1, sizeof *p);
    if (p != NULL) {
        p->at = m->n_peers;
        m->peers[m->n_peers++] = p;
    }
    return p;
}

/* NULL: it is not in the roster, or there is no place left. */
static struct peer *need(struct sched_mesh *m, uint64_t id)
{
    struct peer *p = find(m, id);
    if (p != NULL || sched_roster_role(m->cfg.roster, id) == SCHED_ROSTER_NONE) {
        return p;
    }
    p = place(m);
    if (p != NULL) {
        p->mesh = m;
        p->id = id;
        p->last = &p->first;
        (void)sched_map_put(&m->by_id, id, 0, p->at);
    }
    return p;
}

/* Messages of a node that has other settings than this one mean something else. It is told with a
 * message without a body, which nobody answers: both logs shall name the fault. */
static void other_tag(struct sched_mesh *m, uint64_t from, const struct proto_net_message *msg)
{
    m->stats.other++;
    if (msg->body_bytes > 0) {
        (void)sched_mesh_send(m, from, SCHED_MESH_MSG, NULL, 0);
    }
    if (m->cfg.ops->on_other != NULL) {
        m->cfg.ops->on_other(m->cfg.user, from);
    }
}

static void received(
    struct sched_mesh *m, uint64_t from, enum sched_role role, const struct proto_net_message *msg)
{
    uint32_t channel = msg->env.stream;
    if (msg->fault != 0 || msg->env.type != PROTO_ENVELOPE_NODE || channel == 0 ||
        channel >= SCHED_MESH_CHANNELS) {
        m->stats.malformed++;
        return;
    }
    if (channel != SCHED_MESH_ADMIN && msg->env.corr != m->cfg.tag) {
        other_tag(m, from, msg);
        return;
    }
    m->stats.received++;
    m->cfg.ops->on_bytes(
        m->cfg.user, from, role, (enum sched_mesh_channel)channel, msg->body, msg->body_bytes);
}

static void dealer_message(void *owner, const struct proto_net_message *msg)
{
    struct peer *p = owner;
    struct sched_mesh *m = p->mesh;
    if (!sched_roster_lists(m->cfg.roster, p->id, p->key)) {
        m->stats.denied++;
        shut(p);
        return;
    }
    received(m, p->id, sched_roster_role(m->cfg.roster, p->id), msg);
}

static void dealer_state(void *owner, enum proto_net_state state)
{
    struct peer *p = owner;
    p->up = state == PROTO_NET_UP;
    if (p->up) {
        flush(p);
    } else if (state == PROTO_NET_REFUSED) {
        p->mesh->stats.refused++;
    }
}

static const struct proto_net_ops dealer_ops = {
    .on_message = dealer_message, .on_state = dealer_state};

static void look_at_roster(struct sched_mesh *m)
{
    struct base_error err;
    if (sched_roster_refresh(m->cfg.roster, &err) < 0 && m->cfg.ops->on_bad_roster != NULL) {
        m->cfg.ops->on_bad_roster(m->cfg.user, err.text);
    }
}

static int open_out(struct peer *p)
{
    struct sched_mesh *m = p->mesh;
    const struct proto_net_client *key = sched_roster_key(m->cfg.roster, p->id, p->key_at);
    if (key == NULL) {
        p->key_at = 0;
        look_at_roster(m);
        key = sched_roster_key(m->cfg.roster, p->id, 0);
    }
    if (key == NULL || p->endpoint[0] == '\0') {
        return BASE_ENOTFOUND;
    }
    struct proto_net_options opt = {.class = PROTO_NET_NODE,
        .endpoint = p->endpoint,
        .self = &m->key,
        .server_key = key->public_z85,
        .ops = &dealer_ops,
        .owner = p};
    int rc = proto_net_connect(m->cfg.net, &opt, &p->out, NULL);
    if (rc == 0) {
        p->up = false;
        memcpy(p->key, key->public_z85, sizeof p->key);
        p->opened_ns = p->used_ns = base_clock_mono_ns();
        m->stats.opened++;
        m->stats.connections++;
    }
    return rc;
}

static void router_message(void *owner, const struct proto_net_message *msg)
{
    struct sched_mesh *m = owner;
    uint64_t id = 0;
    enum sched_role role = sched_role_of_user(msg->user, &id);
    /* The roster of now: a handshake may be older than the line that was taken out. */
    if (role == SCHED_ROSTER_NONE || id == m->cfg.self ||
        sched_roster_role(m->cfg.roster, id) != role ||
        !sched_roster_lists(m->cfg.roster, id, msg->key)) {
        m->stats.denied++;
        return;
    }
    struct peer *p = need(m, id);
    if (p == NULL) {
        m->stats.full++;
        return;
    }
    p->back = msg->peer;
    p->has_back = true;
    (void)snprintf(p->back_key, sizeof p->back_key, "%s", msg->key);
    if (p->first != NULL) {
        flush(p);
    }
    received(m, id, role, msg);
}

/* Its connection to us is no more: what is sent from now on waits for one of ours. */
static void router_gone(void *owner, const struct proto_net_peer *back)
{
    struct sched_mesh *m = owner;
    for (uint32_t i = 0; i < m->n_peers; i++) {
        struct peer *p = m->peers[i];
        if (p->has_back && p->back.len == back->len &&
            memcmp(p->back.id, back->id, back->len) == 0) {
            p->has_back = false;
        }
    }
}

static const struct proto_net_ops router_ops = {
    .on_message = router_message, .on_gone = router_gone};

/* ---- now and then ---- */

/* With another key. What was not used for a while still counts as that. */
static void open_again(struct peer *p, unsigned key_at)
{
    uint64_t used_ns = p->used_ns;
    shut(p);
    p->key_at = key_at;
    (void)open_out(p);
    p->used_ns = used_ns;
}

static void look_at(struct peer *p, uint64_t now_ns)
{
    struct sched_mesh *m = p->mesh;
    drop_stale(p, now_ns);
    if (sched_roster_role(m->cfg.roster, p->id) == SCHED_ROSTER_NONE) {
        cut(p);
    }
    if (p->has_back && !sched_roster_lists(m->cfg.roster, p->id, p->back_key)) {
        p->has_back = false; /* who has that connection is not the node any more */
    }
    if (p->out == NULL) {
        return;
    }
    if (!sched_roster_lists(m->cfg.roster, p->id, p->key)) {
        open_again(p, 0);
        return;
    }
    if (now_ns - p->used_ns > ms(m->cfg.idle_ms)) {
        shut(p);
        m->stats.closed_idle++;
        return;
    }
    bool other = sched_roster_key(m->cfg.roster, p->id, 1) != NULL;
    if (!p->up && other && now_ns - p->opened_ns > ms(KEY_TRY_MS)) {
        open_again(p, p->key_at + 1);
    }
}

static void on_look(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop;
    (void)events;
    struct sched_mesh *m = w->data;
    uint64_t now_ns = base_clock_mono_ns();
    look_at_roster(m);
    for (uint32_t i = 0; i < m->n_peers; i++) {
        look_at(m->peers[i], now_ns);
    }
}

/* ---- life ---- */

int sched_mesh_create(
    struct sched_mesh **ret, const struct sched_mesh_cfg *cfg, struct base_error *err)
{
    struct sched_mesh *m = calloc(1, sizeof *m);
    if (m == NULL) {
        return base_fail(err, BASE_ENOMEM, "mesh: out of memory");
    }
    m->cfg = *cfg;
    m->key = *cfg->key;
    m->peers = calloc(cfg->peers_max, sizeof(struct peer *));
    struct sched_mem mem = {0};
    sched_map_init(&m->by_id, cfg->peers_max, &mem);
    m->map_mem = aligned_alloc(16, mem.used);
    if (m->peers == NULL || m->map_mem == NULL) {
        sched_mesh_destroy(m);
        return base_fail(err, BASE_ENOMEM, "mesh: out of memory");
    }
    mem = (struct sched_mem){.base = m->map_mem, .size = mem.used};
    sched_map_init(&m->by_id, cfg->peers_max, &mem);
    struct proto_net_options opt = {.class = PROTO_NET_NODE,
        .endpoint = cfg->endpoint,
        .self = &m->key,
        .ops = &router_ops,
        .owner = m};
    int rc = proto_net_bind(cfg->net, &opt, &m->router, err);
    if (rc != 0) {
        sched_mesh_destroy(m);
        return rc;
    }
    ev_timer_init(&m->look, on_look, LOOK_MS / 1e3, LOOK_MS / 1e3);
    m->look.data = m;
    ev_timer_start(cfg->loop, &m->look);
    *ret = m;
    return 0;
}

void sched_mesh_destroy(struct sched_mesh *m)
{
    if (m == NULL) {
        return;
    }
    if (m->router != NULL) {
        ev_timer_stop(m->cfg.loop, &m->look);
        proto_net_close(m->router);
    }
    for (uint32_t i = 0; i < m->n_peers; i++) {
        struct peer *p = m->peers[i];
        shut(p);
        while (p->first != NULL) {
            drop_first(p);
        }
        free(p);
    }
    explicit_bzero(&m->key, sizeof m->key);
    free(m->peers);
    free(m->map_mem);
    free(m);
}

const char *sched_mesh_endpoint(const struct sched_mesh *m)
{
    return proto_net_endpoint(m->router);
}

int sched_mesh_address(struct sched_mesh *m, uint64_t id, const char *endpoint)
{
    if (find(m, id) == NULL && sched_roster_role(m->cfg.roster, id) == SCHED_ROSTER_NONE) {
        return BASE_ENOTFOUND;
    }
    struct peer *p = need(m, id);
    if (p == NULL || strlen(endpoint) >= ENDPOINT_MAX) {
        return p == NULL ? BASE_EFULL : BASE_EINVAL;
    }
    if (strcmp(p->endpoint, endpoint) != 0) {
        shut(p);
        (void)base_text_copy(p->endpoint, sizeof p->endpoint, endpoint);
        if (p->first != NULL) {
            (void)open_out(p);
        }
    }
    return 0;
}

bool sched_mesh_knows(const struct sched_mesh *m, uint64_t id)
{
    const struct peer *p = find(m, id);
    return p != NULL && p->endpoint[0] != '\0';
}

void sched_mesh_drop(struct sched_mesh *m, uint64_t id)
{
    struct peer *p = find(m, id);
    if (p != NULL) {
        shut(p);
        p->has_back = false;
    }
}

int sched_mesh_send(struct sched_mesh *m, uint64_t to, enum sched_mesh_channel channel,
    const uint8_t *bytes, size_t n)
{
    REQUIRE(to != m->cfg.self);
    if (n > PROTO_NODE_BYTES_MAX - 64) {
        return BASE_ETOOBIG;
    }
    struct peer *p = find(m, to);
    if (p == NULL) {
        m->stats.no_address++;
        return BASE_ENOTFOUND;
    }
    int rc = put(p, channel, bytes, n);
    if (rc != BASE_ECLOSED) {
        return rc;
    }
    if (p->out == NULL && open_out(p) != 0) {
        m->stats.no_address++;
        return BASE_ENOTFOUND;
    }
    p->used_ns = base_clock_mono_ns();
    return hold(p, channel, bytes, n);
}

void sched_mesh_stats(const struct sched_mesh *m, struct sched_mesh_stats *ret)
{
    struct proto_net_stats net;
    proto_net_stats(m->cfg.net, &net);
    *ret = m->stats;
    ret->late = net.late;
}
