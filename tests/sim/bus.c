#include <stdlib.h>

#include "proto/base/assert.h"
#include "proto/base/err.h"
#include "scheduler/core/allow.h"
#include "tests/sim/bus.h"
#include "tests/sim/catalog.h"
#include "tests/sim/change.h"
#include "tests/sim/check.h"

/* The rule of a directed schedule that concerns this message, or NULL. */
static const struct sim_fault *rule(
    const struct sim *s, const struct sim_event *ev, uint8_t type, uint8_t kind)
{
    for (uint32_t i = 0; i < s->n_drops; i++) {
        const struct sim_fault *f = s->drops[i];
        if (f->kind == kind && (f->a == SIM_ANY || f->a == ev->arg) &&
            (f->b == SIM_ANY || f->b == ev->node) && (f->type == 0 || f->type == type)) {
            return f;
        }
    }
    return NULL;
}

static bool cut_off(const struct sim *s, const struct sim_event *ev)
{
    uint32_t from = ev->arg, to = ev->node;
    bool sides = s->cut && ((s->cut_a >> (from % 64)) & 1) != ((s->cut_a >> (to % 64)) & 1);
    return sides || (s->n_links > 0 && s->links[(size_t)from * s->n_nodes + to] != 0) ||
           rule(s, ev, ev->data->type, SIM_F_DROP) != NULL;
}

static uint64_t delay_ns(struct sim *s)
{
    if (s->calm) {
        return 300000 + sim_rand(s, 2 * SIM_MS);
    }
    if (sim_chance(s, s->opt.late_ppm)) {
        return SIM_S + sim_rand(s, 11 * SIM_S);
    }
    if (sim_chance(s, s->opt.slow_ppm)) {
        return 3 * SIM_MS + sim_rand(s, 400 * SIM_MS);
    }
    return 300000 + sim_rand(s, 3 * SIM_MS);
}

void sim_packet_drop(struct sim_packet *p)
{
    if (p != NULL && --p->refs == 0) {
        free(p);
    }
}

static void launch(struct sim *s, const struct sim_event *ev, uint64_t at_ns)
{
    ev->data->refs++;
    sim_event(s, ev, at_ns);
}

/* Real messages as a start for the decoder's fuzz test. */
static void keep(const struct sim *s, const struct sim_packet *p)
{
    static bool have[SCHED_MSG_TYPES];
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", s->opt.corpus, sched_msg_name(p->type));
    FILE *f = have[p->type] ? NULL : fopen(path, "we");
    if (f != NULL) {
        have[p->type] = true;
        (void)fwrite(p->bytes, 1, p->len, f);
        (void)fclose(f);
    }
}

static uint64_t hash_of(const struct sim_packet *p)
{
    uint64_t h = p->type, w;
    for (uint32_t i = 0; i < p->len; i += 8) {
        w = 0;
        memcpy(&w, p->bytes + i, p->len - i < 8 ? p->len - i : 8);
        h = (h ^ w) * UINT64_C(0x9e3779b97f4a7c15);
        h ^= h >> 29;
    }
    return h;
}

/* S18: in the version of the sender's view, as the shells do (scheduler/io/cluster.c). */
static uint8_t version_of(const struct sim_node *n)
{
    const struct sched_view *v = n->kind == SIM_VOTER  ? &n->voter->known
                                 : n->kind == SIM_HOST ? n->host->env.view
                                                       : n->gw->view;
    return v->num == 0 ? n->speaks.min : sched_view_version(v);
}

static struct sim_packet *encode(
    struct sim *s, const struct sim_node *from, const struct sched_msg *m)
{
    int len = sched_wire_encode_as(m, version_of(from), s->buf, SCHED_WIRE_BYTES_MAX);
    if (len == BASE_EVERSION && m->type >= SCHED_MSG_CSET) {
        return NULL; /* of who has seen a later view than this voter */
    }
    if (len < 0) {
        sim_bad(s, "S13 message %s cannot be encoded: %d", sched_msg_name(m->type), len);
        return NULL;
    }
    struct sim_packet *p = malloc(sizeof *p + (uint32_t)len);
    REQUIRE(p != NULL);
    *p = (struct sim_packet){.refs = 1, .len = (uint32_t)len, .type = m->type};
    memcpy(p->bytes, s->buf, p->len);
    p->hash = hash_of(p);
    if (s->opt.corpus != NULL) {
        keep(s, p);
    }
    return p;
}

/* NULL when it cannot be. One reference is the caller's. Views are sent to everybody by everybody;
 * that those of one number are the same was checked when they were learned. */
static struct sim_packet *pack(
    struct sim *s, const struct sim_node *from, const struct sched_msg *m)
{
    if (m->type != SCHED_MSG_VIEW || m->view.view->num < s->last_view_num) {
        return encode(s, from, m);
    }
    if (m->view.view->num > s->last_view_num || s->last_view == NULL) {
        sim_packet_drop(s->last_view);
        s->last_view = encode(s, from, m);
        s->last_view_num = m->view.view->num;
    }
    if (s->last_view != NULL) {
        s->last_view->refs++;
    }
    return s->last_view;
}

