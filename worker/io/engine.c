#include "worker/io/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include "proto/base/assert.h"
#include "proto/base/cleanup.h"
#include "proto/base/clock.h"
#include "proto/base/container.h"
#include "proto/limits.h"
#include "worker/io/kvm_probe.h"
#include "worker/io/lease.h"
#include "worker/io/places.h"
#include "worker/io/template.h"
#include "worker/io/vm.h"

enum { PROBE_MS_MAX = 250, RETRY_S_FIRST = 2, RETRY_S_MAX = 120, RENEW_MS = 1000, TSC_MS = 50 };

/* Spares are started when no microVM has started for a moment, one at a time. */
enum { SPARE_IDLE_MS = 250, SPARE_AGAIN_MS = 10000 };

/* A pool that was dropped keeps its number while it has microVMs; one that changes has two. */
enum { POOLS_MAX = 2 * PROTO_POOLS_MAX, DROP_AGAIN_MS = 500 };

struct pool {
    struct worker_engine *engine;
    bool dropped;
    struct worker_engine_pool spec;
    char name[PROTO_POOL_NAME_MAX + 1];
    uint32_t number;
    struct worker_template *template;
    bool failed;
    uint32_t failures;
    uint64_t missed_ns; /* when a request last had to wait for a start */
    uint64_t spare_ns;  /* no spare before this, after one that died */
    ev_timer retry;
};

struct worker_engine {
    struct worker_engine_config config;
    struct worker_engine_events events;
    struct worker_lease lease;
    bool frozen;   /* what the owner was told last */
    ev_timer look; /* when the lease may have run out */
    int root_fd;
    bool kvm;
    struct worker_kvm_probe probe;
    uint32_t tsc_khz;
    char qemu_version[128], cpu[512];
    ev_timer renew;
    struct ev_prepare post;       /* never started: fed, see link.c */
    struct pool pools[POOLS_MAX]; /* engine NULL: free */
    uint32_t pools_next;          /* the number that is tried first */
    struct worker_places places;
    uint32_t *news; /* places with news, in order */
    uint32_t news_n;
    bool *queued; /* by place */
    ev_timer spare;
    bool reaped; /* no stranger holds a place any more */
};

static void spare_soon(struct worker_engine *e)
{
    if (e->config.spares_max > 0) {
        ev_timer_again(e->config.loop, &e->spare);
    }
}

/* --- news: what the caller hears, at the end of the running callback ------------------------- */

static void on_news(void *user, struct worker_vm *vm)
{
    struct worker_engine *e = user;
    if (!e->queued[vm->place]) {
        e->queued[vm->place] = true;
        e->news[e->news_n++] = vm->place;
    }
    if (!ev_is_pending(&e->post)) {
        ev_feed_event(e->config.loop, &e->post, EV_CUSTOM);
    }
}

static void deliver_dead(struct worker_engine *e, const struct worker_vm *vm)
{
    struct pool *p = &e->pools[vm->pool];
    if (vm->slot != WORKER_VM_NO_SLOT) {
        LOG_WARN(
            e->config.log, "microVM died slot=%u pool=%s why=\"%s\"", vm->slot, p->name, vm->why);
        e->events.vm_dead(e->events.user, vm->slot, vm->why);
        return;
    }
    LOG_WARN(e->config.log, "spare QEMU died pool=%s why=\"%s\"", p->name, vm->why);
    p->spare_ns = base_clock_mono_ns() + SPARE_AGAIN_MS * BASE_NS_PER_MS;
}

static void deliver(struct worker_engine *e, struct worker_vm *vm)
{
    unsigned news = vm->news;
    uint32_t slot = vm->slot;
    vm->news = 0;
    if (vm->state == WORKER_VM_DYING) {
        worker_vm_disconnect(vm);
    } else if (news & WORKER_VM_NEWS_READY) {
        e->events.vm_ready(e->events.user, slot);
    }
    if (news & WORKER_VM_NEWS_DEAD) {
        deliver_dead(e, vm);
    }
    if (news & WORKER_VM_NEWS_GONE) {
        worker_places_release(&e->places, vm);
        if (slot != WORKER_VM_NO_SLOT) {
            e->events.vm_gone(e->events.user, slot);
        }
    }
    spare_soon(e);
}

