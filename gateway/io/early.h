#pragma once
#include <stdbool.h>
#include <stddef.h>

/* Between the HTTP server and the API while no worker is known: requests for pools wait here, with
 * what has come of their bodies; all others go on at once. Nobody has been asked who he is yet, so
 * when there is no room for more bytes the address that holds most gives up some: those requests go
 * on, and are told that there is no worker. */
struct gw_exchange;
struct gw_early_one;
struct gw_early_source;

enum { GW_EARLY_BYTES_MAX = 32 << 20 };

struct gw_early {
    void (*on_request)(void *owner, struct gw_exchange *x); /* the API's, with its owner */
    void *owner;
    bool open;
    struct gw_early_one *first, *last; /* in the order in which they came */
    struct gw_early_source *sources;   /* addresses with requests that wait */
    size_t bytes;
};

/* on_request of the HTTP server; owner is the struct gw_early. */
void gw_early_request(void *owner, struct gw_exchange *x);

/* Those that wait go on, and from now on nobody waits. */
void gw_early_open(struct gw_early *e);
