#include "scheduler/core/node.h"

#include "proto/base/assert.h"
#include "scheduler/core/mutant.h"

enum { WORK_MS = 20, HOUSE_MS = 200 };

static void carve(struct sched_node *n, const struct sched_cfg *cfg, struct sched_mem *mem)
{
    n->env.base = n->hand.base;
    sched_reg_init(&n->reg, cfg, mem);
    sched_sess_init(&n->sess, cfg, mem);
    sched_journal_init(&n->journal, cfg, mem);
    sched_hand_init(&n->hand, cfg, mem);
    sched_coord_init(&n->coord, cfg, mem);
}

size_t sched_node_size(const struct sched_cfg *cfg)
{
    struct sched_node n = {0};
    struct sched_mem mem = {0};
    carve(&n, cfg, &mem);
    return mem.used;
}

void sched_node_init(struct sched_node *n, const struct sched_cfg *cfg, struct sched_mem *mem,
    const struct sched_node_boot *boot)
{
    memset(n, 0, sizeof *n);
    carve(n, cfg, mem);
    REQUIRE(mem->used <= mem->size);
    n->cfg = cfg;
    n->zone = boot->zone;
    n->weight = boot->weight;
    n->speaks = sched_speaks_or_all(boot->speaks);
    n->coord.reg = &n->reg;
    n->coord.sess = &n->sess;
    n->env.cfg = cfg;
    n->env.placer = boot->placer;
    n->env.view = &n->no_view;
    n->env.me = (struct sched_host){boot->node, boot->inc};
    n->env.now_ns = boot->now_ns;
    n->env.serial = (uint64_t)boot->run << 32;
    n->env.base = n->hand.base;
    base_hash_rng_seed(&n->env.rng, boot->seed);
    sched_lease_init(&n->lease, boot->run);
}

void sched_node_restore(struct sched_node *n, const struct sched_row *row)
{
    if (row->kind == SCHED_ROW_VIEW) {
        n->env.view = row->view;
        n->env.joined = row->num;
    } else if (row->kind == SCHED_ROW_PARTS || row->kind == SCHED_ROW_REG) {
        sched_reg_restore(&n->reg, &n->env, row);
    } else if (row->kind == SCHED_ROW_BASE) {
        n->hand.base[row->first] = row->num;
    } else if (row->kind == SCHED_ROW_SESS) {
        sched_sess_restore(&n->sess, &n->env, row);
    } else if (row->kind == SCHED_ROW_EXEC) {
        sched_journal_restore(&n->journal, &n->env, row);
    }
}

void sched_node_resume(struct sched_node *n)
{
    for (uint32_t i = 0; i < n->cfg->execs_max; i++) {
        const struct sched_run *run = &n->journal.runs[i];
        struct sched_sess_row *row =
            run->state == SCHED_RUN_STARTED ? sched_sess_find(&n->sess, run->key) : NULL;
        if (row != NULL && row->rec.epoch == run->epoch) {
            row->running++;
        }
    }
    sched_hand_resume(&n->hand, &n->env, &n->reg);
}

/* ---- views ---- */

/* This incarnation is over: its sessions die, a new one asks to be admitted. */
static void start_over(struct sched_node *n, const struct sched_view *view)
{
    struct sched_env *e = &n->env;
    uint32_t maxinc = sched_view_maxinc(view, e->me.node);
    sched_fx_add(e->fx, SCHED_FX_KILL_ALL);
    sched_reg_clear(&n->reg, n->cfg);
    sched_sess_clear(&n->sess, n->cfg);
    sched_journal_clear(&n->journal, n->cfg);
    sched_hand_clear(&n->hand, n->cfg);
    sched_coord_clear(&n->coord, n->cfg);
    uint64_t seq = n->lease.seq;
    sched_lease_init(&n->lease, 0);
    n->lease.seq = seq;
    if (!MUTANT(5)) {
        e->me.inc = (maxinc > e->me.inc ? maxinc : e->me.inc) + 1;
    }
    e->view = view;
    struct sched_row *meta = sched_fx_store(e->fx, SCHED_ROW_META);
    meta->num = e->me.inc;
    sched_lease_page(&n->lease, e);
}

