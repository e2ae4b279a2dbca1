#include "tests/sim/schedule.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base/hash.h"
#include "scheduler/core/msgtype.h"
#include "tests/sim/sim.h"

static const char *const kinds[] = {"CUT", "LINK", "PAUSE", "RESTART", "CRASH", "TORN", "LOSE",
    "DRAIN", "DROP", "HOLD", "DELETE", "REQUEST", "SLOW", "SUSPEND", "FORGE"};

static uint32_t pick(struct base_hash_rng *r, const uint32_t *of, uint32_t n)
{
    return of[base_hash_rng_below(r, n)];
}

#define PICK(r, ...)                                                                               \
    pick((r), (const uint32_t[]){__VA_ARGS__},                                                     \
        sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t))

void sim_opts_draw(struct sim_opts *o, uint64_t seed)
{
    struct base_hash_rng r;
    base_hash_rng_seed(&r, seed);
    *o = (struct sim_opts){.seed = seed, .load = 1};
    o->voters = PICK(&r, 3, 3, 3, 5, 1);
    o->hosts = PICK(&r, 3, 4, 5, 5, 6, 7);
    o->gateways = PICK(&r, 2, 2, 3);
    o->keys = PICK(&r, 3, 4, 6, 12);
    o->pbits = PICK(&r, 4, 4, 5, 6);
    o->places = PICK(&r, 4, 8, 16);
    o->chaos_ms = 75000;
    o->quiet_ms = 50000;
    o->loss_ppm = PICK(&r, 0, 10000, 50000, 150000);
    o->dup_ppm = PICK(&r, 0, 20000, 50000);
    o->late_ppm = PICK(&r, 0, 1000, 3000, 10000);
    o->slow_ppm = PICK(&r, 0, 30000, 100000);
    o->spread_pct = PICK(&r, 0, 30, 100);
    o->inline_pct = PICK(&r, 0, 50, 100);
    o->request_ms = PICK(&r, 150, 300, 600);
    o->cooldown_ms = PICK(&r, 1500, 4000, 8000);
    o->vm_fail_ppm = PICK(&r, 0, 0, 50000);
    o->vm_hang_ppm = PICK(&r, 0, 0, 10000);
    o->vm_slow_ppm = PICK(&r, 0, 50000);
    o->fault_ms = PICK(&r, 2000, 4000, 6000, 9000);
    o->drift_ppm = PICK(&r, 0, 500, 980);
    o->cache = PICK(&r, 1, 8, 64);
    o->voter_loss = base_hash_rng_below(&r, 3) == 0;
    /* Enough for everybody, or so few that hosts take them from each other. */
    if (seed % 6 == 3 || seed % 6 == 4) { /* seeds.txt is older and goes on as it was */
        o->quota = PICK(&r, o->keys * 3 + o->hosts * 3, o->keys);
        o->chunk = PICK(&r, 1, 2);
    }
    if (seed % 8 == 3 || seed % 8 == 0) {
        o->slow = 1;
        o->liars = PICK(&r, 0, 1, o->hosts / 2);
    }
    o->kill_ms = seed % 7 == 3 ? 4000 : 0;
    o->forge = seed % 9 == 8;
    o->speaks = SCHED_VERSION_MAX;
    o->mixed = seed % 5 == 2;
    o->looks = seed % 5 == 4;
}

static struct sim_fault draw_one(const struct sim_opts *o, struct base_hash_rng *r)
{
    uint32_t n = o->voters + o->hosts + o->gateways;
    uint64_t any = base_hash_rng_below(r, n), host = o->voters + base_hash_rng_below(r, o->hosts);
    uint64_t voter = base_hash_rng_below(r, o->voters), c = base_hash_rng_below(r, 100);
    if (o->forge != 0 && base_hash_rng_below(r, 8) == 0) {
        return (struct sim_fault){.kind = SIM_F_FORGE, .a = host, .b = PICK(r, 1, 1, 2)};
    }
    if (o->slow != 0 && base_hash_rng_below(r, 4) == 0) {
        bool sleeps = base_hash_rng_below(r, 2) == 0;
        return (struct sim_fault){.kind = sleeps ? SIM_F_SUSPEND : SIM_F_SLOW,
            .a = sleeps ? host : any,
            .b = sleeps ? 0 : PICK(r, 2, 10, 50),
            .dur_ms = PICK(r, 500, 5000, 15000)};
    }
    if (c < 25) {
        return (struct sim_fault){.kind = SIM_F_CUT,
            .a = base_hash_rng_next(r),
            .dur_ms = PICK(r, 1000, 4000, 9000, 20000)};
    }
    if (c < 42) {
        return (struct sim_fault){.kind = SIM_F_LINK,
            .a = any,
            .b = base_hash_rng_below(r, n),
            .dur_ms = PICK(r, 4000, 9000, 20000)};
    }
    if (c < 58) {
        return (struct sim_fault){
            .kind = SIM_F_PAUSE, .a = any, .dur_ms = PICK(r, 500, 3000, 7000, 15000)};
    }
    if (c < 70) {
        return (struct sim_fault){
            .kind = SIM_F_RESTART, .a = any, .dur_ms = PICK(r, 50, 500, 3000, 10000)};
    }
    if (c < 86) {
        return (struct sim_fault){.kind = SIM_F_CRASH,
            .a = host,
            .b = base_hash_rng_below(r, 2),
            .dur_ms = PICK(r, 500, 2000, 10000)};
    }
    if (c < 92) {
        return (struct sim_fault){.kind = SIM_F_TORN,
            .a = any,
            .b = base_hash_rng_below(r, 2),
            .dur_ms = PICK(r, 100, 2000)};
    }
    if (c < 96) {
        return (struct sim_fault){.kind = SIM_F_DRAIN, .a = host, .dur_ms = PICK(r, 9000, 20000)};
    }
    return (struct sim_fault){.kind = o->voter_loss ? SIM_F_LOSE : SIM_F_RESTART,
        .a = voter,
        .dur_ms = PICK(r, 100, 5000)};
}

