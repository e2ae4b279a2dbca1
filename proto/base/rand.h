#pragma once
#include <stddef.h>
#include <stdint.h>

#include "proto/base/text.h"

/* n bytes from the kernel's generator (getrandom). Never fails: aborts when the kernel refuses. */
void base_rand_bytes(void *out, size_t n);
uint64_t base_rand_u64(void);

/* A random UUID (RFC 4122, version 4). */
void base_rand_uuid(char text[BASE_TEXT_UUID_MAX]);
/* The same of bytes that are random already; raw is changed. */
void base_rand_uuid_of(uint8_t raw[16], char text[BASE_TEXT_UUID_MAX]);
