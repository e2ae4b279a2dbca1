#pragma once
#include <stddef.h>
#include <stdint.h>

/* n bytes from the kernel's generator (getrandom). Never fails: aborts when the kernel refuses. */
void base_rand_bytes(void *out, size_t n);
uint64_t base_rand_u64(void);
