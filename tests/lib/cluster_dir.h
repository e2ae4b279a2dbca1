#pragma once

/* A folder with the keys and settings of a small cluster on loopback, for tests that have several
 * nodes in one loop. One at a time; each function fails the test by itself. */

/* Makes it, with a cluster key of the first byte 7 and one voter, v1. */
void cluster_dir_make(void);
void cluster_dir_remove(void);

/* Paths in it; the last four stay valid. */
const char *cluster_dir_at(const char *name);
void cluster_dir_write(const char *name, const char *text);

/* A line of the roster with a new key, which goes to the file of that name. */
void cluster_dir_list(const char *role, const char *name);

/* Takes its lines out of the roster. */
void cluster_dir_unlist(const char *name);

/* cluster.yaml of a node; its path. seed: endpoint of the voter, NULL for the voter itself. */
const char *cluster_dir_settle(const char *name, const char *seed);
