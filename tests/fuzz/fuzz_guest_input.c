/* Bytes from a host on both ports of the agent: frames, messages, streams, file operations. Code is
 * not run: what would be submitted to an interpreter ends at once. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/base/rand.h"
#include "worker/guest/agent.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { INPUT_MAX = 64 << 10 };

static struct agent a;
static char folder[] = "/tmp/warren-fuzz-XXXXXX";

static void on_submit(void *owner, struct agent_exec *e)
{
    (void)owner;
    Warren__GuestEvent ev = WARREN__GUEST_EVENT__INIT;
    Warren__GuestDone done = WARREN__GUEST_DONE__INIT;
    agent_exec_start(e);
    ev.kind = WARREN__EVENT_KIND__EVENT_STDOUT;
    ev.data.data = base_buf_data(&e->code);
    ev.data.len = base_buf_size(&e->code);
    (void)agent_exec_emit(e, &ev);
    agent_exec_finish(e, &done);
}

static void on_acked(void *owner, struct agent_exec *e)
{
    (void)owner;
    (void)e;
}

static const struct agent_execs_ops ops = {.submit = on_submit, .acked = on_acked};

static void remove_folder(void)
{
    char command[64];
    (void)snprintf(command, sizeof command, "rm -rf %s", folder);
    (void)!system(command);
}

static void open_agent(int fds[2])
{
    int ctl[2], bulk[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ctl) != 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, bulk) != 0) {
        abort();
    }
    memset(&a, 0, sizeof a);
    base_log_init(&a.log, "guest", 2);
    a.config = (struct agent_config){.data_dir = folder,
        .home_dir = folder,
        .state_dir = folder,
        .kernels_dir = "/nonexistent",
        .uid = (uid_t)-1};
    if (agent_init(&a) != 0 || agent_port_open(&a.ctl, &a.loop, ctl[0]) != 0 ||
        agent_port_open(&a.bulk, &a.loop, bulk[0]) != 0) {
        abort();
    }
    a.execs.ops = &ops;
    /* Absolute paths must not leave the folder either: this is not a microVM. */
    (void)close(a.files.root_fd);
    a.files.root_fd = dup(a.files.data_fd);
    for (int i = 0; i < AGENT_RUNNER_KERNELS; i++) {
        a.runner.kernel[i].state = AGENT_KERNEL_STARTING; /* so that a seed starts none */
    }
    for (int i = 0; i < AGENT_TERMINALS_MAX; i++) {
        a.terminals.terminal[i].pid = -1; /* nor does a terminal start a shell */
    }
    fds[0] = ctl[1];
    fds[1] = bulk[1];
}

static void feed(int fd, const uint8_t *data, size_t n)
{
    uint8_t hello[PROTO_FRAME_HEAD + 8] = {0};
    proto_frame_head(hello, PROTO_FRAME_HELLO, 0, 8);
    (void)!write(fd, hello, sizeof hello);
    (void)!write(fd, data, n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static uint8_t sink[1 << 20];
    static bool made;
    int fds[2];
    if (n < 1 || n > INPUT_MAX) {
        return 0;
    }
    if (!made) {
        if (mkdtemp(folder) == NULL || atexit(remove_folder) != 0) {
            abort();
        }
        made = true;
    }
    open_agent(fds);
    size_t first = (n - 1) * data[0] / 255;
    feed(fds[0], data + 1, first);
    feed(fds[1], data + 1 + first, n - 1 - first);
    for (int i = 0; i < 6; i++) {
        a.loop.again = true; /* do not wait */
        agent_loop_turn(&a.loop);
        agent_port_read(&a.ctl);
        agent_port_flush(&a.ctl);
        agent_port_read(&a.bulk);
        agent_port_flush(&a.bulk);
        (void)!read(fds[0], sink, sizeof sink);
        (void)!read(fds[1], sink, sizeof sink);
    }
    agent_deinit(&a);
    (void)close(fds[0]);
    (void)close(fds[1]);
    return 0;
}
