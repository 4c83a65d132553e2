# The freestanding test guest: a PVH ELF for tests that need no operating system in the guest. Flags
# keep it to instructions that KVM's emulator knows: hosts exist where ring 0 is run by it alone.

TESTGUEST := $(BUILD)/guest-drivers/testguest/testguest.elf
TESTGUEST_FLAGS := -std=gnu11 -O2 -g -ffreestanding -fno-pic -mcmodel=kernel -mgeneral-regs-only \
	-mno-sse -mno-red-zone -fcf-protection=none -fno-stack-protector -fno-asynchronous-unwind-tables \
	-fno-strict-aliasing -fno-builtin -Wall -Wextra -Werror -Wno-unused-parameter -DAP_MAX=31 -I.

all: $(TESTGUEST)
$(addprefix $(BUILD)/tests/unit/,test_vm test_vm_irq test_vm_memory test_machine_user test_machine_gpu test_faults test_chaos): $(TESTGUEST)

$(BUILD)/guest-drivers/testguest/%.o: guest-drivers/testguest/%.c
	@mkdir -p $(@D)
	$(call show,CC)
	$(Q)$(CC) $(TESTGUEST_FLAGS) -MMD -MP -c $< -o $@
$(BUILD)/guest-drivers/testguest/%.o: guest-drivers/testguest/%.S
	@mkdir -p $(@D)
	$(call show,CC)
	$(Q)$(CC) $(TESTGUEST_FLAGS) -MMD -MP -c $< -o $@

$(TESTGUEST): $(BUILD)/guest-drivers/testguest/start.o $(BUILD)/guest-drivers/testguest/testguest.o \
		$(addprefix $(BUILD)/guest-drivers/testguest/,chaos.o virtio.o gpu.o) guest-drivers/testguest/testguest.ld
	$(call show,LD)
	$(Q)$(CC) -nostdlib -static -Wl,--build-id=none -Wl,-z,noexecstack \
		-Wl,--no-warn-rwx-segments -Wl,-T,$(filter %.ld,$^) $(filter %.o,$^) -o $@

# A static helper for Linux guests, put into their images.
GUEST_TOOL := $(BUILD)/guest-drivers/images/guest_tool
all: $(GUEST_TOOL)
$(GUEST_TOOL): guest-drivers/images/guest_tool.c
	@mkdir -p $(@D)
	$(call show,LINK)
	$(Q)$(CC) -std=gnu11 -O2 -static -Wall -Wextra -Werror -D_GNU_SOURCE $< -o $@
