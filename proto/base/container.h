#pragma once
#include <stddef.h>

/* The struct that embeds *p as its member `field`. */
#define CONTAINER_OF(p, type, field) ((type *)(void *)((char *)(p)-offsetof(type, field)))

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
