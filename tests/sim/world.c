#include <stdlib.h>

#include "proto/base/assert.h"
#include "tests/sim/bus.h"
#include "tests/sim/catalog.h"
#include "tests/sim/change.h"
#include "tests/sim/check.h"
#include "tests/sim/vm.h"

/* ---- time and events ---- */

static bool before(const struct sim_due *a, const struct sim_due *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->seq < b->seq;
}

static void grow_heap(struct sim *s)
{
    uint32_t cap = s->cap_heap == 0 ? 1024 : s->cap_heap * 2;
    s->heap = realloc(s->heap, cap * sizeof *s->heap);
    s->slots = realloc(s->slots, cap * sizeof *s->slots);
    REQUIRE(s->heap != NULL && s->slots != NULL);
    for (uint32_t i = s->cap_heap; i < cap; i++) {
        s->heap[i].slot = i; /* behind the heap: the free slots */
    }
    s->cap_heap = cap;
}

void sim_event(struct sim *s, const struct sim_event *ev, uint64_t at_ns)
{
    if (s->n_heap == s->cap_heap) {
        grow_heap(s);
    }
    struct sim_due e = {.at_ns = at_ns < s->now_ns ? s->now_ns : at_ns, .seq = ++s->seq};
    uint32_t i = s->n_heap++;
    e.slot = s->heap[i].slot;
    s->slots[e.slot] = *ev;
    while (i > 0 && before(&e, &s->heap[(i - 1) / 4])) {
        s->heap[i] = s->heap[(i - 1) / 4];
        i = (i - 1) / 4;
    }
    s->heap[i] = e;
}

static struct sim_event pop(struct sim *s)
{
    struct sim_due top = s->heap[0], last = s->heap[--s->n_heap];
    uint32_t i = 0;
    for (uint32_t c; (c = 4 * i + 1) < s->n_heap;) {
        uint32_t end = c + 4 < s->n_heap ? c + 4 : s->n_heap, least = c;
        for (uint32_t k = c + 1; k < end; k++) {
            least = before(&s->heap[k], &s->heap[least]) ? k : least;
        }
        if (!before(&s->heap[least], &last)) {
            break;
        }
        s->heap[i] = s->heap[least];
        i = least;
    }
    s->heap[i] = last;
    s->heap[s->n_heap].slot = top.slot;
    s->now_ns = top.at_ns;
    return s->slots[top.slot];
}

uint64_t sim_rand(struct sim *s, uint64_t n)
{
    return base_hash_rng_below(&s->rng, n);
}

bool sim_chance(struct sim *s, uint32_t ppm)
{
    return ppm > 0 && sim_rand(s, 1000000) < ppm;
}

uint64_t sim_local(const struct sim_node *n, uint64_t t_ns)
{
    return n->off_ns + t_ns + (uint64_t)((int64_t)(t_ns / 1000) * n->rate_ppm / 1000);
}

uint64_t sim_virtual(const struct sim_node *n, uint64_t local_ns)
{
    if (local_ns <= n->off_ns) {
        return 0;
    }
    uint64_t d = local_ns - n->off_ns;
    if (d > UINT64_MAX / 4) {
        return UINT64_MAX;
    }
    uint64_t t = d - (uint64_t)((int64_t)(d / 1000) * n->rate_ppm / 1000);
    while (sim_local(n, t) > local_ns && t > 0) {
        t -= t < 1000 ? t : 1000;
    }
    /* In steps of 100 ns; far away many at once: one step moves the local clock by at most 101. */
    for (uint64_t l; (l = sim_local(n, t)) < local_ns;) {
        t += local_ns - l > 300 ? (local_ns - l - 3) / 101 * 100 : 100;
    }
    return t;
}

struct sim_node *sim_node_of(struct sim *s, uint64_t id)
{
    uint64_t i = id - 1;
    return id == 0 || i >= s->n_nodes ? NULL : &s->nodes[i];
}

