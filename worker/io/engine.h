#pragma once
#include <ev.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/err.h"
#include "proto/base/log.h"
#include "proto/guest.pb-c.h"

/* The engine: real microVMs and the streams into them. It knows slots, pools and templates; it
 * knows nothing of identifiers, sessions or limits (worker/core/pool decides those).
 *
 * One libev thread. Callbacks come from the loop, never from inside a call into the engine (except
 * where a function says so). A slot is a number below slots_max that the caller chooses; it is free
 * again after vm_gone. Strings passed to callbacks are valid during the call. */
struct worker_engine;

enum worker_accel { WORKER_ACCEL_AUTO, WORKER_ACCEL_KVM, WORKER_ACCEL_TCG };

struct worker_engine_config {
    struct ev_loop *loop;       /* the default loop (child watchers are needed) */
    const struct base_log *log; /* borrowed, as all strings below are */
    const char *run_dir;        /* RUN/<boot id>: lease page and vm/ folders */
    const char *template_dir;   /* STATE/templates */
    const char *image_dir;      /* vmlinuz rootfs.sqfs modules.cpio manifest.json */
    const char *guest_dir;      /* guest.cpio and warm/ of this build */
    const char *supervisor;     /* path of warren-supervisor */
    const char *qemu;           /* path of qemu-system-x86_64 */
    enum worker_accel accel;
    uint32_t uid_base;
    uint32_t slots_max;
    uint32_t spares_max; /* QEMU processes started ahead, without a guest; 0: none */
    bool leased;         /* voters grant a lease: worker_lease_publish(). Frozen until then */
    uint32_t freeze_ms;  /* without: microVMs end this long, and */
    uint32_t kill_ms;    /* this long after the worker's end. Leased: this long after the start,
                            if no lease ever comes */
};

struct worker_engine_pool {
    const char *name;
    uint32_t memory_mib;
    uint32_t cpus;
    Warren__Kernel kernels[4]; /* to be loaded in every instance; ends with KERNEL__NONE or 4 */
};

enum worker_template_state {
    WORKER_TEMPLATE_BUILDING, /* text: what is going on, for progress */
    WORKER_TEMPLATE_READY,    /* text: template id */
    WORKER_TEMPLATE_FAILED,   /* text: why; tried again with backoff */
};

struct worker_engine_events {
    void *user;
    void (*template_state)(
        void *user, uint32_t pool, enum worker_template_state state, const char *text);
    void (*vm_ready)(void *user, uint32_t slot);
    /* It will never serve again (start failed, QEMU died, agent lost). All its streams have had
     * their closed callback before. vm_gone follows. */
    void (*vm_dead)(void *user, uint32_t slot, const char *why);
    void (*vm_gone)(void *user, uint32_t slot); /* process, folder and uid are free again */
    /* The lease ran out: all vCPUs stand still, nothing may be promised; or it is back. */
    void (*frozen)(void *user, bool on);
};

/* Probes the accelerator, opens the lease page. */
int worker_engine_create(const struct worker_engine_config *config,
    const struct worker_engine_events *events, struct worker_engine **ret, struct base_error *err);

/* Ends only spares: microVMs live on for the lease. Call worker_engine_vm_kill() before for a real
 * end.
 */
void worker_engine_destroy(struct worker_engine *e);

const char *worker_engine_isolation(const struct worker_engine *e);    /* "kvm" or "tcg" */
const char *worker_engine_accel_reason(const struct worker_engine *e); /* why, for people */

/* Starts loading or building the template of a pool; template_state tells. *ret_pool is its number.
 * BASE_EFULL: twice PROTO_POOLS_MAX are there, those that were dropped and have microVMs too. */
int worker_engine_pool_add(struct worker_engine *e, const struct worker_engine_pool *spec,
    uint32_t *ret_pool, struct base_error *err);

/* The pool starts no more microVMs and its template goes; those that run are not concerned. No
 * event comes for it any more. Its number may stand for another pool when none of them is left. */
void worker_engine_pool_drop(struct worker_engine *e, uint32_t pool);

struct worker_vm_start {
    uint32_t slot;
    uint32_t pool;
    uint8_t vm_id[16]; /* names the microVM for ever; also its machine id */
    bool urgent;       /* a request waits: no throw-away cell, not stopped when ready */
};

