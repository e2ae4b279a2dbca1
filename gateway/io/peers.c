#include "gateway/io/peers.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "proto/base/hash.h"
#include "proto/base/rand.h"

enum { BUCKETS = 1024 };

struct gw_peer {
    struct gw_peer *next;
    unsigned bucket, n;
    uint8_t address[16];
};

struct gw_peers {
    uint8_t key[16];
    struct gw_peer *buckets[BUCKETS];
};

struct gw_peers *gw_peers_create(void)
{
    struct gw_peers *p = calloc(1, sizeof *p);
    if (p != NULL) {
        base_rand_bytes(p->key, sizeof p->key);
    }
    return p;
}

void gw_peers_destroy(struct gw_peers *p)
{
    free(p);
}

struct gw_peer *gw_peers_take(struct gw_peers *p, const struct sockaddr *sa, unsigned max)
{
    uint8_t address[16] = {0};
    if (sa->sa_family == AF_INET) {
        memcpy(address, &((const struct sockaddr_in *)(const void *)sa)->sin_addr, 4);
    } else if (sa->sa_family == AF_INET6) {
        memcpy(address, &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr, 16);
    }
    unsigned bucket = (unsigned)(base_hash_sip24(p->key, address, sizeof address) % BUCKETS);
    struct gw_peer *peer = p->buckets[bucket];
    while (peer != NULL && memcmp(peer->address, address, sizeof address) != 0) {
        peer = peer->next;
    }
    if (peer == NULL) {
        peer = calloc(1, sizeof *peer);
        if (peer == NULL) {
            return NULL;
        }
        memcpy(peer->address, address, sizeof address);
        peer->bucket = bucket;
        peer->next = p->buckets[bucket];
        p->buckets[bucket] = peer;
    }
    if (peer->n >= max) {
        return NULL;
    }
    peer->n++;
    return peer;
}

void gw_peers_release(struct gw_peers *p, struct gw_peer *peer)
{
    if (--peer->n > 0) {
        return;
    }
    struct gw_peer **at = &p->buckets[peer->bucket];
    while (*at != peer) {
        at = &(*at)->next;
    }
    *at = peer->next;
    free(peer);
}
