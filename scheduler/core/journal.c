#include "scheduler/core/journal.h"

#include "proto/base/assert.h"
#include "scheduler/core/mutant.h"

enum { SCAN = 32, ERASE_MAX = 64, NONE = 0xffffffff };

void sched_journal_init(struct sched_journal *j, const struct sched_cfg *cfg, struct sched_mem *mem)
{
    memset(j, 0, sizeof *j);
    j->runs = sched_mem_take(mem, cfg->execs_max, sizeof *j->runs);
    sched_map_init(&j->by_exec, cfg->execs_max, mem);
    if (j->runs != NULL && mem->used <= mem->size) {
        sched_journal_clear(j, cfg);
    }
}

void sched_journal_clear(struct sched_journal *j, const struct sched_cfg *cfg)
{
    sched_map_clear(&j->by_exec);
    for (uint32_t i = 0; i < cfg->execs_max; i++) {
        j->runs[i] = (struct sched_run){.next = i + 1 < cfg->execs_max ? i + 1 : NONE};
    }
    j->free = 0;
    j->scan = 0;
}

static struct sched_run *find(const struct sched_journal *j, struct sched_exec x)
{
    uint32_t i = sched_map_get(&j->by_exec, x.hi, x.lo);
    return i == SCHED_MAP_NONE ? NULL : &j->runs[i];
}

static struct sched_run *add(struct sched_journal *j, struct sched_exec x)
{
    if (j->free == NONE) {
        return NULL;
    }
    REQUIRE(j->runs != NULL);
    uint32_t i = j->free;
    struct sched_run *run = &j->runs[i];
    j->free = run->next;
    *run = (struct sched_run){.state = SCHED_RUN_STARTED, .exec = x};
    (void)sched_map_put(&j->by_exec, x.hi, x.lo, i);
    return run;
}

static void store(struct sched_env *e, const struct sched_run *run, bool erase)
{
    struct sched_row *r = sched_fx_store(e->fx, SCHED_ROW_EXEC);
    r->exec = run->exec;
    r->key = run->key;
    r->rec.epoch = run->epoch;
    r->state = (uint8_t)(run->state | run->outcome << 4);
    r->erase = erase;
}

static void tell(struct sched_env *e, const struct sched_run *run)
{
    if (run->asker.gw == 0 || run->state != SCHED_RUN_ENDED) {
        return;
    }
    sched_fx_send(e->fx, SCHED_MSG_DONE, run->asker.gw)->exec =
        (struct sched_m_exec){.rid = run->asker.rid,
            .key = run->key,
            .epoch = run->epoch,
            .inc = e->me.inc,
            .exec = run->exec,
            .outcome = run->outcome};
}

static void end(struct sched_env *e, struct sched_run *run, uint8_t outcome)
{
    run->state = SCHED_RUN_ENDED;
    run->outcome = outcome;
    run->ended_ns = e->now_ns;
    store(e, run, false);
    tell(e, run);
}

bool sched_journal_start(struct sched_journal *j, struct sched_env *e, struct sched_sess_row *row,
    struct sched_exec exec, struct sched_asker asker)
{
    struct sched_run *run = find(j, exec);
    if (run != NULL && !MUTANT(18)) {
        run->asker = asker;
        tell(e, run);
        return true;
    }
    run = row->running >= SCHED_RUNS_MAX ? NULL : add(j, exec);
    if (run == NULL) {
        return false;
    }
    run->key = row->key;
    run->epoch = row->rec.epoch;
    run->asker = asker;
    row->last_ns = e->now_ns;
    row->running++;
    if (!MUTANT(19)) {
        store(e, run, false);
    }
    sched_fx_add(e->fx, SCHED_FX_VM_EXEC)->vm =
        (struct sched_fx_vm){.key = run->key, .epoch = run->epoch, .exec = exec};
    return true;
}

