warren_unit(cli_options SOURCES unit/cli/test_options.c DEPS warren_cli)
warren_unit(cli_catalog SOURCES unit/cli/test_catalog.c DEPS warren_cli)
warren_unit(cli_place SOURCES unit/cli/test_place.c DEPS warren_cli)
warren_unit(cli_token SOURCES unit/cli/test_token.c DEPS warren_cli PkgConfig::CJOSE)
warren_unit(cli_setup SOURCES unit/cli/test_setup.c DEPS warren_cli)

add_test(NAME unit.leaks COMMAND ${CMAKE_SOURCE_DIR}/tests/lib/test_leaks.py)
set_tests_properties(unit.leaks PROPERTIES LABELS unit
  ENVIRONMENT "PYTHONDONTWRITEBYTECODE=1")
foreach(part up client)
  add_test(NAME unit.cli_${part} COMMAND ${CMAKE_SOURCE_DIR}/tests/integration/test_cli_${part}.py)
  set_tests_properties(unit.cli_${part} PROPERTIES LABELS unit
    ENVIRONMENT "WARREN_BIN_DIR=${CMAKE_RUNTIME_OUTPUT_DIRECTORY};PYTHONDONTWRITEBYTECODE=1")
endforeach()
