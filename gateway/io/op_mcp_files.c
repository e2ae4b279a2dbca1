#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/io/mcp.h"
#include "proto/base/cleanup.h"
#include "proto/base/err.h"

/* MCP tools that have to do with files, and stopEnvironment. A file is whole in memory here, as a
 * message is: what is larger goes over the REST API. */

enum { DEADLINE_MS = 60000, FILE_BYTES_MAX = 8 << 20 };

struct transfer {
    struct base_buf data;
    size_t at;        /* of an upload: what is sent */
    bool anew;        /* of an upload: the session is new, an earlier one is gone */
    bool headed, fin; /* of a download */
};

static void gone(struct gw_task *t)
{
    struct transfer *f = t->state;
    if (f != NULL) {
        base_buf_deinit(&f->data);
        free(f);
    }
}

static void settle(struct gw_task *t, int rc, struct base_buf *json)
{
    gw_mcp_settle(t->mcp, 200, rc, json);
    base_buf_deinit(json);
}

static void no_environment(struct gw_task *t)
{
    const struct gw_mcp_message *m = &t->mcp->m;
    char text[sizeof m->environment + 150];
    struct base_buf json = {0};
    (void)snprintf(text, sizeof text,
        "Environment not found: %s. It has ended, or nothing was done in it yet. Call launchShell "
        "to create a new environment.",
        m->environment);
    int rc = m->tool == GW_MCP_RESOURCE ? gw_mcp_resource_error(m, true, text, &json)
                                        : gw_mcp_tool_error(m, text, &json);
    settle(t, rc, &json);
}

/* True when the reply is an error, which then is the answer. */
static bool refused(struct gw_task *t, const Warren__Reply *r)
{
    struct gw_fault f;
    t->call = NULL;
    if (r->status == WARREN__STATUS__STATUS_OK) {
        return false;
    }
    gw_wire_fault(r, &f);
    if (strcmp(f.code, "SessionWithIdentifierNotFound") == 0) {
        no_environment(t);
    } else {
        gw_task_fail(t, &f);
    }
    return true;
}

static void reject(struct gw_task *t, const struct gw_fault *f)
{
    gw_call_cancel(t->call);
    t->call = NULL;
    gw_task_fail(t, f);
}

/* ---- upload ---- */

static void push(void *owner)
{
    struct gw_task *t = owner;
    struct transfer *f = t->state;
    size_t size = base_buf_size(&f->data);
    bool last = f->at > size;
    while (!last) {
        size_t n = size - f->at < PROTO_CHUNK_BYTES ? size - f->at : PROTO_CHUNK_BYTES;
        last = f->at + n == size;
        const uint8_t *p = base_buf_data(&f->data);
        if (gw_call_chunk(t->call, p == NULL ? NULL : p + f->at, n, last) != 0) {
            return;
        }
        f->at += n + last;
    }
}

static void on_go(void *owner, const Warren__Reply *r)
{
    struct gw_task *t = owner;
    ((struct transfer *)t->state)->anew = gw_task_anew(r->session);
    push(owner);
}

static void uploaded(void *owner, const Warren__Reply *r)
{
    struct gw_task *t = owner;
    struct transfer *f = t->state;
    struct base_buf json = {0};
    if (!refused(t, r)) {
        int rc = gw_mcp_uploaded(
            &t->mcp->m, base_buf_size(&f->data), f->anew || gw_task_anew(r->session), &json);
        settle(t, rc, &json);
    }
}

static void upload(struct gw_task *t, struct transfer *f)
{
    static const struct gw_call_ops ops = {
        .head = on_go, .writable = push, .end = uploaded, .failed = gw_task_failure};
    Warren__Request r;
    Warren__Key key;
    Warren__FilePut q = WARREN__FILE_PUT__INIT;
    bool held = gw_task_hold(t, base_buf_size(&t->body));
    int rc = held ? gw_mcp_upload_data(&t->mcp->m, &f->data) : BASE_ENOMEM;
    if (rc == BASE_EBADMSG) {
        struct gw_fault fault;
        GW_FAULT(&fault, 400, "SessionRequestValidationFailed",
            "The content is no text without NUL, or no base64.");
        gw_task_fail(t, &fault);
        return;
    }
    if (rc < 0) {
        gw_task_out_of_memory(t);
        return;
    }
    gw_task_request(t, &r, &key);
    r.op_case = WARREN__REQUEST__OP_FILE_PUT;
    r.file_put = &q;
    q.path = t->mcp->m.path.text;
    q.size_max = FILE_BYTES_MAX;
    struct gw_call_options opt = {
        .kind = GW_CALL_WRITE, .bulk = true, .deadline_ms = DEADLINE_MS, .ops = &ops};
    (void)gw_task_call(t, &r, &opt);
}

/* ---- download ---- */

static void too_large(struct gw_task *t, uint64_t size)
{
    struct gw_fault f;
    GW_FAULT(&f, 413, "FileTooLarge",
        "The file has %llu bytes, more than the %d that a message takes. Read it in parts with "
        "code.",
        (unsigned long long)size, FILE_BYTES_MAX);
    reject(t, &f);
}

