#pragma once

/* One-line breakages of the cores, for the test that proves that the simulator finds them
 * (tests/sim/mutants.txt). In products SCHED_MUTANT is 0, so MUTANT(n) is the constant false. */
#ifndef SCHED_MUTANT
#define SCHED_MUTANT 0
#endif
#define MUTANT(n) (SCHED_MUTANT == (n))
