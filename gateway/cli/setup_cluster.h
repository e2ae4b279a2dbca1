#pragma once
#include "gateway/cli/setup.h"

/* `warren up --workers N`: a cluster on one machine, in STATE/cluster. Its nodes are made at the
 * first start and keep names, keys and ports; worker.yaml and gateway.yaml are the patterns of
 * theirs. */

/* After cli_setup_make() has written both. Fills in workers, voters, birth and gateway_yaml. */
int cli_setup_cluster(
    const struct cli_setup_options *o, struct cli_setup *s, struct base_error *err);

/* Pure: the settings of `text`, one "key: value" a line, without those that are named in `lines`,
 * and `lines` before them. What comes from the line `until` on (NULL: nothing) is left out. */
struct cli_setup_line {
    const char *key, *value; /* as it stands in YAML */
};
int cli_setup_override(struct base_buf *to, const char *text, const struct cli_setup_line *lines,
    size_t n, const char *until);
