#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/guest.pb-c.h"
#include "proto/limits.h"

/* What an interpreter writes to its reply pipe. User code can write there too, so every byte is
 * checked. A message is a line and a body:
 *
 *     verb SP body-length [SP words] LF body
 *
 *     ready 0          loaded
 *     seeded 0         generators are reseeded
 *     show N           as display, and the interpreter waits for the request "shown"
 *     display N, result N     body: parts, each "type SP length LF bytes"; none: the value is None
 *     error N          body: name NUL value NUL traceback
 *     done 0 WORD CODE SERIAL WORD is ok, error, interrupted; CODE the exit code
 *     started 0 PID    (fork server) the interpreter is this process */

enum agent_kernel_verb {
    AGENT_KERNEL_READY = 1,
    AGENT_KERNEL_SEEDED,
    AGENT_KERNEL_DISPLAY,
    AGENT_KERNEL_SHOW,
    AGENT_KERNEL_RESULT,
    AGENT_KERNEL_ERROR,
    AGENT_KERNEL_DONE,
    AGENT_KERNEL_STARTED,
};

enum {
    AGENT_KERNEL_HEAD_MAX = 96,
    AGENT_KERNEL_MIME_MAX = 32,
    AGENT_KERNEL_TEXT_MAX = 64 << 10, /* name and value of an error */
};

struct agent_kernel_msg {
    enum agent_kernel_verb verb;
    Warren__DoneStatus status; /* done */
    int64_t number;            /* done: exit code; started: pid */
    int64_t serial;            /* done: of the exec request that it answers */
    const uint8_t *body;       /* into the caller's bytes */
    size_t body_len;
    size_t total; /* bytes of the whole message */
};

/* Looks at the front of n bytes. 1: *m is set; 0: more bytes are needed; BASE_EBADMSG. */
int agent_kernel_msg_parse(const uint8_t *data, size_t n, struct agent_kernel_msg *m);

/* Parts of a display or result body; bytes stay in the body, types are copied. At most
 * AGENT_KERNEL_MIME_MAX parts. The count, or BASE_EBADMSG. */
struct agent_kernel_mime {
    Warren__GuestMime part[AGENT_KERNEL_MIME_MAX];
    Warren__GuestMime *list[AGENT_KERNEL_MIME_MAX];
    char types[AGENT_KERNEL_MIME_MAX][96];
};
int agent_kernel_msg_mime(const struct agent_kernel_msg *m, struct agent_kernel_mime *out);

/* Splits an error body; the strings are terminated inside the body. BASE_EBADMSG when it is not so.
 */
int agent_kernel_msg_error(const struct agent_kernel_msg *m, const char **name, const char **value,
    ProtobufCBinaryData *tb);
