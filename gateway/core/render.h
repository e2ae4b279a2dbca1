#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "gateway/core/outcome.h"
#include "gateway/core/route.h"

/* Bodies of answers (api contract sections 2 to 4 and 7). All return 0 or BASE_ENOMEM. */
enum gw_shape {
    GW_SHAPE_FLAT,
    GW_SHAPE_LEGACY,
    GW_SHAPE_PYTHON, /* legacy, and its main fields at the top level once more */
    GW_SHAPE_SHELL,
};

struct gw_execution_view {
    enum gw_shape shape;
    bool text_results; /* executionResult is always a string */
    const char *id;
    const struct proto_identifier *identifier;
    bool asynchronous;
    bool lost;    /* it started, and its outcome went with the microVM */
    bool waiting; /* for a microVM */
};

/* o->done == GW_DONE_NONE: it still runs. */
int gw_render_execution(
    const struct gw_execution_view *v, const struct gw_outcome *o, struct base_buf *to);

/* "Succeeded", "Failed", "Canceled", "Running". */
const char *gw_render_status(enum gw_done done);

struct gw_file {
    const char *name, *directory;
    bool is_directory;
    uint64_t size, modified_ns;
};

int gw_render_file(const struct gw_file *f, bool legacy, struct base_buf *to);

/* A list is begun, added to, and ended. Legacy lists show files only. */
int gw_render_list_begin(struct base_buf *to);
int gw_render_list_add(const struct gw_file *f, bool legacy, int *count, struct base_buf *to);
int gw_render_list_end(struct base_buf *to);

struct gw_session {
    const char *identifier;
    size_t identifier_n;
    uint64_t created_ns, last_access_ns, expires_ns; /* since 1970 */
    const char *etag;
};

/* management: the shape of /.management, which spells some names differently. */
int gw_render_session(const struct gw_session *s, bool management, struct base_buf *to);
