/* A node for tests of a cluster without microVMs, with the loops, stores and messages of the
 * product:
 *
 *   cluster_rig host CONFIG RUN_DIR JOURNAL     a worker; "microVMs" are entries of a table that
 *       obey the lease as supervisors would, and die with it. SIGUSR1: it leaves the cluster, its
 *       sessions end. SIGUSR2: out of service, and back
 *   cluster_rig load CONFIG JOURNAL KEYS        a gateway: requests for random keys at a steady
 *       pace until SIGTERM; then those under way may end
 *   cluster_rig old CONFIG STATE_DIR -          makes the store of a voter whose cluster was born
 *       before there were catalogues
 *
 * Journals are lines, written with one write() each:
 *   host: "start KEY EPOCH EXEC NS" "bind KEY EPOCH NS" "lease NS" (it may run before)
 *   load: "ask KEY EXEC NS" "OK|FAILED|UNKNOWN KEY EXEC EPOCH MS NS"
 * NS are of CLOCK_BOOTTIME, which all processes of a machine share. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/assert.h"
#include "proto/base/clock.h"
#include "proto/base/hash.h"
#include "proto/base/rand.h"
#include "scheduler/io/host_node.h"
#include "scheduler/io/node_db.h"
#include "scheduler/io/route_node.h"
#include "scheduler/wire/wire.h"

/* So many requests at a time that those which wait for their end keep nobody from asking more. */
enum { PACE_MS = 5, TIMEOUT_MS = 12000, AT_A_TIME = TIMEOUT_MS / PACE_MS + 100 };
enum { PLACES = 4096, KEYS_MAX = 10000 };

struct rig {
    struct ev_loop *loop;
    struct base_log log;
    struct sched_settings *settings;
    struct sched_host_node *host;
    struct sched_route_node *route;
    int journal;
    uint64_t freeze_at_ns;
    ev_signal term, usr[2];
    bool stopping, left, away;
    unsigned keys, open;
    struct {
        uint64_t rid, since_ns;
        unsigned key;
        struct sched_exec exec;
    } asked[AT_A_TIME];
    ev_timer pace;
};

