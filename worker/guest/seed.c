#include "worker/guest/seed.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "proto/base/clock.h"
#include "proto/base/err.h"
#include "proto/base/text.h"

static const char MACHINE_ID[] = "/etc/machine-id";

enum {
    SEED_BYTES = 64,
    MACHINE_ID_BYTES = 16,
    HOSTNAME_MAX = 63,
};

/* Kept from boot on, so that a clone has less to do on the way to its first answer. */
static int urandom = -1;
static char *machine_id; /* the file's only page, or NULL: then the file is written */

static int open_urandom(void)
{
    urandom = open("/dev/urandom", O_RDWR | O_CLOEXEC);
    return urandom < 0 ? -errno : 0;
}

/* Both calls are needed: the first only adds to the pool, the second makes the generator use it. */
static int stir(const ProtobufCBinaryData *seed)
{
    struct { /* struct rand_pool_info with its bytes */
        int entropy_bits;
        int size;
        uint8_t bytes[SEED_BYTES];
    } pool = {.entropy_bits = SEED_BYTES * 8, .size = SEED_BYTES};
    if (urandom < 0 && open_urandom() != 0) {
        return -errno;
    }
    memcpy(pool.bytes, seed->data, SEED_BYTES);
    if (ioctl(urandom, RNDADDENTROPY, &pool) != 0 || ioctl(urandom, RNDRESEEDCRNG) != 0) {
        return -errno;
    }
    return 0;
}

static int set_clock(uint64_t real_ns)
{
    struct timespec ts = {
        .tv_sec = (time_t)(real_ns / BASE_NS_PER_S), .tv_nsec = (long)(real_ns % BASE_NS_PER_S)};
    return clock_settime(CLOCK_REALTIME, &ts) != 0 ? -errno : 0;
}

/* In place: the file was written once at boot, so it lies in the overlay's upper layer already and
 * a clone need not copy it up on its way to the first answer. */
static int write_machine_id(const char text[2 * MACHINE_ID_BYTES + 2])
{
    const size_t n = 2 * MACHINE_ID_BYTES + 1;
    if (machine_id != NULL) {
        memcpy(machine_id, text, n);
        return 0;
    }
    CLEANUP(base_closep) int fd = open(MACHINE_ID, O_WRONLY | O_CREAT | O_CLOEXEC, 0444);
    if (fd < 0) {
        return -errno;
    }
    return write(fd, text, n) < 0 ? -errno : 0;
}

int agent_seed_prepare(void)
{
    char text[2 * MACHINE_ID_BYTES + 2];
    memset(text, '0', sizeof text);
    text[sizeof text - 2] = '\n';
    text[sizeof text - 1] = '\0';
    int rc = write_machine_id(text);
    if (rc == 0) {
        CLEANUP(base_closep) int fd = open(MACHINE_ID, O_RDWR | O_CLOEXEC);
        void *p = fd < 0 ? MAP_FAILED
                         : mmap(NULL, strlen(text), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        machine_id = p == MAP_FAILED ? NULL : p;
    }
    return rc != 0 ? rc : open_urandom();
}

static int set_names(const Warren__GuestSeed *m)
{
    size_t n = strlen(m->hostname);
    if (n > 0 && sethostname(m->hostname, n) != 0) {
        return -errno;
    }
    if (m->machine_id.len == 0) {
        return 0;
    }
    char text[2 * MACHINE_ID_BYTES + 2];
    base_text_hex(m->machine_id.data, MACHINE_ID_BYTES, text);
    text[sizeof text - 2] = '\n';
    text[sizeof text - 1] = '\0';
    return write_machine_id(text);
}

int agent_seed_machine(
    const struct agent_config *c, const Warren__GuestSeed *m, const char **ret_text)
{
    *ret_text = "a seed has 64 bytes, a machine id 16 or none, a hostname at most 63";
    if (m->seed.len != SEED_BYTES || strlen(m->hostname) > HOSTNAME_MAX ||
        (m->machine_id.len != MACHINE_ID_BYTES && m->machine_id.len != 0)) {
        return BASE_EINVAL;
    }
    if (!c->machine) {
        return 0;
    }
    *ret_text = "the kernel's generator refuses the seed";
    if (stir(&m->seed) != 0) {
        return BASE_EIO;
    }
    *ret_text = "the clock cannot be set";
    if (m->real_ns != 0 && set_clock(m->real_ns) != 0) {
        return BASE_EIO;
    }
    *ret_text = "hostname or machine id cannot be set";
    return set_names(m) != 0 ? BASE_EIO : 0;
}
