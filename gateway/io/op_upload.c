#include <stdlib.h>
#include <string.h>

#include "gateway/core/file_path.h"
#include "gateway/core/multipart.h"
#include "gateway/io/task.h"

/* POST /files and /files/upload: multipart bodies stream through the parser into chunks for the
 * worker. What the worker does not take yet stays unread, so the client's window closes. A body
 * that ends early leaves no file: the worker is told to give up. */

enum {
    TRANSFER_MS = 3600 * 1000,
    ENVELOPE_BYTES_MAX = 64 << 10, /* of the form around a file of the greatest size */
    FILES_MAX = 64,
};

enum upload_state {
    BETWEEN,  /* outside the parts that are files */
    OPENING,  /* waits for the worker's go */
    FILLING,  /* data goes into chunks */
    FINISHED, /* the last chunk is sent or waits; then the worker's answer */
};

struct upload {
    struct gw_multipart form;
    enum upload_state state;
    struct base_buf raw; /* of the request's body, not parsed yet; within the exchange's window */
    uint8_t chunk[PROTO_CHUNK_BYTES];
    size_t chunk_n;
    uint64_t size; /* of this file so far */
    bool go, fin_due, body_done, pumping;
    int files;
    struct base_buf answer;
    enum gw_pool_kind kind;
};

static void pump(struct gw_task *t);

static void reject(struct gw_task *t, const struct gw_fault *f)
{
    gw_call_cancel(t->call);
    t->call = NULL;
    gw_task_fail(t, f);
}

static void malformed(struct gw_task *t, const char *what)
{
    struct gw_fault f;
    GW_FAULT(&f, 400, "SessionRequestValidationFailed", "%s", what);
    reject(t, &f);
}

/* ---- the worker's side ---- */

/* True when the chunk buffer is empty again. */
static bool send_chunk(struct gw_task *t, bool fin)
{
    struct upload *u = t->state;
    if (u->chunk_n == 0 && !fin) {
        return true;
    }
    if (!u->go || gw_call_chunk(t->call, u->chunk, u->chunk_n, fin) != 0) {
        return false;
    }
    u->chunk_n = 0;
    return true;
}

static void on_head(void *owner, const Warren__Reply *r)
{
    struct gw_task *t = owner;
    struct upload *u = t->state;
    if (u->files == 0) {
        gw_task_session(t, r->session);
    }
    u->go = true;
    if (u->state == OPENING) {
        u->state = FILLING;
    }
    pump(t);
}

static void on_writable(void *owner)
{
    pump(owner);
}

static void on_end(void *owner, const Warren__Reply *r)
{
    struct gw_task *t = owner;
    struct upload *u = t->state;
    struct gw_file f;
    t->call = NULL;
    if (r->status != WARREN__STATUS__STATUS_OK) {
        struct gw_fault fault;
        gw_wire_fault(r, &fault);
        gw_task_fail(t, &fault);
        return;
    }
    if (r->file == NULL || u->state != FINISHED || u->fin_due) {
        struct gw_fault fault;
        GW_FAULT(&fault, 502, "ConnectionClosed", "The worker ended the upload early.");
        gw_task_fail(t, &fault);
        return;
    }
    gw_wire_file(r->file, &f);
    int rc = 0;
    if (t->route.legacy) {
        rc = gw_render_list_add(&f, true, &u->files, &u->answer);
    } else if (u->files++ == 0) {
        rc = gw_render_file(&f, false, &u->answer);
    }
    if (rc < 0) {
        gw_task_out_of_memory(t);
        return;
    }
    u->state = BETWEEN;
    pump(t);
}

static void open_file(struct gw_task *t)
{
    static const struct gw_call_ops ops = {
        .head = on_head, .writable = on_writable, .end = on_end, .failed = gw_task_failure};
    struct upload *u = t->state;
    struct gw_file_path path;
    gw_file_path_init(&path);
    if (!gw_file_path_add(&path, t->route.path) || !gw_file_path_add(&path, u->form.filename) ||
        path.text[0] == '\0') {
        malformed(t, "The file name has '..', a control character or a backslash, or is too long.");
        return;
    }
    if (++u->files > FILES_MAX) {
        malformed(t, "Too many files in one request.");
        return;
    }
    u->files--;
    Warren__Request r;
    Warren__Key key;
    Warren__FilePut q = WARREN__FILE_PUT__INIT;
    gw_task_request(t, &r, &key);
    r.op_case = WARREN__REQUEST__OP_FILE_PUT;
    r.file_put = &q;
    q.path = path.text;
    q.absolute = t->route.absolute && u->kind == GW_POOL_SHELL;
    q.size_max = PROTO_UPLOAD_BYTES_MAX;
    u->state = OPENING;
    u->go = u->fin_due = false;
    u->size = u->chunk_n = 0;
    struct gw_call_options opt = {
        .kind = GW_CALL_WRITE, .bulk = true, .deadline_ms = TRANSFER_MS, .ops = &ops};
    (void)gw_task_call(t, &r, &opt);
}

/* ---- the client's side ---- */

static void finish(struct gw_task *t)
{
    struct upload *u = t->state;
    if (!gw_multipart_complete(&u->form)) {
        malformed(t, "The multipart body is cut off.");
        return;
    }
    if (u->files == 0) {
        malformed(t, "The body has no part with a file name.");
        return;
    }
    if (t->route.legacy && gw_render_list_end(&u->answer) < 0) {
        gw_task_out_of_memory(t);
        return;
    }
    gw_task_answer(t, 200, &u->answer);
}

