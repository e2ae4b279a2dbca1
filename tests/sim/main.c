#include <getopt.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "scheduler/core/mutant.h"
#include "tests/sim/sim.h"

static const char usage[] =
    "usage: sim [--seed N | --seeds A..B | --schedule FILE] [options]\n"
    "Runs clusters of the product's cores on virtual time, under faults, and checks invariants.\n"
    "  --seed, --seeds   options and faults are drawn from the seed (1)\n"
    "  --schedule FILE   options and faults are in the file, as --print and --shrink write them\n"
    "  --print           the schedule of the run\n"
    "  --shrink          when it fails: a schedule that is smaller and fails for the same reason\n"
    "  --trace           every message and fault\n"
    "  --twice           every run twice, which must be the same\n"
    "  --hash            the hash of every run\n"
    "  --quiet           not which seeds failed, only how many\n"
    "  --expect-bad      ends at the first run that fails, and fails when there is none\n"
    "  --corpus FOLDER   keeps the first message of every type there, for the decoder's fuzz test\n"
    "  --mutant N        with breakage N of mutants.txt (only in sim_mutants)\n"
    "Instead of what is drawn:\n"
    "  --hosts N --voters N --gateways N   size of the cluster\n"
    "  --keys N          identifiers          --places N   sessions of a host\n"
    "  --pbits N         2^N partitions       --time S     seconds in which faults happen\n"
    "  --fault-ms N      mean pause between faults\n"
    "  --request-ms N    mean pause between the requests of a gateway\n"
    "  --empty-birth 1   the first view has nobody, workers join\n"
    "  --exodus N        N times all hosts leave at about the same time\n"
    "  --pool 1          microVMs are those of the worker's pool manager\n"
    "  --pools N         keys are of so many pools, at most 12, whose maxima are in a catalogue\n"
    "                    that changes\n"
    "  --catalog 1       gateways change the catalogue (not with --pools)\n"
    "  --quota N --chunk N   sessions of all hosts together; permits that are asked for at once\n"
    "Exit: 0 no violation, 1 a violation, 2 wrong usage.\n";

struct args {
    uint64_t from, to;
    const char *schedule;
    bool twice, shrink, print, hash, expect_bad, quiet, help;
    struct sim_opts set; /* 0: drawn */
};

static struct sim_fault faults[SIM_FAULTS_MAX];

/* Options of a run that are set by hand instead of drawn. */
static const struct set_option {
    const char *name;
    size_t at;
    uint32_t unit;
} set_options[] = {{"hosts", offsetof(struct sim_opts, hosts), 1},
    {"voters", offsetof(struct sim_opts, voters), 1},
    {"gateways", offsetof(struct sim_opts, gateways), 1},
    {"keys", offsetof(struct sim_opts, keys), 1}, {"pbits", offsetof(struct sim_opts, pbits), 1},
    {"places", offsetof(struct sim_opts, places), 1},
    {"time", offsetof(struct sim_opts, chaos_ms), 1000},
    {"fault-ms", offsetof(struct sim_opts, fault_ms), 1},
    {"request-ms", offsetof(struct sim_opts, request_ms), 1},
    {"quota", offsetof(struct sim_opts, quota), 1}, {"chunk", offsetof(struct sim_opts, chunk), 1},
    {"empty-birth", offsetof(struct sim_opts, empty_birth), 1},
    {"exodus", offsetof(struct sim_opts, exodus), 1}, {"pool", offsetof(struct sim_opts, pool), 1},
    {"pools", offsetof(struct sim_opts, pools), 1},
    {"catalog", offsetof(struct sim_opts, catalog), 1}};
enum { SET_OPTIONS = sizeof set_options / sizeof set_options[0], SET = 0x100 };

static uint32_t *set_field(struct sim_opts *o, unsigned i)
{
    return (uint32_t *)(void *)((char *)o + set_options[i].at);
}

static void override(struct sim_opts *o, struct args *a)
{
    o->trace = a->set.trace;
    o->corpus = a->set.corpus;
    for (unsigned i = 0; i < SET_OPTIONS; i++) {
        uint32_t set = *set_field(&a->set, i);
        *set_field(o, i) = set != 0 ? set : *set_field(o, i);
    }
}

static bool run_once(
    const struct sim_opts *o, uint32_t n, struct sim_stats *sum, uint64_t *hash, char bad[400])
{
    static struct sim s;
    sim_init(&s, o, faults, n);
    bool ok = sim_run(&s);
    uint64_t *to = (uint64_t *)(void *)sum, *from = (uint64_t *)(void *)&s.stat;
    for (size_t i = 0; i < sizeof s.stat / sizeof(uint64_t); i++) {
        to[i] += from[i];
    }
    *hash = s.hash;
    memcpy(bad, s.bad, sizeof s.bad);
    sim_deinit(&s);
    return ok;
}

/* One seed or schedule; true when it holds. */
static bool run(struct sim_opts *o, uint32_t n, const struct args *a, struct sim_stats *sum)
{
    char bad[400], again[400];
    uint64_t hash, hash2;
    if (a->print) {
        sim_schedule_print(o, faults, n, stdout);
    }
    bool ok = run_once(o, n, sum, &hash, bad);
    if (a->twice) {
        struct sim_stats none = {0};
        (void)run_once(o, n, &none, &hash2, again);
        if (hash != hash2 || strcmp(bad, again) != 0) {
            (void)printf("seed %llu: two runs differ\n", (unsigned long long)o->seed);
            ok = false;
        }
    }
    if (a->hash) {
        (void)printf("%llu %016llx\n", (unsigned long long)o->seed, (unsigned long long)hash);
    }
    if (!ok && !a->quiet) {
        (void)printf("seed %llu: %s\n", (unsigned long long)o->seed, bad);
        if (a->shrink && sim_shrink(o, faults, &n, strstr(bad, ": ") + 2)) {
            (void)run_once(o, n, sum, &hash, bad);
            (void)printf("# %s\n", bad);
            sim_schedule_print(o, faults, n, stdout);
        }
    }
    return ok;
}

