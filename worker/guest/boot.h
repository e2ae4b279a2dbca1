#pragma once
#include <stdint.h>

#include "proto/base/log.h"

/* What PID 1 of a microVM does before the agent: from the initramfs to the image's root file system
 * with an overlay, limits, idle settings. Every step is fatal when it fails. */

/* 0 or -errno, logged. Afterwards the process is in the new root. */
int agent_boot(const struct base_log *log);

/* Value of a word "name=value" of the kernel's command line, or "" (static memory). */
const char *agent_boot_word(const char *name);

/* Opens the virtio-serial port of this name, non-blocking; waits for it to appear. fd or -errno. */
int agent_boot_port(const char *name);

enum { AGENT_BOOT_UID = 1000, AGENT_BOOT_GID = 1000 };
