warren_unit(worker_fence SOURCES unit/worker/test_fence.c DEPS worker_fence)
warren_unit(worker_drain SOURCES unit/worker/test_drain.c DEPS worker_wire)
warren_unit(worker_admin SOURCES unit/worker/test_admin.c unit/worker/rpc_rig.c lib/fake_engine.c
  lib/fake_world.c DEPS worker_rpc)
warren_unit(worker_lease SOURCES unit/worker/test_lease.c DEPS worker_engine)
warren_unit(worker_pool SOURCES unit/worker/test_pool.c DEPS worker_core)
warren_unit(worker_pool_change SOURCES unit/worker/test_pool_change.c DEPS worker_core)
warren_unit(worker_pool_restore SOURCES unit/worker/test_pool_restore.c DEPS worker_core)
warren_unit(worker_pool_model SOURCES unit/worker/test_pool_model.c DEPS worker_core)
warren_unit(worker_quota SOURCES unit/worker/test_quota.c DEPS worker_core)
warren_unit(worker_exec SOURCES unit/worker/test_exec.c DEPS worker_core)
warren_unit(worker_rows SOURCES unit/worker/test_rows.c DEPS worker_wire)
warren_unit(worker_store SOURCES unit/worker/test_store.c DEPS worker_store)
warren_unit(worker_config SOURCES unit/worker/test_config.c DEPS worker_config)
warren_unit(guest_parts SOURCES unit/worker/test_guest_parts.c DEPS guest_agent)
warren_unit(guest_exec SOURCES unit/worker/test_guest_exec.c DEPS guest_agent)
# The agent as an ordinary process with the real interpreters of this machine. Debian's Python: the
# test needs its protobuf, the interpreter its numpy, pandas, matplotlib and IPython.
add_test(NAME integration.guest
  COMMAND /usr/bin/python3 ${CMAKE_SOURCE_DIR}/tests/integration/test_guest.py
          $<TARGET_FILE:warren-guest>)
set_tests_properties(integration.guest PROPERTIES LABELS integration SKIP_RETURN_CODE 77
  RUN_SERIAL ON TIMEOUT 600)
warren_unit(worker_rpc SOURCES unit/worker/test_rpc.c unit/worker/rpc_rig.c lib/fake_engine.c
  lib/fake_world.c DEPS worker_rpc)
target_link_options(test_worker_rpc PRIVATE -Wl,--wrap=proto_net_send)
warren_unit(worker_session_pools SOURCES unit/worker/test_session_pools.c unit/worker/rpc_rig.c
  lib/fake_engine.c lib/fake_world.c DEPS worker_rpc)
warren_unit(worker_rpc_exec SOURCES unit/worker/test_rpc_exec.c unit/worker/rpc_rig.c
  lib/fake_engine.c lib/fake_world.c DEPS worker_rpc)
warren_unit(worker_rpc_key SOURCES unit/worker/test_rpc_key.c unit/worker/rpc_rig.c
  lib/fake_engine.c lib/fake_world.c DEPS worker_rpc)
warren_unit(worker_member SOURCES unit/worker/test_member.c unit/worker/rpc_rig.c lib/fake_engine.c
  lib/fake_world.c lib/cluster_dir.c DEPS worker_rpc)
warren_fuzz(worker_request SOURCES fuzz/fuzz_worker_request.c DEPS worker_wire)
warren_fuzz(worker_order SOURCES fuzz/fuzz_worker_order.c DEPS worker_wire)
warren_fuzz(worker_rows SOURCES fuzz/fuzz_worker_rows.c DEPS worker_wire)
