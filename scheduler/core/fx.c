#include "scheduler/core/fx.h"

#include "proto/base/assert.h"

void sched_fx_init(struct sched_fx *fx, struct sched_mem *mem)
{
    memset(fx, 0, sizeof *fx);
    fx->cap = SCHED_FX_MAX;
    fx->items = sched_mem_take(mem, fx->cap + 1, sizeof *fx->items);
    fx->bytes_cap = SCHED_FX_BYTES;
    fx->bytes = sched_mem_take(mem, fx->bytes_cap, 1);
}

void sched_fx_clear(struct sched_fx *fx)
{
    fx->n = 0;
    fx->bytes_n = 0;
}

struct sched_msg *sched_fx_send(struct sched_fx *fx, uint8_t type, uint64_t to)
{
    struct sched_fx_item *it;
    if (fx->n >= fx->cap - SCHED_FX_RESERVE) {
        fx->dropped++;
        it = &fx->items[fx->cap]; /* scratch past the end */
    } else {
        it = &fx->items[fx->n++];
    }
    memset(it, 0, sizeof *it);
    it->kind = SCHED_FX_SEND;
    it->msg.type = type;
    it->msg.to = to;
    return &it->msg;
}

struct sched_fx_item *sched_fx_add(struct sched_fx *fx, uint8_t kind)
{
    REQUIRE(fx->n < fx->cap);
    struct sched_fx_item *it = &fx->items[fx->n++];
    memset(it, 0, sizeof *it);
    it->kind = kind;
    return it;
}

struct sched_row *sched_fx_store(struct sched_fx *fx, uint8_t kind)
{
    struct sched_row *r = &sched_fx_add(fx, SCHED_FX_STORE)->row;
    r->kind = kind;
    return r;
}

void *sched_fx_bytes(struct sched_fx *fx, uint32_t n)
{
    uint32_t len = (n + 7) & ~UINT32_C(7);
    if (len > fx->bytes_cap - fx->bytes_n) {
        return NULL;
    }
    void *p = fx->bytes + fx->bytes_n;
    fx->bytes_n += len;
    return p;
}

const char *sched_msg_name(uint8_t type)
{
    static const char *const names[] = {"NONE",
#define X(name, body) #name,
        SCHED_MSG_MAP(X)
#undef X
    };
    return type < SCHED_MSG_TYPES ? names[type] : "?";
}
