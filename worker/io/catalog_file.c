#include "worker/io/catalog_file.h"

#include <errno.h>
#include <unistd.h>

int worker_catalog_file_load(
    struct worker_catalog_file *f, struct sched_catalog **ret, struct base_error *err)
{
    struct sched_catalog *c = NULL;
    int rc = sched_catalog_load(&c, f->path, f->cluster_key);
    if (rc == BASE_EBADMSG || rc == BASE_ESTATE) { /* the voters have a good one */
        LOG_WARN(f->log, "'%s' is %s and not used", f->path,
            rc == BASE_ESTATE ? "of another cluster" : "damaged");
    } else if (rc != 0 && rc != BASE_ENOTFOUND) {
        return base_fail(err, rc, "read '%s': %s", f->path, base_err_str(rc));
    }
    f->version = c == NULL ? 0 : UINT64_MAX; /* written again: it may be of before births */
    *ret = c;
    return 0;
}

int worker_catalog_file_keep(struct worker_catalog_file *f, const struct sched_catalog *known)
{
    uint64_t version = known == NULL ? 0 : sched_catalog_version(known);
    uint64_t birth = known == NULL ? 0 : sched_catalog_birth(known);
    int rc = 0;
    if (version == f->version && birth == f->birth) {
        return 0;
    }
    if (known != NULL) {
        rc = sched_catalog_save(known, f->path, f->cluster_key);
    } else if (unlink(f->path) != 0 && errno != ENOENT) {
        rc = -errno;
    }
    if (rc != 0) {
        LOG_ERROR(f->log, "write '%s': %s", f->path, base_err_str(rc));
        return rc;
    }
    f->version = version;
    f->birth = birth;
    return 0;
}