void sim_name(const struct sim_node *n, char out[16])
{
    (void)snprintf(out, 16, "%c%u", "VHG"[n->kind], n -> index);
}

/* ---- views ---- */

static void place_groups(struct sim *s, struct sim_view *sv, bool prev, struct sched_group *out)
{
    struct sched_place_member *m = calloc(sv->v.n + 1, sizeof *m);
    struct sched_host *by_slot = calloc(SCHED_PLACE_MEMBERS_MAX, sizeof *by_slot);
    uint32_t n = 0;
    uint8_t bit = prev ? SCHED_MEMBER_PREV : SCHED_MEMBER_IN;
    for (uint32_t i = 0; i < sv->v.n; i++) {
        const struct sched_member *e = &sv->v.m[i];
        if ((e->flags & bit) != 0) {
            m[n++] = (struct sched_place_member){
                e->node, prev ? e->pzone : e->zone, prev ? e->pweight : e->weight};
        }
    }
    REQUIRE(sched_place_build(&s->place, m, n) == 0);
    for (uint32_t i = 0; i < n; i++) {
        uint16_t slot;
        REQUIRE(sched_place_find(&s->place, m[i].id, &slot) == 0);
        const struct sched_member *e = sched_view_find(&sv->v, m[i].id);
        by_slot[slot] = (struct sched_host){m[i].id, prev ? e->pinc : e->inc};
    }
    for (uint32_t p = 0; p < 1u << s->opt.pbits; p++) {
        const struct sched_place_group *g = sched_place_at(&s->place, p);
        out[p].n = g->n;
        for (uint32_t i = 0; i < g->n; i++) {
            out[p].seat[i] = by_slot[g->slot[i]];
        }
    }
    free(by_slot);
    free(m);
}

struct sim_view *sim_view_of(struct sim *s, const struct sched_view *v)
{
    if (v->num >= s->cap_views) {
        uint32_t cap = v->num * 2 + 64;
        s->views = realloc(s->views, cap * sizeof *s->views);
        REQUIRE(s->views != NULL);
        memset(s->views + s->cap_views, 0, (cap - s->cap_views) * sizeof *s->views);
        s->cap_views = cap;
    }
    struct sim_view **at = &s->views[v->num];
    for (struct sim_view *x = *at; x != NULL; x = x->next) {
        if (&x->v == v) {
            return x;
        }
    }
    uint64_t d = sched_view_digest(v);
    while (*at != NULL && (*at)->digest != d) {
        at = &(*at)->next;
    }
    if (*at == NULL) {
        struct sim_view *n = calloc(1, sizeof *n);
        REQUIRE(n != NULL);
        n->v = *v;
        n->v.cap = v->n;
        n->v.m = calloc(v->n + 1, sizeof *n->v.m);
        REQUIRE(n->v.m != NULL);
        memcpy(n->v.m, v->m, v->n * sizeof *v->m);
        n->digest = d;
        *at = n;
    }
    return *at;
}

const struct sched_view *sim_intern(struct sim *s, const struct sched_view *v)
{
    return &sim_view_of(s, v)->v;
}

static void group(
    void *ctx, const struct sched_view *v, bool prev, uint32_t part, struct sched_group *ret)
{
    struct sim *s = ctx;
    if (v->num == 0) {
        ret->n = 0;
        return;
    }
    struct sim_view *sv = (struct sim_view *)(uintptr_t)v; /* views of nodes are interned ones */
    struct sched_group **g = prev ? &sv->prev : &sv->now;
    if (*g == NULL) {
        *g = calloc((size_t)1 << s->opt.pbits, sizeof **g);
        REQUIRE(*g != NULL);
        place_groups(s, sv, prev, *g);
    }
    *ret = (*g)[part];
}

/* ---- stepping ---- */