/* Restores a clone. vm_ready or vm_dead follows. BASE_ESTATE without a template or when the slot is
 * taken. A ready instance that is not urgent has run the throw-away cell and is stopped. */
int worker_engine_vm_start(
    struct worker_engine *e, const struct worker_vm_start *start, struct base_error *err);

/* Gives a ready instance to a session: runs on, is reseeded with fresh randomness, clock and host
 * name before anything sent after this call. Streams may be opened at once. */
int worker_engine_vm_claim(struct worker_engine *e, uint32_t slot, const char *hostname);

/* Ends it in any state; vm_gone follows (no vm_dead). Streams get closed(BASE_ECLOSED). */
void worker_engine_vm_kill(struct worker_engine *e, uint32_t slot);

/* Process id of its QEMU, 0 when there is none (yet). For figures only. */
int32_t worker_engine_vm_pid(const struct worker_engine *e, uint32_t slot);

/* After a restart of the worker: takes over the microVM in a slot's folder when it still runs and
 * is vm_id. vm_ready (attached; claimed tells whether it was given to a session) or vm_dead
 * follows. */
int worker_engine_vm_adopt(
    struct worker_engine *e, uint32_t slot, uint32_t pool, const uint8_t vm_id[16], bool claimed);

/* Ends every microVM of the run folder whose slot is not in use (after all adopts). */
void worker_engine_reap_strangers(struct worker_engine *e);

/* --- the lease ------------------------------------------------------------------------------- */

/* What voters granted: microVMs run before freeze_at_ns and are ended at kill_at_ns (not before
 * freeze_at_ns; both CLOCK_BOOTTIME of this machine). epoch: the incarnation of this worker that
 * holds the lease, 0 while it is not admitted; a microVM that ran under another one is ended. Times
 * of 0 end everything at once. The page is written and supervisors are told before this returns;
 * frozen() may be called from inside. Without effect when the configuration says that no lease is
 * needed. */
void worker_lease_publish(
    struct worker_engine *e, uint64_t freeze_at_ns, uint64_t kill_at_ns, uint64_t epoch);

/* Looks at the clock and the lease now, so that what was asked after the lease ran out is not
 * answered by what was true before. frozen() may be called from inside. */
void worker_engine_look(struct worker_engine *e);

/* --- streams ------------------------------------------------------------------------------- */

struct worker_stream;

/* Any callback may be NULL. After closed the stream pointer is void. */
struct worker_stream_ops {
    /* Executions. raw is the serialised event, to store and pass on unchanged. */
    void (*event)(void *user, const Warren__GuestEvent *event, const uint8_t *raw, size_t n);
    void (*result)(void *user, const Warren__GuestResult *result); /* file operations */
    void (*data)(void *user, const uint8_t *data, size_t n);       /* call consume() later */
    void (*writable)(void *user); /* worker_stream_write() takes bytes again */
    /* 0: both sides finished. Otherwise enum base_err: the agent's refusal (RST), or BASE_ECLOSED
     * when the microVM is gone. */
    void (*closed)(void *user, int code, const char *text);
};

/* Opens a stream on the port that its kind belongs to (proto/GUEST.md). */
int worker_engine_open(struct worker_engine *e, uint32_t slot, const Warren__GuestOpen *open,
    const struct worker_stream_ops *ops, void *user, struct worker_stream **ret);

/* Takes as many bytes as credit allows and returns how many; the rest after writable(). */
size_t worker_stream_write(struct worker_stream *s, const void *data, size_t n);
void worker_stream_finish(struct worker_stream *s);            /* FIN */
void worker_stream_consume(struct worker_stream *s, size_t n); /* data bytes are done with */
/* Gives up: RST to the guest; no callback any more, the pointer is void. */
void worker_stream_reset(struct worker_stream *s);

/* Executions; without effect when the microVM is gone. */
void worker_engine_event_ack(
    struct worker_engine *e, uint32_t slot, const uint8_t exec_id[16], uint64_t seq);
void worker_engine_forget(struct worker_engine *e, uint32_t slot, const uint8_t exec_id[16]);
void worker_engine_interrupt(struct worker_engine *e, uint32_t slot, const uint8_t exec_id[16]);
