#include "scheduler/io/catalog_client.h"

#include <stdlib.h>
#include <string.h>

#include "proto/base/clock.h"
#include "proto/base/rand.h"
#include "proto/base/text.h"

enum {
    TURN_MS = 100,
    ASK_MS = 700,   /* one voter after another */
    FIRST_MS = 200, /* while none is known */
    TRY_MS = 1500,  /* a voter that does not answer a change */
    PATIENCE_MS = 8000,
    CATALOG_VERSION = 3,
    SETTLE_MS = 500, /* after an answer, for the copy here to follow */
};

struct put {
    struct put *next;
    uint64_t op, expect, since_ns, tried_ns;
    uint64_t version; /* agreed upon as of this version of the catalogue; 0: not yet */
    char key[SCHED_CAT_KEY_MAX + 1];
    char *value;
    bool over; /* rc is its end */
    int rc;
    void (*done)(void *ctx, int rc);
    void *ctx;
};

struct sched_catalog_client {
    struct sched_catalog_client_cfg cfg;
    struct sched_catalog *now, *before; /* before: readers of this turn may still have it */
    struct put *puts, *ending;          /* ending: done() comes in this turn */
    ev_timer turn;
    bool before_only; /* what is known is from before: no voter has told of it yet */
    bool empty;       /* as a voter says */
    uint8_t empties;  /* which ones, as bits */
    uint64_t asked_ns;
    uint32_t voter;
};

static uint64_t version_of(const struct sched_catalog_client *c)
{
    return c->now == NULL ? 0 : sched_catalog_version(c->now);
}

static uint64_t next_voter(struct sched_catalog_client *c)
{
    const struct sched_settings *s = c->cfg.settings;
    return s->voter[c->voter++ % s->voters_count];
}

/* Before the view, and with nodes in it that are older, nobody speaks of catalogues. */
static bool spoken(const struct sched_catalog_client *c)
{
    return sched_cluster_version(c->cfg.cluster) >= CATALOG_VERSION;
}

static void ask(struct sched_catalog_client *c, uint64_t voter)
{
    uint64_t than = c->before_only ? 0 : version_of(c);
    struct sched_msg m = {.type = SCHED_MSG_CGET, .to = voter, .cget = {.version = than}};
    c->asked_ns = base_clock_mono_ns();
    if (!spoken(c)) {
        return;
    }
    sched_cluster_send(c->cfg.cluster, &m);
}

/* ---- changes ---- */

static void try_put(struct sched_catalog_client *c, struct put *p)
{
    struct sched_msg m = {.type = SCHED_MSG_CSET,
        .to = next_voter(c),
        .cset = {.op = p->op,
            .change = {.expect = p->expect,
                .entry = {.key = p->key,
                    .key_n = (uint32_t)strlen(p->key),
                    .value = (const uint8_t *)p->value,
                    .value_n = (uint32_t)strlen(p->value)}}}};
    p->tried_ns = base_clock_mono_ns();
    if (!spoken(c)) {
        return;
    }
    sched_cluster_send(c->cfg.cluster, &m);
}

static int code_of(uint8_t result)
{
    return result == SCHED_CAT_CONFLICT ? BASE_ESTATE
           : result == SCHED_CAT_FULL   ? BASE_EFULL
                                        : BASE_EINVAL;
}

static void on_result(struct sched_catalog_client *c, const struct sched_msg *m)
{
    struct put *p = c->puts;
    while (p != NULL && p->op != m->csetr.op) {
        p = p->next;
    }
    if (p == NULL || p->version != 0 || p->over) {
        return;
    }
    p->tried_ns = base_clock_mono_ns();
    if (m->csetr.result == SCHED_CAT_LATER) {
        return; /* the next voter, after a while */
    }
    p->over = m->csetr.result != SCHED_CAT_OK;
    p->rc = p->over ? code_of(m->csetr.result) : 0;
    p->version = m->csetr.version;
    ask(c, m->from);
}

