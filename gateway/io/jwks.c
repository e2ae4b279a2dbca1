#include "gateway/io/jwks.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/buf.h"

enum { ANSWER_BYTES_MAX = 1 << 20, TIMEOUT_S = 5 };

struct sock {
    ev_io io;
    struct sock *next;
};

struct gw_jwks {
    struct gw_jwks_options opt;
    CURLM *multi;
    CURL *easy;
    ev_timer timer;
    struct sock *socks;
    struct base_buf body;
    char error[CURL_ERROR_SIZE];
    bool running;
};

static size_t on_body(char *data, size_t size, size_t n, void *user)
{
    struct gw_jwks *j = user;
    (void)size; /* always 1 */
    bool fits = base_buf_size(&j->body) + n <= ANSWER_BYTES_MAX;
    return fits && base_buf_add(&j->body, data, n) == 0 ? n : 0;
}

/* Outside of libcurl's callbacks only: the owner may begin the next fetch at once. */
static void finish(struct gw_jwks *j)
{
    int left = 0;
    CURLMsg *m = NULL;
    while ((m = curl_multi_info_read(j->multi, &left)) != NULL && m->msg != CURLMSG_DONE) {
    }
    if (m == NULL) {
        return;
    }
    CURLcode rc = m->data.result;
    long status = 0;
    char text[CURL_ERROR_SIZE + 16];
    (void)curl_easy_getinfo(j->easy, CURLINFO_RESPONSE_CODE, &status);
    (void)curl_multi_remove_handle(j->multi, j->easy);
    j->running = false;
    struct base_buf body = j->body;
    j->body = (struct base_buf){0};
    bool good = rc == CURLE_OK && status == 200;
    if (rc != CURLE_OK) {
        (void)snprintf(
            text, sizeof text, "%s", j->error[0] == '\0' ? curl_easy_strerror(rc) : j->error);
    } else {
        (void)snprintf(text, sizeof text, "status %ld", status);
    }
    j->opt.done(j->opt.owner, good ? (const char *)base_buf_data(&body) : NULL,
        good ? base_buf_size(&body) : 0, text);
    base_buf_deinit(&body);
}

static void on_io(struct ev_loop *loop, ev_io *w, int revents)
{
    (void)loop;
    struct gw_jwks *j = w->data;
    int running = 0;
    int mask = ((revents & EV_READ) != 0 ? CURL_CSELECT_IN : 0) |
               ((revents & EV_WRITE) != 0 ? CURL_CSELECT_OUT : 0);
    (void)curl_multi_socket_action(j->multi, w->fd, mask, &running); /* w may be gone after it */
    finish(j);
}

static void on_timeout(struct ev_loop *loop, ev_timer *w, int revents)
{
    (void)loop;
    (void)revents;
    struct gw_jwks *j = w->data;
    int running = 0;
    (void)curl_multi_socket_action(j->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    finish(j);
}

static void forget(struct gw_jwks *j, struct sock *k)
{
    struct sock **p = &j->socks;
    while (*p != k) {
        p = &(*p)->next;
    }
    *p = k->next;
    ev_io_stop(j->opt.loop, &k->io);
    free(k);
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *user, void *of_socket)
{
    (void)easy;
    struct gw_jwks *j = user;
    struct sock *k = of_socket;
    if (what == CURL_POLL_REMOVE) {
        if (k != NULL) {
            forget(j, k);
        }
        return 0;
    }
    if (k == NULL) {
        k = calloc(1, sizeof *k);
        if (k == NULL) {
            return -1; /* libcurl gives the transfer up */
        }
        ev_init(&k->io, on_io);
        k->io.data = j;
        k->next = j->socks;
        j->socks = k;
        (void)curl_multi_assign(j->multi, fd, k);
    }
    ev_io_stop(j->opt.loop, &k->io);
    ev_io_set(&k->io, fd,
        ((what & CURL_POLL_IN) != 0 ? EV_READ : 0) | ((what & CURL_POLL_OUT) != 0 ? EV_WRITE : 0));
    ev_io_start(j->opt.loop, &k->io);
    return 0;
}

static int on_wanted_timeout(CURLM *multi, long timeout_ms, void *user)
{
    (void)multi;
    struct gw_jwks *j = user;
    ev_timer_stop(j->opt.loop, &j->timer);
    if (timeout_ms >= 0) {
        ev_timer_set(&j->timer, (double)timeout_ms / 1000, 0);
        ev_timer_start(j->opt.loop, &j->timer);
    }
    return 0;
}

static void set_options(struct gw_jwks *j)
{
    CURL *c = j->easy;
    curl_easy_setopt(c, CURLOPT_URL, j->opt.url); /* libcurl copies texts */
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_NOPROXY, "127.0.0.1,localhost,::1");
    curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "warren-gateway");
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_TIMEOUT, (long)TIMEOUT_S);
    curl_easy_setopt(c, CURLOPT_MAXFILESIZE, (long)ANSWER_BYTES_MAX);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, j);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, j->error);
    if (j->opt.ca != NULL) {
        curl_easy_setopt(c, CURLOPT_CAINFO, j->opt.ca);
    }
    curl_multi_setopt(j->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(j->multi, CURLMOPT_SOCKETDATA, j);
    curl_multi_setopt(j->multi, CURLMOPT_TIMERFUNCTION, on_wanted_timeout);
    curl_multi_setopt(j->multi, CURLMOPT_TIMERDATA, j);
}

bool gw_jwks_start(struct gw_jwks *j)
{
    if (!j->running) {
        j->error[0] = '\0';
        base_buf_deinit(&j->body);
        j->running = curl_multi_add_handle(j->multi, j->easy) == CURLM_OK;
    }
    return j->running;
}

bool gw_jwks_running(const struct gw_jwks *j)
{
    return j->running;
}

int gw_jwks_create(struct gw_jwks **ret, const struct gw_jwks_options *opt, struct base_error *err)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        return base_fail(err, BASE_ENOMEM, "libcurl cannot start");
    }
    struct gw_jwks *j = calloc(1, sizeof *j);
    if (j == NULL) {
        curl_global_cleanup();
        return base_fail(err, BASE_ENOMEM, "fetch '%s'", opt->url);
    }
    j->opt = *opt;
    ev_init(&j->timer, on_timeout);
    j->timer.data = j;
    j->multi = curl_multi_init();
    j->easy = curl_easy_init();
    if (j->multi == NULL || j->easy == NULL) {
        gw_jwks_destroy(j);
        return base_fail(err, BASE_ENOMEM, "fetch '%s'", opt->url);
    }
    set_options(j);
    *ret = j;
    return 0;
}

void gw_jwks_destroy(struct gw_jwks *j)
{
    if (j == NULL) {
        return;
    }
    if (j->running) {
        (void)curl_multi_remove_handle(j->multi, j->easy);
    }
    curl_easy_cleanup(j->easy);
    (void)curl_multi_cleanup(j->multi); /* takes its sockets and its timer back */
    while (j->socks != NULL) {
        forget(j, j->socks);
    }
    ev_timer_stop(j->opt.loop, &j->timer);
    base_buf_deinit(&j->body);
    free(j);
    curl_global_cleanup();
}
