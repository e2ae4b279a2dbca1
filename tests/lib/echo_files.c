#include <stdlib.h>
#include <string.h>

#include "proto/base/clock.h"
#include "proto/base/text.h"
#include "tests/lib/echo_worker.h"

/* Files of a session, in memory. A folder exists while something lies in it. */

static struct echo_file *find(struct echo_session *s, const char *path)
{
    for (int i = 0; i < s->files_n; i++) {
        if (strcmp(s->files[i].path, path) == 0) {
            return &s->files[i];
        }
    }
    return NULL;
}

static bool inside(const char *path, const char *folder)
{
    size_t n = strlen(folder);
    return n == 0 || (strncmp(path, folder, n) == 0 && path[n] == '/');
}

static bool is_folder(struct echo_session *s, const char *path)
{
    for (int i = 0; i < s->files_n; i++) {
        if (inside(s->files[i].path, path)) {
            return true;
        }
    }
    return path[0] == '\0';
}

static void drop(struct echo_session *s, int i)
{
    base_buf_deinit(&s->files[i].data);
    memmove(&s->files[i], &s->files[i + 1], (size_t)(s->files_n - i - 1) * sizeof s->files[0]);
    s->files_n--;
}

void echo_files_clear(struct echo_session *s)
{
    while (s->files_n > 0) {
        drop(s, 0);
    }
}

struct info {
    Warren__FileInfo pb;
    char name[PROTO_PATH_BYTES_MAX + 1], directory[PROTO_PATH_BYTES_MAX + 1];
};

static void fill(struct info *i, const char *path, const struct echo_file *f)
{
    warren__file_info__init(&i->pb);
    const char *slash = strrchr(path, '/');
    (void)base_text_copy(i->name, sizeof i->name, slash == NULL ? path : slash + 1);
    size_t n = slash == NULL ? 0 : (size_t)(slash - path);
    memcpy(i->directory, path, n);
    i->directory[n] = '\0';
    i->pb.name = i->name;
    i->pb.directory = i->directory;
    i->pb.is_directory = f == NULL;
    i->pb.size = f == NULL ? 4096 : base_buf_size(&f->data);
    i->pb.modified_ns = f == NULL ? base_clock_real_ns() : f->modified_ns;
}

static void not_found(struct echo_exchange *x)
{
    echo_end(x, WARREN__STATUS__STATUS_NOT_FOUND, "file", "no such file");
}

static void reply_file(
    struct echo_exchange *x, enum proto_envelope_type type, const char *path, struct echo_file *f)
{
    static struct info i;
    Warren__Reply r = WARREN__REPLY__INIT;
    Warren__Session session;
    r.status = WARREN__STATUS__STATUS_OK;
    fill(&i, path, f);
    r.file = &i.pb;
    echo_fill_session(x->session, &session);
    r.session = &session;
    echo_reply(x, type, &r);
}

static void list(struct echo_exchange *x, struct echo_session *s, const Warren__FileList *q)
{
    static struct info infos[2 * ECHO_FILES_MAX];
    Warren__FileInfo *list_[2 * ECHO_FILES_MAX];
    Warren__Reply r = WARREN__REPLY__INIT;
    size_t n = 0, skip = q->path[0] == '\0' ? 0 : strlen(q->path) + 1;
    if (!is_folder(s, q->path)) {
        not_found(x);
        return;
    }
    for (int i = 0; i < s->files_n; i++) {
        const char *path = s->files[i].path;
        if (!inside(path, q->path)) {
            continue;
        }
        const char *slash = strchr(path + skip, '/');
        if (slash == NULL || q->recursive) {
            fill(&infos[n], path, &s->files[i]);
        } else { /* the folder, once */
            char folder[PROTO_PATH_BYTES_MAX + 1] = "";
            memcpy(folder, path, (size_t)(slash - path));
            fill(&infos[n], folder, NULL);
            bool known = false;
            for (size_t k = 0; k < n; k++) {
                known |= strcmp(infos[k].name, infos[n].name) == 0;
            }
            if (known) {
                continue;
            }
        }
        list_[n] = &infos[n].pb;
        n++;
    }
    r.status = WARREN__STATUS__STATUS_OK;
    r.n_files = n;
    r.files = list_;
    echo_reply(x, PROTO_ENVELOPE_END, &r);
    x->dead = true;
}

static void stat_file(struct echo_exchange *x, struct echo_session *s, const char *path)
{
    struct echo_file *f = find(s, path);
    if (f == NULL && !is_folder(s, path)) {
        not_found(x);
        return;
    }
    reply_file(x, PROTO_ENVELOPE_END, path, f);
    x->dead = true;
}

static void delete_file(struct echo_exchange *x, struct echo_session *s, const char *path)
{
    int before = s->files_n;
    for (int i = s->files_n - 1; i >= 0; i--) {
        if (strcmp(s->files[i].path, path) == 0 || inside(s->files[i].path, path)) {
            drop(s, i);
        }
    }
    if (before == s->files_n) {
        not_found(x);
    } else {
        echo_end(x, WARREN__STATUS__STATUS_OK, "", "");
    }
}

