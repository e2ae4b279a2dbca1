# libzmq is not instrumented, so the thread sanitizer cannot see how it hands messages over.
set(zmq_env "TSAN_OPTIONS=ignore_noninstrumented_modules=1")
warren_unit(net SOURCES unit/gateway/test_net.c DEPS proto_net)
set_tests_properties(unit.net PROPERTIES ENVIRONMENT "${zmq_env}")