static void retry(struct sched_env *e, const struct sched_msg *msg)
{
    sched_fx_send(e->fx, SCHED_MSG_RETRY, msg->from)->retry = (struct sched_m_retry){
        .rid = msg->exec.rid, .view = e->view->num, .why = SCHED_RETRY_LATER};
}

void sched_journal_exec(struct sched_journal *j, struct sched_env *e, struct sched_sess_row *row,
    const struct sched_msg *msg)
{
    const struct sched_m_exec *m = &msg->exec;
    struct sched_run *run = find(j, m->exec);
    if (run != NULL && !MUTANT(18)) {
        run->asker = (struct sched_asker){msg->from, m->rid};
        tell(e, run);
        return;
    }
    if (m->inc != e->me.inc && !MUTANT(20)) {
        struct sched_m_exec *out = &sched_fx_send(e->fx, SCHED_MSG_DONE, msg->from)->exec;
        *out = *m;
        out->outcome = SCHED_OUTCOME_UNKNOWN; /* an earlier life may have run it */
        return;
    }
    bool here = row != NULL && row->rec.epoch == m->epoch;
    if (!here || row->state == SCHED_SESS_STOPPING || row->state == SCHED_SESS_ENDED) {
        sched_fx_send(e->fx, SCHED_MSG_NOTHERE, msg->from)->exec = *m;
    } else if (row->state != SCHED_SESS_LIVE || !sched_env_serving(e) ||
               !sched_journal_start(j, e, row, m->exec, (struct sched_asker){msg->from, m->rid})) {
        retry(e, msg);
    }
}

void sched_journal_done(struct sched_journal *j, struct sched_env *e, struct sched_sess_row *row,
    const struct sched_fx_vm *vm, uint8_t outcome)
{
    struct sched_run *run = find(j, vm->exec);
    if (run == NULL || run->state != SCHED_RUN_STARTED || run->epoch != vm->epoch) {
        return;
    }
    if (row != NULL && row->rec.epoch == vm->epoch && row->running > 0) {
        row->running--;
        row->last_ns = e->now_ns;
    }
    end(e, run, outcome);
}

void sched_journal_down(struct sched_journal *j, struct sched_env *e,
    const struct sched_sess_row *row, const struct sched_fx_vm *vm)
{
    if (row != NULL && row->rec.epoch == vm->epoch && row->running == 0) {
        return; /* nothing runs in it: spares the search */
    }
    for (uint32_t i = 0; i < e->cfg->execs_max; i++) {
        struct sched_run *run = &j->runs[i];
        if (run->state == SCHED_RUN_STARTED && run->epoch == vm->epoch &&
            sched_key_eq(run->key, vm->key)) {
            end(e, run, SCHED_OUTCOME_UNKNOWN);
        }
    }
}

void sched_journal_tick(struct sched_journal *j, struct sched_env *e)
{
    uint32_t n = e->cfg->execs_max / 32 > SCAN ? e->cfg->execs_max / 32 : SCAN, erased = 0;
    for (uint32_t i = 0; i < n && erased < ERASE_MAX; i++) {
        struct sched_run *run = &j->runs[j->scan];
        uint32_t at = j->scan;
        j->scan = (j->scan + 1) % e->cfg->execs_max;
        if (run->state == SCHED_RUN_ENDED &&
            e->now_ns - run->ended_ns >= SCHED_MS(e->cfg->keep_ms)) {
            store(e, run, true);
            erased++;
            sched_map_del(&j->by_exec, run->exec.hi, run->exec.lo);
            *run = (struct sched_run){.next = j->free};
            j->free = at;
        }
    }
}

void sched_journal_restore(struct sched_journal *j, struct sched_env *e, const struct sched_row *r)
{
    struct sched_run *run = add(j, r->exec);
    if (run != NULL) {
        run->key = r->key;
        run->epoch = r->rec.epoch;
        run->state = r->state & 0xf;
        run->outcome = r->state >> 4;
        run->ended_ns = e->now_ns;
    }
}
