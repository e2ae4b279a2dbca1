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

/* A link may be open for one that is not in the roster: what its last calls set off has it read. */
static bool used(const struct link *link)
{
    return link->list != NULL || link->socket != NULL;
}

/* The place of one that is in the roster no more, and that nobody waits for. */
static struct worker *vacant(const struct gw_calls *c)
{
    for (unsigned i = 0; i < c->workers_n; i++) {
        struct worker *w = &c->workers[i];
        if (!used(&w->links[0]) && !used(&w->links[1]) &&
            !sched_route_node_lists(c->route, w->id, NULL)) {
            return w;
        }
    }
    return NULL;
}

static void no_room(struct gw_calls *c, const struct sched_route_worker *to)
{
    c->unplaced += to->id;
    if (c->name_unplaced) {
        LOG_ERROR(
            c->log, "no room for worker=%s: a gateway has at most %u", to->name, c->workers_max);
    }
}

static struct worker *add(struct gw_calls *c, const struct sched_route_worker *to)
{
    bool room = c->workers_n < c->workers_max;
    struct worker *w = room ? &c->workers[c->workers_n] : vacant(c);
    if (w == NULL) {
        no_room(c, to);
    } else if (gw_calls_settle(c, w, to->id, to->name) != 0) {
        LOG_ERROR(c->log, "worker=%s is not taken, out of memory", to->name);
        w = NULL;
    } else {
        LOG_INFO(c->log, "the cluster has a worker=%s ctl=%s", to->name, to->ctl);
    }
    return w;
}

static void open_at(struct link *link, const char *endpoint, const char *key)
{
    struct base_error err;
    gw_calls_disconnect(link);
    (void)base_text_copy(link->at, sizeof link->at, endpoint);
    (void)base_text_copy(link->key, sizeof link->key, key);
    link->tried_ns = base_clock_mono_ns();
    if (gw_calls_connect(link, endpoint, key, &err) != 0) {
        LOG_WARN(
            link->calls->log, "worker=%s cannot be connected to: %s", link->worker->name, err.text);
        gw_calls_disconnect(link); /* the next look tries again */
    }
}

/* Each link for itself: one that stands is not torn down because the other one does not, and one
 * that does not stand need not wait for the other one. second: "" when there is none. */
static void look_at(struct link *link, const char *endpoint, const char *key, const char *second)
{
    bool first = strcmp(link->key, key) == 0;
    bool listed = first || (second[0] != '\0' && strcmp(link->key, second) == 0);
    bool late = base_clock_mono_ns() - link->tried_ns > KEY_TRY_MS * BASE_NS_PER_MS;
    if (!listed || strcmp(link->at, endpoint) != 0 || link->socket == NULL) {
        open_at(link, endpoint, key);
    } else if (second[0] != '\0' && !link->ready && late) {
        open_at(link, endpoint, first ? second : key);
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
    /* Who hears that a call is lost may do what makes the roster be read again, and then its keys
     * are not there any more. */
    char key[PROTO_NET_Z85_MAX], second[PROTO_NET_Z85_MAX];
    (void)base_text_copy(key, sizeof key, to->key);
    (void)base_text_copy(second, sizeof second, to->second == NULL ? "" : to->second);
    look_at(&w->links[PROTO_NET_CTL], to->ctl, key, second);
    look_at(&w->links[PROTO_NET_BULK], to->bulk, key, second);
}

/* A key that was taken out of the roster proves nothing any more, whatever gossip says of who has
 * it. */
static void cut_unlisted(struct gw_calls *c)
{
    for (unsigned i = 0; i < 2 * c->workers_n; i++) {
        struct worker *w = &c->workers[i / 2];
        struct link *link = &w->links[i % 2];
        if (link->socket != NULL && !sched_route_node_lists(c->route, w->id, link->key)) {
            LOG_INFO(c->log, "the roster does not have the key of worker=%s any more", w->name);
            gw_calls_disconnect(link);
        }
    }
}

static void on_look(struct ev_loop *loop, ev_timer *t, int events)
{
    (void)loop;
    (void)events;
    struct gw_calls *c = t->data;
    cut_unlisted(c);
    c->unplaced = 0;
    sched_route_node_workers(c->route, on_worker, c);
    c->name_unplaced = c->unplaced != c->were_unplaced;
    c->were_unplaced = c->unplaced;
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

void gw_calls_note(struct gw_calls_asked *asked, unsigned worker)
{
    asked->bits[worker / 8] |= (uint8_t)(1U << worker % 8);
}

static bool was_asked(const struct gw_calls_asked *asked, unsigned worker)
{
    return (asked->bits[worker / 8] >> worker % 8 & 1) != 0;
}

int gw_calls_any(const struct gw_calls *c, int home, const struct gw_calls_asked *asked)
{
    int other = -1;
    if (c->route == NULL || home < 0) {
        return home < 0 || was_asked(asked, (unsigned)home) ? -1 : home;
    }
    for (unsigned k = 0; k < c->workers_n; k++) {
        unsigned i = ((unsigned)home + k) % c->workers_n;
        bool good = gw_calls_ready(c, i) && gw_calls_route_trusts(c, &c->workers[i]);
        if (!was_asked(asked, i)) {
            if (good) {
                return (int)i;
            }
            other = other < 0 ? (int)i : other;
        }
    }
    return other;
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
