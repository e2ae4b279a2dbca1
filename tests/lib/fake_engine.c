#include "tests/lib/fake_engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/buf.h"
#include "proto/base/container.h"
#include "proto/limits.h"
#include "tests/lib/fake_engine_impl.h"

static void wake(struct worker_engine *e)
{
    if (e != NULL && !e->dead && !ev_is_active(&e->turn)) {
        ev_timer_set(&e->turn, 0., 0.);
        ev_timer_start(e->loop, &e->turn);
    }
}

static void maybe_crash(struct worker_engine *e)
{
    struct fake_world *w = e->w;
    if (w->crash_in > 0 && --w->crash_in == 0) {
        e->dead = true;
        ev_timer_stop(e->loop, &e->turn);
        w->crash(w->crash_user);
    }
}

/* --- events -------------------------------------------------------------------------------- */

static void emit(struct fake_exec *x, Warren__GuestEvent *ev)
{
    if (x->last == EVENTS) {
        abort();
    }
    ev->seq = ++x->last;
    struct base_buf *b = &x->events[x->last - 1];
    size_t n = warren__guest_event__get_packed_size(ev);
    base_buf_grow(b, warren__guest_event__pack(ev, base_buf_room(b, n)));
    x->bytes += n;
}

static void emit_out(struct fake_exec *x, const void *data, size_t n)
{
    Warren__GuestEvent ev = WARREN__GUEST_EVENT__INIT;
    ev.kind = WARREN__EVENT_KIND__EVENT_STDOUT;
    ev.data.data = (uint8_t *)(uintptr_t)data;
    ev.data.len = n;
    emit(x, &ev);
}

static void emit_done(struct fake_exec *x, Warren__DoneStatus status)
{
    Warren__GuestEvent ev = WARREN__GUEST_EVENT__INIT;
    Warren__GuestDone done = WARREN__GUEST_DONE__INIT;
    done.status = status;
    done.duration_us = 42;
    ev.kind = WARREN__EVENT_KIND__EVENT_DONE;
    ev.done = &done;
    emit(x, &ev);
    x->done = true;
}

static void vm_die(struct fake_vm *vm, const char *why)
{
    (void)snprintf(vm->why, sizeof vm->why, "%s", why);
    vm->state = VM_DEAD;
}

static void big(struct fake_exec *x)
{
    static uint8_t bytes[1 << 20];
    memset(bytes, 'b', sizeof bytes);
    emit_out(x, bytes, x->big_bytes < sizeof bytes ? x->big_bytes : sizeof bytes);
    x->big_left--;
}

/* One line of the code; false when it cannot go on now. */
static bool exec_line(struct fake_world *w, struct fake_vm *vm, struct fake_exec *x)
{
    if (x->bytes > PROTO_EVENT_WINDOW || (x->holding && w->go_on == 0)) {
        return false;
    }
    x->holding = false;
    if (x->big_left > 0) {
        big(x);
        return true;
    }
    if (x->at >= x->code_n) {
        emit_done(x, WARREN__DONE_STATUS__DONE_OK);
        return true;
    }
    char line[128] = "";
    size_t n = strcspn(x->code + x->at, "\n");
    (void)snprintf(line, sizeof line, "%.*s", (int)n, x->code + x->at);
    x->at += n + 1;
    if (strncmp(line, "say ", 4) == 0) {
        emit_out(x, line + 4, strlen(line + 4));
    } else if (sscanf(line, "big %u %u", &x->big_bytes, &x->big_left) == 2) {
        return true;
    } else if (strcmp(line, "hold") == 0) {
        x->holding = true;
        return false;
    } else if (strcmp(line, "die") == 0) {
        vm_die(vm, "the code killed it");
    } else if (strcmp(line, "fail") == 0) {
        emit_done(x, WARREN__DONE_STATUS__DONE_ERROR);
    }
    return true;
}

/* --- streams ------------------------------------------------------------------------------- */

static void stream_free(struct worker_stream *s)
{
    for (int i = 0; i < STREAMS; i++) {
        if (s->e->streams[i] == s) {
            s->e->streams[i] = NULL;
        }
    }
    base_buf_deinit(&s->in);
    free(s);
}

static void stream_close(struct worker_stream *s, int code, const char *text)
{
    const struct worker_stream_ops *ops = s->ops;
    void *user = s->user;
    stream_free(s);
    if (ops->closed != NULL) {
        ops->closed(user, code, text);
    }
}

