#include "scheduler/io/views.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base/assert.h"
#include "proto/base/container.h"
#include "proto/net/cluster_key.h"
#include "scheduler/core/place.h"

struct table {
    struct sched_place place;
    void *mem; /* NULL: not made yet */
    struct sched_host *by_slot;
};

struct kept {
    struct sched_view view;
    struct table now, before;
};

struct sched_views {
    struct sched_place_cfg cfg;
    struct sched_place_member *members; /* scratch */
};

int sched_views_create(
    struct sched_views **ret, const struct sched_settings *settings, struct base_error *err)
{
    struct sched_place_cfg cfg = {
        .pbits = settings->partition_bits, .members_max = settings->members_max};
    int rc = proto_net_cluster_key_read(settings->cluster_key, cfg.key, err);
    if (rc != 0) {
        return rc;
    }
    struct sched_views *v = calloc(1, sizeof *v);
    if (v == NULL || (v->members = calloc(cfg.members_max, sizeof *v->members)) == NULL) {
        rc = base_fail(err, BASE_ENOMEM, "views: out of memory");
        free(v);
    } else {
        v->cfg = cfg;
        *ret = v;
    }
    explicit_bzero(cfg.key, sizeof cfg.key);
    return rc;
}

void sched_views_destroy(struct sched_views *v)
{
    if (v != NULL) {
        explicit_bzero(&v->cfg, sizeof v->cfg);
        free(v->members);
        free(v);
    }
}

const struct sched_view *sched_views_keep(struct sched_views *v, const struct sched_view *view)
{
    if (view->n > v->cfg.members_max) {
        return NULL;
    }
    struct kept *k = calloc(1, sizeof *k);
    struct sched_member *m = calloc(view->n + 1, sizeof *m);
    if (k == NULL || m == NULL) {
        free(k);
        free(m);
        return NULL;
    }
    k->view = *view;
    k->view.m = m;
    k->view.cap = view->n;
    if (view->n > 0) {
        memcpy(m, view->m, view->n * sizeof *m);
    }
    return &k->view;
}

static struct kept *kept_of(const struct sched_view *view)
{
    return CONTAINER_OF((struct sched_view *)(uintptr_t)view, struct kept, view);
}

void sched_views_drop(struct sched_views *v, const struct sched_view *kept)
{
    (void)v;
    if (kept == NULL) {
        return;
    }
    struct kept *k = kept_of(kept);
    free(k->now.mem);
    free(k->now.by_slot);
    free(k->before.mem);
    free(k->before.by_slot);
    free(k->view.m);
    free(k);
}

/* Without memory there is no way on: every answer would be wrong. */
static void make(struct sched_views *v, struct kept *k, bool before, struct table *t)
{
    uint32_t n = 0;
    size_t size = sched_place_size(&v->cfg);
    t->mem = malloc(size);
    t->by_slot = calloc(v->cfg.members_max, sizeof *t->by_slot);
    REQUIRE(t->mem != NULL && t->by_slot != NULL);
    REQUIRE(sched_place_init(&t->place, &v->cfg, t->mem, size) == 0);
    for (uint32_t i = 0; i < k->view.n; i++) {
        const struct sched_member *m = &k->view.m[i];
        if ((m->flags & (before ? SCHED_MEMBER_PREV : SCHED_MEMBER_IN)) != 0) {
            v->members[n++] = (struct sched_place_member){
                m->node, before ? m->pzone : m->zone, before ? m->pweight : m->weight};
        }
    }
    REQUIRE(sched_place_build(&t->place, v->members, n) == 0);
    for (uint32_t slot = 0; slot < t->place.high; slot++) {
        struct sched_place_member p;
        if (sched_place_member(&t->place, (uint16_t)slot, &p) == 0) {
            const struct sched_member *m = sched_view_find(&k->view, p.id);
            t->by_slot[slot] = (struct sched_host){p.id, before ? m->pinc : m->inc};
        }
    }
}

static void group(
    void *ctx, const struct sched_view *view, bool prev, uint32_t part, struct sched_group *ret)
{
    struct sched_views *v = ctx;
    ret->n = 0;
    if (view->num == 0) {
        return;
    }
    struct kept *k = kept_of(view);
    struct table *t = prev ? &k->before : &k->now;
    if (t->mem == NULL) {
        make(v, k, prev, t);
    }
    const struct sched_place_group *g = sched_place_at(&t->place, part);
    ret->n = g->n;
    for (uint32_t i = 0; i < g->n; i++) {
        ret->seat[i] = t->by_slot[g->slot[i]];
    }
}

struct sched_placer sched_views_placer(struct sched_views *v)
{
    return (struct sched_placer){v, group};
}
