#include "gateway/core/mcp_write.h"

#include <string.h>

#include "gateway/core/json.h"
#include "gateway/core/mcp_tools.h"
#include "gateway/core/render.h"

void gw_mcp_raw(struct gw_mcp_out *o, const char *text)
{
    o->rc = o->rc < 0 ? o->rc : base_buf_add(o->to, text, strlen(text));
}

void gw_mcp_view(struct gw_mcp_out *o, struct gw_json_view v)
{
    o->rc = o->rc < 0 ? o->rc : base_buf_add(o->to, v.p, v.n);
}

void gw_mcp_string(struct gw_mcp_out *o, const void *text, size_t n)
{
    o->rc = o->rc < 0 ? o->rc : gw_json_string(o->to, text, n);
}

void gw_mcp_number(struct gw_mcp_out *o, long long n)
{
    o->rc = o->rc < 0 ? o->rc : base_buf_printf(o->to, "%lld", n);
}

void gw_mcp_base64(struct gw_mcp_out *o, const struct base_buf *data)
{
    o->rc = o->rc < 0 ? o->rc : gw_json_base64(o->to, base_buf_data(data), base_buf_size(data));
}

struct gw_mcp_out gw_mcp_out_begin(const struct gw_mcp_message *m, struct base_buf *to)
{
    struct gw_mcp_out o = {to, 0};
    gw_mcp_raw(&o, "{\"jsonrpc\":\"2.0\"");
    if (m->id.n > 0) { /* an id that could not be read is left out: null is none */
        gw_mcp_raw(&o, ",\"id\":");
        gw_mcp_view(&o, m->id);
    }
    return o;
}

void gw_mcp_result_begin(struct gw_mcp_out *o, const struct gw_mcp_message *m)
{
    gw_mcp_raw(o, ",\"result\":{");
    if (m->modern) {
        gw_mcp_raw(o,
            "\"resultType\":\"complete\",\"_meta\":{\"io.modelcontextprotocol/serverInfo\""
            ":" GW_MCP_SERVER_INFO "},");
    }
}

int gw_mcp_error(const struct gw_mcp_message *m, int code, const char *text, struct base_buf *to)
{
    struct gw_mcp_out o = gw_mcp_out_begin(m, to);
    gw_mcp_raw(&o, ",\"error\":{\"code\":");
    gw_mcp_number(&o, code);
    gw_mcp_raw(&o, ",\"message\":");
    gw_mcp_string(&o, text, strlen(text));
    gw_mcp_raw(&o, "}}");
    return o.rc;
}

int gw_mcp_tool_error(const struct gw_mcp_message *m, const char *text, struct base_buf *to)
{
    struct gw_mcp_out o = gw_mcp_out_begin(m, to);
    gw_mcp_result_begin(&o, m);
    gw_mcp_raw(&o, "\"isError\":true,\"content\":[{\"type\":\"text\",\"text\":");
    gw_mcp_string(&o, text, strlen(text));
    gw_mcp_raw(&o, "}]}}");
    return o.rc;
}

/* ---- results ---- */

/* The object and the same as text: some clients hand only the text to the model. */
void gw_mcp_both(struct gw_mcp_out *o, const struct base_buf *object)
{
    struct gw_json_view v = {(const char *)base_buf_data(object), base_buf_size(object)};
    gw_mcp_raw(o, "\"structuredContent\":");
    gw_mcp_view(o, v);
    gw_mcp_raw(o, ",\"content\":[{\"type\":\"text\",\"text\":");
    gw_mcp_string(o, v.p, v.n);
    gw_mcp_raw(o, "}");
}

void gw_mcp_note(struct gw_mcp_out *o, const char *text)
{
    if (text[0] != '\0') {
        gw_mcp_raw(o, ",{\"type\":\"text\",\"text\":");
        gw_mcp_string(o, text, strlen(text));
        gw_mcp_raw(o, "}");
    }
}

int gw_mcp_launched(const struct gw_mcp_message *m, const char *environment, struct base_buf *to)
{
    struct base_buf object = {0};
    struct gw_mcp_out in = {&object, 0};
    gw_mcp_raw(&in, "{\"environmentId\":");
    gw_mcp_string(&in, environment, strlen(environment));
    gw_mcp_raw(&in, "}");
    struct gw_mcp_out o = gw_mcp_out_begin(m, to);
    o.rc = in.rc;
    gw_mcp_result_begin(&o, m);
    gw_mcp_both(&o, &object);
    gw_mcp_raw(&o, "]}}");
    base_buf_deinit(&object);
    return o.rc;
}

static void value(struct gw_mcp_out *o, const struct gw_outcome *c)
{
    struct gw_json_view v = {(const char *)base_buf_data(&c->result), base_buf_size(&c->result)};
    switch (c->result_kind) {
    case GW_RESULT_JSON:
        gw_mcp_view(o, v);
        break;
    case GW_RESULT_TEXT:
        gw_mcp_string(o, v.p, v.n);
        break;
    case GW_RESULT_IMAGE: /* its bytes are in a block of their own */
        gw_mcp_raw(o, "{\"type\":\"image\",\"format\":\"");
        gw_mcp_raw(o, c->images[c->images_n - 1].format);
        gw_mcp_raw(o, "\"}");
        break;
    case GW_RESULT_NONE:
    default:
        gw_mcp_raw(o, "null");
        break;
    }
}

