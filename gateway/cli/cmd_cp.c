#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/cli/api.h"
#include "gateway/cli/command.h"
#include "gateway/cli/file.h"
#include "gateway/cli/place.h"
#include "proto/base/cleanup.h"
#include "proto/base/clock.h"

struct copy {
    const struct cli *cli;
    const char *label; /* what the progress line calls it */
    bool timing;
    bool tty;
    uint64_t started_ns, shown_ns;
    FILE *to; /* download */
    int64_t bytes;
    bool write_failed;
};

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

static void on_progress(void *user, int64_t down, int64_t up, int64_t total)
{
    struct copy *c = user;
    uint64_t now = base_clock_mono_ns();
    int64_t done = up > down ? up : down;
    if (!c->tty || now - c->shown_ns < 100 * BASE_NS_PER_MS) {
        return;
    }
    c->shown_ns = now;
    double mib = (double)done / 1048576, s = (double)(now - c->started_ns) / 1e9;
    (void)fprintf(stderr, "\r%s  %.1f MiB", c->label, mib);
    if (total > 0) {
        (void)fprintf(stderr, " of %.1f MiB", (double)total / 1048576);
    }
    (void)fprintf(stderr, "  %.1f MiB/s\x1b[K", s > 0 ? mib / s : 0.0);
}

static void finish_line(struct copy *c)
{
    if (c->shown_ns != 0) {
        (void)fprintf(stderr, "\r\x1b[K");
    }
}

static void say_done(struct copy *c, const char *what, const struct cli_answer *a)
{
    double mib = (double)c->bytes / 1048576, s = (double)a->request_us / 1e6;
    finish_line(c);
    if (c->cli->json) {
        json_t *doc = json_pack("{s:s, s:I, s:f}", "file", c->label, "bytes", (json_int_t)c->bytes,
            "requestMs", s * 1e3);
        /* The file itself may be on stdout. */
        (void)json_dumpf(doc, c->to == stdout ? stderr : stdout, JSON_COMPACT);
        (void)fputc('\n', c->to == stdout ? stderr : stdout);
        json_decref(doc);
    } else if (c->timing) {
        (void)fprintf(stderr, "timing: request %.1f ms, with connection %.1f ms\n",
            (double)a->request_us / 1e3, (double)a->total_us / 1e3);
    }
    cli_note(c->cli, "%s %s: %lld bytes, %.1f MiB/s", what, c->label, (long long)c->bytes,
        s > 0 ? mib / s : 0.0);
}

static size_t read_stream(char *to, size_t size, size_t n, void *user)
{
    struct copy *c = user;
    ssize_t got;
    do {
        got = read(STDIN_FILENO, to, size * n);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        return CURL_READFUNC_ABORT;
    }
    c->bytes += got;
    return (size_t)got;
}

/* One multipart part "file" that libcurl reads while it sends. NULL when memory is out. */
static curl_mime *make_mime(
    struct cli_api *api, const struct cli_place *from, const char *name, struct copy *c)
{
    curl_mime *mime = curl_mime_init(api->curl);
    curl_mimepart *part = mime == NULL ? NULL : curl_mime_addpart(mime);
    bool ok =
        part != NULL && curl_mime_name(part, "file") == CURLE_OK &&
        (from->kind == CLI_PLACE_STREAM ? curl_mime_data_cb(part, -1, read_stream, NULL, NULL, c)
                                        : curl_mime_filedata(part, from->local)) == CURLE_OK &&
        curl_mime_filename(part, name) == CURLE_OK &&
        curl_mime_type(part, "application/octet-stream") == CURLE_OK;
    if (!ok) {
        curl_mime_free(mime);
        return NULL;
    }
    return mime;
}

