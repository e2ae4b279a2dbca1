# The simulator and what runs in it.
set(SIM_SOURCES sim/bus.c sim/check.c sim/fault.c sim/load.c sim/main.c sim/schedule.c sim/shrink.c
  sim/store.c sim/trace.c sim/vm.c sim/world.c)
add_executable(sim ${SIM_SOURCES})
target_include_directories(sim PRIVATE ${CMAKE_SOURCE_DIR})
target_link_libraries(sim PRIVATE scheduler_wire scheduler_core base warren_flags)
set_target_properties(sim PROPERTIES C_CLANG_TIDY "")

function(warren_sim name)
  add_test(NAME sim.${name} COMMAND sim ${ARGN})
  set_tests_properties(sim.${name} PROPERTIES LABELS sim)
endfunction()

warren_sim(seeds --seeds 1..200)
warren_sim(twice --seeds 1001..1030 --twice)

# Membership alone, at sizes and with faults of its own.
add_library(swim_sim_lib STATIC sim/swim_sim.c sim/swim_sim_check.c sim/swim_sim_net.c
  sim/swim_sim_queue.c)
target_link_libraries(swim_sim_lib PUBLIC scheduler_wire scheduler_core PRIVATE warren_flags)
set_target_properties(swim_sim_lib PROPERTIES C_CLANG_TIDY "")
add_executable(swim_sim sim/swim_sim_main.c)
target_link_libraries(swim_sim PRIVATE swim_sim_lib warren_flags)
set_target_properties(swim_sim PROPERTIES C_CLANG_TIDY "")
add_test(NAME sim.swim COMMAND swim_sim --seeds 1..100 --quiet)
set_tests_properties(sim.swim PROPERTIES LABELS sim)