static void on_head(void *owner, const Warren__Reply *r)
{
    struct gw_task *t = owner;
    struct gw_fault f;
    ((struct transfer *)t->state)->headed = true;
    if (r->file == NULL || r->file->is_directory) {
        GW_FAULT(&f, 404, "FileNotFound", "The file does not exist.");
        reject(t, &f);
    } else if (r->file->size > FILE_BYTES_MAX) {
        too_large(t, r->file->size);
    }
}

static void on_chunk(void *owner, const uint8_t *data, size_t n, bool fin)
{
    struct gw_task *t = owner;
    struct transfer *f = t->state;
    f->fin = fin;
    if (base_buf_size(&f->data) + n > FILE_BYTES_MAX) { /* it grows while it is read */
        too_large(t, base_buf_size(&f->data) + n);
    } else if (!gw_task_hold(t, n) || base_buf_add(&f->data, data, n) < 0) {
        gw_call_cancel(t->call);
        t->call = NULL;
        gw_task_out_of_memory(t);
    } else {
        gw_call_chunk_done(t->call, 1);
    }
}

static void downloaded(void *owner, const Warren__Reply *r)
{
    struct gw_task *t = owner;
    struct transfer *f = t->state;
    struct base_buf json = {0};
    if (refused(t, r)) {
        return;
    }
    if (!f->headed || !f->fin) {
        struct gw_fault fault;
        GW_FAULT(&fault, 502, "FileIncomplete", "The worker did not send the whole file.");
        gw_task_fail(t, &fault);
        return;
    }
    int rc = gw_mcp_downloaded(&t->mcp->m, &f->data, &json);
    gw_task_release(t, base_buf_size(&f->data));
    base_buf_deinit(&f->data);
    settle(t, rc, &json);
}

static void download(struct gw_task *t)
{
    static const struct gw_call_ops ops = {
        .head = on_head, .chunk = on_chunk, .end = downloaded, .failed = gw_task_failure};
    Warren__Request r;
    Warren__Key key;
    Warren__FileGet q = WARREN__FILE_GET__INIT;
    gw_task_request(t, &r, &key);
    r.no_allocate = true;
    r.op_case = WARREN__REQUEST__OP_FILE_GET;
    r.file_get = &q;
    q.path = t->mcp->m.path.text;
    struct gw_call_options opt = {
        .kind = GW_CALL_READ, .bulk = true, .deadline_ms = DEADLINE_MS, .ops = &ops};
    (void)gw_task_call(t, &r, &opt);
}

/* ---- list, stop ---- */

static void listed(void *owner, const Warren__Reply *r)
{
    struct gw_task *t = owner;
    struct base_buf json = {0};
    if (refused(t, r)) {
        return;
    }
    CLEANUP(base_freep) struct gw_file *files = calloc(r->n_files + 1, sizeof *files);
    for (size_t i = 0; files != NULL && i < r->n_files; i++) {
        gw_wire_file(r->files[i], &files[i]);
    }
    int rc = files == NULL ? BASE_ENOMEM
                           : gw_mcp_listed(&t->mcp->m, files, r->n_files, r->truncated, &json);
    settle(t, rc, &json);
}

static void list(struct gw_task *t)
{
    static const struct gw_call_ops ops = {.end = listed, .failed = gw_task_failure};
    Warren__Request r;
    Warren__Key key;
    Warren__FileList q = WARREN__FILE_LIST__INIT;
    gw_task_request(t, &r, &key);
    r.no_allocate = true;
    r.op_case = WARREN__REQUEST__OP_FILE_LIST;
    r.file_list = &q;
    q.path = t->mcp->m.path.text;
    q.recursive = t->mcp->m.recursive;
    struct gw_call_options opt = {
        .kind = GW_CALL_READ, .bulk = true, .deadline_ms = DEADLINE_MS, .ops = &ops};
    (void)gw_task_call(t, &r, &opt);
}

static void stopped(void *owner, const Warren__Reply *r)
{
    struct gw_task *t = owner;
    struct base_buf json = {0};
    if (!refused(t, r)) {
        int rc = gw_mcp_stopped(&t->mcp->m, &json);
        settle(t, rc, &json);
    }
}

static void stop(struct gw_task *t)
{
    static const struct gw_call_ops ops = {.end = stopped, .failed = gw_task_failure};
    Warren__Request r;
    Warren__Key key;
    Warren__SessionDelete q = WARREN__SESSION_DELETE__INIT;
    gw_task_request(t, &r, &key);
    r.no_allocate = true;
    r.op_case = WARREN__REQUEST__OP_SESSION_DELETE;
    r.session_delete = &q;
    struct gw_call_options opt = {.kind = GW_CALL_WRITE, .deadline_ms = DEADLINE_MS, .ops = &ops};
    (void)gw_task_call(t, &r, &opt);
}

void gw_mcp_files(struct gw_mcp *p)
{
    struct gw_task *t = p->t;
    enum gw_mcp_tool tool = p->m.tool;
    struct transfer *f = calloc(1, sizeof *f);
    if (f == NULL) {
        gw_task_out_of_memory(t);
        return;
    }
    t->state = f;
    p->gone = gone;
    if (tool == GW_MCP_UPLOAD) {
        upload(t, f);
    } else if (tool == GW_MCP_LIST) {
        list(t);
    } else if (tool == GW_MCP_STOP) {
        stop(t);
    } else {
        download(t);
    }
}
