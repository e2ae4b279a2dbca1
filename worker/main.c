/* warren-worker: runs microVM pools of one machine and serves gateways over ZeroMQ. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/assert.h"
#include "proto/base/cleanup.h"
#include "proto/base/container.h"
#include "proto/net/cluster_key.h"
#include "proto/net/curve.h"
#include "worker/io/admin.h"
#include "worker/io/catalog.h"
#include "worker/io/catalog_file.h"
#include "worker/io/config.h"
#include "worker/io/engine.h"
#include "worker/io/member.h"
#include "worker/io/pool_file.h"
#include "worker/io/ready.h"
#include "worker/io/rpc.h"
#include "worker/io/session_io.h"
#include "worker/io/store.h"

enum {
    STATIC_VIEW = 1,
    REPLENISH_MS = 50,
    MANIFEST_MAX = 4 << 20,
    FD_READY_MAX = 1024,
    SPARES_MAX = 4, /* some 30 MiB each */
    SLOT_MIB = 256, /* of the machine's memory, for each microVM of a cluster's pools */
    SLOTS_MIN = 16,
    SLOTS_MAX = 1024,
    APPLY_AGAIN_S = 5,
    FILES_GRACE_MS = 10000,
    EXIT_LEFT = 3, /* drained and told to leave: not to be started again */
};

static const char usage[] =
    "usage: warren-worker --config FILE [--ready-fd N]\n"
    "\n"
    "Runs the microVM pools of this machine. Usually started by `warren up` or systemd; needs "
    "root,\n"
    "because every QEMU gets a user and a network namespace of its own.\n"
    "\n"
    "  --config FILE   worker.yaml\n"
    "  --ready-fd N    write JSON lines there: progress, ready, failed\n"
    "  --version       print the version\n"
    "  --help          print this\n"
    "\n"
    "`warren worker drain` takes it out of service; told to leave, it exits with 3 then.\n"
    "SIGTERM and SIGINT end all microVMs and clean up. A worker that dies otherwise leaves them\n"
    "running for freeze_s + kill_s (and at most an eighth of that, or a second, more), with\n"
    "`lease: cluster` until the lease runs out; the next one takes them over.\n";

struct worker {
    struct ev_loop *loop;
    struct base_log log;
    struct worker_config *config;
    struct worker_ready ready;
    char run_dir[80], templates[512], run_mdb[128], node_mdb[512];
    struct worker_catalog_file catalog_file;
    char supervisor[600], guest_dir[600], qemu[256];
    int lock_fd;
    uint8_t cluster_key[16];
    struct proto_net_key key;
    struct worker_pool_file pools[PROTO_POOLS_MAX];
    unsigned pools_n;
    char *manifest;
    struct worker_catalog *catalog;
    struct sched_catalog *known;         /* of before the restart; NULL: none */
    struct worker_quota_tenant *tenants; /* with limits of their own */
    struct worker_store *run, *node;
    struct worker_sessions *sessions;
    struct worker_engine *engine;
    struct worker_rpc *rpc;
    struct worker_admin *admin;
    struct worker_member *member;      /* NULL: no cluster */
    struct worker_engine_events inner; /* of the sessions */
    struct worker_engine_events events;
    ev_signal on_term, on_int;
    ev_prepare turn;
    ev_timer again; /* what the catalogue wants could not be done */
    ev_timer last;  /* stopping, without a session: the cluster's word is not waited for longer */
    bool told_ready, stopping, failed, left;
    bool drained;  /* out of service */
    bool resigned; /* stopping: the lease was given back, or nobody heard of it */
};

/* --- paths ---------------------------------------------------------------------------------- */

static bool is_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

