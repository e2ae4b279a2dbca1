#include "worker/jail/supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <unistd.h>

#include "proto/base/container.h"

int worker_supervise_remove_dir(const char *dir)
{
    static const char *const names[] = {
        "ctl.sock", "bulk.sock", "qmp.sock", "sup.sock", "record", "qemu.log"};
    int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    for (size_t i = 0; fd >= 0 && i < ARRAY_LEN(names); i++) {
        (void)unlinkat(fd, names[i], 0);
    }
    (void)close(fd);
    return rmdir(dir) != 0 && errno != ENOENT ? -errno : 0;
}