static void install(struct sched_node *n, const struct sched_view *view)
{
    struct sched_env *e = &n->env;
    uint32_t old = e->view->num;
    if (view->num <= old) {
        return;
    }
    bool was = sched_env_member(e), is = sched_view_has(view, e->me);
    bool over = !is && sched_view_maxinc(view, e->me.node) >= e->me.inc;
    /* R6 and R7 keep members from skipping a view. Should it happen, what this worker holds is
     * worth nothing. */
    bool skipped = was && is && view->num != old + 1;
    if ((over || skipped) && !(MUTANT(37) && !was)) {
        (void)sched_drain_removed(&n->drain);
        start_over(n, view);
        return;
    }
    e->view = view;
    if (is) {
        sched_hand_install(&n->hand, e, &n->reg, &n->sess, was ? old : 0);
        sched_coord_review(&n->coord, e);
        n->lease.renew_at_ns = e->now_ns; /* tell the voters at once */
    }
    if (!sched_drain_left(&n->drain)) {
        sched_lease_page(&n->lease, e);
    }
}

/* ---- messages ---- */

static void answer_register(struct sched_node *n, const struct sched_msg *msg)
{
    struct sched_m_prom ret = {0};
    bool prepare = msg->type == SCHED_MSG_PREP;
    enum sched_reg_answer a =
        prepare ? sched_reg_promise(&n->reg, &n->env, msg->prep.key, msg->prep.ballot, &ret)
                : sched_reg_accept(&n->reg, &n->env, &msg->acc, &ret);
    if (a == SCHED_REG_SILENT) {
        return;
    }
    ret.op = prepare ? msg->prep.op : msg->acc.op;
    uint8_t yes = prepare ? SCHED_MSG_PROM : SCHED_MSG_ACCED;
    sched_fx_send(n->env.fx, a == SCHED_REG_OK ? yes : SCHED_MSG_NACK, msg->from)->prom = ret;
}

static void answer_reserve(struct sched_node *n, const struct sched_msg *msg)
{
    struct sched_env *e = &n->env;
    struct sched_m_resv ret = msg->resv;
    ret.inc = e->me.inc;
    ret.resv = sched_env_serving(e) ? sched_sess_reserve(&n->sess, e, msg->resv.key) : 0;
    ret.active = n->sess.used;
    ret.ready = sched_sess_shut(&n->sess, e) ? 0 : n->cfg->sess_max - n->sess.used;
    sched_fx_send(e->fx, SCHED_MSG_RESERVED, msg->from)->resv = ret;
}

static void answer_bind(struct sched_node *n, const struct sched_msg *msg)
{
    const struct sched_m_bind *m = &msg->bind;
    bool exec = m->exec.hi != 0 || m->exec.lo != 0;
    if (sched_sess_bind(&n->sess, &n->env, msg) && exec && sched_env_serving(&n->env)) {
        (void)sched_journal_start(
            &n->journal, &n->env, sched_sess_find(&n->sess, m->key), m->exec, m->asker);
    }
}

static void on_directory(struct sched_node *n, const struct sched_msg *msg)
{
    struct sched_env *e = &n->env;
    if (msg->type == SCHED_MSG_SYNC) {
        sched_hand_sync(&n->hand, e, &n->reg, msg);
    } else if (msg->type == SCHED_MSG_SYNCED) {
        sched_hand_synced(&n->hand, e, &n->reg, msg);
    } else if (msg->type == SCHED_MSG_INV) {
        sched_hand_inv(e, &n->sess, msg);
    } else if (msg->type == SCHED_MSG_INVED) {
        sched_hand_inved(&n->hand, e, &n->reg, msg);
    } else if (msg->type == SCHED_MSG_PREP || msg->type == SCHED_MSG_ACC) {
        answer_register(n, msg);
    } else if (msg->type == SCHED_MSG_OPEN) {
        sched_coord_open(&n->coord, e, msg);
    } else if (msg->type == SCHED_MSG_END) {
        sched_coord_end(&n->coord, e, msg);
    } else if (msg->type == SCHED_MSG_TIMERS) {
        sched_cool_refresh(e, &n->reg, msg);
    } else {
        sched_coord_reply(&n->coord, e, msg);
    }
}

