/* The engine alone, without gateway or ZeroMQ: template, clones, claims, executions. Prints medians
 * and p99. Usage: bench_clone IMAGE_DIR [CLONES]   (root; builds a template in a folder under /tmp)
 * SPARES=0 in the environment starts no QEMU ahead; LOG=debug prints every step. */
#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/container.h"
#include "proto/base/rand.h"
#include "worker/io/engine.h"

enum { CLONES_MAX = 200, RUNS = 3 };

enum figure { FIG_WARM_START, FIG_CLAIM_EXEC, FIG_SECOND, FIG_URGENT, FIG_COUNT };
static const char *const figure_names[] = {
    "start to ready (warmed, stopped)",
    "claim to result of 1+1",
    "next execution of 1+1",
    "urgent: start to result of 1+1",
};

struct bench {
    struct worker_engine *engine;
    struct ev_loop *loop;
    struct base_log log;
    uint32_t pool;
    int clones, at, run;
    bool urgent;
    uint64_t t0;
    uint8_t vm_id[16], exec_id[16];
    struct worker_stream *stream;
    ev_timer settled;
    void (*then)(struct bench *b);
    double cpu0;
    double ms[FIG_COUNT][CLONES_MAX], cpu[FIG_COUNT][CLONES_MAX];
    int n[FIG_COUNT], errors;
    char result[64];
};

static void next_clone(struct bench *b);