/* True when it is over. */
static bool look(struct sched_catalog_client *c, struct put *p, uint64_t now)
{
    uint64_t tried_ms = (now - p->tried_ns) / BASE_NS_PER_MS;
    if (p->over || p->version != 0) {
        return (p->version != 0 && version_of(c) >= p->version) || tried_ms >= SETTLE_MS;
    }
    uint32_t patience_ms = c->cfg.patience_ms != 0 ? c->cfg.patience_ms : PATIENCE_MS;
    if ((now - p->since_ns) / BASE_NS_PER_MS >= patience_ms) {
        p->rc = BASE_ETIMEOUT;
        return true;
    }
    if (tried_ms >= TRY_MS) {
        try_put(c, p);
    }
    return false;
}

static void drop(struct put *p)
{
    if (p != NULL) {
        free(p->value);
        free(p);
    }
}

static void look_at_puts(struct sched_catalog_client *c)
{
    uint64_t now = base_clock_mono_ns();
    struct put **at = &c->puts;
    while (*at != NULL) {
        struct put *p = *at;
        if (look(c, p, now)) {
            *at = p->next;
            p->next = c->ending;
            c->ending = p;
        } else {
            at = &p->next;
        }
    }
    while (c->ending != NULL) { /* done() may put again, and forget others */
        struct put *p = c->ending;
        c->ending = p->next;
        if (p->done != NULL) {
            p->done(p->ctx, p->rc);
        }
        drop(p);
    }
}

int sched_catalog_client_put(struct sched_catalog_client *c, const struct sched_catalog_put *put)
{
    struct put *p = calloc(1, sizeof *p);
    char *value = strdup(put->value);
    if (p == NULL || value == NULL || strlen(put->key) > SCHED_CAT_KEY_MAX) {
        int rc = p == NULL || value == NULL ? BASE_ENOMEM : BASE_EINVAL;
        free(value);
        free(p);
        return rc;
    }
    *p = (struct put){.next = c->puts,
        .op = base_rand_u64(),
        .expect = put->expect,
        .since_ns = base_clock_mono_ns(),
        .value = value,
        .done = put->done,
        .ctx = put->ctx};
    (void)base_text_copy(p->key, sizeof p->key, put->key);
    c->puts = p;
    try_put(c, p);
    return 0;
}

static void forget(struct put *list, const void *ctx)
{
    for (struct put *p = list; p != NULL; p = p->next) {
        p->done = p->ctx == ctx ? NULL : p->done;
    }
}

void sched_catalog_client_forget(struct sched_catalog_client *c, const void *ctx)
{
    forget(c->puts, ctx);
    forget(c->ending, ctx);
}

/* ---- the copy ---- */

/* NULL: there is none. */
static void take(struct sched_catalog_client *c, struct sched_catalog *fresh)
{
    sched_catalog_destroy(c->before);
    c->before = c->now;
    c->now = fresh;
    c->before_only = false;
}

static void say_changed(struct sched_catalog_client *c)
{
    if (c->cfg.changed != NULL) {
        c->cfg.changed(c->cfg.user);
    }
}

static bool most_say_empty(const struct sched_catalog_client *c)
{
    return (unsigned)__builtin_popcount(c->empties) > c->cfg.settings->voters_count / 2;
}

/* Which one voter may say that has missed the first change; of a majority one has it. */
static void on_empty(struct sched_catalog_client *c, uint64_t from)
{
    for (unsigned i = 0; i < c->cfg.settings->voters_count; i++) {
        c->empties |= (uint8_t)((c->cfg.settings->voter[i] == from) << i);
    }
    bool gone = c->before_only && most_say_empty(c);
    if (gone) {
        LOG_WARN(c->cfg.log,
            "the catalogue of before, version=%llu, is dropped: this cluster has had none",
            (unsigned long long)version_of(c));
        take(c, NULL);
    }
    if (c->now == NULL && !c->empty) {
        c->empty = true;
        if (c->cfg.empty != NULL) {
            c->cfg.empty(c->cfg.user);
        }
    }
    if (gone) {
        say_changed(c);
    }
}

