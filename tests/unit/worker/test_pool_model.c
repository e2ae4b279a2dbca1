#include "proto/base/clock.h"
#include "proto/base/hash.h"
#include "tests/lib/check.h"
#include "worker/core/pool_state.h"

/* Random schedules against a small world of microVMs, requests and a store that keeps what was
 * asked to be kept. The world knows only effects; it checks what a client and an operator rely on:
 *
 *  - a request is answered exactly once, and only with a microVM that serves;
 *  - an identifier never has two microVMs, a pool never more sessions than its maximum;
 *  - epochs grow; at most two microVMs start at a time;
 *  - no session expires before its cooldown or while it is held;
 *  - without a lease nobody is given a microVM and none starts;
 *  - a crash of the worker loses no session whose microVM lives, and leaves no microVM behind;
 *  - pools change, are retired and come back while all this goes on; a retired one starts nothing,
 *    and nothing of it serves;
 *  - when faults stop, everything is answered and the ready instances are there. */

#define MS BASE_NS_PER_MS
enum { POOLS = 2, IDS = 7, VMS = 6, REQS = 256, COOLDOWN_MS = 4000, STEPS = 400, SEEDS = 3000 };

enum vm_state { NO_VM, BOOTING, IDLE, GIVEN, SERVING, DYING, ADOPTED };

struct vm {
    enum vm_state state;
    uint32_t pool;
    int id;    /* of the session it was given to, -1: none */
    bool live; /* a row says LIVE: survives a crash of the worker */
};

struct req {
    bool open;    /* asked, not answered */
    bool holding; /* answered USE, not released */
    int id;
    uint32_t pool, session;
    proto_epoch epoch;
};

struct row { /* the store's idea of a session */
    bool there, live;
    uint32_t slot;
    proto_epoch epoch;
    uint64_t created_ns, last_ns;
};

struct world {
    struct base_hash_rng rng;
    struct worker_pools *p;
    struct worker_pool_config cfg;
    void *mem;
    size_t size;
    uint64_t now_ns;
    struct vm vms[VMS];
    struct req reqs[REQS];
    uint32_t reqs_n;
    struct row rows[POOLS][IDS];
    uint64_t used_ns[POOLS][IDS]; /* last use that the world knows of */
    uint32_t holds[POOLS][IDS];
    proto_epoch epoch_seen;
    bool frozen;
    bool retired[POOLS];
    struct worker_pool_spec specs[POOLS];
    bool calm; /* no faults any more */
};

static const uint32_t sessions_max[POOLS] = {3, 4}; /* at first, and never more */

static uint32_t dice(struct world *w, uint32_t n)
{
    return (uint32_t)base_hash_rng_below(&w->rng, n);
}

static struct proto_identifier name_of(int id)
{
    struct proto_identifier out = {.len = 5};
    memcpy(out.text, "user0", 5);
    out.text[4] = (char)('0' + id);
    return out;
}

/* Few different values, so that buckets collide. */
static uint64_t hash_of(int id)
{
    return (uint64_t)(id % 3);
}

static int id_of(const struct world *w, uint32_t session)
{
    return w->p->sessions[session].id.text[4] - '0';
}

static void send(struct world *w, struct worker_pool_event ev);

static void answered(struct world *w, const struct worker_pool_fx *f)
{
    struct req *r = &w->reqs[f->request % REQS];
    CHECK(r->open);
    r->open = false;
    if (f->answer != WORKER_ANSWER_USE) {
        return;
    }
    const struct vm *vm = &w->vms[f->slot];
    CHECK(!w->frozen);
    CHECK(vm->state == SERVING && vm->id == r->id && vm->pool == r->pool);
    CHECK_EQ(id_of(w, f->session), r->id);
    r->holding = true;
    r->session = f->session;
    r->epoch = f->epoch;
    w->holds[r->pool][r->id]++;
    w->used_ns[r->pool][r->id] = w->now_ns;
}

