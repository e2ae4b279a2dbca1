#include "worker/io/template_disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/cleanup.h"

enum { COPY_BYTES = 1 << 20, NAME_MAX_BYTES = 512 };

int worker_template_disk_memfd(uint32_t memory_mib)
{
    CLEANUP(base_closep) int fd = memfd_create("warren-template", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, (off_t)memory_mib << 20) != 0) {
        return -errno;
    }
    return TAKE_FD(fd);
}

int worker_template_disk_seal(int memory_fd, struct base_error *err)
{
    int seals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
    if (fcntl(memory_fd, F_ADD_SEALS, seals) != 0) {
        return base_fail(err, -errno, "seal the template's memory: %s", strerror(errno));
    }
    return 0;
}

/* Copies only what is not a hole. */
static int copy_data(int from, int to, off_t size, struct base_error *err)
{
    CLEANUP(base_freep) char *room = malloc(COPY_BYTES);
    if (room == NULL) {
        return base_fail(err, BASE_ENOMEM, "copy buffer");
    }
    off_t at = 0;
    while (at < size) {
        off_t data = lseek(from, at, SEEK_DATA);
        if (data < 0 && errno == ENXIO) {
            return 0;
        }
        off_t hole = data < 0 ? -1 : lseek(from, data, SEEK_HOLE);
        if (hole < 0) {
            return base_fail(err, -errno, "find data: %s", strerror(errno));
        }
        for (off_t o = data; o < hole;) {
            size_t want = hole - o > COPY_BYTES ? COPY_BYTES : (size_t)(hole - o);
            ssize_t n = pread(from, room, want, o);
            if (n <= 0 || pwrite(to, room, (size_t)n, o) != n) {
                return base_fail(err, -errno, "copy memory: %s", strerror(errno));
            }
            o += n;
        }
        at = hole;
    }
    return 0;
}

static bool meta_fits(const char *path, uint32_t memory_mib, uint32_t tsc_khz)
{
    CLEANUP(base_fclosep) FILE *f = fopen(path, "re");
    static const char *const names[] = {"format ", "memory_mib ", "tsc_khz "};
    unsigned long value[3];
    char line[64];
    for (int i = 0; i < 3; i++) {
        size_t n = strlen(names[i]);
        if (f == NULL || fgets(line, sizeof line, f) == NULL || strncmp(line, names[i], n) != 0) {
            return false;
        }
        value[i] = strtoul(line + n, NULL, 10);
    }
    unsigned long format = value[0], mib = value[1], khz = value[2];
    unsigned long off = khz > tsc_khz ? khz - tsc_khz : tsc_khz - khz;
    return format == 1 && mib == memory_mib && off <= tsc_khz / 100;
}

int worker_template_disk_load(const char *dir, const char *id, int memory_fd, uint32_t memory_mib,
    uint32_t tsc_khz, struct base_error *err)
{
    char path[NAME_MAX_BYTES];
    (void)snprintf(path, sizeof path, "%s/%s/meta", dir, id);
    if (!meta_fits(path, memory_mib, tsc_khz)) {
        return base_fail(err, BASE_ENOTFOUND, "no template '%s' for this machine", id);
    }
    (void)snprintf(path, sizeof path, "%s/%s/memory", dir, id);
    CLEANUP(base_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0 || st.st_size != (off_t)memory_mib << 20) {
        return base_fail(err, BASE_ENOTFOUND, "'%s' is missing or has another size", path);
    }
    int rc = copy_data(fd, memory_fd, st.st_size, err);
    if (rc == 0) {
        (void)futimens(fd, NULL); /* used just now: the last to be pruned */
    }
    return rc;
}

