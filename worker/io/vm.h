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
 * An adopted one that was claimed goes RESTORING -> LIVE, one that was not RESTORING -> STOPPING.
 */
enum worker_vm_state {
    WORKER_VM_FREE,
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

struct worker_vm;

struct worker_vm_owner {
    void *user;
    void (*news)(
        void *user, struct worker_vm *vm); /* vm->news was set; may come from inside a call */
};

struct worker_vm {
    const struct worker_engine_config *config;
    struct worker_vm_owner owner;
    uint32_t slot, pool;
    enum worker_vm_state state;
    uint8_t vm_id[16];
    Warren__Kernel kernels[4];
    bool urgent, adopted, claimed, stopped, qemu_alive;
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

void worker_vm_init(struct worker_vm *vm, const struct worker_engine_config *config, uint32_t slot,
    const struct worker_vm_owner *owner);

struct worker_vm_place {
    const struct worker_template *template;
    const Warren__Kernel *kernels; /* 4 */
    int lease_fd, root_fd;
};

int worker_vm_spawn(struct worker_vm *vm, const struct worker_vm_start *start,
    const struct worker_vm_place *place, struct base_error *err);

struct worker_vm_adopt {
    uint32_t pool;
    uint8_t vm_id[16];
    bool claimed;
    const Warren__Kernel *kernels; /* 4 */
};

/* 0 when a supervisor of that microVM answers; then READY or DEAD news follow. */
int worker_vm_adopt(struct worker_vm *vm, const struct worker_vm_adopt *adopt);

int worker_vm_claim(struct worker_vm *vm, const char *hostname);
void worker_vm_kill(struct worker_vm *vm);

/* To be called by the owner after DEAD or GONE news, outside of the vm's own callbacks: closes
 * streams and connections. */
void worker_vm_disconnect(struct worker_vm *vm);

/* RUN/vm/<slot> */
void worker_vm_dir(const struct worker_engine_config *config, uint32_t slot, char dir[96]);
