#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gateway/core/file_path.h"
#include "gateway/core/range.h"
#include "gateway/io/task.h"
#include "proto/base/cleanup.h"
#include "proto/base/clock.h"

/* Files of a session: list, metadata, content, delete. Uploads are in op_upload.c. */

enum { DEADLINE_MS = 60000, TRANSFER_MS = 3600 * 1000 };

static bool refused(struct gw_task *t, const Warren__Reply *r)
{
    t->call = NULL;
    if (r->status == WARREN__STATUS__STATUS_OK) {
        gw_task_session(t, r->session);
        return false;
    }
    struct gw_fault f;
    gw_wire_fault(r, &f);
    gw_task_fail(t, &f);
    return true;
}

/* Only shell pools reach outside /mnt/data; elsewhere a leading slash means nothing. */
static void with_path(struct gw_task *t, void (*go)(struct gw_task *t, enum gw_pool_kind kind))
{
    if (t->route.absolute) {
        gw_task_pool(t, go);
    } else {
        go(t, GW_POOL_PYTHON);
    }
}

static bool is_absolute(const struct gw_task *t, enum gw_pool_kind kind)
{
    return t->route.absolute && kind == GW_POOL_SHELL;
}

/* ---- list ---- */

/* The folder as seen from the one that was listed. */
static const char *relative(const char *directory, const char *base)
{
    size_t n = strlen(base);
    if (n == 0 || strncmp(directory, base, n) != 0) {
        return directory;
    }
    return directory[n] == '/' ? directory + n + 1 : directory[n] == '\0' ? "" : directory;
}

static int by_place(const void *a, const void *b)
{
    const struct gw_file *x = a, *y = b;
    int folder = strcmp(x->directory, y->directory);
    return folder != 0 ? folder : strcmp(x->name, y->name);
}

static int render_list(struct gw_task *t, struct gw_file *files, size_t n, struct base_buf *body)
{
    int count = 0, rc = gw_render_list_begin(body);
    qsort(files, n, sizeof *files, by_place); /* guests list in any order */
    for (size_t i = 0; i < n && rc == 0; i++) {
        struct gw_file f = files[i];
        if (!t->route.legacy) {
            f.directory = relative(f.directory, t->route.path);
        }
        rc = gw_render_list_add(&f, t->route.legacy, &count, body);
    }
    return rc < 0 ? rc : gw_render_list_end(body);
}

static void listed(void *owner, const Warren__Reply *r)
{
    struct gw_task *t = owner;
    if (refused(t, r)) {
        return;
    }
    struct base_buf body = {0};
    CLEANUP(base_freep) struct gw_file *files = calloc(r->n_files + 1, sizeof *files);
    for (size_t i = 0; files != NULL && i < r->n_files; i++) {
        gw_wire_file(r->files[i], &files[i]);
    }
    if (r->truncated) {
        gw_fields_text(&t->fields, "x-warren-truncated", "true");
    }
    if (files == NULL || render_list(t, files, r->n_files, &body) < 0) {
        gw_task_out_of_memory(t);
    } else {
        gw_task_answer(t, 200, &body);
    }
    base_buf_deinit(&body);
}

static void list_go(struct gw_task *t, enum gw_pool_kind kind)
{
    static const struct gw_call_ops ops = {.end = listed, .failed = gw_task_failure};
    Warren__Request r;
    Warren__Key key;
    Warren__FileList q = WARREN__FILE_LIST__INIT;
    gw_task_request(t, &r, &key);
    r.op_case = WARREN__REQUEST__OP_FILE_LIST;
    r.file_list = &q;
    q.path = t->route.path;
    q.absolute = is_absolute(t, kind);
    q.recursive = t->route.recursive;
    struct gw_call_options opt = {
        .kind = GW_CALL_READ, .bulk = true, .deadline_ms = DEADLINE_MS, .ops = &ops};
    (void)gw_task_call(t, &r, &opt);
}

static void list_start(struct gw_task *t)
{
    with_path(t, list_go);
}

const struct gw_task_ops gw_op_files_list = {.start = list_start};

/* ---- metadata, also what a download begins with when it needs the size ---- */

static void ask_stat(struct gw_task *t, enum gw_pool_kind kind, const struct gw_call_ops *ops)
{
    Warren__Request r;
    Warren__Key key;
    Warren__FileStat q = WARREN__FILE_STAT__INIT;
    gw_task_request(t, &r, &key);
    r.op_case = WARREN__REQUEST__OP_FILE_STAT;
    r.file_stat = &q;
    q.path = t->route.path;
    q.absolute = is_absolute(t, kind);
    struct gw_call_options opt = {
        .kind = GW_CALL_READ, .bulk = true, .deadline_ms = DEADLINE_MS, .ops = ops};
    (void)gw_task_call(t, &r, &opt);
}