static void note(const struct rig *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void note(const struct rig *r, const char *fmt, ...)
{
    char line[200];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    REQUIRE(write(r->journal, line, (size_t)n) == n);
}

/* ---- a worker ---- */

static void on_lease(void *user, uint64_t freeze_at_ns, uint64_t kill_at_ns, uint32_t inc)
{
    struct rig *r = user;
    (void)kill_at_ns, (void)inc;
    r->freeze_at_ns = freeze_at_ns;
    note(r, "lease %" PRIu64 "\n", freeze_at_ns);
}

static void on_start(void *user, struct sched_key key, sched_epoch epoch)
{
    struct rig *r = user;
    note(r, "bind %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", key.lo, epoch, base_clock_boot_ns());
    sched_host_node_up(r->host, key, epoch);
}

static void on_stop(void *user, struct sched_key key, sched_epoch epoch)
{
    sched_host_node_down(((struct rig *)user)->host, key, epoch);
}

static void on_exec(void *user, const struct sched_fx_vm *vm)
{
    struct rig *r = user;
    uint64_t now = base_clock_boot_ns();
    if (now >= r->freeze_at_ns) {
        return; /* frozen */
    }
    note(r, "start %" PRIu64 " %" PRIu64 " %016" PRIx64 "%016" PRIx64 " %" PRIu64 "\n", vm->key.lo,
        vm->epoch, vm->exec.hi, vm->exec.lo, now);
    sched_host_node_done(r->host, vm, SCHED_OUTCOME_OK);
}

static void on_leave(void *user, const char *why)
{
    struct rig *r = user;
    LOG_INFO(&r->log, "leaving: %s", why);
    r->left = true;
    ev_break(r->loop, EVBREAK_ALL);
}

static void gone(void *ctx, struct sched_key key, sched_epoch epoch, bool stop)
{
    (void)stop;
    sched_host_node_down(((struct rig *)ctx)->host, key, epoch);
}

static const struct sched_host_ops host_ops = {.lease = on_lease,
    .vm_start = on_start,
    .vm_stop = on_stop,
    .vm_exec = on_exec,
    .leave = on_leave};

/* What answers gateways in this worker's place; 0: nothing. */
static uint16_t port_of(const char *name)
{
    const char *text = getenv(name);
    return text == NULL ? 0 : (uint16_t)strtoul(text, NULL, 10);
}

static int host(struct rig *r, const char *run_dir, struct base_error *err)
{
    struct sched_host_cfg c = {.loop = r->loop,
        .log = &r->log,
        .settings = r->settings,
        .run_dir = run_dir,
        .sess_max = PLACES,
        .execs_max = 1 << 16,
        .cooldown_ms = 60000,
        .keep_ms = 30000,
        .ctl_port = port_of("WARREN_RIG_CTL"),
        .bulk_port = port_of("WARREN_RIG_BULK"),
        .ops = &host_ops,
        .user = r};
    int rc = sched_host_node_create(&r->host, &c, err);
    if (rc == 0) {
        sched_host_node_each(r->host, gone, r); /* they died with the process before this one */
    }
    return rc;
}

/* ---- a gateway ---- */

static void ask(struct rig *r, unsigned i)
{
    uint64_t key = base_rand_u64() % r->keys + 1;
    struct sched_exec exec = {base_rand_u64(), base_rand_u64()};
    struct sched_key k = {base_hash_mix64(key), key};
    r->asked[i].key = (unsigned)key;
    r->asked[i].exec = exec;
    r->asked[i].since_ns = base_clock_boot_ns();
    note(r, "ask %" PRIu64 " %016" PRIx64 "%016" PRIx64 " %" PRIu64 "\n", key, exec.hi, exec.lo,
        r->asked[i].since_ns);
    r->asked[i].rid = sched_route_node_request(r->route, k, exec, TIMEOUT_MS);
    REQUIRE(r->asked[i].rid != 0);
    r->open++;
}

static void on_outcome(void *user, uint64_t rid, enum sched_outcome outcome, sched_epoch epoch)
{
    static const char *const words[] = {"OK", "FAILED", "UNKNOWN"};
    struct rig *r = user;
    unsigned i = 0;
    while (i < AT_A_TIME && r->asked[i].rid != rid) {
        i++;
    }
    REQUIRE(i < AT_A_TIME);
    r->asked[i].rid = 0;
    r->open--;
    uint64_t now = base_clock_boot_ns();
    note(r, "%s %u %016" PRIx64 "%016" PRIx64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
        words[outcome], r->asked[i].key, r->asked[i].exec.hi, r->asked[i].exec.lo, epoch,
        (now - r->asked[i].since_ns) / BASE_NS_PER_MS, now);
    if (r->stopping && r->open == 0) {
        ev_break(r->loop, EVBREAK_ALL);
    }
}

static const struct sched_route_ops route_ops = {.outcome = on_outcome};

static void on_pace(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop, (void)events;
    struct rig *r = w->data;
    for (unsigned i = 0; i < AT_A_TIME && !r->stopping && sched_route_node_ready(r->route); i++) {
        if (r->asked[i].rid == 0) {
            ask(r, i);
            return;
        }
    }
}

static int load(struct rig *r, const char *keys, struct base_error *err)
{
    struct sched_route_node_cfg c = {.loop = r->loop,
        .log = &r->log,
        .settings = r->settings,
        .reqs_max = 2 * AT_A_TIME,
        .cache_max = 1024,
        .hedge_ms = 100,
        .resend_ms = 500,
        .ops = &route_ops,
        .user = r};
    r->keys = (unsigned)strtoul(keys, NULL, 10);
    REQUIRE(r->keys > 0 && r->keys <= KEYS_MAX);
    ev_timer_init(&r->pace, on_pace, 0., PACE_MS / 1e3);
    r->pace.data = r;
    ev_timer_start(r->loop, &r->pace);
    return sched_route_node_create(&r->route, &c, err);
}

static void on_term(struct ev_loop *loop, ev_signal *w, int events)
{
    (void)events;
    struct rig *r = w->data;
    r->stopping = true;
    if (r->open == 0) {
        ev_break(loop, EVBREAK_ALL);
    }
}

static void on_usr(struct ev_loop *loop, ev_signal *w, int events)
{
    (void)loop, (void)events;
    struct rig *r = w->data;
    if (w->signum == SIGUSR1) {
        sched_host_node_drain(r->host, 0, false);
    } else if (r->away) {
        sched_host_node_undrain(r->host);
    } else {
        sched_host_node_drain(r->host, SCHED_NEVER_MS, true);
    }
    r->away = !r->away;
}

static void put_row(struct sched_node_db *db, const char *key, const struct sched_msg *m)
{
    static uint8_t bytes[4096];
    int n = sched_wire_encode(m, bytes, sizeof bytes);
    REQUIRE(n > 0 && sched_node_db_put(db, key, bytes, (size_t)n) == 0);
}

/* No view and no promise yet, see scheduler/io/voter_node.c. */
static int make_old(const char *state_dir)
{
    const struct sched_view first = {.num = 1, .version = SCHED_VERSION_BASE};
    const struct sched_msg vote = {.type = SCHED_MSG_VTELL};
    const struct sched_msg known = {.type = SCHED_MSG_VIEW, .view = {.view = &first}};
    struct sched_node_db *db = NULL;
    char path[512];
    REQUIRE(snprintf(path, sizeof path, "%s/node.mdb", state_dir) < (int)sizeof path);
    REQUIRE(mkdir(state_dir, 0700) == 0 && sched_node_db_open(&db, path, NULL) == 0);
    put_row(db, "vote", &vote);
    put_row(db, "known", &known);
    REQUIRE(sched_node_db_commit(db) == 0);
    sched_node_db_close(db);
    return 0;
}

int main(int argc, char **argv)
{
    static struct rig r;
    struct base_error err;
    if (argc != 5) {
        (void)fprintf(stderr, "usage: see tests/lib/cluster_rig.c\n");
        return 2;
    }
    if (strcmp(argv[1], "old") == 0) {
        return make_old(argv[3]);
    }
    bool is_host = strcmp(argv[1], "host") == 0;
    r.loop = ev_default_loop(EVBACKEND_EPOLL | EVFLAG_NOENV);
    base_log_init(&r.log, is_host ? "host" : "load", STDERR_FILENO);
    (void)signal(SIGPIPE, SIG_IGN);
    r.journal = open(argv[is_host ? 4 : 3], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    ev_signal_init(&r.term, on_term, SIGTERM);
    r.term.data = &r;
    ev_signal_start(r.loop, &r.term);
    for (int i = 0; is_host && i < 2; i++) {
        ev_signal_init(&r.usr[i], on_usr, i == 0 ? SIGUSR1 : SIGUSR2);
        r.usr[i].data = &r;
        ev_signal_start(r.loop, &r.usr[i]);
    }
    int rc = r.journal < 0 ? base_fail(&err, -errno, "journal")
                           : sched_settings_load(argv[2], &r.settings, &err);
    rc = rc != 0 ? rc : is_host ? host(&r, argv[3], &err) : load(&r, argv[4], &err);
    if (rc != 0) {
        LOG_ERROR(&r.log, "%s", err.text);
        return 1;
    }
    ev_run(r.loop, 0);
    sched_host_node_destroy(r.host);
    sched_route_node_destroy(r.route);
    sched_settings_destroy(r.settings);
    return r.left ? 3 : 0;
}