static void apply_store(struct sim *s, struct sim_node *n, const struct sched_row *row)
{
    sim_rows_put(n->rows, row);
    if (row->kind == SCHED_ROW_META) {
        n->left = row->num > n->host->env.me.inc;
        n->inc = row->num;
        s->stat.evicted += !n->left;
    } else if (row->kind == SCHED_ROW_PARTS) {
        for (uint32_t i = 0; i < row->n; i++) {
            if (row->parts[i].settled != 0 && row->parts[i].settled == row->parts[i].era) {
                sim_check_settled(s, n, row->first + i);
            }
        }
    } else if (row->kind == SCHED_ROW_KNOWN || row->kind == SCHED_ROW_VIEW) {
        sim_check_view(s, n, row->view);
    }
}

/* Load is only a hint: who says that it is idle, or that it is full, may be slow but not wrong. */
static void lie(const struct sim *s, const struct sim_node *n, struct sched_msg *m)
{
    uint32_t ready = n->index % 4 == 1 ? 0 : s->cfg.sess_max;
    if (n->liar && m->type == SCHED_MSG_LEASE) {
        m->lease.active = 0;
        m->lease.ready = ready;
    } else if (n->liar && m->type == SCHED_MSG_RESERVED) {
        m->resv.active = 0;
        m->resv.ready = ready;
    }
}

static void apply(struct sim *s, struct sim_node *n, const struct sched_fx_item *it)
{
    switch ((enum sched_fx_kind)it->kind) {
    case SCHED_FX_SEND: {
        struct sched_msg m = it->msg;
        lie(s, n, &m);
        sim_check_vote(s, n, &m);
        sim_cat_vote(s, n, &m);
        sim_send(s, n, &m);
        break;
    }
    case SCHED_FX_PUSH:
        sim_check_chosen(s, it->msg.view.view);
        sim_push(s, n, &it->msg);
        break;
    case SCHED_FX_STORE:
        break; /* done before */
    case SCHED_FX_PAGE:
        sim_vm_page(s, n, &it->page);
        break;
    case SCHED_FX_KILL_ALL:
        sim_vm_kill_all(s, n, false);
        sim_vm_forget(s, n);
        break;
    case SCHED_FX_VM_START:
        sim_vm_start(s, n, &it->vm);
        break;
    case SCHED_FX_VM_STOP:
        sim_vm_stop(s, n, &it->vm);
        break;
    case SCHED_FX_VM_EXEC:
        sim_vm_exec(s, n, &it->vm);
        break;
    case SCHED_FX_OUTCOME:
        sim_outcome(s, n, &it->outcome);
        break;
    }
}

static bool has_store(const struct sched_fx *fx)
{
    for (uint32_t i = 0; i < fx->n; i++) {
        if (fx->items[i].kind == SCHED_FX_STORE) {
            return true;
        }
    }
    return false;
}

void sim_arm(struct sim *s, struct sim_node *n)
{
    uint64_t due = n->kind == SIM_VOTER  ? sched_voter_deadline_ns(n->voter)
                   : n->kind == SIM_HOST ? sched_node_deadline_ns(n->host)
                                         : sched_route_deadline_ns(n->gw);
    if (due == UINT64_MAX) {
        return;
    }
    uint64_t at = sim_virtual(n, due);
    at = at <= s->now_ns ? s->now_ns + 1000 : at;
    if (n->tick_ns != 0 && n->tick_ns <= at && n->tick_ns > s->now_ns) {
        return;
    }
    n->tick_ns = at;
    struct sim_event ev = {.kind = SIM_E_TICK, .node = (uint32_t)(n - s->nodes), .gen = n->gen};
    sim_event(s, &ev, at);
}

static void run_effects(struct sim *s, struct sim_node *n)
{
    struct sched_fx fx = s->fx; /* effects may not step another core: everything is an event */
    uint8_t torn = n->torn != 0 && has_store(&fx) ? n->torn : 0;
    if (torn == 1) {
        n->torn = 0;
        sim_halt(s, n);
        return;
    }
    for (uint32_t i = 0; i < fx.n; i++) {
        if (fx.items[i].kind == SCHED_FX_STORE) {
            apply_store(s, n, &fx.items[i].row);
        } else if (fx.items[i].kind == SCHED_FX_KILL_ALL) {
            sim_rows_clear(n->rows);
        }
    }
    if (torn == 2) {
        sim_check_commit(s, n);
    }
    for (uint32_t i = 0; i < fx.n; i++) {
        /* After a torn step only what concerns the machine's microVMs may have happened, or not:
         * here it has not. */
        if (torn == 0 || fx.items[i].kind == SCHED_FX_KILL_ALL) {
            apply(s, n, &fx.items[i]);
        }
    }
    if (torn == 2) {
        n->torn = 0;
        sim_halt(s, n);
    }
}

