#include "worker/io/template.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "proto/base/clock.h"
#include "proto/base/container.h"
#include "proto/base/rand.h"
#include "proto/ids.h"
#include "worker/io/template_disk.h"
#include "worker/io/template_key.h"
#include "worker/io/warm.h"

enum {
    BUILD_MS_MAX = 480 * 1000, /* software emulation on a busy machine */
    MIGRATE_POLL_MS = 5,
    DISK_KEEP = 6,
    WAIT_S = 1,
};

enum phase {
    PHASE_LOADING, /* thread: copy from disk */
    PHASE_WAITING, /* another pool builds the same; then loading again */
    PHASE_BOOTING, /* until the agent answers */
    PHASE_WARMING, /* interpreters load, warm-up cells run */
    PHASE_QUIESCING,
    PHASE_SAVING,   /* device state goes to its file */
    PHASE_QUITTING, /* QEMU must be gone before the memory can be sealed */
    PHASE_STORING,  /* thread: copy to disk */
    PHASE_READY,
    PHASE_FAILED,
};

struct worker_template {
    struct worker_template_setup setup;
    struct worker_qemu_machine machine;
    char id[WORKER_TEMPLATE_ID_MAX];
    enum phase phase;
    int memory_fd, state_fd;
    struct worker_qemu qemu;
    bool qemu_alive, failing;
    struct worker_qmp qmp;
    struct worker_link link;
    struct worker_warm warm;
    ev_timer timer;
    uint64_t since_ns;
    pthread_t thread;
    bool thread_runs;
    ev_async thread_done;
    int thread_rc;
    struct base_error thread_err;
    char why[400];
};

static const struct worker_engine_config *config_of(const struct worker_template *t)
{
    return t->setup.config;
}

__attribute__((format(printf, 3, 4))) static void tell(
    struct worker_template *t, enum worker_template_state state, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    t->setup.state(t->setup.user, state, text);
}

static void disconnect(struct worker_template *t)
{
    worker_warm_cancel(&t->warm);
    worker_link_deinit(&t->link);
    if (t->qmp.loop != NULL) {
        worker_qmp_deinit(&t->qmp);
        t->qmp.loop = NULL;
    }
}

static void close_files(struct worker_template *t)
{
    base_closep(&t->memory_fd);
    base_closep(&t->state_fd);
    t->memory_fd = t->state_fd = -1;
}

static void settle_failure(struct worker_template *t)
{
    ev_timer_stop(config_of(t)->loop, &t->timer);
    disconnect(t);
    close_files(t);
    t->phase = PHASE_FAILED;
    tell(t, WORKER_TEMPLATE_FAILED, "%s", t->why);
}

/* May be called from anywhere; the end of it comes from the timer or when QEMU is gone. */
__attribute__((format(printf, 2, 3))) static void fail(
    struct worker_template *t, const char *fmt, ...)
{
    if (t->failing) {
        return;
    }
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(t->why, sizeof t->why, fmt, ap);
    va_end(ap);
    t->failing = true;
    if (t->qemu_alive) {
        worker_qemu_kill(&t->qemu);
    }
    t->timer.repeat = 0.001;
    ev_timer_again(config_of(t)->loop, &t->timer);
}

/* --- threads ------------------------------------------------------------------------------- */

static void *load_thread(void *arg)
{
    struct worker_template *t = arg;
    t->thread_rc = worker_template_disk_load(config_of(t)->template_dir, t->id, t->memory_fd,
        t->machine.memory_mib, t->setup.tsc_khz, &t->thread_err);
    if (t->thread_rc == 0) {
        t->state_fd = worker_template_disk_state(config_of(t)->template_dir, t->id, &t->thread_err);
        t->thread_rc = t->state_fd < 0 ? t->state_fd : 0;
    }
    ev_async_send(config_of(t)->loop, &t->thread_done);
    return NULL;
}

static void state_path(const struct worker_template *t, char path[512])
{
    (void)snprintf(path, 512, "%s/.state-%u", config_of(t)->template_dir, t->setup.number);
}

static void *store_thread(void *arg)
{
    struct worker_template *t = arg;
    char state[512];
    state_path(t, state);
    struct worker_template_disk_save save = {
        .dir = config_of(t)->template_dir,
        .id = t->id,
        .state_path = state,
        .memory_fd = t->memory_fd,
        .memory_mib = t->machine.memory_mib,
        .tsc_khz = t->setup.tsc_khz,
    };
    t->thread_rc = worker_template_disk_save(&save, &t->thread_err);
    if (t->thread_rc == 0) {
        base_closep(&t->state_fd);
        t->state_fd = worker_template_disk_state(save.dir, t->id, &t->thread_err);
        t->thread_rc = t->state_fd < 0 ? t->state_fd : 0;
    }
    worker_template_disk_prune(save.dir, t->id, DISK_KEEP);
    ev_async_send(config_of(t)->loop, &t->thread_done);
    return NULL;
}