/* Drawn apart from the others, which are the same with and without. */
static uint32_t draw_exodus(const struct sim_opts *o, struct sim_fault *out, uint32_t max)
{
    struct base_hash_rng r;
    base_hash_rng_seed(&r, o->seed ^ UINT64_C(0xe80d5));
    uint32_t n = 0;
    for (uint32_t i = 0; i < o->exodus; i++) {
        uint64_t t = 5000 + base_hash_rng_below(&r, o->chaos_ms);
        uint32_t apart = PICK(&r, 1, 300, 3000), back = PICK(&r, 2000, 9000, 20000);
        for (uint32_t h = 0; h < o->hosts && n < max; h++) {
            out[n++] = (struct sim_fault){.kind = SIM_F_DRAIN,
                .a = o->voters + h,
                .at_ms = (uint32_t)(t + base_hash_rng_below(&r, apart)),
                .dur_ms = back};
        }
    }
    return n;
}

uint32_t sim_faults_draw(const struct sim_opts *o, struct sim_fault *out, uint32_t max)
{
    struct base_hash_rng r;
    base_hash_rng_seed(&r, o->seed ^ UINT64_C(0xfa017));
    uint32_t n = 0;
    uint64_t t = 3000 + base_hash_rng_below(&r, 3000);
    while (o->fault_ms > 0 && t < o->chaos_ms && n < max) {
        /* Bursts: what happens at once finds more than what happens in turn. */
        uint32_t burst = base_hash_rng_below(&r, 4) == 0 ? 3 : 1;
        for (uint32_t i = 0; i < burst && n < max; i++) {
            out[n] = draw_one(o, &r);
            out[n++].at_ms = (uint32_t)(t + (i > 0 ? base_hash_rng_below(&r, 1500) : 0));
        }
        t += 1 + base_hash_rng_below(&r, 2 * o->fault_ms);
    }
    return n + draw_exodus(o, out + n, max - n);
}

/* ---- files ---- */

struct field {
    const char *name;
    size_t at;
};

#define FIELD(f)                                                                                   \
    {                                                                                              \
#f, offsetof(struct sim_opts, f)                                                           \
    }
static const struct field fields[] = {FIELD(voters), FIELD(hosts), FIELD(gateways), FIELD(keys),
    FIELD(pbits), FIELD(places), FIELD(chaos_ms), FIELD(quiet_ms), FIELD(loss_ppm), FIELD(dup_ppm),
    FIELD(late_ppm), FIELD(slow_ppm), FIELD(spread_pct), FIELD(inline_pct), FIELD(request_ms),
    FIELD(cooldown_ms), FIELD(vm_fail_ppm), FIELD(vm_hang_ppm), FIELD(vm_slow_ppm), FIELD(fault_ms),
    FIELD(drift_ppm), FIELD(cache), FIELD(quota), FIELD(chunk), FIELD(lives_below),
    FIELD(views_below), FIELD(views_min), FIELD(kill_ms), FIELD(stuck_ms), FIELD(pool),
    FIELD(liars), FIELD(slow), FIELD(forge), FIELD(speaks), FIELD(mixed), FIELD(pools),
    FIELD(catalog), FIELD(looks), FIELD(load)};
enum { FIELDS = sizeof fields / sizeof fields[0] };

static bool is_node(uint8_t kind, int arg)
{
    switch ((enum sim_fault_kind)kind) {
    case SIM_F_LINK:
    case SIM_F_DROP:
    case SIM_F_HOLD:
        return true;
    case SIM_F_PAUSE:
    case SIM_F_RESTART:
    case SIM_F_CRASH:
    case SIM_F_TORN:
    case SIM_F_LOSE:
    case SIM_F_DRAIN:
    case SIM_F_SLOW:
    case SIM_F_SUSPEND:
    case SIM_F_FORGE:
        return arg == 0;
    case SIM_F_CUT:
    case SIM_F_DELETE:
    case SIM_F_REQUEST:
    case SIM_F_KINDS:
        return false;
    }
    return false;
}

