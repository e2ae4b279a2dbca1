#include "scheduler/core/route.h"

#include "proto/base/assert.h"
#include "scheduler/core/mutant.h"

enum {
    NONE = 0xffffffff,
    RETRY_MS = 10,
    LATER_MS = 50,
    FIRST_WAIT_MS = 50,
    FULL_TRIES = 40,
    PULL_MS = 2000,
    PULLS_MS = 20 /* between two pulls, however many answers call for one */
};

static void carve(struct sched_route *r, struct sched_mem *mem)
{
    r->reqs = sched_mem_take(mem, r->rcfg.reqs_max, sizeof *r->reqs);
    r->cache = sched_mem_take(mem, r->rcfg.cache_max, sizeof *r->cache);
    sched_map_init(&r->by_rid, r->rcfg.reqs_max, mem);
}

size_t sched_route_size(const struct sched_cfg *cfg, const struct sched_route_cfg *rcfg)
{
    struct sched_route r = {.cfg = cfg, .rcfg = *rcfg};
    struct sched_mem mem = {0};
    carve(&r, &mem);
    return mem.used;
}

void sched_route_init(struct sched_route *r, const struct sched_cfg *cfg,
    const struct sched_route_cfg *rcfg, struct sched_placer placer, struct sched_mem *mem)
{
    memset(r, 0, sizeof *r);
    r->cfg = cfg;
    r->rcfg = *rcfg;
    r->rcfg.speaks = sched_speaks_or_all(rcfg->speaks);
    r->placer = placer;
    carve(r, mem);
    REQUIRE(mem->used <= mem->size);
    r->view = &r->no_view;
    for (uint32_t i = 0; i < rcfg->reqs_max; i++) {
        r->reqs[i].next = i + 1 < rcfg->reqs_max ? i + 1 : NONE;
    }
}

void sched_route_start(struct sched_route *r, uint64_t first_rid)
{
    r->serial = first_rid;
}

static struct sched_route_slot *slot(const struct sched_route *r, struct sched_key key)
{
    return &r->cache[base_hash_mix64(key.hi ^ base_hash_mix64(key.lo)) & (r->rcfg.cache_max - 1)];
}

static struct sched_req *find(const struct sched_route *r, uint64_t rid)
{
    uint32_t i = sched_map_get(&r->by_rid, rid, 0);
    return i == SCHED_MAP_NONE ? NULL : &r->reqs[i];
}

static void finish(struct sched_route *r, struct sched_req *q, uint8_t outcome)
{
    struct sched_fx_outcome *o = &sched_fx_add(r->fx, SCHED_FX_OUTCOME)->outcome;
    *o = (struct sched_fx_outcome){.rid = q->rid,
        .outcome = outcome,
        .full = q->full && outcome == SCHED_OUTCOME_FAILED,
        .epoch = q->to.epoch,
        .exec = q->exec};
    sched_map_del(&r->by_rid, q->rid, 0);
    *q = (struct sched_req){.next = r->free};
    r->free = (uint32_t)(q - r->reqs);
    r->used--;
}

/* It ends without an answer: what is known about its execution? */
static void give_up(struct sched_route *r, struct sched_req *q)
{
    bool may_run = q->went_inline || (q->state == SCHED_REQ_SENT && q->dispatched);
    finish(r, q, may_run && !MUTANT(38) ? SCHED_OUTCOME_UNKNOWN : SCHED_OUTCOME_FAILED);
}

/* ---- sending ---- */

static void send_exec(struct sched_route *r, struct sched_req *q)
{
    sched_fx_send(r->fx, SCHED_MSG_EXEC, q->to.host.node)->exec = (struct sched_m_exec){
        .rid = q->rid, .key = q->key, .epoch = q->to.epoch, .inc = q->to.host.inc, .exec = q->exec};
    q->dispatched = true;
    q->next_ns = r->now_ns + SCHED_MS(r->rcfg.resend_ms);
}

bool sched_route_suspects(const struct sched_route *r, uint64_t node)
{
    for (uint32_t i = 0; i < r->n_suspects; i++) {
        if (r->suspect[i] == node) {
            return true;
        }
    }
    return false;
}

/* The seat of attempt number n: in order, those not suspected first. */
static uint64_t seat(const struct sched_route *r, const struct sched_group *g, uint32_t n)
{
    uint64_t order[SCHED_SEATS_MAX];
    uint32_t k = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < g->n; i++) {
            if (sched_route_suspects(r, g->seat[i].node) == (pass == 1)) {
                order[k++] = g->seat[i].node;
            }
        }
    }
    REQUIRE(k > 0);
    return order[n % k];
}