static struct fake_exec *exec_find(struct fake_vm *vm, const uint8_t *id)
{
    for (int i = 0; i < EXECS; i++) {
        if (vm->execs[i] != NULL && memcmp(vm->execs[i]->id, id, PROTO_EXEC_ID_BYTES) == 0) {
            return vm->execs[i];
        }
    }
    return NULL;
}

static void exec_accept(struct worker_stream *s)
{
    struct fake_exec *x = s->exec;
    x->code_n = base_buf_size(&s->in);
    x->code = calloc(1, x->code_n + 1);
    if (x->code_n > 0) {
        memcpy(x->code, base_buf_data(&s->in), x->code_n);
    }
    s->e->w->runs++;
    s->opened = true;
}

static bool exec_open(struct worker_stream *s)
{
    if (!s->fin) {
        return false;
    }
    int code = 0;
    if (s->twice) {
        free(s->exec);
        stream_close(s, BASE_EEXISTS, "used already");
        return true;
    }
    const char *p = (const char *)base_buf_data(&s->in);
    if (p != NULL && sscanf(p, "rst %d", &code) == 1) {
        stream_close(s, code, "refused");
        return true;
    }
    exec_accept(s);
    return true;
}

static bool exec_stream(struct worker_stream *s)
{
    struct fake_exec *x = s->exec;
    if (!s->opened) {
        return exec_open(s);
    }
    if (s->sent_seq < x->last) {
        struct base_buf *b = &x->events[s->sent_seq++];
        if (base_buf_size(b) == 0) {
            return true;
        }
        Warren__GuestEvent *ev =
            warren__guest_event__unpack(NULL, base_buf_size(b), base_buf_data(b));
        uint8_t *copy = malloc(base_buf_size(b));
        memcpy(copy, base_buf_data(b), base_buf_size(b));
        size_t n = base_buf_size(b);
        s->ops->event(s->user, ev, copy, n);
        free(copy);
        warren__guest_event__free_unpacked(ev, NULL);
        return true;
    }
    if (x->done) {
        stream_close(s, 0, "");
        return true;
    }
    return false;
}

static struct fake_file *file_at(struct fake_vm *vm, const char *name)
{
    for (int i = 0; i < FILES; i++) {
        if (strcmp(vm->files[i].name, name) == 0) {
            return &vm->files[i];
        }
    }
    return NULL;
}

static void result(struct worker_stream *s, int code, const char *text, const struct fake_file *f)
{
    Warren__GuestResult r = WARREN__GUEST_RESULT__INIT;
    Warren__FileInfo info = WARREN__FILE_INFO__INIT;
    r.code = code;
    r.text = (char *)(uintptr_t)text;
    if (f != NULL) {
        info.name = (char *)(uintptr_t)f->name;
        info.size = base_buf_size(&f->data);
        r.file = &info;
    }
    s->answered = true;
    s->ops->result(s->user, &r);
}

static bool put_stream(struct worker_stream *s, struct fake_vm *vm)
{
    if (s->answered) {
        stream_close(s, 0, "");
        return true;
    }
    size_t n = base_buf_size(&s->in) - s->taken, most = s->e->w->slow;
    n = most != 0 && n > most ? most : n;
    s->taken += n;
    s->room += n;
    if (s->taken > s->size_max) {
        stream_close(s, BASE_ETOOBIG, "over size_max");
        return true;
    }
    if (n > 0) {
        if (s->ops->writable != NULL) {
            s->ops->writable(s->user);
        }
        return true;
    }
    if (!s->fin) {
        return false;
    }
    struct fake_file *f = file_at(vm, s->name);
    f = f != NULL ? f : file_at(vm, "");
    (void)snprintf(f->name, sizeof f->name, "%s", s->name);
    base_buf_clear(&f->data);
    (void)base_buf_add(&f->data, base_buf_data(&s->in), base_buf_size(&s->in));
    result(s, 0, "", f);
    return true;
}

