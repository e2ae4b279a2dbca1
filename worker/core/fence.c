#include "worker/core/fence.h"

#include <stddef.h>

#include "proto/base/clock.h"

enum { ALONE_LOOKS = 8 }; /* within the time that a worker may be silent */

static uint64_t since(uint64_t then, uint64_t now)
{
    return now > then ? now - then : 0;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void worker_fence_init(struct worker_fence *f, const struct worker_fence_clock *now, bool free)
{
    *f = (struct worker_fence){.verdict = WORKER_FENCE_FREEZE,
        .heard_ns = now->mono_ns,
        .frozen_ns = now->mono_ns,
        .free = free};
}

bool worker_fence_valid(const struct worker_fence_lease *l)
{
    return l->alone_ns > 0 &&
           (l->mode == WORKER_FENCE_NO_LEASE ||
               (l->mode == WORKER_FENCE_LEASE && l->kill_at_ns >= l->freeze_at_ns));
}

static void freeze(struct worker_fence *f, const struct worker_fence_clock *now)
{
    if (f->verdict != WORKER_FENCE_FREEZE) {
        f->verdict = WORKER_FENCE_FREEZE;
        f->frozen_ns = now->mono_ns;
    }
}

/* Nothing is known: stands still, and ends when the last word that was read would have ended it. */
static uint64_t look_blind(struct worker_fence *f, const struct worker_fence_clock *now)
{
    f->blind_ns = f->blind ? f->blind_ns : now->mono_ns;
    f->blind = true;
    bool over = f->leased
                    ? now->boot_ns >= f->kill_at_ns
                    : since(f->blind_ns, now->mono_ns) >= WORKER_FENCE_BLIND_MS * BASE_NS_PER_MS;
    freeze(f, now);
    if (over) {
        f->verdict = WORKER_FENCE_KILL;
    }
    return WORKER_FENCE_LOOK_MS * BASE_NS_PER_MS;
}

/* On time that somebody could have renewed in: a suspended machine loses no microVM. */
static uint64_t look_alone(struct worker_fence *f, const struct worker_fence_lease *l,
    const struct worker_fence_clock *now)
{
    uint64_t alone = since(f->heard_ns, now->mono_ns);
    if (alone >= l->alone_ns) {
        f->verdict = WORKER_FENCE_KILL;
        return 0;
    }
    f->verdict = WORKER_FENCE_RUN;
    /* A beat counts from the look that saw it, so looks must be close: what they are apart is how
     * much later than stated it may end. */
    uint64_t apart = l->alone_ns / ALONE_LOOKS;
    apart = apart > BASE_NS_PER_S ? apart : BASE_NS_PER_S;
    return least(l->alone_ns - alone, apart);
}

static uint64_t look_leased(struct worker_fence *f, const struct worker_fence_lease *l,
    const struct worker_fence_clock *now)
{
    if (now->boot_ns < l->freeze_at_ns) {
        f->verdict = WORKER_FENCE_RUN;
        return l->freeze_at_ns - now->boot_ns;
    }
    freeze(f, now);
    /* A machine that slept over both deadlines may still be a member: it stands still first, for
     * as long as a renewal takes. */
    uint64_t frozen = since(f->frozen_ns, now->mono_ns);
    uint64_t stay = least(WORKER_FENCE_RESUME_MS * BASE_NS_PER_MS, l->kill_at_ns - l->freeze_at_ns);
    if (now->boot_ns >= l->kill_at_ns && frozen >= stay) {
        f->verdict = WORKER_FENCE_KILL;
        return 0;
    }
    uint64_t look = WORKER_FENCE_LOOK_MS * BASE_NS_PER_MS;
    return now->boot_ns < l->kill_at_ns ? least(look, l->kill_at_ns - now->boot_ns)
                                        : least(look, stay - frozen);
}

/* The incarnation it was started under is over: its sessions may live elsewhere by now, so it must
 * not go on when the next incarnation gets a lease. */
static bool another_life(struct worker_fence *f, uint64_t epoch)
{
    if (epoch == 0 || f->epoch == epoch) {
        return false;
    }
    bool other = f->epoch != 0;
    f->epoch = other ? f->epoch : epoch;
    return other;
}

enum worker_fence_verdict worker_fence_look(struct worker_fence *f,
    const struct worker_fence_lease *l, const struct worker_fence_clock *now, uint64_t *ret_look_ns)
{
    *ret_look_ns = 0;
    if (f->verdict == WORKER_FENCE_KILL) {
        return WORKER_FENCE_KILL;
    }
    if (l == NULL || !worker_fence_valid(l)) {
        *ret_look_ns = look_blind(f, now);
        return f->verdict;
    }
    if (!f->seen || f->beat != l->beat) {
        f->heard_ns = now->mono_ns;
        f->beat = l->beat;
    }
    f->seen = true;
    f->blind = false;
    f->leased = l->mode == WORKER_FENCE_LEASE && !f->free;
    f->kill_at_ns = l->kill_at_ns;
    if (f->leased && another_life(f, l->epoch)) {
        f->verdict = WORKER_FENCE_KILL;
    } else {
        *ret_look_ns = f->leased ? look_leased(f, l, now) : look_alone(f, l, now);
    }
    return f->verdict;
}
