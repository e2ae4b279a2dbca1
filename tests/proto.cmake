warren_unit(base SOURCES unit/proto/test_base.c DEPS base)
warren_unit(proto_quota SOURCES unit/proto/test_quota.c DEPS proto_pool)
warren_unit(proto_digest SOURCES unit/proto/test_exec_digest.c DEPS proto_digest)
warren_unit(proto SOURCES unit/proto/test_frame.c DEPS proto)
