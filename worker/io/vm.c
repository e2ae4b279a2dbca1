#include "worker/io/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/assert.h"
#include "proto/base/cleanup.h"
#include "proto/base/clock.h"
#include "proto/base/container.h"
#include "proto/base/rand.h"
#include "proto/base/text.h"
#include "proto/ids.h"

enum {
    START_MS_MAX = 60 * 1000, /* software emulation, a busy machine, a Node kernel to start */
    ADOPT_MS_MAX = 15 * 1000,
    SEED_BYTES = 64,
};

void worker_vm_dir(const struct worker_engine_config *config, uint32_t place, char dir[96])
{
    (void)snprintf(dir, 96, "%s/vm/%u", config->run_dir, place);
}

static void enter(struct worker_vm *vm, enum worker_vm_state state)
{
    uint64_t now = base_clock_mono_ns();
    LOG_DEBUG(vm->config->log, "microVM place=%u slot=%d state %d -> %d us=%llu", vm->place,
        (int)vm->slot, (int)vm->state, (int)state, (unsigned long long)(now - vm->since_ns) / 1000);
    vm->since_ns = now;
    vm->state = state;
}

static void tell(struct worker_vm *vm, unsigned news)
{
    vm->news |= news;
    vm->owner.news(vm->owner.user, vm);
}

static void give_time(struct worker_vm *vm, uint32_t ms)
{
    vm->limit_ms = ms;
    vm->waits = vm->paused;
    ev_timer_stop(vm->config->loop, &vm->deadline);
    if (!vm->paused) {
        ev_timer_set(&vm->deadline, ms / 1e3, 0.);
        ev_timer_start(vm->config->loop, &vm->deadline);
    }
}

static void no_deadline(struct worker_vm *vm)
{
    vm->waits = false;
    ev_timer_stop(vm->config->loop, &vm->deadline);
}

void worker_vm_pause(struct worker_vm *vm, bool on)
{
    bool had = vm->waits || ev_is_active(&vm->deadline);
    vm->paused = on;
    if (had) {
        give_time(vm, vm->limit_ms);
    }
}

static void fail(struct worker_vm *vm, const char *why)
{
    if (vm->state == WORKER_VM_DYING || vm->state == WORKER_VM_FREE) {
        return;
    }
    (void)snprintf(vm->why, sizeof vm->why, "%s", why);
    enter(vm, WORKER_VM_DYING);
    no_deadline(vm);
    worker_qemu_kill(&vm->qemu);
    tell(vm, WORKER_VM_NEWS_DEAD);
}

static void on_deadline(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop;
    (void)revents;
    static const char *const where[] = {
        "", "starting", "restoring", "seeding", "warming", "stopping", "", "", ""};
    struct worker_vm *vm = CONTAINER_OF(w, struct worker_vm, deadline);
    char why[64];
    (void)snprintf(why, sizeof why, "no answer while %s", where[vm->state]);
    fail(vm, why);
}

static void become_ready(struct worker_vm *vm)
{
    enter(vm, vm->claimed ? WORKER_VM_LIVE : WORKER_VM_READY);
    no_deadline(vm);
    tell(vm, WORKER_VM_NEWS_READY);
}

static void on_command(void *user, const struct worker_qmp_reply *reply)
{
    if (reply->error != NULL) {
        fail(user, reply->error);
    }
}

static void command(struct worker_vm *vm, const char *text, worker_qmp_reply_fn *fn)
{
    if (worker_qmp_send(&vm->qmp, text, -1, fn, vm) != 0) {
        fail(vm, "QEMU's monitor takes no command");
    }
}

static int seed(struct worker_vm *vm, Warren__SeedStage stage, const char *hostname);

static void start_seed(struct worker_vm *vm)
{
    enter(vm, WORKER_VM_SEEDING);
    if (seed(vm, WARREN__SEED_STAGE__SEED_RESTORED, vm->rehearsed ? "rehearsal" : "warren") != 0) {
        fail(vm, "the agent takes no seed");
    }
}

static void on_stopped(void *user, const struct worker_qmp_reply *reply)
{
    struct worker_vm *vm = user;
    if (reply->error != NULL) {
        fail(vm, reply->error);
    } else if (vm->state == WORKER_VM_STOPPING && !vm->rehearsed) {
        vm->rehearsed = true;
        command(vm, "{\"execute\":\"cont\"}", on_command);
        start_seed(vm);
    } else if (vm->state == WORKER_VM_STOPPING) {
        vm->stopped = true;
        become_ready(vm);
    }
}

