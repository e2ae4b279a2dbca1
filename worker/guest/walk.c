#include "worker/guest/walk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/clock.h"
#include "proto/base/text.h"
#include "worker/guest/files.h"

void agent_walk_clean(char *text)
{
    if (!base_text_utf8(text, strlen(text))) {
        for (unsigned char *p = (unsigned char *)text; *p != '\0'; p++) {
            *p = *p >= 0x80 ? '?' : *p;
        }
    }
}

void agent_walk_info(int root_fd, const char *path, Warren__FileInfo *m)
{
    struct stat st;
    int fd = agent_path_open(root_fd, path, O_PATH);
    if (fd < 0) {
        fd = agent_path_open(root_fd, path, O_PATH | O_NOFOLLOW); /* a link to nowhere */
    }
    if (fd < 0 || fstat(fd, &st) != 0) {
        memset(&st, 0, sizeof st);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    m->is_directory = S_ISDIR(st.st_mode);
    m->size = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
    m->modified_ns = (uint64_t)st.st_mtim.tv_sec * BASE_NS_PER_S + (uint64_t)st.st_mtim.tv_nsec;
}

static int push(struct agent_walk *w, int fd, const char *name)
{
    size_t len = strlen(w->path), more = strlen(name);
    if (w->depth == AGENT_WALK_DEPTH_MAX || len + more + 2 > sizeof w->path) {
        (void)close(fd);
        return -ENAMETOOLONG;
    }
    DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        int err = errno;
        (void)close(fd);
        return -err;
    }
    if (more > 0) {
        (void)snprintf(w->path + len, sizeof w->path - len, "%s%s", len > 0 ? "/" : "", name);
    }
    w->level[w->depth++] = (struct agent_walk_level){.dir = dir, .path_len = strlen(w->path)};
    return 0;
}

static void pop(struct agent_walk *w)
{
    (void)closedir(w->level[--w->depth].dir);
    w->path[w->depth > 0 ? w->level[w->depth - 1].path_len : 0] = '\0';
}

struct agent_walk *agent_walk_create(int root_fd, int folder_fd, const char *path)
{
    struct agent_walk *w = calloc(1, sizeof *w);
    if (w == NULL) {
        (void)close(folder_fd);
        return NULL;
    }
    w->root_fd = root_fd;
    w->parent_fd = -1;
    (void)base_text_copy(w->path, sizeof w->path, path);
    if (push(w, folder_fd, "") != 0) {
        free(w);
        return NULL;
    }
    return w;
}

void agent_walk_destroy(struct agent_walk *w)
{
    if (w == NULL) {
        return;
    }
    while (w->depth > 0) {
        pop(w);
    }
    if (w->parent_fd >= 0) {
        (void)close(w->parent_fd);
    }
    free(w);
}

/* The next entry of the innermost folder, or NULL at its end. */
static struct dirent *next_entry(struct agent_walk *w)
{
    struct dirent *d;
    do {
        d = readdir(w->level[w->depth - 1].dir);
    } while (d != NULL && (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0));
    return d;
}

static int open_entry(const struct agent_walk *w, const char *name)
{
    int fd = openat(dirfd(w->level[w->depth - 1].dir), name,
        O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

static void add(struct agent_walk *w, struct agent_walk_batch *b, const char *name)
{
    char path[PROTO_PATH_BYTES_MAX + AGENT_PATH_NAME_MAX + 2];
    Warren__FileInfo *m = &b->info[b->n];
    warren__file_info__init(m);
    (void)snprintf(path, sizeof path, "%s%s%s", w->path, w->path[0] == '\0' ? "" : "/", name);
    agent_walk_info(w->root_fd, path, m);
    (void)base_text_copy(b->name[b->n], sizeof b->name[0], name);
    agent_walk_clean(b->name[b->n]);
    m->name = b->name[b->n];
    m->directory = b->directory;
    b->list[b->n++] = m;
    w->left--;
}

int agent_walk_list(struct agent_walk *w, struct agent_walk_batch *b)
{
    b->n = 0;
    (void)base_text_copy(b->directory, sizeof b->directory, w->path);
    agent_walk_clean(b->directory);
    while (b->n < AGENT_WALK_STEP) {
        struct dirent *d = next_entry(w);
        if (d == NULL) {
            pop(w);
            return w->depth > 0 ? 1 : 0;
        }
        if (strncmp(d->d_name, AGENT_FILES_TEMP_PREFIX, strlen(AGENT_FILES_TEMP_PREFIX)) == 0) {
            continue;
        }
        if (w->left == 0) {
            w->truncated = true;
            return 0;
        }
        add(w, b, d->d_name);
        if (!w->recursive || (d->d_type != DT_DIR && d->d_type != DT_UNKNOWN)) {
            continue;
        }
        int fd = open_entry(w, d->d_name);
        int rc = fd < 0 ? fd : push(w, fd, d->d_name);
        if (rc == 0) {
            return 1; /* a batch is of one folder */
        }
        w->truncated = w->truncated || (rc != -ENOTDIR && rc != -ENOENT);
    }
    return 1;
}

/* The innermost folder is read to its end: remove it. */
static int remove_folder(struct agent_walk *w)
{
    struct agent_walk_level *l = &w->level[w->depth - 1];
    if (l->again) {
        l->again = false;
        rewinddir(l->dir);
        return 1;
    }
    const char *slash = strrchr(w->path, '/');
    const char *name = w->depth == 1 ? w->name : slash == NULL ? w->path : slash + 1;
    int in = w->depth == 1 ? w->parent_fd : dirfd(w->level[w->depth - 2].dir);
    if (unlinkat(in, name, AT_REMOVEDIR) != 0 && errno != ENOENT) {
        return -errno;
    }
    pop(w);
    return w->depth > 0 ? 1 : 0;
}

int agent_walk_remove(struct agent_walk *w)
{
    for (int i = 0; i < AGENT_WALK_STEP; i++) {
        struct dirent *d = next_entry(w);
        if (d == NULL) {
            int rc = remove_folder(w);
            if (rc <= 0) {
                return rc;
            }
            continue;
        }
        if (unlinkat(dirfd(w->level[w->depth - 1].dir), d->d_name, 0) == 0 || errno == ENOENT) {
            w->level[w->depth - 1].again = true; /* removing may make readdir skip some */
            continue;
        }
        if (errno != EISDIR && errno != EPERM) {
            return -errno;
        }
        int fd = open_entry(w, d->d_name);
        w->level[w->depth - 1].again = true;
        int rc = fd < 0 ? fd : push(w, fd, d->d_name);
        if (rc != 0 && rc != -ENOENT) {
            return rc;
        }
    }
    return 1;
}