static bool get_stream(struct worker_stream *s, struct fake_vm *vm)
{
    struct fake_file *f = file_at(vm, s->name);
    if (!s->answered) {
        result(s, f == NULL ? BASE_ENOTFOUND : 0, f == NULL ? "no such file" : "", f);
        return true;
    }
    size_t left = f == NULL ? 0 : base_buf_size(&f->data) - s->sent;
    if (left == 0) {
        stream_close(s, 0, "");
        return true;
    }
    size_t window = PROTO_FRAME_STREAM_WINDOW - (s->sent - s->consumed);
    size_t n = left < PROTO_FRAME_PAYLOAD_MAX ? left : PROTO_FRAME_PAYLOAD_MAX;
    n = n < window ? n : window;
    if (n == 0) {
        return false;
    }
    s->sent += n;
    s->ops->data(s->user, base_buf_data(&f->data) + s->sent - n, n);
    return true;
}

/* Gives back what comes; at its end the shell ends with 7. */
static bool terminal_stream(struct worker_stream *s)
{
    Warren__GuestResult r = WARREN__GUEST_RESULT__INIT;
    if (!s->answered) {
        result(s, 0, "", NULL);
        return true;
    }
    size_t n = base_buf_size(&s->in) - s->taken;
    size_t window = PROTO_FRAME_STREAM_WINDOW - (s->sent - s->consumed);
    n = n < window ? n : window;
    n = n < PROTO_FRAME_PAYLOAD_MAX ? n : PROTO_FRAME_PAYLOAD_MAX;
    if (n > 0) {
        s->taken += n;
        s->room += n;
        s->sent += n;
        s->ops->data(s->user, base_buf_data(&s->in) + s->taken - n, n);
        s->ops->writable(s->user);
        return true;
    }
    if (!s->fin || s->taken < base_buf_size(&s->in)) {
        return false;
    }
    r.exit_code = 7;
    s->ops->result(s->user, &r);
    stream_close(s, 0, "");
    return true;
}

static void list_result(struct worker_stream *s, struct fake_vm *vm)
{
    Warren__GuestResult r = WARREN__GUEST_RESULT__INIT;
    Warren__FileInfo infos[FILES], *ptrs[FILES];
    r.entries = ptrs;
    for (int i = 0; i < FILES; i++) {
        if (vm->files[i].name[0] != '\0') {
            warren__file_info__init(&infos[i]);
            infos[i].name = vm->files[i].name;
            infos[i].size = base_buf_size(&vm->files[i].data);
            ptrs[r.n_entries++] = &infos[i];
        }
    }
    s->answered = true;
    s->ops->result(s->user, &r);
}

static bool small_stream(struct worker_stream *s, struct fake_vm *vm)
{
    struct fake_file *f = file_at(vm, s->name);
    if (s->answered) {
        stream_close(s, 0, "");
    } else if (s->what == WARREN__GUEST_OPEN__WHAT_LIST) {
        list_result(s, vm);
    } else if (f == NULL) {
        result(s, BASE_ENOTFOUND, "no such file", NULL);
    } else if (s->what == WARREN__GUEST_OPEN__WHAT_DELETE) {
        f->name[0] = '\0';
        base_buf_clear(&f->data);
        result(s, 0, "", NULL);
    } else {
        result(s, 0, "", f);
    }
    return true;
}

static bool stream_turn(struct worker_stream *s)
{
    struct fake_vm *vm = &s->e->w->vms[s->slot];
    if (vm->state == VM_DYING || vm->state == VM_DEAD || vm->state == VM_FREE) {
        stream_close(s, BASE_ECLOSED, "the microVM is gone");
        return true;
    }
    switch (s->what) {
    case WARREN__GUEST_OPEN__WHAT_EXEC:
        return exec_stream(s);
    case WARREN__GUEST_OPEN__WHAT_RESUME:
        if (s->exec == NULL) {
            stream_close(s, BASE_ENOTFOUND, "not known");
            return true;
        }
        return exec_stream(s);
    case WARREN__GUEST_OPEN__WHAT_PUT:
        return put_stream(s, vm);
    case WARREN__GUEST_OPEN__WHAT_GET:
        return get_stream(s, vm);
    case WARREN__GUEST_OPEN__WHAT_TERMINAL:
        return terminal_stream(s);
    case WARREN__GUEST_OPEN__WHAT_LIST:
    case WARREN__GUEST_OPEN__WHAT_STAT:
    case WARREN__GUEST_OPEN__WHAT_DELETE:
        return small_stream(s, vm);
    case WARREN__GUEST_OPEN__WHAT__NOT_SET:
    case _WARREN__GUEST_OPEN__WHAT__CASE_IS_INT_SIZE:
        break;
    }
    abort();
}