static void send_open(struct sched_route *r, struct sched_req *q)
{
    struct sched_group g;
    q->next_ns = r->now_ns + SCHED_MS(r->rcfg.hedge_ms);
    r->placer.group(r->placer.ctx, r->view, false, sched_key_part(q->key, r->cfg->pbits), &g);
    if (g.n == 0) {
        return;
    }
    bool along = q->may_inline;
    if (along && !q->went_inline) {
        q->went_inline = true;
        q->inline_view = r->view->num;
    }
    sched_fx_send(r->fx, SCHED_MSG_OPEN, seat(r, &g, q->tries++))->open =
        (struct sched_m_open){.rid = q->rid,
            .key = q->key,
            .view = r->view->num,
            .gone = q->gone,
            .has_exec = along,
            .exec = q->exec,
            .look = q->look && sched_view_version(r->view) >= 3,
            .exec_view = q->inline_view};
}

static void send_to(struct sched_route *r, struct sched_req *q, const struct sched_rec *rec)
{
    bool along = q->went_inline && sched_exec_eq(rec->inline_id, q->exec);
    q->state = SCHED_REQ_SENT;
    q->to = *rec;
    q->dispatched = false;
    if (along) { /* it is on its way to there already; the answer may come without asking */
        q->dispatched = true;
        q->next_ns = r->now_ns + SCHED_MS(FIRST_WAIT_MS);
    } else {
        send_exec(r, q);
    }
}

static void open(struct sched_route *r, struct sched_req *q)
{
    const struct sched_route_slot *s = slot(r, q->key);
    q->state = SCHED_REQ_OPENING;
    struct sched_rec rec = {.host = s->host, .view = s->view, .epoch = s->epoch};
    if (sched_key_eq(s->key, q->key) && s->epoch != 0 && s->epoch != q->gone &&
        !sched_rec_dead(&rec, r->view) && !q->went_inline) {
        send_to(r, q, &rec);
        return;
    }
    send_open(r, q);
}

uint64_t sched_route_request(
    struct sched_route *r, uint64_t now_ns, const struct sched_route_ask *ask, struct sched_fx *fx)
{
    if (r->free == NONE || r->used == r->rcfg.reqs_max) {
        return 0;
    }
    r->fx = fx;
    r->now_ns = now_ns;
    uint32_t i = r->free;
    struct sched_req *q = &r->reqs[i];
    r->free = q->next;
    r->used++;
    *q = (struct sched_req){.rid = ++r->serial,
        .key = ask->key,
        .exec = ask->exec,
        .may_inline = ask->may_inline && !ask->look,
        .look = ask->look,
        .deadline_ns = now_ns + SCHED_MS(ask->timeout_ms)};
    (void)sched_map_put(&r->by_rid, q->rid, 0, i);
    uint64_t rid = q->rid;
    open(r, q);
    return rid;
}

/* ---- answers ---- */

/* May the execution go to the session of this record, given that it may have travelled inline? */
static bool can_send(const struct sched_req *q, const struct sched_m_route *m)
{
    if (!q->went_inline || MUTANT(39)) {
        return true;
    }
    if (sched_exec_eq(m->rec.inline_id, q->exec)) {
        /* Same session: its host starts it once. Excluded there: free to go on. */
        return m->rec.inline_epoch == m->rec.epoch || m->rec.inline_epoch == q->gone;
    }
    /* Another request made the register non-empty, so no seat can start ours any more, unless the
     * register's history before `base` is lost and ours was on its way then. */
    return m->base <= q->inline_view;
}

static void on_route(struct sched_route *r, struct sched_req *q, const struct sched_m_route *m)
{
    if (q->state != SCHED_REQ_OPENING || m->rec.epoch == q->gone || !sched_key_eq(m->key, q->key)) {
        return;
    }
    if (!can_send(q, m)) {
        q->to = m->rec;
        finish(r, q, SCHED_OUTCOME_UNKNOWN);
        return;
    }
    *slot(r, q->key) = (struct sched_route_slot){q->key, m->rec.host, m->rec.view, m->rec.epoch};
    send_to(r, q, &m->rec);
}

static void on_not_here(struct sched_route *r, struct sched_req *q, const struct sched_m_exec *m)
{
    if (q->state != SCHED_REQ_SENT || m->epoch != q->to.epoch || !sched_exec_eq(m->exec, q->exec)) {
        return;
    }
    struct sched_route_slot *s = slot(r, q->key);
    if (sched_key_eq(s->key, q->key) && s->epoch == m->epoch) {
        s->epoch = 0;
    }
    q->gone = m->epoch;
    q->may_inline = false;
    if (q->to.inline_epoch == m->epoch && sched_exec_eq(q->to.inline_id, q->exec)) {
        q->went_inline = false; /* the only session it can have travelled into is excluded */
    }
    q->tries = 0;
    open(r, q);
}

/* The voters are asked in turn, and told what this gateway speaks while the cluster could be at
 * more than it is. */
static void pull(struct sched_route *r)
{
    uint64_t voter = r->cfg->voters[r->pulls++ % r->cfg->n_voters];
    r->pulled_ns = r->now_ns;
    sched_fx_send(r->fx, SCHED_MSG_VPULL, voter)->pull.known = r->view->num;
    if (r->rcfg.speaks.max > sched_view_version(r->view)) {
        sched_fx_send(r->fx, SCHED_MSG_VPULL, voter)->pull =
            (struct sched_m_pull){UINT32_MAX, r->rcfg.speaks};
    }
}

