#include "gateway/core/render.h"

#include <string.h>

#include "gateway/core/file_path.h"
#include "gateway/core/json.h"
#include "proto/base/clock.h"

const char *gw_render_status(enum gw_done done)
{
    switch (done) {
    case GW_DONE_NONE:
        return "Running";
    case GW_DONE_OK:
        return "Succeeded";
    case GW_DONE_INTERRUPTED:
        return "Canceled";
    case GW_DONE_ERROR:
    case GW_DONE_TIMEOUT:
    case GW_DONE_KERNEL_DIED:
    case GW_DONE_OUT_OF_MEMORY:
    default:
        return "Failed";
    }
}

/* ---- executions ---- */

static int text(struct base_buf *to, const char *key, const struct base_buf *b)
{
    int rc = base_buf_printf(to, "\"%s\":", key);
    return rc < 0 ? rc : gw_json_string(to, base_buf_data(b), base_buf_size(b));
}

static int image(const struct gw_outcome *o, struct base_buf *to)
{
    const struct gw_image *i = &o->images[o->images_n - 1];
    int rc =
        base_buf_printf(to, "{\"type\":\"image\",\"format\":\"%s\",\"base64_data\":", i->format);
    rc = rc < 0 ? rc : gw_json_base64(to, base_buf_data(&i->bytes), base_buf_size(&i->bytes));
    return rc < 0 ? rc : base_buf_add(to, "}", 1);
}

static int value(const struct gw_outcome *o, bool as_text, struct base_buf *to)
{
    const uint8_t *data = base_buf_data(&o->result);
    size_t n = base_buf_size(&o->result);
    switch (o->result_kind) {
    case GW_RESULT_JSON:
        if (as_text && n > 0 && data[0] == '"') {
            as_text = false; /* a string already */
        }
        return as_text ? gw_json_string(to, data, n) : base_buf_add(to, data, n);
    case GW_RESULT_TEXT:
        return gw_json_string(to, data, n);
    case GW_RESULT_IMAGE:
        return image(o, to);
    case GW_RESULT_NONE:
    default:
        return base_buf_add(to, "\"\"", 2);
    }
}

static int outputs(const struct gw_outcome *o, struct base_buf *to)
{
    int rc = text(to, "stdout", &o->stdout_text);
    rc = rc < 0 ? rc : base_buf_add(to, ",", 1);
    rc = rc < 0 ? rc : text(to, "stderr", &o->stderr_text);
    return rc;
}

static int milliseconds(const struct gw_outcome *o, struct base_buf *to)
{
    return base_buf_printf(to, ",\"executionTimeInMilliseconds\":%llu",
        (unsigned long long)((o->duration_us + 999) / 1000));
}

static bool is_null(const struct gw_outcome *o)
{
    static const char null[] = "null";
    size_t n = base_buf_size(&o->result);
    return o->result_kind == GW_RESULT_JSON && n == sizeof null - 1 &&
           memcmp(base_buf_data(&o->result), null, n) == 0;
}

static int legacy_fields(const struct gw_execution_view *v, const struct gw_outcome *o,
    bool null_as_text, struct base_buf *to)
{
    const char *status = o->done == GW_DONE_NONE ? "Running"
                         : o->done == GW_DONE_OK ? "Success"
                                                 : "Failure";
    int rc = base_buf_printf(to, "\"status\":\"%s\",", status);
    rc = rc < 0 ? rc : outputs(o, to);
    rc = rc < 0 ? rc : base_buf_printf(to, ",\"result\":");
    bool blank = null_as_text && is_null(o);
    return rc < 0 ? rc : blank ? base_buf_add(to, "\"\"", 2) : value(o, v->text_results, to);
}

static int legacy(
    const struct gw_execution_view *v, const struct gw_outcome *o, struct base_buf *to)
{
    int rc = base_buf_printf(to, "{\"$id\":\"1\",");
    if (rc == 0 && v->shape == GW_SHAPE_PYTHON) {
        rc = legacy_fields(v, o, true, to); /* its client takes every other result for an object */
        rc = rc < 0 ? rc : base_buf_add(to, ",", 1);
    }
    rc = rc < 0 ? rc : base_buf_printf(to, "\"properties\":{\"$id\":\"2\",");
    rc = rc < 0 ? rc : legacy_fields(v, o, false, to);
    rc = rc < 0 ? rc : base_buf_printf(to, ",\"executionResult\":");
    rc = rc < 0 ? rc : value(o, v->text_results, to);
    rc = rc < 0 ? rc : milliseconds(o, to);
    return rc < 0 ? rc : base_buf_add(to, "}}", 2);
}

