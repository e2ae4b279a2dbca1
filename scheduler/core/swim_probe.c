#include "proto/base/assert.h"
#include "scheduler/core/swim_impl.h"

/* Probing: one target per period, a direct ping, then relays; what the outcome says about the
 * target and about this node. */

void sched_swim_probe_health(struct sched_swim *s, int delta)
{
    int health = (int)s->health + (MUTANT(107) ? 0 : delta); /* never in doubt of itself */
    int max = s->p.health_max;
    s->health = (uint32_t)(health < 0 ? 0 : health > max ? max : health);
}

/* A node in doubt of itself is slower to accuse. */
static uint64_t scaled_us(const struct sched_swim *s, uint64_t us)
{
    return us * (s->health + 1);
}

static uint64_t ping_timeout_us(const struct sched_swim *s)
{
    uint64_t us = UINT64_C(3) * s->rtt_us;
    uint64_t min = s->p.ping_min_ms * UINT64_C(1000), max = s->p.ping_max_ms * UINT64_C(1000);
    return us < min ? min : us > max ? max : us;
}

static void note_rtt(struct sched_swim *s, uint64_t us)
{
    int64_t sample = us < UINT32_MAX / 4 ? (int64_t)us : UINT32_MAX / 4;
    s->rtt_us = (uint32_t)((int64_t)s->rtt_us + (sample - (int64_t)s->rtt_us) / 8);
}

static void ask_relays(struct sched_swim *s)
{
    struct swim_probe *pr = &s->probe;
    pr->asked = true;
    uint16_t skip[1 + 4] = {pr->slot};
    for (unsigned i = 0; i < s->p.indirect; i++) {
        uint16_t relay = sched_swim_table_random(s, skip, i + 1);
        if (relay == SWIM_NONE) {
            break;
        }
        skip[i + 1] = relay;
        pr->relays[i] = sched_swim_table_announce(s, relay)->id;
        pr->relay_n++;
        sched_swim_send_packet(s, &(struct swim_out){.to = pr->relays[i],
                                      .target = pr->id,
                                      .channel = SCHED_SWIM_UDP,
                                      .type = SCHED_SWIM_PING_REQ,
                                      .seq = pr->seq});
    }
    if (s->p.ctl_ping) {
        sched_swim_send_packet(s,
            &(struct swim_out){
                .to = pr->id, .channel = SCHED_SWIM_CTL, .type = SCHED_SWIM_PING, .seq = pr->seq});
    }
}

static void ping(struct sched_swim *s, uint64_t to, uint16_t seq)
{
    sched_swim_send_packet(
        s, &(struct swim_out){
               .to = to, .channel = SCHED_SWIM_UDP, .type = SCHED_SWIM_PING, .seq = seq});
}

/* A lost datagram is no sign of death: the ping goes out again, a few times in what is left of the
 * period. */
static uint64_t retry_us(const struct swim_probe *pr, const struct sched_swim *s)
{
    if (pr->retries >= s->p.retries) {
        return SWIM_NEVER;
    }
    return pr->ping_due_us + (pr->end_us - pr->ping_due_us) / s->p.retries * pr->retries;
}

/* The target may have been forgotten and its slot given away while the probe ran. */
static bool target_stays(const struct sched_swim *s)
{
    const struct swim_probe *pr = &s->probe;
    const struct swim_peer *p = &s->peers[pr->slot];
    return p->state != SCHED_PEER_NONE && sched_swim_table_announce(s, pr->slot)->id == pr->id;
}

bool sched_swim_probe_deaf(const struct sched_swim *s, uint64_t since_us)
{
    return !MUTANT(114) && /* silence is always the others' fault */
           sched_swim_table_present(s) > 2 && s->heard_us < since_us &&
           s->now_us - s->heard_us < s->p.deaf_ms * UINT64_C(1000);
}

static void probe_failed(struct sched_swim *s)
{
    struct swim_probe *pr = &s->probe;
    s->stats.probes_failed++;
    if (sched_swim_probe_deaf(s, pr->sent_us)) {
        sched_swim_probe_health(s, 1);
        return;
    }
    if (s->p.nack && pr->relay_n > 0) {
        sched_swim_probe_health(s, MUTANT(108) ? 0 : pr->relay_n - pr->nacks); /* silence is fine */
    } else {
        sched_swim_probe_health(s, 1);
    }
    if (!target_stays(s) || s->peers[pr->slot].inc != pr->inc) {
        return; /* it refuted in the meantime: it lives */
    }
    s->stats.suspicions++;
    sched_swim_claim_suspect(
        s, pr->slot, pr->inc + (MUTANT(109) ? 1 : 0), s->self.id, SCHED_SWIM_BY_PROBE);
}

static void probe_begin(struct sched_swim *s)
{
    struct swim_probe *pr = &s->probe;
    *pr = (struct swim_probe){.end_us = s->now_us + scaled_us(s, s->p.period_ms * UINT64_C(1000))};
    uint16_t slot = sched_swim_table_target(s);
    if (slot == SWIM_NONE) {
        return;
    }
    pr->active = true;
    pr->slot = slot;
    pr->id = sched_swim_table_announce(s, slot)->id;
    pr->inc = s->peers[slot].inc;
    pr->seq = ++s->seq;
    pr->sent_us = s->now_us;
    pr->ping_due_us = s->now_us + scaled_us(s, ping_timeout_us(s));
    s->stats.probes++;
    ping(s, pr->id, pr->seq);
}