static int upload(
    struct cli_api *api, const struct cli_place *from, const struct cli_place *to, struct copy *c)
{
    const char *name = to->name[0] != '\0'             ? to->name
                       : from->kind == CLI_PLACE_LOCAL ? base_name(from->local)
                                                       : "";
    struct stat st = {0};
    if (name[0] == '\0') {
        return cli_fail(c->cli, CLI_USAGE, "like ID:/data.csv", "the target needs a file name");
    }
    if (from->kind == CLI_PLACE_LOCAL) {
        if (stat(from->local, &st) != 0 || access(from->local, R_OK) != 0) {
            return cli_fail(
                c->cli, CLI_LOCAL, NULL, "cannot read '%s': %s", from->local, strerror(errno));
        }
        if (S_ISDIR(st.st_mode)) {
            return cli_fail(c->cli, CLI_USAGE, "pack it: tar -cz DIR | warren cp - ID:/dir.tgz",
                "'%s' is a folder", from->local);
        }
        c->bytes = st.st_size;
    }
    c->label = name;
    curl_mime *mime = make_mime(api, from, name, c);
    if (mime == NULL) {
        return cli_fail(c->cli, CLI_LOCAL, NULL, "out of memory");
    }
    struct cli_request request = {.method = "POST",
        .path = "/files",
        .query = {{"identifier", to->identifier}, {"path", to->directory}},
        .mime = mime,
        .progress = on_progress,
        .user = c};
    struct cli_answer answer;
    cli_api_call(api, &request, &answer);
    int rc = cli_api_check(api, &answer);
    if (rc == 0) {
        say_done(c, "uploaded", &answer);
    }
    cli_answer_deinit(&answer);
    curl_mime_free(mime);
    return rc;
}

static bool on_data(void *user, const void *data, size_t n)
{
    struct copy *c = user;
    if (fwrite(data, 1, n, c->to) != n) {
        c->write_failed = true;
        return false;
    }
    c->bytes += (int64_t)n;
    return true;
}

/* Final name of a download: a folder gets the file's own name. */
static int target_path(const char *local, const char *name, char out[CLI_PATH_MAX])
{
    struct stat st;
    size_t n = strlen(local);
    bool folder = local[n - 1] == '/' || (stat(local, &st) == 0 && S_ISDIR(st.st_mode));
    int len = folder ? snprintf(out, CLI_PATH_MAX, "%s/%s", local, name)
                     : snprintf(out, CLI_PATH_MAX, "%s", local);
    return len > 0 && len < CLI_PATH_MAX ? 0 : BASE_ETOOBIG;
}

static int fetch(struct cli_api *api, const struct cli_place *from, struct copy *c)
{
    char *name = cli_api_segment(api, from->name);
    char path[3 * PROTO_PATH_BYTES_MAX + 32];
    if (name == NULL) {
        return cli_fail(c->cli, CLI_LOCAL, NULL, "out of memory");
    }
    (void)snprintf(path, sizeof path, "/files/%s/content", name);
    curl_free(name);
    struct cli_request request = {.method = "GET",
        .path = path,
        .query = {{"identifier", from->identifier}, {"path", from->directory}},
        .sink = on_data,
        .progress = on_progress,
        .user = c};
    struct cli_answer answer;
    cli_api_call(api, &request, &answer);
    int rc;
    if (c->write_failed) {
        rc = cli_fail(c->cli, CLI_LOCAL, NULL, "cannot write: %s", strerror(errno));
    } else {
        rc = cli_api_check(api, &answer);
    }
    if (rc == 0 && fflush(c->to) != 0) {
        rc = cli_fail(c->cli, CLI_LOCAL, NULL, "cannot write: %s", strerror(errno));
    }
    if (rc == 0) {
        say_done(c, "downloaded", &answer);
    }
    cli_answer_deinit(&answer);
    return rc;
}

