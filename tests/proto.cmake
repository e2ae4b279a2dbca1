warren_unit(base SOURCES unit/proto/test_base.c DEPS base)