static void claimed(struct world *w, const struct worker_pool_fx *f)
{
    struct vm *vm = &w->vms[f->slot];
    CHECK(vm->state == IDLE && vm->pool == f->pool && !w->frozen);
    CHECK(f->epoch > w->epoch_seen);
    w->epoch_seen = f->epoch;
    int id = id_of(w, f->session);
    uint32_t n = 0;
    for (int i = 0; i < VMS; i++) {
        const struct vm *o = &w->vms[i];
        bool owned = o->id >= 0 && o->pool == f->pool;
        CHECK(!(owned && o->id == id)); /* never two microVMs of one identifier */
        n += owned;
    }
    CHECK(n < sessions_max[f->pool]);
    vm->state = GIVEN;
    vm->id = id;
    w->used_ns[f->pool][id] = w->now_ns;
    const struct row *row = &w->rows[f->pool][id];
    CHECK(row->there && row->slot == f->slot && row->epoch == f->epoch); /* stored before */
}

static void ended(struct world *w, const struct worker_pool_fx *f)
{
    int id = id_of(w, f->session);
    if (f->end == WORKER_END_EXPIRED) {
        CHECK_EQ(w->holds[f->pool][id], 0);
        CHECK(w->now_ns >= w->used_ns[f->pool][id] + COOLDOWN_MS * MS);
    }
    for (uint32_t i = 0; i < REQS; i++) { /* what ran in it has failed */
        struct req *r = &w->reqs[i];
        if (r->holding && r->pool == f->pool && r->id == id) {
            CHECK(r->epoch == f->epoch);
            r->holding = false;
        }
    }
    w->holds[f->pool][id] = 0;
}

static void store(struct world *w, const struct worker_pool_fx *f)
{
    const struct worker_session *s = &w->p->sessions[f->session];
    *(&w->rows[s->pool][id_of(w, f->session)]) = (struct row){.there = true,
        .live = s->state == WORKER_SESSION_LIVE || s->state == WORKER_SESSION_FROZEN,
        .slot = s->slot,
        .epoch = s->epoch,
        .created_ns = s->created_ns,
        .last_ns = s->last_ns};
}

static void dies(struct vm *vm)
{
    if (vm->state == GIVEN) {
        vm->id = -1; /* nothing of the user ran in it */
    }
    vm->state = DYING;
}

static void carry_out(struct world *w, const struct worker_pool_fx *f)
{
    struct vm *vm = f->slot < VMS ? &w->vms[f->slot] : NULL;
    switch (f->kind) {
    case WORKER_FX_STORE_SESSION:
        store(w, f);
        break;
    case WORKER_FX_DROP_SESSION:
        w->rows[f->pool][id_of(w, f->session)].there = false;
        break;
    case WORKER_FX_START:
        CHECK_EQ(vm->state, NO_VM);
        CHECK(!w->frozen && !w->retired[f->pool]);
        *vm = (struct vm){.state = BOOTING, .pool = f->pool, .id = -1};
        break;
    case WORKER_FX_CLAIM:
        claimed(w, f);
        break;
    case WORKER_FX_KILL:
        CHECK(vm->state != NO_VM && vm->state != DYING);
        dies(vm);
        break;
    case WORKER_FX_ANSWER:
        answered(w, f);
        break;
    case WORKER_FX_ENDING:
        ended(w, f);
        break;
    case WORKER_FX_EPOCHS:
        w->cfg.epoch_limit = f->epoch;
        break;
    case WORKER_FX_STORE_VM:
    case WORKER_FX_DROP_VM:
    case WORKER_FX_STORE_TOMB:
    case WORKER_FX_DROP_TOMB:
    case WORKER_FX_GONE:
        break;
    }
}

