# The simulator and what runs in it.
set(SIM_SOURCES sim/bus.c sim/catalog.c sim/change.c sim/check.c sim/check_life.c sim/fault.c sim/load.c sim/main.c sim/pool.c
  sim/schedule.c sim/shrink.c
  sim/store.c sim/trace.c sim/vm.c sim/world.c)
set(SIM_LIB_SOURCES ${SIM_SOURCES})
list(REMOVE_ITEM SIM_LIB_SOURCES sim/main.c)
add_library(sim_lib STATIC ${SIM_LIB_SOURCES})
target_include_directories(sim_lib PUBLIC ${CMAKE_SOURCE_DIR})
target_link_libraries(sim_lib PUBLIC worker_core scheduler_wire scheduler_core proto base PRIVATE warren_flags)
add_executable(sim sim/main.c)
target_link_libraries(sim PRIVATE sim_lib warren_flags)
set_target_properties(sim sim_lib PROPERTIES C_CLANG_TIDY "")

function(warren_sim name)
  add_test(NAME sim.${name} COMMAND sim ${ARGN})
  set_tests_properties(sim.${name} PROPERTIES LABELS sim)
endfunction()

warren_sim(seeds --seeds 1..200)
# More keys than fit into one message of a hand-over, more requests than there are journal entries.
warren_sim(many_keys --seeds 11..14 --hosts 4 --keys 900 --pbits 4 --places 500 --request-ms 40)
warren_sim(empty_birth --seeds 1..60 --empty-birth 1)
# Now and then all workers leave at once, and come back.
warren_sim(exodus --seeds 1..100 --exodus 2)
warren_sim(exodus_pools --seeds 1..40 --exodus 2 --pools 3)
warren_sim(twice --seeds 1001..1030 --twice)
# With the worker's pool manager between the session table and the microVMs.
warren_sim(pool --seeds 1..100 --pool 1)
warren_sim(pools --seeds 1..60 --pools 3)
# Gateways change the catalogue, which there is none of at first.
warren_sim(catalog --seeds 1..100 --catalog 1)
warren_sim(catalog_twice --seeds 1011..1020 --catalog 1 --twice)
warren_sim(pools_twice --seeds 1001..1006 --pools 5 --twice)
# More identifiers than places: workers refuse, and others take over.
warren_sim(pool_full --seeds 1..2 --pool 1 --places 300 --keys 600 --request-ms 20)
warren_sim(pool_twice --seeds 1001..1010 --pool 1 --twice)

# Membership alone, at sizes and with faults of its own.
add_library(swim_sim_lib STATIC sim/swim_sim.c sim/swim_sim_check.c sim/swim_sim_net.c
  sim/swim_sim_queue.c sim/swim_sim_seal.c)
target_link_libraries(swim_sim_lib PUBLIC scheduler_wire scheduler_core PRIVATE warren_flags)
set_target_properties(swim_sim_lib PROPERTIES C_CLANG_TIDY "")
add_executable(swim_sim sim/swim_sim_main.c)
target_link_libraries(swim_sim PRIVATE swim_sim_lib warren_flags)
set_target_properties(swim_sim PROPERTIES C_CLANG_TIDY "")
add_test(NAME sim.swim COMMAND swim_sim --seeds 1..100 --quiet)
set_tests_properties(sim.swim PROPERTIES LABELS sim)