static void get(struct echo_exchange *x, struct echo_session *s, const Warren__FileGet *q)
{
    struct echo_file *f = find(s, q->path);
    if (f == NULL) {
        not_found(x);
        return;
    }
    if (strcmp(q->path, "broken") == 0) { /* a worker that is: neither head nor content */
        echo_end(x, WARREN__STATUS__STATUS_OK, "", "");
        return;
    }
    reply_file(x, PROTO_ENVELOPE_HEAD, q->path, f);
    uint64_t size = base_buf_size(&f->data), from = q->offset < size ? q->offset : size;
    uint64_t n = q->length == 0 || q->length > size - from ? size - from : q->length;
    (void)base_buf_add(&x->data, base_buf_data(&f->data) + from, (size_t)n);
    x->credit = PROTO_CHUNK_CREDIT;
    echo_files_flush(x);
}

void echo_files_flush(struct echo_exchange *x)
{
    while (x->credit > 0 && !x->fin_sent) {
        size_t n = base_buf_size(&x->data);
        bool fin = n <= PROTO_CHUNK_BYTES;
        n = fin ? n : PROTO_CHUNK_BYTES;
        struct proto_envelope env = {.type = PROTO_ENVELOPE_CHUNK,
            .flags = fin ? PROTO_ENVELOPE_FIN : 0,
            .corr = x->corr,
            .view = 1,
            .seq = x->seq};
        if (proto_net_send(
                x->echo->sockets[x->class], &x->peer, &env, base_buf_data(&x->data), n) != 0) {
            return;
        }
        x->seq++;
        x->credit--;
        base_buf_consume(&x->data, n);
        x->fin_sent = fin;
    }
    if (x->fin_sent) {
        echo_end(x, WARREN__STATUS__STATUS_OK, "", "");
    }
}

static void on_credit_timer(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop;
    (void)revents;
    struct echo_exchange *x = w->data;
    echo_send(x, PROTO_ENVELOPE_CREDIT, 1, NULL, 0);
}

static void put(struct echo_exchange *x, struct echo_session *s, const Warren__FilePut *q)
{
    Warren__Reply r = WARREN__REPLY__INIT;
    Warren__Session session;
    (void)base_text_copy(x->path, sizeof x->path, q->path);
    x->size_max = q->size_max;
    r.status = WARREN__STATUS__STATUS_OK;
    echo_fill_session(s, &session);
    r.session = &session;
    echo_reply(x, PROTO_ENVELOPE_HEAD, &r);
}

void echo_files_chunk(struct echo_exchange *x, const struct proto_net_message *m)
{
    struct echo_session *s = x->session;
    if (m->env.seq != x->seq++ || m->body_bytes > PROTO_CHUNK_BYTES) {
        echo_end(x, WARREN__STATUS__STATUS_INVALID, "", "chunk out of order");
        return;
    }
    if (base_buf_size(&x->data) + m->body_bytes > x->size_max) {
        echo_end(x, WARREN__STATUS__STATUS_TOO_LARGE, "", "more bytes than allowed");
        return;
    }
    (void)base_buf_add(&x->data, m->body, m->body_bytes);
    if ((m->env.flags & PROTO_ENVELOPE_FIN) == 0) {
        if (strncmp(x->path, "slow", 4) == 0) {
            ev_timer_stop(x->echo->loop, &x->timer);
            ev_timer_init(&x->timer, on_credit_timer, 0.05, 0.);
            x->timer.data = x;
            ev_timer_start(x->echo->loop, &x->timer);
        } else {
            echo_send(x, PROTO_ENVELOPE_CREDIT, 1, NULL, 0);
        }
        return;
    }
    struct echo_file *f = find(s, x->path);
    if (f == NULL && s->files_n == ECHO_FILES_MAX) {
        echo_end(x, WARREN__STATUS__STATUS_TOO_LARGE, "full", "too many files");
        return;
    }
    if (f == NULL) {
        f = &s->files[s->files_n++];
        (void)base_text_copy(f->path, sizeof f->path, x->path);
    }
    base_buf_deinit(&f->data);
    f->data = x->data;
    x->data = (struct base_buf){0};
    f->modified_ns = base_clock_real_ns();
    reply_file(x, PROTO_ENVELOPE_END, x->path, f);
    x->dead = true;
}

void echo_files_request(struct echo_exchange *x, struct echo_session *s, const Warren__Request *r)
{
    x->session = s;
    if (r->op_case == WARREN__REQUEST__OP_FILE_LIST) {
        list(x, s, r->file_list);
    } else if (r->op_case == WARREN__REQUEST__OP_FILE_STAT) {
        stat_file(x, s, r->file_stat->path);
    } else if (r->op_case == WARREN__REQUEST__OP_FILE_DELETE) {
        delete_file(x, s, r->file_delete->path);
    } else if (r->op_case == WARREN__REQUEST__OP_FILE_GET) {
        get(x, s, r->file_get);
    } else {
        put(x, s, r->file_put);
    }
}
