#pragma once
#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "worker/io/link.h"
#include "worker/io/qemu.h"
#include "worker/io/qmp.h"
#include "worker/io/template.h"
#include "worker/io/warm.h"

/* One clone from its start to its end.
 *
 *        spawn            attached        seeded          cells done       stopped
 *   FREE -----> RESTORING -------> SEEDING -----> WARMING -------> STOPPING -----> READY
 *    ^              |                                                                |
 *    |              | urgent: attached (its claim seeds it)                          | claim
 *    |              `---------------------------------------------> READY            v
 *    `-- gone -- DYING <-- failure or kill, from every state                       LIVE
 *
 * The way from SEEDING to STOPPING is gone twice: the second time is the rehearsal of a claim,
 * which goes on after a stop and seeds, so that a claim finds all of its own way translated.
 *
 * An adopted one that was claimed goes RESTORING -> LIVE, one that was not RESTORING -> STOPPING.
 *
 * FREE -> SPARE starts QEMU without a guest, ahead of need; spawn() then goes SPARE -> RESTORING.
 */
enum worker_vm_state {
    WORKER_VM_FREE,
    WORKER_VM_SPARE,
    WORKER_VM_RESTORING,
    WORKER_VM_SEEDING,
    WORKER_VM_WARMING,
    WORKER_VM_STOPPING,
    WORKER_VM_READY,
    WORKER_VM_LIVE,
    WORKER_VM_DYING,
};

/* What a microVM has to tell; collected and delivered by the engine at the end of a callback. */
enum {
    WORKER_VM_NEWS_READY = 1,
    WORKER_VM_NEWS_DEAD = 2,
    WORKER_VM_NEWS_GONE = 4,
};

enum { WORKER_VM_NO_SLOT = UINT32_MAX };

struct worker_vm;

struct worker_vm_owner {
    void *user;
    void (*news)(
        void *user, struct worker_vm *vm); /* vm->news was set; may come from inside a call */
};

struct worker_vm {
    const struct worker_engine_config *config;
    struct worker_vm_owner owner;
    uint32_t place;      /* names its folder and its user id; for ever */
    uint32_t slot, pool; /* slot: the caller's number, WORKER_VM_NO_SLOT while FREE or SPARE */
    enum worker_vm_state state;
    uint8_t vm_id[16];
    Warren__Kernel kernels[4];
    bool urgent, adopted, claimed, stopped, rehearsed, qemu_alive;
    bool paused, waits; /* frozen; the deadline is then off and has to go on with limit_ms */
    uint32_t limit_ms;
    unsigned news;
    uint64_t since_ns; /* when the state was entered */
    struct worker_qemu qemu;
    struct worker_qmp qmp;
    struct worker_link link;
    struct worker_warm warm;
    ev_timer deadline;
    char isolation[4];
    char why[200];
};

void worker_vm_init(struct worker_vm *vm, const struct worker_engine_config *config, uint32_t place,
    const struct worker_vm_owner *owner);

/* What a clone is made of; all borrowed. */
struct worker_vm_parts {
    const struct worker_template *template;
    const Warren__Kernel *kernels; /* 4 */
    int lease_fd, root_fd;
};

/* Starts QEMU without a guest in it, so that a later spawn() saves the time that takes. */
int worker_vm_spare(struct worker_vm *vm, uint32_t pool, const struct worker_vm_parts *parts,
    struct base_error *err);

/* FREE, or SPARE of the same parts. */
int worker_vm_spawn(struct worker_vm *vm, const struct worker_vm_start *start,
    const struct worker_vm_parts *parts, struct base_error *err);

/* Reads from the folder of a FREE one which microVM a worker before us ran there: vm->vm_id. */
void worker_vm_recall(struct worker_vm *vm);

struct worker_vm_adopt {
    uint32_t slot, pool;
    uint8_t vm_id[16];
    bool claimed;
    const Warren__Kernel *kernels; /* 4 */
};

/* 0 when a supervisor of that microVM answers; then READY or DEAD news follow. */
int worker_vm_adopt(struct worker_vm *vm, const struct worker_vm_adopt *adopt);

int worker_vm_claim(struct worker_vm *vm, const char *hostname);
void worker_vm_kill(struct worker_vm *vm);

/* Frozen: nothing that it owes can come, so no deadline counts; each begins anew after the thaw. In
 * any state. */
void worker_vm_pause(struct worker_vm *vm, bool on);

/* To be called by the owner after DEAD or GONE news, outside of the vm's own callbacks: closes
 * streams and connections. */
void worker_vm_disconnect(struct worker_vm *vm);

/* RUN/vm/<place> */
void worker_vm_dir(const struct worker_engine_config *config, uint32_t place, char dir[96]);
