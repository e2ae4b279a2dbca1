#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/base/buf.h"

/* An execution's events put together into what the answers show. The events of the guest are the
 * only source; every rendering comes from here. */
enum gw_event_kind {
    GW_EVENT_OTHER,
    GW_EVENT_STDOUT,
    GW_EVENT_STDERR,
    GW_EVENT_DISPLAY,
    GW_EVENT_RESULT,
    GW_EVENT_ERROR,
    GW_EVENT_DONE,
};

enum gw_done {
    GW_DONE_NONE,
    GW_DONE_OK,
    GW_DONE_ERROR,
    GW_DONE_TIMEOUT,
    GW_DONE_INTERRUPTED,
    GW_DONE_KERNEL_DIED,
    GW_DONE_OUT_OF_MEMORY,
};

struct gw_mime {
    const char *type;
    const uint8_t *data;
    size_t n;
};

enum { GW_MIMES_MAX = 16 };

/* Strings and bytes are borrowed from the message. */
struct gw_event {
    uint64_t seq, t_us;
    enum gw_event_kind kind;
    const uint8_t *data;
    size_t data_n;
    const char *error_name, *error_value; /* never NULL */
    struct gw_mime mime[GW_MIMES_MAX];
    int mimes;
    enum gw_done done;
    int32_t exit_code;
    uint64_t duration_us;
    uint64_t stdout_bytes, stderr_bytes; /* that were written, kept or not */
    bool kernel_restarted;
};

enum gw_result_kind {
    GW_RESULT_NONE,
    GW_RESULT_JSON, /* result is a JSON value */
    GW_RESULT_TEXT,
    GW_RESULT_IMAGE, /* the last of the images */
};

enum {
    GW_OUTCOME_BYTES_MAX = 32 << 20, /* of a result, and of all images together */
    GW_OUTCOME_IMAGES_MAX = 16,
};

struct gw_image {
    struct base_buf bytes;
    char format[8]; /* "png", "jpeg", "gif" */
};

struct gw_outcome {
    struct base_buf stdout_text, stderr_text; /* at most stdout_max, stderr_max bytes */
    uint64_t stdout_max, stderr_max;
    enum gw_result_kind result_kind;
    struct base_buf result;
    struct gw_image images[GW_OUTCOME_IMAGES_MAX]; /* in their order; too many: the last stays */
    int images_n;
    unsigned images_dropped;
    char error_name[64];
    char error_value[256];
    uint64_t last_seq;
    enum gw_done done; /* GW_DONE_NONE while it runs */
    int32_t exit_code;
    uint64_t duration_us;
    bool kernel_restarted;
    bool truncated;             /* more was written than is in the texts */
    bool environment_restarted; /* set by who knows: there was a session before, which is gone */
};

void gw_outcome_init(struct gw_outcome *o, uint64_t stdout_max, uint64_t stderr_max);
void gw_outcome_deinit(struct gw_outcome *o);

/* Events of a sequence number that was there are ignored. 0 or BASE_ENOMEM. */
int gw_outcome_add(struct gw_outcome *o, const struct gw_event *e);

/* What a shell would say: a command that was killed, or timed out, has no code of its own. 0 while
 * it runs. */
int gw_outcome_exit_code(const struct gw_outcome *o);
