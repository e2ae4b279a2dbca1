#include <stdlib.h>

#include "proto/base/assert.h"
#include "tests/sim/check.h"

/* The rule of a directed schedule that concerns this message, or NULL. */
static const struct sim_fault *rule(const struct sim *s, const struct sim_packet *p, uint8_t kind)
{
    for (uint32_t i = 0; i < s->n_drops; i++) {
        const struct sim_fault *f = s->drops[i];
        if (f->kind == kind && (f->a == SIM_ANY || f->a == p->from) &&
            (f->b == SIM_ANY || f->b == p->to) && (f->type == 0 || f->type == p->type)) {
            return f;
        }
    }
    return NULL;
}

static bool cut_off(const struct sim *s, const struct sim_packet *p)
{
    bool sides = s->cut && ((s->cut_a >> (p->from % 64)) & 1) != ((s->cut_a >> (p->to % 64)) & 1);
    return sides || (s->n_links > 0 && s->links[(size_t)p->from * s->n_nodes + p->to] != 0) ||
           rule(s, p, SIM_F_DROP) != NULL;
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

static void launch(struct sim *s, const struct sim_packet *p, uint64_t at_ns)
{
    struct sim_packet *copy = malloc(sizeof *copy + p->len);
    REQUIRE(copy != NULL);
    memcpy(copy, p, sizeof *copy + p->len);
    struct sim_event ev = {.kind = SIM_E_MSG, .node = p->to, .data = copy};
    sim_event(s, &ev, at_ns);
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

void sim_send(struct sim *s, struct sim_node *from, const struct sched_msg *m)
{
    struct sim_node *to = sim_node_of(s, m->to);
    if (to == NULL) {
        sim_bad(s, "S13 message to unknown node %llu", (unsigned long long)m->to);
        return;
    }
    struct sim_packet *p = (struct sim_packet *)(void *)s->buf;
    int len = sched_wire_encode(m, p->bytes, SCHED_WIRE_BYTES_MAX - sizeof *p);
    if (len < 0) {
        sim_bad(s, "S13 message %s cannot be encoded: %d", sched_msg_name(m->type), len);
        return;
    }
    p->from = (uint32_t)(from - s->nodes);
    p->to = (uint32_t)(to - s->nodes);
    p->len = (uint32_t)len;
    p->type = m->type;
    s->stat.messages++;
    s->stat.bytes += p->len;
    if (s->opt.corpus != NULL) {
        keep(s, p);
    }
    if (to == from) {
        launch(s, p, s->now_ns); /* a process does not lose what it says to itself */
        return;
    }
    if (!s->calm && sim_chance(s, s->opt.loss_ppm)) {
        return;
    }
    const struct sim_fault *hold = rule(s, p, SIM_F_HOLD);
    if (hold != NULL) {
        launch(s, p, (hold->at_ms + hold->dur_ms) * SIM_MS);
        return;
    }
    launch(s, p, s->now_ns + delay_ns(s));
    if (!s->calm && sim_chance(s, s->opt.dup_ppm)) {
        launch(s, p, s->now_ns + delay_ns(s));
    }
}

static void mix(struct sim *s, const struct sim_packet *p)
{
    uint64_t h = s->hash ^ s->now_ns, w;
    h = base_hash_mix64(h ^ ((uint64_t)p->from << 40 | (uint64_t)p->to << 16 | p->type));
    for (uint32_t i = 0; i < p->len; i += 8) {
        w = 0;
        memcpy(&w, p->bytes + i, p->len - i < 8 ? p->len - i : 8);
        h = (h ^ w) * UINT64_C(0x9e3779b97f4a7c15);
        h ^= h >> 29;
    }
    s->hash = base_hash_mix64(h);
}

void sim_deliver(struct sim *s, struct sim_event *ev)
{
    struct sim_packet *p = ev->data;
    struct sim_node *n = &s->nodes[p->to];
    bool lost = !n->up || (p->from != p->to && cut_off(s, p));
    if (!lost && n->paused) {
        sim_event(s, ev, n->resume_ns + sim_rand(s, 10 * SIM_MS));
        return;
    }
    if (lost && !s->opt.trace) {
        free(p);
        return;
    }
    struct sched_msg m;
    if (sched_wire_decode(p->bytes, p->len, &s->room, &m) != 0) {
        sim_bad(s, "S13 message %s cannot be decoded", sched_msg_name(p->type));
        free(p);
        return;
    }
    m.from = s->nodes[p->from].id;
    m.to = n->id;
    if (s->opt.trace) {
        sim_trace(s, &m, lost ? " LOST" : "");
        if (lost) {
            free(p);
            return;
        }
    }
    mix(s, p);
    if (m.type == SCHED_MSG_VIEW) {
        m.view.view = sim_intern(s, m.view.view);
    }
    struct sched_event in = {.kind = SCHED_EV_MSG, .msg = &m};
    sim_step(s, n, &in);
    free(p);
}
