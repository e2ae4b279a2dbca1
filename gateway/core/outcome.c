#include "gateway/core/outcome.h"

#include <string.h>

#include "gateway/core/json.h"
#include "proto/base/text.h"

void gw_outcome_init(struct gw_outcome *o, uint64_t stdout_max, uint64_t stderr_max)
{
    memset(o, 0, sizeof *o);
    o->stdout_max = stdout_max;
    o->stderr_max = stderr_max;
}

void gw_outcome_deinit(struct gw_outcome *o)
{
    base_buf_deinit(&o->stdout_text);
    base_buf_deinit(&o->stderr_text);
    base_buf_deinit(&o->result);
    for (int i = 0; i < o->images_n; i++) {
        base_buf_deinit(&o->images[i].bytes);
    }
}

/* Cuts at max, and not inside a character. */
static int add_text(
    struct gw_outcome *o, struct base_buf *b, uint64_t max, const uint8_t *data, size_t n)
{
    uint64_t room = max > base_buf_size(b) ? max - base_buf_size(b) : 0;
    if (n > room) {
        o->truncated = true;
        n = (size_t)room;
        while (n > 0 && (data[n] & 0xc0) == 0x80) {
            n--;
        }
    }
    return base_buf_add(b, data, n);
}

static int set_result(struct gw_outcome *o, enum gw_result_kind kind, const struct gw_mime *m)
{
    base_buf_clear(&o->result);
    o->result_kind = kind;
    if (m->n > GW_OUTCOME_BYTES_MAX) {
        o->result_kind = GW_RESULT_NONE;
        return 0;
    }
    return base_buf_add(&o->result, m->data, m->n);
}

static const struct gw_mime *find(const struct gw_event *e, const char *type)
{
    for (int i = 0; i < e->mimes; i++) {
        if (strcmp(e->mime[i].type, type) == 0) {
            return &e->mime[i];
        }
    }
    return NULL;
}

/* Where there is no room, the newest takes the place of the one before: who shows one image shows
 * the last. */
static int keep_image(struct gw_outcome *o, const struct gw_mime *m, const char *format)
{
    size_t all = m->n;
    if (m->n > GW_OUTCOME_BYTES_MAX) {
        o->images_dropped++;
        return 0;
    }
    for (int i = 0; i < o->images_n; i++) {
        all += base_buf_size(&o->images[i].bytes);
    }
    while (
        o->images_n == GW_OUTCOME_IMAGES_MAX || (o->images_n > 0 && all > GW_OUTCOME_BYTES_MAX)) {
        struct gw_image *last = &o->images[--o->images_n];
        o->images_dropped++;
        all -= base_buf_size(&last->bytes);
        base_buf_deinit(&last->bytes);
    }
    struct gw_image *to = &o->images[o->images_n];
    int rc = base_buf_add(&to->bytes, m->data, m->n);
    if (rc < 0) {
        return rc;
    }
    (void)base_text_copy(to->format, sizeof to->format, format);
    o->images_n++;
    o->result_kind = GW_RESULT_IMAGE;
    base_buf_clear(&o->result);
    return 0;
}

static int add_image(struct gw_outcome *o, const struct gw_event *e, bool *ret_found)
{
    static const char *const formats[] = {"png", "jpeg", "gif"};
    static const char *const types[] = {"image/png", "image/jpeg", "image/gif"};
    for (int i = 0; i < 3; i++) {
        const struct gw_mime *m = find(e, types[i]);
        if (m != NULL) {
            *ret_found = true;
            return keep_image(o, m, formats[i]);
        }
    }
    *ret_found = false;
    return 0;
}

/* The value of the last expression. An image wins over text, whichever came first: code that plots
 * ends with an expression nobody wants to see. */
static int add_result(struct gw_outcome *o, const struct gw_event *e)
{
    bool image = false;
    int rc = add_image(o, e, &image);
    if (image || rc < 0 || o->result_kind == GW_RESULT_IMAGE) {
        return rc;
    }
    const struct gw_mime *json = find(e, "application/json");
    if (json != NULL && gw_json_valid(json->data, json->n)) {
        return set_result(o, GW_RESULT_JSON, json);
    }
    const struct gw_mime *text = find(e, "text/plain");
    if (text == NULL && e->mimes > 0) {
        text = &e->mime[0];
    }
    if (text == NULL) { /* a value without any form is Python's None */
        static const struct gw_mime none = {.data = (const uint8_t *)"null", .n = 4};
        return set_result(o, GW_RESULT_JSON, &none);
    }
    bool valid = gw_json_valid(text->data, text->n);
    return set_result(o, valid ? GW_RESULT_JSON : GW_RESULT_TEXT, text);
}

static int add_error(struct gw_outcome *o, const struct gw_event *e)
{
    (void)base_text_copy(o->error_name, sizeof o->error_name, e->error_name);
    size_t n = strnlen(e->error_value, sizeof o->error_value - 1);
    while (n > 0 && ((unsigned char)e->error_value[n] & 0xc0) == 0x80) {
        n--;
    }
    memcpy(o->error_value, e->error_value, n);
    o->error_value[n] = '\0';
    return add_text(o, &o->stderr_text, o->stderr_max, e->data, e->data_n);
}

static int add_done(struct gw_outcome *o, const struct gw_event *e)
{
    static const char *const notes[] = {"", "", "",
        "Request timed out waiting for code execution to complete", "Execution canceled",
        "Execution aborted", "Execution aborted"};
    o->done = e->done == GW_DONE_NONE ? GW_DONE_ERROR : e->done;
    o->exit_code = e->exit_code;
    o->duration_us = e->duration_us;
    o->kernel_restarted = e->kernel_restarted;
    o->truncated = o->truncated || e->stdout_bytes > base_buf_size(&o->stdout_text) ||
                   e->stderr_bytes > base_buf_size(&o->stderr_text);
    const char *note = notes[o->done];
    if (note[0] == '\0') {
        return 0;
    }
    if (o->error_value[0] == '\0') {
        (void)base_text_copy(o->error_value, sizeof o->error_value, note);
    }
    size_t have = base_buf_size(&o->stderr_text);
    bool newline = have > 0 && base_buf_data(&o->stderr_text)[have - 1] != '\n';
    int rc = newline ? base_buf_add(&o->stderr_text, "\n", 1) : 0;
    return rc < 0 ? rc : base_buf_add(&o->stderr_text, note, strlen(note)); /* always shown */
}

int gw_outcome_add(struct gw_outcome *o, const struct gw_event *e)
{
    bool image = false;
    if (e->seq <= o->last_seq || o->done != GW_DONE_NONE) {
        return 0;
    }
    o->last_seq = e->seq;
    switch (e->kind) {
    case GW_EVENT_STDOUT:
        return add_text(o, &o->stdout_text, o->stdout_max, e->data, e->data_n);
    case GW_EVENT_STDERR:
        return add_text(o, &o->stderr_text, o->stderr_max, e->data, e->data_n);
    case GW_EVENT_DISPLAY:
        return add_image(o, e, &image);
    case GW_EVENT_RESULT:
        return add_result(o, e);
    case GW_EVENT_ERROR:
        return add_error(o, e);
    case GW_EVENT_DONE:
        return add_done(o, e);
    case GW_EVENT_OTHER:
    default:
        return 0;
    }
}

int gw_outcome_exit_code(const struct gw_outcome *o)
{
    if (o->exit_code != 0 || o->done == GW_DONE_OK || o->done == GW_DONE_NONE) {
        return o->exit_code;
    }
    return o->done == GW_DONE_TIMEOUT ? 124 : 137; /* as timeout(1) and a killed shell have it */
}
