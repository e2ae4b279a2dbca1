warren_unit(qmp SOURCES unit/worker/test_qmp.c DEPS worker_engine)
warren_unit(link SOURCES unit/worker/test_link.c DEPS worker_engine)
warren_unit(template_disk SOURCES unit/worker/test_template_disk.c DEPS worker_engine)
# Needs root (uids, namespaces) but no microVM: a plain program stands where QEMU would.
warren_unit(supervisor SOURCES integration/test_supervisor.c DEPS worker_engine)
target_compile_definitions(test_supervisor PRIVATE
  SUPERVISOR="$<TARGET_FILE:warren-supervisor>")
add_dependencies(test_supervisor warren-supervisor)
