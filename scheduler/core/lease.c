#include "scheduler/core/lease.h"

#include "scheduler/core/mutant.h"

void sched_lease_init(struct sched_lease *l, uint32_t run)
{
    memset(l, 0, sizeof *l);
    l->seq = (uint64_t)run << 32;
}

bool sched_lease_due(const struct sched_lease *l, const struct sched_env *e)
{
    return e->now_ns >= l->renew_at_ns;
}

void sched_lease_ask(
    struct sched_lease *l, const struct sched_env *e, const struct sched_m_lease *m)
{
    l->seq++;
    l->sent_ns[l->seq % SCHED_LEASE_SENT] = e->now_ns;
    l->renew_at_ns = e->now_ns + SCHED_MS(e->cfg->renew_ms);
    for (uint32_t i = 0; i < e->cfg->n_voters; i++) {
        struct sched_m_lease *out =
            &sched_fx_send(e->fx, SCHED_MSG_LEASE, e->cfg->voters[i])->lease;
        *out = *m;
        out->seq = l->seq;
    }
}

/* The time until which a majority of grants run: the majority-th largest of all. */
static uint64_t held_until(const struct sched_lease *l, const struct sched_cfg *c)
{
    uint64_t best = 0;
    for (uint32_t i = 0; i < c->n_voters; i++) {
        uint32_t as_long = 0;
        for (uint32_t k = 0; k < c->n_voters; k++) {
            as_long += l->until_ns[k] >= l->until_ns[i];
        }
        uint32_t need = MUTANT(21) ? 1 : c->n_voters / 2 + 1;
        if (as_long >= need && l->until_ns[i] > best) {
            best = l->until_ns[i];
        }
    }
    return best;
}

void sched_lease_page(const struct sched_lease *l, struct sched_env *e)
{
    bool member = sched_env_member(e);
    e->lease_ns = held_until(l, e->cfg);
    if (member && e->lease_ns == 0 && !MUTANT(56)) {
        return; /* what an earlier process of this life was granted still holds */
    }
    struct sched_fx_page *page = &sched_fx_add(e->fx, SCHED_FX_PAGE)->page;
    page->freeze_at_ns = member ? e->lease_ns : 0;
    if (MUTANT(4)) {
        page->freeze_at_ns = UINT64_MAX / 2;
    }
    page->kill_at_ns = page->freeze_at_ns + SCHED_MS(e->cfg->kill_ms) * (MUTANT(50) ? 100 : 1);
}

bool sched_lease_grant(
    struct sched_lease *l, struct sched_env *e, uint64_t voter, const struct sched_m_grant *m)
{
    bool remembered = m->seq <= l->seq && l->seq - m->seq < SCHED_LEASE_SENT && m->seq != 0;
    if (m->inc != e->me.inc || !remembered) {
        return false;
    }
    uint64_t start = MUTANT(22) ? e->now_ns : l->sent_ns[m->seq % SCHED_LEASE_SENT];
    uint64_t until = start + sched_cfg_hold_ns(e->cfg);
    for (uint32_t i = 0; i < e->cfg->n_voters; i++) {
        if (e->cfg->voters[i] == voter && until > l->until_ns[i]) {
            l->until_ns[i] = until;
            sched_lease_page(l, e);
        }
    }
    return true;
}
