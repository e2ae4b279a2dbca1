#pragma once

/* Tells whoever started the daemon how far it is: JSON lines on a descriptor,
 * {"event":"progress","text":...}, {"event":"ready"}, {"event":"failed","text":...}. */
struct worker_ready {
    int fd; /* -1: nobody listens */
};

void worker_ready_tell(struct worker_ready *r, const char *event, const char *text);
