#include "gateway/io/early.h"

#include <stdlib.h>

#include "gateway/core/route.h"
#include "gateway/io/exchange.h"
#include "proto/base/buf.h"

enum { HELD_BYTES_MAX = 32 << 20 };

struct gw_early_one {
    struct gw_early *early;
    struct gw_exchange *x;
    struct gw_early_one *prev, *next;
    struct base_buf body; /* not consumed: a window at most */
};

static void let_go(struct gw_early_one *o)
{
    struct gw_early *e = o->early;
    *(o->prev != NULL ? &o->prev->next : &e->first) = o->next;
    *(o->next != NULL ? &o->next->prev : &e->last) = o->prev;
    e->bytes -= base_buf_size(&o->body);
    base_buf_deinit(&o->body);
    free(o);
}

static void go_on(struct gw_early_one *o)
{
    static const struct gw_exchange_ops nobody = {0};
    struct gw_exchange *x = o->x;
    struct base_buf body = o->body;
    o->early->bytes -= base_buf_size(&body);
    o->body = (struct base_buf){0};
    gw_exchange_accept(x, &nobody, NULL);
    o->early->on_request(o->early->owner, x);
    let_go(o);
    gw_exchange_replay(x, base_buf_data(&body), base_buf_size(&body));
    base_buf_deinit(&body);
}

static void on_body(void *owner, const uint8_t *data, size_t n)
{
    struct gw_early_one *o = owner;
    if (o->early->bytes + n <= HELD_BYTES_MAX && base_buf_add(&o->body, data, n) == 0) {
        o->early->bytes += n;
        return;
    }
    struct gw_exchange *x = o->x;
    go_on(o); /* and is told that there is no worker */
    gw_exchange_replay(x, data, n);
}

static void on_gone(void *owner)
{
    let_go(owner);
}

static bool for_a_pool(const struct gw_request *r)
{
    struct gw_target target;
    struct gw_route route;
    return r->method != GW_METHOD_OPTIONS && gw_target_parse(&target, r->target) == 0 &&
           gw_route_find(&target, r->method, &route) == GW_ROUTE_OK && route.op != GW_OP_HEALTH;
}

void gw_early_request(void *owner, struct gw_exchange *x)
{
    static const struct gw_exchange_ops ops = {.body = on_body, .gone = on_gone};
    struct gw_early *e = owner;
    struct gw_early_one *o = NULL;
    if (!e->open && for_a_pool(gw_exchange_request(x))) {
        o = calloc(1, sizeof *o);
    }
    if (o == NULL) {
        e->on_request(e->owner, x);
        return;
    }
    *o = (struct gw_early_one){.early = e, .x = x, .prev = e->last};
    *(e->last != NULL ? &e->last->next : &e->first) = o;
    e->last = o;
    gw_exchange_accept(x, &ops, o);
}

void gw_early_open(struct gw_early *e)
{
    e->open = true;
    while (e->first != NULL) {
        go_on(e->first);
    }
}
