/* How fast the simulator of the cores is: events per second of processor time, virtual hours per
 * minute, bytes of memory per node. Clusters under faults, several sizes, one core.
 *
 *     bench_sim [--quick]
 *
 * --quick is a test: small runs, which must hold. */
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "proto/base/assert.h"
#include "tests/sim/sim.h"

struct size {
    uint32_t hosts, voters, gateways, keys, pbits, chaos_ms, fault_ms, runs;
};

static double cpu_s(void)
{
    struct rusage u;
    REQUIRE(getrusage(RUSAGE_SELF, &u) == 0);
    return (double)u.ru_utime.tv_sec + (double)u.ru_stime.tv_sec +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static long rss_kb(void)
{
    struct rusage u;
    REQUIRE(getrusage(RUSAGE_SELF, &u) == 0);
    return u.ru_maxrss;
}

static bool measure(const struct size *z)
{
    static struct sim s;
    static struct sim_fault faults[SIM_FAULTS_MAX];
    uint64_t events = 0, messages = 0, core = 0;
    double hours = 0, before = cpu_s();
    for (uint32_t k = 0; k < z->runs; k++) {
        struct sim_opts o;
        sim_opts_draw(&o, 100 + k);
        o.hosts = z->hosts;
        o.voters = z->voters;
        o.gateways = z->gateways;
        o.keys = z->keys;
        o.pbits = z->pbits;
        o.chaos_ms = z->chaos_ms;
        o.fault_ms = z->fault_ms;
        o.quota = 0; /* one that is drawn is for the number of identifiers that is */
        uint32_t n = sim_faults_draw(&o, faults, SIM_FAULTS_MAX);
        sim_init(&s, &o, faults, n);
        bool ok = sim_run(&s);
        events += s.stat.events;
        messages += s.stat.messages;
        hours += (o.chaos_ms + o.quiet_ms) / 3.6e6;
        core = sched_node_size(&s.cfg);
        if (!ok) {
            printf("%s\n", s.bad);
        }
        sim_deinit(&s);
        if (!ok) {
            return false;
        }
    }
    double took = cpu_s() - before;
    uint32_t nodes = z->hosts + z->voters + z->gateways;
    printf(
        "hosts %4u voters %u gateways %2u | %4.2f M events/s, %4.2f M messages/s | %7.2f virtual h "
        "per minute | core of a worker %6.1f KiB, process %7.1f KiB per node | %.1f s\n",
        z->hosts, z->voters, z->gateways, (double)events / took / 1e6,
        (double)messages / took / 1e6, hours / took * 60, (double)core / 1024,
        (double)rss_kb() / nodes, took);
    (void)fflush(stdout);
    return true;
}

int main(int argc, char **argv)
{
    static const struct size sizes[] = {{5, 3, 2, 6, 5, 75000, 4000, 100},
        {50, 3, 3, 60, 7, 75000, 2000, 4}, {200, 5, 5, 200, 9, 75000, 1000, 1}};
    bool quick = argc > 1 && strcmp(argv[1], "--quick") == 0;
    bool ok = true;
    for (unsigned i = 0; i < (quick ? 2 : 3) && ok; i++) {
        struct size z = sizes[i];
        z.runs = quick ? 1 + (i == 0) : z.runs;
        ok = measure(&z);
    }
    return ok ? 0 : 1;
}
