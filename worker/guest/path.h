#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "proto/base/err.h"
#include "proto/limits.h"

/* Paths from the host, resolved below a folder by the kernel itself (openat2): no link and no ".."
 * leads out, whatever the user's code does meanwhile. */

enum { AGENT_PATH_NAME_MAX = 255 };

/* The host's spelling is checked: UTF-8, no empty part, no "." or "..", bounded. With `absolute` it
 * begins with "/", else it must not. empty: "" (the root itself) is allowed. On success *ret_rest
 * points behind the leading "/". 0, BASE_EINVAL or BASE_ETOOBIG. */
int agent_path_check(const char *path, bool absolute, bool empty, const char **ret_rest);

/* openat2 below root_fd. "" opens the root itself. The descriptor or -errno. */
int agent_path_open(int root_fd, const char *path, int flags);

/* The folder that holds the last part of path (below root_fd) and that part. make: missing folders
 * are made. The descriptor or -errno. */
int agent_path_parent(int root_fd, const char *path, bool make, const char **ret_name);

/* An enum base_err for an errno of a file operation. */
int agent_path_code(int err);

/* File operations happen with the rights of the session's user. uid (uid_t)-1: nothing changes. */
void agent_path_become(uid_t uid, gid_t gid);
void agent_path_return(uid_t uid);
