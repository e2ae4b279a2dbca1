#include "tests/lib/check.h"

extern const struct check_case __start_check_cases[];
extern const struct check_case __stop_check_cases[];

int main(int argc, char **argv)
{
    int ran = 0;
    for (const struct check_case *c = __start_check_cases; c < __stop_check_cases; c++) {
        if (argc > 1 && strcmp(argv[1], "--list") == 0) {
            (void)puts(c->name);
            ran++;
        } else if (argc < 2 || strcmp(argv[1], c->name) == 0) {
            c->run();
            ran++;
        }
    }
    (void)printf("%d cases\n", ran);
    return ran > 0 ? 0 : 2;
}