static void send(struct world *w, struct worker_pool_event ev)
{
    ev.now_ns = w->now_ns;
    CHECK_EQ(worker_pool_step(w->p, &ev), 0);
    struct worker_pool_fx f;
    proto_epoch limit = 0;
    while (worker_pool_take(w->p, &f)) {
        carry_out(w, &f);
        limit = f.kind == WORKER_FX_EPOCHS ? f.epoch : limit;
    }
    const char *bad = worker_pool_check(w->p);
    if (bad != NULL) {
        (void)fprintf(stderr, "%s\n", bad);
    }
    CHECK(bad == NULL);
    uint32_t starting = 0;
    for (int i = 0; i < VMS; i++) {
        starting += w->vms[i].state == BOOTING;
    }
    CHECK(starting <= 2);
    if (limit != 0) {
        send(w, (struct worker_pool_event){.kind = WORKER_EV_EPOCHS, .epoch = limit});
    }
}

static void ask(struct world *w)
{
    uint32_t n = w->reqs_n++;
    struct req *r = &w->reqs[n % REQS];
    if (r->open || r->holding) {
        return;
    }
    int id = (int)dice(w, IDS);
    struct proto_identifier text = name_of(id);
    *r = (struct req){.open = true, .id = id, .pool = dice(w, POOLS)};
    send(w, (struct worker_pool_event){.kind = WORKER_EV_REQUEST,
                .request = n % REQS,
                .pool = r->pool,
                .hash = hash_of(id),
                .id = &text,
                .tenant = {.id = {(uint8_t)dice(w, 3)}},
                .allocate = dice(w, 8) != 0,
                .generation = dice(w, 16) == 0 ? w->epoch_seen : 0,
                .deadline_ns = dice(w, 3) == 0 ? w->now_ns + dice(w, 3000) * MS : 0});
}

static void finish(struct world *w, struct req *r)
{
    if (r->open && !w->calm && dice(w, 4) == 0) {
        r->open = false;
        send(w, (struct worker_pool_event){
                    .kind = WORKER_EV_CANCEL, .request = (uint64_t)(r - w->reqs)});
    } else if (r->holding) {
        r->holding = false;
        w->holds[r->pool][r->id]--;
        w->used_ns[r->pool][r->id] = w->now_ns;
        send(w, (struct worker_pool_event){
                    .kind = WORKER_EV_RELEASE, .session = r->session, .epoch = r->epoch});
        if (!w->calm && dice(w, 6) == 0) {
            send(w, (struct worker_pool_event){.kind = WORKER_EV_END,
                        .session = r->session,
                        .epoch = r->epoch,
                        .end = WORKER_END_DELETED});
        }
    }
}

static void vm_gone(struct world *w, uint32_t slot)
{
    w->vms[slot] = (struct vm){.state = NO_VM, .id = -1};
    send(w, (struct worker_pool_event){.kind = WORKER_EV_VM_GONE, .slot = slot});
}

static void vm_moves(struct world *w, uint32_t slot)
{
    struct vm *vm = &w->vms[slot];
    bool fail = !w->calm && dice(w, 8) == 0;
    if (vm->state == NO_VM) {
        return;
    }
    if (vm->state == DYING) {
        vm_gone(w, slot);
    } else if (fail) {
        dies(vm);
        send(w, (struct worker_pool_event){
                    .kind = WORKER_EV_VM_DEAD, .slot = slot, .text = "bad luck"});
    } else if (vm->state == BOOTING || vm->state == ADOPTED) {
        vm->state = vm->id < 0 ? IDLE : SERVING;
        send(w, (struct worker_pool_event){.kind = WORKER_EV_VM_READY, .slot = slot});
    } else if (vm->state == GIVEN) {
        vm->state = SERVING;
        send(w, (struct worker_pool_event){.kind = WORKER_EV_VM_CLAIMED, .slot = slot});
    }
}

static struct worker_pool_spec spec_of(uint32_t pool)
{
    struct worker_pool_spec s = {.sessions_max = sessions_max[pool],
        .each = {.max = {2}},
        .ready_target = pool + 1,
        .cooldown_ms = COOLDOWN_MS};
    memcpy(s.name, pool == 0 ? "python" : "shell", 6);
    return s;
}

