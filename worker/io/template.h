#pragma once
#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "worker/io/engine.h"
#include "worker/io/link.h"
#include "worker/io/qemu.h"
#include "worker/io/qmp.h"

/* The template of a pool: a microVM that was booted, had its interpreters loaded and warmed, and
 * was snapshotted. RAM in a memfd sealed against writing (a clone, or whoever breaks out of one,
 * cannot change the others), device state in a small file. Kept on disk under its content key and
 * loaded from there when nothing it depends on has changed. */
enum { WORKER_TEMPLATE_ID_MAX = 40 };

struct worker_template;

struct worker_template_setup {
    const struct worker_engine_config *config; /* borrowed */
    struct worker_engine_pool pool;            /* strings borrowed */
    struct worker_qemu_machine machine;
    const char *cpu; /* what of the host's processor matters, for the key */
    const char *qemu_version;
    uint32_t tsc_khz;
    uid_t uid;
    int lease_fd, root_fd;
    uint32_t number; /* of the pool; names its folder while it is built */
    void *user;
    void (*state)(void *user, enum worker_template_state state, const char *text);
    /* True while another template of that id is being built: this one waits and loads it then. */
    bool (*in_work)(void *user, const char *id);
};

/* Starts loading or building. The state callback comes from the loop. */
int worker_template_create(const struct worker_template_setup *setup, struct worker_template **ret,
    struct base_error *err);

/* Tries again after WORKER_TEMPLATE_FAILED. kvm: with that accelerator. */
void worker_template_retry(struct worker_template *t, bool kvm);

bool worker_template_ready(const struct worker_template *t);
bool worker_template_building(const struct worker_template *t); /* booting ... storing */
/* A thread reads or writes it: worker_template_destroy() would wait for that. */
bool worker_template_busy(const struct worker_template *t);
const char *worker_template_id(const struct worker_template *t);
const struct worker_qemu_machine *worker_template_machine(const struct worker_template *t);
int worker_template_memory_fd(const struct worker_template *t);  /* borrowed; sealed */
int worker_template_open_state(const struct worker_template *t); /* a new descriptor, or -errno */

/* Ends a build in progress; clones that run are not affected. NULL is fine. */
void worker_template_destroy(struct worker_template *t);
