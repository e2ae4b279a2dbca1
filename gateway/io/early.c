#include "gateway/io/early.h"

#include <stdlib.h>

#include "gateway/core/route.h"
#include "gateway/io/exchange.h"
#include "proto/base/buf.h"

struct gw_early_source {
    const void *address;
    struct gw_early_source *next;
    size_t bytes;
    unsigned requests;
};

struct gw_early_one {
    struct gw_early *early;
    struct gw_early_source *source;
    struct gw_exchange *x;
    struct gw_early_one *prev, *next;
    struct base_buf body; /* not consumed: a window at most */
};

static struct gw_early_source *source_of(struct gw_early *e, const void *address)
{
    struct gw_early_source *s = e->sources;
    while (s != NULL && s->address != address) {
        s = s->next;
    }
    if (s == NULL && (s = calloc(1, sizeof *s)) != NULL) {
        s->address = address;
        s->next = e->sources;
        e->sources = s;
    }
    return s;
}

static void drop_source(struct gw_early *e, struct gw_early_source *s)
{
    struct gw_early_source **at = &e->sources;
    while (*at != s) {
        at = &(*at)->next;
    }
    *at = s->next;
    free(s);
}

static void count(struct gw_early_one *o, size_t more, size_t less)
{
    o->early->bytes += more - less;
    o->source->bytes += more - less;
}

static void let_go(struct gw_early_one *o)
{
    struct gw_early *e = o->early;
    *(o->prev != NULL ? &o->prev->next : &e->first) = o->next;
    *(o->next != NULL ? &o->next->prev : &e->last) = o->prev;
    count(o, 0, base_buf_size(&o->body));
    if (--o->source->requests == 0) {
        drop_source(e, o->source);
    }
    base_buf_deinit(&o->body);
    free(o);
}

static void go_on(struct gw_early_one *o)
{
    static const struct gw_exchange_ops nobody = {0};
    struct gw_exchange *x = o->x;
    struct base_buf body = o->body;
    count(o, 0, base_buf_size(&body));
    o->body = (struct base_buf){0};
    gw_exchange_accept(x, &nobody, NULL);
    o->early->on_request(o->early->owner, x);
    let_go(o);
    gw_exchange_replay(x, base_buf_data(&body), base_buf_size(&body));
    base_buf_deinit(&body);
}

/* The latest request with a body of the address that holds most; NULL: nobody holds anything. */
static struct gw_early_one *fattest(const struct gw_early *e)
{
    const struct gw_early_source *most = e->sources;
    for (const struct gw_early_source *s = e->sources; s != NULL; s = s->next) {
        most = s->bytes > most->bytes ? s : most;
    }
    struct gw_early_one *o = e->last;
    while (o != NULL && (o->source != most || base_buf_size(&o->body) == 0)) {
        o = o->prev;
    }
    return o;
}

/* False: its own address holds most. */
static bool make_room(struct gw_early_one *o, size_t n)
{
    struct gw_early *e = o->early;
    while (e->bytes + n > GW_EARLY_BYTES_MAX) {
        struct gw_early_one *other = fattest(e);
        if (other == NULL || other->source == o->source) {
            return false;
        }
        go_on(other);
    }
    return true;
}

static void on_body(void *owner, const uint8_t *data, size_t n)
{
    struct gw_early_one *o = owner;
    if (make_room(o, n) && base_buf_add(&o->body, data, n) == 0) {
        count(o, n, 0);
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
    struct gw_early_source *source = NULL;
    if (!e->open && for_a_pool(gw_exchange_request(x)) && (o = calloc(1, sizeof *o)) != NULL &&
        (source = source_of(e, gw_exchange_source(x))) == NULL) {
        free(o);
        o = NULL;
    }
    if (o == NULL) {
        e->on_request(e->owner, x);
        return;
    }
    *o = (struct gw_early_one){.early = e, .source = source, .x = x, .prev = e->last};
    *(e->last != NULL ? &e->last->next : &e->first) = o;
    e->last = o;
    source->requests++;
    gw_exchange_accept(x, &ops, o);
}

void gw_early_open(struct gw_early *e)
{
    e->open = true;
    while (e->first != NULL) {
        go_on(e->first);
    }
}