void sim_step(struct sim *s, struct sim_node *n, const struct sched_event *ev)
{
    struct sched_event e = *ev;
    e.now_ns = sim_local(n, s->now_ns);
    sched_fx_clear(&s->fx);
    if (n->kind == SIM_VOTER) {
        sched_voter_step(n->voter, e.now_ns, e.kind == SCHED_EV_MSG ? e.msg : NULL, &s->fx);
    } else if (n->kind == SIM_HOST) {
        sched_node_step(n->host, &e, &s->fx);
        sim_check_quota(s, n);
        sim_check_pools(s, n);
        sim_cat_permits(s, n);
    } else {
        sched_route_step(n->gw, e.now_ns, e.kind == SCHED_EV_MSG ? e.msg : NULL, &s->fx);
    }
    run_effects(s, n);
    if (n->kind == SIM_VOTER && n->up) { /* else the step may not have happened */
        sim_check_known(s, n);
        sim_cat_look(s, n);
    }
    if (n->up) {
        sim_arm(s, n);
    }
}

/* ---- life of a process ---- */

/* What is installed when a process starts: never an older build than before. */
static void choose_build(struct sim *s, struct sim_node *n, bool first)
{
    bool later = s->opt.mixed == 0 || s->calm || sim_rand(s, 4) >= (first ? 2 : 1);
    if (later || n->speaks.max == 0) {
        n->speaks = (struct sched_speaks){
            SCHED_VERSION_BASE, later ? (uint8_t)s->opt.speaks : SCHED_VERSION_BASE};
    }
}

static void boot_voter(struct sim *s, struct sim_node *n, bool first)
{
    size_t size = sched_voter_size(&s->cfg);
    struct sched_mem mem = {.base = n->mem, .size = size};
    if (first) {
        struct sched_row vote = {.kind = SCHED_ROW_VOTE};
        struct sched_row known = {.kind = SCHED_ROW_KNOWN, .view = &s->views[1]->v};
        sim_rows_put(n->rows, &vote);
        sim_rows_put(n->rows, &known);
        sim_catalog_birth(s, n);
    }
    struct sched_voter_boot b = {.id = n->id,
        .seed = sim_rand(s, UINT64_MAX),
        .now_ns = sim_local(n, s->now_ns),
        .vote = sim_rows_vote(n->rows),
        .known = sim_rows_known(n->rows),
        .speaks = n->speaks,
        .catalog = sim_rows_catalog(n->rows),
        .first = sim_rows_known(n->rows) != NULL && sim_rows_vote(n->rows) != NULL};
    for (uint32_t i = 0; i < SCHED_QUOTA_REGS; i++) {
        b.quotas[i] = sim_rows_quota(n->rows, i);
    }
    sched_voter_init(n->voter, &s->cfg, &mem, &b);
}

static void restore(void *ctx, const struct sched_row *row)
{
    sched_node_restore(ctx, row);
}

static void boot_host(struct sim *s, struct sim_node *n)
{
    if (n->left) {
        sim_vm_kill_all(s, n, false);
        sim_vm_forget(s, n);
        sim_rows_clear(n->rows);
        n->left = false;
    }
    struct sched_mem mem = {.base = n->mem, .size = sched_node_size(&s->cfg)};
    struct sched_node_boot b = {.node = n->id,
        .inc = n->inc,
        .run = ++n->run,
        .seed = sim_rand(s, UINT64_MAX),
        .now_ns = sim_local(n, s->now_ns),
        .zone = (uint16_t)(n->index % 3),
        .weight = 100,
        .speaks = n->speaks,
        .placer = {s, group}};
    sched_node_init(n->host, &s->cfg, &mem, &b);
    sim_rows_each(n->rows, restore, n->host);
    sched_node_resume(n->host);
    sim_catalog_boot(s, n);
    if (n->pool != NULL) {
        sim_pool_boot(s, n);
    }
}