/* Who mentions a view need not be right, and is not asked for it. */
static void heard_of_view(struct sched_route *r, uint32_t num)
{
    if (num > r->view->num && r->now_ns - r->pulled_ns >= SCHED_MS(PULLS_MS)) {
        pull(r);
    }
}

static void on_retry(struct sched_route *r, struct sched_req *q, const struct sched_msg *msg)
{
    const struct sched_m_retry *m = &msg->retry;
    heard_of_view(r, m->view);
    if (q == NULL) {
        return;
    }
    if (m->why == SCHED_RETRY_NONE) {
        if (q->look && q->state == SCHED_REQ_OPENING) {
            finish(r, q, SCHED_OUTCOME_NONE);
        }
        return;
    }
    q->full = m->why == SCHED_RETRY_FULL;
    if (q->full && q->tries >= FULL_TRIES) {
        give_up(r, q);
        return;
    }
    uint64_t at = r->now_ns + SCHED_MS(m->why == SCHED_RETRY_NOW ? RETRY_MS : LATER_MS);
    if (at < q->next_ns) {
        q->next_ns = at;
    }
}

/* A host that left the view will never answer; what it ran stays unknown. */
static void install(struct sched_route *r, const struct sched_view *view)
{
    if (view->num <= r->view->num) {
        return;
    }
    r->view = view;
    for (uint32_t i = 0; i < r->rcfg.reqs_max; i++) {
        struct sched_req *q = &r->reqs[i];
        if (q->state == SCHED_REQ_SENT && sched_rec_dead(&q->to, view)) {
            if (MUTANT(40)) {
                open(r, q);
            } else {
                give_up(r, q);
            }
        }
    }
}

static void on_message(struct sched_route *r, const struct sched_msg *m)
{
    if (m->type == SCHED_MSG_VIEW) {
        if (sched_cfg_is_voter(r->cfg, m->from) || MUTANT(60)) {
            install(r, m->view.view);
        }
    } else if (m->type == SCHED_MSG_RETRY) {
        on_retry(r, find(r, m->retry.rid), m);
    } else if (m->type == SCHED_MSG_ROUTE) {
        struct sched_req *q = find(r, m->route.rid);
        heard_of_view(r, m->route.view);
        if (q != NULL) {
            q->full = false;
            on_route(r, q, &m->route);
        }
    } else if (m->type == SCHED_MSG_DONE || m->type == SCHED_MSG_NOTHERE) {
        struct sched_req *q = find(r, m->exec.rid);
        if (q == NULL || !sched_exec_eq(q->exec, m->exec.exec)) {
            return;
        }
        if (m->type == SCHED_MSG_DONE) {
            q->to.epoch = MUTANT(54) ? q->to.epoch : m->exec.epoch;
            finish(r, q, m->exec.outcome);
        } else {
            on_not_here(r, q, &m->exec);
        }
    }
}

static void on_time(struct sched_route *r)
{
    if (r->now_ns >= r->pull_ns) { /* pushed views can be lost; at first until one has answered */
        r->pull_ns = r->now_ns + SCHED_MS(r->view->num == 0 ? RETRY_MS * 10 : PULL_MS);
        pull(r);
    }
    for (uint32_t i = 0; r->used > 0 && i < r->rcfg.reqs_max; i++) {
        struct sched_req *q = &r->reqs[i];
        if (q->state == SCHED_REQ_FREE) {
            continue;
        }
        if (r->now_ns >= q->deadline_ns) {
            give_up(r, q);
        } else if (r->now_ns >= q->next_ns) {
            if (q->state == SCHED_REQ_SENT) {
                send_exec(r, q);
            } else {
                send_open(r, q);
            }
        }
    }
}

void sched_route_step(
    struct sched_route *r, uint64_t now_ns, const struct sched_msg *m, struct sched_fx *fx)
{
    r->fx = fx;
    r->now_ns = now_ns;
    if (m == NULL) {
        on_time(r);
    } else {
        on_message(r, m);
    }
}

uint64_t sched_route_deadline_ns(const struct sched_route *r)
{
    uint64_t at = r->pull_ns;
    for (uint32_t i = 0; r->used > 0 && i < r->rcfg.reqs_max; i++) {
        const struct sched_req *q = &r->reqs[i];
        if (q->state != SCHED_REQ_FREE) {
            uint64_t due = q->next_ns < q->deadline_ns ? q->next_ns : q->deadline_ns;
            at = due < at ? due : at;
        }
    }
    return at;
}

void sched_route_suspect(struct sched_route *r, uint64_t node, bool suspect)
{
    uint32_t i = 0;
    while (i < r->n_suspects && r->suspect[i] != node) {
        i++;
    }
    if (!suspect && i < r->n_suspects) {
        r->suspect[i] = r->suspect[--r->n_suspects];
    } else if (suspect && i == r->n_suspects && i < sizeof r->suspect / sizeof r->suspect[0]) {
        r->suspect[r->n_suspects++] = node;
    }
}