#ifdef SCHED_MUTANTS
int sched_mutant;
#endif

static void choose_mutant(int n)
{
#ifdef SCHED_MUTANTS
    sched_mutant = n;
#else
    (void)fprintf(stderr, "mutant %d: only sim_mutants has mutants\n", n);
    exit(2);
#endif
}

static bool *flag(struct args *a, int c)
{
    return c == '2'   ? &a->twice
           : c == 't' ? &a->set.trace
           : c == 'x' ? &a->shrink
           : c == 'p' ? &a->print
           : c == 'h' ? &a->hash
           : c == 'b' ? &a->expect_bad
           : c == 'q' ? &a->quiet
                      : NULL;
}

static bool take(struct args *a, int c)
{
    unsigned long v = optarg != NULL ? strtoul(optarg, NULL, 10) : 0;
    const char *dots = optarg != NULL ? strstr(optarg, "..") : NULL;
    if (c == 'H') {
        a->help = true;
        return false;
    }
    if (c == 's' || c == 'S') {
        a->from = v;
        a->to = dots != NULL ? strtoul(dots + 2, NULL, 10) : v;
    } else if (c == 'm') {
        choose_mutant((int)v);
    } else if (c == 'c') {
        a->set.corpus = optarg;
    } else if (c == 'f') {
        a->schedule = optarg;
    } else if (c >= SET) {
        *set_field(&a->set, (unsigned)(c - SET)) = (uint32_t)v * set_options[c - SET].unit;
    } else if (flag(a, c) != NULL) {
        *flag(a, c) = true;
    } else {
        return false;
    }
    return true;
}

static bool parse(int argc, char **argv, struct args *a)
{
    struct option longs[32] = {{"seed", 1, 0, 's'}, {"seeds", 1, 0, 'S'}, {"schedule", 1, 0, 'f'},
        {"twice", 0, 0, '2'}, {"trace", 0, 0, 't'}, {"shrink", 0, 0, 'x'}, {"print", 0, 0, 'p'},
        {"hash", 0, 0, 'h'}, {"expect-bad", 0, 0, 'b'}, {"quiet", 0, 0, 'q'}, {"mutant", 1, 0, 'm'},
        {"corpus", 1, 0, 'c'}, {"help", 0, 0, 'H'}};
    unsigned n = 13;
    for (unsigned i = 0; i < SET_OPTIONS; i++) {
        longs[n++] = (struct option){set_options[i].name, 1, NULL, (int)(SET + i)};
    }
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        if (!take(a, c)) {
            return false;
        }
    }
    return optind == argc;
}

static void summary(const struct sim_stats *t, uint64_t seeds, uint64_t bad, double hours)
{
    struct rusage u;
    (void)getrusage(RUSAGE_SELF, &u);
    double cpu = (double)u.ru_utime.tv_sec + (double)u.ru_utime.tv_usec / 1e6;
    (void)printf("seeds %llu violations %llu virtual_h %.2f events %llu messages %llu MB %llu "
                 "cpu_s %.1f rss_MB %ld\n",
        (unsigned long long)seeds, (unsigned long long)bad, hours, (unsigned long long)t->events,
        (unsigned long long)t->messages, (unsigned long long)t->bytes >> 20, cpu,
        u.ru_maxrss / 1024);
    (void)printf("sessions %llu executions %llu ok %llu failed %llu unknown %llu views %llu "
                 "rebuilt %llu new_lives %llu restarts %llu crashes %llu freezes %llu\n",
        (unsigned long long)t->opened, (unsigned long long)t->execs, (unsigned long long)t->ok,
        (unsigned long long)t->failed, (unsigned long long)t->unknown, (unsigned long long)t->views,
        (unsigned long long)t->rebuilt, (unsigned long long)t->evicted,
        (unsigned long long)t->restarts, (unsigned long long)t->crashes,
        (unsigned long long)t->freezes);
}

int main(int argc, char **argv)
{
    struct args a = {.from = 1, .to = 1};
    if (!parse(argc, argv, &a)) {
        (void)fprintf(a.help ? stdout : stderr, "%s", usage);
        return a.help ? 0 : 2;
    }
    struct sim_stats sum = {0};
    uint64_t bad = 0, seeds = 0;
    double hours = 0;
    for (uint64_t seed = a.from; seed <= a.to; seed++) {
        struct sim_opts o;
        uint32_t n = 0;
        sim_opts_draw(&o, seed);
        if (a.schedule != NULL) {
            if (!sim_schedule_read(a.schedule, &o, faults, SIM_FAULTS_MAX, &n)) {
                return 2;
            }
        }
        override(&o, &a);
        if (a.schedule == NULL) {
            n = sim_faults_draw(&o, faults, SIM_FAULTS_MAX);
        }
        bad += !run(&o, n, &a, &sum);
        seeds++;
        hours += (o.chaos_ms + o.quiet_ms) / 3.6e6;
        if (a.expect_bad && bad > 0) {
            break;
        }
    }
    summary(&sum, seeds, bad, hours);
    return (bad > 0) != a.expect_bad;
}