void sim_boot(struct sim *s, struct sim_node *n, bool first)
{
    n->up = true;
    n->gen++;
    n->torn = 0;
    n->tick_ns = 0;
    n->seen_view = 0;
    n->awake_ns = s->now_ns;
    sim_cat_boot(s, n);
    if (!first) {
        choose_build(s, n, false);
    }
    if (n->kind == SIM_VOTER) {
        boot_voter(s, n, first);
    } else if (n->kind == SIM_HOST) {
        boot_host(s, n);
        sim_check_commit(s, n);
        sim_vm_attach(s, n);
    } else {
        struct sched_mem mem = {.base = n->mem, .size = sched_route_size(&s->cfg, &s->rcfg)};
        struct sched_route_cfg rcfg = s->rcfg;
        rcfg.speaks = n->speaks;
        sched_route_init(n->gw, &s->cfg, &rcfg, (struct sched_placer){s, group}, &mem);
        sched_route_start(n->gw, (uint64_t)++n->run << 32);
    }
    sim_arm(s, n);
}

void sim_halt(struct sim *s, struct sim_node *n)
{
    n->up = false;
    n->paused = false;
    n->gen++;
    struct sim_event ev = {.kind = SIM_E_UP, .node = (uint32_t)(n - s->nodes), .gen = n->gen};
    uint64_t at = n->down_until_ns > s->now_ns ? n->down_until_ns : s->now_ns + 500 * SIM_MS;
    sim_event(s, &ev, at);
}

/* ---- set-up ---- */

static void configure(struct sim *s)
{
    struct sched_cfg *c = &s->cfg;
    /* With many hosts each has room for a multiple of its share only. */
    uint32_t few = s->opt.hosts < 64 ? 1 : s->opt.hosts / 16;
    uint32_t members = s->opt.hosts * 2 + 8;
    /* Executions are kept for half a minute. */
    uint32_t execs = s->opt.gateways * 90000 / (s->opt.request_ms * s->opt.hosts);
    uint32_t few_execs = few < 8 ? 1024 / few : 128;
    *c = (struct sched_cfg){.pbits = s->opt.pbits,
        .n_voters = s->opt.voters,
        .members_max = members < SCHED_MEMBERS_MAX ? members : SCHED_MEMBERS_MAX,
        .lease_ms = 6000,
        .rho_ppm = 2000,
        .renew_ms = 1500,
        .stuck_ms = s->opt.stuck_ms > 0 ? s->opt.stuck_ms : 4000,
        .kill_ms = s->opt.kill_ms > 0 ? s->opt.kill_ms : 60000,
        .regs_max = s->opt.keys * 3 / few + 64,
        .sess_max = s->opt.places,
        .execs_max = execs > few_execs ? execs : few_execs,
        .ops_max = 64,
        .keep_ms = 30000,
        .reserve_ms = 2000,
        .cooldown_ms = s->opt.cooldown_ms,
        .max_alive_ms = s->opt.vm_hang_ppm > 0 ? 25000 : 300000,
        .spread_pct = s->opt.spread_pct,
        .catalog = s->opt.pools > 0 || s->opt.catalog > 0,
        .quota = {s->opt.quota, s->opt.chunk}};
    for (uint32_t i = 0; i < s->opt.voters; i++) {
        c->voters[i] = i + 1;
    }
    s->rcfg = (struct sched_route_cfg){
        .reqs_max = 128, .cache_max = s->opt.cache, .hedge_ms = 200, .resend_ms = 700};
    struct sched_place_cfg pc = {
        .key = "simulator's key", .pbits = s->opt.pbits, .members_max = c->members_max};
    size_t size = sched_place_size(&pc);
    s->place_mem = aligned_alloc(16, (size + 15) & ~(size_t)15);
    s->grown_mem = aligned_alloc(16, (size + 15) & ~(size_t)15);
    REQUIRE(s->place_mem != NULL && sched_place_init(&s->place, &pc, s->place_mem, size) == 0);
    REQUIRE(s->grown_mem != NULL && sched_place_init(&s->grown, &pc, s->grown_mem, size) == 0);
}

