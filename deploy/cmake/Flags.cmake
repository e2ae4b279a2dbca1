include_guard(GLOBAL)
add_library(warren_flags INTERFACE)
target_compile_options(warren_flags INTERFACE
  -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes
  -Wold-style-definition -Wundef -Wvla -Wformat=2 -Wimplicit-fallthrough
  -Wswitch-enum -Wpointer-arith -Wwrite-strings
  -fno-omit-frame-pointer -fvisibility=hidden -fstack-protector-strong
  $<$<BOOL:${WARREN_WERROR}>:-Werror>
  $<$<C_COMPILER_ID:GNU>:-Wlogical-op -Wduplicated-cond -Wno-format-truncation>)
target_compile_definitions(warren_flags INTERFACE _GNU_SOURCE
  $<$<CONFIG:Release>:_FORTIFY_SOURCE=2>
  $<$<CONFIG:Release>:WARREN_RELEASE>)
if(WARREN_SANITIZE)
  target_compile_options(warren_flags INTERFACE -fsanitize=${WARREN_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(warren_flags INTERFACE -fsanitize=${WARREN_SANITIZE})
endif()
