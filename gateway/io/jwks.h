#pragma once
#include <ev.h>
#include <stdbool.h>
#include <stddef.h>

#include "proto/base/err.h"

/* Fetches one URL, a provider's key set, on the loop: nothing blocks, and names are resolved in
 * libcurl's own thread. Redirects are not followed; an answer has 1 MiB and 5 s at most. */
struct gw_jwks;

struct gw_jwks_options {
    struct ev_loop *loop;
    const char *url; /* https, or http on loopback: the caller has checked it */
    const char *ca;  /* PEM file; NULL: the system's */
    /* From the loop. text: the body, valid during the call; NULL: error says why there is none. */
    void (*done)(void *owner, const char *text, size_t n, const char *error);
    void *owner;
};

int gw_jwks_create(struct gw_jwks **ret, const struct gw_jwks_options *opt, struct base_error *err);
void gw_jwks_destroy(struct gw_jwks *j); /* accepts NULL; not from done() */

/* Begins to fetch unless it is under way. False: it could not begin, done() will not come. */
bool gw_jwks_start(struct gw_jwks *j);
bool gw_jwks_running(const struct gw_jwks *j);
