#pragma once
#include "gateway/io/task.h"

/* The execution behind POST /executions for those who answer in another way (op_mcp.c). */
struct gw_exec_watch {
    /* False: the client is slow, no more events until gw_exec_drain(). */
    bool (*event)(struct gw_task *t, const struct gw_event *e);
    void (*done)(struct gw_task *t, const struct gw_outcome *o);
};

/* Runs what the JSON body says in the session t->route.id. Errors come by t->failed. Uses t->state:
 * to be ended with gw_exec_gone(). */
void gw_exec_begin(
    struct gw_task *t, const void *json, size_t n, const struct gw_exec_watch *watch);
void gw_exec_drain(struct gw_task *t);
void gw_exec_gone(struct gw_task *t);

/* Stops the code in the microVM, if it runs. What then comes of the execution is told as ever. */
void gw_exec_stop(struct gw_task *t);