static void run_thread(struct worker_template *t, void *(*fn)(void *))
{
    int rc = pthread_create(&t->thread, NULL, fn, t);
    t->thread_runs = rc == 0;
    if (rc != 0) {
        fail(t, "start a thread: %s", strerror(rc));
    }
}

static void boot(struct worker_template *t);
static void begin_again(struct worker_template *t);

static void become_ready(struct worker_template *t)
{
    ev_timer_stop(config_of(t)->loop, &t->timer);
    t->phase = PHASE_READY;
    tell(t, WORKER_TEMPLATE_READY, "%s", t->id);
}

static void on_thread_done(struct ev_loop *loop, ev_async *w, int revents)
{
    (void)revents;
    struct worker_template *t = CONTAINER_OF(w, struct worker_template, thread_done);
    if (!t->thread_runs) {
        return;
    }
    (void)pthread_join(t->thread, NULL);
    t->thread_runs = false;
    struct base_error err;
    if (t->phase == PHASE_LOADING && t->thread_rc == 0) {
        if (worker_template_disk_seal(t->memory_fd, &err) != 0) {
            fail(t, "%s", err.text);
            return;
        }
        become_ready(t);
    } else if (t->phase == PHASE_LOADING && t->setup.in_work(t->setup.user, t->id)) {
        t->phase = PHASE_WAITING;
        tell(t, WORKER_TEMPLATE_BUILDING, "waiting for another pool's equal template");
        t->timer.repeat = WAIT_S;
        ev_timer_again(loop, &t->timer);
    } else if (t->phase == PHASE_LOADING) {
        boot(t);
    } else if (t->phase == PHASE_STORING && t->thread_rc == 0) {
        become_ready(t);
    } else if (t->phase == PHASE_STORING) {
        fail(t, "store the template: %s", t->thread_err.text);
    }
}

/* --- building ------------------------------------------------------------------------------ */

static void on_qmp_event(void *user, const char *name, const json_t *data)
{
    (void)user;
    (void)name;
    (void)data;
}

static void on_qmp_closed(void *user)
{
    struct worker_template *t = user;
    if (t->phase < PHASE_QUITTING) {
        fail(t, "QEMU's monitor closed");
    }
}

static void on_link_lost(void *user, const char *why)
{
    fail(user, "%s", why);
}

static void on_quit(void *user, const struct worker_qmp_reply *reply)
{
    (void)user;
    (void)reply;
}

static void on_migrate_state(void *user, const struct worker_qmp_reply *reply)
{
    struct worker_template *t = user;
    const char *status = json_string_value(json_object_get(reply->value, "status"));
    if (t->phase != PHASE_SAVING) {
        return;
    }
    if (status != NULL && strcmp(status, "completed") == 0) {
        t->phase = PHASE_QUITTING;
        (void)worker_qmp_send(&t->qmp, "{\"execute\":\"quit\"}", -1, on_quit, t);
    } else if (status == NULL || strcmp(status, "failed") == 0 ||
               strcmp(status, "cancelled") == 0) {
        fail(t, "saving the device state failed: %s", status == NULL ? "no status" : status);
    }
}

static void on_command(void *user, const struct worker_qmp_reply *reply)
{
    if (reply->error != NULL) {
        fail(user, "QEMU refused: %s", reply->error);
    }
}

/* RAM is a shared file and is not copied; what remains is some 60 KB of device state. The guest is
 * not stopped first, so the saved run state is "running" and a clone goes on by itself. */
static void save(struct worker_template *t)
{
    char path[512];
    state_path(t, path);
    t->state_fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (t->state_fd < 0) {
        fail(t, "open '%s': %s", path, strerror(errno));
        return;
    }
    worker_warm_cancel(&t->warm);
    worker_link_deinit(&t->link);
    t->phase = PHASE_SAVING;
    int rc = worker_qmp_send(&t->qmp,
        "{\"execute\":\"migrate-set-capabilities\",\"arguments\":{\"capabilities\":"
        "[{\"capability\":\"x-ignore-shared\",\"state\":true}]}}",
        -1, on_command, t);
    rc = rc != 0 ? rc
                 : worker_qmp_send(&t->qmp,
                       "{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"state\"}}", t->state_fd,
                       on_command, t);
    rc = rc != 0 ? rc
                 : worker_qmp_send(&t->qmp,
                       "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"fd:state\"}}", -1,
                       on_command, t);
    if (rc != 0) {
        fail(t, "talk to QEMU: %s", base_err_str(rc));
        return;
    }
    t->timer.repeat = MIGRATE_POLL_MS / 1e3;
    ev_timer_again(config_of(t)->loop, &t->timer);
}