/* --- microVMs ------------------------------------------------------------------------------ */

static void vm_clear(struct fake_vm *vm)
{
    for (int i = 0; i < EXECS; i++) {
        struct fake_exec *x = vm->execs[i];
        for (int k = 0; x != NULL && k < EVENTS; k++) {
            base_buf_deinit(&x->events[k]);
        }
        if (x != NULL) {
            free(x->code);
            free(x);
        }
    }
    for (int i = 0; i < FILES; i++) {
        base_buf_deinit(&vm->files[i].data);
    }
    memset(vm, 0, sizeof *vm);
}

static bool vm_turn(struct worker_engine *e, uint32_t slot)
{
    struct fake_world *w = e->w;
    struct fake_vm *vm = &w->vms[slot];
    bool progress = true;
    if (vm->state == VM_STARTING && w->fail_starts > 0) {
        w->fail_starts--;
        vm_die(vm, "it does not start");
    } else if (vm->state == VM_STARTING && !w->hold_starts) {
        vm->state = VM_READY;
        e->events.vm_ready(e->events.user, slot);
    } else if (vm->state == VM_ADOPTING) {
        vm->state = vm->claimed ? VM_LIVE : VM_READY;
        e->events.vm_ready(e->events.user, slot);
    } else if (vm->state == VM_DEAD) {
        vm->state = VM_DYING;
        e->events.vm_dead(e->events.user, slot, vm->why);
    } else if (vm->state == VM_DYING) {
        vm_clear(vm);
        e->events.vm_gone(e->events.user, slot);
    } else {
        progress = false;
    }
    for (int i = 0; vm->state == VM_LIVE && i < EXECS; i++) {
        struct fake_exec *x = vm->execs[i];
        progress |= x != NULL && !x->done && x->code != NULL && exec_line(w, vm, x);
    }
    return progress;
}

static void on_turn(struct ev_loop *loop, struct ev_timer *t, int events)
{
    (void)loop;
    (void)events;
    struct worker_engine *e = CONTAINER_OF(t, struct worker_engine, turn);
    bool progress = false;
    while (e->told < e->pools) {
        char id[16];
        (void)snprintf(id, sizeof id, "t%u", e->told + 1);
        e->events.template_state(e->events.user, e->told, WORKER_TEMPLATE_READY, id);
        e->told++;
        progress = true;
    }
    for (int i = 0; i < STREAMS; i++) { /* streams first: closed comes before dead */
        if (e->streams[i] != NULL && !e->w->frozen) {
            progress |= stream_turn(e->streams[i]);
        }
    }
    for (uint32_t i = 0; i < e->w->slots; i++) {
        progress |= (!e->w->frozen || e->w->vms[i].state >= VM_DEAD) && vm_turn(e, i);
    }
    if (progress) {
        wake(e);
    } else {
        e->w->go_on = 0;
    }
}

void fake_world_full(struct fake_world *w, bool on)
{
    w->full = on;
}

void fake_world_freeze(struct fake_world *w, bool on)
{
    w->frozen = on;
    wake(w->engine);
}

/* --- engine.h ------------------------------------------------------------------------------ */

void worker_engine_destroy(struct worker_engine *e)
{
    for (int i = 0; i < STREAMS; i++) {
        if (e->streams[i] != NULL) {
            stream_free(e->streams[i]);
        }
    }
    ev_timer_stop(e->loop, &e->turn);
    e->w->engine = NULL;
    free(e);
}

const char *worker_engine_isolation(const struct worker_engine *e)
{
    (void)e;
    return "tcg";
}

int worker_engine_pool_add(struct worker_engine *e, const struct worker_engine_pool *spec,
    uint32_t *ret_pool, struct base_error *err)
{
    (void)spec;
    if (e->w->full) {
        return base_fail(err, BASE_EFULL, "no number for another pool");
    }
    *ret_pool = e->pools++;
    wake(e);
    return 0;
}

void worker_engine_pool_drop(struct worker_engine *e, uint32_t pool)
{
    if (pool >= e->pools || e->dropped[pool]) {
        abort();
    }
    e->dropped[pool] = true;
}

void worker_engine_look(struct worker_engine *e)
{
    if (e->frozen != e->w->frozen && !e->dead) {
        e->events.frozen(e->events.user, e->frozen = e->w->frozen);
    }
}