/* True when the message was for the host. */
static bool on_host(struct sched_node *n, const struct sched_msg *msg)
{
    struct sched_env *e = &n->env;
    if (msg->type == SCHED_MSG_RESERVE) {
        answer_reserve(n, msg);
    } else if (msg->type == SCHED_MSG_RELEASE) {
        sched_sess_release(&n->sess, msg->resv.resv, msg->resv.key);
    } else if (msg->type == SCHED_MSG_BIND) {
        answer_bind(n, msg);
    } else if (msg->type == SCHED_MSG_GONEQ) {
        sched_sess_gone(&n->sess, e, msg);
    } else if (msg->type == SCHED_MSG_ENDED) {
        sched_sess_acked(&n->sess, e, &msg->bind);
    } else if (msg->type == SCHED_MSG_EXEC) {
        struct sched_sess_row *row = sched_sess_find(&n->sess, msg->exec.key);
        sched_journal_exec(&n->journal, e, row, msg);
    } else {
        return false;
    }
    return true;
}

static void on_message(struct sched_node *n, const struct sched_msg *msg)
{
    struct sched_env *e = &n->env;
    if (msg->type == SCHED_MSG_VIEW) {
        if (sched_cfg_is_voter(e->cfg, msg->from) || MUTANT(60)) {
            install(n, msg->view.view);
        }
    } else if (msg->type == SCHED_MSG_GRANT) {
        if (!sched_drain_left(&n->drain) &&
            sched_lease_grant(&n->lease, e, msg->from, &msg->grant)) {
            sched_spill_learn(&n->coord.spill, &msg->grant, n->sess.used);
        }
    } else if (msg->type == SCHED_MSG_QHAVE) {
        if (sched_permits_have(&n->sess.permits, e, msg)) {
            sched_coord_permits(&n->coord, e);
        }
    } else if (msg->type != SCHED_MSG_NOGRANT && !on_host(n, msg)) {
        on_directory(n, msg);
    }
}

/* ---- microVMs ---- */

static void on_vm(struct sched_node *n, const struct sched_event *ev)
{
    struct sched_env *e = &n->env;
    struct sched_sess_row *row = sched_sess_find(&n->sess, ev->vm.key);
    if (ev->kind == SCHED_EV_VM_UP) {
        bool first = sched_sess_up(&n->sess, e, &ev->vm);
        if (first && (row->exec.hi != 0 || row->exec.lo != 0)) {
            (void)sched_journal_start(&n->journal, e, row, row->exec, row->asker);
        }
    } else if (ev->kind == SCHED_EV_VM_DOWN) {
        sched_journal_down(&n->journal, e, row, &ev->vm);
        (void)sched_sess_down(&n->sess, e, &ev->vm, ev->idle);
    } else if (ev->kind == SCHED_EV_VM_DONE) {
        sched_journal_done(&n->journal, e, row, &ev->vm, ev->outcome);
    } else if (row != NULL) {
        sched_sess_stop(e, row);
    }
}

/* ---- time ---- */

/* While the cluster could be at a later version, or has to know before it takes this worker in. */
static void tell_versions(struct sched_node *n)
{
    const struct sched_env *e = &n->env;
    uint8_t told = sched_env_member(e) ? sched_view_version(e->view) : SCHED_VERSION_BASE;
    for (uint32_t i = 0; n->speaks.max > told && i < e->cfg->n_voters; i++) {
        sched_fx_send(e->fx, SCHED_MSG_VPULL, e->cfg->voters[i])->pull =
            (struct sched_m_pull){UINT32_MAX, n->speaks};
    }
}

static void ask_lease(struct sched_node *n)
{
    struct sched_env *e = &n->env;
    if (n->drain.phase == SCHED_DRAIN_DONE) {
        n->lease.renew_at_ns = UINT64_MAX;
        return;
    }
    struct sched_m_lease m = {.inc = e->me.inc,
        .installed = e->view->num,
        .zone = n->zone,
        .weight = n->weight,
        .draining = sched_drain_on(&n->drain),
        .active = n->sess.used,
        .ready = sched_sess_shut(&n->sess, e) ? 0 : n->cfg->sess_max - n->sess.used};
    sched_hand_unsettled(&n->hand, e, &n->reg, m.unsettled);
    n->told_unsettled = n->hand.unsettled > 0;
    tell_versions(n);
    sched_lease_ask(&n->lease, e, &m);
}

static void stop_all(struct sched_node *n)
{
    uint32_t budget = SCHED_FX_RESERVE / 4;
    for (uint32_t i = 0; i < n->cfg->sess_max && budget > 0; i++) {
        if (n->sess.rows[i].state == SCHED_SESS_LIVE) {
            sched_sess_stop(&n->env, &n->sess.rows[i]);
            budget--;
        }
    }
}