/* Delivering may queue the same or other slots again: those are for the next round. */
static void on_post(struct ev_loop *loop, ev_prepare *w, int revents)
{
    (void)loop;
    (void)revents;
    struct worker_engine *e = CONTAINER_OF(w, struct worker_engine, post);
    uint32_t n = e->news_n;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t place = e->news[0];
        e->news_n--;
        memmove(e->news, e->news + 1, e->news_n * sizeof *e->news);
        e->queued[place] = false;
        deliver(e, &e->places.vms[place]);
    }
}

/* --- lease --------------------------------------------------------------------------------- */

/* After a renewal that is shorter than the last one, or a thaw, supervisors must not wait for their
 * timers. */
static void supervisors_look(struct worker_engine *e)
{
    for (uint32_t i = 0; i < e->places.n; i++) {
        if (e->places.vms[i].state != WORKER_VM_FREE) {
            worker_qemu_check(&e->places.vms[i].qemu);
        }
    }
}

void worker_engine_look(struct worker_engine *e)
{
    uint64_t look_ns;
    bool frozen = !worker_lease_held(&e->lease, &look_ns);
    uint64_t most_ns = RENEW_MS * BASE_NS_PER_MS;
    ev_timer_stop(e->config.loop, &e->look);
    ev_timer_set(&e->look, (double)(look_ns < most_ns ? look_ns : most_ns) / 1e9, 0.);
    ev_timer_start(e->config.loop, &e->look);
    if (frozen == e->frozen) {
        return;
    }
    e->frozen = frozen;
    LOG_WARN(e->config.log, "%s",
        frozen ? "the lease ran out: all microVMs are frozen"
               : "the lease is back: microVMs run again");
    for (uint32_t i = 0; i < e->places.n; i++) {
        worker_vm_pause(&e->places.vms[i], frozen);
    }
    if (!frozen) {
        supervisors_look(e);
    }
    if (e->events.frozen != NULL) {
        e->events.frozen(e->events.user, frozen);
    }
}

static void on_look(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop;
    (void)revents;
    worker_engine_look(CONTAINER_OF(w, struct worker_engine, look));
}

static void on_renew(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop;
    (void)revents;
    struct worker_engine *e = CONTAINER_OF(w, struct worker_engine, renew);
    worker_lease_beat(&e->lease);
}

void worker_lease_publish(
    struct worker_engine *e, uint64_t freeze_at_ns, uint64_t kill_at_ns, uint64_t epoch)
{
    if (worker_lease_grant(&e->lease, freeze_at_ns, kill_at_ns, epoch)) {
        supervisors_look(e);
    }
    worker_engine_look(e);
}

static int open_lease(struct worker_engine *e, struct base_error *err)
{
    struct worker_lease_config c = {
        .run_dir = e->config.run_dir,
        .leased = e->config.leased,
        .kill_ns = e->config.kill_ms * BASE_NS_PER_MS,
        .alone_ns = ((uint64_t)e->config.freeze_ms + e->config.kill_ms) * BASE_NS_PER_MS,
    };
    return worker_lease_open(&e->lease, &c, err);
}

/* --- templates ------------------------------------------------------------------------------ */

static void drop_template(struct pool *p)
{
    if (worker_template_busy(p->template)) { /* not waited for: leases have to be renewed */
        ev_timer_set(&p->retry, DROP_AGAIN_MS / 1e3, 0.);
        ev_timer_start(p->engine->config.loop, &p->retry);
        return;
    }
    worker_template_destroy(p->template);
    p->template = NULL;
}

static void on_retry(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop;
    (void)revents;
    struct pool *p = CONTAINER_OF(w, struct pool, retry);
    if (p->dropped) {
        drop_template(p);
        return;
    }
    p->failed = false;
    worker_template_retry(p->template, p->engine->kvm);
}

/* They hold the memory and the device state of the template they were started for. */
static void end_spares(struct worker_engine *e, uint32_t pool)
{
    for (uint32_t i = 0; i < e->places.n; i++) {
        if (e->places.vms[i].state == WORKER_VM_SPARE && e->places.vms[i].pool == pool) {
            worker_vm_kill(&e->places.vms[i]);
        }
    }
}

