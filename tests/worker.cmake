warren_unit(worker_pool SOURCES unit/worker/test_pool.c DEPS worker_core)
warren_unit(worker_pool_model SOURCES unit/worker/test_pool_model.c DEPS worker_core)
warren_unit(worker_exec SOURCES unit/worker/test_exec.c DEPS worker_core)
