#pragma once
#include <sys/socket.h>

/* Counts connections per client address. */
struct gw_peers;
struct gw_peer;

struct gw_peers *gw_peers_create(void);    /* NULL: out of memory */
void gw_peers_destroy(struct gw_peers *p); /* all must be released; accepts NULL */

/* One more connection from the address (its port does not count); NULL above max, or out of memory.
 */
struct gw_peer *gw_peers_take(struct gw_peers *p, const struct sockaddr *sa, unsigned max);
void gw_peers_release(struct gw_peers *p, struct gw_peer *peer);
