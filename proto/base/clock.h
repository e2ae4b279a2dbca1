#pragma once
#include <stdint.h>

#define BASE_NS_PER_S UINT64_C(1000000000)
#define BASE_NS_PER_MS UINT64_C(1000000)

/* CLOCK_MONOTONIC in ns. For measuring and for time-outs inside one process. */
uint64_t base_clock_mono_ns(void);

/* CLOCK_BOOTTIME in ns: runs through suspend. For lease deadlines and cooldowns, shared between
 * processes of one machine, never sent to another machine. */
uint64_t base_clock_boot_ns(void);

/* CLOCK_REALTIME in ns since 1970. For people and for tokens only, never for decisions. */
uint64_t base_clock_real_ns(void);

/* Writes "2026-01-31T12:00:00.123Z" (RFC 3339, UTC). */
enum { BASE_CLOCK_TEXT_MAX = 32 };
void base_clock_format(uint64_t real_ns, char text[BASE_CLOCK_TEXT_MAX]);
