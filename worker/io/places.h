#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "worker/io/vm.h"

/* Where microVMs live: a place is a folder RUN/vm/<place> and a user id. There are more places than
 * slots, because a spare has no slot yet and one that ends has none any more. */
struct worker_places {
    const struct worker_engine_config *config;
    uint32_t n;            /* slots_max + spares_max, or more after a worker that had more */
    struct worker_vm *vms; /* by place */
    struct worker_vm none; /* what a slot without one has; FREE for ever */
    struct worker_vm **at; /* by slot; NULL: nothing */
    uint32_t *rested;      /* free places; the longest free one comes first */
    uint32_t rested_n;
};

/* Reads from RUN/vm what a worker before us left: worker_vm_recall(). config is borrowed. */
int worker_places_init(struct worker_places *p, const struct worker_engine_config *config,
    const struct worker_vm_owner *owner, struct base_error *err);
void worker_places_deinit(struct worker_places *p); /* every one must be disconnected */

struct worker_vm *worker_places_first(const struct worker_places *p); /* NULL: all are taken */
void worker_places_take(struct worker_places *p, const struct worker_vm *vm);

/* A start failed and left a free one FREE: others come first, and what is in its way goes. */
void worker_places_put_back(struct worker_places *p, const struct worker_vm *vm);

/* Its QEMU is gone. */
void worker_places_release(struct worker_places *p, struct worker_vm *vm);

/* Ends what runs in folders that nobody here holds: microVMs, or builds of templates. */
void worker_places_reap(const struct worker_places *p, bool templates);
