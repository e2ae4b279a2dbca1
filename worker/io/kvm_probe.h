#pragma once
#include <stdint.h>

/* Is /dev/kvm there, complete and fast? Some hosts offer a KVM that emulates guest kernel code a
 * thousand times slower than a processor runs it; presence alone says nothing. */
enum worker_kvm_fit { WORKER_KVM_OK, WORKER_KVM_SLOW, WORKER_KVM_BROKEN, WORKER_KVM_ABSENT };

struct worker_kvm_probe {
    enum worker_kvm_fit fit;
    double loop_ns; /* CPU time of one iteration of a two-instruction kernel-mode loop */
    double exit_us; /* CPU time of one exit to user space */
    double total_ms;
    char why[160]; /* for people */
};

/* Runs a tiny guest in a child process: kernel-mode loop, page faults, exits. Costs are CPU time,
 * so a busy host does not look like an emulator. Bounded: a child that does not answer in kill_ms
 * is killed and the verdict is SLOW. */
void worker_kvm_probe(const char *device, uint32_t kill_ms, struct worker_kvm_probe *ret);
