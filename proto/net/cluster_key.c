#include "proto/net/cluster_key.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/base/cleanup.h"
#include "proto/base/text.h"

int proto_net_cluster_key_read(const char *path, uint8_t key[16], struct base_error *err)
{
    CLEANUP(base_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        return base_fail(err, -errno, "cluster key '%s': %s", path, strerror(errno));
    }
    if ((st.st_mode & 077) != 0) {
        return base_fail(err, BASE_EDENIED, "cluster key '%s' can be read by others", path);
    }
    char text[64];
    ssize_t n = read(fd, text, sizeof text - 1);
    text[n < 0 ? 0 : n] = '\0';
    text[strcspn(text, "\r\n")] = '\0';
    if (!base_text_unhex(text, key, 16)) {
        return base_fail(err, BASE_EBADMSG, "cluster key '%s' is not 32 hex digits", path);
    }
    return 0;
}