static void housekeeping(struct sched_node *n)
{
    struct sched_env *e = &n->env;
    n->house_ns = e->now_ns + SCHED_MS(HOUSE_MS);
    sched_sess_tick(&n->sess, e);
    sched_journal_tick(&n->journal, e);
    sched_cool_owner(&n->cool, e, &n->sess);
    sched_cool_replica(e, &n->reg, &n->coord);
    n->sess.closed = sched_drain_on(&n->drain);
    if (sched_drain_tick(&n->drain, e, n->sess.used)) {
        stop_all(n);
    }
}

static void tick(struct sched_node *n)
{
    struct sched_env *e = &n->env;
    n->work_ns = e->now_ns + SCHED_MS(WORK_MS);
    if (n->told_unsettled && n->hand.unsettled == 0) {
        n->lease.renew_at_ns = e->now_ns; /* the voters wait for this */
    }
    if (sched_lease_due(&n->lease, e)) {
        ask_lease(n);
    }
    sched_hand_tick(&n->hand, e, &n->reg, &n->sess);
    sched_coord_tick(&n->coord, e);
    if (e->now_ns >= n->house_ns) {
        housekeeping(n);
    }
}

void sched_node_pools(struct sched_node *n, uint64_t version, bool limited,
    const struct sched_pool_max *pools, uint32_t count)
{
    sched_permits_pools(&n->sess.permits, version, limited, pools, count);
}

/* The voters hear of it at once, and no place is given away until they have. */
static void on_drain(struct sched_node *n, const struct sched_event *ev)
{
    if (ev->kind == SCHED_EV_DRAIN) {
        sched_drain_start(&n->drain, &n->env, ev->grace_ms, ev->stay);
    } else if (!sched_drain_stop(&n->drain)) {
        return;
    }
    n->sess.closed = sched_drain_on(&n->drain);
    n->lease.renew_at_ns =
        n->drain.phase <= SCHED_DRAIN_SESSIONS ? n->env.now_ns : n->lease.renew_at_ns;
}

void sched_node_step(struct sched_node *n, const struct sched_event *ev, struct sched_fx *fx)
{
    n->env.fx = fx;
    n->env.now_ns = ev->now_ns;
    switch ((enum sched_event_kind)ev->kind) {
    case SCHED_EV_TICK:
        tick(n);
        break;
    case SCHED_EV_MSG:
        on_message(n, ev->msg);
        break;
    case SCHED_EV_DRAIN:
    case SCHED_EV_UNDRAIN:
        on_drain(n, ev);
        break;
    case SCHED_EV_SHUT:
        sched_sess_shut_until(&n->sess, &n->env, ev->all ? NULL : &ev->vm.key, ev->grace_ms);
        break;
    case SCHED_EV_VM_UP:
    case SCHED_EV_VM_DOWN:
    case SCHED_EV_VM_DONE:
    case SCHED_EV_DELETE:
        on_vm(n, ev);
        break;
    }
    sched_permits_tick(
        &n->sess.permits, &n->env, !n->sess.closed && n->sess.used < n->cfg->sess_max);
}

enum sched_node_says sched_node_check(const struct sched_node *n, uint64_t now_ns,
    struct sched_key key, sched_epoch epoch, uint32_t inc)
{
    const struct sched_sess_row *row = sched_sess_find(&n->sess, key);
    struct sched_env now = n->env;
    now.now_ns = now_ns;
    if (!sched_env_serving(&now)) {
        return SCHED_NODE_NOT_NOW;
    }
    if (inc != now.me.inc) {
        return SCHED_NODE_EARLIER; /* as sched_journal_exec() answers: that life's journal is gone
                                    */
    }
    if (row == NULL || row->rec.epoch != epoch || row->state == SCHED_SESS_ENDED) {
        return SCHED_NODE_NOT_HERE;
    }
    return row->state == SCHED_SESS_LIVE ? SCHED_NODE_HERE : SCHED_NODE_NOT_NOW;
}

uint64_t sched_node_deadline_ns(const struct sched_node *n)
{
    uint64_t at = n->house_ns < n->lease.renew_at_ns ? n->house_ns : n->lease.renew_at_ns;
    bool work = n->hand.unsettled > 0 || n->coord.used > 0 || n->told_unsettled;
    at = work && n->work_ns < at ? n->work_ns : at;
    uint64_t due = sched_permits_due_ns(&n->sess.permits);
    return due < at ? due : at;
}