static void *block(size_t n)
{
    void *p = aligned_alloc(16, (n + 31) & ~(size_t)15);
    REQUIRE(p != NULL);
    return p;
}

static void add_node(struct sim *s, enum sim_kind kind, uint32_t index)
{
    struct sim_node *n = &s->nodes[s->n_nodes++];
    *n = (struct sim_node){
        .kind = (uint8_t)kind, .id = s->n_nodes, .index = index, .inc = 1, .rows = sim_rows_new()};
    choose_build(s, n, true);
    n->rate_ppm = (int64_t)sim_rand(s, 2 * s->opt.drift_ppm + 1) - s->opt.drift_ppm;
    n->off_ns = SIM_S + sim_rand(s, 1000000) * SIM_S;
    if (kind == SIM_VOTER) {
        n->voter = calloc(1, sizeof *n->voter);
        n->mem = block(sched_voter_size(&s->cfg));
    } else if (kind == SIM_HOST) {
        n->host = calloc(1, sizeof *n->host);
        n->mem = block(sched_node_size(&s->cfg));
        n->n_vms = s->opt.places * 2 + 4;
        n->vms = calloc(n->n_vms, sizeof *n->vms);
        n->frozen = true;
        sim_pool_new(s, n);
        n->liar = index < s->opt.liars;
    } else {
        n->gw = calloc(1, sizeof *n->gw);
        n->mem = block(sched_route_size(&s->cfg, &s->rcfg));
    }
}

static void birth_view(struct sim *s)
{
    struct sched_member *m = calloc(s->opt.hosts, sizeof *m);
    struct sched_view v = {.num = 1,
        .version = s->opt.mixed ? SCHED_VERSION_BASE : (uint8_t)s->opt.speaks,
        .cap = s->opt.hosts,
        .m = m};
    for (uint32_t i = 0; i < (s->opt.empty_birth ? 0 : s->opt.hosts); i++) {
        struct sched_host h = {s->opt.voters + 1 + i, 1};
        REQUIRE(sched_view_admit(&v, h, (uint16_t)(i % 3), 100) == 0);
    }
    sim_check_chosen(s, sim_intern(s, &v));
    free(m);
}

static void make_keys(struct sim *s)
{
    struct sched_mem count = {0};
    sched_map_init(&s->key_of, s->opt.keys, &count);
    s->key_mem = block(count.used);
    struct sched_mem mem = {.base = s->key_mem, .size = count.used};
    sched_map_init(&s->key_of, s->opt.keys, &mem);
    s->keys = calloc(s->opt.keys, sizeof *s->keys);
    for (uint32_t i = 0; i < s->opt.keys; i++) {
        struct sched_key k = {base_hash_mix64(i + 1), base_hash_mix64(~(uint64_t)i)};
        sim_catalog_key(s, &k, i);
        s->keys[i].key = k;
        (void)sched_map_put(&s->key_of, k.hi, k.lo, i);
    }
}