static void on_template(void *user, enum worker_template_state state, const char *text)
{
    struct pool *p = user;
    struct worker_engine *e = p->engine;
    if (p->dropped) {
        return;
    }
    if (state != WORKER_TEMPLATE_READY) {
        end_spares(e, p->number);
    }
    spare_soon(e);
    if (state == WORKER_TEMPLATE_FAILED) {
        LOG_ERROR(e->config.log, "template failed pool=%s why=\"%s\"", p->name, text);
        uint32_t wait = (uint32_t)RETRY_S_FIRST << (p->failures < 6 ? p->failures : 6);
        if (e->kvm && e->config.accel == WORKER_ACCEL_AUTO) {
            /* The build is the canary: a KVM that passed the probe can still break a real kernel.
             */
            e->kvm = false;
            (void)snprintf(e->probe.why, sizeof e->probe.why,
                "KVM passed the probe but a template did not start on it: %.80s", text);
            LOG_WARN(e->config.log, "falling back to tcg why=\"%s\"", e->probe.why);
            wait = 0;
        }
        p->failures++;
        p->failed = true;
        ev_timer_set(&p->retry, wait < RETRY_S_MAX ? wait : RETRY_S_MAX, 0.);
        ev_timer_start(e->config.loop, &p->retry);
    } else if (state == WORKER_TEMPLATE_READY) {
        p->failures = 0;
        LOG_INFO(e->config.log, "template ready pool=%s id=%s", p->name, text);
    }
    e->events.template_state(e->events.user, p->number, state, text);
}

/* Pools that differ in nothing that matters have equal templates; one builds, the others load. */
static bool on_in_work(void *user, const char *id)
{
    const struct pool *p = user;
    const struct worker_engine *e = p->engine;
    for (uint32_t i = 0; i < POOLS_MAX; i++) {
        const struct worker_template *t = e->pools[i].template;
        if (t != NULL && t != p->template && worker_template_building(t) &&
            strcmp(worker_template_id(t), id) == 0) {
            return true;
        }
    }
    return false;
}

/* A number that nothing stands for, long unused ones first: POOLS_MAX: there is none. */
static uint32_t free_number(const struct worker_engine *e)
{
    bool taken[POOLS_MAX] = {0};
    for (uint32_t i = 0; i < e->places.n; i++) {
        if (e->places.vms[i].state != WORKER_VM_FREE) {
            taken[e->places.vms[i].pool] = true;
        }
    }
    for (uint32_t k = 0; k < POOLS_MAX; k++) {
        uint32_t i = (e->pools_next + k) % POOLS_MAX;
        const struct pool *p = &e->pools[i];
        if (p->engine == NULL || (p->dropped && p->template == NULL && !taken[i])) {
            return i;
        }
    }
    return POOLS_MAX;
}

void worker_engine_pool_drop(struct worker_engine *e, uint32_t pool)
{
    REQUIRE(pool < POOLS_MAX && e->pools[pool].engine != NULL && !e->pools[pool].dropped);
    struct pool *p = &e->pools[pool];
    p->dropped = true;
    ev_timer_stop(e->config.loop, &p->retry);
    end_spares(e, pool);
    drop_template(p);
}

int worker_engine_pool_add(struct worker_engine *e, const struct worker_engine_pool *spec,
    uint32_t *ret_pool, struct base_error *err)
{
    uint32_t number = free_number(e);
    if (number == POOLS_MAX) {
        return base_fail(err, BASE_EFULL,
            "at most %d pools, those counted that were deleted or changed and still have microVMs",
            POOLS_MAX);
    }
    struct pool *p = &e->pools[number];
    *p = (struct pool){.engine = e, .spec = *spec, .number = number};
    (void)snprintf(p->name, sizeof p->name, "%s", spec->name);
    p->spec.name = p->name;
    ev_init(&p->retry, on_retry);
    struct worker_template_setup setup = {
        .config = &e->config,
        .pool = p->spec,
        .machine = {e->config.qemu, e->kvm, spec->memory_mib, spec->cpus},
        .cpu = e->cpu,
        .qemu_version = e->qemu_version,
        .tsc_khz = e->tsc_khz,
        .uid = e->config.uid_base + e->places.n + p->number,
        .lease_fd = e->lease.fd,
        .root_fd = e->root_fd,
        .number = p->number,
        .user = p,
        .state = on_template,
        .in_work = on_in_work,
    };
    int rc = worker_template_create(&setup, &p->template, err);
    if (rc != 0) {
        p->engine = NULL;
        return rc;
    }
    e->pools_next = (number + 1) % POOLS_MAX;
    *ret_pool = number;
    return 0;
}