int worker_engine_vm_start(
    struct worker_engine *e, const struct worker_vm_start *start, struct base_error *err)
{
    struct fake_vm *vm = &e->w->vms[start->slot];
    if (e->dropped[start->pool]) {
        abort();
    }
    if (vm->state != VM_FREE || e->dead) {
        return base_fail(err, BASE_ESTATE, "taken");
    }
    vm->state = VM_STARTING;
    memcpy(vm->vm_id, start->vm_id, sizeof vm->vm_id);
    wake(e);
    return 0;
}

int worker_engine_vm_claim(struct worker_engine *e, uint32_t slot, const char *hostname)
{
    (void)hostname;
    struct fake_vm *vm = &e->w->vms[slot];
    if (vm->state != VM_READY || e->dead) {
        return BASE_ESTATE;
    }
    if (e->w->fail_claims > 0) {
        e->w->fail_claims--;
        return BASE_ECLOSED;
    }
    vm->claimed = true;
    vm->state = VM_LIVE;
    maybe_crash(e);
    return 0;
}

void worker_engine_vm_kill(struct worker_engine *e, uint32_t slot)
{
    if (e->w->vms[slot].state != VM_FREE && !e->dead) {
        e->w->vms[slot].state = VM_DYING;
        wake(e);
    }
}

int worker_engine_vm_adopt(
    struct worker_engine *e, uint32_t slot, uint32_t pool, const uint8_t vm_id[16], bool claimed)
{
    (void)pool;
    struct fake_vm *vm = &e->w->vms[slot];
    if ((vm->state != VM_LIVE && vm->state != VM_READY) || memcmp(vm->vm_id, vm_id, 16) != 0) {
        return BASE_ENOTFOUND;
    }
    if (vm->claimed && !claimed) { /* it would be given to a second session */
        abort();
    }
    vm->claimed = claimed;
    vm->state = VM_ADOPTING;
    wake(e);
    return 0;
}

void worker_engine_reap_strangers(struct worker_engine *e)
{
    for (uint32_t i = 0; i < e->w->slots; i++) {
        if (e->w->vms[i].state != VM_ADOPTING) {
            vm_clear(&e->w->vms[i]);
        }
    }
}

static void name_of(struct worker_stream *s, const Warren__GuestOpen *o)
{
    const char *name = "";
    s->size_max = UINT64_MAX;
    if (o->what_case == WARREN__GUEST_OPEN__WHAT_PUT) {
        name = o->put->path;
        s->size_max = o->put->size_max;
    } else if (o->what_case == WARREN__GUEST_OPEN__WHAT_GET) {
        name = o->get->path;
    } else if (o->what_case == WARREN__GUEST_OPEN__WHAT_STAT) {
        name = o->stat->path;
    } else if (o->what_case == WARREN__GUEST_OPEN__WHAT_DELETE) {
        name = o->delete_->path;
    }
    (void)snprintf(s->name, sizeof s->name, "%.60s", name);
}

int worker_engine_open(struct worker_engine *e, uint32_t slot, const Warren__GuestOpen *open,
    const struct worker_stream_ops *ops, void *user, struct worker_stream **ret)
{
    struct fake_vm *vm = &e->w->vms[slot];
    if (vm->state != VM_LIVE || e->dead) {
        return BASE_ECLOSED;
    }
    struct worker_stream *s = calloc(1, sizeof *s);
    *s = (struct worker_stream){.e = e,
        .slot = slot,
        .ops = ops,
        .user = user,
        .what = open->what_case,
        .room = PROTO_FRAME_STREAM_WINDOW};
    name_of(s, open);
    if (s->what == WARREN__GUEST_OPEN__WHAT_EXEC) {
        s->twice = exec_find(vm, open->exec->id.data) != NULL;
        s->exec = calloc(1, sizeof *s->exec);
        memcpy(s->exec->id, open->exec->id.data, PROTO_EXEC_ID_BYTES);
        for (int i = 0; i < EXECS && !s->exec->used && !s->twice; i++) {
            if (vm->execs[i] == NULL) {
                vm->execs[i] = s->exec;
                s->exec->used = true;
            }
        }
    } else if (s->what == WARREN__GUEST_OPEN__WHAT_RESUME) {
        s->exec = exec_find(vm, open->resume->id.data);
        bool held =
            s->exec != NULL && s->exec->code != NULL && open->resume->after_seq >= s->exec->acked;
        s->exec = held ? s->exec : NULL;
        s->opened = true;
        s->sent_seq = open->resume->after_seq;
    }
    for (int i = 0; i < STREAMS; i++) {
        if (e->streams[i] == NULL) {
            e->streams[i] = s;
            *ret = s;
            wake(e);
            return 0;
        }
    }
    abort();
}

