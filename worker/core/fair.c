#include "worker/core/fair.h"

#include "proto/base/assert.h"
#include "proto/base/container.h"

void worker_fair_init(struct worker_fair *f)
{
    worker_list_init(&f->turn);
}

void worker_fair_flow_init(struct worker_fair_flow *flow, uint32_t quantum)
{
    worker_list_init(&flow->link);
    worker_list_init(&flow->items);
    flow->quantum = quantum == 0 ? 1 : quantum;
    flow->deficit = 0;
}

void worker_fair_item_init(struct worker_fair_item *i)
{
    worker_list_init(&i->link);
    i->cost = 1;
}

void worker_fair_add(
    struct worker_fair *f, struct worker_fair_flow *flow, struct worker_fair_item *i, uint32_t cost)
{
    REQUIRE(cost > 0 && worker_list_empty(&i->link));
    i->cost = cost;
    if (worker_list_empty(&flow->items)) {
        worker_list_append(&f->turn, &flow->link);
    }
    worker_list_append(&flow->items, &i->link);
}

void worker_fair_add_first(
    struct worker_fair *f, struct worker_fair_flow *flow, struct worker_fair_item *i, uint32_t cost)
{
    REQUIRE(cost > 0 && worker_list_empty(&i->link));
    i->cost = cost;
    worker_list_remove(&flow->link);
    worker_list_prepend(&f->turn, &flow->link);
    worker_list_prepend(&flow->items, &i->link);
    flow->deficit = flow->deficit > cost ? flow->deficit : cost;
}

struct worker_fair_item *worker_fair_next(struct worker_fair *f)
{
    struct worker_list *l;
    while ((l = worker_list_first(&f->turn)) != NULL) {
        struct worker_fair_flow *flow = CONTAINER_OF(l, struct worker_fair_flow, link);
        struct worker_fair_item *i = CONTAINER_OF(flow->items.next, struct worker_fair_item, link);
        if (flow->deficit >= i->cost) {
            return i;
        }
        flow->deficit += flow->quantum;
        if (flow->deficit < i->cost) {
            worker_list_remove(&flow->link);
            worker_list_append(&f->turn, &flow->link);
        }
    }
    return NULL;
}

void worker_fair_remove(struct worker_fair_flow *flow, struct worker_fair_item *i)
{
    worker_list_remove(&i->link);
    if (worker_list_empty(&flow->items)) {
        flow->deficit = 0;
        worker_list_remove(&flow->link);
    }
}

void worker_fair_serve(
    struct worker_fair *f, struct worker_fair_flow *flow, struct worker_fair_item *i)
{
    REQUIRE(!worker_list_empty(&i->link) && flow->deficit >= i->cost);
    flow->deficit -= i->cost;
    worker_fair_remove(flow, i);
    struct worker_list *l = worker_list_first(&flow->items);
    if (l != NULL && CONTAINER_OF(l, struct worker_fair_item, link)->cost > flow->deficit) {
        worker_list_remove(&flow->link); /* its turn is over */
        worker_list_append(&f->turn, &flow->link);
    }
}