static void take_data(struct gw_task *t)
{
    struct upload *u = t->state;
    u->size += u->form.data_n;
    if (u->size > PROTO_UPLOAD_BYTES_MAX) {
        struct gw_fault f;
        GW_FAULT(
            &f, 413, "RequestTooLarge", "A file has at most %d bytes.", PROTO_UPLOAD_BYTES_MAX);
        reject(t, &f);
        return;
    }
    memcpy(u->chunk + u->chunk_n, u->form.data, u->form.data_n);
    u->chunk_n += u->form.data_n;
}

/* One event of the parser; false when nothing more can be done now. */
static bool parse_some(struct gw_task *t)
{
    struct upload *u = t->state;
    size_t have = base_buf_size(&u->raw), used = 0;
    /* While a file is being filled, no more is parsed than its chunk has room for: the parser may
     * hand out a few bytes more than it is given (the start of a delimiter that was none). */
    size_t room = sizeof u->chunk - u->chunk_n;
    bool filling = u->state == FILLING;
    if (have == 0 || (filling && room <= sizeof u->form.delimiter)) {
        return false;
    }
    size_t n =
        filling && have > room - sizeof u->form.delimiter ? room - sizeof u->form.delimiter : have;
    enum gw_multipart_event e = gw_multipart_next(&u->form, base_buf_data(&u->raw), n, &used);
    bool file = u->form.filename[0] != '\0';
    if (e == GW_MULTIPART_DATA && filling) {
        take_data(t);
    }
    base_buf_consume(&u->raw, used);
    gw_exchange_consume(t->x, used);
    if (e == GW_MULTIPART_PART && file) {
        open_file(t);
    } else if (e == GW_MULTIPART_PART_END && filling) {
        u->state = FINISHED;
        u->fin_due = true;
    } else if (e == GW_MULTIPART_BAD) {
        malformed(t, "The multipart body is malformed.");
    }
    return true;
}

static void pump(struct gw_task *t)
{
    struct upload *u = t->state;
    if (u->pumping) {
        return;
    }
    u->pumping = true;
    while (!t->answered) {
        if (u->state == OPENING) {
            break;
        }
        if (u->state == FINISHED) {
            if (u->fin_due && send_chunk(t, true)) {
                u->fin_due = false;
            }
            break; /* on_end() goes on */
        }
        if (parse_some(t)) {
            continue;
        }
        if (u->state == FILLING && u->chunk_n + sizeof u->form.delimiter >= sizeof u->chunk &&
            send_chunk(t, false)) {
            continue;
        }
        if (u->body_done && base_buf_size(&u->raw) == 0) {
            finish(t);
        }
        break;
    }
    u->pumping = false;
}

static bool begin(struct gw_task *t)
{
    const struct gw_request *r = gw_exchange_request(t->x);
    struct upload *u = calloc(1, sizeof *u);
    struct gw_fault f;
    t->state = u;
    if (u == NULL) {
        gw_task_out_of_memory(t);
        return false;
    }
    if (!gw_multipart_init(&u->form, gw_http_field(r, "content-type"))) {
        GW_FAULT(&f, 400, "SessionRequestValidationFailed",
            "An upload is multipart/form-data with a boundary.");
        gw_task_fail(t, &f);
        return false;
    }
    if (r->content_length > PROTO_UPLOAD_BYTES_MAX + ENVELOPE_BYTES_MAX) {
        GW_FAULT(
            &f, 413, "RequestTooLarge", "A file has at most %d bytes.", PROTO_UPLOAD_BYTES_MAX);
        gw_task_fail(t, &f);
        return false;
    }
    if (t->route.legacy && gw_render_list_begin(&u->answer) < 0) {
        gw_task_out_of_memory(t);
        return false;
    }
    return true;
}

static void know_pool(struct gw_task *t, enum gw_pool_kind kind)
{
    struct upload *u = t->state;
    u->kind = kind;
    u->state = BETWEEN;
    pump(t);
}

static void on_body(struct gw_task *t, const uint8_t *data, size_t n)
{
    struct upload *u = t->state;
    if (u == NULL) {
        if (!begin(t)) {
            return;
        }
        u = t->state;
        if (t->route.absolute) {
            u->state = OPENING; /* until it is known whether the pool allows that */
            gw_task_pool(t, know_pool);
        }
    }
    if (t->answered) {
        return;
    }
    if (base_buf_add(&u->raw, data, n) < 0) {
        reject(t, &(struct gw_fault){.status = 503, .code = "ServiceUnavailable"});
        return;
    }
    pump(t);
}

static void start(struct gw_task *t) /* the body is complete */
{
    if (t->state == NULL && !begin(t)) {
        return;
    }
    struct upload *u = t->state;
    u->body_done = true;
    pump(t);
}

static void gone(struct gw_task *t)
{
    struct upload *u = t->state;
    if (u != NULL) {
        base_buf_deinit(&u->raw);
        base_buf_deinit(&u->answer);
        free(u);
    }
}

const struct gw_task_ops gw_op_file_upload = {.start = start,
    .body = on_body,
    .gone = gone,
    .body_max = PROTO_UPLOAD_BYTES_MAX + ENVELOPE_BYTES_MAX};
