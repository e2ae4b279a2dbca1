#include "tests/lib/fake_engine_impl.h"

/* What the world of fake_engine.c holds, counted. */

uint32_t fake_world_alive(const struct fake_world *w)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < w->slots; i++) {
        n += w->vms[i].state != VM_FREE;
    }
    return n;
}

uint32_t fake_world_runs(const struct fake_world *w)
{
    return w->runs;
}

uint32_t fake_world_files(const struct fake_world *w)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < w->slots; i++) {
        for (int k = 0; k < FILES; k++) {
            n += w->vms[i].files[k].name[0] != '\0';
        }
    }
    return n;
}

uint32_t fake_world_kept(const struct fake_world *w)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < w->slots; i++) {
        for (int k = 0; k < EXECS; k++) {
            const struct fake_exec *x = w->vms[i].execs[k];
            for (int j = 0; x != NULL && j < EVENTS; j++) {
                n += base_buf_size(&x->events[j]) > 0;
            }
        }
    }
    return n;
}
