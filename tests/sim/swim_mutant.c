#include <stdlib.h>

#include "scheduler/core/mutant.h"

/* Which breakage runs, from the environment: the unit cases know no such option. */
int sched_mutant;

__attribute__((constructor)) static void choose(void)
{
    const char *text = getenv("SCHED_MUTANT");
    sched_mutant = text == NULL ? 0 : (int)strtol(text, NULL, 10);
}
