#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "gateway/core/h1_guard.h"

/* A request target taken apart: path segments and query parameters, each decoded by itself, so that
 * an escaped slash stays inside its segment. Lenient where clients are sloppy: a '%' without two
 * hex digits stands for itself, empty segments are skipped, a scheme and host in front are dropped.
 */
enum { GW_TARGET_SEGMENTS_MAX = 64, GW_TARGET_PARAMS_MAX = 32 };

struct gw_target {
    int segments_n, params_n;
    const char *segments[GW_TARGET_SEGMENTS_MAX];
    size_t raw_at[GW_TARGET_SEGMENTS_MAX]; /* where the segment's '/' is in the text given */
    struct {
        const char *name, *value;
    } params[GW_TARGET_PARAMS_MAX];
    const char *raw; /* what was given, borrowed */
    char text[GW_H1_TARGET_MAX + 4];
};

/* 0, BASE_EBADMSG (an escaped NUL, or not UTF-8) or BASE_ETOOBIG (a limit above). */
int gw_target_parse(struct gw_target *t, const char *target);

/* Value of the first parameter of that name, without regard to case; NULL when there is none. A '+'
 * means a space, except in "identifier". */
const char *gw_target_param(const struct gw_target *t, const char *name);

/* Escapes for a path segment or a parameter's value: all but unreserved characters. Writes at most
 * 3 * n + 1 bytes. */
void gw_target_escape(const char *text, size_t n, char *to);