static void not_found(struct gw_task *t)
{
    struct gw_fault f;
    GW_FAULT(&f, 404, "FileNotFound", "The file does not exist.");
    gw_task_fail(t, &f);
}

static void described(void *owner, const Warren__Reply *r)
{
    struct gw_task *t = owner;
    struct base_buf body = {0};
    struct gw_file f;
    if (refused(t, r)) {
        return;
    }
    if (r->file == NULL) {
        not_found(t);
        return;
    }
    gw_wire_file(r->file, &f);
    int rc = 0, count = 0;
    if (t->route.legacy) { /* the old API answers with a list here, too */
        rc = gw_render_list_begin(&body);
        rc = rc < 0 ? rc : gw_render_list_add(&f, true, &count, &body);
        rc = rc < 0 ? rc : gw_render_list_end(&body);
    } else {
        rc = gw_render_file(&f, false, &body);
    }
    if (rc < 0) {
        gw_task_out_of_memory(t);
    } else {
        gw_task_answer(t, 200, &body);
    }
    base_buf_deinit(&body);
}

static void stat_go(struct gw_task *t, enum gw_pool_kind kind)
{
    static const struct gw_call_ops ops = {.end = described, .failed = gw_task_failure};
    ask_stat(t, kind, &ops);
}

static void stat_start(struct gw_task *t)
{
    with_path(t, stat_go);
}

const struct gw_task_ops gw_op_file_stat = {.start = stat_start};

/* ---- content ---- */

struct download {
    enum gw_pool_kind kind;
    struct gw_range range;
    bool part;
    uint64_t size, left; /* of the whole; bytes of the answer still to come */
    uint32_t held;       /* chunks not given back yet */
};

static void download_gone(struct gw_task *t)
{
    free(t->state);
}

