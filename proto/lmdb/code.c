#include "proto/lmdb/code.h"

#include <errno.h>
#include <lmdb.h>

#include "proto/base/err.h"

int proto_lmdb_code(int rc)
{
    switch (rc) {
    case MDB_SUCCESS:
        return 0;
    case MDB_NOTFOUND:
        return BASE_ENOTFOUND;
    case MDB_MAP_FULL:
        return BASE_EFULL;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
        return BASE_ECORRUPT;
    case MDB_VERSION_MISMATCH:
        return BASE_EVERSION;
    case ENOMEM:
        return BASE_ENOMEM;
    default:
        return rc > 0 ? -rc : BASE_EIO;
    }
}
