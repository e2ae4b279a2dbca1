#include "scheduler/core/spill.h"

enum {
    RANDOM_TRIES = 16,
    EVEN_CLUSTER = 4, /* a nearly empty cluster is even enough: a quarter of little is nothing */
    SLACK = 16,       /* nor is this part of a member's places worth another way */
    GROWTH = 4,       /* so large a part may be taken before the next mean is known */
};

void sched_spill_learn(struct sched_spill *s, const struct sched_m_grant *m, uint32_t active)
{
    s->mean = m->mean;
    s->then = active;
    s->n = m->n_samples < SCHED_SPILL_SAMPLES_MAX ? m->n_samples : SCHED_SPILL_SAMPLES_MAX;
    for (uint32_t i = 0; i < s->n; i++) {
        s->samples[i] = m->samples[i];
    }
}

bool sched_spill_here(const struct sched_spill *s, uint32_t active, uint32_t places)
{
    if (active >= places) {
        return false;
    }
    uint32_t then = active < s->then ? active : s->then;
    uint32_t more = s->mean / 4 > places / SLACK ? s->mean / 4 : places / SLACK;
    bool grows = then < s->mean + more && active - then <= places / GROWTH;
    return s->mean < EVEN_CLUSTER || active < s->mean + more || grows;
}

static bool usable(const struct sched_env *e, const struct sched_member *m)
{
    return m != NULL && (m->flags & SCHED_MEMBER_IN) != 0 && m->weight > 0 && m->node != e->me.node;
}

static uint32_t add(struct sched_host *out, uint32_t n, const struct sched_member *m)
{
    if (n > 0 && out[0].node == m->node) {
        return n;
    }
    out[n] = (struct sched_host){m->node, m->inc};
    return n + 1;
}

uint32_t sched_spill_pick(
    const struct sched_spill *s, struct sched_env *e, struct sched_host out[SCHED_SPILL_CHOICES])
{
    uint32_t n = 0, at = s->n > 0 ? (uint32_t)base_hash_rng_below(&e->rng, s->n) : 0;
    for (uint32_t i = 0; i < s->n && n < SCHED_SPILL_CHOICES; i++) {
        const struct sched_member *m = sched_view_find(e->view, s->samples[(at + i) % s->n].node);
        n = usable(e, m) ? add(out, n, m) : n;
    }
    for (uint32_t i = 0; i < RANDOM_TRIES && n < SCHED_SPILL_CHOICES && e->view->n > 1; i++) {
        const struct sched_member *m = &e->view->m[base_hash_rng_below(&e->rng, e->view->n)];
        n = usable(e, m) ? add(out, n, m) : n;
    }
    return n;
}
