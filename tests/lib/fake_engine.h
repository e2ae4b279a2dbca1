#pragma once
#include "worker/io/engine.h"

/* The engine's interface without microVMs, for tests of the session and rpc logic only. Its guests
 * outlive the engine as microVMs outlive a worker: make another engine on the same world.
 *
 * Code is a list of lines: "say TEXT", "big BYTES COUNT" (stdout events), "hold" (until
 * fake_world_go_on), "die" (the microVM), "fail" (ends as DONE_ERROR), "rst CODE" (the agent
 * refuses). Otherwise it ends as DONE_OK. An id runs once; events are kept until they are
 * acknowledged. */
struct fake_world;

struct fake_world *fake_world_create(uint32_t slots);
void fake_world_destroy(struct fake_world *w);

/* With one, or another, engine on it. */
struct worker_engine *fake_engine_create(
    struct fake_world *w, struct ev_loop *loop, const struct worker_engine_events *events);

void fake_world_go_on(struct fake_world *w);                   /* executions at "hold" go on */
void fake_world_hold_starts(struct fake_world *w, bool on);    /* starts do not become ready */
void fake_world_fail_starts(struct fake_world *w, uint32_t n); /* the next n starts die */
void fake_world_full(struct fake_world *w, bool on);           /* no number for another pool */
void fake_world_fail_claims(struct fake_world *w, uint32_t n);
void fake_world_slow(
    struct fake_world *w, uint32_t bytes); /* put takes so many bytes a turn; 0: all */
void fake_world_die(struct fake_world *w, uint32_t slot);    /* the microVM in a slot dies */
void fake_world_vanish(struct fake_world *w, uint32_t slot); /* it died while no worker looked */

/* The lease is lost or back, which the worker notices when it looks. Guests that are frozen say and
 * hear nothing. */
void fake_world_freeze(struct fake_world *w, bool on);

/* After the n-th claim, stream or acknowledgement from now on the worker is dead: crash() is called
 * once, and nothing that this engine is told any more reaches a guest. 0: never. */
void fake_world_crash_at(struct fake_world *w, uint32_t n, void (*crash)(void *user), void *user);

uint32_t fake_world_alive(const struct fake_world *w); /* microVMs */
uint32_t fake_world_runs(const struct fake_world *w);  /* executions that ran, ever */
uint32_t fake_world_files(const struct fake_world *w); /* files in all microVMs */
uint32_t fake_world_kept(const struct fake_world *w);  /* events not acknowledged */
