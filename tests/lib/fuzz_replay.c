/* Runs a fuzz target over every file of a folder: the corpus as a regression test. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { INPUT_MAX = 1 << 20 };

static int replay(const char *folder, const char *name)
{
    static uint8_t room[INPUT_MAX];
    char path[1024];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        return 0;
    }
    size_t n = fread(room, 1, sizeof room, f);
    (void)fclose(f);
    /* A copy of exactly that size, so that a sanitizer sees reading past the end. */
    uint8_t *copy = malloc(n > 0 ? n : 1);
    for (size_t i = 0; copy != NULL && i < n; i++) {
        copy[i] = room[i];
    }
    (void)LLVMFuzzerTestOneInput(copy, n);
    free(copy);
    return 1;
}

int main(int argc, char **argv)
{
    DIR *d = argc > 1 ? opendir(argv[1]) : NULL;
    if (d == NULL) {
        (void)fprintf(stderr, "usage: %s CORPUS_FOLDER\n", argv[0]);
        return 2;
    }
    int n = 0;
    for (const struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        n += e->d_name[0] != '.' && replay(argv[1], e->d_name);
    }
    (void)closedir(d);
    (void)printf("%d inputs replayed\n", n);
    return n > 0 ? 0 : 1;
}
