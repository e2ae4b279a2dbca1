#include "worker/guest/files.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "proto/base/rand.h"
#include "proto/base/text.h"

int agent_files_init(struct agent_files *f, const struct agent_config *config)
{
    *f = (struct agent_files){.config = config};
    f->data_fd = open(config->data_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    f->root_fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return f->data_fd < 0 || f->root_fd < 0 ? -errno : 0;
}

void agent_files_deinit(struct agent_files *f)
{
    (void)close(f->data_fd);
    (void)close(f->root_fd);
}

void agent_files_result(struct agent_stream *s, const Warren__GuestResult *m)
{
    uint8_t raw[PROTO_FRAME_PAYLOAD_MAX];
    if (warren__guest_result__get_packed_size(m) <= sizeof raw) {
        agent_stream_frame(s, PROTO_FRAME_RESULT, raw, warren__guest_result__pack(m, raw));
    }
}

void agent_files_fail(struct agent_stream *s, int code, const char *text)
{
    Warren__GuestResult m = WARREN__GUEST_RESULT__INIT;
    m.code = code;
    m.text = (char *)(uintptr_t)text;
    agent_files_result(s, &m);
    agent_stream_fin(s);
}

static void fail_errno(struct agent_stream *s, int err)
{
    agent_files_fail(s, agent_path_code(err), strerror(err));
}

/* RESULT with what is known of the file, without the end of the stream. */
static void send_info(struct agent_stream *s, int root_fd, const char *path)
{
    Warren__GuestResult m = WARREN__GUEST_RESULT__INIT;
    Warren__FileInfo info = WARREN__FILE_INFO__INIT;
    char copy[PROTO_PATH_BYTES_MAX + 1];
    (void)base_text_copy(copy, sizeof copy, path);
    char *slash = strrchr(copy, '/');
    info.name = slash == NULL ? copy : slash + 1;
    info.directory = (char *)(uintptr_t) "";
    if (slash != NULL) {
        *slash = '\0';
        info.directory = copy;
    }
    agent_walk_info(root_fd, path, &info);
    m.file = &info;
    agent_files_result(s, &m);
}

/* --- The life of an operation ----------------------------------------------------------------- */

static struct agent_file_op *create(struct agent_files *f, struct agent_stream *s,
    enum agent_file_kind kind, const struct agent_stream_ops *ops)
{
    struct agent_file_op *op = calloc(1, sizeof *op);
    if (op == NULL) {
        agent_stream_reset(s, BASE_ENOMEM, "out of memory");
        return NULL;
    }
    op->files = f;
    op->kind = kind;
    op->fd = op->folder_fd = -1;
    s->task = op;
    s->ops = ops;
    return op;
}

static void on_gone(struct agent_stream *s)
{
    struct agent_file_op *op = s->task;
    const struct agent_config *c = op->files->config;
    agent_path_become(c->uid, c->gid);
    if (op->temp[0] != '\0') {
        (void)unlinkat(op->folder_fd, op->temp, 0);
    }
    agent_path_return(c->uid);
    if (op->fd >= 0) {
        (void)close(op->fd);
    }
    if (op->folder_fd >= 0) {
        (void)close(op->folder_fd);
    }
    agent_walk_destroy(op->walk);
    free(op);
    s->task = NULL;
}

static int root_of(const struct agent_files *f, bool absolute)
{
    return absolute ? f->root_fd : f->data_fd;
}

/* --- put -------------------------------------------------------------------------------------- */

static void put_data(struct agent_stream *s, const uint8_t *bytes, size_t n)
{
    struct agent_file_op *op = s->task;
    if (op->size + n > op->size_max) {
        agent_stream_reset(s, BASE_ETOOBIG, "the file is larger than the limit");
        return;
    }
    while (n > 0) {
        ssize_t w = write(op->fd, bytes, n);
        if (w < 0 && errno == EINTR) {
            continue;
        }
        if (w <= 0) {
            int err = w == 0 ? EIO : errno;
            agent_stream_reset(s, agent_path_code(err), strerror(err));
            return;
        }
        bytes += w;
        n -= (size_t)w;
        op->size += (uint64_t)w;
    }
}

static void put_fin(struct agent_stream *s)
{
    struct agent_file_op *op = s->task;
    const struct agent_config *c = op->files->config;
    agent_path_become(c->uid, c->gid);
    int rc = renameat(op->folder_fd, op->temp, op->folder_fd, op->name) != 0 ? errno : 0;
    agent_path_return(c->uid);
    if (rc != 0) {
        agent_stream_reset(s, agent_path_code(rc), strerror(rc));
        return;
    }
    op->temp[0] = '\0';
    send_info(s, root_of(op->files, op->absolute), op->path);
    agent_stream_fin(s);
}

static const struct agent_stream_ops put_ops = {.data = put_data, .fin = put_fin, .gone = on_gone};

/* 0 or -errno. */
static int put_start(struct agent_file_op *op, int root_fd)
{
    const char *name;
    struct stat st;
    op->folder_fd = agent_path_parent(root_fd, op->path, true, &name);
    if (op->folder_fd < 0) {
        return op->folder_fd;
    }
    (void)base_text_copy(op->name, sizeof op->name, name);
    if (fstatat(op->folder_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode)) {
        return -EISDIR;
    }
    char temp[sizeof op->temp];
    (void)snprintf(temp, sizeof temp, AGENT_FILES_TEMP_PREFIX "%016" PRIx64, base_rand_u64());
    op->fd = openat(op->folder_fd, temp,
        O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0644);
    if (op->fd < 0) {
        return -errno;
    }
    memcpy(op->temp, temp, sizeof temp);
    return 0;
}

static void open_put(struct agent_files *f, struct agent_stream *s, const Warren__GuestPut *m)
{
    const char *rest;
    int rc = agent_path_check(m->path, m->absolute, false, &rest);
    if (rc != 0) {
        agent_stream_reset(s, rc, "not a path");
        return;
    }
    struct agent_file_op *op = create(f, s, AGENT_FILE_PUT, &put_ops);
    if (op == NULL) {
        return;
    }
    (void)base_text_copy(op->path, sizeof op->path, rest);
    op->size_max = m->size_max;
    op->absolute = m->absolute;
    agent_path_become(f->config->uid, f->config->gid);
    rc = put_start(op, root_of(f, m->absolute));
    agent_path_return(f->config->uid);
    if (rc != 0) {
        agent_stream_reset(s, agent_path_code(-rc), strerror(-rc));
    }
}

/* --- get -------------------------------------------------------------------------------------- */

static bool get_pull(struct agent_stream *s)
{
    struct agent_file_op *op = s->task;
    uint8_t data[PROTO_FRAME_PAYLOAD_MAX];
    size_t room = agent_stream_room(s);
    if (op->left == 0) {
        agent_stream_fin(s);
        return true;
    }
    if (room == 0) {
        return false;
    }
    ssize_t n = pread(op->fd, data, op->left < room ? (size_t)op->left : room, (off_t)op->offset);
    if (n < 0 && errno == EINTR) {
        return true;
    }
    if (n < 0 || (n == 0 && !op->to_end)) {
        agent_stream_reset(s, BASE_EIO, n < 0 ? strerror(errno) : "the file became shorter");
        return true;
    }
    if (n == 0) {
        agent_stream_fin(s);
        return true;
    }
    op->offset += (uint64_t)n;
    op->left -= (uint64_t)n;
    agent_stream_data(s, data, (size_t)n);
    return true;
}

static const struct agent_stream_ops get_ops = {.pull = get_pull, .gone = on_gone};

static int get_start(struct agent_file_op *op, int root_fd, const Warren__GuestGet *m)
{
    struct stat st;
    op->fd = agent_path_open(root_fd, op->path, O_RDONLY | O_NONBLOCK);
    if (op->fd < 0) {
        return op->fd;
    }
    if (fstat(op->fd, &st) != 0) {
        return -errno;
    }
    if (!S_ISREG(st.st_mode)) {
        return S_ISDIR(st.st_mode) ? -EISDIR : -EACCES;
    }
    uint64_t size = (uint64_t)st.st_size;
    op->to_end = size == 0;
    op->offset = m->offset < INT64_MAX ? m->offset : INT64_MAX;
    op->left = op->to_end ? UINT64_MAX : op->offset < size ? size - op->offset : 0;
    if (m->length > 0 && m->length < op->left) {
        op->left = m->length;
    }
    return 0;
}

static void open_get(struct agent_files *f, struct agent_stream *s, const Warren__GuestGet *m)
{
    const char *rest;
    int rc = agent_path_check(m->path, m->absolute, false, &rest);
    if (rc != 0) {
        agent_files_fail(s, rc, "not a path");
        return;
    }
    struct agent_file_op *op = create(f, s, AGENT_FILE_GET, &get_ops);
    if (op == NULL) {
        return;
    }
    (void)base_text_copy(op->path, sizeof op->path, rest);
    agent_path_become(f->config->uid, f->config->gid);
    rc = get_start(op, root_of(f, m->absolute), m);
    agent_path_return(f->config->uid);
    if (rc != 0) {
        fail_errno(s, -rc);
        return;
    }
    send_info(s, root_of(f, m->absolute), op->path);
}

/* --- list, stat, delete ----------------------------------------------------------------------- */

static bool list_pull(struct agent_stream *s)
{
    struct agent_file_op *op = s->task;
    const struct agent_config *c = op->files->config;
    struct agent_walk_batch batch;
    agent_path_become(c->uid, c->gid);
    int rc = agent_walk_list(op->walk, &batch);
    agent_path_return(c->uid);
    Warren__GuestResult m = WARREN__GUEST_RESULT__INIT;
    m.entries = batch.list;
    /* One RESULT holds what fits in a frame; names are short, so this is rarely more than one. */
    for (size_t i = 0; i < batch.n; i += m.n_entries) {
        m.entries = batch.list + i;
        m.n_entries = batch.n - i;
        while (warren__guest_result__get_packed_size(&m) > PROTO_FRAME_PAYLOAD_MAX) {
            m.n_entries = (m.n_entries + 1) / 2;
        }
        agent_files_result(s, &m);
    }
    if (rc == 0) {
        Warren__GuestResult last = WARREN__GUEST_RESULT__INIT;
        last.truncated = op->walk->truncated;
        agent_files_result(s, &last);
        agent_stream_fin(s);
    }
    return true;
}

/* Nothing is sent before the end, so the steps are spread over turns of the loop. */
static bool delete_pull(struct agent_stream *s)
{
    struct agent_file_op *op = s->task;
    const struct agent_config *c = op->files->config;
    agent_path_become(c->uid, c->gid);
    int rc = agent_walk_remove(op->walk);
    agent_path_return(c->uid);
    if (rc > 0) {
        s->port->loop->again = true;
        return false;
    }
    if (rc < 0) {
        fail_errno(s, -rc);
    } else {
        agent_files_fail(s, 0, "");
    }
    return true;
}

static const struct agent_stream_ops list_ops = {.pull = list_pull, .gone = on_gone};
static const struct agent_stream_ops delete_ops = {.pull = delete_pull, .gone = on_gone};

static void open_list(struct agent_files *f, struct agent_stream *s, const Warren__GuestList *m)
{
    const char *rest;
    int rc = agent_path_check(m->path, m->absolute, true, &rest);
    if (rc != 0) {
        agent_files_fail(s, rc, "not a path");
        return;
    }
    struct agent_file_op *op = create(f, s, AGENT_FILE_WALK, &list_ops);
    if (op == NULL) {
        return;
    }
    agent_path_become(f->config->uid, f->config->gid);
    int fd = agent_path_open(root_of(f, m->absolute), rest, O_RDONLY | O_DIRECTORY);
    agent_path_return(f->config->uid);
    if (fd < 0) {
        fail_errno(s, -fd);
        return;
    }
    op->walk = agent_walk_create(root_of(f, m->absolute), fd, rest);
    if (op->walk == NULL) {
        agent_files_fail(s, BASE_ENOMEM, "out of memory");
        return;
    }
    op->walk->recursive = m->recursive;
    op->walk->left = m->entries_max == 0 || m->entries_max > PROTO_LIST_ENTRIES_MAX
                         ? PROTO_LIST_ENTRIES_MAX
                         : m->entries_max;
}

static void open_stat(struct agent_files *f, struct agent_stream *s, const Warren__GuestStat *m)
{
    const char *rest;
    int rc = agent_path_check(m->path, m->absolute, true, &rest);
    if (rc != 0) {
        agent_files_fail(s, rc, "not a path");
        return;
    }
    int root_fd = root_of(f, m->absolute);
    agent_path_become(f->config->uid, f->config->gid);
    int fd = agent_path_open(root_fd, rest, O_PATH);
    agent_path_return(f->config->uid);
    if (fd < 0) {
        fail_errno(s, -fd);
        return;
    }
    (void)close(fd);
    send_info(s, root_fd, rest);
    agent_stream_fin(s);
}

/* 0: it was a file and is gone; 1: a folder, op->walk removes it; -errno. */
static int delete_start(struct agent_file_op *op, int root_fd)
{
    const char *name;
    int folder = agent_path_parent(root_fd, op->path, false, &name);
    if (folder < 0) {
        return folder;
    }
    op->folder_fd = folder;
    if (unlinkat(folder, name, 0) == 0) {
        return 0;
    }
    if (errno != EISDIR && errno != EPERM) {
        return -errno;
    }
    int fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    op->walk = agent_walk_create(root_fd, fd, op->path);
    if (op->walk == NULL) {
        return -ENOMEM;
    }
    op->walk->removing = true;
    op->walk->parent_fd = TAKE_FD(op->folder_fd);
    (void)base_text_copy(op->walk->name, sizeof op->walk->name, name);
    return 1;
}

static void open_delete(struct agent_files *f, struct agent_stream *s, const Warren__GuestDelete *m)
{
    const char *rest;
    int rc = agent_path_check(m->path, m->absolute, false, &rest);
    if (rc != 0) {
        agent_files_fail(s, rc, "not a path");
        return;
    }
    struct agent_file_op *op = create(f, s, AGENT_FILE_WALK, &delete_ops);
    if (op == NULL) {
        return;
    }
    (void)base_text_copy(op->path, sizeof op->path, rest);
    agent_path_become(f->config->uid, f->config->gid);
    rc = delete_start(op, root_of(f, m->absolute));
    agent_path_return(f->config->uid);
    if (rc < 0) {
        fail_errno(s, -rc);
    } else if (rc == 0) {
        agent_files_fail(s, 0, "");
    }
}

bool agent_files_open(struct agent_files *f, struct agent_stream *s, const Warren__GuestOpen *m)
{
    switch (m->what_case) {
    case WARREN__GUEST_OPEN__WHAT_PUT:
        open_put(f, s, m->put);
        return true;
    case WARREN__GUEST_OPEN__WHAT_GET:
        open_get(f, s, m->get);
        return true;
    case WARREN__GUEST_OPEN__WHAT_LIST:
        open_list(f, s, m->list);
        return true;
    case WARREN__GUEST_OPEN__WHAT_STAT:
        open_stat(f, s, m->stat);
        return true;
    case WARREN__GUEST_OPEN__WHAT_DELETE:
        open_delete(f, s, m->delete_);
        return true;
    case WARREN__GUEST_OPEN__WHAT_EXEC:
    case WARREN__GUEST_OPEN__WHAT_RESUME:
    case WARREN__GUEST_OPEN__WHAT_TERMINAL:
    case WARREN__GUEST_OPEN__WHAT__NOT_SET:
    case _WARREN__GUEST_OPEN__WHAT__CASE_IS_INT_SIZE:
    default:
        return false;
    }
}
