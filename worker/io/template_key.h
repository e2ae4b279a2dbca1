#pragma once
#include "worker/io/template.h"

/* Content key of a template: 32 hex digits over everything that decides what is in it (image,
 * kernel command line, agent and kernels, warm-up cells, QEMU, machine, processor, memory,
 * accelerator). */
int worker_template_key(const struct worker_template_setup *setup,
    const struct worker_qemu_machine *machine, char ret_id[WORKER_TEMPLATE_ID_MAX],
    struct base_error *err);

/* Kernel command line. */
void worker_template_append(
    const struct worker_template_setup *setup, bool kvm, char *text, size_t cap);

/* The image's modules.cpio and this build's guest.cpio one after the other, in a memfd; -errno. */
int worker_template_initrd(const struct worker_engine_config *config, struct base_error *err);
