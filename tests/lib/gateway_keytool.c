/* usage: gateway_keytool FILE    makes a CURVE key file and prints {"public":"..."} */
#include <stdio.h>

#include "proto/net/curve.h"

int main(int argc, char **argv)
{
    struct proto_net_key key;
    struct base_error err = {0};
    if (argc != 2 || proto_net_key_generate(&key, &err) < 0 ||
        proto_net_key_write(argv[1], &key, &err) < 0) {
        (void)fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    (void)printf("{\"public\":\"%s\"}\n", key.public_z85);
    return 0;
}
