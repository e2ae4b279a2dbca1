#include <stdio.h>
#include <string.h>

#include "proto/base/rand.h"
#include "proto/base/text.h"
#include "worker/io/session_state.h"
#include "worker/wire/rows.h"

/* The effects of the pool manager, carried out. */

#define EPOCHS_AGAIN_S 2.

static void put(struct worker_sessions *s, enum worker_store_table t, const uint8_t *key,
    size_t key_n, const uint8_t *value, size_t value_n)
{
    struct worker_store_row r = {.key = key, .key_n = key_n, .value = value, .value_n = value_n};
    (void)worker_store_put(s->config.run, t, &r); /* a failed store ends the process */
}

static size_t session_key(
    const struct worker_sessions *s, const struct worker_session *x, uint8_t *key)
{
    return worker_row_session_key(x->hash, s->pools->pools[x->pool].spec.name, &x->id, key);
}

static void store_session(struct worker_sessions *s, uint32_t index)
{
    const struct worker_session *x = &s->pools->sessions[index];
    struct worker_row_session r = {.state = x->state,
        .end = x->end,
        .recreated = x->recreated,
        .slot = x->slot,
        .epoch = x->epoch,
        .hash = x->hash,
        .created_ns = x->created_ns,
        .last_ns = x->last_ns,
        .id = x->id,
        .tenant = x->tenant};
    (void)base_text_copy(r.pool, sizeof r.pool, s->pools->pools[x->pool].spec.name);
    uint8_t key[WORKER_ROW_KEY_MAX], value[WORKER_ROW_MAX];
    size_t n = session_key(s, x, key);
    put(s, WORKER_STORE_SESSION, key, n, value, worker_row_session_encode(&r, value));
}

static void store_vm(struct worker_sessions *s, uint32_t slot)
{
    const struct worker_slot *v = &s->pools->slots[slot];
    struct session_slot *x = &s->slots[slot];
    if (!x->named) {
        base_rand_bytes(x->vm_id, sizeof x->vm_id);
        x->named = true;
        x->template = s->shell[v->pool].template;
    }
    struct worker_row_vm r = {.state = v->state,
        .slot = slot,
        .template = x->template,
        .epoch = v->session == WORKER_NONE ? 0 : s->pools->sessions[v->session].epoch};
    memcpy(r.vm_id, x->vm_id, sizeof r.vm_id);
    (void)base_text_copy(r.pool, sizeof r.pool, s->pools->pools[v->pool].spec.name);
    uint8_t key[WORKER_ROW_KEY_MAX], value[WORKER_ROW_MAX];
    size_t n = worker_row_vm_key(slot, key);
    put(s, WORKER_STORE_VM, key, n, value, worker_row_vm_encode(&r, value));
}

static void drop_vm(struct worker_sessions *s, uint32_t slot)
{
    uint8_t key[WORKER_ROW_KEY_MAX];
    size_t n = worker_row_vm_key(slot, key);
    (void)worker_store_del(s->config.run, WORKER_STORE_VM, key, n);
    s->slots[slot].named = false;
    worker_store_wait_cancel(&s->slots[slot].commit);
}

void worker_session_tomb(struct worker_sessions *s, uint32_t index, bool keep)
{
    const struct worker_tomb *t = &s->pools->tombs[index];
    struct worker_row_fence r = {.end = t->end, .epoch = t->epoch, .hash = t->hash, .id = t->id};
    (void)base_text_copy(r.pool, sizeof r.pool, s->pools->pools[t->pool].spec.name);
    uint8_t key[WORKER_ROW_KEY_MAX], value[WORKER_ROW_MAX];
    size_t n = worker_row_session_key(t->hash, r.pool, &t->id, key);
    if (keep) {
        put(s, WORKER_STORE_FENCE, key, n, value, worker_row_fence_encode(&r, value));
    } else {
        (void)worker_store_del(s->config.run, WORKER_STORE_FENCE, key, n);
    }
}

static void epochs(struct worker_sessions *s, proto_epoch limit)
{
    int rc = worker_store_meta_set(s->config.node, "epoch_limit", limit);
    if (rc != 0) {
        LOG_ERROR(s->config.log, "epochs cannot be set aside, no new sessions soon: %s",
            base_err_str(rc));
        s->epochs_due = limit;
        ev_timer_set(&s->epochs_again, EPOCHS_AGAIN_S, 0.);
        ev_timer_start(s->config.loop, &s->epochs_again);
        return;
    }
    (void)worker_session_step(
        s, &(struct worker_pool_event){.kind = WORKER_EV_EPOCHS, .epoch = limit});
}

void worker_session_on_epochs(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)loop;
    (void)events;
    struct worker_sessions *s = w->data;
    epochs(s, s->epochs_due);
}

static void vm_failed(struct worker_sessions *s, uint32_t slot, const char *why, bool gone)
{
    (void)worker_session_step(
        s, &(struct worker_pool_event){.kind = WORKER_EV_VM_DEAD, .slot = slot, .text = why});
    if (gone) {
        (void)worker_session_step(
            s, &(struct worker_pool_event){.kind = WORKER_EV_VM_GONE, .slot = slot});
    }
}

static void start(struct worker_sessions *s, const struct worker_pool_fx *fx)
{
    struct base_error err;
    struct worker_vm_start v = {
        .slot = fx->slot, .pool = s->shell[fx->pool].engine, .urgent = fx->urgent};
    memcpy(v.vm_id, s->slots[fx->slot].vm_id, sizeof v.vm_id);
    int rc = worker_engine_vm_start(s->engine, &v, &err);
    if (rc != 0) {
        LOG_WARN(s->config.log, "a microVM cannot be started, trying again later: %s", err.text);
        vm_failed(s, fx->slot, err.text, true);
    }
}

