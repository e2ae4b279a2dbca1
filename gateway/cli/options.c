#include "gateway/cli/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_MAX_LEN = 32 };

bool cli_options_time(const char *text, uint32_t *ret_s)
{
    static const struct {
        char letter;
        uint32_t s;
    } unit[] = {{'d', 86400}, {'h', 3600}, {'m', 60}, {'s', 1}};
    uint64_t sum = 0;
    size_t next_unit = 0; /* units may only get smaller */
    if (*text == '\0') {
        return false;
    }
    while (*text != '\0') {
        uint64_t n = 0;
        const char *start = text;
        for (; *text >= '0' && *text <= '9' && n <= UINT32_MAX; text++) {
            n = n * 10 + (uint64_t)(*text - '0');
        }
        if (text == start) {
            return false;
        }
        size_t u = next_unit;
        if (*text == '\0') {
            if (next_unit > 0) {
                return false; /* "1h30": the 30 could mean anything */
            }
            u = 3;
        } else {
            while (u < 4 && unit[u].letter != *text) {
                u++;
            }
            if (u == 4) {
                return false;
            }
            text++;
        }
        next_unit = u + 1;
        sum += n * unit[u].s;
        if (sum > UINT32_MAX) {
            return false;
        }
    }
    *ret_s = (uint32_t)sum;
    return true;
}

/* Edit distance of two short texts; texts that are too long count as far apart. */
static size_t distance(const char *a, const char *b)
{
    size_t na = strnlen(a, NAME_MAX_LEN + 1), nb = strnlen(b, NAME_MAX_LEN + 1);
    if (na > NAME_MAX_LEN || nb > NAME_MAX_LEN) {
        return NAME_MAX_LEN;
    }
    size_t row[NAME_MAX_LEN + 1];
    for (size_t j = 0; j <= nb; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= na; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            best = best < row[j] + 1 ? best : row[j] + 1;
            row[j] = best < row[j - 1] + 1 ? best : row[j - 1] + 1;
        }
    }
    return row[nb];
}

const char *cli_options_nearest(const char *text, const char *const names[], size_t n)
{
    const char *best = NULL;
    size_t best_distance = strlen(text) / 3 + 2; /* farther than this is no typing error */
    for (size_t i = 0; i < n; i++) {
        size_t d = distance(text, names[i]);
        if (d < best_distance) {
            best = names[i];
            best_distance = d;
        }
    }
    return best;
}

static const struct cli_option *find(
    const struct cli_option *const tables[], const char *name, size_t n)
{
    for (; *tables != NULL; tables++) {
        for (const struct cli_option *o = *tables; o->name != NULL; o++) {
            if (strlen(o->name) == n && memcmp(o->name, name, n) == 0) {
                return o;
            }
        }
    }
    return NULL;
}

static const struct cli_option *find_letter(const struct cli_option *const tables[], char letter)
{
    for (; *tables != NULL; tables++) {
        for (const struct cli_option *o = *tables; o->name != NULL; o++) {
            if (o->letter == letter) {
                return o;
            }
        }
    }
    return NULL;
}

static int unknown(
    const struct cli_option *const tables[], const char *text, struct base_error *err)
{
    const char *names[64] = {0};
    size_t n = 0;
    for (; *tables != NULL; tables++) {
        for (const struct cli_option *o = *tables; o->name != NULL && n < 64; o++) {
            names[n++] = o->name;
        }
    }
    const char *near = text[1] == '-' ? cli_options_nearest(text + 2, names, n) : NULL;
    if (near != NULL) {
        return base_fail(
            err, BASE_EINVAL, "unknown option '%.60s' (did you mean --%s?)", text, near);
    }
    return base_fail(err, BASE_EINVAL, "unknown option '%.60s'", text);
}

static bool read_uint(const char *text, uint32_t *ret)
{
    if (*text < '0' || *text > '9') {
        return false;
    }
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (errno != 0 || *end != '\0' || n > UINT32_MAX) {
        return false;
    }
    *ret = (uint32_t)n;
    return true;
}

static int store(const struct cli_option *o, const char *value, struct base_error *err)
{
    struct cli_list *list = o->to;
    uint32_t n = 0;
    switch (o->kind) {
    case CLI_OPTION_FLAG:
        *(bool *)o->to = true;
        return 0;
    case CLI_OPTION_TEXT:
        *(const char **)o->to = value;
        return 0;
    case CLI_OPTION_LIST:
        if (list->n == CLI_LIST_MAX) {
            return base_fail(
                err, BASE_EINVAL, "--%s is given more than %d times", o->name, CLI_LIST_MAX);
        }
        list->v[list->n++] = value;
        return 0;
    case CLI_OPTION_UINT:
        if (!read_uint(value, &n) || n < o->min || n > o->max) {
            return base_fail(err, BASE_EINVAL, "--%s takes a number from %u to %u, not '%.40s'",
                o->name, o->min, o->max, value);
        }
        *(uint32_t *)o->to = n;
        return 0;
    case CLI_OPTION_TIME:
        if (!cli_options_time(value, &n) || n < o->min || n > o->max) {
            return base_fail(err, BASE_EINVAL,
                "--%s takes a time from %u to %u s (like 90s, 15m, 1h30m), not '%.40s'", o->name,
                o->min, o->max, value);
        }
        *(uint32_t *)o->to = n;
        return 0;
    }
    return base_fail(err, BASE_EINVAL, "--%s has no kind", o->name);
}

/* One option at argv[*i]; moves *i to the last argument that it used. */
static int read_one(const struct cli_option *const tables[], int argc, char *const argv[], int *i,
    struct base_error *err)
{
    const char *text = argv[*i];
    const char *value = NULL;
    const struct cli_option *o;
    if (text[1] == '-') {
        size_t n = strcspn(text + 2, "=");
        o = find(tables, text + 2, n);
        value = text[2 + n] == '=' ? text + 3 + n : NULL;
    } else {
        o = text[2] == '\0' ? find_letter(tables, text[1]) : NULL;
    }
    if (o == NULL) {
        return unknown(tables, text, err);
    }
    if (o->kind == CLI_OPTION_FLAG) {
        if (value != NULL) {
            return base_fail(err, BASE_EINVAL, "--%s takes no value", o->name);
        }
    } else if (value == NULL) {
        if (*i + 1 >= argc) {
            return base_fail(err, BASE_EINVAL, "--%s needs a value (%s)", o->name, o->value);
        }
        value = argv[++*i];
    }
    return store(o, value, err);
}

int cli_options_read(const struct cli_option *const tables[], int argc, char *const argv[],
    struct cli_args *ret, struct base_error *err)
{
    *ret = (struct cli_args){0};
    bool options = true;
    for (int i = 0; i < argc; i++) {
        const char *text = argv[i];
        if (options && strcmp(text, "--") == 0) {
            options = false;
        } else if (options && (strcmp(text, "--help") == 0 || strcmp(text, "-h") == 0)) {
            ret->help = true;
            return 0;
        } else if (options && text[0] == '-' && text[1] != '\0') {
            int rc = read_one(tables, argc, argv, &i, err);
            if (rc != 0) {
                return rc;
            }
        } else if (ret->n == CLI_ARGS_MAX) {
            return base_fail(err, BASE_EINVAL, "more than %d arguments", CLI_ARGS_MAX);
        } else {
            ret->v[ret->n++] = text;
        }
    }
    return 0;
}
