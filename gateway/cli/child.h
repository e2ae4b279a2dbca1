#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "gateway/cli/file.h"
#include "proto/base/err.h"

/* One daemon under `warren up`: how it is started, what it says on its ready pipe, when it is
 * started again. No loop in here: supervise.c has it. */

enum cli_child_event {
    CLI_CHILD_NONE,     /* nothing to tell */
    CLI_CHILD_PROGRESS, /* text: what it is doing */
    CLI_CHILD_READY,
    CLI_CHILD_FAILED, /* text: why it gives up */
};

enum {
    CLI_CHILD_LINE_MAX = 4096,
    CLI_CHILD_TEXT_MAX = 512,
    CLI_CHILD_LEFT = 3, /* exit code of a daemon that was told to leave: it stays ended */
};

struct cli_child {
    const char *name;  /* "worker" */
    const char *extra; /* one more option, or NULL */
    char program[CLI_PATH_MAX];
    char config[CLI_PATH_MAX];
    char log[CLI_PATH_MAX];        /* "": stderr of `warren up` */
    pid_t pid;                     /* 0: does not run */
    int ready_fd;                  /* -1: closed */
    bool ready;                    /* since its last start */
    char line[CLI_CHILD_LINE_MAX]; /* of the ready pipe, not yet complete */
    size_t line_len;
    char reason[CLI_CHILD_TEXT_MAX]; /* of its last FAILED event, "" for none */
    char said[CLI_CHILD_TEXT_MAX];   /* last progress that was shown, without its seconds */
    uint64_t said_ns;
    uint32_t failures;       /* deaths in a row without a long healthy run */
    uint64_t started_ns;     /* monotonic */
    uint64_t start_again_ns; /* when to start it again, 0: not planned */
};

/* Path of a program of ours: beside this one, in ../libexec/warren, or in PATH. */
int cli_child_find(const char *program, char ret[CLI_PATH_MAX], struct base_error *err);

/* Starts it in its own process group with --config and --ready-fd. It gets SIGTERM when this
 * process dies, so that nothing is left when `warren up` is killed. */
int cli_child_start(struct cli_child *c, uint64_t now_ns, struct base_error *err);

/* Reads what is there. Returns one event (call again until NONE), text is filled for it.
 * The pipe's end closes ready_fd. */
enum cli_child_event cli_child_read(struct cli_child *c, char text[CLI_CHILD_TEXT_MAX]);

/* One line of the ready pipe. Pure; a line that is not understood is NONE. */
enum cli_child_event cli_child_parse(const char *line, size_t n, char text[CLI_CHILD_TEXT_MAX]);

/* Whether a progress text is worth a line: it says something new, or the same with another number
 * of seconds at its end (", 12 s") after 10 s of silence. Pure. */
bool cli_child_is_news(struct cli_child *c, const char *text, uint64_t now_ns);

/* It has died: plans the next start. Pure. Wait doubles from 200 ms to 10 s and starts over after
 * a minute of health. Returns the wait in ms. */
uint32_t cli_child_died(struct cli_child *c, uint64_t now_ns);

/* "exit code 3" or "signal 9 (Killed)". */
void cli_child_status(int wait_status, char text[CLI_CHILD_TEXT_MAX]);

/* The last lines of its log file (at most n bytes), the caller frees; NULL when there is none. */
char *cli_child_log_tail(const struct cli_child *c, size_t n);