/* A stopped instance costs no CPU; `cont` takes well under a millisecond. */
static void stop(struct worker_vm *vm)
{
    enter(vm, WORKER_VM_STOPPING);
    command(vm, "{\"execute\":\"stop\"}", on_stopped);
}

static void on_warm(void *user, int code, const char *text)
{
    struct worker_vm *vm = user;
    if (code != 0) {
        char why[200];
        (void)snprintf(why, sizeof why, "throw-away cell: %s", text);
        fail(vm, why);
    } else if (vm->state == WORKER_VM_WARMING) {
        stop(vm);
    }
}

static void on_seeded(void *user, const Warren__GuestReply *reply)
{
    struct worker_vm *vm = user;
    LOG_DEBUG(vm->config->log, "microVM slot=%u seeded us=%llu", vm->slot,
        (unsigned long long)(base_clock_mono_ns() - vm->since_ns) / 1000);
    if (reply->code != 0) {
        fail(vm, "the agent could not reseed");
    } else if (vm->state == WORKER_VM_SEEDING) {
        enter(vm, WORKER_VM_WARMING);
        worker_warm_start(&vm->warm, &vm->link, vm->kernels, false, on_warm, vm);
    }
}

static size_t kernel_count(const struct worker_vm *vm)
{
    size_t n = 0;
    while (n < 4 && vm->kernels[n] != WARREN__KERNEL__KERNEL_NONE) {
        n++;
    }
    return n;
}

static int seed(struct worker_vm *vm, Warren__SeedStage stage, const char *hostname)
{
    uint8_t random[SEED_BYTES];
    base_rand_bytes(random, sizeof random);
    Warren__GuestSeed s = WARREN__GUEST_SEED__INIT;
    s.stage = stage;
    s.real_ns = base_clock_real_ns();
    s.seed.data = random;
    s.seed.len = sizeof random;
    s.hostname = (char *)(uintptr_t)hostname;
    s.machine_id.data = vm->vm_id;
    s.machine_id.len = sizeof vm->vm_id;
    s.isolation = vm->isolation;
    s.kernels = vm->kernels;
    s.n_kernels = kernel_count(vm);
    Warren__GuestCall call = WARREN__GUEST_CALL__INIT;
    call.what_case = WARREN__GUEST_CALL__WHAT_SEED;
    call.seed = &s;
    int rc = worker_link_call(&vm->link, &call, on_seeded, vm);
    explicit_bzero(random, sizeof random);
    return rc;
}

static void on_attached(void *user, const Warren__GuestHello *hello)
{
    struct worker_vm *vm = user;
    if (hello->protocol != PROTO_GUEST_VERSION) {
        fail(vm, "the agent speaks another protocol version");
    } else if (vm->state != WORKER_VM_RESTORING) {
        return;
    } else if (vm->adopted && vm->claimed) {
        become_ready(vm);
    } else if (vm->adopted) {
        stop(vm);
    } else if (vm->urgent) {
        /* Its claim comes at once and seeds it; until then the agent runs nothing of a user. */
        become_ready(vm);
    } else {
        start_seed(vm);
    }
}

static void on_lost(void *user, const char *why)
{
    fail(user, why);
}

static void on_qmp_event(void *user, const char *name, const json_t *data)
{
    (void)data;
    struct worker_vm *vm = user;
    if (strcmp(name, "SHUTDOWN") == 0) {
        fail(vm, "the guest shut down");
    }
}

static void on_qmp_closed(void *user)
{
    fail(user, "QEMU's monitor closed");
}

static void on_gone(void *user, const char *how, const char *log)
{
    struct worker_vm *vm = user;
    vm->qemu_alive = false;
    if (vm->state != WORKER_VM_DYING) {
        char why[200];
        size_t n = strlen(log);
        (void)snprintf(
            why, sizeof why, "%s%s%s", how, n > 0 ? ": " : "", log + (n > 120 ? n - 120 : 0));
        fail(vm, why);
    } else if (strstr(how, "lease") != NULL) {
        (void)snprintf(vm->why, sizeof vm->why, "%s", how);
    }
    tell(vm, WORKER_VM_NEWS_GONE);
}

