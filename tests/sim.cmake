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

# Every schedule of sim/directed is a regression test; so is every seed that ever failed.
foreach(name forgotten_ballots r1_early_removal r2_refusal_ends_renewal r3_one_deaf_voter
    r4_initial_grant r7_deaf_worker)
  warren_sim(directed.${name}
    --schedule ${CMAKE_CURRENT_SOURCE_DIR}/sim/directed/${name}.txt)
endforeach()
add_test(NAME sim.old_seeds COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/sim/old_seeds.sh $<TARGET_FILE:sim>
  ${CMAKE_CURRENT_SOURCE_DIR}/sim/seeds.txt)
set_tests_properties(sim.old_seeds PROPERTIES LABELS sim)

# The same simulator with breakages in the cores that it must find.
get_target_property(core_sources scheduler_core SOURCES)
get_target_property(wire_sources scheduler_wire SOURCES)
set(mutant_sources ${SIM_SOURCES})
foreach(source IN LISTS core_sources wire_sources)
  list(APPEND mutant_sources ${CMAKE_SOURCE_DIR}/scheduler/${source})
endforeach()
add_executable(sim_mutants ${mutant_sources})
target_include_directories(sim_mutants PRIVATE ${CMAKE_SOURCE_DIR})
target_compile_definitions(sim_mutants PRIVATE SCHED_MUTANTS)
target_link_libraries(sim_mutants PRIVATE base warren_flags)
set_target_properties(sim_mutants PROPERTIES C_CLANG_TIDY "")
add_test(NAME mutants COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/sim/mutants.py
  $<TARGET_FILE:sim_mutants> ${CMAKE_CURRENT_SOURCE_DIR}/sim)
set_tests_properties(mutants PROPERTIES LABELS mutants TIMEOUT 900)
