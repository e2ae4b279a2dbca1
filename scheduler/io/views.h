#pragma once

#include "proto/base/err.h"
#include "scheduler/core/view.h"
#include "scheduler/io/settings.h"

/* Views that a core keeps, with the groups of their partitions. The tables are made when the first
 * group is asked for: one for the view's members, one for those of the view before it. */
struct sched_views;

/* With the cluster's key, which the settings name. */
int sched_views_create(
    struct sched_views **ret, const struct sched_settings *settings, struct base_error *err);
void sched_views_destroy(struct sched_views *v); /* all views are dropped before; NULL is fine */

/* A copy that stays where it is until it is dropped. NULL: memory is out. */
const struct sched_view *sched_views_keep(struct sched_views *v, const struct sched_view *view);
void sched_views_drop(struct sched_views *v, const struct sched_view *kept); /* NULL is fine */

/* For kept views and for those with number 0. */
struct sched_placer sched_views_placer(struct sched_views *v);
