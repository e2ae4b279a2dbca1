#pragma once
#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/guest.pb-c.h"
#include "worker/guest/path.h"

/* Listing and removing folders step by step, so that a huge one does not hold the agent up. */

enum {
    AGENT_WALK_DEPTH_MAX = 64,
    AGENT_WALK_STEP = 64, /* entries of one step */
};

struct agent_walk_level {
    DIR *dir;
    size_t path_len; /* of the path to here */
    bool again;      /* removing: entries came back while it was read */
};

struct agent_walk {
    int root_fd; /* borrowed */
    bool removing;
    bool recursive;
    bool truncated;
    uint32_t left;                       /* entries that may still be listed */
    int parent_fd;                       /* removing: holds the first folder; owned */
    char name[AGENT_PATH_NAME_MAX + 1];  /* removing: its name there */
    char path[PROTO_PATH_BYTES_MAX + 1]; /* of the current folder, below the root */
    int depth;
    struct agent_walk_level level[AGENT_WALK_DEPTH_MAX];
};

/* Takes over folder_fd (an open folder) and parent_fd. NULL when memory is out (both are closed).
 */
struct agent_walk *agent_walk_create(int root_fd, int folder_fd, const char *path);
void agent_walk_destroy(struct agent_walk *w);

/* The next entries of one folder. 1: more to come; 0: that was all; < 0: -errno. */
struct agent_walk_batch {
    Warren__FileInfo info[AGENT_WALK_STEP];
    Warren__FileInfo *list[AGENT_WALK_STEP];
    char name[AGENT_WALK_STEP][AGENT_PATH_NAME_MAX + 1];
    char directory[PROTO_PATH_BYTES_MAX + 1];
    size_t n;
};
int agent_walk_list(struct agent_walk *w, struct agent_walk_batch *b);

/* Removes some more. 1: more to come; 0: all is gone; < 0: -errno. */
int agent_walk_remove(struct agent_walk *w);

/* Fills in what fstatat tells of an entry; links are followed below root_fd only. */
void agent_walk_info(int root_fd, const char *path, Warren__FileInfo *m);
/* Bytes that are not UTF-8 become '?'. */
void agent_walk_clean(char *text);
