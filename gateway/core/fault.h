#pragma once
#include "gateway/core/route.h"
#include "proto/base/buf.h"
#include "proto/base/err.h"

/* An answer that is an error: api contract section 5. */
struct gw_fault {
    int status;       /* HTTP; 0: no fault */
    const char *code; /* machine word; lives as long as the program, or in `word` */
    char word[48];
    struct base_error text; /* message for people */
    unsigned retry_after_s; /* 0: not said */
    const char *allow;      /* 405 */
};

/* Fills *f. code must be a literal. */
#define GW_FAULT(f, http_status, word_, ...)                                                       \
    do {                                                                                           \
        *(f) = (struct gw_fault){.status = (http_status), .code = (word_)};                        \
        (void)base_fail(&(f)->text, 0, __VA_ARGS__);                                               \
    } while (0)

/* What is wrong with the request's address. Not for GW_ROUTE_OK. */
void gw_fault_of_route(struct gw_fault *f, enum gw_route_fault fault, const struct gw_route *r);

/* {"error":{...}}; trace names the request in the logs. */
int gw_fault_render(const struct gw_fault *f, const char *trace, struct base_buf *to);