static void put_arg(const struct sim_opts *o, const struct sim_fault *f, int arg, FILE *to)
{
    uint64_t v = arg == 0 ? f->a : f->b;
    if (!is_node(f->kind, arg)) {
        (void)fprintf(to, " %llu", (unsigned long long)v);
    } else if (v == SIM_ANY) {
        (void)fprintf(to, " *");
    } else if (v < o->voters) {
        (void)fprintf(to, " V%llu", (unsigned long long)v);
    } else if (v < o->voters + o->hosts) {
        (void)fprintf(to, " H%llu", (unsigned long long)(v - o->voters));
    } else {
        (void)fprintf(to, " G%llu", (unsigned long long)(v - o->voters - o->hosts));
    }
}

void sim_schedule_print_fault(const struct sim_opts *o, const struct sim_fault *f, FILE *to)
{
    (void)fprintf(to, "at %u for %u %s", f->at_ms, f->dur_ms, kinds[f->kind]);
    put_arg(o, f, 0, to);
    put_arg(o, f, 1, to);
    (void)fprintf(to, " %s\n", f->type == 0 ? "*" : sched_msg_name(f->type));
}

void sim_schedule_print(const struct sim_opts *o, const struct sim_fault *f, uint32_t n, FILE *to)
{
    (void)fprintf(to, "seed %llu\n", (unsigned long long)o->seed);
    for (size_t i = 0; i < FIELDS; i++) {
        uint32_t v;
        memcpy(&v, (const char *)o + fields[i].at, sizeof v);
        (void)fprintf(to, "%s %u\n", fields[i].name, v);
    }
    for (uint32_t i = 0; i < n; i++) {
        sim_schedule_print_fault(o, &f[i], to);
    }
}

static bool get_arg(const struct sim_opts *o, const char *text, uint64_t *ret)
{
    char *end;
    if (strcmp(text, "*") == 0) {
        *ret = SIM_ANY;
        return true;
    }
    const char *kind = strchr("VHG", text[0]);
    *ret = strtoull(kind != NULL ? text + 1 : text, &end, 10);
    if (kind != NULL && text[0] != 'V') {
        *ret += o->voters + (text[0] == 'G' ? o->hosts : 0);
    }
    return *end == '\0';
}

static bool get_fault(const struct sim_opts *o, const char *line, struct sim_fault *f)
{
    char kind[16], a[24], b[24], type[16];
    memset(f, 0, sizeof *f);
    if (sscanf(line, "at %u for %u %15s %23s %23s %15s", &f->at_ms, &f->dur_ms, kind, a, b, type) !=
        6) {
        return false;
    }
    while (f->kind < SIM_F_KINDS && strcmp(kinds[f->kind], kind) != 0) {
        f->kind++;
    }
    while (strcmp(type, "*") != 0 && f->type < SCHED_MSG_TYPES &&
           strcmp(sched_msg_name(f->type), type) != 0) {
        f->type++;
    }
    return f->kind < SIM_F_KINDS && f->type < SCHED_MSG_TYPES && get_arg(o, a, &f->a) &&
           get_arg(o, b, &f->b);
}

static bool get_option(struct sim_opts *o, const char *line)
{
    char name[32];
    unsigned long long v;
    if (sscanf(line, "%31s %llu", name, &v) != 2) {
        return false;
    }
    if (strcmp(name, "seed") == 0) {
        o->seed = v;
        return true;
    }
    for (size_t i = 0; i < FIELDS; i++) {
        if (strcmp(fields[i].name, name) == 0) {
            uint32_t u = (uint32_t)v;
            memcpy((char *)o + fields[i].at, &u, sizeof u);
            return true;
        }
    }
    return false;
}

bool sim_schedule_read(
    const char *path, struct sim_opts *o, struct sim_fault *out, uint32_t max, uint32_t *ret_n)
{
    char line[200];
    bool ok = true;
    FILE *in = fopen(path, "re");
    if (in == NULL) {
        return false;
    }
    *ret_n = 0;
    o->load = 0;
    o->speaks = SCHED_VERSION_BASE; /* of files that do not say */
    while (ok && fgets(line, sizeof line, in) != NULL) {
        if (line[0] == '#' || line[0] == '\n') {
            continue;
        }
        if (strncmp(line, "at ", 3) != 0) {
            ok = get_option(o, line);
        } else {
            ok = *ret_n < max && get_fault(o, line, &out[*ret_n]);
            ++*ret_n;
        }
        if (!ok) {
            (void)fprintf(stderr, "%s: cannot read: %s", path, line);
        }
    }
    (void)fclose(in);
    return ok;
}
