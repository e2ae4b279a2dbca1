#pragma once
#include <stdint.h>

#include "proto/guest.pb-c.h"

/* Fills in the fields of GuestStats. */
void agent_stats_read(Warren__GuestReply *m);

/* MemTotal of /proc/meminfo; 0 when it cannot be read. */
uint64_t agent_stats_mem_total(void);
