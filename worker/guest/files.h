#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/guest.pb-c.h"
#include "worker/guest/config.h"
#include "worker/guest/stream.h"
#include "worker/guest/walk.h"

/* The bulk port's operations: put, get, list, stat, delete. Each is a task of its stream, works in
 * small steps and holds a bounded amount of memory. Failures of put are RST, of the others RESULT.
 */

enum agent_file_kind { AGENT_FILE_PUT, AGENT_FILE_GET, AGENT_FILE_WALK };

struct agent_files {
    const struct agent_config *config;
    int data_fd; /* the root of paths */
    int root_fd; /* of absolute ones */
};

struct agent_file_op {
    struct agent_files *files;
    enum agent_file_kind kind;
    bool absolute;
    int fd;
    char path[PROTO_PATH_BYTES_MAX + 1]; /* below the root */
    /* put */
    int folder_fd;
    char name[AGENT_PATH_NAME_MAX + 1];
    char temp[32];
    uint64_t size, size_max;
    /* get */
    uint64_t offset;
    uint64_t left;
    bool to_end; /* the size is not known (proc files) */
    /* list, delete */
    struct agent_walk *walk;
};

/* config->data_dir must exist. 0 or -errno. */
int agent_files_init(struct agent_files *f, const struct agent_config *config);
void agent_files_deinit(struct agent_files *f);

/* Starts the operation; false when m is none of them. */
bool agent_files_open(struct agent_files *f, struct agent_stream *s, const Warren__GuestOpen *m);

/* Sends a RESULT with a code and text, then FIN. The stream is gone. */
void agent_files_fail(struct agent_stream *s, int code, const char *text);
void agent_files_result(struct agent_stream *s, const Warren__GuestResult *m);

/* Names that a put in progress has; lists leave them out. */
#define AGENT_FILES_TEMP_PREFIX ".warren-put-"
