#pragma once
#include "gateway/core/fault.h"
#include "gateway/core/outcome.h"

/* Executions as server-sent events: one event each, its id is the sequence number. Names are
 * stdout, stderr, display, result, error and done; a stream that ends without done was cut, or says
 * why in an event named fault. All return 0 or BASE_ENOMEM. */
int gw_sse_event(const struct gw_event *e, struct base_buf *to);
int gw_sse_fault(const struct gw_fault *f, const char *trace, struct base_buf *to);

/* A comment that keeps proxies from closing the connection. */
int gw_sse_keepalive(struct base_buf *to);
