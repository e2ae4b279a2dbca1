#pragma once
#include "tests/sim/sim.h"

/* microVMs: vm.c (what a machine does to them) and pool.c (which ones there are). */

/* ---- vm.c ---- */
void sim_vm_start(struct sim *s, struct sim_node *n, const struct sched_fx_vm *vm);
void sim_vm_stop(struct sim *s, struct sim_node *n, const struct sched_fx_vm *vm);
void sim_vm_exec(struct sim *s, struct sim_node *n, const struct sched_fx_vm *vm);
void sim_vm_kill_all(struct sim *s, struct sim_node *n, bool tell);
void sim_vm_page(struct sim *s, struct sim_node *n, const struct sched_fx_page *p);
void sim_vm_event(struct sim *s, struct sim_event *ev);
/* With the store that was emptied. */
void sim_vm_forget(struct sim *s, struct sim_node *n);
/* After a process restart: attach or destroy. */
void sim_vm_attach(struct sim *s, struct sim_node *n);

void sim_vm_sleep(struct sim *s, struct sim_node *n, bool on); /* the machine of a host */

/* Between the two. */

/* The microVM of a session, or NULL. */
struct sim_vm *sim_vm_find(struct sim_node *n, const struct sched_fx_vm *id);
/* The process hears `what` (SCHED_EV_VM_*) of a session; with VM_DOWN: that nothing has run in it.
 */
enum { SIM_VM_IDLE = 1 << 16 };
void sim_vm_tell(struct sim *s, struct sim_node *n, uint32_t what, const struct sched_fx_vm *id);
/* Its vCPUs run, or not any more: for the checks. */
void sim_vm_recount(struct sim *s, struct sim_node *n, struct sim_vm *vm);
void sim_vm_destroy(struct sim *s, struct sim_node *n, struct sim_vm *vm);
/* After a restart: what was done meanwhile is told. */
void sim_vm_tell_done(struct sim *s, struct sim_node *n, const struct sim_vm *vm);

/* ---- pool.c, for hosts whose microVMs are a pool's (option `pool`): n->pool ---- */
void sim_pool_new(struct sim *s, struct sim_node *n);
void sim_pool_free(struct sim_node *n);
/* A process begins, with what its store has. */
void sim_pool_boot(struct sim *s, struct sim_node *n);
/* The store was emptied. */
void sim_pool_forget(struct sim *s, struct sim_node *n);
void sim_pool_start(struct sim *s, struct sim_node *n, const struct sched_fx_vm *id);
void sim_pool_stop(struct sim *s, struct sim_node *n, const struct sched_fx_vm *id);
/* The machine's microVMs have all died. */
void sim_pool_killed(struct sim *s, struct sim_node *n, bool to_process);
/* The machine was frozen or thawed. */
void sim_pool_frozen(struct sim *s, struct sim_node *n);
void sim_pool_attach(struct sim *s, struct sim_node *n);
void sim_pool_event(struct sim *s, struct sim_event *ev);
