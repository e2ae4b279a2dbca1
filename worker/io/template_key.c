#include "worker/io/template_key.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "proto/base/container.h"
#include "proto/base/text.h"

/* Raise when the machine in qemu.c changes: old templates do not fit any more. */
static const char machine_version[] = "microvm-3";

enum { COPY_BYTES = 64 << 10, HZ = 250 };

static int hash_file(EVP_MD_CTX *md, const char *path)
{
    CLEANUP(base_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    static char room[COPY_BYTES];
    for (;;) {
        ssize_t n = read(fd, room, sizeof room);
        if (n < 0) {
            return -errno;
        }
        if (n == 0) {
            return 0;
        }
        (void)EVP_DigestUpdate(md, room, (size_t)n);
    }
}

static void hash_text(EVP_MD_CTX *md, const char *text)
{
    (void)EVP_DigestUpdate(md, text, strlen(text) + 1);
}

static int hash_files(EVP_MD_CTX *md, const struct worker_engine_config *c, struct base_error *err)
{
    static const char *const warm[] = {"template.py", "ready.py", "short.py", "template.js",
        "ready.js", "short.js", "template.sh", "ready.sh", "short.sh"};
    char path[512];
    /* The manifest has the content hash of the image's files. */
    (void)snprintf(path, sizeof path, "%s/manifest.json", c->image_dir);
    int rc = hash_file(md, path);
    if (rc == 0) {
        (void)snprintf(path, sizeof path, "%s/guest.cpio", c->guest_dir);
        rc = hash_file(md, path);
    }
    if (rc != 0) {
        return base_fail(err, rc, "read '%s': %s", path, strerror(-rc));
    }
    for (size_t i = 0; i < ARRAY_LEN(warm); i++) {
        (void)snprintf(path, sizeof path, "%s/warm/%s", c->guest_dir, warm[i]);
        if (hash_file(md, path) == 0) {
            hash_text(md, warm[i]);
        }
    }
    return 0;
}

void worker_template_append(
    const struct worker_template_setup *setup, bool kvm, char *text, size_t cap)
{
    char kernels[64] = "";
    size_t n = 0;
    for (int i = 0; i < 4 && setup->pool.kernels[i] != WARREN__KERNEL__KERNEL_NONE; i++) {
        static const char *const names[] = {"", "python,", "node,", "shell,"};
        if (setup->pool.kernels[i] != WARREN__KERNEL__KERNEL_NODE) {
            n += (size_t)snprintf(
                kernels + n, sizeof kernels - n, "%s", names[setup->pool.kernels[i]]);
        }
    }
    kernels[n > 0 ? n - 1 : 0] = '\0';
    /* Security modules without a policy only make each system call longer: none is loaded here.
     * Under emulation the clock must not be calibrated: a busy host makes that hang or drift. And
     * filling fresh pages with zeroes a second time is a third of what a page costs there. */
    char emulated[128] = "";
    if (!kvm) {
        (void)snprintf(emulated, sizeof emulated,
            "tsc=reliable tsc_early_khz=%u lpj=%llu no_timer_check init_on_alloc=0 ",
            setup->tsc_khz, (unsigned long long)setup->tsc_khz * 1000 / HZ);
    }
    (void)snprintf(text, cap,
        "console=ttyS0 %snowatchdog psi=0 mitigations=off cryptomgr.notests lsm=landlock,yama "
        "initcall_blacklist=init_kprobe_trace rcupdate.rcu_expedited=1 quiet reboot=t panic=-1 "
        "warren.kernels=%s",
        emulated, kernels);
}

int worker_template_key(const struct worker_template_setup *setup,
    const struct worker_qemu_machine *machine, char ret_id[WORKER_TEMPLATE_ID_MAX],
    struct base_error *err)
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    if (md == NULL || EVP_DigestInit_ex(md, EVP_sha256(), NULL) != 1) {
        EVP_MD_CTX_free(md);
        return base_fail(err, BASE_ENOMEM, "digest");
    }
    struct worker_template_setup plain = *setup;
    plain.tsc_khz = 0; /* compared with tolerance when a template is loaded */
    char append[1024], line[128];
    worker_template_append(&plain, machine->kvm, append, sizeof append);
    (void)snprintf(line, sizeof line, "%s kvm=%d memory=%u cpus=%u", machine_version, machine->kvm,
        machine->memory_mib, machine->cpus);
    hash_text(md, line);
    hash_text(md, append);
    hash_text(md, setup->qemu_version);
    hash_text(md, machine->kvm ? setup->cpu : "");
    int rc = hash_files(md, setup->config, err);
    unsigned char digest[EVP_MAX_MD_SIZE];
    (void)EVP_DigestFinal_ex(md, digest, NULL);
    EVP_MD_CTX_free(md);
    base_text_hex(digest, 16, ret_id);
    return rc;
}

static int append_file(int to, const char *path)
{
    CLEANUP(base_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    static char room[COPY_BYTES];
    for (;;) {
        ssize_t n = read(fd, room, sizeof room);
        if (n < 0 || (n > 0 && write(to, room, (size_t)n) != n)) {
            return -errno;
        }
        if (n == 0) {
            return 0;
        }
    }
}

int worker_template_initrd(const struct worker_engine_config *c, struct base_error *err)
{
    CLEANUP(base_closep) int fd = memfd_create("warren-initrd", MFD_CLOEXEC);
    if (fd < 0) {
        return base_fail(err, -errno, "memfd");
    }
    char path[512];
    (void)snprintf(path, sizeof path, "%s/modules.cpio", c->image_dir);
    int rc = append_file(fd, path);
    if (rc == 0) {
        /* The kernel takes archives one behind the other when each starts at 4 bytes. */
        off_t at = lseek(fd, 0, SEEK_END);
        (void)!ftruncate(fd, (at + 3) & ~(off_t)3);
        (void)lseek(fd, 0, SEEK_END);
        (void)snprintf(path, sizeof path, "%s/guest.cpio", c->guest_dir);
        rc = append_file(fd, path);
    }
    if (rc != 0) {
        return base_fail(err, rc, "read '%s': %s", path, strerror(-rc));
    }
    return TAKE_FD(fd);
}
