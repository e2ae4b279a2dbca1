warren_fuzz(proto_frame SOURCES fuzz/fuzz_proto_frame.c DEPS proto)
warren_fuzz(worker_link SOURCES fuzz/fuzz_worker_link.c DEPS worker_engine)
warren_fuzz(worker_qmp SOURCES fuzz/fuzz_worker_qmp.c DEPS worker_engine)
warren_fuzz(gossip_wire SOURCES fuzz/fuzz_gossip_wire.c DEPS scheduler_wire)
