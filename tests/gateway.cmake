# libzmq is not instrumented, so the thread sanitizer cannot see how it hands messages over.
set(zmq_env "TSAN_OPTIONS=ignore_noninstrumented_modules=1")
warren_unit(net SOURCES unit/gateway/test_net.c DEPS proto_net)
set_tests_properties(unit.net PROPERTIES ENVIRONMENT "${zmq_env}")
warren_unit(gateway_route SOURCES unit/gateway/test_route.c DEPS gateway_core)
warren_unit(gateway_http SOURCES unit/gateway/test_http.c DEPS gateway_core)
warren_unit(gateway_render SOURCES unit/gateway/test_render.c DEPS gateway_core)
warren_unit(gateway_multipart SOURCES unit/gateway/test_multipart.c DEPS gateway_core)
warren_unit(gateway_range SOURCES unit/gateway/test_range.c DEPS gateway_core)
warren_unit(gateway_rate SOURCES unit/gateway/test_rate.c DEPS gateway_core)
warren_unit(gateway_mcp_keys SOURCES unit/gateway/test_mcp_keys.c DEPS gateway_mcp_keys)
warren_unit(gateway_mcp SOURCES unit/gateway/test_mcp.c DEPS gateway_core)
warren_unit(gateway_exec_body SOURCES unit/gateway/test_exec_body.c DEPS gateway_io)
warren_unit(gateway_early SOURCES unit/gateway/test_early.c ${CMAKE_SOURCE_DIR}/gateway/io/early.c
  DEPS gateway_core)
warren_unit(gateway_ws SOURCES unit/gateway/test_ws.c DEPS gateway_io)
warren_unit(gateway_calls SOURCES unit/gateway/test_calls.c lib/cluster_dir.c DEPS gateway_io)
target_link_options(test_gateway_calls PRIVATE -Wl,--wrap=sched_views_drop)
warren_unit(gateway_metadata SOURCES unit/gateway/test_metadata.c DEPS gateway_io)
target_link_options(test_gateway_metadata PRIVATE -Wl,--wrap=gw_calls_any -Wl,--wrap=gw_calls_catalog)
warren_unit(gateway_auth SOURCES unit/gateway/test_auth.c DEPS gateway_io)

# Programs for the tests of the protocol and of the API.
add_executable(http_probe ${CMAKE_SOURCE_DIR}/tests/lib/http_probe.c)
target_include_directories(http_probe PRIVATE ${CMAKE_SOURCE_DIR})
target_link_libraries(http_probe PRIVATE gateway_http warren_flags)
set_target_properties(http_probe PROPERTIES C_CLANG_TIDY "")

add_executable(echo_worker ${CMAKE_SOURCE_DIR}/tests/lib/echo_worker.c
  ${CMAKE_SOURCE_DIR}/tests/lib/echo_exec.c ${CMAKE_SOURCE_DIR}/tests/lib/echo_files.c
  ${CMAKE_SOURCE_DIR}/tests/lib/echo_terminal.c)
target_include_directories(echo_worker PRIVATE ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR}/gen)
target_link_libraries(echo_worker PRIVATE proto_net proto_messages proto_digest warren_flags)
set_target_properties(echo_worker PROPERTIES C_CLANG_TIDY "")

add_executable(gateway_keytool ${CMAKE_SOURCE_DIR}/tests/lib/gateway_keytool.c)
target_include_directories(gateway_keytool PRIVATE ${CMAKE_SOURCE_DIR})
target_link_libraries(gateway_keytool PRIVATE proto_net warren_flags)
set_target_properties(gateway_keytool PROPERTIES C_CLANG_TIDY "")

function(warren_gateway_script name)
  add_test(NAME integration.${name}
    COMMAND python3 ${CMAKE_SOURCE_DIR}/tests/integration/${name}.py $<TARGET_FILE_DIR:http_probe>)
  set_tests_properties(integration.${name} PROPERTIES LABELS integration SKIP_RETURN_CODE 77)
endfunction()
warren_gateway_script(gateway_smuggling)
warren_gateway_script(gateway_http)
warren_gateway_script(gateway_api)
warren_gateway_script(gateway_terminal)
warren_gateway_script(gateway_mcp)
warren_gateway_script(gateway_oidc)
warren_gateway_script(test_clients)
warren_gateway_script(gateway_openapi)
warren_gateway_script(mcp_sdk)
warren_gateway_script(mcp_clients)
warren_gateway_script(mcp_examples)
warren_gateway_script(llamaindex_tool)
add_test(NAME integration.mcp_conformance
  COMMAND python3 ${CMAKE_SOURCE_DIR}/tests/integration/mcp_conformance.py $<TARGET_FILE_DIR:http_probe>
  $<IF:$<BOOL:${WARREN_MCP_FIXTURES}>,fixtures,none>)
set_tests_properties(integration.mcp_conformance PROPERTIES LABELS integration SKIP_RETURN_CODE 77 TIMEOUT 900)
# MCP before real microVMs; skipped without root or a guest image.
add_test(NAME integration.mcp_real COMMAND python3 ${CMAKE_SOURCE_DIR}/tests/integration/mcp_real.py)
set_tests_properties(integration.mcp_real PROPERTIES LABELS integration RUN_SERIAL ON
  SKIP_RETURN_CODE 77 TIMEOUT 1200
  ENVIRONMENT "WARREN_BIN_DIR=${CMAKE_RUNTIME_OUTPUT_DIRECTORY};PYTHONDONTWRITEBYTECODE=1")
add_test(NAME integration.terminal_real COMMAND python3 ${CMAKE_SOURCE_DIR}/tests/integration/terminal_real.py)
set_tests_properties(integration.terminal_real PROPERTIES LABELS integration RUN_SERIAL ON
  SKIP_RETURN_CODE 77 TIMEOUT 900
  ENVIRONMENT "WARREN_BIN_DIR=${CMAKE_RUNTIME_OUTPUT_DIRECTORY};PYTHONDONTWRITEBYTECODE=1")
# The same clients before real microVMs; skipped without root or a guest image.
foreach(what "" llamaindex openapi)
  string(REGEX REPLACE "(.+)" "_\\1" suffix "${what}")
  add_test(NAME integration.test_clients_real${suffix}
    COMMAND python3 ${CMAKE_SOURCE_DIR}/tests/integration/test_clients.py $<TARGET_FILE_DIR:http_probe> --real ${what})
  set_tests_properties(integration.test_clients_real${suffix} PROPERTIES LABELS integration RUN_SERIAL ON
    SKIP_RETURN_CODE 77 TIMEOUT 1200
    ENVIRONMENT "WARREN_BIN_DIR=${CMAKE_RUNTIME_OUTPUT_DIRECTORY};PYTHONDONTWRITEBYTECODE=1")
endforeach()