size_t worker_stream_write(struct worker_stream *s, const void *data, size_t n)
{
    n = n < s->room ? n : s->room;
    if (s->e->dead) {
        return n;
    }
    s->room -= n;
    (void)base_buf_add(&s->in, data, n);
    wake(s->e);
    return n;
}

void worker_stream_finish(struct worker_stream *s)
{
    if (!s->e->dead) {
        s->fin = true;
        const char *p = (const char *)base_buf_data(&s->in);
        bool refuse = s->twice || p == NULL || strncmp(p, "rst ", 4) == 0;
        if (s->what == WARREN__GUEST_OPEN__WHAT_EXEC && !refuse) {
            exec_accept(s); /* it reaches the guest even when the worker dies now */
            maybe_crash(s->e);
        }
        wake(s->e);
    }
}

void worker_stream_consume(struct worker_stream *s, size_t n)
{
    s->consumed += n;
    wake(s->e);
}

void worker_stream_reset(struct worker_stream *s)
{
    stream_free(s);
}

void worker_engine_event_ack(
    struct worker_engine *e, uint32_t slot, const uint8_t exec_id[16], uint64_t seq)
{
    struct fake_exec *x = e->dead ? NULL : exec_find(&e->w->vms[slot], exec_id);
    while (x != NULL && x->acked < seq && x->acked < x->last) {
        x->bytes -= base_buf_size(&x->events[x->acked]);
        base_buf_deinit(&x->events[x->acked++]);
    }
    if (x != NULL) {
        maybe_crash(e);
    }
    wake(e);
}

void worker_engine_forget(struct worker_engine *e, uint32_t slot, const uint8_t exec_id[16])
{
    worker_engine_event_ack(e, slot, exec_id, UINT64_MAX);
}

void worker_engine_interrupt(struct worker_engine *e, uint32_t slot, const uint8_t exec_id[16])
{
    struct fake_exec *x = e->dead ? NULL : exec_find(&e->w->vms[slot], exec_id);
    if (x != NULL && !x->done) {
        emit_done(x, WARREN__DONE_STATUS__DONE_INTERRUPTED);
        wake(e);
    }
}

/* --- the test's side ------------------------------------------------------------------------- */

struct fake_world *fake_world_create(uint32_t slots)
{
    struct fake_world *w = calloc(1, sizeof *w);
    w->slots = slots;
    w->vms = calloc(slots, sizeof *w->vms);
    return w;
}

void fake_world_destroy(struct fake_world *w)
{
    for (uint32_t i = 0; i < w->slots; i++) {
        vm_clear(&w->vms[i]);
    }
    free(w->vms);
    free(w);
}

struct worker_engine *fake_engine_create(
    struct fake_world *w, struct ev_loop *loop, const struct worker_engine_events *events)
{
    struct worker_engine *e = calloc(1, sizeof *e);
    *e = (struct worker_engine){.w = w, .loop = loop, .events = *events};
    ev_timer_init(&e->turn, on_turn, 0., 0.);
    w->engine = e;
    return e;
}

void fake_world_crash_at(struct fake_world *w, uint32_t n, void (*crash)(void *user), void *user)
{
    w->crash_in = n;
    w->crash = crash;
    w->crash_user = user;
}

void fake_world_go_on(struct fake_world *w)
{
    w->go_on = 1;
    wake(w->engine);
}

void fake_world_hold_starts(struct fake_world *w, bool on)
{
    w->hold_starts = on;
    wake(w->engine);
}

void fake_world_fail_starts(struct fake_world *w, uint32_t n)
{
    w->fail_starts = n;
}

void fake_world_fail_claims(struct fake_world *w, uint32_t n)
{
    w->fail_claims = n;
}

void fake_world_slow(struct fake_world *w, uint32_t bytes)
{
    w->slow = bytes;
}

void fake_world_die(struct fake_world *w, uint32_t slot)
{
    vm_die(&w->vms[slot], "killed");
    wake(w->engine);
}

void fake_world_vanish(struct fake_world *w, uint32_t slot)
{
    vm_clear(&w->vms[slot]);
}