static void post(struct sim *s, struct sim_packet *p, uint32_t from, uint32_t to)
{
    struct sim_event ev = {.kind = SIM_E_MSG, .node = to, .arg = from, .data = p};
    s->stat.messages++;
    s->stat.bytes += p->len;
    if (to == from) {
        launch(s, &ev, s->now_ns); /* a process does not lose what it says to itself */
        return;
    }
    if (!s->calm && sim_chance(s, s->opt.loss_ppm)) {
        return;
    }
    const struct sim_fault *hold = rule(s, &ev, p->type, SIM_F_HOLD);
    if (hold != NULL) {
        launch(s, &ev, (hold->at_ms + hold->dur_ms) * SIM_MS);
        return;
    }
    launch(s, &ev, s->now_ns + delay_ns(s));
    if (!s->calm && sim_chance(s, s->opt.dup_ppm)) {
        launch(s, &ev, s->now_ns + delay_ns(s));
    }
}

/* The door of a real node would drop it (scheduler/io/cluster.c). */
static void check_allowed(struct sim *s, const struct sim_node *from, const struct sched_msg *m)
{
    static const uint8_t parts[] = {[SIM_VOTER] = SCHED_PART_VOTER,
        [SIM_HOST] = SCHED_PART_WORKER,
        [SIM_GATEWAY] = SCHED_PART_GATEWAY};
    if (!sched_msg_allowed(m->type, parts[from->kind])) {
        sim_bad(s, "S13 %s is not for a node of kind %u to say", sched_msg_name(m->type),
            (unsigned)from->kind);
    }
}

void sim_send(struct sim *s, struct sim_node *from, const struct sched_msg *m)
{
    check_allowed(s, from, m);
    struct sim_node *to = sim_node_of(s, m->to);
    if (to == NULL) {
        sim_bad(s, "S13 message to unknown node %llu", (unsigned long long)m->to);
        return;
    }
    struct sim_packet *p = pack(s, from, m);
    if (p != NULL) {
        post(s, p, (uint32_t)(from - s->nodes), (uint32_t)(to - s->nodes));
        sim_packet_drop(p);
    }
}

static void to_all(struct sim *s, const struct sim_node *from, struct sim_packet *p)
{
    for (uint32_t i = 0; p != NULL && i < s->n_nodes; i++) {
        if (&s->nodes[i] != from) {
            post(s, p, (uint32_t)(from - s->nodes), i);
        }
    }
    sim_packet_drop(p);
}

void sim_push(struct sim *s, struct sim_node *from, const struct sched_msg *m)
{
    check_allowed(s, from, m);
    to_all(s, from, pack(s, from, m));
}

void sim_forge(struct sim *s, struct sim_node *from, const struct sched_view *v)
{
    struct sched_msg m = {.type = SCHED_MSG_VIEW, .view = {v}};
    to_all(s, from, encode(s, from, &m));
}

static bool unpack(struct sim *s, struct sim_packet *p, struct sched_msg *m)
{
    if (p->view != NULL) {
        *m = (struct sched_msg){.type = p->type, .view = {p->view}};
        return true;
    }
    if (sched_wire_decode(p->bytes, p->len, &s->room, m) != 0) {
        sim_bad(s, "S13 message %s cannot be decoded", sched_msg_name(p->type));
        return false;
    }
    if (m->type == SCHED_MSG_VIEW) {
        m->view.view = p->view = sim_intern(s, m->view.view);
    }
    return true;
}

void sim_deliver(struct sim *s, struct sim_event *ev)
{
    struct sim_packet *p = ev->data;
    struct sim_node *n = &s->nodes[ev->node];
    bool lost = !n->up || (ev->arg != ev->node && cut_off(s, ev));
    if (!lost && n->paused) {
        sim_event(s, ev, n->resume_ns + sim_rand(s, 10 * SIM_MS));
        return;
    }
    if (!lost && p->bytes[0] > n->speaks.max) {
        sim_check_unread(s, n, p);
        lost = true;
    }
    struct sched_msg m;
    if ((!lost || s->opt.trace) && unpack(s, p, &m)) {
        m.from = s->nodes[ev->arg].id;
        m.to = n->id;
        if (s->opt.trace) {
            sim_trace(s, &m, lost ? " LOST" : "");
        }
        if (!lost) {
            uint64_t who = (uint64_t)ev->arg << 20 | ev->node;
            s->hash = base_hash_mix64(s->hash ^ s->now_ns ^ p->hash ^ who << 24);
            struct sched_event in = {.kind = SCHED_EV_MSG, .msg = &m};
            if (!sim_cat_takes(s, n, &m) && !sim_catalog_take(s, n, &m)) {
                sim_step(s, n, &in);
            }
        }
    }
    sim_packet_drop(p);
}