static bool in_service(const struct worker_engine *e, uint32_t pool)
{
    return pool < POOLS_MAX && e->pools[pool].engine != NULL && !e->pools[pool].dropped;
}

/* --- microVMs ------------------------------------------------------------------------------- */

static struct worker_vm *vm_at(struct worker_engine *e, uint32_t slot)
{
    REQUIRE(slot < e->config.slots_max);
    return e->places.at[slot] != NULL ? e->places.at[slot] : &e->places.none;
}

static struct worker_vm_parts parts_of(const struct worker_engine *e, const struct pool *p)
{
    return (struct worker_vm_parts){p->template, p->spec.kernels, e->lease.fd, e->root_fd};
}

/* A spare of the pool, when somebody waits; otherwise the place that has rested longest. */
static struct worker_vm *choose(struct worker_engine *e, const struct worker_vm_start *start)
{
    for (uint32_t i = 0; start->urgent && i < e->places.n; i++) {
        if (e->places.vms[i].state == WORKER_VM_SPARE && e->places.vms[i].pool == start->pool) {
            return &e->places.vms[i];
        }
    }
    return worker_places_first(&e->places);
}

int worker_engine_vm_start(
    struct worker_engine *e, const struct worker_vm_start *start, struct base_error *err)
{
    REQUIRE(in_service(e, start->pool));
    struct pool *p = &e->pools[start->pool];
    if (!worker_template_ready(p->template)) {
        return base_fail(err, BASE_ESTATE, "pool '%s' has no template yet", p->name);
    }
    if (e->places.at[start->slot] != NULL) {
        return base_fail(err, BASE_ESTATE, "slot %u is in use", start->slot);
    }
    if (start->urgent) {
        p->missed_ns = base_clock_mono_ns();
    }
    struct worker_vm *vm = choose(e, start);
    if (vm == NULL) {
        return base_fail(err, BASE_EFULL, "every place is held by a QEMU that is ending");
    }
    bool free_before = vm->state == WORKER_VM_FREE;
    struct worker_vm_parts parts = parts_of(e, p);
    int rc = worker_vm_spawn(vm, start, &parts, err);
    if (free_before && vm->state != WORKER_VM_FREE) {
        worker_places_take(&e->places, vm);
    }
    if (rc == 0) {
        e->places.at[start->slot] = vm;
    } else if (vm->state != WORKER_VM_FREE) {
        worker_vm_kill(vm);
    } else {
        worker_places_put_back(&e->places, vm);
    }
    spare_soon(e);
    return rc;
}

int worker_engine_vm_claim(struct worker_engine *e, uint32_t slot, const char *hostname)
{
    return worker_vm_claim(vm_at(e, slot), hostname);
}

void worker_engine_vm_kill(struct worker_engine *e, uint32_t slot)
{
    worker_vm_kill(vm_at(e, slot));
}

int32_t worker_engine_vm_pid(const struct worker_engine *e, uint32_t slot)
{
    REQUIRE(slot < e->config.slots_max);
    return e->places.at[slot] == NULL ? 0 : e->places.at[slot]->qemu.qemu_pid;
}