/* Into a file beside the target first: a broken transfer leaves an older file as it was. */
static int download_file(
    struct cli_api *api, const struct cli_place *from, const char *local, struct copy *c)
{
    char path[CLI_PATH_MAX], temp[CLI_PATH_MAX + 16];
    if (target_path(local, from->name, path) != 0) {
        return cli_fail(c->cli, CLI_USAGE, NULL, "the target path is too long");
    }
    (void)snprintf(temp, sizeof temp, "%s.XXXXXX", path);
    int fd = mkostemp(temp, O_CLOEXEC);
    if (fd < 0) {
        return cli_fail(c->cli, CLI_LOCAL, NULL, "cannot write '%s': %s", path, strerror(errno));
    }
    mode_t mask = umask(0);
    (void)umask(mask);
    (void)fchmod(fd, 0666 & ~mask);
    c->to = fdopen(fd, "wb");
    if (c->to == NULL) {
        (void)close(fd);
        (void)unlink(temp);
        return cli_fail(c->cli, CLI_LOCAL, NULL, "out of memory");
    }
    int rc = fetch(api, from, c);
    bool closed = fclose(c->to) == 0;
    if (rc == 0 && (!closed || rename(temp, path) != 0)) {
        rc = cli_fail(c->cli, CLI_LOCAL, NULL, "cannot write '%s': %s", path, strerror(errno));
    }
    if (rc != 0) {
        (void)unlink(temp);
    }
    return rc;
}

static int download(
    struct cli_api *api, const struct cli_place *from, const struct cli_place *to, struct copy *c)
{
    if (from->name[0] == '\0') {
        return cli_fail(c->cli, CLI_USAGE, "name one file: ID:/name", "folders cannot be copied");
    }
    c->label = from->name;
    if (to->kind == CLI_PLACE_STREAM) {
        c->to = stdout;
        return fetch(api, from, c);
    }
    return download_file(api, from, to->local, c);
}

static int run(struct cli *cli, const struct cli_command *self, int argc, char *const argv[])
{
    const char *id = NULL;
    struct copy c = {.cli = cli};
    const struct cli_option own[] = {
        {"id", 0, CLI_OPTION_TEXT, &id, "ID", "the session, for a path written as :/path", 0, 0},
        {"timing", 0, CLI_OPTION_FLAG, &c.timing, NULL, "say on stderr how long it took", 0, 0},
        {0},
    };
    struct cli_args args;
    int rc = cli_command_read(cli, self, own, argc, argv, &args);
    if (rc != CLI_GO_ON) {
        return rc;
    }
    if (args.n != 2) {
        return cli_command_wrong(cli, self, "a source and a target are needed");
    }
    struct base_error err = {0};
    struct cli_place from, to;
    if (cli_place_parse(args.v[0], id, &from, &err) != 0 ||
        cli_place_parse(args.v[1], id, &to, &err) != 0) {
        return cli_command_wrong(cli, self, "%s", err.text);
    }
    if ((from.kind == CLI_PLACE_SESSION) == (to.kind == CLI_PLACE_SESSION)) {
        return cli_command_wrong(cli, self, "exactly one of the two must be ID:/path");
    }
    struct cli_api api;
    rc = cli_api_open(cli, &api);
    if (rc != 0) {
        return rc;
    }
    c.tty = isatty(STDERR_FILENO) == 1 && !cli->quiet && !cli->json;
    c.started_ns = base_clock_mono_ns();
    rc = to.kind == CLI_PLACE_SESSION ? upload(&api, &from, &to, &c)
                                      : download(&api, &from, &to, &c);
    cli_api_close(&api);
    return rc;
}

const struct cli_command cli_cmd_cp = {
    .name = "cp",
    .summary = "copy a file into or out of a session",
    .usage = "cp [--id ID] SOURCE TARGET",
    .text = "One of the two is ID:/path, a file below /mnt/data of the session; the other is a "
            "file here\n"
            "or - (stdin, stdout). Files are streamed, their size does not matter for memory. A "
            "local name\n"
            "with a colon is written ./a:b. The identifier ends at the last colon.\n",
    .examples = "  warren cp sales.csv demo-0001:/sales.csv\n"
                "  warren cp demo-0001:/out/plot.png .\n"
                "  tar -cz src | warren cp - demo-0001:/src.tgz\n"
                "  warren cp demo-0001:/log.txt - | tail\n",
    .connects = true,
    .run = run,
};
