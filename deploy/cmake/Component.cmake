include_guard(GLOBAL)
include(Headers)

# warren_library(<name> [PURE] SOURCES... HEADERS... DEPS...)
# PURE: a core or wire library; a ctest proves that it reaches nothing of the outside world.
function(warren_library name)
  cmake_parse_arguments(A "PURE" "" "SOURCES;HEADERS;DEPS" ${ARGN})
  add_library(${name} STATIC ${A_SOURCES})
  target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR}/gen)
  target_link_libraries(${name} PUBLIC ${A_DEPS} PRIVATE warren_flags)
  warren_check_headers(${name} ${A_HEADERS})
  if(A_PURE AND BUILD_TESTING)
    add_test(NAME lint.purity.${name}
      COMMAND ${CMAKE_SOURCE_DIR}/tests/lint/check_purity.sh ${CMAKE_NM} $<TARGET_FILE:${name}>)
    set_tests_properties(lint.purity.${name} PROPERTIES LABELS lint)
  endif()
endfunction()

# warren_program(<name> SOURCES... DEPS... [COMPONENT c])
function(warren_program name)
  cmake_parse_arguments(A "" "COMPONENT" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${A_SOURCES})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR} ${CMAKE_BINARY_DIR}/gen)
  target_link_libraries(${name} PRIVATE ${A_DEPS} warren_flags)
  target_compile_definitions(${name} PRIVATE WARREN_VERSION="${PROJECT_VERSION}")
  if(A_COMPONENT)
    install(TARGETS ${name} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT ${A_COMPONENT})
  endif()
endfunction()

# warren_proto(<name> file.proto...): C code by protoc-c under build/gen/proto, as library <name>.
function(warren_proto name)
  set(out)
  foreach(p IN LISTS ARGN)
    get_filename_component(base ${p} NAME_WE)
    get_filename_component(abs ${p} ABSOLUTE)
    set(c ${CMAKE_BINARY_DIR}/gen/proto/${base}.pb-c.c)
    set(h ${CMAKE_BINARY_DIR}/gen/proto/${base}.pb-c.h)
    add_custom_command(OUTPUT ${c} ${h}
      COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/gen/proto
      COMMAND ${PROTOC_C} --proto_path=${CMAKE_SOURCE_DIR} --c_out=${CMAKE_BINARY_DIR}/gen ${abs}
      DEPENDS ${abs} VERBATIM)
    list(APPEND out ${c} ${h})
  endforeach()
  add_library(${name} STATIC ${out})
  target_include_directories(${name} PUBLIC ${CMAKE_BINARY_DIR}/gen)
  target_link_libraries(${name} PUBLIC PkgConfig::PROTOBUFC)
  set_target_properties(${name} PROPERTIES C_CLANG_TIDY "")
  # Generated code is not ours: no warnings, but the same sanitizers.
  target_compile_options(${name} PRIVATE -w)
  if(WARREN_SANITIZE)
    target_compile_options(${name} PRIVATE -fsanitize=${WARREN_SANITIZE})
  endif()
endfunction()
