#pragma once
#include <stdbool.h>

#include "proto/base/err.h"

/* Keys of the cluster network. A key file has two lines, "public <z85>" and "secret <z85>", and is
 * readable by its owner only. An allow-list has lines "<role> <name> <public z85>"; empty lines and
 * lines that start with '#' are skipped. */
enum { PROTO_NET_Z85_MAX = 41, PROTO_NET_NAME_MAX = 33 };

struct proto_net_key {
    char public_z85[PROTO_NET_Z85_MAX];
    char secret_z85[PROTO_NET_Z85_MAX];
};

struct proto_net_client {
    char role[PROTO_NET_NAME_MAX];
    char name[PROTO_NET_NAME_MAX];
    char public_z85[PROTO_NET_Z85_MAX];
};

/* True for 40 characters that are the z85 form of 32 bytes. */
bool proto_net_z85_valid(const char *text);

int proto_net_key_generate(struct proto_net_key *ret, struct base_error *err);

/* BASE_EDENIED when others than the owner can read the file, BASE_EBADMSG when it is no key file.
 */
int proto_net_key_read(const char *path, struct proto_net_key *ret, struct base_error *err);

/* Makes the file with mode 0600; -EEXIST when there is one. */
int proto_net_key_write(const char *path, const struct proto_net_key *key, struct base_error *err);

/* Reads an allow-list. Names line and fault of the first bad line. *ret_list: the caller frees. */
int proto_net_clients_read(
    const char *path, struct proto_net_client **ret_list, int *ret_n, struct base_error *err);

/* Whether a file is still what it was: written in place or replaced it is not. */
struct stat;
bool proto_net_same_file(const struct stat *a, const struct stat *b);

/* Appends one line. A key that is listed already is left alone. */
int proto_net_clients_add(
    const char *path, const struct proto_net_client *client, struct base_error *err);
