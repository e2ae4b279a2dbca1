#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/core/fault.h"

/* The body of POST /executions and its older forms: flat or wrapped in "properties", code or a
 * shell command (api contract sections 2 and 7). Fields that are not known are ignored. */
struct gw_exec_body {
    bool shell; /* shellCommand or execCommandAndArgs, not code */
    char *code; /* or the shell command; NULL with argv */
    size_t code_n;
    char **argv; /* execCommandAndArgs */
    int argv_n;
    uint32_t timeout_ms; /* 0: not said */
    int64_t output_max;  /* bytes of stdout and stderr each; -1: not said */
    bool asynchronous;
    bool fresh_kernel;
};

enum { GW_EXEC_BODY_BYTES_MAX = 8 << 20 };

/* 0, or -1 with *fault filled and nothing to free. */
int gw_exec_body_parse(
    const void *json, size_t n, struct gw_exec_body *ret, struct gw_fault *fault);
void gw_exec_body_deinit(struct gw_exec_body *b);