static void content_fields(struct gw_task *t, const struct gw_file *f)
{
    char when[40];
    time_t s = (time_t)(f->modified_ns / BASE_NS_PER_S);
    struct tm tm;
    (void)gmtime_r(&s, &tm);
    (void)strftime(when, sizeof when, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    gw_fields_text(&t->fields, "content-type", gw_file_type(f->name));
    gw_fields_text(&t->fields, "last-modified", when);
    gw_fields_text(&t->fields, "accept-ranges", "bytes");
    gw_fields_text(&t->fields, "x-content-type-options", "nosniff");
    gw_fields_text(&t->fields, "cache-control", "no-store");
}

static void on_head(void *owner, const Warren__Reply *r)
{
    struct gw_task *t = owner;
    struct download *d = t->state;
    struct gw_file f;
    if (r->file == NULL || r->file->is_directory) {
        gw_call_cancel(t->call);
        t->call = NULL;
        not_found(t);
        return;
    }
    gw_wire_file(r->file, &f);
    gw_task_session(t, r->session);
    content_fields(t, &f);
    d->left = d->part ? d->range.length : f.size;
    if (d->part) {
        gw_fields_add(&t->fields, "content-range", "bytes %llu-%llu/%llu",
            (unsigned long long)d->range.first,
            (unsigned long long)(d->range.first + d->range.length - 1),
            (unsigned long long)d->size);
    }
    gw_task_respond(t, d->part ? 206 : 200, (int64_t)d->left);
}

/* The file may have changed since its size was told: what does not fit is cut off visibly. */
static void on_chunk(void *owner, const uint8_t *data, size_t n, bool fin)
{
    struct gw_task *t = owner;
    struct download *d = t->state;
    if (n > d->left || (fin && n < d->left)) {
        gw_call_cancel(t->call);
        t->call = NULL;
        gw_exchange_abort(t->x);
        return;
    }
    d->left -= n;
    if (gw_exchange_write(t->x, data, n) < GW_EXCHANGE_OUT_HIGH) {
        gw_call_chunk_done(t->call, 1);
    } else {
        d->held++;
    }
}

static void on_end(void *owner, const Warren__Reply *r)
{
    struct gw_task *t = owner;
    struct download *d = t->state;
    t->call = NULL;
    if (r->status != WARREN__STATUS__STATUS_OK) {
        struct gw_fault f;
        gw_wire_fault(r, &f);
        gw_task_fail(t, &f);
    } else if (!t->answered || d->left > 0) {
        struct gw_fault f;
        GW_FAULT(&f, 502, "ConnectionClosed", "The file's content did not arrive.");
        gw_task_fail(t, &f);
    } else {
        gw_exchange_end(t->x);
    }
}

static void content_drain(struct gw_task *t)
{
    struct download *d = t->state;
    if (d != NULL && d->held > 0 && t->call != NULL) {
        uint32_t held = d->held;
        d->held = 0;
        gw_call_chunk_done(t->call, held);
    }
}

static void ask_content(struct gw_task *t)
{
    static const struct gw_call_ops ops = {
        .head = on_head, .chunk = on_chunk, .end = on_end, .failed = gw_task_failure};
    struct download *d = t->state;
    Warren__Request r;
    Warren__Key key;
    Warren__FileGet q = WARREN__FILE_GET__INIT;
    gw_task_request(t, &r, &key);
    r.op_case = WARREN__REQUEST__OP_FILE_GET;
    r.file_get = &q;
    q.path = t->route.path;
    q.absolute = is_absolute(t, d->kind);
    q.offset = d->part ? d->range.first : 0;
    q.length = d->part ? d->range.length : 0;
    struct gw_call_options opt = {
        .kind = GW_CALL_READ, .bulk = true, .deadline_ms = TRANSFER_MS, .ops = &ops};
    (void)gw_task_call(t, &r, &opt);
}

/* With the size known: a range is cut to it, HEAD is answered. */
static void on_stat(void *owner, const Warren__Reply *r)
{
    struct gw_task *t = owner;
    struct download *d = t->state;
    const struct gw_request *head = gw_exchange_request(t->x);
    struct gw_file f;
    if (refused(t, r)) {
        return;
    }
    if (r->file == NULL || r->file->is_directory) {
        not_found(t);
        return;
    }
    gw_wire_file(r->file, &f);
    d->size = f.size;
    enum gw_range_verdict v = head->method == GW_METHOD_HEAD
                                  ? GW_RANGE_NONE
                                  : gw_range_parse(gw_http_field(head, "range"), f.size, &d->range);
    if (v == GW_RANGE_OUTSIDE) {
        struct gw_fault fault;
        GW_FAULT(&fault, 416, "RangeNotSatisfiable", "The file has %llu bytes.",
            (unsigned long long)f.size);
        gw_fields_add(&t->fields, "content-range", "bytes */%llu", (unsigned long long)f.size);
        gw_task_fail(t, &fault);
    } else if (head->method == GW_METHOD_HEAD) {
        content_fields(t, &f);
        gw_task_respond(t, 200, (int64_t)f.size);
        gw_exchange_end(t->x);
    } else {
        d->part = v == GW_RANGE_PART;
        t->fields.n = 1; /* the session's fields come again with the content */
        ask_content(t);
    }
}

static void content_go(struct gw_task *t, enum gw_pool_kind kind)
{
    static const struct gw_call_ops ops = {.end = on_stat, .failed = gw_task_failure};
    struct download *d = calloc(1, sizeof *d);
    if (d == NULL) {
        gw_task_out_of_memory(t);
        return;
    }
    t->state = d;
    d->kind = kind;
    const struct gw_request *head = gw_exchange_request(t->x);
    if (head->method == GW_METHOD_HEAD || gw_http_field(head, "range") != NULL) {
        ask_stat(t, kind, &ops);
    } else {
        ask_content(t);
    }
}

static void content_start(struct gw_task *t)
{
    with_path(t, content_go);
}

const struct gw_task_ops gw_op_file_content = {
    .start = content_start, .drain = content_drain, .gone = download_gone};

/* ---- delete ---- */

static void deleted(void *owner, const Warren__Reply *r)
{
    struct gw_task *t = owner;
    if (refused(t, r)) {
        return;
    }
    if (t->route.legacy) {
        struct base_buf body = {0};
        (void)base_buf_printf(&body, "{\"message\":\"File deleted.\"}");
        gw_task_answer(t, 200, &body);
        base_buf_deinit(&body);
        return;
    }
    gw_task_respond(t, 204, 0);
    gw_exchange_end(t->x);
}

static void delete_go(struct gw_task *t, enum gw_pool_kind kind)
{
    static const struct gw_call_ops ops = {.end = deleted, .failed = gw_task_failure};
    Warren__Request r;
    Warren__Key key;
    Warren__FileDelete q = WARREN__FILE_DELETE__INIT;
    gw_task_request(t, &r, &key);
    r.op_case = WARREN__REQUEST__OP_FILE_DELETE;
    r.file_delete = &q;
    q.path = t->route.path;
    q.absolute = is_absolute(t, kind);
    struct gw_call_options opt = {
        .kind = GW_CALL_WRITE, .bulk = true, .deadline_ms = DEADLINE_MS, .ops = &ops};
    (void)gw_task_call(t, &r, &opt);
}

static void delete_start(struct gw_task *t)
{
    with_path(t, delete_go);
}

const struct gw_task_ops gw_op_file_delete = {.start = delete_start, .body_max = 64 << 10};
