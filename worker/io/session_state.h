#pragma once
#include "worker/core/exec.h"
#include "worker/core/pool_state.h"
#include "worker/io/session_io.h"

/* Inside of worker/io/session_*.c and exec_io.c. */

struct session_slot {
    bool named; /* vm_id is set */
    uint8_t vm_id[16];
    uint64_t template; /* see struct worker_row_vm */
    proto_epoch claim; /* epoch of the claim that waits for the commit */
    struct worker_store_wait commit;
    struct worker_sessions *owner;
    uint32_t index;
};

struct session_pool {
    uint32_t engine; /* the engine's number of it; WORKER_NONE: it is retired */
    uint32_t next;   /* of what it is to be when its template is ready; WORKER_NONE */
    enum proto_pool_container container;
    uint32_t cpus, memory_mib;
    bool mcp, mcp_extended;
    char template_id[80];
    uint64_t template; /* of ready instances: a hash of the id; 0: not known, or there are none */
    char state[160];
    uint64_t created_ns;
};

/* An event that came while another one was being carried out. */
struct session_queued {
    struct worker_pool_event ev;
    struct proto_identifier id;
    char text[120];
};

struct worker_sessions {
    struct worker_session_config config;
    struct worker_engine *engine;
    struct worker_engine_events events;
    struct worker_pools *pools;
    struct worker_execs *execs;
    struct session_slot *slots;
    struct worker_list *uses; /* per session */
    struct worker_list lives; /* exec_io.c: running, or not yet committed */
    struct session_pool shell[PROTO_POOLS_MAX];
    struct worker_quota_tenant *tenants; /* of worker_session_tenants() */
    struct ev_timer timer;
    struct ev_timer epochs_again; /* node.mdb could not be written */
    proto_epoch epochs_due;
    bool stepping;
    bool started;
    struct base_buf queue; /* of struct session_queued */
};

/* Runs the event and its effects, now or behind the one that runs. The result is the core's, 0 when
 * it has to wait. */
int worker_session_step(struct worker_sessions *s, const struct worker_pool_event *ev);
void worker_session_arm(struct worker_sessions *s);
uint64_t worker_session_now(void); /* boot time */
/* 16 hex digits of the keyed hash: how logs name a session. */
const char *worker_session_log_name(uint64_t hash, char text[17]);
/* session_fx.c */
void worker_session_on_epochs(struct ev_loop *loop, ev_timer *w, int events);
void worker_session_carry_out(struct worker_sessions *s, const struct worker_pool_fx *fx);

/* session_pools.c */
void worker_session_on_template(
    void *user, uint32_t engine_pool, enum worker_template_state state, const char *text);

/* session_fx.c: the row of an ended session. */
void worker_session_tomb(struct worker_sessions *s, uint32_t index, bool keep);

/* session_restore.c */
int worker_session_restore(struct worker_sessions *s, struct base_error *err);

/* exec_io.c */
void worker_exec_io_lost(struct worker_sessions *s, proto_epoch epoch, enum worker_end end);
void worker_exec_io_resume(struct worker_sessions *s, struct worker_session_ref ref);
void worker_exec_io_expire(struct worker_sessions *s);
void worker_exec_io_destroy(struct worker_sessions *s);