/* Beside this program when it was built in place, else where it is installed. */
static int find_parts(struct worker *w, struct base_error *err)
{
    char self[512];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(self, '/');
    *(slash == NULL ? self : slash) = '\0';
    static const char *const guest[] = {
        "../guest", "../lib/warren/guest", "../../lib/warren/guest"};
    (void)snprintf(w->supervisor, sizeof w->supervisor, "%s/warren-supervisor", self);
    if (!is_file(w->supervisor)) {
        return base_fail(err, BASE_ENOTFOUND, "'%s' is missing", w->supervisor);
    }
    for (size_t i = 0; i < ARRAY_LEN(guest); i++) {
        char path[700];
        (void)snprintf(w->guest_dir, sizeof w->guest_dir, "%s/%s", self, guest[i]);
        (void)snprintf(path, sizeof path, "%s/guest.cpio", w->guest_dir);
        if (is_file(path)) {
            return 0;
        }
    }
    return base_fail(err, BASE_ENOTFOUND, "guest.cpio is missing: not built?");
}

static int find_qemu(struct worker *w, struct base_error *err)
{
    static const char *const places[] = {
        "/usr/bin/qemu-system-x86_64", "/usr/local/bin/qemu-system-x86_64"};
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        if (access(places[i], X_OK) == 0) {
            (void)snprintf(w->qemu, sizeof w->qemu, "%s", places[i]);
            return 0;
        }
    }
    return base_fail(err, BASE_ENOTFOUND, "qemu-system-x86_64 is not installed");
}

static int make_dir(const char *path, struct base_error *err)
{
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        return base_fail(err, -errno, "make '%s': %s", path, strerror(errno));
    }
    return 0;
}

/* The run folder is named after the boot: what an earlier boot left describes microVMs that are
 * gone. */
static int make_folders(struct worker *w, struct base_error *err)
{
    char boot[WORKER_STORE_BOOT_ID + 1];
    int rc = worker_store_boot_id(boot);
    if (rc != 0) {
        return base_fail(err, rc, "the kernel's boot id");
    }
    const struct worker_config *c = w->config;
    if (snprintf(w->run_dir, sizeof w->run_dir, "%s/%.8s", c->run_dir, boot) >= 64) {
        return base_fail(err, BASE_ETOOBIG, "run_dir '%s' is too long for sockets", c->run_dir);
    }
    (void)snprintf(w->run_mdb, sizeof w->run_mdb, "%s/run.mdb", w->run_dir);
    (void)snprintf(w->node_mdb, sizeof w->node_mdb, "%s/node.mdb", c->state_dir);
    (void)snprintf(
        w->catalog_file.path, sizeof w->catalog_file.path, "%s/catalog.json", c->state_dir);
    (void)snprintf(w->templates, sizeof w->templates, "%s/templates", c->state_dir);
    rc = make_dir(c->run_dir, err);
    rc = rc != 0 ? rc : make_dir(w->run_dir, err);
    return rc != 0 ? rc : make_dir(c->state_dir, err);
}

/* Two workers on one run folder would fight for the same microVMs. */
static int lock(struct worker *w, struct base_error *err)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/worker.lock", w->run_dir);
    w->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (w->lock_fd < 0 || flock(w->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        return base_fail(err, -errno, "'%s': %s", path,
            errno == EWOULDBLOCK ? "another worker uses this run folder" : strerror(errno));
    }
    return 0;
}

static int read_manifest(struct worker *w, struct base_error *err)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/manifest.json", w->config->image);
    CLEANUP(base_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        return base_fail(err, -errno, "guest image '%s': %s (make one with deploy/image/build)",
            path, strerror(errno));
    }
    w->manifest = st.st_size > MANIFEST_MAX ? NULL : calloc(1, (size_t)st.st_size + 1);
    if (w->manifest == NULL || read(fd, w->manifest, (size_t)st.st_size) != st.st_size) {
        return base_fail(err, BASE_EIO, "read '%s'", path);
    }
    return 0;
}

/* --- start-up ------------------------------------------------------------------------------- */

