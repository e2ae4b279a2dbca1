#include <string.h>

#include "gateway/io/calls_state.h"
#include "proto/base/clock.h"
#include "proto/base/text.h"

/* Workers as the cluster knows them: who is one, and its key, says the roster; where it is says
 * gossip. Both change while the gateway runs: a worker joins, comes back at other ports, gets
 * another key, or is taken out. While it has two keys in the roster it may have either. */

enum { LOOK_MS = 250, KEY_TRY_MS = 3000 };

static struct worker *find(const struct gw_calls *c, uint64_t id)
{
    for (unsigned i = 0; i < c->workers_n; i++) {
        if (c->workers[i].id == id) {
            return &c->workers[i];
        }
    }
    return NULL;
}

/* The place of one that is in the roster no more, and that nobody waits for. */
static struct worker *vacant(const struct gw_calls *c)
{
    for (unsigned i = 0; i < c->workers_n; i++) {
        struct worker *w = &c->workers[i];
        bool used = w->links[0].list != NULL || w->links[1].list != NULL;
        if (!used && !sched_route_node_lists(c->route, w->id, NULL)) {
            return w;
        }
    }
    return NULL;
}

static struct worker *add(struct gw_calls *c, const struct sched_route_worker *to)
{
    bool room = c->workers_n < c->workers_max;
    struct worker *w = room ? &c->workers[c->workers_n] : vacant(c);
    if (w != NULL && gw_calls_settle(c, w, to->id, to->name) == 0) {
        LOG_INFO(c->log, "the cluster has a worker=%s ctl=%s", to->name, to->ctl);
        return w;
    }
    if (!c->told_full) {
        c->told_full = true;
        LOG_ERROR(
            c->log, "no room for worker=%s: a gateway has at most %u", to->name, c->workers_max);
    }
    return NULL;
}

static void open_at(
    struct gw_calls *c, struct worker *w, const struct sched_route_worker *to, const char *key)
{
    const struct gw_worker_config config = {.name = w->name,
        .ctl = w->at[PROTO_NET_CTL],
        .bulk = w->at[PROTO_NET_BULK],
        .public_key = w->key};
    struct base_error err;
    /* Before calls are lost: who hears of it may do what makes the roster be read again, and then
     * the key is not there any more. */
    (void)base_text_copy(w->at[PROTO_NET_CTL], GW_CALLS_ENDPOINT_MAX, to->ctl);
    (void)base_text_copy(w->at[PROTO_NET_BULK], GW_CALLS_ENDPOINT_MAX, to->bulk);
    (void)base_text_copy(w->key, sizeof w->key, key);
    gw_calls_disconnect(w);
    w->tried_ns = base_clock_mono_ns();
    if (gw_calls_connect(c, w, &config, &err) != 0) {
        LOG_WARN(c->log, "worker=%s cannot be connected to: %s", w->name, err.text);
        gw_calls_disconnect(w); /* the next look tries again */
    }
}

static void on_worker(void *ctx, const struct sched_route_worker *to)
{
    struct gw_calls *c = ctx;
    struct worker *w = find(c, to->id);
    w = w != NULL ? w : add(c, to);
    if (w == NULL) {
        return;
    }
    bool first = strcmp(w->key, to->key) == 0;
    bool listed = first || (to->second != NULL && strcmp(w->key, to->second) == 0);
    bool there =
        strcmp(w->at[PROTO_NET_CTL], to->ctl) == 0 && strcmp(w->at[PROTO_NET_BULK], to->bulk) == 0;
    bool open = w->links[0].socket != NULL && w->links[1].socket != NULL;
    bool up = w->links[0].ready || w->links[1].ready; /* then it is the right key */
    bool late = base_clock_mono_ns() - w->tried_ns > KEY_TRY_MS * BASE_NS_PER_MS;
    if (!listed || !there || !open) {
        open_at(c, w, to, to->key);
    } else if (to->second != NULL && !up && late) {
        open_at(c, w, to, first ? to->second : to->key);
    }
}

/* A key that was taken out of the roster proves nothing any more, whatever gossip says of who has
 * it. */
static void cut_unlisted(struct gw_calls *c)
{
    for (unsigned i = 0; i < c->workers_n; i++) {
        struct worker *w = &c->workers[i];
        bool open = w->links[0].socket != NULL || w->links[1].socket != NULL;
        if (open && !sched_route_node_lists(c->route, w->id, w->key)) {
            LOG_INFO(c->log, "the roster does not have the key of worker=%s any more", w->name);
            w->key[0] = '\0';
            gw_calls_disconnect(w);
        }
    }
}

static void on_look(struct ev_loop *loop, ev_timer *t, int events)
{
    (void)loop;
    (void)events;
    struct gw_calls *c = t->data;
    cut_unlisted(c);
    sched_route_node_workers(c->route, on_worker, c);
}

static bool known(void *ctx, uint64_t id)
{
    return find(ctx, id) != NULL;
}

const char *gw_calls_missing(const struct gw_calls *c)
{
    return c->route == NULL ? NULL
                            : sched_route_node_missing(c->route, known, (void *)(uintptr_t)c);
}

bool gw_calls_usable(const struct gw_calls *c)
{
    bool any = !ev_is_active(&c->look);
    for (unsigned i = 0; !any && i < c->workers_n; i++) {
        any = gw_calls_ready(c, i) && gw_calls_route_trusts(c, &c->workers[i]);
    }
    return any;
}

void gw_calls_workers_start(struct gw_calls *c)
{
    ev_timer_init(&c->look, on_look, 0., LOOK_MS / 1e3);
    c->look.data = c;
    ev_timer_start(c->loop, &c->look);
}

void gw_calls_workers_stop(struct gw_calls *c)
{
    ev_timer_stop(c->loop, &c->look);
}
