#include "worker/io/places.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/base/assert.h"
#include "worker/jail/supervise.h"

void worker_places_take(struct worker_places *p, const struct worker_vm *vm)
{
    uint32_t i = 0;
    while (i < p->rested_n && p->rested[i] != vm->place) {
        i++;
    }
    REQUIRE(i < p->rested_n);
    p->rested_n--;
    memmove(p->rested + i, p->rested + i + 1, (p->rested_n - i) * sizeof *p->rested);
}

/* The supervisor buries QEMU and folder by itself. A folder that nobody listens in was left by one
 * that was killed too. */
static void reap(const struct worker_places *p, const char *dir)
{
    if (worker_qemu_end(dir)) {
        LOG_WARN(p->config->log, "ended a microVM that belongs to no session folder=%s", dir);
    } else {
        (void)worker_supervise_remove_dir(dir);
    }
}

/* When its supervisor was killed, nobody has removed the folder; then the place is of no use. */
static void reap_place(const struct worker_places *p, const struct worker_vm *vm)
{
    char dir[96];
    worker_vm_dir(p->config, vm->place, dir);
    if (access(dir, F_OK) == 0) {
        reap(p, dir);
    }
}

/* The place that a folder's name stands for; UINT32_MAX: none. */
static uint32_t place_of(const char *name)
{
    enum { PLACES_MAX = 1 << 17 };
    char *end;
    unsigned long place = strtoul(name, &end, 10);
    return end != name && *end == '\0' && place < PLACES_MAX ? (uint32_t)place : UINT32_MAX;
}

void worker_places_put_back(struct worker_places *p, const struct worker_vm *vm)
{
    worker_places_take(p, vm);
    p->rested[p->rested_n++] = vm->place;
    reap_place(p, vm);
}

void worker_places_release(struct worker_places *p, struct worker_vm *vm)
{
    reap_place(p, vm);
    if (vm->slot != WORKER_VM_NO_SLOT) {
        p->at[vm->slot] = NULL;
    }
    vm->state = WORKER_VM_FREE;
    vm->slot = WORKER_VM_NO_SLOT;
    p->rested[p->rested_n++] = vm->place;
}

static DIR *open_folders(const struct worker_places *p)
{
    char path[96];
    (void)snprintf(path, sizeof path, "%s/vm", p->config->run_dir);
    return opendir(path);
}

static void close_folders(DIR *d)
{
    if (d != NULL) {
        (void)closedir(d);
    }
}

void worker_places_reap(const struct worker_places *p, bool templates)
{
    DIR *d = open_folders(p);
    for (const struct dirent *x = d == NULL ? NULL : readdir(d); x != NULL; x = readdir(d)) {
        uint32_t place = place_of(x->d_name);
        bool ours = place < p->n && p->vms[place].state != WORKER_VM_FREE;
        bool template = x->d_name[0] == 't';
        char dir[96];
        if (x->d_name[0] != '.' && !ours && template == templates &&
            snprintf(dir, sizeof dir, "%s/vm/%s", p->config->run_dir, x->d_name) <
                (int)sizeof dir) {
            reap(p, dir);
        }
    }
    close_folders(d);
}

/* How many places the folders of a worker before us take, which may have had more slots. */
static uint32_t places_seen(const struct worker_places *p)
{
    uint32_t n = 0;
    DIR *d = open_folders(p);
    for (const struct dirent *x = d == NULL ? NULL : readdir(d); x != NULL; x = readdir(d)) {
        uint32_t place = place_of(x->d_name);
        n = place != UINT32_MAX && place >= n ? place + 1 : n;
    }
    close_folders(d);
    return n;
}

int worker_places_init(struct worker_places *p, const struct worker_engine_config *config,
    const struct worker_vm_owner *owner, struct base_error *err)
{
    *p = (struct worker_places){.config = config};
    uint32_t n = config->slots_max + config->spares_max, seen = places_seen(p);
    n = n > seen ? n : seen;
    REQUIRE(n > 0);
    p->vms = calloc(n, sizeof *p->vms);
    p->at = calloc(config->slots_max, sizeof(struct worker_vm *));
    p->rested = calloc(n, sizeof *p->rested);
    if (p->vms == NULL || p->at == NULL || p->rested == NULL) {
        return base_fail(err, BASE_ENOMEM, "%u slots", config->slots_max);
    }
    p->n = n;
    worker_vm_init(&p->none, config, 0, owner);
    for (uint32_t i = 0; i < n; i++) {
        worker_vm_init(&p->vms[i], config, i, owner);
        worker_vm_recall(&p->vms[i]);
        p->rested[p->rested_n++] = i;
    }
    return 0;
}

void worker_places_deinit(struct worker_places *p)
{
    free(p->vms);
    free(p->at);
    free(p->rested);
    *p = (struct worker_places){0};
}

struct worker_vm *worker_places_first(const struct worker_places *p)
{
    return p->rested_n > 0 ? &p->vms[p->rested[0]] : NULL;
}
