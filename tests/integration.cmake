# Real microVMs: root, QEMU and a guest image are needed (skipped with the reason otherwise).
# warren_integration(<name> <python file> [TIMEOUT s])
function(warren_integration name file)
  cmake_parse_arguments(A "" "TIMEOUT" "" ${ARGN})
  if(NOT A_TIMEOUT)
    set(A_TIMEOUT 600)
  endif()
  add_test(NAME integration.${name} COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/integration/${file})
  set_tests_properties(integration.${name} PROPERTIES
    LABELS integration RUN_SERIAL ON SKIP_RETURN_CODE 77 TIMEOUT ${A_TIMEOUT}
    ENVIRONMENT "WARREN_BIN_DIR=${CMAKE_RUNTIME_OUTPUT_DIRECTORY};PYTHONDONTWRITEBYTECODE=1")
endfunction()

warren_integration(end_to_end test_end_to_end.py TIMEOUT 1500)

# By hand (ctest -L cluster): three templates are booted, and see tests/README.md.
add_test(NAME integration.cluster COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/cluster/test_cluster.py)
set_tests_properties(integration.cluster PROPERTIES
  LABELS cluster RUN_SERIAL ON SKIP_RETURN_CODE 77 TIMEOUT 1500
  ENVIRONMENT "WARREN_BIN_DIR=${CMAKE_RUNTIME_OUTPUT_DIRECTORY};PYTHONDONTWRITEBYTECODE=1")
