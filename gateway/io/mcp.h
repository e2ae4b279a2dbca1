#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "gateway/io/task.h"

/* True when the request to /mcp has a key of the pool and comes from nowhere that it must not;
 * otherwise *f says what is wrong. Without any authentication (insecure mode) a key may be missing,
 * but a wrong one is refused. */
bool gw_mcp_admit(struct gw_task *t, int64_t now_s, struct gw_fault *f);
