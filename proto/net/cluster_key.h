#pragma once
#include <stdint.h>

#include "proto/base/err.h"

/* The cluster's SipHash key: one line of 32 hex digits in a file that only its owner can read. It
 * decides placement and hashes identifiers in logs. BASE_EDENIED when others can read the file,
 * BASE_EBADMSG when it holds anything else, -errno. */
int proto_net_cluster_key_read(const char *path, uint8_t key[16], struct base_error *err);
