#pragma once
#include "gateway/io/task.h"

/* The execution behind POST /executions for those who answer in another way (op_mcp.c). */
struct gw_exec_watch {
    /* To be answered, now or later, with gw_call_event_done(t->call, bytes). */
    void (*event)(struct gw_task *t, const struct gw_event *e, uint32_t bytes);
    void (*done)(struct gw_task *t, const struct gw_outcome *o);
    Warren__Kernel kernel; /* for code, whatever the pool runs */
};

/* Runs what the JSON body says in the session t->route.id. Errors come by t->failed. Uses t->state:
 * to be ended with gw_exec_gone(). */
void gw_exec_begin(
    struct gw_task *t, const void *json, size_t n, const struct gw_exec_watch *watch);
void gw_exec_gone(struct gw_task *t);

/* Stops the code in the microVM, if it runs. What then comes of the execution is told as ever, or,
 * when true is returned, not at all: the worker had not said that it has begun. */
bool gw_exec_stop(struct gw_task *t);

/* Ends an execution that was stopped so early as one that was canceled. */
void gw_exec_canceled(struct gw_task *t);