static void relays_tick(struct sched_swim *s)
{
    for (unsigned i = 0; i < SWIM_RELAYS_MAX && s->relay_n > 0; i++) {
        struct swim_relay *r = &s->relays[i];
        if (r->due_us != 0 && r->again_us <= s->now_us && s->now_us < r->due_us) {
            r->again_us = SWIM_NEVER;
            ping(s, r->target, r->seq);
        }
        if (r->due_us == 0 || r->due_us > s->now_us) {
            continue;
        }
        r->due_us = 0;
        s->relay_n--;
        sched_swim_send_packet(s, &(struct swim_out){.to = r->origin,
                                      .target = r->target,
                                      .channel = SCHED_SWIM_UDP,
                                      .type = SCHED_SWIM_NACK,
                                      .seq = r->origin_seq});
    }
}

void sched_swim_probe_tick(struct sched_swim *s)
{
    relays_tick(s);
    struct swim_probe *pr = &s->probe;
    if (pr->active && !pr->acked && !pr->asked && s->now_us >= pr->ping_due_us) {
        ask_relays(s);
    }
    if (pr->active && !pr->acked && s->now_us >= retry_us(pr, s)) {
        pr->retries++;
        ping(s, pr->id, pr->seq);
    }
    if (s->now_us < pr->end_us || s->leaving) {
        return;
    }
    if (pr->active && pr->acked) {
        sched_swim_probe_health(s, -1);
    } else if (pr->active) {
        probe_failed(s);
    }
    sched_swim_claim_sweep(s);
    probe_begin(s);
}

uint64_t sched_swim_probe_due(const struct sched_swim *s)
{
    const struct swim_probe *pr = &s->probe;
    uint64_t due = s->leaving ? SWIM_NEVER : pr->end_us;
    if (pr->active && !pr->acked && !pr->asked && pr->ping_due_us < due) {
        due = pr->ping_due_us;
    }
    if (pr->active && !pr->acked && retry_us(pr, s) < due) {
        due = retry_us(pr, s);
    }
    for (unsigned i = 0; i < SWIM_RELAYS_MAX && s->relay_n > 0; i++) {
        const struct swim_relay *r = &s->relays[i];
        if (r->due_us != 0) {
            uint64_t next = r->again_us < r->due_us ? r->again_us : r->due_us;
            due = next < due ? next : due;
        }
    }
    return due;
}

/* The kernel of the target says that nobody listens there. It may be forged, so it does no more
 * than spare the rest of the period. */
void sched_swim_probe_refused(struct sched_swim *s, uint64_t id)
{
    struct swim_probe *pr = &s->probe;
    if (!s->p.refused_hint || !pr->active || pr->acked || pr->id != id || !target_stays(s) ||
        s->peers[pr->slot].inc != pr->inc) {
        return;
    }
    pr->active = false;
    s->stats.probes_failed++;
    s->stats.suspicions++;
    sched_swim_claim_suspect(s, pr->slot, pr->inc, s->self.id, SCHED_SWIM_BY_PROBE);
}

static bool is_relay(const struct swim_probe *pr, uint64_t id)
{
    for (unsigned i = 0; i < pr->relay_n; i++) {
        if (pr->relays[i] == id) {
            return true;
        }
    }
    return false;
}

void sched_swim_probe_on_ack(struct sched_swim *s, uint64_t from, const struct sched_swim_packet *p)
{
    struct swim_probe *pr = &s->probe;
    if (pr->active && (p->seq == pr->seq || MUTANT(110)) && /* any ack will do */
        (from == pr->id || (p->target == pr->id && is_relay(pr, from)))) {
        if (from == pr->id && !pr->asked && !pr->acked) {
            note_rtt(s, s->now_us - pr->sent_us);
        }
        pr->acked = true;
    }
    for (unsigned i = 0; i < SWIM_RELAYS_MAX && s->relay_n > 0; i++) {
        struct swim_relay *r = &s->relays[i];
        if (r->due_us == 0 || r->target != from || r->seq != p->seq || p->target != 0) {
            continue;
        }
        r->due_us = 0;
        s->relay_n--;
        sched_swim_send_packet(s, &(struct swim_out){.to = r->origin,
                                      .target = r->target,
                                      .channel = SCHED_SWIM_UDP,
                                      .type = SCHED_SWIM_ACK,
                                      .seq = r->origin_seq});
    }
    if (p->flags & SCHED_SWIM_WHO) {
        sched_swim_send_packet(s, &(struct swim_out){.to = from,
                                      .channel = SCHED_SWIM_UDP,
                                      .type = SCHED_SWIM_GOSSIP,
                                      .reply = true,
                                      .self_first = true});
    }
}

void sched_swim_probe_on_nack(
    struct sched_swim *s, uint64_t from, const struct sched_swim_packet *p)
{
    struct swim_probe *pr = &s->probe;
    if (pr->active && p->seq == pr->seq && p->target == pr->id && is_relay(pr, from) &&
        pr->nacks < pr->relay_n) {
        pr->nacks++;
    }
}

void sched_swim_probe_on_ping_req(
    struct sched_swim *s, uint64_t from, const struct sched_swim_packet *p)
{
    struct swim_relay *free = NULL;
    for (unsigned i = 0; i < SWIM_RELAYS_MAX; i++) {
        struct swim_relay *r = &s->relays[i];
        if (r->due_us == 0) {
            free = r;
        } else if (r->origin == from && r->origin_seq == p->seq) {
            return; /* the same request again */
        }
    }
    if (free == NULL || p->target == 0 || p->target == s->self.id || p->target == from ||
        sched_swim_table_find(s, p->target) == SWIM_NONE) {
        return;
    }
    *free = (struct swim_relay){.origin = from,
        .target = p->target,
        .due_us = s->now_us + ping_timeout_us(s),
        .again_us = s->p.retries > 0 ? s->now_us + ping_timeout_us(s) / 2 : SWIM_NEVER,
        .origin_seq = p->seq,
        .seq = ++s->seq};
    s->relay_n++;
    ping(s, p->target, free->seq);
}