/* The rows of the claim are safe: now it may happen. */
static void on_claim_stored(struct worker_store_wait *w, int rc)
{
    struct session_slot *x = CONTAINER_OF(w, struct session_slot, commit);
    struct worker_sessions *s = x->owner;
    const struct worker_slot *v = &s->pools->slots[x->index];
    if (v->state != WORKER_SLOT_CLAIMED || s->pools->sessions[v->session].epoch != x->claim) {
        return;
    }
    char host[64];
    (void)snprintf(host, sizeof host, "%.40s-%02x%02x%02x%02x", s->pools->pools[v->pool].spec.name,
        x->vm_id[0], x->vm_id[1], x->vm_id[2], x->vm_id[3]);
    if (rc == 0) {
        rc = worker_engine_vm_claim(s->engine, x->index, host);
    }
    if (rc != 0) {
        vm_failed(s, x->index, "a ready microVM could not be claimed", false);
        worker_engine_vm_kill(s->engine, x->index);
        return;
    }
    (void)worker_session_step(
        s, &(struct worker_pool_event){.kind = WORKER_EV_VM_CLAIMED, .slot = x->index});
}

static void answer(struct worker_sessions *s, const struct worker_pool_fx *fx)
{
    struct worker_session_want *w = (struct worker_session_want *)(uintptr_t)fx->request;
    struct worker_session_answer a = {.what = fx->answer,
        .ref = {.session = fx->session, .epoch = fx->epoch, .slot = fx->slot},
        .fresh = fx->fresh,
        .waited_ns = fx->waited_ns,
        .retry_ms = fx->retry_ms,
        .end = fx->end,
        .all_pools = worker_pool_all_full(s->pools),
        .text = "",
        .code = ""};
    if (fx->answer == WORKER_ANSWER_QUOTA) {
        a.text = worker_quota_text(fx->verdict, WORKER_QUOTA_SESSIONS);
    }
    char text[160] = "";
    if (fx->answer == WORKER_ANSWER_UNAVAILABLE) {
        (void)snprintf(text, sizeof text, "%s", worker_pool_fault(s->pools, fx->pool));
        a.text = text;
        a.code = s->pools->frozen                    ? "WorkerFrozen"
                 : s->pools->drain                   ? "WorkerDraining"
                 : s->pools->pools[fx->pool].retired ? "PoolDeleted"
                                                     : "";
    }
    w->waiting = false;
    w->done(w, &a);
}

static void ended(struct worker_sessions *s, const struct worker_pool_fx *fx, bool gone)
{
    char name[17];
    if (!gone) {
        LOG_INFO(s->config.log, "session ends pool=%s session=%s epoch=%llx why=%s",
            s->pools->pools[fx->pool].spec.name,
            worker_session_log_name(s->pools->sessions[fx->session].hash, name),
            (unsigned long long)fx->epoch, worker_pool_end_text(fx->end));
        worker_exec_io_lost(s, fx->epoch, fx->end);
    }
    /* A callback may remove any of them: those still to be called wait in a list of their own. */
    struct worker_list now;
    worker_list_init(&now);
    worker_list_splice(&now, &s->uses[fx->session]);
    struct worker_list *l;
    while ((l = worker_list_first(&now)) != NULL) {
        struct worker_session_use *u = CONTAINER_OF(l, struct worker_session_use, link);
        worker_list_remove(l);
        if (!gone) {
            worker_list_append(&s->uses[fx->session], l);
        }
        u->ended(u, fx->end, gone);
    }
}

static void claim(struct worker_sessions *s, const struct worker_pool_fx *fx)
{
    char name[17];
    LOG_INFO(s->config.log, "session begins pool=%s session=%s epoch=%llx slot=%u",
        s->pools->pools[fx->pool].spec.name,
        worker_session_log_name(s->pools->sessions[fx->session].hash, name),
        (unsigned long long)fx->epoch, fx->slot);
    s->slots[fx->slot].claim = fx->epoch;
    worker_store_after(s->config.run, &s->slots[fx->slot].commit, on_claim_stored);
}

void worker_session_carry_out(struct worker_sessions *s, const struct worker_pool_fx *fx)
{
    uint8_t key[WORKER_ROW_KEY_MAX];
    size_t n;
    switch (fx->kind) {
    case WORKER_FX_STORE_SESSION:
        store_session(s, fx->session);
        break;
    case WORKER_FX_DROP_SESSION:
        n = session_key(s, &s->pools->sessions[fx->session], key);
        (void)worker_store_del(s->config.run, WORKER_STORE_SESSION, key, n);
        break;
    case WORKER_FX_STORE_VM:
        store_vm(s, fx->slot);
        break;
    case WORKER_FX_DROP_VM:
        drop_vm(s, fx->slot);
        break;
    case WORKER_FX_STORE_TOMB:
    case WORKER_FX_DROP_TOMB:
        worker_session_tomb(s, fx->slot, fx->kind == WORKER_FX_STORE_TOMB);
        break;
    case WORKER_FX_EPOCHS:
        epochs(s, fx->epoch);
        break;
    case WORKER_FX_START:
        start(s, fx);
        break;
    case WORKER_FX_CLAIM:
        claim(s, fx);
        break;
    case WORKER_FX_KILL:
        worker_store_wait_cancel(&s->slots[fx->slot].commit);
        worker_engine_vm_kill(s->engine, fx->slot);
        break;
    case WORKER_FX_ANSWER:
        answer(s, fx);
        break;
    case WORKER_FX_ENDING:
    case WORKER_FX_GONE:
        ended(s, fx, fx->kind == WORKER_FX_GONE);
        break;
    }
}