/* CPU time of the QEMU process: comparable on a machine that is busy with other things. */
static double cpu_ms(struct bench *b)
{
    clockid_t id;
    struct timespec ts;
    int32_t pid = worker_engine_vm_pid(b->engine, 0);
    if (pid == 0 || clock_getcpuclockid(pid, &id) != 0 || clock_gettime(id, &ts) != 0) {
        return 0;
    }
    return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

static void begin(struct bench *b)
{
    b->t0 = base_clock_mono_ns();
    b->cpu0 = cpu_ms(b);
}

static void note(struct bench *b, enum figure f)
{
    b->cpu[f][b->n[f]] = cpu_ms(b) - b->cpu0;
    b->ms[f][b->n[f]++] = (double)(base_clock_mono_ns() - b->t0) / 1e6;
}

static void run_code(struct bench *b, const char *code);

static void on_event(void *user, const Warren__GuestEvent *e, const uint8_t *raw, size_t n)
{
    struct bench *b = user;
    (void)raw;
    (void)n;
    if (e->kind == WARREN__EVENT_KIND__EVENT_RESULT && e->n_mime > 0) {
        (void)snprintf(b->result, sizeof b->result, "%.*s", (int)e->mime[0]->data.len,
            (const char *)e->mime[0]->data.data);
    } else if (e->kind == WARREN__EVENT_KIND__EVENT_ERROR) {
        (void)fprintf(stderr, "%.*s\n", (int)e->data.len, (const char *)e->data.data);
        b->errors++;
    } else if (e->kind == WARREN__EVENT_KIND__EVENT_DONE) {
        note(b, b->run == 0 ? (b->urgent ? FIG_URGENT : FIG_CLAIM_EXEC) : FIG_SECOND);
        worker_engine_event_ack(b->engine, 0, b->exec_id, e->seq);
    }
}

static void on_closed(void *user, int code, const char *text)
{
    struct bench *b = user;
    if (code != 0) {
        (void)fprintf(stderr, "stream: %s\n", text);
        b->errors++;
    } else if (++b->run < RUNS) {
        run_code(b, "1+1");
        return;
    }
    worker_engine_vm_kill(b->engine, 0);
}

static void run_code(struct bench *b, const char *code)
{
    static const struct worker_stream_ops ops = {.event = on_event, .closed = on_closed};
    base_rand_bytes(b->exec_id, sizeof b->exec_id);
    Warren__GuestExec exec = WARREN__GUEST_EXEC__INIT;
    exec.id = (ProtobufCBinaryData){sizeof b->exec_id, b->exec_id};
    exec.kernel = WARREN__KERNEL__KERNEL_PYTHON;
    exec.timeout_ms = 60000;
    exec.stdout_max = exec.stderr_max = 4096;
    Warren__GuestOpen open = WARREN__GUEST_OPEN__INIT;
    open.what_case = WARREN__GUEST_OPEN__WHAT_EXEC;
    open.exec = &exec;
    if (b->run > 0) {
        begin(b);
    }
    if (worker_engine_open(b->engine, 0, &open, &ops, b, &b->stream) != 0) {
        b->errors++;
        worker_engine_vm_kill(b->engine, 0);
        return;
    }
    (void)worker_stream_write(b->stream, code, strlen(code));
    worker_stream_finish(b->stream);
}

static void claim(struct bench *b)
{
    b->run = 0;
    if (!b->urgent) {
        begin(b);
    }
    if (worker_engine_vm_claim(b->engine, 0, "session-host") != 0) {
        b->errors++;
        return;
    }
    run_code(b, "1+1");
}

/* A pool's instance has been stopped for a while when it is claimed, and a request that has to
 * wait for a clone mostly finds a QEMU that was started ahead. */
static void settle(struct bench *b, double s, void (*then)(struct bench *b))
{
    b->then = then;
    ev_timer_set(&b->settled, s, 0.);
    ev_timer_start(b->loop, &b->settled);
}

static void on_settled(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop;
    (void)revents;
    struct bench *b = w->data;
    b->then(b);
}

static void vm_ready(void *user, uint32_t slot)
{
    struct bench *b = user;
    (void)slot;
    if (b->urgent) {
        claim(b);
        return;
    }
    note(b, FIG_WARM_START);
    settle(b, 0.2, claim);
}

static void vm_dead(void *user, uint32_t slot, const char *why)
{
    struct bench *b = user;
    (void)slot;
    (void)fprintf(stderr, "died: %s\n", why);
    b->errors++;
}

static void vm_gone(void *user, uint32_t slot)
{
    (void)slot;
    settle(user, 1., next_clone);
}

static void next_clone(struct bench *b)
{
    struct worker_vm_start start = {.slot = 0, .pool = b->pool, .urgent = b->at % 2 == 1};
    if (b->at++ == b->clones) {
        ev_break(b->loop, EVBREAK_ALL);
        return;
    }
    b->urgent = start.urgent;
    base_rand_bytes(start.vm_id, sizeof start.vm_id);
    struct base_error err;
    begin(b);
    b->cpu0 = 0;
    if (worker_engine_vm_start(b->engine, &start, &err) != 0) {
        (void)fprintf(stderr, "start: %s\n", err.text);
        b->errors++;
        ev_break(b->loop, EVBREAK_ALL);
    }
}

static void template_state(
    void *user, uint32_t pool, enum worker_template_state state, const char *text)
{
    struct bench *b = user;
    (void)pool;
    (void)fprintf(stderr, "template: %s\n", text);
    if (state == WORKER_TEMPLATE_READY) {
        worker_engine_reap_strangers(b->engine);
        settle(b, 1., next_clone);
    } else if (state == WORKER_TEMPLATE_FAILED) {
        b->errors++;
        ev_break(b->loop, EVBREAK_ALL);
    }
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print(struct bench *b)
{
    (void)printf("isolation %s, errors %d, result \"%s\"\n", worker_engine_isolation(b->engine),
        b->errors, b->result);
    for (int f = 0; f < FIG_COUNT; f++) {
        int n = b->n[f];
        if (n == 0) {
            continue;
        }
        qsort(b->ms[f], (size_t)n, sizeof b->ms[f][0], by_size);
        qsort(b->cpu[f], (size_t)n, sizeof b->cpu[f][0], by_size);
        (void)printf("%-36s n=%-4d p50 %8.2f ms  p99 %8.2f ms  min %8.2f ms  cpu p50 %7.2f ms\n",
            figure_names[f], n, b->ms[f][n / 2], b->ms[f][n * 99 / 100], b->ms[f][0],
            b->cpu[f][n / 2]);
    }
}

static int remove_it(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st, (void)kind, (void)at;
    return remove(path);
}

int main(int argc, char **argv)
{
    static struct bench b;
    if (argc < 2) {
        (void)fprintf(stderr, "usage: bench_clone IMAGE_DIR [CLONES]\n");
        return 2;
    }
    b.clones = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 10;
    b.clones = b.clones > 0 && b.clones <= CLONES_MAX / RUNS ? b.clones : 10;
    char self[512], supervisor[600], guest[600], run[64], templates[64];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = '\0';
    *strrchr(self, '/') = '\0';
    (void)snprintf(supervisor, sizeof supervisor, "%s/warren-supervisor", self);
    (void)snprintf(guest, sizeof guest, "%s/../guest", self);
    (void)snprintf(run, sizeof run, "/tmp/warren-bench-%d", (int)getpid());
    (void)snprintf(templates, sizeof templates, "/tmp/warren-bench-templates");
    base_log_init(&b.log, "bench_clone", STDERR_FILENO);
    (void)base_log_parse(getenv("LOG") == NULL ? "info" : getenv("LOG"), &b.log.level);
    b.loop = ev_default_loop(0);
    ev_init(&b.settled, on_settled);
    b.settled.data = &b;
    (void)signal(SIGPIPE, SIG_IGN);
    const char *spares = getenv("SPARES");
    struct worker_engine_config c = {
        .loop = b.loop,
        .log = &b.log,
        .run_dir = run,
        .template_dir = templates,
        .image_dir = argv[1],
        .guest_dir = guest,
        .supervisor = supervisor,
        .qemu = "/usr/bin/qemu-system-x86_64",
        .uid_base = 260000,
        .slots_max = 4,
        .spares_max = spares == NULL ? 1 : (uint32_t)strtoul(spares, NULL, 10),
        .freeze_ms = 10000,
        .kill_ms = 5000,
    };
    struct worker_engine_events ev = {&b, template_state, vm_ready, vm_dead, vm_gone, NULL};
    struct worker_engine_pool pool = {
        "bench", 512, 1, {WARREN__KERNEL__KERNEL_PYTHON, WARREN__KERNEL__KERNEL_NONE}};
    struct base_error err;
    if (worker_engine_create(&c, &ev, &b.engine, &err) != 0 ||
        worker_engine_pool_add(b.engine, &pool, &b.pool, &err) != 0) {
        (void)fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    ev_run(b.loop, 0);
    print(&b);
    worker_engine_destroy(b.engine);
    (void)nftw(run, remove_it, 8, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
    return b.errors > 0;
}