int worker_engine_vm_adopt(
    struct worker_engine *e, uint32_t slot, uint32_t pool, const uint8_t vm_id[16], bool claimed)
{
    REQUIRE(in_service(e, pool));
    REQUIRE(slot < e->config.slots_max && e->places.at[slot] == NULL);
    struct worker_vm_adopt a = {
        .slot = slot, .pool = pool, .claimed = claimed, .kernels = e->pools[pool].spec.kernels};
    memcpy(a.vm_id, vm_id, sizeof a.vm_id);
    for (uint32_t i = 0; i < e->places.n; i++) {
        struct worker_vm *vm = &e->places.vms[i];
        if (vm->state == WORKER_VM_FREE && memcmp(vm->vm_id, vm_id, sizeof a.vm_id) == 0) {
            int rc = worker_vm_adopt(vm, &a);
            if (rc == 0) {
                worker_places_take(&e->places, vm);
                e->places.at[slot] = vm;
            }
            return rc;
        }
    }
    return BASE_ENOTFOUND;
}

void worker_engine_reap_strangers(struct worker_engine *e)
{
    worker_places_reap(&e->places, false);
    e->reaped = true;
    spare_soon(e);
}

/* --- spares ---------------------------------------------------------------------------------- */

static bool starting(const struct worker_vm *vm)
{
    return (vm->state >= WORKER_VM_RESTORING && vm->state <= WORKER_VM_STOPPING) ||
           (vm->state == WORKER_VM_SPARE && ev_is_active(&vm->deadline));
}

struct spare_need {
    struct pool *pool;        /* without a spare, missed last; NULL: none */
    struct worker_vm *oldest; /* spare of the pool that has not missed for longest; NULL: none */
    uint32_t n;               /* processes without a slot, ending ones too: they hold places */
    bool later;               /* a pool waits until it may try again */
};

static struct spare_need spare_need(struct worker_engine *e)
{
    struct spare_need need = {0};
    bool has[POOLS_MAX] = {0};
    for (uint32_t i = 0; i < e->places.n; i++) {
        struct worker_vm *vm = &e->places.vms[i];
        need.n += vm->state != WORKER_VM_FREE && vm->slot == WORKER_VM_NO_SLOT;
        if (vm->state != WORKER_VM_SPARE) {
            continue;
        }
        has[vm->pool] = true;
        if (need.oldest == NULL ||
            e->pools[vm->pool].missed_ns < e->pools[need.oldest->pool].missed_ns) {
            need.oldest = vm;
        }
    }
    uint64_t now = base_clock_mono_ns();
    for (uint32_t i = 0; i < POOLS_MAX; i++) {
        struct pool *p = &e->pools[i];
        if (!in_service(e, i) || has[i] || !worker_template_ready(p->template)) {
            continue;
        }
        if (p->spare_ns > now) {
            need.later = true;
        } else if (need.pool == NULL || p->missed_ns > need.pool->missed_ns) {
            need.pool = p;
        }
    }
    return need;
}

static void start_spare(struct worker_engine *e, struct pool *p)
{
    struct worker_vm *vm = worker_places_first(&e->places);
    struct worker_vm_parts parts = parts_of(e, p);
    struct base_error err;
    if (worker_vm_spare(vm, p->number, &parts, &err) == 0) {
        worker_places_take(&e->places, vm);
        return;
    }
    LOG_WARN(e->config.log, "no spare QEMU pool=%s why=\"%s\"", p->name, err.text);
    worker_places_put_back(&e->places, vm);
    p->spare_ns = base_clock_mono_ns() + SPARE_AGAIN_MS * BASE_NS_PER_MS;
}

/* One more spare, or none for now. While microVMs start it looks again later. */
static void on_spare(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)revents;
    struct worker_engine *e = CONTAINER_OF(w, struct worker_engine, spare);
    for (uint32_t i = 0; i < e->places.n; i++) {
        if (starting(&e->places.vms[i])) {
            return;
        }
    }
    struct spare_need need = spare_need(e);
    bool more = need.pool != NULL && e->reaped && e->places.rested_n > 0 && !e->frozen;
    if (more && need.n < e->config.spares_max) {
        start_spare(e, need.pool);
    } else if (more && need.oldest != NULL &&
               need.pool->missed_ns > e->pools[need.oldest->pool].missed_ns) {
        worker_vm_kill(need.oldest);
    } else if (!need.later) {
        ev_timer_stop(loop, w);
    }
}

