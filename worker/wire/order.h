#pragma once
#include <stddef.h>

#include "worker/core/drain.h"

/* Lines of the admin socket (RUN/<boot id>/admin.sock), in both directions, ASCII:
 *
 *     drain wait|end|deadline MS [leave]
 *     undrain
 *     status
 *
 * The answers: "ok", "error TEXT", and after "drain" and "status" a line of state,
 *
 *     state off|draining|drained sessions N microvms N
 *
 * at once, and after "drain" one more with each change until it is drained or called off. */
enum worker_admin_kind { WORKER_ADMIN_DRAIN, WORKER_ADMIN_UNDRAIN, WORKER_ADMIN_STATUS };

enum { WORKER_ADMIN_LINE_MAX = 128 };

struct worker_admin_order {
    enum worker_admin_kind kind;
    struct worker_drain_order drain;
};

/* A line of n bytes without its end. 0, or BASE_EINVAL. */
int worker_admin_parse(const char *line, size_t n, struct worker_admin_order *ret);