static void on_quiesced(void *user, const Warren__GuestReply *reply)
{
    struct worker_template *t = user;
    if (reply->code != 0) {
        fail(t, "the agent did not become quiet: %s", reply->text);
        return;
    }
    t->phase = PHASE_SAVING; /* the link is closed outside of its own callback, by the timer */
    t->timer.repeat = 0.001;
    ev_timer_again(config_of(t)->loop, &t->timer);
}

static void on_warm(void *user, int code, const char *text)
{
    struct worker_template *t = user;
    if (code != 0) {
        fail(t, "warm-up: %s", text);
        return;
    }
    Warren__GuestQuiesce quiesce = WARREN__GUEST_QUIESCE__INIT;
    Warren__GuestCall call = WARREN__GUEST_CALL__INIT;
    call.what_case = WARREN__GUEST_CALL__WHAT_QUIESCE;
    call.quiesce = &quiesce;
    t->phase = PHASE_QUIESCING;
    int rc = worker_link_call(&t->link, &call, on_quiesced, t);
    if (rc != 0) {
        fail(t, "quiesce: %s", base_err_str(rc));
    }
}

static void on_attached(void *user, const Warren__GuestHello *hello)
{
    struct worker_template *t = user;
    if (hello->protocol != PROTO_GUEST_VERSION) {
        fail(t, "the agent speaks protocol %u, not %u", hello->protocol, PROTO_GUEST_VERSION);
        return;
    }
    t->phase = PHASE_WARMING;
    worker_warm_start(&t->warm, &t->link, t->setup.pool.kernels, true, on_warm, t);
}

/* The log lies in the folder of the QEMU that runs; its last line says how far the boot is. */
static void on_qemu_gone(void *user, const char *how, const char *log)
{
    struct worker_template *t = user;
    t->qemu_alive = false;
    disconnect(t);
    struct base_error err;
    if (t->failing) {
        settle_failure(t);
    } else if (t->phase != PHASE_QUITTING) {
        const char *tail = strlen(log) > 240 ? log + strlen(log) - 240 : log;
        (void)snprintf(t->why, sizeof t->why, "%s: %s", how, tail);
        settle_failure(t);
    } else if (worker_template_disk_seal(t->memory_fd, &err) != 0) {
        fail(t, "%s", err.text);
    } else {
        t->phase = PHASE_STORING;
        run_thread(t, store_thread);
    }
}

static int spawn(struct worker_template *t, int fds[3], struct base_error *err)
{
    const struct worker_engine_config *c = config_of(t);
    char dir[128], path[512], append[1024];
    (void)snprintf(dir, sizeof dir, "%s/vm/t%u", c->run_dir, t->setup.number);
    (void)snprintf(path, sizeof path, "%s/vmlinuz", c->image_dir);
    worker_template_append(&t->setup, t->machine.kvm, append, sizeof append);
    CLEANUP(base_closep) int kernel = open(path, O_RDONLY | O_CLOEXEC);
    if (kernel < 0) {
        return base_fail(err, -errno, "open '%s': %s", path, strerror(errno));
    }
    CLEANUP(base_closep) int initrd = worker_template_initrd(c, err);
    if (initrd < 0) {
        return initrd;
    }
    struct worker_qemu_spawn s = {
        .machine = &t->machine,
        .supervisor = c->supervisor,
        .dir = dir,
        .uid = t->setup.uid,
        .memory_fd = t->memory_fd,
        .root_fd = t->setup.root_fd,
        .lease_fd = t->setup.lease_fd,
        .state_fd = -1,
        .kernel_fd = kernel,
        .initrd_fd = initrd,
        .append = append,
        .record = "template\n",
    };
    struct worker_qemu_events ev = {t, on_qemu_gone};
    return worker_qemu_spawn(&t->qemu, c->loop, &s, &ev, fds, err);
}

static void boot(struct worker_template *t)
{
    struct base_error err;
    int fds[3] = {-1, -1, -1};
    t->phase = PHASE_BOOTING;
    t->since_ns = base_clock_mono_ns();
    close_files(t);
    t->memory_fd = worker_template_disk_memfd(t->machine.memory_mib);
    if (t->memory_fd < 0) {
        fail(t, "memory for the template: %s", strerror(-t->memory_fd));
        return;
    }
    if (spawn(t, fds, &err) != 0) {
        fail(t, "%s", err.text);
        return;
    }
    t->qemu_alive = true;
    worker_qmp_init(&t->qmp, config_of(t)->loop, fds[2]);
    t->qmp.user = t;
    t->qmp.on_event = on_qmp_event;
    t->qmp.on_closed = on_qmp_closed;
    struct worker_link_events ev = {t, on_attached, on_link_lost};
    if (worker_link_init(&t->link, config_of(t)->loop, fds, &ev, false) != 0) {
        fail(t, "out of memory");
        return;
    }
    tell(t, WORKER_TEMPLATE_BUILDING, "booting a template (%s)", t->machine.kvm ? "kvm" : "tcg");
    t->timer.repeat = 1.;
    ev_timer_again(config_of(t)->loop, &t->timer);
}