int worker_engine_open(struct worker_engine *e, uint32_t slot, const Warren__GuestOpen *open,
    const struct worker_stream_ops *ops, void *user, struct worker_stream **ret)
{
    struct worker_vm *vm = vm_at(e, slot);
    return vm->state == WORKER_VM_LIVE ? worker_link_open(&vm->link, open, ops, user, ret)
                                       : BASE_ECLOSED;
}

void worker_engine_event_ack(
    struct worker_engine *e, uint32_t slot, const uint8_t id[16], uint64_t seq)
{
    struct worker_vm *vm = vm_at(e, slot);
    if (vm->state == WORKER_VM_LIVE) {
        worker_link_event_ack(&vm->link, id, seq);
    }
}

void worker_engine_forget(struct worker_engine *e, uint32_t slot, const uint8_t id[16])
{
    struct worker_vm *vm = vm_at(e, slot);
    if (vm->state == WORKER_VM_LIVE) {
        worker_link_forget(&vm->link, id);
    }
}

void worker_engine_interrupt(struct worker_engine *e, uint32_t slot, const uint8_t id[16])
{
    struct worker_vm *vm = vm_at(e, slot);
    Warren__GuestInterrupt interrupt = WARREN__GUEST_INTERRUPT__INIT;
    interrupt.id = (ProtobufCBinaryData){PROTO_EXEC_ID_BYTES, (uint8_t *)(uintptr_t)id};
    Warren__GuestCall c = WARREN__GUEST_CALL__INIT;
    c.what_case = WARREN__GUEST_CALL__WHAT_INTERRUPT;
    c.interrupt = &interrupt;
    if (vm->state == WORKER_VM_LIVE) {
        (void)worker_link_call(&vm->link, &c, NULL, NULL);
    }
}

/* --- life ----------------------------------------------------------------------------------- */

/* The guest's clock rate under emulation is the host's time stamp counter. */
static uint32_t measure_tsc(void)
{
    uint64_t t0 = base_clock_mono_ns(), c0 = __rdtsc();
    struct timespec ts = {0, TSC_MS * (long)BASE_NS_PER_MS};
    (void)nanosleep(&ts, NULL);
    uint64_t c1 = __rdtsc(), t1 = base_clock_mono_ns();
    return (uint32_t)((c1 - c0) * 1000000 / (t1 - t0));
}

static void read_cpu(char *text, size_t cap)
{
    CLEANUP(base_fclosep) FILE *f = fopen("/proc/cpuinfo", "re");
    char line[4096];
    size_t n = 0;
    while (f != NULL && fgets(line, sizeof line, f) != NULL && line[0] != '\n') {
        if (strncmp(line, "model name", 10) == 0 || strncmp(line, "microcode", 9) == 0 ||
            strncmp(line, "stepping", 8) == 0) {
            n += (size_t)snprintf(text + n, cap - n, "%s", strchr(line, ':'));
            n = n < cap ? n : cap - 1;
        }
    }
}

static int choose_accel(struct worker_engine *e, struct base_error *err)
{
    if (e->config.accel == WORKER_ACCEL_TCG) {
        (void)snprintf(e->probe.why, sizeof e->probe.why, "asked for");
        return 0;
    }
    worker_kvm_probe("/dev/kvm", PROBE_MS_MAX, &e->probe);
    e->kvm = e->probe.fit == WORKER_KVM_OK;
    if (!e->kvm && e->config.accel == WORKER_ACCEL_KVM) {
        return base_fail(err, BASE_EDENIED, "KVM is asked for but not usable: %s", e->probe.why);
    }
    return 0;
}

static int make_folders(struct worker_engine *e, struct base_error *err)
{
    char vm[128];
    (void)snprintf(vm, sizeof vm, "%s/vm", e->config.run_dir);
    const char *const dirs[] = {e->config.run_dir, vm, e->config.template_dir};
    for (int i = 0; i < 3; i++) {
        if (mkdir(dirs[i], 0700) != 0 && errno != EEXIST) {
            return base_fail(err, -errno, "make '%s': %s", dirs[i], strerror(errno));
        }
    }
    return 0;
}

static int open_image(struct worker_engine *e, struct base_error *err)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/rootfs.sqfs", e->config.image_dir);
    e->root_fd = open(path, O_RDONLY | O_CLOEXEC);
    if (e->root_fd < 0) {
        return base_fail(err, -errno, "open the guest image '%s': %s", path, strerror(errno));
    }
    return 0;
}