static void add_pool(struct world *w, uint32_t i)
{
    uint32_t pool = 99;
    CHECK_EQ(worker_pool_add(w->p, &w->specs[i], &pool), 0);
    CHECK_EQ(pool, i);
    w->retired[i] = false;
}

static void manager_new(struct world *w)
{
    w->cfg.epoch_next = w->epoch_seen + 1;
    CHECK_EQ(worker_pool_init(&w->p, &w->cfg, POOLS, w->now_ns, w->mem, w->size), 0);
    for (uint32_t i = 0; i < POOLS; i++) {
        add_pool(w, i);
    }
}

static void lease(struct world *w, bool held)
{
    w->frozen = !held;
    send(w, (struct worker_pool_event){.kind = held ? WORKER_EV_THAW : WORKER_EV_FREEZE});
}

/* The worker is killed and comes back: only rows and microVMs are left. */
static void crash(struct world *w)
{
    memset(w->reqs, 0, sizeof w->reqs);
    memset(w->holds, 0, sizeof w->holds);
    manager_new(w);
    lease(w, !w->frozen); /* what the page says */
    for (uint32_t i = 0; i < VMS; i++) {
        struct vm *vm = &w->vms[i];
        struct row *row = vm->id < 0 ? NULL : &w->rows[vm->pool][vm->id];
        bool serves =
            row != NULL && row->there && row->live && row->slot == i && vm->state == SERVING;
        if (vm->state == IDLE || serves) {
            vm->state = ADOPTED;
            struct worker_pool_restore r = {.pool = vm->pool, .slot = i, .has_session = serves};
            if (serves) {
                r.hash = hash_of(vm->id);
                r.id = name_of(vm->id);
                r.epoch = row->epoch;
                r.created_ns = row->created_ns;
                r.last_ns = row->last_ns;
            }
            send(w, (struct worker_pool_event){.kind = WORKER_EV_RESTORE, .restore = &r});
        } else {
            *vm = (struct vm){.state = NO_VM, .id = -1}; /* reaped by the engine */
            if (row != NULL) {
                row->there = false;
            }
        }
    }
}

static void templates(struct world *w, enum worker_pool_template state)
{
    for (uint32_t i = 0; i < POOLS; i++) {
        send(w, (struct worker_pool_event){
                    .kind = WORKER_EV_TEMPLATE, .pool = i, .template = state, .text = "no image"});
    }
}

static void change(struct world *w)
{
    uint32_t i = dice(w, POOLS);
    if (w->retired[i]) {
        add_pool(w, i);
        send(w, (struct worker_pool_event){
                    .kind = WORKER_EV_TEMPLATE, .pool = i, .template = WORKER_POOL_TEMPLATE_READY});
    } else if (dice(w, 3) == 0) {
        w->retired[i] = true;
        send(w, (struct worker_pool_event){.kind = WORKER_EV_RETIRE, .pool = i});
    } else {
        struct worker_pool_spec s = spec_of(i);
        s.sessions_max = 1 + dice(w, sessions_max[i]);
        s.ready_target = dice(w, s.sessions_max + 1);
        s.cooldown_ms += dice(w, COOLDOWN_MS);
        w->specs[i] = s;
        send(w, (struct worker_pool_event){.kind = WORKER_EV_CHANGE, .pool = i, .spec = &s});
        const uint32_t *n = w->p->pools[i].slots;
        CHECK(n[WORKER_SLOT_READY] + n[WORKER_SLOT_STARTING] <=
              w->p->pools[i].queued + s.ready_target);
    }
}

