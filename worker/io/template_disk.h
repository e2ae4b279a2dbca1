#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "proto/base/err.h"

/* Templates on disk: DIR/<id>/{memory,state,meta}, made under another name and renamed when whole.
 * All functions block; they run on a thread of their own. */

/* New memfd of that size that can be sealed; -errno on failure. */
int worker_template_disk_memfd(uint32_t memory_mib);

/* DIR/<id>/state in a memfd of its own: memory and device state of a template belong together, and
 * the files may be replaced by those of another build. -errno. */
int worker_template_disk_state(const char *dir, const char *id, struct base_error *err);

/* Nobody can write, grow or shrink it from here on. Fails with EBUSY while QEMU maps it. */
int worker_template_disk_seal(int memory_fd, struct base_error *err);

/* Copies DIR/<id>/memory into memory_fd. BASE_ENOTFOUND when there is no such template, or it was
 * made for another clock rate (tsc_khz more than 1 % off) or size. */
int worker_template_disk_load(const char *dir, const char *id, int memory_fd, uint32_t memory_mib,
    uint32_t tsc_khz, struct base_error *err);

struct worker_template_disk_save {
    const char *dir, *id;
    const char *state_path; /* moved into the template */
    int memory_fd;
    uint32_t memory_mib, tsc_khz;
};

int worker_template_disk_save(const struct worker_template_disk_save *save, struct base_error *err);

/* Removes templates other than those named, oldest first, until at most keep_max are left. */
void worker_template_disk_prune(const char *dir, const char *keep_id, unsigned keep_max);
