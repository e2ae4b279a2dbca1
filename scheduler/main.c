/* warren-scheduler: a voter. Grants leases to workers and agrees with the other voters on who is a
 * member; sees no request and no session. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "scheduler/io/voter_node.h"

enum { FD_READY_MAX = 1024 };

static const char usage[] =
    "usage: warren-scheduler --config FILE [--birth] [--log-level LEVEL] [--ready-fd N]\n"
    "\n"
    "A voter of a cluster: grants leases to workers, agrees with the other voters on the members.\n"
    "\n"
    "  --config FILE      cluster.yaml (`warren cluster init` and `join` write it)\n"
    "  --birth            first start of a new cluster: every voter starts once with it. Without "
    "a\n"
    "                     store and without --birth a voter asks the others for what it has lost\n"
    "  --log-level LEVEL  error, warn, info or debug\n"
    "  --ready-fd N       write {\"event\":\"ready\",...} or {\"event\":\"failed\",...} there\n"
    "  --version          print the version\n"
    "  --help             print this\n"
    "\n"
    "SIGTERM and SIGINT say goodbye to the others and end it; SIGHUP reads the gossip keys "
    "again.\n";

struct scheduler {
    struct ev_loop *loop;
    struct base_log log;
    struct sched_settings *settings;
    struct sched_voter_node *voter;
    ev_signal term, interrupt, hangup;
    ev_timer patience;
    int ready_fd;
    bool birth, stopping, failed;
    enum base_log_level level;
    bool has_level;
};

/* The text has no quotes and no controls: file names of odd kinds are not worth more here. */
static void tell(const struct scheduler *s, const char *event, const char *text)
{
    char line[400];
    int n = snprintf(line, sizeof line - 4, "{\"event\":\"%s\",\"text\":\"", event);
    for (const char *p = text; *p != '\0' && n < (int)sizeof line - 8; p++) {
        line[n++] = *p == '"' || *p == '\\' || (unsigned char)*p < 0x20 ? '\'' : *p;
    }
    n += snprintf(line + n, sizeof line - (size_t)n, "\"}\n");
    if (s->ready_fd >= 0) {
        (void)!write(s->ready_fd, line, (size_t)n);
    }
}

static void on_failed(void *user, const char *why)
{
    struct scheduler *s = user;
    LOG_ERROR(&s->log, "the store failed, ending: %s", why);
    s->failed = true;
    ev_break(s->loop, EVBREAK_ALL);
}

static void on_left(void *user)
{
    struct scheduler *s = user;
    if (s->stopping) {
        ev_break(s->loop, EVBREAK_ALL);
    }
}

static void on_patience(struct ev_loop *loop, ev_timer *w, int events)
{
    (void)w;
    (void)events;
    ev_break(loop, EVBREAK_ALL);
}

static void on_stop(struct ev_loop *loop, ev_signal *w, int events)
{
    (void)events;
    struct scheduler *s = w->data;
    if (s->stopping) { /* asked twice: at once */
        ev_break(loop, EVBREAK_ALL);
        return;
    }
    LOG_INFO(&s->log, "stopping");
    s->stopping = true;
    ev_timer_init(&s->patience, on_patience, 3., 0.);
    ev_timer_start(loop, &s->patience);
    sched_voter_node_leave(s->voter);
}

static void on_hangup(struct ev_loop *loop, ev_signal *w, int events)
{
    (void)loop;
    (void)events;
    struct scheduler *s = w->data;
    struct base_error err;
    if (sched_voter_node_rekey(s->voter, &err) == 0) {
        LOG_INFO(&s->log, "gossip keys read again");
    } else {
        LOG_ERROR(&s->log, "the gossip keys stay: %s", err.text);
    }
}

static int start(struct scheduler *s, const char *config, struct base_error *err)
{
    int rc = sched_settings_load(config, &s->settings, err);
    if (rc != 0) {
        return rc;
    }
    s->log.level = s->has_level ? s->level : s->settings->log_level;
    if (mkdir(s->settings->state_dir, 0700) != 0 && errno != EEXIST) {
        return base_fail(err, -errno, "make '%s': %s", s->settings->state_dir, strerror(errno));
    }
    struct sched_voter_node_cfg c = {.loop = s->loop,
        .log = &s->log,
        .settings = s->settings,
        .birth = s->birth,
        .on_failed = on_failed,
        .on_left = on_left,
        .user = s};
    return sched_voter_node_create(&s->voter, &c, err);
}

static void watch(struct scheduler *s, ev_signal *w, int number,
    void (*fn)(struct ev_loop *loop, ev_signal *w, int events))
{
    ev_signal_init(w, fn, number);
    w->data = s;
    ev_signal_start(s->loop, w);
}

static int parse(int argc, char **argv, struct scheduler *s, const char **ret_config)
{
    static const struct option all[] = {{"config", required_argument, NULL, 'c'},
        {"birth", no_argument, NULL, 'b'}, {"log-level", required_argument, NULL, 'l'},
        {"ready-fd", required_argument, NULL, 'r'}, {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    int o;
    while ((o = getopt_long(argc, argv, "", all, NULL)) != -1) {
        char *end = NULL;
        long fd = o == 'r' ? strtol(optarg, &end, 10) : 0;
        if (o == 'c') {
            *ret_config = optarg;
        } else if (o == 'b') {
            s->birth = true;
        } else if (o == 'l' && base_log_parse(optarg, &s->level)) {
            s->has_level = true;
        } else if (o == 'r' && *end == '\0' && fd >= 0 && fd < FD_READY_MAX) {
            s->ready_fd = (int)fd;
            (void)fcntl(s->ready_fd, F_SETFD, FD_CLOEXEC);
        } else if (o == 'v' || o == 'h') {
            (void)fputs(o == 'v' ? "warren-scheduler " WARREN_VERSION "\n" : usage, stdout);
            exit(EXIT_SUCCESS);
        } else {
            return -1;
        }
    }
    return *ret_config != NULL && optind == argc ? 0 : -1;
}

int main(int argc, char **argv)
{
    struct scheduler s = {.ready_fd = -1};
    const char *config = NULL;
    if (parse(argc, argv, &s, &config) != 0) {
        (void)fputs(usage, stderr);
        return 2;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    base_log_init(&s.log, "warren-scheduler", STDERR_FILENO);
    s.loop = ev_default_loop(EVBACKEND_EPOLL | EVFLAG_NOENV);
    watch(&s, &s.term, SIGTERM, on_stop);
    watch(&s, &s.interrupt, SIGINT, on_stop);
    struct base_error err;
    int rc = start(&s, config, &err);
    if (rc != 0) {
        LOG_ERROR(&s.log, "cannot start: %s", err.text);
        tell(&s, "failed", err.text);
    } else {
        watch(&s, &s.hangup, SIGHUP, on_hangup);
        LOG_INFO(&s.log, "ready name=%s endpoint=%s", s.settings->name,
            sched_voter_node_endpoint(s.voter));
        tell(&s, "ready", sched_voter_node_endpoint(s.voter));
        ev_run(s.loop, 0);
    }
    sched_voter_node_destroy(s.voter);
    sched_settings_destroy(s.settings);
    return rc != 0 || s.failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