static void one(struct world *w)
{
    uint32_t what = dice(w, 100);
    if (what < 30) {
        ask(w);
    } else if (what < 55) {
        finish(w, &w->reqs[dice(w, w->reqs_n < REQS ? w->reqs_n + 1 : REQS)]);
    } else if (what < 85) {
        vm_moves(w, dice(w, VMS));
    } else if (what < 97) {
        w->now_ns += dice(w, 1500) * MS;
        send(w, (struct worker_pool_event){.kind = WORKER_EV_TICK});
        if (dice(w, 45) == 0) {
            change(w);
        }
    } else if (what < 98) {
        bool lost = dice(w, 4) == 0;
        templates(w, lost ? WORKER_POOL_TEMPLATE_FAILED : WORKER_POOL_TEMPLATE_READY);
    } else if (what < 99 && dice(w, 3) == 0) {
        crash(w);
        templates(w, WORKER_POOL_TEMPLATE_READY);
    } else if (dice(w, 2) == 0) {
        lease(w, w->frozen);
    } else if (dice(w, 4) == 0) {
        send(w, (struct worker_pool_event){
                    .kind = WORKER_EV_DRAIN, .on = dice(w, 2) == 0, .end_all = dice(w, 2) == 0});
    }
}

static void settle(struct world *w)
{
    w->calm = true;
    lease(w, true);
    send(w, (struct worker_pool_event){.kind = WORKER_EV_DRAIN});
    for (uint32_t i = 0; i < POOLS; i++) {
        w->specs[i] = spec_of(i);
        add_pool(w, i);
    }
    templates(w, WORKER_POOL_TEMPLATE_READY);
    for (int round = 0; round < 200; round++) {
        for (uint32_t i = 0; i < VMS; i++) {
            vm_moves(w, i);
        }
        for (uint32_t i = 0; i < REQS; i++) {
            finish(w, &w->reqs[i]);
        }
        w->now_ns += 500 * MS;
        send(w, (struct worker_pool_event){.kind = WORKER_EV_TICK});
    }
    for (uint32_t i = 0; i < REQS; i++) {
        CHECK(!w->reqs[i].open && !w->reqs[i].holding);
    }
    CHECK_EQ(w->p->sessions_n, 0); /* all expired, none forgotten */
    for (uint32_t i = 0; i < POOLS; i++) {
        CHECK(w->p->pools[i].slots[WORKER_SLOT_READY] >= i + 1);
        for (int id = 0; id < IDS; id++) {
            CHECK(!w->rows[i][id].there);
        }
    }
}

static uint64_t current_seed;

static uint64_t run(uint64_t seed)
{
    struct world w = {.now_ns = 5000 * MS, .epoch_seen = UINT64_C(1) << 32};
    base_hash_rng_seed(&w.rng, seed);
    w.cfg = (struct worker_pool_config){.vms_max = VMS,
        .waiters_max = 5,
        .tombs_max = 3,
        .replenish_ms = 50,
        .touch_ms = 100,
        .epoch_next = 1,
        .epoch_limit = (UINT64_C(1) << 32) + 40,
        .drop_unwanted = seed % 2 == 0};
    w.size = worker_pool_size(&w.cfg, POOLS);
    w.mem = malloc(w.size);
    for (int i = 0; i < VMS; i++) {
        w.vms[i].id = -1;
    }
    for (uint32_t i = 0; i < POOLS; i++) {
        w.specs[i] = spec_of(i);
    }
    manager_new(&w);
    templates(&w, WORKER_POOL_TEMPLATE_READY);
    for (int i = 0; i < STEPS; i++) {
        one(&w);
    }
    settle(&w);
    free(w.mem);
    return w.epoch_seen - (UINT64_C(1) << 32);
}

TEST(random_schedules_keep_every_promise)
{
    uint64_t sessions = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        current_seed = seed; /* for the debugger */
        sessions += run(seed);
    }
    (void)printf("%d schedules, %d sessions\n", SEEDS, (int)sessions);
    CHECK(sessions > SEEDS * 10); /* the schedules do something */
}

TEST(the_same_seed_takes_the_same_course)
{
    CHECK_EQ(run(12345), run(12345));
}