# Every schedule of sim/directed is a regression test; so is every seed that ever failed.
file(GLOB schedules CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/sim/directed/*.txt)
foreach(schedule IN LISTS schedules)
  get_filename_component(name ${schedule} NAME_WE)
  warren_sim(directed.${name}
    --schedule ${CMAKE_CURRENT_SOURCE_DIR}/sim/directed/${name}.txt)
endforeach()
add_test(NAME sim.old_seeds COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/sim/old_seeds.sh $<TARGET_FILE:sim>
  ${CMAKE_CURRENT_SOURCE_DIR}/sim/seeds.txt)
set_tests_properties(sim.old_seeds PROPERTIES LABELS sim)

# Another compiler must make the same runs of the same seeds: nothing may rest on what C leaves open.
get_target_property(sim_core scheduler_core SOURCES)
get_target_property(sim_wire scheduler_wire SOURCES)
get_target_property(sim_base base SOURCES)
get_target_property(sim_pool worker_core SOURCES)
get_target_property(sim_names proto SOURCES)
set(sim_all)
foreach(source IN LISTS sim_pool)
  list(APPEND sim_all worker/${source})
endforeach()
foreach(source IN LISTS SIM_SOURCES)
  list(APPEND sim_all tests/${source})
endforeach()
foreach(source IN LISTS sim_core sim_wire)
  list(APPEND sim_all scheduler/${source})
endforeach()
foreach(source IN LISTS sim_base sim_names)
  list(APPEND sim_all proto/${source})
endforeach()
list(FILTER sim_all INCLUDE REGEX "[.]c$")
add_test(NAME sim.compilers COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/sim/compilers.sh
  $<TARGET_FILE:sim> ${CMAKE_C_COMPILER_ID} ${CMAKE_CURRENT_BINARY_DIR}/sim_compilers ${sim_all}
  WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
set_tests_properties(sim.compilers PROPERTIES LABELS sim SKIP_RETURN_CODE 77)

# The same simulator with breakages in the cores that it must find.
get_target_property(core_sources scheduler_core SOURCES)
get_target_property(wire_sources scheduler_wire SOURCES)
set(mutant_sources ${SIM_SOURCES})
foreach(source IN LISTS core_sources wire_sources)
  list(APPEND mutant_sources ${CMAKE_SOURCE_DIR}/scheduler/${source})
endforeach()
foreach(source IN LISTS sim_pool)
  list(APPEND mutant_sources ${CMAKE_SOURCE_DIR}/worker/${source})
endforeach()
add_executable(sim_mutants ${mutant_sources})
target_include_directories(sim_mutants PRIVATE ${CMAKE_SOURCE_DIR})
target_compile_definitions(sim_mutants PRIVATE SCHED_MUTANTS)
target_link_libraries(sim_mutants PRIVATE proto base warren_flags)
set_target_properties(sim_mutants PROPERTIES C_CLANG_TIDY "")
add_test(NAME mutants COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/sim/mutants.py
  $<TARGET_FILE:sim_mutants> ${CMAKE_CURRENT_SOURCE_DIR}/sim)
set_tests_properties(mutants PROPERTIES LABELS mutants TIMEOUT 900)
add_test(NAME sim.scale COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/sim/scale --sim $<TARGET_FILE:sim> --quick)
set_tests_properties(sim.scale PROPERTIES LABELS sim)
add_test(NAME sim.shrink COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/sim/shrink.sh $<TARGET_FILE:sim>
  $<TARGET_FILE:sim_mutants> ${CMAKE_CURRENT_BINARY_DIR}/sim_shrink)
set_tests_properties(sim.shrink PROPERTIES LABELS sim)

# The membership with breakages that its unit cases or its simulator must find.
set(swim_core_sources)
foreach(source IN LISTS core_sources wire_sources)
  list(APPEND swim_core_sources ${CMAKE_SOURCE_DIR}/scheduler/${source})
endforeach()
add_library(swim_mutant_core STATIC ${swim_core_sources} sim/swim_mutant.c)
target_include_directories(swim_mutant_core PUBLIC ${CMAKE_SOURCE_DIR})
target_compile_definitions(swim_mutant_core PRIVATE SCHED_MUTANTS)
target_link_libraries(swim_mutant_core PRIVATE warren_flags PUBLIC base)
add_executable(swim_mutants_unit unit/scheduler/test_gossip.c unit/scheduler/test_seal.c
  unit/scheduler/test_swim.c unit/scheduler/test_swim_sync.c lib/main.c)
add_executable(swim_mutants_sim sim/swim_sim_main.c sim/swim_sim.c sim/swim_sim_check.c
  sim/swim_sim_net.c sim/swim_sim_queue.c sim/swim_sim_seal.c)
foreach(program swim_mutants_unit swim_mutants_sim)
  target_link_libraries(${program} PRIVATE swim_mutant_core warren_flags)
endforeach()
foreach(target swim_mutant_core swim_mutants_unit swim_mutants_sim)
  set_target_properties(${target} PROPERTIES C_CLANG_TIDY "")
endforeach()
add_test(NAME mutants.swim COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/sim/swim_mutants.py
  $<TARGET_FILE:swim_mutants_unit> $<TARGET_FILE:swim_mutants_sim>
  ${CMAKE_CURRENT_SOURCE_DIR}/sim/swim_mutants.txt)
set_tests_properties(mutants.swim PROPERTIES LABELS mutants TIMEOUT 900)