/* A document that is no later one of what is known from before. One without a birth may be older
 * than births are; what has one is not older than what has none. */
static bool is_other(const struct sched_catalog_client *c, const struct sched_cat_doc *d)
{
    uint64_t birth = sched_cat_birth(d), mine = sched_catalog_birth(c->now);
    return birth != 0 && (mine != 0 ? birth != mine : d->version <= version_of(c));
}

static void on_doc(struct sched_catalog_client *c, uint64_t from, const struct sched_cat_doc *d)
{
    struct sched_catalog *fresh = NULL;
    if (d->version == 0) {
        on_empty(c, from);
        return;
    }
    bool other = c->before_only && is_other(c, d);
    if (!other && d->version <= version_of(c)) {
        c->before_only = false;
        return;
    }
    int rc = sched_catalog_unpack(&fresh, d);
    if (rc != 0) {
        LOG_ERROR(c->cfg.log, "a catalogue is not taken: %s", base_err_str(rc));
        return;
    }
    if (other) {
        LOG_WARN(c->cfg.log,
            "the catalogue of before, version=%llu, is dropped: it is not of this cluster",
            (unsigned long long)version_of(c));
    }
    take(c, fresh);
    LOG_INFO(c->cfg.log, "catalogue version=%llu entries=%u", (unsigned long long)version_of(c),
        sched_catalog_n(fresh));
    say_changed(c);
    look_at_puts(c);
}

bool sched_catalog_client_take(struct sched_catalog_client *c, const struct sched_msg *m)
{
    if (m->type == SCHED_MSG_CDOC) {
        on_doc(c, m->from, &m->cdoc);
    } else if (m->type == SCHED_MSG_CSETR) {
        on_result(c, m);
    } else {
        return false;
    }
    return true;
}

bool sched_catalog_client_empty(const struct sched_catalog_client *c)
{
    return c->now == NULL && most_say_empty(c);
}

const struct sched_catalog *sched_catalog_client_now(const struct sched_catalog_client *c)
{
    return c->now;
}

static void on_turn(struct ev_loop *loop, ev_timer *t, int events)
{
    (void)loop;
    (void)events;
    struct sched_catalog_client *c = t->data;
    uint64_t gone_ms = (base_clock_mono_ns() - c->asked_ns) / BASE_NS_PER_MS;
    sched_catalog_destroy(c->before);
    c->before = NULL;
    bool sure = c->now == NULL ? most_say_empty(c) : !c->before_only;
    if (gone_ms >= (sure ? ASK_MS : FIRST_MS)) {
        ask(c, next_voter(c));
    }
    look_at_puts(c);
}

/* ---- life ---- */

int sched_catalog_client_create(
    struct sched_catalog_client **ret, const struct sched_catalog_client_cfg *cfg)
{
    struct sched_catalog_client *c = calloc(1, sizeof *c);
    if (c == NULL) {
        return BASE_ENOMEM;
    }
    c->cfg = *cfg;
    c->voter = (uint32_t)base_rand_u64() % 1024;
    c->before_only = cfg->first != NULL;
    ev_timer_init(&c->turn, on_turn, 0., TURN_MS / 1e3);
    c->turn.data = c;
    if (cfg->first != NULL && sched_catalog_copy(&c->now, cfg->first) != 0) {
        free(c);
        return BASE_ENOMEM;
    }
    ev_timer_start(cfg->loop, &c->turn);
    *ret = c;
    return 0;
}

void sched_catalog_client_destroy(struct sched_catalog_client *c)
{
    if (c == NULL) {
        return;
    }
    ev_timer_stop(c->cfg.loop, &c->turn);
    while (c->puts != NULL) {
        struct put *p = c->puts;
        c->puts = p->next;
        drop(p);
    }
    sched_catalog_destroy(c->now);
    sched_catalog_destroy(c->before);
    free(c);
}
