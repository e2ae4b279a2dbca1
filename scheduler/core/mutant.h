#pragma once

/* One-line breakages of the cores, for the test that proves that the simulator finds them
 * (tests/sim/mutants.txt lists them). In products MUTANT(n) is the constant false; only the binary
 * sim_mutants is built with SCHED_MUTANTS and chooses one at run time. */
#ifdef SCHED_MUTANTS
extern int sched_mutant;
#define MUTANT(n) (sched_mutant == (n))
#else
#define MUTANT(n) 0
#endif
