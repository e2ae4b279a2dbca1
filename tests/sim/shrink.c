#include <stdlib.h>
#include <string.h>

#include "tests/sim/check.h"

/* A run that fails is made smaller in three ways, as long as it still fails: fewer faults (halves,
 * quarters, ... single ones: ddmin), a simpler network, a shorter time. */

static uint32_t budget;
static char wanted[4]; /* the invariant that must still be violated */

static bool fails(const struct sim_opts *o, const struct sim_fault *f, uint32_t n)
{
    static struct sim s;
    if (budget == 0) {
        return false;
    }
    budget--;
    sim_init(&s, o, f, n);
    bool bad = !sim_run(&s) && strncmp(sim_bad_name(&s), wanted, 2) == 0;
    sim_deinit(&s);
    return bad;
}

static bool drop_faults(const struct sim_opts *o, struct sim_fault *f, uint32_t *n)
{
    static struct sim_fault less[SIM_FAULTS_MAX];
    bool any = false;
    for (uint32_t chunk = (*n + 1) / 2; chunk > 0; chunk = chunk == 1 ? 0 : (chunk + 1) / 2) {
        for (uint32_t i = 0; i < *n;) {
            uint32_t end = i + chunk < *n ? i + chunk : *n;
            memcpy(less, f, i * sizeof *f);
            memcpy(less + i, f + end, (*n - end) * sizeof *f);
            if (fails(o, less, *n - (end - i))) {
                *n -= end - i;
                memcpy(f, less, *n * sizeof *f);
                any = true;
            } else {
                i = end;
            }
        }
    }
    return any;
}

static bool simplify(
    struct sim_opts *o, const struct sim_fault *f, uint32_t n, size_t at, uint32_t value)
{
    uint32_t was;
    memcpy(&was, (char *)o + at, sizeof was);
    if (was == value) {
        return false;
    }
    memcpy((char *)o + at, &value, sizeof value);
    if (fails(o, f, n)) {
        return true;
    }
    memcpy((char *)o + at, &was, sizeof was);
    return false;
}

bool sim_shrink(struct sim_opts *o, struct sim_fault *f, uint32_t *n, const char *invariant)
{
    bool any = false, more = true;
    (void)snprintf(wanted, sizeof wanted, "%s", invariant);
    budget = 1500;
    while (more && budget > 0) {
        more = drop_faults(o, f, n);
        more |= simplify(o, f, *n, offsetof(struct sim_opts, loss_ppm), 0);
        more |= simplify(o, f, *n, offsetof(struct sim_opts, dup_ppm), 0);
        more |= simplify(o, f, *n, offsetof(struct sim_opts, late_ppm), 0);
        more |= simplify(o, f, *n, offsetof(struct sim_opts, slow_ppm), 0);
        more |= simplify(o, f, *n, offsetof(struct sim_opts, drift_ppm), 0);
        more |= simplify(o, f, *n, offsetof(struct sim_opts, vm_fail_ppm), 0);
        more |= simplify(o, f, *n, offsetof(struct sim_opts, vm_hang_ppm), 0);
        more |= simplify(o, f, *n, offsetof(struct sim_opts, vm_slow_ppm), 0);
        if (o->chaos_ms > 10000) {
            more |= simplify(
                o, f, *n, offsetof(struct sim_opts, chaos_ms), o->chaos_ms - o->chaos_ms / 4);
        }
        any = any || more;
    }
    return any;
}
