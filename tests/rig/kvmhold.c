// SPDX-License-Identifier: Apache-2.0
/*
 * Keeps two VMs open in the rig's host until it is killed: one with and one without an interrupt
 * controller. KVM patches branches into the running kernel when the first VM of a kind comes and the
 * last one goes; under emulation, a CPU that runs through such a branch at that moment can take a
 * stray breakpoint and panic (docs/rig.md). While these two live, it never happens.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

static int hold(int kvm, int irqchip)
{
	int vm = ioctl(kvm, KVM_CREATE_VM, 0);

	if (vm < 0 || ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000) < 0)
		return -1;
	if (irqchip && ioctl(vm, KVM_CREATE_IRQCHIP, 0) < 0)
		return -1;
	return ioctl(vm, KVM_CREATE_VCPU, 0);
}

int main(void)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (kvm < 0 || hold(kvm, 0) < 0 || hold(kvm, 1) < 0) {
		perror("kvmhold");
		return 1;
	}
	for (;;)
		pause();
}