static int load_pools(struct worker *w, struct base_error *err)
{
    for (unsigned i = 0; i < w->config->pools_count; i++) {
        if (w->pools_n == PROTO_POOLS_MAX) {
            return base_fail(err, BASE_EFULL, "at most %d pools", PROTO_POOLS_MAX);
        }
        const char *path = w->config->pools[i];
        struct base_error why;
        int rc = worker_pool_file_load(path, &w->pools[w->pools_n], &why);
        if (rc != 0) {
            return base_fail(err, rc, "%.80s: %.110s", path, why.text);
        }
        struct base_buf *warnings = &w->pools[w->pools_n++].warnings;
        char *text = (char *)base_buf_data(warnings);
        size_t left = base_buf_size(warnings);
        while (left > 0) {
            size_t n = strcspn(text, "\n");
            n = n < left ? n : left;
            LOG_WARN(&w->log, "pool file %s: %.*s", path, (int)n, text);
            n += n < left;
            text += n;
            left -= n;
        }
    }
    return 0;
}

/* What was known of the cluster's catalogue before the restart. */
static int load_catalog(struct worker *w, struct base_error *err)
{
    if (w->config->cluster == NULL) {
        return 0;
    }
    memcpy(w->catalog_file.cluster_key, w->cluster_key, sizeof w->cluster_key);
    w->catalog_file.log = &w->log;
    return worker_catalog_file_load(&w->catalog_file, &w->known, err);
}

/* A microVM of 512 MiB shares most of its memory with its template, and with the others. */
static uint32_t slots_of_memory(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    uint64_t mib = pages > 0 && page > 0 ? ((uint64_t)pages * (uint64_t)page) >> 20 : 0;
    uint64_t n = mib / SLOT_MIB;
    n = n < SLOTS_MIN ? SLOTS_MIN : n;
    return (uint32_t)(n < SLOTS_MAX ? n : SLOTS_MAX);
}

static uint32_t slots(const struct worker *w)
{
    uint32_t n = 0, least = w->config->cluster == NULL ? 0 : slots_of_memory();
    for (unsigned i = 0; i < w->pools_n; i++) {
        n += w->pools[i].spec.sessions_max + w->pools[i].spec.ready_target;
    }
    n = n > least ? n : least;
    return w->config->vms_max != 0 ? w->config->vms_max : n;
}

static void on_store_failed(void *user, int rc)
{
    struct worker *w = user;
    LOG_ERROR(
        &w->log, "the store failed, ending so that a successor takes over: %s", base_err_str(rc));
    w->failed = true;
    ev_break(w->loop, EVBREAK_ALL);
}

static int open_stores(struct worker *w, struct base_error *err)
{
    struct worker_store_config run = {.path = w->run_mdb, .kind = "run"};
    struct worker_store_config node = {.path = w->node_mdb, .kind = "node", .sync = true};
    int rc = worker_store_open(&run, &w->run, err);
    rc = rc != 0 ? rc : worker_store_open(&node, &w->node, err);
    if (rc == 0) {
        worker_store_attach(w->run, w->loop, on_store_failed, w);
    }
    return rc;
}

static void look(void *user);

static void on_template(
    void *user, uint32_t pool, enum worker_template_state state, const char *text)
{
    struct worker *w = user;
    char line[640];
    const char *name = worker_session_pool_name(w->sessions, pool);
    (void)snprintf(line, sizeof line, "pool %s: %s%s", name,
        state == WORKER_TEMPLATE_READY    ? "template ready "
        : state == WORKER_TEMPLATE_FAILED ? "template failed, trying again: "
                                          : "",
        text);
    if (!w->told_ready) {
        worker_ready_tell(&w->ready, "progress", line);
    }
    w->inner.template_state(w->inner.user, pool, state, text);
}

static void on_vm_ready(void *user, uint32_t slot)
{
    struct worker *w = user;
    w->inner.vm_ready(w->inner.user, slot);
}

static void on_vm_dead(void *user, uint32_t slot, const char *why)
{
    struct worker *w = user;
    w->inner.vm_dead(w->inner.user, slot, why);
}

static void on_vm_gone(void *user, uint32_t slot)
{
    struct worker *w = user;
    w->inner.vm_gone(w->inner.user, slot);
    look(w);
}

static void on_frozen(void *user, bool on)
{
    struct worker *w = user;
    w->inner.frozen(w->inner.user, on);
}