void worker_vm_init(struct worker_vm *vm, const struct worker_engine_config *config, uint32_t place,
    const struct worker_vm_owner *owner)
{
    *vm = (struct worker_vm){
        .config = config, .place = place, .slot = WORKER_VM_NO_SLOT, .owner = *owner};
    ev_init(&vm->deadline, on_deadline);
}

static int connect_all(struct worker_vm *vm, const int fds[3])
{
    vm->qemu_alive = true;
    worker_qmp_init(&vm->qmp, vm->config->loop, fds[2]);
    vm->qmp.user = vm;
    vm->qmp.on_event = on_qmp_event;
    vm->qmp.on_closed = on_qmp_closed;
    struct worker_link_events ev = {vm, on_attached, on_lost};
    return worker_link_init(&vm->link, vm->config->loop, fds, &ev, vm->adopted);
}

/* --- records: which microVM a folder holds --------------------------------------------------- */

static const char record_head[] = "vm ";

static void record_of(const uint8_t vm_id[16], char text[64])
{
    char hex[33];
    base_text_hex(vm_id, 16, hex);
    (void)snprintf(text, 64, "%s%s\n", record_head, hex);
}

static bool read_record(const struct worker_vm *vm, char text[64])
{
    char dir[96], path[128];
    worker_vm_dir(vm->config, vm->place, dir);
    (void)snprintf(path, sizeof path, "%s/record", dir);
    CLEANUP(base_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, 63);
    text[n > 0 ? n : 0] = '\0';
    return n > 0;
}

static bool is_vm(const struct worker_vm *vm, const uint8_t vm_id[16])
{
    char text[64], want[64];
    record_of(vm_id, want);
    return read_record(vm, text) && strcmp(text, want) == 0;
}

void worker_vm_recall(struct worker_vm *vm)
{
    char text[64];
    const size_t head = sizeof record_head - 1;
    if (!read_record(vm, text) || strncmp(text, record_head, head) != 0) {
        return;
    }
    text[strcspn(text, "\n")] = '\0';
    if (!base_text_unhex(text + head, vm->vm_id, sizeof vm->vm_id)) {
        memset(vm->vm_id, 0, sizeof vm->vm_id);
    }
}

/* --- start ---------------------------------------------------------------------------------- */

static void become(struct worker_vm *vm, const uint8_t vm_id[16], const Warren__Kernel *kernels)
{
    memcpy(vm->vm_id, vm_id, sizeof vm->vm_id);
    memcpy(vm->kernels, kernels, sizeof vm->kernels);
    vm->urgent = vm->adopted = vm->claimed = vm->stopped = vm->rehearsed = false;
    vm->warm = (struct worker_warm){.guest_dir = vm->config->guest_dir};
}

static void on_spare_up(void *user, const struct worker_qmp_reply *reply)
{
    struct worker_vm *vm = user;
    if (reply->error != NULL) {
        fail(vm, reply->error);
    } else if (vm->state == WORKER_VM_SPARE) {
        no_deadline(vm);
    }
}

/* QEMU and its connections; the agent answers to them as soon as there is a guest. */
static int launch(struct worker_vm *vm, const struct worker_vm_parts *parts, const char *record,
    struct base_error *err)
{
    REQUIRE(vm->state == WORKER_VM_FREE);
    CLEANUP(base_closep) int state_fd = worker_template_open_state(parts->template);
    if (state_fd < 0) {
        return base_fail(err, state_fd, "device state of the template: %s", strerror(-state_fd));
    }
    char dir[96];
    worker_vm_dir(vm->config, vm->place, dir);
    const struct worker_qemu_machine *machine = worker_template_machine(parts->template);
    (void)snprintf(vm->isolation, sizeof vm->isolation, "%s", machine->kvm ? "kvm" : "tcg");
    struct worker_qemu_spawn s = {
        .machine = machine,
        .supervisor = vm->config->supervisor,
        .dir = dir,
        .uid = vm->config->uid_base + vm->place,
        .memory_fd = worker_template_memory_fd(parts->template),
        .root_fd = parts->root_fd,
        .lease_fd = parts->lease_fd,
        .state_fd = state_fd,
        .kernel_fd = -1,
        .initrd_fd = -1,
        .record = record,
    };
    struct worker_qemu_events ev = {vm, on_gone};
    int fds[3];
    int rc = worker_qemu_spawn(&vm->qemu, vm->config->loop, &s, &ev, fds, err);
    if (rc != 0) {
        return rc;
    }
    vm->news = 0;
    vm->why[0] = '\0';
    vm->adopted = false;
    enter(vm, WORKER_VM_SPARE);
    give_time(vm, START_MS_MAX);
    if (connect_all(vm, fds) != 0) {
        fail(vm, "out of memory");
    }
    command(vm,
        "{\"execute\":\"migrate-set-capabilities\",\"arguments\":{\"capabilities\":"
        "[{\"capability\":\"x-ignore-shared\",\"state\":true}]}}",
        on_spare_up);
    return 0;
}

