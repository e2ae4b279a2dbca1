#include "scheduler/core/cool.h"

#include "scheduler/core/mutant.h"

enum {
    BATCH = 64,
    STOPS_MAX = 32,
    REAPS_MAX = 8,
    FORGETS_MAX = 64,
    PEERS_MAX = 12,
    GRACE_MS = 2000
};

static uint64_t slack_ns(uint32_t cooldown_ms)
{
    return SCHED_MS(cooldown_ms / 8 > 5000 ? cooldown_ms / 8 : 5000);
}

struct refresh {
    uint64_t node;
    struct sched_m_timers batch;
    struct sched_timer *timers;
};

struct refreshes {
    struct refresh peer[PEERS_MAX];
    uint32_t n;
};

static bool add_timer(
    struct sched_env *e, struct refreshes *all, uint64_t node, const struct sched_timer *t)
{
    uint32_t i = 0;
    while (i < all->n && all->peer[i].node != node) {
        i++;
    }
    struct refresh *r = &all->peer[i];
    if (i == PEERS_MAX || (i < all->n && r->batch.n == BATCH)) {
        return false;
    }
    if (i == all->n) {
        struct sched_timer *room = sched_fx_bytes(e->fx, BATCH * (uint32_t)sizeof *room);
        if (room == NULL) {
            return false;
        }
        *r = (struct refresh){.node = node, .timers = room};
        all->n++;
    }
    r->timers[r->batch.n++] = *t;
    return true;
}

/* Tells the group when its idea of the deadline is too far off. */
static void refresh(struct sched_env *e, struct refreshes *all, struct sched_sess_row *row)
{
    uint64_t deadline = row->last_ns + SCHED_MS(row->rec.cooldown_ms);
    uint64_t known = row->reported ? row->told_ns : row->born_ns + SCHED_MS(row->rec.cooldown_ms);
    if (deadline - known <= slack_ns(row->rec.cooldown_ms) || deadline <= e->now_ns) {
        return;
    }
    struct sched_timer t = {.key = row->key,
        .epoch = row->rec.epoch,
        .remaining_ms = (uint32_t)((deadline - e->now_ns) / 1000000u)};
    struct sched_group g;
    sched_env_group(e, sched_key_part(row->key, e->cfg->pbits), &g);
    for (uint32_t i = 0; i < g.n; i++) {
        if (!add_timer(e, all, g.seat[i].node, &t)) {
            return;
        }
    }
    row->reported = true;
    row->told_ns = deadline;
}

static bool over(const struct sched_env *e, const struct sched_sess_row *row)
{
    bool cools = row->rec.cooldown_ms != SCHED_NEVER_MS;
    bool ages = e->cfg->max_alive_ms != SCHED_NEVER_MS;
    bool idle = cools && row->running == 0 && !MUTANT(51) &&
                e->now_ns >= row->last_ns + SCHED_MS(row->rec.cooldown_ms) / (MUTANT(36) ? 2 : 1);
    return idle || (ages && e->now_ns >= row->born_ns + SCHED_MS(e->cfg->max_alive_ms));
}

void sched_cool_owner(struct sched_cool *c, struct sched_env *e, struct sched_sess *sess)
{
    struct refreshes all = {.n = 0};
    uint32_t n = sched_cfg_scan(e->cfg->sess_max), stops = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct sched_sess_row *row = &sess->rows[c->scan_sess];
        c->scan_sess = (c->scan_sess + 1) % e->cfg->sess_max;
        if (row->state != SCHED_SESS_LIVE) {
            continue;
        }
        if (over(e, row) && stops < STOPS_MAX) {
            sched_sess_stop(e, row);
            stops++;
        } else {
            refresh(e, &all, row);
        }
    }
    for (uint32_t i = 0; i < all.n; i++) {
        struct sched_m_timers *out =
            &sched_fx_send(e->fx, SCHED_MSG_TIMERS, all.peer[i].node)->timers;
        *out = all.peer[i].batch;
        out->timers = all.peer[i].timers;
    }
}

/* A copy of a partition that is not ours any more; the new group has settled. */
static bool left_behind(const struct sched_env *e, const struct sched_reg *reg, uint32_t part)
{
    const struct sched_part *p = &reg->parts[part];
    return p->settled != p->era && e->view->num > p->era;
}

void sched_cool_replica(struct sched_env *e, struct sched_reg *reg, struct sched_coord *coord)
{
    uint32_t n = sched_cfg_scan(e->cfg->regs_max), reaps = 0, forgets = 0;
    for (uint32_t i = 0; i < n && forgets < FORGETS_MAX && reaps < REAPS_MAX; i++) {
        struct sched_reg_row *row = &reg->rows[reg->scan];
        reg->scan = (reg->scan + 1) % e->cfg->regs_max;
        if (!row->used) {
            continue;
        }
        if (left_behind(e, reg, row->part)) {
            sched_reg_forget(reg, e, row);
            forgets++;
        } else if (e->now_ns < row->due_ns || !sched_reg_ready(reg, row->part)) {
            continue;
        } else if (row->rec.state != SCHED_REC_LIVE) {
            sched_reg_forget(reg, e, row);
            forgets++;
        } else {
            row->due_ns = e->now_ns + slack_ns(row->rec.cooldown_ms) +
                          base_hash_rng_below(&e->rng, SCHED_MS(GRACE_MS));
            if (!MUTANT(57)) {
                sched_coord_reap(coord, e, row->key);
            }
            reaps++;
        }
    }
}

void sched_cool_refresh(struct sched_env *e, struct sched_reg *reg, const struct sched_msg *msg)
{
    const struct sched_m_timers *m = &msg->timers;
    for (uint32_t i = 0; i < m->n && i < SCHED_TIMERS_MAX; i++) {
        struct sched_reg_row *row = sched_reg_find(reg, m->timers[i].key);
        if (row != NULL && row->rec.state == SCHED_REC_LIVE &&
            row->rec.epoch == m->timers[i].epoch) {
            row->due_ns = e->now_ns + SCHED_MS(m->timers[i].remaining_ms) +
                          slack_ns(row->rec.cooldown_ms) + SCHED_MS(GRACE_MS);
        }
    }
}