static int make_news(struct worker_engine *e, struct base_error *err)
{
    e->news = calloc(e->places.n, sizeof *e->news);
    e->queued = calloc(e->places.n, sizeof *e->queued);
    return e->news == NULL || e->queued == NULL ? base_fail(err, BASE_ENOMEM, "engine") : 0;
}

static int set_up(struct worker_engine *e, struct base_error *err)
{
    struct worker_vm_owner owner = {e, on_news};
    int rc = make_folders(e, err);
    rc = rc != 0 ? rc : worker_places_init(&e->places, &e->config, &owner, err);
    rc = rc != 0 ? rc : make_news(e, err);
    rc = rc != 0 ? rc : open_image(e, err);
    rc = rc != 0 ? rc : open_lease(e, err);
    rc = rc != 0 ? rc : choose_accel(e, err);
    rc = rc != 0
             ? rc
             : worker_qemu_version(e->config.qemu, e->qemu_version, sizeof e->qemu_version, err);
    if (rc == 0) {
        worker_places_reap(&e->places, true); /* builds that a worker before us did not finish */
    }
    e->tsc_khz = measure_tsc();
    read_cpu(e->cpu, sizeof e->cpu);
    return rc;
}

int worker_engine_create(const struct worker_engine_config *config,
    const struct worker_engine_events *events, struct worker_engine **ret, struct base_error *err)
{
    if (geteuid() != 0) {
        return base_fail(err, BASE_EDENIED,
            "the worker needs root: every QEMU gets its own uid and an empty network namespace");
    }
    struct worker_engine *e = calloc(1, sizeof *e);
    if (e == NULL) {
        return base_fail(err, BASE_ENOMEM, "engine");
    }
    e->config = *config;
    e->events = *events;
    e->lease.fd = e->root_fd = -1;
    ev_init(&e->look, on_look);
    ev_init(&e->post, on_post);
    ev_timer_init(&e->renew, on_renew, RENEW_MS / 1e3, RENEW_MS / 1e3);
    ev_timer_init(&e->spare, on_spare, 0., SPARE_IDLE_MS / 1e3);
    int rc = set_up(e, err);
    if (rc != 0) {
        worker_engine_destroy(e);
        return rc;
    }
    ev_timer_start(config->loop, &e->renew);
    LOG_INFO(config->log, "accelerator %s why=\"%s\" probe_ms=%.1f", worker_engine_isolation(e),
        e->probe.why, e->probe.total_ms);
    *ret = e;
    return 0;
}

void worker_engine_destroy(struct worker_engine *e)
{
    if (e == NULL) {
        return;
    }
    struct ev_loop *loop = e->config.loop;
    ev_timer_stop(loop, &e->renew);
    ev_timer_stop(loop, &e->look);
    ev_timer_stop(loop, &e->spare);
    for (uint32_t i = 0; i < POOLS_MAX; i++) {
        if (e->pools[i].engine != NULL) {
            ev_timer_stop(loop, &e->pools[i].retry);
        }
        worker_template_destroy(e->pools[i].template);
    }
    for (uint32_t i = 0; i < e->places.n; i++) {
        struct worker_vm *vm = &e->places.vms[i];
        ev_timer_stop(loop, &vm->deadline);
        worker_vm_disconnect(vm);
        worker_qemu_deinit(&vm->qemu);
        if (vm->state != WORKER_VM_FREE && vm->slot == WORKER_VM_NO_SLOT) {
            char dir[96];
            worker_vm_dir(&e->config, vm->place, dir);
            (void)worker_qemu_end(dir); /* a spare has nothing to live on for */
        }
    }
    (void)ev_clear_pending(loop, &e->post);
    worker_lease_close(&e->lease);
    base_closep(&e->root_fd);
    worker_places_deinit(&e->places);
    free(e->news);
    free(e->queued);
    free(e);
}

const char *worker_engine_isolation(const struct worker_engine *e)
{
    return e->kvm ? "kvm" : "tcg";
}

const char *worker_engine_accel_reason(const struct worker_engine *e)
{
    return e->probe.why;
}