int worker_vm_spare(struct worker_vm *vm, uint32_t pool, const struct worker_vm_parts *parts,
    struct base_error *err)
{
    vm->pool = pool;
    return launch(vm, parts, "spare\n", err);
}

int worker_vm_spawn(struct worker_vm *vm, const struct worker_vm_start *start,
    const struct worker_vm_parts *parts, struct base_error *err)
{
    char dir[96], record[64];
    worker_vm_dir(vm->config, vm->place, dir);
    record_of(start->vm_id, record);
    vm->pool = start->pool;
    int rc = vm->state == WORKER_VM_FREE ? launch(vm, parts, record, err)
                                         : worker_qemu_record(dir, record, err);
    if (rc != 0) {
        return rc;
    }
    vm->slot = start->slot;
    become(vm, start->vm_id, parts->kernels);
    vm->urgent = start->urgent;
    if (vm->state == WORKER_VM_SPARE) {
        enter(vm, WORKER_VM_RESTORING);
        give_time(vm, START_MS_MAX);
        command(
            vm, "{\"execute\":\"migrate-incoming\",\"arguments\":{\"uri\":\"fd:8\"}}", on_command);
    }
    return 0;
}

int worker_vm_adopt(struct worker_vm *vm, const struct worker_vm_adopt *a)
{
    if (vm->state != WORKER_VM_FREE) {
        return BASE_ESTATE;
    }
    char dir[96];
    worker_vm_dir(vm->config, vm->place, dir);
    struct worker_qemu_events ev = {vm, on_gone};
    int fds[3];
    int rc = is_vm(vm, a->vm_id) ? worker_qemu_adopt(&vm->qemu, vm->config->loop, dir, &ev, fds)
                                 : BASE_ENOTFOUND;
    if (rc != 0) {
        return rc;
    }
    vm->slot = a->slot;
    vm->pool = a->pool;
    become(vm, a->vm_id, a->kernels);
    vm->news = 0;
    vm->why[0] = '\0';
    vm->adopted = vm->rehearsed = true;
    vm->claimed = a->claimed;
    enter(vm, WORKER_VM_RESTORING);
    give_time(vm, ADOPT_MS_MAX);
    if (connect_all(vm, fds) != 0) {
        fail(vm, "out of memory");
    }
    /* It may have been stopped as a ready instance, or killed between cont and the answer. */
    command(vm, "{\"execute\":\"cont\"}", on_command);
    return 0;
}

int worker_vm_claim(struct worker_vm *vm, const char *hostname)
{
    if (vm->state != WORKER_VM_READY) {
        return BASE_ESTATE;
    }
    vm->claimed = true;
    enter(vm, WORKER_VM_LIVE);
    if (vm->stopped) {
        command(vm, "{\"execute\":\"cont\"}", on_command);
        vm->stopped = false;
    }
    /* Frames keep their order: whatever is sent next is looked at after the new randomness is in.
     */
    if (vm->state == WORKER_VM_LIVE &&
        seed(vm, WARREN__SEED_STAGE__SEED_ALLOCATED, hostname) != 0) {
        fail(vm, "the agent takes no seed");
    }
    return vm->state == WORKER_VM_LIVE ? 0 : BASE_ECLOSED;
}

void worker_vm_kill(struct worker_vm *vm)
{
    if (vm->state == WORKER_VM_FREE) {
        return;
    }
    if (vm->state != WORKER_VM_DYING) {
        enter(vm, WORKER_VM_DYING);
        no_deadline(vm);
        worker_qemu_kill(&vm->qemu);
    }
    tell(vm, 0);
}

void worker_vm_disconnect(struct worker_vm *vm)
{
    worker_warm_cancel(&vm->warm);
    worker_link_deinit(&vm->link);
    if (vm->qmp.loop != NULL) {
        worker_qmp_deinit(&vm->qmp);
        vm->qmp.loop = NULL;
    }
}
