// SPDX-License-Identifier: Apache-2.0
/*
 * vm_pause: vCPUs held outside the guest, and let go again.
 *
 * It is the kick of vm_request_exit() with another wish behind it: a thread that leaves KVM_RUN (or is
 * about to enter it, immediate_exit) finds the wish and waits for its end under exit_lock. An access
 * that needs an answer is complete by then or completes with the next KVM_RUN; nothing is lost.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "hypervisor-glue/vm_internal.h"

void vm_pause_init(struct vm *vm)
{
	pthread_condattr_t attributes;

	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&vm->parking, &attributes);
	pthread_condattr_destroy(&attributes);
}

void vm_pause_release(struct vm *vm)
{
	pthread_cond_destroy(&vm->parking);
}

void vcpu_park(struct vcpu *vcpu)
{
	struct vm *vm = vcpu->vm;

	pthread_mutex_lock(&vm->exit_lock);
	vm->parked++;
	pthread_cond_broadcast(&vm->parking);
	while (vm->pause_requested && !vm->exit_requested)
		pthread_cond_wait(&vm->parking, &vm->exit_lock);
	vm->parked--;
	pthread_mutex_unlock(&vm->exit_lock);
	/* EINVAL: the guest uses no kvmclock (api.rst, 4.66). */
	if (ioctl(vcpu->fd, KVM_KVMCLOCK_CTRL, 0) < 0 && errno != EINVAL)
		log_limited(LOG_LEVEL_WARN, "vCPU %u: KVM_KVMCLOCK_CTRL: %s", vcpu->index,
			    strerror(errno));
}

void vcpu_settle(struct vcpu *vcpu)
{
	struct vm *vm = vcpu->vm;

	pthread_mutex_lock(&vm->exit_lock);
	if (!vm->exit_requested && !vm->pause_requested)
		__atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&vm->exit_lock);
}

int vm_pause(struct vm *vm, unsigned timeout_ms)
{
	uint64_t until = monotonic_ns() + timeout_ms * UINT64_C(1000000);
	const struct timespec deadline = { .tv_sec = (time_t)(until / NSEC_PER_SEC),
					   .tv_nsec = (long)(until % NSEC_PER_SEC) };
	int ret = 0;

	pthread_mutex_lock(&vm->exit_lock);
	if (vm->pause_requested) {
		ret = -EALREADY;
		goto out;
	}
	__atomic_store_n(&vm->pause_requested, true, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < vm->vcpu_count; i++)
		vcpu_kick(&vm->vcpus[i]);
	while (!ret && vm->parked < vm->vcpu_count && !vm->exit_requested)
		ret = -pthread_cond_timedwait(&vm->parking, &vm->exit_lock, &deadline);
	if (ret) {
		__atomic_store_n(&vm->pause_requested, false, __ATOMIC_RELEASE);
		pthread_cond_broadcast(&vm->parking);
	}
out:
	pthread_mutex_unlock(&vm->exit_lock);
	return ret;
}

int vm_resume(struct vm *vm)
{
	int ret = -EALREADY;

	pthread_mutex_lock(&vm->exit_lock);
	if (vm->pause_requested) {
		__atomic_store_n(&vm->pause_requested, false, __ATOMIC_RELEASE);
		pthread_cond_broadcast(&vm->parking);
		ret = 0;
	}
	pthread_mutex_unlock(&vm->exit_lock);
	return ret;
}

bool vm_is_paused(struct vm *vm)
{
	return __atomic_load_n(&vm->pause_requested, __ATOMIC_ACQUIRE);
}