int worker_template_disk_state(const char *dir, const char *id, struct base_error *err)
{
    char path[NAME_MAX_BYTES];
    (void)snprintf(path, sizeof path, "%s/%s/state", dir, id);
    CLEANUP(base_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    CLEANUP(base_closep) int to = memfd_create("warren-state", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    struct stat st;
    if (fd < 0 || to < 0 || fstat(fd, &st) != 0) {
        return base_fail(err, -errno, "open '%s': %s", path, strerror(errno));
    }
    int rc = copy_data(fd, to, st.st_size, err);
    rc = rc != 0 ? rc : worker_template_disk_seal(to, err);
    return rc != 0 ? rc : TAKE_FD(to);
}

static int write_meta(const char *path, const struct worker_template_disk_save *s)
{
    CLEANUP(base_closep) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 ||
        dprintf(fd, "format 1\nmemory_mib %u\ntsc_khz %u\n", s->memory_mib, s->tsc_khz) < 0) {
        return -errno;
    }
    return 0;
}

static int remove_tree(const char *path)
{
    static const char *const names[] = {"memory", "state", "meta"};
    for (int i = 0; i < 3; i++) {
        char file[NAME_MAX_BYTES];
        (void)snprintf(file, sizeof file, "%s/%s", path, names[i]);
        (void)unlink(file);
    }
    return rmdir(path);
}

static int fill(const char *tmp, const struct worker_template_disk_save *s, struct base_error *err)
{
    char path[NAME_MAX_BYTES];
    (void)snprintf(path, sizeof path, "%s/memory", tmp);
    CLEANUP(base_closep) int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)s->memory_mib << 20) != 0) {
        return base_fail(err, -errno, "make '%s': %s", path, strerror(errno));
    }
    int rc = copy_data(s->memory_fd, fd, (off_t)s->memory_mib << 20, err);
    if (rc != 0) {
        return rc;
    }
    (void)snprintf(path, sizeof path, "%s/state", tmp);
    if (rename(s->state_path, path) != 0) {
        return base_fail(err, -errno, "move the device state: %s", strerror(errno));
    }
    (void)snprintf(path, sizeof path, "%s/meta", tmp);
    rc = write_meta(path, s);
    return rc == 0 ? 0 : base_fail(err, rc, "write '%s': %s", path, strerror(-rc));
}

int worker_template_disk_save(const struct worker_template_disk_save *s, struct base_error *err)
{
    char tmp[NAME_MAX_BYTES], final[NAME_MAX_BYTES];
    (void)snprintf(tmp, sizeof tmp, "%s/.new-%s-%d", s->dir, s->id, (int)getpid());
    (void)snprintf(final, sizeof final, "%s/%s", s->dir, s->id);
    (void)remove_tree(tmp);
    if (mkdir(tmp, 0700) != 0) {
        return base_fail(err, -errno, "make '%s': %s", tmp, strerror(errno));
    }
    int rc = fill(tmp, s, err);
    if (rc == 0) {
        (void)remove_tree(final);
        if (rename(tmp, final) != 0) {
            rc = base_fail(err, -errno, "rename '%s': %s", tmp, strerror(errno));
        }
    }
    if (rc != 0) {
        (void)remove_tree(tmp);
    }
    return rc;
}

/* Name of the template whose memory file was used longest ago; false when fewer than more_than. */
static bool oldest(const char *dir, const char *keep_id, unsigned more_than, char ret[256])
{
    DIR *d = opendir(dir);
    if (d == NULL) {
        return false;
    }
    unsigned n = 0;
    struct timespec best = {0};
    bool found = false;
    for (const struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        char path[NAME_MAX_BYTES];
        struct stat st;
        (void)snprintf(path, sizeof path, "%s/%s/memory", dir, e->d_name);
        if (e->d_name[0] == '.' || stat(path, &st) != 0) {
            continue;
        }
        n++;
        bool older = !found || st.st_mtim.tv_sec < best.tv_sec ||
                     (st.st_mtim.tv_sec == best.tv_sec && st.st_mtim.tv_nsec < best.tv_nsec);
        if (older && strcmp(e->d_name, keep_id) != 0) {
            found = true;
            best = st.st_mtim;
            (void)snprintf(ret, 256, "%s", e->d_name);
        }
    }
    (void)closedir(d);
    return found && n > more_than;
}

void worker_template_disk_prune(const char *dir, const char *keep_id, unsigned keep_max)
{
    char name[256], path[NAME_MAX_BYTES];
    while (oldest(dir, keep_id, keep_max, name)) {
        (void)snprintf(path, sizeof path, "%s/%s", dir, name);
        if (remove_tree(path) != 0) {
            return;
        }
    }
}
