warren_unit(base SOURCES unit/proto/test_base.c DEPS base)
warren_unit(proto SOURCES unit/proto/test_frame.c DEPS proto)
