#include "worker/io/ready.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void worker_ready_tell(struct worker_ready *r, const char *event, const char *text)
{
    if (r->fd < 0) {
        return;
    }
    json_t *line = text == NULL ? json_pack("{s:s}", "event", event)
                                : json_pack("{s:s,s:s}", "event", event, "text", text);
    char *out = line == NULL ? NULL : json_dumps(line, JSON_COMPACT);
    json_decref(line);
    if (out != NULL) {
        size_t n = strlen(out);
        out[n] = '\n'; /* in place of the terminator */
        if (write(r->fd, out, n + 1) < 0) {
            r->fd = -1; /* the reader is gone; it has no more use for us */
        }
        free(out);
    }
}