void sim_init(struct sim *s, const struct sim_opts *opt, const struct sim_fault *faults, uint32_t n)
{
    memset(s, 0, sizeof *s);
    s->opt = *opt;
    s->opt.quota = opt->catalog > 0 ? 0 : opt->quota;   /* maxima are those of the catalogue */
    s->opt.mixed = s->opt.pools > 0 ? 0 : s->opt.mixed; /* older builds know no catalogue */
    base_hash_rng_seed(&s->rng, opt->seed * 2 + 1);
    configure(s);
    s->faults = calloc(n + 1, sizeof *s->faults);
    memcpy(s->faults, faults, n * sizeof *faults);
    s->n_faults = n;
    struct sched_mem count = {0};
    sched_fx_init(&s->fx, &count);
    s->fx_mem = block(count.used);
    struct sched_mem mem = {.base = s->fx_mem, .size = count.used};
    sched_fx_init(&s->fx, &mem);
    count = (struct sched_mem){0};
    sched_wire_room_init(&s->room, s->cfg.members_max, &count);
    s->room_mem = block(count.used);
    mem = (struct sched_mem){.base = s->room_mem, .size = count.used};
    sched_wire_room_init(&s->room, s->cfg.members_max, &mem);
    s->buf = block(SCHED_WIRE_BYTES_MAX);
    make_keys(s);
    uint32_t nodes = opt->voters + opt->hosts + opt->gateways;
    s->nodes = calloc(nodes, sizeof *s->nodes);
    s->admitted = calloc(nodes + 1, sizeof *s->admitted);
    s->links = calloc((size_t)nodes * nodes, 1);
    for (uint32_t i = 0; i < nodes; i++) {
        bool v = i < opt->voters, h = i < opt->voters + opt->hosts;
        add_node(s,
            v   ? SIM_VOTER
            : h ? SIM_HOST
                : SIM_GATEWAY,
            v   ? i
            : h ? i - opt->voters
                : i - opt->voters - opt->hosts);
    }
    birth_view(s);
}

static void free_node(struct sim_node *n)
{
    sim_rows_free(n->rows);
    free(n->mem);
    free(n->voter);
    free(n->host);
    free(n->gw);
    for (uint32_t i = 0; i < n->n_vms; i++) {
        free(n->vms[i].runs);
    }
    free(n->vms);
    sim_pool_free(n);
}

void sim_deinit(struct sim *s)
{
    sim_cat_free(s);
    for (uint32_t i = 0; i < s->n_nodes; i++) {
        free_node(&s->nodes[i]);
    }
    for (uint32_t i = 0; i < s->n_heap; i++) {
        sim_packet_drop(s->slots[s->heap[i].slot].data);
    }
    for (uint32_t i = 0; i < s->cap_views; i++) {
        while (s->views[i] != NULL) {
            struct sim_view *v = s->views[i];
            s->views[i] = v->next;
            free(v->v.m);
            free(v->now);
            free(v->prev);
            free(v);
        }
    }
    sim_packet_drop(s->last_view);
    free(s->views);
    free(s->heap);
    free(s->slots);
    free(s->nodes);
    free(s->admitted);
    free(s->links);
    free(s->keys);
    free(s->key_mem);
    free(s->reqs);
    free(s->faults);
    free(s->place_mem);
    free(s->grown_mem);
    free(s->fx_mem);
    free(s->room_mem);
    free(s->buf);
    free(s->docs);
}

/* ---- the run ---- */

static void on_tick(struct sim *s, struct sim_node *n, const struct sim_event *ev)
{
    if (!n->up || ev->gen != n->gen) {
        return;
    }
    if (n->paused) {
        sim_event(s, ev, n->resume_ns + 1000);
        n->tick_ns = n->resume_ns + 1000;
        return;
    }
    if (s->now_ns == n->tick_ns) {
        n->tick_ns = 0;
    }
    struct sched_event tick = {.kind = SCHED_EV_TICK};
    sim_step(s, n, &tick);
}

/* A slow node takes its time for each thing; what comes meanwhile waits in its queue, which is
 * never longer than two seconds. */
