#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/guest.pb-c.h"
#include "worker/core/exec.h"
#include "worker/io/session_io.h"

/* Executions of a worker, from the id to the stored outcome. Order is everything here: STARTED is
 * committed before the code goes to the guest, an event before it is acknowledged to the guest or
 * shown to a reader, the end before the hold on the session is given up. */

/* A reader. Zero the reader member before the first use; unwatch before the owner goes. */
struct worker_exec_watch {
    struct worker_exec_reader reader;
    /* Look again: it was started, has more events, or has ended. */
    void (*ready)(struct worker_exec_watch *w);
    /* It never ran and never will under this id unless it is begun again (the row is gone). The
     * watch is detached. code: enum base_err. */
    void (*refused)(struct worker_exec_watch *w, int code, const char *text);
};

/* What to run. Owned: release(owner) is called when nothing of it is needed any more. */
struct worker_exec_order {
    Warren__GuestExec exec; /* pointers into the owner's memory */
    const uint8_t *code;
    size_t code_n;
    const uint8_t *digest;           /* of what is asked (exec_digest.h); needed by begin() only */
    struct worker_quota_who who;     /* pays while it runs */
    enum worker_quota_verdict quota; /* out, with WORKER_EXEC_QUOTA */
    void *owner;
    void (*release)(void *owner);
};

/* Begins the id in a session that the caller holds. Takes the order in every case (releases it when
 * the verdict is not NEW). *ret is set as by worker_exec_begin(). */
enum worker_exec_verdict worker_exec_io_begin(struct worker_sessions *s,
    struct worker_session_ref ref, uint64_t hash, struct worker_exec_order *order,
    struct worker_exec **ret);

struct worker_exec *worker_exec_io_find(
    struct worker_sessions *s, const uint8_t id[PROTO_EXEC_ID_BYTES]);

/* True when it was handed to the guest or has ended. */
bool worker_exec_io_started(const struct worker_exec *x);

void worker_exec_io_watch(struct worker_exec_watch *w, struct worker_exec *x, uint64_t after_seq);
void worker_exec_io_unwatch(struct worker_exec_watch *w);

struct worker_exec_event {
    uint64_t seq;
    const uint8_t *raw; /* serialised GuestEvent; valid until the next change of the store */
    size_t n;
};

/* The reader's next committed event. BASE_ENOTFOUND when there is none yet. */
int worker_exec_io_read(
    struct worker_sessions *s, struct worker_exec_watch *w, struct worker_exec_event *ret);

/* True when it ended and every event of it was passed to worker_exec_sent(). */
bool worker_exec_io_read_out(const struct worker_exec_watch *w);

/* Interrupts it; when it was not handed to the guest yet it never will be, and ends as interrupted.
 */
void worker_exec_io_interrupt(struct worker_sessions *s, struct worker_exec *x);

/* Records an id that was not begun as one that was interrupted: it will never run. NULL: the
 * journal is full, or the id is known. */
struct worker_exec *worker_exec_io_void(struct worker_sessions *s,
    const uint8_t id[PROTO_EXEC_ID_BYTES], uint64_t hash,
    const uint8_t digest[PROTO_EXEC_DIGEST_BYTES]);
