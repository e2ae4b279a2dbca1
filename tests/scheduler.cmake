warren_unit(sched_place SOURCES unit/scheduler/test_place.c DEPS scheduler_core m)
warren_unit(sched_wheel SOURCES unit/scheduler/test_wheel.c DEPS scheduler_core)
add_test(NAME unit.sched_place_reference
  COMMAND ${CMAKE_SOURCE_DIR}/tests/unit/scheduler/place_reference.py)
set_tests_properties(unit.sched_place_reference PROPERTIES LABELS unit)
warren_unit(sched_gossip SOURCES unit/scheduler/test_gossip.c DEPS scheduler_wire)
warren_unit(sched_swim SOURCES unit/scheduler/test_swim.c DEPS scheduler_core)
warren_unit(sched_swim_sync SOURCES unit/scheduler/test_swim_sync.c DEPS scheduler_core)
add_test(NAME model.triangle COMMAND ${CMAKE_SOURCE_DIR}/scheduler/model/check)
set_tests_properties(model.triangle PROPERTIES LABELS model SKIP_RETURN_CODE 77 TIMEOUT 1800
  PROCESSORS 2)