static bool is_busy(struct sim *s, struct sim_node *n, struct sim_event *ev)
{
    bool work = ev->kind == SIM_E_MSG || ev->kind == SIM_E_TICK || ev->kind == SIM_E_VM_TELL ||
                ev->kind == SIM_E_POOL_TELL;
    if (!work || ev->queued || s->now_ns >= n->slow_ns) {
        return false;
    }
    uint64_t at = n->busy_ns > s->now_ns ? n->busy_ns : s->now_ns;
    at = at > s->now_ns + 2 * SIM_S ? s->now_ns + 2 * SIM_S : at;
    n->busy_ns = at + n->cost_ms * SIM_MS;
    ev->queued = true;
    if (ev->kind == SIM_E_TICK && s->now_ns == n->tick_ns) {
        n->tick_ns = at > s->now_ns ? at : n->tick_ns;
    }
    if (at == s->now_ns) {
        return false;
    }
    sim_event(s, ev, at);
    return true;
}

static void handle(struct sim *s, struct sim_event *ev)
{
    struct sim_node *n = ev->node < s->n_nodes ? &s->nodes[ev->node] : NULL;
    if (is_busy(s, n, ev)) {
        return;
    }
    s->stat.events++;
    switch ((enum sim_event_kind)ev->kind) {
    case SIM_E_MSG:
        sim_deliver(s, ev);
        break;
    case SIM_E_TICK:
        on_tick(s, n, ev);
        break;
    case SIM_E_FREEZE:
    case SIM_E_KILL:
    case SIM_E_VM_UP:
    case SIM_E_VM_DONE:
    case SIM_E_VM_TELL:
        sim_vm_event(s, ev);
        break;
    case SIM_E_POOL_VM:
    case SIM_E_POOL_TELL:
    case SIM_E_POOL_TICK:
        sim_pool_event(s, ev);
        break;
    case SIM_E_FAULT:
        sim_fault_begin(s, ev->arg);
        break;
    case SIM_E_HEAL:
        sim_fault_end(s, ev->arg);
        break;
    case SIM_E_UP:
        if (!n->up && ev->gen == n->gen) {
            s->stat.restarts++;
            sim_boot(s, n, false);
        }
        break;
    case SIM_E_LOAD:
        sim_load(s, n);
        break;
    case SIM_E_CATALOG:
        sim_catalog_event(s, ev);
        break;
    case SIM_E_CHANGE:
        sim_cat_turn(s, n);
        break;
    case SIM_E_LOOK:
        sim_check_look(s);
        sim_event(s, ev, s->now_ns + SIM_S);
        break;
    }
}

static void run_until(struct sim *s, uint64_t until_ns)
{
    while (s->n_heap > 0 && s->heap[0].at_ns <= until_ns && s->bad[0] == '\0') {
        struct sim_event ev = pop(s);
        handle(s, &ev);
    }
    s->now_ns = s->now_ns < until_ns ? until_ns : s->now_ns;
}

bool sim_run(struct sim *s)
{
    uint64_t chaos = s->opt.chaos_ms * SIM_MS, quiet = s->opt.quiet_ms * SIM_MS;
    for (uint32_t i = 0; i < s->n_nodes; i++) {
        sim_boot(s, &s->nodes[i], true);
        if (s->nodes[i].kind == SIM_GATEWAY) {
            struct sim_event ev = {.kind = SIM_E_LOAD, .node = i};
            sim_event(s, &ev, sim_rand(s, s->opt.request_ms * SIM_MS + 1));
        }
    }
    for (uint32_t i = 0; i < s->n_faults; i++) {
        struct sim_event ev = {.kind = SIM_E_FAULT, .arg = i};
        sim_event(s, &ev, s->faults[i].at_ms * SIM_MS);
    }
    sim_catalog_start(s);
    struct sim_event look = {.kind = SIM_E_LOOK};
    sim_event(s, &look, SIM_S / 2);
    s->load_on = true;
    run_until(s, chaos);
    sim_check_directed(s, false);
    sim_calm(s);
    if (s->opt.no_liveness) {
        return s->bad[0] == '\0';
    }
    run_until(s, chaos + quiet * 4 / 10);
    s->load_on = false;
    run_until(s, chaos + quiet * 45 / 100);
    sim_check_end(s);
    run_until(s, chaos + quiet);
    sim_check_reclaimed(s);
    return s->bad[0] == '\0';
}
