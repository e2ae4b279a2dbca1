#pragma once

/* What LMDB's functions return, as an error of ours: 0, BASE_ENOTFOUND, BASE_EFULL (the map),
 * BASE_ECORRUPT, BASE_EVERSION, BASE_ENOMEM, -errno, else BASE_EIO. */
int proto_lmdb_code(int rc);