static int start_sessions(struct worker *w, struct base_error *err)
{
    const struct worker_config *y = w->config;
    w->tenants = calloc(y->tenant_quotas_count + 1, sizeof *w->tenants);
    if (w->tenants == NULL) {
        return base_fail(err, BASE_ENOMEM, "out of memory");
    }
    for (unsigned i = 0; i < y->tenant_quotas_count; i++) {
        worker_config_tenant(y, w->cluster_key, i, &w->tenants[i]);
    }
    struct worker_session_config c = {
        .loop = w->loop,
        .tenants = w->tenants,
        .tenants_n = y->tenant_quotas_count,
        .log = &w->log,
        .run = w->run,
        .node = w->node,
        .vms_max = slots(w),
        .replenish_ms = REPLENISH_MS,
        .drop_unwanted = y->cluster != NULL,
        .manifest = w->manifest,
        .on_change = look,
        .user = w,
    };
    memcpy(c.cluster_key, w->cluster_key, sizeof c.cluster_key);
    worker_config_quota(y, &c.tenant);
    return worker_session_create(&c, &w->sessions, err);
}

static int start_engine(struct worker *w, struct base_error *err)
{
    const struct worker_config *y = w->config;
    struct worker_engine_config c = {
        .loop = w->loop,
        .log = &w->log,
        .run_dir = w->run_dir,
        .template_dir = w->templates,
        .image_dir = y->image,
        .guest_dir = w->guest_dir,
        .supervisor = w->supervisor,
        .qemu = w->qemu,
        .accel = y->accelerator,
        .uid_base = y->uid_base,
        .slots_max = slots(w),
        .spares_max = SPARES_MAX,
        .leased = y->leased,
        .freeze_ms = y->freeze_s * 1000,
        .kill_ms = y->kill_s * 1000,
    };
    w->inner = *worker_session_engine_events(w->sessions);
    w->events = (struct worker_engine_events){
        w, on_template, on_vm_ready, on_vm_dead, on_vm_gone, on_frozen};
    int rc = worker_engine_create(&c, &w->events, &w->engine, err);
    if (rc != 0) {
        return rc;
    }
    char line[300];
    (void)snprintf(line, sizeof line, "accelerator %s (%s)", worker_engine_isolation(w->engine),
        worker_engine_accel_reason(w->engine));
    worker_ready_tell(&w->ready, "progress", line);
    worker_session_set_engine(w->sessions, w->engine);
    return 0;
}

static void on_lease(void *user, uint64_t freeze_at_ns, uint64_t kill_at_ns, uint64_t epoch)
{
    struct worker *w = user;
    worker_lease_publish(w->engine, freeze_at_ns, kill_at_ns, epoch);
}

static void look(void *user);

static void on_member_leave(void *user, const char *why)
{
    struct worker *w = user;
    if (w->stopping) {
        LOG_INFO(&w->log, "%s", why);
        w->resigned = true;
        look(w);
        return;
    }
    LOG_WARN(&w->log, "leaving the cluster, ending so that a successor joins it: %s", why);
    w->failed = true;
    ev_break(w->loop, EVBREAK_ALL);
}

static uint32_t sessions_max(const struct worker *w)
{
    uint32_t n = w->config->cluster == NULL ? 0 : slots(w);
    for (unsigned i = 0; i < w->pools_n; i++) {
        n += w->pools[i].spec.sessions_max;
    }
    return n < slots(w) ? n : slots(w);
}

/* --- the catalogue ---------------------------------------------------------------------------- */

static uint32_t share_of(void *ctx, uint32_t pool, uint32_t ready)
{
    const struct worker *w = ctx;
    return w->member == NULL ? 0 : worker_member_share(w->member, pool, ready);
}

static int apply(struct worker *w, const struct sched_catalog *known, struct base_error *err)
{
    struct worker_catalog_share share = {share_of, w};
    return worker_catalog_apply(w->catalog, known, &share, err);
}