static int identifier(const struct gw_execution_view *v, struct base_buf *to)
{
    int rc = base_buf_printf(to, "\"identifier\":");
    return rc < 0 ? rc : gw_json_string(to, v->identifier->text, v->identifier->len);
}

/* The status is the exit code as text: clients call int() on it. */
static int shell(const struct gw_execution_view *v, const struct gw_outcome *o, struct base_buf *to)
{
    int code = gw_outcome_exit_code(o);
    int rc = base_buf_add(to, "{", 1);
    rc = rc < 0 ? rc : identifier(v, to);
    if (rc == 0 && o->done == GW_DONE_NONE) {
        return base_buf_printf(
            to, ",\"id\":\"%s\",\"status\":\"%s\"}", v->id, v->waiting ? "NotStarted" : "Running");
    }
    rc = rc < 0
             ? rc
             : base_buf_printf(to, ",\"status\":\"%d\",\"exitCode\":%d,\"result\":{", code, code);
    rc = rc < 0 ? rc : outputs(o, to);
    rc = rc < 0 ? rc : milliseconds(o, to);
    return rc < 0 ? rc : base_buf_add(to, "}}", 2);
}

static int error(const struct gw_execution_view *v, const struct gw_outcome *o, struct base_buf *to)
{
    static const char *const codes[] = {
        "", "", "ExecutionFailed", "Timeout", "ExecutionCanceled", "KernelDied", "OutOfMemory"};
    const char *code = v->lost ? "ExecutionOutcomeUnknown"
                       : o->done == GW_DONE_ERROR && o->error_name[0] != '\0' ? o->error_name
                                                                              : codes[o->done];
    int rc = base_buf_printf(to, ",\"error\":{\"error\":{\"code\":");
    rc = rc < 0 ? rc : gw_json_string(to, code, strlen(code));
    rc = rc < 0 ? rc : base_buf_printf(to, ",\"message\":");
    rc = rc < 0 ? rc : gw_json_string(to, o->error_value, strlen(o->error_value));
    return rc < 0 ? rc : base_buf_add(to, "}}", 2);
}

static int flat(const struct gw_execution_view *v, const struct gw_outcome *o, struct base_buf *to)
{
    const char *status = v->lost ? "Failed" : v->waiting ? "NotStarted" : gw_render_status(o->done);
    int rc = base_buf_printf(to, "{\"id\":\"%s\",", v->id);
    rc = rc < 0 ? rc : identifier(v, to);
    rc = rc < 0 ? rc
                : base_buf_printf(to, ",\"executionType\":\"%s\",\"status\":\"%s\"",
                      v->asynchronous ? "Asynchronous" : "Synchronous", status);
    if (rc == 0 && (v->lost || o->done > GW_DONE_OK)) {
        rc = error(v, o, to);
    }
    if (rc == 0 && o->done != GW_DONE_NONE) {
        rc = base_buf_printf(to, ",\"result\":{");
        rc = rc < 0 ? rc : outputs(o, to);
        rc = rc < 0 ? rc : base_buf_printf(to, ",\"executionResult\":");
        rc = rc < 0 ? rc : value(o, v->text_results, to);
        rc = rc < 0 ? rc : milliseconds(o, to);
        rc = rc < 0 || !o->kernel_restarted ? rc : base_buf_printf(to, ",\"kernelRestarted\":true");
        rc = rc < 0 ? rc : base_buf_add(to, "}", 1);
    }
    return rc < 0 ? rc : base_buf_add(to, "}", 1);
}