static void facts(struct gw_mcp_out *o, const struct gw_mcp_message *m, const struct gw_outcome *c)
{
    gw_mcp_raw(o, "{\"stdout\":");
    gw_mcp_string(o, base_buf_data(&c->stdout_text), base_buf_size(&c->stdout_text));
    gw_mcp_raw(o, ",\"stderr\":");
    gw_mcp_string(o, base_buf_data(&c->stderr_text), base_buf_size(&c->stderr_text));
    if (m->tool == GW_MCP_SHELL) {
        gw_mcp_raw(o, ",\"exitCode\":");
        gw_mcp_number(o, gw_outcome_exit_code(c));
    } else {
        gw_mcp_raw(o, ",\"executionResult\":");
        value(o, c);
    }
    gw_mcp_raw(o, ",\"status\":\"");
    gw_mcp_raw(o, gw_render_status(c->done));
    gw_mcp_raw(o, "\",\"executionTimeInMilliseconds\":");
    gw_mcp_number(o, (long long)((c->duration_us + 999) / 1000));
    gw_mcp_raw(o, c->kernel_restarted ? ",\"kernelRestarted\":true" : "");
    gw_mcp_raw(o, c->environment_restarted ? ",\"environmentRestarted\":true" : "");
    gw_mcp_raw(o, c->truncated ? ",\"truncated\":true" : "");
    if (c->images_dropped > 0) {
        gw_mcp_raw(o, ",\"imagesDropped\":");
        gw_mcp_number(o, (long long)c->images_dropped);
    }
    gw_mcp_raw(o, "}");
}

int gw_mcp_outcome(const struct gw_mcp_message *m, const struct gw_outcome *c, struct base_buf *to)
{
    struct base_buf object = {0};
    struct gw_mcp_out in = {&object, 0};
    bool failed = c->done != GW_DONE_OK || (m->tool == GW_MCP_SHELL && c->exit_code != 0);
    facts(&in, m, c);
    struct gw_mcp_out o = gw_mcp_out_begin(m, to);
    o.rc = in.rc;
    gw_mcp_result_begin(&o, m);
    gw_mcp_raw(&o, failed ? "\"isError\":true," : "\"isError\":false,");
    gw_mcp_both(&o, &object);
    gw_mcp_note(&o, c->environment_restarted ? GW_MCP_RESTARTED : "");
    gw_mcp_note(&o, c->truncated ? "The output was longer than what is kept of it." : "");
    gw_mcp_note(&o, c->images_dropped > 0 ? "More images were shown than an answer takes; "
                                            "imagesDropped of them are not in it."
                                          : "");
    for (int i = 0; i < c->images_n; i++) {
        gw_mcp_raw(&o, ",{\"type\":\"image\",\"mimeType\":\"image/");
        gw_mcp_raw(&o, c->images[i].format);
        gw_mcp_raw(&o, "\",\"data\":");
        gw_mcp_base64(&o, &c->images[i].bytes);
        gw_mcp_raw(&o, "}");
    }
    gw_mcp_raw(&o, "]}}");
    base_buf_deinit(&object);
    return o.rc;
}

/* ---- requests to the rest of the gateway ---- */

int gw_mcp_exec_body(const struct gw_mcp_message *m, struct base_buf *to)
{
    struct gw_mcp_out o = {to, 0};
    const char *name = "code";
    struct gw_json_view v = gw_json_member(m->args, gw_mcp_code_name(m->tool));
    if (m->tool == GW_MCP_SHELL) {
        name = gw_json_kind(v) == '"' ? "shellCommand" : "execCommandAndArgs";
        v = gw_json_member(m->args, name);
    }
    gw_mcp_raw(&o, "{\"");
    gw_mcp_raw(&o, name);
    gw_mcp_raw(&o, "\":");
    gw_mcp_view(&o, v);
    gw_mcp_raw(&o, "}");
    return o.rc;
}

/* ---- progress ---- */

int gw_mcp_progress(
    const struct gw_mcp_message *m, unsigned long n, const struct gw_event *e, struct base_buf *to)
{
    bool shows = e->kind == GW_EVENT_STDOUT || e->kind == GW_EVENT_STDERR;
    if (!shows || e->data_n == 0 || m->token.n == 0) {
        return 0;
    }
    size_t cut = e->data_n < GW_MCP_PROGRESS_MAX ? e->data_n : GW_MCP_PROGRESS_MAX;
    struct gw_mcp_out o = {to, 0};
    gw_mcp_raw(&o, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{"
                   "\"progressToken\":");
    gw_mcp_view(&o, m->token);
    gw_mcp_raw(&o, ",\"progress\":");
    gw_mcp_number(&o, (long long)n);
    gw_mcp_raw(&o, ",\"message\":");
    gw_mcp_string(&o, e->data, cut);
    gw_mcp_raw(&o, "}}");
    return o.rc;
}

/* A line end between the parts of a JSON text would end the data line; inside of strings there is
 * none. */
int gw_mcp_sse(const void *json, size_t n, struct base_buf *to)
{
    int rc = base_buf_printf(to, "event: message\ndata: ");
    size_t at = base_buf_size(to);
    rc = rc < 0 ? rc : base_buf_add(to, json, n);
    if (rc < 0) {
        return rc;
    }
    uint8_t *p = base_buf_data(to) + at;
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '\n' || p[i] == '\r') {
            p[i] = ' ';
        }
    }
    return base_buf_add(to, "\n\n", 2);
}
