# Target LLHTTP::llhttp. Debian 13 and later: the library of libllhttp-dev. Debian 12 ships the generated
# C sources only (node-llhttp); they are compiled where they lie, in strict mode.
include_guard(GLOBAL)
find_path(LLHTTP_INCLUDE_DIR llhttp.h PATH_SUFFIXES llhttp PATHS /usr/share/include)
find_library(LLHTTP_LIBRARY llhttp)
find_path(LLHTTP_SOURCE_DIR llhttp.c PATHS /usr/share/llhttp NO_DEFAULT_PATH)

if(LLHTTP_INCLUDE_DIR AND LLHTTP_LIBRARY)
  add_library(LLHTTP::llhttp INTERFACE IMPORTED)
  target_include_directories(LLHTTP::llhttp SYSTEM INTERFACE ${LLHTTP_INCLUDE_DIR})
  target_link_libraries(LLHTTP::llhttp INTERFACE ${LLHTTP_LIBRARY})
  set(LLHTTP_FOUND TRUE)
elseif(LLHTTP_INCLUDE_DIR AND LLHTTP_SOURCE_DIR)
  add_library(dep_llhttp STATIC
    ${LLHTTP_SOURCE_DIR}/api.c ${LLHTTP_SOURCE_DIR}/http.c ${LLHTTP_SOURCE_DIR}/llhttp.c)
  target_include_directories(dep_llhttp SYSTEM PUBLIC ${LLHTTP_INCLUDE_DIR})
  target_compile_definitions(dep_llhttp PRIVATE LLHTTP_STRICT_MODE=1)
  target_compile_options(dep_llhttp PRIVATE -w)
  set_target_properties(dep_llhttp PROPERTIES C_CLANG_TIDY "")
  if(WARREN_SANITIZE)
    target_compile_options(dep_llhttp PRIVATE -fsanitize=${WARREN_SANITIZE})
  endif()
  add_library(LLHTTP::llhttp ALIAS dep_llhttp)
  set(LLHTTP_FOUND TRUE)
endif()

if(NOT LLHTTP_FOUND AND LLHTTP_FIND_REQUIRED)
  message(FATAL_ERROR "llhttp: neither libllhttp-dev nor node-llhttp is installed")
endif()