int gw_render_execution(
    const struct gw_execution_view *v, const struct gw_outcome *o, struct base_buf *to)
{
    switch (v->shape) {
    case GW_SHAPE_LEGACY:
    case GW_SHAPE_PYTHON:
        return legacy(v, o, to);
    case GW_SHAPE_SHELL:
        return shell(v, o, to);
    case GW_SHAPE_FLAT:
    default:
        return flat(v, o, to);
    }
}

/* ---- files ---- */

static int string_member(struct base_buf *to, const char *key, const char *s, size_t n)
{
    int rc = base_buf_printf(to, "\"%s\":", key);
    return rc < 0 ? rc : gw_json_string(to, s, n);
}

static int time_member(struct base_buf *to, const char *key, uint64_t ns)
{
    char when[BASE_CLOCK_TEXT_MAX];
    base_clock_format(ns, when);
    return base_buf_printf(to, ",\"%s\":\"%s\"", key, when);
}

/* The old shape has one name for all: folder and name together. */
static int legacy_name(const struct gw_file *f, struct base_buf *to)
{
    struct base_buf path = {0};
    const char *slash = f->directory[0] == '\0' ? "" : "/";
    int rc = base_buf_printf(&path, "%s%s%s", f->directory, slash, f->name);
    rc = rc < 0 ? rc
                : string_member(
                      to, "filename", (const char *)base_buf_data(&path), base_buf_size(&path));
    base_buf_deinit(&path);
    return rc;
}

int gw_render_file(const struct gw_file *f, bool legacy_shape, struct base_buf *to)
{
    int rc;
    if (legacy_shape) {
        rc = base_buf_printf(to, "{\"properties\":{");
        rc = rc < 0 ? rc : legacy_name(f, to);
        rc = rc < 0 ? rc : base_buf_printf(to, ",\"size\":%llu", (unsigned long long)f->size);
        rc = rc < 0 ? rc : time_member(to, "lastModifiedTime", f->modified_ns);
        return rc < 0 ? rc : base_buf_add(to, "}}", 2);
    }
    rc = base_buf_add(to, "{", 1);
    rc = rc < 0 ? rc : string_member(to, "name", f->name, strlen(f->name));
    rc = rc < 0 ? rc
                : base_buf_printf(to, ",\"type\":\"%s\"", f->is_directory ? "directory" : "file");
    if (rc == 0 && !f->is_directory) {
        rc = base_buf_printf(to, ",\"contentType\":\"%s\",\"sizeInBytes\":%llu",
            gw_file_type(f->name), (unsigned long long)f->size);
    }
    rc = rc < 0 ? rc : time_member(to, "lastModifiedAt", f->modified_ns);
    rc = rc < 0 ? rc : base_buf_add(to, ",", 1);
    rc = rc < 0 ? rc : string_member(to, "directory", f->directory, strlen(f->directory));
    return rc < 0 ? rc : base_buf_add(to, "}", 1);
}

int gw_render_list_begin(struct base_buf *to)
{
    return base_buf_printf(to, "{\"value\":[");
}

int gw_render_list_add(const struct gw_file *f, bool legacy_shape, int *count, struct base_buf *to)
{
    if (legacy_shape && f->is_directory) {
        return 0;
    }
    int rc = (*count)++ > 0 ? base_buf_add(to, ",", 1) : 0;
    return rc < 0 ? rc : gw_render_file(f, legacy_shape, to);
}

int gw_render_list_end(struct base_buf *to)
{
    return base_buf_printf(to, "]}");
}

/* ---- sessions ---- */

int gw_render_session(const struct gw_session *s, bool management, struct base_buf *to)
{
    int rc = base_buf_add(to, "{", 1);
    rc = rc < 0 ? rc : string_member(to, "identifier", s->identifier, s->identifier_n);
    rc = rc < 0 ? rc : base_buf_add(to, ",", 1);
    rc = rc < 0 ? rc : string_member(to, "etag", s->etag, strlen(s->etag));
    rc = rc < 0 ? rc : time_member(to, "createdAt", s->created_ns);
    rc = rc < 0 ? rc : time_member(to, "lastAccessedAt", s->last_access_ns);
    rc = rc < 0 ? rc : time_member(to, management ? "expiresAt" : "expireAt", s->expires_ns);
    return rc < 0 ? rc : base_buf_add(to, "}", 1);
}