static void on_timer(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)revents;
    struct worker_template *t = CONTAINER_OF(w, struct worker_template, timer);
    uint64_t ms = (base_clock_mono_ns() - t->since_ns) / BASE_NS_PER_MS;
    if (t->failing && t->qemu_alive) {
        t->timer.repeat = 1.; /* gone comes; ask again in case the order was lost */
        ev_timer_again(loop, w);
        worker_qemu_kill(&t->qemu);
    } else if (t->failing) {
        settle_failure(t);
    } else if (t->phase == PHASE_WAITING) {
        ev_timer_stop(loop, w);
        begin_again(t);
    } else if (ms > BUILD_MS_MAX) {
        fail(t, "not ready after %u s", BUILD_MS_MAX / 1000);
    } else if (t->phase == PHASE_SAVING && t->state_fd < 0) {
        save(t);
    } else if (t->phase == PHASE_SAVING) {
        (void)worker_qmp_send(&t->qmp, "{\"execute\":\"query-migrate\"}", -1, on_migrate_state, t);
    } else if (t->phase == PHASE_BOOTING || t->phase == PHASE_WARMING) {
        tell(t, WORKER_TEMPLATE_BUILDING, "%s, %u s",
            t->phase == PHASE_BOOTING ? "booting" : "loading and warming interpreters",
            (unsigned)(ms / 1000));
    }
}

/* --- life ---------------------------------------------------------------------------------- */

static int begin(struct worker_template *t, struct base_error *err)
{
    t->failing = false;
    t->since_ns = base_clock_mono_ns();
    int rc = worker_template_key(&t->setup, &t->machine, t->id, err);
    if (rc != 0) {
        return rc;
    }
    close_files(t);
    t->memory_fd = worker_template_disk_memfd(t->machine.memory_mib);
    if (t->memory_fd < 0) {
        return base_fail(err, t->memory_fd, "memory for a template");
    }
    t->phase = PHASE_LOADING;
    run_thread(t, load_thread);
    return 0;
}

int worker_template_create(
    const struct worker_template_setup *setup, struct worker_template **ret, struct base_error *err)
{
    struct worker_template *t = calloc(1, sizeof *t);
    if (t == NULL) {
        return base_fail(err, BASE_ENOMEM, "template");
    }
    t->setup = *setup;
    t->machine = setup->machine;
    t->memory_fd = t->state_fd = -1;
    t->warm.guest_dir = setup->config->guest_dir;
    ev_init(&t->timer, on_timer);
    ev_async_init(&t->thread_done, on_thread_done);
    ev_async_start(setup->config->loop, &t->thread_done);
    int rc = begin(t, err);
    if (rc != 0) {
        worker_template_destroy(t);
        return rc;
    }
    *ret = t;
    return 0;
}

static void begin_again(struct worker_template *t)
{
    struct base_error err;
    if (begin(t, &err) != 0) {
        fail(t, "%s", err.text);
    }
}

void worker_template_retry(struct worker_template *t, bool kvm)
{
    t->machine.kvm = kvm;
    if (t->phase == PHASE_FAILED) {
        begin_again(t);
    }
}

bool worker_template_ready(const struct worker_template *t)
{
    return t->phase == PHASE_READY;
}

const char *worker_template_id(const struct worker_template *t)
{
    return t->id;
}

const struct worker_qemu_machine *worker_template_machine(const struct worker_template *t)
{
    return &t->machine;
}

int worker_template_memory_fd(const struct worker_template *t)
{
    return t->memory_fd;
}

/* A file description of its own: QEMU reads it from the start. */
int worker_template_open_state(const struct worker_template *t)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", t->state_fd);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

bool worker_template_building(const struct worker_template *t)
{
    return t->phase >= PHASE_BOOTING && t->phase <= PHASE_STORING;
}

bool worker_template_busy(const struct worker_template *t)
{
    return t->thread_runs;
}

void worker_template_destroy(struct worker_template *t)
{
    if (t == NULL) {
        return;
    }
    if (t->thread_runs) {
        (void)pthread_join(t->thread, NULL);
    }
    ev_async_stop(config_of(t)->loop, &t->thread_done);
    ev_timer_stop(config_of(t)->loop, &t->timer);
    disconnect(t);
    if (t->qemu_alive) {
        worker_qemu_kill(&t->qemu);
        worker_qemu_deinit(&t->qemu);
    }
    close_files(t);
    free(t);
}