static void on_catalog(void *user)
{
    struct worker *w = user;
    const struct sched_catalog *known = w->member == NULL ? NULL : worker_member_catalog(w->member);
    bool any = known != NULL || w->catalog_file.version != 0;
    if (w->member == NULL || w->stopping || !any) {
        return;
    }
    ev_timer_stop(w->loop, &w->again);
    int rc = apply(w, known, NULL);
    /* In this order: who starts next knows of a new pool only with the ends of the former one. */
    int kept = worker_store_commit(w->run);
    kept = kept != 0 ? kept : worker_catalog_file_keep(&w->catalog_file, known);
    if (rc != 0 || kept != 0) {
        ev_timer_set(&w->again, APPLY_AGAIN_S, 0.);
        ev_timer_start(w->loop, &w->again);
    }
    look(w);
}

static void on_again(struct ev_loop *loop, ev_timer *t, int revents)
{
    (void)loop;
    (void)revents;
    on_catalog(t->data);
}

static int start_catalog(struct worker *w, struct base_error *err)
{
    struct worker_catalog_config c = {.log = &w->log,
        .sessions = w->sessions,
        .files = w->pools,
        .files_n = w->pools_n,
        .tenants = w->tenants,
        .tenants_n = w->config->tenant_quotas_count,
        .grace_ms = FILES_GRACE_MS};
    worker_config_quota(w->config, &c.tenant);
    int rc = worker_catalog_create(&w->catalog, &c);
    if (rc != 0) {
        return base_fail(err, rc, "out of memory");
    }
    rc = apply(w, w->known, err);
    return w->known != NULL ? 0 : rc; /* what one entry is to blame for keeps nobody out */
}

static int start_member(struct worker *w, struct base_error *err)
{
    struct worker_member_config c = {
        .loop = w->loop,
        .log = &w->log,
        .settings = w->config->cluster,
        .run_dir = w->run_dir,
        .ctl = w->config->ctl,
        .bulk = w->config->bulk,
        .sessions_max = sessions_max(w),
        .catalog = w->known,
        .catalog_changed = on_catalog,
        .sessions = w->sessions,
        .lease = on_lease,
        .leave = on_member_leave,
        .user = w,
    };
    memcpy(c.cluster_key, w->cluster_key, sizeof c.cluster_key);
    int rc = w->config->cluster == NULL ? 0 : worker_member_create(&w->member, &c, err);
    on_catalog(w);                         /* it may have its share already */
    if (w->member != NULL && w->drained) { /* an order of before the restart */
        worker_member_drain(w->member);
    }
    return rc;
}

static int start_rpc(struct worker *w, struct base_error *err)
{
    const struct worker_config *y = w->config;
    struct worker_rpc_config c = {
        .loop = w->loop,
        .log = &w->log,
        .sessions = w->sessions,
        .engine = w->engine,
        .ctl = y->ctl,
        .bulk = y->bulk,
        .view = STATIC_VIEW,
        .member = w->member,
    };
    if (y->curve_secret != NULL) {
        int rc = proto_net_key_read(y->curve_secret, &w->key, err);
        if (rc != 0) {
            return rc;
        }
        c.key = &w->key;
        c.clients = y->clients;
    }
    return worker_rpc_create(&c, &w->rpc, err);
}

static void stop(struct worker *w);

static void on_leave(void *user)
{
    struct worker *w = user;
    if (!w->stopping) {
        w->left = true;
        stop(w);
    }
}

static void on_service(void *user, bool in)
{
    struct worker *w = user;
    bool change = w->drained == in;
    w->drained = !in;
    if (w->member != NULL && change && !w->stopping) {
        (in ? worker_member_undrain : worker_member_drain)(w->member);
    }
}

static int start_admin(struct worker *w, struct base_error *err)
{
    struct worker_admin_config c = {.loop = w->loop,
        .log = &w->log,
        .run_dir = w->run_dir,
        .sessions = w->sessions,
        .node = w->node,
        .leave = on_leave,
        .service = on_service,
        .user = w};
    return worker_admin_create(&w->admin, &c, err);
}

