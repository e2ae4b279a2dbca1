#pragma once
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Cleanup attributes for code at the edge (system calls). Cores do not use them.
 *
 *     CLEANUP(base_closep) int fd = open(...);
 *     ...
 *     *ret_fd = TAKE_FD(fd);      from here on the caller's
 */
#define CLEANUP(fn) __attribute__((cleanup(fn)))

#define TAKE_FD(fd)                                                                                \
    ({                                                                                             \
        int fd_ = (fd);                                                                            \
        (fd) = -1;                                                                                 \
        fd_;                                                                                       \
    })

#define TAKE_PTR(p)                                                                                \
    ({                                                                                             \
        __typeof__(p) p_ = (p);                                                                    \
        (p) = NULL;                                                                                \
        p_;                                                                                        \
    })

/* NOLINTNEXTLINE(readability-non-const-parameter): the attribute passes a plain pointer */
static inline void base_closep(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
    }
}

static inline void base_freep(void *p)
{
    free(*(void **)p);
}

static inline void base_fclosep(FILE **f)
{
    if (*f != NULL) {
        (void)fclose(*f);
    }
}
