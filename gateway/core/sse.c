#include "gateway/core/sse.h"

#include <string.h>

#include "gateway/core/json.h"
#include "gateway/core/render.h"

static const char *name_of(enum gw_event_kind kind)
{
    static const char *const names[] = {
        "other", "stdout", "stderr", "display", "result", "error", "done"};
    return names[kind];
}

static int member(struct base_buf *to, const char *name, const void *text, size_t n)
{
    int rc = base_buf_printf(to, "\"%s\":", name);
    return rc < 0 ? rc : gw_json_string(to, text, n);
}

/* {"text/plain":"2","image/png":"<base64>"}: text as it is, everything else in base64. */
static int bundle(const struct gw_event *e, struct base_buf *to)
{
    int rc = base_buf_printf(to, "{\"data\":{");
    for (int i = 0; rc == 0 && i < e->mimes; i++) {
        const struct gw_mime *m = &e->mime[i];
        bool text = strncmp(m->type, "text/", 5) == 0 || strcmp(m->type, "application/json") == 0 ||
                    strcmp(m->type, "image/svg+xml") == 0;
        rc = i > 0 ? base_buf_add(to, ",", 1) : 0;
        rc = rc < 0 ? rc : gw_json_string(to, m->type, strlen(m->type));
        rc = rc < 0 ? rc : base_buf_add(to, ":", 1);
        rc = rc < 0 ? rc
             : text ? gw_json_string(to, m->data, m->n)
                    : gw_json_base64(to, m->data, m->n);
    }
    return rc < 0 ? rc : base_buf_add(to, "}}", 2);
}

static int error(const struct gw_event *e, struct base_buf *to)
{
    int rc = base_buf_add(to, "{", 1);
    rc = rc < 0 ? rc : member(to, "name", e->error_name, strlen(e->error_name));
    rc = rc < 0 ? rc : base_buf_add(to, ",", 1);
    rc = rc < 0 ? rc : member(to, "value", e->error_value, strlen(e->error_value));
    rc = rc < 0 ? rc : base_buf_add(to, ",", 1);
    rc = rc < 0 ? rc : member(to, "traceback", e->data, e->data_n);
    return rc < 0 ? rc : base_buf_add(to, "}", 1);
}

static int done(const struct gw_event *e, struct base_buf *to)
{
    static const char *const reasons[] = {
        "", "ok", "error", "timeout", "interrupted", "kernel died", "out of memory"};
    return base_buf_printf(to,
        "{\"status\":\"%s\",\"reason\":\"%s\",\"exitCode\":%d,\"kernelRestarted\":%s,"
        "\"executionTimeInMilliseconds\":%llu}",
        gw_render_status(e->done), reasons[e->done], e->exit_code,
        e->kernel_restarted ? "true" : "false",
        (unsigned long long)((e->duration_us + 999) / 1000));
}

int gw_sse_event(const struct gw_event *e, struct base_buf *to)
{
    int rc = base_buf_printf(
        to, "id: %llu\nevent: %s\ndata: ", (unsigned long long)e->seq, name_of(e->kind));
    if (rc < 0) {
        return rc;
    }
    switch (e->kind) {
    case GW_EVENT_STDOUT:
    case GW_EVENT_STDERR:
        rc = base_buf_add(to, "{", 1);
        rc = rc < 0 ? rc : member(to, "text", e->data, e->data_n);
        rc = rc < 0 ? rc : base_buf_add(to, "}", 1);
        break;
    case GW_EVENT_DISPLAY:
    case GW_EVENT_RESULT:
        rc = bundle(e, to);
        break;
    case GW_EVENT_ERROR:
        rc = error(e, to);
        break;
    case GW_EVENT_DONE:
        rc = done(e, to);
        break;
    case GW_EVENT_OTHER:
    default:
        rc = base_buf_add(to, "{}", 2);
        break;
    }
    return rc < 0 ? rc : base_buf_add(to, "\n\n", 2);
}

int gw_sse_fault(const struct gw_fault *f, const char *trace, struct base_buf *to)
{
    int rc = base_buf_printf(to, "event: fault\ndata: ");
    rc = rc < 0 ? rc : gw_fault_render(f, trace, to);
    return rc < 0 ? rc : base_buf_add(to, "\n\n", 2);
}

int gw_sse_keepalive(struct base_buf *to)
{
    return base_buf_add(to, ":\n\n", 3);
}