static int start(struct worker *w, struct base_error *err)
{
    int rc = make_folders(w, err);
    rc = rc != 0 ? rc : lock(w, err);
    rc = rc != 0 ? rc : find_parts(w, err);
    rc = rc != 0 ? rc : find_qemu(w, err);
    rc = rc != 0 ? rc : read_manifest(w, err);
    rc = rc != 0 ? rc : proto_net_cluster_key_read(w->config->cluster_key, w->cluster_key, err);
    rc = rc != 0 ? rc : load_pools(w, err);
    rc = rc != 0 ? rc : load_catalog(w, err);
    rc = rc != 0 ? rc : open_stores(w, err);
    rc = rc != 0 ? rc : start_sessions(w, err);
    rc = rc != 0 ? rc : start_engine(w, err);
    rc = rc != 0 ? rc : start_catalog(w, err);
    rc = rc != 0 ? rc : worker_session_start(w->sessions, err);
    rc = rc != 0 ? rc : start_admin(w, err);
    rc = rc != 0 ? rc : start_member(w, err);
    return rc != 0 ? rc : start_rpc(w, err);
}

/* --- life ----------------------------------------------------------------------------------- */

static void on_last(struct ev_loop *loop, ev_timer *t, int revents)
{
    (void)revents;
    struct worker *w = t->data;
    if (worker_member_gave_back(w->member)) {
        LOG_INFO(&w->log, "the lease was given back; no view without this worker has come");
    } else {
        LOG_WARN(&w->log, "ending without having given the lease back: no majority of voters?");
    }
    ev_break(loop, EVBREAK_ALL);
}

/* No session is left. In a cluster the lease is given back before the end, so that nobody waits for
 * it to run out; without voters it will have run out by then. */
static void resign(struct worker *w)
{
    if (w->member == NULL || w->resigned) {
        ev_break(w->loop, EVBREAK_ALL);
    } else if (!ev_is_active(&w->last)) {
        ev_timer_init(&w->last, on_last, worker_member_lease_ms(w->member) / 1e3, 0.);
        w->last.data = w;
        ev_timer_start(w->loop, &w->last);
    }
}

/* The member of a cluster is of use when it has joined, and its pools are there, if there are any.
 */
static bool in_use(const struct worker *w)
{
    return w->member == NULL ||
           (worker_member_joined(w->member) &&
               (worker_catalog_pools(w->catalog) > 0 || worker_catalog_none(w->catalog)));
}

static const char no_pools[] =
    "the catalogue of the cluster has no pool, `warren pool apply FILE` makes one";

/* Something changed that "ready" and "stopped" depend on. */
static void look(void *user)
{
    struct worker *w = user;
    worker_admin_look(w->admin);
    if (w->stopping && worker_session_idle(w->sessions)) {
        resign(w);
    } else if (!w->stopping && !w->told_ready && w->rpc != NULL &&
               worker_session_ready(w->sessions) && in_use(w)) {
        w->told_ready = true;
        if (w->member != NULL && worker_catalog_none(w->catalog)) {
            LOG_INFO(&w->log, "%s", no_pools);
            worker_ready_tell(&w->ready, "progress", no_pools);
        }
        LOG_INFO(&w->log, "ready ctl=%s bulk=%s", worker_rpc_endpoint(w->rpc, PROTO_NET_CTL),
            worker_rpc_endpoint(w->rpc, PROTO_NET_BULK));
        worker_ready_tell(&w->ready, "ready", NULL);
    }
}

static void stop(struct worker *w)
{
    w->stopping = true;
    worker_admin_stop(w->admin);
    if (w->member != NULL) {
        worker_member_leave(w->member);
    }
    worker_session_drain(w->sessions, true, true);
    look(w);
}

static void on_stop(struct ev_loop *loop, ev_signal *s, int revents)
{
    (void)loop;
    (void)revents;
    struct worker *w = s->data;
    if (w->stopping) {
        ev_break(w->loop, EVBREAK_ALL); /* asked twice: leave the rest to the lease */
        return;
    }
    LOG_INFO(&w->log, "stopping: all microVMs end");
    stop(w);
}

static void watch_signal(struct worker *w, ev_signal *s, int number)
{
    ev_signal_init(s, on_stop, number);
    s->data = w;
    ev_signal_start(w->loop, s);
}

