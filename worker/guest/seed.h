#pragma once
#include "proto/guest.pb-c.h"
#include "worker/guest/config.h"

/* The part of GuestSeed that concerns the machine: kernel generator, clock, names. On the host of a
 * test only the message is checked. 0 or an enum base_err with a text. */
int agent_seed_machine(
    const struct agent_config *c, const Warren__GuestSeed *m, const char **ret_text);

/* Once at boot, after the root is in place: what every clone will write is made ready. 0 or -errno.
 */
int agent_seed_prepare(void);
