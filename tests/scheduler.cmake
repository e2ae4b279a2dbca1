warren_unit(sched_place SOURCES unit/scheduler/test_place.c DEPS scheduler_core m)
warren_unit(sched_wheel SOURCES unit/scheduler/test_wheel.c DEPS scheduler_core)
add_test(NAME unit.sched_place_reference
  COMMAND ${CMAKE_SOURCE_DIR}/tests/unit/scheduler/place_reference.py)
set_tests_properties(unit.sched_place_reference PROPERTIES LABELS unit)