static void remove_run_files(const struct worker *w)
{
    static const char *const files[] = {"run.mdb/data.mdb", "run.mdb/lock.mdb",
        "sched.mdb/data.mdb", "sched.mdb/lock.mdb", "lease", "worker.lock"};
    static const char *const folders[] = {"run.mdb", "sched.mdb", "vm", ""};
    char path[160];
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        (void)snprintf(path, sizeof path, "%s/%s", w->run_dir, files[i]);
        (void)unlink(path);
    }
    for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
        (void)snprintf(path, sizeof path, "%s/%s", w->run_dir, folders[i]);
        (void)rmdir(path);
    }
}

static void tear_down(struct worker *w)
{
    ev_timer_stop(w->loop, &w->again);
    bool clean = w->stopping && w->sessions != NULL && worker_session_idle(w->sessions);
    worker_rpc_destroy(w->rpc);
    worker_admin_destroy(w->admin);
    w->admin = NULL;
    worker_member_destroy(w->member);
    worker_catalog_destroy(w->catalog);
    sched_catalog_destroy(w->known);
    worker_engine_destroy(w->engine);
    worker_session_destroy(w->sessions);
    worker_store_close(w->run);
    worker_store_close(w->node);
    if (clean) {
        remove_run_files(w);
    }
    for (unsigned i = 0; i < w->pools_n; i++) {
        worker_pool_file_deinit(&w->pools[i]);
    }
    worker_config_destroy(w->config);
    free(w->manifest);
    free(w->tenants);
    base_closep(&w->lock_fd);
}

static int run(struct worker *w)
{
    struct base_error err;
    w->loop = ev_default_loop(EVBACKEND_EPOLL | EVFLAG_NOENV);
    (void)signal(SIGPIPE, SIG_IGN);
    watch_signal(w, &w->on_term, SIGTERM);
    watch_signal(w, &w->on_int, SIGINT);
    ev_timer_init(&w->again, on_again, 0., 0.);
    w->again.data = w;
    if (start(w, &err) != 0) {
        LOG_ERROR(&w->log, "cannot start: %s", err.text);
        worker_ready_tell(&w->ready, "failed", err.text);
        tear_down(w);
        return EXIT_FAILURE;
    }
    look(w);
    ev_run(w->loop, 0);
    int code = w->failed ? EXIT_FAILURE : w->left ? EXIT_LEFT : EXIT_SUCCESS;
    tear_down(w);
    return code;
}

static int parse(int argc, char **argv, const char **ret_config, struct worker_ready *ready)
{
    static const struct option all[] = {{"config", required_argument, NULL, 'c'},
        {"ready-fd", required_argument, NULL, 'r'}, {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    int opt;
    while ((opt = getopt_long(argc, argv, "", all, NULL)) != -1) {
        char *end = NULL;
        long fd = opt == 'r' ? strtol(optarg, &end, 10) : 0;
        if (opt == 'c') {
            *ret_config = optarg;
        } else if (opt == 'r' && *end == '\0' && fd >= 0 && fd < FD_READY_MAX) {
            ready->fd = (int)fd;
            (void)fcntl(ready->fd, F_SETFD, FD_CLOEXEC);
        } else if (opt == 'v') {
            (void)puts("warren-worker " WARREN_VERSION);
            exit(EXIT_SUCCESS);
        } else if (opt == 'h') {
            (void)fputs(usage, stdout);
            exit(EXIT_SUCCESS);
        } else {
            return -1;
        }
    }
    return *ret_config != NULL && optind == argc ? 0 : -1;
}

int main(int argc, char **argv)
{
    static struct worker w = {.ready = {-1}, .lock_fd = -1};
    const char *config = NULL;
    if (parse(argc, argv, &config, &w.ready) != 0) {
        (void)fputs(usage, stderr);
        return 2;
    }
    base_log_init(&w.log, "warren-worker", STDERR_FILENO);
    (void)proto_net_raise_limits();
    struct base_error err;
    if (worker_config_load(config, &w.config, &err) != 0) {
        LOG_ERROR(&w.log, "%s", err.text);
        worker_ready_tell(&w.ready, "failed", err.text);
        return EXIT_FAILURE;
    }
    REQUIRE(w.config != NULL);
    w.log.level = w.config->log_level;
    return run(&w);
}
